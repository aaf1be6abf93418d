//! Applying a plan: its files and new images are made on disk.
//!
//! Idempotent: what is there already and is what it should be stays. The file that the product
//! opens is written last, so that a plan that was cut short is never taken for a whole one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use stratavm_disk::{Ctx, Durability, Volume};

use super::{Content, FileKind, Plan, PlanFile};
use crate::chain::{Member, MemberFile, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::store::make_private_dir;

/// What applying a plan did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// Files that were written or created, in order.
    pub written: Vec<PathBuf>,
    /// Files that were there already and are what the plan says.
    pub unchanged: Vec<PathBuf>,
}

impl Plan {
    /// Makes the plan's new images and files on a `volume`; existing images are only looked for.
    ///
    /// Between two files `ctx` is asked, so that a caller can stop after any of them; applying the
    /// plan again goes on from there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an existing image that is missing, [`ErrorKind::Mismatch`] for
    /// a file that should be new and holds something else; whatever the file system says.
    pub fn apply(&self, volume: &Volume, ctx: &Ctx) -> Result<Applied> {
        let mut applied = Applied::default();
        self.look_for_existing()?;
        for file in self.image_files() {
            ctx.check()?;
            if let Source::New(spec) = &file.source {
                make_folder_of(&file.path)?;
                let made = make_image(&file.path, spec, volume)?;
                applied.note(&file.path, made);
            }
        }
        let last = |file: &&PlanFile| self.entry.as_ref() == Some(&file.path);
        for file in self
            .files
            .iter()
            .filter(|f| !last(f))
            .chain(self.files.iter().filter(last))
        {
            ctx.check()?;
            make_folder_of(&file.path)?;
            let made = write_file(file)?;
            applied.note(&file.path, made);
        }
        Ok(applied)
    }

    /// Every file of every chain, each once: images are shared between disks.
    fn image_files(&self) -> impl Iterator<Item = &MemberFile> {
        let mut seen = BTreeSet::new();
        self.disks
            .iter()
            .flat_map(|disk| &disk.chain.members)
            .flat_map(Member::all_files)
            .filter(move |file| seen.insert(file.path.clone()))
    }

    fn look_for_existing(&self) -> Result<()> {
        for file in self
            .image_files()
            .filter(|file| file.source == Source::Existing)
        {
            let found = fs::metadata(&file.path).map_err(|error| {
                Error::io("a disk image of the plan is missing", &file.path, error)
            })?;
            if !found.is_file() {
                return Err(Error::new(
                    ErrorKind::Malformed,
                    "a disk image of the plan is no file",
                )
                .at(&file.path));
            }
        }
        Ok(())
    }
}

/// Whether a file was made or was there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Written,
    Unchanged,
}

impl Applied {
    fn note(&mut self, path: &Path, made: Made) {
        match made {
            Made::Written => self.written.push(path.to_owned()),
            Made::Unchanged => self.unchanged.push(path.to_owned()),
        }
    }
}

fn make_folder_of(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), make_private_dir)
}

fn make_image(path: &Path, spec: &stratavm_disk::ImageSpec, volume: &Volume) -> Result<Made> {
    match stratavm_disk::create(path, spec, volume, Durability::Synced) {
        Ok(()) => Ok(Made::Written),
        Err(error) if error.kind() == stratavm_disk::ErrorKind::Exists => {
            stratavm_disk::verify(path, spec).map_err(Error::from)?;
            Ok(Made::Unchanged)
        }
        Err(error) => Err(error.into()),
    }
}

fn write_file(file: &PlanFile) -> Result<Made> {
    let bytes = match &file.content {
        Content::Text(text) => text.as_bytes(),
        Content::Binary(bytes) => bytes,
        Content::CopyOf(from) => return copy_kept(from, &file.path),
    };
    match fs::read(&file.path) {
        Ok(found) if found == bytes => return Ok(Made::Unchanged),
        Ok(_) if file.kind == FileKind::Kept => return Ok(Made::Unchanged),
        _ => {}
    }
    stratavm_disk::write_atomic(&file.path, bytes, Durability::Synced)?;
    Ok(Made::Written)
}

/// A kept file starts as a copy; what the machine made of it since is never overwritten.
fn copy_kept(from: &Path, to: &Path) -> Result<Made> {
    if to.exists() {
        return Ok(Made::Unchanged);
    }
    let bytes = fs::read(from)
        .map_err(|error| Error::io("the template of a kept file could not be read", from, error))?;
    stratavm_disk::write_atomic(to, &bytes, Durability::Synced)?;
    Ok(Made::Written)
}
