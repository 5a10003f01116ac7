//! A channel on which every receiver gets every value.
//!
//! ```text
//!                      oldest kept                      tail: where the next value goes
//!                           |                            |
//!   positions: ...  17  18  19  20  21  22  23  24  25  26
//!                       |       |                   |    |
//!         receiver A: lagged    receiver B          |    receiver C: has seen all
//!         by 1 (at 18)          at 20               at 25
//! ```
//!
//! Values lie in a ring of fixed capacity, at their position modulo that; the sender never waits
//! and overwrites the oldest. A receiver that comes for a value which has been overwritten is told
//! how many it has missed, and goes on with the oldest one kept. A slot counts the receivers that
//! are still to come: the last one takes the value away, without a clone.
//!
//! The ring is locked for a few instructions at a time. Clones and drops of values, which are the
//! user's code and may wait, happen outside of that; this is why each value is in an `Arc`.
//!
//! ```
//! use cosocket::sync::broadcast;
//! use cosocket::thread;
//!
//! let (sender, mut first) = broadcast::channel(16);
//! let mut second = sender.subscribe();
//! let reader = thread::spawn(move || (first.recv().unwrap(), first.recv().unwrap()));
//! sender.send("hello").unwrap();
//! sender.send("world").unwrap();
//! assert_eq!(reader.join().unwrap(), ("hello", "world"));
//! assert_eq!(second.recv(), Ok("hello"));
//! drop(sender);
//! assert_eq!(second.recv(), Ok("world"));
//! assert_eq!(second.recv(), Err(broadcast::RecvError::Closed));
//! ```

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use std::sync::mpsc::SendError;

use super::begin_call;
use crate::clock::Nanos;
use crate::coroutine::drop_quietly;
use crate::wait::{self, Reason, WaitQueue};

/// A channel that keeps the last `capacity` values for receivers that are behind.
///
/// # Panics
///
/// When `capacity` is 0.
///
/// ```
/// use cosocket::sync::broadcast::{self, RecvError};
///
/// let (sender, mut receiver) = broadcast::channel(2);
/// (1..=5).for_each(|number| assert_eq!(sender.send(number), Ok(1)));
/// assert_eq!(receiver.recv(), Err(RecvError::Lagged(3)));
/// assert_eq!(receiver.recv(), Ok(4));
/// assert_eq!(receiver.recv(), Ok(5));
/// ```
pub fn channel<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(capacity);
    let receiver = sender.subscribe();
    (sender, receiver)
}

/// The half that sends. Clones share the channel.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The half that receives, from its own place in the sequence of values.
///
/// Dropping it gives up the values it has not received.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The position it receives next.
    next: u64,
}

struct Shared<T> {
    ring: Mutex<Ring<T>>,
    /// A copy of the ring's tail, to be looked at without its lock.
    tail: AtomicU64,
    senders: AtomicUsize,
    /// Receivers who wait for a value.
    arrived: WaitQueue,
}

struct Ring<T> {
    slots: Box<[Slot<T>]>,
    tail: u64,
    receivers: usize,
}

struct Slot<T> {
    /// How many receivers are still to come for it.
    remaining: usize,
    value: Option<Arc<T>>,
}

/// What a receiver finds at its position.
enum Found<T> {
    Value(Arc<T>),
    Lagged(u64),
    Nothing,
}

impl<T> Ring<T> {
    fn oldest(&self) -> u64 {
        self.tail.saturating_sub(self.slots.len() as u64)
    }

    fn slot(&mut self, position: u64) -> &mut Slot<T> {
        let index = position % self.slots.len() as u64;
        &mut self.slots[index as usize]
    }

    /// Puts a value at the tail; the one that has to make room is for the caller to drop, unlocked.
    fn push(&mut self, value: Arc<T>) -> Option<Arc<T>> {
        let (tail, remaining) = (self.tail, self.receivers);
        let slot = self.slot(tail);
        slot.remaining = remaining;
        let old = slot.value.replace(value);
        self.tail += 1;
        old
    }

    /// A receiver at `next` receives; it goes on.
    fn take(&mut self, next: &mut u64) -> Found<T> {
        let oldest = self.oldest();
        if *next < oldest {
            let missed = oldest - *next;
            *next = oldest;
            return Found::Lagged(missed);
        }
        if *next == self.tail {
            return Found::Nothing;
        }
        let slot = self.slot(*next);
        slot.remaining -= 1;
        let value = if slot.remaining == 0 { slot.value.take() } else { slot.value.clone() };
        *next += 1;
        Found::Value(value.expect("kept until the last receiver has come"))
    }

    /// How many of the values are still to be received by somebody. Those are the latest: who has
    /// not come for one has not come for any after it.
    fn len(&mut self) -> usize {
        let (mut low, mut high) = (self.oldest(), self.tail);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.slot(middle).remaining == 0 {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (self.tail - low) as usize
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Ring<T>> {
        // No code of the user's runs under the lock; see `WaitQueue::lock` for poison.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a receiver in; where it begins.
    fn join(&self) -> u64 {
        let mut ring = self.lock();
        ring.receivers += 1;
        ring.tail
    }

    fn is_closed(&self) -> bool {
        // Acquire: whatever was sent before is seen.
        self.senders.load(Ordering::Acquire) == 0
    }
}

impl<T> Sender<T> {
    /// A channel without a receiver yet; see [`Sender::subscribe`].
    ///
    /// # Panics
    ///
    /// When `capacity` is 0.
    #[must_use]
    pub fn new(capacity: usize) -> Sender<T> {
        assert!(capacity > 0, "a broadcast channel keeps one value at least");
        let slots = (0..capacity).map(|_| Slot { remaining: 0, value: None }).collect();
        Sender {
            shared: Arc::new(Shared {
                ring: Mutex::new(Ring { slots, tail: 0, receivers: 0 }),
                tail: AtomicU64::new(0),
                senders: AtomicUsize::new(1),
                arrived: WaitQueue::new(),
            }),
        }
    }

    /// Sends a value to all receivers there are, and says how many. This never waits: a receiver
    /// that is a whole capacity behind loses its oldest value.
    ///
    /// # Errors
    ///
    /// When there is no receiver; the value is in the error.
    pub fn send(&self, value: T) -> Result<usize, SendError<T>> {
        let value = Arc::new(value);
        let mut ring = self.shared.lock();
        let receivers = ring.receivers;
        if receivers == 0 {
            drop(ring);
            return Err(SendError(Arc::into_inner(value).expect("not shared")));
        }
        let old = ring.push(value);
        // Release: goes with what was sent, for those who look without the lock.
        self.shared.tail.store(ring.tail, Ordering::Release);
        drop(ring);
        self.shared.arrived.wake_all();
        drop(old);
        Ok(receivers)
    }

    /// A new receiver, of the values that are sent from now on.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { next: self.shared.join(), shared: Arc::clone(&self.shared) }
    }

    /// How many values are kept for receivers that have not come for them yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lock().len()
    }

    /// Whether all receivers have received all values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many receivers there are.
    #[must_use]
    pub fn receiver_count(&self) -> usize {
        self.shared.lock().receivers
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
            self.shared.arrived.wake_all();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next value. Values come in the order in which they were sent.
    ///
    /// A cancel unwinds out of the wait, and no value is lost by that. If the value's `clone`
    /// panics, the value counts as received.
    ///
    /// # Errors
    ///
    /// [`RecvError::Lagged`] when values were overwritten before this receiver came for them: it
    /// says how many, and the next call gets the oldest that is left. [`RecvError::Closed`] when
    /// all senders are gone and all values were received.
    pub fn recv(&mut self) -> Result<T, RecvError> {
        begin_call();
        loop {
            match self.take() {
                Err(TryRecvError::Empty) => self.wait(None),
                Err(TryRecvError::Closed) => return Err(RecvError::Closed),
                Err(TryRecvError::Lagged(missed)) => return Err(RecvError::Lagged(missed)),
                Ok(value) => return Ok(value),
            };
        }
    }

    /// As [`Receiver::recv`], but for no longer than `timeout`, and no less, unless there is a
    /// value.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] when the time is over; and as [`Receiver::recv`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        begin_call();
        let mut deadline = None;
        let mut in_time = true;
        loop {
            match self.take() {
                Err(TryRecvError::Empty) if in_time => {
                    let at = *deadline.get_or_insert_with(|| wait::deadline_after(timeout));
                    in_time = self.wait(Some(at));
                }
                Err(TryRecvError::Empty) => return Err(RecvTimeoutError::Timeout),
                Err(TryRecvError::Closed) => return Err(RecvTimeoutError::Closed),
                Err(TryRecvError::Lagged(missed)) => return Err(RecvTimeoutError::Lagged(missed)),
                Ok(value) => return Ok(value),
            }
        }
    }

    /// The next value, if it is there. This never waits (except in the value's own `clone`).
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when it is not there; and as [`Receiver::recv`].
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        begin_call();
        self.take()
    }

    fn take(&mut self) -> Result<T, TryRecvError> {
        // First: after it there may still be values, but no more than there are now.
        let is_closed = self.shared.is_closed();
        let found = self.shared.lock().take(&mut self.next);
        match found {
            Found::Value(value) => Ok(Arc::unwrap_or_clone(value)),
            Found::Lagged(missed) => Err(TryRecvError::Lagged(missed)),
            Found::Nothing if is_closed => Err(TryRecvError::Closed),
            Found::Nothing => Err(TryRecvError::Empty),
        }
    }
}

impl<T> Receiver<T> {
    /// A new receiver of the same channel, of the values that are sent from now on.
    #[must_use]
    pub fn resubscribe(&self) -> Receiver<T> {
        Receiver { next: self.shared.join(), shared: Arc::clone(&self.shared) }
    }

    /// How many values were sent that this receiver has not come for, overwritten ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.shared.lock().tail - self.next) as usize
    }

    /// Whether this receiver has received all that was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all senders are gone. There may be values left to receive.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Whether both receive from the same channel.
    #[must_use]
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Waits until there may be something to receive; false when it is not in time.
    fn wait(&self, deadline: Option<Nanos>) -> bool {
        let shared = &*self.shared;
        let ready = || shared.tail.load(Ordering::Acquire) != self.next || shared.is_closed();
        shared.arrived.wait_until(ready, Reason::CHANNEL, deadline)
    }
}

impl<T> Drop for Receiver<T> {
    /// Lets go of the values it has not received, one at a time, for their drops are the user's
    /// code.
    fn drop(&mut self) {
        let mut ring = self.shared.lock();
        ring.receivers -= 1;
        // What is sent from here on is not for this receiver.
        let end = ring.tail;
        drop(ring);
        while self.next < end {
            let found = self.shared.lock().take(&mut self.next);
            drop_quietly(found);
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// Why [`Receiver::recv`] got no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvError {
    /// All senders are gone, and all values were received.
    Closed,
    /// So many values were overwritten before they were received.
    Lagged(u64),
}

/// Why [`Receiver::try_recv`] got no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// All that was sent was received.
    Empty,
    /// All senders are gone, and all values were received.
    Closed,
    /// So many values were overwritten before they were received.
    Lagged(u64),
}

/// Why [`Receiver::recv_timeout`] got no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// The time is over.
    Timeout,
    /// All senders are gone, and all values were received.
    Closed,
    /// So many values were overwritten before they were received.
    Lagged(u64),
}

const CLOSED: &str = "receiving on a closed channel";

fn lagged(missed: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "the receiver lags behind and has missed {missed} values")
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RecvError::Closed => f.write_str(CLOSED),
            RecvError::Lagged(missed) => lagged(missed, f),
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            TryRecvError::Empty => f.write_str("receiving on an empty channel"),
            TryRecvError::Closed => f.write_str(CLOSED),
            TryRecvError::Lagged(missed) => lagged(missed, f),
        }
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RecvTimeoutError::Timeout => f.write_str("timed out waiting on channel"),
            RecvTimeoutError::Closed => f.write_str(CLOSED),
            RecvTimeoutError::Lagged(missed) => lagged(missed, f),
        }
    }
}

impl Error for RecvError {}
impl Error for TryRecvError {}
impl Error for RecvTimeoutError {}
