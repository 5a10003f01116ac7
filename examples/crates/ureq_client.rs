//! ureq on cosocket's sockets, through its `Connector` and `Resolver`: fifty requests at once.
//!
//!     python3 -m http.server 8000
//!     cargo run -p cosocket-interop --example ureq_client -- http://127.0.0.1:8000/

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;

use cosocket::net::{TcpStream, ToSocketAddrs};
use cosocket::time::{Duration, timeout};
use ureq::unversioned::{resolver::*, transport::*};
use ureq::{Agent, Error, config::Config, http::Uri};

type Result<T> = std::result::Result<T, Error>;

/// An agent whose requests suspend only the coroutine that makes them; all may share it.
pub fn agent(config: Config) -> Agent {
    Agent::with_parts(config, Network.chain(RustlsConnector::default()), Network)
}

#[derive(Debug)]
struct Network;

impl Resolver for Network {
    fn resolve(&self, uri: &Uri, _: &Config, limit: NextTimeout) -> Result<ResolvedSocketAddrs> {
        let (scheme, authority) = uri.scheme().zip(uri.authority()).ok_or(Error::HostNotFound)?;
        let name = DefaultResolver::host_and_port(scheme, authority).ok_or(Error::HostNotFound)?;
        let mut found = self.empty();
        within(limit, || name.to_socket_addrs())?.take(16).for_each(|address| found.push(address));
        Ok(found)
    }
}

impl Connector for Network {
    type Out = Socket;
    fn connect(&self, to: &ConnectionDetails, _: Option<()>) -> Result<Option<Socket>> {
        let stream = within(to.timeout, || TcpStream::connect(&to.addrs[..]))?;
        let room = LazyBuffers::new(to.config.input_buffer_size(), to.config.output_buffer_size());
        Ok(Some(Socket(stream, room)))
    }
}

#[derive(Debug)]
struct Socket(TcpStream, LazyBuffers);

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.1
    }
    fn transmit_output(&mut self, amount: usize, limit: NextTimeout) -> Result<()> {
        within(limit, || self.0.write_all(&self.1.output()[..amount]))
    }
    fn await_input(&mut self, limit: NextTimeout) -> Result<bool> {
        let count = within(limit, || self.0.read(self.1.input_append_buf()))?;
        self.1.input_appended(count);
        Ok(count > 0)
    }
    fn is_open(&mut self) -> bool {
        // Asked under the lock of ureq's pool, where nothing may suspend: hence a plain `recv`.
        let (byte, flags) = (&mut [MaybeUninit::uninit()], libc::MSG_PEEK | libc::MSG_DONTWAIT);
        let peeked = socket2::SockRef::from(&self.0).recv_with_flags(byte, flags);
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// Bounds all of `f`, whatever it waits for, and says which of ureq's limits it was.
fn within<T>(limit: NextTimeout, f: impl FnOnce() -> io::Result<T>) -> Result<T> {
    let duration = limit.not_zero().map_or(Duration::MAX, |duration| *duration);
    timeout(duration, f).map_err(io::Error::from).flatten().map_err(|error| match error.kind() {
        ErrorKind::TimedOut => Error::Timeout(limit.reason),
        _ => Error::Io(error),
    })
}

fn main() {
    let url = std::env::args().nth(1).unwrap_or("http://127.0.0.1:8000/".into());
    let (agent, url) = (&agent(Config::default()), &url);
    let get = |n| println!("{n}: {:?}", agent.get(url).call());
    cosocket::thread::scope(|scope| (0..50).for_each(|n| drop(scope.spawn(move || get(n)))));
}
