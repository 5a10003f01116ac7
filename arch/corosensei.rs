//! The mandatory part of the contract through the corosensei crate: for ISAs without a file of
//! their own, and as a rival under the same tests and benches.
//!
//! ```text
//!   Context.coroutine   None --init--> Some --release--> None
//!   Context.yielder     null, until the coroutine's first instruction stores where its own lies
//! ```
//!
//! corosensei ties a coroutine to whoever resumed it last, so there is no `switch`. It keeps its
//! state on the stack in a form of its own, so a suspended context cannot be walked, and its
//! backtraces go on into the resumer. What we hand it to run never returns and never unwinds.

use std::cell::{Cell, UnsafeCell};
use std::convert::Infallible;
use std::fmt;
use std::num::NonZeroUsize;
use std::process;
use std::ptr;

use ::corosensei::stack::{self, StackPointer};
use ::corosensei::{CoroutineResult, Yielder};

use super::{Bounds, Entry, Registers, Visit};

/// Coroutines switch by way of the loop only.
pub const DIRECT: bool = false;

/// The stack of a suspended context cannot be walked.
pub const WALKABLE: bool = false;

/// What corosensei wants of a stack's ends.
pub const STACK_ALIGNMENT: usize = stack::STACK_ALIGNMENT;

type Coroutine = ::corosensei::Coroutine<usize, usize, Infallible, Borrowed>;

/// Nothing: whose ISA it is we do not know.
pub fn prefetch(_address: *const ()) {}

/// Nothing: nor where the stack is.
pub fn prefetch_stack(_context: &Context) {}

/// A place where execution stopped. The loop's stays new: corosensei knows the way back.
pub struct Context {
    coroutine: UnsafeCell<Option<Coroutine>>,
    yielder: Cell<*const Yielder<usize, usize>>,
}

impl Context {
    /// A context that stands nowhere yet.
    pub const fn new() -> Context {
        Context { coroutine: UnsafeCell::new(None), yielder: Cell::new(ptr::null()) }
    }

    /// Always `None`: see [`WALKABLE`].
    pub fn registers(&self) -> Option<Registers> {
        None
    }
}

impl Default for Context {
    fn default() -> Context {
        Context::new()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Context").field("yielder", &self.yielder).finish_non_exhaustive()
    }
}

/// A stack that belongs to someone else, by its ends.
struct Borrowed {
    top: StackPointer,
    bottom: StackPointer,
}

// SAFETY: who calls `init` promises memory of that extent, with a guard below it.
unsafe impl stack::Stack for Borrowed {
    fn base(&self) -> StackPointer {
        self.top
    }

    fn limit(&self) -> StackPointer {
        self.bottom
    }
}

/// Makes the first `resume` of `context` run `entry` on `stack`. Writes to the stack's top.
///
/// # Safety
///
/// `context` is valid and stands nowhere (new, or released). `stack` is memory that nothing else
/// uses until the coroutine has been released, both ends aligned to [`STACK_ALIGNMENT`], a guard
/// below it. `context` does not move from here on.
pub unsafe fn init(context: *mut Context, stack: Bounds, entry: Entry, data: *mut ()) {
    let (top, bottom) = stack;
    debug_assert!(top.addr().is_multiple_of(STACK_ALIGNMENT), "the stack's top is not aligned");
    debug_assert!(bottom < top, "the stack is upside down");
    let end = |address: *mut u8| {
        NonZeroUsize::new(address.expose_provenance()).expect("a stack is not at address zero")
    };
    let stack = Borrowed { top: end(top), bottom: end(bottom) };
    let coroutine = Coroutine::with_stack(stack, move |yielder, word| {
        // SAFETY: `context` stays valid and in place until `release`; `entry` and `data` belong
        // together, and this is the stack they were given.
        unsafe {
            (*context).yielder.set(yielder);
            entry(word, data)
        }
    });
    // SAFETY: nobody runs on this context, so nobody else looks into the cell.
    unsafe { *(*context).coroutine.get() = Some(coroutine) };
}

/// Goes from the loop to `coroutine`; returns the word that comes back.
///
/// # Safety
///
/// `coroutine` is valid, of this thread, and suspended or not started.
#[inline(always)]
pub unsafe fn resume(_from_loop: *mut Context, coroutine: *mut Context, word: usize) -> usize {
    // SAFETY: only the loop that owns the context opens this cell, and while the coroutine runs
    // it touches `yielder` alone.
    let coroutine = unsafe { &mut *(*coroutine).coroutine.get() };
    let coroutine = coroutine.as_mut().expect("resumed before init or after release");
    match coroutine.resume(word) {
        CoroutineResult::Yield(word) => word,
        CoroutineResult::Return(never) => match never {},
    }
}

/// Goes from `coroutine`, which runs, to the loop; returns the word of the next `resume`.
///
/// # Safety
///
/// The caller runs on the stack of `coroutine`.
#[inline(always)]
pub unsafe fn suspend(coroutine: *mut Context, _to_loop: *mut Context, word: usize) -> usize {
    // SAFETY: it runs, so its yielder was stored, and lies at the root of the current stack.
    unsafe { (*(*coroutine).yielder.get()).suspend(word) }
}

/// Not to be called: see [`DIRECT`].
///
/// # Safety
///
/// None needed: it panics.
pub unsafe fn switch(_from: *mut Context, _to: *mut Context, _word: usize) -> usize {
    unreachable!("corosensei switches by way of the loop only")
}

/// Leaves `coroutine`, which runs, for the loop, and for good: a suspension that does not end.
///
/// # Safety
///
/// As [`suspend`]. Nothing on the stack of `coroutine` may be used any more: no destructor of a
/// frame that is still on it will run.
#[inline(always)]
pub unsafe fn exit(coroutine: *mut Context, to_loop: *mut Context, word: usize) -> ! {
    // SAFETY: as the caller promises.
    unsafe { suspend(coroutine, to_loop, word) };
    // Whoever resumed it broke the contract, and there is nothing left here to run.
    process::abort()
}

/// Frees what is kept for a coroutine besides its stack.
///
/// # Safety
///
/// `context` is valid, and has exited or was never started. The caller is not on its stack.
pub unsafe fn release(context: *mut Context) {
    // SAFETY: nobody runs on this context, so nobody else looks into the cell.
    let coroutine = unsafe { (*(*context).coroutine.get()).take() };
    if let Some(mut coroutine) = coroutine {
        // SAFETY: what is left on the stack is our closure and the frame of `exit`, and neither
        // owns anything; without this, dropping the coroutine would unwind its stack.
        unsafe { coroutine.force_reset() };
    }
    // SAFETY: the caller promises that `context` is valid.
    unsafe { (*context).yielder.set(ptr::null()) };
}

/// Does nothing: see [`WALKABLE`].
///
/// # Safety
///
/// None needed.
pub unsafe fn walk(_context: *const Context, _visit: Visit, _data: *mut ()) {}
