//! A word that says "stop", to all who were given it.
//!
//! ```text
//!   token --.-- child --.-- grandchild        cancel goes down, to who waits, to the coroutines
//!           |           `-- coroutine         that run under the token, and to its children;
//!           |-- who waits                     never up
//!           `-- coroutine
//! ```
//!
//! A child holds its parent, so that a cancel from above reaches it whoever drops the handles in
//! between; a parent knows its children weakly. Trees may be deep: they are walked and dropped
//! without recursion.

use std::fmt;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::Cancelled;
use crate::clock::Nanos;
use crate::coroutine::{Coroutine, Kept, Spawned};
use crate::current;
use crate::limit;
use crate::mailbox::{CANCELLED, ELAPSED};
use crate::thread::{Builder, JoinHandle, Thread};
use crate::unwind;
use crate::wait::{self, Reason, WaitQueue};
use crate::worker;

/// Tells many at once to stop. Clones are the same token.
///
/// Who works under the token asks [`is_cancelled`](CancelToken::is_cancelled), waits with
/// [`wait`](CancelToken::wait), or is a coroutine that the token cancels by itself: see
/// [`spawn`](CancelToken::spawn) and [`run`](CancelToken::run). A [`child`](CancelToken::child) is
/// cancelled with its parent, and may be cancelled alone.
///
/// ```
/// use cosocket::sync::CancelToken;
/// use cosocket::{Cancelled, thread};
/// use std::time::Duration;
///
/// let shutdown = CancelToken::new();
/// let connection = shutdown.spawn(|| loop {
///     thread::sleep(Duration::from_secs(3600)); // Reads requests and answers them.
/// });
/// let janitor = thread::spawn({
///     let shutdown = shutdown.clone();
///     move || {
///         shutdown.wait();
///         "tidied up"
///     }
/// });
/// shutdown.cancel();
/// assert!(connection.join().unwrap_err().is::<Cancelled>());
/// assert_eq!(janitor.join().unwrap(), "tidied up");
/// ```
#[derive(Clone)]
pub struct CancelToken {
    node: Arc<Node>,
}

struct Node {
    cancelled: AtomicBool,
    queue: WaitQueue,
    below: Mutex<Below>,
    parent: Option<Arc<Node>>,
}

/// Whom a cancel is passed on to; nobody once that has been done. Of children and coroutines, those
/// who have gone are thinned out as it grows.
#[derive(Default)]
struct Below {
    children: Vec<Weak<Node>>,
    coroutines: Vec<Arc<dyn Spawned>>,
    /// Those that are inside of `run`, once for each time: the block, and its generation.
    runs: Vec<(&'static Coroutine, u32)>,
}

/// A coroutine is inside of `run`, and is to be told of a cancel.
struct Within<'a> {
    node: &'a Node,
    /// `None` on a plain thread, which looks for itself.
    run: Option<(&'static Coroutine, u32)>,
}

/// Held by a coroutine that runs under a token: keeps that in the tree, within reach of a cancel
/// from above, when its handles are gone.
struct Under {
    _node: Arc<Node>,
}

impl Kept for Under {
    fn unhandled_panic(&self) {}
}

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> CancelToken {
        CancelToken { node: Arc::new(Node::new(None)) }
    }

    /// Another token that is cancelled when this one is, or is already.
    ///
    /// ```
    /// use cosocket::sync::CancelToken;
    ///
    /// let server = CancelToken::new();
    /// let (one, other) = (server.child(), server.child());
    /// one.cancel();
    /// assert!(!server.is_cancelled() && !other.is_cancelled());
    /// server.cancel();
    /// assert!(other.is_cancelled() && server.child().is_cancelled());
    /// ```
    #[must_use]
    pub fn child(&self) -> CancelToken {
        let child = Arc::new(Node::new(Some(Arc::clone(&self.node))));
        let mut below = self.node.lock();
        if self.is_cancelled() {
            child.cancelled.store(true, Ordering::Relaxed);
        } else {
            adopt(&mut below.children, Arc::downgrade(&child), |child| child.strong_count() > 0);
        }
        drop(below);
        CancelToken { node: child }
    }

    /// Cancels it, and its children, and the coroutines that run under any of them; wakes all who
    /// wait. For good, and from anywhere. This never waits.
    pub fn cancel(&self) {
        let mut next = vec![Arc::clone(&self.node)];
        while let Some(node) = next.pop() {
            let below = node.cancel();
            below.coroutines.iter().for_each(|coroutine| coroutine.identity().signal(CANCELLED));
            next.extend(below.children.iter().filter_map(Weak::upgrade));
        }
    }

    /// Whether it was cancelled: one load.
    #[inline]
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.node.is_cancelled()
    }

    /// Waits until it is cancelled. A cancel of the calling coroutine itself unwinds.
    pub fn wait(&self) {
        self.node.wait(None);
    }

    /// Waits until it is cancelled, but for no longer than `timeout`, and no less, unless it is;
    /// whether it was. A pause between two rounds of work that ends at once when the work is to.
    ///
    /// ```
    /// use cosocket::sync::CancelToken;
    /// use std::time::Duration;
    ///
    /// let token = CancelToken::new();
    /// assert!(!token.wait_timeout(Duration::from_millis(1)));
    /// token.cancel();
    /// assert!(token.wait_timeout(Duration::MAX));
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.node.wait(Some(wait::deadline_after(timeout)))
    }

    /// Spawns a coroutine that is cancelled with the token. If that was cancelled before, it does
    /// not start, or comes to its first wait. In all else it is one of
    /// [`thread::spawn`](crate::thread::spawn).
    ///
    /// # Panics
    ///
    /// When no stack can be had.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let under = Under { _node: Arc::clone(&self.node) };
        let spawned = Builder::new().spawn_keeping(f, under);
        let handle = spawned.expect("failed to spawn coroutine");
        self.node.attach(handle.thread());
        handle
    }

    /// Runs `f`, right here, and ends it when the token is cancelled: its current or next wait
    /// unwinds, quietly, to this call, and the caller goes on.
    ///
    /// It is sticky: every later wait in `f` unwinds likewise, I/O too. What has no wait in it comes
    /// to its end, and then the result counts. A token that is cancelled already keeps `f` from
    /// starting. A [`shield`](crate::shield) inside of `f` holds the unwind back, and coroutines that
    /// `f` spawns are not ended by it; a [`scope`](crate::thread::scope) that is cut cancels its own.
    /// On a plain thread the wait ends up to 10 ms after the cancel.
    ///
    /// With `panic = "abort"`, where nothing unwinds, `f` is not ended.
    ///
    /// # Errors
    ///
    /// When `f` was ended, or kept from starting.
    ///
    /// ```
    /// use cosocket::sync::CancelToken;
    /// use cosocket::{Cancelled, thread};
    ///
    /// let token = CancelToken::new();
    /// let mut progress = 0;
    /// let result = token.run(|| {
    ///     progress += 1;
    ///     token.cancel();
    ///     thread::park();
    ///     progress += 1;
    /// });
    /// assert_eq!((result, progress), (Err(Cancelled), 1));
    /// ```
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> Result<T, Cancelled> {
        if self.is_cancelled() {
            return Err(Cancelled);
        }
        let result = limit::until_flag(&self.node.cancelled, || {
            let _within = Within::new(&self.node);
            unwind::catch(f)
        });
        match result {
            Ok(value) => Ok(value),
            // A cancel of the caller's own goes further.
            Err(payload)
                if payload.is::<Cancelled>() && self.is_cancelled() && !wait::is_cancelled() =>
            {
                Err(Cancelled)
            }
            Err(payload) => unwind::unwind(payload),
        }
    }

    /// A guard that cancels the token when it is dropped: at the end of a block, however it ends.
    ///
    /// ```
    /// use cosocket::sync::CancelToken;
    ///
    /// let token = CancelToken::new();
    /// let guard = token.clone().drop_guard();
    /// assert!(!token.is_cancelled());
    /// drop(guard);
    /// assert!(token.is_cancelled());
    /// ```
    pub fn drop_guard(self) -> DropGuard {
        DropGuard { token: Some(self) }
    }
}

impl Default for CancelToken {
    fn default() -> CancelToken {
        CancelToken::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cancelled = self.is_cancelled();
        f.debug_struct("CancelToken").field("is_cancelled", &cancelled).finish_non_exhaustive()
    }
}

impl Node {
    fn new(parent: Option<Arc<Node>>) -> Node {
        Node {
            cancelled: AtomicBool::new(false),
            queue: WaitQueue::new(),
            below: Mutex::default(),
            parent,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Below> {
        // No code of the user's runs under the lock; see `WaitQueue::lock` for poison.
        self.below.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cancelled(&self) -> bool {
        // Acquire: what was done before the cancel is seen.
        self.cancelled.load(Ordering::Acquire)
    }

    fn wait(&self, deadline: Option<Nanos>) -> bool {
        self.queue.wait_until(|| self.is_cancelled(), Reason::CONDITION, deadline)
    }

    /// Sets the flag and wakes who waits; the caller passes it on to what is returned.
    fn cancel(&self) -> Below {
        let mut below = self.lock();
        // Under the lock: who comes later to be adopted or attached finds it set.
        self.cancelled.store(true, Ordering::Release);
        let taken = mem::take(&mut *below);
        // And so is this: who leaves `run` after it is told nothing any more.
        for &(block, generation) in &taken.runs {
            worker::signal(block, generation, ELAPSED);
        }
        drop(below);
        self.queue.wake_all();
        taken
    }

    /// Has the coroutine cancelled with the token.
    fn attach(&self, thread: &Thread) {
        let coroutine = thread.coroutine().expect("spawned");
        let mut below = self.lock();
        if self.is_cancelled() {
            drop(below);
            coroutine.identity().signal(CANCELLED);
            return;
        }
        let goes_on = |coroutine: &Arc<dyn Spawned>| !coroutine.identity().is_done();
        adopt(&mut below.coroutines, Arc::clone(coroutine), goes_on);
    }
}

impl<'a> Within<'a> {
    fn new(node: &'a Node) -> Within<'a> {
        let run = current::worker().map(|worker| {
            let me = worker.current();
            (me, me.signals.generation())
        });
        if let Some((me, generation)) = run {
            let mut below = node.lock();
            if node.is_cancelled() {
                me.signals.record(ELAPSED);
            } else {
                below.runs.push((me, generation));
            }
        }
        Within { node, run }
    }
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        let Some((me, _)) = self.run else { return };
        let mut below = self.node.lock();
        // Not there when it has been told.
        if let Some(place) = below.runs.iter().rposition(|(block, _)| ptr::eq(*block, me)) {
            below.runs.swap_remove(place);
        }
    }
}

/// Adds an entry; when there is no room, those who have gone make some.
fn adopt<E>(list: &mut Vec<E>, entry: E, is_there: impl Fn(&E) -> bool) {
    if list.len() == list.capacity() {
        list.retain(is_there);
        // Room for as many again, so that a look at all of them is paid by as many entries.
        list.reserve(list.len().max(4));
    }
    list.push(entry);
}

impl Drop for Node {
    /// A chain of parents that nobody else holds goes one by one: it may be longer than a stack.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(mut last) = parent.and_then(Arc::into_inner) {
            parent = last.parent.take();
        }
    }
}

/// Cancels its token when it is dropped. See [`CancelToken::drop_guard`].
#[must_use = "the token is cancelled when this is dropped"]
#[derive(Debug)]
pub struct DropGuard {
    token: Option<CancelToken>,
}

impl DropGuard {
    /// Gives the token back; it will not be cancelled.
    #[must_use]
    pub fn disarm(mut self) -> CancelToken {
        self.token.take().expect("taken once")
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(token) = &self.token {
            token.cancel();
        }
    }
}
