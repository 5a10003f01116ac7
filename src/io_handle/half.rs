//! One half of a descriptor: whose turn it is, and how its last transfer went.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::claim::Claim;

pub(super) struct Half {
    pub(super) claim: Claim,
    /// An inline attempt is likely to succeed.
    pub(super) inline: AtomicBool,
    /// The last transfer showed that there is no more, and there is no source yet to say so.
    pub(super) exhausted: AtomicBool,
    /// Ring operations since the last probe.
    unprobed: AtomicU8,
}

/// Of so many ring operations on datagrams, one has an inline attempt follow.
const PROBE_PERIOD: u8 = 8;

impl Half {
    pub(super) const fn new(inline: bool) -> Half {
        Half {
            claim: Claim::new(),
            inline: AtomicBool::new(inline),
            exhausted: AtomicBool::new(false),
            unprobed: AtomicU8::new(0),
        }
    }

    /// Counts a ring operation. Only who holds the claim asks.
    pub(super) fn is_probe_due(&self) -> bool {
        let count = (self.unprobed.load(Ordering::Relaxed) + 1) % PROBE_PERIOD;
        self.unprobed.store(count, Ordering::Relaxed);
        count == 0
    }
}
