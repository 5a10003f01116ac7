//! Every way to make a socket, with no descriptor left and with bad input: an error that is std's,
//! and nothing leaked.

mod socket_util;
#[allow(unsafe_code)]
mod util;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::time::Duration;

use cosocket::net::{TcpBuilder, TcpListener, TcpStream, UdpBuilder, UdpSocket};
use cosocket::os::unix::net as unet;
use socket_util::{everywhere, is_close_on_exec};
use unet::{UnixDatagram, UnixListener, UnixStream};
use util::{child, descriptors, leave_descriptors, limit, set_soft_limit};

type Make = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// How to make it, and how many descriptors that takes.
fn way<T>(descriptors: u64, make: impl Fn() -> io::Result<T> + Send + Sync + 'static) -> Way {
    Way { descriptors, make: Box::new(move || make().map(drop)) }
}

struct Way {
    descriptors: u64,
    make: Make,
}

fn name(suffix: &str) -> unet::SocketAddr {
    let name = format!("cosocket-socket-limits-{}-{suffix}", std::process::id());
    unet::SocketAddr::from_abstract_name(name).unwrap()
}

/// Sockets that exist before the limit is reached, and what is made of and beside them.
fn ways() -> Vec<Way> {
    let any = "127.0.0.1:0";
    let listener = TcpListener::bind(any).unwrap();
    let address = listener.local_addr().unwrap();
    // The connections that are accepted below.
    let waiting: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    let unix_listener = UnixListener::bind_addr(&name("listener")).unwrap();
    let unix_waiting: Vec<_> =
        (0..20).map(|_| UnixStream::connect_addr(&name("listener")).unwrap()).collect();
    let another = TcpListener::bind(any).unwrap();
    let another_address = another.local_addr().unwrap();
    let unix_another = UnixListener::bind_addr(&name("another")).unwrap();
    let timeout = Duration::from_secs(100);
    let (stream, _far) = UnixStream::pair().unwrap();
    let datagram = UnixDatagram::unbound().unwrap();
    let udp = UdpSocket::bind(any).unwrap();
    vec![
        way(1, move || TcpListener::bind(any)),
        way(1, move || {
            let _keep = &another;
            TcpStream::connect(another_address)
        }),
        way(1, move || TcpStream::connect_timeout(&another_address, timeout)),
        way(1, move || TcpBuilder::new().connect(another_address)),
        way(1, move || TcpBuilder::new().listen(any)),
        way(3, move || TcpBuilder::new().listen_many(any, 3)),
        way(1, move || {
            let _keep = &waiting;
            listener.accept()
        }),
        way(1, move || UdpSocket::bind(any)),
        way(3, move || UdpBuilder::new().bind_many(any, 3)),
        way(1, move || udp.try_clone()),
        way(1, || UnixListener::bind_addr(&name("bound"))),
        way(1, move || {
            let _keep = &unix_another;
            UnixStream::connect_addr(&name("another"))
        }),
        way(2, UnixStream::pair),
        way(1, move || stream.try_clone()),
        way(1, move || {
            let _keep = &unix_waiting;
            unix_listener.accept()
        }),
        way(1, UnixDatagram::unbound),
        way(1, || UnixDatagram::bind_addr(&name("datagram"))),
        way(2, UnixDatagram::pair),
        way(1, move || datagram.try_clone()),
    ]
}

/// Without enough descriptors it fails with EMFILE and keeps none; with enough it works.
fn check(ways: &[Way]) {
    for (number, way) in ways.iter().enumerate() {
        (way.make)().unwrap_or_else(|error| panic!("way {number} at first: {error}"));
        let before = descriptors();
        for room in 0..=way.descriptors {
            let gaps = leave_descriptors(room);
            let made = (way.make)();
            set_soft_limit(libc::RLIMIT_NOFILE, limit(libc::RLIMIT_NOFILE).1);
            drop(gaps);
            assert_eq!(descriptors(), before, "way {number} leaks with room for {room}");
            match made {
                Ok(()) => assert_eq!(room, way.descriptors, "way {number} takes less"),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "way {number}");
                    assert!(room < way.descriptors, "way {number} takes more");
                }
            }
        }
    }
}

#[test]
fn without_descriptors_nothing_is_made_and_nothing_leaked() {
    child::passes("without_descriptors_nothing_is_made_and_nothing_leaked", || {
        check(&ways());
        cosocket::run(|| check(&ways()));
    });
}

/// Errors that come when there is a socket already: it is closed again.
#[test]
fn bad_input_leaks_nothing() {
    child::passes("bad_input_leaks_nothing", || {
        let check = || {
            let none: &[SocketAddr] = &[];
            let holder = TcpListener::bind("127.0.0.1:0").unwrap();
            let taken = holder.local_addr().unwrap();
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let udp_taken = udp.local_addr().unwrap();
            let _unix = UnixListener::bind_addr(&name("taken")).unwrap();
            let _datagram = UnixDatagram::bind_addr(&name("taken")).unwrap();
            let long = "p".repeat(200);
            let before = descriptors();
            let kinds = [
                TcpListener::bind(none).map(drop),
                TcpListener::bind(taken).map(drop),
                TcpListener::bind("192.0.2.1:0").map(drop),
                TcpStream::connect(none).map(drop),
                TcpStream::connect("127.0.0.1:1").map(drop),
                TcpStream::connect("255.255.255.255:1").map(drop),
                TcpStream::connect_timeout(&taken, Duration::ZERO).map(drop),
                TcpBuilder::new().listen_many(taken, 4).map(drop),
                TcpBuilder::new().local_addr(taken).connect(taken).map(drop),
                UdpSocket::bind(none).map(drop),
                UdpSocket::bind(udp_taken).map(drop),
                udp.connect(none),
                udp.connect("[::1]:9"),
                udp.send_to(b"x", none).map(drop),
                UnixStream::connect(&long).map(drop),
                UnixStream::connect("a\0b").map(drop),
                UnixStream::connect("/does/not/exist").map(drop),
                UnixStream::connect_addr(&name("nobody")).map(drop),
                UnixListener::bind(&long).map(drop),
                UnixListener::bind("/does/not/exist").map(drop),
                UnixListener::bind_addr(&name("taken")).map(drop),
                UnixDatagram::bind(&long).map(drop),
                UnixDatagram::bind("/does/not/exist").map(drop),
                UnixDatagram::bind_addr(&name("taken")).map(drop),
            ];
            for (number, result) in kinds.into_iter().enumerate() {
                let error = result.expect_err(&format!("number {number}"));
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "number {number}: {error}");
            }
            assert_eq!(descriptors(), before);
        };
        check();
        cosocket::run(check);
    });
}

#[test]
fn every_socket_is_closed_on_exec_and_in_blocking_mode() {
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind("").unwrap();
        let address = unix.local_addr().unwrap();
        let (unix_client, unix_server) =
            (UnixStream::connect_addr(&address).unwrap(), unix.accept().unwrap().0);
        let (near, far) = UnixStream::pair().unwrap();
        let (one, other) = UnixDatagram::pair().unwrap();
        let clones: [OwnedFd; 6] = [
            client.try_clone().unwrap().into(),
            listener.try_clone().unwrap().into(),
            udp.try_clone().unwrap().into(),
            unix.try_clone().unwrap().into(),
            near.try_clone().unwrap().into(),
            one.try_clone().unwrap().into(),
        ];
        let made: [OwnedFd; 13] = [
            listener.into(),
            client.into(),
            server.into(),
            udp.into(),
            unix.into(),
            unix_client.into(),
            unix_server.into(),
            near.into(),
            far.into(),
            one.into(),
            other.into(),
            UnixDatagram::unbound().unwrap().into(),
            UnixDatagram::bind("").unwrap().into(),
        ];
        for (number, fd) in made.iter().chain(&clones).enumerate() {
            assert!(is_close_on_exec(fd), "number {number}");
            assert!(!socket_util::is_nonblocking(fd), "number {number}");
        }
    });
}
