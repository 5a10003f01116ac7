//! The arms on channels.

use std::cell::Cell;
use std::fmt;
use std::sync::mpsc::{RecvError, SendError, TryRecvError, TrySendError};

use super::{Arm, End, Operation, Round};
use crate::sync::channel::{Channel, Side, Waiting};
use crate::sync::oneshot;

/// A receiver of any kind of channel: what [`recv`] takes.
pub trait ReceiveEnd: End {}

/// A sender of any kind of channel but `oneshot`, whose `send` never waits: what [`send`] takes.
pub trait SendEnd: End {}

/// An arm that receives a value. It yields what `recv` would return.
///
/// Several selects may wait for one channel; a value goes to one of them.
///
/// ```
/// use cosocket::sync::{mpsc, select};
///
/// let (sender, receiver) = mpsc::channel();
/// sender.send(1).unwrap();
/// drop(sender);
/// let next = || select! { number = select::recv(&receiver) => number };
/// assert_eq!(next(), Ok(1));
/// assert_eq!(next(), Err(mpsc::RecvError));
/// ```
pub fn recv<R: ReceiveEnd>(receiver: &R) -> Receiving<'_, R::Value> {
    Receiving(Exchange::new(receiver.channel(), Side::Receiver, None))
}

/// An arm that sends `value`. It yields what `send` would return: the value comes back in the
/// error when all receivers are gone.
///
/// In the arm the value waits to be taken; see [`Sending::into_value`] for getting back one that
/// was not sent.
///
/// ```
/// use std::time::Duration;
///
/// use cosocket::sync::{mpsc, select};
///
/// let (sender, receiver) = mpsc::sync_channel(1);
/// sender.send("first").unwrap();
/// let mut second = select::send(&sender, "second");
/// select! {
///     sent = &mut second => unreachable!("there is no room: {sent:?}"),
///     () = select::after(Duration::from_millis(1)) => {}
/// }
/// assert_eq!(second.into_value(), Some("second"));
/// assert_eq!(receiver.recv(), Ok("first"));
/// ```
pub fn send<S: SendEnd>(sender: &S, value: S::Value) -> Sending<'_, S::Value> {
    Sending(Exchange::new(sender.channel(), Side::Sender, Some(value)))
}

/// An arm that is done when nobody will receive what is sent by `sender`, as
/// [`oneshot::Sender::closed`] waits for.
///
/// ```
/// use cosocket::sync::{mpsc, oneshot, select};
///
/// let (reply, answer) = oneshot::channel::<i32>();
/// let (_work, steps) = mpsc::channel::<i32>();
/// drop(answer);
/// let is_wanted = select! {
///     _step = select::recv(&steps) => true,
///     () = select::closed(&reply) => false,
/// };
/// assert!(!is_wanted);
/// ```
pub fn closed<T>(sender: &oneshot::Sender<T>) -> Closed<'_, T> {
    Closed(Exchange::new(sender.channel(), Side::Watcher, None))
}

/// What the arms on channels have in common: a node for one of the channel's lists.
struct Exchange<'a, T> {
    channel: &'a Channel<T>,
    side: Side,
    waiting: Waiting<T>,
    is_chosen: Cell<bool>,
}

impl<'a, T> Exchange<'a, T> {
    fn new(channel: &'a Channel<T>, side: Side, value: Option<T>) -> Exchange<'a, T> {
        Exchange { channel, side, waiting: Waiting::arm(value), is_chosen: Cell::new(false) }
    }

    /// If it was chosen, what it holds is the outcome.
    fn end(&self) -> Option<Option<T>> {
        self.is_chosen.replace(false).then(|| self.waiting.take())
    }

    fn put(&self) -> bool {
        let value = self.waiting.take().expect("the value of this arm was sent already");
        match self.channel.try_send(value) {
            Ok(()) => true,
            Err(TrySendError::Full(value)) => {
                self.waiting.give(value);
                false
            }
            Err(TrySendError::Disconnected(value)) => {
                self.waiting.give(value);
                true
            }
        }
    }

    fn take(&self) -> bool {
        match self.channel.try_recv() {
            Ok(value) => {
                self.waiting.give(value);
                true
            }
            Err(TryRecvError::Disconnected) => true,
            Err(TryRecvError::Empty) => false,
        }
    }
}

impl<T> Operation for Exchange<'_, T> {
    fn attempt(&self) -> bool {
        self.is_chosen.get()
            || match self.side {
                Side::Sender => self.put(),
                Side::Receiver => self.take(),
                Side::Watcher => self.channel.is_closed(),
            }
    }

    unsafe fn enlist(&self, round: &Round, index: usize) -> bool {
        self.waiting.enter(round, index);
        // SAFETY: the caller keeps arm and round in place.
        unsafe { self.channel.enlist(self.side, &self.waiting, &round.decision) }
    }

    fn withdraw(&self) {
        // Not linked any more if a peer took the node out and found it decided elsewhere.
        self.channel.withdraw(self.side, &self.waiting);
    }

    fn choose(&self) {
        self.is_chosen.set(true);
    }
}

/// The arm made by [`recv`].
pub struct Receiving<'a, T>(Exchange<'a, T>);

/// The arm made by [`send`].
pub struct Sending<'a, T>(Exchange<'a, T>);

/// The arm made by [`closed`].
pub struct Closed<'a, T>(Exchange<'a, T>);

impl<T> Sending<'_, T> {
    /// The value, if it was not sent.
    pub fn into_value(self) -> Option<T> {
        self.0.waiting.take()
    }
}

impl<T> Arm for Receiving<'_, T> {
    type Output = Result<T, RecvError>;

    fn take(&mut self) -> Option<Result<T, RecvError>> {
        Some(self.0.end()?.ok_or(RecvError))
    }
}

impl<T> Arm for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn take(&mut self) -> Option<Result<(), SendError<T>>> {
        Some(self.0.end()?.map_or(Ok(()), |value| Err(SendError(value))))
    }
}

impl<T> Arm for Closed<'_, T> {
    type Output = ();

    fn take(&mut self) -> Option<()> {
        self.0.end().map(drop)
    }
}

macro_rules! wrappers {
    ($($name:ident)*) => {$(
        impl<T> Operation for $name<'_, T> {
            fn attempt(&self) -> bool {
                self.0.attempt()
            }

            unsafe fn enlist(&self, round: &Round, index: usize) -> bool {
                // SAFETY: the caller's promise.
                unsafe { self.0.enlist(round, index) }
            }

            fn withdraw(&self) {
                self.0.withdraw();
            }

            fn choose(&self) {
                self.0.choose();
            }
        }

        impl<T> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut debug = f.debug_struct(stringify!($name));
                debug.field("is_chosen", &self.0.is_chosen.get()).finish_non_exhaustive()
            }
        }
    )*};
}

wrappers!(Receiving Sending Closed);
