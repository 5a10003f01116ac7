//! `std::sync::RwLock`: [`RawRwLock`] with data in it.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::{LockResult, TryLockError, TryLockResult};

use super::poison::{Entry, Poison, poisoned_with_its_data, prints_as_its_data};
use super::raw_rw_lock::RawRwLock;
use crate::wait;

/// [`std::sync::RwLock`], for coroutines and threads alike: who waits for it in a coroutine lets
/// the worker run others.
///
/// Guards may be held across any wait. Coroutines of any worker and plain threads may share one
/// lock. Entering past nobody, and leaving when nobody waits, is one atomic instruction each;
/// waiting allocates nothing.
///
/// # Who is next
///
/// While somebody waits, whoever comes waits too, readers as well, and the lock is handed over in
/// the order of arrival; readers who came one after the other enter together. Neither readers nor
/// writers can starve the others. It follows that a coroutine that has the lock for reading and
/// asks for it again may wait for ever, for a writer that came in between waits for it: std does
/// not promise better.
///
/// # Poisoning and cancel
///
/// As for [`Mutex`](super::Mutex). Only writers poison.
///
/// ```
/// use cosocket::sync::{RwLock, RwLockWriteGuard};
/// use cosocket::thread;
///
/// static NAMES: RwLock<Vec<&str>> = RwLock::new(Vec::new());
///
/// let mut names = NAMES.write().unwrap();
/// names.push("first");
/// let names = RwLockWriteGuard::downgrade(names);
/// let seen_by_another = thread::spawn(|| NAMES.read().unwrap().len());
/// assert_eq!(seen_by_another.join().unwrap(), names.len());
/// ```
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    poison: Poison,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached by one writer or by readers, whichever threads they are on.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: as above; readers of several threads share it.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

poisoned_with_its_data!(RwLock, RawRwLock, "lock", "a writer");

impl<T: ?Sized> RwLock<T> {
    /// Waits until nobody writes, and keeps writers out. There may be other readers.
    ///
    /// # Errors
    ///
    /// When the lock is poisoned; the guard is in the error.
    ///
    /// # Panics
    ///
    /// With a billion readers.
    #[inline]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        if self.raw.read().is_err() {
            wait::raise_cancelled();
        }
        // SAFETY: we are in as a reader.
        self.poison.judge(unsafe { self.reader() })
    }

    /// As [`RwLock::read`], without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when somebody writes, or waits; `Poisoned`, with the guard in it, when the lock
    /// is poisoned.
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if !self.raw.try_read() {
            return Err(TryLockError::WouldBlock);
        }
        // SAFETY: we are in as a reader.
        Ok(self.poison.judge(unsafe { self.reader() })?)
    }

    /// Waits until nobody else reads or writes, and keeps others out.
    ///
    /// # Errors
    ///
    /// When the lock is poisoned; the guard is in the error.
    #[inline]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        if self.raw.write().is_err() {
            wait::raise_cancelled();
        }
        // SAFETY: we are in as the writer.
        self.poison.judge(unsafe { self.writer() })
    }

    /// As [`RwLock::write`], without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when somebody reads, writes or waits; `Poisoned`, with the guard in it, when the
    /// lock is poisoned.
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if !self.raw.try_write() {
            return Err(TryLockError::WouldBlock);
        }
        // SAFETY: we are in as the writer.
        Ok(self.poison.judge(unsafe { self.writer() })?)
    }

    /// # Safety
    ///
    /// The caller is in as a reader, and gives that to the guard.
    unsafe fn reader(&self) -> RwLockReadGuard<'_, T> {
        // SAFETY: a cell's address is not null.
        let data = unsafe { NonNull::new_unchecked(self.data.get()) };
        RwLockReadGuard { data, raw: &self.raw }
    }

    /// # Safety
    ///
    /// The caller is in as the writer, and gives that to the guard.
    unsafe fn writer(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard { lock: self, entry: Entry::new(), _not_send: PhantomData }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => debug.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => debug.field("data", &format_args!("<locked>")),
        };
        debug.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

/// An [`RwLock`] held for reading. Dropping it lets go, and never waits.
///
/// It may be held across waits, and stays with its coroutine or thread.
#[must_use = "the lock is let go when the guard is dropped"]
#[clippy::has_significant_drop]
pub struct RwLockReadGuard<'a, T: ?Sized + 'a> {
    /// A pointer, so that a guard of a subtype will do, as in std.
    data: NonNull<T>,
    raw: &'a RawRwLock,
}

/// An [`RwLock`] held for writing. Dropping it lets go, and never waits.
///
/// It may be held across waits, and stays with its coroutine or thread.
#[must_use = "the lock is let go when the guard is dropped"]
#[clippy::has_significant_drop]
pub struct RwLockWriteGuard<'a, T: ?Sized + 'a> {
    lock: &'a RwLock<T>,
    entry: Entry,
    _not_send: PhantomData<*const ()>,
}

// SAFETY: through a shared guard others get a `&T` and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Goes on as a reader, and lets other readers in; no writer comes between. Readers who wait
    /// behind a writer stay there.
    pub fn downgrade(s: RwLockWriteGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        let lock = ManuallyDrop::new(s).lock;
        // SAFETY: the guard was in as the writer, and does not let go.
        unsafe { lock.raw.downgrade() };
        // SAFETY: we are in as a reader now.
        unsafe { lock.reader() }
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while the guard lives, nobody writes.
        unsafe { self.data.as_ref() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while the guard lives, the data is its own.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard is in as a reader.
        unsafe { self.raw.unlock_read() };
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.leave(&self.entry);
        // SAFETY: the guard is in as the writer.
        unsafe { self.lock.raw.unlock_write() };
    }
}

prints_as_its_data!(RwLockReadGuard RwLockWriteGuard);
