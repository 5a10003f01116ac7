//! What a socket's user has set: blocking or not, and for how long to wait.
//!
//! In std this is kernel state, shared by all clones of a socket. Ours is written to the kernel
//! as well, so that conversions and plain threads find it there, and mirrored here, so that a
//! coroutine need not ask. Clones share one `Mode`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;

use super::Direction;

/// Nanoseconds; 0 is "no timeout".
type Stored = AtomicU64;

#[derive(Debug)]
pub(crate) struct Mode {
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
    pub(crate) fn fresh() -> Mode {
        Mode {
            nonblocking: AtomicBool::new(false),
            borrowed_nonblocking: AtomicBool::new(false),
            unknown: AtomicBool::new(false),
            read_timeout_ns: Stored::new(0),
            write_timeout_ns: Stored::new(0),
        }
    }

    /// Of a descriptor that somebody else made.
    pub(crate) fn adopted() -> Mode {
        Mode { unknown: AtomicBool::new(true), ..Mode::fresh() }
    }

    #[inline]
    pub(crate) fn is_nonblocking(&self, fd: BorrowedFd<'_>) -> bool {
        self.learn(fd);
        self.nonblocking.load(Ordering::Relaxed)
    }

    /// Whether it is known to be in blocking mode: then the timeouts are known, too.
    #[inline]
    pub(super) fn is_blocking(&self) -> bool {
        !self.unknown.load(Ordering::Acquire) && !self.nonblocking.load(Ordering::Relaxed)
    }

    /// As `is_nonblocking`, where the kernel has just behaved like it: somebody may have set the
    /// flag through a descriptor that we know nothing of.
    #[cold]
    pub(crate) fn became_nonblocking(&self, fd: BorrowedFd<'_>) -> bool {
        if !self.is_nonblocking(fd) && !self.is_borrowed_nonblocking() {
            self.nonblocking.store(kernel_is_nonblocking(fd), Ordering::Relaxed);
        }
        self.nonblocking.load(Ordering::Relaxed)
    }

    pub(crate) fn set_nonblocking(&self, fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
        self.learn(fd);
        SockRef::from(&fd).set_nonblocking(nonblocking)?;
        self.borrowed_nonblocking.store(false, Ordering::Relaxed);
        self.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    #[inline]
    pub(crate) fn timeout(&self, fd: BorrowedFd<'_>, direction: Direction) -> Option<Duration> {
        self.learn(fd);
        self.known_timeout(direction)
    }

    /// The timeout, where the kernel need not be asked.
    #[inline]
    pub(super) fn known_timeout(&self, direction: Direction) -> Option<Duration> {
        match self.stored(direction).load(Ordering::Relaxed) {
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
        self.learn(fd);
        let socket = SockRef::from(&fd);
        // The kernel counts in microseconds and takes 0 for "for ever": round up.
        let kernel = timeout.map(|timeout| timeout.max(Duration::from_micros(1)));
        match direction {
            Direction::Read => socket.set_read_timeout(kernel)?,
            Direction::Write => socket.set_write_timeout(kernel)?,
        }
        let nanos =
            timeout.map_or(0, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        self.stored(direction).store(nanos, Ordering::Relaxed);
        Ok(())
    }

    /// Makes `accept` and `connect`, which have no flag for it, return instead of block.
    #[inline]
    pub(crate) fn borrow_nonblocking(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.learn(fd);
        if self.nonblocking.load(Ordering::Relaxed)
            || self.borrowed_nonblocking.load(Ordering::Acquire)
        {
            return Ok(());
        }
        SockRef::from(&fd).set_nonblocking(true)?;
        self.borrowed_nonblocking.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn is_borrowed_nonblocking(&self) -> bool {
        self.borrowed_nonblocking.load(Ordering::Acquire)
    }

    /// Undoes `borrow_nonblocking`, before the descriptor is handed out.
    pub(crate) fn return_nonblocking(&self, fd: BorrowedFd<'_>) {
        if self.borrowed_nonblocking.swap(false, Ordering::AcqRel) {
            // It took the flag, so it gives it back.
            let _ = SockRef::from(&fd).set_nonblocking(false);
        }
    }

    #[inline]
    fn learn(&self, fd: BorrowedFd<'_>) {
        if self.unknown.load(Ordering::Acquire) {
            self.learn_from_kernel(fd);
        }
    }

    #[cold]
    fn learn_from_kernel(&self, fd: BorrowedFd<'_>) {
        // What cannot be asked (not a socket, say) is left at std's defaults.
        self.nonblocking.store(kernel_is_nonblocking(fd), Ordering::Relaxed);
        let socket = SockRef::from(&fd);
        let timeouts =
            [(Direction::Read, socket.read_timeout()), (Direction::Write, socket.write_timeout())];
        for (direction, timeout) in timeouts {
            let nanos = timeout.ok().flatten().map_or(0, |timeout| timeout.as_nanos() as u64);
            self.stored(direction).store(nanos, Ordering::Relaxed);
        }
        self.unknown.store(false, Ordering::Release);
    }

    fn stored(&self, direction: Direction) -> &Stored {
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
