//! `park` and `unpark`: one token, from anywhere, at any time.

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cosocket::thread::{self, Thread};
use cosocket::{Builder, run, spawn, spawn_local};
use support::{on_workers, suspended, until};

#[test]
fn a_token_given_before_makes_park_return_at_once() {
    run(|| {
        let me = thread::current();
        for _ in 0..1000 {
            me.unpark();
            thread::park();
        }
    });
}

#[test]
fn two_tokens_are_one() {
    run(|| {
        let parks = Rc::new(Cell::new(0));
        let counter = Rc::clone(&parks);
        let sleeper = suspended(move || {
            loop {
                thread::park();
                counter.set(counter.get() + 1);
            }
        });
        sleeper.thread().unpark();
        sleeper.thread().unpark();
        (0..1000).for_each(|_| thread::yield_now());
        assert_eq!(parks.get(), 1);
        sleeper.cancel();
    });
}

#[test]
fn one_unparks_itself() {
    run(|| {
        thread::current().unpark();
        thread::park();
        thread::current().unpark();
        thread::park_timeout(Duration::MAX);
    });
}

#[test]
fn a_plain_thread_unparks() {
    let runtime = Builder::new().build().unwrap();
    for _ in 0..100 {
        let (sender, receiver) = mpsc::channel();
        let handle = runtime.spawn(move || {
            sender.send(thread::current()).unwrap();
            thread::park();
        });
        receiver.recv().unwrap().unpark();
        handle.join().unwrap();
    }
}

#[test]
fn a_plain_thread_is_unparked_by_a_coroutine() {
    let me = thread::current();
    let token = Arc::new(AtomicBool::new(false));
    let given = Arc::clone(&token);
    let handle = thread::spawn(move || {
        given.store(true, Ordering::SeqCst);
        me.unpark();
    });
    while !token.load(Ordering::SeqCst) {
        thread::park();
    }
    handle.join().unwrap();
}

#[test]
fn an_unpark_before_the_start_is_not_lost() {
    run(|| {
        for _ in 0..100 {
            let local = spawn_local(thread::park);
            local.thread().unpark();
            let anywhere = spawn(thread::park);
            anywhere.thread().unpark();
            local.join().unwrap();
            anywhere.join().unwrap();
        }
    });
    let runtime = Builder::new().build().unwrap();
    for _ in 0..100 {
        let handle = runtime.spawn(thread::park);
        handle.thread().unpark();
        handle.join().unwrap();
    }
}

#[test]
fn an_unpark_after_the_end_does_nothing() {
    run(|| {
        let handle = spawn_local(|| ());
        let over = handle.thread().clone();
        handle.join().unwrap();
        // Probably in the same control block.
        let disturbed = Rc::new(Cell::new(false));
        let flag = Rc::clone(&disturbed);
        let next = suspended(move || {
            thread::park();
            flag.set(true);
        });
        over.unpark();
        (0..100).for_each(|_| thread::yield_now());
        assert!(!disturbed.get());
        next.thread().unpark();
        next.join().unwrap();
    });
}

#[test]
fn park_timeout_does_not_end_early() {
    run(|| {
        for micros in [0, 1, 65, 66, 500, 3000] {
            let timeout = Duration::from_micros(micros);
            let start = Instant::now();
            thread::park_timeout(timeout);
            assert!(start.elapsed() >= timeout, "{micros} µs");
        }
    });
}

#[test]
fn a_token_is_left_for_the_next_park_or_taken_by_the_one_that_timed_out_but_never_doubled() {
    run(|| {
        let parks = Rc::new(Cell::new(0));
        let counter = Rc::clone(&parks);
        let sleeper = suspended(move || {
            thread::park_timeout(Duration::from_micros(1));
            // The token below comes after this timeout, and for the next park.
            counter.set(1);
            thread::park();
            counter.set(2);
            thread::park();
            counter.set(3);
        });
        until(|| parks.get() == 1);
        sleeper.thread().unpark();
        until(|| parks.get() == 2);
        (0..1000).for_each(|_| thread::yield_now());
        assert_eq!(parks.get(), 2);
        sleeper.thread().unpark();
        sleeper.join().unwrap();
    });
}

#[test]
fn an_unpark_in_a_sleep_is_kept_for_park() {
    run(|| {
        let start = Instant::now();
        let length = Duration::from_millis(5);
        let sleeper = suspended(move || {
            thread::sleep(length);
            assert!(start.elapsed() >= length);
            thread::park();
        });
        sleeper.thread().unpark();
        sleeper.join().unwrap();
    });
}

#[test]
fn what_came_before_unpark_is_seen_after_park() {
    on_workers(3, || {
        let value = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&value);
        let reader = spawn(move || {
            for round in 1..=10_000 {
                while seen.load(Ordering::Relaxed) < round {
                    thread::park();
                }
            }
        });
        let reader_thread = reader.thread().clone();
        spawn(move || {
            for round in 1..=10_000 {
                value.store(round, Ordering::Relaxed);
                reader_thread.unpark();
                if round % 64 == 0 {
                    thread::yield_now();
                }
            }
        })
        .join()
        .unwrap();
        reader.join().unwrap();
    });
}

/// Waits for `turn` to be `mine`, hands it over; `rounds` times.
fn play(turn: &AtomicU64, mine: u64, rounds: u64, other: &Thread) {
    for round in 0..rounds {
        while turn.load(Ordering::Acquire) != 2 * round + mine {
            thread::park();
        }
        turn.store(2 * round + mine + 1, Ordering::Release);
        other.unpark();
    }
}

const ROUNDS: u64 = 50_000;

#[test]
fn a_hundred_thousand_turns_on_one_worker() {
    run(|| {
        let turn = Rc::new(AtomicU64::new(0));
        let (mine, me) = (Rc::clone(&turn), thread::current());
        let other = spawn_local(move || play(&mine, 1, ROUNDS, &me));
        play(&turn, 0, ROUNDS, other.thread());
        other.join().unwrap();
    });
}

#[test]
fn a_hundred_thousand_turns_between_two_workers() {
    let turn = Arc::new(AtomicU64::new(0));
    let (one, other) =
        (Builder::new().workers(1).build().unwrap(), Builder::new().workers(1).build().unwrap());
    let (sender, receiver) = mpsc::channel::<Thread>();
    let theirs = Arc::clone(&turn);
    let second = other.spawn(move || {
        let partner = cosocket::unblock(move || receiver.recv().unwrap());
        play(&theirs, 1, ROUNDS, &partner);
    });
    let second_thread = second.thread().clone();
    let first = one.spawn(move || {
        sender.send(thread::current()).unwrap();
        play(&turn, 0, ROUNDS, &second_thread);
    });
    first.join().unwrap();
    second.join().unwrap();
}

/// The yielder went first again, before those that it had just spawned.
#[test]
fn a_yield_lets_those_go_first_that_were_just_spawned() {
    use std::cell::Cell;
    use std::rc::Rc;
    cosocket::run(|| {
        let ran = Rc::new(Cell::new(0));
        let handles: Vec<_> = (0..3)
            .map(|_| {
                let ran = Rc::clone(&ran);
                cosocket::spawn_local(move || ran.set(ran.get() + 1))
            })
            .collect();
        for _ in 0..3 {
            cosocket::thread::yield_now();
        }
        assert_eq!(ran.get(), 3);
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
}
