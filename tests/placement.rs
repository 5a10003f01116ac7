//! Which worker a coroutine runs on, and that it stays there.

mod support;

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{spawn, spawn_local, thread, unblock};
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
