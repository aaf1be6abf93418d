//! Ctrl-C and the polite signals: long work is cancelled and comes to a consistent end.
//!
//! What cancelling means for each kind of work is the library's affair.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use stratavm::CancelToken;

/// The status of a program that SIGINT ended, as shells count it.
const INTERRUPTED: i32 = 130;

/// Cancels `token` at the first SIGINT, SIGTERM or SIGHUP (Windows: Ctrl-C, Ctrl-Break, closing of
/// the console); the second ends the program at once.
pub(crate) fn cancel(token: CancelToken) {
    let asked = AtomicBool::new(false);
    let installed = ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::AcqRel) {
            process::exit(INTERRUPTED);
        }
        token.cancel();
    });
    if let Err(error) = installed {
        // Without it a signal ends the program at once, and machines end with it.
        tracing::warn!(%error, "signals are not handled");
    }
}
