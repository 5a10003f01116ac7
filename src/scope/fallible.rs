//! Scopes that end early: the first coroutine to fail cancels the rest.
//!
//! ```text
//!   a coroutine returns Err, or panics -> the failure is kept, if it is the first
//!                                      -> all others are cancelled
//!                                      -> the flag is set: waits of the body unwind
//!                                                           |
//!   try_scope:  catches that -> waits until all are over <--'
//!                            -> Err(the first failure), or its panic
//! ```

use std::fmt;
use std::result::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Scope, ScopedJoinHandle};
use crate::coroutine::Coroutine;
use crate::current;
use crate::limit;
use crate::mailbox::ELAPSED;
use crate::unwind;
use crate::wait;
use crate::worker;

/// [`scope`](super::scope) for coroutines that may fail: when one returns an error or panics, all
/// others are cancelled, and waits of `f` are cut. Returns the first error, or what `f` returns.
///
/// `f` runs in the caller. Once a coroutine has failed, a wait of `f`, also one that it is in,
/// unwinds to this call, quietly, as a cancel does; on a plain thread up to 10 ms later. A
/// [`shield`](crate::shield) in `f` holds that back. An error that `f` returns cancels the
/// coroutines too. This returns when all of them are over.
///
/// # Panics
///
/// With `f`'s own panic, and when a coroutine has panicked, joined or not.
///
/// # Cancel and timeout
///
/// As for [`scope`](super::scope). With `panic = "abort"` waits of `f` are not cut.
///
/// ```
/// use std::io;
/// use std::time::Duration;
/// use cosocket::thread::{sleep, try_scope};
///
/// cosocket::run(|| {
///     let result: io::Result<()> = try_scope(|scope| {
///         scope.spawn(|| Ok(sleep(Duration::from_secs(3600))));
///         scope.spawn(|| Err::<(), _>(io::Error::other("no such luck")));
///         sleep(Duration::from_secs(3600));
///         Ok(())
///     });
///     assert_eq!(result.unwrap_err().to_string(), "no such luck");
/// });
/// ```
#[track_caller]
pub fn try_scope<'env, F, T, E>(f: F) -> Result<T, E>
where
    F: for<'scope> FnOnce(&'scope TryScope<'scope, 'env, E>) -> Result<T, E>,
    E: Send,
{
    let scope = TryScope::new();
    let (result, is_cut) = limit::until_flag(&scope.failed, || {
        let result = unwind::catch(|| f(&scope));
        if !matches!(result, Ok(Ok(_))) {
            scope.scope.cancel_all();
        }
        (result, scope.scope.data.wait_for_all())
    });
    let failed = scope.failed.load(Ordering::Acquire);
    let result = match result {
        // The body was unwound for the failure, not for a cancel of its own.
        Err(payload) if failed && payload.is::<crate::Cancelled>() && !wait::is_cancelled() => None,
        Err(payload) => unwind::unwind(payload),
        Ok(result) => Some(result),
    };
    if scope.panicked.load(Ordering::Relaxed) {
        panic!("a scoped coroutine panicked");
    }
    let failure = scope.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (failure, result) {
        (Some(error), _) => Err(error),
        (None, Some(result)) => scope.scope.data.conclude(result, is_cut),
        (None, None) => unreachable!("a failure is an error or a panic"),
    }
}

/// Where coroutines that may fail are spawned; see [`try_scope`].
pub struct TryScope<'scope, 'env: 'scope, E> {
    scope: Scope<'scope, 'env>,
    /// The first error.
    failure: Mutex<Option<E>>,
    failed: AtomicBool,
    panicked: AtomicBool,
    /// The coroutine whose scope this is; `None` if it is a plain thread's.
    owner: Option<(&'static Coroutine, u32)>,
}

impl<'scope, 'env, E: Send> TryScope<'scope, 'env, E> {
    fn new() -> TryScope<'scope, 'env, E> {
        let owner = current::worker().map(|worker| {
            let me = worker.current();
            (me, me.signals.generation())
        });
        TryScope {
            scope: Scope::new(),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            owner,
        }
    }

    /// Spawns a coroutine whose error or panic ends the scope. Joined, it gives what it returned,
    /// or `None` in place of an error, which goes to [`try_scope`].
    ///
    /// # Panics
    ///
    /// When no stack can be had.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, Option<T>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
        T: Send + 'scope,
        E: 'scope,
    {
        self.scope.spawn(move || match unwind::catch(f) {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                self.fail(Some(error));
                None
            }
            // One that is cancelled has not failed.
            Err(payload) if payload.is::<crate::Cancelled>() => unwind::unwind(payload),
            Err(payload) => {
                self.panicked.store(true, Ordering::Relaxed);
                self.fail(None);
                unwind::unwind(payload)
            }
        })
    }

    /// Cancels all coroutines of the scope; see [`Scope::cancel_all`]. That is no failure.
    pub fn cancel_all(&self) {
        self.scope.cancel_all();
    }

    fn fail(&self, error: Option<E>) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        // Of several the first counts; what is dropped of the others, is dropped unlocked.
        let late = if failure.is_none() && !self.failed.load(Ordering::Relaxed) {
            *failure = error;
            None
        } else {
            error
        };
        self.failed.store(true, Ordering::Release);
        drop(failure);
        if let Some((owner, generation)) = self.owner {
            worker::signal(owner, generation, ELAPSED);
        }
        self.scope.cancel_all();
        drop(late);
    }
}

impl<E> fmt::Debug for TryScope<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryScope")
            .field("scope", &self.scope)
            .field("failed", &self.failed.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}
