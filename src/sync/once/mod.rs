//! Something that is to happen once, whoever comes first.
//!
//! One closure runs at a time; the others wait for it in a queue. When it ends, well or not, all of
//! them are woken and look at the [`Phase`] again: they go on, or panic, or one begins anew.

mod phase;

use std::convert::Infallible;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use phase::{Phase, Rest, Turn};

use crate::unwind;
use crate::wait::{Reason, WaitQueue};

/// Runs one closure, once, however many callers there are; see [`std::sync::Once`].
///
/// The closure may wait. A closure that panics poisons the `Once`, as in std. One that is
/// cancelled, or unwound by a timeout around it, does not: the next caller runs its own. A closure
/// that calls into its own `Once` waits for itself, for ever, as with std's on Linux; in a
/// coroutine the deadlock report names it.
///
/// ```
/// use cosocket::sync::Once;
/// use cosocket::thread;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// static START: Once = Once::new();
/// static STARTS: AtomicUsize = AtomicUsize::new(0);
///
/// let callers: Vec<_> = (0..10)
///     .map(|_| {
///         thread::spawn(|| {
///             START.call_once(|| {
///                 thread::yield_now();
///                 STARTS.fetch_add(1, Ordering::Relaxed);
///             });
///             assert_eq!(STARTS.load(Ordering::Relaxed), 1);
///         })
///     })
///     .collect();
/// callers.into_iter().for_each(|caller| caller.join().unwrap());
/// assert!(START.is_completed());
/// ```
pub struct Once {
    phase: Phase,
    queue: WaitQueue,
}

// A panic is what poison is for.
impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}

/// What the closure of [`Once::call_once_force`] is told.
pub struct OnceState {
    poisoned: bool,
}

/// What a caller does about a panic before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Poison {
    Fails,
    Ignored,
}

impl Default for Once {
    fn default() -> Once {
        Once::new()
    }
}

impl Once {
    /// One that nobody has called yet.
    #[must_use]
    pub const fn new() -> Once {
        Once { phase: Phase::new(), queue: WaitQueue::new() }
    }

    /// Runs `f`, unless a closure has run here already; waits while one does. When this returns
    /// one has, and what it wrote can be seen.
    ///
    /// A cancel unwinds out of the wait. One that unwinds `f` leaves it to the next caller.
    ///
    /// # Panics
    ///
    /// When `f` does, which poisons this, and when it is poisoned.
    #[inline]
    #[track_caller]
    pub fn call_once<F: FnOnce()>(&self, f: F) {
        if !self.is_completed() {
            let Ok(()) = self.call(Poison::Fails, |_| {
                f();
                Ok::<(), Infallible>(())
            });
        }
    }

    /// As [`Once::call_once`], but poison is no obstacle: `f` is told of it, and heals it if it
    /// comes to its end.
    #[inline]
    pub fn call_once_force<F: FnOnce(&OnceState)>(&self, f: F) {
        if !self.is_completed() {
            let Ok(()) = self.call(Poison::Ignored, |state| {
                f(state);
                Ok::<(), Infallible>(())
            });
        }
    }

    /// Whether a closure has come to its end. This never waits.
    #[inline]
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.phase.is_complete()
    }

    /// Waits until a closure has come to its end, also while none has begun. A cancel unwinds out
    /// of it.
    ///
    /// # Panics
    ///
    /// When it is poisoned, now or later.
    #[inline]
    #[track_caller]
    pub fn wait(&self) {
        if !self.is_completed() {
            self.wait_complete(Poison::Fails);
        }
    }

    /// As [`Once::wait`], but poison is no obstacle: it goes on to wait for one who heals it.
    #[inline]
    pub fn wait_force(&self) {
        if !self.is_completed() {
            self.wait_complete(Poison::Ignored);
        }
    }

    #[cold]
    #[track_caller]
    fn wait_complete(&self, poison: Poison) {
        let ends = |rest| match rest {
            Some(Rest::Complete) => true,
            Some(Rest::Poisoned) => poison == Poison::Fails,
            Some(Rest::Incomplete) | None => false,
        };
        self.queue.wait_until(|| ends(self.phase.rest()), Reason::ONCE, None);
        if !self.is_completed() {
            panic_poisoned();
        }
    }

    /// Runs `f`, unless one has come to its end. When `f` fails, nothing has happened.
    #[cold]
    #[track_caller]
    pub(super) fn call<E>(
        &self,
        poison: Poison,
        f: impl FnOnce(&OnceState) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(from) = self.take_turn(poison) else {
            return Ok(());
        };
        // Caught, so that a panic can be told from a cancel.
        let result = unwind::catch(|| f(&OnceState { poisoned: from == Rest::Poisoned }));
        self.phase.finish(match &result {
            Ok(Ok(())) => Rest::Complete,
            Ok(Err(_)) => from,
            Err(payload) if unwind::is_quiet(&**payload) => from,
            Err(_) => Rest::Poisoned,
        });
        self.queue.wake_all();
        result.unwrap_or_else(|payload| unwind::unwind(payload))
    }

    /// Waits for our turn to initialise, and tells what we begin from; `None` when that is done.
    #[track_caller]
    fn take_turn(&self, poison: Poison) -> Option<Rest> {
        loop {
            match self.phase.begin(poison == Poison::Ignored) {
                Turn::Ours { from } => return Some(from),
                Turn::Complete => return None,
                Turn::Poisoned => panic_poisoned(),
                Turn::Theirs => {
                    self.queue.wait_until(|| self.phase.rest().is_some(), Reason::ONCE, None);
                }
            }
        }
    }
}

#[cold]
#[track_caller]
fn panic_poisoned() -> ! {
    panic!("poisoned: the closure that was to initialise this has panicked");
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl OnceState {
    /// Whether a closure has panicked here, and none has come to its end since.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

impl fmt::Debug for OnceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceState").field("poisoned", &self.is_poisoned()).finish()
    }
}
