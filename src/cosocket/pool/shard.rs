//! The idle connections that were parked on one worker, in the order in which they were parked.
//!
//! ```text
//!   parked first                                                   parked last
//!   [ settled | settled | settled | fresh | fresh ]
//!     ^ evicted from here           ^                taken from here ^
//!                                   `- those from here on have not been visited yet
//! ```
//!
//! A connection that was parked is likely to be taken again within microseconds, so it is only
//! put down here. One that is still here when the shard is visited, some milliseconds later, is
//! settled: from then on the [`Watch`](super::watch) hears when its peer sends or leaves.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Pooled;
use crate::clock::{NEVER, Nanos};

/// One worker's idle connections. On cache lines of its own: workers do not disturb each other.
#[repr(align(128))]
pub(crate) struct Shard<C>(Mutex<Idle<C>>);

/// A shard, locked.
pub(crate) struct Idle<C> {
    /// By `id`, and thus by the time when they were parked.
    entries: VecDeque<Entry<C>>,
    next_id: u64,
    /// So many at the front are settled.
    settled: usize,
    /// When the watch comes by; [`NEVER`] if it was not asked to.
    pub(crate) visit_at: Nanos,
    pub(crate) counts: Counts,
}

/// What is counted at no cost, under a shard's lock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) parked: u64,
    pub(crate) taken: u64,
}

/// A parked connection.
pub(crate) struct Entry<C> {
    pub(crate) connection: C,
    pub(crate) id: u64,
    pub(crate) parked_at: Nanos,
    /// Because it was idle for long enough, or because it is old: `NEVER` for neither.
    pub(crate) expires_at: Nanos,
    /// Under which number the watch knows it.
    pub(crate) token: Option<u64>,
}

impl<C: Pooled> Entry<C> {
    pub(crate) fn new(connection: C, parked_at: Nanos, expires_at: Nanos) -> Entry<C> {
        Entry { connection, id: 0, parked_at, expires_at, token: None }
    }
}

impl<C: Pooled> Shard<C> {
    pub(crate) fn new() -> Shard<C> {
        Shard(Mutex::new(Idle {
            entries: VecDeque::new(),
            next_id: 0,
            settled: 0,
            visit_at: NEVER,
            counts: Counts::default(),
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Idle<C>> {
        // What is behind the lock is whole at every moment: no code of others runs under it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Pooled> Idle<C> {
    /// Parks one.
    pub(crate) fn push(&mut self, mut entry: Entry<C>) {
        entry.id = self.next_id;
        self.next_id += 1;
        self.entries.push_back(entry);
    }

    /// Takes the one that was parked last.
    pub(crate) fn pop(&mut self) -> Option<Entry<C>> {
        let entry = self.entries.pop_back()?;
        self.settled = self.settled.min(self.entries.len());
        Some(entry)
    }

    /// When the one was parked that [`Idle::pop`] would give.
    pub(crate) fn newest(&self) -> Option<Nanos> {
        self.entries.back().map(|entry| entry.parked_at)
    }

    /// When the one was parked that has been here for longest.
    pub(crate) fn oldest(&self) -> Option<Nanos> {
        self.entries.front().map(|entry| entry.parked_at)
    }

    /// Takes the one that has been here for longest.
    pub(crate) fn pop_oldest(&mut self) -> Option<Entry<C>> {
        self.remove_at(0)
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Entry<C>> {
        let position = self.entries.binary_search_by_key(&id, |entry| entry.id).ok()?;
        self.remove_at(position)
    }

    pub(crate) fn has(&self, id: u64) -> bool {
        self.entries.binary_search_by_key(&id, |entry| entry.id).is_ok()
    }

    /// Puts one back where it was.
    pub(crate) fn put_back(&mut self, entry: Entry<C>) {
        let position = self.entries.partition_point(|other| other.id < entry.id);
        self.entries.insert(position, entry);
        self.settled += usize::from(position <= self.settled);
    }

    /// The one that expires first, of those that have expired at `now`.
    pub(crate) fn expired(&self, now: Nanos) -> Option<u64> {
        self.entries.iter().find(|entry| entry.expires_at <= now).map(|entry| entry.id)
    }

    /// Has `settle` called once for each that was parked no later than `until`.
    pub(crate) fn settle(&mut self, until: Nanos, mut settle: impl FnMut(&mut Entry<C>)) {
        while let Some(entry) = self.entries.get_mut(self.settled)
            && entry.parked_at <= until
        {
            settle(entry);
            self.settled += 1;
        }
    }

    /// When the shard is to be visited next: to settle the oldest that is not (`patience` after it
    /// was parked), or to see one expire.
    pub(crate) fn due(&self, patience: Nanos) -> Nanos {
        let expiry = self.entries.iter().map(|entry| entry.expires_at).min().unwrap_or(NEVER);
        let fresh = self.entries.get(self.settled);
        expiry.min(fresh.map_or(NEVER, |entry| entry.parked_at.saturating_add(patience)))
    }

    /// [`Idle::due`] of the one that was parked last.
    pub(crate) fn due_for_newest(&self, patience: Nanos) -> Nanos {
        let newest = self.entries.back();
        newest.map_or(NEVER, |entry| entry.expires_at.min(entry.parked_at.saturating_add(patience)))
    }

    fn remove_at(&mut self, position: usize) -> Option<Entry<C>> {
        let entry = self.entries.remove(position)?;
        self.settled -= usize::from(position < self.settled);
        Some(entry)
    }
}
