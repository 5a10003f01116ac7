//! The body of a request, and the raw connection behind an upgrade: rows SRV-1 and SRV-2 of the
//! behaviour table, items 73 to 83 and 127 to 133 of its second section.

mod socket_util;

use std::io::{BufRead, BufReader, Read};
use std::rc::Rc;
use std::time::Duration;

use cosocket::server::{Connection, RequestBody, Server};
use cosocket::sync::mpsc;
use cosocket::{Cosocket, Error, ErrorKind, thread};
use socket_util::{everywhere, spawn_waiting, turn};

const SOON: Duration = Duration::from_millis(20);

/// A connection on which `sent` is on its way in pieces of `size`, by another coroutine that goes
/// on to hold it, or ends it.
fn sending(sent: &[u8], size: usize, then_ends: bool) -> (Cosocket, thread::JoinHandle<Cosocket>) {
    let (client, server) = Cosocket::pair().unwrap();
    let pieces: Vec<Vec<u8>> = sent.chunks(size).map(<[u8]>::to_vec).collect();
    let sender = thread::spawn(move || {
        for piece in pieces {
            client.send(piece).unwrap();
            turn();
        }
        if then_ends {
            client.close().unwrap();
        }
        client
    });
    (server, sender)
}

fn told(error: Error) -> (ErrorKind, String, Vec<u8>) {
    (error.kind(), error.to_string(), error.partial().to_vec())
}

/// 73, 76: the body's end is the end, and what comes after it is not touched.
#[test]
fn a_body_ends_where_its_length_says() {
    everywhere(|| {
        for size in [1, 3, 11, 100] {
            let (server, sender) = sending(b"hello worldGET / HTTP/1.1\r\n", size, false);
            let mut body = RequestBody::new(&server, 11).unwrap();
            assert_eq!(body.receive_exact(5).unwrap(), b"hello");
            assert_eq!(body.remaining(), 6);
            assert_eq!(body.receive_exact(5).unwrap(), b" worl");
            let error = told(body.receive_exact(5).unwrap_err());
            assert_eq!(error, (ErrorKind::Closed, "closed".to_owned(), b"d".to_vec()));
            assert_eq!(body.receive_any(5).unwrap_err().kind(), ErrorKind::Closed);
            assert_eq!(body.remaining(), 0);
            assert_eq!(server.receive_line().unwrap(), b"GET / HTTP/1.1");
            drop(sender.join());
        }
    });
}

/// 76: what had come with the head is served first.
#[test]
fn bytes_received_with_the_head_belong_to_the_body() {
    everywhere(|| {
        for size in [1, 1000] {
            let sent = b"POST / HTTP/1.1\r\n\r\nline\r\nrestPOST /2 HTTP/1.1\r\n\r\nno";
            let (server, sender) = sending(sent, size, false);
            while !server.receive_line().unwrap().is_empty() {}
            let mut body = RequestBody::new(&server, 10).unwrap();
            assert_eq!(body.receive_line().unwrap(), b"line");
            assert_eq!(body.receive_all(4).unwrap(), b"rest");
            assert_eq!(server.receive_line().unwrap(), b"POST /2 HTTP/1.1");
            drop(sender.join());
        }
    });
}

/// 74: two patterns, in pieces of all sizes.
#[test]
fn a_multipart_body_is_cut_by_its_boundary() {
    const BODY: &[u8] =
        b"preamble\r\n--it\r\nContent-Type: a\r\n\r\none\r\n--it\r\n\r\nlast\n\r\n--it--";
    everywhere(|| {
        for size in [1, 50, BODY.len()] {
            for chunk in [1, 3, 1000] {
                let (server, sender) = sending(&[BODY, b"next"].concat(), size, false);
                let mut body = RequestBody::new(&server, BODY.len() as u64).unwrap();
                let boundary = "\r\n--it";
                assert_eq!(body.receive_until(boundary).unwrap().whole().unwrap(), b"preamble");
                let mut parts = Vec::new();
                while body.receive_exact(2).unwrap() == b"\r\n" {
                    while !body.receive_line().unwrap().is_empty() {}
                    let mut part = Vec::new();
                    let mut pieces = body.receive_until(boundary).unwrap();
                    while let Some(piece) = pieces.chunk(chunk).unwrap() {
                        part.extend(piece);
                    }
                    parts.push(part);
                }
                assert_eq!(parts, [&b"one"[..], b"last\n"]);
                assert_eq!(body.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
                assert_eq!(server.receive_exact(4).unwrap(), b"next");
                drop(sender.join());
            }
        }
    });
}

/// 77
#[test]
fn a_client_that_waits_to_be_told_is_told_when_the_body_is_read() {
    everywhere(|| {
        let (client, server) = Cosocket::pair().unwrap();
        let mut body = RequestBody::new(&server, 4).unwrap().expect_continue();
        let client = thread::spawn(move || {
            assert_eq!(client.receive_line().unwrap(), b"HTTP/1.1 100 Continue");
            assert_eq!(client.receive_line().unwrap(), b"");
            client.send("body").unwrap();
            // Told once.
            assert_eq!(client.receive_line().unwrap_err().kind(), ErrorKind::Closed);
        });
        assert_eq!(body.receive_exact(2).unwrap(), b"bo");
        assert_eq!(body.receive_exact(2).unwrap(), b"dy");
        server.close().unwrap();
        client.join().unwrap();

        let (client, server) = Cosocket::pair().unwrap();
        client.close().unwrap();
        let mut body = RequestBody::new(&server, 4).unwrap().expect_continue();
        assert_eq!(body.receive_any(4).unwrap_err().to_string(), "test expect failed");
        // One that is not read tells nothing.
        let (client, server) = Cosocket::pair().unwrap();
        drop(RequestBody::new(&server, 4).unwrap().expect_continue());
        drop(server);
        assert_eq!(client.receive_any(4).unwrap_err().kind(), ErrorKind::Closed);
    });
}

/// 79
#[test]
fn a_request_without_a_body_has_none() {
    let (_client, server) = Cosocket::pair().unwrap();
    assert_eq!(RequestBody::new(&server, 0).unwrap_err().to_string(), "no body");
}

/// 80: a timeout hands out what had come, once, and the rest may still come.
#[test]
fn a_body_that_is_late_is_a_timeout_with_what_had_come() {
    everywhere(|| {
        let (client, server) = Cosocket::pair().unwrap();
        server.set_timeout(SOON).unwrap();
        client.send("hello").unwrap();
        let mut body = RequestBody::new(&server, 10245).unwrap();
        let error = told(body.receive_exact(10245).unwrap_err());
        assert_eq!(error, (ErrorKind::Timeout, "timeout".to_owned(), b"hello".to_vec()));
        let error = told(body.receive_exact(10240).unwrap_err());
        assert_eq!(error, (ErrorKind::Timeout, "timeout".to_owned(), Vec::new()));
        client.send(vec![b'x'; 10240]).unwrap();
        assert_eq!(body.receive_exact(10240).unwrap(), vec![b'x'; 10240]);
    });
}

/// SRV-1: an end before the body's is the client's leaving.
#[test]
fn a_client_that_leaves_in_its_body_has_aborted() {
    everywhere(|| {
        let (server, sender) = sending(b"hello", 5, true);
        let mut body = RequestBody::new(&server, 6).unwrap();
        let error = told(body.receive_exact(6).unwrap_err());
        assert_eq!((error.0, &error.1[..]), (ErrorKind::ClientAborted, "client aborted"));
        assert_eq!(body.receive_any(6).unwrap_err().kind(), ErrorKind::ClientAborted);
        drop(sender.join());
    });
}

/// 82, 83
#[test]
fn a_body_is_received_as_it_comes_and_may_be_left_or_thrown_away() {
    everywhere(|| {
        let (client, server) = Cosocket::pair().unwrap();
        client.send("abc").unwrap();
        let mut body = RequestBody::new(&server, 4096).unwrap();
        assert_eq!(body.receive_any(4096).unwrap(), b"abc");
        drop(body);
        client.send("GET /\r\n").unwrap();
        assert_eq!(server.receive_line().unwrap(), b"GET /");

        let (server, sender) = sending(&[&[7; 1000][..], b"GET /\r\n"].concat(), 100, false);
        let body = RequestBody::new(&server, 1000).unwrap();
        body.discard(1000).unwrap();
        assert_eq!(server.receive_line().unwrap(), b"GET /");
        drop(sender.join());
        let body = RequestBody::new(&server, 1001).unwrap();
        assert_eq!(body.discard(1000).unwrap_err().kind(), ErrorKind::Oversized);
        let mut body = RequestBody::new(&server, 1001).unwrap();
        assert_eq!(body.receive_all(1000).unwrap_err().kind(), ErrorKind::Oversized);
    });
}

#[test]
fn a_body_can_be_read_like_any_stream() {
    everywhere(|| {
        let (server, sender) = sending(b"some text, and more", 4, false);
        let mut text = String::new();
        RequestBody::new(&server, 9).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "some text");
        assert_eq!(server.receive_exact(10).unwrap(), b", and more");
        drop(sender.join());
    });
}

/// SRV-2: the socket itself, when HTTP is done with: both ways at once.
#[test]
fn a_connection_is_upgraded_to_another_protocol() {
    fn serve(connection: Connection) -> std::io::Result<()> {
        let socket = connection.into_cosocket();
        while !socket.receive_line()?.is_empty() {}
        socket.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n")?;
        loop {
            match socket.receive_any(4096) {
                Ok(data) => drop(socket.send(data)?),
                Err(error) if error.kind() == ErrorKind::Closed => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
    everywhere(|| {
        let server = Server::new().listen("127.0.0.1:0").start(serve).unwrap();
        let client = cosocket::connect(server.tcp_addr().unwrap()).unwrap();
        // The first words of the new protocol come with the last of the old.
        client.send("GET / HTTP/1.1\r\nUpgrade: echo\r\n\r\nfirst").unwrap();
        assert_eq!(client.receive_line().unwrap(), b"HTTP/1.1 101 Switching Protocols");
        while !client.receive_line().unwrap().is_empty() {}
        assert_eq!(client.receive_exact(5).unwrap(), b"first");
        for word in ["second", "third"] {
            client.send(word).unwrap();
            assert_eq!(client.receive_exact(word.len()).unwrap(), word.as_bytes());
        }
        client.close().unwrap();
        assert!(server.shutdown(Duration::from_secs(60)).stragglers.is_empty());
    });
}

/// 127: what came with the head is the raw socket's first, less the body if that was read.
#[test]
fn a_raw_socket_begins_where_the_request_was_read_to() {
    everywhere(|| {
        for body_is_read in [false, true] {
            for size in [1, 1000] {
                let sent = b"POST / HTTP/1.1\r\n\r\nhello and raw";
                let (server, sender) = sending(sent, size, false);
                while !server.receive_line().unwrap().is_empty() {}
                let mut rest = &sent[19..];
                if body_is_read {
                    let mut body = RequestBody::new(&server, 5).unwrap();
                    assert_eq!(body.receive_all(5).unwrap(), b"hello");
                    rest = &rest[5..];
                }
                assert_eq!(server.receive_exact(rest.len()).unwrap(), rest);
                drop(sender.join());
            }
        }
    });
}

/// 127, for a head that was read by somebody else: what its reader has too much is handed on.
#[test]
fn a_raw_socket_begins_with_what_another_reader_had_read_ahead() {
    everywhere(|| {
        let server = Server::new().listen("127.0.0.1:0").start(|connection| {
            let mut reader = BufReader::new(&connection);
            let mut line = String::new();
            while reader.read_line(&mut line)? > 2 {
                line.clear();
            }
            let unread = reader.buffer().to_vec();
            let socket = Cosocket::from_parts(connection.into_stream(), unread)?;
            let data = socket.receive_exact(15)?;
            socket.send(data)?;
            Ok(())
        });
        let server = server.unwrap();
        let client = cosocket::connect(server.tcp_addr().unwrap()).unwrap();
        client.send("GET / HTTP/1.1\r\nUpgrade: echo\r\n\r\nfirst").unwrap();
        client.send(" and second").unwrap();
        assert_eq!(client.receive_exact(15).unwrap(), b"first and secon");
    });
}

/// 128: while another reads the body the socket is busy. (That it is used in two ways at once by
/// one, or has output that was not flushed, does not compile: see `src/misuse.rs`.)
#[test]
fn a_raw_socket_is_busy_while_another_reads_the_body() {
    cosocket::run(|| {
        let (client, server) = Cosocket::pair().unwrap();
        let server = Rc::new(server);
        let theirs = Rc::clone(&server);
        let reader =
            spawn_waiting(move || RequestBody::new(&theirs, 4).unwrap().receive_exact(4).unwrap());
        assert_eq!(server.receive_any(1).unwrap_err().to_string(), "socket busy reading");
        client.send("bodyraw").unwrap();
        assert_eq!(reader.join().unwrap(), b"body");
        assert_eq!(server.receive_exact(3).unwrap(), b"raw");
    });
}

/// SRV-2, 131: the end of a client whose leaving is watched for is an abort, for a receive too; and
/// otherwise just the end.
#[test]
fn the_end_of_a_client_that_is_watched_is_an_abort() {
    type Receive = fn(&Cosocket) -> Result<Vec<u8>, Error>;
    let receives: [(Receive, ErrorKind); 4] = [
        (|socket| socket.receive_exact(100), ErrorKind::Closed),
        (|socket| socket.receive_line(), ErrorKind::Closed),
        (|socket| socket.receive_until("--").unwrap().whole(), ErrorKind::Closed),
        // Of a body it is always one.
        (
            |socket| RequestBody::new(socket, 100).unwrap().receive_all(100),
            ErrorKind::ClientAborted,
        ),
    ];
    everywhere(|| {
        let calls = receives.iter().flat_map(|&(call, unwatched)| {
            [(call, false, unwatched), (call, true, ErrorKind::ClientAborted)]
        });
        for (receive, is_watched, kind) in calls {
            let (sender, ends) = mpsc::channel();
            let server = Server::new().listen("127.0.0.1:0").start(move |mut connection| {
                let (left, leaving) = mpsc::channel();
                if is_watched {
                    connection.on_abort(move || left.send(()).unwrap())?;
                }
                let _watch = connection.take_watch();
                let socket = connection.into_cosocket();
                socket.send("ready")?;
                sender.send(told(receive(&socket).unwrap_err())).unwrap();
                assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
                if is_watched {
                    leaving.recv().unwrap();
                }
                Ok(())
            });
            let server = server.unwrap();
            let client = cosocket::connect(server.tcp_addr().unwrap()).unwrap();
            assert_eq!(client.receive_exact(5).unwrap(), b"ready");
            client.send("half").unwrap();
            client.close().unwrap();
            assert_eq!(
                ends.recv().unwrap(),
                (kind, Error::from(kind).to_string(), b"half".to_vec())
            );
        }
    });
}

/// SRV-2, 131: who asks for all up to the end gets that, whoever watches.
#[test]
fn the_end_is_no_abort_for_who_waits_for_it() {
    everywhere(|| {
        let (sender, received) = mpsc::channel();
        let server = Server::new().listen("127.0.0.1:0").start(move |mut connection| {
            connection.on_abort(|| ())?;
            let _watch = connection.take_watch();
            sender.send(connection.into_cosocket().receive_all()).unwrap();
            Ok(())
        });
        let server = server.unwrap();
        let client = cosocket::connect(server.tcp_addr().unwrap()).unwrap();
        client.send("all of it").unwrap();
        client.close().unwrap();
        assert_eq!(received.recv().unwrap().unwrap(), b"all of it");
    });
}

/// 133
#[test]
fn a_client_that_does_not_read_holds_its_handler_up_for_the_timeout() {
    everywhere(|| {
        let (sender, ended) = mpsc::channel();
        let server = Server::new().listen("127.0.0.1:0").start(move |connection| {
            let socket = connection.into_cosocket();
            socket.set_timeouts(Duration::ZERO, SOON, Duration::ZERO)?;
            sender.send(socket.send(vec![0; 50 << 20]).unwrap_err()).unwrap();
            assert_eq!(socket.receive_exact(2)?, b"hi");
            Ok(())
        });
        let server = server.unwrap();
        let client = cosocket::connect(server.tcp_addr().unwrap()).unwrap();
        let error = ended.recv().unwrap();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Timeout, "timeout"));
        assert!(error.sent() > 0, "{error:?}");
        client.send("hi").unwrap();
        assert!(server.shutdown(Duration::from_secs(60)).stragglers.is_empty());
    });
}
