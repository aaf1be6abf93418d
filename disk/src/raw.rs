//! Raw images: the guest disk byte for byte. Creating blank ones; reading guest data comes with the disk engine.

use crate::image::ImageBytes;
use crate::patch::{self, Patch};
use crate::{Error, Result};

/// A new raw image: zeros, with `patches` put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSpec {
    /// Size of the disk in bytes: a multiple of 512, not 0, at most 8 EiB - 512.
    pub size: u64,
    /// What stands in it, in order of offset.
    pub patches: Vec<Patch>,
}

pub(crate) fn render(spec: &RawSpec) -> Result<ImageBytes> {
    if spec.size == 0 || !spec.size.is_multiple_of(512) {
        return Err(Error::invalid(format!(
            "size {} is not a multiple of 512 bytes",
            spec.size
        )));
    }
    if spec.size > i64::MAX as u64 {
        return Err(Error::limit(format!(
            "size {} is beyond what a file can hold",
            spec.size
        )));
    }
    patch::check(&spec.patches, spec.size)?;
    let mut out = ImageBytes::new(spec.size);
    for p in &spec.patches {
        out.push(p.offset, p.bytes.clone());
    }
    Ok(out.finish())
}
