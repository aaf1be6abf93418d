//! From the bytes of a type library to its interfaces. Every count and offset is checked before it is followed.

use super::reader::{Pool, Reader};
use super::{Description, Iid, Interface, MAX_BYTES, Method, Parameter, Role, Type};
use crate::error::{Error, Result};

const MAGIC: &[u8; 16] = b"XPCOM\nTypeLib\r\n\x1a";
/// Bytes of an entry of the directory.
const ENTRY: usize = 28;
/// Interfaces that a library may name. VirtualBox 7.2 has 387.
const MAX_INTERFACES: usize = 4096;
/// Levels of arrays in arrays. VirtualBox has one.
const MAX_NESTING: u8 = 4;

/// The first byte of a type: its tag, and whether it is a pointer.
const TAG: u8 = 0x1f;
pub(super) const POINTER: u8 = 0x80;
/// Tags of types that are more than their tag.
pub(super) const INTERFACE: u8 = 18;
pub(super) const INTERFACE_IS: u8 = 19;
pub(super) const ARRAY: u8 = 20;
pub(super) const STRING_SIZED: u8 = 21;
pub(super) const WIDE_STRING_SIZED: u8 = 22;
/// The highest tag (`astring`).
const LAST_TAG: u8 = 25;

/// Flags of a method: halves of attributes, no result code, a constructor.
pub(super) const GETTER: u8 = 0x80;
pub(super) const SETTER: u8 = 0x40;
pub(super) const BARE: u8 = 0x20;
const CONSTRUCTOR: u8 = 0x10;

pub(super) fn interfaces(bytes: &[u8]) -> Result<Vec<Interface>> {
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_BYTES) {
        let most = format!("a type library of more than {MAX_BYTES} bytes is not read");
        return Err(Error::malformed(0, most));
    }
    let mut header = Reader::new(bytes, 0);
    if header.take::<16>()? != *MAGIC {
        return Err(Error::malformed(0, "this is no type library of XPCOM"));
    }
    let version = (header.u8()?, header.u8()?);
    if !matches!(version, (1, 1 | 2)) {
        let found = format!("version {}.{} is not read", version.0, version.1);
        return Err(Error::malformed(16, found));
    }
    let count = usize::from(header.u16()?);
    if count > MAX_INTERFACES {
        let most = format!("more than {MAX_INTERFACES} interfaces are not read");
        return Err(Error::malformed(18, most));
    }
    if header.size()? != bytes.len() {
        return Err(Error::malformed(20, "its length is not that of the file"));
    }
    let directory = header.size()?;
    let pool = Pool::new(bytes, header.size()?);
    let directory = directory
        .checked_sub(1)
        .ok_or_else(|| Error::malformed(24, "it has no directory"))?;
    let end = directory.checked_add(count * ENTRY);
    if end.is_none_or(|end| end > bytes.len()) {
        return Err(Error::malformed(18, "its directory is beyond its end"));
    }
    let mut library = Library {
        count,
        pool,
        left: bytes.len(),
    };
    let mut entries = Reader::new(bytes, directory);
    (0..count).map(|_| library.entry(&mut entries)).collect()
}

struct Library<'a> {
    count: usize,
    pool: Pool<'a>,
    /// Bytes that descriptions may still have in all: sound ones do not overlap.
    left: usize,
}

impl Library<'_> {
    fn entry(&mut self, entries: &mut Reader<'_>) -> Result<Interface> {
        let iid = Iid(entries.take()?);
        let name = self.pool.name(entries.size()?)?.to_owned();
        // A name space is told in the format, and none of VirtualBox has one.
        let _ = entries.u32()?;
        let description = match self.pool.at(entries.size()?)? {
            Some(mut place) => Some(self.description(&mut place)?),
            None => None,
        };
        Ok(Interface {
            iid,
            name,
            description,
        })
    }

    fn description(&mut self, from: &mut Reader<'_>) -> Result<Description> {
        let parent = usize::from(from.u16()?);
        if parent > self.count {
            return Err(Error::malformed(from.position(), "it extends no interface"));
        }
        let mut methods = Vec::new();
        for _ in 0..from.u16()? {
            let start = from.position();
            methods.push(self.method(from)?);
            self.spend(start, from.position())?;
        }
        let mut constants = Vec::new();
        for _ in 0..from.u16()? {
            let start = from.position();
            constants.push(self.constant(from)?);
            self.spend(start, from.position())?;
        }
        let _flags = from.u8()?;
        Ok(Description {
            parent: parent.checked_sub(1),
            methods,
            constants,
        })
    }

    fn spend(&mut self, start: usize, end: usize) -> Result<()> {
        let left = self.left.checked_sub(end.saturating_sub(start));
        self.left =
            left.ok_or_else(|| Error::malformed(start, "descriptions of interfaces overlap"))?;
        Ok(())
    }

    fn method(&self, from: &mut Reader<'_>) -> Result<Method> {
        let at = from.position();
        let flags = from.u8()?;
        let role = match flags & (GETTER | SETTER) {
            0 => Role::Method,
            GETTER => Role::Getter,
            SETTER => Role::Setter,
            _ => {
                return Err(Error::malformed(at, "a method is getter and setter in one"));
            }
        };
        if flags & CONSTRUCTOR != 0 {
            return Err(Error::malformed(at, "a method is a constructor"));
        }
        let name = self.pool.name(from.size()?)?.to_owned();
        let count = from.u8()?;
        let mut parameters = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            parameters.push(self.parameter(from, count)?);
        }
        Ok(Method {
            name,
            role,
            bare: flags & BARE != 0,
            parameters,
            result: self.parameter(from, count)?,
        })
    }

    fn parameter(&self, from: &mut Reader<'_>, count: u8) -> Result<Parameter> {
        let flags = from.u8()?;
        let kind = self.kind(from, count, MAX_NESTING)?;
        Ok(Parameter { flags, kind })
    }

    /// A type of a method with `count` parameters.
    fn kind(&self, from: &mut Reader<'_>, count: u8, nesting: u8) -> Result<Type> {
        let at = from.position();
        let first = from.u8()?;
        let (tag, pointer) = (first & TAG, first & POINTER != 0);
        let argument = |from: &mut Reader<'_>| match from.u8()? {
            index if index < count => Ok(index),
            index => Err(Error::malformed(
                at,
                format!("there is no argument {index}"),
            )),
        };
        match tag {
            INTERFACE => match usize::from(from.u16()?) {
                index if (1..=self.count).contains(&index) => Ok(Type::Interface(index - 1)),
                index => Err(Error::malformed(
                    at,
                    format!("there is no interface {index}"),
                )),
            },
            INTERFACE_IS => Ok(Type::InterfaceIs(argument(from)?)),
            ARRAY => {
                let nesting = nesting
                    .checked_sub(1)
                    .ok_or_else(|| Error::malformed(at, "arrays are nested too deep"))?;
                let size = argument(from)?;
                argument(from)?;
                let element = self.kind(from, count, nesting)?;
                Ok(Type::Array(size, Box::new(element)))
            }
            STRING_SIZED | WIDE_STRING_SIZED => {
                let size = argument(from)?;
                argument(from)?;
                Ok(Type::Sized(tag, size))
            }
            tag if tag <= LAST_TAG => Ok(Type::Plain { tag, pointer }),
            tag => Err(Error::malformed(at, format!("there is no type {tag}"))),
        }
    }

    fn constant(&self, from: &mut Reader<'_>) -> Result<(String, i64)> {
        let name = self.pool.name(from.size()?)?.to_owned();
        let at = from.position();
        // The first byte of a plain number is its tag alone.
        let value = match from.u8()? {
            0 => i64::from(i8::from_be_bytes(from.take()?)),
            1 => i64::from(i16::from_be_bytes(from.take()?)),
            2 => i64::from(i32::from_be_bytes(from.take()?)),
            4 => i64::from(from.u8()?),
            5 => i64::from(from.u16()?),
            6 => i64::from(from.u32()?),
            _ => return Err(Error::malformed(at, "a constant is no number of 32 bits")),
        };
        Ok((name, value))
    }
}
