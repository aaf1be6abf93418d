//! Looking through a machine's files for what is not as its record says: every delta is there, is
//! what it should be, and is linked to its parent by the ids that follow from the machine's own.
//!
//! Headers and descriptors are read, guest data is not. What is done about a fault is decided by
//! the caller: [`super::repair`] for machines of the store, [`super::adopt`] for folders that came
//! from somewhere else. Paths that a file names are compared, never opened.

mod compare;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use stratavm_disk::vmdk::Cid;
use stratavm_disk::{ImageSpec, Permissions};

use compare::{compare, compare_format};

use super::files::Files;
use super::layer::{AnyLayer, Purpose, Use};
use super::record::Record;
use super::revision::Stacked;
use crate::chain::{DiskName, Family};
use crate::error::Result;
use crate::layout::{DiskLayout, ImageRef};
use crate::spec::{Controller, Writes};

/// What is wrong with one file of a machine.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) what: What,
    pub(crate) path: PathBuf,
    pub(crate) message: String,
    /// The layer it is of.
    pub(crate) layer: DiskName,
    /// The generation of the delta, if it is one's file.
    pub(crate) generation: Option<u64>,
    /// What makes it right again, if that follows from the record alone.
    pub(crate) fix: Option<Fix>,
}

/// Kinds of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    ImageMissing,
    Missing,
    NoFile,
    Damaged,
    Size,
    Links,
    Writable,
    Base,
    Record,
}

/// What can be done without guessing.
#[derive(Debug, Clone)]
pub(crate) enum Fix {
    /// Write the descriptor over an image anew.
    Base(ImageSpec),
    /// Make the layer's head anew: it holds nothing, or nothing that is kept.
    Head,
    /// Give the frozen delta the content id that its children know.
    Cid(Cid),
    /// Take the permission to write.
    Seal,
}

/// Which files are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// A machine of the store.
    Own,
    /// A folder from somebody else: its descriptors over images are made anew, not read, and what
    /// takes several names on the volume is refused.
    Foreign,
}

/// What a file of a chain has to be.
struct Expected<'a> {
    layer: AnyLayer<'a>,
    stage: Stage,
    /// The content id it must have; none: a product may have given it another.
    cid: Option<Cid>,
    /// The one that it may have as well: of a head that was about to be frozen when its process was
    /// killed, in a run whose writes were then given up.
    frozen_cid: Cid,
}

impl Expected<'_> {
    /// Whether the layer's head holds what a guest wrote and must not be lost.
    fn is_kept(&self) -> bool {
        let keeps = self.layer.spec.effective_writes() == Writes::Keep;
        self.layer.head.is_some_and(|head| {
            head.usage != Use::Untouched && (keeps || head.purpose == Purpose::Edit)
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Frozen,
    Head,
}

impl Files<'_> {
    /// Looks through every file that `record` names and tells `found` what is wrong. The machine's
    /// lock is held, or nobody knows the folder yet.
    pub(super) fn inspect(&self, record: &Record, trust: Trust, found: &mut dyn FnMut(Fault)) {
        // Where nothing can be sealed, nothing should be.
        let seals = self.machine().store().volume().permissions != Permissions::None;
        let found = &mut |fault: Fault| {
            if seals || fault.what != What::Writable {
                found(fault);
            }
        };
        for layer in record.all_layers() {
            if let Err(error) = self.inspect_layer(record, layer, trust, found) {
                found(Fault {
                    what: What::Record,
                    path: error
                        .path()
                        .map_or_else(|| self.layers().to_owned(), Path::to_owned),
                    message: with_causes(&error),
                    layer: layer.disk(),
                    generation: None,
                    fix: None,
                });
            }
        }
    }

    fn inspect_layer(
        &self,
        record: &Record,
        layer: AnyLayer<'_>,
        trust: Trust,
        found: &mut dyn FnMut(Fault),
    ) -> Result<()> {
        let mut lost = BTreeSet::new();
        let mut bases = BTreeSet::new();
        for revision in &layer.history.revisions {
            if let Err(error) = self.image(&revision.image)
                && lost.insert(revision.image)
            {
                let message = with_causes(&error);
                found(fault(layer, What::ImageMissing, self.layers(), message));
            }
        }
        let frozen = layer.history.stacked();
        let frozen = frozen.map(|stacked| (stacked, Stage::Frozen));
        let current = layer.history.find(layer.history.current);
        let head = layer.head.zip(current).map(|(head, current)| {
            let stacked = Stacked {
                delta: head.delta(),
                parent: layer.history.top(current.n),
                image: current.image,
            };
            (stacked, Stage::Head)
        });
        for (
            Stacked {
                delta,
                parent,
                image,
            },
            stage,
        ) in frozen.chain(head)
        {
            let Ok(image) = self.image(&image) else {
                continue;
            };
            let (layout, disk) = (
                self.layout_of(record, layer, delta.family, &image),
                layer.disk(),
            );
            let frozen_cid = record.identity().frozen_cid(&disk, delta.generation);
            let cid = match stage {
                Stage::Frozen => Some(frozen_cid),
                Stage::Head => {
                    let untouched = layer.head.is_some_and(|head| head.usage == Use::Untouched);
                    untouched.then(|| record.identity().head(&disk, delta.generation).cid)
                }
            };
            let expected = Expected {
                layer,
                stage,
                cid: cid.filter(|_| delta.family == Family::Vmdk),
                frozen_cid,
            };
            let parent = parent.map(|parent| parent.generation);
            for (path, spec) in layout.new_head(&image, parent, delta.into())?.new_images() {
                if let Some(fault) = inspect_file(path, spec, &expected, trust) {
                    found(Fault {
                        generation: Some(delta.generation),
                        ..fault
                    });
                }
            }
            if delta.family == Family::Vmdk {
                bases.insert(image.digest);
            }
        }
        if trust == Trust::Own {
            for digest in bases {
                let image = self.image(&digest)?;
                let layout = self.layout_of(record, layer, Family::Vmdk, &image);
                inspect_base(layer, &layout, &image, found)?;
            }
        }
        Ok(())
    }

    /// The layout of a layer's disk. A layer that is set aside has no port any more: the
    /// descriptor that is there tells which adapter it was for.
    pub(super) fn layout_of(
        &self,
        record: &Record,
        layer: AnyLayer<'_>,
        family: Family,
        image: &ImageRef,
    ) -> DiskLayout<'_> {
        let mut layout = self.layout(record, layer.disk(), family);
        if layer.head.is_none() && family == Family::Vmdk && self.was_on_ide(&layout, layer, image)
        {
            layout.controller = Controller::Ide;
        }
        layout
    }

    fn was_on_ide(&self, layout: &DiskLayout<'_>, layer: AnyLayer<'_>, image: &ImageRef) -> bool {
        let mut deltas = layer.history.deltas();
        let first = deltas.find(|(_, delta)| delta.family == Family::Vmdk);
        let files = first.and_then(|(_, delta)| layout.delta_files(delta.into(), image).ok());
        let path = files.and_then(|files| files.files.into_iter().next());
        let is_file = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
        let info = path
            .filter(|file| is_file(&file.path))
            .and_then(|file| stratavm_disk::info(&file.path).ok());
        let adapter = info.and_then(|info| info.vmdk?.adapter);
        adapter.as_deref() == Some("ide")
    }
}

fn inspect_file(
    path: &Path,
    spec: &ImageSpec,
    expected: &Expected<'_>,
    trust: Trust,
) -> Option<Fault> {
    let layer = expected.layer;
    // A head that holds nothing which is kept can be made anew, whatever became of it: those of
    // layers that discard are not flushed.
    let fix = (expected.stage == Stage::Head && !expected.is_kept()).then_some(Fix::Head);
    let bad = |what, message: String| {
        Some(Fault {
            fix: fix.clone(),
            ..fault(layer, what, path, message)
        })
    };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return missing(path, expected);
        }
        Err(error) => return bad(What::NoFile, format!("it cannot be looked at: {error}")),
    };
    if !found.is_file() {
        return bad(What::NoFile, "it is no regular file".to_owned());
    }
    if trust == Trust::Foreign && names(&found) > 1 {
        return bad(
            What::NoFile,
            "it has a second name outside: a hard link".to_owned(),
        );
    }
    let most = largest(spec);
    if found.len() > most {
        let message = format!(
            "it is {} bytes long; full it would have at most {most}",
            found.len()
        );
        return bad(What::Size, message);
    }
    let format = match stratavm_disk::probe(path) {
        Ok(format) => format,
        Err(error) => return bad(What::Damaged, with_causes(&error)),
    };
    if let Err(message) = compare_format(spec, format) {
        return bad(What::Damaged, message);
    }
    let info = match stratavm_disk::info(path) {
        Ok(info) => info,
        Err(error) => return bad(What::Damaged, with_causes(&error)),
    };
    if let Err((what, message)) = compare(path, spec, &info) {
        return bad(what, message);
    }
    let cid = info.vmdk.as_ref().map(|vmdk| vmdk.cid.as_str());
    let is = |cid: &str, wanted: Cid| cid.eq_ignore_ascii_case(&wanted.to_string());
    if let (Some(wanted), Some(cid)) = (expected.cid, cid)
        && !is(cid, wanted)
        && !is(cid, expected.frozen_cid)
    {
        let message = format!("its content id is {cid}, its children know it as {wanted}");
        let fix = (expected.stage == Stage::Frozen).then_some(Fix::Cid(wanted));
        let what = What::Links;
        return Some(Fault {
            fix,
            ..fault(layer, what, path, message)
        });
    }
    if expected.stage == Stage::Frozen && trust == Trust::Own && !found.permissions().readonly() {
        let message = "it is frozen, but can still be written to".to_owned();
        let fix = Some(Fix::Seal);
        return Some(Fault {
            fix,
            ..fault(layer, What::Writable, path, message)
        });
    }
    None
}

/// A file that is not there. A head that nobody wrote to, or whose writes are not kept, can be made
/// anew: nothing is lost.
fn missing(path: &Path, expected: &Expected<'_>) -> Option<Fault> {
    let (layer, kept) = (expected.layer, expected.is_kept());
    let (message, fix) = match expected.stage {
        Stage::Head if !kept => (
            "the layer's head is missing; it held nothing that is kept",
            Some(Fix::Head),
        ),
        Stage::Head => (
            "the layer's head is missing, with what the guest wrote since the last revision",
            None,
        ),
        Stage::Frozen => (
            "a frozen delta is missing, and with it every revision on it",
            None,
        ),
    };
    Some(Fault {
        fix,
        ..fault(layer, What::Missing, path, message.to_owned())
    })
}

fn inspect_base(
    layer: AnyLayer<'_>,
    layout: &DiskLayout<'_>,
    image: &ImageRef,
    found: &mut dyn FnMut(Fault),
) -> Result<()> {
    let path = layout.base_path(&image.digest);
    let spec = layout.base_spec(image)?;
    let message = match fs::symlink_metadata(&path) {
        Ok(file) if !file.is_file() => "it is no regular file".to_owned(),
        _ => match stratavm_disk::verify(&path, &spec) {
            Ok(()) => {
                let sealed = fs::metadata(&path).is_ok_and(|file| file.permissions().readonly());
                if !sealed {
                    let message = "a descriptor over an image can still be written to".to_owned();
                    let fix = Some(Fix::Seal);
                    found(Fault {
                        fix,
                        ..fault(layer, What::Writable, &path, message)
                    });
                }
                return Ok(());
            }
            Err(error) => {
                format!("the descriptor over the image is not what it was made as: {error}")
            }
        },
    };
    let fix = Some(Fix::Base(spec));
    found(Fault {
        fix,
        ..fault(layer, What::Base, &path, message)
    });
    Ok(())
}

/// The longest that a file of this spec gets, in bytes, with room for what products add.
pub(super) fn largest(spec: &ImageSpec) -> u64 {
    const ROOM: u64 = 64 << 20;
    let disk = spec.disk_size();
    disk.saturating_add(disk / 64).saturating_add(ROOM)
}

/// How many names a file has.
#[cfg(unix)]
fn names(found: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(found)
}

#[cfg(not(unix))]
fn names(_: &fs::Metadata) -> u64 {
    1
}

fn fault(layer: AnyLayer<'_>, what: What, path: &Path, message: String) -> Fault {
    Fault {
        what,
        path: path.to_owned(),
        message,
        layer: layer.disk(),
        generation: None,
        fix: None,
    }
}

/// An error with its causes in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
