//! The one channel behind `mpsc`, `mpmc` and `oneshot`: a queue of values, and two of those who
//! wait.
//!
//! ```text
//!                     +---------------- under one short lock ----------------+
//!   send --------->   |  a receiver waits?  its frame gets the value  -> wake |   -----> recv
//!                     |  else room?         the queue gets it                 |
//!                     |  else               wait in `senders` with the value  |
//!                     |                                                       |
//!                     |  a value in the queue?  take it; the sender that      |   <----- recv
//!                     |                         waits longest puts its own in |
//!                     |  else a sender waits?   take it from its frame -> wake|
//!                     |  else                   wait in `receivers`           |
//!                     +-------------------------------------------------------+
//! ```
//!
//! Whoever waits has a [`Waiting`] in its frame, with the place its value lies in, and the other
//! side puts the value there or takes it from there under the lock. So a value is in one place at
//! any time, and a hand-over is over when the lock is let go: a timeout or a cancel that comes
//! later finds the node gone from its list, and the hand-over stands. Nobody is woken in vain, so
//! nobody has a wake-up to pass on.
//!
//! Senders wait only while the queue is full, receivers only while it is empty and no sender
//! waits (but for selects that were chosen elsewhere and have not withdrawn yet; those are passed
//! over). A capacity of zero needs no case of its own: then there is never room.
//!
//! No user's code runs under the lock: values are moved, and dropped elsewhere.

mod ends;
mod waiting;

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, TryRecvError, TrySendError};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Nanos;
use crate::current;
use crate::list::List;
use crate::wait::{self, Chosen, Reason, Shield, Signal, Waiter};
use crate::worker::Worker;

pub(super) use self::ends::{ends, iterators, measures};
pub(crate) use self::waiting::Waiting;
use super::mpmc::SendTimeoutError;
use super::select::Decision;

/// An unbounded queue smaller than this many bytes keeps its memory.
const KEPT_BYTES: usize = 16 << 10;

pub struct Channel<T> {
    state: Mutex<State<T>>,
    capacity: Option<usize>,
    /// Handles of each side. The last one to go says so in `state`.
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

struct State<T> {
    queue: VecDeque<T>,
    /// How many values the queue may hold.
    limit: usize,
    senders: List<Waiting<T>>,
    receivers: List<Waiting<T>>,
    /// Those who wait for the last receiver to go.
    watchers: List<Waiting<T>>,
    senders_gone: bool,
    receivers_gone: bool,
}

// SAFETY: lists and nodes are only touched under the channel's lock, and a node stays in its frame
// while it is linked, whichever thread unlinks it.
unsafe impl<T: Send> Send for State<T> {}

/// Which of the channel's lists one waits in.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Sender,
    Receiver,
    Watcher,
}

impl<T> Channel<T> {
    /// A channel with one handle on each side. `None` is no limit. What a limit needs is
    /// allocated now, and nothing later.
    #[track_caller]
    pub(crate) fn new(capacity: Option<usize>) -> Channel<T> {
        let state = State {
            queue: VecDeque::with_capacity(capacity.unwrap_or(0)),
            limit: capacity.unwrap_or(usize::MAX),
            senders: List::new(),
            receivers: List::new(),
            watchers: List::new(),
            senders_gone: false,
            receivers_gone: false,
        };
        Channel {
            state: Mutex::new(state),
            capacity,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
        }
    }

    pub(crate) fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// How many values are in the queue; not those of senders that wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().queue.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().receivers_gone
    }

    /// Sends without waiting.
    pub(crate) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut state = self.lock();
        let receiver = state.put(value)?;
        drop(state);
        wake(receiver);
        Ok(())
    }

    /// Sends; waits for room, where there is a limit, until `deadline`.
    pub(crate) fn send(
        &self,
        value: T,
        deadline: Option<Nanos>,
    ) -> Result<(), SendTimeoutError<T>> {
        let _shield = Shield::where_nothing_unwinds();
        let worker = match self.capacity {
            Some(_) => begin_call(),
            None => current::worker(),
        };
        let mut state = self.lock();
        match state.put(value) {
            Ok(receiver) => {
                drop(state);
                wake_from(worker, receiver);
                Ok(())
            }
            Err(TrySendError::Disconnected(value)) => Err(SendTimeoutError::Disconnected(value)),
            Err(TrySendError::Full(value)) => self.wait_to_send(worker, state, value, deadline),
        }
    }

    /// Receives without waiting.
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = self.lock();
        let (value, sender) = state.take()?;
        drop(state);
        wake(sender);
        Ok(value)
    }

    /// Receives; waits for a value until `deadline`.
    pub(crate) fn recv(&self, deadline: Option<Nanos>) -> Result<T, RecvTimeoutError> {
        let _shield = Shield::where_nothing_unwinds();
        let worker = begin_call();
        let mut state = self.lock();
        match state.take() {
            Ok((value, sender)) => {
                drop(state);
                wake_from(worker, sender);
                Ok(value)
            }
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => self.wait_to_recv(worker, state, deadline),
        }
    }

    /// Waits until the last receiver is gone.
    pub(crate) fn closed(&self) {
        let _shield = Shield::where_nothing_unwinds();
        begin_call();
        let state = self.lock();
        if !state.receivers_gone {
            let waiter = Waiter::new();
            let waiting = Waiting::alone(&waiter, None);
            if let Signal::Cancelled = self.wait(state, Side::Watcher, &waiter, &waiting, None) {
                wait::raise_cancelled();
            }
        }
    }

    fn wait_to_send(
        &self,
        worker: Option<&'static Worker>,
        state: MutexGuard<'_, State<T>>,
        value: T,
        deadline: Option<Nanos>,
    ) -> Result<(), SendTimeoutError<T>> {
        let waiter = Waiter::on(worker, 0);
        let waiting = Waiting::alone(&waiter, Some(value));
        let signal = self.wait(state, Side::Sender, &waiter, &waiting, deadline);
        match (waiting.take(), signal) {
            (None, _) => Ok(()),
            (Some(value), Signal::Wake) => Err(SendTimeoutError::Disconnected(value)),
            (Some(value), Signal::TimedOut) => Err(SendTimeoutError::Timeout(value)),
            (Some(value), Signal::Cancelled) => {
                drop(value);
                wait::raise_cancelled();
            }
        }
    }

    fn wait_to_recv(
        &self,
        worker: Option<&'static Worker>,
        state: MutexGuard<'_, State<T>>,
        deadline: Option<Nanos>,
    ) -> Result<T, RecvTimeoutError> {
        let waiter = Waiter::on(worker, 0);
        let waiting = Waiting::alone(&waiter, None);
        let signal = self.wait(state, Side::Receiver, &waiter, &waiting, deadline);
        match (waiting.take(), signal) {
            (Some(value), _) => Ok(value),
            (None, Signal::Wake) => Err(RecvTimeoutError::Disconnected),
            (None, Signal::TimedOut) => Err(RecvTimeoutError::Timeout),
            (None, Signal::Cancelled) => wait::raise_cancelled(),
        }
    }

    /// Waits in one of the lists. `Wake` when the other side took the node out: then what it did
    /// to the value stands, whatever else came at the same time.
    fn wait(
        &self,
        state: MutexGuard<'_, State<T>>,
        side: Side,
        waiter: &Waiter,
        waiting: &Waiting<T>,
        deadline: Option<Nanos>,
    ) -> Signal {
        // SAFETY: the node stays in the caller's frame, and this returns when it is out again.
        unsafe { state.list(side).push_back(waiting) };
        drop(state);
        loop {
            let signal = waiter.wait(Reason::CHANNEL, deadline, false);
            if waiter.is_woken() {
                return Signal::Wake;
            }
            if signal != Signal::Wake {
                if self.withdraw(side, waiting) {
                    return signal;
                }
                waiter.settle();
                return Signal::Wake;
            }
        }
    }

    /// Takes a node out of the list it waits in; false when the other side has done so.
    pub(crate) fn withdraw(&self, side: Side, waiting: &Waiting<T>) -> bool {
        let state = self.lock();
        let linked = waiting.is_linked();
        if linked {
            // SAFETY: linked into this list, whose lock we hold.
            unsafe { state.list(side).remove(waiting) };
        }
        linked
    }

    /// Puts the node of a select's arm into a list, unless what it waits for can be had now.
    ///
    /// # Safety
    ///
    /// The node, and the round it was entered for, stay where they are until the other side has
    /// taken the node out or `withdraw` has returned.
    pub(crate) unsafe fn enlist(
        &self,
        side: Side,
        waiting: &Waiting<T>,
        decision: &Decision,
    ) -> bool {
        let state = self.lock();
        let is_ready = match side {
            Side::Sender => state.can_put(decision),
            Side::Receiver => state.can_take(decision),
            Side::Watcher => state.receivers_gone,
        };
        if !is_ready {
            // SAFETY: the caller keeps the node in place.
            unsafe { state.list(side).push_back(waiting) };
        }
        !is_ready
    }

    pub(crate) fn add_sender(&self) {
        count_one_more(&self.senders);
    }

    pub(crate) fn add_receiver(&self) {
        count_one_more(&self.receivers);
    }

    /// A sender's handle goes; with the last one, receivers that wait are told.
    pub(crate) fn drop_sender(&self) {
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.lock().senders_gone = true;
            self.wake_all(Side::Receiver);
        }
    }

    /// A receiver's handle goes; with the last one, senders that wait get their values back, and
    /// the values in the queue are dropped.
    pub(crate) fn drop_receiver(&self) {
        if self.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut state = self.lock();
            state.receivers_gone = true;
            let unreceived = mem::take(&mut state.queue);
            drop(state);
            self.wake_all(Side::Sender);
            self.wake_all(Side::Watcher);
            // Last, for a destructor may do anything.
            drop(unreceived);
        }
    }

    /// Empties a list into which nobody goes any more.
    fn wake_all(&self, side: Side) {
        loop {
            let next = self.lock().choose(side);
            match next {
                Some((_, chosen)) => chosen.wake(),
                None => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // As in `WaitQueue`: poison means nothing here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl<T> State<T> {
    fn list(&self, side: Side) -> &List<Waiting<T>> {
        match side {
            Side::Sender => &self.senders,
            Side::Receiver => &self.receivers,
            Side::Watcher => &self.watchers,
        }
    }

    /// Takes out the one that waits longest and is still to be had. The caller sees to its value
    /// under the lock, and wakes it afterwards.
    fn choose(&mut self, side: Side) -> Option<(*const Waiting<T>, Chosen)> {
        // SAFETY: linked nodes stay in place.
        while let Some(node) = unsafe { self.list(side).pop_front() } {
            // SAFETY: it stays in place while we hold the lock; and when it is ours to wake,
            // until that is done.
            if let Some(chosen) = unsafe { (*node).choose() } {
                return Some((node, chosen));
            }
        }
        None
    }

    /// Takes a value in, if there is a receiver or room. A receiver is to be woken afterwards.
    fn put(&mut self, value: T) -> Result<Option<Chosen>, TrySendError<T>> {
        if self.receivers_gone {
            return Err(TrySendError::Disconnected(value));
        }
        if let Some((receiver, chosen)) = self.choose(Side::Receiver) {
            // SAFETY: chosen, and not woken yet.
            unsafe { (*receiver).give(value) };
            return Ok(Some(chosen));
        }
        if self.queue.len() >= self.limit {
            return Err(TrySendError::Full(value));
        }
        self.queue.push_back(value);
        Ok(None)
    }

    /// Takes a value out, if there is one. The sender whose value it is, or whose value went into
    /// the queue in its place, is to be woken afterwards.
    fn take(&mut self) -> Result<(T, Option<Chosen>), TryRecvError> {
        let queued = self.queue.pop_front();
        let sender = if queued.is_some() && self.limit == usize::MAX {
            self.shrink();
            None
        } else {
            self.choose(Side::Sender).map(|(sender, chosen)| {
                // SAFETY: chosen, and not woken yet.
                let value = unsafe { (*sender).take() };
                (value.expect("a sender waits with its value"), chosen)
            })
        };
        match (queued, sender) {
            (Some(value), None) => Ok((value, None)),
            (Some(value), Some((next, chosen))) => {
                self.queue.push_back(next);
                Ok((value, Some(chosen)))
            }
            (None, Some((value, chosen))) => Ok((value, Some(chosen))),
            (None, None) if self.senders_gone => Err(TryRecvError::Disconnected),
            (None, None) => Err(TryRecvError::Empty),
        }
    }

    /// Gives memory back that an unbounded queue once needed: half of it, when a quarter would
    /// do. So the cost is shared by as many values as were taken out.
    fn shrink(&mut self) {
        let capacity = self.queue.capacity();
        if capacity / 4 > self.queue.len() && capacity > KEPT_BYTES / size_of::<T>().max(1) {
            self.queue.shrink_to(capacity / 2);
        }
    }

    fn can_put(&self, decision: &Decision) -> bool {
        self.receivers_gone
            || self.queue.len() < self.limit
            || self.has_partner(Side::Receiver, decision)
    }

    fn can_take(&self, decision: &Decision) -> bool {
        self.senders_gone || !self.queue.is_empty() || self.has_partner(Side::Sender, decision)
    }

    /// Whether somebody waits in a list whom the select of this decision could meet. It cannot
    /// meet itself.
    fn has_partner(&self, side: Side, decision: &Decision) -> bool {
        // SAFETY: linked nodes stay in place.
        unsafe { self.list(side).any(|waiting| waiting.is_open_to(decision)) }
    }
}

fn count_one_more(count: &AtomicUsize) {
    // Relaxed: who adds one holds one, as with `Arc`; and as there, only leaks get this far.
    if count.fetch_add(1, Ordering::Relaxed) > usize::MAX / 2 {
        std::process::abort();
    }
}

fn wake(chosen: Option<Chosen>) {
    wake_from(current::worker(), chosen);
}

#[inline]
fn wake_from(worker: Option<&Worker>, chosen: Option<Chosen>) {
    if let Some(chosen) = chosen {
        chosen.wake_from(worker);
    }
}

/// A call that may wait begins so: after a run of calls that did not wait, others get their turn;
/// and a pending cancel, or a limit that has passed, ends it before a value has moved. Returns the
/// caller's worker.
pub(crate) fn begin_call() -> Option<&'static Worker> {
    let worker = current::worker();
    let is_cut = match worker {
        Some(worker) => {
            worker.charge();
            let is_cut = wait::is_cancellable(worker);
            if is_cut {
                // One who swallows its cancel and calls again starves nobody.
                worker.yield_now();
            }
            is_cut
        }
        None => wait::is_elapsed(),
    };
    if is_cut {
        wait::raise_cancelled();
    }
    worker
}
