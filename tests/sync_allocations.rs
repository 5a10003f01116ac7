//! Waiting for a lock or a condition allocates nothing, whoever waits.

#[path = "support/counting.rs"]
mod counting;
mod support;

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use cosocket::sync::{Condvar, Mutex, RwLock};
use cosocket::thread;
use counting::allocations_during;
use support::{on_workers, suspended};

/// What two parties fight over, and how often each of them had it.
#[derive(Default)]
struct Prize {
    mutex: Mutex<usize>,
    lock: RwLock<usize>,
    turn: Mutex<usize>,
    changed: Condvar,
}

impl Prize {
    const TURNS: usize = 100;

    /// One party's part; every wait there is comes up, since each holds what it has across one.
    fn play(&self, me: usize, rounds: Range<usize>) {
        for round in rounds {
            let mut guard = self.mutex.lock().unwrap();
            thread::yield_now();
            *guard += 1;
            drop(guard);
            let mut guard = self.lock.write().unwrap();
            thread::yield_now();
            *guard += 1;
            drop(guard);
            let guard = self.lock.read().unwrap();
            thread::yield_now();
            drop(guard);
            let turn = self.turn.lock().unwrap();
            let mut turn = self.changed.wait_while(turn, |turn| *turn % 2 != me).unwrap();
            assert_eq!(*turn, 2 * round + me);
            *turn += 1;
            self.changed.notify_all();
        }
    }
}

/// Counts in the whole process, so there is one test. What is made once, at the first wait or wake
/// of its kind, is made in a first half of the game.
#[test]
fn waits_of_coroutines_and_threads_allocate_nothing() {
    const HALF: usize = Prize::TURNS;
    on_workers(1, || {
        let prize = Rc::new(Prize::default());
        let theirs = Rc::clone(&prize);
        let other = suspended(move || theirs.play(1, 0..2 * HALF));
        prize.play(0, 0..HALF);
        let calls = allocations_during(|| prize.play(0, HALF..2 * HALF));
        other.join().unwrap();
        assert_eq!(*prize.mutex.lock().unwrap(), 4 * HALF);
        assert_eq!(calls, 0, "between two coroutines");
    });
    on_workers(1, || {
        let prize = Arc::new(Prize::default());
        let theirs = Arc::clone(&prize);
        let other = std::thread::spawn(move || {
            theirs.play(1, 0..2 * HALF);
            // A thread's end is not what is counted.
            std::thread::park();
        });
        prize.play(0, 0..HALF);
        let calls = allocations_during(|| prize.play(0, HALF..2 * HALF));
        other.thread().unpark();
        other.join().unwrap();
        assert_eq!(calls, 0, "between a coroutine and a thread");
    });
}
