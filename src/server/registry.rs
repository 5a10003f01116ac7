//! The handlers that run: counted, cancelled, waited for, named.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Address;
use crate::clock::Nanos;
use crate::coroutine::Kept;
use crate::mailbox::CANCELLED;
use crate::sync::OwnedSemaphorePermit;
use crate::thread::{Thread, ThreadId};
use crate::wait::{Reason, WaitQueue};

/// Who is there.
pub(super) struct Registry {
    present: Mutex<Present>,
    /// Those who wait until nobody is.
    empty: WaitQueue,
}

#[derive(Default)]
struct Present {
    handlers: HashMap<u64, Entry>,
    next: u64,
    /// The time is up: who comes late is cancelled at once.
    is_over: bool,
}

struct Entry {
    peer: Arc<Address>,
    since: Instant,
    /// `None` for the moment before the coroutine is spawned.
    thread: Option<Thread>,
}

/// Held by a handler's coroutine until it is over: its entry, and its permit to be there.
pub(super) struct Membership {
    number: u64,
    registry: Arc<Registry>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Kept for Membership {
    fn unhandled_panic(&self) {}
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut present = self.registry.lock();
        let entry = present.handlers.remove(&self.number);
        let is_empty = present.handlers.is_empty();
        drop(present);
        // It may hold the last handle to a coroutine's packet.
        drop(entry);
        if is_empty {
            self.registry.empty.wake_all();
        }
    }
}

impl Registry {
    pub(super) fn new() -> Arc<Registry> {
        Arc::new(Registry { present: Mutex::default(), empty: WaitQueue::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Present> {
        // Nothing panics under the lock; see `WaitQueue::lock` for poison.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().handlers.len()
    }

    /// Before the coroutine is spawned, which is to keep this.
    pub(super) fn enter(
        self: &Arc<Registry>,
        peer: Arc<Address>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Membership {
        let mut present = self.lock();
        let number = present.next;
        present.next += 1;
        present.handlers.insert(number, Entry { peer, since: Instant::now(), thread: None });
        Membership { number, registry: Arc::clone(self), _permit: permit }
    }

    /// After it; it may be over already.
    pub(super) fn name(&self, number: u64, thread: &Thread) {
        let mut present = self.lock();
        let is_over = present.is_over;
        if let Some(entry) = present.handlers.get_mut(&number) {
            entry.thread = Some(thread.clone());
            if is_over {
                cancel(thread);
            }
        }
    }

    /// Waits until nobody is there; false when the deadline passed before that.
    pub(super) fn wait_empty(&self, deadline: Option<Nanos>) -> bool {
        self.empty.wait_until(|| self.len() == 0, Reason::SHUTDOWN, deadline)
    }

    /// Cancels all, and whoever comes later. Returns how many there are.
    pub(super) fn cancel_all(&self) -> usize {
        let mut present = self.lock();
        present.is_over = true;
        present.handlers.values().filter_map(|entry| entry.thread.as_ref()).for_each(cancel);
        present.handlers.len()
    }

    pub(super) fn stragglers(&self) -> Vec<Straggler> {
        let present = self.lock();
        let straggler = |entry: &Entry| Straggler {
            peer: entry.peer.as_ref().clone(),
            id: entry.thread.as_ref().map(Thread::id),
            age: entry.since.elapsed(),
        };
        let mut stragglers: Vec<Straggler> = present.handlers.values().map(straggler).collect();
        stragglers.sort_by_key(|straggler| std::cmp::Reverse(straggler.age));
        stragglers
    }
}

impl Membership {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// A flag and a wake-up: nothing of the coroutine's runs here.
fn cancel(thread: &Thread) {
    if let Some(coroutine) = thread.coroutine() {
        coroutine.identity().signal(CANCELLED);
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A handler that is not over although it was cancelled: it holds the cancel back by a
/// [`shield`](crate::shield), swallows it, or computes without ever waiting.
#[derive(Clone, Debug)]
pub struct Straggler {
    peer: Address,
    id: Option<ThreadId>,
    age: Duration,
}

impl Straggler {
    /// Who is served, as the kernel tells.
    #[must_use]
    pub fn peer(&self) -> &Address {
        &self.peer
    }

    /// Which coroutine it is, to be found in a dump.
    #[must_use]
    pub fn id(&self) -> Option<ThreadId> {
        self.id
    }

    /// For how long it has been served.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age
    }
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, served for {:?}", self.peer, self.age)
    }
}
