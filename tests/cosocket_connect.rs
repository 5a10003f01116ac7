//! The object, and how it comes by a connection: addresses, names, Unix sockets, options, what is
//! left after a failure. Row ids are those of the behaviour table.

mod socket_util;
#[allow(unsafe_code)]
mod util;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::sync::Arc;
use std::time::Duration;

use cosocket::net::TcpListener;
use cosocket::os::unix::net::{UnixListener, UnixStream};
use cosocket::{
    Address, Cosocket, ErrorKind, OptionName, Proxy, SocketOption, Stream, spawn, thread, time,
};
use socket_util::{closed_port, everywhere, full_listener, spawn_waiting};

const MILLISECOND: Duration = Duration::from_millis(1);

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A name in the abstract namespace that nobody else has.
fn unix_name(what: &str) -> std::os::unix::net::SocketAddr {
    let name = format!("cosocket-{what}-{}-{:?}", std::process::id(), std::thread::current().id());
    std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap()
}

#[track_caller]
fn assert_closed(socket: &Cosocket) {
    assert_eq!(socket.send(b"x").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(socket.send(b"").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(socket.try_close().unwrap_err().to_string(), "closed");
    assert_eq!(socket.close().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(socket.reused_times().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(socket.peer_addr().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(socket.option(OptionName::NoDelay).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(socket.is_alive().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(socket.try_send(b"x").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(socket.shutdown(std::net::Shutdown::Both).unwrap_err().kind(), ErrorKind::Closed);
    assert!(!socket.cancel_receive() && !socket.cancel_send());
}

// OBJ-1
#[test]
fn a_new_socket_has_no_descriptor_and_is_closed() {
    everywhere(|| {
        let socket = Cosocket::new();
        socket.set_timeout(MILLISECOND).unwrap();
        socket.bind("127.0.0.1", 0).unwrap();
        assert_closed(&socket);
        assert_eq!(format!("{socket:?}"), "Cosocket { .. }");
        assert_eq!(socket.into_parts().unwrap_err().kind(), ErrorKind::Closed);
    });
}

// OBJ-1, OBJ-4: alone in a process, whose descriptors nobody else opens and closes
#[test]
fn descriptors_come_with_connections_and_go_with_them() {
    util::child::passes("descriptors_come_with_connections_and_go_with_them", || {
        let (listener, address) = listen();
        let mut warm_up = cosocket::connect(address).unwrap();
        drop(listener.accept().unwrap());
        warm_up.receive_any(1).unwrap_err();
        let before = util::descriptors() - 1;
        for _ in 0..10 {
            let socket = Cosocket::new();
            assert_eq!(util::descriptors(), before + 1);
            socket.connect(address).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            drop(std::mem::replace(&mut warm_up, socket));
            warm_up.send(b"last").unwrap();
            warm_up.close().unwrap();
            let mut text = String::new();
            server.read_to_string(&mut text).unwrap();
            assert_eq!(text, "last");
            drop(server);
            assert_eq!(util::descriptors(), before);
            warm_up.connect(address).unwrap();
            drop(listener.accept().unwrap());
        }
    });
}

// OBJ-2, CON-1, section 2 item 4
#[test]
fn a_refused_connect_leaves_the_socket_closed_and_usable() {
    everywhere(|| {
        let error = cosocket::connect(closed_port()).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Io, "connection refused"));
        let socket = Cosocket::new();
        socket.connect(closed_port()).unwrap_err();
        assert_closed(&socket);
        let (listener, address) = listen();
        socket.connect(address).unwrap();
        listener.accept().unwrap();
    });
}

// OBJ-5, section 2 item 14
#[test]
fn a_second_connect_closes_the_first_connection_and_forgets_its_bytes() {
    everywhere(|| {
        let (listener, address) = listen();
        let socket = Cosocket::new();
        socket.set_timeouts(MILLISECOND * 900, MILLISECOND * 800, MILLISECOND * 700).unwrap();
        socket.bind("127.0.0.2", 0).unwrap();
        socket.connect(address).unwrap();
        let (mut first, _) = listener.accept().unwrap();
        first.write_all(b"first connection").unwrap();
        assert_eq!(socket.receive_any(5).unwrap(), b"first");

        socket.connect(address).unwrap();
        let (mut second, peer) = listener.accept().unwrap();
        assert_eq!(first.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(peer.ip().to_string(), "127.0.0.2");
        second.write_all(b"second").unwrap();
        assert_eq!(socket.receive_any(100).unwrap(), b"second");
        let kept = (MILLISECOND * 900, MILLISECOND * 800, MILLISECOND * 700);
        assert_eq!(socket.timeouts(), kept);
    });
}

// OBJ-6, OBJ-7, SRV: what was received travels along
#[test]
fn streams_become_cosockets_and_streams_again_without_losing_a_byte() {
    everywhere(|| {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.write_all(b"0123456789").unwrap();
        let socket = Cosocket::from(near);
        assert_eq!(socket.receive_any(3).unwrap(), b"012");
        let parts = socket.into_parts().unwrap();
        assert_eq!(parts.unread, b"3456789");
        let socket = Cosocket::from_parts(parts.stream, parts.unread).unwrap();
        assert_eq!(socket.receive_any(4).unwrap(), b"3456");
        let mut parts = socket.into_parts().unwrap();
        assert!(matches!(parts.stream, Stream::Unix(_)));
        drop(far);
        let mut rest = String::new();
        parts.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "789");

        let (one, other) = Cosocket::pair().unwrap();
        one.send("both ways").unwrap();
        assert_eq!(other.receive_any(100).unwrap(), b"both ways");
        drop(other);
        assert_eq!(one.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
    });
}

// OBJ-6, section 2 item 40: OpenResty's `getfd` leaves what was received behind; this does not
#[test]
fn the_descriptor_of_a_connection_comes_with_what_was_received() {
    everywhere(|| {
        let (listener, address) = listen();
        let socket = cosocket::connect(address).unwrap();
        let local = socket.local_addr().unwrap().to_string();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"received, unread").unwrap();
        assert_eq!(socket.receive_any(10).unwrap(), b"received, ");
        let parts = socket.into_parts().unwrap();
        let Stream::Tcp(stream) = &parts.stream else { panic!() };
        assert!(stream.as_raw_fd() >= 0);
        let its = socket2::SockRef::from(stream).local_addr().unwrap().as_socket().unwrap();
        assert_eq!(its.to_string(), local);
        assert_eq!(parts.unread, b"unread");
        assert_eq!(Cosocket::new().into_parts().unwrap_err().to_string(), "closed");
    });
}

// OBJ-8, section 2 item 157
#[test]
fn bind_takes_literal_addresses_and_fails_late() {
    everywhere(|| {
        let (listener, address) = listen();
        let socket = Cosocket::new();
        for bad in ["127.0.0.1000", "localhost", "", "127.0.0.1:80", "[127.0.0.1"] {
            assert_eq!(socket.bind(bad, 0).unwrap_err().to_string(), "bad address", "{bad}");
        }
        socket.bind("8.8.8.8", 0).unwrap();
        let error = socket.connect(address).unwrap_err();
        assert_eq!(error.to_string(), "cannot assign requested address");
        socket.bind("127.0.0.1", address.port()).unwrap();
        let error = socket.connect(address).unwrap_err();
        assert_eq!(error.to_string(), "address already in use");
        socket.unbind();
        socket.connect(address).unwrap();
        listener.accept().unwrap();
    });
}

// OBJ-9: what the kernel says to it decides, and that is asked of it directly too
#[test]
fn a_transparent_bind_is_asked_of_the_kernel_when_connecting() {
    let (listener, address) = listen();
    let domain = socket2::Domain::IPV4;
    let plain = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
    let expected = plain.set_ip_transparent_v4(true);
    let socket = Cosocket::new();
    socket.set_transparent(true);
    match (expected, socket.connect(address)) {
        (Ok(()), Ok(())) => drop(listener.accept().unwrap()),
        (Err(expected), Err(error)) => assert_eq!(error.raw_os_error(), expected.raw_os_error()),
        (expected, connected) => panic!("{expected:?}, but {connected:?}"),
    }
}

// OBJ-10, SND-10
#[test]
fn options_are_set_and_asked_for_by_name() {
    everywhere(|| {
        let (_listener, address) = listen();
        let socket = cosocket::connect(address).unwrap();
        let seconds = Duration::from_secs;
        for option in [
            SocketOption::Keepalive(true),
            SocketOption::KeepaliveIdle(seconds(7)),
            SocketOption::KeepaliveInterval(seconds(3)),
            SocketOption::KeepaliveCount(5),
            SocketOption::ReuseAddress(true),
            SocketOption::Linger(Some(seconds(2))),
            SocketOption::UserTimeout(Some(seconds(9))),
            SocketOption::NotSentLowWater(16_384),
        ] {
            socket.set_option(option).unwrap();
        }
        for (name, expected) in [
            ("tcp-nodelay", SocketOption::NoDelay(true)),
            ("keepalive", SocketOption::Keepalive(true)),
            ("keepidle", SocketOption::KeepaliveIdle(seconds(7))),
            ("keepintvl", SocketOption::KeepaliveInterval(seconds(3))),
            ("keepcnt", SocketOption::KeepaliveCount(5)),
            ("reuseaddr", SocketOption::ReuseAddress(true)),
            ("linger", SocketOption::Linger(Some(seconds(2)))),
            ("tcp-user-timeout", SocketOption::UserTimeout(Some(seconds(9)))),
            ("tcp-notsent-lowat", SocketOption::NotSentLowWater(16_384)),
        ] {
            assert_eq!(socket.option(name.parse().unwrap()).unwrap(), expected, "{name}");
        }
        socket.set_option(SocketOption::Linger(None)).unwrap();
        socket.set_option(SocketOption::SendBuffer(20_000)).unwrap();
        let SocketOption::SendBuffer(bytes) = socket.option(OptionName::SendBuffer).unwrap() else {
            panic!();
        };
        assert!(bytes >= 20_000);
        // They rest and come back with the connection.
        socket.set_keepalive(None, None).unwrap();
        assert_eq!(socket.option(OptionName::Keepalive).unwrap_err().kind(), ErrorKind::Closed);
        let error = socket.set_option(SocketOption::NoDelay(true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        socket.connect(address).unwrap();
        assert_eq!(socket.reused_times().unwrap(), 1);
        let count = socket.option(OptionName::KeepaliveCount).unwrap();
        assert_eq!(count, SocketOption::KeepaliveCount(5));
        let error = "tcp-nodely".parse::<OptionName>().unwrap_err();
        assert_eq!(error.to_string(), "unsupported option tcp-nodely");
    });
}

// OBJ-10: a time that is short for the kernel's unit is not zero, which means something else
#[test]
fn short_times_are_rounded_up() {
    let (_listener, address) = listen();
    let socket = cosocket::connect(address).unwrap();
    for (short, set) in [
        (Duration::from_nanos(1), 1),
        (Duration::from_millis(1500), 2),
        (Duration::from_secs(1 << 32), i32::MAX as u64),
    ] {
        let set = SocketOption::Linger(Some(Duration::from_secs(set)));
        socket.set_option(SocketOption::Linger(Some(short))).unwrap();
        assert_eq!(socket.option(OptionName::Linger).unwrap(), set);
    }
    socket.set_option(SocketOption::Linger(None)).unwrap();
    socket.set_option(SocketOption::UserTimeout(Some(Duration::from_nanos(1)))).unwrap();
    let set = SocketOption::UserTimeout(Some(Duration::from_millis(1)));
    assert_eq!(socket.option(OptionName::UserTimeout).unwrap(), set);
    let (one, nearly) = (Duration::from_secs(1), Duration::from_millis(999));
    for (short, set, name) in [
        (
            SocketOption::KeepaliveIdle(nearly),
            SocketOption::KeepaliveIdle(one),
            OptionName::KeepaliveIdle,
        ),
        (
            SocketOption::KeepaliveInterval(nearly),
            SocketOption::KeepaliveInterval(one),
            OptionName::KeepaliveInterval,
        ),
    ] {
        socket.set_option(short).unwrap();
        assert_eq!(socket.option(name).unwrap(), set);
    }
}

// OBJ-10: probes that are off stay off while their times are set
#[test]
fn times_of_probes_do_not_switch_probes_on() {
    let (_listener, address) = listen();
    let socket = cosocket::connect(address).unwrap();
    socket.set_option(SocketOption::KeepaliveIdle(Duration::from_secs(7))).unwrap();
    assert_eq!(socket.option(OptionName::Keepalive).unwrap(), SocketOption::Keepalive(false));
}

// OBJ-11
#[test]
fn both_ends_agree_on_their_addresses() {
    everywhere(|| {
        let (listener, address) = listen();
        let socket = cosocket::connect(address).unwrap();
        let (server, peer) = listener.accept().unwrap();
        assert_eq!(socket.local_addr().unwrap().to_string(), peer.to_string());
        assert_eq!(socket.peer_addr().unwrap().to_string(), address.to_string());
        let server = Cosocket::from(server);
        assert_eq!(server.peer_addr().unwrap().to_string(), peer.to_string());
    });
}

// CON-1, section 2 items 37, 36
#[test]
fn addresses_that_name_nothing_are_refused_before_anything_is_done() {
    everywhere(|| {
        let (listener, address) = listen();
        let socket = cosocket::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        for (target, words) in [
            ("example.org", "missing the port number"),
            ("/tmp/socket", "missing the port number"),
            ("[::1]", "missing the port number"),
            ("example.org:", "missing the port number"),
            ("example.org:http", "missing the port number"),
            ("example.org:65536", "bad port number: 65536"),
            ("example.org:-1", "bad port number: -1"),
            (":80", "failed to parse host name \"\": no host"),
            ("a b:80", "failed to parse host name \"a b\": invalid host"),
            ("::1:80", "failed to parse host name \"::1\": invalid host"),
            ("unix:", "failed to parse host name \"unix:\": no path in the unix domain socket"),
        ] {
            assert_eq!(socket.connect(target).unwrap_err().to_string(), words, "{target}");
        }
        // It was not touched.
        server.write_all(b"still here").unwrap();
        assert_eq!(socket.receive_any(100).unwrap(), b"still here");
    });
}

// CON-1
#[test]
fn targets_of_every_type_connect() {
    everywhere(|| {
        let (listener, address) = listen();
        let socket = Cosocket::new();
        socket.connect(address).unwrap();
        socket.connect(address.to_string()).unwrap();
        socket.connect(("127.0.0.1", address.port())).unwrap();
        socket.connect((address.ip(), address.port())).unwrap();
        socket.connect(Address::Ip(address)).unwrap();
        for _ in 0..5 {
            listener.accept().unwrap();
        }
        let v6 = TcpListener::bind("[::1]:0").unwrap();
        socket.connect(("[::1]", v6.local_addr().unwrap().port())).unwrap();
        socket.connect(("::1", v6.local_addr().unwrap().port())).unwrap();
    });
}

// CON-2, TMO-7, section 2 item 5
#[test]
fn a_connect_that_nobody_answers_times_out() {
    let (_full, black_hole, _clients) = full_listener();
    everywhere(|| {
        let socket = Cosocket::new();
        socket.set_timeouts(MILLISECOND * 2, Duration::ZERO, Duration::ZERO).unwrap();
        let start = std::time::Instant::now();
        let error = socket.connect(black_hole).unwrap_err();
        assert!(start.elapsed() >= MILLISECOND * 2);
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Timeout, "timeout"));
        assert_closed(&socket);
        let (listener, address) = listen();
        socket.set_timeout(Duration::ZERO).unwrap();
        socket.connect(address).unwrap();
        listener.accept().unwrap();
    });
}

// CON-2: a limit around it counts as well
#[test]
fn a_limit_around_a_connect_is_a_timeout() {
    let (_full, black_hole, _clients) = full_listener();
    everywhere(|| {
        let socket = Cosocket::new();
        let error = time::timeout(MILLISECOND, || socket.connect(black_hole)).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_closed(&socket);
    });
}

// CON-3, TMO-4
#[test]
fn the_connect_timeout_is_over_with_the_connect() {
    everywhere(|| {
        let (listener, address) = listen();
        let socket = Cosocket::new();
        let connect = Duration::from_millis(200);
        socket.set_timeouts(connect, MILLISECOND, MILLISECOND).unwrap();
        socket.connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        thread::sleep(connect + MILLISECOND * 20);
        socket.send(b"late").unwrap();
        let mut buffer = [0; 4];
        server.read_exact(&mut buffer).unwrap();
        server.write_all(b"data").unwrap();
        util::wait_until(|| {
            socket.with_read_timeout(MILLISECOND, || socket.receive_any(9)).is_ok()
        });
    });
}

// CON-4, DUP-4, section 2 item 26
#[test]
fn while_a_connect_waits_others_are_refused() {
    let (_full, black_hole, _clients) = full_listener();
    cosocket::run(|| {
        let socket = Arc::new(Cosocket::new());
        let connecting = Arc::clone(&socket);
        let connecting = spawn_waiting(move || connecting.connect(black_hole));
        let words = "socket busy connecting";
        assert_eq!(socket.receive_any(1).unwrap_err().to_string(), words);
        assert_eq!(socket.send(b"x").unwrap_err().to_string(), words);
        assert_eq!(socket.try_close().unwrap_err().to_string(), words);
        assert_eq!(socket.connect(black_hole).unwrap_err().to_string(), words);
        assert_eq!(socket.shutdown(std::net::Shutdown::Write).unwrap_err().to_string(), words);
        assert_eq!(socket.reused_times().unwrap(), 0);
        // DUP-6: the one who connects is killed.
        connecting.cancel();
        connecting.join().unwrap_err();
        assert_closed(&socket);
    });
}

// DUP-5, for a connect
#[test]
fn close_ends_a_connect_and_the_socket_can_be_used_at_once() {
    let (_full, black_hole, _clients) = full_listener();
    cosocket::run(|| {
        let socket = Arc::new(Cosocket::new());
        let connecting = Arc::clone(&socket);
        let connecting = spawn_waiting(move || connecting.connect(black_hole).unwrap_err());
        socket.close().unwrap();
        let (listener, address) = listen();
        // The one before has not even noticed.
        socket.connect(address).unwrap();
        assert_eq!(connecting.join().unwrap().kind(), ErrorKind::Cancelled);
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"untouched").unwrap();
        assert_eq!(socket.receive_any(100).unwrap(), b"untouched");
    });
}

// CON-5
#[test]
fn names_are_looked_up_and_all_their_addresses_tried() {
    everywhere(|| {
        // On ::1, where "localhost" has that address, nobody listens.
        let (listener, address) = listen();
        let socket = Cosocket::new();
        socket.connect(("localhost", address.port())).unwrap();
        listener.accept().unwrap();
        let error = socket.connect("no-such-host.invalid:80").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resolve);
        let text = error.to_string();
        assert!(text.starts_with("no-such-host.invalid could not be resolved ("), "{text}");
        assert_closed(&socket);
    });
}

// CON-6, UNX-3, section 2 item 158
#[test]
fn unix_sockets_connect_by_path_and_by_abstract_name() {
    let directory = std::env::temp_dir().join(format!("cosocket-connect-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("socket");
    everywhere(|| {
        let _ = std::fs::remove_file(&path);
        let target = format!("unix:{}", path.display());
        let socket = Cosocket::new();
        let error = socket.connect(&target).unwrap_err();
        assert_eq!(error.to_string(), "no such file or directory");
        assert_closed(&socket);
        let listener = UnixListener::bind(&path).unwrap();
        socket.connect(&target).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(socket.peer_addr().unwrap().to_string(), target);
        // Any case, and a port that counts for nothing.
        socket.connect((target.replace("unix", "UNIX"), 80)).unwrap();
        drop((server, listener));
        let error = util::first_error(|| socket.connect(&target));
        assert_eq!(error.to_string(), "connection refused");
        let long = format!("unix:/{}", "p".repeat(200));
        assert_eq!(socket.connect(&long).unwrap_err().kind(), ErrorKind::InvalidInput);
        std::fs::remove_file(&path).unwrap();

        let name = unix_name("abstract");
        let listener = UnixListener::bind_addr(&name).unwrap();
        socket.connect(&name).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let text = String::from_utf8(name.as_abstract_name().unwrap().to_vec()).unwrap();
        assert_eq!(socket.peer_addr().unwrap().to_string(), format!("unix:@{text}"));
        socket.send("abstract").unwrap();
        socket.close().unwrap();
        let mut received = String::new();
        server.read_to_string(&mut received).unwrap();
        assert_eq!(received, "abstract");
        socket.connect(format!("unix:\0{text}")).unwrap();
    });
    std::fs::remove_dir(&directory).unwrap();
}

// UNX-1, from the client: a full backlog is waited for, within the connect timeout
#[test]
fn a_unix_connect_waits_for_room_in_the_backlog() {
    everywhere(|| {
        let name = unix_name("full");
        let listener = UnixListener::bind_addr(&name).unwrap();
        socket2::SockRef::from(&listener).listen(1).unwrap();
        let waiting: Vec<_> = (0..2).map(|_| cosocket::connect(&name).unwrap()).collect();
        let late = Cosocket::new();
        late.set_timeout(MILLISECOND).unwrap();
        assert_eq!(late.connect(&name).unwrap_err().kind(), ErrorKind::Timeout);
        late.set_timeout(Duration::ZERO).unwrap();
        let acceptor = spawn(move || {
            thread::sleep(MILLISECOND);
            (0..3).for_each(|_| drop(listener.accept().unwrap()));
        });
        late.connect(&name).unwrap();
        acceptor.join().unwrap();
        drop(waiting);
    });
}

// DUP-5 for a connect to a full Unix listener
#[test]
fn close_ends_a_unix_connect_that_waits_for_room() {
    let name = unix_name("full-close");
    let listener = UnixListener::bind_addr(&name).unwrap();
    socket2::SockRef::from(&listener).listen(0).unwrap();
    let _first = UnixStream::connect_addr(&name).unwrap();
    let socket = Arc::new(Cosocket::new());
    let connecting = Arc::clone(&socket);
    let thread = std::thread::spawn(move || connecting.connect(&name).unwrap_err().kind());
    while socket.close().is_err() {
        std::thread::yield_now();
    }
    assert_eq!(thread.join().unwrap(), ErrorKind::Cancelled);
}

// CON-14
#[test]
fn a_connection_is_alive_until_the_other_side_has_ended_it() {
    everywhere(|| {
        let (listener, address) = listen();
        let socket = cosocket::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        assert!(socket.is_alive().unwrap());
        server.write_all(b"data").unwrap();
        assert_eq!(socket.receive_any(1).unwrap(), b"d");
        assert!(socket.is_alive().unwrap());
        drop(server);
        assert_eq!(socket.receive_any(9).unwrap(), b"ata");
        util::wait_until(|| !socket.is_alive().unwrap());
    });
}

// CLS-5: a static is never dropped, and a socket outlives its runtime
#[test]
fn a_socket_outlives_the_runtime_that_used_it() {
    static SOCKET: std::sync::OnceLock<Cosocket> = std::sync::OnceLock::new();
    let (listener, address) = listen();
    cosocket::run(|| {
        let socket = Cosocket::new();
        socket.set_timeout(MILLISECOND).unwrap();
        socket.connect(address).unwrap();
        // It waits, so that its driver knows it.
        assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Timeout);
        SOCKET.set(socket).unwrap();
    });
    let (mut server, _) = listener.accept().unwrap();
    let socket = SOCKET.get().unwrap();
    socket.send(b"outside").unwrap();
    let mut buffer = [0; 7];
    server.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"outside");
    cosocket::run(|| {
        server.write_all(b"again").unwrap();
        socket.set_timeout(Duration::ZERO).unwrap();
        assert_eq!(socket.receive_any(9).unwrap(), b"again");
    });
}

// UNX-2, through the parts
#[test]
fn the_credentials_of_a_unix_peer_can_be_had() {
    let (socket, _other) = Cosocket::pair().unwrap();
    let Stream::Unix(stream) = socket.into_parts().unwrap().stream else { panic!() };
    assert_eq!(stream.peer_cred().unwrap().pid, Some(std::process::id() as i32));
}

/// A proxy for one connection, which answers what it is asked by a script: `<` is what it must be
/// sent, `>` what it sends. After that it echoes. What it returns is whether it was left alone.
fn proxy(script: Vec<(char, Vec<u8>)>) -> (SocketAddr, std::thread::JoinHandle<bool>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        for (direction, bytes) in script {
            if direction == '>' {
                client.write_all(&bytes).unwrap();
                continue;
            }
            let mut sent = vec![0; bytes.len()];
            client.read_exact(&mut sent).unwrap();
            assert_eq!(sent, bytes, "{}", String::from_utf8_lossy(&sent));
        }
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        client.write_all(&rest).is_ok() && rest.is_empty()
    });
    (address, thread)
}

fn assert_echoes_through(socket: &Cosocket) {
    socket.send("hello").unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(socket.receive_all().unwrap(), b"hello");
}

// CON-13
#[test]
fn a_socks5_proxy_is_told_the_name_and_who_is_asking() {
    everywhere(|| {
        let mut request = b"\x05\x01\x00\x03\x0bexample.org".to_vec();
        request.extend(80_u16.to_be_bytes());
        let reply = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34".to_vec();
        let (address, thread) = proxy(vec![
            ('<', b"\x05\x02\x00\x02".to_vec()),
            ('>', b"\x05\x02".to_vec()),
            ('<', b"\x01\x04user\x06secret".to_vec()),
            ('>', b"\x01\x00".to_vec()),
            ('<', request),
            ('>', reply),
        ]);
        let socket = Cosocket::new();
        let proxy = Proxy::socks5(&address.to_string()).with_credentials("user", "secret");
        socket.set_proxy(Some(proxy));
        socket.connect("example.org:80").unwrap();
        assert_echoes_through(&socket);
        assert!(!thread.join().unwrap());
    });
}

// CON-13
#[test]
fn a_socks5_proxy_that_refuses_is_left() {
    everywhere(|| {
        let wrong_password = vec![
            ('<', b"\x05\x02\x00\x02".to_vec()),
            ('>', b"\x05\x02".to_vec()),
            ('<', b"\x01\x01u\x01p".to_vec()),
            ('>', b"\x01\x01".to_vec()),
        ];
        let no_route = vec![
            ('<', b"\x05\x02\x00\x02".to_vec()),
            ('>', b"\x05\x00".to_vec()),
            ('<', b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50".to_vec()),
            ('>', b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00".to_vec()),
        ];
        let other_protocol = vec![('>', b"SSH-2.0".to_vec())];
        for (script, words) in [
            (wrong_password, "user or password is wrong"),
            (no_route, "connection refused"),
            (other_protocol, "it does not speak SOCKS5"),
        ] {
            let (address, thread) = proxy(script);
            let socket = Cosocket::new();
            let proxy = Proxy::socks5(&address.to_string()).with_credentials("u", "p");
            socket.set_proxy(Some(proxy));
            let error = socket.connect("127.0.0.1:80").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Proxy);
            assert_eq!(error.to_string(), format!("proxy handshake failed: {words}"));
            assert_closed(&socket);
            // Its end came, and nothing else.
            let _ = thread.join();
        }
    });
}

// CON-13
#[test]
fn an_http_proxy_is_asked_to_connect() {
    everywhere(|| {
        let request = "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\
                       Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n";
        let reply = b"HTTP/1.1 200 Connection established\r\nVia: us\r\n\r\n".to_vec();
        let (address, thread) = proxy(vec![('<', request.into()), ('>', reply)]);
        let socket = Cosocket::new();
        let proxied = Proxy::http(&address.to_string()).with_credentials("user", "secret");
        socket.set_proxy(Some(proxied));
        socket.connect("example.org:443").unwrap();
        assert_echoes_through(&socket);
        assert!(!thread.join().unwrap());

        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n".to_vec();
        let (address, _thread) = proxy(vec![('>', refusal)]);
        socket.set_proxy(Some(Proxy::http(&address.to_string())));
        let error = socket.connect("example.org:443").unwrap_err();
        let words = "proxy handshake failed: HTTP/1.1 407 Proxy Authentication Required";
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Proxy, words));
        assert_closed(&socket);
    });
}

// CON-13 with CON-2
#[test]
fn a_proxy_that_says_nothing_is_a_timeout() {
    everywhere(|| {
        let (_listener, address) = listen();
        let socket = Cosocket::new();
        socket.set_timeout(MILLISECOND * 5).unwrap();
        socket.set_proxy(Some(Proxy::socks5(&address.to_string())));
        assert_eq!(socket.connect("127.0.0.1:80").unwrap_err().kind(), ErrorKind::Timeout);
        assert_closed(&socket);
    });
}
