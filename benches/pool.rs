//! What it costs to take a connection out of a keepalive pool and to put it back.
//!
//! `take and put` is one `connect` that finds an idle connection, and one `set_keepalive`. Beside it
//! are its parts: a list behind a mutex, which looks at nothing; the same, with the two looks for
//! what the peer may have sent meanwhile (`recv` of one byte, peeking), of which the pool makes
//! one each way; and a connection made and closed, which is what the pool saves. `two workers` has
//! two threads do that with the same pool, each with a connection of its own. `through the queue`
//! has two coroutines that want the only connection there may be: each time it goes from hand to
//! hand.
//!
//! `cargo bench --bench pool`

#![allow(missing_docs)]

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{ConnectOptions, Cosocket};
use criterion::{Criterion, criterion_group, criterion_main};
use socket2::SockRef;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = take_and_put, two_workers, through_the_queue
}
criterion_main!(benches);

fn take_and_put(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool, take and put");
    let runtime = runtime(1);
    let server = Server::start();
    let address = server.address;
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| runtime.run(|| cycle(address, rounds)));
    });
    group.bench_function("a list behind a mutex", |bencher| {
        let list = Mutex::new(vec![TcpStream::connect(address).unwrap()]);
        bencher.iter(|| {
            let stream = list.lock().unwrap().pop().unwrap();
            list.lock().unwrap().push(stream);
        });
    });
    group.bench_function("a list behind a mutex, and two looks", |bencher| {
        let list = Mutex::new(vec![TcpStream::connect(address).unwrap()]);
        bencher.iter(|| {
            let stream = list.lock().unwrap().pop().unwrap();
            look(&stream);
            look(&stream);
            list.lock().unwrap().push(stream);
        });
    });
    group.bench_function("a fresh connection", |bencher| {
        bencher.iter_custom(|rounds| {
            runtime.run(|| {
                let start = Instant::now();
                for _ in 0..rounds {
                    let stream = TcpStream::connect(address).unwrap();
                    // By a reset: else ports run out.
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
                start.elapsed()
            })
        });
    });
    group.finish();
}

fn two_workers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool, two workers");
    let runtime = runtime(2);
    let server = Server::start();
    let address = server.address;
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| {
            let both = runtime.spawn_on_each(|_| move || cycle(address, rounds));
            both.into_iter().map(|one| one.join().unwrap()).max().unwrap()
        });
    });
    group.bench_function("a list behind a mutex, and two looks", |bencher| {
        let list = Mutex::new((0..2).map(|_| TcpStream::connect(address).unwrap()).collect());
        bencher.iter_custom(|rounds| on_two_threads(|| cycle_by_hand(&list, rounds)));
    });
    group.finish();
}

fn through_the_queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool, through the queue");
    let runtime = runtime(1);
    let server = Server::start();
    let address = server.address;
    let options = ConnectOptions { pool_size: Some(1), backlog: Some(1), ..Default::default() };
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| {
            let client = || {
                let options = options.clone();
                move || {
                    let socket = Cosocket::new();
                    for _ in 0..rounds.div_ceil(2) {
                        socket.connect_with(address, &options).unwrap();
                        // The other one comes and waits.
                        cosocket::thread::yield_now();
                        socket.set_keepalive(None, None).unwrap();
                    }
                }
            };
            runtime.run(|| {
                let start = Instant::now();
                let both = [cosocket::spawn(client()), cosocket::spawn(client())];
                both.into_iter().for_each(|one| one.join().unwrap());
                start.elapsed()
            })
        });
    });
    group.finish();
}

/// Takes and puts.
fn cycle(address: SocketAddr, rounds: u64) -> Duration {
    let socket = Cosocket::new();
    socket.connect(address).unwrap();
    socket.set_keepalive(None, None).unwrap();
    let start = Instant::now();
    for _ in 0..rounds {
        socket.connect(address).unwrap();
        socket.set_keepalive(None, None).unwrap();
    }
    start.elapsed()
}

fn cycle_by_hand(list: &Mutex<Vec<TcpStream>>, rounds: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..rounds {
        let stream = list.lock().unwrap().pop().unwrap();
        look(&stream);
        look(&stream);
        list.lock().unwrap().push(stream);
    }
    start.elapsed()
}

fn look(stream: &TcpStream) {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let result = SockRef::from(stream).recv_with_flags(&mut [MaybeUninit::uninit()], flags);
    assert!(result.is_err(), "nobody sends anything");
}

fn on_two_threads(f: impl Fn() -> Duration + Sync) -> Duration {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| {
            scope.spawn(|| {
                barrier.wait();
                f()
            })
        });
        both.into_iter().map(|one| one.join().unwrap()).max().unwrap()
    })
}

fn runtime(workers: usize) -> cosocket::Runtime {
    cosocket::Builder::new().workers(workers).build().expect("a runtime")
}

/// Accepts, and closes what its clients have closed.
struct Server {
    address: SocketAddr,
    _runtime: cosocket::Runtime,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = runtime(1);
        runtime.spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                cosocket::spawn(move || std::io::Read::read(&mut stream, &mut [0]));
            }
        });
        Server { address, _runtime: runtime }
    }
}
