//! Carrying out edits on a file: all of them are compared with the file before the first is made, what is cut off goes
//! last, and each step leaves a file that another check can go on from.

use super::Repair;
use super::finding::Remedy;
use super::inspection::{Edit, FileEdits};
use crate::file::ImageFile;
use crate::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Bytes of a table that are copied at a time.
const CHUNK: usize = 64 << 10;

/// Mends what may be mended of one file; false if there was nothing. A mark of a writer goes only in a pass of its own,
/// once nothing else is left.
pub(super) fn apply(file: &FileEdits, repair: Repair) -> Result<bool> {
    let allowed = |remedy: Remedy| match remedy {
        Remedy::Safe => true,
        Remedy::DropLost => repair == Repair::DropLost,
        Remedy::None => false,
    };
    let all = file.edits.iter();
    let mut edits: Vec<Edit> = all
        .filter(|(remedy, _)| allowed(*remedy))
        .map(|(_, edit)| *edit)
        .collect();
    if edits.is_empty() {
        edits.extend(file.mark);
    }
    if edits.is_empty() {
        return Ok(false);
    }
    // What is cut off goes when nothing names it any more.
    edits.sort_by_key(|edit| matches!(edit, Edit::Cut { .. }));
    carry_out(file, &edits).map_err(|e| e.at_path(&file.path).during("repair image"))?;
    Ok(true)
}

fn carry_out(found: &FileEdits, edits: &[Edit]) -> Result<()> {
    refuse_others(&found.path)?;
    let file = ImageFile::open_rw(&found.path)?;
    file.take_alone()?;
    let changed = || Error::mismatch("somebody changed it meanwhile: give the command again");
    if file.len() != found.len {
        return Err(changed());
    }
    for edit in edits {
        if let Edit::Word { at, old, .. } = *edit {
            let mut word = [0; 4];
            file.read_exact_at(&mut word, at)?;
            if u32::from_le_bytes(word) != old {
                return Err(changed().at_offset(at));
            }
        }
    }
    for edit in edits {
        match *edit {
            Edit::Word { at, new, .. } => file.write_all_at(&new.to_le_bytes(), at)?,
            Edit::Copy { from, to, len } => copy(&file, from, to, len)?,
            Edit::Cut { len } => {
                file.sync()?;
                file.set_len(len)?;
            }
        }
    }
    file.sync()
}

fn copy(file: &ImageFile, from: u64, to: u64, len: u64) -> Result<()> {
    let mut bytes = vec![0; CHUNK];
    let mut done = 0;
    while done < len {
        let take = usize::try_from(len - done).map_or(CHUNK, |left| left.min(CHUNK));
        file.read_exact_at(&mut bytes[..take], from + done)?;
        file.write_all_at(&bytes[..take], to + done)?;
        done += take as u64;
    }
    Ok(())
}

/// A frozen image is never edited, and none that a VMware product has open.
fn refuse_others(path: &Path) -> Result<()> {
    let found = std::fs::symlink_metadata(path)?;
    if found.permissions().readonly() {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "it is frozen (not writable): others may lie on it as it is",
        ));
    }
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lck");
    let lock = PathBuf::from(lock);
    match lock.symlink_metadata() {
        Ok(_) => Err(Error::mismatch(format!(
            "a VMware product has it open: {lock:?} is there"
        ))),
        Err(_) => Ok(()),
    }
}
