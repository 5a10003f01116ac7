//! Work that goes deep and never waits, done on the loop's stack for a coroutine.
//!
//! ```text
//!   coroutine, on a stack of its own              worker's loop, on its thread's stack
//!
//!   on_loop_stack(f)
//!     suspend(coroutine, to_loop, &job)  ------>  resume returned &job: runs f
//!     f's result                         <------  resume(from_loop, coroutine, 0)
//! ```
//!
//! The loop's stack is one for the whole thread, large, and in memory and cache from the last job. On
//! its own stack each coroutine would touch pages for it that it never needs again: a TLS handshake
//! takes some fifty kilobytes, and the page faults, with the call that gives the pages back, cost a
//! twentieth of it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::thread;

use super::Worker;
use crate::current;

/// What a coroutine asks the loop to do. Its address is the word that crosses.
pub(super) struct Job {
    /// Does not unwind.
    run: unsafe fn(*mut ()),
    data: *mut (),
}

impl Job {
    /// # Safety
    ///
    /// `word` is what a coroutine suspended with that still waits, and this is called once for it.
    pub(super) unsafe fn run(word: usize) {
        // SAFETY: the caller's promise: the job lies in the frame of `run_on_loop`, which waits.
        let job = unsafe { &*ptr::with_exposed_provenance::<Job>(word) };
        // SAFETY: `data` is what `run` was made for.
        current::without_worker(|| unsafe { (job.run)(job.data) });
    }
}

struct Call<F, T> {
    f: Option<F>,
    result: Option<thread::Result<T>>,
}

/// Calls `f`, which had better not wait: it would block. A panic comes through.
pub(crate) fn on_loop_stack<T, F: FnOnce() -> T>(f: F) -> T {
    match current::worker() {
        Some(worker) => run_on_loop(worker, f),
        // On a plain thread, or there already: a job within a job.
        None => f(),
    }
}

fn run_on_loop<T, F: FnOnce() -> T>(worker: &Worker, f: F) -> T {
    unsafe fn run<T, F: FnOnce() -> T>(data: *mut ()) {
        // SAFETY: this is made for the `Call` below, which nobody else uses meanwhile.
        let call = unsafe { &mut *data.cast::<Call<F, T>>() };
        if let Some(f) = call.f.take() {
            call.result = Some(catch_unwind(AssertUnwindSafe(f)));
        }
    }
    let mut call = Call { f: Some(f), result: None };
    let job = Job { run: run::<T, F>, data: (&raw mut call).cast() };
    let me = worker.current();
    worker.to_loop(me, (&raw const job).expose_provenance());
    match call.result {
        Some(Ok(result)) => result,
        Some(Err(payload)) => {
            // The hook, which saw no coroutine, could not.
            me.note_panic();
            resume_unwind(payload)
        }
        None => unreachable!("the loop has run the job"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address_of_a_local() -> usize {
        let local = 0_u8;
        (&raw const local).addr()
    }

    #[test]
    fn it_runs_on_the_threads_own_stack() {
        crate::run(|| {
            let (mine, loops) = (address_of_a_local(), on_loop_stack(address_of_a_local));
            assert!(mine.abs_diff(loops) > 1 << 20, "{mine:x} {loops:x}");
            // A job within a job stays where it is.
            let nested = on_loop_stack(|| on_loop_stack(address_of_a_local));
            assert!(nested.abs_diff(loops) < 64 << 10, "{nested:x} {loops:x}");
            assert!(address_of_a_local().abs_diff(mine) < 64 << 10);
        });
        assert_eq!(on_loop_stack(|| 5), 5, "on a plain thread, too");
    }

    #[test]
    fn a_wait_there_blocks() {
        let runtime = crate::Builder::new().workers(1).build().unwrap();
        runtime.run(|| {
            let neighbour = crate::spawn(|| ());
            let has_run = on_loop_stack(|| {
                crate::thread::yield_now();
                crate::thread::sleep(std::time::Duration::from_millis(1));
                neighbour.is_finished()
            });
            assert!(!has_run && current::worker().is_some());
            neighbour.join().unwrap();
        });
    }

    /// Coroutines that switch to each other directly: each gets its own result, and goes on.
    #[test]
    fn each_coroutine_gets_its_own_result() {
        crate::run(|| {
            let parts: Vec<_> = (0..20_u64)
                .map(|number| {
                    crate::spawn(move || {
                        for round in 0..100 {
                            assert_eq!(on_loop_stack(|| number * round), number * round);
                            crate::thread::yield_now();
                        }
                    })
                })
                .collect();
            parts.into_iter().for_each(|part| part.join().unwrap());
        });
    }

    #[test]
    fn a_panic_comes_through_and_no_more() {
        crate::run(|| {
            let result = catch_unwind(|| on_loop_stack(|| panic!("deep down")));
            let payload = result.unwrap_err();
            assert_eq!(*payload.downcast::<&str>().unwrap(), "deep down");
            assert_eq!(on_loop_stack(|| 5), 5);
            let doomed = crate::spawn(|| on_loop_stack(|| panic!("deep down again")));
            assert!(doomed.join().is_err());
        });
    }
}
