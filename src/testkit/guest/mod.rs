//! The boot-sector guest: what a test tells it to do, and what it said on its console.
//!
//! The guest itself is `fixtures/bootsector/boot.S`, committed with its binary. It needs a BIOS (no
//! UEFI), a first hard disk that it is booted from, and COM1. It knows nothing of layers: it reads
//! and writes sectors of BIOS disks, which is enough to see on which disk a write lasted.
//!
//! How a guest is started and where its console goes is the caller's affair.

mod console;
mod count;

pub use console::{Boot, Event, Outcome, parse_console};
pub use count::{Counted, counting};

/// The boot sector with an empty command table.
const BOOT: &[u8; 512] = include_bytes!("../../../fixtures/bootsector/boot.bin");
/// Offset of the command table in bytes, `TABLE` of the source.
const TABLE: usize = 0x190;
/// First byte behind the command table: the boot signature.
const TABLE_END: usize = 510;

/// How the guest ends its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Power off through the ports that QEMU (`pc`, `q35`) and VirtualBox have.
    PowerOff,
    /// Reset through the keyboard controller, as `reboot` does.
    Reset,
    /// Stand still until the machine is stopped from outside.
    Hang,
    /// Wait for the ACPI power button, then power off. QEMU (`pc`, `q35`) only.
    PowerButton,
    /// Report a panic to a `pvpanic` device at port 0x505, then stand still. QEMU only.
    Panic,
}

/// Why a boot sector cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// The commands do not fit into the boot sector.
    #[error("the commands take {bytes} bytes, the boot sector has room for {room}", room = TABLE_END - TABLE)]
    TableFull {
        /// Bytes that the commands and the end take.
        bytes: usize,
    },
    /// A text that the guest could not print back: not 1 to 15 printable ASCII characters.
    #[error("the text {text:?} is not 1 to 15 printable ASCII characters")]
    Text {
        /// The text as given.
        text: String,
    },
    /// A disk that the BIOS cannot number.
    #[error("disk {disk} is beyond the 127 that a BIOS numbers")]
    Disk {
        /// The disk as given, 0 for the first.
        disk: u8,
    },
}

/// A boot sector and the commands that it runs, in order.
///
/// ```
/// use stratavm::testkit::guest::{BootSector, End};
///
/// let sector = BootSector::new()
///     .print(1)
///     .write(1, 1, "first run")
///     .end(End::PowerOff)
///     .image_bytes()?;
/// assert_eq!(&sector[510..], [0x55, 0xaa]);
/// # Ok::<(), stratavm::testkit::guest::GuestError>(())
/// ```
#[derive(Clone, Debug)]
pub struct BootSector {
    table: Vec<u8>,
    end: End,
    fault: Option<GuestError>,
}

impl Default for BootSector {
    fn default() -> Self {
        Self::new()
    }
}

impl BootSector {
    /// A guest that says that it started and ended, and powers off.
    #[must_use]
    pub fn new() -> Self {
        Self {
            table: Vec::new(),
            end: End::PowerOff,
            fault: None,
        }
    }

    /// Prints the beginning of sector `lba` (of 512 bytes) of every disk that the BIOS has.
    #[must_use]
    pub fn print(mut self, lba: u32) -> Self {
        self.table.push(1);
        self.table.extend(lba.to_le_bytes());
        self
    }

    /// Writes `text` to the beginning of sector `lba` of one disk; 0 is the first one, which the
    /// guest booted from. What stands behind the text and its NUL stays as it is.
    #[must_use]
    pub fn write(mut self, disk: u8, lba: u32, text: &str) -> Self {
        if disk > 0x7e {
            self.fault.get_or_insert(GuestError::Disk { disk });
        }
        let printable = text.bytes().all(|b| (b' '..=b'~').contains(&b));
        if !printable || !(1..=15).contains(&text.len()) {
            self.fault.get_or_insert(GuestError::Text {
                text: text.to_owned(),
            });
        }
        self.table.push(0x80 | disk);
        self.table.extend(lba.to_le_bytes());
        self.table.extend(text.as_bytes());
        self.table.push(0);
        self
    }

    /// How the run ends once all commands are done.
    #[must_use]
    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// The 512 bytes that belong at the beginning of the first disk.
    ///
    /// # Errors
    /// The first command that cannot be carried out, or too many of them (there are 110 bytes:
    /// 5 for each print, 6 and the text for each write, 1 for the end).
    pub fn image_bytes(&self) -> Result<[u8; 512], GuestError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let end = match self.end {
            End::PowerOff => 0,
            End::Reset => 2,
            End::Hang => 3,
            End::PowerButton => 4,
            End::Panic => 5,
        };
        let bytes = self.table.len() + 1;
        let mut sector = *BOOT;
        let Some(slot) = sector[TABLE..TABLE_END].get_mut(..bytes) else {
            return Err(GuestError::TableFull { bytes });
        };
        slot[..bytes - 1].copy_from_slice(&self.table);
        slot[bytes - 1] = end;
        Ok(sector)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn the_commands_stand_in_the_table_in_order() {
        let sector = BootSector::new()
            .write(2, 0x0102_0304, "ab")
            .print(7)
            .end(End::Reset)
            .image_bytes()
            .unwrap();
        let table = [0x82, 4, 3, 2, 1, b'a', b'b', 0, 1, 7, 0, 0, 0, 2];
        assert_eq!(sector[TABLE..TABLE + table.len()], table);
        assert_eq!(sector[..TABLE], BOOT[..TABLE]);
        assert_eq!(sector[TABLE_END..], [0x55, 0xaa]);
    }

    #[test]
    fn the_table_ends_where_the_signature_begins() {
        let mut guest = BootSector::new();
        for lba in 0..21 {
            guest = guest.print(lba);
        }
        assert!(guest.image_bytes().is_ok());
        let full = guest.print(21).image_bytes();
        assert_eq!(full, Err(GuestError::TableFull { bytes: 111 }));
    }

    #[test]
    fn what_the_guest_could_not_print_is_refused() {
        for text in ["", "sixteen letters.", "line\n", "caf\u{e9}"] {
            let made = BootSector::new().write(0, 1, text).image_bytes();
            assert_eq!(
                made,
                Err(GuestError::Text {
                    text: text.to_owned()
                })
            );
        }
        let made = BootSector::new().write(0x7f, 1, "x").image_bytes();
        assert_eq!(made, Err(GuestError::Disk { disk: 0x7f }));
    }

    /// The committed binaries are what the sources say. Needs GNU as and ld for i386.
    #[test]
    fn the_binaries_are_built_from_the_sources() {
        built_from_source("boot");
        built_from_source("count");
    }

    fn built_from_source(name: &str) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bootsector");
        let source = folder.join(format!("{name}.S"));
        let (object, binary) = (dir.path().join("boot.o"), dir.path().join("boot.bin"));
        let assembled = Command::new("as")
            .arg("--32")
            .arg("-o")
            .arg(&object)
            .arg(&source)
            .output();
        let strict = std::env::var_os("STRATAVM_STRICT").is_some_and(|v| v == "1");
        match assembled {
            Ok(run) if run.status.success() => {}
            other if strict => panic!("as --32 does not run: {other:?}"),
            other => {
                use std::io::Write;
                let _ = writeln!(
                    std::io::stderr(),
                    "skipped: as --32 does not run: {other:?}"
                );
                return;
            }
        }
        let linked = Command::new("ld")
            .args([
                "-m",
                "elf_i386",
                "-Ttext",
                "0x7c00",
                "--oformat",
                "binary",
                "-o",
            ])
            .arg(&binary)
            .arg(&object)
            .output()
            .unwrap();
        assert!(linked.status.success(), "{linked:?}");
        assert_eq!(
            std::fs::read(&binary).unwrap(),
            std::fs::read(folder.join(format!("{name}.bin"))).unwrap(),
            "assemble {name}.S again"
        );
    }
}
