//! Dropping what retention lets go without any operation: time alone makes revisions old.

use std::fs;

use super::edit::Edit;
use super::files::Files;
use super::folder::Machine;
use super::record::Record;
use crate::error::{ErrorKind, Result};
use crate::spec::Name;
use crate::store::allocated;
use crate::timestamp::Timestamp;

/// The revisions of one layer that retention lets go.
pub(crate) struct Expired {
    pub(crate) layer: Name,
    pub(crate) revisions: usize,
    /// What their files take that nothing else needs.
    pub(crate) bytes: u64,
}

impl Machine {
    /// What retention lets go now.
    ///
    /// # Errors
    /// An image whose extents give names to files is gone from the store.
    pub(crate) fn expired(&self, record: &Record) -> Result<Vec<Expired>> {
        let mut less = record.clone();
        let dropped = less.retain(Timestamp::now());
        if dropped.is_empty() {
            return Ok(Vec::new());
        }
        let files = Files::new(self);
        let (all, rest) = (files.live(record)?, files.live(&less)?);
        let expired = dropped.into_iter().map(|(layer, gone)| {
            let folder = files.layers().join(layer.as_str());
            let own = all
                .difference(&rest)
                .filter(|path| path.starts_with(&folder));
            let found = own.filter_map(|path| fs::symlink_metadata(path).ok());
            Expired {
                bytes: found.map(|found| allocated(&found)).sum(),
                revisions: gone.len(),
                layer,
            }
        });
        Ok(expired.collect())
    }

    /// Drops what retention lets go now. A machine that was deleted meanwhile has nothing any more.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while the machine runs.
    pub(crate) fn drop_expired(&self) -> Result<()> {
        let off = match self.lock_off() {
            Err(error) if error.kind() == ErrorKind::NotFound && !self.record_path().exists() => {
                return Ok(());
            }
            locked => locked?,
        };
        Edit::new(self, off.record).commit().map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_machine_that_was_deleted_since_it_was_looked_at_has_nothing_to_drop() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let deleted = Machine::new(store, "gone".parse().unwrap());
        deleted.drop_expired().unwrap();
    }
}
