//! The pool without sockets: what is kept in it is a number.

mod model;
mod noise;
mod threads;

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::key::Key;
use super::places::Limits;
use super::stock::{Acquired, Refusal};
use super::*;
use crate::clock::{self, NEVER};
use crate::io_handle::bounds::{Bounds, Cut};

thread_local! {
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// On which worker the calling thread is taken to be.
pub(super) fn shard_here() -> Option<usize> {
    SHARD.get()
}

fn on_worker<T>(worker: usize, f: impl FnOnce() -> T) -> T {
    let before = SHARD.replace(Some(worker));
    let value = f();
    SHARD.set(before);
    value
}

/// A connection that is none.
#[derive(Debug)]
struct Fake {
    number: u32,
    opened_at: Nanos,
    world: Arc<World>,
}

/// What has become of them.
#[derive(Debug, Default)]
struct World {
    dead: Mutex<Vec<u32>>,
    closed: Mutex<Vec<u32>>,
    evicted: Mutex<Vec<(u32, Eviction)>>,
}

impl World {
    fn open(self: &Arc<World>, number: u32) -> Fake {
        Fake { number, opened_at: clock::now(), world: Arc::clone(self) }
    }

    fn kill(&self, number: u32) {
        self.dead.lock().unwrap().push(number);
    }

    fn closed(&self) -> Vec<u32> {
        self.closed.lock().unwrap().clone()
    }

    fn evicted(&self) -> Vec<(u32, Eviction)> {
        self.evicted.lock().unwrap().clone()
    }
}

impl Pooled for Fake {
    type Hooks = ();

    fn is_quiet(&mut self) -> bool {
        !self.world.dead.lock().unwrap().contains(&self.number)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn opened_at(&self) -> Nanos {
        self.opened_at
    }

    fn evict(self, (): &(), reason: Eviction, _idle_for: Duration) {
        self.world.evicted.lock().unwrap().push((self.number, reason));
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.world.closed.lock().unwrap().push(self.number);
    }
}

fn pools(workers: usize) -> Arc<Pools<Fake>> {
    Pools::new(workers)
}

fn settings(size: u32, backlog: Option<u32>) -> Settings<()> {
    Settings { limits: Limits { size, backlog }, ..Settings::default() }
}

/// As `connect` with these settings: what it gets, without waiting.
fn acquire(
    pools: &Arc<Pools<Fake>>,
    key: &Key,
    asked: Option<Settings<()>>,
) -> Result<Option<Acquired<Fake>>, Refusal> {
    pools.acquire(key, asked, &Bounds { timeout: None, deadline: Some(0), cut: &Cut::default() })
}

fn open(world: &Arc<World>, number: u32, acquired: Acquired<Fake>) -> (Fake, Ticket<Fake>) {
    let Acquired { connection, mut ticket } = acquired;
    assert!(connection.is_none(), "a fresh one was wanted");
    ticket.set_connected();
    (world.open(number), ticket)
}

fn park(pools: &Arc<Pools<Fake>>, key: &Key, connection: Fake, ticket: Option<Ticket<Fake>>) {
    pools.park(key, &Settings::default(), connection, ticket, None);
}

#[test]
fn the_one_parked_last_is_taken_first_and_the_one_parked_first_is_evicted() {
    let (world, pools, key) = (Arc::new(World::default()), pools(1), Key::new("a"));
    for number in 1..=3 {
        pools.park(&key, &settings(2, None), world.open(number), None, None);
    }
    assert_eq!(world.evicted(), [(1, Eviction::Full)]);
    let take = || acquire(&pools, &key, None).unwrap().unwrap().connection.unwrap().number;
    assert_eq!(take(), 3);
    let total = pools.total();
    assert_eq!((total.parked, total.evicted, total.idle, total.hits), (3, 1, 1, 1));
    assert_eq!(take(), 2);
    // Both were dropped, and so the pool is no more: another size may be chosen.
    assert!(pools.find(&key).is_none());
    assert_eq!((pools.total().closed, pools.total().adopted), (2, 3));
}

#[test]
fn ones_own_worker_comes_first_then_the_newest_of_the_others() {
    let (world, pools, key) = (Arc::new(World::default()), pools(3), Key::new("a"));
    for (worker, number) in [(1, 10), (0, 1), (2, 20), (1, 11)] {
        on_worker(worker, || park(&pools, &key, world.open(number), None));
    }
    let mut held = Vec::new();
    let mut take = |worker| {
        let acquired = on_worker(worker, || acquire(&pools, &key, None).unwrap().unwrap());
        let number = acquired.connection.as_ref().unwrap().number;
        held.push(acquired);
        number
    };
    assert_eq!([take(0), take(0), take(0), take(0)], [1, 11, 20, 10]);
}

#[test]
fn a_place_is_given_back_on_every_path() {
    let (world, pools, key) = (Arc::new(World::default()), pools(1), Key::new("a"));
    let asked = || Some(settings(1, Some(0)));
    let refused = || matches!(acquire(&pools, &key, asked()), Err(Refusal::TooManyWaiting));
    // Never opened.
    let failed = acquire(&pools, &key, asked()).unwrap().unwrap();
    assert!(refused());
    drop(failed);
    // Opened and closed.
    let (connection, ticket) = open(&world, 1, acquire(&pools, &key, asked()).unwrap().unwrap());
    assert!(refused());
    drop((connection, ticket));
    // Unwinding.
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _place = acquire(&pools, &key, asked()).unwrap().unwrap();
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());
    let total = pools.total();
    assert_eq!((total.misses, total.opened, total.failed, total.closed), (3, 1, 2, 1));
    assert_eq!((total.refused, total.in_use, total.connecting), (2, 0, 0));
}

#[test]
fn a_connection_of_another_pool_leaves_its_place_when_it_is_parked_here() {
    let (world, pools) = (Arc::new(World::default()), pools(1));
    let (a, b) = (Key::new("a"), Key::new("b"));
    let asked = || Some(settings(1, Some(0)));
    let (connection, ticket) = open(&world, 1, acquire(&pools, &a, asked()).unwrap().unwrap());
    park(&pools, &b, connection, Some(ticket));
    assert!(pools.find(&a).is_none());
    assert_eq!(acquire(&pools, &b, None).unwrap().unwrap().connection.unwrap().number, 1);
}

#[test]
fn what_died_while_it_was_idle_is_skipped_and_the_place_serves_for_a_new_one() {
    let (world, pools, key) = (Arc::new(World::default()), pools(1), Key::new("a"));
    for number in 1..=3 {
        park(&pools, &key, world.open(number), None);
    }
    world.kill(3);
    world.kill(1);
    let second = acquire(&pools, &key, None).unwrap().unwrap();
    assert_eq!(second.connection.as_ref().unwrap().number, 2);
    let fresh = acquire(&pools, &key, None).unwrap().unwrap();
    assert!(fresh.connection.is_none());
    assert_eq!(world.evicted(), [(3, Eviction::Stale), (1, Eviction::Stale)]);
    let total = pools.total();
    assert_eq!((total.hits, total.misses, total.stale, total.connecting), (1, 1, 2, 1));
}

#[test]
fn the_watch_closes_what_expires_and_settles_the_rest() {
    let (world, pools, key) = (Arc::new(World::default()), pools(1), Key::new("a"));
    let start = clock::now();
    let second = Some(Some(Duration::from_secs(1)));
    pools.park(&key, &Settings::default(), world.open(1), None, Some(None));
    pools.park(&key, &Settings::default(), world.open(2), None, second);
    pools.watch().go_round(start + 500_000_000);
    assert_eq!(world.evicted(), []);
    pools.watch().go_round(clock::now() + 1_000_000_000);
    assert_eq!(world.evicted(), [(2, Eviction::Idle)]);
    // What may be idle for ever needs no further visit.
    pools.watch().go_round(NEVER - 1);
    assert_eq!((pools.total().idle, pools.total().expired), (1, 1));
}

#[test]
fn what_has_expired_is_not_taken_even_if_the_watch_is_late() {
    let (world, pools, key) = (Arc::new(World::default()), pools(1), Key::new("a"));
    pools.park(&key, &Settings::default(), world.open(1), None, Some(Some(Duration::ZERO)));
    assert!(acquire(&pools, &key, None).unwrap().unwrap().connection.is_none());
    assert_eq!(world.evicted(), [(1, Eviction::Idle)]);
}

#[test]
fn an_old_connection_is_neither_parked_nor_taken() {
    let (world, pools, key) = (Arc::new(World::default()), pools(1), Key::new("a"));
    let aging = || Settings { max_age: Some(Duration::from_secs(5)), ..Settings::default() };
    let mut old = world.open(1);
    old.opened_at = clock::now().saturating_sub(6_000_000_000);
    pools.park(&key, &aging(), old, None, None);
    assert_eq!(world.evicted(), [(1, Eviction::Age)]);
    pools.park(&key, &aging(), world.open(2), None, Some(None));
    pools.watch().go_round(clock::now() + 5_000_000_000);
    // The watch looks at the clock that it is given, and the reason at the same.
    assert_eq!(world.evicted()[1], (2, Eviction::Age));
}

#[test]
fn nothing_is_parked_once_the_runtime_ends_and_what_was_is_closed() {
    let (world, pools, key) = (Arc::new(World::default()), pools(2), Key::new("a"));
    on_worker(0, || park(&pools, &key, world.open(1), None));
    on_worker(1, || park(&pools, &key, world.open(2), None));
    let held = acquire(&pools, &key, None).unwrap().unwrap();
    pools.close();
    assert_eq!(world.closed().len(), 1);
    let Acquired { connection, ticket } = held;
    park(&pools, &key, connection.unwrap(), Some(ticket));
    assert_eq!(world.closed().len(), 2);
    assert!(acquire(&pools, &key, Some(settings(1, None))).unwrap().is_none());
}

#[test]
fn a_plan_makes_the_pools_of_its_name_and_remembers_what_they_did() {
    let (world, pools, key) = (Arc::new(World::default()), pools(1), Key::new("a"));
    let plan = pools.plan("a", settings(1, Some(0)));
    let again = pools.plan("a", settings(7, None));
    assert!(Arc::ptr_eq(&plan, &again), "the first one counts");
    let (connection, ticket) = open(&world, 1, acquire(&pools, &key, None).unwrap().unwrap());
    assert!(acquire(&pools, &key, Some(settings(9, Some(9)))).is_err(), "those came first");
    drop((connection, ticket));
    assert!(pools.find(&key).is_none());
    assert_eq!((pools.of_plan(&plan).opened, pools.of_plan(&plan).refused), (1, 1));
    drop((plan, again));
    assert!(acquire(&pools, &key, None).unwrap().is_none());
}

#[test]
fn warming_up_stops_at_the_size() {
    let (world, pools, key) = (Arc::new(World::default()), pools(1), Key::new("a"));
    let _plan = pools.plan("a", settings(2, None));
    park(&pools, &key, world.open(1), None);
    let held = pools.reserve(&key).unwrap();
    assert!(pools.reserve(&key).is_none());
    drop(held);
    assert!(pools.reserve(&key).is_some());
    assert!(pools.reserve(&Key::new("b")).is_none(), "no plan, no pool");
}
