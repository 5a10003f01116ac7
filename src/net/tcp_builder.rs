//! [`TcpBuilder`]: TCP sockets with settings that must be made before they are bound or connected.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Protocol, SockAddr, SockRef, Socket, Type};

use super::addr::each_address;
use super::builder::{BindOptions, bind_options, several};
use super::connecting::Connecting;
use super::race;
use super::tcp_options::{set_defer_accept, set_linger};
use super::{Keepalive, TcpListener, TcpStream, ToSocketAddrs};
use crate::clock;
use crate::io_handle;

/// Connections that may wait to be accepted, as in std.
const BACKLOG: u32 = 128;

/// Listens or connects with settings that std's [`bind`](TcpListener::bind) and
/// [`connect`](TcpStream::connect) leave at their defaults. What is set here and not said otherwise
/// holds for connections made and for those that a listener accepts.
///
/// One builder may be used several times.
///
/// ```
/// use cosocket::net::TcpBuilder;
/// use std::time::Duration;
///
/// let listener = TcpBuilder::new().backlog(4096).nodelay(true).listen("127.0.0.1:0")?;
/// let client = TcpBuilder::new()
///     .local_addr("127.0.0.2:0".parse().unwrap())
///     .connect_timeout(Duration::from_secs(10))
///     .connect(listener.local_addr()?)?;
/// let (server, peer) = listener.accept()?;
/// assert_eq!(peer, client.local_addr()?);
/// assert_eq!(peer.ip().to_string(), "127.0.0.2");
/// assert!(server.nodelay()?);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TcpBuilder {
    options: BindOptions,
    nodelay: bool,
    linger: Option<Duration>,
    keepalive: Option<Keepalive>,
    backlog: Option<u32>,
    defer_accept: Option<Duration>,
    local_addr: Option<SocketAddr>,
    connect_timeout: Option<Duration>,
    attempt_delay: Option<Duration>,
}

bind_options!(TcpBuilder);

impl TcpBuilder {
    /// The settings of std.
    pub fn new() -> TcpBuilder {
        TcpBuilder::default()
    }

    /// Whether an address may be bound that lingering connections still use (`SO_REUSEADDR`). By
    /// default listeners may, and connections with a local address may not.
    pub fn reuse_address(mut self, reuse: bool) -> TcpBuilder {
        self.options.reuse_address = Some(reuse);
        self
    }

    /// As [`TcpStream::set_nodelay`].
    pub fn nodelay(mut self, nodelay: bool) -> TcpBuilder {
        self.nodelay = nodelay;
        self
    }

    /// As [`TcpStream::set_linger`].
    pub fn linger(mut self, linger: Option<Duration>) -> TcpBuilder {
        self.linger = linger;
        self
    }

    /// As [`TcpStream::set_keepalive`].
    pub fn keepalive(mut self, keepalive: Keepalive) -> TcpBuilder {
        self.keepalive = Some(keepalive);
        self
    }

    /// How many connections of a listener may wait to be accepted: 128, as in std. The system
    /// has a limit of its own (`net.core.somaxconn`). For listeners.
    pub fn backlog(mut self, connections: u32) -> TcpBuilder {
        self.backlog = Some(connections);
        self
    }

    /// Lets `accept` have a connection only when it has sent something, or after about so long
    /// without (`TCP_DEFER_ACCEPT`); in whole seconds, rounded down. For listeners.
    pub fn defer_accept(mut self, accept: Duration) -> TcpBuilder {
        self.defer_accept = Some(accept);
        self
    }

    /// Where connections are made from; port 0 is any. By default the system chooses. An address
    /// to connect to that is of the other family fails, and the next one is tried.
    pub fn local_addr(mut self, address: SocketAddr) -> TcpBuilder {
        self.local_addr = Some(address);
        self
    }

    /// For how long [`connect`](TcpBuilder::connect) may try, all addresses together; the look-up
    /// of a name comes before that and does not count. By default as long as the kernel does.
    pub fn connect_timeout(mut self, timeout: Duration) -> TcpBuilder {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Connects to the first address that accepts, as [`TcpStream::connect`]. A cancel unwinds and
    /// closes the socket.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there is no address, or for a setting that is out of range (a zero
    /// timeout, say); `TimedOut`; else the system's error for the last address.
    pub fn connect<A: ToSocketAddrs>(&self, address: A) -> io::Result<TcpStream> {
        self.check_timeout()?;
        let mut deadline = None;
        each_address(address, |address| {
            io_handle::begin_call()?;
            let timeout = self.connect_timeout.map(|timeout| {
                let now = Instant::now();
                match deadline.get_or_insert(now.checked_add(timeout)) {
                    Some(deadline) => deadline.saturating_duration_since(now),
                    None => timeout,
                }
            });
            if timeout == Some(Duration::ZERO) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.begin_connect(address)?.wait(timeout)
        })
    }

    /// As [`connect`](TcpBuilder::connect), and does not wait for one address to fail before it
    /// tries the next: every 250 ms ([`attempt_delay`](TcpBuilder::attempt_delay)), and when an
    /// attempt fails, another joins the race, and the first connection made wins. IPv6 and IPv4
    /// take turns, beginning with the family of the first address ("happy eyeballs", RFC 8305,
    /// sections 4 and 5).
    ///
    /// A peer may see connections that are closed at once: those that came second.
    ///
    /// ```
    /// use cosocket::net::{TcpBuilder, TcpListener};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let good = listener.local_addr()?;
    /// let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// let stream = TcpBuilder::new().connect_any(&[closed, good][..])?;
    /// assert_eq!(stream.peer_addr()?, good);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`connect`](TcpBuilder::connect); when all fail, the last error that says more than that
    /// this machine has no way there.
    pub fn connect_any<A: ToSocketAddrs>(&self, address: A) -> io::Result<TcpStream> {
        self.check_timeout()?;
        let addresses = address.to_socket_addrs()?.collect();
        let delay = self.attempt_delay.unwrap_or(race::ATTEMPT_DELAY).max(race::ATTEMPT_DELAY_MIN);
        let deadline = self.connect_timeout.map(clock::after);
        let rules = race::Rules { delay, deadline, cut: None };
        race::connect(addresses, &rules, |address| self.begin_connect(address))
    }

    /// How long [`connect_any`](TcpBuilder::connect_any) lets an attempt run alone: 250 ms, as
    /// RFC 8305 recommends; never less than 10 ms.
    pub fn attempt_delay(mut self, delay: Duration) -> TcpBuilder {
        self.attempt_delay = Some(delay);
        self
    }

    fn check_timeout(&self) -> io::Result<()> {
        if self.connect_timeout == Some(Duration::ZERO) {
            let message = "cannot set a 0 duration timeout";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(())
    }

    fn begin_connect(&self, address: &SocketAddr) -> io::Result<Connecting> {
        let socket = self.options.socket(address, Type::STREAM.nonblocking(), Protocol::TCP)?;
        self.apply_to(&socket)?;
        if let Some(local) = self.local_addr {
            socket.bind(&SockAddr::from(local))?;
        }
        Connecting::start(socket, address)
    }

    /// Listens on the first address that can be bound, as [`TcpListener::bind`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there is no address, or for a setting that is out of range; else the
    /// system's error for the last address.
    pub fn listen<A: ToSocketAddrs>(&self, address: A) -> io::Result<TcpListener> {
        each_address(address, |address| self.listen_on(address))
    }

    /// Listens with several sockets on one port, for acceptors that do not share a queue: one for
    /// each worker, say (see [`Runtime::spawn_on_each`](crate::Runtime::spawn_on_each)). Implies
    /// [`reuse_port`](TcpBuilder::reuse_port); with port 0 the first listener's port is
    /// everybody's.
    ///
    /// The kernel gives each connection to a listener by a hash of its addresses, whether that one
    /// accepts or not. A listener that is closed takes the connections in its queue with it.
    ///
    /// ```
    /// use cosocket::net::TcpBuilder;
    ///
    /// let listeners = TcpBuilder::new().backlog(1024).listen_many("127.0.0.1:0", 4)?;
    /// let port = listeners[0].local_addr()?.port();
    /// assert!(listeners.iter().all(|listener| listener.local_addr().unwrap().port() == port));
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`listen`](TcpBuilder::listen), and `InvalidInput` for no listener. Of several, either
    /// all are made or none.
    pub fn listen_many<A: ToSocketAddrs>(
        &self,
        address: A,
        count: usize,
    ) -> io::Result<Vec<TcpListener>> {
        let builder = self.clone().reuse_port(true);
        let first = || builder.listen(address);
        several(count, first, TcpListener::local_addr, |address| builder.listen_on(&address))
    }

    fn listen_on(&self, address: &SocketAddr) -> io::Result<TcpListener> {
        let reuse_address = Some(self.options.reuse_address.unwrap_or(true));
        let options = BindOptions { reuse_address, ..self.options.clone() };
        let socket = options.bound(address, Type::STREAM, Protocol::TCP)?;
        self.apply_to(&socket)?;
        if let Some(accept) = self.defer_accept {
            use std::os::fd::AsFd;
            set_defer_accept(socket.as_fd(), accept)?;
        }
        let backlog = self.backlog.unwrap_or(BACKLOG);
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(TcpListener::from_listening(socket))
    }

    /// What accepted connections inherit.
    fn apply_to(&self, socket: &Socket) -> io::Result<()> {
        if self.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        if self.linger.is_some() {
            set_linger(&SockRef::from(socket), self.linger)?;
        }
        if let Some(keepalive) = self.keepalive {
            keepalive.apply_to(&SockRef::from(socket))?;
        }
        Ok(())
    }
}
