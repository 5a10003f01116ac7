//! The workers of this process: who holds which index, and the mailbox that goes with it.
//!
//! An index is taken by a worker when it starts and given back when it ends; its mailbox and the
//! two descriptors in it stay for the life of the process and serve the next worker. Two things
//! outlive a worker and need them: a thread that read the worker's mailbox just before the end
//! may still push to it and ring, and the registrations in its epoll stay until their sockets
//! are closed (a closed descriptor number would by then be somebody else's). So 256 workers at a
//! time cost at most 512 descriptors, once.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::doorbell::Doorbell;
use crate::mailbox::{MAX_WORKERS, Mailbox};

static MAILBOXES: [OnceLock<Mailbox>; MAX_WORKERS] = [const { OnceLock::new() }; MAX_WORKERS];

static INDICES: Mutex<Indices> = Mutex::new(Indices { used_up_to: 0, free: Vec::new() });

struct Indices {
    /// Every index below has a mailbox.
    used_up_to: usize,
    free: Vec<usize>,
}

/// `used_up_to`, for a fork handler, which can take no lock.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// In a forked child: the indices below this are the parent's. Their doorbells and epolls are
/// open here too, but they are the parent's very own.
static INHERITED: AtomicUsize = AtomicUsize::new(0);

/// Takes an index for a new worker. Its inbox may hold blocks, and its doorbell a ring, left by
/// the worker before.
pub(crate) fn claim() -> io::Result<&'static Mailbox> {
    let mut indices = INDICES.lock().unwrap_or_else(PoisonError::into_inner);
    let inherited = INHERITED.load(Ordering::Relaxed);
    indices.free.retain(|&index| index >= inherited);
    if let Some(index) = indices.free.pop() {
        return Ok(mailbox(index).expect("a free index has a mailbox"));
    }
    let index = indices.used_up_to;
    if index == MAX_WORKERS {
        return Err(io::Error::other(
            "this process has 256 workers, which is the limit: ask for fewer, or drop a runtime",
        ));
    }
    let mailbox = Mailbox::new(index, Doorbell::new()?);
    indices.used_up_to += 1;
    MADE.store(indices.used_up_to, Ordering::Relaxed);
    Ok(MAILBOXES[index].get_or_init(|| mailbox))
}

/// Gives an index back. The worker is awake and touches the mailbox no more.
pub(crate) fn give_back(mailbox: &'static Mailbox) {
    let mut indices = INDICES.lock().unwrap_or_else(PoisonError::into_inner);
    debug_assert!(!indices.free.contains(&mailbox.index()), "given back twice");
    indices.free.push(mailbox.index());
}

/// In a child just forked: leaves all mailboxes to the parent. One atomic store, as befits a
/// process whose locks may be held by threads it does not have.
pub(crate) fn leave_to_parent() {
    INHERITED.store(MADE.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// Whether the mailbox of this index is the parent's, and not for this forked child to use.
pub(crate) fn is_inherited(index: usize) -> bool {
    index < INHERITED.load(Ordering::Relaxed)
}

/// The mailbox of an index that some worker has or had.
pub(crate) fn mailbox(index: usize) -> Option<&'static Mailbox> {
    MAILBOXES[index].get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_back_with_the_same_mailbox() {
        let mine = claim().unwrap();
        assert!(std::ptr::eq(mine, mailbox(mine.index()).unwrap()));
        let other = claim().unwrap();
        assert_ne!(mine.index(), other.index());
        give_back(mine);
        give_back(other);
    }
}
