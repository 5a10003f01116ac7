//! The one thread-local variable of the runtime: the worker that runs on this thread.
//!
//! It is set while a worker's loop runs. User code runs only on coroutine stacks there, so on any
//! stack but the loop's, "there is a worker" means "this is a coroutine". What the loop does for a
//! coroutine on its own stack finds none (`without_worker`).

use std::cell::Cell;
use std::ptr;
use std::sync::Once;

use crate::registry;
use crate::worker::Worker;

thread_local! {
    static WORKER: Cell<*const Worker> = const { Cell::new(ptr::null()) };
}

/// The worker of this thread; `None` on a plain thread (and in a forked child).
///
/// Never inlined: a caller may suspend, and although a coroutine stays on its thread, one place
/// that computes a thread-local address is easier to trust than many.
#[inline(never)]
pub(crate) fn worker() -> Option<&'static Worker> {
    let worker = WORKER.get();
    // SAFETY: set by `enter` for a worker that outlives every coroutine of its thread, and
    // cleared before that worker goes; `'static` stands for "as long as this coroutine".
    unsafe { worker.as_ref() }
}

/// Makes `worker` this thread's worker until the guard is dropped.
pub(crate) fn enter(worker: &Worker) -> Entered {
    static FORK_HOOK: Once = Once::new();
    FORK_HOOK.call_once(|| {
        // SAFETY: the handler touches one const-initialised thread-local, and atomics.
        unsafe { libc::pthread_atfork(None, None, Some(forget_in_child)) };
    });
    assert!(WORKER.get().is_null(), "a thread runs one worker");
    WORKER.set(worker);
    Entered
}

/// Calls `f` as on a plain thread: whatever it calls, a panic hook too, finds no worker to suspend
/// with, and blocks.
pub(crate) fn without_worker<T>(f: impl FnOnce() -> T) -> T {
    struct Back(*const Worker);

    impl Drop for Back {
        fn drop(&mut self) {
            WORKER.set(self.0);
        }
    }

    let _back = Back(WORKER.replace(ptr::null()));
    f()
}

pub(crate) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        WORKER.set(ptr::null());
    }
}

/// A forked child must not touch its parent's ring, queues or other coroutines: from here on its
/// thread is a plain one whose calls block.
extern "C" fn forget_in_child() {
    WORKER.set(ptr::null());
    registry::leave_to_parent();
}
