//! `std::thread`, for coroutines.
//!
//! The names, signatures and meanings are those of [`std::thread`]. Inside a coroutine they act
//! on the coroutine; on a plain thread they act on the thread, except that [`spawn`] always
//! spawns a coroutine (from a plain thread: on a global runtime that it starts on first use).

mod wait_any;
mod waits;

use std::fmt;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

pub use std::thread::{Result, available_parallelism, panicking};

pub use self::wait_any::{Joinable, wait_any};
pub use self::waits::{park, park_timeout, shield, sleep, sleep_until, yield_now};
pub use crate::local::{AccessError, LocalKey};
pub use crate::scope::{Scope, ScopedJoinHandle, TryScope, scope, try_scope};
pub use crate::switch_hook::{SwitchHook, with_switch_hook, with_thread_local};

use crate::coroutine::{Identity, Kept, Outcome, Spawned, detach, drop_quietly};
use crate::current;
use crate::mailbox::{CANCELLED, UNPARKED};
use crate::runtime;
use crate::shared::{Options, Place, Shared};
use crate::wait::{self, Shield};

/// Spawns a coroutine and returns a handle to it.
///
/// In a coroutine it is spawned on the same runtime, on a plain thread on the global one. It starts
/// on any worker of that, and stays on the worker that starts it. This never waits. Dropping the
/// handle detaches the coroutine.
///
/// # Panics
///
/// When no stack can be had, or the global runtime cannot be started; see [`Builder::spawn`].
///
/// ```
/// let handle = cosocket::thread::spawn(|| 6 * 7);
/// assert_eq!(handle.join().unwrap(), 42);
/// ```
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn_with(Options::new(), f).expect("failed to spawn coroutine")
}

/// Spawns a coroutine on this worker, whose closure and result need not be `Send`.
///
/// It starts when the caller waits. For the rest it is like [`spawn`].
///
/// # Panics
///
/// Outside a coroutine, and when no stack can be had.
///
/// ```
/// use std::rc::Rc;
/// cosocket::run(|| {
///     let shared = Rc::new(5);
///     let clone = Rc::clone(&shared);
///     assert_eq!(cosocket::spawn_local(move || *clone + 1).join().unwrap(), 6);
/// });
/// ```
#[track_caller]
pub fn spawn_local<F, T>(f: F) -> LocalJoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let worker = current::worker()
        .expect("cosocket: `spawn_local` called outside a coroutine; use `run` or `spawn` first");
    let options = Options { place: Place::Here, ..Options::new() };
    // SAFETY: nothing is borrowed, it starts on this worker, and the handle is not `Send`.
    let packet =
        unsafe { worker.runtime.spawn(options, f, ()) }.expect("failed to spawn coroutine");
    let handle = Handle::new(packet, None);
    LocalJoinHandle { handle, _not_send: std::marker::PhantomData }
}

fn spawn_with<F, T>(options: Options, f: F) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    runtime::with_here(|worker, shared| {
        // SAFETY: nothing is borrowed, and both types are `Send`.
        let packet = unsafe { shared.spawn_from(worker, options, f, ()) }?;
        Ok(JoinHandle(Handle::new(packet, None)))
    })
}

pub(crate) fn spawn_on<F, T>(shared: &Shared, options: Options, f: F) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: nothing is borrowed, and both types are `Send`.
    let packet = unsafe { shared.spawn(options, f, ()) }?;
    Ok(JoinHandle(Handle::new(packet, None)))
}

/// Settings for a new coroutine: a name, a stack size.
///
/// ```
/// let builder = cosocket::thread::Builder::new().name("reader".into()).stack_size(64 << 10);
/// let handle = builder.spawn(|| cosocket::thread::current().name().map(str::to_owned))?;
/// assert_eq!(handle.join().unwrap().as_deref(), Some("reader"));
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug, Default)]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
}

impl Builder {
    /// No name, the runtime's stack size.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The coroutine's name, for dumps, reports and [`Thread::name`].
    pub fn name(mut self, name: String) -> Builder {
        self.name = Some(name);
        self
    }

    /// The size of the coroutine's stack in bytes, from 16 KiB (less is rounded up) to 1 GiB (more
    /// is an error of `spawn`); the guard below it comes on top. Sizes in between are rounded up
    /// to the next of four steps per doubling.
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// Spawns a coroutine with these settings.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a stack of more than 1 GiB; `OutOfMemory` when no stack can be mapped
    /// (the error names the limit that was met); the reason why, when the global runtime cannot be
    /// started.
    ///
    /// # Panics
    ///
    /// When the name contains a NUL byte, as in std.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_with(self.options(Options::new()), f)
    }

    /// [`Builder::spawn`] for a closure and a result that borrow; errors and panics as there.
    ///
    /// A [`scope`] does that in safety.
    ///
    /// # Safety
    ///
    /// What `f` and its result borrow must live until the coroutine is over and its result was
    /// taken or dropped. It is over when [`JoinHandle::join`] has returned; that may not happen, for
    /// a cancel or a timeout unwinds out of `join` and detaches the coroutine: call it in a
    /// [`shield`].
    ///
    /// ```
    /// use cosocket::{shield, thread};
    ///
    /// let numbers = [1, 2, 3];
    /// let builder = thread::Builder::new();
    /// // SAFETY: joined below, before `numbers` goes, and nothing unwinds in between.
    /// let handle = unsafe { builder.spawn_unchecked(|| numbers.iter().sum::<i32>()) }?;
    /// assert_eq!(shield(|| handle.join()).unwrap(), 6);
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub unsafe fn spawn_unchecked<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        let options = self.options(Options::new());
        // SAFETY: both types are `Send`, and the caller keeps alive what they borrow.
        let packet = runtime::with_here(|worker, shared| unsafe {
            shared.spawn_from(worker, options, f, ())
        })?;
        // SAFETY: as above; the packet borrows what its closure and result do.
        let packet =
            unsafe { std::mem::transmute::<Arc<dyn Outcome<T> + '_>, Arc<dyn Outcome<T>>>(packet) };
        Ok(JoinHandle(Handle::new(packet, None)))
    }

    /// As [`Builder::spawn`]. The coroutine holds `kept` until its result is in place.
    #[track_caller]
    pub(crate) fn spawn_keeping<F, T, K>(self, f: F, kept: K) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
        K: Kept + Send + 'static,
    {
        let options = self.options(Options::new());
        // SAFETY: nothing is borrowed, and all three are `Send`.
        let packet = runtime::with_here(|worker, shared| unsafe {
            shared.spawn_from(worker, options, f, kept)
        })?;
        Ok(JoinHandle(Handle::new(packet, None)))
    }

    /// Spawns a coroutine in a [`scope`] with these settings; errors and panics as
    /// [`Builder::spawn`].
    #[track_caller]
    pub fn spawn_scoped<'scope, 'env, F, T>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        scope.spawn_with(self.options(Options::new()), f)
    }

    fn options(self, options: Options) -> Options {
        if let Some(name) = &self.name {
            assert!(!name.contains('\0'), "coroutine name may not contain interior null bytes");
        }
        let name = self.name.map(String::into_boxed_str);
        Options { name, stack_size: self.stack_size, ..options }
    }
}

/// A handle that can wait for a coroutine, take its result, or cancel it.
///
/// Dropping it detaches the coroutine, which goes on; a result nobody takes is dropped.
pub struct JoinHandle<T>(pub(crate) Handle<'static, T>);

impl<T> JoinHandle<T> {
    /// Waits for the coroutine and returns its result, or the payload of its panic.
    /// A cancelled coroutine's payload is [`Cancelled`](crate::Cancelled).
    ///
    /// When the waiting coroutine is itself cancelled, or a [`timeout`](crate::time::timeout) around
    /// this has passed, this unwinds, and detaches the other one, which goes on. A coroutine that joins itself waits for ever.
    pub fn join(self) -> Result<T> {
        self.0.join()
    }

    /// Whether the coroutine is over; `join` then returns at once.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// The coroutine's [`Thread`].
    pub fn thread(&self) -> &Thread {
        self.0.thread()
    }

    /// How many bytes of its stack the coroutine has used, once it is over. `None` before that,
    /// and unless the runtime measures: see [`crate::Builder::measure_stacks`].
    pub fn stack_high_water(&self) -> Option<usize> {
        self.0.stack_high_water()
    }

    /// Ends the coroutine at its next wait, or at the one it is in.
    ///
    /// The wait unwinds quietly, without the panic hook: destructors run, and `join` returns the
    /// payload [`Cancelled`](crate::Cancelled). An operation that the kernel completes at the same
    /// time is not lost: the call returns its result and the next wait unwinds. A coroutine that
    /// has not started drops its closure and ends. The cancel is sticky: one who catches the
    /// unwind is unwound again at every later wait. [`shield`] holds it back.
    ///
    /// This does not wait for the end; `join` does. It does nothing to a coroutine that is over.
    ///
    /// With `panic = "abort"` nothing can unwind: I/O waits then end with an error, `park` may
    /// return, others go on.
    ///
    /// ```
    /// use cosocket::{Cancelled, thread};
    ///
    /// let waiter = thread::spawn(|| loop { thread::park() });
    /// waiter.cancel();
    /// assert!(waiter.join().unwrap_err().is::<Cancelled>());
    /// ```
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}

/// The handle of [`spawn_local`]; it stays on its thread.
pub struct LocalJoinHandle<T> {
    pub(crate) handle: Handle<'static, T>,
    _not_send: std::marker::PhantomData<*mut ()>,
}

impl<T> LocalJoinHandle<T> {
    /// As [`JoinHandle::join`].
    pub fn join(self) -> Result<T> {
        self.handle.join()
    }

    /// As [`JoinHandle::is_finished`].
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// As [`JoinHandle::thread`].
    pub fn thread(&self) -> &Thread {
        self.handle.thread()
    }

    /// As [`JoinHandle::cancel`].
    pub fn cancel(&self) {
        self.handle.cancel();
    }
}

impl<T> fmt::Debug for LocalJoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalJoinHandle").finish_non_exhaustive()
    }
}

/// What the three kinds of handle have in common: the right to the result.
pub(crate) struct Handle<'a, T> {
    packet: Arc<dyn Outcome<T> + 'a>,
    thread: OnceLock<Thread>,
    /// Set when a panic's payload is dropped unseen.
    unseen_panic: Option<&'a AtomicBool>,
}

impl<'a, T> Handle<'a, T> {
    pub(crate) fn new(
        packet: Arc<dyn Outcome<T> + 'a>,
        unseen_panic: Option<&'a AtomicBool>,
    ) -> Handle<'a, T> {
        Handle { packet, thread: OnceLock::new(), unseen_panic }
    }

    pub(crate) fn join(self) -> Result<T> {
        let _shield = Shield::where_nothing_unwinds();
        if !self.packet.identity().wait_done(false) {
            // Detaches the other one, as unwinding past its handle would.
            drop(self);
            wait::raise_cancelled();
        }
        // SAFETY: the one handle with the right to the result.
        unsafe { self.packet.take() }.expect("the result is taken once")
    }

    pub(crate) fn identity(&self) -> &Identity {
        self.packet.identity()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.packet.identity().is_done()
    }

    fn stack_high_water(&self) -> Option<usize> {
        Some(self.packet.identity().stack_used_bytes()).filter(|&bytes| bytes > 0)
    }

    pub(crate) fn cancel(&self) {
        self.packet.identity().signal(CANCELLED);
    }

    pub(crate) fn thread(&self) -> &Thread {
        self.thread.get_or_init(|| Thread(Kind::Coroutine(self.spawned())))
    }

    /// The packet without its types.
    pub(crate) fn spawned(&self) -> Arc<dyn Spawned> {
        let spawned: Arc<dyn Spawned + '_> = self.packet.clone();
        // SAFETY: through this only the identity is used, which borrows nothing; and the content
        // of the packet is gone before the borrows end, so its drop touches none of them.
        unsafe { std::mem::transmute::<Arc<dyn Spawned + '_>, Arc<dyn Spawned>>(spawned) }
    }
}

impl<T> Drop for Handle<'_, T> {
    fn drop(&mut self) {
        let result = detach(&*self.packet);
        if let Some(Err(payload)) = &result
            && let Some(unseen_panic) = self.unseen_panic
            && !payload.is::<crate::Cancelled>()
        {
            unseen_panic.store(true, Ordering::Relaxed);
        }
        // As the coroutine itself would: whichever of the two comes second drops the result.
        drop_quietly(result);
    }
}

/// A coroutine, or a plain thread: what [`current`] and the handles name.
#[derive(Clone)]
pub struct Thread(Kind);

#[derive(Clone)]
enum Kind {
    Coroutine(Arc<dyn Spawned>),
    Thread(std::thread::Thread),
}

// As std's: what it names is shared through atomics alone.
impl UnwindSafe for Thread {}
impl RefUnwindSafe for Thread {}

impl Thread {
    /// Makes [`park`] return, now or when it is called next. From any thread; never waits. Several
    /// calls before one `park` count once. One that is over is left alone.
    pub fn unpark(&self) {
        match &self.0 {
            Kind::Coroutine(coroutine) => coroutine.identity().signal(UNPARKED),
            Kind::Thread(thread) => thread.unpark(),
        }
    }

    /// Which coroutine or thread this is; an id is never used twice in a process.
    pub fn id(&self) -> ThreadId {
        match &self.0 {
            Kind::Coroutine(coroutine) => ThreadId::of_coroutine(coroutine.identity().id),
            Kind::Thread(thread) => ThreadId(Number::Thread(thread.id())),
        }
    }

    /// The coroutine's packet; `None` of a plain thread.
    pub(crate) fn coroutine(&self) -> Option<&Arc<dyn Spawned>> {
        match &self.0 {
            Kind::Coroutine(coroutine) => Some(coroutine),
            Kind::Thread(_) => None,
        }
    }

    /// The name given to [`Builder::name`].
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Kind::Coroutine(coroutine) => coroutine.identity().name(),
            Kind::Thread(thread) => thread.name(),
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Thread");
        debug.field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}

/// Tells coroutines and threads apart; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThreadId(Number);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Number {
    Coroutine(u64),
    Thread(std::thread::ThreadId),
}

impl ThreadId {
    pub(crate) fn of_coroutine(id: u64) -> ThreadId {
        ThreadId(Number::Coroutine(id))
    }
}

/// The calling coroutine, or on a plain thread the thread.
pub fn current() -> Thread {
    match current::worker() {
        // SAFETY: the current coroutine has not finished, and this is its worker.
        Some(worker) => Thread(Kind::Coroutine(unsafe { worker.current().packet() })),
        None => Thread(Kind::Thread(std::thread::current())),
    }
}
