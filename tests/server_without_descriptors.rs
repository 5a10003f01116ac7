//! A server whose process, or system, has no descriptor left, and one whose `accept` fails in other
//! ways. Rows SRV-4 and SRV-5 of the behaviour table.

#![allow(unsafe_code)]

mod util;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cosocket::Builder;
use cosocket::server::{Event, RunningServer, Server};

/// What a server has said, and how many connections its handler has seen.
#[derive(Clone, Default)]
struct Told {
    events: Arc<Mutex<Vec<String>>>,
    accepted: Arc<AtomicUsize>,
}

impl Told {
    fn count(&self, words: &str) -> usize {
        self.events.lock().unwrap().iter().filter(|event| event.contains(words)).count()
    }
}

fn serve(runtime: &cosocket::Runtime) -> (RunningServer, Told) {
    let told = Told::default();
    let (events, accepted) = (Arc::clone(&told.events), Arc::clone(&told.accepted));
    let server = Server::new().listen("127.0.0.1:0");
    let server = server.on_event(move |event| {
        // The handlers' own errors are not what this is about.
        if !matches!(event, Event::HandlerFailed { .. }) {
            events.lock().unwrap().push(event.to_string());
        }
    });
    let server = server.start_on(runtime, move |mut connection| {
        accepted.fetch_add(1, Ordering::SeqCst);
        connection.read_exact(&mut [0; 4])?;
        connection.write_all(b"pong")
    });
    (server.unwrap(), told)
}

fn is_served(mut stream: TcpStream) -> bool {
    let mut answer = [0; 4];
    let written = stream.write_all(b"ping");
    written.and_then(|()| stream.read_exact(&mut answer)).is_ok() && &answer == b"pong"
}

/// What this process has used of the processor.
fn processor_time() -> Duration {
    // SAFETY: all zeros are a value of it, and the call may write it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
        usage
    };
    let of = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    of(usage.ru_utime) + of(usage.ru_stime)
}

/// A program of its own floods, since that takes descriptors; it begins when its input ends.
fn flood(address: std::net::SocketAddr, clients: usize) -> std::process::Child {
    let script = format!(
        "import socket, sys\n\
         sys.stdin.read()\n\
         ends = []\n\
         for i in range({clients}):\n\
        \x20   s = socket.create_connection(('{}', {}))\n\
        \x20   ends.append(s)\n\
         closed = 0\n\
         for s in ends:\n\
        \x20   try:\n\
        \x20       s.shutdown(socket.SHUT_WR)\n\
        \x20       closed += s.recv(1) == b''\n\
        \x20   except OSError:\n\
        \x20       closed += 1\n\
         assert closed == {clients}, closed\n",
        address.ip(),
        address.port()
    );
    let mut command = std::process::Command::new("/usr/bin/python3");
    command.arg("-c").arg(script).stdin(std::process::Stdio::piped());
    util::child::end_with_us(&mut command);
    command.spawn().unwrap()
}

/// SRV-5: clients get closed, the processor idles, the server recovers; not told each time.
#[test]
fn a_server_without_descriptors_closes_clients_and_recovers() {
    util::child::passes("a_server_without_descriptors_closes_clients_and_recovers", || {
        let runtime = Builder::new().build().unwrap();
        let (server, told) = serve(&runtime);
        let address = server.tcp_addr().unwrap();
        assert!(is_served(TcpStream::connect(address).unwrap()));
        let mut flood = flood(address, if util::is_quick() { 50 } else { 400 });
        let mut hoard: Vec<OwnedFd> = util::leave_descriptors(8);
        let stdin = io::stdin();
        while let Ok(fd) = stdin.as_fd().try_clone_to_owned() {
            hoard.push(fd);
        }
        drop(flood.stdin.take());
        assert!(flood.wait().unwrap().success(), "not all clients were closed");
        // One that is accepted after all, by the reserve's number or our pipe's, ends a shortage.
        let shortages = told.count("out of descriptors");
        let accepted = told.accepted.load(Ordering::SeqCst);
        assert!((1..=accepted + 1).contains(&shortages), "{accepted} accepted: {:?}", told.events);
        // Nobody comes, and nothing is done.
        let before = (Instant::now(), processor_time());
        std::thread::sleep(Duration::from_millis(500));
        let used = (processor_time() - before.1).as_secs_f64();
        let share = used / before.0.elapsed().as_secs_f64();
        assert!(share < 0.2, "it spins: {share}");
        drop(hoard);
        assert!(is_served(TcpStream::connect(address).unwrap()));
        assert_eq!(told.count("descriptors can be had again"), shortages, "{:?}", told.events);
        assert!(server.shutdown(Duration::from_secs(60)).stragglers.is_empty());
    });
}

/// SRV-5: while the reserve is gone too, clients wait in the queue, and nobody spins.
#[test]
fn a_server_whose_reserve_was_taken_waits() {
    util::child::passes("a_server_whose_reserve_was_taken_waits", || {
        let runtime = Builder::new().build().unwrap();
        let (server, told) = serve(&runtime);
        let address = server.tcp_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let second = TcpStream::connect(address).unwrap();
        assert!(is_served(client));
        drop(second);
        // Below everything that is open: not even the reserve can be had again.
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let client = client.unwrap();
        let (soft, _) = util::limit(libc::RLIMIT_NOFILE);
        util::set_soft_limit(libc::RLIMIT_NOFILE, 3);
        client.connect(&address.into()).unwrap();
        while told.count("out of descriptors") == 0 {
            std::thread::yield_now();
        }
        let before = (Instant::now(), processor_time());
        std::thread::sleep(Duration::from_millis(500));
        let used = (processor_time() - before.1).as_secs_f64();
        assert!(used / before.0.elapsed().as_secs_f64() < 0.2, "it spins");
        util::set_soft_limit(libc::RLIMIT_NOFILE, soft);
        assert!(is_served(client.into()));
        assert_eq!(told.count("descriptors can be had again"), 1, "{:?}", told.events);
    });
}

/// SRV-4: an `accept` that only ever fails by what is said to be one connection's error is paused;
/// one that fails for want of memory too; one that fails for good ends the server.
#[test]
fn errors_of_accept_have_their_remedies() {
    util::child::passes("errors_of_accept_have_their_remedies", || {
        for (errno, words) in [
            (libc::ECONNABORTED, "accepting pauses"),
            (libc::ENOBUFS, "accepting pauses"),
            (libc::ENOTSOCK, "is broken"),
        ] {
            // The filter is for good, and for the threads that this one starts.
            let check = move || {
                util::refuse_system_call(libc::SYS_accept4, errno);
                let runtime = Builder::new().build().unwrap();
                let (server, told) = serve(&runtime);
                let _client = TcpStream::connect(server.tcp_addr().unwrap()).unwrap();
                while told.count(words) == 0 {
                    std::thread::yield_now();
                }
                if errno == libc::ENOTSOCK {
                    assert!(server.wait().unwrap_err().to_string().contains("is broken"));
                    return;
                }
                let before = (Instant::now(), processor_time());
                std::thread::sleep(Duration::from_millis(500));
                let used = (processor_time() - before.1).as_secs_f64();
                assert!(used / before.0.elapsed().as_secs_f64() < 0.2, "it spins");
            };
            std::thread::spawn(check).join().unwrap();
        }
    });
}
