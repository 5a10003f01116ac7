//! How far an initialisation is: the one word of a `Once`.
//!
//! ```text
//!                 begin                        finish
//!   INCOMPLETE ------------> RUNNING --------------------------> COMPLETE   for good
//!        ^                   ^     |
//!        |  begin, by one    |     |-- the closure panicked ---> POISONED
//!        |  who forces ------|-----|--------------------------------'
//!        |                         |
//!        `---- it was cancelled ---'   (or has failed; to POISONED, if it came from there)
//! ```
//!
//! Whoever finds `COMPLETE` has acquired what the closure wrote; that is one load. Whoever begins
//! has acquired what the closures that failed before it wrote, too.
//!
//! `tests/loom_once.rs` includes this file and models these claims.

use crate::atomics::{AtomicU32, Ordering};

/// A phase that an initialisation rests in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Rest {
    Incomplete = 0,
    Poisoned = 1,
    Complete = 2,
}

const RUNNING: u32 = 3;

/// What whoever would like to initialise has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Turn {
    /// Initialise, then [`Phase::finish`]. What it began from is told.
    Ours {
        from: Rest,
    },
    /// Wait for the one who does.
    Theirs,
    Complete,
    Poisoned,
}

pub(crate) struct Phase(AtomicU32);

impl Phase {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Phase {
        Phase(AtomicU32::new(Rest::Incomplete as u32))
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Phase {
        Phase(AtomicU32::new(Rest::Incomplete as u32))
    }

    #[inline]
    pub(crate) fn is_complete(&self) -> bool {
        // Acquire: what the closure wrote is seen.
        self.0.load(Ordering::Acquire) == Rest::Complete as u32
    }

    /// Where it rests; `None` while a closure runs.
    pub(crate) fn rest(&self) -> Option<Rest> {
        rest_of(self.0.load(Ordering::Acquire))
    }

    /// Takes the turn, if it is nobody's. `forces`: in spite of poison.
    pub(crate) fn begin(&self, forces: bool) -> Turn {
        let mut turn = Turn::Theirs;
        // Acquire, both: of those who failed before us when we begin, of the one who completed it
        // when we find that.
        let _ = self.0.try_update(Ordering::Acquire, Ordering::Acquire, |word| {
            turn = match rest_of(word) {
                None => Turn::Theirs,
                Some(Rest::Complete) => Turn::Complete,
                Some(Rest::Poisoned) if !forces => Turn::Poisoned,
                Some(from) => Turn::Ours { from },
            };
            matches!(turn, Turn::Ours { .. }).then_some(RUNNING)
        });
        turn
    }

    /// Ends the turn that [`Phase::begin`] gave.
    pub(crate) fn finish(&self, rest: Rest) {
        // Release: what the closure wrote goes with it.
        self.0.store(rest as u32, Ordering::Release);
    }
}

fn rest_of(word: u32) -> Option<Rest> {
    [Rest::Incomplete, Rest::Poisoned, Rest::Complete].into_iter().find(|&rest| rest as u32 == word)
}
