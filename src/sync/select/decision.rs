//! Which arm a round of a select ends with: decided once, by whoever comes first.
//!
//! ```text
//!   OPEN --decide(arm), by a peer that found the arm's node--> that arm
//!     |
//!     `---abandon, by the select itself----------------------> ABANDONED
//! ```
//!
//! A peer decides under the lock of the thing that the node waits at, does there what the arm is
//! about, and wakes the select afterwards. The select, when it knows that nobody else will decide,
//! takes its nodes out of all the others, lock by lock: after that nobody knows of the round.

use crate::atomics::{AtomicU32, Ordering};

const OPEN: u32 = 0;
const ABANDONED: u32 = 1;
const FIRST_ARM: u32 = 2;

#[derive(Debug)]
pub struct Decision(AtomicU32);

impl Decision {
    pub(crate) fn new() -> Decision {
        Decision(AtomicU32::new(OPEN))
    }

    /// A peer wants this arm; whether it may have it.
    pub(crate) fn decide(&self, arm: usize) -> bool {
        self.end(FIRST_ARM + arm as u32).is_ok()
    }

    /// The select wants to go on without a peer; if one was faster, the arm that it decided for.
    pub(crate) fn abandon(&self) -> Result<(), usize> {
        self.end(ABANDONED).map_err(|word| (word - FIRST_ARM) as usize)
    }

    /// Whether nobody has decided yet. Out of date as soon as it is known.
    pub(crate) fn is_open(&self) -> bool {
        // Relaxed: it guards nothing; who acts upon it asks again by `decide` or `abandon`.
        self.0.load(Ordering::Relaxed) == OPEN
    }

    fn end(&self, word: u32) -> Result<(), u32> {
        // Relaxed: only who wins matters here. What a peer did to the arm is seen by the select
        // when it finds itself woken, which comes after.
        let ended = self.0.compare_exchange(OPEN, word, Ordering::Relaxed, Ordering::Relaxed);
        ended.map(drop)
    }
}
