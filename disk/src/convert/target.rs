//! What a conversion can make: the formats, by the names that people give them. Which files a new image consists of is in
//! `new`.

use crate::{Error, Result};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The format of a new image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// The guest disk byte for byte.
    Raw,
    /// VMDK, monolithicSparse.
    Vmdk,
    /// VMDK, monolithicFlat: a descriptor over one raw file.
    VmdkFlat,
    /// VMDK, twoGbMaxExtentSparse: extents below 2 GiB.
    VmdkSplit,
    /// VMDK, streamOptimized: packed, for transport; it lies on no other image and is not written to.
    VmdkStream,
    /// VDI.
    Vdi,
    /// A Parallels bundle: a folder.
    Hdd,
    /// qcow2, version 3.
    Qcow2,
}

const NAMES: [(Target, &str); 8] = [
    (Target::Raw, "raw"),
    (Target::Vmdk, "vmdk"),
    (Target::VmdkFlat, "vmdk-flat"),
    (Target::VmdkSplit, "vmdk-split"),
    (Target::VmdkStream, "vmdk-stream"),
    (Target::Vdi, "vdi"),
    (Target::Hdd, "hdd"),
    (Target::Qcow2, "qcow2"),
];

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(target, _)| target == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Target {
    type Err = Error;

    /// # Errors
    /// `Invalid` naming the formats there are.
    fn from_str(text: &str) -> Result<Target> {
        let found = NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(target, _)| *target).ok_or_else(|| {
            let names = NAMES.map(|(_, name)| name).join(", ");
            Error::invalid(format!("no format is called {text:?}: there are {names}"))
        })
    }
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 8] = [
        Target::Raw,
        Target::Vmdk,
        Target::VmdkFlat,
        Target::VmdkSplit,
        Target::VmdkStream,
        Target::Vdi,
        Target::Hdd,
        Target::Qcow2,
    ];

    /// The format that a file's name stands for; `None` where it says nothing.
    pub fn of_name(path: &Path) -> Option<Target> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "raw" | "img" => Some(Target::Raw),
            "vmdk" => Some(Target::Vmdk),
            "vdi" => Some(Target::Vdi),
            "hdd" => Some(Target::Hdd),
            "qcow2" => Some(Target::Qcow2),
            _ => None,
        }
    }

    /// Whether an image of this format can lie on another one of it.
    pub fn has_parents(self) -> bool {
        match self {
            Target::Vmdk | Target::VmdkSplit | Target::Vdi | Target::Hdd | Target::Qcow2 => true,
            Target::Raw | Target::VmdkFlat | Target::VmdkStream => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_format_has_a_name_of_its_own() {
        for target in Target::ALL {
            assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
        }
        let error = "vhd".parse::<Target>().unwrap_err();
        assert!(error.to_string().contains("vmdk-stream"), "{error}");
    }
}
