//! A resolved machine: everything that `translate` may know, as values.
//!
//! It is made from a spec alone ([`crate::preview`]) or from a machine of a store
//! ([`crate::machine`]). Backends only read it.

use std::path::{Path, PathBuf};

use stratavm_disk::Volume;

use crate::chain::{Chain, DiskName};
use crate::identity::Identity;
use crate::spec::{Controller, Role, VmSpec};

/// A machine with every reference resolved.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Resolved {
    /// The spec.
    pub spec: VmSpec,
    /// The identity that every id is derived from.
    pub identity: Identity,
    /// The disks in attachment order: the layers in spec order, then the session disk.
    pub disks: Vec<ResolvedDisk>,
    /// The media of the CD-ROM drives, in spec order.
    pub media: Vec<PathBuf>,
    /// Where files go.
    pub paths: Paths,
    /// What the volume under `paths` can do.
    pub volume: Volume,
}

impl Resolved {
    /// A resolved machine from its parts.
    #[must_use]
    pub fn new(
        spec: VmSpec,
        identity: Identity,
        disks: Vec<ResolvedDisk>,
        media: Vec<PathBuf>,
        paths: Paths,
        volume: Volume,
    ) -> Self {
        Self {
            spec,
            identity,
            disks,
            media,
            paths,
            volume,
        }
    }

    /// The disk that the firmware boots from: the `os` layer's.
    #[must_use]
    pub fn boot_disk(&self) -> Option<&ResolvedDisk> {
        self.disks.iter().find(|disk| disk.role == Some(Role::Os))
    }
}

/// One virtual disk and where it is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolvedDisk {
    /// Which disk it is.
    pub name: DiskName,
    /// The layer's role; `None` for the session disk.
    pub role: Option<Role>,
    /// The controller that the spec asks for; [`Controller::Auto`] is for the backend to choose.
    pub controller: Controller,
    /// The port on that controller, counted from 0. Ports of `auto` are unique among `auto`,
    /// `sata` and `virtio` together, so that the choice never makes two disks collide. SCSI ports
    /// skip 7, which is the adapter's own id.
    pub slot: u32,
    /// The files it is made of.
    pub chain: Chain,
}

impl ResolvedDisk {
    /// A disk from its parts.
    #[must_use]
    pub fn new(
        name: DiskName,
        role: Option<Role>,
        controller: Controller,
        slot: u32,
        chain: Chain,
    ) -> Self {
        Self {
            name,
            role,
            controller,
            slot,
            chain,
        }
    }
}

/// Where the files of one machine go. In a store they are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Paths {
    /// Folder of the heads and base descriptors, one folder a layer below it.
    pub layers: PathBuf,
    /// Folder of the product's own files.
    pub config: PathBuf,
    /// The file that the first serial port is written to, where the spec asks for a console.
    pub console: PathBuf,
}

impl Paths {
    /// The layout below one folder: `layers/`, `config/` and `config/console.log`.
    #[must_use]
    pub fn below(folder: &Path) -> Self {
        let config = folder.join("config");
        Self {
            layers: folder.join("layers"),
            console: config.join("console.log"),
            config,
        }
    }

    /// Paths from their parts.
    #[must_use]
    pub fn new(layers: PathBuf, config: PathBuf, console: PathBuf) -> Self {
        Self {
            layers,
            config,
            console,
        }
    }

    /// The folder of the files of `disk`.
    #[must_use]
    pub fn disk(&self, disk: &DiskName) -> PathBuf {
        self.layers.join(disk.as_str())
    }
}

/// `to` as seen from the folder `from`, with `/` between its parts, as descriptors and
/// configuration files write it: relative where both share a root, else absolute.
///
/// Purely textual: no link is followed and nothing need exist.
#[must_use]
pub fn relative_path(from: &Path, to: &Path) -> String {
    use std::path::Component;
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let root = |parts: &[Component<'_>]| {
        parts
            .iter()
            .take_while(|part| matches!(part, Component::Prefix(_) | Component::RootDir))
            .count()
    };
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if shared < root(&from).max(root(&to)) {
        return slashed(&to);
    }
    let mut parts = vec![Component::ParentDir; from.len() - shared];
    parts.extend_from_slice(&to[shared..]);
    slashed(&parts)
}

/// `path` with `/` between its parts, on every host.
#[must_use]
pub fn slash_path(path: &Path) -> String {
    slashed(&path.components().collect::<Vec<_>>())
}

fn slashed(parts: &[std::path::Component<'_>]) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() && !text.ends_with('/') {
            text.push('/');
        }
        match part {
            std::path::Component::RootDir => text.push('/'),
            other => text.push_str(&other.as_os_str().to_string_lossy()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_go_up_and_down() {
        let rel = |from: &str, to: &str| relative_path(Path::new(from), Path::new(to));
        assert_eq!(rel("/s/m/a", "/s/m/a/x.vmdk"), "x.vmdk");
        assert_eq!(
            rel("/s/m/layers/os", "/s/images/d/extent"),
            "../../../images/d/extent"
        );
        assert_eq!(rel("/a", "/b c/é"), "../b c/é");
        assert_eq!(rel("out/config", "out/layers/os/h"), "../layers/os/h");
        assert_eq!(rel("out", "/abs/h"), "/abs/h");
        assert_eq!(slash_path(Path::new("/a/b")), "/a/b");
    }
}
