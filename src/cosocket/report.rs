//! Errors of a socket in the log, when that was asked for: the feature `log`.
//!
//! Without the feature everything here is empty, and the compiler leaves nothing of it.

use super::{Cosocket, Error};
use crate::clock::Nanos;

/// What failed, in the words of OpenResty's log.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// The wait for a place in a pool.
    Queue,
    Connect,
    Read,
    Write,
}

#[cfg(not(feature = "log"))]
impl Cosocket {
    pub(super) fn begin_report(&self) -> Option<Nanos> {
        None
    }

    pub(super) fn report(&self, _: What, _: Option<Nanos>, _: Option<&str>, _: &Error) {}

    pub(super) fn upstream(&self, _: Option<Nanos>) -> Option<String> {
        None
    }
}

#[cfg(feature = "log")]
mod with_log {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::{Cosocket, Error, Nanos, What};
    use crate::clock;
    use crate::cosocket::ErrorKind;
    use crate::cosocket::connection::{Details, Link};

    /// Of a host's name, OpenResty's log has so many bytes at most.
    const HOST_MAX: usize = 31;

    impl Cosocket {
        /// Whether errors of this socket are also written to the log (of the crate `log`, at level
        /// `error`, with target `cosocket`): timeouts, what the system says, calls on a closed
        /// socket. Each with the direction, how long the call has lasted, and the other end. Off by
        /// default. What calls return is the same either way.
        ///
        /// The words are those of OpenResty's `lua_socket_log_errors`: `tcp socket read timed out`.
        #[cfg_attr(docsrs, doc(cfg(feature = "log")))]
        pub fn set_log_errors(&self, log: bool) {
            self.log_errors.store(log, Ordering::Relaxed);
        }

        /// When a call began, if it is to be reported should it fail.
        pub(in crate::cosocket) fn begin_report(&self) -> Option<Nanos> {
            self.log_errors.load(Ordering::Relaxed).then(clock::now)
        }

        /// The other end, asked for while the connection is there.
        pub(in crate::cosocket) fn upstream(&self, began: Option<Nanos>) -> Option<String> {
            began?;
            self.state.look(upstream_of).ok()
        }

        pub(in crate::cosocket) fn report(
            &self,
            what: What,
            began: Option<Nanos>,
            upstream: Option<&str>,
            error: &Error,
        ) {
            let Some(began) = began else { return };
            let waited = Duration::from_nanos(clock::now().saturating_sub(began));
            let upstream = upstream.unwrap_or("none");
            let text = match (error.kind(), what) {
                (ErrorKind::Timeout, What::Queue) => {
                    format!("queued connect timed out, when trying to connect to {upstream}")
                }
                (ErrorKind::Timeout, What::Connect) => "tcp socket connect timed out".to_owned(),
                (ErrorKind::Timeout, What::Read) => "tcp socket read timed out".to_owned(),
                (ErrorKind::Timeout, What::Write) => "tcp socket write timed out".to_owned(),
                (ErrorKind::Closed, What::Read) if upstream == "none" => {
                    "attempt to receive data on a closed socket".to_owned()
                }
                (ErrorKind::Closed, What::Write) if upstream == "none" => {
                    "attempt to send data on a closed socket".to_owned()
                }
                (ErrorKind::Io | ErrorKind::Resolve | ErrorKind::Tls | ErrorKind::Proxy, _) => {
                    format!("tcp socket {}: {error}", what.verb())
                }
                _ => return,
            };
            log::error!(target: "cosocket", "{text}, after {waited:.3?}, upstream: {upstream}");
        }
    }

    impl What {
        fn verb(self) -> &'static str {
            match self {
                What::Queue | What::Connect => "connect failed",
                What::Read => "read failed",
                What::Write => "write failed",
            }
        }
    }

    /// `host:port(ip)`, or as much of it as is known.
    fn upstream_of(link: &Link, details: &mut Details) -> String {
        use crate::cosocket::Address;
        let peer = link.transport.peer_addr();
        match (&details.address, peer) {
            (Some(Address::Host(host, port)), Ok(Address::Ip(peer))) => {
                format!("{}:{port}({})", short(host), peer.ip())
            }
            (_, Ok(peer)) => peer.to_string(),
            (Some(address), Err(_)) => address.to_string(),
            (None, Err(_)) => "unknown".to_owned(),
        }
    }

    fn short(host: &str) -> String {
        match host.char_indices().nth(HOST_MAX) {
            Some((end, _)) => format!("{}...", &host[..end]),
            None => host.to_owned(),
        }
    }
}
