//! The node in the frame that waits, for coroutines and plain threads alike.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Reason, Signal, suspend};
use crate::clock::{self, NEVER, Nanos};
use crate::coroutine::Coroutine;
use crate::current;
use crate::limit;
use crate::list::{Links, Node};
use crate::mailbox::WOKEN;
use crate::worker::{self, Worker};

/// Who waits: a coroutine, or a plain thread.
#[derive(Clone, Copy)]
enum Party {
    Coroutine {
        /// Where it runs; for itself alone.
        worker: &'static Worker,
        block: &'static Coroutine,
        generation: u32,
    },
    Thread,
    /// A thread that sleeps by another of its nodes, whose word this is: see [`Waiter::arm_of`].
    ThreadElsewhere(*const AtomicU32),
}

/// `Waiter::woken`: by the waker of this node, who will not touch it again.
const RELEASED: u32 = 1;
/// `Waiter::woken`: its thread, by the waker of another node. Who sleeps looks again.
const STIRRED: u32 = 2;

/// A node in the frame that waits.
pub(crate) struct Waiter {
    pub(super) links: Links<Waiter>,
    party: Party,
    /// 0 until woken; the futex word of a waiting thread.
    woken: AtomicU32,
    /// What the two sides of a queue tell each other: the waiter before it is in the queue, and
    /// who chose it before it is woken.
    pub(super) note: Cell<u64>,
    /// The next one in a [`ChosenList`](super::ChosenList); belongs to whoever chose this one.
    pub(super) next_chosen: Cell<*const Waiter>,
}

// SAFETY: always the same field, which belongs to the queue's list.
unsafe impl Node for Waiter {
    unsafe fn links(node: *const Waiter) -> *const Links<Waiter> {
        // SAFETY: the caller passes a live node.
        unsafe { &raw const (*node).links }
    }
}

// SAFETY: the links are used under the queue's lock, note and `next_chosen` by one side at a time;
// the rest is immutable or atomic.
unsafe impl Send for Waiter {}
// SAFETY: as above.
unsafe impl Sync for Waiter {}

impl Waiter {
    #[inline]
    pub(crate) fn new() -> Waiter {
        Waiter::with_note(0)
    }

    #[inline]
    pub(crate) fn with_note(note: u64) -> Waiter {
        Waiter::on(current::worker(), note)
    }

    /// For the caller, whose worker this is.
    #[inline]
    pub(crate) fn on(worker: Option<&'static Worker>, note: u64) -> Waiter {
        let party = match worker {
            Some(worker) => {
                let block = worker.current();
                Party::Coroutine { worker, block, generation: block.signals.generation() }
            }
            None => Party::Thread,
        };
        Waiter {
            links: Links::new(),
            party,
            woken: AtomicU32::new(0),
            note: Cell::new(note),
            next_chosen: Cell::new(ptr::null()),
        }
    }

    /// A further node of who waits by `main`: its waker wakes, but does not release, `main`.
    ///
    /// For arms of a select. `main` must outlive the wake, or the withdrawal, of this one.
    pub(crate) fn arm_of(main: &Waiter) -> Waiter {
        let party = match main.party {
            Party::Thread => Party::ThreadElsewhere(&raw const main.woken),
            coroutine => coroutine,
        };
        Waiter { party, ..Waiter::new() }
    }

    /// What the waker left, or what the waiter came with. For the waiter when it is woken, and for
    /// others while it is linked and the queue locked.
    pub(crate) fn note(&self) -> u64 {
        self.note.get()
    }

    /// Waking it takes no atomic read-modify-write and no system call, asked on `worker`.
    pub(super) fn is_near(&self, worker: &Worker) -> bool {
        match self.party {
            Party::Coroutine { block, .. } => worker.is_home_of(block),
            Party::Thread | Party::ThreadElsewhere(_) => false,
        }
    }

    #[inline]
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire) & RELEASED != 0
    }

    /// Suspends the coroutine, or blocks the thread, once.
    #[inline]
    pub(crate) fn wait(&self, reason: Reason, deadline: Option<Nanos>, shielded: bool) -> Signal {
        match self.party {
            Party::Coroutine { worker, .. } => suspend(worker, reason, deadline, shielded),
            Party::Thread | Party::ThreadElsewhere(_) => {
                let limit = if shielded { None } else { limit::of_thread(reason.is_io()) };
                self.block_thread(deadline, limit)
            }
        }
    }

    /// Waits for the waker's last touch: it has taken this node off its list and will store
    /// `woken` within a few instructions.
    #[inline]
    pub(crate) fn settle(&self) {
        if !self.is_woken() {
            self.settle_down();
        }
    }

    #[cold]
    fn settle_down(&self) {
        while !self.is_woken() {
            match self.party {
                Party::Coroutine { .. } => {
                    self.wait(Reason::NONE, None, true);
                }
                Party::Thread | Party::ThreadElsewhere(_) => {
                    self.block_thread(None, None);
                }
            }
        }
    }

    /// Wakes whoever waits; `worker` is the caller's.
    ///
    /// # Safety
    ///
    /// The waiter was taken off its list or slot by the caller, who alone may wake it.
    #[inline]
    pub(super) unsafe fn wake(waiter: *const Waiter, worker: Option<&Worker>) {
        // SAFETY: an unlinked waiter stays in its frame until `woken` is stored.
        let party = unsafe { (*waiter).party };
        if let Party::ThreadElsewhere(main) = party {
            // SAFETY: the main node outlives this one's wake, which ends with the store below.
            unsafe { (*main).fetch_or(STIRRED, Ordering::Relaxed) };
        }
        // SAFETY: as above; this store is the last touch.
        let word = unsafe { &raw const (*waiter).woken };
        // SAFETY: as above.
        unsafe { (*word).store(RELEASED, Ordering::Release) };
        match party {
            Party::Coroutine { block, generation, .. } => {
                worker::signal_from(worker, block, generation, WOKEN);
            }
            // The frame may be gone by now: the kernel then finds nobody, or wakes a stranger
            // who looks at its own word again.
            Party::Thread => futex_wake(word.cast()),
            Party::ThreadElsewhere(main) => {
                futex_wake(word.cast());
                futex_wake(main.cast());
            }
        }
    }

    /// For the wait's own `deadline`, or to the `limit` around it.
    #[cold]
    fn block_thread(&self, deadline: Option<Nanos>, limit: Option<Nanos>) -> Signal {
        let (deadline, limit) = (deadline.unwrap_or(NEVER), limit.unwrap_or(NEVER));
        let timeout = match deadline.min(limit) {
            NEVER => None,
            nearest => match nearest.saturating_sub(clock::now()) {
                0 if deadline <= limit => return Signal::TimedOut,
                0 => return Signal::Cancelled,
                left => Some(Duration::from_nanos(left)),
            },
        };
        futex_wait(&self.woken, 0, timeout);
        Signal::Wake
    }
}

fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let timespec = timeout.map(|left| libc::timespec {
        tv_sec: left.as_secs() as libc::time_t,
        tv_nsec: left.subsec_nanos() as libc::c_long,
    });
    let timespec = timespec.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the timeout live through the call. Spurious returns are fine.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            timespec,
        )
    };
}

fn futex_wake(word: *const u32) {
    // SAFETY: the kernel only compares the address with those of its waiters.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
}
