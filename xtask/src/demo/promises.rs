//! The promises, each shown by boots of its own: the program in the guest judges what it finds, and the host compares
//! the files of the layers that an operation must not touch.

use std::fs;

use super::launcher::text;
use super::machine::{Bench, Machine, with_console};
use super::task::{Kept, Task};
use super::tool::At;
use crate::exec::Error;

/// One promise of the library.
pub(crate) struct Promise {
    pub(crate) name: &'static str,
    pub(crate) show: Show,
}

/// Shows one promise on machines of its own.
pub(crate) type Show = fn(&mut Bench, &Goods) -> Result<(), Error>;

/// What is in the store before the first machine is made.
pub(crate) struct Goods {
    /// Digests of version 1 and 2 of the os.
    pub(crate) os: [String; 2],
    /// Digest of version 1 of the os with a root that can be written to.
    pub(crate) writable_os: String,
    /// Digests of version 1 and 2 of the application.
    pub(crate) application: [String; 2],
    /// What the guest calls the boot sector and the kernel area of os version 1.
    pub(crate) boot_sector: String,
    pub(crate) kernel_area: String,
}

impl Goods {
    pub(crate) fn machine<'a>(
        &self,
        bench: &'a mut Bench,
        name: &str,
    ) -> Result<Machine<'a>, Error> {
        bench.create(name, &self.os[0], &self.application[0])
    }

    /// The guest finds the os disk's boot sector and kernel area as they are in the golden image.
    fn expect_golden_disk(&self, task: Task) -> Task {
        task.expect("boot-sector", &self.boot_sector)
            .expect("kernel-area", &self.kernel_area)
    }
}

pub(crate) const PROMISES: &[Promise] = &[
    Promise {
        name: "os-clean-after-write-and-power-off",
        show: os_after_power_off,
    },
    Promise {
        name: "os-clean-after-write-and-reboot-inside-the-guest",
        show: os_after_reboot,
    },
    Promise {
        name: "os-clean-after-raw-overwrite-of-boot-sector-and-kernel",
        show: os_after_overwrite,
    },
    Promise {
        name: "user-data-user-apps-and-identity-kept",
        show: kept_layers,
    },
    Promise {
        name: "application-v1-v2-v1",
        show: application_versions,
    },
    Promise {
        name: "application-removed-and-added",
        show: application_removed,
    },
    Promise {
        name: "os-v1-v2-v1-with-user-data-kept",
        show: os_versions,
    },
    Promise {
        name: "cache-dropped-by-rejuvenate",
        show: cache_dropped,
    },
    Promise {
        name: "infected-os-cured-by-rejuvenate",
        show: infected_os,
    },
    Promise {
        name: "golden-edited-published-taken-and-rolled-back",
        show: golden_edited,
    },
    Promise {
        name: "missing-layer-refused-by-name",
        show: missing_layer,
    },
];

/// The promises about the os, which a golden of several extents has to keep as well.
pub(crate) const ABOUT_THE_OS: &[Show] = &[
    os_after_reboot,
    os_after_overwrite,
    os_versions,
    infected_os,
];

fn os_after_power_off(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = goods.machine(bench, "write")?;
    machine.boot(&Task::new().expect_clean_os().mark_os())?;
    machine.boot(&Task::new().expect_clean_os())?;
    Ok(())
}

fn os_after_reboot(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = goods.machine(bench, "reboot")?;
    let marked = Task::new().expect_clean_os().mark_os();
    machine.boot(&marked.reboot_then(Task::new().expect_clean_os()))?;
    Ok(())
}

fn os_after_overwrite(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = goods.machine(bench, "overwrite")?;
    let overwritten = goods
        .expect_golden_disk(Task::new())
        .overwrite_boot_and_kernel()
        .expect_changed("boot-sector", &goods.boot_sector)
        .expect_changed("kernel-area", &goods.kernel_area);
    // Without fresh heads the second boot would not even find a boot sector.
    machine.boot(&overwritten.reboot_then(goods.expect_golden_disk(Task::new())))?;
    Ok(())
}

fn kept_layers(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = goods.machine(bench, "kept")?;
    let first = Task::new()
        .expect("home", 0)
        .expect("own", 0)
        .expect("degraded", "no");
    let shown = machine.boot(
        &first
            .count(Kept::Home)
            .count(Kept::Own)
            .report("machine-id"),
    )?;
    let id = shown
        .facts
        .get("machine-id")
        .ok_or_else(|| Error::new("no machine-id was reported"))?;
    let again = |n: u32| {
        Task::new()
            .expect("home", n)
            .expect("own", n)
            .expect("machine-id", id)
    };
    let counted = again(1).count(Kept::Home).count(Kept::Own);
    machine.boot(&counted.expect("home", 2).expect("own", 2))?;
    machine.boot(&again(2))?;
    Ok(())
}

fn application_versions(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = goods.machine(bench, "app")?;
    machine.boot(&Task::new().expect("app-version", 1).count(Kept::Home))?;
    machine.change(&["app"], &["update", "app", &goods.application[1]])?;
    machine.boot(&Task::new().expect("app-version", 2).expect("home", 1))?;
    machine.change(&["app"], &["rollback", "app"])?;
    machine.boot(
        &Task::new()
            .expect("app-version", 1)
            .expect("home", 1)
            .expect("os-version", 1),
    )?;
    Ok(())
}

fn application_removed(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = goods.machine(bench, "removed")?;
    machine.boot(&Task::new().expect("app-version", 1).count(Kept::Home))?;
    machine.change(&["app"], &["remove", "app"])?;
    machine.boot(
        &Task::new()
            .expect("app-version", "absent")
            .expect("home", 1)
            .count(Kept::Home),
    )?;
    let layer = format!(
        "name = \"app\"\nrole = \"apps\"\nimage = \"{}\"\n",
        goods.application[1]
    );
    machine.add("app", &layer)?;
    machine.boot(&Task::new().expect("app-version", 2).expect("home", 2))?;
    Ok(())
}

fn os_versions(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = goods.machine(bench, "os")?;
    let shown = machine.boot(
        &Task::new()
            .expect("os-version", 1)
            .count(Kept::Home)
            .report("machine-id"),
    )?;
    let id = shown
        .facts
        .get("machine-id")
        .ok_or_else(|| Error::new("no machine-id was reported"))?;
    let kept = |version: u32| {
        Task::new()
            .expect("os-version", version)
            .expect("home", 1)
            .expect("machine-id", id)
    };
    machine.change(&["os"], &["update", "os", &goods.os[1]])?;
    machine.boot(&kept(2))?;
    machine.change(&["os"], &["rollback", "os"])?;
    machine.boot(&kept(1))?;
    Ok(())
}

fn cache_dropped(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = goods.machine(bench, "cache")?;
    machine.boot(
        &Task::new()
            .expect("cache", 0)
            .count(Kept::Cache)
            .count(Kept::Home)
            .count(Kept::Own),
    )?;
    machine.boot(
        &Task::new()
            .expect("cache", 1)
            .expect("home", 1)
            .expect("own", 1),
    )?;
    machine.change(RESET_BY_REJUVENATE, &["rejuvenate"])?;
    let after = Task::new()
        .expect("cache", 0)
        .expect("home", 1)
        .expect("own", 1);
    machine.boot(&after.expect("degraded", "no"))?;
    Ok(())
}

/// The layers whose files rejuvenate may change; all others stay byte-identical.
const RESET_BY_REJUVENATE: &[&str] = &["os", "app", "task", "cache"];

fn infected_os(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = goods.machine(bench, "infected")?;
    let infected = Task::new().count(Kept::Home).infect();
    machine.boot(&infected.expect_changed("boot-sector", &goods.boot_sector))?;
    // The write is real and was not cleaned by chance: frozen into a revision, it is what boots.
    machine.change(&["os"], &["snapshot", "os", "--label", "infected"])?;
    let (ended, console) = machine.start()?;
    if !console.contains("INFECTED") || console.contains("demo: ") {
        return Err(with_console(
            format!("the infected os did not start: {ended}"),
            &console,
        ));
    }
    machine.change(RESET_BY_REJUVENATE, &["rejuvenate"])?;
    machine.boot(
        &goods
            .expect_golden_disk(Task::new())
            .expect("os-version", 1)
            .expect("home", 1),
    )?;
    Ok(())
}

fn golden_edited(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let (golden, application) = (&goods.writable_os, &goods.application[0]);
    // Root writes to /usr in one boot and to /etc after a reboot; both are there when it is off.
    let mut machine = bench.create("golden", golden, application)?;
    machine.edit_os(2, 3)?;
    let published = machine.change(&[], &["publish", "os", "--label", "marked"])?;
    let digest = text(&published, "digest").to_owned();
    if digest == *golden || text(&published, "parent") != golden {
        return Err(Error::new(format!("not a new image: {published}")));
    }

    let mut taker = bench.create("taker", golden, application)?;
    taker.boot(&Task::new().expect_clean_os().count(Kept::Home))?;
    taker.change(&["os"], &["update", "os", &digest])?;
    let marked = Task::new()
        .expect("mark-usr", "present")
        .expect("mark-etc", "present");
    taker.boot(&marked.expect("home", 1).expect("degraded", "no"))?;
    taker.change(&["os"], &["rollback", "os"])?;
    taker.boot(&Task::new().expect_clean_os().expect("home", 1))?;
    for image in [golden, &digest] {
        let verified = taker.launcher().run(&["image", "verify", image])?;
        if verified.get("intact") != Some(&true.into()) {
            return Err(Error::new(format!("{image} was changed: {verified}")));
        }
    }
    Ok(())
}

fn missing_layer(bench: &mut Bench, goods: &Goods) -> Result<(), Error> {
    let mut machine = goods.machine(bench, "missing")?;
    machine.boot(&Task::new().count(Kept::Home))?;
    let frozen = machine.change(&["home"], &["snapshot", "home", "--label", "good"])?;
    let revision = frozen
        .get("revision")
        .ok_or_else(|| Error::new("snapshot names no revision"))?;
    let good = revision.get("n").unwrap_or(revision).to_string();

    // A layer's disk is there but cannot be told any more: the guest refuses.
    machine.boot(&Task::new().expect("home", 1).wipe_home_partition_table())?;
    let (ended, console) = machine.start()?;
    let named = console.contains("strata: REFUSED E_MISSING: layer user-data/home ");
    if text(&ended, "ended") != "refused" || !named {
        return Err(with_console(
            format!("the guest did not refuse: {ended}"),
            &console,
        ));
    }
    machine.change(&["home"], &["rollback", "home", "--to", &good])?;
    let whole = Task::new().expect("home", 1).expect("degraded", "no");
    machine.boot(&whole)?;

    // A layer's files are gone: the launcher refuses and starts nothing.
    let folder = machine.layer_folder("home");
    let aside = machine.scratch().join("home-aside"); // outside: what a machine does not know is collected
    fs::rename(&folder, &aside).at(folder.display())?;
    let refused = machine.start_refused()?;
    fs::rename(&aside, &folder).at(aside.display())?;
    if !refused.contains("layer home ") {
        return Err(Error::new(format!(
            "the refusal does not name the layer: {refused}"
        )));
    }
    machine.boot_again(&whole)?;
    Ok(())
}
