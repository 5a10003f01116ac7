//! One job at a time in the blocking pool, whose outcome keeps until somebody takes it.
//!
//! ```text
//!              start                the job is done
//!      [idle] -------> [out] --------------------------> [back] --take--> [idle]
//!                        ^                                  ^
//!                        |  whoever started it may be cancelled in either: the next one
//!                        `- waits for the same job,         `- takes what it brought
//! ```

use std::io;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::blocking;
use crate::wait::{self, Reason, WaitSlot};

pub(super) struct Errand<T> {
    state: Mutex<State<T>>,
    waiter: WaitSlot,
}

enum State<T> {
    Idle,
    Out,
    Back(T),
}

impl<T: Send> Errand<T> {
    pub(super) const fn new() -> Errand<T> {
        Errand { state: Mutex::new(State::Idle), waiter: WaitSlot::new() }
    }

    /// Hands a job to the pool; it must not panic. Whoever calls this, or `outcome`, holds a claim
    /// that keeps others away, and has seen to it that no job is out.
    ///
    /// # Errors
    ///
    /// The pool has no thread, and none can be started.
    pub(super) fn start(&'static self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<()> {
        *self.lock() = State::Out;
        let submitted = blocking::submit(Box::new(move || {
            let outcome = job();
            *self.lock() = State::Back(outcome);
            self.waiter.wake();
        }));
        if submitted.is_err() {
            *self.lock() = State::Idle;
        }
        submitted
    }

    /// What the last job brought, once it is done; `None` if there is nothing to take.
    ///
    /// # Errors
    ///
    /// The wait was ended from outside. The outcome is then left for the next caller.
    pub(super) fn outcome(&self) -> io::Result<Option<T>> {
        let is_done = || !matches!(*self.lock(), State::Out);
        if !self.waiter.wait(is_done, Reason::CALL, false) {
            return Err(wait::cancelled());
        }
        match mem::replace(&mut *self.lock(), State::Idle) {
            State::Back(outcome) => Ok(Some(outcome)),
            State::Idle | State::Out => Ok(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
