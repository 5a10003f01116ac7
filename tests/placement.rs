//! Which worker a coroutine runs on, and that it stays there.

mod support;

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use cosocket::net::{TcpBuilder, TcpListener, TcpStream};
use cosocket::{Builder, spawn, spawn_local, thread, unblock};
use support::{on_workers, until};

fn here() -> ThreadId {
    std::thread::current().id()
}

#[test]
fn long_lived_coroutines_of_one_spawner_are_spread_evenly() {
    const COROUTINES: usize = 1000;
    on_workers(3, || {
        let workers = Arc::new(Mutex::new(HashMap::<_, usize>::new()));
        let started = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..COROUTINES)
            .map(|_| {
                let (workers, started) = (Arc::clone(&workers), Arc::clone(&started));
                spawn(move || {
                    *workers.lock().unwrap().entry(here()).or_insert(0) += 1;
                    started.fetch_add(1, Ordering::SeqCst);
                    thread::park();
                })
            })
            .collect();
        until(|| started.load(Ordering::SeqCst) == COROUTINES);
        let workers = workers.lock().unwrap();
        let even = COROUTINES / 3;
        assert_eq!(workers.len(), 3);
        for count in workers.values() {
            assert!(count.abs_diff(even) <= even / 5, "{workers:?}");
        }
        handles.iter().for_each(|handle| handle.cancel());
    });
}

#[test]
fn closures_that_compute_run_in_parallel() {
    const WORKERS: usize = 3;
    for _ in 0..20 {
        on_workers(WORKERS, || {
            let started = Arc::new(AtomicUsize::new(0));
            let handles: Vec<_> = (0..WORKERS)
                .map(|_| {
                    let started = Arc::clone(&started);
                    spawn(move || {
                        started.fetch_add(1, Ordering::SeqCst);
                        // Holds its worker: only another worker can start the others.
                        while started.load(Ordering::SeqCst) < WORKERS {
                            std::thread::yield_now();
                        }
                        here()
                    })
                })
                .collect();
            let mut workers: Vec<_> = handles.into_iter().map(|h| h.join().unwrap()).collect();
            workers.sort_by_key(|id| format!("{id:?}"));
            workers.dedup();
            assert_eq!(workers.len(), WORKERS);
        });
    }
}

// Closures that any worker may take were taken by one whose ready queue was empty only.
#[test]
fn a_closure_starts_though_every_worker_has_coroutines_that_only_yield() {
    on_workers(3, || {
        let done = Arc::new(AtomicBool::new(false));
        let busy = Arc::new(Mutex::new(HashSet::new()));
        let mut yielders = Vec::new();
        until(|| {
            let (theirs, occupied) = (Arc::clone(&done), Arc::clone(&busy));
            yielders.push(spawn(move || {
                occupied.lock().unwrap().insert(here());
                until(|| theirs.load(Ordering::SeqCst));
            }));
            busy.lock().unwrap().len() == 3
        });
        let last: Vec<_> = (0..20).map(|n| spawn(move || n)).collect();
        until(|| last.iter().all(|handle| handle.is_finished()));
        done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_started_coroutine_stays_on_its_thread_through_every_kind_of_wait() {
    on_workers(3, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                spawn(move || {
                    let at = here();
                    let mut byte = [0];
                    while stream.read(&mut byte).unwrap() == 1 {
                        assert_eq!(here(), at);
                        stream.write_all(&byte).unwrap();
                        assert_eq!(here(), at);
                    }
                });
            }
        });
        // Each holds its worker until two workers have one.
        let seen = Arc::new(Mutex::new(HashSet::new()));
        let client = || {
            let seen = Arc::clone(&seen);
            spawn(move || {
                seen.lock().unwrap().insert(here());
                while seen.lock().unwrap().len() < 2 {
                    std::thread::yield_now();
                }
                wait_in_every_way(address)
            })
        };
        let clients: Vec<_> = (0..30).map(|_| client()).collect();
        let mut workers: Vec<_> = clients.into_iter().map(|h| h.join().unwrap()).collect();
        workers.sort_by_key(|id| format!("{id:?}"));
        workers.dedup();
        assert!(workers.len() > 1, "all on one worker: this proves nothing");
        server.cancel();
    });
}

fn wait_in_every_way(address: std::net::SocketAddr) -> ThreadId {
    let at = here();
    let mut stream = TcpStream::connect(address).unwrap();
    assert_eq!(here(), at);
    for round in 0..10 {
        stream.write_all(&[round]).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        assert_eq!(here(), at, "read");
        thread::sleep(Duration::from_micros(50));
        assert_eq!(here(), at, "sleep");
        let me = thread::current();
        spawn(move || me.unpark());
        thread::park();
        assert_eq!(here(), at, "park");
        let elsewhere = spawn(here);
        elsewhere.join().unwrap();
        assert_eq!(here(), at, "join");
        assert_eq!(spawn_local(here).join().unwrap(), at, "spawn_local");
        thread::scope(|scope| {
            scope.spawn(thread::yield_now);
        });
        assert_eq!(here(), at, "scope");
        unblock(|| ());
        assert_eq!(here(), at, "unblock");
        thread::yield_now();
        assert_eq!(here(), at, "yield");
    }
    at
}

/// The fewest and the most coroutines of a worker.
fn extremes(live: &[usize]) -> (usize, usize) {
    (*live.iter().min().unwrap(), *live.iter().max().unwrap())
}

/// Holds as many connections open, each with a handler that waits for more; what the workers then
/// have, when there is a handler for each.
fn hold_connections(
    runtime: &cosocket::Runtime,
    address: std::net::SocketAddr,
    handlers: &AtomicUsize,
    connections: usize,
) -> (Vec<std::net::TcpStream>, Vec<usize>) {
    let clients = (0..connections).map(|_| {
        let mut client = std::net::TcpStream::connect(address).unwrap();
        client.write_all(&[1]).unwrap();
        client.read_exact(&mut [0]).unwrap();
        client
    });
    let clients: Vec<_> = clients.collect();
    assert_eq!(handlers.load(Ordering::SeqCst), connections);
    (clients, runtime.live_by_worker())
}

/// Accepts for ever; each connection has a coroutine of its own, which says that it is there.
fn accept_all(listener: &TcpListener, handlers: &Arc<AtomicUsize>) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let handlers = Arc::clone(handlers);
        spawn(move || {
            handlers.fetch_add(1, Ordering::SeqCst);
            let mut byte = [0];
            while stream.read(&mut byte).unwrap() == 1 {
                stream.write_all(&byte).unwrap();
            }
        });
    }
}

#[test]
fn one_acceptor_spreads_long_lived_connections_evenly() {
    const CONNECTIONS: usize = 1000;
    for workers in [2, 4] {
        let runtime = Builder::new().workers(workers).build().unwrap();
        let listener = TcpBuilder::new().backlog(1024).listen("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let handlers = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&handlers);
        let acceptor = runtime.spawn(move || accept_all(&listener, &counted));
        let (clients, live) = hold_connections(&runtime, address, &handlers, CONNECTIONS);
        assert_eq!(live.len(), workers);
        assert_eq!(live.iter().sum::<usize>(), CONNECTIONS + 1);
        let (least, most) = extremes(&live);
        assert!(most * 5 <= least * 6, "more than 20 % apart: {live:?}");
        assert_eq!(runtime.metrics().live as usize, CONNECTIONS + 1);
        drop(clients);
        acceptor.cancel();
        acceptor.join().unwrap_err();
    }
}

/// As fast as they come, all at once, from many clients.
#[test]
fn a_burst_of_connections_is_spread_evenly() {
    const CONNECTIONS: usize = 1000;
    for workers in [2, 4] {
        let runtime = Builder::new().workers(workers).build().unwrap();
        let listener = TcpBuilder::new().backlog(1024).listen("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts yet.
        let clients: Vec<_> =
            (0..CONNECTIONS).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let handlers = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&handlers);
        let acceptor = runtime.spawn(move || accept_all(&listener, &counted));
        while handlers.load(Ordering::SeqCst) < CONNECTIONS {
            std::thread::yield_now();
        }
        let live = runtime.live_by_worker();
        let (least, most) = extremes(&live);
        assert!(most * 5 <= least * 6, "more than 20 % apart: {live:?}");
        drop(clients);
        acceptor.cancel();
        acceptor.join().unwrap_err();
    }
}

#[test]
fn one_coroutine_is_spawned_on_each_worker() {
    let runtime = Builder::new().workers(3).build().unwrap();
    // Lighter and heavier workers make no difference.
    let _parked: Vec<_> = (0..10).map(|_| runtime.spawn(thread::park)).collect();
    for _ in 0..10 {
        let handles = runtime.spawn_on_each(|worker| {
            move || (worker, std::thread::current().name().map(str::to_owned))
        });
        let places: Vec<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
        let expected = |worker| (worker, Some(format!("cosocket-{worker}")));
        assert!(places.into_iter().eq((0..3).map(expected)));
    }
    // From inside too, and from a runtime to another.
    let places = runtime.run(|| {
        let handles = runtime.spawn_on_each(|_| here);
        handles.into_iter().map(|handle| handle.join().unwrap()).collect::<HashSet<_>>()
    });
    assert_eq!(places.len(), 3);
    let other = Builder::new().workers(2).build().unwrap();
    let live = runtime.run(|| {
        let parked = other.spawn_on_each(|_| thread::park);
        let live = other.live_by_worker();
        parked.iter().for_each(|handle| handle.cancel());
        live
    });
    assert_eq!(live, [1, 1]);
}

#[test]
fn an_acceptor_on_each_worker_has_its_own_listener_and_connections_are_spread() {
    const CONNECTIONS: usize = 400;
    const WORKERS: usize = 4;
    let runtime = Builder::new().workers(WORKERS).build().unwrap();
    let listeners = TcpBuilder::new().backlog(1024).listen_many("127.0.0.1:0", WORKERS).unwrap();
    let address = listeners[0].local_addr().unwrap();
    let (handlers, acceptors) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let mut listeners = listeners.into_iter();
    let handles = runtime.spawn_on_each(|_| {
        let listener = listeners.next().unwrap();
        let (handlers, acceptors) = (Arc::clone(&handlers), Arc::clone(&acceptors));
        move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                acceptors.lock().unwrap().push(here());
                let handlers = Arc::clone(&handlers);
                spawn(move || {
                    handlers.fetch_add(1, Ordering::SeqCst);
                    let mut byte = [0];
                    while stream.read(&mut byte).unwrap() == 1 {
                        stream.write_all(&byte).unwrap();
                    }
                });
            }
        }
    });
    let (clients, live) = hold_connections(&runtime, address, &handlers, CONNECTIONS);
    let acceptors: HashSet<_> = acceptors.lock().unwrap().iter().copied().collect();
    assert_eq!(acceptors.len(), WORKERS, "some of the listeners were left alone");
    assert_eq!(live.iter().sum::<usize>(), CONNECTIONS + WORKERS);
    // The kernel's hash is not even; where each has to go is decided by who has least.
    let (least, most) = extremes(&live);
    assert!(most * 5 <= least * 6 + 5 * 4, "{live:?}");
    drop(clients);
    for handle in handles {
        handle.cancel();
        handle.join().unwrap_err();
    }
}
