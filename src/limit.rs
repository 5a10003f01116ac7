//! What bounds waits: one wait by its own deadline, or all waits of a block of code by a
//! [`timeout`](crate::time::timeout) around it.
//!
//! ```text
//!   timeout(1 s, || timeout(5 s, || { stream.set_read_timeout(2 s); stream.read(..) }))
//!
//!   control block       the wait's frame    the inner call's      the outer call's
//!   +------------+      +--------------+    +--------------+      +--------------+
//!   | limits   ---------> 2 s    outer ------> 5 s  outer ---------> 1 s   outer ---> null
//!   | timer: 1 s |      +--------------+    +--------------+      +--------------+
//!   +------------+
//! ```
//!
//! The nodes lie in the frames that they bound, so they are left in the opposite order of their
//! making, whatever ends the frame, and cost no allocation. One timer serves them all: it is armed
//! no later than the first of them, and whoever comes later finds it armed. It may stay armed
//! when they are gone, and then fires once for nothing; so a loop of short calls under a
//! timeout touches the wheel once a timeout, not once a call.
//!
//! When the timer fires, the worker marks those that have passed, sets `ELAPSED` in the control
//! block, and wakes the coroutine. The bit is what calls look at that do not wait: they read no
//! clock. It goes when the last passed limit is left.
//!
//! What a passed limit does to a wait is decided in [`interruption`]: I/O fails, other waits
//! unwind, unless a shield was raised inside the limit or the coroutine unwinds already.
//!
//! A plain thread has a chain of its own, in a thread-local, and no wheel: its waits are bounded
//! by the nearest limit, and the clock tells which have passed.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock::{self, NEVER, Nanos};
use crate::coroutine::{Coroutine, Stage};
use crate::current;
use crate::mailbox::ELAPSED;
use crate::time::Elapsed;
use crate::unwind;
use crate::worker::Worker;

/// One node; see the module.
pub(crate) struct Limit {
    at: Nanos,
    outer: Cell<*const Limit>,
    passed: Cell<bool>,
    kind: Kind,
    /// How many shields stood when it began: those hold it back from nothing.
    shields: Cell<u16>,
}

#[derive(Clone, Copy)]
enum Kind {
    /// The deadline of one wait: it ends no other.
    Wait,
    Timeout,
    /// It is over when the flag is set: the body of a scope that has failed, a run under a token.
    /// Any thread may do that, so the clock says nothing about it.
    Flag(*const AtomicBool),
}

/// What a plain thread has in place of a control block.
struct Thread {
    limits: Cell<*const Limit>,
    shields: Cell<u16>,
}

thread_local! {
    static THREAD: Thread = const { Thread { limits: Cell::new(ptr::null()), shields: Cell::new(0) } };
}

/// Runs `f`, with every wait in it bounded by `at`; it is `now`.
pub(crate) fn bounded<T>(now: Nanos, at: Nanos, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    let limit = Limit::new(at, Kind::Timeout);
    let entered = Entered::new(&limit, now);
    let result = unwind::catch(f);
    let has_passed = entered.has_passed();
    drop(entered);
    match result {
        Ok(value) => Ok(value),
        // Of several that have passed the innermost takes it; the next wait tells the others.
        Err(payload) if has_passed && payload.is::<Elapsed>() => Err(Elapsed::new()),
        Err(payload) => unwind::unwind(payload),
    }
}

/// Runs `f`, every wait of which unwinds with [`crate::Cancelled`] once `flag` is set. Who sets it
/// also sets `ELAPSED` for the coroutine, and is done with that before `f` is over.
pub(crate) fn until_flag<T>(flag: &AtomicBool, f: impl FnOnce() -> T) -> T {
    let limit = Limit::new(NEVER, Kind::Flag(flag));
    let _entered = Entered::new(&limit, 0);
    f()
}

impl Limit {
    #[inline]
    fn new(at: Nanos, kind: Kind) -> Limit {
        Limit {
            at,
            outer: Cell::new(ptr::null()),
            passed: Cell::new(false),
            kind,
            shields: Cell::new(0),
        }
    }

    /// Of one wait that is bounded by `at`, or by nothing.
    #[inline]
    pub(crate) fn of_wait(at: Option<Nanos>) -> Limit {
        Limit::new(at.unwrap_or(NEVER), Kind::Wait)
    }

    /// Bounds the wait of `me` that begins now.
    ///
    /// # Safety
    ///
    /// [`leave_wait`](Limit::leave_wait) comes before this is moved or its frame left.
    #[inline]
    pub(crate) unsafe fn enter_wait(&self, worker: &Worker, me: &'static Coroutine) {
        if self.at != NEVER {
            self.outer.set(me.limits.replace(self));
            worker.arm(me, self.at);
        }
    }

    /// Whether it was this that ended the wait.
    #[inline]
    pub(crate) fn leave_wait(&self, me: &Coroutine) -> bool {
        if self.at != NEVER {
            me.limits.set(self.outer.get());
        }
        self.passed.get()
    }
}

/// A limit in force, until this is dropped: in the frame that made it, and never forgotten.
struct Entered<'a> {
    limit: &'a Limit,
    /// `None` on a plain thread.
    block: Option<&'static Coroutine>,
    _not_send: PhantomData<*const ()>,
}

impl<'a> Entered<'a> {
    fn new(limit: &'a Limit, now: Nanos) -> Entered<'a> {
        let block = match current::worker() {
            Some(worker) => {
                let me = worker.current();
                limit.shields.set(me.shield.get());
                limit.outer.set(me.limits.replace(limit));
                match limit.at {
                    NEVER => {}
                    at if at > now => worker.arm(me, at),
                    _ => limit.pass(me),
                }
                Some(me)
            }
            None => {
                THREAD.with(|thread| {
                    limit.shields.set(thread.shields.get());
                    limit.outer.set(thread.limits.replace(limit));
                });
                None
            }
        };
        Entered { limit, block, _not_send: PhantomData }
    }

    fn has_passed(&self) -> bool {
        match self.block {
            Some(_) => self.limit.has_passed(),
            None => self.limit.has_passed_at(clock::now()),
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let outer = self.limit.outer.get();
        let Some(block) = self.block else {
            return THREAD.with(|thread| thread.limits.set(outer));
        };
        block.limits.set(outer);
        if self.limit.has_passed() && !chain(outer).any(Limit::has_passed) {
            block.signals.clear_elapsed();
        }
    }
}

impl Limit {
    /// A coroutine's; its worker keeps the time.
    fn has_passed(&self) -> bool {
        match self.kind {
            // SAFETY: the flag is outside of the frame that the limit is in force for.
            Kind::Flag(flag) => unsafe { &*flag }.load(Ordering::Acquire),
            Kind::Wait | Kind::Timeout => self.passed.get(),
        }
    }

    /// A plain thread's.
    fn has_passed_at(&self, now: Nanos) -> bool {
        self.at <= now || self.has_passed()
    }

    /// Whether it ends such a wait, once it has passed, inside of so many shields.
    fn may_cut(&self, is_io: bool, shields: u16) -> bool {
        let by_error = is_io && matches!(self.kind, Kind::Timeout);
        by_error || (cfg!(panic = "unwind") && self.shields.get() == shields)
    }

    fn interruption(&self) -> Interruption {
        match self.kind {
            Kind::Flag(_) => Interruption::Flagged,
            Kind::Wait | Kind::Timeout => Interruption::Elapsed,
        }
    }

    fn pass(&self, block: &Coroutine) {
        self.passed.set(true);
        block.signals.record(ELAPSED);
    }
}

/// From `innermost` outwards.
fn chain<'a>(innermost: *const Limit) -> impl Iterator<Item = &'a Limit> {
    let mut next = innermost;
    std::iter::from_fn(move || {
        // SAFETY: limits are linked while the frame that holds them is in force, and this runs
        // on their thread: in a frame further in, or while their coroutine is suspended.
        let limit = unsafe { next.as_ref() }?;
        next = limit.outer.get();
        Some(limit)
    })
}

/// The timer of `block` has fired: marks what has passed at `now`. Returns whether to wake it, and
/// when to look again.
pub(crate) fn pass_all(block: &Coroutine, now: Nanos) -> (bool, Nanos) {
    let (mut wake, mut next) = (false, NEVER);
    for limit in chain(block.limits.get()) {
        if limit.passed.get() {
            continue;
        }
        if limit.at > now {
            next = next.min(limit.at);
        } else if matches!(limit.kind, Kind::Timeout) {
            limit.pass(block);
            wake = true;
        } else if block.stage.get() == Stage::Suspended {
            limit.passed.set(true);
            wake = true;
        }
    }
    (wake, next)
}

/// What ends a wait from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interruption {
    Cancel,
    /// A flag is set.
    Flagged,
    /// A timeout has passed.
    Elapsed,
}

/// What may end a wait of the current coroutine, for a call that is I/O or is not; a cancel goes
/// first. Asked when `is_interrupted` says that there is anything. That it must not unwind is
/// the caller's to see.
///
/// I/O can fail, and so it is cut in a shield too, and where nothing unwinds. What unwinds is not,
/// unless the limit began inside of the innermost shield, and with it the frames that unwind.
#[cold]
pub(crate) fn interruption(me: &Coroutine, is_io: bool) -> Option<Interruption> {
    let shields = me.shield.get();
    if shields == 0 && me.signals.is_cancelled() {
        return Some(Interruption::Cancel);
    }
    let cuts = |limit: &&Limit| limit.has_passed() && limit.may_cut(is_io, shields);
    chain(me.limits.get()).find(cuts).map(Limit::interruption)
}

/// How often a plain thread looks at flags: who sets one does not know where it waits.
const LOOK_PERIOD: Nanos = 10_000_000;

/// On a plain thread: when a wait, of I/O or not, must next ask [`interruption_of_thread`]; in the
/// past once it will say yes.
#[cold]
pub(crate) fn of_thread(is_io: bool) -> Option<Nanos> {
    let look_at = |limit: &Limit| match limit.kind {
        _ if limit.has_passed() => 0,
        Kind::Flag(_) => clock::now() + LOOK_PERIOD,
        Kind::Wait | Kind::Timeout => limit.at,
    };
    cutting_thread(is_io).map(look_at).min()
}

/// On a plain thread: what ends its waits now. There is no cancel.
#[cold]
pub(crate) fn interruption_of_thread(is_io: bool) -> Option<Interruption> {
    let now = clock::now();
    cutting_thread(is_io).find(|limit| limit.has_passed_at(now)).map(Limit::interruption)
}

fn cutting_thread<'a>(is_io: bool) -> impl Iterator<Item = &'a Limit> {
    let (innermost, shields) = THREAD.with(|thread| (thread.limits.get(), thread.shields.get()));
    let cuts_none = innermost.is_null() || (!is_io && std::thread::panicking());
    let innermost = if cuts_none { ptr::null() } else { innermost };
    chain(innermost).filter(move |limit| limit.may_cut(is_io, shields))
}

/// Counts the shields of the calling thread, a plain one, up or down.
pub(crate) fn change_shields_of_thread(change: impl Fn(u16) -> u16) {
    THREAD.with(|thread| thread.shields.set(change(thread.shields.get())));
}
