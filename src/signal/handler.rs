//! Our signal handler, and those that were there before it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::event;
use crate::overflow::action;

/// Signals are numbered from 1 to 64.
const NUMBERS: usize = 65;

/// How often each signal has come.
static COUNTS: [AtomicU64; NUMBERS] = [const { AtomicU64::new(0) }; NUMBERS];
/// The action of each before ours.
static PREVIOUS: [OnceLock<libc::sigaction>; NUMBERS] = [const { OnceLock::new() }; NUMBERS];
/// Which signals have our handler: a bit each.
static INSTALLED: Mutex<u128> = Mutex::new(0);

/// How often `signal`, for which our handler is installed, has come.
pub(super) fn count(signal: i32) -> u64 {
    COUNTS[signal as usize].load(Ordering::SeqCst)
}

/// Whether `signal` is one that can be waited for.
pub(super) fn check(signal: i32) -> io::Result<()> {
    let reason = match signal {
        libc::SIGKILL | libc::SIGSTOP => "the kernel lets nobody handle it",
        libc::SIGSEGV
        | libc::SIGBUS
        | libc::SIGILL
        | libc::SIGFPE
        | libc::SIGTRAP
        | libc::SIGSYS => {
            "it is raised by an instruction, which would be run again and again: it cannot be \
             handled by whoever waits"
        }
        1..NUMBER_END if is_taken_by_libc(signal) => "the C library keeps it for itself",
        1..NUMBER_END => return Ok(()),
        _ => "there is no such signal",
    };
    let message = format!("cannot wait for signal {signal}: {reason}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

const NUMBER_END: i32 = NUMBERS as i32;

/// Those between the classical ones and SIGRTMIN: for cancelling threads, and the like.
fn is_taken_by_libc(signal: i32) -> bool {
    (32..libc::SIGRTMIN()).contains(&signal)
}

/// Puts our handler in place of the present one, which is kept, unless it has been done.
pub(super) fn install(signal: i32) -> io::Result<()> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed & 1 << signal == 0 {
        let present = action::query(signal)?;
        PREVIOUS[signal as usize].get_or_init(|| present);
        let ours: action::Handler = on_signal;
        let flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        let ours = libc::sigaction {
            sa_sigaction: ours as libc::sighandler_t,
            sa_flags: flags,
            ..present
        };
        action::change(signal, &ours)?;
        *installed |= 1 << signal;
    }
    Ok(())
}

/// Counts, makes one system call, and goes on to the handler before.
extern "C" fn on_signal(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: this thread's errno, which the interrupted code may be using.
    let errno = unsafe { *libc::__errno_location() };
    COUNTS[signal as usize].fetch_add(1, Ordering::SeqCst);
    event::ring();
    if let Some(previous) = PREVIOUS[signal as usize].get()
        && !matches!(previous.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN)
    {
        // SAFETY: whoever set the action vouched for it; the arguments are the kernel's.
        unsafe { action::call(previous.sa_sigaction, previous.sa_flags, signal, info, context) };
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}
