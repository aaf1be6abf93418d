//! A table of 32-bit entries in an image file, read page by page as it is asked for and written back when flushed. What
//! an entry means is the layout's affair.

use crate::Result;
use crate::file::ImageFile;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Entries of a page: those of a VMDK grain table.
pub(crate) const PER_PAGE: u64 = 512;
/// Pages that are kept: 8 MiB of entries, which map 128 GiB of 64 KiB grains.
const MOST: usize = 4096;
/// Bytes of neighbouring pages that are written in one call.
const WRITE: usize = 256 << 10;

/// Where the pages of a table stand.
pub(crate) struct PageAt {
    /// Byte offset in the file.
    pub(crate) offset: u64,
    /// Byte offset of the second copy, where the format has one.
    pub(crate) mirror: Option<u64>,
    /// Entries of this page: fewer than [`PER_PAGE`] in the last one only.
    pub(crate) entries: u64,
}

/// One page in memory.
pub(crate) struct Page {
    /// `None` where the file has a hole and every entry is 0: large disks have many such pages, and they take no room.
    entries: Option<Box<[AtomicU32]>>,
    changed: AtomicBool,
}

impl Page {
    fn new(entries: Option<Box<[AtomicU32]>>) -> Page {
        Page {
            entries,
            changed: AtomicBool::new(false),
        }
    }

    /// Whether the file has a hole there: every entry is 0.
    pub(crate) fn is_hole(&self) -> bool {
        self.entries.is_none()
    }

    fn entry(&self, index: u64) -> Option<&AtomicU32> {
        let index = usize::try_from(index).ok()?;
        self.entries.as_ref()?.get(index)
    }

    /// The entry at this index of the page; 0 behind its end.
    pub(crate) fn get(&self, index: u64) -> u32 {
        self.entry(index).map_or(0, |e| e.load(Ordering::Acquire))
    }

    fn set(&self, index: u64, value: u32) {
        if let Some(entry) = self.entry(index) {
            entry.store(value, Ordering::Release);
            self.changed.store(true, Ordering::Release);
        }
    }

    fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        let words = self.entries.iter().flatten();
        let words = words.map(|e| e.load(Ordering::Acquire));
        words.flat_map(u32::to_le_bytes)
    }
}

/// The pages that are in memory. Those that were changed stay until they are written.
#[derive(Default)]
pub(crate) struct Table {
    pages: RwLock<HashMap<u64, Arc<Page>>>,
    /// A hole of the file, as it was before anything was written since.
    hole: Mutex<Range<u64>>,
}

impl Table {
    /// A page, from memory or from the file. `at` says where it stands.
    pub(crate) fn page(&self, file: &ImageFile, page: u64, at: &PageAt) -> Result<Arc<Page>> {
        if let Some(found) = self.kept(page) {
            return Ok(found);
        }
        let read = Arc::new(Page::new(match self.lies_in_hole(file, at)? {
            true => None,
            false => Some(read(file, at)?),
        }));
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        if pages.len() >= MOST {
            forget_some(&mut pages);
        }
        // Another thread may have read it, and changed it, meanwhile.
        Ok(pages.entry(page).or_insert(read).clone())
    }

    fn kept(&self, page: u64) -> Option<Arc<Page>> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        pages.get(&page).cloned()
    }

    /// Whether the file has a hole where the page stands.
    fn lies_in_hole(&self, file: &ImageFile, at: &PageAt) -> Result<bool> {
        let mut hole = self.hole.lock().unwrap_or_else(PoisonError::into_inner);
        if !hole.contains(&at.offset) {
            let data = file.next_data(at.offset)?;
            *hole = at.offset..data.unwrap_or_else(|| file.len());
        }
        Ok(at.offset + len_of(at) as u64 <= hole.end)
    }

    /// Changes an entry of a page.
    pub(crate) fn set(
        &self,
        file: &ImageFile,
        page: u64,
        at: &PageAt,
        index: u64,
        value: u32,
    ) -> Result<()> {
        loop {
            self.page(file, page, at)?;
            // Under the lock no page is forgotten: what is set here is what the next reader finds.
            let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
            match pages.get(&page) {
                Some(found) if !found.is_hole() => {
                    found.set(index, value);
                    return Ok(());
                }
                Some(_) => {
                    drop(pages);
                    self.fill_hole(page, at);
                }
                None => {}
            }
        }
    }

    /// Gives entries to a page that lies in a hole.
    fn fill_hole(&self, page: u64, at: &PageAt) {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = pages.get_mut(&page).filter(|found| found.is_hole()) {
            let zeros = std::iter::repeat_with(AtomicU32::default);
            *found = Arc::new(Page::new(Some(zeros.take(len_of(at) / 4).collect())));
        }
    }

    /// How many pages wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let changed = pages.values().filter(|p| p.changed.load(Ordering::Acquire));
        changed.count()
    }

    /// Writes the pages that were changed, in order, neighbours together. `at` says where each stands.
    pub(crate) fn write_back(
        &self,
        file: &ImageFile,
        at: impl Fn(u64) -> Result<PageAt>,
    ) -> Result<()> {
        *self.hole.lock().unwrap_or_else(PoisonError::into_inner) = 0..0;
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let mut changed: Vec<_> = pages
            .iter()
            .filter(|(_, page)| page.changed.load(Ordering::Acquire))
            .collect();
        changed.sort_unstable_by_key(|(number, _)| **number);
        let mut run = Run::default();
        for (number, page) in &changed {
            let place = at(**number)?;
            if !run.goes_on_at(&place) {
                run.write(file)?;
                run.start = Some((place.offset, place.mirror));
            }
            run.bytes.extend(page.bytes());
        }
        run.write(file)?;
        for (_, page) in changed {
            page.changed.store(false, Ordering::Release);
        }
        Ok(())
    }
}

/// Bytes of a page.
fn len_of(at: &PageAt) -> usize {
    (at.entries.min(PER_PAGE) * 4) as usize
}

fn read(file: &ImageFile, at: &PageAt) -> Result<Box<[AtomicU32]>> {
    let mut bytes = vec![0; len_of(at)];
    file.read_exact_at(&mut bytes, at.offset)?;
    let (words, _) = bytes.as_chunks::<4>();
    let words = words.iter().map(|word| u32::from_le_bytes(*word).into());
    Ok(words.collect())
}

/// Drops a quarter of the pages that nothing was changed in.
fn forget_some(pages: &mut HashMap<u64, Arc<Page>>) {
    let mut left = MOST / 4;
    pages.retain(|_, page| {
        let keep = left == 0 || page.changed.load(Ordering::Acquire);
        left -= usize::from(!keep);
        keep
    });
}

/// Neighbouring pages on their way to the file.
#[derive(Default)]
struct Run {
    start: Option<(u64, Option<u64>)>,
    bytes: Vec<u8>,
}

impl Run {
    fn goes_on_at(&self, place: &PageAt) -> bool {
        let len = self.bytes.len() as u64;
        self.bytes.len() < WRITE
            && self.start.is_some_and(|(offset, mirror)| {
                offset + len == place.offset && mirror.map(|m| m + len) == place.mirror
            })
    }

    fn write(&mut self, file: &ImageFile) -> Result<()> {
        if let Some((offset, mirror)) = self.start.take() {
            // A writer that dies between the two leaves a second copy that is behind, never ahead.
            for at in [offset].into_iter().chain(mirror) {
                file.write_all_at(&self.bytes, at)?;
            }
        }
        self.bytes.clear();
        Ok(())
    }
}
