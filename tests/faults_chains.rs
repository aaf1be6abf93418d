//! Writing to chains of every format, put through faults and power cuts at changes of their files: what is left opens,
//! holds what was flushed, and takes writes unless its format asks for a repair first.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "../disk/tests/common/mod.rs"]
mod common;
#[path = "../disk/tests/common/families.rs"]
mod families;
#[path = "common/report.rs"]
mod report;
#[path = "common/written.rs"]
mod written;

use families::{FAMILIES, Family, Image, try_open};
use stratavm::testkit::fault::{Failure, Fault, Faults, Lost, Then};
use stratavm_disk::{Access, Chain, Durability, Result};
use written::{Draw, Model, Step, content, run};

/// A base of a pattern and two heads, as a family of formats makes them.
struct Made<'a> {
    family: &'a Family,
    dir: tempfile::TempDir,
    images: Vec<Image>,
    model: Model,
}

impl Made<'_> {
    fn new(family: &Family) -> Made<'_> {
        let dir = tempfile::tempdir().unwrap();
        let base = common::pattern(family.size);
        let mut images = vec![(family.base)(dir.path(), &base)];
        for n in 1..3 {
            let head = (family.head)(dir.path(), n, &images);
            images.push(head);
        }
        let model = Model {
            flushed: base,
            since: Vec::new(),
        };
        Made {
            family,
            dir,
            images,
            model,
        }
    }

    fn open(&self, access: Access) -> Result<Chain> {
        try_open(self.family, self.dir.path(), &self.images, access)
    }

    fn run(&mut self, steps: &[Step]) -> Result<()> {
        run(self.open(Access::Write)?, steps, &mut self.model)
    }

    /// How many changes of files the steps take.
    fn points(mut self, steps: &[Step]) -> usize {
        let faults = Faults::below(self.dir.path(), Fault::None).unwrap();
        self.run(steps).unwrap();
        let points = faults.points().len();
        drop(faults);
        assert!(content(&self.open(Access::Read).unwrap()) == self.model.flushed);
        points
    }

    /// What is left takes writes, unless its format says that it must be repaired first.
    fn goes_on(&self, mut want: Vec<u8>, what: &str) -> bool {
        let Ok(chain) = self.open(Access::Write) else {
            return false;
        };
        let size = want.len();
        for at in [0, size / 3, size - 2000] {
            chain.write_at(&[0xee; 2000], at as u64).unwrap();
            want[at..at + 2000].fill(0xee);
        }
        chain.close(Durability::Unsynced).unwrap();
        assert!(content(&self.open(Access::Read).unwrap()) == want, "{what}");
        true
    }
}

#[test]
fn an_image_that_was_being_written_opens_and_holds_what_was_flushed() {
    for family in FAMILIES {
        cut_short(family);
    }
}

fn cut_short(family: &Family) {
    let seed = report::seed(20_261_124);
    let mut draw = Draw(seed);
    let most = if report::slow() { 1000 } else { 40 };
    let (mut trials, mut went_on) = (0, 0);
    while trials < most {
        let steps = draw.steps(family.size as u64);
        let points = Made::new(family).points(&steps);
        // In the normal run some of the points of several histories, rather than all of one.
        let step = if report::slow() { 1 } else { 1 + points / 12 };
        for at in (draw.next(step as u64) as usize..points).step_by(step) {
            let cut = draw.next(2) == 0;
            let mut made = Made::new(family);
            let fault = match cut {
                true => Fault::PowerCut { at },
                // What a kill leaves, with the write that it came in torn.
                false => Fault::Error {
                    at,
                    failure: Failure::Io,
                    then: Then::StaysBroken,
                },
            };
            let faults = Faults::below(made.dir.path(), fault).unwrap();
            made.run(&steps).unwrap_err();
            match cut {
                true => faults.crash(Lost::Any(draw.next(u64::MAX))).unwrap(),
                false => drop(faults),
            }
            let name = family.name;
            let what = format!("{name}, seed {seed}, point {at}, power cut {cut}");
            let chain = made.open(Access::Read);
            let found = content(&chain.unwrap_or_else(|e| panic!("{what}: {e}")));
            made.model.check(&found, &what);
            went_on += u32::from(made.goes_on(found, &what));
            trials += 1;
        }
    }
    assert!(went_on > 0, "{}: never", family.name);
    let what = format!("faults while a chain of {} is written", family.name);
    report::counted("faults_chains", &what, trials, Some(seed));
}
