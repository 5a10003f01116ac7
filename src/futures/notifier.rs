//! The waker of a `block_on`: makes its coroutine ready, or wakes its thread.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::Wake;
use std::thread::{self, Thread};

use crate::coroutine::Spawned;
use crate::current;
use crate::doorbell::Doorbell;
use crate::mailbox::WOKEN;

/// Woken from any thread, also when its `block_on` is long over.
pub(super) struct Notifier {
    notified: AtomicBool,
    party: Party,
}

enum Party {
    Coroutine(Arc<dyn Spawned>),
    /// With what ends its wait for descriptors, once it has waited for some.
    Thread(Thread, OnceLock<Doorbell>),
}

impl Notifier {
    /// For the calling coroutine or thread.
    pub(super) fn new() -> Notifier {
        let party = match current::worker() {
            // SAFETY: the current coroutine has not finished, and this is its worker.
            Some(worker) => Party::Coroutine(unsafe { worker.current().packet() }),
            None => Party::Thread(thread::current(), OnceLock::new()),
        };
        Notifier { notified: AtomicBool::new(false), party }
    }

    pub(super) fn notify(&self) {
        // SeqCst, and the fence: see `bell`.
        if self.notified.swap(true, Ordering::SeqCst) {
            return;
        }
        match &self.party {
            Party::Coroutine(coroutine) => coroutine.identity().signal(WOKEN),
            Party::Thread(thread, bell) => {
                thread.unpark();
                fence(Ordering::SeqCst);
                if let Some(bell) = bell.get() {
                    bell.ring();
                }
            }
        }
    }

    /// Whether it was notified since the last time.
    pub(super) fn take(&self) -> bool {
        self.notified.load(Ordering::Relaxed) && self.notified.swap(false, Ordering::SeqCst)
    }

    /// What a thread that waits for descriptors has to watch beside them: `None` if it was
    /// notified already. Whoever notifies later sees the bell; between the fences, one of the two
    /// sees the other.
    pub(super) fn bell(&self) -> Option<BorrowedFd<'_>> {
        let Party::Thread(_, bell) = &self.party else {
            unreachable!("a coroutine is woken by its worker");
        };
        let bell = bell.get_or_init(|| {
            Doorbell::new().expect("no descriptor left to wait with: raise RLIMIT_NOFILE")
        });
        bell.answer();
        fence(Ordering::SeqCst);
        (!self.notified.load(Ordering::SeqCst)).then(|| bell.as_fd())
    }
}

impl Wake for Notifier {
    fn wake(self: Arc<Notifier>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Notifier>) {
        self.notify();
    }
}
