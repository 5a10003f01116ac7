//! What an error of `accept` means: that of one connection, of the machine, or the listener's end.
//!
//! As accept(2) has it: Linux also passes on errors of the connection that is next in the queue,
//! and those say nothing about the listener.

use std::io;

/// What to do about an error of `accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nobody is there: wait.
    Wait,
    /// One connection is lost, before anybody had it: take the next.
    Skip,
    /// No descriptor is left, in this process or the system.
    Shed,
    /// The kernel has no memory: try again in a while.
    Pause,
    /// This listener accepts nothing any more.
    GiveUp,
}

impl Remedy {
    pub(super) fn of(error: &io::Error) -> Remedy {
        match error.raw_os_error() {
            // `EWOULDBLOCK` is the same number; ours has none.
            Some(libc::EAGAIN) => Remedy::Wait,
            None if error.kind() == io::ErrorKind::WouldBlock => Remedy::Wait,
            // Left while it waited; forbidden by a firewall; a signal.
            Some(libc::ECONNABORTED | libc::EPROTO | libc::EINTR | libc::EPERM) => Remedy::Skip,
            // The network's, of a connection that is broken already.
            Some(
                libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
                | libc::ETIMEDOUT
                | libc::ECONNRESET,
            ) => Remedy::Skip,
            Some(libc::EMFILE | libc::ENFILE) => Remedy::Shed,
            Some(libc::ENOBUFS | libc::ENOMEM) => Remedy::Pause,
            _ => Remedy::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SRV-4: each as accept(2) has it.
    #[test]
    fn errors_are_told_apart() {
        let remedy = |errno| Remedy::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(remedy(libc::EAGAIN), Remedy::Wait);
        assert_eq!(Remedy::of(&io::ErrorKind::WouldBlock.into()), Remedy::Wait);
        for errno in [libc::ECONNABORTED, libc::EPROTO, libc::EINTR, libc::ENETUNREACH] {
            assert_eq!(remedy(errno), Remedy::Skip);
        }
        for errno in [libc::EMFILE, libc::ENFILE] {
            assert_eq!(remedy(errno), Remedy::Shed);
        }
        assert_eq!(remedy(libc::ENOBUFS), Remedy::Pause);
        for errno in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK] {
            assert_eq!(remedy(errno), Remedy::GiveUp);
        }
        assert_eq!(Remedy::of(&io::Error::other("?")), Remedy::GiveUp);
    }
}
