//! A readers-writer lock without its data: who holds it, and who waits for it.
//!
//! ```text
//!                  read                          a writer comes, and queues
//!   0 <--------------------------> n readers ---------------------------------> n readers|QUEUED
//!   |    the last one unlocks                                                          | the last
//!   | write   ^                                                                        | unlocks
//!   v         | unlock                                                                 v
//!   WRITER ---'    anybody comes, and queues                unlock                   QUEUED
//!      `-----------------------------------> WRITER|QUEUED --------------------------> |
//!                                                  ^                                   | admit
//!                                                  |           the head is a writer    |
//!                                                  |-----------------------------------|
//!                     m readers|QUEUED, or 0 <-----------------------------------------'
//!                     QUEUED only if some            the head is a reader: all readers
//!                     are left in the queue          up to the next writer
//! ```
//!
//! There is one queue, and while somebody is in it, whoever comes queues too, readers as well. The
//! lock is handed over, never left for whoever is quickest. So it goes round in the order of
//! arrival, with readers who stand next to each other let in together: neither a stream of readers
//! nor one of writers can starve anybody.
//!
//! In the state QUEUED alone, nobody has the lock, and nobody can take it but [`RawRwLock::admit`],
//! which whoever has let go is about to call. One who leaves the queue (a cancel, a timeout) calls
//! it as well: it may have been the writer for whom readers behind it waited.

use crate::atomics::{AtomicU32, Ordering};
use crate::wait::{ChosenList, LockedQueue, Reason, Shield, Signal, WaitQueue, Waiter};

/// Somebody is in the queue, or was a moment ago.
const QUEUED: u32 = 1;
const WRITER: u32 = 2;
/// One reader; above the flags they are counted.
const READER: u32 = 4;
const FLAGS: u32 = READER - 1;
/// As many readers as can be counted; guards that were forgotten stay counted.
const MAX_READERS: u32 = !FLAGS;

/// What a waiter wants: its note.
const READ: u64 = 0;
const WRITE: u64 = 1;

pub(crate) struct RawRwLock {
    state: AtomicU32,
    queue: WaitQueue,
}

/// Whether a reader may enter past nobody.
fn is_readable(state: u32) -> bool {
    state & FLAGS == 0 && state < MAX_READERS
}

impl RawRwLock {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> RawRwLock {
        RawRwLock { state: AtomicU32::new(0), queue: WaitQueue::new() }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> RawRwLock {
        RawRwLock { state: AtomicU32::new(0), queue: WaitQueue::new() }
    }

    /// Waits to be let in as a reader. An error is never `Wake`: the wait was ended from outside.
    #[inline]
    pub(crate) fn read(&self) -> Result<(), Signal> {
        let state = self.state.load(Ordering::Relaxed);
        if is_readable(state)
            && self
                .state
                .compare_exchange(state, state + READER, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        {
            return Ok(());
        }
        self.read_contended()
    }

    /// Enters as a reader if nobody writes or waits.
    #[inline]
    pub(crate) fn try_read(&self) -> bool {
        let enter = |state| is_readable(state).then(|| state + READER);
        self.state.try_update(Ordering::Acquire, Ordering::Relaxed, enter).is_ok()
    }

    /// Waits to be alone in. An error is never `Wake`: the wait was ended from outside.
    #[inline]
    pub(crate) fn write(&self) -> Result<(), Signal> {
        if self.try_write() { Ok(()) } else { self.queue_for(WRITE) }
    }

    /// Enters as the writer if nobody is in or waits.
    #[inline]
    pub(crate) fn try_write(&self) -> bool {
        self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// # Safety
    ///
    /// The caller is in as a reader.
    #[inline]
    pub(crate) unsafe fn unlock_read(&self) {
        if self.state.fetch_sub(READER, Ordering::Release) == READER | QUEUED {
            self.admit();
        }
    }

    /// # Safety
    ///
    /// The caller is in as the writer.
    #[inline]
    pub(crate) unsafe fn unlock_write(&self) {
        let freed = self.state.compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed);
        if freed.is_err() {
            // Only QUEUED can have come, and that goes only where the queue is found empty.
            self.state.fetch_and(!WRITER, Ordering::Release);
            self.admit();
        }
    }

    /// The writer becomes a reader, without letting a writer in between.
    ///
    /// # Safety
    ///
    /// The caller is in as the writer.
    pub(crate) unsafe fn downgrade(&self) {
        if self.state.fetch_add(READER - WRITER, Ordering::Release) & QUEUED != 0 {
            self.admit();
        }
    }

    #[cold]
    fn read_contended(&self) -> Result<(), Signal> {
        if self.try_read() { Ok(()) } else { self.queue_for(READ) }
    }

    #[cold]
    fn queue_for(&self, wanted: u64) -> Result<(), Signal> {
        let _shield = Shield::where_nothing_unwinds();
        let waiter = Waiter::with_note(wanted);
        let mut queue = self.queue.lock();
        // Under the queue's lock, so that whoever lets go sees QUEUED, or has done so before.
        if self.enter_or_announce(wanted) {
            return Ok(());
        }
        // SAFETY: `wait` returns only when the waiter is off the queue.
        unsafe { queue.push(&waiter) };
        drop(queue);
        match self.queue.wait(&waiter, Reason::LOCK, None) {
            Signal::Wake => Ok(()),
            ended => {
                self.admit();
                Err(ended)
            }
        }
    }

    /// Enters if nobody stands in the way, else sets QUEUED. With the queue locked.
    fn enter_or_announce(&self, wanted: u64) -> bool {
        let mut entered = false;
        let _ = self.state.try_update(Ordering::Acquire, Ordering::Relaxed, |state| {
            assert!(state < MAX_READERS, "too many readers of a lock");
            let (free, mine) = match wanted {
                READ => (is_readable(state), READER),
                _ => (state == 0, WRITER),
            };
            entered = free;
            Some(if free { state + mine } else { state | QUEUED })
        });
        entered
    }

    /// Lets in from the head of the queue whoever may be, and forgets an empty queue.
    #[cold]
    fn admit(&self) {
        let mut queue = self.queue.lock();
        let admitted = self.admit_some(&mut queue);
        drop(queue);
        admitted.wake();
    }

    fn admit_some(&self, queue: &mut LockedQueue<'_>) -> ChosenList {
        let mut admitted = ChosenList::new();
        while let Some(head) = queue.front()
            && self.grant(head.note())
        {
            admitted.push(queue.pop().expect("it has a head"));
        }
        if queue.is_empty() {
            self.state.fetch_and(!QUEUED, Ordering::Relaxed);
        }
        admitted
    }

    /// Counts one in who is at the head of the queue, if it may be let in.
    fn grant(&self, wanted: u64) -> bool {
        // Acquire: what those who let go did before is seen by the one who is let in, whom the
        // wake orders after this.
        let granted =
            self.state.try_update(Ordering::Acquire, Ordering::Relaxed, |state| match wanted {
                READ => (state & WRITER == 0 && state < MAX_READERS).then(|| state + READER),
                _ => (state == QUEUED).then_some(QUEUED | WRITER),
            });
        granted.is_ok()
    }
}
