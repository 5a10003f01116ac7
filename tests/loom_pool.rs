//! Models of `src/cosocket/pool/places.rs`: rights to places and idle connections, taken and given
//! back beside a queue and shards whose locks are held one at a time.
//!
//! `RUSTFLAGS="--cfg loom -C debug-assertions" cargo test --release --test loom_pool`
#![cfg(loom)]

#[path = "../src/atomics.rs"]
#[allow(unused_imports)]
mod atomics;
#[path = "../src/cosocket/pool/places.rs"]
#[allow(dead_code)]
mod places;

mod loom_util;

use std::collections::VecDeque;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use loom_util::check;
use places::{Admission, Limits, Occupancy, Places, Release, Shelving};

const LIMITS: Limits = Limits { size: 1, backlog: Some(2) };

/// A pool of one connection, which is a number, with two shards.
struct World {
    places: Places,
    shards: [Mutex<Vec<u32>>; 2],
    queue: Mutex<Queue>,
    woken: Condvar,
    /// Relaxed: only the place orders what is done here.
    data: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<usize>,
    /// To whom, and what: a connection, or a place for one.
    granted: Vec<(usize, Option<u32>)>,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            places: Places::new(),
            shards: [Mutex::new(Vec::new()), Mutex::new(Vec::new())],
            queue: Mutex::default(),
            woken: Condvar::new(),
            data: AtomicUsize::new(0),
        })
    }

    /// As `Stock::acquire`; `patient` callers wait, others leave at once. `None` for those who
    /// get nothing.
    fn acquire(&self, name: usize, patient: bool) -> Option<Option<u32>> {
        match self.places.admit(LIMITS) {
            Admission::Idle => return Some(Some(self.fetch(name))),
            Admission::Place => return Some(None),
            Admission::Queued => {}
            other => panic!("{other:?}"),
        }
        let mut queue = self.queue.lock().unwrap();
        match self.places.admit_or_queue(LIMITS) {
            Admission::Queued => queue.waiting.push_back(name),
            admission => {
                drop(queue);
                let is_idle = admission == Admission::Idle;
                return Some(is_idle.then(|| self.fetch(name)));
            }
        }
        if !patient {
            // The clock, while the queue is not locked.
            drop(queue);
            queue = self.queue.lock().unwrap();
            if let Some(position) = queue.waiting.iter().position(|&other| other == name) {
                queue.waiting.remove(position);
                self.places.leave_queue();
                return None;
            }
        }
        loop {
            if let Some(position) = queue.granted.iter().position(|grant| grant.0 == name) {
                return Some(queue.granted.swap_remove(position).1);
            }
            queue = self.woken.wait(queue).unwrap();
        }
    }

    /// As `Stock::fetch`.
    fn fetch(&self, name: usize) -> u32 {
        loop {
            for shard in [name % 2, (name + 1) % 2] {
                if let Some(connection) = self.shards[shard].lock().unwrap().pop() {
                    return connection;
                }
            }
            thread::yield_now();
        }
    }

    /// As `Stock::park`.
    fn park(&self, name: usize, connection: u32) {
        loop {
            let mut shard = self.shards[name % 2].lock().unwrap();
            match self.places.shelve(LIMITS, true) {
                Shelving::Shelved => return shard.push(connection),
                Shelving::MustPass => {
                    drop(shard);
                    if self.grant(Some(connection)) {
                        return;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// As `Stock::release`.
    fn release(&self) {
        while self.places.release(LIMITS) == Release::MustPass && !self.grant(None) {}
    }

    fn grant(&self, grant: Option<u32>) -> bool {
        let mut queue = self.queue.lock().unwrap();
        let Some(name) = queue.waiting.pop_front() else { return false };
        self.places.pass(true);
        queue.granted.push((name, grant));
        self.woken.notify_all();
        true
    }

    /// What is done with the only connection there may be: a plain load and store.
    fn count_up(&self) {
        let before = self.data.load(Ordering::Relaxed);
        self.data.store(before + 1, Ordering::Relaxed);
    }

    fn use_once(&self, name: usize, patient: bool, parks: bool) -> bool {
        let Some(connection) = self.acquire(name, patient) else { return false };
        self.count_up();
        match parks {
            true => self.park(name, connection.unwrap_or(7)),
            false => self.release(),
        }
        true
    }

    fn occupancy(&self) -> (u32, u32, u32) {
        let Occupancy { out, idle, queued } = self.places.occupancy();
        (out, idle, queued)
    }
}

/// Runs the callers at the same time, each with its name, and tells how many got something.
fn run(world: &Arc<World>, callers: &[(bool, bool)]) -> usize {
    let start = |(name, &(patient, parks)): (usize, &(bool, bool))| {
        let world = world.clone();
        thread::spawn(move || world.use_once(name, patient, parks))
    };
    let threads: Vec<_> = callers.iter().enumerate().skip(1).map(start).collect();
    let mut served = usize::from(world.use_once(0, callers[0].0, callers[0].1));
    for thread in threads {
        served += usize::from(thread.join().unwrap());
    }
    served
}

#[test]
fn one_place_is_a_lock_and_nobody_is_forgotten() {
    check(|| {
        let world = World::new();
        assert_eq!(run(&world, &[(true, false), (true, false), (true, false)]), 3);
        assert_eq!(world.data.load(Ordering::Relaxed), 3);
        assert_eq!(world.occupancy(), (0, 0, 0));
        assert!(world.places.retire());
    });
}

#[test]
fn a_parked_connection_is_handed_over_or_idle() {
    check(|| {
        let world = World::new();
        assert_eq!(run(&world, &[(true, true), (true, true)]), 2);
        assert_eq!(world.data.load(Ordering::Relaxed), 2);
        assert_eq!(world.occupancy(), (0, 1, 0));
        let parked: usize = world.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert_eq!(parked, 1);
    });
}

#[test]
fn who_gives_up_leaves_the_place_to_the_next() {
    check(|| {
        let world = World::new();
        let served = run(&world, &[(true, false), (false, false), (true, true)]);
        assert_eq!(world.data.load(Ordering::Relaxed), served);
        let (out, _, queued) = world.occupancy();
        assert_eq!((out, queued), (0, 0));
    });
}
