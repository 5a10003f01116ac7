//! The same calls on sockets: timeouts, ends, two who use one socket, cancels.

use std::io::{IoSliceMut, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cosocket::framing::{ByteOrder, Delimited, LengthField, LengthPrefixed};
use cosocket::net::{TcpListener, TcpStream};
use cosocket::{Builder, Cosocket, Error, ErrorKind, thread};

use crate::support::{assert_cancelled, suspended};

const SHORT: Duration = Duration::from_millis(10);

#[track_caller]
fn assert_fails<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind, partial: &[u8]) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert_eq!(error.partial().escape_ascii().to_string(), partial.escape_ascii().to_string());
}

fn connection() -> (Cosocket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = cosocket::connect(listener.local_addr().unwrap()).unwrap();
    (socket, listener.accept().unwrap().0)
}

/// Over TCP and a Unix socket, in a coroutine and on a plain thread: both ends.
fn everywhere(check: impl Fn(Cosocket, Cosocket) + Send + Sync) {
    let check = || {
        let (socket, peer) = connection();
        check(socket, Cosocket::from(peer));
        let (socket, peer) = Cosocket::pair().unwrap();
        check(socket, peer);
    };
    cosocket::run(check);
    check();
}

/// RCV-1 to RCV-5, RCV-12, RCV-14, RCV-15: each call once, one after the other.
#[test]
fn all_calls_in_a_row() {
    everywhere(|socket, peer| {
        peer.send("line\r\nexactINTOabcanya--b--c1--c2--packet\nthe rest").unwrap();
        peer.close().unwrap();
        assert_eq!(socket.peek(6).unwrap(), b"line\r\n");
        assert_eq!(socket.receive_line().unwrap(), b"line");
        assert_eq!(socket.receive_exact(5).unwrap(), b"exact");
        let mut into = [0; 4];
        socket.receive_exact_into(&mut into).unwrap();
        assert_eq!(&into, b"INTO");
        let (mut one, mut two) = ([0; 1], [0; 2]);
        let slices = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!(socket.receive_vectored(slices).unwrap(), 3);
        assert_eq!((&one, &two), (b"a", b"bc"));
        assert_eq!(socket.peek_any(3).unwrap(), b"any");
        assert_eq!(socket.receive_any(3).unwrap(), b"any");
        let mut records = socket.receive_until(b"--").unwrap();
        assert_eq!(records.whole().unwrap(), b"a");
        let mut inclusive = socket.receive_until("--").unwrap().inclusive();
        assert_eq!(inclusive.whole().unwrap(), b"b--");
        assert_eq!(records.chunk(1).unwrap().unwrap(), b"c");
        assert_eq!(records.whole().unwrap(), b"1");
        assert_eq!(records.chunk(9).unwrap().unwrap(), b"c2");
        let framing = Delimited::new(b"\n").unwrap();
        assert_eq!(socket.receive_packet(&framing).unwrap().body(), b"packet");
        assert_eq!(records.chunk(9).unwrap(), None, "the end mark outlasts other calls");
        assert_eq!(socket.receive_all().unwrap(), b"the rest");
        assert_eq!(socket.receive_all().unwrap(), b"");
        assert_fails(records.whole(), ErrorKind::Closed, b"");
        assert_fails(socket.receive_all(), ErrorKind::Closed, b"");
    });
}

/// RCV-3, RCV-4, RCV-5, item 34: arguments that make no sense, and what asks for nothing. The stream
/// stays as it is.
#[test]
fn arguments() {
    everywhere(|socket, peer| {
        peer.send("data").unwrap();
        assert_fails(socket.receive_any(0), ErrorKind::InvalidInput, b"");
        assert_eq!(socket.receive_any(2).unwrap(), b"da");
        assert_fails(socket.receive_any(0), ErrorKind::InvalidInput, b"");
        assert_eq!(socket.receive_any(9).unwrap(), b"ta");
        assert_eq!(socket.receive_until("").unwrap_err().to_string(), "pattern is empty");
        assert_eq!(socket.receive_any(0).unwrap_err().to_string(), "bad max argument");
        assert_eq!(socket.peek_any(0).unwrap_err().to_string(), "bad max argument");
        assert_eq!(socket.receive_exact(0).unwrap(), b"");
        assert_fails(socket.peek(cosocket::PEEK_LIMIT + 1), ErrorKind::BufferTooSmall, b"");
        drop(peer);
        assert_fails(socket.receive_exact(1), ErrorKind::Closed, b"");
        assert_fails(socket.receive_exact(0), ErrorKind::Closed, b"");
    });
    assert_fails(Cosocket::new().receive_any(0), ErrorKind::Closed, b"");
    assert_fails(Cosocket::new().receive_exact(0), ErrorKind::Closed, b"");
    assert_fails(Cosocket::new().receive_until("x").unwrap().whole(), ErrorKind::Closed, b"");
}

/// RCV-10, items 20 to 22 and 130: every call after every other. The connection stays.
#[test]
fn a_timeout_and_then_another_call() {
    type Call = fn(&Cosocket) -> Result<Vec<u8>, Error>;
    let calls: [(Call, &[u8]); 4] = [
        (|socket| socket.receive_line(), b"world"),
        (|socket| socket.receive_exact(6), b"world\n"),
        (|socket| socket.receive_until("\n").unwrap().whole(), b"world"),
        (|socket| socket.receive_until("\n").unwrap().inclusive().whole(), b"world\n"),
    ];
    cosocket::run(|| {
        for (first, _) in calls {
            for (second, expected) in calls {
                let (socket, mut peer) = connection();
                socket.set_timeouts(SHORT, SHORT, SHORT).unwrap();
                assert_fails(first(&socket), ErrorKind::Timeout, b"");
                peer.write_all(b"hello").unwrap();
                assert_fails(first(&socket), ErrorKind::Timeout, b"hello");
                assert_fails(first(&socket), ErrorKind::Timeout, b"");
                peer.write_all(b"world\n").unwrap();
                assert_eq!(second(&socket).unwrap(), expected);
            }
        }
    });
}

/// A partial packet is never lost on a timeout, nor what a peek has looked at.
#[test]
fn a_timeout_within_a_packet() {
    everywhere(|socket, peer| {
        let framing = LengthPrefixed::new(LengthField::U32(ByteOrder::Big));
        socket.set_timeout(SHORT).unwrap();
        for piece in [&b"\0\0"[..], b"\0\x05h", b"ell"] {
            peer.send(piece).unwrap();
            assert_fails(socket.receive_packet(&framing), ErrorKind::Timeout, b"");
            assert_fails(socket.peek(100), ErrorKind::Timeout, b"");
        }
        peer.send("o").unwrap();
        assert_eq!(socket.receive_packet(&framing).unwrap().body(), b"hello");
    });
}

/// RCV-8: the half-matched pattern of a dropped iterator is in the stream.
#[test]
fn a_half_match_outlives_the_iterator() {
    everywhere(|socket, peer| {
        socket.set_timeout(SHORT).unwrap();
        peer.send("hello--a").unwrap();
        let mut records = socket.receive_until("--abc").unwrap();
        assert_fails(records.whole(), ErrorKind::Timeout, b"hello");
        drop(records);
        peer.send("x\n").unwrap();
        assert_eq!(socket.receive_line().unwrap(), b"--ax");
    });
}

/// RCV-11: the end of the peer's half leaves ours.
#[test]
fn the_end_leaves_the_write_half() {
    everywhere(|socket, peer| {
        peer.send("reply").unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert_fails(socket.receive_line(), ErrorKind::Closed, b"reply");
        assert_fails(socket.receive_line(), ErrorKind::Closed, b"");
        socket.send("bye").unwrap();
        assert_eq!(peer.receive_exact(3).unwrap(), b"bye");
        socket.close().unwrap();
    });
}

/// RCV-12: a peek that meets the end leaves the bytes, and the half, to the next call.
#[test]
fn a_peek_at_the_end() {
    everywhere(|socket, peer| {
        peer.send("abc").unwrap();
        drop(peer);
        assert_fails(socket.peek(4), ErrorKind::Closed, b"");
        assert_eq!(socket.peek(3).unwrap(), b"abc");
        assert_eq!(socket.receive_exact(3).unwrap(), b"abc");
        assert_eq!(socket.receive_all().unwrap(), b"");
    });
}

/// A reset is told with what had come before it.
#[test]
fn a_reset() {
    cosocket::run(|| {
        let (socket, mut peer) = connection();
        peer.write_all(b"half").unwrap();
        assert_eq!(socket.peek(4).unwrap(), b"half");
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        let error = socket.receive_line().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        assert_eq!(error.partial(), b"half");
        assert_fails(socket.receive_line(), ErrorKind::Closed, b"");
    });
}

/// RCV-4, and openresty#891: all that is there, not a page of it.
#[test]
fn any_is_not_cut_short() {
    everywhere(|socket, peer| {
        peer.send(vec![b'x'; 30_000]).unwrap();
        let mut received = 0;
        let mut longest = 0;
        while received < 30_000 {
            let bytes = socket.receive_any(65_536).unwrap();
            (received, longest) = (received + bytes.len(), longest.max(bytes.len()));
        }
        assert_eq!(received, 30_000);
        assert!(longest > 4096, "{longest} bytes at most");
    });
}

/// DUP-2: a second reader, of whatever kind, is refused; the first gets its own.
#[test]
fn a_second_reader_is_refused() {
    let both = |read: fn(&Cosocket) -> Vec<u8>| {
        let (socket, peer) = Cosocket::pair().unwrap();
        let socket = std::rc::Rc::new(socket);
        let reader = std::rc::Rc::clone(&socket);
        let reader = suspended(move || read(&reader));
        let framing = Delimited::new(b"\n").unwrap();
        assert_fails(socket.receive_line(), ErrorKind::BusyReading, b"");
        assert_fails(socket.receive_exact(0), ErrorKind::BusyReading, b"");
        assert_fails(socket.receive_until("x").unwrap().chunk(1), ErrorKind::BusyReading, b"");
        assert_fails(socket.receive_packet(&framing), ErrorKind::BusyReading, b"");
        assert_fails(socket.peek(1), ErrorKind::BusyReading, b"");
        peer.send("for the first\n").unwrap();
        assert!(reader.join().unwrap().starts_with(b"for the first"));
    };
    cosocket::run(|| {
        both(|socket| socket.receive_line().unwrap());
        both(|socket| socket.receive_until("\n").unwrap().whole().unwrap());
        both(|socket| socket.receive_packet(&Delimited::new(b"\n").unwrap()).unwrap().into_bytes());
    });
}

/// DUP-5: who is ended by another gets what had come.
#[test]
fn a_receive_that_another_ends() {
    cosocket::run(|| {
        let (socket, peer) = Cosocket::pair().unwrap();
        let socket = std::rc::Rc::new(socket);
        peer.send("half a line").unwrap();
        let reader = std::rc::Rc::clone(&socket);
        let reader = suspended(move || reader.receive_line());
        assert!(socket.cancel_receive());
        assert_fails(reader.join().unwrap(), ErrorKind::Cancelled, b"half a line");
        peer.send(", a line\n").unwrap();
        assert_eq!(socket.receive_line().unwrap(), b", a line");
    });
}

/// DUP-6, DESIGN.md 8: a cancelled coroutine closes the connection, and what had come can be read.
#[test]
fn a_cancel_leaves_what_had_come() {
    type Read = fn(&Cosocket);
    let reads: [Read; 4] = [
        |socket| drop(socket.receive_line()),
        |socket| drop(socket.receive_exact_into(&mut [0; 100])),
        |socket| drop(socket.receive_exact_into(&mut [0; 100_000])),
        |socket| drop(socket.receive_until("--").unwrap().whole()),
    ];
    cosocket::run(|| {
        for read in reads {
            let (socket, peer) = Cosocket::pair().unwrap();
            let socket = std::rc::Rc::new(socket);
            peer.send("delivered-").unwrap();
            let reader = std::rc::Rc::clone(&socket);
            let reader = suspended(move || read(&reader));
            reader.cancel();
            assert_cancelled(reader.join());
            assert_eq!(socket.receive_all().unwrap(), b"delivered-");
            assert_fails(peer.receive_any(1), ErrorKind::Closed, b"");
        }
    });
}

/// A stream made of a cosocket begins with what was received and not read.
#[test]
fn nothing_is_lost_on_the_way_out() {
    cosocket::run(|| {
        let (socket, peer) = Cosocket::pair().unwrap();
        peer.send("line\nrest").unwrap();
        assert_eq!(socket.receive_line().unwrap(), b"line");
        peer.send(" of it").unwrap();
        drop(peer);
        let mut rest = String::new();
        socket.into_parts().unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "rest of it");
    });
}

/// RCV-13 on sockets, both ways: a megabyte through every call, sent in odd pieces.
#[test]
fn a_long_stream_in_odd_pieces() {
    let stream: Vec<u8> = (0..1_000_000_u32).map(|at| (at * 7 % 256) as u8).collect();
    everywhere(|socket, peer| {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut rest = &stream[..];
                for len in [1, 3, 1000, 4097, 70_000, 17].iter().cycle() {
                    let (piece, others) = rest.split_at(rest.len().min(*len));
                    peer.send(piece).unwrap();
                    rest = others;
                    if rest.is_empty() {
                        break;
                    }
                }
                peer.close().unwrap();
            });
            let mut received = Vec::new();
            let mut records = socket.receive_until([0, 7]).unwrap().inclusive();
            for turn in 0.. {
                let call = match turn % 6 {
                    0 => socket.receive_exact(30_000),
                    1 => socket.receive_any(5000),
                    2 => records.whole(),
                    3 => records.chunk(100).map(Option::unwrap_or_default),
                    4 => {
                        let mut slice = vec![0; 12_345];
                        socket.receive_exact_into(&mut slice).map(|()| slice)
                    }
                    _ => socket.receive_exact(3),
                };
                match call {
                    Ok(bytes) => received.extend(bytes),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Closed);
                        received.extend(error.into_partial());
                        break;
                    }
                }
            }
            assert!(received == stream, "{} bytes", received.len());
        });
    });
}

/// RCV-16: a reader that always finds data starves nobody on its worker.
#[test]
fn a_flood_does_not_starve_a_ticker() {
    let runtime = Builder::new().workers(1).build().unwrap();
    runtime.run(|| {
        let (socket, peer) = Cosocket::pair().unwrap();
        let ticks = AtomicUsize::new(0);
        let start = Instant::now();
        thread::scope(|scope| {
            // A producer that is never waited for: it is a thread of its own.
            let producer = std::thread::spawn(move || {
                let lines = b"0123456789\n".repeat(5000);
                while peer.send(&lines).is_ok() {}
            });
            scope.spawn(|| {
                for _ in 0..20 {
                    thread::sleep(SHORT);
                    ticks.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut lines = 0_u64;
            // It sees the ticks, so it is the ticker's turn now and then.
            while ticks.load(Ordering::Relaxed) < 20 {
                assert_eq!(socket.receive_line().unwrap(), b"0123456789");
                lines += 1;
            }
            println!("{lines} lines during 20 ticks in {:?}", start.elapsed());
            socket.close().unwrap();
            producer.join().unwrap();
        });
    });
}

/// FRM-3: a packet is sent by one system call, header and all, and arrives as it was sent.
#[test]
fn packets_both_ways() {
    everywhere(|socket, peer| {
        let prefixed = LengthPrefixed::new(LengthField::U16(ByteOrder::Big)).limit(65_537);
        let delimited = Delimited::new(b"\0").unwrap();
        for len in [0, 1, 1000, 65_535] {
            let body = vec![b'x'; len];
            thread::scope(|scope| {
                scope.spawn(|| {
                    assert_eq!(socket.send_packet(&prefixed, &body).unwrap(), 2 + len);
                    assert_eq!(socket.send_packet(&delimited, &body).unwrap(), len + 1);
                });
                assert!(peer.receive_packet(&prefixed).unwrap().body() == body);
                assert!(peer.receive_packet(&delimited).unwrap().into_body() == body);
            });
        }
        assert_fails(socket.send_packet(&prefixed, &[0; 65_536]), ErrorKind::Oversized, b"");
        assert_fails(socket.send_packet(&delimited, b"a\0b"), ErrorKind::InvalidInput, b"");
        drop(socket);
        assert_eq!(peer.receive_all().unwrap(), b"", "what was refused was not sent");
    });
}

/// FRM-3.
#[test]
fn a_packet_is_sent_by_one_call() {
    let runtime = Builder::new().workers(1).driver(cosocket::Driver::Epoll).build().unwrap();
    let (socket, _peer) = Cosocket::pair().unwrap();
    let framing = LengthPrefixed::new(LengthField::U32(ByteOrder::Big));
    runtime.run(|| {
        for (count, len) in [(100, 10), (4, 30_000)] {
            let body = vec![0; len];
            let before = runtime.metrics().system_calls;
            for _ in 0..count {
                socket.send_packet(&framing, &body).unwrap();
            }
            let calls = runtime.metrics().system_calls - before;
            assert!(calls <= count + 1, "{calls} calls for {count} packets");
        }
    });
}

/// All of a server's lines reach all of its clients' calls, many at once.
#[test]
fn many_connections_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let clients = if crate::util::is_quick() { 20 } else { 100 };
    cosocket::run(|| {
        thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..clients {
                    let socket = Cosocket::from(listener.accept().unwrap().0);
                    thread::spawn(move || {
                        while let Ok(line) = socket.receive_line() {
                            socket.send((line, "\r\n")).unwrap();
                        }
                    });
                }
            });
            for client in 0..clients {
                scope.spawn(move || {
                    let socket = cosocket::connect(address).unwrap();
                    for number in 0..50 {
                        let line = format!("{client}:{}", "x".repeat(number * 97));
                        socket.send((&line, "\n")).unwrap();
                        assert_eq!(socket.receive_line().unwrap(), line.as_bytes());
                    }
                });
            }
        });
    });
}
