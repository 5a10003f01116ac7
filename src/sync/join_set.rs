//! Many coroutines, and their results in the order in which they end.
//!
//! ```text
//!   spawn -> entry 0: handle --.                          .--> join_next: takes the entry's
//!            entry 1: handle   |--- ends: its number ---->|    handle, which is done, and joins
//!            entry 2: handle --'    joins the queue       `--> entry free again
//! ```
//!
//! Each coroutine holds a membership that is dropped when its result is in place; that puts its
//! number into the queue and wakes who waits there. Nobody polls.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::begin_call;
use crate::clock::Nanos;
use crate::coroutine::Kept;
use crate::thread::{Builder, JoinHandle, Result, ThreadId};
use crate::wait::{self, Reason, WaitQueue};

/// A set of coroutines whose results are taken as they end.
///
/// Dropping the set cancels those that go on, without waiting for their ends; see
/// [`JoinHandle::cancel`]. For coroutines that borrow, use [`scope`](crate::thread::scope).
///
/// ```
/// use cosocket::sync::JoinSet;
/// use cosocket::thread;
/// use std::time::Duration;
///
/// let mut set = JoinSet::new();
/// for delay in [30, 10, 20] {
///     set.spawn(move || {
///         thread::sleep(Duration::from_millis(delay));
///         delay
///     });
/// }
/// let mut delays = Vec::new();
/// while let Some(result) = set.join_next() {
///     delays.push(result.unwrap());
/// }
/// delays.sort(); // For this example's sake: they end in this order, unless the machine is busy.
/// assert_eq!(delays, [10, 20, 30]);
/// ```
pub struct JoinSet<T> {
    /// By number; `None` where a number is free, or has ended without having begun.
    entries: Vec<Option<JoinHandle<T>>>,
    free: Vec<usize>,
    len: usize,
    ended: Arc<Ended>,
}

/// The numbers of those that have ended, in that order.
struct Ended {
    numbers: Mutex<VecDeque<usize>>,
    queue: WaitQueue,
}

/// Held by a coroutine until its result is in place.
struct Membership {
    number: usize,
    ended: Arc<Ended>,
}

impl Kept for Membership {
    fn unhandled_panic(&self) {}
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.ended.lock().push_back(self.number);
        self.ended.queue.wake_all();
    }
}

impl Ended {
    fn new() -> Arc<Ended> {
        Arc::new(Ended { numbers: Mutex::default(), queue: WaitQueue::new() })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<usize>> {
        // Nothing panics under the lock; see `WaitQueue::lock` for poison.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> JoinSet<T> {
    /// An empty set.
    #[must_use]
    pub fn new() -> JoinSet<T> {
        JoinSet { entries: Vec::new(), free: Vec::new(), len: 0, ended: Ended::new() }
    }

    /// How many results are still to be taken: of those that go on and of those that have ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Waits for the next one to end and takes its result, or the payload of its panic, as
    /// [`JoinHandle::join`] does; `None` when the set is empty. They come in the order in which they
    /// end.
    ///
    /// A cancel unwinds out of the wait, and no result is lost by that. Nor is one when it comes
    /// together with the cancel.
    pub fn join_next(&mut self) -> Option<Result<T>> {
        self.join_next_with_id().map(|(_, result)| result)
    }

    /// As [`JoinSet::join_next`], and tells which one it was.
    pub fn join_next_with_id(&mut self) -> Option<(ThreadId, Result<T>)> {
        begin_call();
        self.next_before(None)
    }

    /// As [`JoinSet::join_next`], but waits for no longer than `timeout`, and no less, unless one
    /// ends: `None` when none has, and when the set is empty.
    pub fn join_next_timeout(&mut self, timeout: Duration) -> Option<Result<T>> {
        begin_call();
        self.next_before(Some(wait::deadline_after(timeout))).map(|(_, result)| result)
    }

    /// As [`JoinSet::join_next`], but `None` when none has ended. This never waits.
    pub fn try_join_next(&mut self) -> Option<Result<T>> {
        self.take_ended().map(|(_, result)| result)
    }

    /// Waits for all of them and returns their results, in the order in which they ended. A cancel
    /// unwinds, and cancels those that go on.
    ///
    /// # Panics
    ///
    /// With the panic of one of them, after having cancelled the rest.
    ///
    /// ```
    /// use cosocket::sync::JoinSet;
    ///
    /// let set: JoinSet<i32> = (1..=4).map(|n| move || n * n).collect();
    /// assert_eq!(set.join_all().into_iter().sum::<i32>(), 30);
    /// ```
    pub fn join_all(mut self) -> Vec<T> {
        let mut results = Vec::with_capacity(self.len);
        while let Some(result) = self.join_next() {
            results.push(result.unwrap_or_else(|payload| resume_unwind(payload)));
        }
        results
    }

    /// Cancels all that go on, without waiting for their ends: `join_next` does, and returns the
    /// payload [`Cancelled`](crate::Cancelled) for those that the cancel has met.
    pub fn cancel_all(&mut self) {
        self.handles().for_each(JoinHandle::cancel);
    }

    /// Lets all of them go on by themselves, and forgets them and their results.
    pub fn detach_all(&mut self) {
        // They end in the old queue, where nobody looks.
        self.ended = Ended::new();
        self.free.clear();
        self.len = 0;
        self.entries.clear();
    }

    fn next_before(&mut self, deadline: Option<Nanos>) -> Option<(ThreadId, Result<T>)> {
        loop {
            let next = self.take_ended();
            if next.is_some() || self.is_empty() {
                return next;
            }
            let has_ended = || !self.ended.lock().is_empty();
            if !self.ended.queue.wait_until(has_ended, Reason::JOIN, deadline) {
                return None;
            }
        }
    }

    fn take_ended(&mut self) -> Option<(ThreadId, Result<T>)> {
        loop {
            let number = self.ended.lock().pop_front()?;
            self.free.push(number);
            if let Some(handle) = self.entries[number].take() {
                self.len -= 1;
                // It is over, so this does not wait.
                return Some((handle.thread().id(), handle.join()));
            }
        }
    }

    fn handles(&self) -> impl Iterator<Item = &JoinHandle<T>> {
        self.entries.iter().flatten()
    }
}

impl<T: Send + 'static> JoinSet<T> {
    /// Spawns a coroutine into the set, as [`thread::spawn`](crate::thread::spawn) does. Returns
    /// its id, which [`JoinSet::join_next_with_id`] returns with the result.
    ///
    /// # Panics
    ///
    /// When no stack can be had.
    #[track_caller]
    pub fn spawn<F>(&mut self, f: F) -> ThreadId
    where
        F: FnOnce() -> T + Send + 'static,
    {
        self.spawn_with(Builder::new(), f).expect("failed to spawn coroutine")
    }

    /// As [`JoinSet::spawn`], with a name or a stack size.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    ///
    /// As [`Builder::spawn`].
    #[track_caller]
    pub fn spawn_with<F>(&mut self, builder: Builder, f: F) -> io::Result<ThreadId>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        let number = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        // If nothing is spawned, the number comes back through the queue.
        let membership = Membership { number, ended: Arc::clone(&self.ended) };
        let handle = builder.spawn_keeping(f, membership)?;
        let id = handle.thread().id();
        self.entries[number] = Some(handle);
        self.len += 1;
        Ok(id)
    }
}

impl<T, F> FromIterator<F> for JoinSet<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn from_iter<I: IntoIterator<Item = F>>(closures: I) -> JoinSet<T> {
        let mut set = JoinSet::new();
        closures.into_iter().for_each(|f| {
            set.spawn(f);
        });
        set
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.cancel_all();
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> JoinSet<T> {
        JoinSet::new()
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len).finish_non_exhaustive()
    }
}
