//! Every file that the demo hands to the library, made from packages and kept in the cache: golden os v1
//! and v2 and the application v1 and v2. Boots nothing.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::cache::{Cache, Key};
use super::guest::{self, Programs};
use super::tool::At;
use super::tree::Tree;
use super::{disk, kernel};
use crate::exec::Error;

/// MiB of an ext4 that holds the os, with some room.
const WRITABLE_ROOT: u64 = 24;

/// Files on the host's disk.
pub(crate) struct Images {
    /// Whole disks: version 1 and 2 of the os.
    pub(crate) os: [PathBuf; 2],
    /// Version 1 of the os once more, with an ext4 as its root, which can be written to.
    pub(crate) writable_os: PathBuf,
    /// Bare squashfs files: version 1 and 2 of the application.
    pub(crate) application: [PathBuf; 2],
}

impl Images {
    pub(crate) fn make(folder: &Path) -> Result<Self, Error> {
        let cache = Cache::open(folder.to_owned())?;
        let kernel = kernel::get(&cache)?;
        let programs = Programs::read()?;
        let initramfs = programs.initramfs(&kernel)?.cpio();
        let key = Key::new("boot 1")
            .with(&initramfs)
            .with(kernel.image.display().to_string());
        let scratch = folder.join("scratch");
        let boot = cache.get("boot", key, |to| {
            disk::boot_partition(&kernel.image, &initramfs, to, &scratch)
        })?;
        let os = |version: u32| -> Result<PathBuf, Error> {
            let tree = programs.os(version);
            let root = squashfs(&cache, &format!("os-v{version}-root"), &tree, &scratch)?;
            let key = Key::new("os 1").with(name_of(&boot)).with(name_of(&root));
            cache.get(&format!("os-v{version}"), key, |to| {
                disk::os_disk(&boot, &root, to)
            })
        };
        let tree = programs.os(1);
        let key = Key::new("ext4 1").with(tree.cpio());
        let root = cache.get("os-v1-ext4-root", key, |to| {
            tree.ext4(to, WRITABLE_ROOT, &scratch)
        })?;
        let key = Key::new("os 1").with(name_of(&boot)).with(name_of(&root));
        let writable_os = cache.get("os-v1-ext4", key, |to| disk::os_disk(&boot, &root, to))?;
        let application = |version: u32| {
            squashfs(
                &cache,
                &format!("app-v{version}"),
                &guest::application(version),
                &scratch,
            )
        };
        Ok(Self {
            os: [os(1)?, os(2)?],
            writable_os,
            application: [application(1)?, application(2)?],
        })
    }
}

/// What the program in the guest calls the boot sector and the kernel area of an os disk: the beginnings of the
/// SHA-256 of bytes 0 to 440, and of 4 MiB from 1 MiB on.
pub(crate) fn fingerprints(os: &Path) -> Result<[String; 2], Error> {
    let bytes = fs::read(os).at(os.display())?;
    let areas = [bytes.get(..440), bytes.get(1 << 20..5 << 20)];
    let [Some(sector), Some(kernel)] = areas else {
        return Err(Error::new(format!(
            "{} is shorter than 5 MiB",
            os.display()
        )));
    };
    Ok([sector, kernel].map(|area| super::cache::hex(&Sha256::digest(area))[..16].to_owned()))
}

fn squashfs(cache: &Cache, name: &str, tree: &Tree, scratch: &Path) -> Result<PathBuf, Error> {
    let key = Key::new("squashfs 1").with(tree.cpio());
    cache.get(name, key, |to| tree.squashfs(to, scratch))
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
