//! Tells AddressSanitizer which stack a thread runs on (`--cfg cosocket_asan`, test builds only).
//!
//! ```text
//!   on the stack that is left                        on the stack that is entered
//!
//!   start_switch_fiber(&mut mine, bounds of next)
//!                        ------ arch::switch ------>
//!                                                    finish_switch_fiber(mine)
//! ```
//!
//! `mine` is the fiber's *fake stack*: where the sanitizer puts locals whose use after return it
//! looks for. Each stack keeps its own while it rests. A coroutine that starts has none yet, one
//! that ends gives its back. Without these calls a panic in a coroutine would clear the shadow of
//! the wrong stack, and locals of one coroutine would be taken for another's.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;

use libc::c_void;

use crate::coroutine::Coroutine;
use crate::stack::Stack;

/// The loop's own stack: that of its thread.
pub(crate) struct LoopFiber {
    bottom: *const c_void,
    bytes: usize,
    fake_stack: Cell<*mut c_void>,
}

impl LoopFiber {
    pub(crate) fn of_this_thread() -> LoopFiber {
        let mut bottom = ptr::null_mut();
        let mut bytes = 0;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the C library fills in our own variables; they are used only if it did.
        let status = unsafe {
            match libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) {
                0 => {
                    libc::pthread_attr_getstack(attributes.as_ptr(), &mut bottom, &mut bytes)
                        + libc::pthread_attr_destroy(attributes.as_mut_ptr())
                }
                error => error,
            }
        };
        assert_eq!(status, 0, "the bounds of this thread's stack");
        // While a coroutine runs, its stack is taken for the thread's only one.
        // SAFETY: the stack stays until the fiber, which lies on it, is dropped.
        unsafe { __lsan_register_root_region(bottom, bytes) };
        LoopFiber { bottom, bytes, fake_stack: Cell::new(ptr::null_mut()) }
    }

    /// The loop is about to resume `next`.
    #[inline(always)]
    pub(crate) fn leave_for(&self, next: &Coroutine) {
        leave(&self.fake_stack, next);
    }

    /// The loop runs again.
    #[inline(always)]
    pub(crate) fn arrive(&self) {
        arrive(&self.fake_stack);
    }

    /// The coroutine `me` is about to suspend to the loop.
    #[inline(always)]
    pub(crate) fn leave_from(&self, me: &Coroutine) {
        // SAFETY: the bounds are those of the stack that the switch enters.
        unsafe { __sanitizer_start_switch_fiber(me.fake_stack.as_ptr(), self.bottom, self.bytes) };
    }

    /// The current coroutine is about to end, and its fake stack with it: the caller may not use
    /// a local whose address was taken any more.
    #[inline(always)]
    pub(crate) fn leave_for_good(&self) {
        // SAFETY: as in `leave_from`.
        unsafe { __sanitizer_start_switch_fiber(ptr::null_mut(), self.bottom, self.bytes) };
    }
}

impl Drop for LoopFiber {
    fn drop(&mut self) {
        // SAFETY: registered when it was made.
        unsafe { __lsan_unregister_root_region(self.bottom, self.bytes) };
    }
}

/// Whoever owns `fake_stack` is about to switch to the coroutine `next`.
#[inline(always)]
pub(crate) fn leave(fake_stack: &Cell<*mut c_void>, next: &Coroutine) {
    let (bottom, bytes) = bounds(next);
    // SAFETY: the bounds are those of the stack that the switch enters.
    unsafe { __sanitizer_start_switch_fiber(fake_stack.as_ptr(), bottom, bytes) };
}

/// Whoever owns `fake_stack` runs again.
#[inline(always)]
pub(crate) fn arrive(fake_stack: &Cell<*mut c_void>) {
    // SAFETY: what the sanitizer stored there when this stack was left.
    unsafe {
        __sanitizer_finish_switch_fiber(fake_stack.get(), ptr::null_mut(), ptr::null_mut());
    }
}

/// A coroutine has just started.
#[inline(always)]
pub(crate) fn arrive_first() {
    // SAFETY: null stands for a fiber that has no fake stack yet.
    unsafe {
        __sanitizer_finish_switch_fiber(ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    }
}

/// A coroutine is about to start on `stack`. Allows what `retire` forbade, and what the last
/// coroutine's outermost frames did: those never returned. All the others did, or were unwound,
/// and are forgotten. From here on what its frames own is no leak.
pub(crate) fn renew(stack: &Stack) {
    let (bottom, bytes) = bounds_of(stack);
    // SAFETY: only what the sanitizer thinks of the memory changes; nobody runs on it.
    unsafe {
        __asan_unpoison_memory_region(outermost(stack), OUTERMOST_BYTES);
        __lsan_register_root_region(bottom, bytes);
    }
}

/// The coroutine on `stack` is over. Forbids the use of what it left there: a pointer that still
/// leads there, say from a list of waiters, is a bug of ours.
pub(crate) fn retire(stack: &Stack) {
    let (bottom, bytes) = bounds_of(stack);
    // SAFETY: as in `renew`, which registered the region.
    unsafe {
        __lsan_unregister_root_region(bottom, bytes);
        __asan_poison_memory_region(outermost(stack), OUTERMOST_BYTES);
    }
}

/// As much as the smallest stack has. More would cost: the sanitizer's own memory is touched.
const OUTERMOST_BYTES: usize = 16 << 10;

fn outermost(stack: &Stack) -> *const c_void {
    stack.top().wrapping_sub(OUTERMOST_BYTES).cast()
}

fn bounds(coroutine: &Coroutine) -> (*const c_void, usize) {
    // SAFETY: owner only, and a coroutine that is switched to keeps its stack meanwhile.
    let Some(stack) = (unsafe { &*coroutine.stack.get() }) else {
        unreachable!("a coroutine that runs has a stack");
    };
    bounds_of(stack)
}

fn bounds_of(stack: &Stack) -> (*const c_void, usize) {
    (stack.bottom().cast(), stack.top().addr() - stack.bottom().addr())
}

unsafe extern "C" {
    fn __sanitizer_start_switch_fiber(
        fake_stack: *mut *mut c_void,
        bottom: *const c_void,
        bytes: usize,
    );
    fn __sanitizer_finish_switch_fiber(
        fake_stack: *mut c_void,
        old_bottom: *mut *const c_void,
        old_bytes: *mut usize,
    );
    fn __asan_poison_memory_region(start: *const c_void, bytes: usize);
    fn __asan_unpoison_memory_region(start: *const c_void, bytes: usize);
    fn __lsan_register_root_region(start: *const c_void, bytes: usize);
    fn __lsan_unregister_root_region(start: *const c_void, bytes: usize);
}
