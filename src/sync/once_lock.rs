//! A value that is written once and read ever after.

use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::once::{Once, Poison};

/// A cell that can be written once, from any coroutine or thread; see [`std::sync::OnceLock`].
///
/// Reading what is there is one acquiring load. An initialiser may wait; it runs alone, and who
/// comes meanwhile waits for it. If it panics, fails or is cancelled the cell stays empty, and the
/// next caller's runs. An initialiser that asks its own cell for the value waits for itself, for
/// ever, as with std's on Linux; in a coroutine the deadlock report names it.
///
/// ```
/// use cosocket::sync::OnceLock;
/// use cosocket::thread;
///
/// static ADDRESS: OnceLock<String> = OnceLock::new();
///
/// fn address() -> &'static str {
///     ADDRESS.get_or_init(|| {
///         thread::yield_now(); // Looks it up, which takes a while.
///         "192.0.2.1".to_owned()
///     })
/// }
///
/// assert!(ADDRESS.get().is_none());
/// let other = thread::spawn(address);
/// assert!(std::ptr::eq(address(), other.join().unwrap()));
/// assert_eq!(ADDRESS.set("192.0.2.2".into()), Err("192.0.2.2".into()));
/// ```
pub struct OnceLock<T> {
    once: Once,
    /// Written by the one closure that `once` lets run, and shared when that is complete.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: shared, it hands out `&T` to all, and the value that one put in may be dropped or taken
// by another.
unsafe impl<T: Sync + Send> Sync for OnceLock<T> {}

// As std's: a panic leaves it empty.
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// An empty cell.
    #[must_use]
    pub const fn new() -> OnceLock<T> {
        OnceLock { once: Once::new(), value: UnsafeCell::new(None) }
    }

    /// The value, if it is there. This never waits.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.once.is_completed() {
            // SAFETY: complete, so nobody writes it while it is shared; acquired by that look.
            unsafe { (*self.value.get()).as_ref() }
        } else {
            None
        }
    }

    /// The value, if it is there.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// Waits until the value is there. A cancel unwinds out of it.
    #[inline]
    pub fn wait(&self) -> &T {
        self.once.wait_force();
        self.get().expect("complete")
    }

    /// Writes the value.
    ///
    /// Waits while an initialiser runs; a cancel unwinds out of that.
    ///
    /// # Errors
    ///
    /// The value given, when there is one already.
    #[inline]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("called once"));
        value.map_or(Ok(()), Err)
    }

    /// The value; `f` makes it, if it is not there yet.
    ///
    /// Waits while another caller's initialiser runs. A cancel unwinds out of that; one that
    /// unwinds `f` leaves the cell empty.
    ///
    /// # Panics
    ///
    /// When `f` does, which leaves the cell empty.
    #[inline]
    pub fn get_or_init<F: FnOnce() -> T>(&self, f: F) -> &T {
        let Ok(value) = self.get_or_try_init(|| Ok::<T, Infallible>(f()));
        value
    }

    /// As [`OnceLock::get_or_init`], for an initialiser that may fail; unstable in std.
    ///
    /// # Errors
    ///
    /// That of `f`, which leaves the cell empty.
    ///
    /// ```
    /// let cell = cosocket::sync::OnceLock::new();
    /// assert!(cell.get_or_try_init(|| "seven".parse::<i32>()).is_err());
    /// assert_eq!(cell.get_or_try_init(|| "7".parse::<i32>()), Ok(&7));
    /// ```
    #[inline]
    pub fn get_or_try_init<F, E>(&self, f: F) -> Result<&T, E>
    where
        F: FnOnce() -> Result<T, E>,
    {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        self.once.call(Poison::Ignored, |_| {
            let value = f()?;
            // SAFETY: one closure runs at a time, and nobody reads before it is complete.
            unsafe { *self.value.get() = Some(value) };
            Ok(())
        })?;
        Ok(self.get().expect("complete"))
    }

    /// The value, if it is there.
    #[inline]
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Takes the value out, if it is there; the cell may be written again.
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        std::mem::take(self).into_inner()
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        let cell = OnceLock::new();
        let Ok(()) = cell.set(value) else { unreachable!("it was empty") };
        cell
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> OnceLock<T> {
        self.get().cloned().map_or_else(OnceLock::new, OnceLock::from)
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &OnceLock<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("OnceLock");
        match self.get() {
            Some(value) => debug.field(value),
            None => debug.field(&format_args!("<uninit>")),
        };
        debug.finish()
    }
}
