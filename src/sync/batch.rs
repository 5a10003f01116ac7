//! Waiters taken out of a queue together, to be woken once it is unlocked.

use crate::wait::Chosen;

const CAPACITY: usize = 16;

/// Some waiters, in the order they were chosen.
pub(crate) struct Batch {
    chosen: [Option<Chosen>; CAPACITY],
    len: usize,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch { chosen: [const { None }; CAPACITY], len: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == CAPACITY
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// # Panics
    ///
    /// When it is full.
    pub(crate) fn push(&mut self, chosen: Chosen) {
        self.chosen[self.len] = Some(chosen);
        self.len += 1;
    }

    /// Wakes them all. The queue must not be locked.
    pub(crate) fn wake(self) {
        self.chosen.into_iter().flatten().for_each(Chosen::wake);
    }
}
