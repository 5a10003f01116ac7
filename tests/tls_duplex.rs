//! TLS in both directions at once: no byte lost or changed, nobody held up, whatever ends a call.

mod socket_util;
mod tls_support;
#[allow(unsafe_code)]
mod util;

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cosocket::net::TcpStream;
use cosocket::os::unix::net::UnixStream;
use cosocket::tls::{Error, TlsOptions, TlsServerOptions, TlsStream, TlsVersion, Transport};
use cosocket::{Builder, spawn, spawn_local, thread, time};

use tls_support::{Ends, Issued, bytes_of, check_bytes, connect, kind_of, pair, tcp};
use util::Random;

fn total() -> usize {
    if util::is_quick() { 4 << 20 } else { 64 << 20 }
}

/// Sends `total` bytes in pieces of all sizes, and counts the pieces.
fn send(
    stream: &TlsStream<impl Transport>,
    sender: usize,
    total: usize,
    mut random: Random,
    pieces: &AtomicUsize,
) {
    let mut sent = 0;
    while sent < total {
        let largest = [40, 2_000, 17_000, 100_000][random.below(4) as usize];
        let count = (1 + random.below(largest) as usize).min(total - sent);
        (&mut &*stream).write_all(&bytes_of(sender, sent, count)).unwrap();
        sent += count;
        pieces.fetch_add(1, Ordering::Relaxed);
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Receives as much, and then the end.
fn receive(stream: &TlsStream<impl Transport>, sender: usize, total: usize, mut random: Random) {
    let mut piece = vec![0; 100_000];
    let mut received = 0;
    loop {
        let largest = [1, 300, 9_000, 100_000][random.below(4) as usize];
        let count = (&mut &*stream).read(&mut piece[..largest]).unwrap();
        if count == 0 {
            break;
        }
        check_bytes(sender, received, &piece[..count]);
        received += count;
    }
    assert_eq!(received, total);
}

/// Runs a part of a test. If it fails, the connection ends: the others would wait for it for ever.
fn part<S: Transport + 'static>(
    end: &Arc<TlsStream<S>>,
    run: impl FnOnce(&TlsStream<S>) + Send + 'static,
) -> thread::JoinHandle<()> {
    struct Ending<S: Transport>(Arc<TlsStream<S>>);
    impl<S: Transport> Drop for Ending<S> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let _ = self.0.transport().shutdown(Shutdown::Both);
            }
        }
    }
    let end = Ending(Arc::clone(end));
    spawn(move || run(&end.0))
}

/// Both ends send and receive at once, in four coroutines, with what `meanwhile` does beside it; that
/// sees how many pieces its end has sent.
fn both_ways<S: Transport + 'static>(
    ends: (TlsStream<S>, TlsStream<S>),
    meanwhile: impl Fn(&TlsStream<S>, &AtomicUsize, &AtomicBool) + Send + Sync + 'static,
) {
    let total = total();
    let mut random = Random::new();
    let (one, other) = (Arc::new(ends.0), Arc::new(ends.1));
    let counts = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let is_over = Arc::new(AtomicBool::new(false));
    let meanwhile = Arc::new(meanwhile);
    let (mut beside, mut parts) = (Vec::new(), Vec::new());
    for (number, (end, count)) in [&one, &other].into_iter().zip(counts).enumerate() {
        let (is_over, meanwhile) = (Arc::clone(&is_over), Arc::clone(&meanwhile));
        let pieces = Arc::clone(&count);
        beside.push(part(end, move |end| meanwhile(end, &pieces, &is_over)));
        let (first, second) = (random.split(), random.split());
        parts.push(part(end, move |end| send(end, number, total, first, &count)));
        parts.push(part(end, move |end| receive(end, 1 - number, total, second)));
    }
    for part in parts {
        part.join().unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    for part in beside {
        part.join().unwrap();
    }
}

/// TLS-14.
#[test]
fn much_goes_both_ways_at_once_under_tls_1_3() {
    cosocket::run(|| both_ways(pair(), |_, _, _| {}));
}

#[test]
fn much_goes_both_ways_at_once_under_tls_1_2() {
    cosocket::run(|| {
        let issued = Issued::self_signed();
        let client = TlsOptions::new().pinned([issued.certificate()]).max_version(TlsVersion::V1_2);
        let ends = connect(&client, &issued.server());
        assert_eq!(ends.0.version(), TlsVersion::V1_2);
        both_ways(ends, |_, _, _| {});
    });
}

/// TLS-14: with keys that change all the time, from both sides. There is data between any two changes:
/// a peer takes many without for an attack, and this test once failed, or hung, where the machine was
/// slower than its clock.
#[test]
fn keys_change_under_load() {
    cosocket::run(|| {
        let updates = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&updates);
        both_ways(pair(), move |stream, pieces, is_over| {
            let mut before = 0;
            while !is_over.load(Ordering::Relaxed) {
                let now = pieces.load(Ordering::Relaxed);
                if now == before {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
                before = now;
                match stream.update_keys() {
                    Ok(()) => count.fetch_add(1, Ordering::Relaxed),
                    // Its goodbye is sent.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                    Err(error) => panic!("{error:?}"),
                };
            }
        });
        assert!(updates.load(Ordering::Relaxed) >= 2);
    });
}

#[test]
fn it_runs_over_unix_sockets() {
    cosocket::run(|| {
        let (one, other) = StdUnixStream::pair().unwrap();
        let issued = Issued::self_signed();
        let acceptor = cosocket::tls::TlsAcceptor::new(&issued.server()).unwrap();
        let server = spawn(move || acceptor.accept(UnixStream::from(one)).unwrap());
        let options = TlsOptions::new().pinned([issued.certificate()]);
        let client = TlsStream::connect(UnixStream::from(other), "localhost", &options).unwrap();
        both_ways((client, server.join().unwrap()), |_, _, _| {});
    });
}

/// A plain thread at one end, a coroutine at the other.
#[test]
fn it_runs_on_plain_threads() {
    let (client, server) = pair();
    let total = total() / 4;
    let random = Random::new();
    let (first, second) = (random.clone().split(), random.clone().split());
    let count = AtomicUsize::new(0);
    let sender = std::thread::spawn(move || send(&client, 3, total, first, &count));
    let receiver = spawn(move || receive(&server, 3, total, second));
    sender.join().unwrap();
    receiver.join().unwrap();
}

#[test]
fn a_writer_that_waits_holds_up_no_reader() {
    cosocket::run(|| {
        let (client, server) = pair();
        let client = Arc::new(client);
        let writer = Arc::clone(&client);
        // Nobody reads this: it waits for good.
        let writer = socket_util::spawn_waiting(move || {
            let _ = (&mut &*writer).write_all(&vec![7; 64 << 20]);
        });
        for round in 0..100_u8 {
            (&mut &server).write_all(&[round; 33]).unwrap();
            let mut got = [0; 33];
            (&mut &*client).read_exact(&mut got).unwrap();
            assert_eq!(got, [round; 33]);
        }
        assert!(!writer.is_finished());
        writer.cancel();
        assert!(writer.join().is_err());
    });
}

/// A read that times out, or is cancelled, in the middle of a record: the next one goes on.
#[test]
fn a_read_cut_in_mid_record_loses_nothing() {
    cosocket::run(|| {
        let issued = Issued::self_signed();
        let (pieces, server) = in_pieces(&issued, |server| {
            (&mut &*server).write_all(&[5; 30_000]).unwrap();
        });
        let client = &pieces.client;
        client.transport().set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let mut got = Vec::new();
        for piece in pieces.bytes.chunks(701) {
            (&pieces.raw).write_all(piece).unwrap();
            loop {
                let mut buffer = [0; 1_000];
                match (&mut &**client).read(&mut buffer) {
                    Ok(count) => got.extend_from_slice(&buffer[..count]),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::TimedOut);
                        break;
                    }
                }
            }
            // And a cancel, wherever that is.
            let reader = Arc::clone(client);
            let reader = socket_util::spawn_waiting(move || (&mut &*reader).read(&mut [0; 1_000]));
            reader.cancel();
            // Unless its timeout came first.
            if let Ok(result) = reader.join() {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
            }
        }
        assert!(got == [5; 30_000], "{} bytes", got.len());
        drop(server);
    });
}

/// A connection whose ciphertext towards the client passes through the test's hands.
struct Pieces {
    client: Arc<TlsStream<TcpStream>>,
    /// To the client.
    raw: TcpStream,
    bytes: Vec<u8>,
}

/// Handshakes over a relay; then what `write` made the server send, not yet passed on.
fn in_pieces(
    issued: &Issued,
    write: impl FnOnce(&TlsStream<TcpStream>),
) -> (Pieces, TlsStream<TcpStream>) {
    let (ours, relay_one) = tcp();
    let (relay_other, theirs) = tcp();
    let acceptor = cosocket::tls::TlsAcceptor::new(&issued.server().resumption(false)).unwrap();
    let (stop, stopped) = (relay_one.try_clone().unwrap(), relay_other.try_clone().unwrap());
    let relay = spawn_local(move || {
        let upwards = {
            let (mut from, mut to) =
                (relay_one.try_clone().unwrap(), relay_other.try_clone().unwrap());
            spawn_local(move || io::copy(&mut from, &mut to))
        };
        let downwards = {
            let (mut from, mut to) = (relay_other, relay_one);
            spawn_local(move || io::copy(&mut from, &mut to))
        };
        thread::park();
        upwards.cancel();
        downwards.cancel();
        let _ = (upwards.join(), downwards.join());
    });
    let server = spawn_local(move || acceptor.accept(theirs).unwrap());
    let options = TlsOptions::new().pinned([issued.certificate()]);
    let client = TlsStream::connect(ours, "localhost", &options).unwrap();
    let server = server.join().unwrap();
    relay.thread().unpark();
    relay.join().unwrap();
    write(&server);
    let mut bytes = Vec::new();
    stopped.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let _ = (&stopped).read_to_end(&mut bytes);
    assert!(!bytes.is_empty());
    (Pieces { client: Arc::new(client), raw: stop, bytes }, server)
}

/// A write that times out has accepted what it says, and the rest of its record follows.
#[test]
fn a_write_cut_in_mid_record_loses_nothing() {
    cosocket::run(|| {
        let (client, server) = pair();
        client.transport().set_write_timeout(Some(Duration::from_millis(2))).unwrap();
        let mut sent = 0;
        let mut timeouts = 0;
        let mut received = 0;
        let mut buffer = vec![0; 60_000];
        // Now and then the peer reads a little, so that records are cut everywhere.
        while timeouts < 40 {
            let data = bytes_of(9, sent, 20_000);
            match (&mut &client).write(&data) {
                Ok(count) => sent += count,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    timeouts += 1;
                    for _ in 0..=timeouts {
                        let count = (&mut &server).read(&mut buffer[..7_001]).unwrap();
                        check(&buffer[..count], &mut received);
                    }
                }
            }
        }
        // One that is cancelled leaves its rest, too.
        let client = Arc::new(client);
        client.transport().set_write_timeout(None).unwrap();
        let writer = Arc::clone(&client);
        let from = sent;
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let writer = socket_util::spawn_waiting(move || {
            loop {
                let at = from + count.load(Ordering::Relaxed);
                let data = bytes_of(9, at, 20_000);
                let wrote = (&mut &*writer).write(&data).unwrap();
                count.fetch_add(wrote, Ordering::Relaxed);
            }
        });
        writer.cancel();
        assert!(writer.join().is_err());
        sent += accepted.load(Ordering::Relaxed);
        let reader = spawn(move || {
            loop {
                let count = (&mut &server).read(&mut buffer).unwrap();
                if count == 0 {
                    return received;
                }
                check(&buffer[..count], &mut received);
            }
        });
        client.shutdown(Shutdown::Write).unwrap();
        let received = reader.join().unwrap();
        // What the cancelled call had encrypted, or had not yet.
        assert!(received == sent || received == sent + 20_000, "{received} of {sent}");
    });
}

fn check(bytes: &[u8], received: &mut usize) {
    check_bytes(9, *received, bytes);
    *received += bytes.len();
}

#[test]
fn a_whole_exchange_is_bounded_by_a_timeout() {
    cosocket::run(|| {
        let (client, _server) = pair();
        let result = time::timeout(Duration::from_millis(5), || (&mut &client).read(&mut [0; 10]));
        assert_eq!(result.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

/// TLS-13, CLS-2: half-closed, it still receives.
#[test]
fn each_direction_has_an_end_of_its_own() {
    cosocket::run(|| {
        let (client, server) = pair();
        (&mut &client).write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let error = (&mut &client).write(b"more").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        let mut question = String::new();
        (&mut &server).read_to_string(&mut question).unwrap();
        assert_eq!(question, "question");
        (&mut &server).write_all(&[1; 1 << 20]).unwrap();
        server.close().unwrap();
        let mut answer = Vec::new();
        (&mut &client).read_to_end(&mut answer).unwrap();
        assert_eq!(answer.len(), 1 << 20);
        assert_eq!((&mut &client).read(&mut [0]).unwrap(), 0, "the end stays");
    });
}

/// A goodbye that was cut by a timeout is sent by the next call, and the transport's direction ends,
/// too: once the second call took the half for ended, and the peer's socket never saw its end.
#[test]
fn a_shutdown_that_was_cut_goes_on() {
    cosocket::run(|| {
        let (ours, theirs) = tcp();
        let held = Held::new(ours);
        let (client, server) = over(held, theirs);
        client.transport().refuse.store(1, Ordering::Relaxed);
        let error = client.shutdown(Shutdown::Write).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let error = (&mut &client).write(b"more").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!((&mut &server).read(&mut [0; 9]).unwrap(), 0);
        let raw = server.transport();
        assert_eq!(raw.read(&mut [0]).unwrap(), 0, "past the goodbye");
    });
}

/// The reader has an alert to send while another has the writer's turn, whose call then fails: the
/// alert once stayed where it was, and the peer waited for good.
#[test]
fn a_write_that_fails_sends_what_the_reader_left() {
    cosocket::run(|| {
        let (ours, theirs) = tcp();
        let held = Held::new(ours);
        let (client, server) = over(held, theirs);
        let client = Arc::new(client);
        let transport = client.transport();
        // Accepted, and not sent.
        transport.refuse.store(1, Ordering::Relaxed);
        assert_eq!((&mut &*client).write(b"first").unwrap(), 5);
        transport.is_waiting.store(false, Ordering::Relaxed);
        transport.waits.store(true, Ordering::Relaxed);
        transport.refuse.store(1, Ordering::Relaxed);
        let writer = Arc::clone(&client);
        let writer = spawn(move || (&mut &*writer).write(b"second"));
        util::wait_until(|| transport.is_waiting.load(Ordering::Relaxed));
        // No record of this connection's keys.
        let mut noise = [7; 45];
        noise[..5].copy_from_slice(&[23, 3, 3, 0, 40]);
        let mut raw = server.transport();
        raw.write_all(&noise).unwrap();
        let result = (&mut &*client).read(&mut [0; 9]);
        assert_eq!(kind_of(result), cosocket::tls::ErrorKind::Corrupt);
        transport.waits.store(false, Ordering::Relaxed);
        assert_eq!(writer.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        let mut got = [0; 5];
        (&mut &server).read_exact(&mut got).unwrap();
        assert_eq!(&got, b"first");
        let error = (&mut &server).read(&mut got).unwrap_err();
        assert!(error.to_string().contains("alert BadRecordMac"), "{error}");
    });
}

/// A transport some of whose writes time out.
struct Held {
    stream: TcpStream,
    /// So many of the next writes.
    refuse: AtomicUsize,
    /// Those that are refused wait until this is taken back.
    waits: AtomicBool,
    is_waiting: AtomicBool,
}

impl Held {
    fn new(stream: TcpStream) -> Held {
        let (waits, is_waiting) = (AtomicBool::new(false), AtomicBool::new(false));
        Held { stream, refuse: AtomicUsize::new(0), waits, is_waiting }
    }
}

impl Transport for Held {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Transport::read(&self.stream, buffer)
    }

    fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        if self.refuse.load(Ordering::Relaxed) == 0 {
            return Transport::write(&self.stream, buffer);
        }
        self.refuse.fetch_sub(1, Ordering::Relaxed);
        self.is_waiting.store(true, Ordering::Relaxed);
        util::wait_until(|| !self.waits.load(Ordering::Relaxed));
        Err(ErrorKind::TimedOut.into())
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Transport::try_read(&self.stream, buffer)
    }

    fn try_write(&self, buffer: &[u8]) -> io::Result<usize> {
        Transport::try_write(&self.stream, buffer)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream.shutdown(how)
    }
}

/// Client and server over these.
fn over<S: Transport + 'static>(
    ours: S,
    theirs: TcpStream,
) -> (TlsStream<S>, TlsStream<TcpStream>) {
    let issued = Issued::self_signed();
    let acceptor = cosocket::tls::TlsAcceptor::new(&issued.server().resumption(false)).unwrap();
    let server = spawn(move || acceptor.accept(theirs).unwrap());
    let options = TlsOptions::new().pinned([issued.certificate()]);
    let client = TlsStream::connect(ours, "localhost", &options).unwrap();
    (client, server.join().unwrap())
}

/// TLS-13.
#[test]
fn an_end_without_a_goodbye_is_told_after_all_data() {
    cosocket::run(|| {
        let (client, server) = pair();
        (&mut &server).write_all(b"all there was").unwrap();
        server.transport().shutdown(Shutdown::Both).unwrap();
        let mut got = Vec::new();
        let error = (&mut &client).read_to_end(&mut got).unwrap_err();
        assert_eq!(got, b"all there was");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(kind_of((&mut &client).read(&mut [0])), cosocket::tls::ErrorKind::Truncated);
    });
}

#[test]
fn dropping_says_goodbye_and_unwinding_does_not() {
    cosocket::run(|| {
        let (client, server) = pair();
        drop(server);
        assert_eq!((&mut &client).read(&mut [0]).unwrap(), 0);

        let (client, server) = pair();
        let reader = socket_util::spawn_waiting(move || (&mut &server).read(&mut [0]));
        reader.cancel();
        assert!(reader.join().is_err());
        assert_eq!(kind_of((&mut &client).read(&mut [0])), cosocket::tls::ErrorKind::Truncated);
    });
}

#[test]
fn a_shutdown_of_both_ends_all_calls() {
    cosocket::run(|| {
        let (client, server) = pair();
        let client = Arc::new(client);
        let reader = Arc::clone(&client);
        let reader = socket_util::spawn_waiting(move || (&mut &*reader).read(&mut [0]));
        let writer = Arc::clone(&client);
        let writer =
            socket_util::spawn_waiting(move || (&mut &*writer).write_all(&vec![0; 64 << 20]));
        client.shutdown(Shutdown::Both).unwrap();
        assert_eq!(kind_of(reader.join().unwrap()), cosocket::tls::ErrorKind::Truncated);
        assert!(writer.join().unwrap().is_err());
        drop(server);
    });
}

#[test]
fn several_buffers_go_into_one_record() {
    cosocket::run(|| {
        let (client, server) = pair();
        let pieces = [&b"several "[..], b"", b"buffers ", b"at once"].map(IoSlice::new);
        assert_eq!((&mut &client).write_vectored(&pieces).unwrap(), 23);
        let mut got = [0; 100];
        assert_eq!((&mut &server).read(&mut got).unwrap(), 23);
        assert_eq!(&got[..23], b"several buffers at once");
        assert_eq!((&mut &client).write(&[]).unwrap(), 0);
    });
}

/// KA-6: tickets do not make a resting connection look as if it had data.
#[test]
fn looking_at_a_resting_connection_takes_its_tickets_in() {
    cosocket::run(|| {
        let (client, server) = pair();
        for _ in 0..100 {
            let error = client.try_read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            thread::yield_now();
        }
        (&mut &server).write_all(b"x").unwrap();
        let mut got = [0];
        util::wait_until(|| util::readable_bytes(client.transport()) > 0);
        assert_eq!((client.try_read(&mut got).unwrap(), got), (1, *b"x"));
        drop(server);
        util::wait_until(
            || !matches!(client.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock),
        );
        assert_eq!(client.try_read(&mut [0]).unwrap(), 0);
    });
}

/// The reset comes in the middle of a record; what came before it is read.
#[test]
fn a_reset_in_mid_record_is_an_error_and_stays() {
    cosocket::run(|| {
        let issued = Issued::self_signed();
        let (pieces, server) = in_pieces(&issued, |server| {
            (&mut &*server).write_all(&[5; 1_000]).unwrap();
            (&mut &*server).write_all(&[6; 1_000]).unwrap();
        });
        (&pieces.raw).write_all(&pieces.bytes[..1_500]).unwrap();
        let mut got = [0; 1_000];
        (&mut &*pieces.client).read_exact(&mut got).unwrap();
        assert_eq!(got, [5; 1_000]);
        pieces.raw.set_linger(Some(Duration::ZERO)).unwrap();
        // Both handles of the socket.
        drop(pieces.raw);
        let error = (&mut &*pieces.client).read(&mut got).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
            "{error:?}"
        );
        let again = (&mut &*pieces.client).read(&mut got).unwrap_err();
        assert_eq!(again.kind(), error.kind());
        drop(server);
    });
}

/// A record that was changed on its way ends both directions, and the peer is told why.
#[test]
fn a_changed_record_is_refused_for_good() {
    cosocket::run(|| {
        let issued = Issued::self_signed();
        let (mut pieces, server) = in_pieces(&issued, |server| {
            (&mut &*server).write_all(&[5; 1_000]).unwrap();
            (&mut &*server).write_all(&[6; 1_000]).unwrap();
        });
        let second = pieces.bytes.len() - 500;
        pieces.bytes[second] ^= 1;
        (&pieces.raw).write_all(&pieces.bytes).unwrap();
        let mut got = [0; 3_000];
        assert_eq!((&mut &*pieces.client).read(&mut got).unwrap(), 1_000);
        for _ in 0..3 {
            let result = (&mut &*pieces.client).read(&mut got);
            assert_eq!(kind_of(result), cosocket::tls::ErrorKind::Corrupt);
        }
        let result = (&mut &*pieces.client).write(b"more");
        assert_eq!(kind_of(result), cosocket::tls::ErrorKind::Corrupt);
        // An alert, encrypted: a header of type 23 and more.
        let mut alert = [0; 5];
        (&pieces.raw).read_exact(&mut alert).unwrap();
        assert_eq!(alert[0], 23);
        drop(server);
    });
}

/// After our goodbye, too: with debug assertions rustls panicked in the reader.
#[test]
fn noise_after_our_goodbye_is_an_error() {
    cosocket::run(|| {
        let (client, server) = pair();
        client.shutdown(Shutdown::Write).unwrap();
        let mut noise = [7; 45];
        noise[..5].copy_from_slice(&[23, 3, 3, 0, 40]);
        let mut raw = server.transport();
        raw.write_all(&noise).unwrap();
        for _ in 0..2 {
            let result = (&mut &client).read(&mut [0; 9]);
            assert_eq!(kind_of(result), cosocket::tls::ErrorKind::Corrupt);
        }
    });
}

/// A ticket in many small records, each in pieces, and we write in between: the state machine holds on
/// to the beginning of the message all the while.
#[test]
fn a_message_in_fragments_is_put_together_while_we_write() {
    use tokio_rustls::rustls::{ServerConfig, ServerConnection, crypto::ring, pki_types};
    cosocket::run(|| {
        let issued = Issued::self_signed();
        let key = pki_types::PrivateKeyDer::try_from(issued.key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.certificate.der().clone()], key)
            .unwrap();
        config.max_fragment_size = Some(32);
        let (ours, mut theirs) = tcp();
        let options = TlsOptions::new().pinned([issued.certificate()]);
        let client = spawn_local(move || TlsStream::connect(ours, "localhost", &options).unwrap());
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        while server.is_handshaking() {
            while server.wants_write() {
                server.write_tls(&mut theirs).unwrap();
            }
            server.read_tls(&mut theirs).unwrap();
            server.process_new_packets().unwrap();
        }
        let client = client.join().unwrap();
        let mut tickets = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut tickets).unwrap();
        }
        assert!(tickets.len() > 200, "{}", tickets.len());
        for piece in tickets.chunks(23) {
            theirs.write_all(piece).unwrap();
            util::wait_until(|| util::readable_bytes(client.transport()) > 0);
            assert_eq!(client.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            (&mut &client).write_all(b"x").unwrap();
            server.read_tls(&mut theirs).unwrap();
            server.process_new_packets().unwrap();
            let mut got = [0; 1];
            server.reader().read_exact(&mut got).unwrap();
            assert_eq!(&got, b"x");
        }
        server.writer().write_all(b"the end").unwrap();
        server.write_tls(&mut theirs).unwrap();
        let mut got = [0; 7];
        (&mut &client).read_exact(&mut got).unwrap();
        assert_eq!(&got, b"the end");
    });
}

/// Many at once, on all workers: each conversation gets its own answers.
#[test]
fn many_connections_converse() {
    cosocket::run(|| {
        let issued = Issued::self_signed();
        let address = tls_support::serve(&issued.server(), |stream| {
            let _ = io::copy(&mut &stream, &mut &stream);
        });
        let options = TlsOptions::new().pinned([issued.certificate()]);
        let count = if util::is_quick() { 20 } else { 200 };
        thread::scope(|scope| {
            for number in 0..count {
                let options = &options;
                scope.spawn(move || {
                    let stream = TcpStream::connect(address).unwrap();
                    let mut stream = TlsStream::connect(stream, "localhost", options).unwrap();
                    for round in 0..10 {
                        let len = 1 + round * round * 300;
                        let data = bytes_of(number, 0, len);
                        stream.write_all(&data).unwrap();
                        let mut echo = vec![0; len];
                        stream.read_exact(&mut echo).unwrap();
                        assert!(echo == data, "{number} {round}");
                    }
                });
            }
        });
    });
}

/// The documentation says how much: what goes deep is done on the worker's stack.
#[test]
fn a_handshake_needs_little_of_a_stack() {
    let runtime = Builder::new().measure_stacks(true).build().unwrap();
    let used = runtime.run(|| {
        let authority = tls_support::Authority::new("an authority");
        let issued = authority.issue();
        let server = issued.server().require_clients_of([authority.certificate()]);
        let acceptor = cosocket::tls::TlsAcceptor::new(&server).unwrap();
        let client = authority.client().identity(authority.issue().identity());
        client.check().unwrap();
        let (ours, theirs) = tcp();
        let server = spawn(move || {
            let stream = acceptor.accept(theirs).unwrap();
            assert_eq!((&mut &stream).read(&mut [0; 100]).unwrap(), 5);
        });
        let client = spawn(move || {
            let stream = TlsStream::connect(ours, "localhost", &client).unwrap();
            (&mut &stream).write_all(b"hello").unwrap();
        });
        [server, client].map(|end| {
            util::wait_until(|| end.is_finished());
            let used = end.stack_high_water().unwrap();
            end.join().unwrap();
            used
        })
    });
    println!("stack of a handshake: server {} KiB, client {} KiB", used[0] >> 10, used[1] >> 10);
    // Debug builds have the larger frames, sanitizers larger ones still.
    let most = if util::is_quick() { 128 << 10 } else { 32 << 10 };
    assert!(used.iter().all(|&used| used < most), "{used:?}");
}

fn _assert_traits(ends: Ends) -> impl Send + Sync {
    fn is_error<E: std::error::Error + Send + Sync>() {}
    is_error::<Error>();
    let _: fn(TlsServerOptions) = |_| {};
    ends
}
