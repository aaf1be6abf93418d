//! Getting a machine ready for a start: fresh heads, a new session disk, the resolved machine.
//!
//! Starting and watching the product is in [`super::run`].

use stratavm_disk::{Durability, Patch};

use super::edit::Edit;
use super::files::{Files, Stale, make_all};
use super::flush::flush_before_start;
use super::folder::Machine;
use super::layer::{Began, Head, LayerState, Use};
use super::record::{HeadRecord, Record, RunRecord, SessionRecord};
use super::split::{check_descriptors, check_fits};
use crate::capability::Capabilities;
use crate::chain::{Chain, DiskName, Family, Member};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Unknown;
use crate::hypervisor::{Hypervisor, Product};
use crate::image::{Image, PartitionMeta};
use crate::layout::Making;
use crate::linux::{Flag, ManifestLine, SessionDisk};
use crate::plan::Plan;
use crate::resolved::{Resolved, ResolvedDisk};
use crate::spec::{LayerSpec, Name, Presence, Size, Writes};
use crate::store::make_private_dir;

/// Bytes in a sector.
const SECTOR: u64 = 512;

impl Machine {
    /// The machine as it stands, for `product`: what [`Hypervisor::translate`] takes.
    ///
    /// # Errors
    /// A damaged record, or an image that is gone from the store.
    pub fn resolve(&self, product: &Product) -> Result<Resolved> {
        let record = self.record()?;
        let edited = record.run.as_ref().and_then(|run| run.edit.as_ref());
        self.resolve_record(&record, edited, &Files::new(self), product)
    }

    fn resolve_record(
        &self,
        record: &Record,
        edited: Option<&Name>,
        files: &Files<'_>,
        product: &Product,
    ) -> Result<Resolved> {
        let ports = record.hardware.ports();
        let disk = |name: DiskName, role, chain: Chain| {
            let port = ports.get(&name).ok_or_else(|| {
                Error::new(
                    ErrorKind::Malformed,
                    format!("the disk of {name} has no port"),
                )
            })?;
            Ok::<_, Error>(ResolvedDisk::new(
                name,
                role,
                port.controller,
                port.slot,
                chain,
            ))
        };
        let mut disks = Vec::new();
        for layer in record.attached(edited) {
            let image = files.image(&layer.current()?.image)?;
            let layout = files.layout(record, layer.disk(), layer.head.family);
            let frozen = Files::frozen(layer);
            let chain =
                layout.chain(&image, &frozen, layer.head.delta().into(), Making::Existing)?;
            disks.push(disk(layer.disk(), Some(layer.spec.role), chain)?);
        }
        if let (Some(session), Some(size)) = (&record.session, record.spec.guest.session_size()) {
            let layout = files.layout(record, DiskName::Session, session.family);
            let chain = layout.session_chain(size.bytes(), None, session.delta().into())?;
            disks.push(disk(DiskName::Session, None, chain)?);
        }
        let media = record
            .spec
            .hardware
            .cdrom
            .iter()
            .map(|drive| drive.image.clone().into());
        Ok(Resolved::new(
            record.full_spec(),
            record.identity(),
            disks,
            media.collect(),
            self.paths(product),
            self.store().volume().clone(),
        ))
    }

    /// Makes everything for a start on `backend` and records the run: fresh heads for layers that
    /// discard, a new session disk, the plan applied. What is staged comes first; sessions on the
    /// layers `revertible` can be dropped. The caller holds the run lock.
    pub(super) fn prepare(
        &self,
        backend: &dyn Hypervisor,
        run: RunRecord,
        revertible: &[Name],
        ctx: &stratavm_disk::Ctx,
    ) -> Result<Plan> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        // Of the boot before this one: the caller knows that it is over.
        record.run = None;
        let mut edit = Edit::new(self, record);
        let made = self.make_ready(&mut edit, backend, run, revertible, ctx);
        edit.conclude(made)
    }

    /// All of it but the record.
    fn make_ready(
        &self,
        edit: &mut Edit<'_>,
        backend: &dyn Hypervisor,
        run: RunRecord,
        revertible: &[Name],
        ctx: &stratavm_disk::Ctx,
    ) -> Result<Plan> {
        let capabilities = backend.capabilities();
        let (begins, edited) = (run.boots == 1, run.edit.as_ref());
        match edited {
            // What is staged waits for a start that edits nothing.
            Some(layer) => edit.begin_edit(layer)?,
            None => {
                edit.set_edits_aside()?;
                edit.take_staged()?;
            }
        }
        if begins {
            edit.begin_revertible(revertible)?;
        }
        for index in 0..edit.record.layers.len() {
            ctx.check()?;
            if edit.record.is_attached(&edit.record.layers[index], edited) {
                renew(edit, index, capabilities, backend.product())?;
            }
        }
        for note in edit.tidy() {
            tracing::info!(machine = %self.name(), "{note}");
        }
        edit.make_files()?;
        self.make_session(&mut edit.record, edited, &edit.files, capabilities)?;
        let product = backend.product();
        let resolved = self.resolve_record(&edit.record, edited, &edit.files, product)?;
        for disk in &resolved.disks {
            check_descriptors(&disk.chain)?;
        }
        flush_before_start(&resolved, capabilities)?;
        let plan = backend.translate(&resolved)?;
        let attached: Vec<_> = edit.record.attached(edited).map(LayerState::disk).collect();
        let layers = edit.record.layers.iter_mut();
        for layer in layers.filter(|layer| attached.contains(&layer.disk())) {
            let head = &mut layer.head;
            head.began = match (head.usage, begins) {
                (Use::Untouched, _) => Began::Session,
                // It was begun by another session, and this one goes on with it.
                (Use::Started, true) => Began::Earlier,
                (Use::Started, false) => head.began,
            };
            head.usage = Use::Started;
        }
        let record = &mut edit.record;
        let heads = record.attached(edited).map(|layer| HeadRecord {
            disk: layer.disk(),
            generation: layer.head.generation,
            unknown: Unknown::new(),
        });
        record.run = Some(RunRecord {
            heads: heads.collect(),
            plan: plan.digest(),
            generation: record.generation,
            ..run.clone()
        });
        make_private_dir(&self.runtime_folder())?;
        // The product's files are no truth: where they cannot be written, the old record stays.
        plan.apply(self.store().volume(), ctx)?;
        Ok(plan)
    }

    /// Makes the session disk of a start: a new file with new ids, and the manifest on it.
    fn make_session(
        &self,
        record: &mut Record,
        edited: Option<&Name>,
        files: &Files<'_>,
        capabilities: &Capabilities,
    ) -> Result<()> {
        let Some(size) = record.spec.guest.session_size() else {
            return Ok(());
        };
        let family = preferred(record.family, capabilities)?;
        let layout = files.layout(record, DiskName::Session, family);
        let volume = self.store().volume();
        let session = SessionRecord {
            generation: record.next_generation(),
            family,
            extent_sectors: layout.extent_sectors(size.bytes() / SECTOR, volume)?,
            unknown: Unknown::new(),
        };
        record.session = Some(session.clone());
        let (disk_size, patches) = self.session_content(record, edited, files, size)?;
        let chain = layout.session_chain(disk_size, Some(patches), session.delta().into())?;
        let paths = chain.files();
        if let Some(folder) = paths.first().and_then(|path| path.parent()) {
            make_private_dir(folder)?;
        }
        let made = chain.members.iter().flat_map(Member::all_files);
        make_all(made, self, Durability::Unsynced, Stale::Unreferenced)
    }

    fn session_content(
        &self,
        record: &Record,
        edited: Option<&Name>,
        files: &Files<'_>,
        size: Size,
    ) -> Result<(u64, Vec<Patch>)> {
        let mut lines = Vec::new();
        for layer in record.attached(edited) {
            let mut line = self
                .manifest_line_of(record, files, layer)
                .map_err(|error| {
                    let (machine, layer) = (&record.name, layer.name());
                    error
                        .during(format!("layer {layer} cannot be used as it is"))
                        .next(format!("stratavm history {machine} {layer}"))
                })?;
            if edited == Some(layer.name()) {
                line.flags.insert(Flag::Edit);
            }
            lines.push(line);
        }
        let generation = record
            .session
            .as_ref()
            .map_or(0, |session| session.generation);
        let session = SessionDisk::new(record.identity(), generation, size.bytes(), lines)?;
        Ok((session.size, session.patches))
    }

    fn manifest_line_of(
        &self,
        record: &Record,
        files: &Files<'_>,
        layer: &LayerState,
    ) -> Result<ManifestLine> {
        let image = self.store().image(&layer.current()?.image)?;
        let fresh = self.freshness(record, files, layer, &image)?;
        manifest_line(&layer.spec, &image.meta.partitions, fresh)
    }

    /// Whether the guest may format a layer: it starts from a blank image, keeps what is written,
    /// and nothing at all was ever written to any delta of its chain.
    fn freshness(
        &self,
        record: &Record,
        files: &Files<'_>,
        layer: &LayerState,
        image: &Image,
    ) -> Result<Freshness> {
        if layer.spec.effective_writes() != Writes::Keep || !image.meta.is_blank() {
            return Ok(Freshness::Used);
        }
        let digest = layer.current()?.image;
        let chain = layer.history.chain(layer.history.current);
        let deltas = chain.into_iter().map(|link| link.delta);
        for delta in deltas.chain([layer.head.delta()]) {
            for path in files.block_paths(record, &layer.disk(), delta, &digest)? {
                if stratavm_disk::has_allocated_blocks(&path, format_of(delta.family))? {
                    return Ok(Freshness::Used);
                }
            }
        }
        Ok(Freshness::Fresh)
    }
}

/// Decides on the head of one layer for a start.
fn renew(
    edit: &mut Edit<'_>,
    index: usize,
    capabilities: &Capabilities,
    product: &Product,
) -> Result<()> {
    let store = edit.machine.store();
    let record = &mut edit.record;
    let layer = &record.layers[index];
    let below = layer.history.top(layer.history.current);
    let below = below.map(|delta| delta.family);
    let (keeps, purpose) = (layer.head_writes() == Writes::Keep, layer.head.purpose);
    let held = layer.holds_kept_writes();
    let bound = if held { Some(layer.head.family) } else { below };
    let family = match bound {
        Some(family) if !capabilities.families.contains(&family) => {
            return Err(needs_switch(record, layer, family, product));
        }
        Some(family) => family,
        None => preferred(record.family, capabilities)?,
    };
    if keeps && held {
        return check_fits(store, record, layer);
    }
    if keeps && layer.head.family == family && check_fits(store, record, layer).is_ok() {
        return Ok(());
    }
    let name = layer.name().clone();
    let generation = record.next_generation();
    let head = Head {
        purpose,
        ..Head::new(generation, family)
    };
    edit.put_head(&name, head)
}

/// Whether anything was ever written to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Nothing at all: the guest may format it.
    Fresh,
    /// It holds something.
    Used,
}

/// The manifest's line for a layer whose image has these partitions.
pub(crate) fn manifest_line(
    layer: &LayerSpec,
    partitions: &[PartitionMeta],
    freshness: Freshness,
) -> Result<ManifestLine> {
    let partition = partition(layer, partitions)?;
    let (name, fs) = (partition.name, partition.fs);
    let mut line = ManifestLine::new(layer.role, name.id, fs, layer.name.clone());
    if freshness == Freshness::Fresh {
        line.flags.insert(Flag::Fresh);
    }
    if layer.optional == Presence::Optional {
        line.flags.insert(Flag::Optional);
    }
    line.paths = layer.effective_paths();
    Ok(line)
}

/// The partition by which the guest finds a layer.
pub(crate) fn partition<'a>(
    layer: &LayerSpec,
    partitions: &'a [PartitionMeta],
) -> Result<&'a PartitionMeta> {
    partitions.iter().find(|partition| partition.name.role == layer.role).ok_or_else(|| {
        let role = layer.role;
        Error::invalid(format!(
            "the image of layer {} has no partition strata.{role}.<id>, by which the guest finds it",
            layer.name
        ))
        .next(format!(
            "wrap its file system: stratavm image add FILE --fs squashfs --role {role} --name {}",
            layer.name
        ))
    })
}

/// The family of disks that are bound to none: the machine's own if the product reads it.
fn preferred(own: Family, capabilities: &Capabilities) -> Result<Family> {
    if capabilities.families.contains(&own) {
        return Ok(own);
    }
    capabilities.families.first().copied().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "the product reads no family of chains at all",
        )
    })
}

fn format_of(family: Family) -> stratavm_disk::Format {
    match family {
        Family::Vmdk => stratavm_disk::Format::VmdkSparse,
        Family::Hds => stratavm_disk::Format::Hds,
    }
}

fn needs_switch(record: &Record, layer: &LayerState, family: Family, product: &Product) -> Error {
    Error::new(
        ErrorKind::NeedsSwitch,
        format!(
            "layer {} holds kept data in the {family} family",
            layer.name()
        ),
    )
    .of(product)
    .next(format!("stratavm switch {} --to {product}", record.name))
}
