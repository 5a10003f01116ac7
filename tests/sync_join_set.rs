//! `JoinSet`: results in the order of their ends, none lost, none twice.

mod support;
#[allow(unsafe_code)]
mod util;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cosocket::sync::{CancelToken, JoinSet};
use cosocket::{Builder, Cancelled, run, shield, spawn, thread};
use support::{Drops, assert_cancelled, message, on_workers, panic_quietly, suspended};
use util::{Random, is_quick};

#[test]
fn results_come_in_the_order_of_their_ends() {
    let check = || {
        let mut set = JoinSet::new();
        assert!(set.is_empty() && set.join_next().is_none() && set.try_join_next().is_none());
        let gates: Vec<_> = (0..5).map(|_| CancelToken::new()).collect();
        for (number, gate) in gates.iter().enumerate() {
            let gate = gate.clone();
            set.spawn(move || {
                gate.wait();
                number
            });
        }
        assert_eq!(set.len(), 5);
        assert!(set.try_join_next().is_none());
        for number in [3, 0, 4, 1, 2] {
            gates[number].cancel();
            assert_eq!(set.join_next().unwrap().unwrap(), number);
        }
        assert!(set.is_empty() && set.join_next().is_none());
        assert_eq!(format!("{set:?}"), "JoinSet { len: 0, .. }");
    };
    check();
    run(check);
}

#[test]
fn ids_names_and_panics_arrive() {
    run(|| {
        let mut set = JoinSet::default();
        let builder = thread::Builder::new().name("worker".into());
        let named = set.spawn_with(builder, || thread::current().name().map(str::to_owned));
        let panicking = set.spawn(|| panic_quietly("by hand"));
        let mut results = Vec::new();
        while let Some((id, result)) = set.join_next_with_id() {
            results.push(id);
            if id == panicking {
                assert_eq!(message(&*result.unwrap_err()), "by hand");
            } else {
                assert_eq!(id, *named.as_ref().unwrap());
                assert_eq!(result.unwrap().as_deref(), Some("worker"));
            }
        }
        assert_eq!(results.len(), 2);
    });
}

/// What could not be spawned is not in the set, and its number is used again.
#[test]
fn a_failed_spawn_leaves_no_trace() {
    run(|| {
        let mut set = JoinSet::new();
        for _ in 0..3 {
            let too_large = thread::Builder::new().stack_size(usize::MAX);
            set.spawn_with(too_large, || 1).unwrap_err();
            assert!(set.is_empty() && set.join_next().is_none());
            set.spawn(|| 2);
            assert_eq!(set.join_next().unwrap().unwrap(), 2);
        }
    });
}

#[test]
fn all_are_joined_or_the_panic_is_passed_on_and_the_rest_cancelled() {
    run(|| {
        let set: JoinSet<usize> = (0..10).map(|n| move || n).collect();
        let results: HashSet<_> = set.join_all().into_iter().collect();
        assert_eq!(results, (0..10).collect());
        let drops = Drops::default();
        let mut set = JoinSet::new();
        let counted = drops.counted();
        set.spawn(move || {
            let _counted = counted;
            thread::park();
        });
        set.spawn(|| panic_quietly("by hand"));
        let all = std::panic::AssertUnwindSafe(|| set.join_all());
        let payload = std::panic::catch_unwind(all).unwrap_err();
        assert_eq!(message(&*payload), "by hand");
        support::until(|| drops.count() == 1);
    });
}

#[test]
fn a_dropped_set_cancels_and_a_detached_one_does_not() {
    let runtime = Builder::new().build().unwrap();
    let (ended, went_on) = (Drops::default(), CancelToken::new());
    runtime.run(|| {
        let mut set = JoinSet::new();
        for _ in 0..10 {
            let counted = ended.counted();
            set.spawn(move || {
                let _counted = counted;
                thread::park();
            });
        }
        let mut detached = JoinSet::new();
        let gate = CancelToken::new();
        let (waits, tells) = (gate.clone(), went_on.clone());
        detached.spawn(move || {
            waits.wait();
            tells.cancel();
        });
        detached.detach_all();
        assert!(detached.is_empty() && detached.join_next().is_none());
        drop(set);
        support::until(|| ended.count() == 10);
        // The numbers begin anew, and those of before do not get in the way.
        detached.spawn(|| ());
        gate.cancel();
        detached.join_next().unwrap().unwrap();
        assert!(detached.join_next().is_none());
    });
    went_on.wait();
}

#[test]
fn cancelled_ones_are_joined_as_such() {
    run(|| {
        let mut set: JoinSet<()> = (0..5).map(|_| thread::park).collect();
        set.cancel_all();
        let mut count = 0;
        while let Some(result) = set.join_next() {
            assert_cancelled(result);
            count += 1;
        }
        assert_eq!(count, 5);
    });
}

/// The set is the caller's still, when the wait is unwound.
#[test]
fn a_cancel_ends_the_wait_and_loses_no_result() {
    run(|| {
        let waiting = suspended(|| {
            let gate = CancelToken::new();
            let mut set = JoinSet::new();
            set.spawn({
                let gate = gate.clone();
                move || {
                    gate.wait();
                    7
                }
            });
            let wait = std::panic::AssertUnwindSafe(|| set.join_next());
            let payload = std::panic::catch_unwind(wait).unwrap_err();
            assert!(payload.is::<Cancelled>());
            gate.cancel();
            shield(|| set.join_next()).unwrap().unwrap()
        });
        waiting.cancel();
        assert_eq!(waiting.join().unwrap(), 7);
    });
}

#[test]
fn a_timeout_never_ends_early() {
    let check = || {
        let mut set = JoinSet::new();
        let gate = CancelToken::new();
        let waits = gate.clone();
        set.spawn(move || waits.wait());
        for timeout in [0, 1_000, 65_537, 2_000_000].map(Duration::from_nanos) {
            let start = Instant::now();
            assert!(set.join_next_timeout(timeout).is_none());
            assert!(start.elapsed() >= timeout);
        }
        gate.cancel();
        set.join_next_timeout(Duration::MAX).unwrap().unwrap();
        assert!(set.join_next_timeout(Duration::MAX).is_none(), "empty");
    };
    check();
    run(check);
}

/// Sets in coroutines and on plain threads: each result once, also of those that were cancelled,
/// panicked or joined late; and each closure is dropped once.
#[test]
fn a_storm_loses_no_result() {
    let rounds = if is_quick() { 10 } else { 200 };
    let mut random = Random::new();
    let dropped = Arc::new(AtomicUsize::new(0));
    let user = |mut random: Random| {
        let dropped = Arc::clone(&dropped);
        move || {
            let mut spawned = 0;
            for _ in 0..rounds {
                let mut set = JoinSet::new();
                let (mut ids, mut joined) = (HashSet::new(), HashSet::new());
                for _ in 0..10 {
                    let (dropped, mut luck) = (Arc::clone(&dropped), random.split());
                    let leave = support::OnDrop(move || {
                        dropped.fetch_add(1, Ordering::Relaxed);
                    });
                    spawned += 1;
                    ids.insert(set.spawn(move || {
                        let _leave = leave;
                        (0..luck.below(4)).for_each(|_| thread::yield_now());
                        if luck.one_in(5) {
                            panic_quietly("by hand");
                        }
                    }));
                    if random.one_in(3)
                        && let Some((id, _)) = set.join_next_with_id()
                    {
                        assert!(joined.insert(id));
                    }
                }
                if random.one_in(4) {
                    set.cancel_all();
                }
                while let Some((id, _)) = set.join_next_with_id() {
                    assert!(joined.insert(id));
                }
                assert_eq!(joined, ids);
            }
            spawned
        }
    };
    let spawned: usize = on_workers(3, || {
        let thread = std::thread::spawn(user(random.split()));
        let users: Vec<_> = (0..8).map(|_| spawn(user(random.split()))).collect();
        let spawned: usize = users.into_iter().map(|user| user.join().unwrap()).sum();
        spawned + cosocket::unblock(|| thread.join().unwrap())
    });
    assert_eq!(dropped.load(Ordering::Relaxed), spawned);
}

#[test]
fn a_set_crosses_threads() {
    let mut set = JoinSet::new();
    set.spawn(|| String::from("spawned here"));
    let joined = std::thread::spawn(move || set.join_next().unwrap().unwrap()).join().unwrap();
    assert_eq!(joined, "spawned here");
}
