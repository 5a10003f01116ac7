//! Stack overflow: from a fault in a guard to a message that names the coroutine.
//!
//! ```text
//!    SIGSEGV, SIGBUS --> on the worker's signal stack:
//!       a memory fault, in the guard of the coroutine that runs here?
//!          yes: one line to standard error; the previous action is put back; return.
//!               The instruction faults again, and that action ends the process.
//!          no:  do as the kernel would have done, had we not been here.
//! ```
//!
//! The handler allocates nothing, takes no lock and writes once, by `write(2)`. It does not try to
//! rescue the process: the frames above the overflow hold borrowed state and cannot be unwound.

pub(crate) mod action;
mod signal_stack;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write};
use std::io;
use std::ops::Range;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use action::Previous;
pub(crate) use signal_stack::SignalStack;

/// The coroutine that runs on this thread.
#[derive(Debug)]
pub(crate) struct Subject {
    /// An access to these addresses is an overflow.
    pub(crate) guard: Range<usize>,
    /// What the user asked for, or the default.
    pub(crate) size_bytes: usize,
    pub(crate) id: u64,
    pub(crate) name: Option<NonNull<str>>,
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) worker: usize,
}

/// Reports overflows of the coroutine that `subject` names, from now on and for the whole
/// process. Only the first call does anything; where it fails the next one tries again.
///
/// Fails where a sandbox forbids `sigaction`.
///
/// # Safety
///
/// `subject` runs in a signal handler: it may not allocate, lock or panic. It answers for the
/// calling thread, with a name that is valid as long as that thread does not return from the
/// handler.
pub(crate) unsafe fn install(subject: fn() -> Option<Subject>) -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*installed {
        SUBJECT.store(subject as *mut (), Ordering::Release);
        Previous::replace(libc::SIGSEGV, on_fault)?;
        Previous::replace(libc::SIGBUS, on_fault)?;
        *installed = true;
    }
    Ok(())
}

/// The hook, as a pointer; null before `install`.
static SUBJECT: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the C library's variable of this thread; the interrupted code may be using it.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel passes a valid one to an `SA_SIGINFO` handler.
    let fault = Fault::of(signal, unsafe { &*info });
    let overflowed = fault.address.and_then(|address| {
        let subject = current_subject()?;
        subject.guard.contains(&address).then_some((subject, address))
    });
    let previous = Previous::of(signal);
    match overflowed {
        Some((subject, address)) => {
            report(&subject, address);
            previous.restore();
        }
        // SAFETY: the arguments are the kernel's own, for this signal.
        None => unsafe { previous.act(signal, info, context, fault.recurs) },
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// What the kernel says about a signal.
struct Fault {
    /// Of a memory access that failed. A signal somebody sent has none.
    address: Option<usize>,
    /// Whether the instruction raises it again when the handler returns.
    recurs: bool,
}

impl Fault {
    fn of(signal: libc::c_int, info: &libc::siginfo_t) -> Fault {
        const SEGV_MAPERR: libc::c_int = 1;
        const SEGV_ACCERR: libc::c_int = 2;
        /// A memory error was found, but not by the code that was interrupted.
        const BUS_MCEERR_AO: libc::c_int = 5;
        let by_access = match signal {
            libc::SIGSEGV => matches!(info.si_code, SEGV_MAPERR | SEGV_ACCERR),
            _ => info.si_code == libc::BUS_ADRERR,
        };
        let by_kernel = info.si_code > 0;
        let elsewhere = signal == libc::SIGBUS && info.si_code == BUS_MCEERR_AO;
        Fault {
            // SAFETY: signals of these codes carry an address.
            address: by_access.then(|| unsafe { info.si_addr() }.addr()),
            recurs: by_kernel && !elsewhere,
        }
    }
}

fn current_subject() -> Option<Subject> {
    let subject = SUBJECT.load(Ordering::Acquire);
    if subject.is_null() {
        return None;
    }
    // SAFETY: only `install` stores to it, and only a function of this type.
    let subject: fn() -> Option<Subject> = unsafe { std::mem::transmute(subject) };
    subject()
}

fn report(subject: &Subject, address: usize) {
    let mut line = Line::new();
    // A line that is too long is cut.
    let _ = write!(line, "{}", Report { subject, address });
    line.print();
}

struct Report<'a> {
    subject: &'a Subject,
    address: usize,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subject { guard: _, size_bytes, id, name, spawned_at, worker } = self.subject;
        write!(out, "cosocket: coroutine {id} ")?;
        if let Some(name) = name {
            // SAFETY: `install`'s caller vouches for the name.
            let name = unsafe { name.as_ref() };
            write!(out, "{:?} ", &name[..name.floor_char_boundary(LONGEST_NAME)])?;
        }
        write!(
            out,
            "overflowed its stack of {size_bytes} bytes (worker {worker}, fault at {:#x}); \
             spawned at {spawned_at}. Larger stacks: Builder::stack_size or \
             thread::Builder::stack_size.",
            self.address
        )
    }
}

/// What follows a name matters more than the end of it.
const LONGEST_NAME: usize = 100;

/// A line of text of limited length, in no other memory than its own.
struct Line {
    bytes: [u8; 1024],
    len: usize,
}

impl Line {
    fn new() -> Line {
        Line { bytes: [0; 1024], len: 0 }
    }

    fn print(mut self) {
        // `write_str` leaves room for it.
        self.bytes[self.len] = b'\n';
        let mut left = &self.bytes[..=self.len];
        while !left.is_empty() {
            // SAFETY: the kernel reads our own buffer.
            let written = unsafe { libc::write(2, left.as_ptr().cast(), left.len()) };
            match usize::try_from(written) {
                Ok(written) => left = &left[written..],
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.len;
        let fits = text.floor_char_boundary(room);
        self.bytes[self.len..][..fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
