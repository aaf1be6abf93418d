//! The disk around a layer's partition: where the partition lies, and the GPT that names it.

use std::ops::Range;

use stratavm_disk::{Ctx, Patch};
use uuid::Uuid;

use super::ImageDigest;
use super::extents::Extents;
use super::hash::{digest, digest_of_patches};
use super::meta::PartitionMeta;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Unknown;
use crate::gpt::{self, Gpt, MARGIN, NewPartition};
use crate::linux::{FileSystem, FsState, PartitionName, SuperBlock};
use crate::spec::Role;

/// Namespace of the GUIDs of disks and partitions that are made here.
const NAMESPACE: Uuid = Uuid::from_u128(0x2b1d_9f0e_6a57_5c34_9d42_0c7e_53f1_88aa);

/// Where the only partition of a disk of `size` bytes lies: all but 1 MiB at either end.
pub(super) fn partition_range(size: u64) -> Range<u64> {
    MARGIN..size.saturating_sub(MARGIN)
}

/// The size of the disk around a partition of `length` bytes.
pub(super) fn disk_size(length: u64) -> Option<u64> {
    length.checked_add(2 * MARGIN)
}

/// The GPT of a disk of `size` bytes with one partition of this name.
pub(super) fn table(name: &PartitionName, size: u64) -> Result<Vec<Patch>> {
    let guid = |what: &str| guid(what, &name.to_string(), size);
    let Range { start, end } = partition_range(size);
    let length = end.saturating_sub(start);
    let partition = NewPartition {
        name: name.to_string(),
        guid: guid("part"),
        offset: start,
        length,
    };
    gpt::create(size, guid("disk"), &[partition])
}

/// The GUID of a disk, or of the partition that it is named by.
fn guid(what: &str, name: &str, size: u64) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{what} {name} {size}").as_bytes())
}

/// The patches that call each partition of a disk of `size` bytes which holds a layer by what it
/// holds now, in both tables; blank ones keep their names.
///
/// # Errors
/// As for [`layer_partitions`], names apart; [`ErrorKind::Invalid`] too for an os or apps partition
/// whose file system was not unmounted.
pub(super) fn named_by_content(
    disk: &Extents,
    gpt: &Gpt,
    ctx: &Ctx,
) -> Result<(Vec<Patch>, Vec<PartitionMeta>)> {
    let mut partitions = find_partitions(disk, gpt, ctx)?;
    let mut renamed = gpt.clone();
    for partition in partitions.iter_mut().filter(|found| !found.is_blank()) {
        if matches!(partition.name.role, Role::Os | Role::Apps) {
            refuse_unclean(disk, partition)?;
        }
        let before = partition.name.to_string();
        partition.name.id = partition.digest.content_id();
        let size = disk.len();
        renamed = renamed.renamed(&before, &partition.name.to_string(), |what, name| {
            guid(what, name, size)
        })?;
    }
    let names = |table: &Gpt| table.partitions().map(|p| p.name).collect::<Vec<_>>();
    let patches = match names(&renamed) == names(gpt) {
        true => Vec::new(),
        false => renamed.moved_to(disk.len())?,
    };
    Ok((patches, partitions))
}

/// The guest mounts it read-only, without replaying its journal.
fn refuse_unclean(disk: &Extents, partition: &PartitionMeta) -> Result<()> {
    let range = partition.offset..partition.offset + partition.length;
    match detect(disk, &range)? {
        Some(found) if found.state == FsState::Unclean => Err(Error::invalid(format!(
            "the file system in partition {} was not unmounted, so that some of it may be in its \
             journal alone",
            partition.name
        ))
        .next("start it once more with `golden edit`, and let the guest shut down by itself")),
        _ => Ok(()),
    }
}

/// The partition table of a disk.
pub(super) fn read(disk: &Extents) -> Result<Option<Gpt>> {
    gpt::read(disk.len(), |at, buf| disk.read_at(at, buf))
}

/// What stands at the start of a range of the disk.
pub(super) fn detect(disk: &Extents, range: &Range<u64>) -> Result<Option<SuperBlock>> {
    let len = (range.end - range.start).min(FileSystem::HEAD as u64);
    let mut head = vec![0; len as usize];
    disk.read_at(range.start, &mut head)?;
    Ok(FileSystem::detect(&head))
}

/// The partitions of a disk that hold layers, each checked against the id in its name.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a partition whose name starts like a layer's but is none, or that
/// holds no file system a layer may have; [`ErrorKind::Mismatch`] if its content has another id.
pub(super) fn layer_partitions(disk: &Extents, gpt: &Gpt, ctx: &Ctx) -> Result<Vec<PartitionMeta>> {
    let found = find_partitions(disk, gpt, ctx)?;
    for PartitionMeta { name, digest, .. } in found.iter().filter(|found| !found.is_blank()) {
        if digest.content_id() != name.id {
            let message = format!(
                "partition {name} says that its content has the id {}, but it has {}",
                name.id,
                digest.content_id()
            );
            return Err(Error::new(ErrorKind::Mismatch, message)
                .next("add the bare file system with --fs, which names the partition anew"));
        }
    }
    Ok(found)
}

/// The partitions of a disk that hold layers, whatever ids their names say.
fn find_partitions(disk: &Extents, gpt: &Gpt, ctx: &Ctx) -> Result<Vec<PartitionMeta>> {
    let mut found: Vec<PartitionMeta> = Vec::new();
    for partition in gpt
        .partitions()
        .filter(|p| p.name.starts_with(PartitionName::PREFIX))
    {
        let name: PartitionName = partition.name.parse().map_err(|error| {
            Error::invalid("a partition is named like a layer's but is none").caused_by(error)
        })?;
        if found.iter().any(|other| other.name == name) {
            return Err(Error::invalid(format!("two partitions are named {name}")));
        }
        let range = partition.offset..partition.offset + partition.length;
        let digest = digest(disk, range.clone(), ctx)?;
        let blank = is_blank(&digest, partition.length);
        let fs = match detect(disk, &range)? {
            _ if blank => FileSystem::Ext4,
            Some(found) => found.fs,
            None => {
                return Err(Error::invalid(format!(
                    "partition {name} holds no squashfs, erofs or ext4"
                )));
            }
        };
        found.push(PartitionMeta {
            name,
            fs,
            offset: partition.offset,
            length: partition.length,
            digest,
            unknown: Unknown::new(),
        });
    }
    Ok(found)
}

impl PartitionMeta {
    /// Whether it holds nothing at all: then its id says for which layer it is, not what it holds.
    fn is_blank(&self) -> bool {
        is_blank(&self.digest, self.length)
    }
}

fn is_blank(digest: &ImageDigest, length: u64) -> bool {
    *digest == digest_of_patches(length, &[])
}
