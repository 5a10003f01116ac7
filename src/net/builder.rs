//! What may be set before a socket is bound: the part that TCP and UDP have in common.

use std::ffi::c_int;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Settings of a socket yet to be made.
#[derive(Clone, Debug, Default)]
pub(super) struct BindOptions {
    pub(super) reuse_address: Option<bool>,
    pub(super) reuse_port: bool,
    pub(super) only_v6: Option<bool>,
    pub(super) recv_buffer_bytes: Option<usize>,
    pub(super) send_buffer_bytes: Option<usize>,
}

impl BindOptions {
    /// A socket for `address` with these settings, neither bound nor connected.
    pub(super) fn socket(
        &self,
        address: &SocketAddr,
        kind: Type,
        protocol: Protocol,
    ) -> io::Result<Socket> {
        let domain = Domain::for_address(*address);
        let socket = Socket::new_raw(domain, kind.cloexec(), Some(protocol))?;
        if let Some(reuse) = self.reuse_address {
            socket.set_reuse_address(reuse)?;
        }
        if self.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if let Some(only_v6) = self.only_v6
            && address.is_ipv6()
        {
            socket.set_only_v6(only_v6)?;
        }
        if let Some(bytes) = self.recv_buffer_bytes {
            socket.set_recv_buffer_size(within_int(bytes)?)?;
        }
        if let Some(bytes) = self.send_buffer_bytes {
            socket.set_send_buffer_size(within_int(bytes)?)?;
        }
        Ok(socket)
    }

    /// The same, bound.
    pub(super) fn bound(
        &self,
        address: &SocketAddr,
        kind: Type,
        protocol: Protocol,
    ) -> io::Result<Socket> {
        let socket = self.socket(address, kind, protocol)?;
        socket.bind(&SockAddr::from(*address))?;
        Ok(socket)
    }
}

/// What the system call would take for a negative number, or for a smaller one.
fn within_int(bytes: usize) -> io::Result<usize> {
    match c_int::try_from(bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "a buffer of more than 2 GiB")),
    }
}

/// Makes `count` sockets on one port: the others follow where the first one is. None on an error.
pub(super) fn several<T>(
    count: usize,
    first: impl FnOnce() -> io::Result<T>,
    address: impl FnOnce(&T) -> io::Result<SocketAddr>,
    another: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<Vec<T>> {
    if count == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no socket is asked for"));
    }
    let first = first()?;
    let address = address(&first)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(another(address)?);
    }
    Ok(sockets)
}

/// The methods for what `BindOptions` holds.
macro_rules! bind_options {
    ($builder:ident) => {
        impl $builder {
            /// Whether several sockets may be bound to one port, each with this option and by the
            /// same user (`SO_REUSEPORT`): the kernel spreads what comes among them. Off by
            /// default.
            pub fn reuse_port(mut self, reuse: bool) -> $builder {
                self.options.reuse_port = reuse;
                self
            }

            /// Whether a socket that is bound to an IPv6 address refuses IPv4 (`IPV6_V6ONLY`). The
            /// default is the system's (`net.ipv6.bindv6only`).
            pub fn only_v6(mut self, only_v6: bool) -> $builder {
                self.options.only_v6 = Some(only_v6);
                self
            }

            /// The size of the receive buffer (`SO_RCVBUF`), which the kernel doubles for its own
            /// needs and holds between limits (`net.core.rmem_max`). By default it adapts.
            pub fn recv_buffer_bytes(mut self, bytes: usize) -> $builder {
                self.options.recv_buffer_bytes = Some(bytes);
                self
            }

            /// The size of the send buffer (`SO_SNDBUF`), as
            /// [`recv_buffer_bytes`](Self::recv_buffer_bytes).
            pub fn send_buffer_bytes(mut self, bytes: usize) -> $builder {
                self.options.send_buffer_bytes = Some(bytes);
                self
            }
        }
    };
}

pub(super) use bind_options;
