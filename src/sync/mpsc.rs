//! `std::sync::mpsc`: channels with many senders and one receiver.
//!
//! Names, signatures, errors and meanings are std's; the error types are std's own. Coroutines
//! and plain threads may be on either side: a coroutine that waits suspends, a thread blocks.
//!
//! What std does not have is a cancel: a call that waits then unwinds. `recv` has taken no value
//! when it does; `send` drops its value, which nobody receives. A value that changes hands at the
//! moment of a cancel or a timeout is not lost: the call succeeds. [`Sender::send`] and the `try_`
//! calls never wait; they give no other coroutine its turn, and are not cancelled.
//!
//! ```
//! use cosocket::sync::mpsc; // was: use std::sync::mpsc;
//! use cosocket::thread; // was: use std::thread;
//!
//! let (sender, receiver) = mpsc::channel();
//! for number in 0..3 {
//!     let sender = sender.clone();
//!     thread::spawn(move || sender.send(number).unwrap());
//! }
//! drop(sender);
//! let mut numbers: Vec<i32> = receiver.iter().collect();
//! numbers.sort();
//! assert_eq!(numbers, [0, 1, 2]);
//! ```

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use super::channel::{Channel, ends, iterators};
use super::mpmc;
use super::select::{End, ReceiveEnd, SendEnd};

/// A channel without a limit: sending never waits.
///
/// ```
/// let (sender, receiver) = cosocket::sync::mpsc::channel();
/// sender.send("hello").unwrap();
/// drop(sender);
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), ["hello"]);
/// ```
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpmc::channel();
    (Sender { sender }, Receiver::new(receiver))
}

/// A channel that holds at most `bound` values: sending waits for room. With a bound of 0 it
/// waits until the receiver takes the value.
///
/// The memory for `bound` values is allocated here.
///
/// # Panics
///
/// When that is more memory than can be addressed.
///
/// ```
/// use cosocket::sync::mpsc::{self, TrySendError};
///
/// let (sender, receiver) = mpsc::sync_channel(1);
/// sender.send(1).unwrap();
/// assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
/// assert_eq!(receiver.recv(), Ok(1));
/// ```
#[track_caller]
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let (sender, receiver) = mpmc::sync_channel(bound);
    (SyncSender { sender }, Receiver::new(receiver))
}

/// The sending side of [`channel`]. When the last clone is dropped, the receiver gets what is
/// still in the queue, and then an error.
pub struct Sender<T> {
    sender: mpmc::Sender<T>,
}

impl<T> Sender<T> {
    /// Sends a value. Never waits.
    ///
    /// # Errors
    ///
    /// Gives the value back when the receiver is gone.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.sender.send(value)
    }
}

/// The sending side of [`sync_channel`]. When the last clone is dropped, the receiver gets what
/// is still in the queue, and then an error.
pub struct SyncSender<T> {
    sender: mpmc::Sender<T>,
}

impl<T> SyncSender<T> {
    /// Sends a value, after waiting for room if there is none; with a bound of 0, until the
    /// receiver has taken it.
    ///
    /// # Errors
    ///
    /// Gives the value back when the receiver is gone, before or during the wait.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.sender.send(value)
    }

    /// Sends a value if that takes no waiting.
    ///
    /// # Errors
    ///
    /// Gives the value back when there is no room (with a bound of 0: when the receiver does not
    /// wait), and when the receiver is gone.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send(value)
    }
}

/// The receiving side of [`channel`] and [`sync_channel`]. When it is dropped, what is in the
/// queue is dropped, and senders get errors.
pub struct Receiver<T> {
    receiver: mpmc::Receiver<T>,
    /// For one thread at a time, as std's.
    _not_sync: PhantomData<Cell<()>>,
}

impl<T> Receiver<T> {
    fn new(receiver: mpmc::Receiver<T>) -> Receiver<T> {
        Receiver { receiver, _not_sync: PhantomData }
    }

    /// Takes the next value, after waiting for one if there is none.
    ///
    /// # Errors
    ///
    /// When the queue is empty and all senders are gone, before or during the wait.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.receiver.recv()
    }

    /// Takes the next value if that takes no waiting.
    ///
    /// # Errors
    ///
    /// When the queue is empty; which error tells whether all senders are gone, too.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv()
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
    /// use cosocket::sync::mpsc::{self, RecvTimeoutError};
    ///
    /// let (_sender, receiver) = mpsc::channel::<i32>();
    /// let error = receiver.recv_timeout(Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(error, RecvTimeoutError::Timeout);
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }
}

macro_rules! clones {
    ($($name:ident)*) => {$(
        impl<T> Clone for $name<T> {
            fn clone(&self) -> $name<T> {
                $name { sender: self.sender.clone() }
            }
        }
    )*};
}

clones!(Sender SyncSender);

ends! {
    Sender: SendEnd = |end| end.sender.channel();
    SyncSender: SendEnd = |end| end.sender.channel();
    Receiver: ReceiveEnd = |end| end.receiver.channel();
}

iterators!();

impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}
