//! What is peculiar to the null product: its guest reads and writes like the real one, what it
//! writes lasts as long as its head, and only what was applied is started.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use futures_lite::future::block_on;
use stratavm::hypervisor::{Ended, Launch};
use stratavm::spec::{Console, Role};
use stratavm::testkit::Sample;
use stratavm::testkit::guest::{Boot, BootSector, End, parse_console};
use stratavm::{Ctx, ErrorKind, Hypervisor};
use stratavm_null::Null;

struct Machine {
    folder: tempfile::TempDir,
    sample: Sample,
    null: Null,
}

impl Machine {
    fn new(guest: &BootSector) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sample = Sample::new("m").unwrap().extents(4);
        let sample = sample.layer("home", Role::UserData, 1).unwrap();
        let mut sample = sample.content(0, guest.image_bytes().unwrap());
        sample.spec.hardware.console = Console::Log;
        sample.write_images(folder.path()).unwrap();
        Self {
            folder,
            sample,
            null: Null::new(),
        }
    }

    fn run(&self, start: u64) -> (Ended, Boot) {
        let machine = self.sample.clone().start(start).resolve(self.folder.path());
        let plan = self.null.translate(&machine).unwrap();
        plan.apply(&machine.volume, &Ctx::none()).unwrap();
        let launch = Launch::new(plan, self.folder.path().join("runtime"));
        let ended = block_on(async {
            let mut running = self.null.start(&launch, &Ctx::none()).await.unwrap();
            running.wait(&Ctx::none()).await.unwrap()
        });
        let console = std::fs::read(machine.paths.console).unwrap();
        let [boot] = parse_console(&console).try_into().unwrap();
        (ended, boot)
    }
}

#[test]
fn writes_last_as_long_as_their_head() {
    let guest = BootSector::new()
        .print(9)
        .write(0, 9, "on os")
        .write(1, 9, "at home")
        .print(9);
    let machine = Machine::new(&guest);
    let (ended, boot) = machine.run(1);
    assert_eq!(ended, Ended::PowerOff);
    assert!(boot.ended);
    assert_eq!(boot.texts(9), ["on os", "at home"]);
    let first_reads = |boot: &Boot| -> Vec<_> { boot.events[..2].to_vec() };
    let (_, second) = machine.run(2);
    assert_ne!(first_reads(&boot), first_reads(&second));
    assert_eq!(
        second.events[0], boot.events[0],
        "the new head of os is clean"
    );
}

#[test]
fn sectors_beyond_the_end_are_refused_like_a_bios_does() {
    let guest = BootSector::new()
        .print(1 << 20)
        .write(1, 1 << 20, "far")
        .write(5, 1, "no disk");
    let (_, boot) = Machine::new(&guest.end(End::Reset)).run(1);
    use stratavm::testkit::guest::Outcome::Failed;
    let outcomes: Vec<_> = boot
        .events
        .iter()
        .map(|event| event.outcome.clone())
        .collect();
    assert_eq!(outcomes, [Failed(1), Failed(1), Failed(1), Failed(1)]);
}

#[test]
fn only_what_was_applied_is_started() {
    let machine = Machine::new(&BootSector::new());
    let resolved = machine.sample.resolve(machine.folder.path());
    let plan = machine.null.translate(&resolved).unwrap();
    let launch = Launch::new(plan.clone(), machine.folder.path());
    let start = || {
        let started = block_on(machine.null.start(&launch, &Ctx::none()));
        started.map(drop).map_err(|error| error.kind())
    };
    assert_eq!(start(), Err(ErrorKind::NotFound));
    plan.apply(&resolved.volume, &Ctx::none()).unwrap();
    std::fs::write(plan.entry.as_ref().unwrap(), "{}").unwrap();
    assert_eq!(start(), Err(ErrorKind::Mismatch));
    plan.apply(&resolved.volume, &Ctx::none()).unwrap();
    assert_eq!(start(), Ok(()));
}
