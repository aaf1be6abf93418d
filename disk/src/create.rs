//! Making new image files from their specs, and comparing existing ones with them.

use crate::durable::Partial;
use crate::file::ImageFile;
use crate::image::{ImageBytes, ImageSpec, image_bytes};
use crate::{Durability, Error, Holes, Result, Volume};
use std::path::Path;

/// Creates the file. It must not be there yet; on any failure what was written is removed again.
///
/// Where the volume has holes, only what [`image_bytes`] lists takes room; elsewhere the system fills the file with
/// zeros. With [`Durability::Synced`] the file is flushed; its folder is the caller's to flush
/// ([`fsync_dir`](crate::fsync_dir)), once for all files.
///
/// # Errors
/// `Exists`; `Limit` if the volume cannot hold the file once the guest has written everywhere; `Invalid` or `Limit` for
/// a spec that cannot be made; else what the operating system reports.
pub fn create(
    path: &Path,
    spec: &ImageSpec,
    volume: &Volume,
    durability: Durability,
) -> Result<()> {
    write_new(path, spec, volume, durability).map_err(|e| e.at_path(path).during("create image"))
}

/// Compares an existing file with what [`create`] would make: length, ids, metadata, patches, and zeros elsewhere. An
/// image that a guest has written to since does not pass. Holes are not read where the system shows them.
///
/// # Errors
/// `Mismatch` with the offset of the first difference; `NotFound`; else as for [`create`].
pub fn verify(path: &Path, spec: &ImageSpec) -> Result<()> {
    compare(path, spec).map_err(|e| e.at_path(path).during("compare image with its spec"))
}

fn write_new(path: &Path, spec: &ImageSpec, volume: &Volume, durability: Durability) -> Result<()> {
    check_name(path, spec)?;
    let image = image_bytes(spec)?;
    let grown = spec.grown_len(image.len).max(image.len);
    if let Some(max) = volume.max_file.filter(|max| grown > *max) {
        return Err(Error::limit(format!(
            "the image can grow to {grown} bytes, the volume holds files up to {max}"
        )));
    }
    let file = ImageFile::create_new(path)?;
    let guard = Partial::new(path);
    let written = write_image(&file, &image, volume, durability);
    drop(file); // Windows removes no open file
    written?;
    guard.keep();
    Ok(())
}

fn write_image(
    file: &ImageFile,
    image: &ImageBytes,
    volume: &Volume,
    durability: Durability,
) -> Result<()> {
    if volume.holes == Holes::Sparse {
        file.make_sparse()?;
    }
    file.set_len(image.len)?;
    for (offset, bytes) in &image.pieces {
        file.write_all_at(bytes, *offset)?;
    }
    match durability {
        Durability::Synced => file.sync(),
        Durability::Unsynced => Ok(()),
    }
}

fn compare(path: &Path, spec: &ImageSpec) -> Result<()> {
    check_name(path, spec)?;
    let image = image_bytes(spec)?;
    let file = ImageFile::open(path)?;
    if file.len() != image.len {
        return Err(
            Error::mismatch(format!("file is {} bytes, not {}", file.len(), image.len))
                .at_offset(file.len().min(image.len)),
        );
    }
    let differs = |at: u64| Err(Error::mismatch("differs from its spec").at_offset(at));
    let mut at = 0;
    let mut have = Vec::new();
    for (offset, bytes) in &image.pieces {
        if let Some(other) = file.first_nonzero(at..*offset)? {
            return differs(other);
        }
        have.resize(bytes.len(), 0);
        file.read_exact_at(&mut have, *offset)?;
        if let Some(i) = have.iter().zip(bytes).position(|(a, b)| a != b) {
            return differs(offset + i as u64);
        }
        at = offset + bytes.len() as u64;
    }
    match file.first_nonzero(at..image.len)? {
        Some(other) => differs(other),
        None => Ok(()),
    }
}

/// A sparse VMDK names itself in its descriptor.
fn check_name(path: &Path, spec: &ImageSpec) -> Result<()> {
    match spec {
        ImageSpec::VmdkSparse(s) if path.file_name().is_none_or(|n| n != s.file.as_str()) => Err(
            Error::invalid(format!("the spec is for a file named {:?}", s.file)),
        ),
        _ => Ok(()),
    }
}
