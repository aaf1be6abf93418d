//! How many bytes the parts of a layer take on the volume.

use super::files::Files;
use super::folder::Machine;
use super::layer::LayerState;
use super::record::Record;
use crate::error::{Error, Result};
use crate::store::allocated;

impl Machine {
    /// How many bytes the deltas that each revision of a layer adds take on the volume, in the order
    /// of the revisions. A delta that is missing takes none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn revision_bytes(&self, record: &Record, layer: &LayerState) -> Result<Vec<u64>> {
        let (files, disk) = (Files::new(self), layer.disk());
        let mut all = Vec::with_capacity(layer.history.revisions.len());
        for revision in &layer.history.revisions {
            let mut bytes = 0;
            for delta in &revision.deltas {
                for path in files.head_paths(record, &disk, delta.id, &revision.image)? {
                    match std::fs::symlink_metadata(&path) {
                        Ok(found) => bytes += allocated(&found),
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        Err(error) => {
                            let what = "the size of a delta cannot be seen";
                            return Err(Error::io(what, path, error));
                        }
                    }
                }
            }
            all.push(bytes);
        }
        Ok(all)
    }
}
