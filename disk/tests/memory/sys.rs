//! An allocator that counts bytes: those of each thread, and those of all. The one place of these tests with `unsafe`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// What the thread holds, less what it freed of others', and the most of that. Without a destructor, so that it can be
    /// used while a thread ends.
    static HERE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn taken(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
    let _ = HERE.try_with(|here| {
        let (now, peak) = here.get();
        let now = now.saturating_add_unsigned(bytes);
        here.set((now, peak.max(now)));
    });
}

fn given_back(bytes: usize) {
    NOW.fetch_sub(bytes, Ordering::Relaxed);
    let _ = HERE.try_with(|here| {
        let (now, peak) = here.get();
        here.set((now.saturating_sub_unsigned(bytes), peak));
    });
}

// SAFETY: every call goes to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        given_back(layout.size());
        // SAFETY: as above; `at` came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match size.checked_sub(layout.size()) {
            Some(more) => taken(more),
            None => given_back(layout.size() - size),
        }
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// The most that this thread held at once while `work` ran, beyond what it had before.
pub(crate) fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HERE.with(|here| {
        let (now, _) = here.get();
        here.set((now, now));
        now
    });
    let done = work();
    let (_, peak) = HERE.with(Cell::get);
    (done, usize::try_from(peak - before).unwrap_or(0))
}

/// The most that all threads ever held at once.
pub(crate) fn peak() -> usize {
    PEAK.load(Ordering::Relaxed)
}
