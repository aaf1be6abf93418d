//! Putting right what follows from a machine's record alone. What is wrong is found in
//! [`super::inspect`].

use stratavm_disk::Durability;

use super::files::{Files, Stale, make};
use super::folder::Machine;
use super::inspect::{Fault, Fix, Trust};
use super::record::Record;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{FileLock, seal, sync_dir, unseal};

impl Machine {
    /// Tells `found` what is wrong with the machine's files. Of a run that is under way, its heads
    /// are only looked for: the product writes to them.
    pub(crate) fn inspect(&self, record: &Record, found: &mut dyn FnMut(Fault)) {
        let heads: Vec<u64> = match &record.run {
            Some(run) => run.heads.iter().map(|head| head.generation).collect(),
            None => Vec::new(),
        };
        Files::new(self).inspect(record, Trust::Own, &mut |fault| {
            let running = fault
                .generation
                .is_some_and(|generation| heads.contains(&generation));
            if !running || !fault.path.exists() {
                found(fault);
            }
        });
    }

    /// The long lock of a machine that does not run, and whose record says so too. The short one is
    /// held by the caller.
    pub(crate) fn hold_off(&self, record: &Record) -> Result<FileLock> {
        let lock = self.run_lock()?;
        match &record.run {
            None => Ok(lock),
            Some(run) => Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "machine {} runs on {}, or nobody has said that it ended",
                    self.name(),
                    run.product
                ),
            )),
        }
    }

    /// Puts one fault right. The machine is off, and both of its locks are held.
    pub(crate) fn repair(&self, record: &Record, fault: &Fault, fix: &Fix) -> Result<()> {
        let (files, volume) = (Files::new(self), self.store().volume());
        match fix {
            Fix::Base(spec) => {
                make(&fault.path, spec, self, Durability::Synced, Stale::Derived)?;
                seal(&fault.path, volume)?;
            }
            Fix::Head => {
                let layer = record
                    .layers
                    .iter()
                    .find(|layer| layer.disk() == fault.layer);
                if let Some(layer) = layer {
                    // It holds nothing that is kept; a folder in its place is somebody else's.
                    crate::store::remove_file(&fault.path)?;
                    files.make_head_as_recorded(record, layer)?;
                }
            }
            Fix::Cid(cid) => {
                // It was sealed when it was frozen, or should have been.
                unseal(&fault.path, volume)?;
                stratavm_disk::vmdk::renew_cid(&fault.path, *cid, Durability::Synced)?;
                seal(&fault.path, volume)?;
            }
            Fix::Seal => seal(&fault.path, volume)?,
        }
        fault.path.parent().map_or(Ok(()), sync_dir)
    }
}
