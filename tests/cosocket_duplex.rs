//! One reader and one writer at once: who is refused, whose wait ends by whom, and what a close
//! leaves. Row ids are those of the behaviour table.

mod socket_util;
mod support;
#[allow(unsafe_code)]
mod util;

use std::cell::Cell;
use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cosocket::net::TcpListener;
use cosocket::{Builder, Cosocket, Error, ErrorKind, LocalJoinHandle, spawn, thread};
use socket_util::{Agents, everywhere, spawn_waiting};
use support::cosockets::{narrow_pair, pair};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Starts a receive that waits.
fn spawn_receive(socket: &Arc<Cosocket>) -> LocalJoinHandle<Result<Vec<u8>, Error>> {
    let socket = Arc::clone(socket);
    spawn_waiting(move || socket.receive_any(100))
}

/// Starts a send that waits.
fn spawn_send(socket: &Arc<Cosocket>) -> LocalJoinHandle<Result<usize, Error>> {
    let socket = Arc::clone(socket);
    spawn_waiting(move || socket.send(vec![b'a'; 4 << 20]))
}

// DUP-1, section 2 item 119
#[test]
fn a_reader_that_times_out_disturbs_no_writer_and_loses_nothing() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        let sender = Arc::clone(&socket);
        let sender = spawn(move || {
            for byte in b"request!" {
                assert_eq!(sender.send([*byte]).unwrap(), 1);
                thread::sleep(MILLISECOND);
            }
        });
        let peer = spawn(move || {
            let mut request = [0; 8];
            peer.read_exact(&mut request).unwrap();
            for part in [&b"re"[..], b"p", b"ly"] {
                thread::sleep(MILLISECOND * 3);
                peer.write_all(part).unwrap();
            }
            request
        });
        socket.set_timeouts(Duration::ZERO, Duration::ZERO, MILLISECOND).unwrap();
        let (mut reply, mut timeouts) = (Vec::new(), 0);
        while reply.len() < 5 {
            match socket.receive_exact(5 - reply.len()) {
                Ok(rest) => reply.extend(rest),
                Err(mut error) => {
                    assert_eq!(error.kind(), ErrorKind::Timeout);
                    reply.extend(error.take_partial());
                    timeouts += 1;
                }
            }
        }
        assert_eq!(reply, b"reply");
        assert!(timeouts > 0);
        assert_eq!(&peer.join().unwrap(), b"request!");
        sender.join().unwrap();
        // TMO-5
        assert!(socket.is_suspect().unwrap());
        socket.clear_suspect().unwrap();
        assert!(!socket.is_suspect().unwrap());
    });
}

// DUP-1 across workers, 100 000 of section 2 item 161 in small
#[test]
fn reader_and_writer_may_be_on_different_workers() {
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let (near, far) = Cosocket::pair().unwrap();
    let (near, far) = (Arc::new(near), Arc::new(far));
    let rounds = if util::is_quick() { 200 } else { 5000_u32 };
    let send = |worker, socket: &Arc<Cosocket>| {
        let socket = Arc::clone(socket);
        agents.at(worker).start(move || {
            for round in 0..rounds {
                assert_eq!(socket.send(round.to_le_bytes()).unwrap(), 4);
            }
        })
    };
    let receive = |worker, socket: &Arc<Cosocket>| {
        let socket = Arc::clone(socket);
        agents.at(worker).start(move || {
            for round in 0..rounds {
                assert_eq!(socket.receive_exact(4).unwrap(), round.to_le_bytes());
            }
        })
    };
    let all = [send(0, &near), receive(1, &near), send(1, &far), receive(2, &far)];
    all.into_iter().for_each(|done| done.recv().unwrap());
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

// DUP-2, section 2 item 125: in whichever receive the first waits, and who waits is not disturbed
#[test]
fn all_that_would_disturb_a_reader_is_refused() {
    type Receive = fn(&Cosocket) -> Result<Vec<u8>, Error>;
    let receives: [Receive; 3] = [
        |socket| socket.receive_line(),
        |socket| socket.receive_until("--").unwrap().whole(),
        |socket| socket.receive_until("--").unwrap().chunk(4).map(Option::unwrap_or_default),
    ];
    cosocket::run(|| {
        for receive in receives {
            let (socket, mut peer) = pair();
            socket.set_timeouts(Duration::ZERO, Duration::ZERO, MILLISECOND).unwrap();
            let over = Rc::new(Cell::new(false));
            let (reader, end) = (Arc::clone(&socket), Rc::clone(&over));
            // While we run, on its worker, it is in one of these.
            let reader = spawn_waiting(move || {
                while !end.get() {
                    assert_eq!(receive(&reader).unwrap_err().to_string(), "timeout");
                }
            });
            for refused in [
                socket.receive_any(1).map(drop),
                socket.receive_until("--").unwrap().chunk(1).map(drop),
                socket.try_close(),
                socket.set_keepalive(None, None),
                socket.connect("127.0.0.1:1"),
            ] {
                assert_eq!(refused.unwrap_err().to_string(), "socket busy reading");
            }
            assert_eq!(socket.send(b"sent data").unwrap(), 9);
            assert_eq!(socket.reused_times().unwrap(), 0);
            over.set(true);
            reader.join().unwrap();
            let mut sent = [0; 9];
            peer.read_exact(&mut sent).unwrap();
            assert_eq!(&sent, b"sent data");
            socket.try_close().unwrap();
        }
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

// DUP-5, DUP-8 and the reader's own half afterwards
#[test]
fn a_receive_that_is_cancelled_by_another_leaves_the_connection() {
    cosocket::run(|| {
        let (socket, mut peer) = pair();
        assert!(!socket.cancel_receive());
        peer.write_all(b"half a li").unwrap();
        let reader = Arc::clone(&socket);
        let reader = spawn_waiting(move || reader.receive_line().unwrap_err());
        assert!(socket.cancel_receive());
        let error = reader.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(error.partial(), b"half a li");
        assert_eq!(std::io::Error::from(error).kind(), IoErrorKind::ConnectionAborted);
        peer.write_all(b"ne\n").unwrap();
        assert_eq!(socket.receive_line().unwrap(), b"ne");
        assert_eq!(socket.send("x").unwrap(), 1);
    });
}

// DUP-5: both are woken, and the descriptor outlives their waits
#[test]
fn close_ends_the_waits_of_reader_and_writer() {
    cosocket::run(|| {
        let (socket, mut peer) = narrow_pair();
        let (reader, writer) = (spawn_receive(&socket), spawn_send(&socket));
        peer.read_exact(&mut [0; 100]).unwrap();
        socket.close().unwrap();
        assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);
        let error = writer.join().unwrap().unwrap_err();
        assert!(error.kind() == ErrorKind::Cancelled && error.sent() >= 100);
        assert_eq!(reader.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len() as u64 + 100, error.sent());
    });
}

// DUP-5: one ends, and another begins at once, on the same object
#[test]
fn a_socket_is_connected_anew_while_the_old_reader_still_leaves() {
    cosocket::run(|| {
        let (socket, _peer) = pair();
        let reader = spawn_receive(&socket);
        socket.close().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.connect(listener.local_addr().unwrap()).unwrap();
        let mut second = listener.accept().unwrap().0;
        let next = spawn_receive(&socket);
        assert_eq!(reader.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        second.write_all(b"for the second").unwrap();
        assert_eq!(next.join().unwrap().unwrap(), b"for the second");
    });
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
        // Both halves are over, so nothing is left.
        assert_eq!(socket.reused_times().unwrap_err().kind(), ErrorKind::Closed);
    });
}

// DUP-6: what has been delivered stays readable
#[test]
fn a_cancel_of_the_writer_leaves_what_was_received() {
    cosocket::run(|| {
        let (socket, mut peer) = narrow_pair();
        peer.write_all(b"one\ntwo\n").unwrap();
        assert_eq!(socket.receive_line().unwrap(), b"one");
        let writer = spawn_send(&socket);
        peer.write_all(b"three\n").unwrap();
        writer.cancel();
        support::assert_cancelled(writer.join());
        assert_eq!(socket.receive_line().unwrap(), b"two");
        assert_eq!(socket.receive_line().unwrap(), b"three");
        assert_eq!(socket.receive_line().unwrap_err().kind(), ErrorKind::Closed);
        let mut sent = Vec::new();
        peer.read_to_end(&mut sent).unwrap();
        assert!(!sent.is_empty());
    });
}

// DUP-6: the other one, who waits, sees the end
#[test]
fn a_cancel_in_one_half_ends_the_wait_in_the_other() {
    cosocket::run(|| {
        let (socket, _peer) = narrow_pair();
        let (reader, writer) = (spawn_receive(&socket), spawn_send(&socket));
        writer.cancel();
        support::assert_cancelled(writer.join());
        assert_eq!(reader.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);

        let (socket, _peer) = narrow_pair();
        let (reader, writer) = (spawn_receive(&socket), spawn_send(&socket));
        reader.cancel();
        support::assert_cancelled(reader.join());
        let error = writer.join().unwrap().unwrap_err();
        assert!(error.kind() == ErrorKind::Closed && error.sent() > 0, "{error:?}");
    });
}

// DUP-6: a shield holds the cancel back
#[test]
fn a_shielded_receive_is_not_cut() {
    cosocket::run(|| {
        let (socket, mut peer) = pair();
        let reader = Arc::clone(&socket);
        let reader = spawn_waiting(move || cosocket::shield(|| reader.receive_any(9).unwrap()));
        reader.cancel();
        socket_util::turn();
        peer.write_all(b"data").unwrap();
        assert_eq!(reader.join().unwrap(), b"data");
        assert_eq!(socket.send("still open").unwrap(), 10);
    });
}

// CLS-1, RCV-11, section 2 item 122
#[test]
fn the_end_of_one_half_is_not_the_end_of_the_other() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        peer.write_all(b"bye").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let error = socket.receive_line().unwrap_err();
        assert_eq!((error.kind(), error.partial()), (ErrorKind::Closed, &b"bye"[..]));
        assert_eq!(socket.receive_line().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(socket.send("goodbye").unwrap(), 7);
        socket.try_close().unwrap();
        assert_eq!(socket.try_close().unwrap_err().kind(), ErrorKind::Closed);
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert_eq!(text, "goodbye");
    });
}

// CLS-2
#[test]
fn a_half_close_lets_the_reply_come() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        let len = 1 << 20;
        let server = spawn(move || {
            let mut request = String::new();
            peer.read_to_string(&mut request).unwrap();
            peer.write_all(&vec![7; len]).unwrap();
            request
        });
        socket.send("request").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let error = socket.shutdown(Shutdown::Write).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Closed, "already shutdown"));
        assert_eq!(socket.send("x").unwrap_err().to_string(), "closed");
        assert_eq!(socket.receive_all().unwrap().len(), len);
        assert_eq!(server.join().unwrap(), "request");
        socket.close().unwrap();

        let (socket, mut peer) = pair();
        socket.shutdown(Shutdown::Read).unwrap();
        assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
        socket.send("x").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.close().unwrap_err().kind(), ErrorKind::Closed, "both halves are over");
        assert_eq!(peer.read(&mut [0; 9]).unwrap(), 1);
    });
}

// CLS-3
#[test]
fn a_lingering_close_lets_the_reply_arrive_before_the_upload_ends() {
    everywhere(|| {
        let (server, client) = pair();
        let uploading = spawn(move || {
            let mut client = client;
            // More than the kernel holds, and all of it though the server has answered already.
            client.write_all(&vec![7; 8 << 20]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut reply = String::new();
            client.read_to_string(&mut reply).unwrap();
            reply
        });
        server.receive_exact(10).unwrap();
        server.send("no more of that").unwrap();
        let long = Duration::from_secs(60);
        server.close_lingering(long, long).unwrap();
        assert_eq!(server.close().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(uploading.join().unwrap(), "no more of that");

        // A peer that neither sends nor ends does not hold it for ever.
        let (server, _client) = pair();
        let start = Instant::now();
        server.close_lingering(long, MILLISECOND * 5).unwrap();
        assert!(start.elapsed() >= MILLISECOND * 5);
        let (server, mut client) = pair();
        let dribble = spawn(move || while client.write_all(b"x").is_ok() {});
        server.close_lingering(MILLISECOND * 5, long).unwrap();
        dribble.join().unwrap();
    });
}

// CLS-3, DUP-2
#[test]
fn a_lingering_close_is_refused_while_another_uses_the_socket() {
    cosocket::run(|| {
        let (socket, mut peer) = pair();
        let reader = spawn_receive(&socket);
        let error = socket.close_lingering(MILLISECOND, MILLISECOND).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BusyReading);
        assert_eq!(socket.send("untouched").unwrap(), 9);
        peer.write_all(b"x").unwrap();
        reader.join().unwrap().unwrap();
    });
}

// CLS-4
#[test]
fn a_reset_is_seen_by_the_peer() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        socket.close_reset().unwrap();
        let error = peer.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), IoErrorKind::ConnectionReset);
        assert_eq!(socket.close_reset().unwrap_err().kind(), ErrorKind::Closed);
    });
}

// OBJ-4, and in place of section 2, item 142: a socket may travel, also while its other half is in
// use elsewhere
#[test]
fn a_socket_is_used_by_coroutines_and_threads_in_turn() {
    let (socket, peer) = pair();
    let mut peer = peer;
    peer.write_all(b"one\ntwo\nthree\n").unwrap();
    assert_eq!(socket.receive_line().unwrap(), b"one");
    assert_eq!(cosocket::run(|| socket.receive_line().unwrap()), b"two");
    let other = Arc::clone(&socket);
    assert_eq!(std::thread::spawn(move || other.receive_line().unwrap()).join().unwrap(), b"three");
}

// CLS-2. Once the half that was over already kept the other from its end, and the peer waited.
#[test]
fn a_shutdown_of_both_ends_what_is_left() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.receive_line().unwrap_err().kind(), ErrorKind::Closed);
        socket.shutdown(Shutdown::Both).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        assert_eq!(socket.shutdown(Shutdown::Both).unwrap_err().kind(), ErrorKind::Closed);

        let (socket, _peer) = pair();
        socket.shutdown(Shutdown::Write).unwrap();
        socket.shutdown(Shutdown::Both).unwrap();
        assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
    });
}

// CLS-2, DUP-2: all or nothing
#[test]
fn a_shutdown_of_both_changes_nothing_while_another_uses_one() {
    cosocket::run(|| {
        let (socket, mut peer) = narrow_pair();
        let writer = spawn_send(&socket);
        let error = socket.shutdown(Shutdown::Both).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BusyWriting);
        peer.write_all(b"still read").unwrap();
        assert_eq!(socket.receive_any(100).unwrap(), b"still read");
        peer.read_exact(&mut vec![0; 4 << 20]).unwrap();
        writer.join().unwrap().unwrap();

        let reader = spawn_receive(&socket);
        let error = socket.shutdown(Shutdown::Both).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BusyReading);
        assert_eq!(socket.send("still sent").unwrap(), 10);
        peer.write_all(b"x").unwrap();
        reader.join().unwrap().unwrap();
        socket.shutdown(Shutdown::Both).unwrap();
    });
}
