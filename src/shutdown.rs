//! The end of a runtime by a deadline, and the names of those that outlive it.
//!
//! ```text
//!   shutdown: cancel all -> wait: none live? -------------------> join the threads
//!                             | the deadline comes
//!                             v
//!                           call the roll: each worker tells of its coroutines
//!                             | one does not answer: somebody runs there, and does not wait
//!                             v
//!                           look at whom it runs -> stragglers; threads and stacks stay
//! ```
//!
//! A control block is its worker's to read. The exception is the one who runs on a worker that does
//! not answer: its identity is taken under the seat's `worker` lock, and one that finishes, after
//! it has announced that by clearing `Worker::current`, waits for that lock if somebody looks.
//! Both sides write first and then look, sequentially consistent, so one of them sees the other.

use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::coroutine::{Coroutine, Identity};
use crate::dump::Title;
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::thread::ThreadId;
use crate::wait::{Reason, WaitSlot};
use crate::worker::Worker;

/// How long the workers may take to answer the roll call. One that is merely busy turns within
/// some milliseconds; one that does not is stuck in a coroutine.
const ROLL_CALL: Duration = Duration::from_millis(200);

/// A coroutine that was still alive when the time of [`Runtime::shutdown`] was up.
///
/// ```
/// use cosocket::time::Duration;
///
/// let runtime = cosocket::Builder::new().build()?;
/// let (started, starts) = std::sync::mpsc::channel();
/// runtime.spawn(move || {
///     cosocket::shield(|| {
///         started.send(()).unwrap();
///         cosocket::thread::sleep(Duration::from_secs(3600));
///     });
/// });
/// starts.recv().unwrap();
/// let stragglers = runtime.shutdown(Duration::from_millis(5));
/// assert_eq!(stragglers.len(), 1);
/// assert_eq!(stragglers[0].waits_for(), Some("sleep"));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct Straggler {
    id: u64,
    name: Option<String>,
    spawned_at: &'static Location<'static>,
    worker: usize,
    waits_for: Option<String>,
}

impl Straggler {
    fn new(identity: &Identity, worker: usize, waits_for: Option<Reason>) -> Straggler {
        Straggler {
            id: identity.id,
            name: identity.name().map(str::to_owned),
            spawned_at: identity.spawned_at,
            worker,
            waits_for: waits_for.map(|reason| reason.to_string()),
        }
    }

    /// Which coroutine it is.
    pub fn id(&self) -> ThreadId {
        ThreadId::of_coroutine(self.id)
    }

    /// The name given to [`thread::Builder::name`](crate::thread::Builder::name).
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where it was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.spawned_at
    }

    /// The number of the worker it runs on.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// What it waits for, in words; `None` if it runs, or waits for its turn to run.
    pub fn waits_for(&self) -> Option<&str> {
        self.waits_for.as_deref()
    }
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = Title { id: self.id, name: self.name() };
        write!(f, "{title}, worker {}: ", self.worker)?;
        match self.waits_for() {
            Some(what) => write!(f, "waits for {what}")?,
            None => f.write_str("runs")?,
        }
        write!(f, "; spawned at {}", self.spawned_at)
    }
}

impl Runtime {
    /// Cancels every coroutine, waits for their end, for at most `patience`, and returns those that
    /// are alive even then. None means that the runtime is gone, threads and all.
    ///
    /// A coroutine outlives its cancel if it never waits, holds it back by a
    /// [`shield`](crate::shield), or swallows it. Stragglers keep what they have: their threads go
    /// on, their stacks stay mapped, and what the kernel is doing for them, it does. When the last
    /// of them is over, the threads end by themselves.
    ///
    /// The calling thread blocks; in a coroutine of another runtime, the coroutine waits, and
    /// what would cut that wait (a cancel, a [`timeout`](crate::time::timeout)) ends the patience.
    /// A worker that does not get to answer who its coroutines are, for one of them computes, holds
    /// this up for another fifth of a second; of its coroutines that one alone is named.
    ///
    /// # Panics
    ///
    /// In a coroutine of this very runtime, which would wait for itself. The runtime is then
    /// dropped, as by [`drop`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = cosocket::Builder::new().build()?;
    /// runtime.spawn(|| cosocket::thread::sleep(Duration::from_secs(3600)));
    /// let stragglers = runtime.shutdown(Duration::from_secs(10));
    /// assert!(stragglers.is_empty());
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn shutdown(mut self, patience: Duration) -> Vec<Straggler> {
        assert!(
            !self.is_own(),
            "cosocket: `shutdown` called by one of the runtime's own coroutines, which would wait \
             for itself; drop the runtime there, or call this from outside"
        );
        let end = clock::after(patience);
        let shared = Arc::clone(&self.shared);
        shared.stop();
        let drained = || shared.is_empty();
        if shared.drained.wait_until(drained, Reason::SHUTDOWN, Some(end), false) {
            return Vec::new();
        }
        let stragglers = shared.call_the_roll();
        if !shared.is_empty() {
            // Not joined: that is for the stragglers to say when.
            self.detach_threads();
        }
        stragglers
    }
}

/// The question to all workers who lives there, and the answers.
pub(crate) struct RollCall {
    answers: Mutex<Vec<Straggler>>,
    missing: AtomicUsize,
    all_answered: WaitSlot,
    /// Somebody looks, or has looked, at who runs on a worker.
    looks: AtomicBool,
}

impl RollCall {
    pub(crate) fn new() -> RollCall {
        RollCall {
            answers: Mutex::default(),
            missing: AtomicUsize::new(0),
            all_answered: WaitSlot::new(),
            looks: AtomicBool::new(false),
        }
    }
}

/// A worker's part in it, in its seat.
pub(crate) struct Desk {
    is_asked: AtomicBool,
    /// Where the worker says whom it runs; null when it has no thread.
    worker: Mutex<Running>,
}

struct Running(*const AtomicPtr<Coroutine>);

// SAFETY: it leads to an atomic of a worker, which stays while the lock around this is held.
unsafe impl Send for Running {}

impl Desk {
    pub(crate) fn new() -> Desk {
        Desk { is_asked: AtomicBool::new(false), worker: Mutex::new(Running(ptr::null())) }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker's thread is at its desk, until this is dropped.
pub(crate) struct AtDesk<'a>(&'a Desk);

impl Drop for AtDesk<'_> {
    fn drop(&mut self) {
        self.0.lock().0 = ptr::null();
    }
}

impl Shared {
    fn call_the_roll(&self) -> Vec<Straggler> {
        self.roll_call.missing.store(self.seats.len(), Ordering::SeqCst);
        for seat in &self.seats {
            seat.desk.is_asked.store(true, Ordering::SeqCst);
        }
        self.ring_all();
        let done = || self.is_empty() || self.roll_call.missing.load(Ordering::SeqCst) == 0;
        let end = Some(clock::after(ROLL_CALL));
        // A cancel has ended the patience already; for this there is always time.
        self.roll_call.all_answered.wait_until(done, Reason::SHUTDOWN, end, true);
        let mut stragglers = Vec::new();
        for (index, seat) in self.seats.iter().enumerate() {
            if seat.desk.is_asked.swap(false, Ordering::SeqCst) {
                stragglers.extend(self.look_at(index));
            }
        }
        let mut answers = self.roll_call.answers.lock().unwrap_or_else(PoisonError::into_inner);
        stragglers.append(&mut answers);
        stragglers.sort_by_key(|straggler| straggler.id);
        stragglers
    }

    /// Who runs on a worker that does not answer.
    fn look_at(&self, index: usize) -> Option<Straggler> {
        let running = self.seats[index].desk.lock();
        self.roll_call.looks.store(true, Ordering::SeqCst);
        // SAFETY: while the lock is held, the worker is there.
        let running = unsafe { running.0.as_ref() }?.load(Ordering::SeqCst);
        // SAFETY: control blocks are never freed.
        let block = unsafe { running.as_ref() }?;
        // SAFETY: it has not announced its end before we announced our look, so it waits for the
        // lock that we hold before it gives up its packet; that it runs, its worker has published.
        let identity = unsafe { block.identity_if_any() }?;
        Some(Straggler::new(identity, index, None))
    }
}

impl Worker {
    /// The worker's thread starts.
    pub(crate) fn sit_down(&self, running: &AtomicPtr<Coroutine>) -> AtDesk<'_> {
        let desk = &self.runtime.seats[self.index].desk;
        desk.lock().0 = running;
        AtDesk(desk)
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.runtime.seats[self.index].desk.is_asked.load(Ordering::SeqCst)
    }

    /// Tells who lives here.
    #[cold]
    pub(crate) fn answer_the_roll(&self) {
        let roll_call = &self.runtime.roll_call;
        let mut present = Vec::new();
        self.for_each_started(|block| {
            // SAFETY: started and not finished, and ours.
            let identity = unsafe { block.identity() };
            let reason = block.reason();
            let waits_for = (reason != Reason::NONE).then_some(reason);
            present.push(Straggler::new(identity, self.index, waits_for));
        });
        let mut answers = roll_call.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken back when it came too late.
        if self.runtime.seats[self.index].desk.is_asked.swap(false, Ordering::SeqCst) {
            answers.append(&mut present);
            drop(answers);
            if roll_call.missing.fetch_sub(1, Ordering::SeqCst) == 1 {
                roll_call.all_answered.wake();
            }
        }
    }

    /// The current coroutine has announced its end: waits for whoever looks at its identity.
    #[inline]
    pub(crate) fn wait_for_looks(&self) {
        if self.runtime.roll_call.looks.load(Ordering::SeqCst) {
            drop(self.runtime.seats[self.index].desk.lock());
        }
    }
}
