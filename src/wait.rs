//! The one place that suspends, and the one kind of node that others wake.
//!
//! Every wait in the library is the same small loop:
//!
//! ```text
//!   publish a waiter  ->  condition true? ------------------------------> withdraw, go on
//!                              ^  | no
//!                              |  v
//!                              suspend(reason, deadline) -> Wake        (a hint: look again)
//!                                                        -> TimedOut    (withdraw, say so)
//!                                                        -> Cancelled   (withdraw, unwind)
//! ```
//!
//! `Cancelled` is what ends a wait from outside: a cancel, or an enclosing limit that has passed
//! (see [`crate::limit`]). Which of them it was matters only where the wait ends, in
//! [`cancelled`] and [`raise_cancelled`].
//!
//! A [`Waiter`] lies in the frame that waits, so waiting allocates nothing. Whoever wakes it
//! copies what it needs first; its last touch is the store of `woken`, after which the frame may
//! be gone. A waiter that finds itself unlinked but not yet woken therefore waits for that store
//! before it leaves (`Waiter::settle`).

mod cut;
mod shield;

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{self, NEVER, Nanos};
use crate::coroutine::Coroutine;
use crate::current;
use crate::limit::{self, Limit};
use crate::list::{Links, List, Node};
use crate::mailbox::WOKEN;
use crate::worker::{self, Worker};

pub(crate) use self::cut::{cancelled, is_cancellable, is_elapsed, is_io_cut, raise_cancelled};
pub(crate) use self::shield::Shield;

/// How a wait ended. A wake is a hint: every caller looks at its own condition again. `Cancelled`
/// also stands for an enclosing limit: see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Wake,
    TimedOut,
    Cancelled,
}

/// What a suspended coroutine waits for, for dumps and the deadlock report.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) kind: Kind,
    pub(crate) fd: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    None,
    Read,
    Write,
    Ready,
    Turn,
    Sleep,
    Park,
    Join,
    Scope,
    Lock,
    Condition,
    Barrier,
    Once,
    Permits,
    Channel,
    Select,
    #[cfg_attr(not(feature = "futures"), expect(dead_code))]
    Future,
    Blocking,
    LookUp,
    Place,
    Shutdown,
}

impl Reason {
    pub(crate) const NONE: Reason = Reason::new(Kind::None);
    pub(crate) const SLEEP: Reason = Reason::new(Kind::Sleep);
    pub(crate) const PARK: Reason = Reason::new(Kind::Park);
    pub(crate) const JOIN: Reason = Reason::new(Kind::Join);
    pub(crate) const SCOPE: Reason = Reason::new(Kind::Scope);
    pub(crate) const LOCK: Reason = Reason::new(Kind::Lock);
    pub(crate) const BARRIER: Reason = Reason::new(Kind::Barrier);
    pub(crate) const ONCE: Reason = Reason::new(Kind::Once);
    pub(crate) const PERMITS: Reason = Reason::new(Kind::Permits);
    pub(crate) const CONDITION: Reason = Reason::new(Kind::Condition);
    pub(crate) const BLOCKING: Reason = Reason::new(Kind::Blocking);
    pub(crate) const CHANNEL: Reason = Reason::new(Kind::Channel);
    pub(crate) const SELECT: Reason = Reason::new(Kind::Select);
    pub(crate) const LOOK_UP: Reason = Reason::new(Kind::LookUp);
    pub(crate) const PLACE: Reason = Reason::new(Kind::Place);
    pub(crate) const SHUTDOWN: Reason = Reason::new(Kind::Shutdown);

    pub(crate) const fn new(kind: Kind) -> Reason {
        Reason { kind, fd: -1 }
    }

    pub(crate) const fn io(kind: Kind, fd: i32) -> Reason {
        Reason { kind, fd }
    }

    /// A call that can fail: a limit then cuts it in a shield, too.
    pub(crate) fn is_io(self) -> bool {
        let Reason { kind, .. } = self;
        matches!(
            kind,
            Kind::Read | Kind::Write | Kind::Ready | Kind::Turn | Kind::LookUp | Kind::Place
        )
    }

    /// Something outside the coroutines (a descriptor, a clock, a pool job) ends this wait.
    pub(crate) fn ends_by_itself(self) -> bool {
        match self.kind {
            Kind::None
            | Kind::Read
            | Kind::Write
            | Kind::Ready
            | Kind::Sleep
            | Kind::Blocking
            | Kind::LookUp
            | Kind::Shutdown => true,
            // One of several, and a descriptor is among them.
            Kind::Select | Kind::Future => self.fd >= 0,
            _ => false,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.kind {
            Kind::None => "nothing",
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Ready => "readiness",
            Kind::Turn => "its turn on a socket",
            Kind::Sleep => "sleep",
            Kind::Park => "park",
            Kind::Join => "join",
            Kind::Scope => "the end of a scope",
            Kind::Lock => "a lock",
            Kind::Condition => "a condition variable",
            Kind::Barrier => "a barrier",
            Kind::Once => "a value being initialised",
            Kind::Permits => "permits of a semaphore",
            Kind::Channel => "a channel",
            Kind::Select => "one of several",
            Kind::Future => "a future",
            Kind::Blocking => "a blocking job",
            Kind::LookUp => "a name look-up",
            Kind::Place => "a place in a pool",
            Kind::Shutdown => "the end of a runtime",
        };
        if self.fd >= 0 { write!(f, "{what} fd={}", self.fd) } else { f.write_str(what) }
    }
}

/// Gives the worker to others until something makes this coroutine ready again.
///
/// `deadline` bounds this one wait. Unless `shielded`, a pending cancel or a limit that has passed
/// ends it. Both are sticky: a coroutine that caught the unwind and waits again yields once, then
/// is told again.
pub(crate) fn suspend(
    worker: &Worker,
    reason: Reason,
    deadline: Option<Nanos>,
    shielded: bool,
) -> Signal {
    let me = worker.current();
    let shielded = shielded || worker.may_be_unwinding();
    let is_cut = || {
        !shielded
            && me.signals.is_interrupted()
            && limit::interruption(me, reason.is_io()).is_some()
    };
    if is_cut() {
        worker.yield_now();
        return Signal::Cancelled;
    }
    me.set_reason(reason);
    worker.enter_wait_of(me);
    let timed_out = match deadline {
        Some(at) => Limit::around_wait(worker, me, at, || worker.switch_away(me)),
        None => {
            worker.switch_away(me);
            false
        }
    };
    worker.leave_wait_of(me);
    if timed_out {
        Signal::TimedOut
    } else if is_cut() {
        Signal::Cancelled
    } else {
        Signal::Wake
    }
}

/// The time, for what need not be exact: for a coroutine as of its worker's last look at the clock.
pub(crate) fn recent_time() -> Nanos {
    current::worker().map_or_else(clock::now, Worker::recent_time)
}

/// The deadline of a wait that is to last no longer than `timeout` from now.
pub(crate) fn deadline_after(timeout: Duration) -> Nanos {
    current::worker().map_or_else(|| clock::after(timeout), |worker| worker.after(timeout))
}

/// Who waits: a coroutine, or a plain thread.
#[derive(Clone, Copy)]
enum Party {
    Coroutine { block: &'static Coroutine, generation: u32 },
    Thread,
}

/// A node in the frame that waits.
pub(crate) struct Waiter {
    links: Links<Waiter>,
    party: Party,
    /// 0 until woken, then 1; the futex word of a waiting thread.
    woken: AtomicU32,
    /// What the two sides of a queue tell each other: the waiter before it is in the queue, and
    /// who chose it before it is woken.
    note: Cell<u64>,
    /// The next one in a [`ChosenList`]; belongs to whoever chose this one.
    next_chosen: Cell<*const Waiter>,
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
    pub(crate) fn new() -> Waiter {
        Waiter::with_note(0)
    }

    pub(crate) fn with_note(note: u64) -> Waiter {
        let party = match current::worker() {
            Some(worker) => {
                let block = worker.current();
                Party::Coroutine { block, generation: block.signals.generation() }
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

    /// What the waker left, or what the waiter came with. For the waiter when it is woken, and for
    /// others while it is linked and the queue locked.
    pub(crate) fn note(&self) -> u64 {
        self.note.get()
    }

    /// Waking it takes no atomic read-modify-write and no system call, asked on `worker`.
    fn is_near(&self, worker: &Worker) -> bool {
        match self.party {
            Party::Coroutine { block, .. } => worker.is_home_of(block),
            Party::Thread => false,
        }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire) != 0
    }

    /// Suspends the coroutine, or blocks the thread, once.
    pub(crate) fn wait(&self, reason: Reason, deadline: Option<Nanos>, shielded: bool) -> Signal {
        match self.party {
            Party::Coroutine { .. } => {
                let worker = current::worker().expect("a coroutine stays on its worker");
                suspend(worker, reason, deadline, shielded)
            }
            Party::Thread => {
                let limit = if shielded { None } else { limit::of_thread(reason.is_io()) };
                self.block_thread(deadline, limit)
            }
        }
    }

    /// Waits for the waker's last touch: it has taken this node off its list and will store
    /// `woken` within a few instructions.
    pub(crate) fn settle(&self) {
        while !self.is_woken() {
            match self.party {
                Party::Coroutine { .. } => {
                    self.wait(Reason::NONE, None, true);
                }
                Party::Thread => {
                    self.block_thread(None, None);
                }
            }
        }
    }

    /// Wakes whoever waits.
    ///
    /// # Safety
    ///
    /// The waiter was taken off its list or slot by the caller, who alone may wake it.
    unsafe fn wake(waiter: *const Waiter) {
        // SAFETY: an unlinked waiter stays in its frame until `woken` is stored.
        let party = unsafe { (*waiter).party };
        // SAFETY: as above; this store is the last touch.
        let word = unsafe { &raw const (*waiter).woken };
        // SAFETY: as above.
        unsafe { (*word).store(1, Ordering::Release) };
        match party {
            Party::Coroutine { block, generation } => worker::signal(block, generation, WOKEN),
            // The frame may be gone by now: the kernel then finds nobody, or wakes a stranger
            // who looks at its own word again.
            Party::Thread => futex_wake(word.cast()),
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

/// A place for one waiter at a time: a join, the end of a scope, a blocking job.
pub(crate) struct WaitSlot {
    waiter: AtomicPtr<Waiter>,
}

impl WaitSlot {
    pub(crate) const fn new() -> WaitSlot {
        WaitSlot { waiter: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Waits until `done` holds; false when the wait was cancelled before that.
    ///
    /// # Panics
    ///
    /// When somebody waits here already.
    pub(crate) fn wait(&self, done: impl Fn() -> bool, reason: Reason, shielded: bool) -> bool {
        self.wait_until(done, reason, None, shielded)
    }

    /// [`WaitSlot::wait`] up to `deadline`; false when that came first, too.
    pub(crate) fn wait_until(
        &self,
        done: impl Fn() -> bool,
        reason: Reason,
        deadline: Option<Nanos>,
        shielded: bool,
    ) -> bool {
        while !done() {
            let waiter = Waiter::new();
            let mine = (&raw const waiter).cast_mut();
            let old = self.waiter.swap(mine, Ordering::AcqRel);
            assert!(old.is_null(), "two waiters in a slot made for one");
            let mut signal = Signal::Wake;
            // Published, so a completion from here on wakes us; one before is seen here.
            while !done() && !waiter.is_woken() && signal == Signal::Wake {
                signal = waiter.wait(reason, deadline, shielded);
            }
            if self
                .waiter
                .compare_exchange(mine, ptr::null_mut(), Ordering::AcqRel, Ordering::Acquire)
                .is_err()
            {
                waiter.settle();
            }
            if signal != Signal::Wake {
                return done();
            }
        }
        true
    }

    /// Wakes the waiter, if there is one. Call it after `done` has become true.
    pub(crate) fn wake(&self) {
        let waiter = self.waiter.swap(ptr::null_mut(), Ordering::AcqRel);
        if !waiter.is_null() {
            // SAFETY: the swap made us the one who wakes it.
            unsafe { Waiter::wake(waiter) };
        }
    }
}

/// Waiters in the order of their arrival.
pub(crate) struct WaitQueue {
    list: Mutex<Waiters>,
}

struct Waiters(List<Waiter>);

// SAFETY: list and links are only touched under the queue's lock, and a waiter stays in its frame
// while it is linked, whichever thread unlinks it.
unsafe impl Send for Waiters {}

/// The queue, locked. The lock is held for a few instructions and never across a wait.
pub(crate) struct LockedQueue<'a>(MutexGuard<'a, Waiters>);

impl WaitQueue {
    pub(crate) const fn new() -> WaitQueue {
        WaitQueue { list: Mutex::new(Waiters(List::new())) }
    }

    pub(crate) fn lock(&self) -> LockedQueue<'_> {
        // Nothing in here panics while the lock is held, and a coroutine parked in mid-unwind on
        // this thread poisons it all the same (std counts panics a thread): poison means nothing.
        LockedQueue(self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits to be woken from this queue, into which the caller has put `waiter`.
    ///
    /// `Wake` means a waker chose this waiter: whatever it hands over is now the caller's, even
    /// if a timeout or a cancel came at the same time.
    pub(crate) fn wait(&self, waiter: &Waiter, reason: Reason, deadline: Option<Nanos>) -> Signal {
        self.wait_or_leave(waiter, reason, deadline, |_| ())
    }

    /// As [`WaitQueue::wait`]. If the waiter leaves unchosen, `leave` runs before the queue is
    /// unlocked: whoever looks into the queue finds what belongs to the waiter gone with it.
    pub(crate) fn wait_or_leave(
        &self,
        waiter: &Waiter,
        reason: Reason,
        deadline: Option<Nanos>,
        leave: impl FnOnce(&mut LockedQueue<'_>),
    ) -> Signal {
        loop {
            let signal = waiter.wait(reason, deadline, false);
            if waiter.is_woken() {
                return Signal::Wake;
            }
            if signal != Signal::Wake {
                let mut queue = self.lock();
                if queue.remove(waiter) {
                    leave(&mut queue);
                    return signal;
                }
                drop(queue);
                waiter.settle();
                return Signal::Wake;
            }
        }
    }

    /// Waits until `done` holds; false when the deadline passed before that. A cancel unwinds.
    ///
    /// Whoever makes `done` true calls [`WaitQueue::wake_all`] afterwards.
    pub(crate) fn wait_until(
        &self,
        done: impl Fn() -> bool,
        reason: Reason,
        deadline: Option<Nanos>,
    ) -> bool {
        let _shield = Shield::where_nothing_unwinds();
        while !done() {
            let waiter = Waiter::new();
            let mut queue = self.lock();
            // Under the lock: who makes it true after this finds us when it wakes all.
            if done() {
                break;
            }
            // SAFETY: the waiter stays in this frame, and `wait` returns only when it is off the
            // queue.
            unsafe { queue.push(&waiter) };
            drop(queue);
            match self.wait(&waiter, reason, deadline) {
                Signal::Wake => {}
                Signal::TimedOut => return done(),
                Signal::Cancelled if done() => break,
                Signal::Cancelled => raise_cancelled(),
            }
        }
        true
    }

    /// Wakes all who wait now.
    pub(crate) fn wake_all(&self) {
        let all = self.lock().take_all();
        all.wake();
    }
}

impl LockedQueue<'_> {
    /// # Safety
    ///
    /// The waiter stays where it is until it is woken or removed.
    pub(crate) unsafe fn push(&mut self, waiter: &Waiter) {
        // SAFETY: the caller keeps the waiter in place; the lock makes us the only one here.
        unsafe { self.0.0.push_back(waiter) };
    }

    /// As [`LockedQueue::push`], for one that waited before: at the head.
    ///
    /// # Safety
    ///
    /// As for `push`.
    pub(crate) unsafe fn push_front(&mut self, waiter: &Waiter) {
        // SAFETY: as in `push`.
        unsafe { self.0.0.push_front(waiter) };
    }

    /// The longest waiting one, left where it is.
    pub(crate) fn front(&self) -> Option<&Waiter> {
        // SAFETY: a linked waiter stays in place, and the lock, borrowed here, keeps it linked.
        self.0.0.front().map(|waiter| unsafe { &*waiter })
    }

    /// Takes the waiter back out; false when a waker has it already.
    fn remove(&mut self, waiter: &Waiter) -> bool {
        let linked = waiter.links.is_linked();
        if linked {
            // SAFETY: linked into this list, whose lock we hold.
            unsafe { self.0.0.remove(waiter) };
        }
        linked
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }

    /// Takes all of them out; the caller wakes them after unlocking.
    pub(crate) fn take_all(&mut self) -> ChosenList {
        let mut all = ChosenList::new();
        while let Some(chosen) = self.pop() {
            all.push(chosen);
        }
        all
    }

    /// Takes the longest waiting one out; the caller wakes it after unlocking.
    pub(crate) fn pop(&mut self) -> Option<Chosen> {
        // SAFETY: linked waiters stay in place.
        unsafe { self.0.0.pop_front() }.map(Chosen)
    }

    /// Takes out the longest waiting coroutine of this very worker, of the first `reach` waiters.
    pub(crate) fn pop_near(&mut self, reach: usize) -> Option<Chosen> {
        let worker = current::worker()?;
        let list = &self.0.0;
        let mut next = list.front();
        for _ in 0..reach {
            let waiter = next?;
            // SAFETY: linked waiters stay in place.
            if unsafe { (*waiter).is_near(worker) } {
                // SAFETY: linked into this list, whose lock we hold.
                unsafe { list.remove(waiter) };
                return Some(Chosen(waiter));
            }
            // SAFETY: as above.
            next = unsafe { list.after(waiter) };
        }
        None
    }
}

/// A waiter that was taken out of its queue and must be woken.
#[must_use]
pub(crate) struct Chosen(*const Waiter);

impl Chosen {
    /// For queues of other nodes, each with a waiter of its own.
    ///
    /// # Safety
    ///
    /// The caller took the waiter's node out of its queue, and nobody else wakes it.
    pub(crate) unsafe fn new(waiter: *const Waiter) -> Chosen {
        Chosen(waiter)
    }

    /// Leaves word for the waiter.
    pub(crate) fn set_note(&self, note: u64) {
        // SAFETY: out of the queue and not woken yet, it stays in place, and its note is ours.
        unsafe { (*self.0).note.set(note) };
    }

    pub(crate) fn wake(self) {
        // SAFETY: taking it out of the queue made us the one who wakes it.
        unsafe { Waiter::wake(self.0) };
    }
}

/// Waiters that were taken out of a queue together, in that order; linked through themselves, for
/// they stay in place until they are woken.
#[must_use]
pub(crate) struct ChosenList {
    first: *const Waiter,
    last: *const Waiter,
}

impl ChosenList {
    pub(crate) fn new() -> ChosenList {
        ChosenList { first: ptr::null(), last: ptr::null() }
    }

    pub(crate) fn push(&mut self, chosen: Chosen) {
        if self.first.is_null() {
            self.first = chosen.0;
        } else {
            // SAFETY: a chosen waiter stays in place until it is woken, and this link is ours.
            unsafe { (*self.last).next_chosen.set(chosen.0) };
        }
        self.last = chosen.0;
    }

    /// Wakes them all. The queue must not be locked.
    pub(crate) fn wake(self) {
        let mut next = self.first;
        while !next.is_null() {
            let chosen = Chosen(next);
            // SAFETY: as in `push`; it is woken only after this.
            next = unsafe { (*next).next_chosen.get() };
            chosen.wake();
        }
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
