//! The pool under threads that really run at the same time, and callers who wait.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::model::adds_up;
use super::*;

/// As `connect` by one who may wait.
fn wait(
    pools: &Arc<Pools<Fake>>,
    key: &Key,
    asked: Option<Settings<()>>,
    patience: Duration,
) -> Result<Acquired<Fake>, Refusal> {
    let bounds = Bounds { timeout: Some(patience), deadline: None, cut: &Cut::default() };
    pools.acquire(key, asked, &bounds).map(|acquired| acquired.expect("there is a pool"))
}

const LONG: Duration = Duration::from_secs(60);

/// Waits until so many wait.
fn until_queued(pools: &Pools<Fake>, queued: u64) {
    while pools.total().queued < queued {
        thread::yield_now();
    }
}

#[test]
fn waiters_are_served_in_turn_and_nobody_overtakes() {
    let (world, pools, key) = (Arc::new(World::default()), pools(1), Key::new("a"));
    let asked = settings(1, Some(3));
    let first = acquire(&pools, &key, Some(asked)).unwrap().unwrap();
    let (connection, ticket) = open(&world, 1, first);
    let served = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for waiter in 1..=3 {
            let (pools, key, served) = (&pools, &key, &served);
            scope.spawn(move || {
                let acquired = wait(pools, key, None, LONG).unwrap();
                let Acquired { connection, ticket } = acquired;
                served.lock().unwrap().push(waiter);
                // Handed from hand to hand: it is never idle.
                park(pools, key, connection.expect("the one that was parked"), Some(ticket));
            });
            until_queued(pools, waiter);
        }
        assert!(matches!(acquire(&pools, &key, None), Err(Refusal::TooManyWaiting)));
        park(&pools, &key, connection, Some(ticket));
    });
    assert_eq!(*served.lock().unwrap(), [1, 2, 3]);
    let total = pools.total();
    assert_eq!((total.hits, total.parked, total.idle, total.waited), (3, 4, 1, 3));
    adds_up(&total);
}

#[test]
fn each_failed_connect_starts_the_next() {
    let (pools, key) = (pools(1), Key::new("a"));
    let first = acquire(&pools, &key, Some(settings(1, Some(3)))).unwrap().unwrap();
    let failed = AtomicU32::new(0);
    thread::scope(|scope| {
        for waiter in 1..=3 {
            let (pools, key, failed) = (&pools, &key, &failed);
            scope.spawn(move || {
                let acquired = wait(pools, key, None, LONG).unwrap();
                assert!(acquired.connection.is_none());
                failed.fetch_add(1, Ordering::SeqCst);
            });
            until_queued(pools, waiter);
        }
        drop(first);
    });
    assert_eq!(failed.into_inner(), 3);
    assert_eq!((pools.total().failed, pools.total().misses), (4, 4));
    assert!(pools.find(&key).is_none());
}

#[test]
fn who_waits_too_long_leaves_and_nothing_with_it() {
    let (world, pools, key) = (Arc::new(World::default()), pools(1), Key::new("a"));
    let first = acquire(&pools, &key, Some(settings(1, Some(1)))).unwrap().unwrap();
    assert!(matches!(acquire(&pools, &key, None), Err(Refusal::TimedOut)));
    let (connection, ticket) = open(&world, 1, first);
    park(&pools, &key, connection, Some(ticket));
    assert_eq!(acquire(&pools, &key, None).unwrap().unwrap().connection.unwrap().number, 1);
    assert_eq!((pools.total().timed_out, pools.total().queued), (1, 0));
}

/// More threads than places, each on a worker of its own, taking, parking, failing and giving up at
/// once; the watch goes round all the while.
#[test]
fn threads_that_do_everything_at_once_lose_nothing() {
    const THREADS: usize = 4;
    const SIZE: u32 = 2;
    let rounds = if std::env::var_os("COSOCKET_QUICK").is_some() { 300 } else { 5_000 };
    let (world, pools, key) = (Arc::new(World::default()), pools(THREADS), Key::new("a"));
    let (opened, held, is_over) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|worker| {
                let (world, pools, key) = (&world, &pools, &key);
                let (opened, held) = (&opened, &held);
                scope.spawn(move || {
                    SHARD.set(Some(worker));
                    for round in 0..rounds {
                        let asked = Some(settings(SIZE, Some(THREADS as u32)));
                        let patience = if round % 7 == 0 { Duration::ZERO } else { LONG };
                        let acquired = match wait(pools, key, asked, patience) {
                            Ok(acquired) => acquired,
                            Err(Refusal::TimedOut) => continue,
                            Err(other) => panic!("{other:?}"),
                        };
                        let Acquired { connection, mut ticket } = acquired;
                        assert!(held.fetch_add(1, Ordering::SeqCst) < SIZE, "more than its size");
                        let number = connection.as_ref().map(|connection| connection.number);
                        let connection = connection.unwrap_or_else(|| {
                            ticket.set_connected();
                            world.open(opened.fetch_add(1, Ordering::SeqCst))
                        });
                        held.fetch_sub(1, Ordering::SeqCst);
                        match round % 5 {
                            0 => drop((connection, ticket)),
                            1 if number.is_some() => {
                                world.kill(connection.number);
                                park(pools, key, connection, Some(ticket));
                            }
                            _ => park(pools, key, connection, Some(ticket)),
                        }
                    }
                })
            })
            .collect();
        let watch = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                pools.watch().go_round(clock::now() + 100_000_000);
                thread::yield_now();
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        is_over.store(true, Ordering::SeqCst);
        watch.join().unwrap();
    });
    let total = pools.total();
    adds_up(&total);
    assert_eq!((total.in_use, total.connecting, total.queued), (0, 0, 0));
    assert_eq!(total.opened, u64::from(opened.load(Ordering::SeqCst)));
    pools.close();
    let (mut closed, opened) = (world.closed(), opened.into_inner());
    closed.sort_unstable();
    assert_eq!(closed, (0..opened).collect::<Vec<_>>(), "each is closed, once");
}
