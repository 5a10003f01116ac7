//! `scope`: coroutines that borrow, with std's meaning.

mod support;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cosocket::{run, thread};
use support::{Drops, OnDrop, message, on_workers, panic_quietly, until};

#[test]
fn coroutines_borrow_mutably_and_the_scopes_end_gives_it_back() {
    run(|| {
        let mut numbers = [1, 2, 3, 4];
        let (left, right) = numbers.split_at_mut(2);
        thread::scope(|scope| {
            scope.spawn(|| left.iter_mut().for_each(|n| *n *= 10));
            scope.spawn(|| right.iter_mut().for_each(|n| *n *= 100));
        });
        numbers[0] += 1;
        assert_eq!(numbers, [11, 20, 300, 400]);
    });
}

#[test]
fn results_may_borrow() {
    run(|| {
        let text = String::from("one two");
        let words = thread::scope(|scope| {
            let first = scope.spawn(|| &text[..3]);
            let second = scope.spawn(|| &text[4..]);
            (first.join().unwrap(), second.join().unwrap())
        });
        assert_eq!(words, ("one", "two"));
    });
}

#[test]
fn the_scope_waits_for_coroutines_that_nobody_joined() {
    run(|| {
        let ended = AtomicUsize::new(0);
        let value = thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    (0..10).for_each(|_| thread::yield_now());
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
            17
        });
        assert_eq!((value, ended.into_inner()), (17, 10));
    });
}

#[test]
fn scopes_nest() {
    run(|| {
        let sum = AtomicUsize::new(0);
        thread::scope(|outer| {
            for _ in 0..4 {
                outer.spawn(|| {
                    let local = Cell::new(0);
                    let part = AtomicUsize::new(0);
                    thread::scope(|inner| {
                        for n in 0..4 {
                            let part = &part;
                            inner.spawn(move || part.fetch_add(n, Ordering::SeqCst));
                        }
                    });
                    local.set(part.into_inner());
                    sum.fetch_add(local.get(), Ordering::SeqCst);
                });
            }
        });
        assert_eq!(sum.into_inner(), 24);
    });
}

#[test]
fn a_coroutine_of_the_scope_spawns_more() {
    run(|| {
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..10 {
                    scope.spawn(|| {
                        thread::yield_now();
                        scope.spawn(|| count.fetch_add(1, Ordering::SeqCst));
                    });
                }
            });
        });
        assert_eq!(count.into_inner(), 10);
    });
}

#[test]
fn a_builder_spawns_with_a_name() {
    run(|| {
        let expected = String::from("borrower");
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("borrower".into());
            let handle = builder.spawn_scoped(scope, || {
                assert_eq!(thread::current().name(), Some(&*expected));
            });
            handle.unwrap().join().unwrap();
            let drops = Drops::default();
            let counted = drops.counted();
            let huge = thread::Builder::new().stack_size(1 << 60);
            assert!(huge.spawn_scoped(scope, move || drop(counted)).is_err());
            assert_eq!(drops.count(), 1);
        });
    });
}

#[test]
fn a_forgotten_handle_leaks_its_result_and_nothing_else() {
    run(|| {
        let drops = Drops::default();
        let borrowed = String::from("still here");
        thread::scope(|scope| {
            let counted = drops.counted();
            std::mem::forget(scope.spawn(|| (counted, thread::yield_now(), &borrowed)));
        });
        drop(borrowed);
        assert_eq!(drops.count(), 0);
    });
}

#[test]
fn a_result_with_a_borrow_is_dropped_before_the_scope_ends_whoever_lets_go_first() {
    on_workers(3, || {
        for _ in 0..300 {
            let dropped = AtomicUsize::new(0);
            let guard = || OnDrop(|| _ = dropped.fetch_add(1, Ordering::SeqCst));
            thread::scope(|scope| {
                let (one, two) = (guard(), guard());
                drop(scope.spawn(move || one));
                let handle = scope.spawn(move || two);
                until(|| handle.is_finished());
            });
            assert_eq!(dropped.into_inner(), 2);
        }
    });
}

#[test]
fn a_handle_moved_into_another_coroutine_of_the_scope_joins_there() {
    run(|| {
        let value = 20;
        let joined = thread::scope(|scope| {
            let first = scope.spawn(|| (thread::yield_now(), &value).1);
            let second = scope.spawn(move || *first.join().unwrap() + 1);
            second.join().unwrap()
        });
        assert_eq!(joined, 21);
    });
}

#[test]
fn a_thread_handle_outlives_the_scope() {
    run(|| {
        let borrowed = String::from("gone soon");
        let handle = thread::scope(|scope| {
            let child = scope.spawn(|| borrowed.len());
            let handle = child.thread().clone();
            child.join().unwrap();
            handle
        });
        drop(borrowed);
        handle.unpark();
        assert_eq!(handle.name(), None);
    });
}

#[test]
fn a_plain_thread_opens_a_scope() {
    let mut sum = 0;
    let mut numbers = vec![1, 2, 3];
    thread::scope(|scope| {
        let total = scope.spawn(|| (thread::yield_now(), numbers.iter().sum::<i32>()).1);
        sum = total.join().unwrap();
        scope.spawn(|| {
            scope.spawn(|| assert_eq!(numbers.len(), 3));
        });
    });
    numbers.push(sum);
    assert_eq!(numbers, [1, 2, 3, 6]);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        thread::scope(|scope| {
            scope.spawn(|| (&numbers, thread::park()).1);
            panic_quietly("the body's");
        })
    }));
    assert_eq!(message(&*caught.unwrap_err()), "the body's");
}

#[test]
fn thousands_of_coroutines_in_one_scope() {
    let seen = Mutex::new(vec![false; 5000]);
    on_workers(3, || {
        thread::scope(|scope| {
            for n in 0..5000 {
                let seen = &seen;
                scope.spawn(move || {
                    thread::yield_now();
                    let before = std::mem::replace(&mut seen.lock().unwrap()[n], true);
                    assert!(!before);
                });
                if n % 500 == 0 {
                    thread::yield_now();
                }
            }
        });
    });
    assert!(seen.into_inner().unwrap().iter().all(|&seen| seen));
}

#[test]
fn a_scope_in_which_nothing_is_spawned_returns_at_once() {
    assert_eq!(thread::scope(|_| 1) + run(|| thread::scope(|_| 1)), 2);
}
