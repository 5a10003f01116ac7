//! Values that each coroutine has its own of.

use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::fmt;
use std::thread::AccessError as ThreadAccessError;

use crate::coroutine::{Coroutine, drop_quietly};
use crate::current;
use crate::switch_hook::Hooks;

/// Declares [`LocalKey`]s, in the shape of [`std::thread_local!`].
///
/// A thread-local is shared by all coroutines of a worker; a coroutine-local is not. On a plain
/// thread it is a thread-local.
///
/// ```
/// use std::cell::Cell;
/// cosocket::coroutine_local! {
///     static DEPTH: Cell<u32> = Cell::new(0);
/// }
/// cosocket::run(|| {
///     DEPTH.set(7);
///     let other = cosocket::thread::spawn(|| DEPTH.get()).join().unwrap();
///     assert_eq!((DEPTH.get(), other), (7, 0));
/// });
/// ```
#[macro_export]
macro_rules! coroutine_local {
    () => {};
    ($(#[$attribute:meta])* $visible:vis static $name:ident: $type:ty = const $value:block $(; $($rest:tt)*)?) => {
        $crate::coroutine_local!($(#[$attribute])* $visible static $name: $type = $value);
        $($crate::coroutine_local!($($rest)*);)?
    };
    ($(#[$attribute:meta])* $visible:vis static $name:ident: $type:ty = $value:expr $(; $($rest:tt)*)?) => {
        $(#[$attribute])*
        $visible static $name: $crate::thread::LocalKey<$type> =
            $crate::thread::LocalKey::new(|| $value);
        $($crate::coroutine_local!($($rest)*);)?
    };
}

/// A key to a value that each coroutine has its own of; made by
/// [`coroutine_local!`](crate::coroutine_local).
///
/// The value is made at its first use and dropped when the coroutine ends, on the coroutine's
/// stack, before its handle reports it finished. Keys used last are dropped first. (Those of a plain
/// thread are dropped with its other thread-locals, in no order that could be relied on.)
///
/// A destructor may wait, but where the coroutine was cancelled the cancel stands: the wait unwinds out
/// of the destructor, as it would out of any that runs at a normal exit. Wrap it in a
/// [`shield`](crate::shield) if it has to come to its end.
pub struct LocalKey<T: 'static> {
    make: fn() -> T,
    // Two keys of a zero-sized type must not share an address.
    _distinct: UnsafeCell<u8>,
}

// SAFETY: the key holds no value, only how to make one, and the byte is never read or written.
unsafe impl<T: 'static> Sync for LocalKey<T> {}

/// The values of one coroutine or thread. Boxed one by one, so that they stay where they are.
#[derive(Default)]
pub(crate) struct Locals {
    values: RefCell<Vec<(usize, Box<dyn Any>)>>,
    ending: Cell<bool>,
    pub(crate) hooks: Hooks,
}

thread_local! {
    static OF_THREAD: Locals = Locals::default();
}

/// The value is being destroyed, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError;

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the coroutine-local value is already destroyed")
    }
}

impl std::error::Error for AccessError {}

impl From<ThreadAccessError> for AccessError {
    fn from(_: ThreadAccessError) -> AccessError {
        AccessError
    }
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(make: fn() -> T) -> LocalKey<T> {
        LocalKey { make, _distinct: UnsafeCell::new(0) }
    }

    /// Calls `f` with this coroutine's value, which is made first if it is not there yet.
    ///
    /// # Panics
    ///
    /// When the coroutine is ending and the value is gone.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.try_with(f).expect("cannot use a coroutine-local value while it is destroyed")
    }

    /// Like [`with`](LocalKey::with), with an error in place of the panic.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        match current::worker() {
            Some(worker) => {
                let value = Locals::of(worker.current()).value(self)?;
                // SAFETY: the value stays in its box until `destroy`, which runs after the
                // closure that we are called from (or we are in a destructor of a later box).
                Ok(f(unsafe { &*value }))
            }
            None => OF_THREAD.try_with(|locals| {
                let value = locals.value(self)?;
                // SAFETY: the value stays in its box until the thread ends.
                Ok(f(unsafe { &*value }))
            })?,
        }
    }
}

impl Locals {
    /// Those of `me`, the running coroutine; made first if there are none.
    pub(crate) fn of(me: &Coroutine) -> &Locals {
        if me.locals.get().is_null() {
            me.locals.set(Box::into_raw(Box::default()));
        }
        // SAFETY: made just now or before; they go when the coroutine has ended, and not while
        // somebody asks for them on its stack.
        unsafe { &*me.locals.get() }
    }

    fn value<T: 'static>(&self, key: &'static LocalKey<T>) -> Result<*const T, AccessError> {
        let address = std::ptr::from_ref(key).addr();
        if let Some(value) = self.find(address) {
            return Ok(value.cast());
        }
        if self.ending.get() {
            return Err(AccessError);
        }
        // Made with nothing borrowed: `make` may use other keys, and may suspend.
        let value: Box<dyn Any> = Box::new((key.make)());
        let pointer: *const T = value.downcast_ref().expect("just made");
        self.values.borrow_mut().push((address, value));
        Ok(pointer)
    }

    fn find(&self, address: usize) -> Option<*const dyn Any> {
        let values = self.values.borrow();
        let (_, value) = values.iter().find(|(key, _)| *key == address)?;
        Some(&raw const **value)
    }

    /// Drops the values, the youngest first, panics caught. No new ones are made meanwhile.
    ///
    /// # Safety
    ///
    /// Called by the coroutine whose locals these are, at its end.
    #[inline]
    pub(crate) unsafe fn destroy(cell: &Cell<*mut Locals>) {
        if !cell.get().is_null() {
            // SAFETY: as the caller vouches; there are some.
            unsafe { Locals::destroy_all(cell) };
        }
    }

    /// # Safety
    ///
    /// As for [`Locals::destroy`], and the cell is not null.
    #[cold]
    unsafe fn destroy_all(cell: &Cell<*mut Locals>) {
        // SAFETY: the caller is the one coroutine that uses these locals; destructors reach them
        // through the cell too, by `&` only.
        let locals = unsafe { &*cell.get() };
        locals.ending.set(true);
        loop {
            let last = locals.values.borrow_mut().pop();
            let Some((_, value)) = last else { break };
            drop_quietly(value);
        }
        // SAFETY: made by `Box::into_raw`; `locals` is not used below.
        drop(unsafe { Box::from_raw(cell.replace(std::ptr::null_mut())) });
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Replaces the value; unlike in std, the first one is made even if it is replaced at once.
    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }

    /// Copies the value out.
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value, leaving the default.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Replaces the value and returns the old one.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the value borrowed. Do not suspend in `f` while others may borrow.
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with the value mutably borrowed. Panics if it is borrowed already, as all of these
    /// do.
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Replaces the value; as for a `Cell`.
    pub fn set(&'static self, value: T) {
        self.with(|cell| *cell.borrow_mut() = value);
    }

    /// Takes the value, leaving the default.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Replaces the value and returns the old one.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}
