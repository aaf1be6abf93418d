//! The content of one file as a disk holds it, and changes of it that may reach the disk in part.

use super::super::sys;
use std::fs::File;
use std::io;
use std::path::Path;

/// What a drive writes whole or not at all, in bytes.
const SECTOR: u64 = 512;

/// One change of a file's content.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    Write { at: u64, bytes: Vec<u8> },
    SetLen(u64),
}

impl Edit {
    /// The edit cut at the boundaries of sectors: each part reaches a disk whole or not at all.
    pub(super) fn sectors(&self) -> Vec<Edit> {
        let Edit::Write { at, bytes } = self else {
            return vec![self.clone()];
        };
        let mut parts = Vec::new();
        let (mut at, mut rest) = (*at, bytes.as_slice());
        while !rest.is_empty() {
            let room = (SECTOR - at % SECTOR) as usize;
            let (part, behind) = rest.split_at(room.min(rest.len()));
            parts.push(Edit::Write {
                at,
                bytes: part.to_vec(),
            });
            at += part.len() as u64;
            rest = behind;
        }
        parts
    }

    /// Makes the change in `content`.
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Edit::SetLen(len) => content.resize(*len as usize, 0),
            Edit::Write { at, bytes } => {
                let (at, end) = (*at as usize, *at as usize + bytes.len());
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[at..end].copy_from_slice(bytes);
            }
        }
    }
}

/// Writes a file with holes where there are zeros.
pub(super) fn write_sparse(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = File::create_new(path)?;
    file.set_len(content.len() as u64)?;
    for (n, block) in content.chunks(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            sys::write_all_at(&file, block, n as u64 * 4096)?;
        }
    }
    Ok(())
}
