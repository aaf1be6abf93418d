//! What tests have put in place for folders, and finding what concerns a file.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Values of which there are seldom any: as long as there is none, nobody looks for one.
#[derive(Debug)]
pub(super) struct Registry<T> {
    count: AtomicUsize,
    values: RwLock<Vec<Arc<T>>>,
}

impl<T> Registry<T> {
    pub(super) const fn new() -> Registry<T> {
        Registry {
            count: AtomicUsize::new(0),
            values: RwLock::new(Vec::new()),
        }
    }

    pub(super) fn add(&self, value: &Arc<T>) {
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        values.push(Arc::clone(value));
        self.count.store(values.len(), Ordering::Release);
    }

    pub(super) fn remove(&self, value: &Arc<T>) {
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        values.retain(|other| !Arc::ptr_eq(other, value));
        self.count.store(values.len(), Ordering::Release);
    }

    /// The first one that is it.
    pub(super) fn find(&self, is_it: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let values = self.values.read().unwrap_or_else(PoisonError::into_inner);
        values.iter().find(|value| is_it(value)).cloned()
    }
}
