//! The counting guest: it fills one disk with growing numbers and says each once it is written, for
//! tests that kill something meanwhile.
//!
//! The guest itself is `fixtures/bootsector/count.S`. What is on the disk afterwards is read by the
//! caller, from the raw content.

use std::collections::BTreeMap;

use super::GuestError;

const COUNT: &[u8; 512] = include_bytes!("../../../fixtures/bootsector/count.bin");
/// Where the guest has the number of the disk that it writes to.
const DISK: usize = 509;
/// The sector with the number of boots.
const BOOTS: usize = 4;
/// The first of the sectors that are written to, and how many there are.
const RING: usize = 64;
const RING_LEN: u32 = 0x800;
const SECTOR: usize = 512;

/// The boot sector of a guest that counts on disk `disk` (0: the one it boots from), of which it
/// uses the first 1.1 MiB.
///
/// # Errors
/// [`GuestError::Disk`].
pub fn counting(disk: u8) -> Result<[u8; 512], GuestError> {
    if disk > 0x7e {
        return Err(GuestError::Disk { disk });
    }
    let mut sector = *COUNT;
    sector[DISK] = 0x80 | disk;
    Ok(sector)
}

/// The numbers that counting guests have written, by sector: the last of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted(BTreeMap<usize, u32>);

impl Counted {
    /// Adds what a console holds: each number is said once it is written, so all of them have to be
    /// on the disk. A line that was cut short counts for nothing.
    pub fn hear(&mut self, console: &[u8]) {
        let text = String::from_utf8_lossy(console);
        let whole = text.rsplit_once("\r\n").map_or("", |(whole, _)| whole);
        for line in whole.split("\r\n").filter(|line| line.len() == 8) {
            if let Ok(number) = u32::from_str_radix(line, 16) {
                let last = self.0.entry(sector_of(number)).or_default();
                *last = number.max(*last);
            }
        }
    }

    /// How many sectors have been written at least once.
    #[must_use]
    pub fn sectors(&self) -> usize {
        self.0.len()
    }

    /// Compares with the raw content of the disk: each sector holds its last number or a later one,
    /// whole and in its place, and the boots are counted on.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn check(&self, disk: &[u8]) -> Result<(), String> {
        let boots = number_in(disk, BOOTS)?;
        let ring = RING..RING + RING_LEN as usize;
        for sector in ring {
            let found = number_in(disk, sector)?;
            let heard = self.0.get(&sector).copied().unwrap_or_default();
            if found < heard {
                return Err(format!(
                    "sector {sector} holds {found:08X}, but {heard:08X} was written"
                ));
            }
            if found != 0 && (sector_of(found) != sector || found >> 20 > boots) {
                return Err(format!(
                    "sector {sector} holds {found:08X} after {boots} boots"
                ));
            }
        }
        Ok(())
    }
}

fn sector_of(number: u32) -> usize {
    RING + (number.wrapping_mul(37) & (RING_LEN - 1)) as usize
}

/// The number that fills a sector.
fn number_in(disk: &[u8], sector: usize) -> Result<u32, String> {
    let bytes = disk.get(sector * SECTOR..(sector + 1) * SECTOR);
    let bytes = bytes.ok_or_else(|| format!("the disk ends before sector {sector}"))?;
    let mut numbers = bytes.chunks_exact(4).map(|bytes| {
        bytes
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u32::from(*byte))
    });
    let first = numbers.next().unwrap_or_default();
    match numbers.all(|number| number == first) {
        true => Ok(first),
        false => Err(format!("sector {sector} is torn")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn disk(numbers: &[(usize, u32)]) -> Vec<u8> {
        let mut disk = vec![0; (RING + RING_LEN as usize) * SECTOR];
        for (sector, number) in numbers {
            let bytes = &mut disk[sector * SECTOR..(sector + 1) * SECTOR];
            bytes.copy_from_slice(&number.to_le_bytes().repeat(128));
        }
        disk
    }

    #[test]
    fn what_was_heard_has_to_be_there() {
        let (first, second) = (0x10_0001, 0x10_0002);
        let mut counted = Counted::default();
        counted.hear(b"00100001\r\n00100002\r\n001000");
        assert_eq!(counted.sectors(), 2);
        let whole = [
            (BOOTS, 1),
            (sector_of(first), first),
            (sector_of(second), second),
        ];
        assert_eq!(counted.check(&disk(&whole)), Ok(()));
        assert!(
            counted
                .check(&disk(&whole[..2]))
                .unwrap_err()
                .contains("00100002")
        );
        let elsewhere = [
            whole[0],
            whole[1],
            whole[2],
            (sector_of(second) + 1, second),
        ];
        assert!(counted.check(&disk(&elsewhere)).is_err());
        let mut torn = disk(&whole);
        torn[sector_of(first) * SECTOR] ^= 1;
        assert!(counted.check(&torn).unwrap_err().contains("torn"));
        assert!(
            counted.check(&disk(&whole[1..])).is_err(),
            "boots were lost"
        );
        assert!(counted.check(&[]).is_err());
    }

    #[test]
    fn the_disk_is_part_of_the_guest() {
        assert_eq!(counting(2).unwrap()[DISK..], [0x82, 0x55, 0xaa]);
        assert_eq!(counting(0x7f), Err(GuestError::Disk { disk: 0x7f }));
    }
}
