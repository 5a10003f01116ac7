//! How many permits a semaphore has left: one word, changed without a lock while nobody waits.
//!
//! ```text
//!      62 bits: permits left      QUEUED   CLOSED
//!   +---------------------------+--------+--------+
//!
//!   QUEUED clear    try_take, give        one compare-and-swap each
//!   QUEUED set      try_take refuses, so that nobody passes those who wait;
//!                   give says no: lock the queue, then
//!                     freeze -> hand permits to waiters -> thaw
//! ```
//!
//! `freeze` sets `QUEUED`, after which only the holder of the queue's lock changes the word; `thaw`
//! clears it when the queue is empty. So a permit is either in the word, or handed to somebody, or
//! with its owner: none can be given back to the word while a waiter is about to look away from it.
//!
//! `tests/loom_semaphore.rs` includes this file and models these claims.

use crate::atomics::{AtomicU64, Ordering};

/// Closed for those who ask for permits.
const CLOSED: u64 = 1 << 0;
/// Somebody waits, or the queue is being looked through.
const QUEUED: u64 = 1 << 1;
const ONE: u64 = 1 << 2;

/// What the word has room for.
const MOST: u64 = u64::MAX / ONE;

#[derive(Debug)]
pub(crate) struct Permits(AtomicU64);

/// Why permits cannot be had at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Closed,
    /// Too few are left, or others wait for them.
    Short,
}

/// The word as the holder of the queue's lock found it and is to leave it.
#[derive(Debug)]
#[must_use = "the word stays frozen until it is thawed"]
pub(crate) struct Frozen {
    pub(crate) left: u64,
    pub(crate) is_closed: bool,
}

impl Permits {
    #[cfg(not(loom))]
    pub(crate) const fn new(count: u64) -> Permits {
        Permits(AtomicU64::new(count * ONE))
    }

    #[cfg(loom)]
    pub(crate) fn new(count: u64) -> Permits {
        Permits(AtomicU64::new(count * ONE))
    }

    /// How many are left; out of date as soon as it is known.
    pub(crate) fn left(&self) -> u64 {
        self.0.load(Ordering::Relaxed) / ONE
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Takes so many, if it can be done past nobody.
    #[inline]
    pub(crate) fn try_take(&self, wanted: u64) -> Result<(), Refused> {
        // Acquire: what those did who gave the permits back is seen.
        let taken = self.0.try_update(Ordering::Acquire, Ordering::Acquire, |word| {
            let free = word & (CLOSED | QUEUED) == 0 && word / ONE >= wanted;
            free.then(|| word - wanted * ONE)
        });
        match taken {
            Ok(_) => Ok(()),
            Err(word) if word & CLOSED != 0 => Err(Refused::Closed),
            Err(_) => Err(Refused::Short),
        }
    }

    /// Gives so many back, if nobody waits. False: the caller must lock the queue and hand them
    /// out.
    #[inline]
    #[must_use]
    pub(crate) fn give(&self, count: u64) -> bool {
        // Release: what the owner did is seen by who takes them.
        let given = self.0.try_update(Ordering::Release, Ordering::Relaxed, |word| {
            let given = word + count.min(MOST - word / ONE) * ONE;
            (word & QUEUED == 0).then_some(given)
        });
        given.is_ok()
    }

    /// With the queue locked: keeps everybody else from changing the word.
    pub(crate) fn freeze(&self) -> Frozen {
        // Acquire: as in `try_take`, on behalf of those who will be handed permits.
        let word = self.0.fetch_or(QUEUED, Ordering::Acquire);
        Frozen { left: word / ONE, is_closed: word & CLOSED != 0 }
    }

    /// With the queue locked: puts the word back as `frozen` says.
    pub(crate) fn thaw(&self, frozen: Frozen, is_queue_empty: bool) {
        let queued = if is_queue_empty { 0 } else { QUEUED };
        let closed = if frozen.is_closed { CLOSED } else { 0 };
        // Release: as in `give`, for the lock's holder has acquired all before.
        self.0.store((frozen.left.min(MOST) * ONE) | queued | closed, Ordering::Release);
    }
}
