//! Type libraries of XPCOM (XPT 1.1 and 1.2): which interfaces there are, their ids, and their methods in the order of
//! their vtables. What a caller expects of a method, and whether it is so, is in `signature`.
//!
//! The format is that of Mozilla's `xpt_struct.h` (XPCOM typelib format): big-endian, with 1-based offsets and indices.

mod parse;
mod reader;
mod signature;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod write;

use std::fmt;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
pub use signature::Slot;

/// Bytes that a type library may have. That of VirtualBox 7.2 has 164 512.
pub const MAX_BYTES: u64 = 1 << 20;

/// The id of an interface, in the byte order of its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Iid(pub [u8; 16]);

impl fmt::Display for Iid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let dash = matches!(index, 4 | 6 | 8 | 10);
            write!(f, "{}{byte:02x}", if dash { "-" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Iid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The type of a parameter, a result or a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Type {
    /// A type that is its tag alone: 2 is a signed and 6 an unsigned number of 32 bits, 10 a bool, 17 a UTF-16 string.
    Plain {
        /// The tag, 0 to 25.
        tag: u8,
        /// Whether it is declared as a pointer, as strings and ids are.
        pointer: bool,
    },
    /// An interface, by its index in the library.
    Interface(usize),
    /// An interface whose id is the argument of this index.
    InterfaceIs(u8),
    /// An array, whose length is the argument of this index.
    Array(u8, Box<Type>),
    /// A string, by its tag, whose length is the argument of this index.
    Sized(u8, u8),
}

/// A parameter, with the flags of its declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// 0x80 in, 0x40 out, 0x20 its value is what the method returns, 0x10 and 0x08 special ways to pass a string.
    pub flags: u8,
    /// Its type.
    pub kind: Type,
}

/// How a method is called in the language of the interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// By its name.
    Method,
    /// By reading an attribute.
    Getter,
    /// By writing an attribute.
    Setter,
}

/// A method, one slot of a vtable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name; that of the attribute for getters and setters.
    pub name: String,
    /// Whether it is a method or half of an attribute.
    pub role: Role,
    /// Whether it answers with something else than a result code.
    pub bare: bool,
    /// Parameters in order.
    pub parameters: Vec<Parameter>,
    /// What it returns.
    pub result: Parameter,
}

/// What a library says about an interface that it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Index in the library of the interface that it extends.
    pub parent: Option<usize>,
    /// Methods of its own, in the order of the vtable.
    pub methods: Vec<Method>,
    /// Constants by name; the values of an enumeration are those of an interface without methods.
    pub constants: Vec<(String, i64)>,
}

/// An interface that a library names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its id.
    pub iid: Iid,
    /// Its name.
    pub name: String,
    /// `None` if another library describes it.
    pub description: Option<Description>,
}

/// All interfaces of one or several type libraries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeLibrary {
    interfaces: Vec<Interface>,
}

impl TypeLibrary {
    /// Reads a library from its bytes.
    ///
    /// # Errors
    /// `Malformed` with the offset of what breaks the format.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        parse::interfaces(bytes).map(|interfaces| Self { interfaces })
    }

    /// Reads the library in a file of at most [`MAX_BYTES`].
    ///
    /// # Errors
    /// `Io` if it cannot be read, `Malformed` for what is no type library.
    pub fn open(path: &Path) -> Result<Self> {
        use std::io::Read as _;
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Io, "the type library cannot be read")
                .at(path)
                .caused_by(error)
        };
        let file = std::fs::File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        Self::parse(&bytes).map_err(|error| error.at(path))
    }

    /// All interfaces, in the order of the file.
    #[must_use]
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The interface of this name.
    ///
    /// # Errors
    /// `Incompatible` if there is none, or more than one.
    pub fn interface(&self, name: &str) -> Result<&Interface> {
        let mut found = self.interfaces.iter().filter(|all| all.name == name);
        match (found.next(), found.next()) {
            (Some(interface), None) => Ok(interface),
            (None, _) => Err(Error::incompatible(format!("there is no interface {name}"))),
            _ => Err(Error::incompatible(format!(
                "there is more than one interface {name}"
            ))),
        }
    }

    /// The value of a constant of an interface: of an enumeration, as VirtualBox declares them.
    ///
    /// # Errors
    /// `Incompatible` if the interface or the constant is not there.
    pub fn constant(&self, interface: &str, name: &str) -> Result<i64> {
        let found = self.interface(interface)?.description.as_ref();
        found
            .and_then(|body| body.constants.iter().find(|(all, _)| all == name))
            .map(|(_, value)| *value)
            .ok_or_else(|| Error::incompatible(format!("{interface} has no constant {name}")))
    }

    /// Takes what this library only names from `base`, which describes it: name and id must agree.
    ///
    /// # Errors
    /// `Incompatible` if an interface is in neither, or under another id.
    pub fn resolve(&mut self, base: &TypeLibrary) -> Result<()> {
        let mut missing: Vec<usize> = Vec::new();
        for (index, interface) in self.interfaces.iter().enumerate() {
            if interface.description.is_none() {
                missing.push(index);
            }
        }
        // What is taken over may name further interfaces of the base, which are added behind the others.
        while let Some(index) = missing.pop() {
            let Some(wanted) = self.interfaces.get(index) else {
                continue;
            };
            let found = base.interface(&wanted.name)?;
            if found.iid != wanted.iid {
                return Err(Error::incompatible(format!(
                    "{} is {} in one type library and {} in the other",
                    wanted.name, wanted.iid, found.iid
                )));
            }
            let mut description = found.description.clone();
            if let Some(body) = &mut description {
                let mut error = Ok(());
                body.for_each_index(&mut |at| match self.adopt(base, *at) {
                    Ok((here, news)) => {
                        *at = here;
                        missing.extend(news);
                    }
                    Err(reason) => error = Err(reason),
                });
                error?;
            } else {
                return Err(Error::incompatible(format!(
                    "{} is described nowhere",
                    wanted.name
                )));
            }
            if let Some(interface) = self.interfaces.get_mut(index) {
                interface.description = description;
            }
        }
        Ok(())
    }

    /// The index here of an interface of `base`; a second time if it is new here.
    fn adopt(&mut self, base: &TypeLibrary, at: usize) -> Result<(usize, Option<usize>)> {
        let found = base
            .interfaces
            .get(at)
            .ok_or_else(|| Error::incompatible(format!("there is no interface {at}")))?;
        if let Some(here) = self
            .interfaces
            .iter()
            .position(|all| all.name == found.name)
        {
            return Ok((here, None));
        }
        self.interfaces.push(Interface {
            description: None,
            ..found.clone()
        });
        let here = self.interfaces.len() - 1;
        Ok((here, Some(here)))
    }
}

impl Description {
    /// Every index of an interface in here.
    fn for_each_index(&mut self, change: &mut impl FnMut(&mut usize)) {
        if let Some(parent) = &mut self.parent {
            change(parent);
        }
        for method in &mut self.methods {
            let result = std::iter::once(&mut method.result);
            for parameter in method.parameters.iter_mut().chain(result) {
                let mut kind = &mut parameter.kind;
                while let Type::Array(_, element) = kind {
                    kind = element;
                }
                if let Type::Interface(index) = kind {
                    change(index);
                }
            }
        }
    }
}
