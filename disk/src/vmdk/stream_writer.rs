//! Writing a streamOptimized VMDK from its first byte to its last, for transport: grains in order, each table behind the
//! grains that it names, directory and footer at the end. Their reader is in `stream`.
//!
//! Memory follows the directory alone: 128 KiB at 1 TiB. Packing is apart from writing, so that several threads can
//! share it.

use super::create::{check_links, encoding, is_file_name};
use super::descriptor::new_ddb;
use super::header::{GRAIN_SECTORS, GT_SECTORS, GTES_PER_GT};
use super::stream::{GRAIN_MARKER, MARKER_DIRECTORY, MARKER_END, MARKER_FOOTER, MARKER_TABLE};
use super::{
    Access, AdapterType, Cid, CreateType, Descriptor, Extent, ExtentKind, SECTOR, SparseHeader,
    check_sectors,
};
use crate::durable::Partial;
use crate::file::ImageFile;
use crate::{Durability, Error, Result};
use flate2::{Compress, Compression, FlushCompress, Status};
use std::path::Path;
use uuid::Uuid;

/// Bytes of a grain.
const GRAIN: usize = (GRAIN_SECTORS * SECTOR) as usize;
/// Above this, files get smaller by a fiftieth and packing takes half as long again.
const LEVEL: u32 = 3;
/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;

/// A new streamOptimized image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// The image's own file name, without folders: it stands in the embedded descriptor.
    pub file: String,
    /// Size of the disk in sectors, not 0.
    pub sectors: u64,
    /// Content id of this image.
    pub cid: Cid,
    /// VirtualBox's id of this image.
    pub uuid: Uuid,
    /// Adapter, for the geometry.
    pub adapter: AdapterType,
}

/// A grain as it stands in the file: marker, deflated data, zeros up to the end of a sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedGrain {
    number: u64,
    bytes: Vec<u8>,
}

/// Packs grains; each thread has its own.
pub struct GrainPacker {
    deflate: Compress,
}

impl Default for GrainPacker {
    fn default() -> GrainPacker {
        GrainPacker {
            deflate: Compress::new(Compression::new(LEVEL), true),
        }
    }
}

impl GrainPacker {
    /// Packs grain `number`, which starts at byte `number` * 65536 of the disk. Shorter data, at the end of a disk, is
    /// filled up with zeros. `None` for a grain of zeros: those have no place in the file.
    ///
    /// # Errors
    /// `Invalid` for more than 65536 bytes, or a number beyond what sectors are counted to.
    pub fn pack(&mut self, number: u64, data: &[u8]) -> Result<Option<PackedGrain>> {
        let sector = number.checked_mul(GRAIN_SECTORS);
        let sector = sector.filter(|_| data.len() <= GRAIN);
        let sector = sector.ok_or_else(|| Error::invalid("no grain of 64 KiB"))?;
        if data.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let mut whole = Vec::new();
        let data = match data.len() {
            GRAIN => data,
            _ => {
                whole.extend_from_slice(data);
                whole.resize(GRAIN, 0);
                &whole
            }
        };
        // What does not get smaller is stored in pieces with a few bytes each.
        let mut bytes = vec![0; GRAIN_MARKER + GRAIN + GRAIN / 64];
        self.deflate.reset();
        let done = self
            .deflate
            .compress(data, &mut bytes[GRAIN_MARKER..], FlushCompress::Finish);
        let len = self.deflate.total_out();
        if !matches!(done, Ok(Status::StreamEnd)) {
            return Err(Error::invalid("a grain that cannot be packed"));
        }
        bytes[..8].copy_from_slice(&sector.to_le_bytes());
        bytes[8..GRAIN_MARKER].copy_from_slice(&(len as u32).to_le_bytes());
        bytes.truncate(GRAIN_MARKER + len as usize);
        bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        Ok(Some(PackedGrain { number, bytes }))
    }
}

/// A streamOptimized image that is being written. Dropped before it is [finished](Self::finish), it removes its file.
///
/// ```
/// use stratavm_disk::vmdk::{AdapterType, Cid, GrainPacker, StreamSpec, StreamWriter};
/// use stratavm_disk::Durability;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let spec = StreamSpec {
///     file: "export.vmdk".into(),
///     sectors: 2048,
///     cid: Cid::new(0x1234_abcd)?,
///     uuid: uuid::Uuid::from_u128(1),
///     adapter: AdapterType::LsiLogic,
/// };
/// let mut writer = StreamWriter::create(&folder.path().join(&spec.file), &spec)?;
/// if let Some(grain) = GrainPacker::default().pack(3, b"what grain 3 starts with")? {
///     writer.write(&grain)?;
/// }
/// writer.finish(Durability::Synced)?;
/// # Ok(())
/// # }
/// ```
pub struct StreamWriter {
    file: ImageFile,
    guard: Partial,
    header: SparseHeader,
    /// Sector of each table that is written; 0 for one without a grain.
    directory: Vec<u32>,
    /// The table of the grains that come now, and which one it is.
    table: Vec<u32>,
    page: usize,
    /// The grain that may come next, at the least.
    next: u64,
    /// What is not written yet, and the byte of the file where it goes.
    buffer: Vec<u8>,
    at: u64,
}

impl StreamWriter {
    /// Starts the file, which must not be there yet.
    ///
    /// # Errors
    /// `Exists`; `Invalid` or `Limit` for a spec that cannot be made; else what the operating system reports.
    pub fn create(path: &Path, spec: &StreamSpec) -> Result<StreamWriter> {
        start(path, spec).map_err(|e| e.at_path(path).during("create streamOptimized VMDK"))
    }

    /// Writes a grain; they come in ascending order.
    ///
    /// # Errors
    /// `Invalid` for a grain that is behind the end of the disk or not behind the one before; `Limit` for a file above
    /// 2 TiB; else what the operating system reports.
    pub fn write(&mut self, grain: &PackedGrain) -> Result<()> {
        let count = self.header.capacity.div_ceil(GRAIN_SECTORS);
        if grain.number < self.next || grain.number >= count {
            return Err(Error::invalid(format!(
                "grain {} in place of one from {} to {count}",
                grain.number, self.next
            ))
            .at_path(self.file.path()));
        }
        // Both fit: the directory is in memory.
        let (page, index) = (grain.number / GTES_PER_GT, grain.number % GTES_PER_GT);
        if page as usize != self.page {
            self.end_table()?;
            self.page = page as usize;
        }
        self.table[index as usize] = self.sector()?;
        self.next = grain.number + 1;
        self.put(&grain.bytes)
    }

    /// Writes what ends the file, and keeps it.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn finish(mut self, durability: Durability) -> Result<()> {
        self.end_table()?;
        let mut directory: Vec<u8> = self
            .directory
            .iter()
            .flat_map(|e| e.to_le_bytes())
            .collect();
        directory.resize((self.header.directory_sectors() * SECTOR) as usize, 0);
        self.put(&marker(self.header.directory_sectors(), MARKER_DIRECTORY))?;
        self.header.directory = Some(self.sector()?.into());
        self.put(&directory)?;
        self.put(&marker(1, MARKER_FOOTER))?;
        let footer = self.header.to_bytes();
        self.put(&footer)?;
        self.put(&marker(0, MARKER_END))?;
        self.write_out()?;
        if durability == Durability::Synced {
            self.file.sync()?;
        }
        self.guard.keep();
        Ok(())
    }

    /// Writes the table of the grains before, where they are any.
    fn end_table(&mut self) -> Result<()> {
        if self.table.iter().all(|entry| *entry == 0) {
            return Ok(());
        }
        self.put(&marker(GT_SECTORS, MARKER_TABLE))?;
        let sector = self.sector()?;
        let bytes: Vec<u8> = self.table.iter().flat_map(|e| e.to_le_bytes()).collect();
        self.put(&bytes)?;
        self.table.fill(0);
        if let Some(entry) = self.directory.get_mut(self.page) {
            *entry = sector;
        }
        Ok(())
    }

    /// The sector that comes next.
    fn sector(&self) -> Result<u32> {
        let sector = (self.at + self.buffer.len() as u64) / SECTOR;
        u32::try_from(sector).map_err(|_| {
            Error::limit("a streamOptimized VMDK above 2 TiB").at_path(self.file.path())
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        match self.buffer.len() >= BUFFER {
            true => self.write_out(),
            false => Ok(()),
        }
    }

    fn write_out(&mut self) -> Result<()> {
        self.file.write_all_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn start(path: &Path, spec: &StreamSpec) -> Result<StreamWriter> {
    check_sectors(spec.sectors)?;
    if !is_file_name(&spec.file) {
        return Err(Error::invalid(format!(
            "{:?} is no file name without folders",
            spec.file
        )));
    }
    check_links(spec.cid, spec.uuid, None)?;
    let header = SparseHeader::for_stream(spec.sectors);
    let mut text = descriptor(spec).to_text()?.into_bytes();
    let room = header.descriptor_size * SECTOR;
    if text.len() as u64 >= room {
        return Err(Error::limit(format!(
            "descriptor of {} bytes does not fit into {room}",
            text.len()
        )));
    }
    let mut buffer = header.to_bytes().to_vec();
    buffer.append(&mut text);
    buffer.resize((header.overhead * SECTOR) as usize, 0);
    let directory = vec![0; header.table_count() as usize];
    let file = ImageFile::create_new(path)?;
    Ok(StreamWriter {
        file,
        guard: Partial::new(path),
        header,
        directory,
        table: vec![0; GTES_PER_GT as usize],
        page: 0,
        next: 0,
        buffer,
        at: 0,
    })
}

fn descriptor(spec: &StreamSpec) -> Descriptor {
    Descriptor {
        cid: spec.cid,
        parent_cid: None,
        create_type: CreateType::StreamOptimized,
        parent_hint: None,
        other: encoding(),
        extents: vec![Extent {
            access: Access::ReadWrite,
            sectors: spec.sectors,
            kind: ExtentKind::Sparse,
            file: Some(spec.file.clone()),
            offset: None,
        }],
        ddb: new_ddb(spec.sectors, spec.cid, spec.uuid, None, spec.adapter),
    }
}

/// A marker in a sector of its own, before so many sectors of what it announces.
fn marker(sectors: u64, kind: u32) -> [u8; SECTOR as usize] {
    let mut marker = [0; SECTOR as usize];
    marker[..8].copy_from_slice(&sectors.to_le_bytes());
    marker[GRAIN_MARKER..GRAIN_MARKER + 4].copy_from_slice(&kind.to_le_bytes());
    marker
}
