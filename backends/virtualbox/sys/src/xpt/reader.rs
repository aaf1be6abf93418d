//! Big-endian numbers, names and bytes out of a type library, never beyond its end.

use crate::error::{Error, Result};

/// Characters that a name may have. The longest of VirtualBox 7.2 has 55.
const MAX_NAME: usize = 128;

/// A place in the bytes of a library.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = rest.first_chunk::<N>().copied();
        let found = found.ok_or_else(|| Error::malformed(self.at, "it ends too early"))?;
        self.at += N;
        Ok(found)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    /// A number that counts bytes of the file.
    pub(super) fn size(&mut self) -> Result<usize> {
        let number = self.u32()?;
        usize::try_from(number).map_err(|_| Error::malformed(self.at, "it is too large"))
    }
}

/// The data pool, which offsets of names and descriptions count from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool<'a> {
    bytes: &'a [u8],
    start: usize,
}

impl<'a> Pool<'a> {
    pub(super) fn new(bytes: &'a [u8], start: usize) -> Self {
        Self { bytes, start }
    }

    /// The place that a 1-based offset stands for; `None` for 0, which stands for nothing.
    pub(super) fn at(&self, offset: usize) -> Result<Option<Reader<'a>>> {
        let Some(offset) = offset.checked_sub(1) else {
            return Ok(None);
        };
        let at = self.start.checked_add(offset);
        match at.filter(|at| *at < self.bytes.len()) {
            Some(at) => Ok(Some(Reader::new(self.bytes, at))),
            None => Err(Error::malformed(
                self.start,
                format!("offset {offset} of the data pool is beyond its end"),
            )),
        }
    }

    /// A name: an identifier of ASCII, ending with a zero byte.
    pub(super) fn name(&self, offset: usize) -> Result<&'a str> {
        let place = self
            .at(offset)?
            .ok_or_else(|| Error::malformed(self.start, "a name is missing"))?;
        let rest = self.bytes.get(place.at..).unwrap_or_default();
        let end = rest.iter().take(MAX_NAME + 1).position(|byte| *byte == 0);
        let name = end.and_then(|end| rest.get(..end)).unwrap_or_default();
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
        match std::str::from_utf8(name) {
            Ok(name) if !name.is_empty() && name.bytes().all(|byte| fits(&byte)) => Ok(name),
            _ => Err(Error::malformed(place.at, "this is no name")),
        }
    }
}
