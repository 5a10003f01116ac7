//! `std::sync::Condvar`.
//!
//! ```text
//!   wait:    queue, then unlock --> wait --> woken: the notification is this waiter's -. lock
//!                                       \--> timed out, not woken: out of the queue --'-----> return
//!                                       \--> cancelled, not woken: out of the queue --> unwind
//! ```
//!
//! A notification is for one waiter, the longest waiting one. If that one cannot use it, because it
//! is cancelled while it waits for the mutex again, it passes the notification on.

mod waiter_count;

use std::fmt;
use std::sync::{LockResult, PoisonError};
use std::time::Duration;

use self::waiter_count::WaiterCount;
use super::mutex::MutexGuard;
use super::raw_mutex::RawMutex;
use crate::clock::{self, Nanos};
use crate::current;
use crate::wait::{self, Reason, Shield, Signal, WaitQueue, Waiter};

/// [`std::sync::Condvar`], for coroutines and threads alike: who waits in a coroutine lets the
/// worker run others.
///
/// Notifying when nobody waits takes no atomic read-modify-write and no system call; waiting
/// allocates nothing. [`Condvar::notify_one`] wakes the one that has waited longest. A wait ends
/// only by a notification or its timeout; still, as in std, look at the condition again, for others
/// may have had the mutex first.
///
/// Coroutines may wait on one condition variable with several mutexes, which std allows to panic:
/// each is given back its own.
///
/// # Cancel
///
/// One that comes during the wait unwinds out of it, *without the mutex*: the guard was given away
/// with the call. A notification that had been meant for this coroutine goes to another.
///
/// ```
/// use cosocket::sync::{Condvar, Mutex};
/// use cosocket::thread;
///
/// static READY: Mutex<bool> = Mutex::new(false);
/// static CHANGED: Condvar = Condvar::new();
///
/// let waiter = thread::spawn(|| {
///     let ready = CHANGED.wait_while(READY.lock().unwrap(), |ready| !*ready).unwrap();
///     assert!(*ready);
/// });
/// *READY.lock().unwrap() = true;
/// CHANGED.notify_one();
/// waiter.join().unwrap();
/// ```
pub struct Condvar {
    waiting: WaiterCount,
    queue: WaitQueue,
}

/// Whether a wait ended by its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// True if the time was over before anybody notified the waiter.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition variable that nobody waits for.
    #[must_use]
    pub const fn new() -> Condvar {
        Condvar { waiting: WaiterCount::new(), queue: WaitQueue::new() }
    }

    /// Unlocks the mutex, waits to be notified, and locks it again. A notification that comes
    /// after the mutex was unlocked is not missed.
    ///
    /// # Errors
    ///
    /// When the mutex is poisoned by then; the guard is in the error.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_until(guard, None).0
    }

    /// [`Condvar::wait`], again and again while `condition` holds, which is asked first.
    ///
    /// # Errors
    ///
    /// When the mutex is found poisoned after a wait; the guard is in the error.
    pub fn wait_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: F,
    ) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// [`Condvar::wait`], for at most `timeout` (rounded up to a tick of 65.5 µs). Then the mutex is
    /// locked again, however long that takes.
    ///
    /// # Errors
    ///
    /// When the mutex is poisoned by then; what would be the result is in the error.
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        with_result(self.wait_until(guard, Some(deadline_after(timeout))))
    }

    /// [`Condvar::wait_timeout`], with the timeout in milliseconds. Returns false if it ended the
    /// wait.
    ///
    /// # Errors
    ///
    /// As [`Condvar::wait_timeout`].
    #[deprecated(note = "replaced by `wait_timeout`, as in std")]
    pub fn wait_timeout_ms<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        ms: u32,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let in_time = |(guard, result): (_, WaitTimeoutResult)| (guard, !result.timed_out());
        match self.wait_timeout(guard, Duration::from_millis(u64::from(ms))) {
            Ok(ended) => Ok(in_time(ended)),
            Err(error) => Err(PoisonError::new(in_time(error.into_inner()))),
        }
    }

    /// [`Condvar::wait_while`], for at most `timeout` altogether. The result says that the time was
    /// over while the condition still held.
    ///
    /// # Errors
    ///
    /// When the mutex is found poisoned after a wait; what would be the result is in the error.
    pub fn wait_timeout_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        let deadline = deadline_after(timeout);
        let mut result = WaitTimeoutResult(false);
        while condition(&mut guard) {
            if result.timed_out() {
                return Ok((guard, result));
            }
            (guard, result) = with_result(self.wait_until(guard, Some(deadline)))?;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    /// Wakes the one that has waited longest, if anybody waits. Never waits itself, and need not be
    /// called with the mutex locked.
    pub fn notify_one(&self) {
        if self.waiting.is_zero() {
            return;
        }
        let mut queue = self.queue.lock();
        let Some(longest) = queue.pop() else {
            return;
        };
        self.waiting.less(1);
        drop(queue);
        longest.wake();
    }

    /// Wakes all who wait. Never waits itself, and need not be called with the mutex locked.
    pub fn notify_all(&self) {
        if self.waiting.is_zero() {
            return;
        }
        let mut queue = self.queue.lock();
        let all = queue.take_all();
        self.waiting.less(all.len() as u32);
        drop(queue);
        all.wake();
    }

    fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Nanos>,
    ) -> (LockResult<MutexGuard<'a, T>>, WaitTimeoutResult) {
        let mutex = guard.into_locked();
        // SAFETY: the guard had the lock, and left it to us.
        let timed_out = unsafe { self.wait_unlocked(&mutex.raw, deadline) };
        // SAFETY: locked again, by us.
        (unsafe { mutex.guard() }, WaitTimeoutResult(timed_out))
    }

    /// Waits with the mutex unlocked; true if the time was over.
    ///
    /// # Safety
    ///
    /// The caller has the lock. It has it again afterwards, but not if this unwinds.
    unsafe fn wait_unlocked(&self, mutex: &RawMutex, deadline: Option<Nanos>) -> bool {
        let _shield = Shield::where_nothing_unwinds();
        let waiter = Waiter::new();
        let mut queue = self.queue.lock();
        // SAFETY: `wait` returns only when the waiter is off the queue.
        unsafe { queue.push(&waiter) };
        // Before the mutex is unlocked: who changes the condition with it locked, and notifies
        // afterwards, sees the count.
        self.waiting.one_more();
        drop(queue);
        // SAFETY: as the caller says.
        unsafe { mutex.unlock() };
        let ended = self.queue.wait(&waiter, Reason::CONDITION, deadline);
        if ended != Signal::Wake {
            let _queue = self.queue.lock();
            self.waiting.less(1);
        }
        if ended == Signal::Cancelled {
            wait::raise_cancelled();
        }
        if mutex.lock().is_err() {
            if ended == Signal::Wake {
                self.notify_one();
            }
            wait::raise_cancelled();
        }
        ended == Signal::TimedOut
    }
}

fn deadline_after(timeout: Duration) -> Nanos {
    current::worker().map_or_else(|| clock::after(timeout), |worker| worker.after(timeout))
}

/// A lock's result, with another in it.
fn with_result<G>(
    (locked, result): (LockResult<G>, WaitTimeoutResult),
) -> LockResult<(G, WaitTimeoutResult)> {
    match locked {
        Ok(guard) => Ok((guard, result)),
        Err(error) => Err(PoisonError::new((error.into_inner(), result))),
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
