//! Translating a spec without a store: images are referred to in place, ids are previews.
//!
//! What would need a change of an image (padding, wrapping, moving its partition table) is refused:
//! that is the store's affair.

use std::path::{Path, PathBuf};

use stratavm_disk::{Ctx, RawSpec, Volume};

use crate::capability::Capabilities;
use crate::chain::{Chain, DiskName, Family};
use crate::error::{Error, ErrorKind, Result};
use crate::hypervisor::Hypervisor;
use crate::identity::Identity;
use crate::image::{ImageDigest, PartitionMeta, extent_lengths, inspect};
use crate::layout::{DeltaRef, DiskLayout, ImageRef, Making, Reach};
use crate::linux::{ManifestLine, SessionDisk};
use crate::machine::{Freshness, blank, check_ids, digest_of, manifest_line, medium};
use crate::resolved::{Paths, Resolved, ResolvedDisk};
use crate::slot::{self, Ports};
use crate::spec::{LayerSpec, VmSpec, Writes};
use crate::store::Store;

/// Bytes in a sector.
const SECTOR: u64 = 512;
/// The generation of a preview's heads: there is only ever one of each.
const GENERATION: u64 = 1;

/// Everything that is needed of a spec's images, looked up once for any number of products.
#[derive(Debug, Clone)]
pub struct Preview {
    spec: VmSpec,
    media: Vec<PathBuf>,
    images: Vec<PreviewImage>,
    ports: Ports,
    volume: Volume,
}

#[derive(Debug, Clone)]
struct PreviewImage {
    image: ImageRef,
    /// What a blank image holds; none for one that is there.
    blank: Option<RawSpec>,
    partitions: Vec<PartitionMeta>,
}

impl Preview {
    /// Looks at the images of `spec`; relative ones start at `spec_folder`. Images given by digest
    /// are looked up in `store`.
    ///
    /// # Errors
    /// What is wrong with the spec or an image, naming the layer; [`ErrorKind::NotFound`] for a
    /// digest without a store.
    pub fn new(
        spec: &VmSpec,
        spec_folder: &Path,
        store: Option<&Store>,
        ctx: &Ctx,
    ) -> Result<Self> {
        spec.validate()?;
        // A spec that is named without a folder lies in the current one.
        let folder = match spec_folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => spec_folder,
        };
        let folder = std::path::absolute(folder)
            .map_err(|error| Error::io("the spec's folder has no absolute path", folder, error))?;
        let look = |layer: &LayerSpec| {
            look_up(spec, layer, &folder, store, ctx)
                .map_err(|error| error.during(format!("layer {} has no usable image", layer.name)))
        };
        let images = spec.layers.iter().map(look).collect::<Result<Vec<_>>>()?;
        let found = images.iter().map(|image| image.partitions.as_slice());
        check_ids(spec, spec.layers.iter().zip(found))?;
        let media = spec
            .hardware
            .cdrom
            .iter()
            .map(|drive| medium(&folder, &drive.image));
        let media = media.collect::<Result<Vec<_>>>()?;
        let ports = slot::assign(spec, &Ports::new())?;
        Ok(Self {
            spec: spec.clone(),
            media,
            images,
            ports,
            volume: Volume::default(),
        })
    }

    /// The same, for files that go to a volume of this kind.
    #[must_use]
    pub fn on_volume(mut self, volume: Volume) -> Self {
        self.volume = volume;
        self
    }

    /// The resolved machine for `backend`, with its files below the folder `out`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for paths that no descriptor can hold.
    pub fn resolve(&self, backend: &dyn Hypervisor, out: &Path) -> Result<Resolved> {
        let out = std::path::absolute(out)
            .map_err(|error| Error::io("the folder has no absolute path", out, error))?;
        let paths = Paths::below(&out);
        let identity = Identity::preview(&self.spec);
        let family = first_family(backend.capabilities())?;
        let mut disks = Vec::new();
        for (layer, found) in self.spec.layers.iter().zip(&self.images) {
            let name = DiskName::Layer(layer.name.clone());
            let layout = self.layout(identity, &paths, name, family)?;
            let head = self.head(&layout, found.image.sectors())?;
            let chain = match &found.blank {
                None => {
                    self.check_cut(&found.image, layer, family)?;
                    layout.chain(&found.image, &[], head, Making::New)?
                }
                Some(blank) => {
                    let lengths = extent_lengths(blank.size, None, &self.volume)?;
                    let files = blank.cut(&lengths);
                    let folder = paths.disk(&layout.disk);
                    let mut image = found.image.clone();
                    image.extents = blank_extents(&folder, &image.digest, &files);
                    let mut chain = layout.chain(&image, &[], head, Making::New)?;
                    chain.make_image(files);
                    chain
                }
            };
            disks.push(self.disk(Some(layer), layout.disk, chain)?);
        }
        if let Some(size) = self.spec.guest.session_size() {
            let lines = self
                .spec
                .layers
                .iter()
                .zip(&self.images)
                .map(|(l, found)| line(l, found));
            let lines = lines.collect::<Result<Vec<_>>>()?;
            let session = SessionDisk::new(identity, GENERATION, size.bytes(), lines)?;
            let layout = self.layout(identity, &paths, DiskName::Session, family)?;
            let head = self.head(&layout, session.size / SECTOR)?;
            let chain = layout.session_chain(session.size, Some(session.patches), head)?;
            disks.push(self.disk(None, DiskName::Session, chain)?);
        }
        let (spec, media) = (self.spec.clone(), self.media.clone());
        Ok(Resolved::new(
            spec,
            identity,
            disks,
            media,
            paths,
            self.volume.clone(),
        ))
    }

    /// Refuses an image in place whose `.hds` head, which is cut where the image is, could outgrow a
    /// file of the volume.
    fn check_cut(&self, image: &ImageRef, layer: &LayerSpec, family: Family) -> Result<()> {
        if family != Family::Hds {
            return Ok(());
        }
        let outgrows = |(_, sectors): &&(PathBuf, u64)| {
            let lengths = extent_lengths(sectors * SECTOR, None, &self.volume);
            lengths.is_ok_and(|lengths| lengths.len() > 1)
        };
        let Some((path, _)) = image.extents.iter().find(outgrows) else {
            return Ok(());
        };
        let message = format!(
            "what the guest writes to layer {} would be one file as long as its image, which is more than \
             files on this volume can hold",
            layer.name
        );
        Err(Error::new(ErrorKind::Unsupported, message)
            .at(path)
            .next(format!(
                "stratavm image add {}: in a store on this volume it is cut; name its digest in the spec",
                path.display()
            )))
    }

    fn head(&self, layout: &DiskLayout<'_>, sectors: u64) -> Result<DeltaRef> {
        Ok(DeltaRef {
            generation: GENERATION,
            extent_sectors: layout.extent_sectors(sectors, &self.volume)?,
        })
    }

    fn layout<'a>(
        &self,
        identity: Identity,
        paths: &'a Paths,
        disk: DiskName,
        family: Family,
    ) -> Result<DiskLayout<'a>> {
        let controller = self.port(&disk)?.controller;
        Ok(DiskLayout {
            identity,
            paths,
            disk,
            controller,
            family,
        })
    }

    fn disk(
        &self,
        layer: Option<&LayerSpec>,
        name: DiskName,
        chain: Chain,
    ) -> Result<ResolvedDisk> {
        let port = self.port(&name)?;
        let role = layer.map(|layer| layer.role);
        Ok(ResolvedDisk::new(
            name,
            role,
            port.controller,
            port.slot,
            chain,
        ))
    }

    fn port(&self, disk: &DiskName) -> Result<slot::Port> {
        self.ports.get(disk).copied().ok_or_else(|| {
            Error::new(
                ErrorKind::Malformed,
                format!("the disk of {disk} has no port"),
            )
        })
    }
}

/// What is known of the image of one layer.
fn look_up(
    spec: &VmSpec,
    layer: &LayerSpec,
    folder: &Path,
    store: Option<&Store>,
    ctx: &Ctx,
) -> Result<PreviewImage> {
    match (&layer.image, layer.size) {
        (Some(text), _) if text.starts_with(ImageDigest::PREFIX) => {
            let store = store.ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    "an image is given by digest, and there is no store",
                )
                .next("name the store that has it: --home DIR")
            })?;
            let image = store.image(&digest_of(text)?)?;
            Ok(PreviewImage {
                image: ImageRef {
                    digest: image.meta.digest,
                    extents: image.extents(),
                    reach: Reach::Relative,
                },
                blank: None,
                partitions: image.meta.partitions,
            })
        }
        (Some(file), _) => in_place(&folder.join(file), ctx),
        (None, Some(size)) => {
            let blank = blank(spec, layer, size)?;
            Ok(PreviewImage {
                image: ImageRef {
                    digest: blank.digest,
                    extents: vec![(PathBuf::new(), blank.size / SECTOR)],
                    reach: Reach::Relative,
                },
                blank: Some(RawSpec {
                    size: blank.size,
                    patches: blank.patches,
                }),
                partitions: blank.partition.into_iter().collect(),
            })
        }
        (None, None) => Err(Error::invalid("neither image nor size is given")),
    }
}

/// Where the files of a blank image go, with their lengths in sectors.
fn blank_extents(folder: &Path, image: &ImageDigest, files: &[RawSpec]) -> Vec<(PathBuf, u64)> {
    let id = image.content_id();
    let name = |n: usize| match files.len() {
        1 => format!("blank-{id}.raw"),
        _ => format!("blank-{id}-{n}.raw"),
    };
    let file = |(n, file): (usize, &RawSpec)| (folder.join(name(n)), file.size / SECTOR);
    files.iter().enumerate().map(file).collect()
}

/// An image file that is used where it is.
fn in_place(path: &Path, ctx: &Ctx) -> Result<PreviewImage> {
    let found = inspect(path, ctx)?;
    let digest = found.digest.ok_or_else(|| {
        Error::invalid("the image would have to be padded, which is the store's affair")
            .at(path)
            .next(format!("stratavm image add {}", path.display()))
    })?;
    Ok(PreviewImage {
        image: ImageRef {
            digest,
            extents: vec![(path.to_owned(), found.size / SECTOR)],
            reach: Reach::Relative,
        },
        blank: None,
        partitions: found.partitions,
    })
}

fn line(layer: &LayerSpec, found: &PreviewImage) -> Result<ManifestLine> {
    let blank = found.blank.is_some() && layer.effective_writes() == Writes::Keep;
    let freshness = if blank {
        Freshness::Fresh
    } else {
        Freshness::Used
    };
    manifest_line(layer, &found.partitions, freshness)
}

fn first_family(capabilities: &Capabilities) -> Result<Family> {
    capabilities.families.first().copied().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "the product reads no family of chains at all",
        )
    })
}
