//! What the socket tests share.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{LocalJoinHandle, Runtime, spawn_local, thread};

/// Runs the same check in a coroutine and on a plain thread.
pub fn everywhere(check: impl Fn() + Send + Sync) {
    cosocket::run(&check);
    check();
}

/// Two ends of a connection.
pub fn pair() -> (TcpStream, TcpStream) {
    pair_at("127.0.0.1:0")
}

pub fn pair_at(address: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    (client, server)
}

/// The same, with std's sockets.
pub fn std_pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// A port that nobody listens on, and that nobody else is given while the test runs.
pub fn closed_port() -> SocketAddr {
    static HELD: LazyLock<socket2::Socket> = LazyLock::new(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket
    });
    HELD.local_addr().unwrap().as_socket().unwrap()
}

/// An address that nobody receives datagrams at, and that nobody else is given meanwhile: a socket
/// that takes them of one peer only, which is not there.
pub struct Nobody(std::net::UdpSocket);

impl Nobody {
    pub fn at(ip: &str) -> Nobody {
        let socket = std::net::UdpSocket::bind((ip, 0)).unwrap();
        socket.connect((ip, 1)).unwrap();
        Nobody(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

/// A listener that nobody accepts from, with all its room taken: further connections hang.
pub fn full_listener() -> (std::net::TcpListener, SocketAddr, Vec<std::net::TcpStream>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&listener).listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    let patience = Duration::from_millis(50);
    while let Ok(client) = std::net::TcpStream::connect_timeout(&address, patience) {
        clients.push(client);
    }
    (listener, address, clients)
}

/// Gives way until the condition holds.
pub fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// Returns after this worker's driver has turned at least once: what was staged is in the kernel.
pub fn turn() {
    thread::sleep(Duration::from_nanos(1));
}

/// Spawns `f` on this worker and returns when it waits: coroutines of one worker give way only
/// where they wait, so nothing else can lie between its start and our turn.
pub fn spawn_waiting<T: 'static>(f: impl FnOnce() -> T + 'static) -> LocalJoinHandle<T> {
    let started = Rc::new(Cell::new(false));
    let flag = Rc::clone(&started);
    let handle = spawn_local(move || {
        flag.set(true);
        f()
    });
    until(|| started.get());
    turn();
    handle
}

/// Whether the kernel has O_NONBLOCK for this descriptor.
#[allow(unsafe_code)]
pub fn is_nonblocking(fd: &impl AsFd) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: no pointers are passed.
    let flags = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GETFL) };
    assert!(flags >= 0);
    flags & libc::O_NONBLOCK != 0
}

/// Whether the descriptor is closed by `exec`.
pub fn is_close_on_exec(fd: &impl AsFd) -> bool {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let info = std::fs::read_to_string(path).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    i32::from_str_radix(flags, 8).unwrap() & libc::O_CLOEXEC != 0
}

/// The kernel's read and write timeouts of this descriptor.
pub fn kernel_timeouts(fd: &impl AsFd) -> [Option<Duration>; 2] {
    let socket = socket2::SockRef::from(fd);
    [socket.read_timeout().unwrap(), socket.write_timeout().unwrap()]
}

type Job = Box<dyn FnOnce() + Send>;

/// One coroutine on each worker that starts others there, so that a test can say where.
pub struct Agents(Vec<Agent>);

pub struct Agent {
    os_thread: ThreadId,
    thread: thread::Thread,
    jobs: Arc<Mutex<VecDeque<Job>>>,
}

impl Agents {
    pub fn of(runtime: &Runtime) -> Agents {
        let mut agents: Vec<Agent> = Vec::new();
        while agents.len() < runtime.workers() {
            let agent = Agent::on(runtime);
            if agents.iter().all(|other| other.os_thread != agent.os_thread) {
                agents.push(agent);
            }
        }
        Agents(agents)
    }

    /// The agent of a worker; with too few workers, of one that has another number as well.
    pub fn at(&self, worker: usize) -> &Agent {
        &self.0[worker % self.0.len()]
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Agent {
    fn on(runtime: &Runtime) -> Agent {
        let jobs = Arc::new(Mutex::new(VecDeque::<Job>::new()));
        let (started, told) = channel();
        let queue = Arc::clone(&jobs);
        runtime.spawn(move || {
            started.send((std::thread::current().id(), thread::current())).unwrap();
            loop {
                let next = queue.lock().unwrap().pop_front();
                match next {
                    Some(job) => drop(spawn_local(job)),
                    None => thread::park(),
                }
            }
        });
        let (os_thread, thread) = told.recv().unwrap();
        Agent { os_thread, thread, jobs }
    }

    /// Starts `f` on this worker, from a plain thread; `recv` its result.
    pub fn start<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (result, receiver) = channel();
        let os_thread = self.os_thread;
        let job = move || {
            assert_eq!(std::thread::current().id(), os_thread, "not where it was sent");
            let value = f();
            assert_eq!(std::thread::current().id(), os_thread, "it changed its worker");
            let _ = result.send(value);
        };
        self.jobs.lock().unwrap().push_back(Box::new(job));
        self.thread.unpark();
        receiver
    }

    /// Returns when all that was started here before waits, or is over.
    pub fn settle(&self) {
        self.start(turn).recv().unwrap();
    }
}

/// Takes back what a Rust program does about a signal when it starts.
#[allow(unsafe_code)]
pub fn default_action(signal: i32) {
    // SAFETY: no handler of ours is involved.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}
