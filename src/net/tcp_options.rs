//! Options of TCP sockets that take more than one number, or that `socket2` has no call for.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// When a connection that is silent is probed, and given up (`SO_KEEPALIVE`). Durations count in
/// whole seconds, rounded up. The defaults are the kernel's.
///
/// ```
/// use cosocket::net::{Keepalive, TcpBuilder, TcpListener};
/// use std::time::Duration;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let keepalive = Keepalive { idle: Duration::from_secs(60), ..Keepalive::default() };
/// let stream = TcpBuilder::new().keepalive(keepalive).connect(listener.local_addr()?)?;
/// assert_eq!(stream.keepalive()?, Some(keepalive));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// How long it may be silent before the first probe: two hours.
    pub idle: Duration,
    /// From one probe to the next: 75 seconds.
    pub interval: Duration,
    /// After so many probes without an answer the connection fails with `TimedOut`: 9.
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive { idle: Duration::from_secs(7200), interval: Duration::from_secs(75), count: 9 }
    }
}

impl Keepalive {
    pub(super) fn apply_to(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if self.idle.is_zero() || self.interval.is_zero() || self.count == 0 {
            let message = "cannot probe after a zero duration, or zero times";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let keepalive = TcpKeepalive::new()
            .with_time(whole_seconds(self.idle))
            .with_interval(whole_seconds(self.interval))
            .with_retries(self.count);
        socket.set_tcp_keepalive(&keepalive)
    }

    pub(super) fn of(socket: &SockRef<'_>) -> io::Result<Option<Keepalive>> {
        if !socket.keepalive()? {
            return Ok(None);
        }
        Ok(Some(Keepalive {
            idle: socket.tcp_keepalive_time()?,
            interval: socket.tcp_keepalive_interval()?,
            count: socket.tcp_keepalive_retries()?,
        }))
    }
}

/// Rounded up, for options that the kernel counts in seconds: what is short is not to become zero,
/// which means something else there.
pub(crate) fn whole_seconds(duration: Duration) -> Duration {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    Duration::from_secs(seconds)
}

/// `SO_LINGER`, in whole seconds, rounded up.
pub(crate) fn set_linger(socket: &SockRef<'_>, linger: Option<Duration>) -> io::Result<()> {
    // The kernel's field has 32 bits: what does not fit would be cut, to zero perhaps.
    let longest = Duration::from_secs(c_int::MAX as u64);
    socket.set_linger(linger.map(|duration| whole_seconds(duration).min(longest)))
}

pub(super) fn set_defer_accept(fd: BorrowedFd<'_>, accept: Duration) -> io::Result<()> {
    let seconds = c_int::try_from(accept.as_secs()).unwrap_or(c_int::MAX);
    // SAFETY: the value is read during the call, and as long as we say.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn defer_accept(fd: BorrowedFd<'_>) -> io::Result<Duration> {
    let mut seconds: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: value and length may be written, and the value is as long as that says.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw mut seconds).cast(),
            &raw mut len,
        )
    };
    let seconds = u64::try_from(seconds).unwrap_or(0);
    if result == 0 { Ok(Duration::from_secs(seconds)) } else { Err(io::Error::last_os_error()) }
}
