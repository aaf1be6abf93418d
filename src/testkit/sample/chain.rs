//! The chains of a sample's disks: as a store lays them out, but every file that is not an image is
//! made by applying the plan.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use stratavm_disk::ImageSpec;
use stratavm_disk::hdd::HdsSpec;
use stratavm_disk::vmdk::{AdapterType, FlatExtent, FlatKind, FlatSpec, ParentLink, SparseSpec};

use super::{MIB_SECTORS, Sample, SampleDisk};
use crate::chain::{Chain, DiskName, Family, Member, MemberFile, MemberRole};
use crate::identity::{Identity, LinkId};
use crate::image::ImageDigest;
use crate::resolved::{Paths, relative_path};
use crate::spec::{Controller, Size};

impl Sample {
    pub(super) fn chain(
        &self,
        folder: &Path,
        paths: &Paths,
        disk: &SampleDisk,
        controller: Controller,
        (generation, new): (u64, bool),
    ) -> Chain {
        let identity = Identity::Machine(self.id);
        let name = DiskName::Layer(disk.name.clone());
        // A name stands for the content: only that digests of layers differ matters here.
        let chunk = Sha256::digest(disk.name.as_str()).into();
        let digest = ImageDigest::from_chunks(disk.sectors * 512, [chunk]);
        let home = paths.disk(&name);
        let extents = disk.image_files(folder);
        let base = identity.base(&name, &digest);
        let image_files = extents
            .iter()
            .map(|(path, sectors)| MemberFile::existing(path, *sectors))
            .collect();
        let image = MemberRole::Image(digest);
        let mut members = vec![Member::new(
            name.clone(),
            image,
            base.uuid,
            None,
            image_files,
        )];
        let mut parent = (extents[0].0.clone(), base);
        if self.family == Family::Vmdk {
            let path = home.join("base.vmdk");
            let spec = flat(&home, &extents, base, adapter(controller));
            let file = MemberFile::new(&path, disk.sectors, ImageSpec::VmdkFlat(spec));
            let role = MemberRole::Base;
            members.push(Member::new(
                name.clone(),
                role,
                base.uuid,
                Some(base.cid),
                vec![file],
            ));
            parent = (path, base);
        }
        for level in 1..=disk.frozen + 1 {
            let head = level > disk.frozen;
            let number = if head {
                generation + disk.frozen
            } else {
                level
            };
            let link = identity.head(&name, number);
            let files = self.delta(
                &home,
                disk,
                controller,
                number,
                (link, &parent),
                new || !head,
            );
            let role = if head {
                MemberRole::Head
            } else {
                MemberRole::Frozen(level)
            };
            let cid = (self.family == Family::Vmdk).then_some(link.cid);
            if let Some(file) = files.first() {
                parent = (file.path.clone(), link);
            }
            members.push(Member::new(name.clone(), role, link.uuid, cid, files));
        }
        Chain::new(self.family, disk.sectors, members)
    }

    /// The files of one delta: one, or in the `hds` family one for each extent of the image.
    fn delta(
        &self,
        home: &Path,
        disk: &SampleDisk,
        controller: Controller,
        number: u64,
        (link, (parent_path, parent)): (LinkId, &(PathBuf, LinkId)),
        new: bool,
    ) -> Vec<MemberFile> {
        let file = |path: PathBuf, sectors: u64, spec: ImageSpec| match new {
            true => MemberFile::new(path, sectors, spec),
            false => MemberFile::existing(path, sectors),
        };
        if self.family == Family::Vmdk {
            let path = home.join(format!("delta-{number}.vmdk"));
            let hint = relative_path(home, parent_path);
            let parent = ParentLink {
                hint,
                cid: parent.cid,
                uuid: parent.uuid,
            };
            let spec = sparse(&path, disk.sectors, link, Some(parent), adapter(controller));
            return vec![file(path, disk.sectors, spec)];
        }
        disk.image_files(Path::new(""))
            .iter()
            .enumerate()
            .map(|(part, (_, sectors))| {
                let spec = ImageSpec::Hds(HdsSpec {
                    sectors: *sectors,
                    patches: Vec::new(),
                });
                file(
                    home.join(format!("delta-{number}-{part}.hds")),
                    *sectors,
                    spec,
                )
            })
            .collect()
    }

    pub(super) fn session(&self, paths: &Paths, size: Size, controller: Controller) -> Chain {
        let sectors = size.bytes() / 512;
        let name = DiskName::Session;
        let link = Identity::Machine(self.id).head(&name, self.start);
        let home = paths.disk(&name);
        let (path, spec, cid) = match self.family {
            Family::Vmdk => {
                let path = home.join(format!("session-{}.vmdk", self.start));
                let spec = sparse(&path, sectors, link, None, adapter(controller));
                (path, spec, Some(link.cid))
            }
            Family::Hds => {
                let spec = ImageSpec::Hds(HdsSpec {
                    sectors,
                    patches: Vec::new(),
                });
                (home.join(format!("session-{}.hds", self.start)), spec, None)
            }
        };
        let file = MemberFile::new(path, sectors, spec);
        let head = Member::new(name, MemberRole::Head, link.uuid, cid, vec![file]);
        Chain::new(self.family, sectors, vec![head])
    }
}

impl SampleDisk {
    /// Path and sectors of each raw file of the image; the first ones are a MiB longer where it
    /// does not divide evenly.
    pub(super) fn image_files(&self, folder: &Path) -> Vec<(PathBuf, u64)> {
        let mib = self.sectors / MIB_SECTORS;
        (0..self.extents)
            .map(|part| {
                let sectors =
                    (mib / self.extents + u64::from(part < mib % self.extents)) * MIB_SECTORS;
                (
                    folder
                        .join("images")
                        .join(format!("{}-{part}.raw", self.name)),
                    sectors,
                )
            })
            .collect()
    }
}

fn adapter(controller: Controller) -> AdapterType {
    match controller {
        Controller::Ide => AdapterType::Ide,
        _ => AdapterType::LsiLogic,
    }
}

fn flat(home: &Path, extents: &[(PathBuf, u64)], link: LinkId, adapter: AdapterType) -> FlatSpec {
    let extents = extents
        .iter()
        .map(|(path, sectors)| FlatExtent {
            file: relative_path(home, path),
            sectors: *sectors,
            offset: 0,
        })
        .collect();
    FlatSpec {
        kind: FlatKind::Monolithic,
        extents,
        cid: link.cid,
        uuid: link.uuid,
        adapter,
    }
}

fn sparse(
    path: &Path,
    sectors: u64,
    link: LinkId,
    parent: Option<ParentLink>,
    adapter: AdapterType,
) -> ImageSpec {
    let file = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    ImageSpec::VmdkSparse(SparseSpec {
        file: file.unwrap_or_default(),
        sectors,
        cid: link.cid,
        uuid: link.uuid,
        parent,
        adapter,
        patches: Vec::new(),
    })
}
