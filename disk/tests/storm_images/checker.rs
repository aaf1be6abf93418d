//! Starts workers, kills them, and looks at what they left.

use crate::common;
use crate::families::{self, FAMILIES, Family, Image, Opening, try_open};
use crate::report;
use crate::tools;
use crate::worker::{self, Orders, STEPS, Said, Task};
use crate::written::{Draw, Model, Step, content};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use stratavm_disk::{
    Access, Below, Chain, CheckOptions, Ctx, Durability, Format, Repair, Target, check, probe,
};

pub(crate) fn writing() {
    let each = if report::slow() { 32 } else { 4 };
    for family in FAMILIES {
        storm(family, Task::Write, each);
    }
}

pub(crate) fn freezing() {
    let each = if report::slow() { 26 } else { 3 };
    let families = [
        &families::VMDK,
        &families::VMDK_SPLIT,
        &families::VDI,
        &families::QCOW2,
        &families::HDS,
    ];
    for family in families {
        storm(family, Task::Freeze, each);
    }
}

pub(crate) fn converting() {
    let each = if report::slow() { 19 } else { 2 };
    for to in Target::ALL {
        storm(&families::VMDK, Task::Convert(to), each);
    }
}

fn storm(family: &'static Family, task: Task, kills: u64) {
    let seed = report::seed(20_261_125);
    let mut draw = Draw(seed);
    let mut left = Left::default();
    for n in 0..kills {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let folder = folder.unwrap();
        let orders = Orders {
            family,
            task,
            seed: seed + n,
            folder: folder.path().to_owned(),
        };
        let said = kill(&orders, &mut draw);
        let what = format!("{} {task:?}, kill {n} of seed {seed}", family.name);
        judge(&orders, &said, &mut left, &what);
    }
    let what = match task {
        Task::Write => format!("kills while a chain of {} is written", family.name),
        Task::Freeze => format!("kills while a chain of {} is frozen", family.name),
        Task::Convert(to) => format!("kills while a chain is converted to {to}"),
    };
    println!("{what}: {left:?}");
    report::counted("storm_images", &what, kills, Some(seed));
}

/// What kills left, to see that they come at all kinds of moments.
#[derive(Debug, Default)]
struct Left {
    clean: u32,
    repaired: u32,
    whole: u32,
    absent: u32,
}

/// Runs a worker until it has said some lines, and a moment longer. All that it said.
fn kill(orders: &Orders, draw: &mut Draw) -> Vec<Said> {
    let (name, value) = orders.variable();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(name, value)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Three images, and then what it is killed at.
    let wait = 3 + draw.next(12) as usize;
    let mut said: Vec<Said> = lines
        .by_ref()
        .take(wait)
        .map(|line| line.unwrap().parse().unwrap())
        .collect();
    std::thread::sleep(Duration::from_micros(draw.next(30_000)));
    child.kill().unwrap();
    let ended = child.wait().unwrap();
    assert!(ended.code() != Some(101), "the worker failed");
    // What was in the pipe still counts.
    said.extend(lines.map_while(|line| line.ok()?.parse().ok()));
    said
}

fn judge(orders: &Orders, said: &[Said], left: &mut Left, what: &str) {
    let mut history = History::new(orders);
    let mut converted = None;
    for said in said {
        match said {
            Said::Image(image) => history.push(image.clone()),
            Said::Flushed(step) => history.flushed(*step),
            Said::Converted(n) => converted = Some(*n),
        }
    }
    match orders.task {
        Task::Convert(to) => {
            let next = converted.map_or(0, |n| n + 1);
            for n in converted.into_iter().chain([next]) {
                let there = worker::converted(&orders.folder, n).exists();
                assert!(there || n == next, "{what}: {n} was converted");
                if there {
                    history.is_whole(to, n, what);
                }
                left.whole += u32::from(there && n == next);
                left.absent += u32::from(!there);
            }
        }
        Task::Write | Task::Freeze => history.check(left, what),
    }
}

/// What a worker did, as far as it said so.
struct History<'a> {
    orders: &'a Orders,
    images: Vec<Image>,
    /// What each image but the top one reads as.
    frozen: Vec<Vec<u8>>,
    now: Vec<u8>,
    steps: Vec<Step>,
    /// Steps that are flushed.
    done: usize,
}

impl History<'_> {
    fn new(orders: &Orders) -> History<'_> {
        let size = orders.family.size;
        let steps = worker::steps(orders.seed, size as u64);
        History {
            orders,
            images: Vec::new(),
            frozen: Vec::new(),
            now: common::pattern(size),
            steps: steps.take(100 * STEPS).collect(),
            done: 0,
        }
    }

    fn push(&mut self, image: Image) {
        if !self.images.is_empty() {
            self.frozen.push(self.now.clone());
        }
        self.images.push(image);
    }

    fn flushed(&mut self, step: usize) {
        for step in &self.steps[self.done..=step] {
            if let Some((at, len, with)) = change(step) {
                self.now[at as usize..(at + len) as usize].fill(with);
            }
        }
        self.done = step + 1;
    }

    /// The steps that may have been done since.
    fn since(&self) -> Vec<(u64, u64, u8)> {
        let left = &self.steps[self.done..];
        let until = left.iter().position(|step| matches!(step, Step::Flush));
        // A head is closed before it is frozen, which is a flush as well.
        let round = match self.orders.task {
            Task::Freeze => STEPS - self.done % STEPS,
            _ => left.len(),
        };
        let until = until.map_or(round, |n| n.min(round));
        left[..until].iter().filter_map(change).collect()
    }

    fn open(&self, images: &[Image], access: Access) -> Chain {
        try_open(self.orders.family, &self.orders.folder, images, access).unwrap()
    }

    fn check(&self, left: &mut Left, what: &str) {
        let model = Model {
            flushed: self.now.clone(),
            since: self.since(),
        };
        for (n, want) in self.frozen.iter().enumerate() {
            let chain = self.open(&self.images[..=n], Access::Read);
            assert!(content(&chain) == *want, "{what}: image {n}");
        }
        let chain = self.open(&self.images, Access::Read);
        let found = content(&chain);
        model.check(&found, what);
        let top = self.images.last().unwrap();
        let cid = chain.members().next_back().unwrap().identity.cid;
        let new = worker::frozen_cid(self.images.len());
        assert!(cid == top.cid || cid == Some(new), "{what}: {cid:?}");
        drop(chain);
        self.mend(left, what);
        // A repair changes no byte that the guest sees, and then the image takes writes.
        let chain = self.open(&self.images, Access::Write);
        assert!(content(&chain) == found, "{what}: after the repair");
        chain.write_at(&[0xee; 3000], 1000).unwrap();
        chain.close(Durability::Unsynced).unwrap();
        let found = content(&self.open(&self.images, Access::Read));
        assert!(found[1000..4000] == [0xee; 3000], "{what}");
    }

    fn mend(&self, left: &mut Left, what: &str) {
        let (top, below) = self.images.split_last().unwrap();
        let below = match self.orders.family.opening {
            Opening::ByList => below.iter().map(|i| (i.path.clone(), i.format)).collect(),
            _ => Vec::new(),
        };
        let gate = Below::new(&self.orders.folder).unwrap();
        let look = |repair| {
            let options = CheckOptions::default().repair(repair).below(below.clone());
            check(&top.path, top.format, &gate, &options, &Ctx::none()).unwrap()
        };
        match look(Repair::No).findings.is_empty() {
            true => left.clean += 1,
            false => left.repaired += 1,
        }
        let mended = look(Repair::Safe);
        assert!(mended.is_sound(), "{what}: {mended:#?}");
        // Tables of qcow2 are not looked at here. 3: room is lost, and that is all.
        if top.format == Format::Qcow2 && !tools::missing("qcow2 after a kill") {
            let found = tools::run(
                "qemu-img",
                &["check", "-f", "qcow2", top.path.to_str().unwrap()],
            );
            assert!(
                matches!(found.status.code(), Some(0 | 3)),
                "{what}: {found:?}"
            );
        }
    }

    /// The new image, or the top one of the new chain, is complete.
    fn is_whole(&self, to: Target, n: usize, what: &str) {
        let target = worker::converted(&self.orders.folder, n);
        let format = match to {
            Target::Raw => Format::Raw,
            _ => probe(&target).unwrap(),
        };
        let gate = Below::new(&self.orders.folder).unwrap();
        // VDIs do not name the files that they lie on.
        let depth = if worker::keeps_layers(to, n) && to == Target::Vdi {
            3
        } else {
            1
        };
        let below: Vec<_> = (0..depth - 1)
            .map(|level| target.with_file_name(format!("converted-{n}-{level}")))
            .map(|path| (path, format))
            .collect();
        let all = below.iter().map(|(path, format)| (path.as_path(), *format));
        let all: Vec<_> = all.chain([(target.as_path(), format)]).collect();
        let chain = match depth {
            1 => Chain::open(&target, format, Access::Read, &gate),
            _ => Chain::open_all(&all, Access::Read, &gate),
        };
        assert!(
            content(&chain.unwrap()) == self.now,
            "{what}: conversion {n}"
        );
        let options = CheckOptions::default().below(below);
        let checked = check(&target, format, &gate, &options, &Ctx::none()).unwrap();
        assert!(checked.findings.is_empty(), "{what}: {checked:#?}");
    }
}

fn change(step: &Step) -> Option<(u64, u64, u8)> {
    match *step {
        Step::Write { at, len, with } => Some((at, len, with)),
        Step::Zero { at, len } => Some((at, len, 0)),
        Step::Flush => None,
    }
}
