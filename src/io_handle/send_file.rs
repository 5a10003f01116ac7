//! `sendfile(2)`: from a file to a socket, within the kernel.
//!
//! It has no flag that keeps it from waiting for the socket, so O_NONBLOCK is set meanwhile; readers
//! of the same socket get on as described in [`super::plain`]. The file's disk it does wait for,
//! so it is a call for the pool of blocking threads.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use super::IoHandle;

impl IoHandle {
    /// Sets O_NONBLOCK, behind the user's back.
    pub(crate) fn borrow_nonblocking(&self) -> io::Result<()> {
        self.mode.borrow_nonblocking(self.fd.as_fd())
    }

    /// Takes it back.
    pub(crate) fn return_nonblocking(&self) {
        self.mode.return_nonblocking(self.fd.as_fd());
    }

    /// Sends up to `len` bytes of the file, from `offset` on; 0 is its end. Blocks for the disk, and
    /// says `WouldBlock` for the socket, if O_NONBLOCK is set.
    pub(crate) fn send_file(&self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let start = libc::off64_t::try_from(offset).map_err(invalid)?;
        let (from, to) = (file.as_raw_fd(), self.fd.as_raw_fd());
        without_sigpipe(|| {
            let mut position = start;
            // SAFETY: the position may be written; both descriptors are open.
            match unsafe { libc::sendfile64(to, from, &mut position, len) } {
                sent @ 0.. => Ok(sent as usize),
                _ => Err(io::Error::last_os_error()),
            }
        })
    }
}

/// Makes a call that takes no `MSG_NOSIGNAL`, on a thread that must not be signalled: SIGPIPE is
/// held back, and taken if the call has raised it.
fn without_sigpipe<T>(call: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let mut pipe = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    let mut pending = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the sets are filled in before they are used, and are this thread's own.
    let was_pending = unsafe {
        libc::sigemptyset(pipe.as_mut_ptr());
        libc::sigaddset(pipe.as_mut_ptr(), libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, pipe.as_ptr(), before.as_mut_ptr());
        libc::sigpending(pending.as_mut_ptr());
        libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1
    };
    let result = loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result,
        }
    };
    // Also when it has sent a part before it found the connection broken.
    if !was_pending {
        let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: set and time are valid for the call.
        unsafe { libc::sigtimedwait(pipe.as_ptr(), ptr::null_mut(), &no_time) };
    }
    // SAFETY: the mask that was in force before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    result
}
