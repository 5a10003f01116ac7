//! What a signal handler rings, and everyone who waits for a signal listens to.
//!
//! ```text
//!   handler: counts the signal, then writes to the current event --> all who wait on it look at
//!                                                                    their signals' counts
//!
//!   waiter:  takes the current event, unless it has rung: then an idle or a new one becomes it;
//!            looks at its signals' counts once more; waits
//! ```
//!
//! An event is an eventfd that stays readable once it has rung, so that no waiter can take the
//! news away from another. It is emptied when it becomes the current one again, which happens
//! only when nobody waits on it. Events are never closed: a handler that was interrupted between
//! its two steps writes to an event, never to a stranger's descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::doorbell::Doorbell;
use crate::io_handle::IoHandle;

/// Lives for ever, so that the handler may follow a pointer to it at any time.
struct Event {
    io: IoHandle,
    /// Calls that wait on it, or are about to. Raised under the lock of `EVENTS` only.
    waiters: AtomicUsize,
}

/// What the handler writes to.
static CURRENT: AtomicPtr<Event> = AtomicPtr::new(ptr::null_mut());
static EVENTS: Mutex<Vec<&'static Event>> = Mutex::new(Vec::new());

/// Rings the current event: one load and one system call, for a handler that has counted the
/// signal before. (That, and what `Listener` does, are sequentially consistent: either the handler
/// finds the listener's event, or the listener finds the count.)
pub(super) fn ring() {
    // SAFETY: null, or an event, and those live for ever.
    if let Some(event) = unsafe { CURRENT.load(Ordering::SeqCst).as_ref() } {
        // SAFETY: eight readable bytes. A full counter is readable just as well.
        unsafe { libc::write(event.fd(), 1_u64.to_ne_bytes().as_ptr().cast(), 8) };
    }
}

/// One call's place at an event: what rings from now on ends its wait.
pub(super) struct Listener(&'static Event);

impl Listener {
    pub(super) fn new() -> io::Result<Listener> {
        let mut events = EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: null, or an event, and those live for ever.
        let current = unsafe { CURRENT.load(Ordering::SeqCst).as_ref() };
        let event = match current {
            Some(event) if !event.has_rung() => event,
            _ => Event::fresh(&mut events)?,
        };
        CURRENT.store(ptr::from_ref(event).cast_mut(), Ordering::SeqCst);
        event.waiters.fetch_add(1, Ordering::Relaxed);
        Ok(Listener(event))
    }

    /// Waits for the ring.
    pub(super) fn wait(&self) -> io::Result<()> {
        self.0.io.wait_ready(libc::POLLIN, None).map(drop)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::Release);
    }
}

impl Event {
    /// One that has not rung: an old one on which nobody waits any more, or a new one.
    fn fresh(events: &mut Vec<&'static Event>) -> io::Result<&'static Event> {
        let idle = |event: &&&Event| event.waiters.load(Ordering::Acquire) == 0;
        if let Some(event) = events.iter().find(idle) {
            let mut count = [0_u8; 8];
            // SAFETY: eight writable bytes. It does not block; if it has not rung it stays empty.
            unsafe { libc::read(event.fd(), count.as_mut_ptr().cast(), count.len()) };
            return Ok(event);
        }
        let io = IoHandle::adopt(OwnedFd::from(Doorbell::new()?));
        let event: &Event = Box::leak(Box::new(Event { io, waiters: AtomicUsize::new(0) }));
        events.push(event);
        Ok(event)
    }

    fn has_rung(&self) -> bool {
        let mut entry = libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, valid for the call.
        unsafe { libc::poll(&mut entry, 1, 0) > 0 }
    }

    fn fd(&self) -> libc::c_int {
        self.io.as_fd().as_raw_fd()
    }
}
