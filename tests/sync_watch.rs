//! `sync::watch`: the latest value, seen by all, and versions that never go back.

mod support;
#[allow(unsafe_code)]
mod util;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cosocket::sync::watch::{self, RecvError, RecvTimeoutError, SendError};
use cosocket::{run, spawn, thread};
use support::{assert_cancel_ends, assert_cancelled, on_workers, panic_quietly, suspended};
use util::{Random, is_quick};

#[test]
fn what_was_seen_and_what_was_not() {
    let (sender, mut receiver) = watch::channel(1);
    assert_eq!(receiver.has_changed(), Ok(false));
    assert!(!receiver.borrow().has_changed());
    sender.send(2).unwrap();
    assert_eq!(receiver.has_changed(), Ok(true));
    assert!(receiver.borrow().has_changed() && *receiver.borrow() == 2);
    receiver.changed().unwrap();
    assert_eq!(receiver.has_changed(), Ok(false));
    sender.send_modify(|value| *value += 1);
    let mut late = receiver.clone();
    assert_eq!(*receiver.borrow_and_update(), 3);
    assert_eq!(receiver.has_changed(), Ok(false));
    assert_eq!(late.has_changed(), Ok(true), "a clone goes on from where its origin was");
    late.mark_unchanged();
    assert_eq!(late.has_changed(), Ok(false));
    late.mark_changed();
    late.changed().unwrap();
    assert!(!sender.send_if_modified(|_| false));
    assert_eq!(receiver.has_changed(), Ok(false));
    assert_eq!(sender.send_replace(4), 3);
    assert_eq!(sender.subscribe().has_changed(), Ok(false));
    assert_eq!(*sender.borrow(), 4);
}

#[test]
fn an_unseen_last_value_comes_before_the_end() {
    let (sender, mut receiver) = watch::channel(1);
    let other = sender.clone();
    drop(other);
    sender.send(2).unwrap();
    drop(sender);
    assert_eq!(receiver.has_changed(), Ok(true));
    assert_eq!(receiver.changed(), Ok(()));
    assert_eq!(receiver.changed(), Err(RecvError));
    assert_eq!(receiver.has_changed(), Err(RecvError));
    let end = receiver.changed_timeout(Duration::MAX);
    assert_eq!(end, Err(RecvTimeoutError::Disconnected));
    assert_eq!(*receiver.wait_for(|&value| value == 2).unwrap(), 2);
    assert!(receiver.wait_for(|&value| value == 3).is_err());
}

#[test]
fn nothing_is_sent_where_nobody_receives() {
    let (sender, receiver) = watch::channel(1);
    assert!(!sender.is_closed());
    drop(receiver);
    assert!(sender.is_closed());
    assert_eq!(sender.send(2), Err(SendError(2)));
    assert_eq!(*sender.borrow(), 1);
    sender.closed();
    let receiver = sender.subscribe();
    assert_eq!(sender.receiver_count(), 1);
    sender.send(3).unwrap();
    assert_eq!(*receiver.borrow(), 3);
    let other = watch::Sender::<i32>::default();
    assert!(!sender.same_channel(&other) && sender.same_channel(&sender.clone()));
    assert_eq!(sender.sender_count(), 1);
}

#[test]
fn the_last_sender_and_the_last_receiver_wake_the_other_side() {
    run(|| {
        let (sender, mut receiver) = watch::channel(());
        let waiting = suspended(move || receiver.changed());
        drop(sender);
        assert_eq!(waiting.join().unwrap(), Err(RecvError));
        let (sender, receiver) = watch::channel(());
        let second = receiver.clone();
        let waiting = suspended(move || sender.closed());
        drop(receiver);
        (0..10).for_each(|_| thread::yield_now());
        assert!(!waiting.is_finished());
        drop(second);
        waiting.join().unwrap();
    });
}

/// A borrow is held across a wait; the sender waits for it, and the worker goes on.
#[test]
fn a_sender_waits_for_borrows_to_end() {
    run(|| {
        let (sender, receiver) = watch::channel(1);
        let borrower = suspended({
            let receiver = receiver.clone();
            move || {
                let value = receiver.borrow();
                thread::park();
                *value
            }
        });
        let sent = Rc::new(Cell::new(false));
        let flag = Rc::clone(&sent);
        let sending = suspended(move || {
            sender.send(2).unwrap();
            flag.set(true);
        });
        (0..10).for_each(|_| thread::yield_now());
        assert!(!sent.get());
        borrower.thread().unpark();
        assert_eq!(borrower.join().unwrap(), 1);
        sending.join().unwrap();
        assert_eq!(*receiver.borrow(), 2);
    });
}

/// Who gives up sending, or panics while it changes the value, leaves the channel usable.
#[test]
fn a_send_that_is_cut_short_is_no_new_value() {
    run(|| {
        let (sender, receiver) = watch::channel(1);
        let sender = Rc::new(sender);
        let borrowed = receiver.borrow();
        let cut = Rc::clone(&sender);
        assert_cancel_ends(move || {
            cut.send_replace(2);
        });
        drop(borrowed);
        let panics = || sender.send_modify(|_| panic_quietly("by hand"));
        catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
        let parked = suspended({
            let sender = Rc::clone(&sender);
            move || sender.send_modify(|_| thread::park())
        });
        let reader = suspended({
            let receiver = receiver.clone();
            move || *receiver.borrow()
        });
        (0..10).for_each(|_| thread::yield_now());
        assert!(!reader.is_finished());
        parked.cancel();
        assert_cancelled(parked.join());
        assert_eq!(reader.join().unwrap(), 1);
        assert_eq!(receiver.has_changed(), Ok(false));
        sender.send(5).unwrap();
        assert_eq!(receiver.has_changed(), Ok(true));
    });
}

#[test]
fn a_cancel_ends_every_kind_of_wait() {
    run(|| {
        let (sender, receiver) = watch::channel(1);
        let waits: [fn(&mut watch::Receiver<i32>); 3] = [
            |receiver| receiver.changed().unwrap(),
            |receiver| receiver.changed_timeout(Duration::MAX).unwrap(),
            |receiver| drop(receiver.wait_for(|&value| value == 9).unwrap()),
        ];
        for wait in waits {
            let mut receiver = receiver.clone();
            assert_cancel_ends(move || wait(&mut receiver));
        }
        assert_eq!(sender.receiver_count(), 1);
        assert_cancel_ends(move || sender.closed());
    });
}

#[test]
fn a_timeout_never_ends_early() {
    let check = || {
        let (sender, mut receiver) = watch::channel(1);
        for timeout in [0, 1_000, 65_537, 2_000_000].map(Duration::from_nanos) {
            let start = Instant::now();
            let late = receiver.changed_timeout(timeout);
            assert_eq!(late, Err(RecvTimeoutError::Timeout));
            assert!(start.elapsed() >= timeout);
        }
        sender.send(2).unwrap();
        assert_eq!(receiver.changed_timeout(Duration::ZERO), Ok(()));
    };
    check();
    run(check);
}

/// Senders count up; every receiver, in a coroutine or a thread, sees numbers that only go up, and
/// the last one, whatever it is cancelled out of.
#[test]
fn a_storm_never_goes_back_and_always_shows_the_last_value() {
    let rounds = if is_quick() { 50 } else { 2000 };
    let mut random = Random::new();
    // Two words that only a torn value would show as different.
    let (sender, receiver) = watch::channel((0_u64, 0_u64));
    let over = Arc::new(AtomicBool::new(false));
    let watcher = |mut random: Random| {
        let (mut receiver, over) = (receiver.clone(), Arc::clone(&over));
        move || {
            let mut last = 0;
            let mut check = |value: (u64, u64)| {
                assert_eq!(value.0, value.1);
                assert!(value.0 >= last, "{} after {last}", value.0);
                last = value.0;
            };
            loop {
                let timeout = Duration::from_micros(random.below(100));
                let result = match random.below(3) {
                    0 => receiver.changed().map_err(|_| ()),
                    1 => receiver.changed_timeout(timeout).or_else(|error| match error {
                        RecvTimeoutError::Timeout => Ok(()),
                        RecvTimeoutError::Disconnected => Err(()),
                    }),
                    _ => receiver.wait_for(|&(one, _)| one % 2 == 1).map(|_| ()).map_err(|_| ()),
                };
                let value = receiver.borrow_and_update();
                check(*value);
                if random.one_in(4) {
                    thread::yield_now();
                }
                drop(value);
                if result.is_err() {
                    assert!(over.load(Ordering::SeqCst));
                    return last;
                }
            }
        }
    };
    on_workers(3, || {
        let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(watcher(random.split()))).collect();
        let watchers: Vec<_> = (0..20).map(|_| spawn(watcher(random.split()))).collect();
        let senders: Vec<_> = (0..3)
            .map(|_| {
                let (sender, mut random) = (sender.clone(), random.split());
                spawn(move || {
                    for _ in 0..rounds {
                        sender.send_modify(|(one, other)| {
                            *one += 1;
                            if random.one_in(10) {
                                thread::yield_now();
                            }
                            *other += 1;
                        });
                    }
                })
            })
            .collect();
        for watcher in watchers.iter().step_by(3) {
            watcher.cancel();
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        over.store(true, Ordering::SeqCst);
        drop(sender);
        let last = 3 * rounds;
        for (number, watcher) in watchers.into_iter().enumerate() {
            match watcher.join() {
                Ok(seen) => assert_eq!(seen, last),
                result if number % 3 == 0 => assert_cancelled(result),
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
        threads
            .into_iter()
            .for_each(|one| assert_eq!(cosocket::unblock(|| one.join().unwrap()), last));
    });
}
