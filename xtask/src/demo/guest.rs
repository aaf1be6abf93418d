//! What the demo's small guest is made of: its initramfs, its os tree, and the trees of its `apps` layers.
//! Files in memory only; disks are made in `disk`.

use std::path::{Path, PathBuf};

use super::kernel::Kernel;
use super::tool::{At, Tool};
use super::tree::Tree;
use crate::exec::Error;
use crate::setup::find_program;

/// The contract's script, as it is installed in any guest.
const STRATA: &str = include_str!("../../../guest/strata");
const INITRAMFS_INIT: &str = include_str!("guest/initramfs-init");
const OS_INIT: &str = include_str!("guest/os-init");

/// What the application binary interface of the demo's os is called; its `apps` layers name it.
const LEVEL: &str = "SYSEXT_LEVEL=1\n";

/// Commands that busybox is, in the initramfs and in the os.
const COMMANDS: [&str; 33] = [
    "basename",
    "cat",
    "chroot",
    "cp",
    "cut",
    "dd",
    "echo",
    "grep",
    "head",
    "insmod",
    "ls",
    "mkdir",
    "mount",
    "mv",
    "poweroff",
    "printf",
    "reboot",
    "rm",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "switch_root",
    "sync",
    "tail",
    "test",
    "touch",
    "tr",
    "umount",
    "uname",
    "wc",
];

/// Programs of the host that the guest runs too.
pub(crate) const PROGRAMS: [(&str, &str); 3] = [
    ("busybox", "bin/busybox"),
    ("mke2fs", "sbin/mke2fs"),
    ("e2fsck", "sbin/e2fsck"),
];

/// The guest's programs, read once.
pub(crate) struct Programs {
    busybox: Tree,
    all: Tree,
}

impl Programs {
    pub(crate) fn read() -> Result<Self, Error> {
        let (mut busybox, mut all) = (Tree::default(), Tree::default());
        for (name, place) in PROGRAMS {
            add_program(&mut all, name, place)?;
            if name == "busybox" {
                busybox = all.clone();
            }
        }
        for tree in [&mut busybox, &mut all] {
            for command in COMMANDS {
                tree.link(&format!("bin/{command}"), "busybox");
            }
        }
        Ok(Self { busybox, all })
    }

    /// The initramfs: loads the modules, composes the root by the contract, goes there.
    pub(crate) fn initramfs(&self, kernel: &Kernel) -> Result<Tree, Error> {
        let mut tree = self.all.clone();
        for folder in ["dev", "proc", "root", "run", "sys", "tmp"] {
            tree.folder(folder);
        }
        tree.device("dev/console", 5, 1);
        tree.file("init", 0o755, INITRAMFS_INIT);
        tree.file("bin/strata", 0o755, STRATA);
        let mut order = String::new();
        for module in &kernel.modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            tree.file(&format!("modules/{name}"), 0o644, read(module)?);
            order.push_str(&name);
            order.push('\n');
        }
        tree.file("modules/order", 0o644, order);
        Ok(tree)
    }

    /// The os, with the program that judges each boot as its first process. `version` is all that differs.
    pub(crate) fn os(&self, version: u32) -> Tree {
        let mut tree = self.busybox.clone();
        for folder in [
            "dev",
            "etc",
            "home",
            "opt",
            "proc",
            "root",
            "run",
            "sys",
            "tmp",
            "usr/bin",
            "usr/local",
            "var/cache",
        ] {
            tree.folder(folder);
        }
        tree.file("sbin/init", 0o755, OS_INIT);
        tree.file("usr/lib/demo/os-version", 0o644, format!("{version}\n"));
        tree.file(
            "usr/lib/os-release",
            0o644,
            format!("ID=demo\nVERSION_ID={version}\n{LEVEL}"),
        );
        tree
    }
}

/// An `apps` layer: an application that says its version.
pub(crate) fn application(version: u32) -> Tree {
    let mut tree = apps_layer("app");
    tree.file(
        "usr/bin/demo-app",
        0o755,
        format!("#!/bin/sh\necho {version}\n"),
    );
    tree.file("opt/demo/version", 0o644, format!("{version}\n"));
    tree
}

/// An `apps` layer that tells the program in the os what to do and to expect in this boot.
pub(crate) fn task(script: &str) -> Tree {
    let mut tree = apps_layer("task");
    tree.file("usr/lib/demo/task", 0o644, script);
    tree.file("usr/lib/demo/infected", 0o644, infected_boot_code());
    tree
}

fn apps_layer(name: &str) -> Tree {
    let mut tree = Tree::default();
    tree.file(
        &format!("usr/lib/extension-release.d/extension-release.{name}"),
        0o644,
        LEVEL,
    );
    tree
}

/// Boot code of 440 bytes that writes `INFECTED` to COM1 and turns the machine off.
fn infected_boot_code() -> Vec<u8> {
    const CODE: &[u8] = &[
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x29, 0x7c, // mov si, text
        0xba, 0xfd, 0x03, // next: mov dx, 0x3fd (line status of COM1)
        0xec, // wait: in al, dx
        0xa8, 0x20, // test al, 0x20 (room for a character)
        0x74, 0xfb, // jz wait
        0xac, // lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x06, // jz off
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xee, // out dx, al
        0xeb, 0xed, // jmp next
        0xba, 0x04,
        0x06, // off: mov dx, 0x604 (QEMU: PM1a control of the PIIX4 and ICH9, as SeaBIOS places it)
        0xb8, 0x00, 0x20, // mov ax, 0x2000 (SLP_EN, S5)
        0xef, // out dx, ax
        0xfa, // stop: cli
        0xf4, // hlt
        0xeb, 0xfc, // jmp stop
        0x00, 0x00, 0x00, 0x00, // up to 0x7c29
    ];
    let mut code = CODE.to_vec();
    code.extend(b"INFECTED\r\n\0");
    code.resize(440, 0);
    code
}

/// Puts a program of the host into a tree, and the shared libraries it needs where it looks for them.
fn add_program(tree: &mut Tree, name: &str, place: &str) -> Result<(), Error> {
    let program =
        find_program(name).ok_or_else(|| Error::new(format!("no {name} on this system")))?;
    tree.file(place, 0o755, read(&program)?);
    let said = Tool::named("ldd")?.arg(&program).ask()?; // fails for a static program
    for library in libraries(&String::from_utf8_lossy(&said.stdout)) {
        tree.file(
            library.trim_start_matches('/'),
            0o755,
            read(Path::new(&library))?,
        );
    }
    Ok(())
}

/// The absolute paths in what `ldd` prints.
fn libraries(printed: &str) -> Vec<String> {
    let words = printed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    words
        .map(|word| word.trim_end_matches(':').to_owned())
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let real: PathBuf = std::fs::canonicalize(path).at(path.display())?;
    std::fs::read(&real).at(real.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_the_infected_boot_code_is_where_the_code_reads_it() {
        let code = infected_boot_code();
        let text = usize::from(u16::from_le_bytes([code[5], code[6]])) - 0x7c00;
        assert_eq!(&code[text..text + 8], b"INFECTED");
        assert_eq!(code.len(), 440);
    }

    #[test]
    fn libraries_are_taken_from_both_forms_of_line() {
        let printed = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                       \tlibext2fs.so.2 => /lib/x86_64-linux-gnu/libext2fs.so.2 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            libraries(printed),
            [
                "/lib/x86_64-linux-gnu/libext2fs.so.2",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
    }
}
