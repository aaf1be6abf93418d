//! The rules that a spec as a whole follows, whether it was read or built in code.
//!
//! The form of single values is in their types; here are ranges and what belongs together.
//! Nothing here looks at files: whether an image exists is for those who open it.

mod hardware;
mod layers;
mod paths;
mod slots;
mod text;

use super::collect::Collector;
use super::fault::{Faults, KeyPath};
use super::{Composition, GuestOs, SPEC_VERSION, Size, VmSpec};

pub(super) use hardware::CPUS;
pub(super) use slots::SLOTS;

/// Smallest disk: 1 MiB, which is also what every disk's size is a multiple of.
const SMALLEST_DISK: Size = Size::from_mib(1);
/// Largest disk: 2 TiB - 257 MiB. Both families count the sectors of a *full* file in 32 bits, and
/// its tables take the rest.
const LARGEST_DISK: Size = Size::from_mib((2 << 20) - 257);
/// Smallest disk that has room for a partition table and a file system.
const SMALLEST_FORMATTED: Size = Size::from_mib(8);

impl VmSpec {
    /// Checks every rule of a spec, for specs that were built in code; those that were read are
    /// checked already.
    ///
    /// # Errors
    /// All faults at once.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut out = Collector::default();
        check(&mut out, self);
        let faults = out.finish(None, |index| layer_name(self, index));
        Faults::of("", faults).map_or(Ok(()), Err)
    }
}

/// The name of layer `index`, for a fault in it.
pub(super) fn layer_name(spec: &VmSpec, index: usize) -> Option<String> {
    spec.layers.get(index).map(|layer| layer.name.to_string())
}

/// Checks every rule except where `out` doubts what it rests on.
pub(super) fn check(out: &mut Collector, spec: &VmSpec) {
    let root = KeyPath::default();
    if spec.stratavm != SPEC_VERSION && out.trusts(&root.key("stratavm")) {
        out.fault(
            &root.key("stratavm"),
            format!("{} is not {SPEC_VERSION}", spec.stratavm),
        );
    }
    if let Some(title) = &spec.title {
        text::title(out, &root.key("title"), title);
    }
    guest(out, spec);
    hardware::check(out, spec);
    layers::check(out, spec);
    paths::check(out, spec);
    slots::check(out, spec);
    extensions(out, spec);
}

fn guest(out: &mut Collector, spec: &VmSpec) {
    let (guest, path) = (&spec.guest, KeyPath::default().key("guest"));
    if let Some(id) = &guest.id {
        text::guest_id(out, &path.key("id"), id);
    }
    let (os, composition) = (path.key("os"), path.key("composition"));
    if !out.trusts(&os) || !out.trusts(&composition) {
        return;
    }
    let linux = guest.composition == Composition::Linux;
    if linux && guest.os != GuestOs::Linux {
        let message = format!(
            "\"linux\" needs os = \"linux\", not {:?}",
            guest.os.as_str()
        );
        out.suggest(&composition, message, Some("\"disks\"".to_owned()));
    }
    let Some(session) = guest.session else { return };
    let path = path.key("session");
    if linux {
        // The session disk holds the manifest's partition and two partition tables too.
        let largest = Size::from_mib(LARGEST_DISK.mib() - 15);
        size(out, &path, session, SMALLEST_FORMATTED, largest);
    } else {
        out.fault(
            &path,
            "there is a session disk only with composition = \"linux\"",
        );
    }
}

/// A multiple of 1 MiB between `low` and `high`.
fn size(out: &mut Collector, path: &KeyPath, size: Size, low: Size, high: Size) {
    stepped(out, path, size, SMALLEST_DISK, (low, high));
}

/// A multiple of `step` within `range`, ends included.
fn stepped(out: &mut Collector, path: &KeyPath, size: Size, step: Size, range: (Size, Size)) {
    if !out.trusts(path) {
        return;
    }
    let (low, high) = range;
    if size < low || size > high {
        out.fault(path, format!("{size} is not between {low} and {high}"));
    } else if !size.bytes().is_multiple_of(step.bytes()) {
        let below = Size::from_bytes(size.bytes() - size.bytes() % step.bytes());
        let likely = format!("\"{}\"", below.max(low));
        out.suggest(
            path,
            format!("{size} is no multiple of {step}"),
            Some(likely),
        );
    }
}

/// `x-NAME` tables: their names, and that they are tables.
fn extensions(out: &mut Collector, spec: &VmSpec) {
    for (key, value) in &spec.extensions {
        let path = KeyPath::default().key(key);
        if !out.trusts(&path) {
            continue;
        }
        let name = key.strip_prefix("x-").unwrap_or_default();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            let message =
                "a table for others is called x-NAME, NAME being 1 to 64 of a-z, 0-9 and '-'";
            out.bad_key(path, message, None);
        } else if !value.is_object() {
            out.fault(&path, "keys that start with x- are tables");
        } else if let Some(odd) = text::not_carried(value) {
            out.fault(&path, odd);
        }
    }
}
