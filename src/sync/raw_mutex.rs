//! A mutex without its data: who holds it, who waits for it, and who is next.
//!
//! ```text
//!             lock                       another locks, and queues
//!   0 ------------------> LOCKED ------------------------------------> LOCKED|QUEUED
//!     <------------------                                              |      ^   |
//!            unlock                                 unlock: the head   |      |   | unlock: the head
//!                                                 is called, to try    |      |   | has waited long:
//!                  the called one tries,        .----------------------'      |   | it has the lock
//!                  finds it taken, and          v                             |   v  (still LOCKED)
//!                  queues at the head:    QUEUED|CALLED --- anybody locks --- | --> ...
//!                                                        LOCKED|QUEUED|CALLED-'
//! ```
//!
//! Whoever comes while the lock is free may take it, even past those who wait (barging): the one
//! who unlocks is running and the one who waits is not, so a hand-over each time would make every
//! lock as slow as a switch, or as a wake-up between threads. One at a time is *called*, woken to
//! try for itself; as long as it is on its way nobody else is. It always tries, even if a cancel
//! or a timeout has come meanwhile, and so no wake-up is lost: either it has the lock, or another
//! has, and will call the next.
//!
//! Two rules bound the luck of those who wait:
//!
//! * One who has waited for [`PATIENCE`] gets the lock handed over. Its age is judged by the
//!   unlocker's idea of the time, which may be old; so a called one that finds the lock taken looks
//!   at the clock and says so itself, and an unlocker that sees one on its way again and again looks
//!   at it every few times: the called one may be a coroutine of its own worker, which it does not
//!   let run.
//! * Until then a coroutine of the unlocker's worker is called before others: that takes no system
//!   call, nor even an atomic read-modify-write.

use crate::atomics::{AtomicU32, Ordering};
use crate::clock::{self, Nanos};
use crate::wait::{Chosen, LockedQueue, Reason, Shield, Signal, WaitQueue, Waiter, recent_time};

const LOCKED: u32 = 1;
/// Somebody is in the queue, or was a moment ago.
const QUEUED: u32 = 2;
/// Somebody was taken out of the queue and has not tried yet.
const CALLED: u32 = 4;

/// How long others may get the lock before one who waits.
const PATIENCE: Nanos = 1_000_000;

/// A waiter's note is when it came; this one has been waiting for too long already.
const LONG_AGO: u64 = 0;
/// The note of a waiter that has the lock now.
const HANDED_OVER: u64 = u64::MAX;

/// How far from the head of the queue a coroutine of this worker is looked for.
const REACH: usize = 16;

/// After so many releases past one who is on its way, the head of the queue is looked at.
const RELEASES_PER_LOOK: u32 = if cfg!(loom) { 2 } else { 8 };

pub(crate) struct RawMutex {
    state: AtomicU32,
    /// Releases past one who is on its way. Written by the holder alone.
    releases: AtomicU32,
    queue: WaitQueue,
}

impl RawMutex {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> RawMutex {
        RawMutex { state: AtomicU32::new(0), releases: AtomicU32::new(0), queue: WaitQueue::new() }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> RawMutex {
        let (state, releases) = (AtomicU32::new(0), AtomicU32::new(0));
        RawMutex { state, releases, queue: WaitQueue::new() }
    }

    /// Waits for the lock. An error is never `Wake`: the wait was ended from outside.
    #[inline]
    pub(crate) fn lock(&self) -> Result<(), Signal> {
        match self.state.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => self.lock_contended(),
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        match self.state.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => true,
            Err(state) => self.take_if_free(state, 0),
        }
    }

    /// # Safety
    ///
    /// The caller holds the lock.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        let freed =
            self.state.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_ok();
        if !freed {
            self.unlock_contended();
        }
    }

    /// Takes the lock if it is free, and clears `mine` with that. `state` is what it was just now.
    fn take_if_free(&self, mut state: u32, mine: u32) -> bool {
        while state & LOCKED == 0 {
            let taken = (state | LOCKED) & !mine;
            match self.state.compare_exchange(state, taken, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    #[cold]
    fn lock_contended(&self) -> Result<(), Signal> {
        let _shield = Shield::where_nothing_unwinds();
        let mut since = recent_time();
        // CALLED, while it is this waiter's own.
        let mut mine = 0;
        loop {
            if self.take_if_free(self.state.load(Ordering::Relaxed), mine) {
                return Ok(());
            }
            if mine != 0 && clock::now().saturating_sub(since) >= PATIENCE {
                since = LONG_AGO;
            }
            let waiter = Waiter::with_note(since);
            // SAFETY: `wait` returns only when the waiter is off the queue.
            if unsafe { self.take_or_queue(&waiter, mine) } {
                return Ok(());
            }
            match self.queue.wait(&waiter, Reason::LOCK, None) {
                Signal::Wake if waiter.note() == HANDED_OVER => return Ok(()),
                Signal::Wake => mine = CALLED,
                ended => {
                    self.forget_if_empty();
                    return Err(ended);
                }
            }
        }
    }

    /// Takes the lock if it is free, else queues `waiter`: at the head, if `mine` says that it was
    /// called before.
    ///
    /// # Safety
    ///
    /// If this returns false, the waiter stays where it is until it is off the queue.
    unsafe fn take_or_queue(&self, waiter: &Waiter, mine: u32) -> bool {
        let mut queue = self.queue.lock();
        // Under the queue's lock, so that the holder either sees QUEUED, or has let go before.
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let free = state & LOCKED == 0;
            let next = (state | if free { LOCKED } else { QUEUED }) & !mine;
            match self.state.compare_exchange(state, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if free => return true,
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        // SAFETY: as the caller vouches.
        unsafe {
            if mine == 0 {
                queue.push(waiter);
            } else {
                queue.push_front(waiter);
            }
        }
        false
    }

    /// One who left the queue may have been the last.
    #[cold]
    fn forget_if_empty(&self) {
        let queue = self.queue.lock();
        if queue.is_empty() {
            self.state.fetch_and(!QUEUED, Ordering::Relaxed);
        }
    }

    #[cold]
    fn unlock_contended(&self) {
        let mut state = self.state.load(Ordering::Relaxed);
        let is_look_due = state & CALLED != 0 && self.count_release();
        while state & CALLED != 0 && !is_look_due {
            let freed = state & !LOCKED;
            match self.state.compare_exchange(state, freed, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
        let mut queue = self.queue.lock();
        // With both the lock and the queue's lock held, nobody else writes the state.
        let called = self.state.load(Ordering::Relaxed) & CALLED;
        let now = if is_look_due { clock::now() } else { recent_time() };
        let (next, after) = match choose(&mut queue, now, called != 0) {
            None => (None, called),
            Some((next, true)) => (Some(next), LOCKED | called),
            Some((next, false)) => (Some(next), CALLED),
        };
        let queued = if queue.is_empty() { 0 } else { QUEUED };
        self.state.store(after | queued, Ordering::Release);
        drop(queue);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Counts a release past one who is on its way; true if the head of the queue should be looked
    /// at this time.
    fn count_release(&self) -> bool {
        let releases = self.releases.load(Ordering::Relaxed).wrapping_add(1);
        self.releases.store(releases, Ordering::Relaxed);
        releases.is_multiple_of(RELEASES_PER_LOOK)
    }
}

/// Who is next, and whether the lock is handed over to it. If somebody is on its way already, only
/// one who has waited for long enough.
fn choose(queue: &mut LockedQueue<'_>, now: Nanos, called: bool) -> Option<(Chosen, bool)> {
    let since = queue.front()?.note();
    if now.saturating_sub(since) >= PATIENCE {
        let next = queue.pop()?;
        next.set_note(HANDED_OVER);
        return Some((next, true));
    }
    if called {
        return None;
    }
    let next = queue.pop_near(REACH).or_else(|| queue.pop())?;
    Some((next, false))
}
