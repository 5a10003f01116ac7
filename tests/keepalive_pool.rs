//! Keepalive pools: what is parked, who gets it, and what becomes of it meanwhile.

mod socket_util;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{
    ConnectOptions, Cosocket, Error, ErrorKind, Eviction, Pool, PoolMetrics, PoolOptions, thread,
};
use socket_util::{everywhere, spawn_waiting, until};

/// A server that does nothing by itself.
struct Backend {
    listener: TcpListener,
    address: std::net::SocketAddr,
}

impl Backend {
    fn new() -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Backend { listener, address }
    }

    /// Its end of the connection that was made first, of those not asked for yet.
    fn peer(&self) -> TcpStream {
        self.listener.accept().unwrap().0
    }

    fn connect(&self) -> Cosocket {
        self.connect_with(&ConnectOptions::default())
    }

    fn connect_with(&self, options: &ConnectOptions) -> Cosocket {
        let socket = Cosocket::new();
        socket.connect_with(self.address, options).unwrap();
        socket
    }

    /// A connection with both its ends.
    fn pair(&self) -> (Cosocket, TcpStream) {
        (self.connect(), self.peer())
    }

    /// The pool of its address.
    fn metrics(&self) -> PoolMetrics {
        metrics(&self.address.to_string())
    }
}

fn metrics(name: &str) -> PoolMetrics {
    cosocket::pools()
        .into_iter()
        .find_map(|(its, metrics)| (its == name).then_some(metrics))
        .unwrap_or_default()
}

fn park(socket: &Cosocket) {
    socket.set_keepalive(None, None).unwrap();
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// The two ends belong together.
fn are_connected(socket: &Cosocket, peer: &mut TcpStream) {
    socket.send(b"ping").unwrap();
    let mut buffer = [0; 4];
    peer.read_exact(&mut buffer).unwrap();
    peer.write_all(b"pong").unwrap();
    assert_eq!(socket.receive_any(16).unwrap(), b"pong");
}

fn sees_the_end(peer: &mut TcpStream) {
    match peer.read(&mut [0]) {
        Ok(count) => assert_eq!(count, 0),
        // What it had sent was not read.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

fn named(pool: &str) -> ConnectOptions {
    ConnectOptions { pool: Some(pool.into()), ..ConnectOptions::default() }
}

/// CON-7, KA-1, KA-3.
#[test]
fn the_one_parked_last_is_taken_first() {
    everywhere(|| {
        let backend = Backend::new();
        let (a, mut at_a) = backend.pair();
        let (b, mut at_b) = backend.pair();
        park(&a);
        park(&b);
        for method in [kind(a.receive_any(1)), kind(a.send(b"x")), kind(a.close())] {
            assert_eq!(method, ErrorKind::Closed);
        }
        assert_eq!(kind(a.set_keepalive(None, None)), ErrorKind::Closed);
        assert_eq!(kind(a.reused_times()), ErrorKind::Closed);
        let (last, first) = (backend.connect(), backend.connect());
        are_connected(&last, &mut at_b);
        are_connected(&first, &mut at_a);
        assert_eq!(last.reused_times().unwrap(), 1);
        assert_eq!(backend.metrics().hits, 2);
    });
}

/// CON-8; section 2, items 92 and 94.
#[test]
fn a_pool_is_as_its_name_says_whatever_it_is_connected_to() {
    everywhere(|| {
        let (one, other) = (Backend::new(), Backend::new());
        let name = format!("foo {}", one.address);
        let socket = one.connect_with(&named(&name));
        let mut peer = one.peer();
        park(&socket);
        let apart = one.connect_with(&named(&format!("{name} apart")));
        assert_eq!(apart.reused_times().unwrap(), 0);
        assert_eq!(one.connect().reused_times().unwrap(), 0);
        // To another server, by the same name: an open connection to the first.
        let socket = other.connect_with(&named(&name));
        assert_eq!(socket.reused_times().unwrap(), 1);
        are_connected(&socket, &mut peer);
    });
}

/// CON-8: `localhost` and `127.0.0.1` differ; a Unix socket has a key too (section 2, item 91).
#[test]
fn the_key_is_the_text_that_was_given() {
    everywhere(|| {
        let backend = Backend::new();
        park(&backend.connect());
        let by_name = Cosocket::new();
        by_name.connect(("localhost", backend.address.port())).unwrap();
        assert_eq!(by_name.reused_times().unwrap(), 0);
        let by_text = cosocket::connect(&*backend.address.to_string()).unwrap();
        assert_eq!(by_text.reused_times().unwrap(), 1);

        let directory = std::env::temp_dir().join(format!("cosocket-pool-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let _ = std::fs::remove_file(&path);
        let listener = cosocket::os::unix::net::UnixListener::bind(&path).unwrap();
        let target = format!("unix:{}", path.display());
        let socket = cosocket::connect(&*target).unwrap();
        park(&socket);
        assert_eq!(metrics(&target).idle, 1);
        socket.connect(&*target).unwrap();
        assert_eq!(socket.reused_times().unwrap(), 1);
        drop(listener);
        std::fs::remove_dir_all(&directory).unwrap();
    });
}

/// DESIGN: the key includes the bind address. (And what a connection is encrypted with: see
/// `tests/tls_cosocket.rs`.)
#[test]
fn connections_from_another_address_are_kept_apart() {
    everywhere(|| {
        let backend = Backend::new();
        park(&backend.connect());
        let bound = Cosocket::new();
        bound.bind("127.0.0.2", 0).unwrap();
        bound.connect(backend.address).unwrap();
        assert_eq!(bound.reused_times().unwrap(), 0);
        park(&bound);
        // The binding belongs to the object, and so does which pool it finds.
        bound.connect(backend.address).unwrap();
        assert_eq!(bound.reused_times().unwrap(), 1);
        assert_eq!(backend.connect().reused_times().unwrap(), 1);
    });
}

/// KA-3, CON-9; section 2, item 98: the size given at connect wins over one given later.
#[test]
fn parking_in_a_full_pool_closes_the_one_parked_first() {
    everywhere(|| {
        let backend = Backend::new();
        let two = ConnectOptions { pool_size: Some(2), ..Default::default() };
        let sockets: Vec<_> = (0..3).map(|_| backend.connect_with(&two)).collect();
        let mut peers: Vec<_> = (0..3).map(|_| backend.peer()).collect();
        for socket in &sockets {
            socket.set_keepalive(None, Some(20)).unwrap();
        }
        sees_the_end(&mut peers[0]);
        let metrics = backend.metrics();
        assert_eq!((metrics.size, metrics.idle, metrics.evicted), (2, 2, 1));
        are_connected(&backend.connect(), &mut peers[2]);
    });
}

/// KA-3, section 2, item 86: an empty pool is none, and the next one may have another size.
#[test]
fn a_pool_ends_with_its_last_connection() {
    everywhere(|| {
        let backend = Backend::new();
        let socket = backend.connect();
        socket.set_keepalive(None, Some(3)).unwrap();
        assert_eq!(backend.metrics().size, 3);
        let socket = backend.connect();
        socket.close().unwrap();
        assert_eq!(backend.metrics(), PoolMetrics::default());
        backend.connect().set_keepalive(None, Some(5)).unwrap();
        assert_eq!(backend.metrics().size, 5);
    });
}

/// KA-1, section 2, item 89: 30, or what whoever makes the pool says, and then no other size.
#[test]
fn a_pool_has_the_size_that_its_first_connection_was_parked_with() {
    everywhere(|| {
        let backend = Backend::new();
        park(&backend.connect());
        assert_eq!(backend.metrics().size, 30);
        for size in [25, 1] {
            backend.connect().close().unwrap();
            assert_eq!(backend.metrics(), PoolMetrics::default());
            let (one, other) = (backend.connect(), backend.connect());
            one.set_keepalive(None, Some(size)).unwrap();
            other.set_keepalive(None, Some(100)).unwrap();
            assert_eq!(backend.metrics().size, size as u64);
            let reused: Vec<_> = (0..2).map(|_| backend.connect()).collect();
            let reused = reused.iter().filter(|socket| socket.reused_times().unwrap() == 1);
            assert_eq!(reused.count(), size.min(2));
        }
    });
}

/// CON-9; section 2, item 23: options that say nothing are none, so no pool is made by them.
#[test]
fn options_that_say_nothing_are_none() {
    everywhere(|| {
        let backend = Backend::new();
        let nothing = ConnectOptions { pool: None, ..ConnectOptions::default() };
        let socket = Cosocket::new();
        socket.connect_with(backend.address, &nothing).unwrap();
        assert_eq!(backend.metrics(), PoolMetrics::default());
        let plain = Cosocket::new();
        plain.connect(backend.address).unwrap();
        assert_eq!(backend.metrics(), PoolMetrics::default());
        // Each takes what the other has parked.
        park(&socket);
        plain.connect(backend.address).unwrap();
        assert_eq!(plain.reused_times().unwrap(), 1);
        park(&plain);
        socket.connect_with(backend.address, &nothing).unwrap();
        assert_eq!(socket.reused_times().unwrap(), 2);
        // A pool that is there gives its limits to those who have none to ask for.
        let limited = named(&format!("limited {}", backend.address));
        let one = ConnectOptions { pool_size: Some(1), backlog: Some(0), ..limited.clone() };
        let first = backend.connect_with(&one);
        let refused = Cosocket::new().connect_with(backend.address, &limited);
        assert_eq!(kind(refused), ErrorKind::TooManyWaiting);
        drop(first);
    });
}

/// CON-9, section 2, items 95 and 97; what has another type does not compile.
#[test]
fn a_size_of_nothing_is_refused_before_anything_is_done() {
    everywhere(|| {
        let backend = Backend::new();
        let none = ConnectOptions { pool_size: Some(0), ..Default::default() };
        let socket = Cosocket::new();
        let error = socket.connect_with(backend.address, &none).unwrap_err();
        assert_eq!(error.to_string(), "bad \"pool_size\" option value: 0");
        let (socket, mut peer) = backend.pair();
        assert_eq!(kind(socket.set_keepalive(None, Some(0))), ErrorKind::InvalidInput);
        are_connected(&socket, &mut peer);
    });
}

/// KA-2, one condition after the other; section 2, item 28 for the first.
#[test]
fn what_may_not_be_parked_says_why() {
    everywhere(|| {
        let backend = Backend::new();
        // (1) Not connected, closed, half closed, the end seen.
        assert_eq!(kind(Cosocket::new().set_keepalive(None, None)), ErrorKind::Closed);
        let (socket, _peer) = backend.pair();
        socket.close().unwrap();
        let error = socket.set_keepalive(None, None).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Closed, "closed"));
        let (socket, peer) = backend.pair();
        drop(peer);
        assert_eq!(kind(socket.receive_any(1)), ErrorKind::Closed);
        assert_eq!(kind(socket.set_keepalive(None, None)), ErrorKind::Closed);
        // (4) Unread: it stays open, and what is unread stays. Section 2, item 116.
        let (socket, mut peer) = backend.pair();
        peer.write_all(b"OK\r\n").unwrap();
        assert_eq!(socket.receive_exact(1).unwrap(), b"O");
        let error = socket.set_keepalive(None, None).unwrap_err();
        assert_eq!(error.to_string(), "unread data in buffer");
        assert_eq!(socket.receive_any(16).unwrap(), b"K\r\n");
        are_connected(&socket, &mut peer);
        // (6) It was made by nobody who gave it a key.
        let socket = Cosocket::from(socket_util::pair().0);
        let error = socket.set_keepalive(None, None).unwrap_err();
        assert_eq!(error.to_string(), "key not found");
        assert!(socket.is_alive().is_ok());
        // (7) Unread in the kernel, or ended there: it is closed. Section 2, item 115.
        let (socket, mut peer) = backend.pair();
        peer.write_all(b"x").unwrap();
        let error = socket.set_keepalive(None, None).unwrap_err();
        assert_eq!(error.to_string(), "connection in dubious state");
        assert_eq!(kind(socket.send(b"x")), ErrorKind::Closed);
        sees_the_end(&mut peer);
    });
}

/// Section 2, item 38: a server that ends the connection after its third answer. That is noticed
/// when it is parked, at the latest, and it is closed then.
#[test]
fn one_whose_peer_has_left_is_closed() {
    everywhere(|| {
        let backend = Backend::new();
        let socket = Cosocket::new();
        let mut peer = None;
        for cycle in 1..=3 {
            socket.connect(backend.address).unwrap();
            assert_eq!(socket.reused_times().unwrap(), cycle - 1);
            let mut server = peer.take().unwrap_or_else(|| backend.peer());
            socket.send(b"GET /hi HTTP/1.1\r\n\r\n").unwrap();
            server.read_exact(&mut [0; 20]).unwrap();
            server.write_all(b"HTTP/1.1 200 OK\r\n\r\nHello\n").unwrap();
            peer = (cycle < 3).then_some(server);
            assert_eq!(socket.receive_line().unwrap(), b"HTTP/1.1 200 OK");
            assert_eq!(socket.receive_any(4096).unwrap(), b"\r\nHello\n");
            if cycle < 3 {
                park(&socket);
            }
        }
        until(|| !socket.is_alive().unwrap());
        let error = socket.set_keepalive(None, None).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Closed, "closed"));
        assert_eq!(kind(socket.close()), ErrorKind::Closed);
        assert_eq!(backend.metrics(), PoolMetrics::default());
    });
}

/// KA-2 (7): what follows a reply is seen, though the read of the reply found no more and nobody has
/// waited since.
#[test]
fn what_comes_right_after_a_reply_is_seen() {
    everywhere(|| {
        let backend = Backend::new();
        for round in 0..10 {
            // An end that comes with the reply, or a reply longer than what is read at first.
            let (socket, mut peer) = backend.pair();
            let reply = vec![b'x'; if round % 2 == 0 { 4 } else { 3000 }];
            peer.write_all(&reply).unwrap();
            peer.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(socket.receive_exact(reply.len()).unwrap(), reply);
            assert_eq!(kind(socket.set_keepalive(None, None)), ErrorKind::Closed);
            // One that comes after it; and more data.
            let (socket, mut peer) = backend.pair();
            are_connected(&socket, &mut peer);
            peer.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(kind(socket.set_keepalive(None, None)), ErrorKind::Closed);
            let (socket, mut peer) = backend.pair();
            are_connected(&socket, &mut peer);
            peer.write_all(b"x").unwrap();
            assert_eq!(kind(socket.set_keepalive(None, None)), ErrorKind::Dubious);
        }
        assert_eq!(backend.metrics(), PoolMetrics::default());
    });
}

/// KA-6: who parks a connection and takes one himself knows what its peer has done meanwhile.
#[test]
fn what_comes_between_parking_and_taking_is_seen() {
    everywhere(|| {
        let backend = Backend::new();
        for _ in 0..10 {
            let (socket, mut peer) = backend.pair();
            are_connected(&socket, &mut peer);
            park(&socket);
            peer.write_all(b"late").unwrap();
            let next = backend.connect();
            assert_eq!(next.reused_times().unwrap(), 0);
            drop(backend.peer());
        }
        // Taken by another, who has waited since.
        for _ in 0..10 {
            let (socket, mut peer) = backend.pair();
            are_connected(&socket, &mut peer);
            park(&socket);
            peer.write_all(b"late").unwrap();
            thread::sleep(Duration::from_millis(1));
            let address = backend.address;
            let next = thread::spawn(move || cosocket::connect(address).unwrap().reused_times());
            assert_eq!(next.join().unwrap().unwrap(), 0);
            drop(backend.peer());
        }
    });
}

/// KA-2 (3), DUP-2, CON-4.
#[test]
fn one_in_use_is_not_parked() {
    cosocket::run(|| {
        let backend = Backend::new();
        let (socket, mut peer) = backend.pair();
        let socket = Arc::new(socket);
        let reader = {
            let socket = Arc::clone(&socket);
            spawn_waiting(move || socket.receive_any(16).unwrap())
        };
        assert_eq!(kind(socket.set_keepalive(None, None)), ErrorKind::BusyReading);
        peer.write_all(b"pong").unwrap();
        assert_eq!(reader.join().unwrap(), b"pong");
        let writer = {
            let socket = Arc::clone(&socket);
            spawn_waiting(move || socket.send(vec![0_u8; 8 << 20]).is_ok())
        };
        assert_eq!(kind(socket.set_keepalive(None, None)), ErrorKind::BusyWriting);
        drop(peer);
        assert!(!writer.join().unwrap());
        // TMO-6: a send that failed is the end of the write half.
        assert_eq!(kind(socket.set_keepalive(None, None)), ErrorKind::Closed);
    });
}

/// TMO-5: a late reply must not be taken for another's.
#[test]
fn one_that_timed_out_in_the_middle_of_a_reply_is_suspect() {
    everywhere(|| {
        let backend = Backend::new();
        let (socket, mut peer) = backend.pair();
        let minute = Duration::from_secs(60);
        socket.set_timeouts(minute, minute, Duration::from_millis(2)).unwrap();
        socket.send(b"ping").unwrap();
        assert_eq!(kind(socket.receive_any(16)), ErrorKind::Timeout);
        let error = socket.set_keepalive(None, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Suspect);
        // It is still of use to who knows better.
        socket.set_timeout(minute).unwrap();
        let mut buffer = [0; 4];
        peer.read_exact(&mut buffer).unwrap();
        peer.write_all(b"pong").unwrap();
        assert_eq!(socket.receive_any(16).unwrap(), b"pong");
        assert_eq!(kind(socket.set_keepalive(None, None)), ErrorKind::Suspect);
        socket.clear_suspect().unwrap();
        park(&socket);
        let again = backend.connect();
        assert_eq!(again.reused_times().unwrap(), 1);
        assert!(!again.is_suspect().unwrap());
    });
}

/// KA-4; section 2, items of file 068, tests 50 and 51.
#[test]
fn what_was_made_before_the_pool_is_counted_once_it_is_parked() {
    everywhere(|| {
        let backend = Backend::new();
        let early: Vec<_> = (0..3).map(|_| backend.connect()).collect();
        assert_eq!(backend.metrics(), PoolMetrics::default());
        let limited = ConnectOptions { pool_size: Some(2), backlog: Some(0), ..Default::default() };
        let counted = backend.connect_with(&limited);
        assert_eq!(backend.metrics().in_use, 1);
        // Closing one that was never counted takes nothing away.
        early[0].close().unwrap();
        assert_eq!(backend.metrics().in_use, 1);
        park(&early[1]);
        let metrics = backend.metrics();
        assert_eq!((metrics.in_use, metrics.idle, metrics.adopted), (1, 1, 1));
        // Parked beside it, and one more, which makes room for itself.
        park(&counted);
        park(&early[2]);
        let metrics = backend.metrics();
        assert_eq!((metrics.in_use, metrics.idle, metrics.evicted), (0, 2, 1));
        let (a, b) = (backend.connect(), backend.connect());
        let full = Cosocket::new().connect(backend.address);
        assert_eq!(full.unwrap_err().to_string(), "too many waiting connect operations");
        a.close().unwrap();
        b.close().unwrap();
        assert_eq!(backend.metrics(), PoolMetrics::default());
    });
}

/// KA-5; section 2, item 88.
#[test]
fn an_idle_connection_expires() {
    everywhere(|| {
        let backend = Backend::new();
        let (brief, mut at_brief) = backend.pair();
        let (eternal, mut at_eternal) = backend.pair();
        let before = std::time::Instant::now();
        brief.set_keepalive(Some(Duration::from_millis(30)), None).unwrap();
        eternal.set_keepalive(Some(Duration::ZERO), None).unwrap();
        sees_the_end(&mut at_brief);
        assert!(before.elapsed() >= Duration::from_millis(30), "too early");
        until(|| backend.metrics().expired == 1);
        let metrics = backend.metrics();
        assert_eq!((metrics.idle, metrics.stale), (1, 0));
        are_connected(&backend.connect(), &mut at_eternal);
    });
}

/// KA-5 without a pool left: it is forgotten, and its place is free.
#[test]
fn the_last_one_to_expire_ends_the_pool() {
    everywhere(|| {
        let backend = Backend::new();
        let (socket, mut peer) = backend.pair();
        socket.set_keepalive(Some(Duration::from_millis(2)), None).unwrap();
        sees_the_end(&mut peer);
        until(|| backend.metrics() == PoolMetrics::default());
    });
}

/// KA-6: both before it is watched, and after.
#[test]
fn an_idle_connection_whose_peer_speaks_or_leaves_is_closed() {
    everywhere(|| {
        for settled in [false, true] {
            let backend = Backend::new();
            let pairs: Vec<_> = (0..3).map(|_| backend.pair()).collect();
            let mut peers = Vec::new();
            for (socket, peer) in pairs {
                park(&socket);
                peers.push(peer);
            }
            if settled {
                // Long enough to be watched; if it is not, the test is as the other one.
                thread::sleep(Duration::from_millis(25));
            }
            let mut speaks = peers.remove(1);
            speaks.write_all(b"x").unwrap();
            let quiet = peers.remove(0);
            drop(peers);
            sees_the_end(&mut speaks);
            until(|| backend.metrics().stale == 2);
            let metrics = backend.metrics();
            assert_eq!((metrics.idle, metrics.closed_idle()), (1, 2));
            are_connected(&backend.connect(), &mut { quiet });
        }
    });
}

/// KA-6: what nobody has noticed is noticed when it is taken.
#[test]
fn a_dead_connection_is_not_handed_out() {
    everywhere(|| {
        let backend = Backend::new();
        for _ in 0..20 {
            let (socket, peer) = backend.pair();
            park(&socket);
            let spy = backend.connect();
            assert_eq!(spy.reused_times().unwrap(), 1);
            drop(peer);
            until(|| !spy.is_alive().unwrap());
            // Dead as it is, it is not taken back.
            assert_eq!(kind(spy.set_keepalive(None, None)), ErrorKind::Closed);
        }
        let (one, at_one) = backend.pair();
        let (other, mut at_other) = backend.pair();
        park(&other);
        park(&one);
        drop(at_one);
        until(|| {
            let socket = backend.connect();
            let is_other = socket.reused_times().unwrap() == 1 && socket.is_alive().unwrap();
            if is_other {
                are_connected(&socket, &mut at_other);
            }
            is_other
        });
    });
}

/// KA-7; section 2, item 85.
#[test]
fn reuse_is_counted_by_the_connection() {
    everywhere(|| {
        let backend = Backend::new();
        let socket = Cosocket::new();
        for count in 0..4 {
            socket.connect(backend.address).unwrap();
            assert_eq!(socket.reused_times().unwrap(), count);
            park(&socket);
        }
        assert_eq!(kind(socket.reused_times()), ErrorKind::Closed);
    });
}

/// KA-8: the limit is that of the runtime, whichever worker asks.
#[test]
fn a_limit_means_the_whole_runtime() {
    let runtime = cosocket::Builder::new().workers(3).build().unwrap();
    let backend = runtime.run(Backend::new);
    let address = backend.address;
    let all = Arc::new(Mutex::new(Vec::new()));
    let coroutines = runtime.spawn_on_each(|_| {
        let held = Arc::clone(&all);
        move || {
            let one = ConnectOptions { pool_size: Some(2), backlog: Some(0), ..Default::default() };
            let socket = Cosocket::new();
            let result = socket.connect_with(address, &one);
            held.lock().unwrap().push(socket);
            result
        }
    });
    let results: Vec<_> = coroutines.into_iter().map(|each| each.join().unwrap()).collect();
    let refused = results.into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].kind(), ErrorKind::TooManyWaiting);
    let totals = runtime.pool_totals();
    assert_eq!((totals.in_use, totals.refused), (2, 1));
}

/// A connection parked on one worker is taken on another, and works there: waits and all.
#[test]
fn a_connection_moves_between_workers() {
    let runtime = cosocket::Builder::new().workers(3).build().unwrap();
    let backend = Arc::new(runtime.run(Backend::new));
    let turn = Arc::new(AtomicUsize::new(0));
    let echo = {
        let backend = Arc::clone(&backend);
        runtime.spawn(move || {
            let mut peer = backend.peer();
            let mut buffer = [0; 4];
            while peer.read_exact(&mut buffer).is_ok() {
                thread::yield_now();
                peer.write_all(&buffer).unwrap();
            }
        })
    };
    let coroutines = runtime.spawn_on_each(|worker| {
        let (address, turn) = (backend.address, Arc::clone(&turn));
        move || {
            for round in 0..10 {
                until(|| turn.load(Ordering::SeqCst) == round * 3 + worker);
                let socket = cosocket::connect(address).unwrap();
                assert_eq!(socket.reused_times().unwrap(), (round * 3 + worker) as u64);
                socket.send(b"ping").unwrap();
                assert_eq!(socket.receive_any(16).unwrap(), b"ping");
                park(&socket);
                turn.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    coroutines.into_iter().for_each(|each| each.join().unwrap());
    let totals = runtime.pool_totals();
    assert_eq!((totals.hits, totals.adopted, totals.idle), (29, 1, 1));
    drop(runtime);
    assert!(echo.join().is_ok() || totals.idle == 1);
}

/// A connection goes back to the pool that it has its place in, whichever runtime parks it; one
/// without a place goes to the pool of who parks it. Plain threads use the global runtime's.
#[test]
fn pools_are_the_runtimes() {
    let backend = Backend::new();
    let (one, other) = (runtime(), runtime());
    let limited = ConnectOptions { pool_size: Some(1), backlog: Some(0), ..Default::default() };
    let socket = one.run(|| backend.connect_with(&limited));
    other.run(|| park(&socket));
    assert_eq!((one.pool_totals().idle, other.pool_totals().parked), (1, 0));

    let without_a_place = other.run(|| backend.connect());
    park(&without_a_place);
    assert_eq!(backend.metrics().idle, 1);
    other.run(|| assert_eq!(backend.connect().reused_times().unwrap(), 0));
    assert_eq!(backend.connect().reused_times().unwrap(), 1);

    // Its place is gone with its runtime: then here.
    let orphan = one.run(|| backend.connect_with(&limited));
    assert_eq!(orphan.reused_times().unwrap(), 1);
    drop(one);
    park(&orphan);
    assert_eq!(backend.connect().reused_times().unwrap(), 2);
}

fn runtime() -> cosocket::Runtime {
    cosocket::Builder::new().build().unwrap()
}

/// KA-9; section 2, item 113.
#[test]
fn a_runtime_that_ends_closes_what_is_idle_and_what_is_parked_then() {
    let backend = Backend::new();
    let runtime = runtime();
    let idle = runtime.run(|| {
        let (socket, peer) = backend.pair();
        park(&socket);
        peer
    });
    let (parked, in_the_end) = std::sync::mpsc::channel();
    let address = backend.address;
    let late = runtime.run(|| {
        let waiting = Arc::new(AtomicUsize::new(0));
        let flag = Arc::clone(&waiting);
        cosocket::spawn(move || {
            let _late = ParkOnDrop { socket: open(address, "late"), parked };
            flag.store(1, Ordering::SeqCst);
            thread::park();
        });
        until(|| waiting.load(Ordering::SeqCst) == 1);
        backend.peer()
    });
    drop(runtime);
    in_the_end.recv().unwrap().unwrap();
    for mut peer in [idle, late] {
        sees_the_end(&mut peer);
    }
}

fn open(address: std::net::SocketAddr, pool: &str) -> Cosocket {
    let socket = Cosocket::new();
    socket.connect_with(address, &named(pool)).unwrap();
    socket
}

struct ParkOnDrop {
    socket: Cosocket,
    parked: std::sync::mpsc::Sender<Result<(), Error>>,
}

impl Drop for ParkOnDrop {
    fn drop(&mut self) {
        self.parked.send(self.socket.set_keepalive(None, None)).unwrap();
    }
}

/// KA-10.
#[test]
fn user_data_travels_with_the_connection() {
    everywhere(|| {
        let backend = Backend::new();
        let socket = backend.connect();
        socket.set_user_data_capacity(2).unwrap();
        assert!(socket.put_user_data("user", "alice".to_owned()).unwrap().is_none());
        assert!(socket.put_user_data("database", 3_u8).unwrap().is_none());
        assert_eq!(socket.user_data::<String>("user").unwrap().unwrap().as_str(), "alice");
        let (key, value) = socket.put_user_data("prepared", vec![1_u8]).unwrap().unwrap();
        assert_eq!((key.as_str(), *value.downcast::<u8>().unwrap()), ("database", 3));
        park(&socket);
        assert_eq!(kind(socket.user_data::<String>("user")), ErrorKind::Closed);
        let socket = backend.connect();
        assert_eq!(socket.user_data::<String>("user").unwrap().unwrap().as_str(), "alice");
        assert!(socket.user_data::<u8>("user").unwrap().is_none(), "of another type");
        assert!(backend.connect().user_data::<String>("user").unwrap().is_none());
    });
}

/// A wish: hooks on create, reuse and evict.
#[test]
fn hooks_see_connections_come_and_go() {
    everywhere(|| {
        let backend = Backend::new();
        let log = Arc::new(Mutex::new(Vec::new()));
        let note = |text: &'static str| {
            let log = Arc::clone(&log);
            move || log.lock().unwrap().push(text)
        };
        let (created, reused) = (note("created"), note("reused"));
        let evictions = Arc::clone(&log);
        let options = PoolOptions::new()
            .size(1)
            .on_create(move |socket| {
                created();
                assert_eq!(socket.reused_times()?, 0);
                socket.send(b"hello")?;
                Ok(())
            })
            .on_reuse(move |socket| {
                reused();
                let is_tired = socket.reused_times()? == 2;
                if is_tired { Err(std::io::Error::other("tired")) } else { Ok(()) }
            })
            .on_evict(move |evicted| {
                assert_eq!(evicted.reason, Eviction::Full);
                evictions.lock().unwrap().push("evicted");
            });
        let pool = Pool::new(&format!("hooks {}", backend.address), &options).unwrap();
        let socket = pool.connect(backend.address).unwrap();
        let mut buffer = [0; 5];
        backend.peer().read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"hello");
        drop(socket);

        let (socket, _first) = (pool.connect(backend.address).unwrap(), backend.peer());
        let (other, _second) = (pool.connect(backend.address).unwrap(), backend.peer());
        park(&socket);
        park(&other);
        let socket = pool.connect(backend.address).unwrap();
        park(&socket);
        // The one that is tired is refused, and a fresh one made.
        let socket = pool.connect(backend.address).unwrap();
        assert_eq!(socket.reused_times().unwrap(), 0);
        let expected = ["created", "created", "created", "evicted", "reused", "reused", "created"];
        assert_eq!(*log.lock().unwrap(), expected);
    });
}

/// A failing create hook fails the connect, and leaves no place behind.
#[test]
fn a_create_hook_that_fails_fails_the_connect() {
    everywhere(|| {
        let backend = Backend::new();
        let options = PoolOptions::new()
            .size(1)
            .backlog(0)
            .on_create(|_| Err(std::io::Error::other("not let in")));
        let pool = Pool::new(&format!("unwelcome {}", backend.address), &options).unwrap();
        for _ in 0..2 {
            let error = pool.connect(backend.address).unwrap_err();
            assert_eq!(error.to_string(), "not let in");
        }
        let metrics = pool.metrics();
        assert_eq!((metrics.opened, metrics.closed, metrics.in_use), (2, 2, 0));
    });
}

/// Wishes: connections opened ahead, and an age beyond which they are not used.
#[test]
fn a_pool_is_warmed_up_and_grows_old() {
    everywhere(|| {
        let backend = Backend::new();
        let age = Duration::from_millis(40);
        let options = PoolOptions::new().size(3).max_age(age, Duration::ZERO);
        let pool = Pool::new(&format!("warm {}", backend.address), &options).unwrap();
        assert_eq!(pool.warm_up(backend.address, 2).unwrap(), 2);
        assert_eq!(pool.warm_up(backend.address, 9).unwrap(), 1);
        let mut peers: Vec<_> = (0..3).map(|_| backend.peer()).collect();
        let socket = pool.connect(backend.address).unwrap();
        assert_eq!((pool.metrics().idle, pool.metrics().hits), (2, 1));
        sees_the_end(&mut peers[0]);
        until(|| pool.metrics().aged == 2);
        // It was busy meanwhile, and is too old to go back.
        thread::sleep(age);
        park(&socket);
        assert_eq!((pool.metrics().idle, pool.metrics().aged), (0, 2));
        assert_eq!(pool.connect(backend.address).unwrap().reused_times().unwrap(), 0);
    });
}

/// A handle's pool can be emptied, and remembers.
#[test]
fn a_pool_can_be_emptied() {
    everywhere(|| {
        let backend = Backend::new();
        let name = format!("empty {}", backend.address);
        let pool = Pool::new(&name, &PoolOptions::new()).unwrap();
        pool.warm_up(backend.address, 2).unwrap();
        let mut peers = [backend.peer(), backend.peer()];
        pool.close_idle();
        peers.iter_mut().for_each(sees_the_end);
        let metrics = pool.metrics();
        assert_eq!((metrics.idle, metrics.opened, metrics.evicted), (0, 2, 2));
    });
}

/// The coroutine that watches is there only while it is needed.
#[test]
fn the_watch_ends_when_there_is_nothing_to_watch() {
    let runtime = cosocket::Builder::new().workers(1).build().unwrap();
    let backend = runtime.run(Backend::new);
    let live_becomes = |count| {
        while runtime.metrics().live != count {
            std::thread::yield_now();
        }
    };
    for _ in 0..3 {
        let (socket, peer) = runtime.run(|| backend.pair());
        runtime.run(|| park(&socket));
        live_becomes(1);
        drop(peer);
        live_becomes(0);
        assert!(runtime.pools().is_empty());
    }
}
