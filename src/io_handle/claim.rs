//! Whose turn it is on one half of a descriptor.
//!
//! ```text
//!   FREE --claim--> HELD --claim by another--> CONTENDED --release--> handed to the longest
//!     ^              |  ^                                             waiting; HELD again when
//!     `---release----'  `------- no more waiting ---------------------none is left
//! ```
//!
//! Several coroutines may read one socket, as several threads may in std; each call is whole, and
//! they take turns in the order of their arrival. So at any time one coroutine a direction talks
//! to the driver, which keeps the order of bytes when inline attempts and ring operations mix.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::clock::Nanos;
use crate::wait::{Kind, Reason, Signal, WaitQueue, Waiter};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

pub(crate) struct Claim {
    state: AtomicU32,
    queue: WaitQueue,
}

/// The claim, held; released when dropped.
pub(crate) struct Held<'a>(&'a Claim);

impl Claim {
    pub(crate) const fn new() -> Claim {
        Claim { state: AtomicU32::new(FREE), queue: WaitQueue::new() }
    }

    /// Waits for the claim: one compare-and-swap when nobody has it.
    #[inline]
    pub(crate) fn acquire(
        &self,
        fd: i32,
        deadline: impl Fn() -> Option<Nanos>,
    ) -> Result<Held<'_>, Signal> {
        match self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Held(self)),
            Err(_) => self.acquire_queued(fd, deadline()),
        }
    }

    /// The claim, if it can be had without waiting.
    pub(crate) fn try_acquire(&self) -> Option<Held<'_>> {
        let taken = self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok().then_some(Held(self))
    }

    #[cold]
    fn acquire_queued(&self, fd: i32, deadline: Option<Nanos>) -> Result<Held<'_>, Signal> {
        let waiter = Waiter::new();
        let mut queue = self.queue.lock();
        // Under the lock, so that a release either sees CONTENDED or comes before this.
        if self.state.swap(CONTENDED, Ordering::Acquire) == FREE {
            if queue.is_empty() {
                self.state.store(HELD, Ordering::Relaxed);
            }
            return Ok(Held(self));
        }
        // SAFETY: the waiter stays in this frame, and `wait` returns only when it is off the
        // queue.
        unsafe { queue.push(&waiter) };
        drop(queue);
        match self.queue.wait(&waiter, Reason::io(Kind::Turn, fd), deadline) {
            Signal::Wake => Ok(Held(self)),
            ended => Err(ended),
        }
    }

    #[cold]
    fn release_queued(&self) {
        let mut queue = self.queue.lock();
        let next = queue.pop();
        let after = match (&next, queue.is_empty()) {
            (None, _) => FREE,
            (Some(_), true) => HELD,
            (Some(_), false) => CONTENDED,
        };
        self.state.store(after, Ordering::Release);
        drop(queue);
        if let Some(next) = next {
            next.wake();
        }
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        let claim = self.0;
        if claim.state.compare_exchange(HELD, FREE, Ordering::Release, Ordering::Relaxed).is_err() {
            claim.release_queued();
        }
    }
}
