//! A file tree in memory, written as an initramfs (cpio, "newc") or a squashfs; the same tree gives the same bytes.
//! Knows nothing of what is in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::cache::remove;
use super::tool::{At, Tool};
use crate::exec::Error;

/// Paths relative to the root, without a leading `/`; parents come before what they hold by their order.
#[derive(Clone, Default)]
pub(crate) struct Tree(BTreeMap<String, Node>);

#[derive(Clone)]
enum Node {
    Folder,
    File {
        content: Vec<u8>,
        mode: u32,
    },
    Link(String),
    /// A character device, for the initramfs alone.
    Device {
        major: u32,
        minor: u32,
    },
}

impl Tree {
    /// A folder, and the folders above it.
    pub(crate) fn folder(&mut self, path: &str) {
        self.parents(path);
        self.0.entry(path.to_owned()).or_insert(Node::Folder);
    }

    /// A file with permission bits, and the folders above it.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.parents(path);
        self.0.insert(
            path.to_owned(),
            Node::File {
                content: content.into(),
                mode,
            },
        );
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.0
            .insert(path.to_owned(), Node::Link(target.to_owned()));
    }

    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.parents(path);
        self.0
            .insert(path.to_owned(), Node::Device { major, minor });
    }

    fn parents(&mut self, path: &str) {
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        for end in ends {
            self.0.entry(path[..end].to_owned()).or_insert(Node::Folder);
        }
    }

    /// The tree as the kernel unpacks it: format "070701" of the kernel's `driver-api/early-userspace/buffer-format`.
    pub(crate) fn cpio(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, (path, node)) in self.0.iter().enumerate() {
            let (mode, device, content): (u32, (u32, u32), &[u8]) = match node {
                Node::Folder => (0o040_755, (0, 0), &[]),
                Node::File { content, mode } => (0o100_000 | mode, (0, 0), content),
                Node::Link(target) => (0o120_777, (0, 0), target.as_bytes()),
                Node::Device { major, minor } => (0o020_600, (*major, *minor), &[]),
            };
            member(&mut out, index + 1, mode, device, path, content);
        }
        member(&mut out, 0, 0, (0, 0), "TRAILER!!!", &[]);
        out
    }

    /// Writes the tree as a squashfs, everything owned by root, all times 0. `scratch` is used on the way.
    pub(crate) fn squashfs(&self, to: &Path, scratch: &Path) -> Result<(), Error> {
        let source = self.unpack(scratch)?;
        let mut pseudo = String::from("/ d 755 0 0\n");
        for (path, node) in &self.0 {
            match node {
                Node::Folder => {
                    let _ = writeln!(pseudo, "{path} m 755 0 0");
                }
                Node::File { mode, .. } => {
                    let _ = writeln!(pseudo, "{path} m {mode:o} 0 0");
                }
                Node::Link(target) => {
                    let _ = writeln!(pseudo, "{path} s 777 0 0 {target}");
                }
                Node::Device { major, minor } => {
                    let _ = writeln!(pseudo, "{path} c 600 0 0 {major} {minor}");
                }
            }
        }
        let list = scratch.join("pseudo");
        fs::write(&list, pseudo).at(list.display())?;
        remove(to)?;
        let fixed = "-noappend -quiet -no-progress -no-xattrs -all-root -mkfs-time 0 -all-time 0 -comp zstd -pf";
        Tool::named("mksquashfs")?
            .arg(&source)
            .arg(to)
            .args(fixed.split(' '))
            .arg(&list)
            .run()?;
        remove(scratch)
    }

    /// Writes the tree as an ext4 of `mib` MiB, which a guest can write to. Devices are left out. `scratch` is used on
    /// the way.
    pub(crate) fn ext4(&self, to: &Path, mib: u64, scratch: &Path) -> Result<(), Error> {
        let source = self.unpack(scratch)?;
        // debugfs makes what not every host can: links, and modes that no umask changes.
        let mut commands = String::new();
        for (path, node) in &self.0 {
            match node {
                Node::File { mode, .. } => {
                    let _ = writeln!(
                        commands,
                        "set_inode_field /{path} mode 0{:o}",
                        0o100_000 | mode
                    );
                    let _ = writeln!(commands, "set_inode_field /{path} uid 0");
                }
                Node::Folder => {
                    let _ = writeln!(commands, "set_inode_field /{path} mode 040755");
                    let _ = writeln!(commands, "set_inode_field /{path} uid 0");
                }
                Node::Link(target) => {
                    let _ = writeln!(commands, "symlink /{path} {target}");
                }
                Node::Device { .. } => {}
            }
        }
        let list = scratch.join("commands");
        fs::write(&list, commands).at(list.display())?;
        remove(to)?;
        Tool::named("mke2fs")?
            .args(["-q", "-t", "ext4", "-m", "0", "-d"])
            .arg(&source)
            .arg(to)
            .arg(format!("{mib}M"))
            .run()?;
        Tool::named("debugfs")?
            .args(["-w", "-f"])
            .arg(&list)
            .arg(to)
            .run()?;
        remove(scratch)
    }

    /// Writes the folders and files below `scratch`, which is made anew; the folder that holds them.
    fn unpack(&self, scratch: &Path) -> Result<PathBuf, Error> {
        remove(scratch)?;
        let source = scratch.join("tree");
        fs::create_dir_all(&source).at(source.display())?;
        for (path, node) in &self.0 {
            let place = source.join(path);
            match node {
                Node::Folder => fs::create_dir_all(&place).at(place.display())?,
                Node::File { content, .. } => fs::write(&place, content).at(place.display())?,
                Node::Link(_) | Node::Device { .. } => {}
            }
        }
        Ok(source)
    }
}

fn member(
    out: &mut Vec<u8>,
    inode: usize,
    mode: u32,
    device: (u32, u32),
    path: &str,
    content: &[u8],
) {
    let fields = [
        inode,
        mode as usize,
        0, // uid
        0, // gid
        1, // links
        0, // time
        content.len(),
        0, // device of the file system
        0,
        device.0 as usize,
        device.1 as usize,
        path.len() + 1,
        0, // checksum, not used by this format
    ];
    out.extend(b"070701");
    for field in fields {
        out.extend(format!("{field:08x}").bytes());
    }
    out.extend(path.bytes());
    out.push(0);
    pad(out);
    out.extend(content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_has_headers_of_110_bytes_and_everything_on_multiples_of_4() {
        let mut tree = Tree::default();
        tree.file("bin/tool", 0o755, "12345");
        let bytes = tree.cpio();
        // bin: 110 + 4 (name and NUL) = 114, padded to 116; tool: 110 + 9 = 119 -> 120, then 5 -> 8.
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[14..22], b"000041ed");
        assert_eq!(&bytes[110..114], b"bin\0");
        assert_eq!(&bytes[116..122], b"070701");
        assert_eq!(&bytes[116 + 14..116 + 22], b"000081ed");
        assert_eq!(&bytes[116 + 54..116 + 62], b"00000005");
        assert_eq!(&bytes[116 + 120..116 + 125], b"12345");
        assert!(bytes.len().is_multiple_of(4) && bytes.windows(10).any(|w| w == b"TRAILER!!!"));
    }

    #[test]
    fn the_folders_above_are_there_once() {
        let mut tree = Tree::default();
        tree.file("a/b/c", 0o644, "");
        tree.folder("a/b");
        tree.link("a/d", "b");
        assert_eq!(
            tree.0.keys().collect::<Vec<_>>(),
            ["a", "a/b", "a/b/c", "a/d"]
        );
    }
}
