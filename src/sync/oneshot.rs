//! Channels for one value: an answer, a result, a signal to stop.
//!
//! Coroutines and plain threads may be on either side: a coroutine that waits suspends, a thread
//! blocks. A cancel unwinds out of a wait; a value that arrives at the same moment wins.
//!
//! ```
//! use cosocket::sync::oneshot;
//! use cosocket::thread;
//!
//! let (reply, answer) = oneshot::channel();
//! thread::spawn(move || reply.send(6 * 7).unwrap());
//! assert_eq!(answer.recv(), Ok(42));
//! ```

use std::fmt;
use std::time::Duration;

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, TryRecvError};

use super::channel::{Channel, ends};
use super::mpmc;
use super::select::{End, ReceiveEnd};

/// A channel for one value.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpmc::channel();
    (Sender { sender }, Receiver { receiver })
}

/// The side that sends the value, or drops this and thereby says that there will be none.
pub struct Sender<T> {
    sender: mpmc::Sender<T>,
}

impl<T> Sender<T> {
    /// Sends the value. Never waits.
    ///
    /// # Errors
    ///
    /// Gives the value back when the receiver is gone.
    ///
    /// ```
    /// let (sender, receiver) = cosocket::sync::oneshot::channel();
    /// drop(receiver);
    /// assert_eq!(sender.send(1), Err(1));
    /// ```
    pub fn send(self, value: T) -> Result<(), T> {
        self.sender.send(value).map_err(|error| error.0)
    }

    /// Whether the receiver is gone: nobody will have the value.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the receiver is gone, so that work nobody waits for can stop. As an arm of a
    /// select it is [`select::closed`](crate::sync::select::closed).
    ///
    /// ```
    /// let (sender, receiver) = cosocket::sync::oneshot::channel::<i32>();
    /// let client = cosocket::spawn(move || drop(receiver));
    /// sender.closed();
    /// assert!(sender.is_closed());
    /// client.join().unwrap();
    /// ```
    pub fn closed(&self) {
        self.sender.closed();
    }
}

/// The side that receives the value. When it is dropped, so is a value that it did not receive.
pub struct Receiver<T> {
    receiver: mpmc::Receiver<T>,
}

impl<T> Receiver<T> {
    /// Waits for the value.
    ///
    /// # Errors
    ///
    /// When the sender was dropped without sending.
    pub fn recv(self) -> Result<T, RecvError> {
        self.receiver.recv()
    }

    /// The value, if it has been sent.
    ///
    /// # Errors
    ///
    /// When it has not; which error tells whether it still may be. Once the value was taken, it
    /// may not.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Waits for the value for at most `timeout`.
    ///
    /// # Errors
    ///
    /// When it was not sent in time, and when the sender was dropped without sending.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use cosocket::sync::oneshot::{self, RecvTimeoutError};
    ///
    /// let (sender, receiver) = oneshot::channel();
    /// let early = receiver.recv_timeout(Duration::from_millis(1));
    /// assert_eq!(early, Err(RecvTimeoutError::Timeout));
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Ok(1));
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }
}

ends! {
    Sender = |end| end.sender.channel();
    Receiver: ReceiveEnd = |end| end.receiver.channel();
}
