//! Connecting: what a name stands for, one attempt after another, one time limit for all.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::address::{Address, Target};
use super::connection::Connection;
use super::local::Local;
use super::pool::{self, Found, Member, Origin, Wanted};
use super::report::What;
use super::state::Connecting;
use super::timeouts::Phase;
use super::transport::Transport;
use super::{Cosocket, Error};
use crate::clock;
use crate::io_handle::{self, bounds::Bounds};
use crate::net::connecting::Connecting as Attempt;
use crate::net::race;
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
    /// Of the pool's connections, one that is encrypted, by
    /// [`tls_handshake`](Cosocket::tls_handshake) with these very options or a clone of them, for
    /// the name that is connected to. (A fresh one is not encrypted yet, so the handshake follows
    /// in any case; on a connection out of the pool it does nothing.) Without it, one that is not
    /// encrypted.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub tls: Option<crate::tls::TlsOptions>,
}

/// What the pool's user made of a connection.
enum Hooked {
    Fine,
    ReuseRefused,
    CreateFailed(io::Error),
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
    /// All addresses of a name are tried, in a race (see
    /// [`TcpBuilder::connect_any`](crate::net::TcpBuilder::connect_any)). [`Names`](super::Names)
    /// says who looks the name up. The connect timeout bounds the making of the
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
    pub fn connect_with(&self, target: impl Target, options: &ConnectOptions) -> Result<(), Error> {
        self.connect_from(|| Origin::Here, &target, options)
    }

    /// [`connect_with`](Cosocket::connect_with), with a place from elsewhere. A connection out of
    /// a pool that its hook refuses is closed, and the next one is looked for.
    pub(super) fn connect_from<'a>(
        &self,
        mut origin: impl FnMut() -> Origin<'a>,
        target: &impl Target,
        options: &ConnectOptions,
    ) -> Result<(), Error> {
        loop {
            match self.connect_once(origin(), target, options)? {
                Hooked::Fine => return Ok(()),
                Hooked::ReuseRefused => drop(self.close()),
                Hooked::CreateFailed(error) => {
                    let _ = self.close();
                    return Err(error.into());
                }
            }
        }
    }

    fn connect_once(
        &self,
        origin: Origin<'_>,
        target: &impl Target,
        options: &ConnectOptions,
    ) -> Result<Hooked, Error> {
        io_handle::begin_call()?;
        let address = target.to_address()?;
        let began = self.begin_report();
        let connecting = self.state.claim_connect()?;
        let wanted = Wanted { address: &address, local: self.local(), options };
        // A wait for a place has the whole of the timeout, and the connect has it again.
        let timeout = self.timeouts.of(Phase::Connect);
        let bounds = Bounds { timeout, deadline: None, cut: connecting.cut() };
        let failed = |what| {
            let address = &address;
            move |error: &Error| {
                let upstream = began.map(|_| address.to_string());
                self.report(what, began, upstream.as_deref(), error);
            }
        };
        let found = pool::find(origin, &wanted, &bounds).inspect_err(failed(What::Queue))?;
        let Found { connection, mut ticket } = found;
        let is_reused = connection.is_some();
        let mut connection = match connection {
            Some(connection) => connection,
            None => {
                let transport = self
                    .make_transport(&address, &connecting)
                    .inspect_err(failed(What::Connect))?;
                if let Some(ticket) = &mut ticket {
                    ticket.set_connected();
                }
                // One that was made while another changed the settings is nobody else's.
                let key = (wanted.local == self.local()).then(|| Arc::new(wanted.key()));
                let mut connection = Connection::new(transport, Some(address));
                connection.details.member = Member::new(key);
                connection
            }
        };
        let hook = ticket.as_ref().and_then(|ticket| ticket.hook(is_reused));
        connection.details.ticket = ticket;
        connecting.opened(connection)?;
        Ok(match hook.map_or(Ok(()), |hook| hook(self)) {
            Ok(()) => Hooked::Fine,
            Err(_) if is_reused => Hooked::ReuseRefused,
            Err(error) => Hooked::CreateFailed(error),
        })
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
                let names = self.names.names();
                let addresses = connecting.look_up(|| names.look_up(host, *port))?;
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

    /// To all of them in a race.
    fn connect_tcp(
        &self,
        addresses: &[SocketAddr],
        connecting: &Connecting<'_>,
    ) -> Result<Transport, Error> {
        let bounds = self.connect_bounds(connecting);
        let (delay, cut) = (race::ATTEMPT_DELAY, Some(bounds.cut));
        let rules = race::Rules { delay, deadline: bounds.deadline, cut };
        let local = self.local();
        let start = |address: &SocketAddr| start_one(address, &local, connecting);
        Ok(Transport::Tcp(race::connect(addresses.to_vec(), &rules, start)?))
    }
}

/// One attempt. The connection has `TCP_NODELAY` set, as OpenResty's have.
fn start_one(
    address: &SocketAddr,
    local: &Local,
    connecting: &Connecting<'_>,
) -> io::Result<Attempt> {
    let domain = Domain::for_address(*address);
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(domain, kind, Some(Protocol::TCP))?;
    connecting.note_socket();
    local.apply_to(&socket, domain)?;
    socket.set_tcp_nodelay(true)?;
    Attempt::start(socket, address)
}
