//! A channel that keeps only the latest value: for configuration, state, progress.
//!
//! ```text
//!   send -> waits for the value to itself -> writes -> version + 1 -> wakes who waits for a change
//!                                             |
//!   borrow -> shares the value, any number at a time
//! ```
//!
//! A [`Receiver`] remembers the version it has seen; [`Receiver::changed`] waits for another one.
//! Values that come and go between two looks are not seen, and versions never go back.
//!
//! The value is borrowed in place, behind a fair semaphore of which a [`Ref`] holds one permit and
//! a sender all. So a [`Ref`] may be held across a wait, but a sender waits for it to go; and one
//! who sends, or borrows again, while it holds a `Ref` of the same channel may wait for itself.
//!
//! ```
//! use cosocket::sync::watch;
//! use cosocket::thread;
//!
//! let (sender, mut receiver) = watch::channel("starting");
//! let watcher = thread::spawn(move || {
//!     let mut seen = Vec::new();
//!     while receiver.changed().is_ok() {
//!         seen.push(*receiver.borrow_and_update());
//!     }
//!     seen
//! });
//! sender.send("running").unwrap();
//! sender.send("stopping").unwrap();
//! drop(sender);
//! // It may have missed "running", but not what came last.
//! assert_eq!(watcher.join().unwrap().last(), Some(&"stopping"));
//! ```

use std::cell::UnsafeCell;
use std::fmt;
use std::mem;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError};

use super::{Semaphore, SemaphorePermit, begin_call};
use crate::clock::Nanos;
use crate::wait::{self, Reason, WaitQueue};

/// A channel whose value is `value` until something is sent. The receiver counts it as seen.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

/// The half that sets the value. Clones share the channel.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The half that looks at the value and waits for another. Clones go on from the same version.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: Version,
}

struct Shared<T> {
    /// One permit to look at the value, all of them to change it.
    access: Semaphore,
    value: UnsafeCell<T>,
    state: AtomicU64,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    /// Receivers who wait for a change.
    changed: WaitQueue,
    /// Senders who wait for the last receiver to go.
    vacated: WaitQueue,
}

// SAFETY: the value is shared by those who hold a permit and changed, moved or dropped by one who
// holds all; on any thread.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

const ALL_PERMITS: u32 = u32::MAX;

/// How many values have been sent; what `Shared::state` counts, above the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version(u64);

/// `Shared::state`: the last sender is gone.
const CLOSED: u64 = 1;
const ONE_VERSION: u64 = 2;

impl<T> Shared<T> {
    fn state(&self) -> (Version, bool) {
        let state = self.state.load(Ordering::Acquire);
        (Version(state / ONE_VERSION), state & CLOSED != 0)
    }

    fn version(&self) -> Version {
        self.state().0
    }

    /// Whether there is a version other than `seen`; an error when there will be none.
    fn has_changed(&self, seen: Version) -> Result<bool, RecvError> {
        match self.state() {
            (version, _) if version != seen => Ok(true),
            (_, true) => Err(RecvError),
            (_, false) => Ok(false),
        }
    }

    fn wait_changed(&self, seen: Version, deadline: Option<Nanos>) {
        let over = || self.has_changed(seen) != Ok(false);
        self.changed.wait_until(over, Reason::CHANNEL, deadline);
    }

    fn access(&self, permits: u32) -> SemaphorePermit<'_> {
        self.access.acquire_many(permits).expect("never closed")
    }

    /// Shares the value. The version cannot change meanwhile.
    fn borrow(&self, seen: Version) -> Ref<'_, T> {
        let permit = self.access(1);
        // SAFETY: our permit keeps those who would change it away.
        let value = unsafe { &*self.value.get() };
        Ref { value, has_changed: self.version() != seen, _permit: permit }
    }

    /// Changes the value; if `change` says that it did, the change is made known.
    fn change(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let permit = self.access(ALL_PERMITS);
        // SAFETY: we hold all permits, so nobody else has a reference.
        let changed = change(unsafe { &mut *self.value.get() });
        if changed {
            // Before the permits go back: who looks at the new value finds the new version.
            self.state.fetch_add(ONE_VERSION, Ordering::Release);
        }
        drop(permit);
        if changed {
            self.changed.wake_all();
        }
        changed
    }
}

impl<T> Sender<T> {
    /// A channel without a receiver yet; see [`Sender::subscribe`].
    #[must_use]
    pub fn new(value: T) -> Sender<T> {
        Sender {
            shared: Arc::new(Shared {
                access: Semaphore::new(ALL_PERMITS as usize),
                value: UnsafeCell::new(value),
                state: AtomicU64::new(0),
                senders: AtomicUsize::new(1),
                receivers: AtomicUsize::new(0),
                changed: WaitQueue::new(),
                vacated: WaitQueue::new(),
            }),
        }
    }

    /// Sets the value and wakes the receivers. Waits while anybody has borrowed the value; a cancel
    /// unwinds out of that, and nothing is sent.
    ///
    /// # Errors
    ///
    /// When there is no receiver; the value is in the error, and that of the channel is unchanged
    /// ([`Sender::send_replace`] changes it all the same).
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.receiver_count() == 0 {
            return Err(SendError(value));
        }
        self.send_replace(value);
        Ok(())
    }

    /// As [`Sender::send`], but whether or not there is a receiver, and returns the value that was
    /// there before.
    ///
    /// ```
    /// let sender = cosocket::sync::watch::Sender::new(1);
    /// assert_eq!(sender.send_replace(2), 1);
    /// assert_eq!(*sender.subscribe().borrow(), 2);
    /// ```
    pub fn send_replace(&self, mut value: T) -> T {
        self.send_modify(|current| mem::swap(current, &mut value));
        value
    }

    /// Changes the value in place and wakes the receivers; whether or not there is one. Waits as
    /// [`Sender::send`].
    ///
    /// If `modify` panics, or waits and is cancelled, the value stays as it was left and nobody is
    /// woken. It must not touch the channel, for it would wait for itself.
    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    /// As [`Sender::send_modify`], but wakes nobody, and counts as no new value, if `modify`
    /// returns false. Returns what it returned.
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        self.shared.change(modify)
    }

    /// The value now. Waits while a sender changes it; a cancel unwinds out of that.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref { has_changed: false, ..self.shared.borrow(Version(0)) }
    }

    /// A new receiver, which has seen the value there is now.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver { seen: self.shared.version(), shared: Arc::clone(&self.shared) }
    }

    /// How many receivers there are.
    #[must_use]
    pub fn receiver_count(&self) -> usize {
        self.shared.receivers.load(Ordering::Acquire)
    }

    /// How many senders there are, this one among them.
    #[must_use]
    pub fn sender_count(&self) -> usize {
        self.shared.senders.load(Ordering::Relaxed)
    }

    /// Whether there is no receiver.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.receiver_count() == 0
    }

    /// Waits until there is no receiver. A cancel unwinds out of it.
    pub fn closed(&self) {
        let vacated = &self.shared.vacated;
        vacated.wait_until(|| self.is_closed(), Reason::CHANNEL, None);
    }

    /// Whether both send to the same channel.
    #[must_use]
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.state.fetch_or(CLOSED, Ordering::Release);
            self.shared.changed.wake_all();
        }
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Sender<T> {
        Sender::new(T::default())
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> Receiver<T> {
    /// The value now, which goes on to count as unseen if it is. Waits while a sender changes it; a
    /// cancel unwinds out of that.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.borrow(self.seen)
    }

    /// As [`Receiver::borrow`], and the value counts as seen.
    #[must_use]
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.borrow(self.seen);
        self.seen = self.shared.version();
        value
    }

    /// Waits until there is a value that this receiver has not seen, and counts it as seen.
    ///
    /// A cancel unwinds out of it; a change that comes together with it stays unseen, or this
    /// returns and the next wait unwinds.
    ///
    /// # Errors
    ///
    /// When all senders are gone and the last value was seen.
    pub fn changed(&mut self) -> Result<(), RecvError> {
        begin_call();
        self.shared.wait_changed(self.seen, None);
        self.catch_up().unwrap_or(Err(RecvError))
    }

    /// As [`Receiver::changed`], but for no longer than `timeout`, and no less, unless there is
    /// such a value.
    ///
    /// # Errors
    ///
    /// When the time is over, and as for [`Receiver::changed`].
    pub fn changed_timeout(&mut self, timeout: Duration) -> Result<(), RecvTimeoutError> {
        begin_call();
        self.shared.wait_changed(self.seen, Some(wait::deadline_after(timeout)));
        match self.catch_up() {
            Some(result) => result.map_err(RecvTimeoutError::from),
            None => Err(RecvTimeoutError::Timeout),
        }
    }

    /// Whether there is a value that this receiver has not seen. This never waits.
    ///
    /// # Errors
    ///
    /// As [`Receiver::changed`].
    pub fn has_changed(&self) -> Result<bool, RecvError> {
        self.shared.has_changed(self.seen)
    }

    /// Counts the value there is as unseen.
    pub fn mark_changed(&mut self) {
        // The count starts at zero and goes up, so this is no version.
        self.seen = Version(u64::MAX);
    }

    /// Counts the value there is as seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.version();
    }

    /// Waits for a value, perhaps the one there is, of which `accepts` is true, and counts it as
    /// seen. A cancel unwinds out of it.
    ///
    /// `accepts` looks at each value that is there when this is woken, not at each that is sent. It
    /// must not touch the channel, for it may wait for itself.
    ///
    /// # Errors
    ///
    /// When all senders are gone and the last value is none of those.
    ///
    /// ```
    /// use cosocket::sync::watch;
    ///
    /// let (sender, mut receiver) = watch::channel(0);
    /// let counter = cosocket::spawn(move || (1..=10).for_each(|n| sender.send(n).unwrap()));
    /// assert!(*receiver.wait_for(|&n| n >= 5).unwrap() >= 5);
    /// assert!(receiver.wait_for(|&n| n > 10).is_err());
    /// # counter.join().unwrap();
    /// ```
    pub fn wait_for(
        &mut self,
        mut accepts: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, RecvError> {
        begin_call();
        let Receiver { shared, seen } = self;
        let shared = &**shared;
        loop {
            // Closed before this look, so no other value comes after it.
            let (_, is_closed) = shared.state();
            let value = shared.borrow(*seen);
            *seen = shared.version();
            if accepts(&value) {
                return Ok(value);
            }
            drop(value);
            if is_closed {
                return Err(RecvError);
            }
            shared.wait_changed(*seen, None);
        }
    }

    /// Whether both receive from the same channel.
    #[must_use]
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Counts the value there is as seen; what `changed` is to say of it, if anything.
    fn catch_up(&mut self) -> Option<Result<(), RecvError>> {
        let (version, is_closed) = self.shared.state();
        if version != self.seen {
            self.seen = version;
            return Some(Ok(()));
        }
        is_closed.then_some(Err(RecvError))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.shared.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.vacated.wake_all();
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// The value, borrowed from the channel. While one of these lives senders wait.
pub struct Ref<'a, T> {
    value: &'a T,
    has_changed: bool,
    _permit: SemaphorePermit<'a>,
}

impl<T> Ref<'_, T> {
    /// Whether the receiver that borrowed it had not seen this value. Of a sender's, false.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.has_changed
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Ref<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ref").field("value", &self.value).finish_non_exhaustive()
    }
}
