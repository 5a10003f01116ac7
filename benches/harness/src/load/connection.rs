//! One connection of the load generator: what it still has to send, and what it waits for.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol as IpProtocol, Socket, Type};

use super::poller;
use super::protocol::{Progress, Script, Wrong};

/// Ports there are for one pair of addresses, roughly; then the next source address is used.
const PORTS_PER_ADDRESS: usize = 10_000;

pub struct Connection {
    socket: Socket,
    /// Its number in the whole load, which decides its messages.
    pub id: usize,
    pub progress: Progress,
    /// Requests begun, and replies complete.
    begun: u64,
    done: u64,
    /// When the requests without a reply were due, oldest first, in nanoseconds.
    due: VecDeque<u64>,
    /// What the socket did not take yet, from `sent` on.
    output: Vec<u8>,
    sent: usize,
    /// The events asked for.
    pub interest: u32,
}

/// Why a connection ended early.
#[derive(Debug)]
pub enum Broken {
    Io(io::Error),
    Closed,
    Wrong(Wrong),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Io(error)
    }
}

impl Connection {
    /// Blocks until it is made; the socket is non-blocking from then on.
    pub fn establish(server: SocketAddr, id: usize) -> io::Result<Connection> {
        let socket = bound_socket(id / PORTS_PER_ADDRESS)?;
        socket.connect(&server.into())?;
        socket.set_nonblocking(true)?;
        Ok(Connection::over(socket, id))
    }

    /// Begins to connect, from a source address that `attempt` chooses.
    pub fn begin(server: SocketAddr, id: usize, attempt: u64) -> io::Result<Connection> {
        let socket = bound_socket(attempt as usize)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(Connection::over(socket, id)),
        }
    }

    fn over(socket: Socket, id: usize) -> Connection {
        Connection {
            socket,
            id,
            progress: Progress::default(),
            begun: 0,
            done: 0,
            due: VecDeque::new(),
            output: Vec::new(),
            sent: 0,
            interest: poller::READABLE,
        }
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn waiting(&self) -> usize {
        self.due.len()
    }

    /// When what has no reply yet had been due.
    pub fn unanswered(&self) -> impl Iterator<Item = u64> {
        self.due.iter().copied()
    }

    /// Begins so many requests, due at `due`, and sends what the socket takes.
    pub fn request(&mut self, script: &Script, count: u64, due: u64) -> io::Result<()> {
        for _ in 0..count {
            let bytes = script.request(self.id, self.begun);
            self.begun += 1;
            self.due.push_back(due);
            if count == 1 && self.output.is_empty() {
                // The usual case takes no copy.
                let sent = poller::send(self.fd(), bytes)?.unwrap_or(0);
                self.output.extend_from_slice(&bytes[sent..]);
                return Ok(());
            }
            self.output.extend_from_slice(bytes);
        }
        self.flush()
    }

    /// Sends what is left over.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.wants_to_send() {
            match poller::send(self.fd(), &self.output[self.sent..])? {
                Some(count) => self.sent += count,
                None => return Ok(()),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    pub fn wants_to_send(&self) -> bool {
        self.sent < self.output.len()
    }

    /// Receives and checks; tells `complete` when each finished request had been due.
    pub fn receive(
        &mut self,
        script: &mut Script,
        buffer: &mut [u8],
        mut complete: impl FnMut(u64),
    ) -> Result<u64, Broken> {
        let mut replies = 0;
        loop {
            let count = match poller::recv(self.fd(), buffer)? {
                Some(0) => return Err(Broken::Closed),
                Some(count) => count,
                None => return Ok(replies),
            };
            let received = &buffer[..count];
            let new = script
                .check(self.id, self.done, &mut self.progress, received)
                .map_err(Broken::Wrong)?;
            self.done += new;
            replies += new;
            for _ in 0..new {
                let unasked = || Broken::Wrong(Wrong("a reply that nobody asked for".into()));
                complete(self.due.pop_front().ok_or_else(unasked)?);
            }
            if count < buffer.len() {
                return Ok(replies);
            }
        }
    }
}

/// A socket with the source address 127.0.x.y that `index` chooses: one address alone has too few
/// ports for what a benchmark opens.
fn bound_socket(index: usize) -> io::Result<Socket> {
    let kind = Type::STREAM.cloexec();
    let socket = Socket::new(Domain::IPV4, kind, Some(IpProtocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    let [third, fourth] = [(index / 250 % 250) as u8, (index % 250) as u8 + 1];
    let source = SocketAddrV4::new(Ipv4Addr::new(127, 0, third, fourth), 0);
    bind_address_no_port(&socket)?;
    socket.bind(&SocketAddr::from(source).into())?;
    Ok(socket)
}

/// The port is chosen by `connect`, so that ports are unique per pair of addresses only.
fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: i32 = 1;
    let len = size_of::<i32>() as libc::socklen_t;
    let (level, name) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    // SAFETY: the value lives through the call.
    let status =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), len) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
