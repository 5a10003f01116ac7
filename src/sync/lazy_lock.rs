//! A value that is made when it is first looked at.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::once::Once;
use crate::wait::Shield;

/// A value whose initialiser runs on the first access; see [`std::sync::LazyLock`].
///
/// Looking at what is there is one acquiring load. The initialiser may wait; who comes meanwhile
/// waits for it, and a cancel unwinds out of that wait. If the initialiser panics the lock is
/// poisoned for good, as in std, for the initialiser is used up. So that a cancel does not do the
/// same, it is held back while the initialiser runs (as by [`shield`](crate::shield)), and takes
/// effect at the first wait after it.
///
/// An initialiser that looks at its own value waits for itself, for ever, as with std's on Linux;
/// in a coroutine the deadlock report names it.
///
/// ```
/// use cosocket::sync::LazyLock;
/// use std::collections::HashMap;
///
/// static PORTS: LazyLock<HashMap<&str, u16>> = LazyLock::new(|| {
///     cosocket::thread::yield_now(); // Reads them from somewhere, which takes a while.
///     HashMap::from([("http", 80), ("https", 443)])
/// });
///
/// assert!(LazyLock::get(&PORTS).is_none());
/// assert_eq!(PORTS["https"], 443);
/// assert!(LazyLock::get(&PORTS).is_some());
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    once: Once,
    /// Changed by the one closure that `once` lets run, and shared when that is complete.
    content: UnsafeCell<Content<T, F>>,
}

enum Content<T, F> {
    Initialiser(F),
    /// The initialiser runs, or has panicked.
    Empty,
    Value(T),
}

// SAFETY: shared, it hands out `&T` to all, and one of them runs the initialiser that another
// brought and leaves the value to be dropped by a third.
unsafe impl<T: Sync + Send, F: Send> Sync for LazyLock<T, F> {}

// As std's: a panic poisons it.
impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// A value that `f` is to make.
    pub const fn new(f: F) -> LazyLock<T, F> {
        LazyLock { once: Once::new(), content: UnsafeCell::new(Content::Initialiser(f)) }
    }

    /// The value, made now if nobody has looked at it yet. So does `*this`.
    ///
    /// # Panics
    ///
    /// When the initialiser does, or did.
    #[inline]
    #[track_caller]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        this.once.call_once(|| {
            let _shield = Shield::raise();
            // SAFETY: one closure runs at a time, and nobody else looks before it is complete.
            let content = unsafe { mem::replace(&mut *this.content.get(), Content::Empty) };
            let Content::Initialiser(f) = content else {
                unreachable!("it is poisoned when the initialiser is gone");
            };
            let value = f();
            // SAFETY: as above. What is replaced is empty, so nothing of the user's runs.
            unsafe { *this.content.get() = Content::Value(value) };
        });
        LazyLock::get(this).expect("complete")
    }

    /// As [`LazyLock::force`], to change the value. So does `&mut *this`.
    ///
    /// # Panics
    ///
    /// As [`LazyLock::force`].
    #[inline]
    #[track_caller]
    pub fn force_mut(this: &mut LazyLock<T, F>) -> &mut T {
        LazyLock::force(this);
        LazyLock::get_mut(this).expect("complete")
    }
}

impl<T, F> LazyLock<T, F> {
    /// The value, if it has been made. This never waits.
    #[inline]
    pub fn get(this: &LazyLock<T, F>) -> Option<&T> {
        if !this.once.is_completed() {
            return None;
        }
        // SAFETY: complete, so nobody writes it while it is shared; acquired by that look.
        match unsafe { &*this.content.get() } {
            Content::Value(value) => Some(value),
            Content::Initialiser(_) | Content::Empty => None,
        }
    }

    /// The value, if it has been made.
    #[inline]
    pub fn get_mut(this: &mut LazyLock<T, F>) -> Option<&mut T> {
        match this.content.get_mut() {
            Content::Value(value) => Some(value),
            Content::Initialiser(_) | Content::Empty => None,
        }
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T, F: FnOnce() -> T> DerefMut for LazyLock<T, F> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        LazyLock::force_mut(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("LazyLock");
        match LazyLock::get(self) {
            Some(value) => debug.field(value),
            None => debug.field(&format_args!("<uninit>")),
        };
        debug.finish()
    }
}
