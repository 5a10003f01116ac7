//! Connecting and binding: every address in turn, the errors, names, and attempts that give up.

mod socket_util;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use cosocket::net::{TcpBuilder, TcpListener, TcpStream, ToSocketAddrs};
use cosocket::{spawn_local, time};
use socket_util::{closed_port, everywhere, full_listener, spawn_waiting};

#[test]
fn connect_tries_each_address_and_takes_the_first_that_answers() {
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let [address, unused] = [&listener, &other].map(|l| l.local_addr().unwrap());
        let list = [closed_port(), closed_port(), address, unused];
        let stream = TcpStream::connect(&list[..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        other.set_nonblocking(true).unwrap();
        assert_eq!(other.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "left alone");
    });
}

#[test]
fn connect_fails_with_the_error_of_the_last_address() {
    everywhere(|| {
        let broadcast: SocketAddr = "255.255.255.255:9".parse().unwrap();
        let (one, other) = (closed_port(), broadcast);
        for list in [vec![one], vec![other], vec![one, other], vec![other, one, one]] {
            let error = TcpStream::connect(&list[..]).unwrap_err();
            let stds = std::net::TcpStream::connect(&list[..]).unwrap_err();
            assert_eq!(error.raw_os_error(), stds.raw_os_error(), "{list:?}");
        }
        let error = TcpStream::connect(&[other, one][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = TcpStream::connect_timeout(&one, Duration::from_secs(100)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn no_address_is_invalid_input() {
    everywhere(|| {
        let none: &[SocketAddr] = &[];
        assert_eq!(TcpStream::connect(none).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(TcpListener::bind(none).unwrap_err().kind(), ErrorKind::InvalidInput);
        for nonsense in ["", "localhost", "localhost:", "127.0.0.1:70000"] {
            let kind = TcpStream::connect(nonsense).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::InvalidInput, "{nonsense:?}");
        }
    });
}

#[test]
fn bind_tries_each_address_and_fails_with_the_error_of_the_last() {
    everywhere(|| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = (taken.local_addr().unwrap(), taken).0;
        let holder = TcpListener::bind(taken).unwrap();
        let elsewhere: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = TcpListener::bind(&[elsewhere, taken, free][..]).unwrap();
        assert_ne!(listener.local_addr().unwrap(), taken);
        let error = TcpListener::bind(&[elsewhere, taken][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let error = TcpListener::bind(&[taken, elsewhere][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        drop(holder);
    });
}

/// SO_REUSEADDR: a server can be started again while connections of the last one linger.
#[test]
fn a_port_with_lingering_connections_can_be_bound_again() {
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        // Closing first leaves this end in TIME_WAIT.
        drop((server, listener));
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(client);
        TcpListener::bind(address).unwrap();
    });
}

#[test]
fn an_attempt_that_nobody_answers_times_out() {
    everywhere(|| {
        let (_listener, address, _clients) = full_listener();
        let error = TcpStream::connect_timeout(&address, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_cancelled_attempt_ends_and_closes_its_socket() {
    cosocket::run(|| {
        let (_listener, address, _clients) = full_listener();
        let attempt = spawn_waiting(move || TcpStream::connect(address).map(drop));
        assert!(!attempt.is_finished());
        attempt.cancel();
        assert!(attempt.join().unwrap_err().is::<cosocket::Cancelled>());
    });
}

#[test]
fn an_attempt_that_waits_succeeds_when_there_is_room_again() {
    cosocket::run(|| {
        let (listener, address, clients) = full_listener();
        let attempt = spawn_waiting(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"at last").unwrap();
        });
        assert!(!attempt.is_finished());
        let listener = TcpListener::from(listener);
        drop(clients);
        // The kernel asks again after a second.
        let texts = listener.incoming().map(|stream| {
            let mut text = String::new();
            stream.unwrap().read_to_string(&mut text).unwrap();
            text
        });
        assert!(texts.into_iter().any(|text| text == "at last"));
        attempt.join().unwrap();
    });
}

/// RFC 8305: one that is silent delays, and does not stop, the next.
#[test]
fn a_race_is_won_by_the_address_that_answers() {
    everywhere(|| {
        let (_listener, silent, _clients) = full_listener();
        let good = [TcpListener::bind("127.0.0.1:0"), TcpListener::bind("[::1]:0")];
        for listener in good.map(Result::unwrap) {
            let good = listener.local_addr().unwrap();
            let race = TcpBuilder::new().attempt_delay(Duration::from_millis(10));
            for list in [vec![silent, good], vec![silent, silent, closed_port(), good]] {
                let stream = race.connect_any(&list[..]).unwrap();
                assert_eq!(stream.peer_addr().unwrap(), good);
                let (_, peer) = listener.accept().unwrap();
                assert_eq!(peer, stream.local_addr().unwrap());
                assert!(!socket_util::is_nonblocking(&stream));
            }
        }
    });
}

/// Addresses that fail are not waited for.
#[test]
fn in_a_race_the_next_starts_when_one_fails() {
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let (_full, silent, _clients) = full_listener();
        let race = TcpBuilder::new().attempt_delay(Duration::from_secs(3600));
        let stream = race.connect_any(&[closed_port(), closed_port(), good, silent][..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let error = race.connect_any(&[closed_port(), closed_port()][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        // A family that this machine is told not to use says nothing about the peer.
        let v4_only = race.clone().local_addr("127.0.0.1:0".parse().unwrap());
        let v6: SocketAddr = "[::1]:9".parse().unwrap();
        for list in [[v6, closed_port()], [closed_port(), v6]] {
            let error = v4_only.connect_any(&list[..]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{list:?}");
        }
        let none: &[SocketAddr] = &[];
        assert_eq!(race.connect_any(none).unwrap_err().kind(), ErrorKind::InvalidInput);
        let never = race.connect_timeout(Duration::ZERO).connect_any(good).unwrap_err();
        assert_eq!(never.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_race_that_nobody_wins_ends_in_time() {
    everywhere(|| {
        let (_listener, silent, _clients) = full_listener();
        let list = [silent, silent, silent];
        let race = TcpBuilder::new().attempt_delay(Duration::from_millis(10));
        let limited = race.clone().connect_timeout(Duration::from_millis(35));
        let error = limited.connect_any(&list[..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let limit = Duration::from_millis(15);
        let error = time::timeout(limit, || race.connect_any(&list[..])).unwrap().unwrap_err();
        assert!(error.get_ref().unwrap().is::<time::Elapsed>());
    });
    cosocket::run(|| {
        let (_listener, silent, _clients) = full_listener();
        let racing =
            spawn_waiting(move || TcpBuilder::new().connect_any(&[silent, silent][..]).map(drop));
        assert!(!racing.is_finished());
        racing.cancel();
        assert!(racing.join().unwrap_err().is::<cosocket::Cancelled>());
    });
}

#[test]
fn names_are_resolved_and_connected_to() {
    everywhere(|| {
        let listener = TcpListener::bind("localhost:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("localhost", port)).unwrap();
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        TcpStream::connect(format!("localhost:{port}")).unwrap();
    });
}

#[test]
fn a_name_that_does_not_exist_fails_as_in_std() {
    everywhere(|| {
        let error = TcpStream::connect("does-not-exist.invalid:80").unwrap_err();
        let stds = std::net::TcpStream::connect("does-not-exist.invalid:80").unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (stds.kind(), stds.to_string()));
    });
}

/// A sibling that has not begun can run only where this coroutine waits.
#[test]
fn a_look_up_lets_others_run_on_its_worker() {
    cosocket::run(|| {
        let ran = Rc::new(Cell::new(false));
        // A look-up may be over before anybody waits for it, but not time after time.
        while !ran.get() {
            let flag = Rc::clone(&ran);
            let sibling = spawn_local(move || flag.set(true));
            let expected = std::net::ToSocketAddrs::to_socket_addrs("localhost:80").unwrap();
            let found = "localhost:80".to_socket_addrs().unwrap();
            assert!(found.eq(expected));
            if ran.get() {
                break;
            }
            sibling.join().unwrap();
            ran.set(false);
        }
    });
}
