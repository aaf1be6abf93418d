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

impl RawSpec {
    /// The same disk in files of these lengths in bytes, one after the other: each has the patches that lie in it.
    #[must_use]
    pub fn cut(&self, lengths: &[u64]) -> Vec<RawSpec> {
        let mut start: u64 = 0;
        let mut next = |len: &u64| {
            let range = start..start.saturating_add(*len);
            start = range.end;
            RawSpec {
                size: *len,
                patches: patch::within(&self.patches, &range),
            }
        };
        lengths.iter().map(&mut next).collect()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_cut_with_the_disk() {
        let patch = |offset, bytes: &[u8]| Patch {
            offset,
            bytes: bytes.to_vec(),
        };
        let disk = RawSpec {
            size: 2048,
            patches: vec![patch(0, b"a"), patch(1022, b"bcde")],
        };
        let raw = |size, patches| RawSpec { size, patches };
        assert_eq!(
            disk.cut(&[1024, 512, 512]),
            [
                raw(1024, vec![patch(0, b"a"), patch(1022, b"bc")]),
                raw(512, vec![patch(0, b"de")]),
                raw(512, Vec::new()),
            ]
        );
        assert_eq!(disk.cut(&[2048]), [disk]);
    }
}
