//! `sync::broadcast`: every receiver gets every value, in order, or is told how many it missed.

mod support;
#[allow(unsafe_code)]
mod util;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cosocket::sync::broadcast::{self, RecvError, RecvTimeoutError, SendError, TryRecvError};
use cosocket::{run, spawn, thread};
use support::{Drops, assert_cancel_ends, assert_cancelled, on_workers, panic_quietly, suspended};
use util::{Random, is_quick};

#[test]
fn every_receiver_gets_what_is_sent_from_its_subscription_on() {
    let (sender, mut first) = broadcast::channel(4);
    assert_eq!(sender.send("a"), Ok(1));
    let mut second = sender.subscribe();
    assert_eq!(sender.send("b"), Ok(2));
    let mut third = first.resubscribe();
    assert_eq!(sender.clone().send("c"), Ok(3));
    assert_eq!((first.len(), second.len(), third.len()), (3, 2, 1));
    let all = |receiver: &mut broadcast::Receiver<_>| {
        std::iter::from_fn(|| receiver.try_recv().ok()).collect::<Vec<_>>()
    };
    assert_eq!(all(&mut first), ["a", "b", "c"]);
    assert_eq!(sender.len(), 2);
    assert_eq!(all(&mut second), ["b", "c"]);
    assert_eq!(sender.len(), 1);
    assert_eq!(all(&mut third), ["c"]);
    assert!(sender.is_empty() && first.is_empty());
    assert_eq!(first.try_recv(), Err(TryRecvError::Empty));
    assert!(!first.is_closed() && first.same_channel(&third));
    drop(sender);
    assert!(first.is_closed());
    assert_eq!(first.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(first.recv_timeout(Duration::MAX), Err(RecvTimeoutError::Closed));
}

#[test]
fn nothing_is_sent_where_nobody_receives() {
    let (sender, receiver) = broadcast::channel(1);
    drop(receiver);
    assert_eq!(sender.send(1), Err(SendError(1)));
    assert_eq!(sender.receiver_count(), 0);
    let mut receiver = sender.subscribe();
    assert_eq!(sender.send(2), Ok(1));
    assert_eq!(receiver.recv(), Ok(2));
}

#[test]
#[should_panic = "one value at least"]
fn a_channel_without_room_is_a_mistake() {
    broadcast::channel::<()>(0);
}

/// Exactly as many are kept as the channel was made for.
#[test]
fn one_who_lags_is_told_by_how_much_and_goes_on_with_the_oldest() {
    for capacity in 1..6_u64 {
        let (sender, mut receiver) = broadcast::channel(capacity as usize);
        for sent in 0..20_u64 {
            let mut receiver = receiver.resubscribe();
            (0..sent).for_each(|number| assert!(sender.send(number).is_ok()));
            let missed = sent.saturating_sub(capacity);
            if missed > 0 {
                assert_eq!(receiver.recv(), Err(RecvError::Lagged(missed)));
            }
            (missed..sent).for_each(|number| assert_eq!(receiver.recv(), Ok(number)));
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        }
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Lagged(190 - capacity)));
        drop(sender);
        (0..capacity).for_each(|_| assert!(receiver.recv().is_ok()));
        assert_eq!(receiver.recv(), Err(RecvError::Closed));
    }
}

/// The last one to come takes the value itself; what nobody comes for goes with the receiver.
#[test]
fn values_are_dropped_when_the_last_receiver_has_come_or_gone() {
    let drops = Drops::default();
    let (sender, mut first) = broadcast::channel(8);
    let mut second = sender.subscribe();
    (0..3).for_each(|_| assert!(sender.send(Arc::new(drops.counted())).is_ok()));
    drop(first.recv().unwrap());
    assert_eq!(drops.count(), 0);
    drop(second.recv().unwrap());
    assert_eq!(drops.count(), 1);
    drop(first.recv().unwrap());
    drop(second);
    assert_eq!(drops.count(), 2, "one was for the first still");
    drop(first);
    assert_eq!(drops.count(), 3);
    let _late = sender.subscribe();
    (0..9).for_each(|_| assert!(sender.send(Arc::new(drops.counted())).is_ok()));
    assert_eq!(drops.count(), 4, "overwritten");
    drop((sender, _late));
    assert_eq!(drops.count(), 12);
}

struct Awkward;

impl Clone for Awkward {
    fn clone(&self) -> Awkward {
        panic_quietly("in clone")
    }
}

impl Drop for Awkward {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            thread::yield_now();
            panic_quietly("in drop")
        }
    }
}

/// The user's code runs outside of the lock: it may wait and panic.
#[test]
fn a_clone_or_a_drop_that_panics_leaves_the_channel_usable() {
    run(|| {
        let (sender, mut first) = broadcast::channel(4);
        let second = sender.subscribe();
        sender.send(Awkward).ok().unwrap();
        sender.send(Awkward).ok().unwrap();
        let first = suspended(move || {
            let clone = std::panic::AssertUnwindSafe(|| first.recv().map(std::mem::forget));
            std::panic::catch_unwind(clone).unwrap_err();
            // It counts as received.
            assert_eq!(first.len(), 1);
        });
        first.join().unwrap();
        drop(second);
        assert!(sender.is_empty());
        assert_eq!(sender.receiver_count(), 0);
    });
}

#[test]
fn a_cancel_ends_every_kind_of_wait() {
    run(|| {
        let (sender, receiver) = broadcast::channel::<i32>(4);
        let waits: [fn(&mut broadcast::Receiver<i32>); 2] = [
            |receiver| assert!(receiver.recv().is_ok()),
            |receiver| assert!(receiver.recv_timeout(Duration::MAX).is_ok()),
        ];
        for wait in waits {
            let mut receiver = receiver.resubscribe();
            assert_cancel_ends(move || wait(&mut receiver));
        }
        assert_eq!(sender.receiver_count(), 1);
    });
}

/// One that never has to wait is cut all the same, and lets others run.
#[test]
fn a_receiver_that_never_waits_starves_nobody() {
    run(|| {
        let (sender, mut receiver) = broadcast::channel(4);
        let feeder = sender.clone();
        let busy = suspended(move || {
            loop {
                feeder.send(1).unwrap();
                receiver.recv().unwrap();
            }
        });
        busy.cancel();
        assert_cancelled(busy.join());
        drop(sender);
    });
}

#[test]
fn a_timeout_never_ends_early() {
    let check = || {
        let (sender, mut receiver) = broadcast::channel(4);
        for timeout in [0, 1_000, 65_537, 2_000_000].map(Duration::from_nanos) {
            let start = Instant::now();
            assert_eq!(receiver.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
            assert!(start.elapsed() >= timeout);
        }
        sender.send(2).unwrap();
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(2));
    };
    check();
    run(check);
}

/// Several senders, receivers in coroutines and threads, cancels: each value of each sender is
/// received once and in order, or counted as missed.
#[test]
fn a_storm_accounts_for_every_value() {
    const SENDERS: usize = 3;
    let each = if is_quick() { 100 } else { 5000 };
    let mut random = Random::new();
    let (sender, _) = broadcast::channel::<(usize, u64)>(16);
    let over = Arc::new(AtomicBool::new(false));
    let lags = Arc::new(AtomicUsize::new(0));
    let reader = |mut receiver: broadcast::Receiver<(usize, u64)>, mut random: Random| {
        let (over, lags) = (Arc::clone(&over), Arc::clone(&lags));
        move || {
            let (mut next, mut received, mut missed) = ([0; SENDERS], 0, 0);
            loop {
                let result = match random.below(3) {
                    0 => receiver.recv_timeout(Duration::from_micros(random.below(50))),
                    _ => receiver.recv().map_err(|error| match error {
                        RecvError::Closed => RecvTimeoutError::Closed,
                        RecvError::Lagged(missed) => RecvTimeoutError::Lagged(missed),
                    }),
                };
                match result {
                    Ok((sender, number)) => {
                        assert!(number >= next[sender], "{number} again or late");
                        next[sender] = number + 1;
                        received += 1;
                    }
                    Err(RecvTimeoutError::Lagged(count)) => {
                        missed += count;
                        lags.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Closed) => {
                        assert!(over.load(Ordering::SeqCst));
                        return received + missed;
                    }
                }
                if random.one_in(50) {
                    (0..random.below(20)).for_each(|_| thread::yield_now());
                }
            }
        }
    };
    on_workers(3, || {
        let mut next = || reader(sender.subscribe(), random.split());
        let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(next())).collect();
        let readers: Vec<_> = (0..15).map(|_| spawn(next())).collect();
        let senders: Vec<_> = (0..SENDERS)
            .map(|number| {
                let (sender, mut random) = (sender.clone(), random.split());
                spawn(move || {
                    for value in 0..each {
                        sender.send((number, value)).unwrap();
                        if random.one_in(4) {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        for reader in readers.iter().step_by(3) {
            (0..random.below(5)).for_each(|_| thread::yield_now());
            reader.cancel();
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        over.store(true, Ordering::SeqCst);
        drop(sender);
        let sent = SENDERS as u64 * each;
        for (number, reader) in readers.into_iter().enumerate() {
            match reader.join() {
                Ok(accounted) => assert_eq!(accounted, sent),
                result if number % 3 == 0 => assert_cancelled(result),
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
        for thread in threads {
            assert_eq!(cosocket::unblock(|| thread.join().unwrap()), sent);
        }
    });
    println!("{} lags", lags.load(Ordering::Relaxed));
}
