//! Scopes that end early: the first to fail cancels the rest, and cuts the waits of the body.

mod support;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use cosocket::thread::{scope, try_scope};
use cosocket::time::timeout;
use cosocket::{run, shield, thread, unblock};
use support::{Drops, assert_cancel_ends, assert_cancelled, connection, panic_quietly, suspended};

const SHORT: Duration = Duration::from_millis(3);

fn hang() -> u32 {
    thread::sleep(Duration::from_secs(3600));
    unreachable!("nobody sleeps that long");
}

#[test]
fn when_nobody_fails_it_is_a_scope() {
    for run_it in [|f: fn()| run(f), |f: fn()| f()] {
        run_it(|| {
            let mut numbers = vec![1, 2, 3];
            let sum: Result<i32, ()> = try_scope(|scope| {
                let doubled = scope.spawn(|| Ok(numbers.iter().map(|n| n * 2).sum::<i32>()));
                Ok(doubled.join().unwrap().unwrap())
            });
            numbers.push(sum.unwrap());
            assert_eq!(numbers, [1, 2, 3, 12]);
        });
    }
}

#[test]
fn the_first_error_cancels_the_others_and_is_returned() {
    for run_it in [|f: fn()| run(f), |f: fn()| f()] {
        run_it(|| {
            let drops = Drops::default();
            let result: Result<(), u32> = try_scope(|scope| {
                for _ in 0..20 {
                    let counted = drops.counted();
                    scope.spawn(move || Ok((counted, hang()).1));
                }
                scope.spawn(|| {
                    thread::sleep(SHORT);
                    Err::<(), _>(7)
                });
                Ok(())
            });
            assert_eq!(result, Err(7));
            assert_eq!(drops.count(), 20);
        });
    }
}

type Wait = Box<dyn FnMut()>;

#[test]
fn every_wait_of_the_body_is_cut() {
    run(|| {
        let (mut stream, _peer) = connection();
        let (_open, gate) = std::sync::mpsc::channel::<()>();
        let gate = std::sync::Arc::new(std::sync::Mutex::new(gate));
        let waits: [(&str, Wait); 7] = [
            ("sleep", Box::new(|| _ = hang())),
            (
                "park",
                Box::new(|| {
                    loop {
                        thread::park()
                    }
                }),
            ),
            (
                "yield",
                Box::new(|| {
                    loop {
                        thread::yield_now()
                    }
                }),
            ),
            ("read", Box::new(move || drop(stream.read(&mut [0])))),
            ("join", Box::new(|| drop(thread::spawn(thread::park).join()))),
            ("scope", Box::new(|| scope(|scope| drop(scope.spawn(thread::park))))),
            (
                "unblock",
                Box::new(move || {
                    let gate = gate.clone();
                    unblock(move || gate.lock().unwrap().recv().is_ok());
                }),
            ),
        ];
        for (name, mut wait) in waits {
            for pause in [Duration::ZERO, Duration::from_millis(1)] {
                let went_on = AtomicBool::new(false);
                let result: Result<(), &str> = try_scope(|scope| {
                    scope.spawn(move || {
                        thread::sleep(pause);
                        Err::<(), _>(name)
                    });
                    wait();
                    went_on.store(true, SeqCst);
                    Ok(())
                });
                assert_eq!(result, Err(name));
                assert!(!went_on.load(SeqCst), "{name}");
                // What cut those waits is over.
                thread::yield_now();
                thread::sleep(Duration::from_nanos(1));
            }
        }
    });
}

#[test]
fn a_panic_cancels_the_others_and_goes_on_in_the_caller() {
    run(|| {
        let drops = Drops::default();
        let counted = drops.counted();
        let payload = catch_unwind(AssertUnwindSafe(|| {
            try_scope(|scope| {
                scope.spawn(move || Ok::<_, ()>((counted, hang()).1));
                scope.spawn(|| -> Result<(), ()> { panic_quietly("mine") });
                hang();
                Ok(())
            })
        }));
        assert_eq!(support::message(&*payload.unwrap_err()), "a scoped coroutine panicked");
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn an_error_of_the_body_cancels_the_coroutines() {
    run(|| {
        let drops = Drops::default();
        let counted = drops.counted();
        let result: Result<(), &str> = try_scope(|scope| {
            scope.spawn(move || Ok((counted, hang()).1));
            Err("body")
        });
        assert_eq!((result, drops.count()), (Err("body"), 1));
    });
}

#[test]
fn one_that_is_cancelled_has_not_failed() {
    run(|| {
        let result: Result<i32, ()> = try_scope(|scope| {
            let child = scope.spawn(|| Ok(hang()));
            child.cancel();
            assert_cancelled(child.join());
            thread::sleep(SHORT);
            Ok(5)
        });
        assert_eq!(result, Ok(5));
    });
}

#[test]
fn of_many_errors_one_is_returned_and_all_are_dropped() {
    run(|| {
        for _ in 0..50 {
            let drops = Drops::default();
            let result: Result<(), _> = try_scope(|scope| {
                for _ in 0..10 {
                    let counted = drops.counted();
                    scope.spawn(move || Err::<(), _>(counted));
                }
                hang();
                Ok(())
            });
            assert!(result.is_err());
            drop(result);
            assert_eq!(drops.count(), 10);
        }
    });
}

#[test]
fn a_shield_in_the_body_comes_to_its_end() {
    run(|| {
        let steps = AtomicUsize::new(0);
        let result: Result<(), &str> = try_scope(|scope| {
            scope.spawn(|| Err::<(), _>("failed"));
            shield(|| thread::sleep(SHORT));
            steps.fetch_add(1, SeqCst);
            thread::yield_now();
            steps.fetch_add(1, SeqCst);
            Ok(())
        });
        assert_eq!((result, steps.load(SeqCst)), (Err("failed"), 1));
    });
}

#[test]
fn scopes_inside_each_other_end_with_the_one_that_failed() {
    run(|| {
        let outer: Result<i32, &str> = try_scope(|_| {
            let inner: Result<(), &str> = try_scope(|scope| {
                scope.spawn(|| Err::<(), _>("inner"));
                hang();
                Ok(())
            });
            assert_eq!(inner, Err("inner"));
            thread::sleep(SHORT);
            Ok(3)
        });
        assert_eq!(outer, Ok(3));
        let drops = Drops::default();
        let outer: Result<(), &str> = try_scope(|scope| {
            scope.spawn(|| (thread::sleep(SHORT), Err::<(), _>("outer")).1);
            let _: Result<(), &str> = try_scope(|scope| {
                let counted = drops.counted();
                scope.spawn(move || Ok((counted, hang()).1));
                Ok(())
            });
            unreachable!("the end of the inner one is a wait of the outer body");
        });
        assert_eq!((outer, drops.count()), (Err("outer"), 1));
    });
}

#[test]
fn a_timeout_and_a_cancel_go_through() {
    run(|| {
        let result = timeout(SHORT, || {
            try_scope(|scope| {
                scope.spawn(|| Ok::<_, ()>(hang()));
                Ok(())
            })
        });
        assert!(result.is_err());
        assert_cancel_ends(|| {
            let _ = try_scope(|scope| {
                scope.spawn(|| Ok::<_, ()>(hang()));
                hang();
                Ok(())
            });
        });
        // A cancel that comes to a scope that has failed ends the coroutine all the same.
        let handle = suspended(|| {
            let _: Result<(), ()> = try_scope(|scope| {
                scope.spawn(|| Err::<(), _>(()));
                shield(|| thread::sleep(SHORT));
                thread::park();
                Ok(())
            });
            thread::park();
        });
        handle.cancel();
        assert_cancelled(handle.join());
    });
}

#[test]
fn cancel_all_ends_a_plain_scope_and_those_who_come_late() {
    run(|| {
        let drops = Drops::default();
        let value = scope(|scope| {
            let children: Vec<_> = (0..10)
                .map(|_| {
                    let counted = drops.counted();
                    scope.spawn(move || (counted, hang()).1)
                })
                .collect();
            scope.cancel_all();
            children.into_iter().for_each(|child| assert_cancelled(child.join()));
            // The caller is not cancelled, and late ones are.
            thread::sleep(SHORT);
            assert_cancelled(scope.spawn(hang).join());
            5
        });
        assert_eq!((value, drops.count()), (5, 10));
    });
}

#[test]
fn one_child_may_end_the_others() {
    run(|| {
        scope(|scope| {
            (0..5).for_each(|_| drop(scope.spawn(hang)));
            scope.spawn(|| (thread::sleep(SHORT), scope.cancel_all()));
        });
    });
}
