//! An open image as a driver of the engine. imago looks places up, takes room and enters it; guest data goes between the
//! caller and the file without it, compressed clusters aside.
//!
//! What imago prepares stays with the [`Room`] until it is linked or dropped, and locks one L2 table meanwhile. So room
//! is taken one at a time, and compressed clusters that are overwritten in part are unpacked before.

use super::header::Header;
use super::storage::Shown;
use crate::engine::{Allocate, Map, Mapping, Place, Room, Use};
use crate::file::ImageFile;
use crate::{Durability, Error, Result};
use imago::format::drivers::FormatDriverInstance as _;
use imago::{FormatAccess, ShallowMapping};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

type Tables = imago::qcow2::Qcow2<Shown, FormatAccess<Shown>>;

/// Where the header has the features that a writer takes back.
const AUTOCLEAR: u64 = 88;

pub(super) struct Image {
    tables: Tables,
    shown: Shown,
    header: Header,
    used: Use,
    begun: AtomicBool,
    /// Room was given back that the tables in the file still name.
    freed: AtomicBool,
    unpacked: Mutex<VecDeque<Unpacked>>,
}

/// A cluster that was unpacked: its first byte on the disk, and its data.
type Unpacked = (u64, Vec<u8>);

/// Unpacked clusters that are kept: the first and the last one of a range that is overwritten in part.
const KEPT: usize = 2;
/// Bytes of zeros that are written at a time.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Image {
    pub(super) fn open(shown: Shown, header: Header, used: Use) -> Result<Image> {
        let opened = Tables::open_image(shown.clone(), used == Use::Write);
        Ok(Image {
            tables: opened.map_err(error)?,
            shown,
            header,
            used,
            begun: AtomicBool::new(false),
            freed: AtomicBool::new(false),
            unpacked: Mutex::default(),
        })
    }

    /// The place that a mapping of imago's names, with how far it goes on in the file. A cluster may be cut short at the
    /// end of the file, but begins in it.
    fn data(&self, at: u64, writable: bool, len: u64) -> Result<Mapping<'_>> {
        let file = self.shown.file();
        let cluster = self.header.cluster();
        if at < cluster || at >= file.len() {
            return Err(Error::malformed(format!("a cluster at byte {at}")).at_path(file.path()));
        }
        let end = file.len().next_multiple_of(cluster);
        let place = match (self.used, writable) {
            // Other tables name it too: what is written goes elsewhere.
            (Use::Write, false) => Place::Packed,
            _ => Place::Data { file, offset: at },
        };
        Ok(Mapping {
            place,
            len: len.min(end - at),
        })
    }

    /// Reads one cluster, or the part of it from `at` on.
    fn unpack_one(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        let (found, len) = self
            .tables
            .get_mapping(at, buf.len() as u64)
            .map_err(error)?;
        match found {
            ShallowMapping::Raw { offset, .. } => {
                self.data(offset, false, len)?;
                self.shown.file().read_at(buf, offset)
            }
            ShallowMapping::Special { offset, .. } => {
                let read = self.tables.readv_special((&mut *buf).into(), offset);
                read.map_err(error)
            }
            _ => Err(Error::invalid("not a packed cluster").at_offset(at)),
        }
    }

    fn unpacked(&self) -> MutexGuard<'_, VecDeque<Unpacked>> {
        self.unpacked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster that starts at `first`, unpacked if it is not kept already, and kept.
    fn keep(&self, first: u64, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut kept = self.unpacked();
        if let Some((_, data)) = kept.iter().find(|(start, _)| *start == first) {
            see(data);
            return Ok(());
        }
        let mut data = vec![0; self.header.cluster() as usize];
        self.unpack_one(first, &mut data)?;
        see(&data);
        kept.truncate(KEPT - 1);
        kept.push_front((first, data));
        Ok(())
    }

    /// A new L2 table may be given room at once. No room that the file's tables still name.
    fn before_table(&self, offset: u64) -> Result<()> {
        if self.freed.load(Ordering::Acquire)
            && !self.shown.order()?.has_table(self.shown.file(), offset)?
        {
            self.tables.flush().map_err(error)?;
            self.freed.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Refuses room that holds a table: the counts that gave it away are wrong. Makes what is there already read as zeros.
    fn check_room(&self, range: &Range<u64>) -> Result<()> {
        let file = self.shown.file();
        let mut order = self.shown.order()?;
        order.check_room(file, range)?;
        let there = file.len().min(range.end);
        let mut at = range.start;
        if at < there {
            order.before_reuse(file)?;
        }
        // Not a hole: it is filled at once.
        while at < there {
            let part = ZEROS.len().min((there - at) as usize);
            file.write_all_at(&ZEROS[..part], at)?;
            at += part as u64;
        }
        Ok(())
    }
}

impl Map for Image {
    fn size(&self) -> u64 {
        self.header.size
    }

    fn map(&self, offset: u64, len: u64) -> Result<Mapping<'_>> {
        let (found, run) = self.tables.get_mapping(offset, len).map_err(error)?;
        let len = run.min(len);
        let place = match found {
            ShallowMapping::Raw {
                offset, writable, ..
            } => return self.data(offset, writable, len),
            ShallowMapping::Zero { explicit, .. } => match explicit {
                true => Place::Zero,
                false => Place::Absent,
            },
            ShallowMapping::Special { .. } => Place::Packed,
            _ => return Err(Error::malformed("a cluster of no known kind").at_offset(offset)),
        };
        Ok(Mapping { place, len })
    }

    fn unpack(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let cluster = self.header.cluster();
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let (first, within) = (at / cluster * cluster, (at % cluster) as usize);
            let take = (cluster as usize - within).min(buf.len() - done);
            let part = &mut buf[done..done + take];
            if take as u64 == cluster {
                self.unpack_one(at, part)?;
            } else {
                self.keep(first, &mut |data| {
                    part.copy_from_slice(&data[within..within + take]);
                })?;
            }
            done += take;
        }
        Ok(())
    }

    fn files(&self, see: &mut dyn FnMut(&ImageFile)) {
        see(self.shown.file());
    }

    fn writer(&self) -> Option<&dyn Allocate> {
        (self.used == Use::Write).then_some(self)
    }
}

impl Allocate for Image {
    fn unit(&self, offset: u64) -> Range<u64> {
        let cluster = self.header.cluster();
        let start = offset / cluster * cluster;
        start..(start + cluster).min(self.header.size)
    }

    fn begin(&self) -> Result<()> {
        if self.header.autoclear != 0 && !self.begun.swap(true, Ordering::AcqRel) {
            let file = self.shown.file();
            file.write_all_at(&[0; 8], AUTOCLEAR)?;
            file.sync()?;
        }
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<Room<'_>> {
        let end = self.unit(offset + len - 1).end;
        // Only there can a cluster be overwritten in part.
        let ends = [offset, self.unit(end - 1).start];
        let mut packed = false;
        for at in ends {
            if matches!(self.map(at, 1)?.place, Place::Packed) {
                self.keep(at, &mut |_| {})?;
                packed = true;
            }
        }
        self.before_table(offset)?;
        let prepared = self.tables.prepare_data_mapping(offset, end - offset, true);
        let prepared = prepared.map_err(error)?;
        let at = prepared.offset();
        // imago counts whole clusters, the last one of the disk too.
        let len = prepared.length().next_multiple_of(self.header.cluster());
        let units = offset..(offset + len).min(end);
        let room = at..at.saturating_add(len);
        self.check_room(&room)?;
        let commit = move || {
            self.shown.order()?.wrote_data();
            self.tables.commit_data_mapping(prepared).map_err(error)?;
            if packed {
                self.freed.store(true, Ordering::Release);
                self.unpacked().clear();
            }
            Ok(())
        };
        Ok(Room {
            file: self.shown.file(),
            at,
            len,
            units,
            commit: Some(Box::new(commit)),
        })
    }

    fn takes_one_room_at_a_time(&self) -> bool {
        true
    }

    fn link(&self, room: Room<'_>) -> Result<()> {
        if let Some(commit) = room.commit {
            commit()?;
        }
        let full = self.shown.order()?.is_full();
        match full {
            true => self.flush(Durability::Synced),
            false => Ok(()),
        }
    }

    fn mark_zero(&self, units: Range<u64>) -> Result<bool> {
        if self.header.version < 3 {
            return Ok(false);
        }
        let mut at = units.start;
        while at < units.end {
            self.before_table(at)?;
            let marked = self.tables.ensure_zero_mapping(at, units.end - at);
            let (start, len) = marked.map_err(error)?;
            if start != at || len == 0 {
                return Err(Error::invalid("a range that is no whole clusters").at_offset(at));
            }
            self.freed.store(true, Ordering::Release);
            at += len;
        }
        self.unpacked().clear();
        let full = self.shown.order()?.is_full();
        if full {
            self.flush(Durability::Synced)?;
        }
        Ok(true)
    }

    fn flush(&self, durability: Durability) -> Result<()> {
        self.shown.order()?.set_barriers(durability);
        let flushed = self.tables.flush().map_err(error);
        let flushed = flushed.and_then(|()| self.shown.finish(durability));
        self.shown.order()?.set_barriers(Durability::Synced);
        self.freed.store(flushed.is_err(), Ordering::Release);
        flushed
    }

    fn finish(&self, durability: Durability) -> Result<()> {
        self.flush(durability)
    }
}

/// An error of imago's: one of ours that passed through it, one of the system's, or what it says of the image.
fn error(found: io::Error) -> Error {
    if found.raw_os_error().is_some() {
        return Error::from(found);
    }
    match found.downcast::<Error>() {
        Ok(ours) => ours,
        Err(theirs) => Error::malformed(format!("damaged tables: {theirs}")),
    }
}
