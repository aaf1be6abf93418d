//! Stores and machines to measure on, and what makes their heads as full as a guest would.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stratavm::chain::{DiskName, Family};
use stratavm::image::{AddOptions, Image, add};
use stratavm::machine::{CreateOptions, Machine, RunEvent, RunOptions};
use stratavm::spec::Name;
use stratavm::{CancelToken, Ctx, ErrorKind, Hypervisor, Product, Store, VmSpec, block_on};

use crate::exec::{Error, output};

/// A store in a folder of its own.
pub(crate) fn store(folder: &Path) -> Result<Store, Error> {
    Store::open(folder).map_err(|error| failed(&error))
}

/// Adds an image.
pub(crate) fn image(store: &Store, source: &Path) -> Result<Image, Error> {
    let (options, ctx) = (AddOptions::default(), Ctx::none());
    let added = add::add(store.images(), source, &options, store.volume(), &ctx);
    added
        .map(|added| added.image)
        .map_err(|error| failed(&error))
}

/// A layer of a spec: name, role, and what it starts from.
pub(crate) type Layer<'a> = (&'a str, &'a str, String);

/// What a layer that starts from an image says.
pub(crate) fn from_image(image: &Image) -> String {
    format!("image = \"{}\"", image.meta.digest)
}

/// What a blank layer of this size in bytes says.
pub(crate) fn blank(size: u64) -> String {
    format!("size = \"{} MiB\"", size >> 20)
}

/// The spec of a machine of these layers.
pub(crate) fn spec(name: &str, layers: &[Layer<'_>]) -> Result<VmSpec, Error> {
    let mut text = format!(
        "stratavm = 1\nname = \"{name}\"\n\
         [guest]\nos = \"linux\"\narch = \"x86_64\"\ncomposition = \"disks\"\n"
    );
    for (name, role, start) in layers {
        text.push_str(&format!(
            "[[layer]]\nname = \"{name}\"\nrole = \"{role}\"\n{start}\n"
        ));
    }
    VmSpec::from_toml(&text, "benchmark")
        .map_err(|faults| Error::new(format!("the benchmark's spec: {faults}")))
}

/// Creates a machine of these layers whose heads are of `family`.
pub(crate) fn create(
    store: &Store,
    name: &str,
    layers: &[Layer<'_>],
    family: Family,
) -> Result<Machine, Error> {
    let spec = spec(name, layers)?;
    let options = CreateOptions::default().family(family);
    let made = store.create(&spec, Path::new("."), &options, &Ctx::none());
    made.map_err(|error| failed(&error))
}

/// The products that come with stratavm, without `null`.
pub(crate) fn products() -> Vec<Arc<dyn Hypervisor>> {
    let registry = stratavm_builtin::registry();
    let products = registry.iter().cloned();
    products
        .filter(|backend| backend.product().as_str() != "null")
        .collect()
}

/// Starts the machine on `null` and ends it at once. The time is that of the reset: from the first look at the machine
/// until it runs on fresh heads.
pub(crate) fn start(machine: &Machine) -> Result<Duration, Error> {
    let registry = stratavm_builtin::registry();
    let null = registry.get(&null()?).map_err(|error| failed(&error))?;
    let times = Arc::new(Mutex::new((None, Duration::ZERO)));
    let (seen, enough) = (Arc::clone(&times), CancelToken::new());
    let ctx = Ctx::none().with_cancel(enough.clone());
    let options = RunOptions::default().on_event(move |event| {
        let Ok(mut seen) = seen.lock() else { return };
        match event {
            RunEvent::Preparing(_) => seen.0 = Some(Instant::now()),
            RunEvent::Running(_) => {
                seen.1 = seen.0.map_or(Duration::ZERO, |begun| begun.elapsed());
                enough.cancel();
            }
            _ => {}
        }
    });
    match block_on(machine.run(Arc::clone(null), options, &ctx)) {
        Err(error) if error.kind() != ErrorKind::Cancelled => return Err(failed(&error)),
        _ => {}
    }
    let time = times.lock().map(|times| times.1).unwrap_or_default();
    if time == Duration::ZERO {
        return Err(Error::new("the machine never ran"));
    }
    Ok(time)
}

/// Writes `bytes` into the head of a layer, through QEMU, as a guest would. QEMU runs for 0 bytes too, so that caches
/// are in the same state afterwards.
pub(crate) fn dirty(machine: &Machine, layer: &str, bytes: u64) -> Result<(), Error> {
    let command = match bytes {
        0 => "read 0 4k".to_owned(),
        bytes => format!("write -P 7 0 {bytes}"),
    };
    let resolved = machine.resolve(&null()?).map_err(|error| failed(&error))?;
    let name = DiskName::Layer(self::name(layer)?);
    let disk = resolved.disks.iter().find(|disk| disk.name == name);
    let disk = disk.ok_or_else(|| Error::new(format!("no layer {layer}")))?;
    let mut options = Vec::new();
    let mut prefix = String::new();
    for level in disk.chain.levels().rev() {
        let path = level.path().unwrap_or(Path::new("")).display();
        options.push(format!("{prefix}driver=vmdk"));
        options.push(format!("{prefix}file.driver=file"));
        options.push(format!("{prefix}file.filename={path}"));
        prefix.push_str("backing.");
    }
    let mut qemu = Command::new("qemu-io");
    qemu.args(["-t", "unsafe", "-c", &command]);
    qemu.args(["--image-opts", &options.join(",")]);
    output(&mut qemu).map(drop)
}

/// Reads what operations read.
pub(crate) fn warm(machine: &Machine) -> Result<(), Error> {
    let resolved = machine.resolve(&null()?);
    resolved.map(drop).map_err(|error| failed(&error))
}

pub(crate) fn name(text: &str) -> Result<Name, Error> {
    Name::new(text).map_err(|error| Error::new(format!("{text}: {error}")))
}

fn null() -> Result<Product, Error> {
    Product::named("null").map_err(|error| failed(&error))
}

/// The error with all that caused it.
pub(crate) fn failed(error: &stratavm::Error) -> Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    Error::new(text)
}
