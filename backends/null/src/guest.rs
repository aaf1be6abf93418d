//! The guest: what a boot sector's command table makes the machine do, and say on its console.
//!
//! The table's format is described in `fixtures/bootsector/boot.S`; anything else that stands in the
//! first sector is a machine that finds nothing to boot, and stands still.

use std::fmt::Write as _;

use stratavm::Result;
use stratavm::chain::Chain;

use crate::disks::{SECTOR, Sector, Written};
use crate::table::End;

/// Offset of the command table in bytes.
const TABLE: usize = 0x190;
/// What only the boot-sector guest has in front of its table.
const BANNER: &[u8] = b"strata-boot: ";
/// Bytes of a sector that the guest prints at most.
const SHOWN: usize = 16;
/// What INT 13h answers to a sector beyond the end.
const BAD_SECTOR: u8 = 1;

/// What becomes of the machine once all commands are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Then {
    /// It has ended.
    End(End),
    /// It stands still until somebody stops it.
    Hang,
    /// It waits for the power button.
    PowerButton,
}

/// Runs the guest on its disks, the one that it boots from first. Returns what it wrote to its
/// console as well.
pub(crate) fn run(disks: &[&Chain], written: &mut Written) -> Result<(Then, String)> {
    let Some(boot) = disks.first() else {
        return Ok((Then::Hang, String::new()));
    };
    let Some(sector) = written.read(boot, 0)? else {
        return Ok((Then::Hang, String::new()));
    };
    if !is_guest(&sector) {
        return Ok((Then::Hang, String::new()));
    }
    let mut console = String::from("strata-boot: start\r\n");
    let mut table = sector[TABLE..SECTOR - 2].iter().copied();
    let then = loop {
        match table.next() {
            Some(1) => {
                let Some(lba) = number(&mut table) else {
                    break Then::Hang;
                };
                for (index, chain) in disks.iter().enumerate() {
                    match written.read(chain, lba)? {
                        Some(found) => report(&mut console, index, lba, ':', &shown(&found)),
                        None => report(&mut console, index, lba, '!', &format!("{BAD_SECTOR:02X}")),
                    }
                }
            }
            Some(disk @ 0x80..) => {
                let Some(lba) = number(&mut table) else {
                    break Then::Hang;
                };
                let text: Vec<u8> = table.by_ref().take_while(|byte| *byte != 0).collect();
                let index = usize::from(disk - 0x80);
                let found = match disks.get(index) {
                    Some(chain) => written.read(chain, lba)?.map(|sector| (*chain, sector)),
                    None => None,
                };
                let Some((chain, mut sector)) = found else {
                    report(&mut console, index, lba, '!', &format!("{BAD_SECTOR:02X}"));
                    continue;
                };
                sector[..text.len()].copy_from_slice(&text);
                sector[text.len()] = 0;
                written.write(chain, lba, sector);
                report(&mut console, index, lba, '=', &shown(&sector));
            }
            Some(0) => break Then::End(End::PowerOff),
            Some(2) => break Then::End(End::Reboot),
            Some(4) => break Then::PowerButton,
            Some(5) => break Then::End(End::Crash("the guest panicked".to_owned())),
            _ => break Then::Hang,
        }
    };
    console.push_str("strata-boot: end\r\n");
    Ok((then, console))
}

fn is_guest(sector: &Sector) -> bool {
    sector.ends_with(&[0x55, 0xaa]) && sector[..TABLE].windows(BANNER.len()).any(|w| w == BANNER)
}

fn number(table: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let bytes = [table.next()?, table.next()?, table.next()?, table.next()?];
    Some(u64::from(u32::from_le_bytes(bytes)))
}

fn report(console: &mut String, disk: usize, lba: u64, sign: char, text: &str) {
    // Writing into a String cannot fail.
    let _ = write!(
        console,
        "disk {:02X} lba {lba:08X}{sign} {text}\r\n",
        0x80 + disk
    );
}

fn shown(sector: &Sector) -> String {
    let printable = |byte: &&u8| (b' '..=b'~').contains(*byte);
    sector[..SHOWN]
        .iter()
        .take_while(printable)
        .map(|byte| char::from(*byte))
        .collect()
}
