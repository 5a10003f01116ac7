//! Values whose fates are written down: none may be lost, or be had twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// What became of each value.
pub struct Ledger {
    issued: AtomicUsize,
    fates: Vec<Fate>,
}

#[derive(Default)]
struct Fate {
    sent: AtomicU8,
    returned: AtomicU8,
    received: AtomicU8,
    dropped: AtomicU8,
}

/// A value with a number.
pub struct Token {
    pub number: usize,
    ledger: Arc<Ledger>,
}

impl Ledger {
    pub fn new(tokens: usize) -> Arc<Ledger> {
        let fates = (0..tokens).map(|_| Fate::default()).collect();
        Arc::new(Ledger { issued: AtomicUsize::new(0), fates })
    }

    /// The next token; `None` when all are issued.
    pub fn issue(self: &Arc<Ledger>) -> Option<Token> {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        (number < self.fates.len()).then(|| Token { number, ledger: Arc::clone(self) })
    }

    /// The channel took it.
    pub fn note_sent(&self, number: usize) {
        self.fates[number].sent.fetch_add(1, Ordering::Relaxed);
    }

    /// To be called when nobody sends or receives any more.
    pub fn check(&self) -> Totals {
        let mut totals = Totals::default();
        for (number, fate) in self.fates.iter().enumerate() {
            let [sent, returned, received, dropped] =
                [&fate.sent, &fate.returned, &fate.received, &fate.dropped]
                    .map(|count| usize::from(count.load(Ordering::Relaxed)));
            let story = || format!("{number}: {sent} {returned} {received} {dropped}");
            assert_eq!(received, sent, "sent means received, and nothing else does: {}", story());
            assert!(sent + returned <= 1, "sent and given back: {}", story());
            let issued = usize::from(number < self.issued.load(Ordering::Relaxed));
            assert_eq!(dropped, issued, "dropped once: {}", story());
            totals.received += received;
            totals.returned += returned;
            totals.cut += issued - sent - returned;
        }
        totals
    }
}

/// How many tokens met which fate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub received: usize,
    pub returned: usize,
    /// Dropped by a sender that was cancelled.
    pub cut: usize,
}

impl Token {
    /// A receiver has it.
    pub fn receive(self) {
        self.ledger.fates[self.number].received.fetch_add(1, Ordering::Relaxed);
    }

    /// Its sender got it back.
    pub fn give_back(self) {
        self.ledger.fates[self.number].returned.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.ledger.fates[self.number].dropped.fetch_add(1, Ordering::Relaxed);
    }
}
