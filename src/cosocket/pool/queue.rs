//! Callers who wait for a place in a pool, in the order in which they came.
//!
//! What a waiter is granted is put into its seat while the queue is locked, together with its
//! leaving the queue. So a waiter that gives up, by a timeout or a cancel, finds itself either
//! still queued, and leaves, or granted, and then the grant wins: nothing is granted to nobody.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{self, NEVER, Nanos};
use crate::current;
use crate::io_handle::bounds::Cut;
use crate::wait::{self, Reason, WaitSlot};

/// Waiters, each for something of type `G`.
pub(crate) struct Queue<G> {
    seats: Mutex<VecDeque<Arc<Seat<G>>>>,
}

struct Seat<G> {
    granted: AtomicBool,
    grant: Mutex<Option<G>>,
    slot: WaitSlot,
}

/// The queue, locked.
pub(crate) struct LockedQueue<'a, G>(MutexGuard<'a, VecDeque<Arc<Seat<G>>>>);

/// The place of one who waits.
pub(crate) struct Queued<G>(Arc<Seat<G>>);

/// One that was taken out of the queue and granted something: to be woken once it is unlocked.
#[must_use]
pub(crate) struct Granted<G>(Arc<Seat<G>>);

/// Why a wait ended with nothing.
#[derive(Debug)]
pub(crate) enum Ended {
    TimedOut,
    /// By another, who closed the socket.
    Cut,
    /// From outside, by a limit around the call.
    Interrupted(io::Error),
}

/// A cut wakes a coroutine. A plain thread, which waits for its grant only, looks for it so often.
const LOOK_PERIOD: Nanos = 20_000_000;

impl<G> Queue<G> {
    pub(crate) fn new() -> Queue<G> {
        Queue { seats: Mutex::default() }
    }

    pub(crate) fn lock(&self) -> LockedQueue<'_, G> {
        // No code of others runs under this lock.
        LockedQueue(self.seats.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for the grant until `deadline`, or until it is cut. If there is none by then, or
    /// something else ends the wait, `leave` runs while the queue is locked. A cancel unwinds,
    /// after that.
    pub(crate) fn wait(
        &self,
        queued: Queued<G>,
        deadline: Nanos,
        cut: &Cut,
        leave: impl FnOnce(),
    ) -> Result<G, Ended> {
        let Queued(seat) = queued;
        if !seat.wait(deadline, cut) {
            let mut queue = self.lock();
            if queue.remove(&seat) {
                leave();
                drop(queue);
                return Err(match clock::now() >= deadline {
                    true => Ended::TimedOut,
                    false if cut.is_set() => Ended::Cut,
                    false => Ended::Interrupted(wait::cancelled()),
                });
            }
        }
        let grant = seat.grant.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(grant.expect("granted before it left the queue"))
    }
}

impl<G> Seat<G> {
    fn is_granted(&self) -> bool {
        self.granted.load(Ordering::Acquire)
    }

    /// False if something else came before the grant.
    fn wait(&self, deadline: Nanos, cut: &Cut) -> bool {
        let is_thread = current::worker().is_none();
        loop {
            let until = if is_thread { clock::now() + LOOK_PERIOD } else { NEVER };
            let is_over = || self.is_granted() || cut.is_set();
            let until = (until < deadline).then_some(until);
            if self.slot.wait_until(is_over, Reason::PLACE, until.or(Some(deadline)), false) {
                return self.is_granted();
            }
            // If it was not only the time to look again, something else has ended it.
            if until.is_none_or(|until| clock::now() < until) {
                return self.is_granted();
            }
        }
    }
}

impl<G> LockedQueue<'_, G> {
    pub(crate) fn join(&mut self) -> Queued<G> {
        let seat = Arc::new(Seat {
            granted: AtomicBool::new(false),
            grant: Mutex::new(None),
            slot: WaitSlot::new(),
        });
        self.0.push_back(Arc::clone(&seat));
        Queued(seat)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Grants something to the head of the queue, which must not be empty.
    pub(crate) fn grant(&mut self, grant: G) -> Granted<G> {
        let seat = self.0.pop_front().expect("somebody waits");
        *seat.grant.lock().unwrap_or_else(PoisonError::into_inner) = Some(grant);
        seat.granted.store(true, Ordering::Release);
        Granted(seat)
    }

    fn remove(&mut self, seat: &Arc<Seat<G>>) -> bool {
        let position = self.0.iter().position(|other| Arc::ptr_eq(other, seat));
        position.and_then(|position| self.0.remove(position)).is_some()
    }
}

impl<G> Granted<G> {
    pub(crate) fn wake(self) {
        self.0.slot.wake();
    }
}
