//! What is known of a socket's unread data without asking the kernel.

use std::sync::atomic::Ordering;

use super::IoHandle;
use crate::driver::Driver;
use crate::worker::Worker;

impl IoHandle {
    /// Whether nothing is there to be read, no end either. Under epoll as of the worker's last
    /// turn; under the ring as of the last read, if that was one whose completion
    /// [tells of an end](IoHandle::next_read_tells_of_an_end). False if it is not known.
    ///
    /// Under the ring only of TCP: of others a completion does not say what it has left.
    pub(crate) fn is_known_drained(&self, worker: &Worker) -> bool {
        match &worker.driver {
            Driver::Uring(_) => !self.read.inline.load(Ordering::Relaxed),
            Driver::Epoll(..) => self.source().is_some_and(|source| {
                source.is_registered(worker.mailbox.index()) && !source.read.snapshot().is_ready()
            }),
        }
    }

    /// Whether a read that comes now will also know of an end behind the data: an event tells of
    /// it, and a completion, but not an inline attempt under the ring.
    pub(crate) fn next_read_tells_of_an_end(&self, worker: &Worker) -> bool {
        match &worker.driver {
            Driver::Uring(_) => !self.read.inline.load(Ordering::Relaxed),
            Driver::Epoll(..) => true,
        }
    }
}
