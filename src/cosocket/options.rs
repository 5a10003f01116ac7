//! Options of the socket below. They are the connection's, not the object's: they stay with it when
//! it is parked, and come out of the pool with it.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::{Cosocket, Error, ErrorKind};
use crate::net::tcp_options::{set_linger, whole_seconds};

const MILLISECOND: Duration = Duration::from_millis(1);

/// An option, with its value. The text is the name that OpenResty has for it, or the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketOption {
    /// `keepalive`: a silent peer is probed (`SO_KEEPALIVE`).
    Keepalive(bool),
    /// `keepidle`: after so much silence (`TCP_KEEPIDLE`), in whole seconds, rounded up.
    KeepaliveIdle(Duration),
    /// `keepintvl`: so often (`TCP_KEEPINTVL`), in whole seconds, rounded up.
    KeepaliveInterval(Duration),
    /// `keepcnt`: and is given up after so many probes (`TCP_KEEPCNT`).
    KeepaliveCount(u32),
    /// `reuseaddr` (`SO_REUSEADDR`).
    ReuseAddress(bool),
    /// `tcp-nodelay`: short sends go out at once (`TCP_NODELAY`). On, of connections made by
    /// `connect`.
    NoDelay(bool),
    /// `sndbuf`: the kernel's send buffer, in bytes; it doubles what it is told (`SO_SNDBUF`).
    SendBuffer(usize),
    /// `rcvbuf`: the kernel's receive buffer, in bytes; it doubles what it is told (`SO_RCVBUF`).
    ReceiveBuffer(usize),
    /// `linger`: what a close does with bytes not sent yet (`SO_LINGER`), as
    /// [`TcpStream::set_linger`](crate::net::TcpStream::set_linger); `None` sends them in the
    /// background, zero resets the connection.
    Linger(Option<Duration>),
    /// `tcp-user-timeout`: for how long sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`);
    /// `None` is up to the kernel.
    UserTimeout(Option<Duration>),
    /// `tcp-notsent-lowat`: a send waits while so many bytes, or more, are not on their way yet
    /// (`TCP_NOTSENT_LOWAT`). What nginx's `send_lowat` is for, which does nothing on Linux.
    NotSentLowWater(u32),
}

/// The name of an option, to ask for its value. Can be parsed from the names in [`SocketOption`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "those of `SocketOption`")]
pub enum OptionName {
    Keepalive,
    KeepaliveIdle,
    KeepaliveInterval,
    KeepaliveCount,
    ReuseAddress,
    NoDelay,
    SendBuffer,
    ReceiveBuffer,
    Linger,
    UserTimeout,
    NotSentLowWater,
}

impl FromStr for OptionName {
    type Err = Error;

    /// # Errors
    ///
    /// `InvalidInput`: `unsupported option X`.
    fn from_str(name: &str) -> Result<OptionName, Error> {
        Ok(match name {
            "keepalive" => OptionName::Keepalive,
            "keepidle" => OptionName::KeepaliveIdle,
            "keepintvl" => OptionName::KeepaliveInterval,
            "keepcnt" => OptionName::KeepaliveCount,
            "reuseaddr" => OptionName::ReuseAddress,
            "tcp-nodelay" => OptionName::NoDelay,
            "sndbuf" => OptionName::SendBuffer,
            "rcvbuf" => OptionName::ReceiveBuffer,
            "linger" => OptionName::Linger,
            "tcp-user-timeout" => OptionName::UserTimeout,
            "tcp-notsent-lowat" => OptionName::NotSentLowWater,
            _ => {
                let text = format!("unsupported option {name}");
                return Err(Error::with_text(ErrorKind::InvalidInput, text));
            }
        })
    }
}

impl Cosocket {
    /// Sets an option of the connection. Allowed while others use it. A connection from a pool has
    /// the options that it was parked with, so set them when
    /// [`reused_times`](Cosocket::reused_times) is 0.
    ///
    /// ```
    /// use cosocket::{OptionName, SocketOption, net::TcpListener};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let socket = cosocket::connect(listener.local_addr()?)?;
    /// assert_eq!(socket.option(OptionName::NoDelay)?, SocketOption::NoDelay(true));
    /// socket.set_option(SocketOption::ReceiveBuffer(10_240))?;
    /// let SocketOption::ReceiveBuffer(bytes) = socket.option("rcvbuf".parse()?)? else { panic!() };
    /// assert!(bytes >= 10_240);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed` when there is no connection; the system's, for a Unix socket and an option of TCP.
    pub fn set_option(&self, option: SocketOption) -> Result<(), Error> {
        Ok(self.state.look(|link, _| option.apply_to(&link.transport.options()))??)
    }

    /// The value of an option.
    ///
    /// # Errors
    ///
    /// As [`set_option`](Cosocket::set_option).
    pub fn option(&self, name: OptionName) -> Result<SocketOption, Error> {
        Ok(self.state.look(|link, _| name.of(&link.transport.options()))??)
    }
}

impl SocketOption {
    fn apply_to(self, socket: &SockRef<'_>) -> io::Result<()> {
        let keepalive = TcpKeepalive::new();
        // Setting one of them would switch the probes on.
        let set_keepalive = |keepalive: &TcpKeepalive| {
            let is_on = socket.keepalive()?;
            socket.set_tcp_keepalive(keepalive)?;
            socket.set_keepalive(is_on)
        };
        match self {
            SocketOption::Keepalive(on) => socket.set_keepalive(on),
            SocketOption::KeepaliveIdle(idle) => {
                set_keepalive(&keepalive.with_time(whole_seconds(idle)))
            }
            SocketOption::KeepaliveInterval(interval) => {
                set_keepalive(&keepalive.with_interval(whole_seconds(interval)))
            }
            SocketOption::KeepaliveCount(count) => set_keepalive(&keepalive.with_retries(count)),
            SocketOption::ReuseAddress(on) => socket.set_reuse_address(on),
            SocketOption::NoDelay(on) => socket.set_tcp_nodelay(on),
            SocketOption::SendBuffer(bytes) => socket.set_send_buffer_size(bytes),
            SocketOption::ReceiveBuffer(bytes) => socket.set_recv_buffer_size(bytes),
            SocketOption::Linger(linger) => set_linger(socket, linger),
            SocketOption::UserTimeout(timeout) => {
                // In whole milliseconds; zero would leave it to the kernel.
                let shortest = |it: Duration| if it.is_zero() { it } else { it.max(MILLISECOND) };
                socket.set_tcp_user_timeout(timeout.map(shortest))
            }
            SocketOption::NotSentLowWater(bytes) => socket.set_tcp_notsent_lowat(bytes),
        }
    }
}

impl OptionName {
    fn of(self, socket: &SockRef<'_>) -> io::Result<SocketOption> {
        Ok(match self {
            OptionName::Keepalive => SocketOption::Keepalive(socket.keepalive()?),
            OptionName::KeepaliveIdle => SocketOption::KeepaliveIdle(socket.tcp_keepalive_time()?),
            OptionName::KeepaliveInterval => {
                SocketOption::KeepaliveInterval(socket.tcp_keepalive_interval()?)
            }
            OptionName::KeepaliveCount => {
                SocketOption::KeepaliveCount(socket.tcp_keepalive_retries()?)
            }
            OptionName::ReuseAddress => SocketOption::ReuseAddress(socket.reuse_address()?),
            OptionName::NoDelay => SocketOption::NoDelay(socket.tcp_nodelay()?),
            OptionName::SendBuffer => SocketOption::SendBuffer(socket.send_buffer_size()?),
            OptionName::ReceiveBuffer => SocketOption::ReceiveBuffer(socket.recv_buffer_size()?),
            OptionName::Linger => SocketOption::Linger(socket.linger()?),
            OptionName::UserTimeout => SocketOption::UserTimeout(socket.tcp_user_timeout()?),
            OptionName::NotSentLowWater => {
                SocketOption::NotSentLowWater(socket.tcp_notsent_lowat()?)
            }
        })
    }
}
