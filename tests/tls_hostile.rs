//! Peers that do not behave: each gets a clear error, in time, and nothing of it is left behind.

mod socket_util;
mod tls_support;
#[allow(unsafe_code)]
mod util;

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::tls::{self, Error, TlsAcceptor, TlsOptions, TlsServerOptions, TlsStream};
use cosocket::{spawn, thread};

use tls_support::{Issued, kind_of, tcp};

fn acceptor() -> TlsAcceptor {
    TlsAcceptor::new(&Issued::self_signed().server()).unwrap()
}

fn any() -> TlsOptions {
    TlsOptions::new().dangerously_accept_any_certificate()
}

/// TLS-2, TLS-12: it does not stop the others, and does not stay.
#[test]
fn a_client_that_never_shakes_hands_holds_nobody_up() {
    cosocket::run(|| {
        let limit = Duration::from_millis(300);
        let options = Issued::self_signed().server().handshake_timeout(limit);
        let acceptor = Arc::new(TlsAcceptor::new(&options).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (failures, failed) = cosocket::sync::mpsc::channel();
        let server = spawn(move || {
            for stream in listener.incoming() {
                let (stream, acceptor, failures) =
                    (stream.unwrap(), Arc::clone(&acceptor), failures.clone());
                spawn(move || match acceptor.accept(stream) {
                    Ok(mut stream) => drop(stream.write_all(b"hello")),
                    Err(error) => failures.send(error).unwrap(),
                });
            }
        });
        let silent = TcpStream::connect(address).unwrap();
        // A byte now and then: the limit is for all of the handshake.
        let mut slow = TcpStream::connect(address).unwrap();
        let loris = spawn(move || {
            slow.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
            while slow.write_all(&[0]).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        for _ in 0..5 {
            let stream = TcpStream::connect(address).unwrap();
            let mut stream = TlsStream::connect(stream, "localhost", &any()).unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
        }
        for _ in 0..2 {
            let error = failed.recv().unwrap();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_eq!(Error::of(&error).unwrap().kind(), tls::ErrorKind::Timeout);
        }
        assert_eq!((&silent).read(&mut [0]).unwrap(), 0, "it was closed");
        loris.join().unwrap();
        server.cancel();
        assert!(server.join().is_err());
    });
}

/// TLS-2, the client's side.
#[test]
fn a_server_that_never_shakes_hands_is_given_up() {
    cosocket::run(|| {
        let (ours, theirs) = tcp();
        let options = any().handshake_timeout(Duration::from_millis(20));
        let error = TlsStream::connect(ours, "shop.example", &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(
            error.to_string(),
            "TLS handshake with \"shop.example\" failed: the peer took too long"
        );
        let mut hello = Vec::new();
        (&theirs).read_to_end(&mut hello).unwrap();
        assert_eq!(hello[0], 22);
    });
}

#[test]
fn plain_text_on_a_tls_port_is_told() {
    cosocket::run(|| {
        let (ours, theirs) = tcp();
        let server = spawn(move || acceptor().accept(theirs));
        (&ours).write_all(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n").unwrap();
        let error = server.join().unwrap().unwrap_err();
        assert_eq!(Error::of(&error).unwrap().kind(), tls::ErrorKind::NotTls);
        assert!(error.to_string().contains("\"GET / HTTP/1.1"), "{error}");
        // It is told, too, in the way of TLS.
        let mut alert = [0; 7];
        (&ours).read_exact(&mut alert).unwrap();
        assert_eq!(alert[0], 21);
    });
}

/// TLS-2: what speaks plain text, and what just closes.
#[test]
fn tls_to_a_plain_port_is_told() {
    cosocket::run(|| {
        for (answer, kind) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], tls::ErrorKind::NotTls),
            (b"SSH-2.0-OpenSSH_9.9\r\n", tls::ErrorKind::NotTls),
            (b"", tls::ErrorKind::Closed),
        ] {
            let (ours, theirs) = tcp();
            let plain = spawn(move || {
                (&theirs).read_exact(&mut [0; 5]).unwrap();
                (&theirs).write_all(answer).unwrap();
                theirs.shutdown(Shutdown::Write).unwrap();
                io::copy(&mut &theirs, &mut io::sink())
            });
            let error = TlsStream::connect(ours, "localhost", &any()).unwrap_err();
            assert_eq!(Error::of(&error).map(Error::kind), Some(kind), "{error}");
            plain.join().unwrap().unwrap();
        }
    });
}

/// An echo: what it gets is TLS, and no answer to a client's hello.
#[test]
fn an_echo_of_the_hello_is_refused() {
    cosocket::run(|| {
        let (ours, theirs) = tcp();
        let echo = spawn(move || io::copy(&mut &theirs, &mut &theirs));
        let result = TlsStream::connect(ours, "localhost", &any());
        assert_eq!(kind_of(result), tls::ErrorKind::Misbehaved);
        let _ = echo.join().unwrap();
    });
}

#[test]
fn a_record_that_is_too_long_is_refused() {
    cosocket::run(|| {
        let (ours, theirs) = tcp();
        let server = spawn(move || acceptor().accept(theirs));
        (&ours).write_all(&[22, 3, 1, 0x48, 1]).unwrap();
        (&ours).write_all(&[0; 0x4801]).unwrap();
        assert_eq!(kind_of(server.join().unwrap()), tls::ErrorKind::Corrupt);
    });
}

/// After the handshake, too.
#[test]
fn a_long_record_in_the_middle_ends_the_connection() {
    cosocket::run(|| {
        let (client, server) = tls_support::pair();
        let mut raw = server.transport();
        raw.write_all(&[23, 3, 3, 0x48, 1]).unwrap();
        raw.write_all(&[0; 0x4801]).unwrap();
        for _ in 0..2 {
            assert_eq!(kind_of((&mut &client).read(&mut [0])), tls::ErrorKind::Corrupt);
        }
        assert!((&mut &client).write(b"more").is_err());
    });
}

#[test]
fn a_handshake_that_is_reset_is_an_error() {
    cosocket::run(|| {
        let (ours, theirs) = tcp();
        let server = spawn(move || acceptor().accept(theirs));
        (&ours).write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
        ours.set_linger(Some(Duration::ZERO)).unwrap();
        drop(ours);
        let error = server.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        assert!(error.to_string().starts_with("TLS handshake with a client failed"), "{error}");
    });
}

/// Random bytes at any point of a handshake or connection: an error, and no more.
#[test]
fn noise_is_survived() {
    cosocket::run(|| {
        let mut random = util::Random::new();
        let acceptor = Arc::new(acceptor());
        let rounds = if util::is_quick() { 20 } else { 200 };
        for _ in 0..rounds {
            let (ours, theirs) = tcp();
            let acceptor = Arc::clone(&acceptor);
            let server = spawn(move || {
                let mut stream = acceptor.accept(theirs)?;
                io::copy(&mut stream, &mut io::sink())
            });
            let noise: Vec<u8> = (0..random.below(2_000)).map(|_| random.next() as u8).collect();
            // A header that may pass.
            let mut bytes = vec![20 + random.below(5) as u8, 3, random.below(5) as u8, 0];
            bytes.push(random.below(256) as u8);
            bytes.extend(noise);
            let _ = (&ours).write_all(&bytes);
            drop(ours);
            assert!(server.join().unwrap().is_err());
        }
    });
}

/// What a failed handshake leaves open: nothing.
#[test]
fn failed_handshakes_leave_no_descriptor_open() {
    util::child::passes("failed_handshakes_leave_no_descriptor_open", || {
        cosocket::run(|| {
            let once = || {
                let (ours, theirs) = tcp();
                let limit = Duration::from_millis(1);
                let options = any().handshake_timeout(limit);
                assert!(TlsStream::connect(ours, "localhost", &options).is_err());
                assert_eq!((&theirs).read_to_end(&mut Vec::new()).map(|_| ()).ok(), Some(()));
            };
            once();
            let before = util::descriptors();
            (0..20).for_each(|_| once());
            assert_eq!(util::descriptors(), before);
        });
    });
}

/// TLS-12: an SMTP-like dialogue. What the client sends behind its `STARTTLS` goes into TLS.
#[test]
fn a_connection_changes_to_tls_in_the_middle() {
    cosocket::run(|| {
        let (ours, theirs) = tcp();
        let issued = Issued::self_signed();
        let options = TlsOptions::new().pinned([issued.certificate()]);
        let server = spawn(move || smtp(theirs, &issued.server()));
        let mut lines = BufReader::new(&ours);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "220 ready\r\n");
        (&ours).write_all(b"EHLO client\r\nSTARTTLS\r\n").unwrap();
        line.clear();
        lines.read_line(&mut line).unwrap();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "250 hello\r\n220 go ahead\r\n");
        let received = lines.buffer().to_vec();
        let mut stream = TlsStream::connect_after(ours, "localhost", &options, &received).unwrap();
        stream.write_all(b"NOOP\r\nQUIT\r\n").unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        assert_eq!(answers, "250 ok\r\n221 bye\r\n");
        assert_eq!(server.join().unwrap().unwrap(), ["EHLO client", "STARTTLS", "NOOP", "QUIT"]);
    });
}

/// CVE-2011-0411: a command that somebody puts behind the client's `STARTTLS` must not run as if it
/// had come encrypted.
#[test]
fn commands_behind_the_change_to_tls_are_not_run() {
    cosocket::run(|| {
        let (ours, theirs) = tcp();
        let issued = Issued::self_signed();
        let server = spawn(move || smtp(theirs, &issued.server()));
        (&ours).write_all(b"STARTTLS\r\nMAIL FROM:<mallory>\r\n").unwrap();
        let result = server.join().unwrap();
        let error = result.unwrap_err();
        assert_eq!(Error::of(&error).unwrap().kind(), tls::ErrorKind::NotTls);
        assert!(error.to_string().contains("MAIL FROM"), "{error}");
    });
}

/// The other way round: what comes before the server's side of the handshake is not its answer.
#[test]
fn answers_behind_the_change_to_tls_are_not_taken() {
    cosocket::run(|| {
        let (ours, _theirs) = tcp();
        let injected = b"250 you are welcome\r\n";
        let result = TlsStream::connect_after(ours, "localhost", &any(), injected);
        assert_eq!(kind_of(result), tls::ErrorKind::NotTls);
    });
}

/// A client that does not wait for the server's word sends its hello right behind.
#[test]
fn a_hello_that_was_read_with_the_command_is_used() {
    cosocket::run(|| {
        let (ours, theirs) = tcp();
        let issued = Issued::self_signed();
        let options = TlsOptions::new().pinned([issued.certificate()]);
        (&ours).write_all(b"STARTTLS\r\n").unwrap();
        let client = socket_util::spawn_waiting(move || {
            // The server's plain words are for the transport's reader; here there are none.
            TlsStream::connect(ours, "localhost", &options).unwrap()
        });
        let mut buffer = vec![0; 4_096];
        util::wait_until(|| util::readable_bytes(&theirs) > 100);
        let count = (&theirs).read(&mut buffer).unwrap();
        let received = buffer[..count].strip_prefix(b"STARTTLS\r\n").unwrap();
        let acceptor = TlsAcceptor::new(&issued.server()).unwrap();
        let mut stream = acceptor.accept_after(theirs, received).unwrap();
        stream.write_all(b"hello").unwrap();
        client.join().unwrap().read_exact(&mut [0; 5]).unwrap();
    });
}

/// A server for some commands; those that it has run.
fn smtp(stream: TcpStream, options: &TlsServerOptions) -> io::Result<Vec<String>> {
    let acceptor = TlsAcceptor::new(options)?;
    let mut commands = Vec::new();
    let mut lines = BufReader::new(stream);
    (&mut lines.get_ref()).write_all(b"220 ready\r\n")?;
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        commands.push(line.trim_end().to_owned());
        match line.trim_end() {
            "STARTTLS" => break,
            _ => (&mut lines.get_ref()).write_all(b"250 hello\r\n")?,
        }
    }
    (&mut lines.get_ref()).write_all(b"220 go ahead\r\n")?;
    let received = lines.buffer().to_vec();
    let stream = acceptor.accept_after(lines.into_inner(), &received)?;
    let mut lines = BufReader::new(&stream);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        commands.push(line.trim_end().to_owned());
        match line.trim_end() {
            "QUIT" => break (&stream).write_all(b"221 bye\r\n")?,
            _ => (&stream).write_all(b"250 ok\r\n")?,
        }
    }
    stream.close()?;
    Ok(commands)
}
