//! The demo's os disk: a GPT with a FAT partition that SeaBIOS boots from (syslinux, kernel, initramfs) and the os's
//! squashfs behind it. Knows nothing of what the guest does.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gptman::{GPT, GPTPartitionEntry};
use sha2::{Digest, Sha256};
use stratavm::image::{CHUNK_SIZE, ImageDigest};

use super::cache::remove;
use super::tool::{At, Tool};
use crate::exec::Error;

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;

/// Linux file system data, in the byte order of the disk.
const LINUX_DATA: [u8; 16] = [
    0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
];
/// Basic data.
const BASIC_DATA: [u8; 16] = [
    0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7,
];
/// Attribute bit 2: gptmbr.bin boots the partition that has it.
const LEGACY_BOOT: u64 = 1 << 2;

/// Where distributions put the boot code that starts from a GPT.
const GPTMBR: [&str; 2] = [
    "/usr/lib/syslinux/mbr/gptmbr.bin",
    "/usr/share/syslinux/gptmbr.bin",
];

/// What the kernel gets to hear. All but the first two only shorten a boot without hardware virtualization.
const COMMAND_LINE: &str = "console=ttyS0 boot=strata quiet panic=-1 nokaslr no5lvl mitigations=off no_timer_check tsc=reliable";

/// Writes a bootable FAT file system, a multiple of 1 MiB, for a partition that starts at 1 MiB.
pub(crate) fn boot_partition(
    kernel: &Path,
    initramfs: &[u8],
    to: &Path,
    scratch: &Path,
) -> Result<(), Error> {
    remove(scratch)?;
    fs::create_dir_all(scratch).at(scratch.display())?;
    let initrd = scratch.join("initrd");
    fs::write(&initrd, initramfs).at(initrd.display())?;
    let config = scratch.join("syslinux.cfg");
    let entry = format!("LINUX vmlinuz\nINITRD initrd\nAPPEND {COMMAND_LINE}\n");
    fs::write(
        &config,
        format!("SERIAL 0 115200\nDEFAULT strata\nPROMPT 0\nLABEL strata\n{entry}"),
    )
    .at(config.display())?;
    let content = fs::metadata(kernel).at(kernel.display())?.len() + initramfs.len() as u64;
    let tracks = content.div_ceil(MIB) + 3; // a track of 64 heads x 32 sectors is 1 MiB
    let image = scratch.join("boot.fat");
    let file = File::create(&image).at(image.display())?;
    file.set_len(tracks * MIB).at(image.display())?;
    // Fixed serial number and times: the same content gives the same image.
    let mtool = |name: &str| {
        Ok::<_, Error>(
            Tool::named(name)?
                .env("SOURCE_DATE_EPOCH", "0")
                .arg("-i")
                .arg(&image),
        )
    };
    mtool("mformat")?
        .args(["-N", "5354524d", "-h", "64", "-s", "32", "-H", "2048", "-t"])
        .arg(tracks.to_string())
        .arg("::")
        .run()?;
    for (file, name) in [
        (kernel, "::vmlinuz"),
        (&initrd, "::initrd"),
        (&config, "::syslinux.cfg"),
    ] {
        mtool("mcopy")?.arg(file).arg(name).run()?;
    }
    Tool::named("syslinux")?
        .env("SOURCE_DATE_EPOCH", "0")
        .arg("--install")
        .arg(&image)
        .run()?;
    fs::rename(&image, to).at(to.display())?;
    remove(scratch)
}

/// Writes the os disk: boot partition and os partition, the latter named by its content as the contract says.
pub(crate) fn os_disk(boot: &Path, os: &Path, to: &Path) -> Result<(), Error> {
    let boot = fs::read(boot).at(boot.display())?;
    let mut os = fs::read(os).at(os.display())?;
    os.resize(os.len().next_multiple_of(MIB as usize), 0);
    let os_at = MIB + boot.len() as u64;
    let end = os_at + os.len() as u64;
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(to)
        .at(to.display())?;
    file.set_len(end + MIB).at(to.display())?;
    let mut disk = Disk {
        file: &mut file,
        path: to,
    };
    disk.write(0, &gptmbr()?)?;
    disk.table(&[
        ("strata-demo-boot", BASIC_DATA, LEGACY_BOOT, MIB..os_at),
        (
            &format!("strata.os.{}", content_id(&os)),
            LINUX_DATA,
            0,
            os_at..end,
        ),
    ])?;
    disk.write(MIB, &boot)?;
    disk.write(os_at, &os)
}

struct Disk<'a> {
    file: &'a mut File,
    path: &'a Path,
}

type Partition<'a> = (&'a str, [u8; 16], u64, std::ops::Range<u64>);

impl Disk<'_> {
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .seek(SeekFrom::Start(at))
            .at(self.path.display())?;
        self.file.write_all(bytes).at(self.path.display())
    }

    /// Both partition tables and the protective MBR; its boot code stays.
    fn table(&mut self, partitions: &[Partition<'_>]) -> Result<(), Error> {
        let failed = |error: gptman::Error| {
            Error::new(format!(
                "partition table of {}: {error}",
                self.path.display()
            ))
        };
        let mut table = GPT::new_from(self.file, SECTOR, guid("disk")).map_err(failed)?;
        for (number, (name, kind, attributes, range)) in (1..).zip(partitions) {
            table[number] = GPTPartitionEntry {
                partition_type_guid: *kind,
                unique_partition_guid: guid(name),
                starting_lba: range.start / SECTOR,
                ending_lba: range.end / SECTOR - 1,
                attribute_bits: *attributes,
                partition_name: (*name).into(),
            };
        }
        GPT::write_protective_mbr_into(self.file, SECTOR).map_err(failed)?;
        table.write_into(self.file).map_err(failed)?;
        Ok(())
    }
}

/// A GUID that is always the same for the same text (layout of RFC 9562 version 8).
fn guid(text: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(format!("stratavm demo {text}"))[..16]);
    bytes[7] = bytes[7] & 0x0f | 0x80; // time_hi is little-endian on the disk
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// First 64 bits of the store's digest of a partition's content.
fn content_id(content: &[u8]) -> String {
    let chunks = content
        .chunks(CHUNK_SIZE as usize)
        .map(|chunk| Sha256::digest(chunk).into());
    ImageDigest::from_chunks(content.len() as u64, chunks)
        .content_id()
        .to_string()
}

fn gptmbr() -> Result<Vec<u8>, Error> {
    let found = GPTMBR.iter().map(PathBuf::from).find(|path| path.exists());
    let path = found.ok_or_else(|| Error::new("no gptmbr.bin of syslinux on this system"))?;
    let code = fs::read(&path).at(path.display())?;
    if code.len() > 440 {
        return Err(Error::new(format!(
            "{} is longer than 440 bytes",
            path.display()
        )));
    }
    Ok(code)
}
