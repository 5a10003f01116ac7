//! What TLS costs, beside tokio-rustls: the same protocol implementation, so what differs is how
//! it is driven.
//!
//! Both ends of each connection are on one thread, over TCP on the loopback. Rounds of the two
//! alternate, and what is printed is the medians, and the median of the pairs' ratios: the machine's
//! noise falls on both. The ratio by the processor's time is the one to believe where others use the
//! machine, too. Memory is what a connection at rest holds: heap, and pages of the process (which
//! for cosocket have the two coroutines' stacks in them).
//!
//! `cargo bench --bench tls --features tls`, with a part of a name behind ` -- ` for that alone.

#![allow(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::{Duration, Instant};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::tls::{Certificate, Identity, TlsAcceptor, TlsOptions, TlsServerOptions, TlsStream};
use cosocket::{Builder, Runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Counts the bytes in use.
struct Counting;

static IN_USE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: the system's allocator, with its sizes added up.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's block and layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    // What `cargo test --benches` and CI ask for: that it runs.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let scale = if is_test { 1 } else { 20 };
    let ours = Ours::new();
    let theirs = Theirs::new(&ours);
    let rounds = if is_test { 1 } else { 15 };

    let count = 2 * scale;
    compare(
        "full handshakes",
        "/s",
        count,
        5 * rounds,
        || ours.handshakes(count),
        || theirs.handshakes(count),
    );
    let count = 100 * scale;
    compare(
        "ping-pong of 64 B without TLS",
        "/s",
        count,
        rounds,
        || ours.plain_ping(count),
        || theirs.plain_ping(count),
    );
    for size in [64, 4 << 10] {
        let what = format!("ping-pong of {size} B");
        compare(&what, "/s", count, rounds, || ours.ping(count, size), || theirs.ping(count, size));
    }
    let mebibytes = 4 * scale;
    for both in [false, true] {
        let (what, total) =
            (if both { "bulk, both ways" } else { "bulk, one way" }, mebibytes << 20);
        compare(
            what,
            "MiB/s",
            mebibytes,
            rounds,
            || ours.bulk(total, both),
            || theirs.bulk(total, both),
        );
    }
    if !is_wanted("at rest") {
        return;
    }
    let count = 50 * scale;
    let (heap, pages) = ours.at_rest(count);
    let (their_heap, their_pages) = theirs.at_rest(count);
    println!(
        "at rest, for each end: cosocket {heap} B of heap, {pages} B in all; tokio-rustls \
              {their_heap} B of heap, {their_pages} B in all"
    );
}

/// How many a second, of the clock's and of the processor's.
struct Rates {
    wall: f64,
    processor: f64,
}

impl Rates {
    fn of<T>(count: usize, f: impl FnOnce() -> T) -> Rates {
        let (start, used) = (Instant::now(), processor_time());
        let result = f();
        let (wall, processor) = (start.elapsed(), processor_time() - used);
        drop(result);
        let rate = |time: Duration| count as f64 / time.as_secs_f64();
        Rates { wall: rate(wall), processor: rate(processor) }
    }
}

/// Of all threads of this process, and of the kernel for them.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`.
    #[allow(unsafe_code)]
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Whether the arguments ask for this.
fn is_wanted(what: &str) -> bool {
    let mut names =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    names.peek().is_none() || names.any(|name| what.contains(&*name))
}

/// Rounds of the two alternate, and so does who begins.
fn compare<A, B>(
    what: &str,
    unit: &str,
    count: usize,
    rounds: usize,
    ours: impl Fn() -> A,
    theirs: impl Fn() -> B,
) {
    if !is_wanted(what) {
        return;
    }
    let pairs: Vec<_> = (0..rounds)
        .map(|round| {
            if round % 2 == 0 {
                let first = Rates::of(count, &ours);
                (first, Rates::of(count, &theirs))
            } else {
                let first = Rates::of(count, &theirs);
                (Rates::of(count, &ours), first)
            }
        })
        .collect();
    let our_rate = median(pairs.iter().map(|(ours, _)| ours.wall));
    let their_rate = median(pairs.iter().map(|(_, theirs)| theirs.wall));
    let wall = median(pairs.iter().map(|(ours, theirs)| ours.wall / theirs.wall));
    let processor = median(pairs.iter().map(|(ours, theirs)| ours.processor / theirs.processor));
    println!(
        "{what}: cosocket {our_rate:.0} {unit}, tokio-rustls {their_rate:.0} {unit}: {wall:.3}; by \
         the processor's time {processor:.3}"
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Heap and resident bytes that `ends` ends of connections hold, each.
fn held(ends: usize, before: (isize, usize)) -> (isize, usize) {
    let now = now();
    ((now.0 - before.0) / ends as isize, now.1.saturating_sub(before.1) / ends)
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

fn now() -> (isize, usize) {
    // What is free does not count, whoever had it.
    // SAFETY: takes nothing, and gives free memory back to the system.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0)
    };
    (IN_USE.load(Ordering::Relaxed), resident())
}

struct Ours {
    runtime: Runtime,
    acceptor: Arc<TlsAcceptor>,
    options: TlsOptions,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Ours {
    fn new() -> Ours {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.der().to_vec(), made.signing_key.serialize_der());
        let root = Certificate::from_der(certificate.clone());
        let identity = Identity::from_der([root.clone()], key.clone());
        let options = TlsServerOptions::new(identity).resumption(false);
        Ours {
            runtime: Builder::new().workers(1).build().unwrap(),
            acceptor: Arc::new(TlsAcceptor::new(&options).unwrap()),
            options: TlsOptions::new().roots([root]).resumption(0),
            certificate,
            key,
        }
    }

    /// The two ends of so many new connections.
    fn connect(&self, count: usize) -> Vec<[TlsStream<TcpStream>; 2]> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = Arc::clone(&self.acceptor);
        let servers = cosocket::spawn(move || {
            let accept = |_| {
                let (stream, acceptor) = (listener.accept().unwrap().0, Arc::clone(&acceptor));
                stream.set_nodelay(true).unwrap();
                cosocket::spawn(move || acceptor.accept(stream).unwrap())
            };
            let servers: Vec<_> = (0..count).map(accept).collect();
            servers.into_iter().map(|server| server.join().unwrap()).collect::<Vec<_>>()
        });
        let connect = |_| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            TlsStream::connect(stream, "localhost", &self.options).unwrap()
        };
        let clients: Vec<_> = (0..count).map(connect).collect();
        clients.into_iter().zip(servers.join().unwrap()).map(|(one, other)| [one, other]).collect()
    }

    /// How they end is not looked at: cosocket says goodbye, tokio-rustls does not.
    fn handshakes(&self, count: usize) -> Vec<[TlsStream<TcpStream>; 2]> {
        self.runtime.run(|| self.connect(count))
    }

    fn ping(&self, count: usize, size: usize) {
        self.runtime.run(|| {
            let [mut client, mut server] = self.connect(1).pop().unwrap();
            let answer = cosocket::spawn(move || {
                let mut buffer = vec![0; size];
                while server.read_exact(&mut buffer).is_ok() {
                    server.write_all(&buffer).unwrap();
                }
            });
            let mut buffer = vec![0; size];
            for _ in 0..count {
                client.write_all(&buffer).unwrap();
                client.read_exact(&mut buffer).unwrap();
            }
            client.close().unwrap();
            answer.join().unwrap();
        });
    }

    /// What of a ping-pong is not TLS.
    fn plain_ping(&self, count: usize) {
        self.runtime.run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let answer = cosocket::spawn(move || {
                let mut buffer = [0; 64];
                while server.read_exact(&mut buffer).is_ok() {
                    server.write_all(&buffer).unwrap();
                }
            });
            let mut buffer = [0; 64];
            for _ in 0..count {
                client.write_all(&buffer).unwrap();
                client.read_exact(&mut buffer).unwrap();
            }
            drop(client);
            answer.join().unwrap();
        });
    }

    fn bulk(&self, total: usize, both: bool) {
        self.runtime.run(|| {
            let [client, server] = self.connect(1).pop().unwrap().map(Arc::new);
            let send = |end: &Arc<TlsStream<TcpStream>>| {
                let end = Arc::clone(end);
                cosocket::spawn(move || {
                    let data = vec![7; 64 << 10];
                    (0..total / data.len()).for_each(|_| (&*end).write_all(&data).unwrap());
                })
            };
            let receive = |end: &Arc<TlsStream<TcpStream>>| {
                let end = Arc::clone(end);
                cosocket::spawn(move || {
                    let (mut buffer, mut left) = (vec![0; 64 << 10], total);
                    while left > 0 {
                        left -= (&*end).read(&mut buffer).unwrap();
                    }
                })
            };
            let mut parts = vec![send(&client), receive(&server)];
            if both {
                parts.extend([send(&server), receive(&client)]);
            }
            parts.into_iter().for_each(|part| part.join().unwrap());
        });
    }

    fn at_rest(&self, count: usize) -> (isize, usize) {
        // What a first run leaves behind belongs to nobody.
        self.ping(10, 64);
        self.runtime.run(|| {
            let before = now();
            let ends: Vec<_> = self.connect(count).into_iter().flatten().collect();
            let readers: Vec<_> = ends
                .into_iter()
                .map(|mut end| {
                    cosocket::spawn(move || {
                        end.write_all(&[7; 20_000]).unwrap();
                        end.read_exact(&mut vec![0; 20_000]).unwrap();
                        let _ = end.read(&mut [0; 64]);
                    })
                })
                .collect();
            cosocket::thread::sleep(Duration::from_millis(500));
            let held = held(2 * count, before);
            readers.iter().for_each(|reader| reader.cancel());
            readers.into_iter().for_each(|reader| drop(reader.join()));
            held
        })
    }
}

type TheirEnds = (
    tokio_rustls::client::TlsStream<tokio::net::TcpStream>,
    tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
);

struct Theirs {
    runtime: tokio::runtime::Runtime,
    connector: tokio_rustls::TlsConnector,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl Theirs {
    fn new(ours: &Ours) -> Theirs {
        let certificate = CertificateDer::from(ours.certificate.clone());
        let key = PrivateKeyDer::try_from(ours.key.clone()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = tokio_rustls::rustls::client::Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        server.send_tls13_tickets = 0;
        Theirs {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            connector: Arc::new(client).into(),
            acceptor: Arc::new(server).into(),
        }
    }

    async fn connect(&self, count: usize) -> Vec<TheirEnds> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = self.acceptor.clone();
        let servers = tokio::spawn(async move {
            let mut servers = Vec::new();
            for _ in 0..count {
                let (stream, acceptor) = (listener.accept().await.unwrap().0, acceptor.clone());
                stream.set_nodelay(true).unwrap();
                servers.push(tokio::spawn(async move { acceptor.accept(stream).await.unwrap() }));
            }
            let mut ends = Vec::new();
            for server in servers {
                ends.push(server.await.unwrap());
            }
            ends
        });
        let mut clients = Vec::new();
        for _ in 0..count {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            clients.push(self.connector.connect(name, stream).await.unwrap());
        }
        clients.into_iter().zip(servers.await.unwrap()).collect()
    }

    fn handshakes(&self, count: usize) -> Vec<TheirEnds> {
        self.runtime.block_on(self.connect(count))
    }

    fn ping(&self, count: usize, size: usize) {
        self.runtime.block_on(async {
            let (mut client, mut server) = self.connect(1).await.pop().unwrap();
            let answer = tokio::spawn(async move {
                let mut buffer = vec![0; size];
                while server.read_exact(&mut buffer).await.is_ok() {
                    server.write_all(&buffer).await.unwrap();
                    server.flush().await.unwrap();
                }
            });
            let mut buffer = vec![0; size];
            for _ in 0..count {
                client.write_all(&buffer).await.unwrap();
                client.flush().await.unwrap();
                client.read_exact(&mut buffer).await.unwrap();
            }
            client.shutdown().await.unwrap();
            answer.await.unwrap();
        });
    }

    fn plain_ping(&self, count: usize) {
        self.runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let answer = tokio::spawn(async move {
                let mut buffer = [0; 64];
                while server.read_exact(&mut buffer).await.is_ok() {
                    server.write_all(&buffer).await.unwrap();
                }
            });
            let mut buffer = [0; 64];
            for _ in 0..count {
                client.write_all(&buffer).await.unwrap();
                client.read_exact(&mut buffer).await.unwrap();
            }
            drop(client);
            answer.await.unwrap();
        });
    }

    fn bulk(&self, total: usize, both: bool) {
        async fn send(mut end: impl AsyncWriteExt + Unpin, total: usize) {
            let data = vec![7; 64 << 10];
            for _ in 0..total / data.len() {
                end.write_all(&data).await.unwrap();
            }
            end.flush().await.unwrap();
            // The halves share the connection: dropping one closes nothing.
        }
        async fn receive(mut end: impl AsyncReadExt + Unpin, total: usize) {
            let (mut buffer, mut left) = (vec![0; 64 << 10], total);
            while left > 0 {
                left -= end.read(&mut buffer).await.unwrap();
            }
        }
        self.runtime.block_on(async {
            let (client, server) = self.connect(1).await.pop().unwrap();
            if both {
                let (client_reads, client_writes) = tokio::io::split(client);
                let (server_reads, server_writes) = tokio::io::split(server);
                let parts = [
                    tokio::spawn(send(client_writes, total)),
                    tokio::spawn(receive(server_reads, total)),
                    tokio::spawn(send(server_writes, total)),
                    tokio::spawn(receive(client_reads, total)),
                ];
                for part in parts {
                    part.await.unwrap();
                }
            } else {
                let parts =
                    [tokio::spawn(send(client, total)), tokio::spawn(receive(server, total))];
                for part in parts {
                    part.await.unwrap();
                }
            }
        });
    }

    fn at_rest(&self, count: usize) -> (isize, usize) {
        async fn rest(mut end: impl AsyncReadExt + AsyncWriteExt + Unpin) {
            end.write_all(&[7; 20_000]).await.unwrap();
            end.flush().await.unwrap();
            end.read_exact(&mut vec![0; 20_000]).await.unwrap();
            let _ = end.read(&mut [0; 64]).await;
        }
        self.ping(10, 64);
        self.runtime.block_on(async {
            let before = now();
            let mut readers = Vec::new();
            for (client, server) in self.connect(count).await {
                readers.push(tokio::spawn(rest(client)));
                readers.push(tokio::spawn(rest(server)));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            let held = held(2 * count, before);
            readers.iter().for_each(|reader| reader.abort());
            for reader in readers {
                let _ = reader.await;
            }
            held
        })
    }
}
