//! A meeting place: nobody goes on until all have come.

use std::fmt;
use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::wait::{self, LockedQueue, Reason, Shield, Signal, WaitQueue, Waiter};

/// Lets several coroutines or threads wait for each other; see [`std::sync::Barrier`].
///
/// It may be used again and again: once all have come, the next round begins.
///
/// ```
/// use cosocket::sync::Barrier;
/// use cosocket::thread;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let barrier = Barrier::new(3);
/// let (arrived, leaders) = (AtomicUsize::new(0), AtomicUsize::new(0));
/// thread::scope(|scope| {
///     for _ in 0..3 {
///         scope.spawn(|| {
///             arrived.fetch_add(1, Ordering::Relaxed);
///             if barrier.wait().is_leader() {
///                 leaders.fetch_add(1, Ordering::Relaxed);
///             }
///             assert_eq!(arrived.load(Ordering::Relaxed), 3);
///         });
///     }
/// });
/// assert_eq!(leaders.into_inner(), 1);
/// ```
pub struct Barrier {
    parties: usize,
    /// How many of this round wait. Changed under the queue's lock only, which orders it.
    arrived: AtomicUsize,
    queue: WaitQueue,
}

// A panic leaves nothing half done in it.
impl RefUnwindSafe for Barrier {}

/// Whether this caller of [`Barrier::wait`] is the one in its round that was chosen as leader.
pub struct BarrierWaitResult(bool);

impl Barrier {
    /// A barrier for rounds of `n`. With 0 as with 1, `wait` never waits.
    #[must_use]
    pub const fn new(n: usize) -> Barrier {
        Barrier { parties: n, arrived: AtomicUsize::new(0), queue: WaitQueue::new() }
    }

    /// Waits until `n` callers, this one among them, have come. The last one is the leader.
    ///
    /// A cancel unwinds out of it: then this caller has not come, and the others wait for another
    /// in its place. A cancel that meets the end of the round is too late for this wait.
    pub fn wait(&self) -> BarrierWaitResult {
        let _shield = Shield::where_nothing_unwinds();
        let waiter = Waiter::new();
        let mut queue = self.queue.lock();
        let arrived = self.arrived.load(Ordering::Relaxed) + 1;
        if arrived >= self.parties {
            self.arrived.store(0, Ordering::Relaxed);
            let others = queue.take_all();
            drop(queue);
            others.wake();
            return BarrierWaitResult(true);
        }
        self.arrived.store(arrived, Ordering::Relaxed);
        // SAFETY: the waiter stays in this frame, and the wait below returns only when it is off
        // the queue.
        unsafe { queue.push(&waiter) };
        drop(queue);
        let withdraw = |_: &mut LockedQueue<'_>| {
            self.arrived.fetch_sub(1, Ordering::Relaxed);
        };
        match self.queue.wait_or_leave(&waiter, Reason::BARRIER, None, withdraw) {
            Signal::Wake => BarrierWaitResult(false),
            Signal::Cancelled | Signal::TimedOut => wait::raise_cancelled(),
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}

impl BarrierWaitResult {
    /// True for one caller in each round.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl fmt::Debug for BarrierWaitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWaitResult").field("is_leader", &self.is_leader()).finish()
    }
}
