//! `Semaphore`: permits are conserved, handed out in order, and never lost on somebody who leaves.

mod support;
#[allow(unsafe_code)]
mod util;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cosocket::sync::{AcquireTimeoutError, Semaphore, TryAcquireError};
use cosocket::{run, spawn, thread};
use support::{assert_cancel_ends, assert_cancelled, on_workers, suspended};
use util::{Random, is_quick};

const MOMENT: Duration = Duration::from_millis(2);

#[test]
fn permits_come_back_when_dropped_and_not_when_forgotten() {
    let semaphore = Arc::new(Semaphore::new(5));
    let mut permit = semaphore.acquire_many(3).unwrap();
    assert_eq!(semaphore.try_acquire_many(3).unwrap_err(), TryAcquireError::NoPermits);
    let split = permit.split(2).unwrap();
    assert!(permit.split(2).is_none());
    assert_eq!((permit.num_permits(), split.num_permits()), (1, 2));
    split.forget();
    permit.merge(semaphore.acquire().unwrap());
    assert_eq!(semaphore.available_permits(), 1);
    drop(permit);
    assert_eq!(semaphore.available_permits(), 3);
    let owned = Arc::clone(&semaphore).acquire_many_owned(2).unwrap();
    assert!(Arc::ptr_eq(owned.semaphore(), &semaphore));
    assert_eq!(semaphore.forget_permits(9), 1);
    drop(owned);
    semaphore.add_permits(4);
    assert_eq!(format!("{semaphore:?}"), "Semaphore { available_permits: 6, closed: false }");
}

#[test]
#[should_panic = "different semaphores"]
fn permits_of_two_semaphores_do_not_merge() {
    let (one, other) = (Semaphore::new(1), Semaphore::new(1));
    one.acquire().unwrap().merge(other.acquire().unwrap());
}

#[test]
#[should_panic = "too many permits"]
fn no_more_permits_than_there_is_room_for() {
    Semaphore::new(1).add_permits(Semaphore::MAX_PERMITS);
}

/// The order of asking is the order of getting, and nobody passes one who wants much.
#[test]
fn a_large_request_is_not_passed_by_small_ones() {
    run(|| {
        let semaphore = Rc::new(Semaphore::new(3));
        let order = Rc::new(RefCell::new(Vec::new()));
        let ask = |name, count| {
            let (semaphore, order) = (Rc::clone(&semaphore), Rc::clone(&order));
            suspended(move || {
                let _permit = semaphore.acquire_many(count).unwrap();
                order.borrow_mut().push(name);
            })
        };
        let held = semaphore.acquire().unwrap();
        let large = ask("large", 3);
        let small = ask("small", 1);
        assert_eq!(semaphore.available_permits(), 2);
        assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
        assert!(semaphore.try_acquire_many(0).is_ok(), "none are had past anybody");
        (0..10).for_each(|_| thread::yield_now());
        assert!(order.borrow().is_empty());
        drop(held);
        large.join().unwrap();
        small.join().unwrap();
        assert_eq!(*order.borrow(), ["large", "small"]);
        assert_eq!(semaphore.available_permits(), 3);
    });
}

/// One at the head who leaves is no longer in the way of those behind it.
#[test]
fn who_leaves_the_head_of_the_queue_lets_the_others_have_what_is_left() {
    run(|| {
        let semaphore = Rc::new(Semaphore::new(2));
        let behind = |taken: Rc<Cell<usize>>| {
            let semaphore = Rc::clone(&semaphore);
            suspended(move || {
                let permit = semaphore.acquire().unwrap();
                taken.set(taken.get() + 1);
                thread::park();
                drop(permit);
            })
        };
        for leave_by_cancel in [true, false] {
            let held = semaphore.acquire().unwrap();
            let head = {
                let semaphore = Rc::clone(&semaphore);
                suspended(move || match leave_by_cancel {
                    true => semaphore.acquire_many(2).map(drop).unwrap(),
                    false => {
                        let late = semaphore.acquire_many_timeout(2, MOMENT).unwrap_err();
                        assert_eq!(late, AcquireTimeoutError::Timeout);
                    }
                })
            };
            let taken = Rc::new(Cell::new(0));
            let next = behind(Rc::clone(&taken));
            assert_eq!(taken.get(), 0);
            if leave_by_cancel {
                head.cancel();
                assert_cancelled(head.join());
            } else {
                head.join().unwrap();
            }
            support::until(|| taken.get() == 1);
            drop(held);
            next.thread().unpark();
            next.join().unwrap();
            assert_eq!(semaphore.available_permits(), 2);
        }
    });
}

#[test]
fn a_permit_that_was_handed_over_wins_over_a_cancel() {
    run(|| {
        let semaphore = Rc::new(Semaphore::new(1));
        let held = semaphore.acquire().unwrap();
        let waiter = suspended({
            let semaphore = Rc::clone(&semaphore);
            move || semaphore.acquire().unwrap().num_permits()
        });
        drop(held);
        assert_eq!(semaphore.available_permits(), 0, "handed over");
        waiter.cancel();
        assert_eq!(waiter.join().unwrap(), 1);
        assert_eq!(semaphore.available_permits(), 1);
    });
}

#[test]
fn a_cancel_ends_every_kind_of_wait() {
    run(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let waits: [fn(Arc<Semaphore>); 4] = [
            |semaphore| drop(semaphore.acquire()),
            |semaphore| drop(semaphore.acquire_timeout(Duration::MAX)),
            |semaphore| drop(semaphore.acquire_owned()),
            |semaphore| drop(semaphore.acquire_many_owned_timeout(2, Duration::MAX)),
        ];
        for wait in waits {
            let semaphore = Arc::clone(&semaphore);
            assert_cancel_ends(move || wait(semaphore));
        }
        semaphore.add_permits(1);
        assert!(semaphore.try_acquire().is_ok());
    });
}

#[test]
fn a_timeout_never_ends_early() {
    let check = || {
        let semaphore = Semaphore::new(1);
        let held = semaphore.acquire_timeout(Duration::ZERO).unwrap();
        for timeout in [0, 1, 1_000, 65_537, 3_000_000].map(Duration::from_nanos) {
            let start = Instant::now();
            let late = semaphore.acquire_timeout(timeout).unwrap_err();
            assert!(start.elapsed() >= timeout);
            assert_eq!(late, AcquireTimeoutError::Timeout);
        }
        drop(held);
        assert!(semaphore.acquire_timeout(Duration::ZERO).is_ok());
    };
    check();
    run(check);
}

#[test]
fn closing_ends_waits_now_and_later_and_leaves_permits_valid() {
    run(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let held = semaphore.acquire().unwrap();
        let waiting = suspended({
            let semaphore = Arc::clone(&semaphore);
            move || semaphore.acquire().map(drop)
        });
        let with_timeout = suspended({
            let semaphore = Arc::clone(&semaphore);
            move || semaphore.acquire_timeout(Duration::MAX).map(drop)
        });
        semaphore.close();
        assert!(semaphore.is_closed());
        assert_eq!(waiting.join().unwrap().unwrap_err().to_string(), "semaphore closed");
        assert_eq!(with_timeout.join().unwrap(), Err(AcquireTimeoutError::Closed));
        drop(held);
        assert_eq!(semaphore.available_permits(), 1);
        assert!(semaphore.acquire().is_err());
        assert!(semaphore.acquire_many(0).is_err());
        assert_eq!(semaphore.try_acquire().unwrap_err(), TryAcquireError::Closed);
        assert!(semaphore.acquire_owned().is_err());
    });
}

/// Coroutines and threads, large and small requests, cancels and timeouts at any moment. At the end
/// every permit is back, and there were never more out than there are.
#[test]
fn a_storm_conserves_the_permits() {
    const PERMITS: usize = 5;
    let rounds = if is_quick() { 30 } else { 400 };
    let mut random = Random::new();
    let semaphore = Arc::new(Semaphore::new(PERMITS));
    let out = Arc::new(AtomicUsize::new(0));
    let user = |mut random: Random| {
        let (semaphore, out) = (Arc::clone(&semaphore), Arc::clone(&out));
        move || {
            for _ in 0..rounds {
                let count = 1 + random.below(PERMITS as u64) as u32;
                let timeout = Duration::from_micros(random.below(200));
                let permit = match random.below(3) {
                    0 => semaphore.acquire_many(count).ok(),
                    1 => semaphore.acquire_many_timeout(count, timeout).ok(),
                    _ => semaphore.try_acquire_many(count).ok(),
                };
                let Some(_permit) = permit else { continue };
                let before = out.fetch_add(count as usize, Ordering::SeqCst);
                assert!(before + count as usize <= PERMITS);
                let out = &out;
                let _back = support::OnDrop(move || {
                    out.fetch_sub(count as usize, Ordering::SeqCst);
                });
                (0..random.below(3)).for_each(|_| thread::yield_now());
            }
        }
    };
    on_workers(3, || {
        let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(user(random.split()))).collect();
        let users: Vec<_> = (0..30).map(|_| spawn(user(random.split()))).collect();
        for user in &users {
            if random.one_in(2) {
                (0..random.below(20)).for_each(|_| thread::yield_now());
                user.cancel();
            }
        }
        for result in users.into_iter().map(|user| user.join()) {
            if result.is_err() {
                assert_cancelled(result);
            }
        }
        threads.into_iter().for_each(|one| cosocket::unblock(|| one.join().unwrap()));
    });
    assert_eq!(semaphore.available_permits(), PERMITS);
    assert_eq!(out.load(Ordering::SeqCst), 0);
    assert!(semaphore.try_acquire_many(PERMITS as u32).is_ok(), "and nobody is in the queue");
}
