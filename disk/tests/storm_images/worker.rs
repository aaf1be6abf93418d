//! What a killed process did: it makes a chain in its folder, works on it until it is killed, and says a line for each
//! thing once it is done. What it does follows from its seed.

use crate::common;
use crate::families::{self, FAMILIES, Family, Image};
use crate::written::{Draw, Step};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use stratavm_disk::{
    Access, Chain, ConvertOptions, Ctx, Durability, Format, Target, convert_chain, flatten, vdi,
    vmdk,
};
use uuid::Uuid;

/// What tells a process that it is a worker.
const VARIABLE: &str = "STRATAVM_STORM_IMAGES";
/// Steps between two freezes.
pub(crate) const STEPS: usize = 14;
/// Rounds of them, after which a worker ends that nobody killed.
const ROUNDS: usize = 40;

/// What a worker does with its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Write,
    Freeze,
    Convert(Target),
}

pub(crate) struct Orders {
    pub(crate) family: &'static Family,
    pub(crate) task: Task,
    pub(crate) seed: u64,
    pub(crate) folder: PathBuf,
}

impl Orders {
    /// What goes into the environment of the worker.
    pub(crate) fn variable(&self) -> (&'static str, String) {
        let task = match self.task {
            Task::Write => "write".to_owned(),
            Task::Freeze => "freeze".to_owned(),
            Task::Convert(to) => to.to_string(),
        };
        let (name, seed) = (self.family.name, self.seed);
        let folder = self.folder.to_str().unwrap();
        (
            VARIABLE,
            [name, &task, &seed.to_string(), folder].join("\t"),
        )
    }

    pub(crate) fn of_environment() -> Option<Orders> {
        let text = std::env::var(VARIABLE).ok()?;
        let [name, task, seed, folder] = text.split('\t').collect::<Vec<_>>()[..] else {
            return None;
        };
        Some(Orders {
            family: FAMILIES.iter().find(|family| family.name == name)?,
            task: match task {
                "write" => Task::Write,
                "freeze" => Task::Freeze,
                to => Task::Convert(to.parse().unwrap()),
            },
            seed: seed.parse().unwrap(),
            folder: folder.into(),
        })
    }
}

/// Each step that a worker of this seed does, in order, for ever.
pub(crate) fn steps(seed: u64, size: u64) -> impl Iterator<Item = Step> {
    let mut draw = Draw(seed);
    std::iter::repeat_with(move || draw.steps(size)).flatten()
}

/// The content id that a head gets when it is frozen, the `n`th of its chain.
pub(crate) fn frozen_cid(n: usize) -> vmdk::Cid {
    common::cid(1000 + n as u32)
}

/// A line of a worker.
pub(crate) enum Said {
    /// There is a new image on top, in which nothing is written yet.
    Image(Image),
    /// All steps up to this one are flushed.
    Flushed(usize),
    /// The conversion of this number is done.
    Converted(usize),
}

const FORMATS: [Format; 7] = [
    Format::Raw,
    Format::VmdkDescriptor,
    Format::VmdkSparse,
    Format::Hds,
    Format::Hdd,
    Format::Vdi,
    Format::Qcow2,
];

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Image(image) => {
                let cid = image.cid.map_or("-".to_owned(), |cid| cid.to_string());
                let uuid = image.uuid.map_or("-".to_owned(), |uuid| uuid.to_string());
                write!(
                    f,
                    "image\t{}\t{cid}\t{uuid}\t{}",
                    image.format,
                    image.path.display()
                )
            }
            Said::Flushed(step) => write!(f, "flushed\t{step}"),
            Said::Converted(n) => write!(f, "converted\t{n}"),
        }
    }
}

impl FromStr for Said {
    type Err = String;

    fn from_str(line: &str) -> Result<Said, String> {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["image", format, cid, uuid, path] => Ok(Said::Image(Image {
                path: path.into(),
                format: *FORMATS.iter().find(|f| f.to_string() == format).unwrap(),
                cid: u32::from_str_radix(cid, 16).ok().map(common::cid),
                uuid: uuid.parse().ok(),
            })),
            ["flushed", step] => Ok(Said::Flushed(step.parse().unwrap())),
            ["converted", n] => Ok(Said::Converted(n.parse().unwrap())),
            _ => Err(format!("a worker said {line:?}")),
        }
    }
}

/// Whoever is not heard any more ends.
fn say(said: &Said) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{said}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

struct Worker<'a> {
    orders: &'a Orders,
    images: Vec<Image>,
}

pub(crate) fn work(orders: &Orders) {
    let mut worker = Worker {
        orders,
        images: Vec::new(),
    };
    worker.make();
    match orders.task {
        Task::Write => worker.write(),
        Task::Freeze => worker.freeze(),
        Task::Convert(to) => worker.convert(to),
    }
}

impl Worker<'_> {
    /// A base of a pattern and two heads.
    fn make(&mut self) {
        let family = self.orders.family;
        let base = common::pattern(family.size);
        self.add((family.base)(&self.orders.folder, &base));
        self.push();
        self.push();
    }

    fn push(&mut self) {
        let n = self.images.len();
        let head = (self.orders.family.head)(&self.orders.folder, n, &self.images);
        self.add(head);
    }

    fn add(&mut self, image: Image) {
        say(&Said::Image(image.clone()));
        self.images.push(image);
    }

    fn open(&self, access: Access) -> Chain {
        families::open(
            self.orders.family,
            &self.orders.folder,
            &self.images,
            access,
        )
    }

    /// Does steps, the first one of which has this number.
    fn run(&self, chain: Chain, first: usize, steps: &[Step]) {
        for (n, step) in steps.iter().enumerate() {
            match *step {
                Step::Write { at, len, with } => {
                    chain.write_at(&vec![with; len as usize], at).unwrap();
                }
                Step::Zero { at, len } => chain.zero(at, len).unwrap(),
                Step::Flush => {
                    chain.flush(Durability::Synced).unwrap();
                    say(&Said::Flushed(first + n));
                }
            }
        }
        chain.close(Durability::Synced).unwrap();
        say(&Said::Flushed(first + steps.len() - 1));
    }

    fn all_steps(&self) -> Vec<Step> {
        let all = steps(self.orders.seed, self.orders.family.size as u64);
        all.take(STEPS * ROUNDS).collect()
    }

    fn write(&self) {
        self.run(self.open(Access::Write), 0, &self.all_steps());
    }

    fn freeze(&mut self) {
        for (n, steps) in self.all_steps().chunks(STEPS).enumerate().take(20) {
            self.run(self.open(Access::Write), n * STEPS, steps);
            self.renew();
            self.push();
        }
    }

    /// Gives the head the ids of a frozen image, where its format has such.
    fn renew(&mut self) {
        let n = self.images.len();
        let head = self.images.last_mut().unwrap();
        match head.format {
            Format::VmdkSparse | Format::VmdkDescriptor => {
                vmdk::renew_cid(&head.path, frozen_cid(n), Durability::Synced).unwrap();
                head.cid = Some(frozen_cid(n));
            }
            Format::Vdi => {
                let new = Uuid::from_u128(1000 + n as u128);
                vdi::renew_modification(&head.path, new, Durability::Synced).unwrap();
            }
            _ => {}
        }
    }

    fn convert(&self, to: Target) {
        self.run(self.open(Access::Write), 0, &self.all_steps()[..STEPS]);
        let source = self.open(Access::Read);
        for n in 0..ROUNDS {
            let target = converted(&self.orders.folder, n);
            let options = ConvertOptions::new(Uuid::from_u128(n as u128));
            let how = if keeps_layers(to, n) {
                convert_chain
            } else {
                flatten
            };
            how(&source, &target, to, &options, &Ctx::none()).unwrap();
            say(&Said::Converted(n));
        }
    }
}

/// The target of a conversion.
pub(crate) fn converted(folder: &Path, n: usize) -> PathBuf {
    folder.join(format!("converted-{n}"))
}

/// Every other conversion keeps the layers, where the format has them.
pub(crate) fn keeps_layers(to: Target, n: usize) -> bool {
    n.is_multiple_of(2) && to.has_parents()
}
