//! The ends of a connection: shutdown here, close and reset there, with data in between.

mod socket_util;

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cosocket::net::TcpStream;
use cosocket::{Builder, thread};
use socket_util::{Agents, everywhere, pair, spawn_waiting, turn};

#[test]
fn shutdown_wakes_every_reader_with_the_end_of_the_stream() {
    cosocket::run(|| {
        for how in [Shutdown::Read, Shutdown::Both] {
            let (socket, _peer) = pair();
            let socket = Rc::new(socket);
            let readers = [(); 3].map(|()| {
                let socket = Rc::clone(&socket);
                spawn_waiting(move || (&*socket).read(&mut [0; 4]).unwrap())
            });
            assert!(readers.iter().all(|reader| !reader.is_finished()));
            socket.shutdown(how).unwrap();
            for reader in readers {
                assert_eq!(reader.join().unwrap(), 0);
            }
            assert_eq!((&*socket).read(&mut [0; 4]).unwrap(), 0, "and it stays so");
        }
    });
}

#[test]
fn shutdown_of_a_clone_wakes_a_reader_on_another_worker() {
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    for round in 0..20 {
        let (socket, _peer) = pair();
        let clone = socket.try_clone().unwrap();
        let reader = agents.at(round).start(move || (&socket).read(&mut [0]).unwrap());
        if round % 2 == 0 {
            agents.at(round).settle();
        }
        let how = [Shutdown::Read, Shutdown::Both][round / 2 % 2];
        agents.at(round + 1).start(move || clone.shutdown(how).unwrap()).recv().unwrap();
        assert_eq!(reader.recv().unwrap(), 0);
    }
}

/// Writes until the socket is full and the coroutine waits; then ends with the error.
fn write_until_error(socket: &TcpStream) -> ErrorKind {
    let data = vec![1; 64 << 10];
    loop {
        if let Err(error) = (&*socket).write(&data) {
            return error.kind();
        }
    }
}

#[test]
fn shutdown_wakes_a_writer_with_an_error() {
    cosocket::run(|| {
        for how in [Shutdown::Write, Shutdown::Both] {
            let (socket, _peer) = pair();
            let clone = socket.try_clone().unwrap();
            let writer = thread::spawn(move || write_until_error(&socket));
            // Full, and so full that the writer waits: no data moves any more.
            let mut before = 0;
            loop {
                let queued = unsent(&clone);
                if queued > 0 && queued == before {
                    break;
                }
                before = queued;
                thread::sleep(Duration::from_millis(2));
            }
            assert!(!writer.is_finished());
            clone.shutdown(how).unwrap();
            assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);
        }
    });
}

/// Bytes in the send queue.
#[allow(unsafe_code)]
fn unsent(socket: &TcpStream) -> i32 {
    use std::os::fd::AsRawFd;
    let mut count = 0;
    // SAFETY: the request writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    assert_eq!(result, 0);
    count
}

#[test]
fn after_shutdown_write_the_peer_sees_the_end_and_can_still_answer() {
    everywhere(|| {
        let (mut one, mut other) = pair();
        one.write_all(b"question").unwrap();
        one.try_clone().unwrap().shutdown(Shutdown::Write).unwrap();
        assert_eq!(one.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        let mut text = String::new();
        other.read_to_string(&mut text).unwrap();
        assert_eq!(text, "question");
        other.write_all(b"answer").unwrap();
        drop(other);
        text.clear();
        one.read_to_string(&mut text).unwrap();
        assert_eq!(text, "answer");
    });
}

#[test]
fn a_socket_that_is_not_connected_says_so() {
    everywhere(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = TcpStream::from(std::os::fd::OwnedFd::from(socket.unwrap()));
        assert_eq!((&socket).read(&mut [0]).unwrap_err().kind(), ErrorKind::NotConnected);
        assert_eq!(socket.shutdown(Shutdown::Both).unwrap_err().kind(), ErrorKind::NotConnected);
    });
}

/// The end in the same packet, and in the same edge, as the data before it.
#[test]
fn data_comes_before_the_end_that_came_with_it() {
    cosocket::run(|| {
        for len in [1, 3, 4, 5, 8, 1000] {
            for waits in [false, true] {
                let (mut reader, mut writer) = pair();
                let finish = move || {
                    writer.write_all(&vec![9; len]).unwrap();
                    drop(writer);
                };
                let early = if waits {
                    Some(spawn_waiting(move || {
                        turn();
                        finish();
                    }))
                } else {
                    finish();
                    None
                };
                let (mut buffer, mut received) = ([0; 4], 0);
                loop {
                    match reader.read(&mut buffer).unwrap() {
                        0 => break,
                        count => received += count,
                    }
                }
                assert_eq!(received, len);
                for _ in 0..3 {
                    assert_eq!(reader.read(&mut buffer).unwrap(), 0, "the end does not end");
                }
                if let Some(early) = early {
                    early.join().unwrap();
                }
            }
        }
    });
}

/// A half that was shut down by the peer while we waited must not hide data that comes later the
/// other way, nor the other way round.
#[test]
fn the_end_of_one_direction_leaves_the_other_waiting() {
    cosocket::run(|| {
        let (socket, peer) = pair();
        let socket = Arc::new(socket);
        let clone = Arc::clone(&socket);
        let reader = spawn_waiting(move || (&*clone).read(&mut [0]).unwrap());
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reader.join().unwrap(), 0);
        let data = vec![5; 8 << 20];
        let len = data.len();
        let writer = spawn_waiting(move || {
            (&*socket).write_all(&data).unwrap();
        });
        assert!(!writer.is_finished(), "8 MiB fit nowhere");
        let mut received = Vec::new();
        (&peer).read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), len);
        writer.join().unwrap();
    });
}

/// Dropping a socket that lingers for no time resets the connection.
fn reset(socket: TcpStream) {
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
}

#[test]
fn a_reset_is_told_once_and_is_the_end_after_that() {
    everywhere(|| {
        let (mut socket, peer) = pair();
        reset(peer);
        assert_eq!(socket.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
        assert_eq!(socket.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_reset_wakes_reader_and_writer() {
    cosocket::run(|| {
        let (socket, peer) = pair();
        let reader = spawn_waiting({
            let clone = socket.try_clone().unwrap();
            move || (&clone).read(&mut [0]).map_err(|error| error.kind())
        });
        let clone = socket.try_clone().unwrap();
        let writer = spawn_waiting(move || write_until_error(&clone));
        reset(peer);
        // The kernel tells one of them of the reset; to the others it is a plain end.
        let (read, write) = (reader.join().unwrap(), writer.join().unwrap());
        assert!(matches!(read, Ok(0) | Err(ErrorKind::ConnectionReset)), "{read:?}");
        assert!(matches!(write, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{write:?}");
        assert!(read.is_err() || write == ErrorKind::ConnectionReset, "nobody was told");
    });
}

#[test]
fn take_error_takes_the_reset_away_from_the_next_call() {
    everywhere(|| {
        let (mut socket, peer) = pair();
        assert!(socket.take_error().unwrap().is_none());
        reset(peer);
        let error = socket.take_error().unwrap().expect("the reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(socket.take_error().unwrap().is_none());
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_write_to_a_peer_that_is_gone_is_a_broken_pipe() {
    everywhere(|| {
        for vectored in [false, true] {
            let (mut socket, peer) = pair();
            drop(peer);
            // The first write is answered with a reset, whenever it arrives.
            let error = loop {
                let result = match vectored {
                    true => socket.write_vectored(&[IoSlice::new(b"a"), IoSlice::new(b"b")]),
                    false => socket.write(b"ab"),
                };
                if let Err(error) = result {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
    });
}
