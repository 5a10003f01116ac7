//! `set_nonblocking`: at once, for all clones, in the kernel; and O_NONBLOCK that the user did
//! not ask for is never to be seen.

mod socket_util;

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{Builder, thread};
use socket_util::{Agents, everywhere, is_nonblocking, pair, spawn_waiting, std_pair, turn};

#[test]
fn calls_that_would_wait_say_so_at_once() {
    everywhere(|| {
        let (mut socket, mut peer) = pair();
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4];
        for _ in 0..100 {
            assert_eq!(socket.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(socket.peek(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
            let slices = &mut [IoSliceMut::new(&mut buffer)];
            assert_eq!(socket.read_vectored(slices).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        let data = vec![1; 1 << 20];
        let mut sent = 0;
        let error = loop {
            match socket.write(&data) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let slices = [IoSlice::new(&data)];
        assert_eq!(socket.write_vectored(&slices).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(socket);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), sent);
    });
}

#[test]
fn data_that_is_there_is_read_in_nonblocking_mode() {
    everywhere(|| {
        let (mut socket, mut peer) = pair();
        socket.set_nonblocking(true).unwrap();
        peer.write_all(b"12").unwrap();
        let mut byte = [0];
        for expected in [b'1', b'2'] {
            while let Err(error) = socket.read(&mut byte) {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
            }
            assert_eq!(byte[0], expected);
        }
        drop(peer);
        let end = loop {
            match socket.read(&mut byte) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                Ok(count) => break count,
            }
        };
        assert_eq!(end, 0);
    });
}

#[test]
fn the_mode_is_the_kernels_and_shared_by_clones() {
    everywhere(|| {
        let (socket, _peer) = pair();
        let clone = socket.try_clone().unwrap();
        assert!(!is_nonblocking(&socket));
        clone.set_nonblocking(true).unwrap();
        assert!(is_nonblocking(&socket) && is_nonblocking(&clone));
        assert_eq!((&socket).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let later = socket.try_clone().unwrap();
        assert_eq!((&later).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        later.set_nonblocking(false).unwrap();
        assert!(!is_nonblocking(&socket));
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert_eq!((&clone).read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut, "it waits");
    });
}

#[test]
fn a_listener_in_nonblocking_mode_does_not_wait() {
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clone = listener.try_clone().unwrap();
        clone.set_nonblocking(true).unwrap();
        assert!(is_nonblocking(&listener));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(!is_nonblocking(&server), "the mode of the listener is not the connection's");
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        clone.set_nonblocking(false).unwrap();
        assert!(!is_nonblocking(&listener));
    });
}

#[test]
fn back_in_blocking_mode_calls_wait_again() {
    cosocket::run(|| {
        let (mut socket, mut peer) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..3 {
            socket.set_nonblocking(true).unwrap();
            listener.set_nonblocking(true).unwrap();
            assert_eq!(socket.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            socket.set_nonblocking(false).unwrap();
            listener.set_nonblocking(false).unwrap();
            let later = spawn_waiting(move || {
                turn();
                peer.write_all(b"x").unwrap();
                TcpStream::connect(address).unwrap();
                peer
            });
            assert_eq!(socket.read(&mut [0]).unwrap(), 1);
            listener.accept().unwrap();
            peer = later.join().unwrap();
        }
    });
}

/// In std the mode is looked at when a call starts to wait. Ours may also end the wait; what must
/// not happen is that the byte is lost or nobody is woken.
#[test]
fn a_wait_that_has_begun_survives_a_change_of_mode() {
    cosocket::run(|| {
        let (socket, mut peer) = pair();
        let clone = socket.try_clone().unwrap();
        let reader = spawn_waiting(move || (&clone).read(&mut [0]).map_err(|error| error.kind()));
        socket.set_nonblocking(true).unwrap();
        turn();
        peer.write_all(b"x").unwrap();
        match reader.join().unwrap() {
            Ok(count) => assert_eq!(count, 1),
            Err(kind) => {
                assert_eq!(kind, ErrorKind::WouldBlock);
                socket.set_nonblocking(false).unwrap();
                assert_eq!((&socket).read(&mut [0]).unwrap(), 1);
            }
        }
    });
}

#[test]
fn sockets_we_made_are_blocking_when_handed_out() {
    cosocket::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = spawn_waiting(move || (listener.accept().unwrap().0, listener));
        let client = TcpStream::connect(address).unwrap();
        let timed = TcpStream::connect_timeout(&address, Duration::from_secs(100)).unwrap();
        let (server, listener) = acceptor.join().unwrap();
        let mut handed_out = Vec::new();
        for stream in [client, timed, server] {
            assert!(!is_nonblocking(&stream));
            // One that has waited, too.
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            assert_eq!((&stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
            let fd = OwnedFd::from(stream);
            assert!(!is_nonblocking(&fd));
            handed_out.push(fd);
        }
        let raw = listener.into_raw_fd();
        // SAFETY: given away by the line above.
        #[allow(unsafe_code)]
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        assert!(!is_nonblocking(&fd), "a listener that a coroutine has accepted from");
    });
}

#[test]
fn a_listener_that_has_waited_blocks_as_stds() {
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let clone = listener.try_clone().unwrap();
    let accepted = agents.at(0).start(move || clone.accept().map(drop).unwrap());
    agents.at(0).settle();
    let _client = std::net::TcpStream::connect(address).unwrap();
    accepted.recv().unwrap();
    let listener = std::net::TcpListener::from(listener);
    assert!(!is_nonblocking(&listener), "our own O_NONBLOCK shows");
    let client = std::thread::spawn(move || std::net::TcpStream::connect(address).unwrap());
    listener.accept().unwrap();
    client.join().unwrap();
}

#[test]
fn the_users_mode_survives_conversions() {
    everywhere(|| {
        let (socket, _peer) = pair();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let socket = std::net::TcpStream::from(socket);
        let listener = std::net::TcpListener::from(listener);
        assert!(is_nonblocking(&socket) && is_nonblocking(&listener));
        // And the way back.
        let (socket, listener) = (TcpStream::from(socket), TcpListener::from(listener));
        assert_eq!((&socket).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(is_nonblocking(&OwnedFd::from(listener)));
    });
}

#[test]
fn an_adopted_socket_keeps_the_mode_that_std_set() {
    everywhere(|| {
        let (socket, _peer) = std_pair();
        socket.set_nonblocking(true).unwrap();
        let adopted = TcpStream::from(socket);
        assert_eq!((&adopted).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        // A clone made before the first call learns it too.
        let (socket, _peer) = std_pair();
        socket.set_nonblocking(true).unwrap();
        let clone = TcpStream::from(socket).try_clone().unwrap();
        assert_eq!((&clone).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

/// The loop that programs without a poller write: it must make progress in a coroutine, whose
/// peer may be on the same worker.
#[test]
fn a_polling_loop_lets_its_peer_run() {
    cosocket::run(|| {
        let (mut socket, mut peer) = pair();
        socket.set_nonblocking(true).unwrap();
        let writer = thread::spawn(move || peer.write_all(b"x").unwrap());
        let count = loop {
            match socket.read(&mut [0]) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                Ok(count) => break count,
            }
        };
        assert_eq!(count, 1);
        writer.join().unwrap();
    });
}

/// The ring answered EAGAIN for ever to a read whose socket had been made non-blocking through a
/// duplicate that we know nothing of: the worker spun.
#[test]
fn a_mode_set_through_a_foreign_duplicate_ends_the_wait() {
    cosocket::run(|| {
        let (near, _far) = pair();
        // Its mode is asked for before the duplicate changes it.
        assert_eq!(near.read_timeout().unwrap(), None);
        near.set_read_timeout(None).unwrap();
        let duplicate = near.as_fd().try_clone_to_owned().unwrap();
        socket2::SockRef::from(&duplicate).set_nonblocking(true).unwrap();
        near.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let error = (&near).read(&mut [0]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    });
}

/// They were once counted like any other call, and gave way now and then; under a lock of std that
/// a neighbour wants too, such a worker stood still for ever.
#[test]
fn calls_in_nonblocking_mode_do_not_suspend() {
    Builder::new().workers(1).build().unwrap().run(|| {
        let (mut socket, mut peer) = pair();
        let probed = std::sync::Arc::new(std::sync::Mutex::new(0));
        let neighbour = thread::spawn({
            let probed = std::sync::Arc::clone(&probed);
            move || {
                while *probed.lock().unwrap() < 1000 {
                    thread::yield_now();
                }
            }
        });
        for _ in 0..1000 {
            // As a pool looks whether an idle connection has been closed.
            let mut count = probed.lock().unwrap();
            socket.set_nonblocking(true).unwrap();
            assert_eq!(socket.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(socket.write(b"x").unwrap(), 1);
            socket.set_nonblocking(false).unwrap();
            *count += 1;
            drop(count);
            assert_eq!(peer.read(&mut [0]).unwrap(), 1);
            peer.write_all(b"y").unwrap();
            assert_eq!(socket.read(&mut [0]).unwrap(), 1);
        }
        neighbour.join().unwrap();
    });
}
