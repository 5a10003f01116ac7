//! One reader and one writer at once, who is refused, and who ends whose wait.

mod socket_util;
mod support;
#[allow(unsafe_code)]
mod util;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use cosocket::net::TcpListener;
use cosocket::{Cosocket, ErrorKind, thread, time};
use socket_util::{everywhere, spawn_waiting};

/// A connected cosocket, and the other end.
fn pair() -> (Arc<Cosocket>, cosocket::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = Cosocket::new();
    socket.connect(listener.local_addr().unwrap()).unwrap();
    (Arc::new(socket), listener.accept().unwrap().0)
}

/// Starts a receive of `socket` that waits.
fn spawn_receive(
    socket: &Arc<Cosocket>,
) -> cosocket::LocalJoinHandle<Result<Vec<u8>, cosocket::Error>> {
    let socket = Arc::clone(socket);
    spawn_waiting(move || socket.receive_any(100))
}

// DUP-2, DUP-4, DUP-7
#[test]
fn a_second_reader_is_refused_and_the_first_is_not_disturbed() {
    cosocket::run(|| {
        let (socket, mut peer) = pair();
        let reader = spawn_receive(&socket);
        assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::BusyReading);
        assert_eq!(socket.try_close().unwrap_err().kind(), ErrorKind::BusyReading);
        let error = socket.connect("127.0.0.1:1").unwrap_err();
        assert_eq!(error.to_string(), "socket busy reading");
        assert_eq!(socket.send(b"sent data").unwrap(), 9);
        assert_eq!(socket.reused_times().unwrap(), 0);
        peer.write_all(b"late").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), b"late");
    });
}

// DUP-5
#[test]
fn close_ends_the_wait_of_a_reader() {
    cosocket::run(|| {
        let (socket, mut peer) = pair();
        let reader = spawn_receive(&socket);
        socket.close().unwrap();
        let error = reader.join().unwrap().unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Cancelled, "canceled"));
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(socket.send(b"x").unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(socket.close().unwrap_err().kind(), ErrorKind::Closed);
    });
}

// DUP-5, from one thread to another
#[test]
fn the_wait_of_a_plain_thread_can_be_ended() {
    let (socket, _peer) = pair();
    let reader = Arc::clone(&socket);
    let reader = std::thread::spawn(move || reader.receive_any(100).unwrap_err().kind());
    while !socket.cancel_receive() {
        std::thread::yield_now();
    }
    assert_eq!(reader.join().unwrap(), ErrorKind::Cancelled);
}

// DUP-6
#[test]
fn a_cancel_of_the_reader_closes_the_connection_for_all() {
    cosocket::run(|| {
        let (socket, mut peer) = pair();
        let reader = spawn_receive(&socket);
        reader.cancel();
        support::assert_cancelled(reader.join());
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(socket.send(b"x").unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
    });
}

// TMO-5
#[test]
fn a_receive_that_times_out_leaves_the_connection() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        socket.set_timeouts(Duration::ZERO, Duration::ZERO, Duration::from_millis(1)).unwrap();
        assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Timeout);
        let cut = time::timeout(Duration::from_millis(1), || socket.receive_any(1));
        assert_eq!(cut.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        socket.set_timeout(Duration::ZERO).unwrap();
        peer.write_all(b"data").unwrap();
        assert_eq!(socket.receive_any(9).unwrap(), b"data");
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.receive_any(9).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(socket.send(b"still").unwrap(), 5);
        thread::yield_now();
    });
}
