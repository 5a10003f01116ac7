//! What one `block_on` waits for: its waker, and the sockets that its future found not ready.
//!
//! ```text
//!   registered           before the next suspension      the arm is done: its waker is woken
//!   by a poll  ---> [ ] ----------------------------> [arm] --------------------------------> out
//!                    |                                  |
//!                    '--- the handle is dropped, or is polled by another block_on ---> out,
//!                         and its arm has ended before the coroutine suspends again
//! ```
//!
//! An arm stays armed from poll to poll: a connection that writes while a read is pending costs
//! nothing for the read.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::notifier::Notifier;
use crate::clock;
use crate::current;
use crate::io_handle::poll_arm::{PollArm, wait_on_thread};
use crate::io_handle::{AsIoHandle, Direction, IoHandle};
use crate::limit;
use crate::wait::{self, Kind, Reason, Signal};

/// Socket calls of one poll that may succeed before the others of the worker get their turn.
const CALLS_PER_POLL: u32 = 128;

crate::coroutine_local! {
    static CURRENT: RefCell<Option<Rc<Reactor>>> = RefCell::new(None);
}

/// One per `block_on`, and used by its coroutine or thread alone.
pub(super) struct Reactor {
    notifier: Arc<Notifier>,
    entries: RefCell<Vec<Entry>>,
    calls_left: Cell<u32>,
}

struct Entry {
    registration: Arc<Registration>,
    direction: Direction,
    waker: Waker,
    arm: Option<PollArm<Registered>>,
}

/// What a handle (one clone of a socket) shares with whoever waits on it.
pub(super) struct Registration {
    socket: Arc<dyn AsIoHandle + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Nobody will poll the handle again.
    is_dropped: bool,
    /// Who polled it last, in each direction, and found it not ready.
    owners: [Option<Arc<Notifier>>; 2],
    /// Waiting for it failed; for the next poll.
    error: Option<io::Error>,
}

/// Keeps the socket open while an arm waits on it.
struct Registered(Arc<Registration>);

impl Deref for Registered {
    type Target = IoHandle;

    fn deref(&self) -> &IoHandle {
        self.0.socket.as_io_handle()
    }
}

impl Registration {
    pub(super) fn new(socket: Arc<dyn AsIoHandle + Send + Sync>) -> Arc<Registration> {
        Arc::new(Registration { socket, state: Mutex::default() })
    }

    /// Called when the handle is dropped. Whoever still has an arm on the socket ends it.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        state.is_dropped = true;
        let owners = std::mem::take(&mut state.owners);
        drop(state);
        owners.into_iter().flatten().for_each(|owner| owner.notify());
    }

    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.lock().error.take()
    }

    /// Makes `owner` the one who waits. The one before, if it is another, lets go.
    fn own(&self, direction: Direction, owner: &Arc<Notifier>) {
        let mut state = self.lock();
        let last = &mut state.owners[direction as usize];
        if last.as_ref().is_some_and(|last| Arc::ptr_eq(last, owner)) {
            return;
        }
        let last = last.replace(Arc::clone(owner));
        drop(state);
        if let Some(last) = last {
            last.notify();
        }
    }

    fn is_owned_by(&self, direction: Direction, owner: &Arc<Notifier>) -> bool {
        let state = self.lock();
        let last = &state.owners[direction as usize];
        !state.is_dropped && last.as_ref().is_some_and(|last| Arc::ptr_eq(last, owner))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reactor {
    pub(super) fn new() -> Reactor {
        Reactor {
            notifier: Arc::new(Notifier::new()),
            entries: RefCell::default(),
            calls_left: Cell::new(0),
        }
    }

    /// That of the innermost `block_on` around.
    pub(super) fn current() -> Option<Rc<Reactor>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    pub(super) fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }

    pub(super) fn begin_poll(&self) {
        self.calls_left.set(CALLS_PER_POLL);
    }

    /// Whether another call may be made in this poll. If not, the future is to be polled again
    /// after others had their turn.
    pub(super) fn may_call(&self) -> bool {
        let left = self.calls_left.get();
        self.calls_left.set(left.saturating_sub(1));
        left > 0
    }

    /// Has `waker` woken when the socket is ready. The last waker of a handle counts, as futures
    /// expect.
    pub(super) fn register(
        &self,
        registration: &Arc<Registration>,
        direction: Direction,
        waker: &Waker,
    ) {
        registration.own(direction, &self.notifier);
        let mut entries = self.entries.borrow_mut();
        let known = entries.iter_mut().find(|entry| {
            entry.direction == direction && Arc::ptr_eq(&entry.registration, registration)
        });
        let _replaced = match known {
            Some(entry) if entry.waker.will_wake(waker) => None,
            Some(entry) => Some(std::mem::replace(&mut entry.waker, waker.clone())),
            None => {
                let (registration, waker) = (Arc::clone(registration), waker.clone());
                entries.push(Entry { registration, direction, waker, arm: None });
                None
            }
        };
        // Before the waker that was replaced, whose drop may be anybody's code.
        drop(entries);
    }

    /// Waits until the future is worth another poll.
    pub(super) fn wait(&self) {
        loop {
            self.let_go();
            if self.notifier.take() {
                break;
            }
            self.arm();
            // Both: a socket's waker is mostly this one's own.
            if self.wake_ready() | self.notifier.take() {
                break;
            }
            self.suspend();
        }
        if let Some(worker) = current::worker() {
            match self.calls_left.get() {
                0 => worker.yield_now(),
                _ => worker.charge(),
            }
        }
        raise_if_interrupted();
    }

    /// Ends the waits for handles that were dropped, or that others wait on now.
    fn let_go(&self) {
        let is_lost =
            |entry: &Entry| !entry.registration.is_owned_by(entry.direction, &self.notifier);
        self.entries.borrow().iter().filter(|entry| is_lost(entry)).for_each(Entry::cancel);
        while let Some(entry) = self.take_out(is_lost) {
            drop(entry);
        }
    }

    fn arm(&self) {
        for entry in &mut *self.entries.borrow_mut() {
            if entry.arm.is_none() {
                entry.arm = entry.start();
            }
        }
    }

    /// Wakes the wakers of sockets that are ready, or cannot be waited for; whether there were any.
    fn wake_ready(&self) -> bool {
        let mut any = false;
        while let Some(entry) =
            self.take_out(|entry| entry.arm.as_ref().is_none_or(PollArm::is_done))
        {
            if let Some(Err(error)) = entry.arm.map(PollArm::finish) {
                entry.registration.lock().error = Some(error);
            }
            entry.waker.wake();
            any = true;
        }
        any
    }

    fn take_out(&self, choose: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let mut entries = self.entries.borrow_mut();
        let position = entries.iter().position(choose)?;
        Some(entries.swap_remove(position))
    }

    fn suspend(&self) {
        let entries = self.entries.borrow();
        let mut arms = entries.iter().filter_map(|entry| entry.arm.as_ref()).peekable();
        let Some(worker) = current::worker() else {
            let limit = limit::of_thread(false);
            if arms.peek().is_some() {
                if let Some(bell) = self.notifier.bell() {
                    wait_on_thread(arms, bell, limit);
                }
            } else if let Some(limit) = limit {
                let left = limit.saturating_sub(clock::now());
                std::thread::park_timeout(Duration::from_nanos(left));
            } else {
                std::thread::park();
            }
            drop(entries);
            raise_if_interrupted();
            return;
        };
        let fd = arms.peek().map_or(-1, |arm| arm.fd());
        if wait::suspend(worker, Reason::io(Kind::Future, fd), None, false) == Signal::Cancelled {
            drop(entries);
            wait::raise_cancelled();
        }
    }
}

/// Ends a future that never suspends, too.
fn raise_if_interrupted() {
    let is_interrupted = match current::worker() {
        Some(worker) => wait::is_cancellable(worker),
        None => wait::is_elapsed() && !std::thread::panicking(),
    };
    if is_interrupted {
        wait::raise_cancelled();
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        // All at once; then they end one by one.
        self.entries.get_mut().iter().for_each(Entry::cancel);
    }
}

impl Entry {
    fn start(&self) -> Option<PollArm<Registered>> {
        let events = match self.direction {
            Direction::Read => libc::POLLIN,
            Direction::Write => libc::POLLOUT,
        };
        match PollArm::start(Registered(Arc::clone(&self.registration)), events) {
            Ok(arm) => Some(arm),
            Err(error) => {
                self.registration.lock().error = Some(error);
                None
            }
        }
    }

    fn cancel(&self) {
        if let Some(arm) = &self.arm {
            arm.cancel();
        }
    }
}

/// Makes `reactor` the one that sockets register with, until the guard is dropped.
pub(super) fn enter(reactor: &Rc<Reactor>) -> Entered {
    let outer = exchange(Some(Rc::clone(reactor)));
    Entered { outer }
}

pub(super) struct Entered {
    outer: Option<Rc<Reactor>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        exchange(self.outer.take());
    }
}

/// Does nothing while the coroutine's locals are being destroyed: then sockets find no reactor, and
/// say so.
fn exchange(reactor: Option<Rc<Reactor>>) -> Option<Rc<Reactor>> {
    CURRENT.try_with(|current| current.replace(reactor)).ok().flatten()
}
