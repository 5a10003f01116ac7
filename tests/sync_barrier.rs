//! `Barrier`: nobody goes on until all have come; one leads; who is cancelled has not come.

mod support;
#[allow(unsafe_code)]
mod util;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cosocket::sync::Barrier;
use cosocket::{run, spawn, thread};
use support::{assert_cancel_ends, on_workers, suspended};
use util::{Random, is_quick};

/// Coroutines of several workers and plain threads meet, round after round.
#[test]
fn rounds_are_whole_and_have_one_leader() {
    const PARTIES: usize = 8;
    let rounds = if is_quick() { 30 } else { 500 };
    let barrier = Arc::new(Barrier::new(PARTIES));
    let arrived = Arc::new(AtomicUsize::new(0));
    let leaders = Arc::new(AtomicUsize::new(0));
    let party = || {
        let (barrier, arrived, leaders) = (barrier.clone(), arrived.clone(), leaders.clone());
        move || {
            for round in 1..=rounds {
                arrived.fetch_add(1, Ordering::Relaxed);
                if barrier.wait().is_leader() {
                    leaders.fetch_add(1, Ordering::Relaxed);
                }
                // All of this round have come, and none of the next but those who have left it.
                let seen = arrived.load(Ordering::Relaxed);
                assert!((round * PARTIES..(round + 1) * PARTIES).contains(&seen), "{seen}");
            }
        }
    };
    on_workers(3, || {
        let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(party())).collect();
        let coroutines: Vec<_> = (2..PARTIES).map(|_| spawn(party())).collect();
        coroutines.into_iter().for_each(|one| one.join().unwrap());
        threads.into_iter().for_each(|one| cosocket::unblock(|| one.join().unwrap()));
    });
    assert_eq!(leaders.load(Ordering::Relaxed), rounds);
}

#[test]
fn one_who_is_cancelled_has_not_come() {
    run(|| {
        let barrier = Rc::new(Barrier::new(3));
        let wait = || {
            let barrier = Rc::clone(&barrier);
            move || barrier.wait().is_leader()
        };
        let first = suspended(wait());
        let cancelled = wait();
        assert_cancel_ends(move || {
            cancelled();
        });
        let second = suspended(wait());
        (0..10).for_each(|_| thread::yield_now());
        assert!(!first.is_finished() && !second.is_finished());
        assert!(barrier.wait().is_leader());
        assert!(!first.join().unwrap() && !second.join().unwrap());
    });
}

/// A cancel that comes when the round is full is too late for it.
#[test]
fn one_who_was_let_go_is_let_go_in_spite_of_a_cancel() {
    run(|| {
        let barrier = Rc::new(Barrier::new(2));
        let waiter = suspended({
            let barrier = Rc::clone(&barrier);
            move || {
                assert!(!barrier.wait().is_leader());
                "let go"
            }
        });
        assert!(barrier.wait().is_leader());
        waiter.cancel();
        assert_eq!(waiter.join().unwrap(), "let go");
    });
}

/// However many are cancelled on their way, each round is ended by as many as it takes.
#[test]
fn a_storm_of_cancels_leaves_the_count_right() {
    const PARTIES: usize = 4;
    let mut random = Random::new();
    on_workers(3, || {
        for _ in 0..if is_quick() { 10 } else { 100 } {
            let barrier = Arc::new(Barrier::new(PARTIES));
            let waiters: Vec<_> = (0..40)
                .map(|_| {
                    let barrier = Arc::clone(&barrier);
                    spawn(move || barrier.wait().is_leader())
                })
                .collect();
            for waiter in &waiters {
                if random.one_in(2) {
                    waiter.cancel();
                }
                if random.one_in(4) {
                    thread::yield_now();
                }
            }
            // Whoever is left over has too few for a round.
            util::wait_until(|| {
                waiters.iter().filter(|waiter| !waiter.is_finished()).count() < PARTIES
            });
            waiters.iter().for_each(|waiter| waiter.cancel());
            let results: Vec<_> = waiters.into_iter().map(|waiter| waiter.join()).collect();
            let passed = results.iter().filter(|result| result.is_ok()).count();
            let leaders = results.iter().filter(|result| matches!(result, Ok(true))).count();
            assert_eq!(passed, leaders * PARTIES);
        }
    });
}
