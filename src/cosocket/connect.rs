//! Connecting: what a name stands for, one attempt after another, one time limit for all.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::address::{Address, Target};
use super::connection::Connection;
use super::local::Local;
use super::report::What;
use super::state::Connecting;
use super::timeouts::Phase;
use super::transport::Transport;
use super::{Cosocket, Error, ErrorKind};
use crate::clock;
use crate::io_handle::{self, AsIoHandle, bounds::Bounds};
use crate::net::{TcpStream, ToSocketAddrs};
use crate::os::unix::net::UnixStream;

/// How a connection is made, and what pool it belongs to.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// The name of the pool, in place of the address.
    pub pool: Option<String>,
    /// How many connections the pool is made for, if it is made now.
    pub pool_size: Option<usize>,
    /// How many more may wait for a place in the pool.
    pub backlog: Option<usize>,
}

/// A new socket, connected with the default timeout: [`Cosocket::new`] and
/// [`connect`](Cosocket::connect) in one.
///
/// # Errors
///
/// As [`Cosocket::connect`].
///
/// ```
/// use cosocket::net::TcpListener;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = cosocket::connect(listener.local_addr()?)?;
/// drop(listener);
/// # std::io::Result::Ok(())
/// ```
pub fn connect(target: impl Target) -> Result<Cosocket, Error> {
    let socket = Cosocket::new();
    socket.connect(target)?;
    Ok(socket)
}

impl Cosocket {
    /// Connects: to an IP address, to a name, or to `unix:path` (see [`Target`]). A connection that
    /// the socket had before is closed first.
    ///
    /// All addresses of a name are tried, in turn. The connect timeout bounds the making of the
    /// connection, of all attempts together; the look-up of a name comes before that.
    ///
    /// # Errors
    ///
    /// `BusyConnecting`, `BusyReading`, `BusyWriting` while another uses the socket: then nothing
    /// is changed. `Timeout`, `Resolve`, the system's (`connection refused`), or what
    /// [`Target::to_address`] finds wrong: then the socket is closed, and may be connected again.
    /// `Cancelled` when another has closed it meanwhile.
    ///
    /// # Cancel
    ///
    /// Unwinds, and leaves the socket closed.
    pub fn connect(&self, target: impl Target) -> Result<(), Error> {
        self.connect_with(target, &ConnectOptions::default())
    }

    /// [`connect`](Cosocket::connect) with options.
    ///
    /// # Errors
    ///
    /// As [`connect`](Cosocket::connect).
    pub fn connect_with(&self, target: impl Target, _: &ConnectOptions) -> Result<(), Error> {
        io_handle::begin_call()?;
        let address = target.to_address()?;
        let began = self.begin_report();
        let connecting = self.state.claim_connect()?;
        let transport = self.make_transport(&address, &connecting).inspect_err(|error| {
            let upstream = began.map(|_| address.to_string());
            self.report(What::Connect, began, upstream.as_deref(), error);
        })?;
        connecting.opened(Connection::new(transport, Some(address)))
    }

    fn make_transport(
        &self,
        address: &Address,
        connecting: &Connecting<'_>,
    ) -> Result<Transport, Error> {
        match self.local().proxy {
            Some(proxy) => self.connect_through(&proxy, address, connecting),
            None => self.connect_directly(address, connecting),
        }
    }

    pub(super) fn connect_directly(
        &self,
        address: &Address,
        connecting: &Connecting<'_>,
    ) -> Result<Transport, Error> {
        match address {
            Address::Ip(address) => self.connect_tcp(&[*address], connecting),
            Address::Host(host, port) => {
                let addresses = look_up(host, *port)?;
                if connecting.cut().is_set() {
                    return Err(ErrorKind::Cancelled.into());
                }
                self.connect_tcp(&addresses, connecting)
            }
            Address::Unix(address) => {
                let bounds = self.connect_bounds(connecting);
                let made = || connecting.note_socket();
                Ok(Transport::Unix(UnixStream::connect_bounded(address, &bounds, made)?))
            }
        }
    }

    /// The connect timeout, from now on, for all attempts together.
    pub(super) fn connect_bounds<'a>(&self, connecting: &'a Connecting<'_>) -> Bounds<'a> {
        let deadline = self.timeouts.of(Phase::Connect).map(clock::after);
        Bounds { timeout: None, deadline, cut: connecting.cut() }
    }

    fn connect_tcp(
        &self,
        addresses: &[SocketAddr],
        connecting: &Connecting<'_>,
    ) -> Result<Transport, Error> {
        let bounds = self.connect_bounds(connecting);
        let local = self.local();
        let mut last: Error = ErrorKind::Resolve.into();
        for address in addresses {
            match connect_one(address, &local, connecting, &bounds).map_err(Error::from) {
                Ok(stream) => return Ok(Transport::Tcp(stream)),
                Err(error) if error.kind() == ErrorKind::Io => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

/// THE place where a cosocket's names are looked up.
fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    match (host, port).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error.into()),
        Err(error) => {
            let text = format!("{host} could not be resolved ({error})");
            Err(Error::with_text(ErrorKind::Resolve, text).with_source(error))
        }
    }
}

/// One attempt. The connection has `TCP_NODELAY` set, as OpenResty's have.
fn connect_one(
    address: &SocketAddr,
    local: &Local,
    connecting: &Connecting<'_>,
    bounds: &Bounds<'_>,
) -> io::Result<TcpStream> {
    let domain = Domain::for_address(*address);
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(domain, kind, Some(Protocol::TCP))?;
    connecting.note_socket();
    local.apply_to(&socket, domain)?;
    socket.set_tcp_nodelay(true)?;
    let begun = socket.connect(&SockAddr::from(*address));
    let stream = TcpStream::from_connecting(socket);
    match begun {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            let ready = stream.as_io_handle().wait_ready_bounded(libc::POLLOUT, bounds)?;
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            if ready & (libc::POLLERR | libc::POLLHUP) != 0 {
                return Err(io::Error::other("the connection ended while it was made"));
            }
        }
        Err(error) => return Err(error),
    }
    // We made the socket, so no other flag can be lost here.
    SockRef::from(&stream).set_nonblocking(false)?;
    Ok(stream)
}
