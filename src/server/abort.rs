//! Notices that the peer leaves, while a handler does something else than read.
//!
//! ```text
//!   IDLE --watch--> WATCHING --the peer leaves--> FIRED: the callback runs, to its end
//!                      `--the connection goes---> ENDED: the watcher is cancelled
//! ```
//!
//! Whoever makes the last step decides whether the callback runs. The watcher is a coroutine that
//! polls a duplicate of the descriptor, so it is in nobody's way who reads. The duplicate keeps
//! the socket open until the watcher has gone, which takes its worker one turn more.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use crate::current;
use crate::io_handle::IoHandle;
use crate::runtime;
use crate::shared::{Options, Place};
use crate::thread::{self, JoinHandle};

const IDLE: u8 = 0;
const WATCHING: u8 = 1;
const FIRED: u8 = 2;
const ENDED: u8 = 3;

/// Watches for the peer's leaving, until it is dropped. See
/// [`Connection::take_watch`](super::Connection::take_watch).
pub struct AbortWatch {
    step: Arc<AtomicU8>,
    watcher: OnceLock<JoinHandle<()>>,
}

impl AbortWatch {
    pub(super) fn new() -> AbortWatch {
        AbortWatch { step: Arc::new(AtomicU8::new(IDLE)), watcher: OnceLock::new() }
    }

    /// Whether the peer was seen to leave.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.step.load(Ordering::Acquire) == FIRED
    }

    pub(super) fn has_begun(&self) -> bool {
        self.step.load(Ordering::Relaxed) != IDLE
    }

    /// Has `callback` called when the peer leaves.
    pub(super) fn watch(
        &self,
        io: &IoHandle,
        callback: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        if !advance(&self.step, IDLE, WATCHING) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "duplicate call"));
        }
        let watcher = io.try_clone().and_then(|duplicate| {
            let step = Arc::clone(&self.step);
            // On this worker: the poll is then in the same driver as the connection's other calls.
            let place = if current::worker().is_some() { Place::Here } else { Place::Anywhere };
            let options = Options { place, ..Options::new() };
            thread::spawn_on(&*runtime::here()?, options, move || {
                let left = duplicate.wait_ready(libc::POLLRDHUP, None);
                drop(duplicate);
                if left.is_ok() && advance(&step, WATCHING, FIRED) {
                    callback();
                }
            })
        });
        match watcher {
            Ok(watcher) => {
                let _ = self.watcher.set(watcher);
                Ok(())
            }
            Err(error) => {
                self.step.store(IDLE, Ordering::Relaxed);
                Err(error)
            }
        }
    }
}

fn advance(step: &AtomicU8, from: u8, to: u8) -> bool {
    step.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

impl Drop for AbortWatch {
    fn drop(&mut self) {
        if advance(&self.step, WATCHING, ENDED)
            && let Some(watcher) = self.watcher.get()
        {
            watcher.cancel();
        }
    }
}

impl fmt::Debug for AbortWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("AbortWatch");
        debug.field("is_aborted", &self.is_aborted()).finish_non_exhaustive()
    }
}
