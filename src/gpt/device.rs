//! A disk that exists only as the list of what is written to it.

use std::io::{self, Seek, SeekFrom, Write};

use stratavm_disk::Patch;

/// Takes writes and keeps them as patches; nothing is ever read back.
pub(super) struct Recorder {
    len: u64,
    at: u64,
    patches: Vec<Patch>,
}

impl Recorder {
    pub(super) fn new(len: u64) -> Self {
        Self {
            len,
            at: 0,
            patches: Vec::new(),
        }
    }

    /// What was written, in order of offsets.
    pub(super) fn into_patches(mut self) -> Vec<Patch> {
        self.patches.sort_by_key(|patch| patch.offset);
        self.patches
    }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self
            .at
            .checked_add(bytes.len() as u64)
            .filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::WriteZero)?;
        match self.patches.last_mut() {
            Some(last) if last.offset + last.bytes.len() as u64 == self.at => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => self.patches.push(Patch {
                offset: self.at,
                bytes: bytes.to_vec(),
            }),
        }
        self.at = end;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Recorder {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// gptman asks for it to find the end of the disk; it never reads from a disk it writes anew.
impl io::Read for Recorder {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
