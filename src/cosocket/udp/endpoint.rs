//! The socket below: how it is made, and what is to be cleaned up after it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::super::address::Address;
use crate::driver::op::Direction;
use crate::io_handle::IoHandle;
use crate::io_handle::datagram::want_destinations;
use crate::io_handle::undelivered::report_undelivered;
use crate::os::unix::net::{from_kernel, of_path, to_kernel};

/// What is to be bound to.
#[derive(Clone, Debug, Default)]
pub(super) struct Local {
    name: Name,
    pub(super) reuse_address: bool,
    pub(super) report_undelivered: bool,
}

#[derive(Clone, Debug, Default)]
enum Name {
    #[default]
    Any,
    Ip(SocketAddr),
    Path(PathBuf),
    TemporaryIn(PathBuf),
}

impl Local {
    pub(super) fn bind_ip(&mut self, address: SocketAddr) {
        self.name = Name::Ip(address);
    }

    pub(super) fn bind_path(&mut self, path: &Path) {
        self.name = Name::Path(path.to_owned());
    }

    pub(super) fn bind_temporary(&mut self, directory: &Path) {
        self.name = Name::TemporaryIn(directory.to_owned());
    }

    pub(super) fn is_unix(&self) -> bool {
        matches!(self.name, Name::Path(_) | Name::TemporaryIn(_))
    }
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) io: IoHandle,
    pub(super) is_connected: bool,
    /// What ICMP says of what was sent is received.
    pub(super) reports: bool,
    pub(super) domain: Domain,
    _file: Option<NameInFiles>,
}

impl Endpoint {
    /// A UDP socket with a peer.
    pub(super) fn connected(local: &Local, peer: SocketAddr) -> io::Result<Endpoint> {
        let socket = udp(local, peer.is_ipv6())?;
        if let Name::Ip(address) = local.name {
            socket.bind(&address.into())?;
        }
        socket.connect(&peer.into())?;
        Ok(Endpoint::of(socket, Domain::for_address(peer), true, None))
    }

    /// A UDP socket without one, bound so that it can receive.
    pub(super) fn unconnected(local: &Local, wants_v6: bool) -> io::Result<Endpoint> {
        let address = match local.name {
            Name::Ip(address) => address,
            _ if wants_v6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
            _ => (Ipv4Addr::UNSPECIFIED, 0).into(),
        };
        let socket = udp(local, address.is_ipv6())?;
        want_destinations(&socket, address.is_ipv6())?;
        if local.report_undelivered {
            report_undelivered(&socket, address.is_ipv6())?;
        }
        socket.bind(&address.into())?;
        let endpoint = Endpoint::of(socket, Domain::for_address(address), false, None);
        Ok(Endpoint { reports: local.report_undelivered, ..endpoint })
    }

    /// A Unix socket, with a name so that it can be answered.
    pub(super) fn unix(local: &Local, peer: Option<&UnixAddr>) -> io::Result<Endpoint> {
        let socket = Socket::new_raw(Domain::UNIX, Type::DGRAM.cloexec(), None)?;
        let file = match &local.name {
            Name::Path(path) => Some(NameInFiles::bind(&socket, path)?),
            Name::TemporaryIn(directory) => Some(NameInFiles::bind_temporary(&socket, directory)?),
            Name::Any | Name::Ip(_) => {
                // An address of the family alone asks the kernel for a free abstract name.
                socket.bind(&SockAddr::unix("")?)?;
                None
            }
        };
        if let Some(peer) = peer {
            socket.connect(&to_kernel(peer)?)?;
        }
        Ok(Endpoint::of(socket, Domain::UNIX, peer.is_some(), file))
    }

    fn of(
        socket: Socket,
        domain: Domain,
        is_connected: bool,
        file: Option<NameInFiles>,
    ) -> Endpoint {
        let io = IoHandle::new(socket.into(), true).of_datagrams();
        Endpoint { io, is_connected, reports: false, domain, _file: file }
    }

    pub(super) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.io.set_timeout(Direction::Read, timeout)?;
        self.io.set_timeout(Direction::Write, timeout)
    }

    pub(super) fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.io)
    }

    pub(super) fn is_unix(&self) -> bool {
        self.domain == Domain::UNIX
    }

    pub(super) fn is_ipv6(&self) -> bool {
        self.domain == Domain::IPV6
    }

    pub(super) fn local_addr(&self) -> io::Result<Address> {
        self.address(self.options().local_addr()?)
    }

    pub(super) fn peer_addr(&self) -> io::Result<Address> {
        self.address(self.options().peer_addr()?)
    }

    pub(super) fn address(&self, address: SockAddr) -> io::Result<Address> {
        match address.as_socket() {
            Some(address) => Ok(Address::Ip(address)),
            None => Ok(Address::Unix(from_kernel(address)?)),
        }
    }
}

fn udp(local: &Local, is_v6: bool) -> io::Result<Socket> {
    let domain = if is_v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new_raw(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    if local.reuse_address {
        socket.set_reuse_address(true)?;
    }
    Ok(socket)
}

/// The name of a socket in the file system, removed when this is dropped, if it is still ours.
#[derive(Debug)]
struct NameInFiles {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl NameInFiles {
    fn bind(socket: &Socket, path: &Path) -> io::Result<NameInFiles> {
        socket.bind(&of_path(path)?)?;
        // From here on the name may change whose it is, but not to what.
        let path = std::path::absolute(path)?;
        let identity = identity(&path)?;
        Ok(NameInFiles { path, identity })
    }

    fn bind_temporary(socket: &Socket, directory: &Path) -> io::Result<NameInFiles> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("cosocket-{}-{number}", process::id()));
            match NameInFiles::bind(socket, &path) {
                // Left behind by another process that had our number.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                result => return result,
            }
        }
    }
}

impl Drop for NameInFiles {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}
