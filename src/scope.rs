//! `std::thread::scope`: coroutines that borrow, and are over when the scope is.

mod fallible;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Result;

use crate::coroutine::{Kept, Spawned};
use crate::mailbox::CANCELLED;
use crate::runtime;
use crate::shared::Options;
use crate::thread::{Handle, Thread};
use crate::unwind;
use crate::wait::{self, Reason, WaitSlot};

pub use self::fallible::{TryScope, try_scope};

/// Runs `f` with a [`Scope`] in which it can spawn coroutines that borrow from outside, and
/// returns when all of them are over. `f` itself runs right here: in the calling coroutine, or on
/// the calling thread.
///
/// # Panics
///
/// With `f`'s own panic, after the coroutines were cancelled and have ended; and, as in std, when
/// `f` returned but a coroutine that nobody joined has panicked.
///
/// # Cancel and timeout
///
/// A cancel that comes while the scope waits for its coroutines is passed on to them; the scope
/// returns when they have unwound, and the next wait unwinds. A [`timeout`](crate::time::timeout)
/// around the scope cancels them too, and unwinds from here when they are over. What unwinds `f`
/// counts as its panic.
///
/// ```
/// let mut numbers = vec![1, 2, 3];
/// let mut sum = 0;
/// cosocket::thread::scope(|scope| {
///     scope.spawn(|| sum = numbers.iter().sum());
/// });
/// numbers.push(sum);
/// assert_eq!(numbers, [1, 2, 3, 6]);
/// ```
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope::new();
    // Caught, so that the wait below is an ordinary one and not one in mid-unwind.
    let result = unwind::catch(|| f(&scope));
    if result.is_err() {
        scope.cancel_all();
    }
    let is_cut = scope.data.wait_for_all();
    match result {
        Err(payload) => unwind::unwind(payload),
        Ok(value) => scope.data.conclude(value, is_cut),
    }
}

/// Where scoped coroutines are spawned; see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    data: Arc<ScopeData>,
    _scope: PhantomData<&'scope mut &'scope ()>,
    _env: PhantomData<&'env mut &'env ()>,
}

struct ScopeData {
    running: AtomicUsize,
    panicked: AtomicBool,
    owner: WaitSlot,
    children: Mutex<Children>,
}

#[derive(Default)]
struct Children {
    /// Who to cancel when the scope fails. Those that are over are thinned out as it grows.
    list: Vec<Arc<dyn Spawned>>,
    /// The scope has failed; those who come late are cancelled at once.
    cancelled: bool,
}

impl ScopeData {
    fn wait_empty(&self, shielded: bool) -> bool {
        let empty = || self.running.load(Ordering::Acquire) == 0;
        self.owner.wait(empty, Reason::SCOPE, shielded)
    }

    /// Waits until all are over. Cancels them, and returns true, if that is cut.
    fn wait_for_all(&self) -> bool {
        let is_cut = !self.wait_empty(false);
        if is_cut {
            self.cancel_all();
            self.wait_empty(true);
        }
        is_cut
    }

    /// What comes of a scope whose body has returned `value`.
    fn conclude<T>(&self, value: T, is_cut: bool) -> T {
        if self.panicked.load(Ordering::Relaxed) {
            panic!("a scoped coroutine panicked");
        }
        if is_cut && wait::is_elapsed() {
            // What the coroutines were to do for the body is not done.
            wait::raise_cancelled();
        }
        value
    }

    fn cancel_all(&self) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.cancelled = true;
        children.list.iter().for_each(|child| child.identity().signal(CANCELLED));
    }

    fn adopt(&self, child: Arc<dyn Spawned>) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        if children.cancelled {
            child.identity().signal(CANCELLED);
        }
        let list = &mut children.list;
        if list.len() == list.capacity() {
            list.retain(|child| !child.identity().is_done());
            // Room for as many again, so that a look at all of them is paid by as many spawns.
            list.reserve(list.len().max(4));
        }
        list.push(child);
    }
}

/// Counts one coroutine of the scope out, when nothing of it can touch what it borrowed.
struct Membership(Arc<ScopeData>);

impl Kept for Membership {
    fn unhandled_panic(&self) {
        self.0.panicked.store(true, Ordering::Relaxed);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::Release) == 1 {
            self.0.owner.wake();
        }
    }
}

impl<'scope, 'env> Scope<'scope, 'env> {
    fn new() -> Scope<'scope, 'env> {
        Scope {
            data: Arc::new(ScopeData {
                running: AtomicUsize::new(0),
                panicked: AtomicBool::new(false),
                owner: WaitSlot::new(),
                children: Mutex::default(),
            }),
            _scope: PhantomData,
            _env: PhantomData,
        }
    }

    /// Cancels all coroutines of the scope, and those that are spawned in it from now on.
    ///
    /// They unwind at their waits, as by [`JoinHandle::cancel`](crate::thread::JoinHandle::cancel).
    /// The caller is not cancelled, unless it is one of them. [`try_scope`] does this by itself
    /// when one fails.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cosocket::thread;
    ///
    /// thread::scope(|scope| {
    ///     scope.spawn(|| thread::sleep(Duration::from_secs(3600)));
    ///     scope.cancel_all();
    /// });
    /// ```
    pub fn cancel_all(&self) {
        self.data.cancel_all();
    }

    /// Spawns a coroutine that may borrow what lives longer than the scope.
    ///
    /// # Panics
    ///
    /// When no stack can be had; [`Builder::spawn_scoped`](crate::thread::Builder::spawn_scoped)
    /// returns that as an error.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.spawn_with(Options::new(), f).expect("failed to spawn coroutine")
    }

    pub(crate) fn spawn_with<F, T>(
        &'scope self,
        options: Options,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.data.running.fetch_add(1, Ordering::Relaxed);
        let membership = Membership(Arc::clone(&self.data));
        // SAFETY: `scope` returns only when every membership is gone, which is after closure and
        // result have been dropped or handed to the handle, and the handle cannot leave 'scope.
        let packet = runtime::with_here(|worker, shared| unsafe {
            shared.spawn_from(worker, options, f, membership)
        })?;
        let handle = Handle::new(packet, Some(&self.data.panicked));
        self.data.adopt(handle.spawned());
        Ok(ScopedJoinHandle { handle })
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Scope");
        debug.field("running", &self.data.running.load(Ordering::Relaxed));
        debug.field("panicked", &self.data.panicked.load(Ordering::Relaxed));
        debug.finish_non_exhaustive()
    }
}

/// The handle of a scoped coroutine.
pub struct ScopedJoinHandle<'scope, T> {
    pub(crate) handle: Handle<'scope, T>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// As [`JoinHandle::join`](crate::thread::JoinHandle::join).
    pub fn join(self) -> Result<T> {
        self.handle.join()
    }

    /// As [`JoinHandle::is_finished`](crate::thread::JoinHandle::is_finished).
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// As [`JoinHandle::thread`](crate::thread::JoinHandle::thread).
    pub fn thread(&self) -> &Thread {
        self.handle.thread()
    }

    /// As [`JoinHandle::cancel`](crate::thread::JoinHandle::cancel).
    pub fn cancel(&self) {
        self.handle.cancel();
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").finish_non_exhaustive()
    }
}
