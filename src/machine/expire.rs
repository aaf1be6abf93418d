//! Dropping what retention lets go without any operation: time alone makes revisions old.

use std::fs;

use super::edit::Edit;
use super::files::Files;
use super::folder::Machine;
use super::record::Record;
use crate::error::Result;
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

    /// Drops what retention lets go now.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy) while the machine runs.
    pub(crate) fn drop_expired(&self) -> Result<()> {
        let off = self.lock_off()?;
        Edit::new(self, off.record).commit().map(drop)
    }
}
