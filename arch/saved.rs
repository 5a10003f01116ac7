//! What the hand-written ISAs share: a context is four saved registers.

use std::cell::Cell;
use std::ptr;

use super::{Bounds, Entry, LINE_BYTES, Registers, Visit, isa};

/// A coroutine may switch to a coroutine.
pub const DIRECT: bool = true;

/// The stack of a suspended context can be walked.
pub const WALKABLE: bool = true;

/// What the three ISAs want of a stack pointer at a call.
pub const STACK_ALIGNMENT: usize = 16;

/// A place where execution stopped.
///
/// ```text
///   +0   sp        stack pointer               not started: top of the stack
///   +8   fp        frame pointer register      not started: data
///   +16  pc        where to go on              not started: root
///   +24  reserved  the register LLVM keeps     not started: entry
/// ```
/// `pc` is null in a context that is new or has exited. While one runs, the words are stale.
#[repr(C)]
#[derive(Debug)]
pub struct Context {
    pub(super) sp: Cell<*const ()>,
    pub(super) fp: Cell<*const ()>,
    pub(super) pc: Cell<*const ()>,
    pub(super) reserved: Cell<*const ()>,
}

impl Context {
    /// A context that stands nowhere yet: for `init`, or for the loop to be stored in.
    pub const fn new() -> Context {
        Context {
            sp: Cell::new(ptr::null()),
            fp: Cell::new(ptr::null()),
            pc: Cell::new(ptr::null()),
            reserved: Cell::new(ptr::null()),
        }
    }

    /// Where this context stands, if it has started and is suspended.
    pub fn registers(&self) -> Option<Registers> {
        let pc = self.pc.get();
        if pc.is_null() || pc == isa::root as *const () {
            return None;
        }
        Some(Registers { sp: self.sp.get().addr(), fp: self.fp.get().addr(), pc: pc.addr() })
    }
}

/// What a coroutine reads of its stack before it is back in its own code.
const PREFETCHED_BYTES: usize = 768;

/// Brings the line of memory at `address` into the cache, while the caller goes on: a hint, which
/// may be given of any address.
#[inline]
pub fn prefetch(address: *const ()) {
    isa::prefetch(address);
}

/// Does that for what `context`, if it is suspended, needs of its stack when it goes on.
#[inline]
pub fn prefetch_stack(context: &Context) {
    let sp = context.sp.get();
    for line in 0..PREFETCHED_BYTES / LINE_BYTES {
        isa::prefetch(sp.wrapping_byte_add(line * LINE_BYTES));
    }
}

impl Default for Context {
    fn default() -> Context {
        Context::new()
    }
}

/// Makes the first `resume` of `context` run `entry` on `stack`. Touches no byte of the stack.
///
/// # Safety
///
/// `context` is valid and stands nowhere (new, or exited). `stack` is memory that nothing else
/// uses until the coroutine has exited, and its top is aligned to [`STACK_ALIGNMENT`].
// Never inlined, so that only this crate ever names `root`.
#[inline(never)]
pub unsafe fn init(context: *mut Context, stack: Bounds, entry: Entry, data: *mut ()) {
    let (top, bottom) = stack;
    debug_assert!(top.addr().is_multiple_of(STACK_ALIGNMENT), "the stack's top is not aligned");
    debug_assert!(bottom < top, "the stack is upside down");
    // SAFETY: the caller promises that `context` is valid; all its fields are cells.
    let context = unsafe { &*context };
    context.sp.set(top.cast_const().cast());
    context.fp.set(data);
    context.pc.set(isa::root as *const ());
    context.reserved.set(entry as *const ());
}

/// Goes from the loop to `coroutine`; returns the word that comes back.
///
/// # Safety
///
/// Both contexts are valid, on this thread. `from_loop` is where the caller is to be stored;
/// `coroutine` is suspended or not started.
#[inline(always)]
pub unsafe fn resume(from_loop: *mut Context, coroutine: *mut Context, word: usize) -> usize {
    // SAFETY: as the caller promises; to these ISAs the loop is a context like any other.
    unsafe { isa::switch(from_loop, coroutine, word) }
}

/// Goes from `coroutine`, which runs, to the loop; returns the word of the next `resume`.
///
/// # Safety
///
/// The caller runs on the stack of `coroutine`, and the loop of this thread waits in `to_loop`.
#[inline(always)]
pub unsafe fn suspend(coroutine: *mut Context, to_loop: *mut Context, word: usize) -> usize {
    // SAFETY: as the caller promises; to these ISAs the loop is a context like any other.
    unsafe { isa::switch(coroutine, to_loop, word) }
}

/// Goes from the coroutine `from`, which runs, straight to `to`; returns the word that comes back.
///
/// # Safety
///
/// The caller runs on the stack of `from`; `to` is another coroutine of this thread, suspended
/// or not started.
#[inline(always)]
pub unsafe fn switch(from: *mut Context, to: *mut Context, word: usize) -> usize {
    // SAFETY: as the caller promises.
    unsafe { isa::switch(from, to, word) }
}

/// Leaves `coroutine`, which runs, for the loop, and for good.
///
/// # Safety
///
/// As [`suspend`]. Nothing on the stack of `coroutine` may be used any more: no destructor of a
/// frame that is still on it will run.
#[inline(always)]
pub unsafe fn exit(coroutine: *mut Context, to_loop: *mut Context, word: usize) -> ! {
    // SAFETY: as the caller promises, `coroutine` is valid and the loop waits in `to_loop`.
    unsafe {
        (*coroutine).pc.set(ptr::null());
        isa::leave(to_loop, word)
    }
}

/// Frees what an implementation keeps for a coroutine besides its context: here, nothing.
///
/// # Safety
///
/// `context` is valid, and has exited or was never started. The caller is not on its stack.
#[inline(always)]
pub unsafe fn release(context: *mut Context) {
    // SAFETY: the caller promises that `context` is valid.
    unsafe { (*context).pc.set(ptr::null()) }
}

/// Calls `visit(data)` here and now, but so that to an unwinder it seems called by the suspended
/// `context`: a backtrace taken in `visit` goes on, after `visit` and `walk`, into the frames of
/// that coroutine, and ends at its root. Does nothing to a context that is not suspended.
///
/// # Safety
///
/// `context` is valid and of this thread, and is not the one that runs. `visit` does not unwind.
#[inline(never)]
pub unsafe fn walk(context: *const Context, visit: Visit, data: *mut ()) {
    // SAFETY: the caller promises that `context` is valid; where it has registers it is suspended.
    unsafe {
        if (*context).registers().is_some() {
            isa::walk(context, visit, data);
        }
    }
}
