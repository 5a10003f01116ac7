//! What a UDP socket without a peer is told of datagrams that nobody takes. Row ids are those of
//! the behaviour table.

mod socket_util;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cosocket::net::UdpSocket;
use cosocket::{Error, ErrorKind, UdpCosocket, thread};
use socket_util::{Nobody, everywhere, spawn_waiting};

fn reporting(ip: &str) -> UdpCosocket {
    let socket = UdpCosocket::new();
    socket.set_timeout(Duration::MAX).unwrap();
    socket.set_report_undelivered(true);
    socket.bind(ip, 0).unwrap();
    socket.open().unwrap();
    socket
}

#[track_caller]
fn assert_refused(error: &Error, at: SocketAddr) {
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Io, "connection refused"));
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    assert_eq!(error.destination(), Some(at));
}

// UDP-3: each once, with where it was sent to, and sends are not disturbed by any of them
#[test]
fn a_receive_says_which_datagrams_nobody_took() {
    everywhere(|| {
        for ip in ["127.0.0.1", "::1"] {
            let (socket, friend) = (reporting(ip), UdpSocket::bind((ip, 0)).unwrap());
            let nobodies = [Nobody::at(ip), Nobody::at(ip)];
            let gone = nobodies.each_ref().map(Nobody::address);
            let here = friend.local_addr().unwrap();
            for address in gone {
                socket.send_to("anybody there?", address).unwrap();
            }
            socket.send_to("hello", here).unwrap();
            assert_eq!(socket.send_batch_to(&[("again", here), ("?", gone[0])]).unwrap(), 2);
            socket.send_to("and again", here).unwrap();
            for address in [gone[0], gone[1], gone[0]] {
                assert_refused(&socket.receive_from(100).unwrap_err(), address);
            }
            let mut buffer = [0; 100];
            for expected in ["hello", "again", "and again"] {
                let (len, from) = friend.recv_from(&mut buffer).unwrap();
                assert_eq!(&buffer[..len], expected.as_bytes());
                friend.send_to(b"reply", from).unwrap();
            }
            assert_eq!(*socket.receive_from(100).unwrap(), *b"reply");
            let cut = socket.receive_from(0).unwrap();
            assert!(cut.is_empty() && cut.is_truncated);
            assert_eq!(*socket.receive_batch(9, 100).unwrap()[0], *b"reply");
        }
    });
}

// UDP-3: a report comes to who waits, also by way of others' sends
#[test]
fn a_report_wakes_a_receive_that_waits() {
    cosocket::run(|| {
        let socket = Arc::new(reporting("127.0.0.1"));
        let nobody = Nobody::at("127.0.0.1");
        let gone = nobody.address();
        for receive_batch in [false, true] {
            for sends in [1, 5] {
                let theirs = Arc::clone(&socket);
                let receiver = spawn_waiting(move || match receive_batch {
                    true => theirs.receive_batch(9, 100).unwrap_err(),
                    false => theirs.receive_from(100).unwrap_err(),
                });
                (0..sends).for_each(|_| socket.send_to("anybody there?", gone).unwrap());
                assert_refused(&receiver.join().unwrap(), gone);
                (1..sends).for_each(|_| assert_refused(&socket.receive_from(9).unwrap_err(), gone));
            }
        }
        // And then there are no more.
        socket.set_timeout(Duration::from_millis(5)).unwrap();
        assert_eq!(socket.receive_from(100).unwrap_err().kind(), ErrorKind::Timeout);
    });
}

// UDP-3: an error of a send is that send's alone
#[test]
fn what_cannot_be_sent_is_told_to_who_sends_it() {
    everywhere(|| {
        let socket = reporting("127.0.0.1");
        let here = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = socket.send_to(vec![7_u8; 100_000], here).unwrap_err();
        assert_eq!(error.to_string(), "message too long");
        assert_eq!(error.destination(), None);
        socket.set_timeout(Duration::from_millis(5)).unwrap();
        assert_eq!(socket.receive_from(100).unwrap_err().kind(), ErrorKind::Timeout);
    });
}

// UDP-3: nobody is told who did not ask
#[test]
fn without_the_option_nothing_is_told() {
    everywhere(|| {
        let socket = UdpCosocket::new();
        let nobody = Nobody::at("127.0.0.1");
        let gone = nobody.address();
        socket.set_timeout(Duration::from_millis(5)).unwrap();
        for _ in 0..3 {
            socket.send_to("anybody there?", gone).unwrap();
            thread::yield_now();
        }
        assert_eq!(socket.receive_from(100).unwrap_err().kind(), ErrorKind::Timeout);
    });
}
