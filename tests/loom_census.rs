//! Models of `src/census.rs`: a sum is never too small, and a runtime that stops is told when its
//! last coroutine is over.
//!
//! `RUSTFLAGS="--cfg loom -C debug-assertions" cargo test --release --test loom_census`
#![cfg(loom)]

#[path = "../src/atomics.rs"]
#[allow(unused_imports)]
mod atomics;
#[path = "../src/census.rs"]
#[allow(dead_code)]
mod census;
#[path = "../src/counter.rs"]
#[allow(dead_code)]
mod counter;

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering, fence};
use loom::thread;

use census::Census;

struct World {
    workers: [Census; 2],
    stopping: AtomicBool,
    /// What `ring` leaves for a worker, as a mailbox does.
    rung: [AtomicBool; 2],
    told: AtomicBool,
    /// Not part of the model: who is over, in truth.
    over: [std::sync::atomic::AtomicBool; 2],
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            workers: [Census::new(), Census::new()],
            stopping: AtomicBool::new(false),
            rung: [AtomicBool::new(false), AtomicBool::new(false)],
            told: AtomicBool::new(false),
            over: Default::default(),
        })
    }

    fn is_empty(&self) -> bool {
        census::live(self.workers.iter(), || 0) == 0
    }

    /// As `Shared::one_less`.
    fn one_less(&self, index: usize) {
        self.over[index].store(true, std::sync::atomic::Ordering::SeqCst);
        self.workers[index].count_finished();
        if self.stopping.load(Ordering::SeqCst) {
            fence(Ordering::SeqCst);
            self.tell_if_empty();
        }
    }

    /// As a worker looks before it sleeps: see `Worker::plan_wait`.
    fn look(&self, index: usize) {
        if self.rung[index].swap(false, Ordering::AcqRel) {
            fence(Ordering::SeqCst);
            if self.stopping.load(Ordering::SeqCst) {
                self.tell_if_empty();
            }
        }
    }

    fn tell_if_empty(&self) {
        if self.is_empty() {
            let over = self.over.iter().all(|one| one.load(std::sync::atomic::Ordering::SeqCst));
            assert!(over, "told too early");
            self.told.store(true, Ordering::SeqCst);
        }
    }

    /// As `Shared::stop`.
    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for bell in &self.rung {
            bell.swap(true, Ordering::AcqRel);
        }
    }
}

#[test]
fn the_end_of_the_last_one_is_told() {
    loom::model(|| {
        let world = World::new();
        world.workers.iter().for_each(Census::count_placed);
        let workers: Vec<_> = (0..2)
            .map(|index| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    world.one_less(index);
                    world.look(index);
                })
            })
            .collect();
        world.stop();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        // A bell that rang after its worker had looked is heard by the next look.
        (0..2).for_each(|index| world.look(index));
        assert!(world.told.load(Ordering::SeqCst));
    });
}

#[test]
fn one_that_is_sent_by_one_that_ends_is_never_missed() {
    loom::model(|| {
        let world = World::new();
        world.workers[0].count_placed();
        let spawner = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                world.workers[1].count_sent();
                world.one_less(0);
            })
        };
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || assert!(!world.is_empty(), "the second one has not ended"))
        };
        assert!(!world.is_empty());
        spawner.join().unwrap();
        other.join().unwrap();
        world.workers[1].count_finished();
        assert!(world.is_empty());
    });
}
