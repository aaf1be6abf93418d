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

/// Whether a sparse file has a descriptor inside. Extents that QEMU makes have the room for one, and nothing in it.
pub(crate) fn has_descriptor(file: &ImageFile, header: &SparseHeader) -> Result<bool> {
    let mut first = [0];
    file.read_at(&mut first, header.descriptor_offset * SECTOR)?;
    Ok(header.descriptor_offset != 0 && first != [0])
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

/// A NUL and what can be left of a longer text: a CID has 1 to 8 digits, so that texts differ by 7 bytes at most.
const MAX_LEFT: usize = 7;

/// Reads a file that is a text descriptor.
pub(crate) fn read_text_descriptor(file: &ImageFile) -> Result<Descriptor> {
    Descriptor::parse(&read_text(file)?, file.path())
}

/// The text of a descriptor, without what QEMU leaves behind it when it renews the CID: NULs up to 10 KiB, and where the
/// new CID has fewer digits, the last bytes of the longer text (`block/vmdk.c`, `vmdk_write_cid`).
pub(crate) fn read_text(file: &ImageFile) -> Result<Vec<u8>> {
    if file.len() > MAX_DESCRIPTOR as u64 {
        return Err(
            Error::limit(format!("descriptor of {} bytes is above 1 MiB", file.len()))
                .at_path(file.path()),
        );
    }
    let mut text = vec![0; file.len() as usize];
    file.read_exact_at(&mut text, 0)?;
    if let Some(end) = text.iter().position(|b| *b == 0) {
        let (kept, rest) = text.split_at(end);
        let (left, filled) = rest.split_at(rest.len().min(MAX_LEFT));
        let mut pieces = left.split(|b| *b == 0);
        // Anything else was hidden there by somebody.
        if filled.iter().all(|b| *b == 0) && pieces.all(|piece| kept.ends_with(piece)) {
            text.truncate(end);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = "# Disk DescriptorFile\nversion=1\nCID=0badcafe\nparentCID=ffffffff\n\
                        createType=\"twoGbMaxExtentSparse\"\n\nRW 2048 SPARSE \"a-s001.vmdk\"\n\n\
                        ddb.virtualHWVersion = \"4\"\n";

    /// What QEMU does: reads up to the first NUL, writes the CID without leading zeros and the rest behind it.
    fn renewed_by_qemu(file: &mut [u8], cid: u32) {
        let end = file.iter().position(|b| *b == 0).unwrap();
        let text = std::str::from_utf8(&file[..end]).unwrap();
        let (before, after) = text.split_once("CID=").unwrap();
        let (_, after) = after.split_once('\n').unwrap();
        let new = format!("{before}CID={cid:x}\n{after}\0");
        file[..new.len()].copy_from_slice(new.as_bytes());
    }

    fn read(bytes: &[u8]) -> Result<Descriptor> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vmdk");
        std::fs::write(&path, bytes).unwrap();
        read_text_descriptor(&ImageFile::open(&path)?)
    }

    #[test]
    fn what_qemu_leaves_behind_a_text_that_shrank_is_passed_by() {
        for cids in [
            &[0x00ca_fe01][..],
            &[1],
            &[0xcafe, 7],
            &[7, 0xcafe],
            &[0xca_fe01, 0xcafe, 3, 0x1bad_cafe],
        ] {
            let mut file = TEXT.as_bytes().to_vec();
            file.resize(20 * 512, 0);
            for cid in cids {
                renewed_by_qemu(&mut file, *cid);
                let found = read(&file).unwrap();
                assert_eq!(found.cid.get(), *cid, "{cids:x?}");
                assert_eq!(found.sectors(), 2048);
            }
        }
    }

    #[test]
    fn anything_else_behind_a_nul_is_refused() {
        for hidden in [
            "\0x",
            "\0\"3\"\n",
            "\0\0\0\0\0\0\0\n",
            "\0RW 2048 SPARSE \"b.vmdk\"\n",
        ] {
            let mut file = format!("{TEXT}{hidden}").into_bytes();
            file.resize(20 * 512, 0);
            let error = read(&file).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Malformed, "{hidden:?}");
        }
    }
}
