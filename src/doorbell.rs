//! What ends a worker's sleep from another thread: an eventfd.
//!
//! The driver watches it beside the sockets. It is non-blocking in both directions: a ring on a
//! bell that already rings, and an answer to one that does not, do nothing.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

#[derive(Debug)]
pub(crate) struct Doorbell {
    eventfd: File,
}

impl Doorbell {
    pub(crate) fn new() -> io::Result<Doorbell> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        let eventfd = unsafe { File::from_raw_fd(fd) };
        Ok(Doorbell { eventfd })
    }

    pub(crate) fn ring(&self) {
        // The one error left is EAGAIN: the counter is full, so the bell rings already.
        let _ = (&self.eventfd).write(&1u64.to_ne_bytes());
    }

    /// Stops the ringing; true if it rang.
    pub(crate) fn answer(&self) -> bool {
        (&self.eventfd).read(&mut [0; 8]).is_ok()
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

impl From<Doorbell> for OwnedFd {
    fn from(doorbell: Doorbell) -> OwnedFd {
        doorbell.eventfd.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rings_are_one_answer() {
        let doorbell = Doorbell::new().unwrap();
        assert!(!doorbell.answer());
        doorbell.ring();
        doorbell.ring();
        assert!(doorbell.answer());
        assert!(!doorbell.answer());
    }
}
