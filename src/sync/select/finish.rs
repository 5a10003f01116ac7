//! The arm on a coroutine: it is done when that is over.

use std::cell::{Cell, RefCell};
use std::fmt;

use super::{Arm, Handle, Operation, Round};
use crate::coroutine::Identity;
use crate::thread::{JoinHandle, LocalJoinHandle, ScopedJoinHandle};
use crate::wait::Waiter;

/// What [`finished`] takes: the handles of [`spawn`](crate::spawn),
/// [`spawn_local`](crate::spawn_local) and [`scope`](crate::thread::scope).
pub trait Joinable: Handle {}

impl<H: Handle> Joinable for H {}

impl<T> Handle for JoinHandle<T> {
    fn identity(&self) -> &Identity {
        self.0.identity()
    }
}

impl<T> Handle for LocalJoinHandle<T> {
    fn identity(&self) -> &Identity {
        self.handle.identity()
    }
}

impl<T> Handle for ScopedJoinHandle<'_, T> {
    fn identity(&self) -> &Identity {
        self.handle.identity()
    }
}

/// An arm that is done when a coroutine is over, whether it returned, panicked or was cancelled. It
/// yields `()`: its result is taken by `join`, which then returns at once.
///
/// So nothing is lost when another arm is chosen, and the handle can be used again. A coroutine
/// that waits for its own end in this way waits for another arm.
///
/// ```
/// use std::time::Duration;
///
/// use cosocket::sync::select;
/// use cosocket::thread;
///
/// let mut worker = thread::spawn(|| 6 * 7);
/// let result = select! {
///     () = select::finished(&mut worker) => worker.join().unwrap(),
///     () = select::after(Duration::from_secs(10)) => 0,
/// };
/// assert_eq!(result, 42);
///
/// let mut stuck = thread::spawn(thread::park);
/// let is_over = select! {
///     () = select::finished(&mut stuck) => true,
///     () = select::after(Duration::from_millis(1)) => false,
/// };
/// assert!(!is_over);
/// stuck.cancel();
/// stuck.join().unwrap_err();
/// ```
pub fn finished<H: Joinable>(handle: &mut H) -> Finish<'_> {
    Finish { identity: handle.identity(), waiter: RefCell::new(None), is_chosen: Cell::new(false) }
}

/// The arm made by [`finished`].
pub struct Finish<'a> {
    /// Of a handle that nobody else can join while this is there.
    identity: &'a Identity,
    /// For the time of a round.
    waiter: RefCell<Option<Waiter>>,
    is_chosen: Cell<bool>,
}

impl Operation for Finish<'_> {
    fn attempt(&self) -> bool {
        self.identity.is_done()
    }

    unsafe fn enlist(&self, round: &Round, _index: usize) -> bool {
        *self.waiter.borrow_mut() = Some(Waiter::arm_of(&round.waiter));
        let waiter = self.waiter.borrow();
        // SAFETY: arm and round stay where they are until `withdraw`, which is called in any case:
        // no peer ever decides for this arm.
        unsafe { self.identity.joiner.put(waiter.as_ref().expect("made above")) };
        if self.identity.is_done() {
            drop(waiter);
            self.withdraw();
            return false;
        }
        true
    }

    fn withdraw(&self) {
        if let Some(waiter) = &*self.waiter.borrow() {
            self.identity.joiner.remove(waiter);
        }
        self.waiter.take();
    }

    fn choose(&self) {
        self.is_chosen.set(true);
    }

    fn is_ready(&self) -> bool {
        self.identity.is_done()
    }
}

impl Arm for Finish<'_> {
    type Output = ();

    fn take(&mut self) -> Option<()> {
        self.is_chosen.replace(false).then_some(())
    }
}

impl fmt::Debug for Finish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Finish");
        debug.field("is_finished", &self.identity.is_done()).finish_non_exhaustive()
    }
}
