//! The signal actions that were there before ours, and how to do what they say.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;

/// What the kernel calls.
pub(crate) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// The previous action of one signal.
pub(super) struct Previous {
    signal: libc::c_int,
    action: UnsafeCell<MaybeUninit<libc::sigaction>>,
}

// SAFETY: `action` is written by `replace` only, before the handler that reads it is installed.
unsafe impl Sync for Previous {}

static SEGV: Previous = Previous::new(libc::SIGSEGV);
static BUS: Previous = Previous::new(libc::SIGBUS);

impl Previous {
    const fn new(signal: libc::c_int) -> Previous {
        Previous { signal, action: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Keeps the present action of `signal` and puts `handler` in its place. The caller sees to
    /// it that no two threads do so at a time. Doing it again is harmless where the first time
    /// failed, or succeeded.
    pub(super) fn replace(signal: libc::c_int, handler: Handler) -> io::Result<()> {
        let present = query(signal)?;
        if present.sa_sigaction == handler as libc::sighandler_t {
            return Ok(());
        }
        // The mask, and whether calls are restarted, are a matter of the handler we may call.
        let inherited = present.sa_flags & (libc::SA_RESTART | libc::SA_NODEFER);
        let ours = libc::sigaction {
            sa_sigaction: handler as libc::sighandler_t,
            sa_flags: libc::SA_SIGINFO | libc::SA_ONSTACK | inherited,
            ..present
        };
        // SAFETY: ours is not installed, so that nobody reads it.
        unsafe { (*Previous::of(signal).action.get()).write(present) };
        change(signal, &ours)
    }

    /// What was there before `replace`, to be used by the handler.
    pub(super) fn of(signal: libc::c_int) -> &'static Previous {
        if signal == SEGV.signal { &SEGV } else { &BUS }
    }

    /// Puts it back.
    pub(super) fn restore(&self) {
        // A failure here would be the process's last; it is about to die anyway.
        let _ = change(self.signal, self.action());
    }

    /// Does what the kernel would have done, with the arguments it gave us.
    ///
    /// `recurs` says that the instruction will fault again when the handler returns.
    ///
    /// # Safety
    ///
    /// The arguments are those of a handler called by the kernel.
    pub(super) unsafe fn act(
        &self,
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
        recurs: bool,
    ) {
        let action = self.action();
        match action.sa_sigaction {
            libc::SIG_DFL => {
                self.restore();
                if !recurs {
                    // Blocked until the handler returns.
                    // SAFETY: plain numbers.
                    unsafe { libc::raise(signal) };
                }
            }
            // A fault cannot be ignored: the kernel kills when it recurs.
            libc::SIG_IGN if recurs => self.restore(),
            libc::SIG_IGN => {}
            handler => {
                if action.sa_flags & libc::SA_RESETHAND != 0 {
                    let _ =
                        change(signal, &libc::sigaction { sa_sigaction: libc::SIG_DFL, ..*action });
                }
                // SAFETY: whoever set the action vouched that it is a function of the type that
                // its flags say, for such arguments.
                unsafe { call(handler, action.sa_flags, signal, info, context) };
            }
        }
    }

    fn action(&self) -> &libc::sigaction {
        // SAFETY: written before the handler was installed; only the handler gets here.
        unsafe { (*self.action.get()).assume_init_ref() }
    }
}

/// Calls a handler with what the kernel gave ours.
///
/// # Safety
///
/// `handler` is a function of the type that `flags` say; the arguments are the kernel's.
pub(crate) unsafe fn call(
    handler: libc::sighandler_t,
    flags: libc::c_int,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    if flags & libc::SA_SIGINFO != 0 {
        // SAFETY: as the caller vouches.
        let handler: Handler = unsafe { std::mem::transmute(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: as the caller vouches.
        let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
        handler(signal);
    }
}

/// The present action of `signal`.
pub(crate) fn query(signal: libc::c_int) -> io::Result<libc::sigaction> {
    let mut action = MaybeUninit::uninit();
    // SAFETY: the kernel writes to our own variable.
    match unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } {
        // SAFETY: written, as the call succeeded.
        0 => Ok(unsafe { action.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the action of `signal`.
pub(crate) fn change(signal: libc::c_int, action: &libc::sigaction) -> io::Result<()> {
    // SAFETY: an action that was set already, or ours, which is a function of the right type.
    match unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
