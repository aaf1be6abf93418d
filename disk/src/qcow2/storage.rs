//! The file as imago sees it: its trait for storage over an [`ImageFile`]. What stands at the beginning of the file is
//! hidden from it behind a header with nothing but sizes and places, which were checked before.
//!
//! The trait declares reading and writing as `unsafe fn`; nothing unsafe is done in them.

use super::header::{Header, V3};
use super::order::Order;
use crate::file::ImageFile;
use crate::{Durability, Error, Result};
use imago::Storage;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::storage::drivers::CommonStorageHelper;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One image file, shared between imago and this module.
#[derive(Clone)]
pub(super) struct Shown(Arc<Inner>);

struct Inner {
    file: ImageFile,
    bare: [u8; V3 as usize],
    cluster: u64,
    /// `None` where the image is only read.
    order: Option<Mutex<Order>>,
    helper: CommonStorageHelper,
}

impl Shown {
    pub(super) fn new(file: ImageFile, header: &Header, order: Option<Order>) -> Shown {
        Shown(Arc::new(Inner {
            file,
            bare: header.bare(),
            cluster: header.cluster(),
            order: order.map(Mutex::new),
            helper: CommonStorageHelper::default(),
        }))
    }

    pub(super) fn file(&self) -> &ImageFile {
        &self.0.file
    }

    /// # Errors
    /// `Invalid` where the image is only read.
    pub(super) fn order(&self) -> Result<MutexGuard<'_, Order>> {
        let order = self.0.order.as_ref();
        let order = order.ok_or_else(|| Error::invalid("the image is open for reading"))?;
        Ok(order.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes the L1 entries that wait, and makes sure of all of it where that is asked for.
    pub(super) fn finish(&self, durability: Durability) -> Result<()> {
        self.order()?.write_roots(self.file())?;
        match durability {
            Durability::Synced => self.file().sync(),
            Durability::Unsynced => Ok(()),
        }
    }

    fn read(&self, buf: &mut [u8], at: u64) -> Result<()> {
        let Inner {
            file,
            bare,
            cluster,
            ..
        } = &*self.0;
        if at < *cluster {
            let start = bare.get(at as usize..).unwrap_or_default();
            let there = start.len().min(buf.len());
            buf[..there].copy_from_slice(&start[..there]);
            buf[there..].fill(0);
            return Ok(());
        }
        if at >= file.len() {
            return Err(
                Error::malformed("a table or packed data lies outside the file")
                    .at_path(file.path())
                    .at_offset(at),
            );
        }
        file.read_at(buf, at)?;
        match &self.0.order {
            Some(_) => self.order()?.check_table(file, buf, at),
            None => Ok(()),
        }
    }
}

impl Storage for Shown {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.file.len())
    }

    unsafe fn pure_readv(&self, bufv: IoVectorMut<'_>, offset: u64) -> io::Result<()> {
        let mut at = offset;
        for mut part in bufv.into_inner() {
            self.read(&mut part, at).map_err(io::Error::other)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    unsafe fn pure_writev(&self, bufv: IoVector<'_>, offset: u64) -> io::Result<()> {
        let mut order = self.order().map_err(io::Error::other)?;
        let mut at = offset;
        for part in bufv.into_inner() {
            let written = order.write(&self.0.file, &part, at);
            written.map_err(io::Error::other)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.file.sync().map_err(io::Error::other)
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.0.helper
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shown").field(&self.0.file.path()).finish()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.file.path())
    }
}
