//! What it costs to accept a connection and start its handler, beside tokio.
//!
//! Plain threads connect, and reset what they have made, for else ports run out; they stay no more
//! than a few connections ahead of the server. So the time is that of both ends, and what counts is
//! the ratio. With two workers there are two clients; tokio has two runtimes of one thread each for
//! that, with a listener each (`SO_REUSEPORT`).
//!
//! `cargo bench --bench accept`

#![allow(missing_docs)]

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cosocket::net::{TcpBuilder, TcpListener};
use cosocket::server::{Listeners, RunningServer, Server};
use cosocket::{Builder, Runtime};
use criterion::{Criterion, criterion_group, criterion_main};
use socket2::{Domain, SockRef, Socket, Type};

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = one_worker, two_workers
}
criterion_main!(benches);

/// How far a client may be ahead: less than the backlog, or the kernel turns it away for a second.
const AHEAD_MAX: u64 = 32;

/// How many connections the handlers have seen.
type Count = Arc<AtomicU64>;

fn one_worker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("accept, one worker");
    let count = Count::default();
    let address = tokio_server(&count, listen(false));
    group.bench_function("tokio", |b| b.iter_custom(|n| connect(address, &count, n, 1)));
    let runtime = runtime(1);
    let address = listener_loop(&runtime, &count);
    group.bench_function("net::TcpListener", |b| {
        b.iter_custom(|n| connect(address, &count, n, 1));
    });
    let (_server, address) = server(&runtime, &count, Listeners::Shared);
    group.bench_function("Server", |b| b.iter_custom(|n| connect(address, &count, n, 1)));
    group.finish();
}

fn two_workers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("accept, two workers");
    let count = Count::default();
    let first = listen(true);
    let address = first.local_addr().unwrap();
    tokio_server(&count, first);
    tokio_server(&count, listen_at(address, true));
    group.bench_function("tokio", |b| b.iter_custom(|n| connect(address, &count, n, 2)));
    let runtime = runtime(2);
    for listeners in [Listeners::Shared, Listeners::PerWorker] {
        let (_server, address) = server(&runtime, &count, listeners);
        group.bench_function(format!("Server, {listeners:?}"), |b| {
            b.iter_custom(|n| connect(address, &count, n, 2));
        });
    }
    group.finish();
}

fn runtime(workers: usize) -> Runtime {
    Builder::new().workers(workers).build().unwrap()
}

fn listen(reuse_port: bool) -> std::net::TcpListener {
    listen_at("127.0.0.1:0".parse().unwrap(), reuse_port)
}

fn listen_at(address: SocketAddr, reuse_port: bool) -> std::net::TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(reuse_port).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(1024).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

/// On a thread of its own, for as long as the process.
fn tokio_server(count: &Count, listener: std::net::TcpListener) -> SocketAddr {
    let (count, address) = (Arc::clone(count), listener.local_addr().unwrap());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    count.fetch_add(1, Ordering::Release);
                    drop(stream);
                });
            }
        });
    });
    address
}

fn listener_loop(runtime: &Runtime, count: &Count) -> SocketAddr {
    let listener: TcpListener = TcpBuilder::new().backlog(1024).listen("127.0.0.1:0").unwrap();
    let (count, address) = (Arc::clone(count), listener.local_addr().unwrap());
    runtime.spawn(move || {
        for stream in listener.incoming() {
            let (stream, count) = (stream.unwrap(), Arc::clone(&count));
            cosocket::spawn(move || {
                count.fetch_add(1, Ordering::Release);
                drop(stream);
            });
        }
    });
    address
}

fn server(runtime: &Runtime, count: &Count, how: Listeners) -> (RunningServer, SocketAddr) {
    let server = Server::new().listen("127.0.0.1:0").backlog(1024).listeners(how);
    let count = Arc::clone(count);
    let handler = move |_| {
        count.fetch_add(1, Ordering::Release);
        Ok(())
    };
    let server = server.start_on(runtime, handler).unwrap();
    let address = server.tcp_addr().unwrap();
    (server, address)
}

/// Until so many connections have come to their handlers.
fn connect(address: SocketAddr, count: &Count, connections: u64, clients: u64) -> Duration {
    let (start, before) = (Instant::now(), count.load(Ordering::Acquire));
    let made = AtomicU64::new(0);
    let handled = || count.load(Ordering::Acquire) - before;
    let client = || {
        while made.fetch_add(1, Ordering::Relaxed) < connections {
            let stream = TcpStream::connect(address).unwrap();
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            while made.load(Ordering::Relaxed) > handled() + AHEAD_MAX && handled() < connections {
                thread::yield_now();
            }
        }
    };
    thread::scope(|scope| (0..clients).for_each(|_| drop(scope.spawn(client))));
    while handled() < connections {
        thread::yield_now();
    }
    start.elapsed()
}
