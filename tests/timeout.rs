//! What a `timeout` means: limits inside limits, stickiness, whom it bounds, what holds it back,
//! and what it hands on. That every kind of wait is cut is in `timeout_waits.rs`.

mod support;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use cosocket::time::{Elapsed, deadline, timeout};
use cosocket::{Cancelled, run, shield, spawn, spawn_local, thread};
use support::{Drops, OnDrop, assert_cancelled, connection, panic_quietly, suspended, until};

const SHORT: Duration = Duration::from_millis(3);
const LONG: Duration = Duration::from_secs(3600);

/// In a coroutine, and on a plain thread.
fn everywhere(check: impl Fn() + Send + Sync) {
    run(&check);
    check();
}

fn hang() {
    thread::sleep(LONG);
    unreachable!("nobody sleeps that long");
}

#[test]
fn what_returns_is_returned_whatever_the_clock_says() {
    everywhere(|| {
        assert_eq!(timeout(LONG, || 5), Ok(5));
        let late = timeout(SHORT, || {
            std::thread::sleep(SHORT * 2);
            6
        });
        assert_eq!(late, Ok(6));
        // The limit is over with its call.
        thread::sleep(SHORT * 2);
        thread::yield_now();
    });
}

#[test]
fn a_shorter_one_inside_ends_the_inner_call_only() {
    everywhere(|| {
        let outer = timeout(LONG, || {
            assert!(timeout(SHORT, hang).is_err());
            thread::sleep(SHORT);
            thread::yield_now();
            7
        });
        assert_eq!(outer, Ok(7));
    });
}

#[test]
fn a_longer_one_inside_is_cut_by_the_outer_and_hands_the_unwind_on() {
    everywhere(|| {
        let went_on = Cell::new(false);
        let outer = timeout(SHORT, || {
            let inner = timeout(LONG, || timeout(Duration::MAX, hang));
            went_on.set(true);
            inner.unwrap().unwrap();
        });
        assert!(outer.is_err() && !went_on.get());
    });
}

#[test]
fn of_two_that_pass_at_the_same_moment_the_inner_returns_and_the_next_wait_ends_the_outer() {
    everywhere(|| {
        for _ in 0..20 {
            let end = Instant::now() + SHORT;
            let between = Cell::new(None);
            let outer = deadline(end, || {
                between.set(Some(deadline(end, hang).is_err()));
                thread::yield_now();
                unreachable!("the outer limit has passed too");
            });
            let _: Elapsed = outer.unwrap_err();
            // Or the outer passed first, by the few nanoseconds between the two calls.
            assert!(between.get().is_none_or(|inner| inner));
        }
    });
}

#[test]
fn many_limits_inside_each_other() {
    fn nest(depth: u32) -> u32 {
        if depth == 0 {
            return (hang(), 0).1;
        }
        match timeout(LONG + SHORT * depth, || nest(depth - 1)) {
            Ok(value) => value + 1,
            Err(_) => unreachable!("the outermost is shorter"),
        }
    }
    assert!(run(|| timeout(SHORT, || nest(100))).is_err());
    assert!(timeout(SHORT, || nest(100)).is_err());
}

#[test]
fn it_is_sticky_and_one_that_swallows_it_lets_others_run() {
    run(|| {
        let (mut stream, _peer) = connection();
        let turns = Rc::new(Cell::new(0));
        let counter = Rc::clone(&turns);
        let other = spawn_local(move || {
            loop {
                counter.set(counter.get() + 1);
                thread::yield_now();
            }
        });
        let result = timeout(SHORT, || {
            let swallowed = catch_unwind(hang).unwrap_err();
            assert!(swallowed.is::<Elapsed>());
            for wait in [thread::park, thread::yield_now, || thread::sleep(SHORT)] {
                for _ in 0..10 {
                    let before = turns.get();
                    assert!(catch_unwind(wait).unwrap_err().is::<Elapsed>());
                    assert!(turns.get() > before);
                }
            }
            let before = turns.get();
            for _ in 0..10 {
                let error = stream.read(&mut [0]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                assert!(error.get_ref().unwrap().is::<Elapsed>());
            }
            assert!(turns.get() >= before + 10);
            let joined = AssertUnwindSafe(|| spawn_local(thread::park).join().unwrap());
            assert!(catch_unwind(joined).unwrap_err().is::<Elapsed>());
            "came to its end"
        });
        assert_eq!(result, Ok("came to its end"));
        other.cancel();
        assert_cancelled(other.join());
    });
}

#[test]
fn children_are_not_bounded() {
    run(|| {
        let child = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&child);
        let result = timeout(SHORT, || {
            *slot.borrow_mut() = Some(spawn(|| {
                thread::sleep(SHORT * 4);
                8
            }));
            hang();
        });
        assert!(result.is_err());
        assert_eq!(child.take().unwrap().join().unwrap(), 8);
        // Those of a scope neither, as long as that is not left.
        let sum = timeout(LONG, || {
            thread::scope(|scope| scope.spawn(|| timeout(SHORT, hang).is_err()).join().unwrap())
        });
        assert_eq!(sum, Ok(true));
    });
}

#[test]
fn siblings_on_the_same_worker_have_limits_of_their_own() {
    run(|| {
        let all: Vec<_> = (0..50_u32)
            .map(|n| {
                spawn_local(move || {
                    if n % 2 == 0 {
                        timeout(Duration::from_micros(u64::from(n) * 100), hang).is_err()
                    } else {
                        timeout(LONG, || thread::sleep(SHORT)).is_ok()
                    }
                })
            })
            .collect();
        assert!(all.into_iter().all(|one| one.join().unwrap()));
    });
}

#[test]
fn a_shield_holds_the_unwind_back_but_not_the_errors_of_io() {
    everywhere(|| {
        let (mut stream, _peer) = connection();
        let steps = RefCell::new(Vec::new());
        let result = timeout(SHORT, || {
            shield(|| {
                thread::sleep(SHORT * 2);
                thread::yield_now();
                steps.borrow_mut().push("slept");
                assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
                spawn(|| thread::sleep(SHORT)).join().unwrap();
                steps.borrow_mut().push("joined");
            });
            steps.borrow_mut().push("no wait yet");
            thread::sleep(Duration::ZERO);
            unreachable!("the shield has fallen");
        });
        let _: Elapsed = result.unwrap_err();
        assert_eq!(*steps.borrow(), ["slept", "joined", "no wait yet"]);
    });
}

#[test]
fn a_shield_does_not_hold_back_a_limit_inside_of_it() {
    everywhere(|| {
        let value = timeout(SHORT, || {
            shield(|| {
                assert!(timeout(SHORT * 2, hang).is_err());
                // The outer one has passed as well, and is held back.
                thread::sleep(SHORT);
                // One that passes, and its shield inside of it.
                timeout(SHORT, || shield(|| thread::sleep(SHORT * 2))).unwrap();
                9
            })
        });
        assert_eq!(value, Ok(9));
    });
}

#[test]
fn a_cancel_goes_before_a_limit_and_through_it() {
    run(|| {
        // It comes before the limit has passed.
        let handle = suspended(|| timeout(LONG, hang));
        handle.cancel();
        assert_cancelled(handle.join());
        // Both are there when the shield falls.
        let gate = Rc::new(Cell::new(false));
        let open = Rc::clone(&gate);
        let caught = Rc::new(Cell::new(false));
        let was_cancel = Rc::clone(&caught);
        let handle = suspended(move || {
            let passed = timeout(Duration::ZERO, || {
                shield(|| until(|| open.get()));
                let payload = catch_unwind(thread::park).unwrap_err();
                was_cancel.set(payload.is::<Cancelled>());
                thread::park();
            });
            unreachable!("the cancel ends the coroutine: {passed:?}");
        });
        handle.cancel();
        gate.set(true);
        assert_cancelled(handle.join());
        assert!(caught.get());
    });
}

#[test]
fn a_cancel_after_the_limit_ends_the_coroutine_at_its_next_wait() {
    run(|| {
        let results = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&results);
        let handle = suspended(move || {
            for (limit, wait) in [(SHORT, hang as fn()), (LONG, thread::park)] {
                let is_cut = timeout(limit, wait).is_err();
                log.borrow_mut().push(is_cut);
            }
        });
        until(|| results.borrow().len() == 1);
        handle.cancel();
        assert_cancelled(handle.join());
        assert_eq!(*results.borrow(), [true]);
    });
}

#[test]
fn frames_are_dropped_once_and_in_order() {
    everywhere(|| {
        let drops = Drops::default();
        let order = RefCell::new(Vec::new());
        let note = |step| {
            OnDrop({
                let order = &order;
                move || order.borrow_mut().push(step)
            })
        };
        let result = timeout(SHORT, || {
            let _first = (drops.counted(), note("first"));
            let _inner = timeout(LONG, || {
                let _second = (drops.counted(), note("second"));
                hang();
            });
        });
        assert!(result.is_err());
        assert_eq!(drops.count(), 2);
        assert_eq!(*order.borrow(), ["second", "first"]);
    });
}

#[test]
fn nothing_is_raised_in_the_unwind_and_io_makes_one_attempt() {
    run(|| {
        let (mut stream, mut peer) = connection();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&seen);
        let result = timeout(SHORT, || {
            let _guard = OnDrop(move || {
                // Each of these would wait; none unwinds out of the destructor.
                thread::sleep(Duration::from_micros(100));
                thread::yield_now();
                log.borrow_mut().push(spawn_local(|| 3).join().unwrap());
                // The bytes fit, so they are sent.
                stream.write_all(b"bye").unwrap();
                assert!(stream.read(&mut [0]).is_err());
            });
            hang();
        });
        assert!(result.is_err());
        assert_eq!(*seen.borrow(), [3]);
        let mut word = String::new();
        peer.read_to_string(&mut word).unwrap();
        assert_eq!(word, "bye");
    });
}

#[test]
fn a_panic_passes_through_and_leaves_no_limit_behind() {
    everywhere(|| {
        let payload = catch_unwind(|| timeout(SHORT, || panic_quietly("mine"))).unwrap_err();
        assert_eq!(support::message(&*payload), "mine");
        let payload = catch_unwind(|| {
            timeout(Duration::ZERO, || timeout(LONG, || panic_quietly("mine too")))
        });
        assert_eq!(support::message(&*payload.unwrap_err()), "mine too");
        thread::sleep(SHORT * 2);
        thread::yield_now();
    });
}

#[test]
fn a_limit_in_a_destructor_in_mid_unwind_works() {
    run(|| {
        let handle = suspended(|| {
            let _guard = OnDrop(|| {
                assert_eq!(timeout(SHORT, || 5), Ok(5));
                // Nothing is raised in an unwind, so this comes to its end.
                assert_eq!(timeout(SHORT, || thread::sleep(SHORT * 2)), Ok(()));
            });
            thread::park();
        });
        handle.cancel();
        assert_cancelled(handle.join());
    });
}

#[test]
fn timeouts_of_sockets_and_limits_compose_by_minimum() {
    everywhere(|| {
        let (mut stream, _peer) = connection();
        for (own, limit) in [(SHORT, LONG), (LONG, SHORT), (SHORT, SHORT)] {
            stream.set_read_timeout(Some(own)).unwrap();
            let start = Instant::now();
            let read = timeout(limit, || stream.read(&mut [0]).unwrap_err().kind());
            assert_eq!(read, Ok(ErrorKind::TimedOut));
            // The kernel, which times plain threads, counts in its ticks.
            assert!(start.elapsed() >= SHORT - Duration::from_millis(1));
        }
        // A socket's timeout that comes first leaves the limit as it is.
        stream.set_read_timeout(Some(SHORT)).unwrap();
        let result = timeout(SHORT * 4, || {
            assert!(stream.read(&mut [0]).is_err());
            thread::sleep(Duration::ZERO);
            stream.set_read_timeout(None).unwrap();
            stream.read(&mut [0]).unwrap_err().kind()
        });
        assert_eq!(result, Ok(ErrorKind::TimedOut));
    });
}

#[test]
fn a_wait_with_a_timeout_of_its_own_ends_by_that_if_it_is_shorter() {
    everywhere(|| {
        let result = timeout(LONG, || {
            let start = Instant::now();
            thread::park_timeout(SHORT);
            thread::sleep(SHORT);
            start.elapsed() >= SHORT
        });
        assert_eq!(result, Ok(true));
    });
}

#[test]
fn a_park_that_is_cut_leaves_the_token() {
    everywhere(|| {
        let me = thread::current();
        let result = timeout(Duration::ZERO, || {
            me.unpark();
            thread::sleep(SHORT);
        });
        assert!(result.is_err());
        thread::park();
    });
}

#[test]
fn a_limit_that_wraps_many_short_waits_counts_them_all() {
    everywhere(|| {
        let naps = Cell::new(0);
        let result = timeout(SHORT * 5, || {
            loop {
                thread::sleep(Duration::from_micros(300));
                naps.set(naps.get() + 1);
            }
        });
        let _: Elapsed = result.unwrap_err();
        assert!(naps.get() > 0);
    });
}
