//! Opening VMDK files: header and embedded descriptor of a sparse one, checked against the file's length, and text
//! descriptors with a bound on their size.

use super::{Descriptor, SECTOR, SparseHeader};
use crate::file::ImageFile;
use crate::{Error, Result};

/// Bytes of the largest descriptor that is read: 8 TiB in pieces of 2 GiB need a quarter of it.
pub(crate) const MAX_DESCRIPTOR: usize = 1 << 20;

/// A sparse file's header and embedded descriptor.
pub(crate) struct Head {
    pub(crate) header: SparseHeader,
    /// The descriptor's text up to the first NUL, as it stands in the file.
    pub(crate) text: Vec<u8>,
    pub(crate) descriptor: Descriptor,
}

impl Head {
    /// Reads both; the file must have an embedded descriptor.
    pub(crate) fn read(file: &ImageFile) -> Result<Head> {
        let header = read_header(file)?;
        if header.descriptor_offset == 0 {
            return Err(
                Error::unsupported("sparse extent without a descriptor").at_path(file.path())
            );
        }
        // At most 2048 sectors: the header's bound.
        let mut text = vec![0; (header.descriptor_size * SECTOR) as usize];
        file.read_exact_at(&mut text, header.descriptor_offset * SECTOR)?;
        let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
        text.truncate(end);
        let descriptor = Descriptor::parse(&text, file.path())?;
        Ok(Head {
            header,
            text,
            descriptor,
        })
    }
}

/// Reads a header and checks that its directories lie in the file.
pub(crate) fn read_header(file: &ImageFile) -> Result<SparseHeader> {
    let mut bytes = [0; 512];
    file.read_exact_at(&mut bytes, 0)?;
    let header = SparseHeader::parse(&bytes, file.path())?;
    for directory in header.directory.iter().chain(&header.redundant_directory) {
        if (directory + header.directory_sectors()) * SECTOR > file.len() {
            return Err(
                Error::malformed(format!("directory at sector {directory} is cut off"))
                    .at_path(file.path())
                    .at_offset(file.len()),
            );
        }
    }
    Ok(header)
}

/// Reads a file that is a text descriptor.
pub(crate) fn read_text_descriptor(file: &ImageFile) -> Result<Descriptor> {
    Descriptor::parse(&read_text(file)?, file.path())
}

/// The text of a descriptor, without the NULs that QEMU 7 fills it up with to 10 KiB when it renews the CID.
pub(crate) fn read_text(file: &ImageFile) -> Result<Vec<u8>> {
    if file.len() > MAX_DESCRIPTOR as u64 {
        return Err(
            Error::limit(format!("descriptor of {} bytes is above 1 MiB", file.len()))
                .at_path(file.path()),
        );
    }
    let mut text = vec![0; file.len() as usize];
    file.read_exact_at(&mut text, 0)?;
    if let Some(end) = text.iter().position(|b| *b == 0)
        && text[end..].iter().all(|b| *b == 0)
    {
        text.truncate(end);
    }
    Ok(text)
}
