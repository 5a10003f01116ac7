//! The epoll driver: tells coroutines when to try again.
//!
//! ```text
//!   coroutine, any worker            kernel                  this worker's turn
//!   attempt -> EAGAIN
//!   register (first time here) ----> epoll
//!   park in the source's read                                epoll_pwait2
//!     or write half, suspend         edge -----------------> token -> source -> event
//!   attempt <----------------------------------------------- woken(waiter)
//! ```
//!
//! A descriptor is registered once per worker that ever had to wait on it, edge-triggered and
//! for both directions; nothing is modified later. A short connection that never waits costs
//! no call, and a long one costs one. Adding a descriptor reports at once what it is ready for,
//! so no edge falls between a failed attempt and the registration after it.
//!
//! The registration ends with [`Source::release`], not with the worker. The epoll descriptor
//! belongs to the worker's index and is never closed: while no worker has the index, edges gather
//! in it, and the next worker reports them to whoever waits by then.
//!
//! Who else may hold the same descriptor number in another source: nobody, at the same time and
//! on one worker. epoll has one registration per number, so the second would be deaf;
//! [`Epoll::register`] refuses it.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::readiness::{Edge, Readiness};
use super::source::Source;
use super::{Turn, Wait};
use crate::clock;
use crate::mailbox::Mailbox;

/// 6 KiB; a worker with more to do finds it at once.
const EVENTS: usize = 512;
/// How many full buffers one turn takes before coroutines get to run.
const BUFFERS_PER_TURN: usize = 4;

/// The doorbell's token; sources have addresses.
const DOORBELL: u64 = 0;

/// PRI: a read stops at TCP's urgent mark, so until then a short one proves nothing.
const SOCKET_EVENTS: i32 =
    libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLET;

/// Set when this process may not call `epoll_pwait2`: seccomp profiles older than it answer
/// ENOSYS, or EPERM.
static PWAIT2_REFUSED: AtomicBool = AtomicBool::new(false);

/// One worker's epoll. Used by the worker's thread only.
#[derive(Debug)]
pub(crate) struct Epoll {
    mailbox: &'static Mailbox,
    epoll: RawFd,
    events: RefCell<Box<[libc::epoll_event; EVENTS]>>,
    system_calls: Cell<u64>,
}

impl Epoll {
    /// The epoll of the mailbox's index, for the worker that owns the mailbox.
    pub(crate) fn open(mailbox: &'static Mailbox) -> io::Result<Epoll> {
        let epoll = mailbox.epoll_or_open(|| {
            let epoll = create()?;
            let doorbell = mailbox.doorbell().as_fd().as_raw_fd();
            add(epoll.as_raw_fd(), doorbell, libc::EPOLLIN | libc::EPOLLET, DOORBELL)?;
            Ok(epoll)
        })?;
        Ok(Epoll {
            mailbox,
            epoll: epoll.as_raw_fd(),
            events: RefCell::new(Box::new([libc::epoll_event { events: 0, u64: 0 }; EVENTS])),
            system_calls: Cell::new(0),
        })
    }

    /// Watches `fd` from now on, unless this worker does already. To be called after an attempt
    /// had to wait, and before [`Readiness::park`].
    ///
    /// Listeners are no class of their own. `EPOLLEXCLUSIVE` would have a connection wake one of
    /// the workers that know a listener; but registrations last, so that one may have nobody to
    /// tell, while those who wait (on a clone, in another process, in a thread's own `accept`)
    /// hear nothing. Without it the workers are woken that are idle and have waited here before.
    ///
    /// # Errors
    ///
    /// `EPERM`: there is nothing to wait for, a regular file is always ready. A used-up quota and
    /// a number that is registered already come with their remedy.
    pub(crate) fn register(&self, fd: RawFd, source: &'static Source) -> io::Result<()> {
        let worker = self.mailbox.index();
        if source.is_registered(worker) {
            return Ok(());
        }
        self.count_call();
        add(self.epoll, fd, SOCKET_EVENTS, source.token()).map_err(|error| explain(error, fd))?;
        source.set_registered(worker);
        Ok(())
    }

    /// Waits for events, once, and hands over every waiter that should try again. Returns
    /// without any when the wait ends or a signal handler ran; never before `Wait::Until`'s
    /// time otherwise.
    ///
    /// A waiter may belong to any worker, and its wait may have ended in the meantime.
    pub(crate) fn turn(&self, wait: Wait, woken: &mut dyn FnMut(*const ())) -> Turn {
        let mut turn = Turn { doorbell: false, entered: true };
        let mut events = self.events.borrow_mut();
        let mut count = self.wait_once(&mut events, wait);
        for _ in 1..BUFFERS_PER_TURN {
            self.dispatch(&events[..count], &mut turn, woken);
            if count < EVENTS {
                return turn;
            }
            count = self.wait_once(&mut events, Wait::Poll);
        }
        self.dispatch(&events[..count], &mut turn, woken);
        turn
    }

    /// How many system calls this driver has made.
    pub(crate) fn system_calls(&self) -> u64 {
        self.system_calls.get()
    }

    fn dispatch(
        &self,
        events: &[libc::epoll_event],
        turn: &mut Turn,
        woken: &mut dyn FnMut(*const ()),
    ) {
        for event in events {
            // By value: on x86-64 the struct is packed.
            let (token, flags) = (event.u64, event.events as i32);
            if token == DOORBELL {
                turn.doorbell = true;
                self.count_call();
                self.mailbox.doorbell().answer();
                continue;
            }
            // SAFETY: every other token in our epoll was a source's.
            let Some(source) = (unsafe { Source::of(token) }) else {
                continue;
            };
            let mut tell = |direction: &Readiness, edge: Option<Edge>| {
                edge.and_then(|edge| direction.event(edge)).map(&mut *woken)
            };
            tell(&source.read, read_edge(flags));
            tell(&source.write, write_edge(flags));
            source.wake_arms(woken);
        }
    }

    /// One wait; how many events it brought.
    fn wait_once(&self, events: &mut [libc::epoll_event; EVENTS], wait: Wait) -> usize {
        let milliseconds = match wait {
            Wait::Poll => 0,
            Wait::Forever => -1,
            Wait::Until(time) => match time.saturating_sub(clock::now()) {
                0 => 0,
                nanoseconds => match self.wait_nanoseconds(events, nanoseconds) {
                    Some(count) => return count,
                    None => round_up_to_milliseconds(nanoseconds),
                },
            },
        };
        self.count_call();
        // SAFETY: the buffer is ours to write and as long as we say.
        let count = unsafe {
            libc::epoll_wait(self.epoll, events.as_mut_ptr(), EVENTS as i32, milliseconds)
        };
        if count >= 0 { count as usize } else { after_failure(io::Error::last_os_error()) }
    }

    /// One wait with a fine timeout; None if the system call is not to be had.
    fn wait_nanoseconds(
        &self,
        events: &mut [libc::epoll_event; EVENTS],
        nanoseconds: u64,
    ) -> Option<usize> {
        if PWAIT2_REFUSED.load(Ordering::Relaxed) {
            return None;
        }
        // The kernel's own layout, which 64-bit libcs share.
        let timeout = libc::timespec {
            tv_sec: (nanoseconds / 1_000_000_000) as libc::time_t,
            tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
        };
        self.count_call();
        // SAFETY: the buffer is ours to write and as long as we say, the timeout ours to read;
        // no signal mask is passed.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll,
                events.as_mut_ptr(),
                EVENTS as i32,
                &raw const timeout,
                ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        if count >= 0 {
            return Some(count as usize);
        }
        let error = io::Error::last_os_error();
        if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
            PWAIT2_REFUSED.store(true, Ordering::Relaxed);
            return None;
        }
        Some(after_failure(error))
    }

    fn count_call(&self) {
        self.system_calls.set(self.system_calls.get() + 1);
    }
}

/// The other side's end arrives as RDHUP, perhaps with data before it; HUP and ERR end both.
/// Urgent data is no end, but like one it may have more to read behind a short read.
fn read_edge(flags: i32) -> Option<Edge> {
    if flags & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLPRI) != 0 {
        Some(Edge::Closed)
    } else {
        (flags & libc::EPOLLIN != 0).then_some(Edge::Ready)
    }
}

fn write_edge(flags: i32) -> Option<Edge> {
    if flags & (libc::EPOLLHUP | libc::EPOLLERR) != 0 {
        Some(Edge::Closed)
    } else {
        (flags & libc::EPOLLOUT != 0).then_some(Edge::Ready)
    }
}

/// Up, since a wait that ends early would be repeated until the last millisecond is over.
fn round_up_to_milliseconds(nanoseconds: u64) -> i32 {
    nanoseconds.div_ceil(1_000_000).min(i32::MAX as u64) as i32
}

/// A wait was interrupted, which the caller's loop sees to; nothing else can go wrong with it.
fn after_failure(error: io::Error) -> usize {
    assert_eq!(error.kind(), io::ErrorKind::Interrupted, "waiting on epoll failed: {error}");
    0
}

fn create() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn add(epoll: RawFd, fd: RawFd, events: i32, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: token };
    // SAFETY: `event` is read during the call only.
    match unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn explain(error: io::Error, fd: RawFd) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => io::Error::new(
            io::ErrorKind::QuotaExceeded,
            "this user's epoll registrations are used up: raise the sysctl \
             fs.epoll.max_user_watches (a registration counts once per socket and worker)",
        ),
        Some(libc::EEXIST) => io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("descriptor {fd} is waited on through another object already: duplicate it"),
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests;
