//! What a socket's user has set: blocking or not, and for how long to wait.
//!
//! In std this is kernel state, shared by all clones of a socket. Ours is written to the kernel
//! as well, so that conversions and plain threads find it there, and mirrored here, so that a
//! coroutine need not ask.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use socket2::SockRef;

use super::Direction;

/// Nanoseconds; 0 is "no timeout".
type Stored = AtomicU64;

/// Clones share one. Of a socket that we made there are no settings before somebody sets something,
/// or clones it: they would be memory that every call looks at, to find nothing.
#[derive(Debug)]
pub(crate) struct Mode(OnceLock<Arc<Settings>>);

#[derive(Debug, Default)]
struct Settings {
    /// The user asked for `WouldBlock` in place of waiting.
    nonblocking: AtomicBool,
    /// We set O_NONBLOCK, for calls that have no flag of their own; the user does not know.
    borrowed_nonblocking: AtomicBool,
    /// The descriptor came from outside: ask the kernel for its settings before the first wait.
    unknown: AtomicBool,
    read_timeout_ns: Stored,
    write_timeout_ns: Stored,
}

impl Mode {
    /// Of a socket that we made.
    pub(crate) const fn fresh() -> Mode {
        Mode(OnceLock::new())
    }

    /// Of a descriptor that somebody else made.
    pub(crate) fn adopted() -> Mode {
        Mode(OnceLock::from(Arc::new(Settings { unknown: true.into(), ..Settings::default() })))
    }

    /// For another descriptor of the same socket.
    pub(crate) fn share(&self) -> Mode {
        Mode(OnceLock::from(Arc::clone(self.settings())))
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.0.get().is_some_and(|settings| Arc::strong_count(settings) > 1)
    }

    fn settings(&self) -> &Arc<Settings> {
        self.0.get_or_init(Arc::default)
    }

    #[inline]
    pub(crate) fn is_nonblocking(&self, fd: BorrowedFd<'_>) -> bool {
        self.learnt(fd).is_some_and(|settings| settings.nonblocking.load(Ordering::Relaxed))
    }

    /// Whether it is known to be in blocking mode: then the timeouts are known, too.
    #[inline]
    pub(super) fn is_blocking(&self) -> bool {
        self.0.get().is_none_or(|settings| {
            !settings.unknown.load(Ordering::Acquire)
                && !settings.nonblocking.load(Ordering::Relaxed)
        })
    }

    /// As `is_nonblocking`, where the kernel has just behaved like it: somebody may have set the
    /// flag through a descriptor that we know nothing of.
    #[cold]
    pub(crate) fn became_nonblocking(&self, fd: BorrowedFd<'_>) -> bool {
        if !self.is_nonblocking(fd) && !self.is_borrowed_nonblocking() {
            let nonblocking = kernel_is_nonblocking(fd);
            self.settings().nonblocking.store(nonblocking, Ordering::Relaxed);
        }
        self.is_nonblocking(fd)
    }

    pub(crate) fn set_nonblocking(&self, fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
        self.learnt(fd);
        SockRef::from(&fd).set_nonblocking(nonblocking)?;
        let settings = self.settings();
        settings.borrowed_nonblocking.store(false, Ordering::Relaxed);
        settings.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    #[inline]
    pub(crate) fn timeout(&self, fd: BorrowedFd<'_>, direction: Direction) -> Option<Duration> {
        self.learnt(fd);
        self.known_timeout(direction)
    }

    /// The timeout, where the kernel need not be asked.
    #[inline]
    pub(super) fn known_timeout(&self, direction: Direction) -> Option<Duration> {
        match self.0.get()?.timeout_of(direction).load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    pub(crate) fn set_timeout(
        &self,
        fd: BorrowedFd<'_>,
        direction: Direction,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            let message = "cannot set a 0 duration timeout; `None` means to wait for ever";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.learnt(fd);
        let socket = SockRef::from(&fd);
        // The kernel counts in microseconds and takes 0 for "for ever": round up.
        let kernel = timeout.map(|timeout| timeout.max(Duration::from_micros(1)));
        match direction {
            Direction::Read => socket.set_read_timeout(kernel)?,
            Direction::Write => socket.set_write_timeout(kernel)?,
        }
        let nanos =
            timeout.map_or(0, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        self.settings().timeout_of(direction).store(nanos, Ordering::Relaxed);
        Ok(())
    }

    /// Makes `accept` and `connect`, which have no flag for it, return instead of block.
    #[inline]
    pub(crate) fn borrow_nonblocking(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        if self.is_nonblocking(fd) || self.is_borrowed_nonblocking() {
            return Ok(());
        }
        SockRef::from(&fd).set_nonblocking(true)?;
        self.settings().borrowed_nonblocking.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn is_borrowed_nonblocking(&self) -> bool {
        let settings = self.0.get();
        settings.is_some_and(|settings| settings.borrowed_nonblocking.load(Ordering::Acquire))
    }

    /// Undoes `borrow_nonblocking`, before the descriptor is handed out.
    pub(crate) fn return_nonblocking(&self, fd: BorrowedFd<'_>) {
        let Some(settings) = self.0.get() else { return };
        if settings.borrowed_nonblocking.swap(false, Ordering::AcqRel) {
            // It took the flag, so it gives it back.
            let _ = SockRef::from(&fd).set_nonblocking(false);
        }
    }

    /// The settings, if there are any, with what the kernel knows of them.
    #[inline]
    fn learnt(&self, fd: BorrowedFd<'_>) -> Option<&Settings> {
        let settings = self.0.get()?;
        if settings.unknown.load(Ordering::Acquire) {
            settings.learn_from_kernel(fd);
        }
        Some(settings)
    }
}

impl Settings {
    #[cold]
    fn learn_from_kernel(&self, fd: BorrowedFd<'_>) {
        // What cannot be asked (not a socket, say) is left at std's defaults.
        self.nonblocking.store(kernel_is_nonblocking(fd), Ordering::Relaxed);
        let socket = SockRef::from(&fd);
        let timeouts =
            [(Direction::Read, socket.read_timeout()), (Direction::Write, socket.write_timeout())];
        for (direction, timeout) in timeouts {
            let nanos = timeout.ok().flatten().map_or(0, |timeout| timeout.as_nanos() as u64);
            self.timeout_of(direction).store(nanos, Ordering::Relaxed);
        }
        self.unknown.store(false, Ordering::Release);
    }

    fn timeout_of(&self, direction: Direction) -> &Stored {
        match direction {
            Direction::Read => &self.read_timeout_ns,
            Direction::Write => &self.write_timeout_ns,
        }
    }
}

fn kernel_is_nonblocking(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: a plain query of a descriptor that is open.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_NONBLOCK != 0
}
