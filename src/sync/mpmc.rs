//! Channels with many senders and many receivers.
//!
//! Names and meanings are those of `std::sync::mpmc`, which is not stable yet: each value goes to
//! one receiver, receivers and senders may be cloned, and senders know `send_timeout`. Coroutines
//! and plain threads may be on either side; a coroutine that waits suspends, a thread blocks.
//!
//! Values arrive in the order they were sent, and those who wait are served in the order they
//! came. A wait allocates nothing, and a [`sync_channel`] nothing after its creation.
//!
//! # Cancel and timeout
//!
//! A call that waits can be cancelled, and then unwinds: in `recv` no value has been taken; in
//! `send` the value is dropped and nobody receives it. If a value changes hands at the moment of
//! the cancel or the timeout, the call succeeds, and the next wait unwinds. Calls that never wait
//! (`try_send`, `try_recv`, `send` without a limit) give no other coroutine its turn and are not
//! cancelled.
//!
//! ```
//! use cosocket::sync::mpmc;
//! use cosocket::thread;
//!
//! let (jobs, job) = mpmc::sync_channel(4);
//! let (results, result) = mpmc::channel();
//! let workers: Vec<_> = (0..3)
//!     .map(|_| {
//!         let (job, results) = (job.clone(), results.clone());
//!         thread::spawn(move || {
//!             for number in job {
//!                 results.send(number * 2).unwrap();
//!             }
//!         })
//!     })
//!     .collect();
//! drop((job, results));
//! for number in 1..=10 {
//!     jobs.send(number).unwrap();
//! }
//! drop(jobs); // the workers end when the queue is empty
//! assert_eq!(result.iter().sum::<i32>(), 110);
//! for worker in workers {
//!     worker.join().unwrap();
//! }
//! ```

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use super::channel::{Channel, ends, iterators, measures};
use super::select::{End, ReceiveEnd, SendEnd};
use crate::clock;

/// A channel without a limit: sending never waits.
///
/// Its queue grows as needed, and gives memory back when it has become short again.
///
/// ```
/// let (sender, receiver) = cosocket::sync::mpmc::channel();
/// sender.send(1).unwrap();
/// assert_eq!(receiver.recv(), Ok(1));
/// ```
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    pair(None)
}

/// A channel that holds at most `capacity` values: sending waits for room. With a capacity of 0
/// it waits until a receiver takes the value.
///
/// The memory for `capacity` values is allocated here.
///
/// # Panics
///
/// When that is more memory than can be addressed.
///
/// ```
/// use cosocket::sync::mpmc::{self, TrySendError};
///
/// let (sender, receiver) = mpmc::sync_channel(1);
/// sender.send(1).unwrap();
/// assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
/// assert_eq!(receiver.recv(), Ok(1));
/// ```
#[track_caller]
pub fn sync_channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    pair(Some(capacity))
}

#[track_caller]
fn pair<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel::new(capacity));
    (Sender { channel: Arc::clone(&channel) }, Receiver { channel })
}

/// The sending side of a channel. Clones send into the same channel; when the last one is
/// dropped, receivers get what is still in the queue, and then an error.
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
}

impl<T> Sender<T> {
    /// Sends a value, after waiting for room if the channel has a limit.
    ///
    /// That the value was sent does not mean that it will be received, except with a capacity of
    /// 0: then it has been.
    ///
    /// # Errors
    ///
    /// Gives the value back when all receivers are gone, before or during the wait.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.channel.send(value, None).map_err(|error| SendError(error.into_value()))
    }

    /// Sends a value if that takes no waiting.
    ///
    /// # Errors
    ///
    /// Gives the value back when there is no room (with a capacity of 0: when no receiver waits),
    /// and when all receivers are gone.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.channel.try_send(value)
    }

    /// Sends a value, after waiting for room for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Gives the value back when there was no room by then, and when all receivers are gone.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use cosocket::sync::mpmc::{self, SendTimeoutError};
    ///
    /// let (sender, receiver) = mpmc::sync_channel(0);
    /// let error = sender.send_timeout(1, Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(error, SendTimeoutError::Timeout(1));
    /// drop(receiver);
    /// let error = sender.send_timeout(1, Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(error, SendTimeoutError::Disconnected(1));
    /// ```
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.channel.send(value, Some(clock::after(timeout)))
    }

    /// As [`send_timeout`](Sender::send_timeout), until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Sender::send_timeout).
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_timeout(value, deadline.saturating_duration_since(Instant::now()))
    }

    /// Waits until all receivers are gone.
    pub(super) fn closed(&self) {
        self.channel.closed();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.channel.add_sender();
        Sender { channel: Arc::clone(&self.channel) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.channel.drop_sender();
    }
}

/// The receiving side of a channel. Clones take values from the same channel, each value once;
/// when the last one is dropped, what is in the queue is dropped, and senders get errors.
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
}

impl<T> Receiver<T> {
    /// Takes the next value, after waiting for one if there is none.
    ///
    /// # Errors
    ///
    /// When the queue is empty and all senders are gone, before or during the wait.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.channel.recv(None).map_err(|_| RecvError)
    }

    /// Takes the next value if that takes no waiting. With a capacity of 0: from a sender that
    /// waits.
    ///
    /// # Errors
    ///
    /// When the queue is empty; which error tells whether all senders are gone, too.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.channel.try_recv()
    }

    /// Takes the next value, after waiting for one for at most `timeout`.
    ///
    /// # Errors
    ///
    /// When there was no value by then, and when the queue is empty and all senders are gone.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use cosocket::sync::mpmc::{self, RecvTimeoutError};
    ///
    /// let (sender, receiver) = mpmc::channel::<i32>();
    /// let error = receiver.recv_timeout(Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(error, RecvTimeoutError::Timeout);
    /// drop(sender);
    /// let error = receiver.recv_timeout(Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(error, RecvTimeoutError::Disconnected);
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.channel.recv(Some(clock::after(timeout)))
    }

    /// As [`recv_timeout`](Receiver::recv_timeout), until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Receiver::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.channel.add_receiver();
        Receiver { channel: Arc::clone(&self.channel) }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.channel.drop_receiver();
    }
}

// As in std: a panic while a channel is used leaves no value half sent.
impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

ends! {
    Sender: SendEnd = |end| &end.channel;
    Receiver: ReceiveEnd = |end| &end.channel;
}

measures!(Sender Receiver);
iterators!();

/// Why [`Sender::send_timeout`] did not send; the value comes back in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendTimeoutError<T> {
    /// There was no room in time.
    Timeout(T),
    /// All receivers are gone.
    Disconnected(T),
}

impl<T> SendTimeoutError<T> {
    /// The value that was not sent.
    pub fn into_value(self) -> T {
        match self {
            SendTimeoutError::Timeout(value) | SendTimeoutError::Disconnected(value) => value,
        }
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendTimeoutError::Timeout(_) => "Timeout(..)",
            SendTimeoutError::Disconnected(_) => "Disconnected(..)",
        })
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendTimeoutError::Timeout(_) => "timed out waiting for room in a channel",
            SendTimeoutError::Disconnected(_) => "sending on a closed channel",
        })
    }
}

impl<T> Error for SendTimeoutError<T> {}

impl<T> From<SendError<T>> for SendTimeoutError<T> {
    fn from(error: SendError<T>) -> SendTimeoutError<T> {
        SendTimeoutError::Disconnected(error.0)
    }
}
