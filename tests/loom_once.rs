//! Models of `src/sync/once/phase.rs`: who initialises, and what the others see.
//!
//! `RUSTFLAGS="--cfg loom -C debug-assertions" cargo test --release --test loom_once`
#![cfg(loom)]

#[path = "../src/atomics.rs"]
#[allow(unused_imports)]
mod atomics;
#[path = "../src/sync/once/phase.rs"]
mod phase;

mod loom_util;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use loom_util::check;
use phase::{Phase, Rest, Turn};

/// A `Once` whose queue is a condition variable, and what its closures write.
struct World {
    phase: Phase,
    queue: (Mutex<()>, Condvar),
    /// Relaxed: only the phase publishes them.
    value: AtomicUsize,
    failures: AtomicUsize,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            phase: Phase::new(),
            queue: (Mutex::new(()), Condvar::new()),
            value: AtomicUsize::new(0),
            failures: AtomicUsize::new(0),
        })
    }

    /// As `Once::call`: `f` runs alone, and says where that leaves the phase.
    fn call(&self, forces: bool, f: impl FnOnce(Rest) -> Rest) -> Turn {
        loop {
            match self.phase.begin(forces) {
                Turn::Ours { from } => {
                    self.phase.finish(f(from));
                    // As `WaitQueue::wake_all`: all who were in the queue once it was locked.
                    let _queue = self.queue.0.lock().unwrap();
                    self.queue.1.notify_all();
                    return Turn::Ours { from };
                }
                Turn::Theirs => self.wait_while_running(),
                ended => return ended,
            }
        }
    }

    fn wait_while_running(&self) {
        let mut queue = self.queue.0.lock().unwrap();
        while self.phase.rest().is_none() {
            queue = self.queue.1.wait(queue).unwrap();
        }
    }

    /// The initialiser: alone, by plain load and store.
    fn initialise(&self) -> Rest {
        let before = self.value.load(Ordering::Relaxed);
        self.value.store(before + 1, Ordering::Relaxed);
        Rest::Complete
    }
}

#[test]
fn one_of_three_initialises_and_all_see_the_value() {
    check(|| {
        let world = World::new();
        let call = |world: &World| {
            let turn = world.call(false, |_| world.initialise());
            assert!(matches!(turn, Turn::Ours { .. } | Turn::Complete));
            assert_eq!(world.value.load(Ordering::Relaxed), 1);
        };
        let threads = [0, 1].map(|_| {
            let world = world.clone();
            thread::spawn(move || call(&world))
        });
        call(&world);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// The fast path: one look, which waits for nothing.
#[test]
fn whoever_finds_it_complete_sees_the_value() {
    check(|| {
        let world = World::new();
        let other = world.clone();
        let thread = thread::spawn(move || {
            let _ = other.call(false, |_| other.initialise());
        });
        if world.phase.is_complete() {
            assert_eq!(world.value.load(Ordering::Relaxed), 1);
        }
        thread.join().unwrap();
        assert!(world.phase.is_complete());
    });
}

/// A closure that is cancelled hands its turn on, and with it what it wrote.
#[test]
fn a_turn_given_up_goes_to_one_who_waits() {
    check(|| {
        let world = World::new();
        let give_up_once = |world: &World| {
            world.call(false, |from| {
                assert_eq!(from, Rest::Incomplete);
                let failures = world.failures.load(Ordering::Relaxed);
                world.failures.store(failures + 1, Ordering::Relaxed);
                if failures == 0 { from } else { world.initialise() }
            })
        };
        let threads = [0, 1].map(|_| {
            let world = world.clone();
            thread::spawn(move || {
                let _ = give_up_once(&world);
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(world.phase.is_complete());
        assert_eq!(world.value.load(Ordering::Relaxed), 1);
        assert_eq!(world.failures.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn poison_stops_those_who_do_not_force() {
    check(|| {
        let world = World::new();
        let other = world.clone();
        let thread = thread::spawn(move || {
            let _ = other.call(false, |_| {
                other.failures.store(1, Ordering::Relaxed);
                Rest::Poisoned
            });
        });
        let turn = world.call(true, |from| {
            if from == Rest::Poisoned {
                assert_eq!(world.failures.load(Ordering::Relaxed), 1);
            }
            world.initialise()
        });
        assert!(matches!(turn, Turn::Ours { .. }) || turn == Turn::Poisoned);
        thread.join().unwrap();
        assert!(world.phase.is_complete(), "whoever was second healed it");
    });
}
