//! Arms under epoll: any number of coroutines that wait for a descriptor to become ready, beside
//! the one that reads and the one that writes.
//!
//! ```text
//!   owner                                       event, any worker's turn
//!   snapshot
//!   poll(2): not ready                          tick + 1, READY; its waiter is woken
//!   lock { WATCHED, unless the tick is newer    WATCHED?
//!          list + arm }                            lock { each arm: off the list, owner woken
//!   suspend <---------------------------------------------- WATCHED off }
//!   poll(2) again: an edge is a hint
//! ```
//!
//! The waiter in a `Readiness` is for those who transfer, and have claimed their half. An arm
//! only looks. It claims nothing, so it neither waits for a reader's turn nor makes one wait; and
//! as it asks the kernel for the state itself, it does not care what `Readiness` thinks of it.
//!
//! `WATCHED` is set and cleared under the lock, and looked at without: an event that comes after
//! it was set sees it, one that came before has moved the tick on, and the arm asks again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::arm_slot::ArmSlot;
use super::readiness::Snapshot;
use super::source::Source;
use crate::list::List;

/// So many that workers seldom meet. A source has no room for a lock of its own.
static LOCKS: [Mutex<()>; 64] = [const { Mutex::new(()) }; 64];

/// The arms that watch a source, behind its lock.
#[derive(Debug)]
pub(super) struct Arms(List<ArmSlot>);

// SAFETY: the list and its nodes' links are touched under the source's lock only, and slots are
// never freed.
unsafe impl Send for Arms {}
// SAFETY: as above.
unsafe impl Sync for Arms {}

// What is behind the lock is whole whenever the lock is free: no code of others runs in it.
impl std::panic::RefUnwindSafe for Arms {}

impl Arms {
    pub(super) const fn new() -> Arms {
        Arms(List::new())
    }
}

/// Both directions of a source at one moment, where they are of interest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshots {
    read: Option<Snapshot>,
    write: Option<Snapshot>,
}

impl Source {
    /// To be taken before one asks whether the descriptor is ready for `events`.
    pub(crate) fn snapshots(&self, events: i16) -> Snapshots {
        let writes = events & libc::POLLOUT != 0;
        let reads = events & !libc::POLLOUT != 0 || !writes;
        Snapshots {
            read: reads.then(|| self.read.snapshot()),
            write: writes.then(|| self.write.snapshot()),
        }
    }

    /// Has the arm's owner woken by the next event. False if one has come since the snapshots.
    pub(crate) fn watch(&self, arm: &'static ArmSlot, snapshots: Snapshots) -> bool {
        let _locked = self.lock_arms();
        let is_new = snapshots.read.is_none_or(|snapshot| self.read.watch(snapshot))
            && snapshots.write.is_none_or(|snapshot| self.write.watch(snapshot));
        if is_new {
            arm.set_watching(true);
            // SAFETY: under the lock; slots are never freed, and this one is in no list, for its
            // owner has taken it and finds it not watching.
            unsafe { self.arms.0.push_back(arm) };
        }
        self.unwatch_if_empty();
        is_new
    }

    /// Ends the watch, if no event has.
    pub(crate) fn unwatch(&self, arm: &'static ArmSlot) {
        let _locked = self.lock_arms();
        if arm.is_watching() {
            // SAFETY: it watches this source, so it is in this list; we have the lock.
            unsafe { self.arms.0.remove(arm) };
            arm.set_watching(false);
            self.unwatch_if_empty();
        }
    }

    /// After an event: takes all arms off, and tells whom to wake.
    pub(super) fn wake_arms(&self, woken: &mut dyn FnMut(*const ())) {
        if !self.read.is_watched() && !self.write.is_watched() {
            return;
        }
        let _locked = self.lock_arms();
        // SAFETY: under the lock; slots are never freed.
        while let Some(arm) = unsafe { self.arms.0.pop_front() } {
            // SAFETY: as above.
            let arm = unsafe { &*arm };
            let owner = arm.owner();
            arm.set_watching(false);
            woken(owner.cast());
        }
        self.unwatch_if_empty();
    }

    fn unwatch_if_empty(&self) {
        if self.arms.0.is_empty() {
            self.read.unwatch();
            self.write.unwatch();
        }
    }

    fn lock_arms(&self) -> MutexGuard<'static, ()> {
        let position = (&raw const *self).addr() / align_of::<Source>() % LOCKS.len();
        LOCKS[position].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
