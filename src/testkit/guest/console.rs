//! Reading back what the boot-sector guest wrote to its console. Lines that are not its own (a
//! BIOS that talks on the serial port) are passed over.

/// What one command did to one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The sector was read and begins with this text (empty if with no printable character).
    Read(String),
    /// This text was written to the beginning of the sector.
    Written(String),
    /// The BIOS refused, with this INT 13h status.
    Failed(u8),
}

/// One line of the guest about one sector.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The disk, 0 for the first that the BIOS has.
    pub disk: u8,
    /// The sector of 512 bytes.
    pub lba: u32,
    /// What happened.
    pub outcome: Outcome,
}

/// One boot of the guest, from its start line to its end line or the next start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Boot {
    /// What it did, in order.
    pub events: Vec<Event>,
    /// Whether it came to its end line.
    pub ended: bool,
}

impl Boot {
    /// What the last read of that sector of that disk (0 for the first) showed.
    #[must_use]
    pub fn text(&self, disk: u8, lba: u32) -> Option<&str> {
        self.events
            .iter()
            .rev()
            .filter(|e| e.disk == disk && e.lba == lba)
            .find_map(|e| match &e.outcome {
                Outcome::Read(text) => Some(text.as_str()),
                _ => None,
            })
    }

    /// What the reads of one sector showed on each disk, first disk first.
    #[must_use]
    pub fn texts(&self, lba: u32) -> Vec<&str> {
        (0..=u8::MAX)
            .map_while(|disk| self.text(disk, lba))
            .collect()
    }
}

/// Every boot that a console holds, oldest first.
#[must_use]
pub fn parse_console(console: &[u8]) -> Vec<Boot> {
    let text = String::from_utf8_lossy(console);
    let mut boots: Vec<Boot> = Vec::new();
    for line in text.lines() {
        // A start line may come behind a line that a stopped guest left unfinished.
        if line.ends_with("strata-boot: start") {
            boots.push(Boot::default());
        } else if let Some(boot) = boots.last_mut() {
            if line == "strata-boot: end" {
                boot.ended = true;
            } else if let Some(event) = event(line) {
                boot.events.push(event);
            }
        }
    }
    boots
}

fn event(line: &str) -> Option<Event> {
    let (disk, rest) = line.strip_prefix("disk ")?.split_once(" lba ")?;
    let disk = u8::from_str_radix(disk, 16).ok()?.checked_sub(0x80)?;
    let (lba, rest) = rest.split_at_checked(8)?;
    let lba = u32::from_str_radix(lba, 16).ok()?;
    let (sign, text) = rest.split_at_checked(2)?;
    let outcome = match sign {
        ": " => Outcome::Read(text.to_owned()),
        "= " => Outcome::Written(text.to_owned()),
        "! " => Outcome::Failed(u8::from_str_radix(text, 16).ok()?),
        _ => return None,
    };
    Some(Event { disk, lba, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What QEMU 7.2's serial port really held, two runs one after the other.
    const CONSOLE: &[u8] = b"SeaBIOS\r\nstrata-boot: start\r\n\
        disk 81 lba 00000005= hello home\r\n\
        disk 80 lba 00000005: \r\n\
        disk 81 lba 00000005: hello home\r\n\
        disk 80 lba 00010000! 01\r\n\
        strata-boot: end\r\n\
        strata-boot: start\r\ndisk 80 lba 00000001: os-disk\r\ndisk 81 lstrata-boot: start\r\n";

    #[test]
    fn each_boot_is_read_with_its_lines() {
        let boots = parse_console(CONSOLE);
        assert_eq!(boots.len(), 3);
        assert!(boots[0].ended && !boots[1].ended);
        assert_eq!(boots[0].texts(5), ["", "hello home"]);
        assert_eq!(
            boots[0].events[0],
            Event {
                disk: 1,
                lba: 5,
                outcome: Outcome::Written("hello home".into())
            }
        );
        assert_eq!(boots[0].events[3].outcome, Outcome::Failed(1));
        assert_eq!(boots[1].text(0, 1), Some("os-disk"));
        assert_eq!(boots[2], Boot::default());
    }

    #[test]
    fn foreign_and_damaged_lines_are_passed_over() {
        let noise = b"disk 80 lba 00000001: before any start\nstrata-boot: start\n\
            disk 8\xff lba 1\ndisk 80 lba 0000000\xc3\xa9: x\ndisk 70 lba 00000001: x\ndisk 80 lba 00000001? x\n";
        assert_eq!(parse_console(noise), [Boot::default()]);
    }
}
