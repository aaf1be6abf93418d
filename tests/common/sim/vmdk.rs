//! Sparse VMDK extents and the chains they form, read and written without the library: header, grain directory and
//! tables as VMware's "Virtual Disk Format 5.0" describes them, links as the descriptors say. Only what the library
//! makes is understood; anything else is an error in words.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::model::{BLOCKS, Content, MIXED};

/// Bytes of a grain: one block of the model.
pub(crate) const GRAIN: usize = 64 << 10;
const SECTOR: u64 = 512;

pub(crate) type Result<T> = std::result::Result<T, String>;

/// One block full of a pattern.
pub(crate) fn block(pattern: u64) -> Vec<u8> {
    pattern.to_le_bytes().repeat(GRAIN / 8)
}

/// The pattern that fills a block; an error if it holds more than one.
pub(crate) fn pattern(bytes: &[u8]) -> Result<u64> {
    let (first, rest) = bytes.split_first_chunk::<8>().ok_or("a block of nothing")?;
    match rest == &bytes[..rest.len()] {
        true => Ok(u64::from_le_bytes(*first)),
        false => Err("a block holds two patterns: torn, or mixed".to_owned()),
    }
}

/// A sparse extent.
#[derive(Debug)]
pub(crate) struct Sparse {
    file: File,
    directories: [u64; 2],
    entries_per_table: u64,
    /// The embedded descriptor.
    pub(crate) descriptor: String,
}

impl Sparse {
    /// Opens one, or answers `None` for a file that is no sparse extent.
    fn open(path: &Path, options: &OpenOptions) -> Result<Option<Self>> {
        let mut file = options.open(path).map_err(|error| at(path, error))?;
        let mut header = [0; SECTOR as usize];
        let got = file.read(&mut header).map_err(|error| at(path, error))?;
        if got < header.len() || header[..4] != *b"KDMV" {
            return Ok(None);
        }
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or([0; 8]));
        let grain = long(20) * SECTOR;
        if grain != GRAIN as u64 {
            return Err(at(path, format!("grains of {grain} bytes")));
        }
        let mut text = vec![0; (long(36) * SECTOR) as usize];
        read(&mut file, long(28) * SECTOR, &mut text).map_err(|error| at(path, error))?;
        let end = text
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(text.len());
        let descriptor = String::from_utf8_lossy(&text[..end]).into_owned();
        Ok(Some(Self {
            file,
            directories: [long(56), long(48)],
            entries_per_table: u64::from(u32::from_le_bytes([
                header[44], header[45], header[46], header[47],
            ])),
            descriptor,
        }))
    }

    /// A head, to be written to.
    pub(crate) fn head(path: &Path) -> Result<Self> {
        let options = OpenOptions::new().read(true).write(true).clone();
        Self::open(path, &options)?.ok_or_else(|| at(path, "no sparse extent"))
    }

    /// The handle: its lock is what real products take.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where the entry of grain `n` stands, by one of the two directories.
    fn entry(&mut self, directory: u64, n: u64) -> Result<u64> {
        let mut table = [0; 4];
        let at = directory * SECTOR + n / self.entries_per_table * 4;
        read(&mut self.file, at, &mut table).map_err(|error| error.to_string())?;
        let table = u64::from(u32::from_le_bytes(table));
        Ok(table * SECTOR + n % self.entries_per_table * 4)
    }

    /// Grain `n`, if it is here.
    pub(crate) fn grain(&mut self, n: u64) -> Result<Option<Vec<u8>>> {
        let at = self.entry(self.directories[0], n)?;
        let mut sector = [0; 4];
        read(&mut self.file, at, &mut sector).map_err(|error| error.to_string())?;
        let sector = u64::from(u32::from_le_bytes(sector));
        if sector == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; GRAIN];
        read(&mut self.file, sector * SECTOR, &mut bytes)
            .map_err(|error| format!("grain {n}: {error}"))?;
        Ok(Some(bytes))
    }

    /// Writes grain `n`: the data first, then both tables' entries, as products do.
    pub(crate) fn write(&mut self, n: u64, bytes: &[u8]) -> Result<()> {
        self.try_write(n, bytes)
            .map_err(|error| format!("grain {n}: {error}"))
    }

    fn try_write(&mut self, n: u64, bytes: &[u8]) -> Result<()> {
        let failed = |error: std::io::Error| error.to_string();
        let entries = [
            self.entry(self.directories[0], n)?,
            self.entry(self.directories[1], n)?,
        ];
        let mut sector = [0; 4];
        read(&mut self.file, entries[0], &mut sector).map_err(failed)?;
        let known = u64::from(u32::from_le_bytes(sector)) * SECTOR;
        let place = match known {
            0 => {
                let end = self.file.seek(SeekFrom::End(0)).map_err(failed)?;
                end.next_multiple_of(GRAIN as u64)
            }
            known => known,
        };
        write(&mut self.file, place, bytes).map_err(failed)?;
        if known == 0 {
            let sector = u32::try_from(place / SECTOR).map_err(|error| error.to_string())?;
            for entry in entries {
                write(&mut self.file, entry, &sector.to_le_bytes()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// What a chain holds, read from its uppermost file down by the links in the files themselves. Links that do not fit
/// are errors.
pub(crate) fn content(path: &Path) -> Result<Content> {
    let mut found: [Option<u64>; BLOCKS] = [None; BLOCKS];
    let mut path = path.to_owned();
    let mut wanted: Option<String> = None;
    loop {
        let options = OpenOptions::new().read(true).clone();
        let mut level = Sparse::open(&path, &options)?;
        let text = match &level {
            Some(sparse) => sparse.descriptor.clone(),
            None => std::fs::read_to_string(&path).map_err(|error| at(&path, error))?,
        };
        let cid = value(&text, "CID").ok_or_else(|| at(&path, "no CID"))?;
        if wanted.as_ref().is_some_and(|wanted| *wanted != cid) {
            return Err(at(&path, format!("CID {cid}, its child names {wanted:?}")));
        }
        for (n, known) in found
            .iter_mut()
            .enumerate()
            .filter(|(_, known)| known.is_none())
        {
            let bytes = match &mut level {
                Some(sparse) => sparse.grain(n as u64).map_err(|error| at(&path, error))?,
                None => Some(flat(&path, &text, n as u64)?),
            };
            if let Some(bytes) = bytes {
                *known = Some(pattern(&bytes).unwrap_or(MIXED));
            }
        }
        let Some(parent) = value(&text, "parentFileNameHint") else {
            return Ok(found.map(Option::unwrap_or_default));
        };
        wanted = value(&text, "parentCID");
        path = folder(&path).join(parent);
    }
}

/// A block of the raw file below a text descriptor.
fn flat(path: &Path, text: &str, n: u64) -> Result<Vec<u8>> {
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("RW "))
        .and_then(|line| line.split('"').nth(1))
        .ok_or_else(|| at(path, "no extent"))?;
    let path = folder(path).join(name);
    let mut file = File::open(&path).map_err(|error| at(&path, error))?;
    let mut bytes = vec![0; GRAIN];
    read(&mut file, n * GRAIN as u64, &mut bytes).map_err(|error| at(&path, error))?;
    Ok(bytes)
}

fn value(text: &str, key: &str) -> Option<String> {
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(found.trim().trim_matches('"').to_owned())
}

fn folder(path: &Path) -> PathBuf {
    path.parent().map_or_else(PathBuf::new, Path::to_owned)
}

fn read(file: &mut File, at: u64, bytes: &mut [u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

fn write(file: &mut File, at: u64, bytes: &[u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}

fn at(path: &Path, what: impl std::fmt::Display) -> String {
    format!("{}: {what}", path.display())
}
