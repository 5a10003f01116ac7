//! The sockets that a server listens on.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use socket2::SockRef;

use super::Listeners;
use super::unix_path::BoundPath;
use crate::io_handle::AsIoHandle;
use crate::net::{TcpBuilder, TcpListener};
use crate::os::unix::net::UnixListener;
use crate::{Address, Stream};

/// What `net.core.somaxconn` is where nobody has set it, in connections.
const SOMAXCONN: usize = 4096;

/// Where to listen, before it is tried.
#[derive(Debug)]
pub(super) enum Place {
    Tcp(io::Result<Vec<SocketAddr>>),
    Unix(PathBuf),
    Adopted(Listener),
}

/// One socket, in non-blocking mode: whoever finds nobody there waits by [`Listener::wait`].
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The sockets at one place. Each has its own queue of connections, or shares it with clones.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) address: Address,
    /// One for each acceptor.
    pub(super) listeners: Vec<Listener>,
    /// Removed with this.
    pub(super) path: Option<BoundPath>,
}

/// How to bind.
#[derive(Debug)]
pub(super) struct Binding<'a> {
    pub(super) tcp: &'a TcpBuilder,
    pub(super) backlog: u32,
    pub(super) listeners: Listeners,
    pub(super) unix_mode: Option<u32>,
    pub(super) replaces_stale: bool,
}

impl Place {
    /// Binds, with a listener for each of `acceptors`.
    pub(super) fn bind(self, binding: &Binding<'_>, acceptors: usize) -> io::Result<Bound> {
        match self {
            Place::Tcp(addresses) => bind_tcp(&addresses?, binding, acceptors),
            Place::Unix(path) => {
                let (listener, path) = BoundPath::bind(
                    path,
                    binding.backlog,
                    binding.unix_mode,
                    binding.replaces_stale,
                )?;
                Listener::Unix(listener).shared(acceptors, Some(path))
            }
            Place::Adopted(listener) => listener.shared(acceptors, None),
        }
    }
}

fn bind_tcp(
    addresses: &[SocketAddr],
    binding: &Binding<'_>,
    acceptors: usize,
) -> io::Result<Bound> {
    let builder = binding.tcp.clone().backlog(binding.backlog);
    let named = |error: io::Error| {
        let places: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", places.join(", ")))
    };
    if binding.listeners == Listeners::Shared {
        return Listener::Tcp(builder.listen(addresses).map_err(named)?).shared(acceptors, None);
    }
    let listeners = builder.listen_many(addresses, acceptors).map_err(named)?;
    let address = Address::Ip(listeners[0].local_addr()?);
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }
    let listeners = listeners.into_iter().map(Listener::Tcp).collect();
    Ok(Bound { address, listeners, path: None })
}

impl Listener {
    /// With a clone for each acceptor, so that each has waits of its own.
    fn shared(self, acceptors: usize, path: Option<BoundPath>) -> io::Result<Bound> {
        let address = match &self {
            Listener::Tcp(listener) => Address::Ip(listener.local_addr()?),
            Listener::Unix(listener) => Address::Unix(listener.local_addr()?),
        };
        match &self {
            Listener::Tcp(listener) => listener.set_nonblocking(true)?,
            Listener::Unix(listener) => listener.set_nonblocking(true)?,
        }
        let mut listeners = vec![self];
        for _ in 1..acceptors {
            listeners.push(match &listeners[0] {
                Listener::Tcp(listener) => Listener::Tcp(listener.try_clone()?),
                Listener::Unix(listener) => Listener::Unix(listener.try_clone()?),
            });
        }
        Ok(Bound { address, listeners, path })
    }

    /// A connection that is there already; `WouldBlock` when none is.
    pub(super) fn accept(&self) -> io::Result<(Stream, Address)> {
        match self {
            Listener::Tcp(listener) => {
                listener.accept().map(|(stream, peer)| (Stream::Tcp(stream), Address::Ip(peer)))
            }
            Listener::Unix(listener) => {
                listener.accept().map(|(stream, peer)| (Stream::Unix(stream), Address::Unix(peer)))
            }
        }
    }

    /// How many wait in the queue now. The queue of a Unix socket cannot be asked: then it is how
    /// many fit into one.
    pub(super) fn queue_len(&self) -> usize {
        match self {
            Listener::Tcp(listener) => tcp_queue_len(listener).unwrap_or_else(longest_queue),
            Listener::Unix(_) => longest_queue(),
        }
    }

    /// Waits until somebody may be there.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let io = match self {
            Listener::Tcp(listener) => listener.as_io_handle(),
            Listener::Unix(listener) => listener.as_io_handle(),
        };
        io.wait_ready(libc::POLLIN, timeout).map(drop)
    }

    /// Accepts one connection and closes it; neither waits nor gives way.
    pub(super) fn turn_away(&self) -> io::Result<()> {
        let accepted = match self {
            Listener::Tcp(listener) => SockRef::from(listener).accept(),
            Listener::Unix(listener) => SockRef::from(listener).accept(),
        };
        accepted.map(drop)
    }
}

/// How many the queue of any listener can hold: one more than the system's limit, however long a
/// backlog was asked for (`listen(2)`).
fn longest_queue() -> usize {
    let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    let limit = limit.ok().and_then(|limit| limit.trim().parse().ok());
    limit.map_or(SOMAXCONN, |limit: usize| limit.saturating_add(1))
}

/// Of a listener `tcpi_unacked` is how many connections wait to be accepted.
#[allow(unsafe_code)]
fn tcp_queue_len(listener: &TcpListener) -> Option<usize> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` has room for `len` bytes, for the call.
    let result = unsafe {
        let (fd, info) = (listener.as_raw_fd(), info.as_mut_ptr().cast());
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info, &raw mut len)
    };
    // SAFETY: integers, of which the kernel has filled those that it knows; the rest are zero.
    let info = unsafe { info.assume_init() };
    (result == 0).then_some(info.tcpi_unacked as usize)
}
