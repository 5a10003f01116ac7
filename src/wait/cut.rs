//! What becomes of a wait that is ended from outside: by a cancel, or by a limit around it.
//!
//! ```text
//!                   an error can be returned        none can
//!   cancel          unwinds to the root             unwinds to the root
//!   timeout         TimedOut                        unwinds to its `timeout`
//!   a flag          unwinds to whose it is          unwinds to whose it is
//!
//!   panic = "abort"
//!   cancel          an error                        (is not cut, or just returns)
//!   timeout         TimedOut                        is not cut
//!   a flag          is not cut                      is not cut
//! ```
//!
//! Flags are those of a `try_scope` that has failed, and of a cancelled token.

use crate::current;
use crate::limit::{self, Interruption};
use crate::time::Elapsed;
use crate::unwind;
use crate::worker::Worker;

/// Ends a wait that has no error to return: unwinds, past the panic hook, with the payload
/// [`crate::Cancelled`] to the root of the coroutine, or [`Elapsed`] to a `timeout`.
///
/// With `panic = "abort"` there is no unwinding; callers keep themselves from being cut there.
pub(crate) fn raise_cancelled() -> ! {
    match interruption_here(false) {
        Interruption::Cancel | Interruption::Flagged => unwind::unwind(Box::new(crate::Cancelled)),
        Interruption::Elapsed => unwind::unwind(Box::new(Elapsed::new())),
    }
}

/// Ends a wait that can return an error: by that for a limit; for a cancel by unwinding, or where
/// nothing unwinds by an error too.
pub(crate) fn cancelled() -> std::io::Error {
    match interruption_here(true) {
        Interruption::Elapsed => Elapsed::new().into(),
        _ if cfg!(panic = "unwind") => raise_cancelled(),
        Interruption::Cancel | Interruption::Flagged => std::io::Error::other(crate::Cancelled),
    }
}

/// What it was that has just ended a wait.
fn interruption_here(is_io: bool) -> Interruption {
    match current::worker() {
        Some(worker) => {
            limit::interruption(worker.current(), is_io).unwrap_or(Interruption::Cancel)
        }
        None => limit::interruption_of_thread(is_io).unwrap_or(Interruption::Elapsed),
    }
}

/// Whether it is a limit that has passed, and no cancel, that ends waits now.
pub(crate) fn is_elapsed() -> bool {
    let interruption = match current::worker() {
        Some(worker) => limit::interruption(worker.current(), false),
        None => limit::interruption_of_thread(false),
    };
    matches!(interruption, Some(Interruption::Elapsed | Interruption::Flagged))
}

/// Whether the calling coroutine has been cancelled, and nothing holds that back.
pub(crate) fn is_cancelled() -> bool {
    let interruption =
        current::worker().and_then(|worker| limit::interruption(worker.current(), false));
    interruption == Some(Interruption::Cancel)
}

/// Whether a pending cancel, or a limit that has passed, may unwind here and now.
pub(crate) fn is_cancellable(worker: &Worker) -> bool {
    is_cut(worker, false)
}

/// As [`is_cancellable`], for a call that can fail.
#[inline]
pub(crate) fn is_io_cut(worker: &Worker) -> bool {
    is_cut(worker, true)
}

#[inline]
fn is_cut(worker: &Worker, is_io: bool) -> bool {
    let me = worker.current();
    me.signals.is_interrupted()
        && limit::interruption(me, is_io).is_some()
        && !worker.may_be_unwinding()
}
