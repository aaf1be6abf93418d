//! Editing a golden by hand: a run in which one layer that discards keeps what its guest writes, and
//! what becomes of that at its end.
//!
//! While it is under way, or was cut short, the layer's head says so ([`Purpose::Edit`]): no start
//! makes it anew. A guest that switches itself off ends the edit: the head becomes a revision.

use super::edit::Edit;
use super::ended::EndRecord;
use super::folder::Machine;
use super::inspect::with_causes;
use super::last::{LayerBefore, Writes as Lost};
use super::layer::{LayerState, Purpose};
use super::record::Record;
use super::recover::Seen;
use super::revision::Reason;
use super::run::RunEnd;
use super::staged::{Kept, OperationKind};
use super::start::partition;
use crate::error::{Error, Result};
use crate::image::Overlay;
use crate::linux::{FileSystem, FsState};
use crate::spec::{Composition, Name, Role, Writes};
use crate::store::remove_dir;

/// What became of an edit at the end of its run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EditEnd {
    /// What the guest wrote is this revision, the layer's current one.
    Frozen(u64),
    /// The edit goes on with the next `golden edit` of the layer; why it is not over.
    Unfinished(String),
    /// What the guest wrote was dropped, as asked for while it ran.
    Dropped,
}

impl Record {
    /// The layers whose disks are part of a run that edits `edited`.
    pub(super) fn attached<'a>(
        &'a self,
        edited: Option<&'a Name>,
    ) -> impl Iterator<Item = &'a LayerState> {
        let layers = self.layers.iter();
        layers.filter(move |layer| self.is_attached(layer, edited))
    }

    /// Whether the disk of a layer is part of a run that edits `edited`: under `linux` composition
    /// the layer stands alone.
    pub(super) fn is_attached(&self, layer: &LayerState, edited: Option<&Name>) -> bool {
        let alone = self.spec.guest.composition == Composition::Linux;
        edited.is_none_or(|edited| !alone || layer.name() == edited)
    }
}

/// What to do about a layer that no guest can write to.
fn build_anew(machine: &Name, layer: &LayerState) -> String {
    let (name, role) = (layer.name(), layer.spec.role);
    format!(
        "build a new image: stratavm image add FILE --fs KIND --role {role} --name {name}, then \
         stratavm update {machine} {name} sha256c:..."
    )
}

/// What to do instead of keeping what a session wrote to a layer that the guest overlays.
pub(super) fn instead_of_keeping(machine: &Name, layer: &LayerState) -> String {
    match layer.spec.role {
        Role::Os => format!("stratavm golden edit {machine} {}", layer.name()),
        _ => build_anew(machine, layer),
    }
}

impl Edit<'_> {
    /// Makes the head of `layer` one that is kept, for an edit that begins or goes on.
    pub(super) fn begin_edit(&mut self, layer: &Name) -> Result<()> {
        self.check_editable(layer)?;
        if self.record.layer(layer)?.head.purpose == Purpose::Edit {
            return Ok(());
        }
        self.fresh_head(layer)?;
        self.record.layer_mut(layer)?.head.purpose = Purpose::Edit;
        Ok(())
    }

    fn check_editable(&self, layer: &Name) -> Result<()> {
        let (machine, state) = (&self.record.name, self.record.layer(layer)?);
        if state.spec.effective_writes() == Writes::Keep {
            return Err(Error::invalid(format!(
                "layer {layer} keeps what is written to it anyway"
            ))
            .next(format!(
                "stratavm start {machine}; once it is off: stratavm snapshot {machine} {layer} && \
                 stratavm publish {machine} {layer}"
            )));
        }
        let mut others = self.record.layers.iter();
        if let Some(other) = others.find(|other| other.holds_edit() && other.name() != layer) {
            let other = other.name();
            return Err(Error::invalid(format!(
                "the edit of layer {other} was cut short, and has to come to its end first"
            ))
            .next(format!("stratavm golden edit {machine} {other}")));
        }
        if self.record.spec.guest.composition != Composition::Linux {
            return Ok(());
        }
        if state.spec.role != Role::Os {
            return Err(Error::invalid(format!(
                "under `linux` only the operating system is edited, and layer {layer} is {}",
                state.spec.role
            ))
            .next(build_anew(machine, state)));
        }
        let image = self.machine.store().image(&state.current()?.image)?;
        let fs = partition(&state.spec, &image.meta.partitions)?.fs;
        if fs != FileSystem::Ext4 {
            return Err(Error::invalid(format!(
                "layer {layer} is a {fs}, which cannot be written to"
            ))
            .next(build_anew(machine, state)));
        }
        Ok(())
    }

    /// Makes what an edit wrote the current revision of its layer.
    fn freeze_edit(&mut self, layer: &Name) -> Result<EditEnd> {
        let state = self.record.layer(layer)?;
        if !state.holds_edit() {
            return Ok(EditEnd::Dropped);
        }
        self.refuse_mounted(state)?;
        let before = LayerBefore::at(state, state.history.current, Lost::Kept);
        let n = self.freeze(layer, None, Reason::Edit)?;
        self.remember(OperationKind::Edit, vec![before]);
        Ok(EditEnd::Frozen(n))
    }

    /// A machine that is switched off from outside ends as if its guest had done it. Under `linux`
    /// the file system of the os says which it was: it is mounted without a look at its journal.
    fn refuse_mounted(&self, layer: &LayerState) -> Result<()> {
        if self.record.spec.guest.composition != Composition::Linux {
            return Ok(());
        }
        let (disk, digest) = (layer.disk(), layer.current()?.image);
        let image = self.machine.store().image(&digest)?;
        let place = partition(&layer.spec, &image.meta.partitions)?;
        let chain = layer.history.chain(layer.history.current);
        let mut deltas: Vec<_> = chain.iter().map(|link| link.delta).collect();
        deltas.push(layer.head.delta());
        let shown = self
            .files
            .open_content(&self.record, &disk, &deltas, &digest)?;
        let mut head = vec![0; place.length.min(FileSystem::HEAD as u64) as usize];
        read_at(&shown, &mut head, place.offset)?;
        match FileSystem::detect(&head) {
            Some(found) if found.state == FsState::Clean => Ok(()),
            Some(_) => Err(Error::invalid("its file system was not unmounted")),
            None => Err(Error::invalid("it holds no file system any more")),
        }
    }

    /// For a start that edits nothing: an edit that was cut short becomes a revision beside the
    /// current one, which is what the guest is to see.
    pub(super) fn set_edits_aside(&mut self) -> Result<()> {
        let edited = |state: &&LayerState| state.head.purpose == Purpose::Edit;
        let edited = self.record.layers.iter().filter(edited);
        let names: Vec<_> = edited.map(|state| state.name().clone()).collect();
        for layer in names {
            let (n, _) = self.preserve(&layer, Kept::Preserve, Reason::Edit)?;
            self.record.layer_mut(&layer)?.head.purpose = Purpose::Usual;
            if let Some(n) = n {
                tracing::warn!(machine = %self.record.name, %layer, revision = n, "an edit that was cut short is set aside as a revision");
            }
        }
        Ok(())
    }
}

impl Machine {
    /// Clears a run that edited `layer`. If its guest switched itself off, what it wrote becomes a
    /// revision in the same change; else, or where that cannot be done, the edit stays to be gone on
    /// with. The caller holds the run lock.
    pub(super) fn end_edit(&self, layer: &Name, ran: &Result<RunEnd>) -> Result<EditEnd> {
        let frozen = match ran {
            Ok(RunEnd::PowerOff) => self.freeze_edit(layer, ran),
            _ => Err(Error::invalid("the guest did not switch itself off")),
        };
        let error = match frozen {
            Ok(end) => return Ok(end),
            Err(error) => error,
        };
        tracing::warn!(machine = %self.name(), %layer, %error, "the edit is not over");
        self.clear_run(Seen::Supervised(ran))?;
        Ok(EditEnd::Unfinished(with_causes(&error)))
    }

    fn freeze_edit(&self, layer: &Name, ran: &Result<RunEnd>) -> Result<EditEnd> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        if let Some(run) = record.run.take() {
            record.ended = Some(EndRecord::seen(&run, ran));
        }
        let mut edit = Edit::new(self, record);
        edit.take_decisions()?;
        let end = edit.freeze_edit(layer)?;
        edit.commit()?;
        remove_dir(&self.runtime_folder())?;
        Ok(end)
    }
}

/// Reads what overlays show from byte `offset` of the disk on, which lies in one of them.
fn read_at(overlays: &[Overlay], buf: &mut [u8], offset: u64) -> Result<()> {
    let end = offset.saturating_add(buf.len() as u64);
    for Overlay { start, chain } in overlays {
        if *start <= offset && end <= start.saturating_add(chain.size()) {
            return Ok(chain.read_at(buf, offset - start)?);
        }
    }
    Err(Error::invalid("its partition does not lie on its disk"))
}
