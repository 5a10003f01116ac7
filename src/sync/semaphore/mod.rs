//! Permits that may be taken and must be given back, in the order in which they were asked for.
//!
//! Whoever asks while others wait queues behind them, even if there are permits left for it: so a
//! request for many gets them in the end. Permits that come back are handed to the head of the
//! queue, and only once it has all that it wants are they offered to the next. A waiter that leaves
//! (a timeout, a cancel) offers what is left to those behind it.
//!
//! The count itself is [`Permits`].

mod permit;
mod permits;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use permit::{OwnedSemaphorePermit, SemaphorePermit};
use permits::{Frozen, Permits, Refused};

use crate::clock::Nanos;
use crate::wait::{self, ChosenList, LockedQueue, Reason, Shield, Signal, WaitQueue, Waiter};

/// A waiter comes with the number of permits it wants, and this is what it leaves with.
const GRANTED: u64 = u64::MAX;

/// A number of permits: so many may be out at a time, and who wants one more waits.
///
/// Permits are handed out in the order in which they were asked for, so that a request for many is
/// not starved by requests for few. Waiting allocates nothing; while nobody waits, taking and giving
/// back are one atomic exchange each. It can be made in a `static`.
///
/// ```
/// use cosocket::sync::Semaphore;
/// use cosocket::thread;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// static QUERIES: Semaphore = Semaphore::new(2);
/// static RUNNING: AtomicUsize = AtomicUsize::new(0);
///
/// let clients: Vec<_> = (0..10)
///     .map(|_| {
///         thread::spawn(|| {
///             let _permit = QUERIES.acquire().unwrap();
///             assert!(RUNNING.fetch_add(1, Ordering::SeqCst) < 2);
///             thread::yield_now();
///             RUNNING.fetch_sub(1, Ordering::SeqCst);
///         })
///     })
///     .collect();
/// clients.into_iter().for_each(|client| client.join().unwrap());
/// assert_eq!(QUERIES.available_permits(), 2);
/// ```
pub struct Semaphore {
    permits: Permits,
    queue: WaitQueue,
}

impl Semaphore {
    /// The most permits that a semaphore can be given.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    /// A semaphore with so many permits.
    ///
    /// # Panics
    ///
    /// For more than [`Semaphore::MAX_PERMITS`].
    #[must_use]
    pub const fn new(permits: usize) -> Semaphore {
        assert!(permits <= Semaphore::MAX_PERMITS, "too many permits");
        Semaphore { permits: Permits::new(permits as u64), queue: WaitQueue::new() }
    }

    /// Waits for a permit. A cancel unwinds out of the wait; one that comes together with the
    /// permit is too late for this call.
    ///
    /// # Errors
    ///
    /// When the semaphore is closed, now or while this waits.
    #[inline]
    pub fn acquire(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.acquire_many(1)
    }

    /// Waits until `count` permits can be taken together, for as long as that takes: for ever, if
    /// there never are so many. With 0 this never waits. For the rest as [`Semaphore::acquire`].
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire`].
    #[inline]
    pub fn acquire_many(&self, count: u32) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.take_ever(count)?;
        Ok(SemaphorePermit::new(self, count))
    }

    /// Waits for a permit, but not longer than `timeout`, and not less, unless it comes. One that
    /// comes together with the end of the timeout has come. A cancel unwinds.
    ///
    /// # Errors
    ///
    /// When the time is over, and when the semaphore is closed.
    ///
    /// ```
    /// use cosocket::sync::{AcquireTimeoutError, Semaphore};
    /// use std::time::Duration;
    ///
    /// let semaphore = Semaphore::new(1);
    /// let permit = semaphore.acquire_timeout(Duration::from_millis(1)).unwrap();
    /// let late = semaphore.acquire_timeout(Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(late, AcquireTimeoutError::Timeout);
    /// # drop(permit);
    /// ```
    pub fn acquire_timeout(
        &self,
        timeout: Duration,
    ) -> Result<SemaphorePermit<'_>, AcquireTimeoutError> {
        self.acquire_many_timeout(1, timeout)
    }

    /// [`Semaphore::acquire_many`] and [`Semaphore::acquire_timeout`] in one.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire_timeout`].
    pub fn acquire_many_timeout(
        &self,
        count: u32,
        timeout: Duration,
    ) -> Result<SemaphorePermit<'_>, AcquireTimeoutError> {
        self.take_within(count, timeout)?;
        Ok(SemaphorePermit::new(self, count))
    }

    /// A permit, if it can be had at once and past nobody who waits. This never waits.
    ///
    /// # Errors
    ///
    /// When there is none, or others wait for it, and when the semaphore is closed.
    #[inline]
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// As [`Semaphore::try_acquire`], for `count` permits together.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::try_acquire`].
    #[inline]
    pub fn try_acquire_many(&self, count: u32) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.try_take(count)?;
        Ok(SemaphorePermit::new(self, count))
    }

    /// As [`Semaphore::acquire`]; the permit keeps the semaphore alive, and may go anywhere.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// ```
    /// use cosocket::sync::{Arc, Semaphore};
    /// use cosocket::thread;
    ///
    /// let semaphore = Arc::new(Semaphore::new(2));
    /// let workers: Vec<_> = (0..5)
    ///     .map(|number| {
    ///         // Taken here, so that no more than two are spawned at a time.
    ///         let permit = Arc::clone(&semaphore).acquire_owned().unwrap();
    ///         thread::spawn(move || {
    ///             let _permit = permit;
    ///             number
    ///         })
    ///     })
    ///     .collect();
    /// let numbers = workers.into_iter().map(|worker| worker.join().unwrap());
    /// assert_eq!(numbers.sum::<i32>(), 10);
    /// ```
    pub fn acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.acquire_many_owned(1)
    }

    /// As [`Semaphore::acquire_many`], with an owned permit.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire`].
    pub fn acquire_many_owned(
        self: Arc<Self>,
        count: u32,
    ) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.take_ever(count)?;
        Ok(OwnedSemaphorePermit::new(self, count))
    }

    /// As [`Semaphore::acquire_many_timeout`], with an owned permit.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::acquire_timeout`].
    pub fn acquire_many_owned_timeout(
        self: Arc<Self>,
        count: u32,
        timeout: Duration,
    ) -> Result<OwnedSemaphorePermit, AcquireTimeoutError> {
        self.take_within(count, timeout)?;
        Ok(OwnedSemaphorePermit::new(self, count))
    }

    /// As [`Semaphore::try_acquire`], with an owned permit.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::try_acquire`].
    pub fn try_acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_acquire_many_owned(1)
    }

    /// As [`Semaphore::try_acquire_many`], with an owned permit.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::try_acquire`].
    pub fn try_acquire_many_owned(
        self: Arc<Self>,
        count: u32,
    ) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_take(count)?;
        Ok(OwnedSemaphorePermit::new(self, count))
    }

    /// Adds permits. Closed or not, this never waits.
    ///
    /// # Panics
    ///
    /// When more than [`Semaphore::MAX_PERMITS`] would be left.
    pub fn add_permits(&self, count: usize) {
        let most = Semaphore::MAX_PERMITS as u64;
        let left = self.permits.left();
        assert!(count as u64 <= most && left <= most - count as u64, "too many permits");
        self.give(count as u64);
    }

    /// Takes up to `count` of the permits that are left away for good; how many. Never waits.
    pub fn forget_permits(&self, count: usize) -> usize {
        let queue = self.queue.lock();
        let mut frozen = self.permits.freeze();
        let forgotten = frozen.left.min(count as u64);
        frozen.left -= forgotten;
        self.permits.thaw(frozen, queue.is_empty());
        forgotten as usize
    }

    /// How many permits are left; others may take or return some at any time.
    #[must_use]
    pub fn available_permits(&self) -> usize {
        self.permits.left() as usize
    }

    /// How many wait for permits: each for one or for several. It takes as long as they are many.
    ///
    /// OpenResty's `count` is [`available_permits`](Semaphore::available_permits) less this.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.lock().count()
    }

    /// Ends all waits for permits, now and later, with an error. Permits that are out stay valid.
    pub fn close(&self) {
        let mut queue = self.queue.lock();
        let frozen = self.permits.freeze();
        let refused = queue.take_all();
        self.permits.thaw(Frozen { is_closed: true, ..frozen }, true);
        drop(queue);
        refused.wake();
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }

    #[inline]
    fn try_take(&self, count: u32) -> Result<(), TryAcquireError> {
        // None are wanted: then nobody is passed.
        if count == 0 && !self.is_closed() {
            return Ok(());
        }
        self.permits.try_take(u64::from(count)).map_err(|refused| match refused {
            Refused::Closed => TryAcquireError::Closed,
            Refused::Short => TryAcquireError::NoPermits,
        })
    }

    #[inline]
    fn take_ever(&self, count: u32) -> Result<(), AcquireError> {
        match self.try_take(count) {
            Ok(()) => Ok(()),
            Err(TryAcquireError::Closed) => Err(AcquireError(())),
            Err(TryAcquireError::NoPermits) => {
                self.take_queued(count, None).map_err(|_| AcquireError(()))
            }
        }
    }

    fn take_within(&self, count: u32, timeout: Duration) -> Result<(), AcquireTimeoutError> {
        match self.try_take(count) {
            Ok(()) => Ok(()),
            Err(TryAcquireError::Closed) => Err(AcquireTimeoutError::Closed),
            Err(TryAcquireError::NoPermits) => {
                self.take_queued(count, Some(wait::deadline_after(timeout)))
            }
        }
    }

    #[cold]
    fn take_queued(&self, count: u32, deadline: Option<Nanos>) -> Result<(), AcquireTimeoutError> {
        let _shield = Shield::where_nothing_unwinds();
        let wanted = u64::from(count);
        let waiter = Waiter::with_note(wanted);
        let mut queue = self.queue.lock();
        let mut frozen = self.permits.freeze();
        let is_closed = frozen.is_closed;
        if is_closed || (queue.is_empty() && frozen.left >= wanted) {
            if !is_closed {
                frozen.left -= wanted;
            }
            self.permits.thaw(frozen, queue.is_empty());
            return if is_closed { Err(AcquireTimeoutError::Closed) } else { Ok(()) };
        }
        // SAFETY: the waiter stays in this frame, and the wait below returns only when it is off
        // the queue.
        unsafe { queue.push(&waiter) };
        self.permits.thaw(frozen, false);
        drop(queue);

        // It may have been in the way of those behind it.
        let mut freed = ChosenList::new();
        let leave = |queue: &mut LockedQueue<'_>| freed = self.hand_out(queue, 0);
        let signal = self.queue.wait_or_leave(&waiter, Reason::PERMITS, deadline, leave);
        freed.wake();
        match signal {
            Signal::Wake if waiter.note() == GRANTED => Ok(()),
            Signal::Wake => Err(AcquireTimeoutError::Closed),
            Signal::TimedOut => Err(AcquireTimeoutError::Timeout),
            Signal::Cancelled => wait::raise_cancelled(),
        }
    }

    #[inline]
    fn give(&self, count: u64) {
        if !self.permits.give(count) {
            self.give_queued(count);
        }
    }

    #[cold]
    fn give_queued(&self, count: u64) {
        let mut queue = self.queue.lock();
        let chosen = self.hand_out(&mut queue, count);
        drop(queue);
        chosen.wake();
    }

    /// Adds `count` permits and hands out what is left, to as many from the head of the queue as
    /// get all that they want.
    fn hand_out(&self, queue: &mut LockedQueue<'_>, count: u64) -> ChosenList {
        let mut frozen = self.permits.freeze();
        frozen.left = frozen.left.saturating_add(count);
        let mut chosen = ChosenList::new();
        while let Some(wanted) = queue.front().map(Waiter::note)
            && wanted <= frozen.left
            && let Some(head) = queue.pop()
        {
            frozen.left -= wanted;
            head.set_note(GRANTED);
            chosen.push(head);
        }
        self.permits.thaw(frozen, queue.is_empty());
        chosen
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Semaphore");
        debug.field("available_permits", &self.available_permits());
        debug.field("closed", &self.is_closed()).finish()
    }
}

/// The semaphore is closed: [`Semaphore::acquire`] got no permit and no call will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcquireError(());

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("semaphore closed")
    }
}

impl Error for AcquireError {}

/// Why [`Semaphore::try_acquire`] got no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAcquireError {
    /// The semaphore is closed.
    Closed,
    /// Too few permits are left, or others wait for them.
    NoPermits,
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryAcquireError::Closed => "semaphore closed",
            TryAcquireError::NoPermits => "no permits available",
        })
    }
}

impl Error for TryAcquireError {}

/// Why [`Semaphore::acquire_timeout`] got no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireTimeoutError {
    /// The semaphore is closed.
    Closed,
    /// The time is over.
    Timeout,
}

impl fmt::Display for AcquireTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AcquireTimeoutError::Closed => "semaphore closed",
            AcquireTimeoutError::Timeout => "timed out waiting for permits",
        })
    }
}

impl Error for AcquireTimeoutError {}
