//! A clock that can be set wrong, for tests of what must not depend on it.

use std::sync::atomic::{AtomicI64, Ordering};

static SHIFT: AtomicI64 = AtomicI64::new(0);

/// Lets this process's clock be this many seconds ahead of the host's, or behind it.
pub fn shift(seconds: i64) {
    SHIFT.store(seconds, Ordering::Relaxed);
}

pub(crate) fn shifted() -> i64 {
    SHIFT.load(Ordering::Relaxed)
}
