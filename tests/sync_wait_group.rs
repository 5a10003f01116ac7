//! `WaitGroup`: waits for the last member, by whichever way each of them leaves.

mod support;
#[allow(unsafe_code)]
mod util;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cosocket::sync::WaitGroup;
use cosocket::{run, spawn, thread};
use support::{assert_cancel_ends, on_workers, panic_quietly, suspended};
use util::{Random, is_quick};

#[test]
fn a_group_of_one_does_not_wait() {
    WaitGroup::new().wait();
    run(|| WaitGroup::default().wait());
}

#[test]
fn a_member_leaves_by_return_by_panic_and_by_cancel() {
    run(|| {
        let group = WaitGroup::new();
        let member = |f: fn()| {
            let group = group.clone();
            suspended(move || {
                let _member = group;
                f();
            })
        };
        let members = [thread::yield_now, || panic_quietly("by hand"), thread::park].map(member);
        assert!(format!("{group:?}").starts_with("WaitGroup { members: "));
        members[2].cancel();
        group.wait();
    });
}

#[test]
fn several_wait_for_the_rest_and_members_take_others_in() {
    let count = Arc::new(AtomicUsize::new(0));
    let group = WaitGroup::new();
    for _ in 0..20 {
        let (group, count) = (group.clone(), Arc::clone(&count));
        spawn(move || {
            let inner = (group.clone(), Arc::clone(&count));
            spawn(move || {
                let (_member, count) = inner;
                thread::yield_now();
                count.fetch_add(1, Ordering::Relaxed);
            });
            drop(group);
        });
    }
    let waiter = spawn({
        let (group, count) = (group.clone(), Arc::clone(&count));
        move || {
            group.wait();
            count.load(Ordering::Relaxed)
        }
    });
    group.wait();
    assert_eq!(count.load(Ordering::Relaxed), 20);
    assert_eq!(waiter.join().unwrap(), 20);
}

#[test]
fn a_timeout_never_ends_early_and_gives_the_membership_back() {
    let check = || {
        let mut group = WaitGroup::new();
        let other = group.clone();
        for timeout in [0, 1_000, 65_537, 2_000_000].map(Duration::from_nanos) {
            let start = Instant::now();
            group = group.wait_timeout(timeout).unwrap_err();
            assert!(start.elapsed() >= timeout);
        }
        // Were it no member, the other one would not have to wait for it.
        let other = other.wait_timeout(Duration::from_millis(1)).unwrap_err();
        drop(other);
        group.wait_timeout(Duration::ZERO).unwrap();
    };
    check();
    run(check);
}

#[test]
fn a_cancel_ends_the_wait_and_the_membership() {
    run(|| {
        let group = WaitGroup::new();
        let waiting = group.clone();
        assert_cancel_ends(move || waiting.wait());
        group.wait();
    });
}

/// Members, waiters and waiters with a timeout leave in any order; nobody waits for ever, and
/// nobody goes on before the last one has left.
#[test]
fn a_storm_ends() {
    let mut random = Random::new();
    on_workers(3, || {
        for _ in 0..if is_quick() { 10 } else { 100 } {
            let group = WaitGroup::new();
            let working = Arc::new(AtomicUsize::new(0));
            let handles: Vec<_> = (0..30)
                .map(|_| {
                    let (mut group, working) = (group.clone(), Arc::clone(&working));
                    let mut random = random.split();
                    working.fetch_add(1, Ordering::SeqCst);
                    spawn(move || {
                        (0..random.below(5)).for_each(|_| thread::yield_now());
                        working.fetch_sub(1, Ordering::SeqCst);
                        if random.one_in(3) {
                            return;
                        }
                        let timeout = Duration::from_micros(random.below(100));
                        while let Err(again) = group.wait_timeout(timeout) {
                            group = again;
                        }
                        assert_eq!(working.load(Ordering::SeqCst), 0);
                    })
                })
                .collect();
            let thread = std::thread::spawn(move || group.wait());
            handles.into_iter().for_each(|handle| handle.join().unwrap());
            cosocket::unblock(|| thread.join().unwrap());
        }
    });
}
