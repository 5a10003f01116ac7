//! `TcpBuilder` and `UdpBuilder`: each setting reaches the socket, and bad ones are refused.

mod socket_util;

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use cosocket::net::{Keepalive, TcpBuilder, TcpListener, TcpStream, UdpBuilder, UdpSocket};
use cosocket::thread;
use socket_util::{closed_port, everywhere, is_nonblocking, spawn_waiting};
use socket2::SockRef;

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// What both ends of a connection have of these settings.
fn assert_settings(stream: &TcpStream, linger: Option<Duration>, keepalive: Option<Keepalive>) {
    assert!(stream.nodelay().unwrap());
    assert_eq!(stream.linger().unwrap(), linger);
    assert_eq!(stream.keepalive().unwrap(), keepalive);
    assert_eq!(SockRef::from(stream).recv_buffer_size().unwrap(), 2 * 20_000);
    assert_eq!(SockRef::from(stream).send_buffer_size().unwrap(), 2 * 30_000);
    assert!(!is_nonblocking(stream));
}

#[test]
fn settings_reach_connections_and_what_a_listener_accepts() {
    everywhere(|| {
        let linger = Some(Duration::from_secs(3));
        let idle = Duration::from_secs(61);
        let keepalive = Keepalive { idle, interval: Duration::from_secs(7), count: 5 };
        let builder = TcpBuilder::new()
            .nodelay(true)
            .linger(linger)
            .keepalive(keepalive)
            .recv_buffer_bytes(20_000)
            .send_buffer_bytes(30_000);
        let listener = builder.listen("127.0.0.1:0").unwrap();
        let client = builder.connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_settings(&client, linger, Some(keepalive));
        assert_settings(&server, linger, Some(keepalive));
        for stream in [client, server] {
            // Else dropping it blocks.
            stream.set_linger(None).unwrap();
            stream.set_keepalive(None).unwrap();
            assert_eq!(stream.keepalive().unwrap(), None);
            stream.set_keepalive(Some(Keepalive::default())).unwrap();
            assert_eq!(stream.keepalive().unwrap(), Some(Keepalive::default()));
        }
    });
}

#[test]
fn without_settings_it_is_std() {
    everywhere(|| {
        let listener = TcpBuilder::new().listen("127.0.0.1:0").unwrap();
        let stds = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpBuilder::new().connect(listener.local_addr().unwrap()).unwrap();
        let std_client = std::net::TcpStream::connect(stds.local_addr().unwrap()).unwrap();
        for (ours, stds) in [
            (SockRef::from(&listener), SockRef::from(&stds)),
            (SockRef::from(&client), SockRef::from(&std_client)),
        ] {
            let settings = |socket: &SockRef<'_>| {
                (
                    socket.reuse_address().unwrap(),
                    socket.reuse_port().unwrap(),
                    socket.tcp_nodelay().unwrap(),
                    socket.keepalive().unwrap(),
                    socket.linger().unwrap(),
                    socket.recv_buffer_size().unwrap(),
                    socket.nonblocking().unwrap(),
                )
            };
            assert_eq!(settings(&ours), settings(&stds));
        }
    });
}

#[test]
fn a_connection_is_made_from_the_address_it_is_bound_to() {
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let from = SocketAddr::from(([127, 0, 0, 3], closed_port().port()));
        let builder = TcpBuilder::new().reuse_address(true).local_addr(from);
        let client = builder.connect(target).unwrap();
        assert_eq!(listener.accept().unwrap().1, from);
        assert_eq!(client.local_addr().unwrap(), from);
        // The same two addresses cannot have another connection.
        let error = builder.connect(target).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable));
        // One of the other family is passed over.
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, target.port()));
        let builder = TcpBuilder::new().local_addr(([127, 0, 0, 4], 0).into());
        let client = builder.connect(&[v6, target][..]).unwrap();
        assert_eq!(client.local_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 4]));
    });
}

#[test]
fn connect_tries_every_address_within_one_timeout() {
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let builder = TcpBuilder::new().connect_timeout(Duration::from_secs(100));
        let client = builder.connect(&[closed_port(), target][..]).unwrap();
        assert_eq!(client.peer_addr().unwrap(), target);
        let error = builder.connect(closed_port()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let none: &[SocketAddr] = &[];
        assert_eq!(builder.connect(none).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(builder.listen(none).unwrap_err().kind(), ErrorKind::InvalidInput);

        // A backlog with no room, and several addresses of it: they share the time.
        let full = TcpBuilder::new().backlog(0).listen("127.0.0.1:0").unwrap();
        let full_address = full.local_addr().unwrap();
        let patience = Duration::from_millis(50);
        let impatient = TcpBuilder::new().connect_timeout(patience);
        let mut clients = Vec::new();
        while let Ok(client) = impatient.connect(full_address) {
            clients.push(client);
        }
        let start = Instant::now();
        let error = impatient.connect(&[full_address, target][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "each address had all of the time");
        assert!(start.elapsed() >= patience, "it gave up early");
    });
}

#[test]
fn a_connect_with_a_timeout_is_cancelled() {
    cosocket::run(|| {
        let full = TcpBuilder::new().backlog(0).listen("127.0.0.1:0").unwrap();
        let address = full.local_addr().unwrap();
        let impatient = TcpBuilder::new().connect_timeout(Duration::from_millis(50));
        let mut clients = Vec::new();
        while let Ok(client) = impatient.connect(address) {
            clients.push(client);
        }
        let patient = TcpBuilder::new().connect_timeout(Duration::from_secs(1000));
        let attempt = spawn_waiting(move || patient.connect(address).map(drop));
        assert!(!attempt.is_finished());
        attempt.cancel();
        assert!(attempt.join().unwrap_err().is::<cosocket::Cancelled>());
    });
}

#[test]
fn the_backlog_is_as_large_as_asked() {
    everywhere(|| {
        let listener = TcpBuilder::new().backlog(300).listen("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // std's 128 would leave the rest to ask again, after a second each time.
        let clients: Vec<_> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
        let accepted = listener.incoming().take(300).filter(Result::is_ok).count();
        assert_eq!(accepted, clients.len());
    });
}

#[test]
fn only_v6_refuses_v4() {
    everywhere(|| {
        for only_v6 in [true, false] {
            let builder = TcpBuilder::new().only_v6(only_v6);
            let listener = builder.listen("[::]:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            assert_eq!(SockRef::from(&listener).only_v6().unwrap(), only_v6);
            assert_eq!(TcpStream::connect(loopback(port)).is_ok(), !only_v6);
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
            // It does not disturb a v4 address.
            builder.listen("127.0.0.1:0").unwrap();
            let socket = UdpBuilder::new().only_v6(only_v6).bind("[::]:0").unwrap();
            assert_eq!(SockRef::from(&socket).only_v6().unwrap(), only_v6);
        }
    });
}

#[test]
fn reuse_address_is_on_for_listeners_unless_said_otherwise() {
    everywhere(|| {
        for (builder, expected) in [
            (TcpBuilder::new(), true),
            (TcpBuilder::new().reuse_address(true), true),
            (TcpBuilder::new().reuse_address(false), false),
        ] {
            let listener = builder.listen("127.0.0.1:0").unwrap();
            assert_eq!(SockRef::from(&listener).reuse_address().unwrap(), expected);
        }
    });
}

#[test]
fn defer_accept_hides_a_connection_until_it_has_said_something() {
    everywhere(|| {
        let builder = TcpBuilder::new().defer_accept(Duration::from_secs(30));
        let listener = builder.listen("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        listener.set_nonblocking(false).unwrap();
        client.write_all(b"GET").unwrap();
        let (server, _) = listener.accept().unwrap();
        // The kernel rounds to the times of its own retries.
        server.set_deferaccept(Duration::from_secs(5)).unwrap();
        assert!(server.deferaccept().unwrap() >= Duration::from_secs(5));
        server.set_deferaccept(Duration::ZERO).unwrap();
        assert_eq!(server.deferaccept().unwrap(), Duration::ZERO);
    });
}

#[test]
fn listeners_of_one_port_accept_each_their_own_connections() {
    cosocket::run(|| {
        let listeners = TcpBuilder::new().listen_many("127.0.0.1:0", 4).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert_ne!(address.port(), 0);
        assert!(listeners.iter().all(|l| l.local_addr().unwrap() == address));
        // Without the option nobody joins them.
        let error = TcpListener::bind(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let clients: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut accepted = 0;
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
            let own = listener.incoming().take_while(Result::is_ok).count();
            assert!(own > 0, "of 200 connections none is for this listener");
            accepted += own;
        }
        assert_eq!(accepted, clients.len());
        // More by the same builder may join.
        let more = TcpBuilder::new().listen_many(address, 2).unwrap();
        assert_eq!(more[1].local_addr().unwrap(), address);
    });
}

#[test]
fn udp_sockets_of_one_port_receive_each_their_own_datagrams() {
    cosocket::run(|| {
        let builder = UdpBuilder::new().recv_buffer_bytes(40_000);
        let sockets = builder.bind_many("127.0.0.1:0", 3).unwrap();
        let address = sockets[0].local_addr().unwrap();
        for socket in &sockets {
            assert_eq!(socket.local_addr().unwrap(), address);
            assert_eq!(SockRef::from(socket).recv_buffer_size().unwrap(), 2 * 40_000);
            socket.set_nonblocking(true).unwrap();
        }
        for _ in 0..100 {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"x", address).unwrap();
        }
        let counts = sockets.iter().map(|socket| {
            std::iter::from_fn(|| socket.recv(&mut [0; 4]).ok()).inspect(|&len| assert_eq!(len, 1))
        });
        let counts: Vec<_> = counts.map(Iterator::count).collect();
        assert_eq!(counts.iter().sum::<usize>(), 100);
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    });
}

#[test]
fn several_udp_sockets_hear_one_multicast() {
    cosocket::run(|| {
        let group = Ipv4Addr::new(239, 255, 77, 7);
        let builder = UdpBuilder::new().reuse_address(true);
        let first = builder.bind("0.0.0.0:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let second = builder.bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        for socket in [&first, &second] {
            socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        }
        let receivers =
            [first, second].map(|socket| spawn_waiting(move || socket.recv(&mut [0; 16]).unwrap()));
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.set_multicast_loop_v4(true).unwrap();
        SockRef::from(&sender).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
        sender.send_to(b"to all", (group, port)).unwrap();
        assert_eq!(receivers.map(|receiver| receiver.join().unwrap()), [6, 6]);
    });
}

#[test]
fn bad_settings_are_invalid_input() {
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let keepalive = Keepalive::default();
        let zero = Duration::ZERO;
        let builders = [
            TcpBuilder::new().connect_timeout(zero),
            TcpBuilder::new().keepalive(Keepalive { idle: zero, ..keepalive }),
            TcpBuilder::new().keepalive(Keepalive { interval: zero, ..keepalive }),
            TcpBuilder::new().keepalive(Keepalive { count: 0, ..keepalive }),
            TcpBuilder::new().keepalive(Keepalive { idle: Duration::MAX, ..keepalive }),
            TcpBuilder::new().keepalive(Keepalive { count: u32::MAX, ..keepalive }),
            TcpBuilder::new().recv_buffer_bytes(usize::MAX),
            TcpBuilder::new().send_buffer_bytes(1 << 31),
        ];
        for (number, builder) in builders.iter().enumerate() {
            let error = builder.connect(address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{builder:?}");
            if number > 0 {
                let error = builder.listen("127.0.0.1:0").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{builder:?}");
            }
        }
        let builder = UdpBuilder::new().send_buffer_bytes(usize::MAX);
        let error = builder.bind("127.0.0.1:0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = TcpBuilder::new().listen_many("127.0.0.1:0", 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = UdpBuilder::new().bind_many("127.0.0.1:0", 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = TcpBuilder::new().listen_many(address, 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        // Nothing of all that has reached the listener.
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        thread::yield_now();
    });
}
