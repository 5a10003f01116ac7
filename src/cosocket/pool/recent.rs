//! The pools that were found lately on one worker, by what was asked for.
//!
//! A look-up by key forms the key: it prints the address, and hashes the text. Who asks for the
//! same again and again, as a handler does for each request, is answered here by a comparison.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Pooled;
use super::stock::Stock;

/// A worker that uses more pools than this looks the others up.
const ROOM: usize = 8;

/// What stands for a key that has a name and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortcut<'a> {
    /// The name is this address, printed.
    Address(SocketAddr),
    Name(&'a str),
}

#[derive(Debug)]
enum Kept {
    Address(SocketAddr),
    Name(Box<str>),
}

impl Kept {
    fn is(&self, shortcut: Shortcut<'_>) -> bool {
        match (self, shortcut) {
            (Kept::Address(kept), Shortcut::Address(asked)) => *kept == asked,
            (Kept::Name(kept), Shortcut::Name(asked)) => **kept == *asked,
            _ => false,
        }
    }
}

/// See the module. On cache lines of its own, as a shard is.
#[repr(align(128))]
pub(super) struct Recent<C: Pooled>(Mutex<Vec<(Kept, Weak<Stock<C>>)>>);

impl<C: Pooled> Recent<C> {
    pub(super) fn new() -> Recent<C> {
        Recent(Mutex::default())
    }

    /// The stock, which may have been retired since.
    pub(super) fn find(&self, shortcut: Shortcut<'_>) -> Option<Arc<Stock<C>>> {
        let all = self.lock();
        all.iter().find(|(kept, _)| kept.is(shortcut)).and_then(|(_, stock)| stock.upgrade())
    }

    /// In place of the one kept for the same, or else of the one that was found first.
    pub(super) fn remember(&self, shortcut: Shortcut<'_>, stock: &Arc<Stock<C>>) {
        let kept = match shortcut {
            Shortcut::Address(address) => Kept::Address(address),
            Shortcut::Name(name) => Kept::Name(name.into()),
        };
        let mut all = self.lock();
        all.retain(|(kept, stock)| !kept.is(shortcut) && stock.strong_count() > 0);
        if all.len() == ROOM {
            all.remove(0);
        }
        all.push((kept, Arc::downgrade(stock)));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Kept, Weak<Stock<C>>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
