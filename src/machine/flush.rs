//! Getting the heads of a run onto the volume for good: a saved state goes on with all of them, those
//! of layers that discard and the session disk included, and may do so after the host went down.

use std::collections::BTreeSet;
use std::io;

use stratavm_disk::fs::File;

use super::folder::Machine;
use super::record::{RunPhase, RunRecord};
use crate::capability::{Capabilities, Feature};
use crate::chain::Member;
use crate::error::{Error, Result};
use crate::hypervisor::Endpoint;
use crate::plan::Grade;
use crate::resolved::Resolved;
use crate::spec::Switch;
use crate::store::sync_dir;

/// Flushes the heads of `machine`, and their names, if the product with these capabilities may save
/// its state: that the product does by itself, and from then on they are needed.
pub(super) fn flush_before_start(machine: &Resolved, can: &Capabilities) -> Result<()> {
    let is_saved = machine.spec.policy.suspend == Switch::On;
    match is_saved && can.feature(Feature::Suspend) != Grade::None {
        true => flush_heads(machine),
        false => Ok(()),
    }
}

/// Flushes what was written to the heads, and their names. One that is gone is for the next start to
/// refuse.
fn flush_heads(machine: &Resolved) -> Result<()> {
    let heads = machine.disks.iter().filter_map(|disk| disk.chain.head());
    let mut folders = BTreeSet::new();
    for file in heads.flat_map(Member::all_files) {
        let path = &file.path;
        match File::open(path).and_then(|file| file.sync()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            synced => synced
                .map_err(|error| Error::io("the head could not be made durable", path, error))?,
        }
        // The layer's folder, and that of all layers: the session's may be as new as its file.
        folders.extend(path.ancestors().skip(1).take(2));
    }
    folders.into_iter().try_for_each(sync_dir)
}

impl Machine {
    /// Records that the product has saved the state of `run`, once the heads under it are durable.
    pub(super) fn note_suspended(&self, run: &RunRecord, at: Option<Endpoint>) -> Result<()> {
        if run.phase != RunPhase::Suspended {
            flush_heads(&self.resolve(&run.product)?)?;
        }
        self.note_run(|run| {
            run.phase = RunPhase::Suspended;
            run.endpoint = at.or(run.endpoint.take());
        })
    }
}
