//! The servers: cosocket, hand-written loops, and the rivals.
//!
//! Each runs as a process of its own, so that what it uses is its own. Those in Rust are subcommands
//! of this binary; those in other languages are compiled when their tools are there. All do the
//! same with what they read: see [`handler`].

mod compio;
pub mod cosocket;
mod external;
pub mod handler;
mod may;
mod monoio;
mod raw_epoll;
mod raw_multishot;
mod raw_uring;
mod redis;
mod smol;
mod threads;
mod tokio;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use socket2::{Domain, Socket, Type};

pub use self::external::compile_go;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Echo,
    Http,
    /// HTTP, with a look-up in Redis for every request.
    Redis,
}

impl Service {
    pub const ALL: [Service; 3] = [Service::Echo, Service::Http, Service::Redis];

    pub fn name(self) -> &'static str {
        match self {
            Service::Echo => "echo",
            Service::Http => "http",
            Service::Redis => "redis",
        }
    }

    pub fn named(name: &str) -> Option<Service> {
        Service::ALL.into_iter().find(|service| service.name() == name)
    }
}

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Settings {
    pub service: Service,
    /// The size of a connection's read buffer: 64, 4096 or 65536.
    pub buffer_bytes: usize,
    /// Threads of a server that has several.
    pub workers: usize,
    pub redis: SocketAddr,
}

impl Settings {
    pub fn arguments(&self) -> [String; 4] {
        [
            format!("--service={}", self.service.name()),
            format!("--buffer={}", self.buffer_bytes),
            format!("--workers={}", self.workers),
            format!("--redis={}", self.redis),
        ]
    }
}

pub struct Server {
    pub name: &'static str,
    pub about: &'static str,
    kind: Kind,
    pub services: &'static [Service],
    /// A server with a thread for each connection is spared more.
    pub most_connections: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Serves until it is killed.
    BuiltIn(fn(&Settings) -> io::Result<()>),
    /// A program that is compiled into a directory if need be.
    External(fn(&Settings, &Path) -> Result<Launch, String>),
}

/// What runs a server in a process of its own.
pub struct Launch {
    pub command: Command,
    /// Where it will listen, if it does not print that.
    pub address: Option<SocketAddr>,
}

impl From<Command> for Launch {
    fn from(command: Command) -> Launch {
        Launch { command, address: None }
    }
}

const ECHO_HTTP: &[Service] = &[Service::Echo, Service::Http];

const fn built_in(
    name: &'static str,
    about: &'static str,
    serve: fn(&Settings) -> io::Result<()>,
    services: &'static [Service],
) -> Server {
    Server { name, about, kind: Kind::BuiltIn(serve), services, most_connections: usize::MAX }
}

const fn external(
    name: &'static str,
    about: &'static str,
    command: fn(&Settings, &Path) -> Result<Launch, String>,
    services: &'static [Service],
) -> Server {
    Server { name, about, kind: Kind::External(command), services, most_connections: usize::MAX }
}

pub const ALL: &[Server] = &[
    built_in("cosocket-uring", "io_uring, one worker", cosocket::uring, &Service::ALL),
    built_in("cosocket-epoll", "epoll, one worker", cosocket::epoll, &Service::ALL),
    built_in("cosocket-uring-n", "io_uring, N workers", cosocket::uring_n, &Service::ALL),
    built_in("cosocket-epoll-n", "epoll, N workers", cosocket::epoll_n, &Service::ALL),
    built_in("raw-epoll", "a loop by hand: epoll, recv, send", raw_epoll::serve, ECHO_HTTP),
    built_in(
        "raw-uring",
        "a loop by hand: receive by the ring, send(2); the calls that cosocket makes",
        raw_uring::serve,
        ECHO_HTTP,
    ),
    built_in(
        "raw-uring-multishot",
        "a loop by hand: multishot receive from a buffer ring, send by the ring",
        raw_multishot::serve,
        ECHO_HTTP,
    ),
    built_in("tokio", "current-thread runtime", tokio::current_thread, &Service::ALL),
    built_in("tokio-n", "multi-thread runtime, N workers", tokio::multi_thread, &Service::ALL),
    built_in("may", "one worker", may::one, &Service::ALL),
    built_in("may-n", "N workers", may::several, &Service::ALL),
    built_in("monoio", "io_uring", monoio::serve, ECHO_HTTP),
    built_in("compio", "io_uring", compio::serve, ECHO_HTTP),
    built_in("smol", "one thread", smol::serve, ECHO_HTTP),
    Server {
        most_connections: 1000,
        ..built_in("threads", "std, a thread a connection", threads::serve, ECHO_HTTP)
    },
    external("go", "net, GOMAXPROCS=1", external::go, &Service::ALL),
    external("libuv", "C, one loop", external::libuv, ECHO_HTTP),
    external("nginx-lua", "lua-nginx-redis", external::nginx, &[Service::Http, Service::Redis]),
];

/// By name.
pub fn find(name: &str) -> Option<&'static Server> {
    ALL.iter().find(|server| server.name == name)
}

impl Server {
    /// Runs a built-in one in this process.
    pub fn serve(&self, settings: &Settings) -> io::Result<()> {
        match self.kind {
            Kind::BuiltIn(serve) => serve(settings),
            Kind::External(_) => Err(io::Error::other("not a server of this binary")),
        }
    }

    /// What runs it in a process of its own, or the reason why it cannot be had. Programs are
    /// compiled into `directory`.
    pub fn launch(&self, settings: &Settings, directory: &Path) -> Result<Launch, String> {
        match self.kind {
            Kind::BuiltIn(_) => {
                let binary = std::env::current_exe().map_err(|error| error.to_string())?;
                let mut command = Command::new(binary);
                command.arg("serve").arg(self.name).args(settings.arguments());
                Ok(command.into())
            }
            Kind::External(launch) => launch(settings, directory),
        }
    }
}

/// Listens on a port that is free, and tells which it is.
fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    println!("listening {}", listener.local_addr()?);
    io::stdout().flush()?;
    Ok(listener)
}

/// As [`listen`], non-blocking.
fn listen_nonblocking() -> io::Result<TcpListener> {
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
