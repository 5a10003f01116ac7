//! [`Server`]: what a server is to be like, before it starts.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::acceptor::{Acceptor, Shortage};
use super::connection::Connection;
use super::event::{Event, Observer};
use super::listener::{Binding, Bound, Listener, Place};
use super::registry::Registry;
use super::reserve::Reserve;
use super::running::{Accepting, End, RunningServer};
use super::service::{Drain, Handler, Limit, Service};
use super::{AccessList, Peers, ProxyProtocol};
use crate::net::{TcpBuilder, TcpListener, ToSocketAddrs};
use crate::os::unix::net::UnixListener;
use crate::runtime::{self, Runtime};
use crate::shared::{self, Options, Shared};
use crate::sync::Semaphore;
use crate::thread;

/// How many connections may wait to be accepted, as in nginx.
const BACKLOG: u32 = 511;

/// Accepts connections and has a handler serve each, in a coroutine of its own.
///
/// What it is to be like is said first; [`start`](Server::start) begins, and returns a
/// [`RunningServer`], which ends it. See the [module](super) for a picture and an example.
#[must_use = "a server does nothing before it is started"]
pub struct Server {
    places: Vec<Place>,
    tcp: TcpBuilder,
    backlog: u32,
    listeners: Listeners,
    accept_batch: usize,
    unix_mode: Option<u32>,
    replaces_stale: bool,
    limit: Option<(usize, WhenFull)>,
    access: AccessList,
    proxy: Option<ProxyProtocol>,
    cancel_on_abort: bool,
    observer: Observer,
}

/// How workers share the connections that come to a TCP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listeners {
    /// One queue: a connection goes to whichever worker takes it first. The default.
    Shared,
    /// A queue for each worker (`SO_REUSEPORT`), filled by a hash of the addresses, whether the
    /// worker has time or not. For very many short connections; other processes of the same user
    /// may listen on the address, too.
    PerWorker,
}

/// What becomes of connections when there are as many as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// They wait in the kernel's queue, as long as that has room.
    Wait,
    /// They are accepted and closed at once, so that the client knows.
    Refuse,
}

impl Server {
    /// A server that listens nowhere yet, serves everybody, and as many as come.
    pub fn new() -> Server {
        Server {
            places: Vec::new(),
            tcp: TcpBuilder::new(),
            backlog: BACKLOG,
            listeners: Listeners::Shared,
            accept_batch: usize::MAX,
            unix_mode: None,
            replaces_stale: true,
            limit: None,
            access: AccessList::new(),
            proxy: None,
            cancel_on_abort: false,
            observer: Observer::default(),
        }
    }

    /// Listens on the first of these TCP addresses that can be bound; may be called several times.
    /// A name is looked up here, and [`start`](Server::start) returns the error.
    pub fn listen<A: ToSocketAddrs>(mut self, address: A) -> Server {
        self.places.push(Place::Tcp(address.to_socket_addrs().map(Iterator::collect)));
        self
    }

    /// Listens on a Unix socket; may be called several times. The file is removed when the server
    /// ends. One that is there already: see [`replace_stale`](Server::replace_stale).
    pub fn listen_unix(mut self, path: impl Into<PathBuf>) -> Server {
        self.places.push(Place::Unix(path.into()));
        self
    }

    /// Accepts from a listener made elsewhere: inherited, say. It is in non-blocking mode
    /// afterwards, and so are its clones.
    pub fn listener(mut self, listener: TcpListener) -> Server {
        self.places.push(Place::Adopted(Listener::Tcp(listener)));
        self
    }

    /// Accepts from a Unix listener made elsewhere; as [`listener`](Server::listener). Its file
    /// stays.
    pub fn unix_listener(mut self, listener: UnixListener) -> Server {
        self.places.push(Place::Adopted(Listener::Unix(listener)));
        self
    }

    /// The settings of TCP listeners and of the connections they accept; not the backlog.
    pub fn tcp(mut self, settings: TcpBuilder) -> Server {
        self.tcp = settings;
        self
    }

    /// How many connections may wait to be accepted, at each listener: 511. The system has a limit
    /// of its own (`net.core.somaxconn`).
    pub fn backlog(mut self, connections: u32) -> Server {
        self.backlog = connections;
        self
    }

    /// How workers share the connections of a TCP address: [`Listeners::Shared`].
    pub fn listeners(mut self, listeners: Listeners) -> Server {
        self.listeners = listeners;
        self
    }

    /// After so many connections in a row an acceptor lets others go first; by default, when it is
    /// its turn to, as for every coroutine. 1 is the fairest among processes that share a listener.
    ///
    /// # Panics
    ///
    /// For 0.
    pub fn accept_batch(mut self, connections: usize) -> Server {
        assert!(connections > 0, "an acceptor accepts at least one connection");
        self.accept_batch = connections;
        self
    }

    /// The permissions of the files of Unix sockets, such as `0o660`: set before anybody can
    /// connect. By default what the process's umask leaves.
    pub fn unix_mode(mut self, mode: u32) -> Server {
        self.unix_mode = Some(mode);
        self
    }

    /// Whether a Unix socket that is there already is replaced if nobody listens on it, because its
    /// server has died: yes, by default. Where somebody listens, and where the file is no socket,
    /// [`start`](Server::start) fails with `AddrInUse` in any case.
    pub fn replace_stale(mut self, replace: bool) -> Server {
        self.replaces_stale = replace;
        self
    }

    /// How many connections there may be at a time, and what becomes of more. One counts from when
    /// it is accepted until its handler is over.
    ///
    /// # Panics
    ///
    /// For 0.
    pub fn max_connections(mut self, connections: usize, when_full: WhenFull) -> Server {
        assert!(connections > 0, "a server without connections serves nobody");
        self.limit = Some((connections, when_full));
        self
    }

    /// Adds a rule: these peers may connect. The first rule that matches decides, in the order in
    /// which they were added; whom none matches may connect.
    ///
    /// The rules are asked about the client: the one whom a trusted proxy tells of, if
    /// [`proxy_protocol`](Server::proxy_protocol) says so, else the one the kernel tells of.
    ///
    /// ```
    /// use cosocket::server::{Cidr, Peers, Server};
    ///
    /// let server = Server::new()
    ///     .listen("127.0.0.1:0")
    ///     .deny("10.0.0.13".parse::<Cidr>()?)
    ///     .allow("10.0.0.0/8".parse::<Cidr>()?)
    ///     .allow(Peers::Unix)
    ///     .deny(Peers::All);
    /// # Ok::<(), cosocket::server::CidrError>(())
    /// ```
    pub fn allow(mut self, peers: impl Into<Peers>) -> Server {
        self.access.allow(peers);
        self
    }

    /// Adds a rule: these peers may not connect; as [`allow`](Server::allow). Their connections
    /// are closed.
    pub fn deny(mut self, peers: impl Into<Peers>) -> Server {
        self.access.deny(peers);
        self
    }

    /// Connections begin with a PROXY header, from those trusted to send one: at all listeners.
    /// Where the same peers come with a header at one place and without one at another, two servers
    /// with one handler serve them, on the same runtime.
    pub fn proxy_protocol(mut self, protocol: ProxyProtocol) -> Server {
        self.proxy = Some(protocol);
        self
    }

    /// Whether a handler is cancelled when its peer leaves, as by
    /// [`Connection::cancel_on_abort`]. No, by default.
    pub fn cancel_on_abort(mut self, cancel: bool) -> Server {
        self.cancel_on_abort = cancel;
        self
    }

    /// Whom to tell of connections refused, of handlers' errors, and of what is wrong with the
    /// server. It is called where that happens and should not take long. Without one, what is wrong
    /// with the server goes to standard error, and the rest nowhere.
    pub fn on_event(mut self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Server {
        self.observer = Observer::new(observer);
        self
    }

    /// Binds, and begins to accept: in the runtime of the calling coroutine, on a plain thread in
    /// the global one.
    ///
    /// `handler` is called for each connection, in a coroutine of its own. An error that it returns
    /// is told to the [observer](Server::on_event).
    ///
    /// # Errors
    ///
    /// What kept it from listening, and where; `InvalidInput` when it is to listen nowhere. Then
    /// nothing runs and nothing is bound.
    pub fn start<H>(self, handler: H) -> io::Result<RunningServer>
    where
        H: Fn(Connection) -> io::Result<()> + Send + Sync + 'static,
    {
        self.start_in(&*runtime::here()?, Box::new(handler))
    }

    /// [`start`](Server::start), in this runtime.
    ///
    /// # Errors
    ///
    /// As [`start`](Server::start).
    pub fn start_on<H>(self, runtime: &Runtime, handler: H) -> io::Result<RunningServer>
    where
        H: Fn(Connection) -> io::Result<()> + Send + Sync + 'static,
    {
        self.start_in(&runtime.shared, Box::new(handler))
    }

    fn start_in(self, shared: &Shared, handler: Handler) -> io::Result<RunningServer> {
        if self.places.is_empty() {
            let message = "the server is to listen nowhere: see `Server::listen`";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let binding = Binding {
            tcp: &self.tcp,
            backlog: self.backlog,
            listeners: self.listeners,
            unix_mode: self.unix_mode,
            replaces_stale: self.replaces_stale,
        };
        let workers = shared.seats.len();
        let bind = |place: Place| place.bind(&binding, workers);
        let bound = self.places.into_iter().map(bind).collect::<io::Result<Vec<Bound>>>()?;
        let limit = self.limit.map(|(connections, when_full)| Limit {
            permits: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            when_full,
        });
        let service = Arc::new(Service {
            handler,
            access: self.access,
            proxy: self.proxy,
            limit,
            observer: self.observer,
            registry: Registry::new(),
            reserve: Reserve::new()?,
            drain: Drain::new(),
            accept_batch: self.accept_batch,
            cancel_on_abort: self.cancel_on_abort,
        });
        spawn_acceptors(shared, &service, bound)
    }
}

/// One at each listener, each on a worker.
fn spawn_acceptors(
    shared: &Shared,
    service: &Arc<Service>,
    bound: Vec<Bound>,
) -> io::Result<RunningServer> {
    let (end, shortage) = (End::new(), Arc::new(Shortage::default()));
    let (mut addresses, mut paths) = (Vec::new(), Vec::new());
    let mut acceptors = Vec::new();
    for Bound { address, listeners, path } in bound {
        let address = Arc::new(address);
        addresses.push(Arc::clone(&address));
        paths.extend(path);
        for (worker, listener) in listeners.into_iter().enumerate() {
            let acceptor = Arc::new(Acceptor {
                listener,
                address: Arc::clone(&address),
                service: Arc::clone(service),
                shortage: Arc::clone(&shortage),
            });
            let options = Options { place: shared::Place::Worker(worker), ..Options::new() };
            let accepting = Accepting { acceptor: Arc::clone(&acceptor), end: Arc::clone(&end) };
            let handle = thread::spawn_on(shared, options, move || accepting.run());
            acceptors.push((acceptor, handle));
        }
    }
    let mut running = Vec::new();
    let mut failure = None;
    for (acceptor, handle) in acceptors {
        match handle {
            Ok(handle) => running.push((acceptor, handle)),
            Err(error) => failure = Some(error),
        }
    }
    // Dropped in the case of an error, which ends those that did start.
    let server = RunningServer::new(Arc::clone(service), addresses, paths, running, end);
    failure.map_or(Ok(server), Err)
}

impl Default for Server {
    fn default() -> Server {
        Server::new()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("places", &self.places)
            .field("listeners", &self.listeners)
            .field("limit", &self.limit)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
