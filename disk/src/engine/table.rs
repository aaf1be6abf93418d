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
            forget(&mut pages, MOST / 4);
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

/// Drops so many of the pages that nothing was changed in.
fn forget(pages: &mut HashMap<u64, Arc<Page>>, number: usize) {
    let mut left = number;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const AT: PageAt = PageAt {
        offset: 4096,
        mirror: Some(8192),
        entries: 3,
    };

    fn page(words: &[u32]) -> Page {
        let words = words.iter().map(|word| AtomicU32::new(*word));
        Page::new(Some(words.collect()))
    }

    #[test]
    fn a_page_has_its_entries_and_zeros_behind_them() {
        let page = page(&[7, 8, 9]);
        page.set(1, 0x0102_0304);
        page.set(3, 5);
        page.set(u64::MAX, 5);
        let found: Vec<_> = [0, 1, 2, 3, u64::MAX].map(|n| page.get(n)).into();
        assert_eq!(found, [7, 0x0102_0304, 9, 0, 0]);
        let bytes: Vec<_> = page.bytes().collect();
        assert_eq!(bytes, [7, 0, 0, 0, 4, 3, 2, 1, 9, 0, 0, 0]);
    }

    #[test]
    fn a_page_in_a_hole_gets_entries_once() {
        let table = Table::default();
        let hole = Arc::new(Page::new(None));
        assert!(hole.is_hole() && hole.get(2) == 0 && hole.bytes().count() == 0);
        table.pages.write().unwrap().insert(4, hole);
        table.fill_hole(4, &AT);
        let filled = table.kept(4).unwrap();
        assert!(!filled.is_hole() && filled.bytes().count() == 12);
        filled.set(2, 6);
        table.fill_hole(4, &AT);
        table.fill_hole(5, &AT);
        assert_eq!(table.kept(4).unwrap().get(2), 6);
        assert!(table.kept(5).is_none());
        assert_eq!(table.waiting(), 1);
    }

    #[test]
    fn pages_are_changed_and_read_by_several_threads() {
        let table = Table::default();
        let pages = (0..4).map(|n| (n, Arc::new(Page::new(None))));
        table.pages.write().unwrap().extend(pages);
        std::thread::scope(|scope| {
            for thread in 0..3_u32 {
                let table = &table;
                scope.spawn(move || {
                    for number in 0..4 {
                        table.fill_hole(number, &AT);
                        let page = table.kept(number).unwrap();
                        page.set(u64::from(thread), thread + 1);
                        assert_eq!(page.get(u64::from(thread)), thread + 1);
                    }
                });
            }
        });
        for number in 0..4 {
            let page = table.kept(number).unwrap();
            assert_eq!([0, 1, 2].map(|n| page.get(n)), [1, 2, 3]);
        }
        assert_eq!(table.waiting(), 4);
    }

    #[test]
    fn of_many_pages_the_unchanged_ones_are_forgotten() {
        let pages = (0..20).map(|n| (n, Arc::new(page(&[0]))));
        let mut pages: HashMap<_, _> = pages.collect();
        pages.values().take(5).for_each(|page| page.set(0, 1));
        let changed = |pages: &HashMap<_, Arc<Page>>| {
            let changed = pages.values().filter(|page| page.get(0) == 1);
            changed.count()
        };
        forget(&mut pages, 8);
        assert_eq!((pages.len(), changed(&pages)), (12, 5));
        forget(&mut pages, 8);
        assert_eq!((pages.len(), changed(&pages)), (5, 5));
    }

    #[test]
    fn pages_are_written_together_where_both_copies_go_on() {
        let run = Run {
            start: Some((4096, Some(8192))),
            bytes: vec![0; 12],
        };
        let at = |offset, mirror| PageAt {
            offset,
            mirror,
            entries: 3,
        };
        assert!(run.goes_on_at(&at(4108, Some(8204))));
        assert!(!run.goes_on_at(&at(4108, Some(8205))));
        assert!(!run.goes_on_at(&at(4108, None)));
        assert!(!run.goes_on_at(&at(4096, Some(8204))));
        assert!(!Run::default().goes_on_at(&at(0, None)));
    }
}
