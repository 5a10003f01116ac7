//! Poison: a panic while a lock was held for writing may have left the data half changed.
//!
//! As in std, with the finer sense of [`unwind::is_panicking`]: a cancel does not poison, nor does
//! the panic of another coroutine that is parked in the middle of it on the same worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};

use crate::unwind;

/// Whether a lock is poisoned.
pub(super) struct Poison(AtomicBool);

/// What a guard that may write remembers: whether its holder was panicking when it got the lock.
/// Then the data is not what the panic broke, and the guard does not poison.
pub(super) struct Entry {
    panicking: bool,
}

impl Entry {
    #[inline]
    pub(super) fn new() -> Entry {
        Entry { panicking: unwind::is_panicking() }
    }
}

impl Poison {
    pub(super) const fn new() -> Poison {
        Poison(AtomicBool::new(false))
    }

    // Relaxed, all of them: whoever holds the lock is ordered by that.

    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// `value` as what it is: an error while the lock is poisoned.
    #[inline]
    pub(super) fn judge<T>(&self, value: T) -> LockResult<T> {
        if self.is_set() { Err(PoisonError::new(value)) } else { Ok(value) }
    }

    /// The guard with this entry goes.
    #[inline]
    pub(super) fn leave(&self, entry: &Entry) {
        if !entry.panicking && unwind::is_panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// What a lock that can be poisoned has in common with the other one: the data, the ways to it that
/// need no lock, and the poison. `$name` has fields `raw`, `poison` and `data`; `$noun` is what its
/// documentation calls it, and `$holder` who poisons it.
macro_rules! poisoned_with_its_data {
    ($name:ident, $raw:ident, $noun:literal, $holder:literal) => {
        impl<T> $name<T> {
            #[doc = concat!("A ", $noun, " that nobody has.")]
            pub const fn new(value: T) -> $name<T> {
                $name { raw: $raw::new(), poison: Poison::new(), data: UnsafeCell::new(value) }
            }

            /// The data.
            ///
            /// # Errors
            ///
            #[doc = concat!("When the ", $noun, " is poisoned; the data is in the error.")]
            pub fn into_inner(self) -> LockResult<T> {
                let $name { poison, data, .. } = self;
                poison.judge(data.into_inner())
            }
        }

        impl<T: ?Sized> $name<T> {
            #[doc = concat!("Whether a panic has ended ", $holder, ". It may be so a moment later.")]
            pub fn is_poisoned(&self) -> bool {
                self.poison.is_set()
            }

            /// Declares the data sound again.
            pub fn clear_poison(&self) {
                self.poison.clear();
            }

            #[doc = concat!(
                "The data, without locking: the `&mut` shows that nobody has the ", $noun, "."
            )]
            ///
            /// # Errors
            ///
            #[doc = concat!("When the ", $noun, " is poisoned; the reference is in the error.")]
            pub fn get_mut(&mut self) -> LockResult<&mut T> {
                self.poison.judge(self.data.get_mut())
            }
        }

        impl<T: ?Sized> UnwindSafe for $name<T> {}
        impl<T: ?Sized> RefUnwindSafe for $name<T> {}

        impl<T: Default> Default for $name<T> {
            fn default() -> $name<T> {
                $name::new(T::default())
            }
        }

        impl<T> From<T> for $name<T> {
            fn from(value: T) -> $name<T> {
                $name::new(value)
            }
        }
    };
}

/// What guards print: the data.
macro_rules! prints_as_its_data {
    ($($guard:ident)*) => {$(
        impl<T: ?Sized + fmt::Debug> fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }

        impl<T: ?Sized + fmt::Display> fmt::Display for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    )*};
}

pub(super) use {poisoned_with_its_data, prints_as_its_data};
