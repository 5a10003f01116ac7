//! Pools with a backlog: who gets in, who waits, and that no path loses a place.

mod socket_util;
#[allow(unsafe_code)]
mod util;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cosocket::net::TcpListener;
use cosocket::{ConnectOptions, Cosocket, Error, ErrorKind, PoolMetrics, thread, time};
use socket_util::{closed_port, everywhere, spawn_waiting, until};

/// A place in a pool of `size`, whatever it is connected to.
fn limits(name: &str, size: usize, backlog: usize) -> ConnectOptions {
    let (pool, pool_size, backlog) = (Some(name.into()), Some(size), Some(backlog));
    // With the feature `tls` there is one field more.
    #[allow(clippy::needless_update)]
    ConnectOptions { pool, pool_size, backlog, ..ConnectOptions::default() }
}

/// A listener, and a name for a pool that no other test has.
fn backend() -> (TcpListener, SocketAddr, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address, format!("queue {address}"))
}

fn connect(address: SocketAddr, options: &ConnectOptions) -> Result<Cosocket, Error> {
    let socket = Cosocket::new();
    socket.connect_with(address, options)?;
    Ok(socket)
}

fn metrics(name: &str) -> PoolMetrics {
    cosocket::pools()
        .into_iter()
        .find_map(|(its, metrics)| (its == name).then_some(metrics))
        .unwrap_or_default()
}

fn until_queued(name: &str, queued: u64) {
    until(|| metrics(name).queued == queued);
}

/// One that lets nobody in: connects to it wait for ever.
struct BlackHole {
    listener: socket2::Socket,
    _connections: Vec<socket2::Socket>,
}

impl BlackHole {
    fn new() -> BlackHole {
        let stream = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = stream().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let fill = || {
            let socket = stream().unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        };
        BlackHole { _connections: (0..4).map(|_| fill()).collect(), listener }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap().as_socket().unwrap()
    }
}

/// CON-10; section 2, item 100.
#[test]
fn a_full_pool_without_a_queue_refuses() {
    everywhere(|| {
        let (_listener, address, name) = backend();
        let options = limits(&name, 2, 0);
        let (first, _second) = (connect(address, &options).unwrap(), connect(address, &options));
        let error = connect(address, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooManyWaiting);
        assert_eq!(error.to_string(), "too many waiting connect operations");
        first.set_keepalive(None, None).unwrap();
        let again = connect(address, &options).unwrap();
        assert_eq!(again.reused_times().unwrap(), 1);
        assert!(connect(address, &options).is_err());
        // Section 2, item 106: those who give no limits are bound by them, too.
        let plain = ConnectOptions { pool: Some(name.clone()), ..Default::default() };
        assert_eq!(connect(address, &plain).unwrap_err().kind(), ErrorKind::TooManyWaiting);
        assert_eq!(metrics(&name).refused, 3);
    });
}

/// CON-10: with a backlog and no size, the size is 30.
#[test]
fn the_size_is_30_unless_somebody_says() {
    everywhere(|| {
        let (_listener, address, name) = backend();
        let options = ConnectOptions { pool_size: None, ..limits(&name, 1, 0) };
        let held: Vec<_> = (0..30).map(|_| connect(address, &options).unwrap()).collect();
        assert!(connect(address, &options).is_err());
        drop(held);
        assert!(connect(address, &options).is_ok());
    });
}

/// CON-11; section 2, item 101: first come, first served, by a close or by a parked connection, and
/// the queue has an end.
#[test]
fn waiters_are_served_in_the_order_in_which_they_came() {
    cosocket::run(|| {
        for is_parked in [false, true] {
            let (_listener, address, name) = backend();
            let options = limits(&name, 1, 3);
            let give = move |socket: Cosocket| match is_parked {
                true => socket.set_keepalive(None, None).unwrap(),
                false => socket.close().unwrap(),
            };
            let holder = connect(address, &options).unwrap();
            let served = Arc::new(Mutex::new(Vec::new()));
            let waiters: Vec<_> = (0..3)
                .map(|number| {
                    let (served, options) = (Arc::clone(&served), options.clone());
                    let waiter = spawn_waiting(move || {
                        let socket = connect(address, &options).unwrap();
                        served.lock().unwrap().push((number, socket.reused_times().unwrap()));
                        give(socket);
                    });
                    until_queued(&name, number + 1);
                    waiter
                })
                .collect();
            assert_eq!(connect(address, &options).unwrap_err().kind(), ErrorKind::TooManyWaiting);
            give(holder);
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            let expected: Vec<_> =
                (0..3).map(|number| (number, if is_parked { number + 1 } else { 0 })).collect();
            assert_eq!(*served.lock().unwrap(), expected);
        }
    });
}

/// CON-10, the decision on barging: a connection that is parked while somebody waits is handed to
/// the one who waits; a newcomer cannot take it in between, even one that runs before.
#[test]
fn a_newcomer_does_not_overtake() {
    cosocket::run(|| {
        let (_listener, address, name) = backend();
        let options = limits(&name, 1, 1);
        let holder = connect(address, &options).unwrap();
        let waiter = {
            let options = options.clone();
            spawn_waiting(move || connect(address, &options).unwrap().reused_times().unwrap())
        };
        until_queued(&name, 1);
        holder.set_keepalive(None, None).unwrap();
        // On this worker nobody else has run since.
        assert_eq!(metrics(&name).idle, 0);
        // So it waits behind the other, who closes what it got.
        let newcomer = connect(address, &options).unwrap();
        assert_eq!(newcomer.reused_times().unwrap(), 0);
        assert_eq!(waiter.join().unwrap(), 1);
    });
}

/// CON-11, CON-12; section 2, items 107, 109: whatever a connect fails of, the next may go.
#[test]
fn each_failed_connect_starts_the_next() {
    cosocket::run(|| {
        let (_listener, address, name) = backend();
        let hole = BlackHole::new();
        let options = limits(&name, 1, 4);
        let holder = connect(address, &options).unwrap();
        let (refusing, mute) = (closed_port(), hole.address());
        let connect_to = |target: Target| {
            let options = options.clone();
            spawn_waiting(move || {
                let socket = Cosocket::new();
                let minute = Duration::from_secs(60);
                let result = match target {
                    Target::Address(address) => socket.connect_with(address, &options),
                    Target::NoHost => socket.connect_with(("no-such-host.invalid", 1), &options),
                    Target::Mute(address) => {
                        // The wait for the place has passed by then.
                        socket.set_timeouts(minute, minute, minute).unwrap();
                        time::timeout(Duration::from_millis(50), || {
                            socket.connect_with(address, &options)
                        })
                        .unwrap_or_else(|_| Err(ErrorKind::Timeout.into()))
                    }
                };
                result.map(|()| socket)
            })
        };
        enum Target {
            Address(SocketAddr),
            NoHost,
            Mute(SocketAddr),
        }
        let refused = connect_to(Target::Address(refusing));
        until_queued(&name, 1);
        let unknown = connect_to(Target::NoHost);
        until_queued(&name, 2);
        let lucky = connect_to(Target::Address(address));
        until_queued(&name, 3);
        holder.close().unwrap();
        assert_eq!(refused.join().unwrap().unwrap_err().to_string(), "connection refused");
        assert_eq!(unknown.join().unwrap().unwrap_err().kind(), ErrorKind::Resolve);
        let lucky = lucky.join().unwrap().unwrap();
        assert_eq!((metrics(&name).failed, metrics(&name).in_use), (2, 1));
        lucky.close().unwrap();
        // CON-12: and by a timeout.
        let timed_out = connect_to(Target::Mute(mute));
        until(|| metrics(&name).connecting == 1);
        let next = connect_to(Target::Address(address));
        until_queued(&name, 1);
        assert_eq!(timed_out.join().unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        assert!(next.join().unwrap().is_ok());
    });
}

/// CON-12: with the connect timeout itself.
#[test]
fn a_connect_that_times_out_leaves_no_place_taken() {
    everywhere(|| {
        let (_listener, address, name) = backend();
        let hole = BlackHole::new();
        let options = limits(&name, 1, 0);
        let socket = Cosocket::new();
        socket.set_timeout(Duration::from_millis(10)).unwrap();
        let error = socket.connect_with(hole.address(), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(metrics(&name), PoolMetrics::default());
        socket.connect_with(address, &options).unwrap();
    });
}

/// A host that is none is refused before it takes a place or waits for one. (OpenResty, section 2,
/// item 104, finds out when its turn has come.)
#[test]
fn a_target_that_is_none_does_not_wait() {
    everywhere(|| {
        let (_listener, address, name) = backend();
        let options = limits(&name, 1, 1);
        let _holder = connect(address, &options).unwrap();
        let error = Cosocket::new().connect_with(("", 80), &options).unwrap_err();
        assert_eq!(error.to_string(), "failed to parse host name \"\": no host");
        assert_eq!((metrics(&name).queued, metrics(&name).waited), (0, 0));
    });
}

/// CON-11; section 2, item 107: a wait has the connect timeout to itself.
#[test]
fn who_waits_too_long_leaves_the_queue() {
    everywhere(|| {
        let (_listener, address, name) = backend();
        let options = limits(&name, 1, 1);
        let holder = connect(address, &options).unwrap();
        let socket = Cosocket::new();
        socket.set_timeout(Duration::from_millis(10)).unwrap();
        let before = Instant::now();
        let error = socket.connect_with(address, &options).unwrap_err();
        assert!(before.elapsed() >= Duration::from_millis(10), "too early");
        assert_eq!(error.to_string(), "timeout");
        let source = std::error::Error::source(&error).unwrap().to_string();
        let expected = format!("queued connect timed out, when trying to connect to {name}");
        assert_eq!(source, expected);
        assert_eq!((metrics(&name).queued, metrics(&name).timed_out), (0, 1));
        // It is as any socket that failed to connect, and the pool as if nobody had waited.
        assert_eq!(socket.close().unwrap_err().kind(), ErrorKind::Closed);
        holder.set_keepalive(None, None).unwrap();
        socket.connect_with(address, &options).unwrap();
        assert_eq!(socket.reused_times().unwrap(), 1);
    });
}

/// Section 2, item 103: each who waits has its own host in mind, however long its name is.
#[test]
fn who_has_waited_connects_to_its_own_host() {
    cosocket::run(|| {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let name = format!("hosts {port}");
        let hosts = ["127.0.0.1", "127.100.200.100", "localhost", "127.0.0.20", "127.1.1.1"];
        let options = limits(&name, 1, hosts.len());
        let holder = connect(([127, 0, 0, 1], port).into(), &options).unwrap();
        let waiters = hosts.map(|host| {
            let queued = metrics(&name).queued;
            let options = options.clone();
            let waiter = spawn_waiting(move || {
                let socket = Cosocket::new();
                socket.connect_with((host, port), &options).unwrap();
                socket.peer_addr().unwrap().to_string()
            });
            until_queued(&name, queued + 1);
            waiter
        });
        holder.close().unwrap();
        for (host, waiter) in hosts.into_iter().zip(waiters) {
            let ip = if host == "localhost" { "127.0.0.1" } else { host };
            assert_eq!(waiter.join().unwrap(), format!("{ip}:{port}"));
        }
    });
}

/// A limit around the connect cuts the wait for a place, too.
#[test]
fn a_limit_around_the_connect_ends_the_wait() {
    everywhere(|| {
        let (_listener, address, name) = backend();
        let options = limits(&name, 1, 1);
        let _holder = connect(address, &options).unwrap();
        let result = time::timeout(Duration::from_millis(5), || connect(address, &options));
        assert_eq!(result.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!((metrics(&name).queued, metrics(&name).timed_out), (0, 0));
    });
}

/// CON-4: while it waits for its turn, a socket is closed for all but another connect; and `close`
/// is not among those, for ours wakes it.
#[test]
fn a_socket_that_waits_for_its_turn_has_no_connection() {
    cosocket::run(|| {
        let (_listener, address, name) = backend();
        let options = limits(&name, 1, 1);
        let _holder = connect(address, &options).unwrap();
        let socket = Arc::new(Cosocket::new());
        let waiter = {
            let (socket, options) = (Arc::clone(&socket), options.clone());
            spawn_waiting(move || socket.connect_with(address, &options).unwrap_err().kind())
        };
        until_queued(&name, 1);
        assert_eq!(socket.send(b"x").unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(socket.set_keepalive(None, None).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(socket.reused_times().unwrap_err().kind(), ErrorKind::Closed);
        let error = socket.connect_with(address, &options).unwrap_err();
        assert_eq!(error.to_string(), "socket busy connecting");
        socket.close().unwrap();
        assert_eq!(waiter.join().unwrap(), ErrorKind::Cancelled);
        assert_eq!(metrics(&name).queued, 0);
    });
}

/// The same on a plain thread, which nobody can wake from such a wait but the clock.
#[test]
fn a_thread_that_waits_for_its_turn_hears_of_a_close() {
    let (_listener, address, name) = backend();
    let options = limits(&name, 1, 1);
    let _holder = connect(address, &options).unwrap();
    let socket = Cosocket::new();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| socket.connect_with(address, &options).unwrap_err().kind());
        until_queued(&name, 1);
        socket.close().unwrap();
        assert_eq!(waiter.join().unwrap(), ErrorKind::Cancelled);
    });
    assert_eq!(metrics(&name).queued, 0);
}

/// DUP-6, CON-11; section 2, items 110 and 112: a coroutine killed in each phase leaves its place,
/// and nobody wakes a dead one.
#[test]
fn a_coroutine_cancelled_in_any_phase_leaves_nothing() {
    cosocket::run(|| {
        let (listener, address, name) = backend();
        let hole = BlackHole::new();
        let options = limits(&name, 1, 2);
        // Queued.
        let holder = connect(address, &options).unwrap();
        let wait = || {
            let options = options.clone();
            spawn_waiting(move || connect(address, &options))
        };
        let (first, second) = (wait(), wait());
        until_queued(&name, 2);
        first.cancel();
        assert!(first.join().is_err());
        assert_eq!(metrics(&name).queued, 1);
        holder.close().unwrap();
        let socket = second.join().unwrap().unwrap();
        socket.close().unwrap();
        // Connecting.
        let mute = hole.address();
        let connecting = {
            let options = options.clone();
            spawn_waiting(move || connect(mute, &options))
        };
        until(|| metrics(&name).connecting == 1);
        let next = wait();
        until_queued(&name, 1);
        connecting.cancel();
        assert!(connecting.join().is_err());
        let socket = Arc::new(next.join().unwrap().unwrap());
        // Receiving: the whole connection is closed, and its place is free at once.
        let reader = {
            let socket = Arc::clone(&socket);
            spawn_waiting(move || socket.receive_any(1))
        };
        reader.cancel();
        assert!(reader.join().is_err());
        assert_eq!(metrics(&name), PoolMetrics::default());
        assert_eq!(socket.set_keepalive(None, None).unwrap_err().kind(), ErrorKind::Closed);
        // Looking a name up, with a place.
        let looking = {
            let options = options.clone();
            spawn_waiting(move || {
                Cosocket::new().connect_with(("no-such-host.invalid", 1), &options)
            })
        };
        looking.cancel();
        drop(looking.join());
        assert_eq!(metrics(&name), PoolMetrics::default());
        drop(listener);
    });
}

/// A grant that comes together with the cancel of its receiver goes on to the next.
#[test]
fn a_place_granted_to_one_who_is_cancelled_is_passed_on() {
    cosocket::run(|| {
        for is_parked in [false, true] {
            let (_listener, address, name) = backend();
            let options = limits(&name, 1, 2);
            let holder = connect(address, &options).unwrap();
            let doomed = {
                let options = options.clone();
                spawn_waiting(move || {
                    let _socket = connect(address, &options)?;
                    // Whoever was cancelled finds out here.
                    thread::park();
                    Ok::<_, Error>(())
                })
            };
            until_queued(&name, 1);
            let next = {
                let options = options.clone();
                spawn_waiting(move || connect(address, &options))
            };
            until_queued(&name, 2);
            match is_parked {
                true => holder.set_keepalive(None, None).unwrap(),
                false => holder.close().unwrap(),
            }
            doomed.cancel();
            assert!(doomed.join().is_err());
            assert_eq!(next.join().unwrap().unwrap().reused_times().unwrap(), 0);
        }
    });
}

/// KA-11, CON-12: a random workload on all workers, with everything going wrong that can; then the
/// counters add up and there is no place and no descriptor missing.
#[test]
fn after_a_random_workload_the_counters_add_up() {
    const SIZE: usize = 4;
    let rounds = if util::is_quick() { 40 } else { 250 };
    let runtime = cosocket::Builder::new().build().unwrap();
    let (listener, address, name) = backend();
    let refusing = closed_port();
    let server = std::thread::spawn(move || serve(&listener));
    let (in_use, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut random = util::Random::new();
    let mut clients = Vec::new();
    for _ in 0..12 {
        let options = limits(&name, SIZE, 12);
        let (mut random, in_use, failed) =
            (random.split(), Arc::clone(&in_use), Arc::clone(&failed));
        clients.push(runtime.spawn(move || {
            for _ in 0..rounds {
                let socket = Cosocket::new();
                if random.one_in(10) {
                    socket.set_timeout(Duration::from_micros(random.below(300))).unwrap();
                }
                let target = if random.one_in(8) { refusing } else { address };
                if socket.connect_with(target, &options).is_err() {
                    failed.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                assert!(in_use.fetch_add(1, Ordering::SeqCst) < SIZE);
                socket.set_timeout(Duration::ZERO).unwrap();
                // The server hangs up now and then, and sometimes sends what nobody asked for.
                let question = [b'a' + random.below(20) as u8];
                let is_fine = socket.send(question).is_ok()
                    && socket.receive_any(1).is_ok_and(|answer| answer == question);
                if random.one_in(5) {
                    thread::yield_now();
                }
                in_use.fetch_sub(1, Ordering::SeqCst);
                if is_fine && !random.one_in(6) {
                    let idle = Duration::from_millis(random.below(20));
                    let _ = socket.set_keepalive(Some(idle), None);
                }
            }
        }));
    }
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(failed.load(Ordering::Relaxed) > 0);
    let all = at_rest(&runtime);
    assert_eq!((all.in_use, all.connecting, all.queued), (0, 0, 0), "{all:?}");
    assert!(all.hits > 0 && all.waited > 0, "{all:?}");
    adds_up(&all);
    drop(runtime);
    // The stop of the server: one connection that says so.
    let mut last = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut last, b"!").unwrap();
    server.join().unwrap();
}

/// The totals, read when nothing expires.
fn at_rest(runtime: &cosocket::Runtime) -> PoolMetrics {
    loop {
        let totals = runtime.pool_totals();
        std::thread::sleep(Duration::from_millis(5));
        if runtime.pool_totals() == totals {
            return totals;
        }
    }
}

fn adds_up(all: &PoolMetrics) {
    assert_eq!(all.misses, all.opened + all.failed + all.connecting, "{all:?}");
    assert_eq!(all.parked, all.hits + all.idle + all.closed_idle(), "{all:?}");
    let gone = all.closed + all.closed_idle();
    assert_eq!(all.opened + all.adopted, all.in_use + all.idle + gone, "{all:?}");
}

/// Echoes byte by byte. Hangs up before some answers, after others, and adds a byte to some.
fn serve(listener: &TcpListener) {
    use std::io::{Read, Write};
    let is_over = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        while is_over.load(Ordering::SeqCst) == 0 {
            let (mut peer, _) = listener.accept().unwrap();
            let is_over = &is_over;
            let address = listener.local_addr().unwrap();
            scope.spawn(move || {
                let mut byte = [0];
                while matches!(peer.read(&mut byte), Ok(1)) {
                    let sent = match byte[0] {
                        b'!' => {
                            is_over.store(1, Ordering::SeqCst);
                            drop(std::net::TcpStream::connect(address));
                            return;
                        }
                        b'b' => return,
                        b'c' => return drop(peer.write_all(&byte)),
                        b'd' => peer.write_all(&byte).and_then(|()| peer.write_all(b"x")),
                        _ => peer.write_all(&byte),
                    };
                    if sent.is_err() {
                        return;
                    }
                }
            });
        }
    });
}
