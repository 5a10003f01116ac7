//! Whose unwind it is: a count of panics for each thread, and many coroutines on it.
//!
//! std counts panics a thread, so the count is looked at each time a coroutine goes on. If there
//! was none, a panic that is counted later is its own; it gets a mark when it gives way, or when
//! a cancel unwinds it. If there was one, somebody else is parked in mid-unwind, and only the
//! mark counts, until no panic is left on the thread (erring on the side that never raises a
//! second panic). A panic of its own that begins meanwhile is noticed by a panic hook
//! ([`watch_panics`]): it holds cancels back, and lets I/O wait. Without the hook it cannot be
//! told: such a coroutine is taken to be healthy, and a cancel that comes while its destructors
//! wait would end the process, like any panic there.
//!
//! An unwind with a payload of ours, a cancel's, is no panic to whoever asks [`is_panicking`]: a
//! lock is not poisoned by it. The mark says which of the two it is.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::coroutine::Coroutine;
use crate::current;
use crate::worker::Worker;

/// Has panics noticed as they begin: the count cannot tell whose they are while another stands.
/// Whoever replaces the panic hook later takes that from us, and then the last case in the
/// module's text is as it says there.
pub(crate) fn watch_panics() {
    static ONCE: Once = Once::new();
    if std::thread::panicking() {
        // Hooks cannot be set now; the next runtime will do it.
        return;
    }
    ONCE.call_once(|| {
        let next = take_hook();
        set_hook(Box::new(move |panic| {
            match current::worker().and_then(Worker::running) {
                Some(me) => me.note_panic(),
                None => QUIET_THREAD.set(false),
            }
            next(panic);
        }));
    });
}

/// Why a coroutine unwinds, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Panic,
    /// A payload of ours, past the panic hook.
    Quiet,
}

/// Whether a payload is one with which we end waits, rather than a panic's.
pub(crate) fn is_quiet(payload: &(dyn Any + Send)) -> bool {
    payload.is::<crate::Cancelled>() || payload.is::<crate::time::Elapsed>()
}

thread_local! {
    /// A plain thread's mark: it unwinds, or did when it was last seen to, by a payload of ours.
    static QUIET_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling coroutine, or plain thread, unwinds by a panic: one of its own, and not by
/// a payload of ours. This is what poisons.
///
/// Where the count says nothing about a coroutine (see the module) and it has begun a panic since,
/// that panic is taken to go on, though it may have been caught. And who catches a payload of ours
/// and, before it waits again, throws one of its own with `resume_unwind`, past the hook, is taken
/// to throw ours.
#[inline]
pub(crate) fn is_panicking() -> bool {
    std::thread::panicking() && unwinds_by_panic()
}

/// A panic is counted on this thread: is it the caller's?
#[cold]
fn unwinds_by_panic() -> bool {
    let Some(worker) = current::worker() else {
        return !QUIET_THREAD.get();
    };
    let me = worker.current();
    match me.unwinding.get() {
        Some(cause) => cause == Cause::Panic,
        None => !worker.unwinds.foreign.get() || me.panicked.get(),
    }
}

impl Coroutine {
    /// A panic begins. A payload of ours that was on its way before has been caught, or will go
    /// on when this panic has been: taken to be the former.
    pub(crate) fn note_panic(&self) {
        self.panicked.set(true);
        if self.unwinding.get().is_some() {
            self.unwinding.set(Some(Cause::Panic));
        }
    }
}

/// What a worker knows of the unwinds on its thread.
#[derive(Default)]
pub(crate) struct Unwinds {
    /// std counted a panic on this thread when the current coroutine last went on: from then on
    /// the count says nothing about it.
    foreign: Cell<bool>,
    /// Somebody gave way who is taken to unwind by its mark alone, which may be out of date: its
    /// cancel is held back, and delivered when no panic is counted any more.
    doubted: Cell<bool>,
}

impl Worker {
    /// `me` is about to give way: if it unwinds, it keeps that in mind.
    #[inline]
    pub(crate) fn note_unwind(&self, me: &Coroutine) {
        if std::thread::panicking() {
            let mark = me.unwinding.get();
            if !self.unwinds.foreign.get() {
                me.unwinding.set(Some(mark.unwrap_or(Cause::Panic)));
            } else if mark.is_some() {
                self.unwinds.doubted.set(true);
            }
        }
    }

    /// `me` goes on, or starts: if std counts a panic on this thread now, and `me` has not kept
    /// one in mind, it is another coroutine's.
    #[inline]
    pub(crate) fn notice_unwinds(&self, me: &Coroutine) {
        let panicking = std::thread::panicking();
        self.unwinds.foreign.set(panicking);
        if !panicking {
            me.unwinding.set(None);
            me.panicked.set(false);
        }
    }

    /// Whether the current coroutine unwinds; see the module.
    #[inline]
    pub(crate) fn is_unwinding(&self) -> bool {
        std::thread::panicking()
            && (!self.unwinds.foreign.get() || self.current().unwinding.get().is_some())
    }

    /// Whether a cancel raised now might be a second panic in an unwind, which would end the
    /// process: then it is held back, until no panic is counted any more.
    #[inline]
    pub(crate) fn may_be_unwinding(&self) -> bool {
        std::thread::panicking() && self.may_be_unwinding_itself()
    }

    /// A panic is counted on this thread: is it the current coroutine's?
    #[cold]
    fn may_be_unwinding_itself(&self) -> bool {
        if self.is_unwinding() {
            return true;
        }
        let may_be = self.current().panicked.get();
        if may_be {
            self.unwinds.doubted.set(true);
        }
        may_be
    }

    /// Once no panic is counted any more: wakes those whose cancel was held back for one.
    pub(crate) fn settle_doubts(&self) {
        if self.unwinds.doubted.get() && !std::thread::panicking() {
            self.unwinds.doubted.set(false);
            self.wake_cancelled();
        }
    }

    /// Wakes those whose cancel, or limit, waited for an unwind on this thread to end.
    #[cold]
    fn wake_cancelled(&self) {
        self.for_each_started(|block| {
            if block.signals.is_interrupted() {
                self.make_ready(block);
            }
        });
    }
}

/// Unwinds the current coroutine, past the panic hook, and marks it: `is_unwinding` asks for the
/// mark while another coroutine is parked in mid-unwind on this thread. On a plain thread too.
pub(crate) fn unwind(payload: Box<dyn Any + Send>) -> ! {
    let quiet = is_quiet(&*payload);
    match current::worker() {
        Some(worker) => {
            let cause = if quiet { Cause::Quiet } else { Cause::Panic };
            worker.current().unwinding.set(Some(cause));
        }
        None => QUIET_THREAD.set(quiet),
    }
    resume_unwind(payload)
}

/// `catch_unwind` that gives the coroutine, or the thread, back the mark which it had before `f`.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> std::thread::Result<T> {
    match current::worker() {
        Some(worker) => {
            let mark = &worker.current().unwinding;
            // One that unwinds already keeps that in mind: should `f` give way, the count says
            // nothing about it afterwards.
            if mark.get().is_none() && worker.is_unwinding() {
                mark.set(Some(Cause::Panic));
            }
            catch_marked(mark, f)
        }
        None => QUIET_THREAD.with(|mark| catch_marked(mark, f)),
    }
}

fn catch_marked<M: Copy, T>(mark: &Cell<M>, f: impl FnOnce() -> T) -> std::thread::Result<T> {
    let before = mark.get();
    let result = catch_unwind(AssertUnwindSafe(f));
    mark.set(before);
    result
}

/// Runs `f`, in which a panic is a bug of ours and may not unwind: into a coroutine that did
/// nothing wrong, or past a frame that the kernel still writes to.
#[inline(always)]
pub(crate) fn abort_on_panic<T>(f: impl FnOnce() -> T) -> T {
    let bomb = Bomb;
    let value = f();
    bomb.defuse();
    value
}

/// [`abort_on_panic`] for what must be inlined, which a closure may not be: a panic before it is
/// defused aborts.
pub(crate) struct Bomb;

impl Bomb {
    #[inline(always)]
    pub(crate) fn defuse(self) {
        std::mem::forget(self);
    }
}

impl Drop for Bomb {
    #[cold]
    fn drop(&mut self) {
        eprintln!("cosocket: the scheduler panicked; this is a bug in cosocket. Aborting.");
        std::process::abort();
    }
}
