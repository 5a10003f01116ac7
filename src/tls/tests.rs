//! What cannot be seen from outside in reasonable time: ciphers at the end of what a key is good for.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::options::TlsOptions;
use super::{
    Certificate, Error, ErrorKind, Identity, TlsAcceptor, TlsServerOptions, TlsStream, TlsVersion,
    Transport,
};
use crate::net::{TcpListener, TcpStream};
use crate::{spawn, thread};

/// So many records may be encrypted with one key.
const LIMIT: u64 = 50;

/// A transport that looks at the records that are sent through it. Those with data are larger than
/// a KeyUpdate: a header of 5 bytes, a message of 5, its type, and a tag of 16.
struct Watching {
    stream: TcpStream,
    sent: Mutex<Sent>,
    key_updates: AtomicUsize,
    most_between: AtomicUsize,
    /// Of the buffers with which somebody waited.
    largest_waiting: AtomicUsize,
}

/// Where in a record the stream is.
#[derive(Default)]
struct Sent {
    header: Vec<u8>,
    left: usize,
    since_update: usize,
}

impl Watching {
    fn new(stream: TcpStream) -> Watching {
        let sent = Mutex::new(Sent::default());
        Watching {
            stream,
            sent,
            key_updates: AtomicUsize::new(0),
            most_between: AtomicUsize::new(0),
            largest_waiting: AtomicUsize::new(0),
        }
    }

    fn look_at(&self, mut bytes: &[u8]) {
        let sent = &mut *self.sent.lock().unwrap();
        while let Some((&first, rest)) = bytes.split_first() {
            if sent.left > 0 {
                let count = sent.left.min(bytes.len());
                sent.left -= count;
                bytes = &bytes[count..];
                continue;
            }
            sent.header.push(first);
            bytes = rest;
            if let [kind, _, _, high, low] = sent.header[..] {
                sent.header.clear();
                sent.left = u16::from_be_bytes([high, low]).into();
                if kind == 23 && sent.left == 22 {
                    self.key_updates.fetch_add(1, Ordering::Relaxed);
                    sent.since_update = 0;
                } else {
                    sent.since_update += 1;
                    self.most_between.fetch_max(sent.since_update, Ordering::Relaxed);
                }
            }
        }
    }
}

impl Transport for Watching {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.largest_waiting.fetch_max(buffer.len(), Ordering::Relaxed);
        Transport::read(&self.stream, buffer)
    }

    fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        let count = Transport::write(&self.stream, buffer)?;
        self.look_at(&buffer[..count]);
        Ok(count)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Transport::try_read(&self.stream, buffer)
    }

    fn try_write(&self, buffer: &[u8]) -> io::Result<usize> {
        let count = Transport::try_write(&self.stream, buffer)?;
        self.look_at(&buffer[..count]);
        Ok(count)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream.shutdown(how)
    }
}

/// Two ends whose keys are good for [`LIMIT`] records.
fn ends(version: TlsVersion) -> [TlsStream<Watching>; 2] {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = Certificate::from_der(made.cert.der().to_vec());
    let identity = Identity::from_der([certificate.clone()], made.signing_key.serialize_der());
    // No tickets: they are records, too.
    let mut server = TlsServerOptions::new(identity).resumption(false);
    server.common.record_limit = Some(LIMIT);
    let client = TlsOptions::new().pinned([certificate]).max_version(version);
    let client = client.with(|settings| settings.common.record_limit = Some(LIMIT));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let acceptor = TlsAcceptor::new(&server).unwrap();
    let server =
        spawn(move || acceptor.accept(Watching::new(listener.accept().unwrap().0)).unwrap());
    let client = TlsStream::connect(Watching::new(ours), "localhost", &client).unwrap();
    assert_eq!(client.version(), version);
    [client, server.join().unwrap()]
}

/// TLS-14: keys change by themselves, on both sides, while both send more than the connection holds.
#[test]
fn keys_change_by_themselves_when_they_must() {
    const TOTAL: usize = 4 << 20;
    crate::run(|| {
        let ends = ends(TlsVersion::V1_3);
        thread::scope(|scope| {
            for (number, end) in (0..).zip(&ends) {
                scope.spawn(move || {
                    let mut sent = 0;
                    while sent < TOTAL {
                        // One record, or two.
                        let piece = [number; 20_000];
                        let count = (100 + sent % 19_000).min(TOTAL - sent).max(100);
                        (&mut &*end).write_all(&piece[..count]).unwrap();
                        sent += count;
                    }
                    end.shutdown(Shutdown::Write).unwrap();
                });
                scope.spawn(move || {
                    let mut received = Vec::new();
                    (&mut &*end).read_to_end(&mut received).unwrap();
                    assert!(received.len() >= TOTAL, "{}", received.len());
                    assert!(received.iter().all(|&byte| byte == 1 - number));
                });
            }
        });
        for end in &ends {
            let updates = end.transport().key_updates.load(Ordering::Relaxed);
            let most = end.transport().most_between.load(Ordering::Relaxed);
            // 4 MiB are 256 records at least.
            assert!(updates >= 4, "{updates}");
            // One call may encrypt two records, and the handshake has some.
            assert!(most as u64 <= LIMIT + 8, "{most}");
        }
    });
}

/// Whatever came last: a read that filled its buffer to the last byte once made the next one wait, for
/// good perhaps, with one of 33 KiB.
#[test]
fn a_reader_waits_with_a_small_buffer() {
    crate::run(|| {
        let [client, server] = ends(TlsVersion::V1_3);
        // With header, type and tag just as much as the buffer holds.
        (&mut &server).write_all(&[7; 4_138]).unwrap();
        let mut got = [0; 4_138];
        (&mut &client).read_exact(&mut got).unwrap();
        let answer = spawn(move || (&mut &server).write_all(&[8; 100_000]).map(|()| server));
        let mut got = vec![0; 100_000];
        (&mut &client).read_exact(&mut got).unwrap();
        assert_eq!(client.transport().largest_waiting.load(Ordering::Relaxed), 4_160);
        drop(answer.join());
    });
}

/// TLS 1.2 knows no new keys: the connection ends, for both, and says why.
#[test]
fn without_new_keys_a_connection_ends() {
    crate::run(|| {
        let [client, server] = ends(TlsVersion::V1_2);
        let reader = spawn(move || {
            let mut received = Vec::new();
            (&mut &server).read_to_end(&mut received).map(|_| received.len())
        });
        let mut sent = 0;
        let error = loop {
            match (&mut &client).write(&[7; 1_000]) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert!(sent as u64 <= LIMIT * 1_000, "{sent}");
        let tls = Error::of(&error).unwrap();
        assert_eq!(tls.kind(), ErrorKind::Exhausted);
        assert!(tls.to_string().contains("TLS 1.3"), "{tls}");
        drop(client);
        assert_eq!(reader.join().unwrap().unwrap(), sent, "what was accepted has arrived");
    });
}
