//! `std::sync::Mutex`: [`RawMutex`] with data in it.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, TryLockError, TryLockResult};

use super::poison::{Entry, Poison, poisoned_with_its_data, prints_as_its_data};
use super::raw_mutex::RawMutex;
use crate::wait;

/// [`std::sync::Mutex`], for coroutines and threads alike: who waits for it in a coroutine lets
/// the worker run others.
///
/// A guard may be held across any wait. Coroutines of any worker and plain threads may share one
/// mutex. Taking a free one, and releasing one that nobody waits for, is one atomic instruction
/// each; waiting allocates nothing.
///
/// # Who is next
///
/// A mutex that is free may be taken by whoever comes, past those who wait; but one who has waited
/// for about a millisecond is handed the lock when it is released next. Within that time coroutines
/// of the releasing worker come before others. So the order is not that of arrival.
///
/// # Poisoning
///
/// As in std, a panic while the lock is held poisons it. A cancel does not, though it unwinds; nor
/// does a panic of another coroutine, parked in the middle of it on the same worker. (std's
/// locks cannot tell these apart.)
///
/// # Cancel
///
/// One that comes while the mutex is waited for unwinds out of the wait, without the lock. A
/// coroutine that has been given the lock at the same moment has it, and is unwound at its next
/// wait. Where nothing unwinds (`panic = "abort"`, destructors in mid-unwind, [`crate::shield`])
/// the wait goes on to its end.
///
/// ```
/// use cosocket::sync::Mutex;
/// use cosocket::thread;
///
/// static TOTAL: Mutex<u32> = Mutex::new(0);
///
/// thread::scope(|scope| {
///     for n in 1..=4 {
///         scope.spawn(move || {
///             let mut total = TOTAL.lock().unwrap();
///             thread::yield_now(); // the others wait for the lock
///             *total += n;
///         });
///     }
/// });
/// assert_eq!(*TOTAL.lock().unwrap(), 10);
/// ```
pub struct Mutex<T: ?Sized> {
    pub(super) raw: RawMutex,
    poison: Poison,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached by one guard at a time, whichever thread that is on.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

poisoned_with_its_data!(Mutex, RawMutex, "mutex", "somebody who had the mutex");

impl<T: ?Sized> Mutex<T> {
    /// Waits for the mutex and takes it. A coroutine that has it already waits for ever.
    ///
    /// # Errors
    ///
    /// When the mutex is poisoned; the guard is in the error.
    #[inline]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        if self.raw.lock().is_err() {
            wait::raise_cancelled();
        }
        // SAFETY: we have the lock.
        unsafe { self.guard() }
    }

    /// Takes the mutex if it is free, and never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when somebody has the mutex; `Poisoned`, with the guard in it, when it is
    /// poisoned.
    ///
    /// ```
    /// use cosocket::sync::{Mutex, TryLockError};
    ///
    /// let mutex = Mutex::new(5);
    /// let guard = mutex.try_lock().unwrap();
    /// assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
    /// drop(guard);
    /// assert_eq!(*mutex.try_lock().unwrap(), 5);
    /// ```
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if !self.raw.try_lock() {
            return Err(TryLockError::WouldBlock);
        }
        // SAFETY: we have the lock.
        Ok(unsafe { self.guard() }?)
    }

    /// # Safety
    ///
    /// The caller has the lock, and gives it to the guard.
    #[inline]
    pub(super) unsafe fn guard(&self) -> LockResult<MutexGuard<'_, T>> {
        self.poison.judge(MutexGuard { mutex: self, entry: Entry::new(), _not_send: PhantomData })
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => debug.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => debug.field("data", &"<locked>"),
        };
        debug.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

/// A locked [`Mutex`]: the way to its data. Dropping it unlocks, and never waits.
///
/// It may be held across waits, and stays with its coroutine or thread.
#[must_use = "the mutex is unlocked when the guard is dropped"]
#[clippy::has_significant_drop]
pub struct MutexGuard<'a, T: ?Sized + 'a> {
    mutex: &'a Mutex<T>,
    entry: Entry,
    _not_send: PhantomData<*const ()>,
}

// SAFETY: through a shared guard others get a `&T` and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The mutex, still locked.
    pub(super) fn into_locked(self) -> &'a Mutex<T> {
        ManuallyDrop::new(self).mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while the guard lives, the data is its own.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.poison.leave(&self.entry);
        // SAFETY: the guard has the lock.
        unsafe { self.mutex.raw.unlock() };
    }
}

prints_as_its_data!(MutexGuard);
