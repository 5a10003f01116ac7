//! `std::net`, for coroutines.
//!
//! The names, signatures and meanings are those of [`std::net`]. Inside a coroutine a call that
//! has to wait suspends it; on a plain thread it blocks the thread.
//!
//! Where std leaves room, or where we differ:
//!
//! * A read or write that times out fails with [`TimedOut`](std::io::ErrorKind::TimedOut) (std on
//!   Linux: `WouldBlock`), so that it cannot be taken for what `set_nonblocking` asks for.
//! * Several coroutines may read (or write) one socket: they take turns in order of arrival.
//! * `Interrupted` is never returned: calls are retried.
//! * A call made while the coroutine unwinds makes one attempt; if it would have to wait it fails.

mod addr;
mod builder;
pub(crate) mod connecting;
pub(crate) mod race;
mod tcp;
mod tcp_builder;
pub(crate) mod tcp_options;
mod udp;

pub use std::net::{
    AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6,
};

pub use addr::ToSocketAddrs;
pub use tcp::{Incoming, IntoIncoming, TcpListener, TcpStream};
pub use tcp_builder::TcpBuilder;
pub use tcp_options::Keepalive;
pub use udp::{UdpBuilder, UdpSocket};
