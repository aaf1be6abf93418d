//! Machines to test with: a [`Resolved`] made from plain values, with the disk chains that a store
//! would make, and the image files that go with it.
//!
//! Making one touches nothing; [`Sample::write_images`] makes its image files.

mod chain;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use stratavm_disk::Volume;
use uuid::Uuid;

use crate::Resolved;
use crate::chain::{DiskName, Family};
use crate::identity::Identity;
use crate::resolved::{Paths, ResolvedDisk};
use crate::spec::{
    Arch, Composition, Controller, Guest, GuestOs, Hardware, LayerSpec, Name, Policy, Presence,
    Role, SPEC_VERSION, VmSpec, Writes,
};

/// Sectors of 512 bytes in a MiB.
const MIB_SECTORS: u64 = 2048;
/// The adapter's own id on a SCSI bus, which no disk gets.
const SCSI_ADAPTER: u32 = 7;

/// A machine to test with: one layer `os` of 8 MiB for a start. Its spec may be changed freely
/// before it is resolved, except for the list of layers.
///
/// ```
/// use std::path::Path;
/// use stratavm::spec::{Name, Role};
/// use stratavm::testkit::Sample;
///
/// let sample = Sample::new("demo")?.layer("home", Role::UserData, 16)?;
/// let machine = sample.resolve(Path::new("/nowhere"));
/// assert_eq!(machine.disks.len(), 2);
/// # Ok::<(), stratavm::spec::NameError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sample {
    /// What the machine is to be.
    pub spec: VmSpec,
    id: Uuid,
    family: Family,
    volume: Volume,
    start: u64,
    disks: Vec<SampleDisk>,
}

#[derive(Debug, Clone)]
struct SampleDisk {
    name: Name,
    sectors: u64,
    /// Raw files that the image is cut into.
    extents: u64,
    /// Frozen deltas between image and head.
    frozen: u64,
    /// What the image begins with.
    content: Vec<u8>,
}

impl Sample {
    /// A machine called `name` with an `os` layer of 8 MiB; x86_64 Linux, `disks` composition.
    ///
    /// # Errors
    /// If `name` is no [`Name`].
    pub fn new(name: &str) -> Result<Self, crate::spec::NameError> {
        let spec = VmSpec {
            stratavm: SPEC_VERSION,
            name: Name::new(name)?,
            title: None,
            guest: Guest {
                os: GuestOs::Linux,
                id: None,
                arch: Arch::X86_64,
                composition: Composition::Disks,
                session: None,
            },
            hardware: Hardware::default(),
            layers: Vec::new(),
            policy: Policy::default(),
            labels: Default::default(),
            extensions: Default::default(),
        };
        let sample = Self {
            spec,
            id: Uuid::from_u128(0x0192_d3f2_7a4b_7cde_8f01_2345_6789_abcd),
            family: Family::Vmdk,
            volume: Volume::default(),
            start: 1,
            disks: Vec::new(),
        };
        sample.layer("os", Role::Os, 8)
    }

    /// Adds a layer with a disk of `mib` MiB.
    ///
    /// # Errors
    /// If `name` is no [`Name`].
    pub fn layer(
        mut self,
        name: &str,
        role: Role,
        mib: u64,
    ) -> Result<Self, crate::spec::NameError> {
        let name = Name::new(name)?;
        self.spec.layers.push(LayerSpec {
            name: name.clone(),
            role,
            image: Some(format!("{name}.raw")),
            size: None,
            title: None,
            paths: None,
            writes: None,
            rejuvenate: None,
            optional: Presence::Required,
            controller: None,
            slot: None,
            labels: Default::default(),
        });
        let sectors = mib.max(1).saturating_mul(MIB_SECTORS);
        self.disks.push(SampleDisk {
            name,
            sectors,
            extents: 1,
            frozen: 0,
            content: Vec::new(),
        });
        Ok(self)
    }

    /// Takes the last layer away again.
    #[must_use]
    pub fn without_last_layer(mut self) -> Self {
        self.spec.layers.pop();
        self.disks.pop();
        self
    }

    /// Keeps every disk in this family.
    #[must_use]
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// The id the machine has.
    #[must_use]
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = id;
        self
    }

    /// Cuts the image of the last layer into `count` raw files (at most one for each MiB).
    #[must_use]
    pub fn extents(mut self, count: u64) -> Self {
        if let Some(disk) = self.disks.last_mut() {
            disk.extents = count.clamp(1, disk.sectors / MIB_SECTORS);
        }
        self
    }

    /// Puts `count` frozen deltas under the head of the last layer.
    #[must_use]
    pub fn frozen(mut self, count: u64) -> Self {
        if let Some(disk) = self.disks.last_mut() {
            disk.frozen = count;
        }
        self
    }

    /// What the image of the layer at `index` (0 is `os`) begins with.
    #[must_use]
    pub fn content(mut self, index: usize, bytes: impl Into<Vec<u8>>) -> Self {
        if let Some(disk) = self.disks.get_mut(index) {
            disk.content = bytes.into();
        }
        self
    }

    /// Which start of the machine this is, from 1: heads of `discard` layers are new each time,
    /// those of `keep` layers must be there from the second on.
    #[must_use]
    pub fn start(mut self, number: u64) -> Self {
        self.start = number.max(1);
        self
    }

    /// The machine with its files below `folder`: images in `images/`, the rest as
    /// [`Paths::below`] says. Touches nothing.
    #[must_use]
    pub fn resolve(&self, folder: &Path) -> Resolved {
        let paths = Paths::below(folder);
        let mut slots = Slots::default();
        let mut disks: Vec<_> = self
            .spec
            .layers
            .iter()
            .zip(&self.disks)
            .map(|(layer, disk)| {
                let controller = layer.controller.unwrap_or(self.spec.hardware.controller);
                let slot = layer.slot.unwrap_or_else(|| slots.next(controller));
                let name = DiskName::Layer(disk.name.clone());
                let head = self.generation(layer.effective_writes());
                let chain = self.chain(folder, &paths, disk, controller, head);
                ResolvedDisk::new(name, Some(layer.role), controller, slot, chain)
            })
            .collect();
        if let Some(size) = self.spec.guest.session_size() {
            let controller = self.spec.hardware.controller;
            let slot = slots.next(controller);
            let chain = self.session(&paths, size, controller);
            disks.push(ResolvedDisk::new(
                DiskName::Session,
                None,
                controller,
                slot,
                chain,
            ));
        }
        let media = self
            .spec
            .hardware
            .cdrom
            .iter()
            .map(|drive| folder.join(&drive.image))
            .collect();
        let identity = Identity::Machine(self.id);
        Resolved::new(
            self.spec.clone(),
            identity,
            disks,
            media,
            paths,
            self.volume.clone(),
        )
    }

    /// Makes the image files that [`Sample::resolve`] refers to, with holes where they are zero.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write_images(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        for disk in &self.disks {
            let mut content = disk.content.as_slice();
            for (path, sectors) in disk.image_files(folder) {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                let mut file = fs::File::create_new(&path)?;
                let here = content
                    .len()
                    .min(usize::try_from(sectors * 512).unwrap_or(usize::MAX));
                file.write_all(&content[..here])?;
                content = &content[here..];
                file.set_len(sectors * 512)?;
                made.push(path);
            }
        }
        Ok(made)
    }

    /// Generation of a head, and whether this start makes it.
    fn generation(&self, writes: Writes) -> (u64, bool) {
        match writes {
            Writes::Discard => (self.start, true),
            Writes::Keep => (1, self.start == 1),
        }
    }
}

/// The next port of each kind; `auto`, `sata` and `virtio` share one numbering.
#[derive(Default)]
struct Slots {
    shared: u32,
    ide: u32,
    scsi: u32,
    nvme: u32,
}

impl Slots {
    fn next(&mut self, controller: Controller) -> u32 {
        let next = match controller {
            Controller::Ide => &mut self.ide,
            Controller::Scsi => &mut self.scsi,
            Controller::Nvme => &mut self.nvme,
            Controller::Auto | Controller::Sata | Controller::Virtio => &mut self.shared,
        };
        if controller == Controller::Scsi && *next == SCSI_ADAPTER {
            *next += 1;
        }
        let slot = *next;
        *next += 1;
        slot
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use stratavm_disk::Durability;

    #[test]
    fn every_new_image_of_a_sample_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        for family in [Family::Vmdk, Family::Hds] {
            let sample = Sample::new("s").unwrap().extents(3).frozen(2);
            let mut sample = sample
                .layer("home", Role::UserData, 4)
                .unwrap()
                .family(family);
            sample.spec.guest.composition = Composition::Linux;
            let home = folder.path().join(family.as_str());
            sample.write_images(&home).unwrap();
            let machine = sample.resolve(&home);
            assert_eq!(machine.disks.len(), 3);
            for file in machine
                .disks
                .iter()
                .flat_map(|d| &d.chain.members)
                .flat_map(crate::chain::Member::all_files)
            {
                if let crate::chain::Source::New(spec) = &file.source {
                    std::fs::create_dir_all(file.path.parent().unwrap()).unwrap();
                    stratavm_disk::create(&file.path, spec, &machine.volume, Durability::Unsynced)
                        .unwrap();
                }
                assert!(file.path.is_file(), "{:?}", file.path);
            }
        }
    }
}
