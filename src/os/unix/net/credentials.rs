//! Who is at the other end.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The process that connected, listened, or made the pair, as it was at that moment; std's
/// unstable type of this name.
///
/// The process may have ended since, and its number may be another's by now: decide by the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UCred {
    /// The effective user.
    pub uid: libc::uid_t,
    /// The effective group.
    pub gid: libc::gid_t,
    /// The process, if it is visible from here; one of another pid namespace may not be.
    pub pid: Option<libc::pid_t>,
}

impl UCred {
    pub(super) fn of_peer(socket: BorrowedFd<'_>) -> io::Result<UCred> {
        let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut len = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: value and length may be written, and the value is as long as that says.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut found).cast(),
                &raw mut len,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        let pid = (found.pid > 0).then_some(found.pid);
        Ok(UCred { uid: found.uid, gid: found.gid, pid })
    }
}
