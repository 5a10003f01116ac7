//! A cosocket over TLS: handshakes, what is received and sent, ends, and errors in OpenResty's
//! words.

mod tls_support;
#[allow(unsafe_code)]
mod util;

use std::io::{IoSliceMut, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::server::Server;
use cosocket::sync::mpsc;
use cosocket::tls::{TlsAcceptor, TlsOptions, TlsServerOptions, TlsStream, TlsVersion};
use cosocket::{ConnectOptions, Cosocket, ErrorKind, spawn, thread};

use tls_support::{Authority, Issued, bytes_of, check_bytes};

/// A connected cosocket, and the server's end when its handshake is over.
fn connected(
    server: &TlsServerOptions,
) -> (Cosocket, thread::JoinHandle<std::io::Result<TlsStream<TcpStream>>>) {
    let acceptor = TlsAcceptor::new(server).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = spawn(move || acceptor.accept(listener.accept()?.0));
    let socket = Cosocket::new();
    socket.connect(("localhost", port)).unwrap();
    (socket, server)
}

/// TLS-1, TLS-4, TLS-5: the name is that of the host, and a second handshake does nothing.
#[test]
fn a_handshake_takes_its_name_from_the_connect() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let (socket, server) = connected(&authority.issue().server());
        assert!(socket.tls_agreement().unwrap().is_none());
        socket.tls_handshake(&authority.client()).unwrap();
        socket.tls_handshake(&authority.client()).unwrap();
        let mut server = server.join().unwrap().unwrap();
        assert_eq!(server.requested_name().as_deref(), Some("localhost"));
        let agreement = socket.tls_agreement().unwrap().unwrap();
        assert_eq!(agreement.version, TlsVersion::V1_3);
        assert!(!agreement.is_resumed);

        server.write_all(b"a line\nfour and more").unwrap();
        assert_eq!(socket.receive_line().unwrap(), b"a line");
        assert_eq!(socket.receive_exact(4).unwrap(), b"four");
        assert_eq!(socket.send(("to ", "the ", "server")).unwrap(), 13);
        let mut got = [0; 13];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"to the server");
        server.close().unwrap();
        assert_eq!(socket.receive_all().unwrap(), b" and more");
    });
}

/// TLS-2, TLS-3, TLS-4; section 2, items 146, 148 and 152: in OpenResty's words, and the socket is
/// closed then.
#[test]
fn errors_have_openrestys_words() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let other = authority.issue_as("other.example", |_| {});
        for (server, options, words) in [
            (other.server(), authority.client(), "certificate host mismatch"),
            (Issued::self_signed().server(), authority.client(), "18: "),
            (authority.issue().server(), Authority::new("a stranger").client(), "20: "),
            (
                authority.issue().server().max_version(TlsVersion::V1_2),
                authority.client().min_version(TlsVersion::V1_3),
                "handshake failed",
            ),
        ] {
            let (socket, server) = connected(&server);
            let error = socket.tls_handshake(&options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tls);
            assert!(error.to_string().starts_with(words), "{error}");
            assert_eq!(socket.send(b"more").unwrap_err().kind(), ErrorKind::Closed);
            assert!(server.join().unwrap().is_err());
        }
        let fresh = Cosocket::new();
        let error = fresh.tls_handshake(&authority.client()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    });
}

/// TLS-8; section 2, item 154: whom a handshake trusts is said anew for each, and none takes over
/// from one before it what that had been told, nor its session.
#[test]
fn each_handshake_has_roots_of_its_own() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let acceptor = TlsAcceptor::new(&authority.issue().server()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (right, wrong) = (authority.client(), Authority::new("a stranger").client());
        let anybody = TlsOptions::new().dangerously_accept_any_certificate();
        let handshakes = [
            (&right, None),
            (&wrong, Some("20: ")),
            (&TlsOptions::new(), Some("20: ")),
            (&right, None),
            (&anybody, None),
            (&wrong, Some("20: ")),
        ];
        let count = handshakes.len();
        let server = spawn(move || {
            for stream in listener.incoming().take(count) {
                if let Ok(mut stream) = acceptor.accept(stream.unwrap()) {
                    // Session tickets go with this.
                    stream.write_all(b"hello").unwrap();
                }
            }
        });
        let socket = Cosocket::new();
        for (options, refused) in handshakes {
            socket.connect(("localhost", port)).unwrap();
            let result = socket.tls_handshake(options);
            let Some(words) = refused else {
                result.unwrap();
                // What is encrypted already is not looked at again, and stays usable.
                socket.tls_handshake(&wrong).unwrap();
                assert_eq!(socket.receive_exact(5).unwrap(), b"hello");
                continue;
            };
            let error = result.unwrap_err();
            assert!(error.to_string().starts_with(words), "{error}");
            assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
        }
        server.join().unwrap();
    });
}

/// TLS-2: the connect timeout bounds it; the socket can be connected again.
#[test]
fn a_handshake_that_takes_too_long_ends() {
    cosocket::run(|| {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Cosocket::new();
        socket.connect(silent.local_addr().unwrap()).unwrap();
        let (peer, _) = silent.accept().unwrap();
        socket.set_timeout(Duration::from_millis(20)).unwrap();
        let error = socket.tls_handshake(&TlsOptions::new()).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Timeout, "timeout"));
        assert_eq!(socket.send(b"more").unwrap_err().kind(), ErrorKind::Closed);
        (&peer).read_to_end(&mut Vec::new()).unwrap();
        socket.connect(silent.local_addr().unwrap()).unwrap();
    });
}

/// TLS-2; CON-11: a handshake that fails, or takes too long, gives up its place in the pool, and
/// exactly one of those that wait for it gets in.
#[test]
fn a_failed_handshake_gives_its_place_in_the_pool_to_the_next() {
    cosocket::run(|| {
        for is_slow in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let name = format!("places {address}");
            let server = spawn(move || {
                let mut silent = Vec::new();
                for stream in listener.incoming().take(4) {
                    let mut stream = stream.unwrap();
                    if !is_slow {
                        stream.write_all(b"220 plain text\r\n").unwrap();
                    }
                    silent.push(stream);
                }
                silent
            });
            let options = ConnectOptions {
                pool: Some(name.clone()),
                pool_size: Some(1),
                backlog: Some(3),
                ..ConnectOptions::default()
            };
            let first = Cosocket::new();
            first.connect_with(address, &options).unwrap();
            let waiters: Vec<_> = (0..3)
                .map(|number| {
                    let (options, pool) = (options.clone(), name.clone());
                    let waiter = spawn(move || {
                        let socket = Cosocket::new();
                        socket.connect_with(address, &options).unwrap();
                        assert_eq!(socket.reused_times().unwrap(), 0);
                        // Those behind it wait on: it alone was let in.
                        assert_eq!(metrics_of(&pool).queued, 2 - number);
                        fail_handshake(&socket, is_slow);
                    });
                    util::wait_until(|| metrics_of(&name).queued == number + 1);
                    waiter
                })
                .collect();
            fail_handshake(&first, is_slow);
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            let metrics = metrics_of(&name);
            assert_eq!((metrics.queued, metrics.idle, metrics.in_use), (0, 0, 0));
            // Each had its own connection.
            assert_eq!(server.join().unwrap().len(), 4);
        }
    });
}

fn metrics_of(pool: &str) -> cosocket::PoolMetrics {
    cosocket::pools()
        .into_iter()
        .find_map(|(name, metrics)| (name == pool).then_some(metrics))
        .unwrap_or_default()
}

/// With a server that answers in plain text, or not at all.
fn fail_handshake(socket: &Cosocket, is_slow: bool) {
    if is_slow {
        socket.set_timeout(Duration::from_millis(20)).unwrap();
    }
    let error = socket.tls_handshake(&TlsOptions::new().roots([])).unwrap_err();
    let kind = if is_slow { ErrorKind::Timeout } else { ErrorKind::Tls };
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(socket.send(b"more").unwrap_err().kind(), ErrorKind::Closed);
}

/// DUP-4: others find it connecting; a close ends it.
#[test]
fn a_handshake_is_seen_and_ended_by_others() {
    cosocket::run(|| {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Arc::new(Cosocket::new());
        socket.connect(silent.local_addr().unwrap()).unwrap();
        let handshake = Arc::clone(&socket);
        let handshake = spawn(move || handshake.tls_handshake(&TlsOptions::new()));
        let (peer, _) = silent.accept().unwrap();
        // Its hello is here: so it waits for the answer.
        (&peer).read_exact(&mut [0; 5]).unwrap();
        assert_eq!(socket.send(b"x").unwrap_err().kind(), ErrorKind::BusyConnecting);
        assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::BusyConnecting);
        socket.close().unwrap();
        let error = handshake.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    });
}

/// TLS-12; section 2, item 148: what was received in plain text and not read is no answer of the
/// encrypted server.
#[test]
fn nothing_received_in_plain_text_is_taken_for_encrypted() {
    cosocket::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Cosocket::new();
        socket.connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"220 go ahead\r\n250 you are welcome\r\n").unwrap();
        assert_eq!(socket.receive_line().unwrap(), b"220 go ahead");
        let options = TlsOptions::new().dangerously_accept_any_certificate();
        let error = socket.tls_handshake(&options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(error.to_string().starts_with("handshake failed"), "{error}");
        assert!(error.to_string().contains("250 you are welcome"), "{error}");
    });
}

/// TLS-12, on the server's side.
#[test]
fn a_cosocket_is_a_server_too() {
    cosocket::run(|| {
        let issued = Issued::self_signed();
        let acceptor = TlsAcceptor::new(&issued.server()).unwrap();
        let options = TlsOptions::new().pinned([issued.certificate()]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = Cosocket::from(listener.accept().unwrap().0);
        let client = spawn(move || {
            let mut client = client;
            client.write_all(b"STARTTLS\r\n").unwrap();
            let mut stream = TlsStream::connect(client, "localhost", &options).unwrap();
            stream.write_all(b"encrypted\r\n").unwrap();
            stream.close().unwrap();
        });
        // The hello may be in the socket's buffer by then.
        assert_eq!(socket.receive_line().unwrap(), b"STARTTLS");
        socket.tls_accept(&acceptor).unwrap();
        assert_eq!(socket.receive_line().unwrap(), b"encrypted");
        assert_eq!(socket.receive_line().unwrap_err().kind(), ErrorKind::Closed);
        client.join().unwrap();
    });
}

/// TLS-12, SRV-2: a client that is watched stays so when its connection is encrypted.
#[test]
fn the_end_of_an_encrypted_client_that_is_watched_is_an_abort() {
    cosocket::run(|| {
        let issued = Issued::self_signed();
        let acceptor = TlsAcceptor::new(&issued.server()).unwrap();
        let (sender, ended) = mpsc::channel();
        let server = Server::new().listen("127.0.0.1:0").start(move |mut connection| {
            connection.on_abort(|| ())?;
            let _watch = connection.take_watch();
            let socket = connection.into_cosocket();
            socket.tls_accept(&acceptor)?;
            sender.send(socket.receive_line().unwrap_err()).unwrap();
            Ok(())
        });
        let server = server.unwrap();
        let client = cosocket::connect(server.tcp_addr().unwrap()).unwrap();
        client.tls_handshake(&TlsOptions::new().pinned([issued.certificate()])).unwrap();
        client.send("half").unwrap();
        client.close().unwrap();
        let error = ended.recv().unwrap();
        assert_eq!((error.kind(), error.partial()), (ErrorKind::ClientAborted, &b"half"[..]));
    });
}

type Receive = fn(&Cosocket) -> Result<Vec<u8>, cosocket::Error>;

/// TLS-13: an end without a goodbye is `closed`, with the data, and says that it was cut.
#[test]
fn a_cut_connection_is_told_from_one_that_ended() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let options = authority.issue().server();
        let receives: [Receive; 3] = [
            |socket| socket.receive_all(),
            |socket| socket.receive_exact(100),
            |socket| socket.receive_line(),
        ];
        for receive in receives {
            let (socket, server) = connected(&options);
            socket.tls_handshake(&authority.client()).unwrap();
            let mut server = server.join().unwrap().unwrap();
            server.write_all(b"partial").unwrap();
            server.transport().shutdown(std::net::Shutdown::Both).unwrap();
            let error = receive(&socket).unwrap_err();
            assert_eq!((error.kind(), error.partial()), (ErrorKind::Closed, &b"partial"[..]));
            assert!(error.is_truncated());
            let text = error.to_string();
            assert!(text.starts_with("closed: ") && text.contains("close_notify"), "{text}");
        }
        // Told to whoever asks on, after a call that had something to give.
        let (socket, server) = connected(&options);
        socket.tls_handshake(&authority.client()).unwrap();
        let mut server = server.join().unwrap().unwrap();
        server.write_all(b"partial").unwrap();
        server.transport().shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(socket.receive_vectored(&mut [IoSliceMut::new(&mut [0; 100])]).unwrap(), 7);
        assert!(socket.receive_all().unwrap_err().is_truncated());

        let (socket, server) = connected(&options);
        socket.tls_handshake(&authority.client()).unwrap();
        let mut server = server.join().unwrap().unwrap();
        server.write_all(b"partial").unwrap();
        server.close().unwrap();
        let error = socket.receive_exact(100).unwrap_err();
        assert_eq!((error.kind(), error.partial()), (ErrorKind::Closed, &b"partial"[..]));
        assert!(!error.is_truncated());
        assert_eq!(error.to_string(), "closed");
    });
}

/// TLS-14, DUP: both ways at once, by two coroutines, with a file in between (SND-8).
#[test]
fn it_sends_and_receives_at_once() {
    cosocket::run(|| {
        let total = if util::is_quick() { 2 << 20 } else { 16 << 20 };
        let authority = Authority::new("an authority");
        let (socket, server) = connected(&authority.issue().server());
        socket.tls_handshake(&authority.client()).unwrap();
        let server = Arc::new(server.join().unwrap().unwrap());
        let socket = Arc::new(socket);
        let path = std::env::temp_dir().join(format!("cosocket-tls-file-{}", std::process::id()));
        let data: Vec<u8> =
            (0..total >> 20).flat_map(|at| bytes_of(1, at << 20, 1 << 20)).collect();
        std::fs::write(&path, &data).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();

        let sender = Arc::clone(&socket);
        let sender = spawn(move || assert_eq!(sender.send_file(&file, ..).unwrap(), total as u64));
        let echo = spawn(move || {
            std::io::copy(&mut &*server, &mut &*server).unwrap();
        });
        let mut received = 0;
        while received < total {
            let piece = socket.receive_exact(64 << 10).unwrap();
            check_bytes(1, received, &piece);
            received += piece.len();
        }
        sender.join().unwrap();
        socket.close().unwrap();
        echo.join().unwrap();
    });
}

#[test]
fn a_receive_times_out_and_goes_on() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let (socket, server) = connected(&authority.issue().server());
        socket.tls_handshake(&authority.client()).unwrap();
        let mut server = server.join().unwrap().unwrap();
        server.write_all(b"half").unwrap();
        socket.set_timeout(Duration::from_millis(10)).unwrap();
        let mut got = Vec::new();
        // On a busy machine a timeout may come before any of it.
        while got.len() < 4 {
            let error = socket.receive_exact(8).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
            got.extend_from_slice(error.partial());
        }
        assert_eq!(got, b"half");
        server.write_all(b"the rest").unwrap();
        socket.set_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(socket.receive_exact(8).unwrap(), b"the rest");
        assert!(socket.is_alive().unwrap());
        drop(server);
        util::wait_until(|| !socket.is_alive().unwrap());
    });
}

/// TLS-5, KA-6: parked and taken out again, it is still encrypted, by the one handshake.
#[test]
fn an_encrypted_connection_rests_in_a_pool() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let acceptor = TlsAcceptor::new(&authority.issue().server()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = spawn(move || {
            let mut stream = acceptor.accept(listener.accept().unwrap().0).unwrap();
            std::io::copy(&mut &stream, &mut &stream).unwrap();
            stream.flush().unwrap();
        });
        let tls = authority.client();
        let options = ConnectOptions { tls: Some(tls.clone()), ..ConnectOptions::default() };
        for round in 0..3 {
            let socket = Cosocket::new();
            socket.connect_with(("localhost", port), &options).unwrap();
            assert_eq!(socket.reused_times().unwrap(), round);
            // The server makes one: a second would not end.
            socket.tls_handshake(&tls).unwrap();
            socket.send(b"ping").unwrap();
            assert_eq!(socket.receive_exact(4).unwrap(), b"ping");
            if round < 2 {
                socket.set_keepalive(None, None).unwrap();
            } else {
                socket.close().unwrap();
            }
        }
        server.join().unwrap();
    });
}

/// A connection that trusts other roots, shows another certificate, or checked none, is not
/// the one that was asked for, however much its address is.
#[test]
fn connections_of_other_options_are_kept_apart() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let acceptor = TlsAcceptor::new(&authority.issue().server()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = spawn(move || {
            for stream in listener.incoming().take(4) {
                if let Ok(stream) = acceptor.accept(stream.unwrap()) {
                    spawn(move || std::io::copy(&mut &stream, &mut &stream));
                }
            }
        });
        let tls = authority.client();
        let connect = |tls: Option<&TlsOptions>| {
            let options = ConnectOptions { tls: tls.cloned(), ..ConnectOptions::default() };
            let socket = Cosocket::new();
            socket.connect_with(("localhost", port), &options).unwrap();
            socket
        };
        let park = |tls: &TlsOptions| {
            let socket = connect(Some(tls));
            assert_eq!(socket.reused_times().unwrap(), 0);
            socket.tls_handshake(tls).unwrap();
            socket.send(b"ping").unwrap();
            assert_eq!(socket.receive_exact(4).unwrap(), b"ping");
            socket.set_keepalive(None, None).unwrap();
        };
        park(&tls);
        // The same roots, but not the same options: nobody has compared them.
        park(&authority.client());
        park(&tls.clone().dangerously_accept_any_certificate());
        assert_eq!(connect(None).reused_times().unwrap(), 0, "not encrypted");
        let socket = connect(Some(&tls.clone()));
        assert_eq!(socket.reused_times().unwrap(), 1);
        socket.tls_handshake(&tls).unwrap();
        server.join().unwrap();
    });
}
