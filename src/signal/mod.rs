//! Signals of the operating system, as waits.
//!
//! ```text
//!   SIGINT --> handler: writes to the current event -----> everyone who waits on it goes on
//!                       then the handler that was there before
//!
//!   ctrl_c --> the current event, unless it has rung: then an idle or a new one takes its place
//! ```
//!
//! An event is an eventfd that stays readable once it has rung, so that no waiter can take the
//! signal away from another. It is emptied when it becomes the current one again, which happens
//! only when nobody waits on it. Events are never closed: a handler that was interrupted between
//! its two steps writes to an event, never to a stranger's descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::doorbell::Doorbell;
use crate::io_handle::IoHandle;
use crate::overflow::action;

/// Waits for SIGINT, which Ctrl-C sends to the program in the foreground.
///
/// Inside a coroutine the coroutine waits, on a plain thread the thread. All who wait go on; a
/// later call waits for a later signal. A signal that comes while nobody waits is not remembered.
///
/// The first call installs a handler, for the rest of the process: from then on SIGINT does not
/// end the program by itself. A handler that was there before is still called.
///
/// # Errors
///
/// The system's, when there is no descriptor left for an eventfd (`EMFILE`), or where a sandbox
/// forbids `sigaction`. In a coroutine that unwinds, "coroutine is unwinding".
///
/// # Cancel
///
/// A cancel of the coroutine ends the wait by unwinding, as everywhere.
///
/// ```no_run
/// use cosocket::{net::TcpListener, signal, thread};
///
/// cosocket::run(|| {
///     let listener = TcpListener::bind("127.0.0.1:7000")?;
///     let server = thread::spawn(move || {
///         for stream in listener.incoming().flatten() {
///             thread::spawn(move || drop(stream));
///         }
///     });
///     signal::ctrl_c()?;
///     server.cancel(); // no more connections; those that are open end with `run`
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub fn ctrl_c() -> io::Result<()> {
    let waiting = Waiting::begin()?;
    waiting.0.io.wait_ready(libc::POLLIN, None).map(drop)
}

/// Lives for ever, so that the handler may follow a pointer to it at any time.
struct Event {
    io: IoHandle,
    /// Calls that wait on it, or are about to. Raised under the lock of `EVENTS` only.
    waiters: AtomicUsize,
}

/// What the handler writes to.
static CURRENT: AtomicPtr<Event> = AtomicPtr::new(ptr::null_mut());
static EVENTS: Mutex<Vec<&'static Event>> = Mutex::new(Vec::new());
/// Written under the lock of `EVENTS`.
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
/// The action of SIGINT before ours.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// One call's place at an event.
struct Waiting(&'static Event);

impl Waiting {
    fn begin() -> io::Result<Waiting> {
        let mut events = EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: null, or an event, and those live for ever.
        let current = unsafe { CURRENT.load(Ordering::Acquire).as_ref() };
        let event = match current {
            Some(event) if !event.has_rung() => event,
            _ => Event::fresh(&mut events)?,
        };
        CURRENT.store(ptr::from_ref(event).cast_mut(), Ordering::Release);
        if !IS_INSTALLED.load(Ordering::Relaxed) {
            install()?;
            IS_INSTALLED.store(true, Ordering::Relaxed);
        }
        event.waiters.fetch_add(1, Ordering::Relaxed);
        Ok(Waiting(event))
    }
}

impl Drop for Waiting {
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

/// Puts our handler in place of the present one, which is kept.
fn install() -> io::Result<()> {
    let present = action::query(libc::SIGINT)?;
    PREVIOUS.get_or_init(|| present);
    let ours: action::Handler = on_interrupt;
    let flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    let ours =
        libc::sigaction { sa_sigaction: ours as libc::sighandler_t, sa_flags: flags, ..present };
    action::change(libc::SIGINT, &ours)
}

/// Loads two words, makes one system call, and goes on to the handler before.
extern "C" fn on_interrupt(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: this thread's errno, which the interrupted code may be using.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: null, or an event, and those live for ever.
    if let Some(event) = unsafe { CURRENT.load(Ordering::Acquire).as_ref() } {
        // SAFETY: eight readable bytes. A full counter is readable just as well.
        unsafe { libc::write(event.fd(), 1_u64.to_ne_bytes().as_ptr().cast(), 8) };
    }
    if let Some(previous) = PREVIOUS.get()
        && !matches!(previous.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN)
    {
        // SAFETY: whoever set the action vouched for it; the arguments are the kernel's.
        unsafe { action::call(previous.sa_sigaction, previous.sa_flags, signal, info, context) };
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}
