//! A runtime: how it is configured and started, what runs on it, and how it ends.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle as ThreadHandle;

use crate::cosocket::Names;
use crate::deadlock::Silence;
use crate::driver::{Choice, Driver};
use crate::mailbox::CANCELLED;
use crate::metrics::Metrics;
use crate::remedy;
use crate::shared::{Options, Place, Seat, Shared};
use crate::stack::StackPool;
use crate::unwind::{abort_on_panic, watch_panics};
use crate::wait::{self, Reason, Shield};
use crate::worker::Worker;
use crate::{current, overflow};

/// Default stack size in bytes. Address space, not memory: a resting coroutine costs one or two
/// pages of it. Debug builds use several times the stack of release builds.
const DEFAULT_STACK_SIZE: usize = if cfg!(debug_assertions) { 1 << 20 } else { 256 << 10 };

/// Entries of a worker's submission queue.
const DEFAULT_RING_ENTRIES: u32 = 256;

/// A set of worker threads that run coroutines.
///
/// Most programs never name this type: [`crate::thread::spawn`] starts a global runtime on first
/// use. One of your own gives control over the number of workers, the driver and the stacks, and
/// ends when you say.
///
/// Dropping a runtime cancels its coroutines, waits until every one of them has unwound and the
/// kernel holds none of their memory, and joins its threads. A coroutine that never waits, or
/// that swallows its cancel, therefore holds the drop up; [`Runtime::shutdown`] waits for a limited
/// time and names those. Dropped from one of its own coroutines,
/// a runtime starts to stop and does not wait.
///
/// ```
/// let runtime = cosocket::Builder::new().workers(2).build()?;
/// let sum: i32 = runtime.run(|| {
///     let parts: Vec<_> = (0..4).map(|n| cosocket::thread::spawn(move || n)).collect();
///     parts.into_iter().map(|part| part.join().unwrap()).sum()
/// });
/// assert_eq!(sum, 6);
/// # std::io::Result::Ok(())
/// ```
pub struct Runtime {
    pub(crate) shared: Arc<Shared>,
    threads: Vec<ThreadHandle<()>>,
    drivers: Vec<String>,
}

/// Configures a [`Runtime`].
///
/// The number of workers and the driver, where not set, come from the environment, else from the
/// defaults: `COSOCKET_WORKERS` (or the number of processors, at most 256) and `COSOCKET_DRIVER`
/// (`io_uring`, `epoll`, or `auto`: the first one that the kernel allows).
///
/// ```
/// use cosocket::{Builder, Driver};
///
/// let runtime = Builder::new().workers(1).driver(Driver::Epoll).stack_size(64 << 10).build()?;
/// assert_eq!((runtime.workers(), runtime.driver()), (1, "epoll"));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    workers: Option<usize>,
    driver: Option<Choice>,
    stack_size: usize,
    ring_entries: u32,
    abort_on_deadlock: bool,
    measure_stacks: bool,
    names: Option<Names>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// The defaults.
    pub fn new() -> Builder {
        Builder {
            workers: None,
            driver: None,
            stack_size: DEFAULT_STACK_SIZE,
            ring_entries: DEFAULT_RING_ENTRIES,
            abort_on_deadlock: false,
            measure_stacks: false,
            names: None,
        }
    }

    /// The number of worker threads, 1 to 256.
    pub fn workers(mut self, workers: usize) -> Builder {
        self.workers = Some(workers);
        self
    }

    /// Which kernel interface the workers wait on. `COSOCKET_DRIVER` is then not looked at.
    pub fn driver(mut self, driver: Choice) -> Builder {
        self.driver = Some(driver);
        self
    }

    /// The stack size of coroutines that do not ask for another, in bytes: 256 KiB, and 1 MiB in
    /// builds with debug assertions. It is address space; memory is taken page by page on use.
    /// From 16 KiB (less is rounded up) to 1 GiB (more is an error of `build`). Below 128 KiB the
    /// guard under each stack shrinks from 64 KiB to one page (not on riscv64).
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = bytes;
        self
    }

    /// Entries of each worker's io_uring submission queue: 256. More operations than that may be
    /// in flight; this many are handed over in one system call. Rings count against
    /// `RLIMIT_MEMLOCK` (about 0.1 MB at 256).
    pub fn ring_entries(mut self, entries: u32) -> Builder {
        self.ring_entries = entries;
        self
    }

    /// Aborts the process, after the report, when all coroutines wait for each other, whatever other
    /// threads do. For tests; off by default.
    pub fn abort_on_deadlock(mut self, abort: bool) -> Builder {
        self.abort_on_deadlock = abort;
        self
    }

    /// Measures how much of its stack each coroutine uses; its handle tells, when it is over
    /// ([`JoinHandle::stack_high_water`](crate::thread::JoinHandle::stack_high_water)).
    ///
    /// For choosing a stack size. Each coroutine then starts on an emptied stack, which costs some
    /// microseconds. The figure errs to the low side, by what the deepest frames never wrote to.
    ///
    /// ```
    /// let runtime = cosocket::Builder::new().measure_stacks(true).build()?;
    /// let handle = runtime.spawn(|| std::hint::black_box([1u8; 10_000]).len());
    /// while !handle.is_finished() {
    ///     std::thread::yield_now();
    /// }
    /// assert!(handle.stack_high_water().unwrap() > 10_000);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn measure_stacks(mut self, measure: bool) -> Builder {
        self.measure_stacks = measure;
        self
    }

    /// Who looks names up for the cosockets of this runtime that do not say so themselves:
    /// [`Names::default`], by default.
    pub fn names(mut self, names: Names) -> Builder {
        self.names = Some(names);
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for zero or more than 256 workers, for stacks of more than 1 GiB, and for
    /// settings in the environment that cannot be read; the system's error when a thread, a driver
    /// or a signal handler cannot be had, with what to do about it where a limit was reached. A
    /// refused io_uring is an error only where it was asked for by name; it says why, and what to do.
    pub fn build(self) -> io::Result<Runtime> {
        self.start().map_err(|error| match remedy::remedy(&error) {
            Some(remedy) => io::Error::new(error.kind(), format!("{error}; {remedy}")),
            None => error,
        })
    }

    fn start(self) -> io::Result<Runtime> {
        let workers = match self.workers {
            Some(workers) => workers,
            None => workers_from_environment()?,
        };
        if !(1..=256).contains(&workers) {
            let message = format!("a runtime has 1 to 256 workers, not {workers}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if let Some(obstacle) = crate::arch::obstacle() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, obstacle));
        }
        if self.ring_entries == 0 {
            let message = "a ring has at least one entry: see `Builder::ring_entries`";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let driver = match self.driver {
            Some(driver) => driver,
            None => Choice::from_environment()?,
        };
        watch_panics();
        // SAFETY: the hook reads a thread-local and a control block; see there.
        unsafe { overflow::install(crate::dump::overflow_subject) }?;
        let seats = (0..workers).map(|_| Seat::new()).collect::<io::Result<_>>()?;
        let stacks = StackPool::new(self.stack_size)?;
        let silence = Silence::new(self.abort_on_deadlock);
        let mut shared = Shared::new(seats, stacks, self.measure_stacks, silence);
        shared.names = self.names;
        let shared = Arc::new(shared);
        shared.pools.belong_to(&shared);
        // Dropped on an early return, which stops the workers that did start.
        let mut runtime = Runtime { shared, threads: Vec::new(), drivers: Vec::new() };
        for index in 0..workers {
            let driver = runtime.start_worker(index, driver, self.ring_entries)?;
            runtime.drivers.push(driver);
        }
        Ok(runtime)
    }
}

impl Runtime {
    /// Starts a worker thread and waits until its driver, made on it, works.
    fn start_worker(
        &mut self,
        index: usize,
        choice: Choice,
        ring_entries: u32,
    ) -> io::Result<String> {
        let shared = Arc::clone(&self.shared);
        let (started, outcome) = mpsc::channel();
        let name = format!("cosocket-{index}");
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let seat = &shared.seats[index];
            let driver = match Driver::open(choice, ring_entries, seat.mailbox) {
                Ok(driver) => driver,
                Err(error) => return drop(started.send(Err(error))),
            };
            let signal_stack = match overflow::SignalStack::new() {
                Ok(signal_stack) => signal_stack,
                Err(error) => return drop(started.send(Err(error))),
            };
            let _ = started.send(Ok(driver.describe()));
            drop(started);
            let worker = Worker::new(index, Arc::clone(&shared), driver);
            abort_on_panic(|| worker.run());
            drop(worker);
            drop(signal_stack);
        })?;
        self.threads.push(thread);
        let ended = || io::Error::other("the worker thread ended before it began");
        outcome.recv().map_err(|_| ended())?
    }

    /// Runs `f` as a coroutine while the calling thread waits for it, and returns what it
    /// returns. Coroutines that `f` spawned and did not join go on. A
    /// [`timeout`](crate::time::timeout) around this cancels `f`, and unwinds when it is over.
    ///
    /// # Panics
    ///
    /// Inside a coroutine (call `f` there, or spawn), when no stack can be had, and with `f`'s own
    /// panic.
    #[track_caller]
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        assert!(
            current::worker().is_none(),
            "cosocket: `run` called inside a coroutine; call the function directly, or spawn it"
        );
        // SAFETY: this thread waits for the coroutine's end before anything borrowed ends: a limit
        // around this cuts the first wait only, and nothing below panics before the second.
        let packet = unsafe { self.shared.spawn(Options::new(), f, ()) };
        let packet = packet.unwrap_or_else(|error| panic!("cosocket: cannot run: {error}"));
        let is_cut = self.shared.silence.while_blocked(|| {
            let is_cut = !packet.identity().wait_done(false);
            if is_cut {
                packet.identity().signal(CANCELLED);
                packet.identity().wait_done(true);
            }
            is_cut
        });
        // SAFETY: the only handle.
        match unsafe { packet.take() }.expect("waited for") {
            Ok(value) => value,
            Err(payload) if is_cut && payload.is::<crate::Cancelled>() => wait::raise_cancelled(),
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Spawns a coroutine on this runtime, from anywhere.
    ///
    /// # Panics
    ///
    /// When no stack can be had. A coroutine of this runtime gets that as an error from
    /// [`thread::Builder`](crate::thread::Builder), which spawns where it is called.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> crate::thread::JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        crate::thread::spawn_on(&self.shared, Options::new(), f).expect("failed to spawn coroutine")
    }

    /// Spawns one coroutine on each worker: `closure` is called here, with the number of each
    /// worker from 0, and returns what is to run there. The handles come in the same order.
    ///
    /// For what each worker has for itself, such as an acceptor with a listener of its own. What
    /// they spawn goes where there is room, as ever.
    ///
    /// ```
    /// use cosocket::net::{TcpBuilder, TcpStream};
    ///
    /// let runtime = cosocket::Builder::new().workers(2).build()?;
    /// let mut listeners = TcpBuilder::new().listen_many("127.0.0.1:0", runtime.workers())?;
    /// let address = listeners[0].local_addr()?;
    /// let acceptors = runtime.spawn_on_each(|_worker| {
    ///     let listener = listeners.pop().expect("one for each");
    ///     move || listener.incoming().for_each(|stream| drop(stream))
    /// });
    /// TcpStream::connect(address)?;
    /// acceptors.iter().for_each(|acceptor| acceptor.cancel());
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Panics
    ///
    /// When no stack can be had. Coroutines spawned by then go on.
    #[track_caller]
    pub fn spawn_on_each<C, F, T>(&self, mut closure: C) -> Vec<crate::thread::JoinHandle<T>>
    where
        C: FnMut(usize) -> F,
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let spawned_at = Options::new().spawned_at;
        let spawn = |worker| {
            let options = Options { spawned_at, place: Place::Worker(worker), ..Options::new() };
            crate::thread::spawn_on(&self.shared, options, closure(worker))
                .expect("failed to spawn coroutine")
        };
        (0..self.workers()).map(spawn).collect()
    }

    /// How many coroutines each worker has: placed there and not finished, in the order of
    /// [`spawn_on_each`](Runtime::spawn_on_each). Those that any worker may still take are nowhere
    /// yet.
    ///
    /// ```
    /// let runtime = cosocket::Builder::new().workers(2).build()?;
    /// let parked = runtime.spawn_on_each(|_| cosocket::thread::park);
    /// assert_eq!(runtime.live_by_worker(), [1, 1]);
    /// parked.iter().for_each(|coroutine| coroutine.thread().unpark());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn live_by_worker(&self) -> Vec<usize> {
        (0..self.workers()).map(|worker| self.shared.load(worker)).collect()
    }

    /// Whether the calling coroutine is one of its own.
    pub(crate) fn is_own(&self) -> bool {
        current::worker().is_some_and(|worker| Arc::ptr_eq(&worker.runtime, &self.shared))
    }

    /// Leaves the threads to end by themselves.
    pub(crate) fn detach_threads(&mut self) {
        self.threads.clear();
    }

    /// The number of worker threads.
    pub fn workers(&self) -> usize {
        self.shared.seats.len()
    }

    /// Which driver the first worker uses, in words: `io_uring`, `epoll`, or `epoll` with the reason
    /// why io_uring was refused. With [`Driver::Auto`](crate::Driver::Auto), and a limit that only
    /// some rings fit under, others may differ.
    pub fn driver(&self) -> &str {
        &self.drivers[0]
    }

    /// What the workers have counted so far. They go on while it is read, so the numbers may be a
    /// turn apart.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        for seat in &self.shared.seats {
            seat.counters.add_to(&mut metrics);
            metrics.finished += seat.finished();
        }
        let stacks = self.shared.stacks.stats();
        metrics.stack_slots = stacks.mapped_slots as u64;
        metrics.stack_slots_protected = stacks.protected_slots as u64;
        metrics.stack_slots_in_use = stacks.lent_slots() as u64;
        metrics.stack_mapped_bytes = stacks.mapped_bytes as u64;
        metrics.live = self.shared.live() as u64;
        metrics
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shared.stop();
        if self.is_own() || self.threads.is_empty() {
            // Its worker cannot join itself; the threads end by themselves.
            return;
        }
        let threads = std::mem::take(&mut self.threads);
        // A worker's panic aborts, so every join is Ok.
        let join_all = || threads.into_iter().for_each(|thread| drop(thread.join()));
        // In a coroutine of another runtime the pool waits, not the worker.
        let _shield = Shield::raise();
        if let Err(error) = crate::blocking::try_unblock(Reason::BLOCKING, join_all) {
            eprintln!("cosocket: a dropped runtime is left to end by itself: {error}");
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("workers", &self.workers())
            .field("driver", &self.driver())
            .field("live", &self.shared.live())
            .finish()
    }
}

/// Runs `f` as a coroutine on a runtime of its own, which is drained before this returns: what
/// `f` spawned and did not join is cancelled and has unwound by then, as threads end with `main`.
///
/// # Panics
///
/// Inside a coroutine, with `f`'s own panic, and when the runtime cannot be started;
/// [`Builder::build`] returns that as an error.
///
/// ```
/// let answer = cosocket::run(|| cosocket::thread::spawn(|| 6 * 7).join().unwrap());
/// assert_eq!(answer, 42);
/// ```
#[track_caller]
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let runtime = Builder::new().build();
    runtime.unwrap_or_else(|error| panic!("cosocket: cannot start a runtime: {error}")).run(f)
}

static GLOBAL: OnceLock<Result<Runtime, String>> = OnceLock::new();
static PROCESS: OnceLock<u32> = OnceLock::new();

/// The runtime for spawns from the calling thread: its own in a coroutine, else the global one.
pub(crate) fn here() -> io::Result<Arc<Shared>> {
    if let Some(worker) = current::worker() {
        return Ok(Arc::clone(&worker.runtime));
    }
    let global = GLOBAL.get_or_init(|| Builder::new().build().map_err(|e| e.to_string()));
    if *PROCESS.get_or_init(std::process::id) != std::process::id() {
        let message = "the global runtime is the parent process's, and a forked child has none of \
                       its threads; use `cosocket::run` there, or exec";
        return Err(io::Error::other(message));
    }
    match global {
        Ok(runtime) => Ok(Arc::clone(&runtime.shared)),
        Err(error) => Err(io::Error::other(format!("the global runtime did not start: {error}"))),
    }
}

/// Calls `f` with the caller's worker, if it has one, and with what [`here`] gives: at no count of
/// references where there is a worker.
#[inline]
pub(crate) fn with_here<T>(
    f: impl FnOnce(Option<&Worker>, &Shared) -> io::Result<T>,
) -> io::Result<T> {
    match current::worker() {
        Some(worker) => f(Some(worker), &worker.runtime),
        None => f(None, &*here()?),
    }
}

/// As [`here`], without starting the global one.
pub(crate) fn here_if_started() -> Option<Arc<Shared>> {
    if current::worker().is_none() && GLOBAL.get().is_none() {
        return None;
    }
    here().ok()
}

fn workers_from_environment() -> io::Result<usize> {
    match std::env::var("COSOCKET_WORKERS") {
        Err(_) => Ok(std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(256)),
        Ok(text) => text.parse().map_err(|_| {
            let message = format!("COSOCKET_WORKERS is {text:?}; it takes a number from 1 to 256");
            io::Error::new(io::ErrorKind::InvalidInput, message)
        }),
    }
}
