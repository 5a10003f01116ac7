//! A coroutine whose calls never have to wait starves nobody: not a timer, not an accept, not a
//! socket, not a yielding sibling, not a coroutine just spawned. All on one worker, and shown by
//! the fact that the busy one ends only when the others are through.

mod socket_util;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream, UdpSocket};
use cosocket::os::unix::net::UnixDatagram;
use cosocket::{Builder, spawn_local, thread};
use socket_util::{closed_port, pair};

/// Calls `step` for ever, beside everything that must make progress. `step` must never wait.
fn starves_nobody(mut step: impl FnMut() + Send + 'static) {
    let runtime = Builder::new().workers(1).build().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let steps = Arc::new(AtomicU64::new(0));
    let busy = {
        let (over, steps) = (Arc::clone(&over), Arc::clone(&steps));
        runtime.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                step();
                steps.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    // Nothing begins before the busy one is at it.
    while steps.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let outsider = std::thread::spawn(move || talk_to(address));
    runtime.run(move || {
        thread::sleep(Duration::from_millis(1));
        (0..10).for_each(|_| thread::yield_now());
        assert_eq!(thread::spawn(|| 1).join().unwrap(), 1);
        assert_eq!(spawn_local(|| 2).join().unwrap(), 2);
        assert_eq!(cosocket::unblock(|| 3), 3);
        let parked = spawn_local(thread::park);
        thread::yield_now();
        parked.thread().unpark();
        parked.join().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut word = [0; 4];
        for _ in 0..20 {
            stream.read_exact(&mut word).unwrap();
            stream.write_all(&word).unwrap();
        }
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(stream.read(&mut word).unwrap_err().kind(), ErrorKind::TimedOut);
    });
    assert!(!busy.is_finished(), "it was busy all the time");
    over.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    outsider.join().unwrap();
}

/// A plain thread: each of its writes has to be waited for.
fn talk_to(address: SocketAddr) -> std::net::TcpStream {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let mut word = [0; 4];
    for round in 0..20 {
        stream.write_all(&[round; 4]).unwrap();
        stream.read_exact(&mut word).unwrap();
        assert_eq!(word, [round; 4]);
    }
    stream
}

#[test]
fn writing_to_itself_and_reading_it_back() {
    let (mut left, mut right) = pair();
    starves_nobody(move || {
        left.write_all(b"x").unwrap();
        assert_eq!(right.read(&mut [0]).unwrap(), 1);
    });
}

#[test]
fn sending_datagrams_to_itself() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let (near, far) = UnixDatagram::pair().unwrap();
    starves_nobody(move || {
        udp.send_to(b"x", address).unwrap();
        assert_eq!(udp.recv_from(&mut [0; 4]).unwrap(), (1, address));
        near.send(b"x").unwrap();
        assert_eq!(far.recv(&mut []).unwrap(), 0);
    });
}

#[test]
fn reading_byte_by_byte_what_is_there() {
    let (mut left, mut right) = pair();
    let mut there = 0_usize;
    starves_nobody(move || {
        if there == 0 {
            left.write_all(&[0; 8192]).unwrap();
            there = 8192;
        }
        assert_eq!(right.read(&mut [0]).unwrap(), 1);
        there -= 1;
    });
}

#[test]
fn peeking_at_the_same_byte() {
    let (mut left, right) = pair();
    left.write_all(b"x").unwrap();
    // Held by the closure, so that the connection stays open.
    starves_nobody(move || assert_eq!((right.peek(&mut [0]).unwrap(), &left).0, 1));
}

#[test]
fn reading_the_end_of_a_stream() {
    let (left, mut right) = pair();
    drop(left);
    starves_nobody(move || assert_eq!(right.read(&mut [0]).unwrap(), 0));
}

#[test]
fn polling_a_socket_that_would_block() {
    let (left, mut right) = pair();
    right.set_nonblocking(true).unwrap();
    starves_nobody(move || {
        let _open = &left;
        assert_eq!(right.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn polling_a_listener_that_would_block() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    starves_nobody(move || {
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn connecting_and_accepting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    starves_nobody(move || {
        // Reset, so that thousands of connections leave no port behind in TIME_WAIT.
        let client = TcpStream::connect(address).unwrap();
        client.set_linger(Some(Duration::ZERO)).unwrap();
        listener.accept().unwrap();
    });
}

/// A client that tries until its server is up, which is to start on the same worker: a connect
/// that fails at once used to count as no call at all.
#[test]
fn connecting_in_vain() {
    let address = closed_port();
    starves_nobody(move || {
        let error = TcpStream::connect(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn yielding() {
    starves_nobody(thread::yield_now);
}

/// Two of them, which could hand the worker to each other.
#[test]
fn a_pair_that_plays_ping_pong() {
    let (mut left, mut right) = pair();
    let echo = thread::spawn(move || {
        while let Ok(1) = right.read(&mut [0]) {
            right.write_all(b"y").unwrap();
        }
    });
    starves_nobody(move || {
        left.write_all(b"x").unwrap();
        assert_eq!(left.read(&mut [0]).unwrap(), 1);
    });
    echo.join().unwrap();
}
