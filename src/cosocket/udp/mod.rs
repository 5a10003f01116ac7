//! [`UdpCosocket`]: datagrams, as OpenResty's `ngx.socket.udp` has them, and what that lacks.
//!
//! ```text
//!                  .--------- set_peer_name ---------.
//!                  |   (again: a fresh socket)       v
//!   new --> [ no descriptor ]                  [ connected ]      send, receive
//!                  |   ^                             |
//!     open, or     |   '----------- close -----------+
//!     send_to,     v                                 |
//!     receive_from [ unconnected ] ------------------'            send_to, receive_from, reply
//! ```
//!
//! One receives at a time, any number send. A connect and a receive exclude each other, and `close`
//! both: whoever comes second gets `socket busy`.

mod datagram;
mod endpoint;
mod options;
mod transfer;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::datagram::Datagram;

use self::endpoint::{Endpoint, Local};
use super::address::{Address, Target};
use super::names::{Choice, Names};
use super::timeouts::{Phase, Timeouts};
use super::{Error, ErrorKind};
use crate::io_handle;

/// A datagram socket over UDP or a Unix socket, with OpenResty's calls and words.
///
/// ```
/// use cosocket::net::UdpSocket;
/// use cosocket::{Text, UdpCosocket};
///
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let socket = UdpCosocket::new();
/// socket.set_peer_name(server.local_addr()?)?;
/// socket.send(("ping ", Text(1)))?;
///
/// let mut buffer = [0; 100];
/// let (len, client) = server.recv_from(&mut buffer)?;
/// assert_eq!(&buffer[..len], b"ping 1");
/// server.send_to(b"pong", client)?;
/// assert_eq!(*socket.receive(100)?, *b"pong");
/// # std::io::Result::Ok(())
/// ```
///
/// # Waiting
///
/// A receive waits for a datagram, and a send while the socket's buffer is full (of a Unix socket,
/// the receiver's queue), for at most the timeout: 60 seconds unless
/// [`set_timeout`](UdpCosocket::set_timeout) says otherwise. OpenResty's send never waits, and
/// fails where ours does.
///
/// A cancel unwinds out of either and leaves the socket as it is: there is no place in a stream
/// that could be lost. A datagram that comes at that moment is there for the next call.
///
/// # Errors
///
/// A timeout, and what ICMP tells of a peer that is not there (`connection refused`), leave the
/// socket usable. Without a peer the latter is told
/// [when that is wanted](UdpCosocket::set_report_undelivered).
#[derive(Default)]
pub struct UdpCosocket {
    state: Mutex<State>,
    timeouts: Timeouts,
    names: Choice,
}

#[derive(Default)]
struct State {
    endpoint: Option<Arc<Endpoint>>,
    /// Somebody receives, or connects.
    is_busy: bool,
    local: Local,
}

/// The right to receive, or to connect, until it is dropped.
struct Turn<'a>(&'a UdpCosocket);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().is_busy = false;
    }
}

impl UdpCosocket {
    /// A socket without a peer. Opens no descriptor.
    #[must_use]
    pub fn new() -> UdpCosocket {
        UdpCosocket::default()
    }

    /// Sets the one peer to send to and to hear: an address, a name, or `unix:path`. What the
    /// socket had before is closed first, so its own address is another one afterwards.
    ///
    /// A name stands for the first of its addresses that this machine has a way to. A Unix socket
    /// gets a name of the system's making, so that the peer can answer ("autobind", `unix(7)`),
    /// unless it was told what to [bind](UdpCosocket::bind_path) to.
    ///
    /// # Errors
    ///
    /// `Busy` while another receives or connects; what [`Target::to_address`] finds wrong;
    /// `Resolve`; the system's. Then the socket is closed.
    pub fn set_peer_name(&self, target: impl Target) -> Result<(), Error> {
        io_handle::begin_call()?;
        let address = target.to_address()?;
        let _turn = self.claim()?;
        let (former, local) = {
            let mut state = self.lock();
            (state.endpoint.take(), state.local.clone())
        };
        drop(former);
        let endpoint = match &address {
            Address::Unix(address) => Endpoint::unix(&local, Some(address))?,
            Address::Ip(address) => Endpoint::connected(&local, *address)?,
            Address::Host(host, port) => {
                let mut last = Error::from(ErrorKind::Resolve);
                let addresses = self.names.names().look_up(host, *port)?;
                let mut tries = addresses.into_iter().map(|ip| Endpoint::connected(&local, ip));
                let found = tries.find_map(|attempt| match attempt {
                    Ok(endpoint) => Some(endpoint),
                    Err(error) => {
                        last = error.into();
                        None
                    }
                });
                found.ok_or(last)?
            }
        };
        self.install(endpoint)?;
        Ok(())
    }

    /// Sends and receives from this address: a literal IP, and a port, or 0 for any. It is only
    /// noted here, for the next [`open`](UdpCosocket::open) or
    /// [`set_peer_name`](UdpCosocket::set_peer_name), and stays with the object.
    ///
    /// # Errors
    ///
    /// `BadAddress` for what is no literal IP address.
    pub fn bind(&self, ip: &str, port: u16) -> Result<(), Error> {
        let literal = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
        let ip: IpAddr = literal.parse().map_err(|_| ErrorKind::BadAddress)?;
        self.lock().local.bind_ip(SocketAddr::new(ip, port));
        Ok(())
    }

    /// As [`bind`](UdpCosocket::bind), to a path of a Unix socket. The file is removed when the
    /// socket is closed.
    pub fn bind_path(&self, path: impl AsRef<Path>) {
        self.lock().local.bind_path(path.as_ref());
    }

    /// As [`bind_path`](UdpCosocket::bind_path), to a new name in this directory, for peers that
    /// can only answer to a path: those in another network namespace, say.
    pub fn bind_temporary(&self, directory: impl AsRef<Path>) {
        self.lock().local.bind_temporary(directory.as_ref());
    }

    /// Lets several sockets [bind](UdpCosocket::bind) the same address (`SO_REUSEADDR`), as the
    /// listeners to one multicast group do.
    pub fn set_reuse_address(&self, reuse: bool) {
        self.lock().local.reuse_address = reuse;
    }

    /// Has receives say what ICMP tells of datagrams that were sent without a peer (`IP_RECVERR`),
    /// which nobody is told otherwise: such a receive fails with the system's error (`connection
    /// refused`, `no route to host`, `message too long`), and [`Error::destination`] is where that
    /// datagram was sent to. Each report is told once, before the datagrams that have come, and the
    /// socket stays usable. Sends fail for reasons of their own only.
    ///
    /// It is noted for UDP sockets without a peer that are [opened](UdpCosocket::open) from now on.
    /// One with a peer gets such errors in any case.
    ///
    /// ```
    /// use cosocket::UdpCosocket;
    ///
    /// let socket = UdpCosocket::new();
    /// socket.set_report_undelivered(true);
    /// let gone = cosocket::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    /// socket.send_to("anybody there?", gone)?;
    /// let error = socket.receive_from(100).unwrap_err();
    /// assert_eq!(error.to_string(), "connection refused");
    /// assert_eq!(error.destination(), Some(gone));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_report_undelivered(&self, report: bool) {
        self.lock().local.report_undelivered = report;
    }

    /// Opens the socket, bound to what [`bind`](UdpCosocket::bind) said, and without a peer.
    /// [`send_to`](UdpCosocket::send_to) and [`receive_from`](UdpCosocket::receive_from) do that
    /// themselves; this is for who wants to know the address first, or to set options. An open
    /// socket stays as it is.
    ///
    /// ```
    /// use cosocket::UdpCosocket;
    ///
    /// let server = UdpCosocket::new();
    /// server.bind("127.0.0.1", 0)?;
    /// server.open()?;
    /// let client = UdpCosocket::new();
    /// client.send_to("ping", server.local_addr()?)?;
    /// let question = server.receive_from(100)?;
    /// assert_eq!(*question, *b"ping");
    /// server.reply(&question, "pong")?;
    /// assert_eq!(*client.receive_from(100)?, *b"pong");
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Busy`; the system's: `address already in use`, `cannot assign requested address`.
    pub fn open(&self) -> Result<(), Error> {
        io_handle::begin_call()?;
        self.endpoint_or_open(None).map(drop)
    }

    /// Closes the socket.
    ///
    /// # Errors
    ///
    /// `Closed` if it is not open; `Busy` while another receives.
    pub fn close(&self) -> Result<(), Error> {
        let mut state = self.lock();
        if state.endpoint.is_none() {
            return Err(ErrorKind::Closed.into());
        }
        if state.is_busy {
            return Err(ErrorKind::Busy.into());
        }
        let endpoint = state.endpoint.take();
        drop(state);
        drop(endpoint);
        Ok(())
    }

    /// How long a send or a receive may wait; of the object, for all its sockets. Zero is the
    /// default, 60 seconds; [`Duration::MAX`] is for ever. A wait that has begun is not affected.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for 2^31 milliseconds or more.
    pub fn set_timeout(&self, timeout: Duration) -> Result<(), Error> {
        self.timeouts.set(Phase::Read, timeout)?;
        self.timeouts.set(Phase::Send, timeout)?;
        match &self.lock().endpoint {
            Some(endpoint) => Ok(endpoint.set_timeout(self.timeouts.of(Phase::Read))?),
            None => Ok(()),
        }
    }

    /// The timeout. [`Duration::MAX`] is for ever.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeouts.of(Phase::Read).unwrap_or(Duration::MAX)
    }

    /// As [`Cosocket::set_names`](super::Cosocket::set_names).
    pub fn set_names(&self, names: Option<Names>) {
        self.names.set(names);
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// `Closed`; the system's.
    pub fn local_addr(&self) -> Result<Address, Error> {
        Ok(self.endpoint()?.local_addr()?)
    }

    /// The address of the peer.
    ///
    /// # Errors
    ///
    /// `Closed`; the system's: of an unconnected socket, `transport endpoint is not connected`.
    pub fn peer_addr(&self) -> Result<Address, Error> {
        Ok(self.endpoint()?.peer_addr()?)
    }

    fn endpoint(&self) -> Result<Arc<Endpoint>, Error> {
        Ok(self.lock().endpoint.clone().ok_or(ErrorKind::Closed)?)
    }

    /// The socket, or a fresh one of the family that `peer` has.
    fn endpoint_or_open(&self, peer: Option<&Address>) -> Result<Arc<Endpoint>, Error> {
        let mut state = self.lock();
        if let Some(endpoint) = &state.endpoint {
            return Ok(Arc::clone(endpoint));
        }
        if state.is_busy {
            // One that connects will have one of its own.
            return Err(ErrorKind::Busy.into());
        }
        let endpoint = match peer {
            Some(Address::Unix(_)) => Endpoint::unix(&state.local, None)?,
            Some(Address::Ip(address)) => Endpoint::unconnected(&state.local, address.is_ipv6())?,
            Some(Address::Host(..)) | None if state.local.is_unix() => {
                Endpoint::unix(&state.local, None)?
            }
            Some(Address::Host(..)) | None => Endpoint::unconnected(&state.local, false)?,
        };
        endpoint.set_timeout(self.timeouts.of(Phase::Read))?;
        let endpoint = Arc::new(endpoint);
        state.endpoint = Some(Arc::clone(&endpoint));
        Ok(endpoint)
    }

    fn install(&self, endpoint: Endpoint) -> Result<(), Error> {
        endpoint.set_timeout(self.timeouts.of(Phase::Read))?;
        self.lock().endpoint = Some(Arc::new(endpoint));
        Ok(())
    }

    fn claim(&self) -> Result<Turn<'_>, Error> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.is_busy, true) {
            return Err(ErrorKind::Busy.into());
        }
        Ok(Turn(self))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for UdpCosocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UdpCosocket");
        if let Ok(address) = self.local_addr() {
            debug.field("local", &address.to_string());
        }
        if let Ok(address) = self.peer_addr() {
            debug.field("peer", &address.to_string());
        }
        debug.finish_non_exhaustive()
    }
}
