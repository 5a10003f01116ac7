//! A pool of OS threads for calls that block and have no other form: name look-ups, files, C
//! libraries, long computations.
//!
//! ```text
//!   submit:   an idle thread that no queued job will wake   -> queue the job, wake it
//!             else fewer than THREADS_MAX threads           -> queue the job, start one
//!             else                                          -> queue the job; first in, first out
//!
//!   thread:   [started] -> takes the oldest job -> [busy] --+--> [ended]
//!                 ^              |                 ^   |    |
//!                 |              | none            |   |    | none for IDLE_MAX
//!                 |              v                 |   |    |
//!                 |            [idle] ----- woken -+   |    |
//!                 |              +---------------------|----+
//!                 +------------------ job done --------+
//! ```
//!
//! Invariants, all under one lock that is never held while a job runs or is dropped:
//!
//! * `threads` counts the threads that exist, `idle` those of them that wait; `idle` threads and
//!   queued jobs are matched one to one, so a job never waits while a thread may be started.
//! * A queued job has a thread that will come for it, for threads end only when they find the
//!   queue empty, and a job that finds no thread and cannot start one is refused.
//!
//! The pool is one for the process and is never torn down: a job may outlive the runtime whose
//! coroutine asked for it.
//!
//! After `fork` the child has none of these threads. The pool notices the new process id and
//! starts afresh there; jobs that the parent had queued or running are not run in the child, and
//! a copy of a caller that waits for one waits for ever. Beyond that, a child of a process with
//! several threads may use only what `fork(2)` allows until it calls `exec`; starting threads and
//! allocating go further, and work as well as the C library lets them. One case goes unnoticed:
//! a child that has its parent's process id, as the first process of a new pid namespace may.

use std::collections::VecDeque;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::current;
use crate::limit;
use crate::unwind::unwind;
use crate::wait::{self, Reason, Shield, WaitSlot};

/// What the pool runs.
pub(crate) type Job = Box<dyn FnOnce() + Send + 'static>;

/// The most threads at a time. A thread that waits for a name server costs some kilobytes and no
/// processor, so there may be many more of them than cores; but each look-up also holds a
/// descriptor and a place at the name server. Go, whose look-ups take a thread likewise, stops at
/// 500 of them; ours share the pool with user closures, which may be heavier, so we stop earlier.
/// When every look-up takes a resolver's usual 5 s to fail, 64 threads still get through 12 of
/// them a second.
const THREADS_MAX: usize = 64;

/// How long an idle thread stays for the next job.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// What std gives its own threads; most of it is address space only.
const STACK_BYTES: usize = 2 << 20;

/// Runs a blocking closure where it stops no other coroutine, and returns what it returns.
///
/// In a coroutine the closure goes to a pool of at most 64 OS threads and the coroutine waits
/// without blocking its worker; further closures queue, first in, first out. Outside a coroutine
/// there is nothing to protect, and the closure runs right here (inside a
/// [`timeout`](crate::time::timeout), it goes to the pool too).
///
/// The closure cannot be stopped half-way: it runs to its end even if nobody waits for it any
/// more, after a cancel or a timeout, and what it returns is then dropped on the pool's thread.
///
/// # Panics
///
/// If the closure panics, the panic goes on in the caller. It also panics if the pool has no
/// thread and the system refuses to start one, like [`std::thread::spawn`]; the closure is then
/// dropped without having run.
///
/// # Examples
///
/// ```
/// let hosts = cosocket::unblock(|| std::fs::read_to_string("/etc/hosts"))?;
/// assert!(!hosts.is_empty());
/// # std::io::Result::Ok(())
/// ```
pub fn unblock<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let _shield = Shield::where_nothing_unwinds();
    match offload_where_needed(Reason::BLOCKING, f) {
        Ok(value) => value,
        Err(Failure::Cut) => wait::raise_cancelled(),
        Err(Failure::NoThread(error)) => {
            panic!("starting a thread for a blocking closure: {error}")
        }
    }
}

/// [`unblock`] for callers that can report that no thread could be started, or that a limit has
/// passed. It does so in a shield, too, if by `reason` it is I/O.
pub(crate) fn try_unblock<T: Send + 'static>(
    reason: Reason,
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    offload_where_needed(reason, f).map_err(|failure| match failure {
        Failure::Cut => wait::cancelled(),
        Failure::NoThread(error) => error,
    })
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    NoThread(io::Error),
    /// The wait was ended from outside.
    Cut,
}

fn offload_where_needed<T: Send + 'static>(
    reason: Reason,
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if may_block(reason) { Ok(f()) } else { offload(reason, f) }
}

/// Whether the caller may make a blocking call itself: a plain thread may; but where a limit bounds
/// it, it must be able to go.
pub(crate) fn may_block(reason: Reason) -> bool {
    current::worker().is_none() && limit::of_thread(reason.is_io()).is_none()
}

/// Hands `job` to the pool and returns at once. The only error is that the pool has no thread and
/// the system refused one; `job` has then been dropped without being run. If `job` panics, the
/// panic is reported by the hook as usual and ends there.
pub(crate) fn submit(job: Job) -> io::Result<()> {
    Pool::of_this_process().submit(job)
}

/// How busy the pool is.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Threads that exist, busy or idle.
    pub threads: usize,
    /// Threads that wait for a job.
    pub idle: usize,
    /// Jobs that wait for a thread.
    pub queued: usize,
}

/// A snapshot, out of date as soon as it is taken.
pub fn counts() -> Counts {
    Pool::of_this_process().counts()
}

/// Whether the pool has work, which may end with a wake.
pub(crate) fn is_busy() -> bool {
    let counts = counts();
    counts.queued > 0 || counts.idle < counts.threads
}

/// Runs `f` in the pool and waits for it. What cuts the wait abandons the job, which runs to its
/// end.
fn offload<T: Send + 'static>(
    reason: Reason,
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let answer = Arc::new(Answer { outcome: OnceLock::new(), waiter: WaitSlot::new() });
    let theirs = Arc::clone(&answer);
    submit(Box::new(move || {
        let outcome = panic::catch_unwind(AssertUnwindSafe(f));
        let first = theirs.outcome.set(Mutex::new(Some(outcome)));
        debug_assert!(first.is_ok(), "a job answers once");
        theirs.waiter.wake();
    }))
    .map_err(Failure::NoThread)?;
    if !answer.waiter.wait(|| answer.outcome.get().is_some(), reason, false) {
        return Err(Failure::Cut);
    }
    let mut outcome = answer.outcome.get().expect("waited for").lock();
    match outcome.as_mut().expect("nothing panics with it").take().expect("taken once") {
        Ok(value) => Ok(value),
        Err(payload) => unwind(payload),
    }
}

/// Where a job leaves its outcome for the coroutine that waits.
struct Answer<T> {
    outcome: OnceLock<Mutex<Option<thread::Result<T>>>>,
    waiter: WaitSlot,
}

struct Pool {
    /// Whose threads these are: a forked child has inherited the pool without them.
    process_id: u32,
    threads_max: usize,
    idle_max: Duration,
    stack_bytes: usize,
    state: Mutex<State>,
    queued: Condvar,
}

struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// How many threads there have ever been, for their names.
    started: usize,
}

impl Pool {
    fn new(threads_max: usize, idle_max: Duration, stack_bytes: usize) -> Pool {
        Pool {
            process_id: process::id(),
            threads_max,
            idle_max,
            stack_bytes,
            state: Mutex::new(State { queue: VecDeque::new(), threads: 0, idle: 0, started: 0 }),
            queued: Condvar::new(),
        }
    }

    /// The pool, made on first use and once more in a forked child. The old one may have been
    /// locked by a thread that is not here, so it is left alone and leaked.
    fn of_this_process() -> &'static Pool {
        static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());
        let mut known = POOL.load(Ordering::Acquire);
        loop {
            // SAFETY: it is null, or a leaked box that is only ever shared.
            if let Some(pool) = unsafe { known.as_ref() }
                && pool.process_id == process::id()
            {
                return pool;
            }
            let fresh = Box::new(Pool::new(THREADS_MAX, IDLE_MAX, STACK_BYTES));
            let fresh = Box::into_raw(fresh);
            match POOL.compare_exchange(known, fresh, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => known = fresh,
                Err(others) => {
                    // SAFETY: it came from the box above, and nobody has seen it.
                    drop(unsafe { Box::from_raw(fresh) });
                    known = others;
                }
            }
        }
    }

    fn submit(&'static self, job: Job) -> io::Result<()> {
        let mut state = self.lock();
        state.queue.push_back(job);
        if state.idle >= state.queue.len() {
            self.queued.notify_one();
            return Ok(());
        }
        if state.threads == self.threads_max {
            return Ok(());
        }
        // Starting a thread under the lock costs others some 30 us, at most `threads_max` times
        // in a burst; in return `threads` counts threads that exist, not hopes for them.
        match self.start_thread(state.started) {
            Ok(()) => {
                state.threads += 1;
                state.started += 1;
                Ok(())
            }
            // Those that exist will get to it.
            Err(_) if state.threads > 0 => Ok(()),
            Err(error) => {
                let refused = state.queue.pop_back();
                drop(state);
                drop(refused);
                Err(error)
            }
        }
    }

    fn start_thread(&'static self, number: usize) -> io::Result<()> {
        thread::Builder::new()
            .name(format!("cosocket-blocking-{number}"))
            .stack_size(self.stack_bytes)
            .spawn(|| self.serve())
            .map(drop)
            // Its own kind would be `WouldBlock`, which a caller would take for something else.
            .map_err(|error| {
                io::Error::other(format!(
                    "no thread for blocking work: {error}; raise `ulimit -u`, the cgroup's \
                     pids.max, or the memory limit"
                ))
            })
    }

    /// The life of a thread.
    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                run(job);
                state = self.lock();
                continue;
            }
            state.idle += 1;
            (state, _) = self
                .queued
                .wait_timeout_while(state, self.idle_max, |state| state.queue.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            if state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    fn counts(&self) -> Counts {
        let state = self.lock();
        Counts { threads: state.threads, idle: state.idle, queued: state.queue.len() }
    }

    /// Nothing that can panic runs under the lock, so poison would mean nothing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A panic of the job ends here, and so does one in the destructor of its payload.
fn run(job: Job) {
    let Err(payload) = panic::catch_unwind(AssertUnwindSafe(job)) else {
        return;
    };
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    fn pool(threads_max: usize) -> &'static Pool {
        Box::leak(Box::new(Pool::new(threads_max, IDLE_MAX, STACK_BYTES)))
    }

    /// Threads, idle threads, queued jobs.
    fn counted(pool: &Pool) -> [usize; 3] {
        let counts = pool.counts();
        [counts.threads, counts.idle, counts.queued]
    }

    /// Submits a job that says which thread runs it and then waits at the gate.
    fn submit_gated(pool: &'static Pool, running: &Sender<String>) -> Sender<()> {
        let (gate, wait) = channel();
        let running = running.clone();
        pool.submit(Box::new(move || {
            running.send(thread::current().name().unwrap().to_owned()).unwrap();
            let _ = wait.recv();
        }))
        .unwrap();
        gate
    }

    fn run_on(pool: &'static Pool) -> thread::ThreadId {
        let (sender, receiver) = channel();
        pool.submit(Box::new(move || sender.send(thread::current().id()).unwrap())).unwrap();
        receiver.recv().unwrap()
    }

    /// Nothing signals that a thread has gone idle after its job.
    fn wait_until_idle(pool: &Pool, idle: usize) {
        while pool.counts().idle != idle {
            thread::yield_now();
        }
    }

    #[test]
    fn no_more_threads_than_the_bound_and_the_rest_queues() {
        let pool = pool(2);
        let (running, started) = channel();
        let gates = [(); 5].map(|()| submit_gated(pool, &running));
        let mut names = [started.recv().unwrap(), started.recv().unwrap()];
        names.sort();
        assert_eq!(names, ["cosocket-blocking-0", "cosocket-blocking-1"]);
        assert_eq!(counted(pool), [2, 0, 3]);
        assert!(started.try_recv().is_err(), "a third job runs beside the two");
        drop(gates);
        for _ in 2..5 {
            assert!(names.contains(&started.recv().unwrap()));
        }
        wait_until_idle(pool, 2);
        assert_eq!(counted(pool), [2, 2, 0]);
    }

    #[test]
    fn queued_jobs_run_in_the_order_they_came() {
        let pool = pool(1);
        let (running, started) = channel();
        let gate = submit_gated(pool, &running);
        started.recv().unwrap();
        let (sender, order): (_, Receiver<usize>) = channel();
        for number in 0..100 {
            let sender = sender.clone();
            pool.submit(Box::new(move || sender.send(number).unwrap())).unwrap();
        }
        drop((gate, sender));
        assert!(order.iter().eq(0..100));
    }

    #[test]
    fn an_idle_thread_is_used_again() {
        let pool = pool(8);
        let first = run_on(pool);
        for _ in 0..50 {
            wait_until_idle(pool, 1);
            assert_eq!(run_on(pool), first);
        }
        assert_eq!(pool.counts().threads, 1);
    }

    #[test]
    fn jobs_submitted_together_do_not_share_one_idle_thread() {
        let pool = pool(8);
        run_on(pool);
        wait_until_idle(pool, 1);
        let (running, started) = channel();
        let _gates = [(); 3].map(|()| submit_gated(pool, &running));
        // All three run at the same time, though there was one idle thread for each to see.
        for _ in 0..3 {
            started.recv().unwrap();
        }
        assert_eq!(counted(pool), [3, 0, 0]);
    }

    #[test]
    fn an_idle_thread_ends_and_another_is_started_when_needed() {
        struct Ended(#[expect(dead_code, reason = "its drop is the signal")] Sender<()>);
        thread_local!(static ENDED: std::cell::OnceCell<Ended> = const {
            std::cell::OnceCell::new()
        });
        let idle_max = Duration::from_millis(1);
        let pool: &Pool = Box::leak(Box::new(Pool::new(1, idle_max, STACK_BYTES)));
        for _ in 0..3 {
            let (sender, ended) = channel();
            pool.submit(Box::new(|| assert!(ENDED.with(|cell| cell.set(Ended(sender)).is_ok()))))
                .unwrap();
            // Thread-locals go when the thread does.
            assert!(ended.recv().is_err());
            assert_eq!(counted(pool), [0, 0, 0]);
        }
        assert_eq!(pool.lock().started, 3);
    }

    #[test]
    fn a_panic_costs_neither_the_thread_nor_its_place_in_the_count() {
        struct PanicsWhenDropped;
        impl Drop for PanicsWhenDropped {
            fn drop(&mut self) {
                panic::panic_any("in the destructor of the payload");
            }
        }
        let pool = pool(1);
        let before = run_on(pool);
        pool.submit(Box::new(|| panic!("in a job"))).unwrap();
        pool.submit(Box::new(|| panic::panic_any(PanicsWhenDropped))).unwrap();
        assert_eq!(run_on(pool), before);
        wait_until_idle(pool, 1);
        assert_eq!(counted(pool), [1, 1, 0]);
    }

    #[test]
    fn without_any_thread_the_job_is_dropped_and_the_error_returned() {
        // No address space holds such a stack.
        let pool: &Pool = Box::leak(Box::new(Pool::new(4, IDLE_MAX, 1 << 50)));
        let (sender, receiver) = channel::<()>();
        let error = pool.submit(Box::new(move || sender.send(()).unwrap())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other);
        assert!(error.to_string().contains("pids.max"), "{error}");
        assert!(receiver.recv().is_err(), "the job was kept or run");
        assert_eq!(counted(pool), [0, 0, 0]);
    }

    #[test]
    fn unblock_runs_in_place_outside_a_coroutine() {
        assert_eq!(unblock(|| thread::current().id()), thread::current().id());
    }

    #[test]
    fn offload_returns_the_value_or_the_panic_of_another_thread() {
        assert_ne!(
            offload(Reason::BLOCKING, || thread::current().id()).unwrap(),
            thread::current().id()
        );
        let caught = panic::catch_unwind(|| offload(Reason::BLOCKING, || panic::panic_any(42_u8)));
        assert_eq!(*caught.unwrap_err().downcast::<u8>().unwrap(), 42);
    }

    #[test]
    fn a_forked_child_gets_a_pool_that_works() {
        run_on(Pool::of_this_process());
        // Worse still, the fork happens while another thread holds the parent's lock.
        let lock = Pool::of_this_process().lock();
        // SAFETY: the child allocates and starts a thread, which the C libraries we test with
        // can do after a fork; then it leaves without running anything else.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: plain system calls. The alarm turns a deadlock into a failure.
            unsafe { libc::alarm(60) };
            let counts_before = counted(Pool::of_this_process());
            let ran = offload(Reason::BLOCKING, || 7).is_ok_and(|value| value == 7);
            let fresh = counts_before == [0; 3];
            // SAFETY: as above.
            unsafe { libc::_exit(if ran && fresh { 0 } else { 1 }) };
        }
        drop(lock);
        assert!(child > 0);
        let mut status = -1;
        // SAFETY: the child is ours, and `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status), "killed by signal {}", libc::WTERMSIG(status));
        assert_eq!(libc::WEXITSTATUS(status), 0);
    }
}
