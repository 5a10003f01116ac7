//! `sync::oneshot`: one value, received once or dropped once; each side learns that the other went.

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cosocket::sync::oneshot::{self, RecvError, RecvTimeoutError, TryRecvError};
use cosocket::{run, spawn};
use support::ledger::Ledger;
use support::{Drops, assert_cancel_ends, assert_cancelled, on_workers, suspended};

/// On a plain thread and in a coroutine.
fn both(check: impl Fn() + Send + Sync) {
    check();
    run(&check);
}

#[test]
fn the_value_arrives_whoever_comes_first() {
    both(|| {
        let (sender, receiver) = oneshot::channel();
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        sender.send(1).unwrap();
        assert_eq!(receiver.recv(), Ok(1));

        let (sender, receiver) = oneshot::channel();
        let waiting = spawn(move || receiver.recv());
        sender.send(2).unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(2));

        let (sender, receiver) = oneshot::channel();
        let waiting = std::thread::spawn(move || receiver.recv());
        sender.send(3).unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(3));
    });
}

#[test]
fn there_is_one_value() {
    both(|| {
        let (sender, receiver) = oneshot::channel();
        sender.send(1).unwrap();
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(receiver.recv(), Err(RecvError));
    });
}

#[test]
fn a_sender_that_goes_ends_the_wait() {
    both(|| {
        let (sender, receiver) = oneshot::channel::<i32>();
        let waiting = spawn(move || receiver.recv());
        drop(sender);
        assert_eq!(waiting.join().unwrap(), Err(RecvError));
    });
}

#[test]
fn a_timeout_leaves_the_value_to_come() {
    both(|| {
        let (sender, receiver) = oneshot::channel();
        let start = Instant::now();
        let early = receiver.recv_timeout(Duration::from_millis(2));
        assert_eq!(early, Err(RecvTimeoutError::Timeout));
        assert!(start.elapsed() >= Duration::from_millis(2));
        sender.send(1).unwrap();
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(1));
    });
}

#[test]
fn a_receiver_that_goes_gives_the_value_back_or_drops_it() {
    both(|| {
        let drops = Drops::default();
        let (sender, receiver) = oneshot::channel();
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
        let value = sender.send(drops.counted()).unwrap_err();
        assert_eq!(drops.count(), 0);
        drop(value);
        let (sender, receiver) = oneshot::channel();
        assert!(sender.send(drops.counted()).is_ok());
        assert_eq!(drops.count(), 1);
        drop(receiver);
        assert_eq!(drops.count(), 2);
    });
}

#[test]
fn a_sender_can_wait_for_the_receiver_to_go() {
    run(|| {
        let (sender, receiver) = oneshot::channel::<i32>();
        let seen = Rc::new(Cell::new(false));
        let flag = Rc::clone(&seen);
        let waiting = suspended(move || {
            sender.closed();
            sender.closed();
            flag.set(true);
            sender.send(1)
        });
        cosocket::thread::yield_now();
        assert!(!seen.get());
        drop(receiver);
        assert_eq!(waiting.join().unwrap(), Err(1));
    });
    let (sender, receiver) = oneshot::channel::<i32>();
    let client = spawn(move || drop(receiver));
    sender.closed();
    client.join().unwrap();
}

#[test]
fn a_cancel_ends_either_wait() {
    run(|| {
        let (sender, receiver) = oneshot::channel::<i32>();
        assert_cancel_ends(move || _ = receiver.recv());
        assert_eq!(sender.send(1), Err(1));
        assert_cancel_ends(|| {
            let (sender, _receiver) = oneshot::channel::<i32>();
            sender.closed();
        });
    });
}

#[test]
fn a_value_sent_before_the_cancel_is_received() {
    run(|| {
        let (sender, receiver) = oneshot::channel();
        let received = Rc::new(Cell::new(0));
        let place = Rc::clone(&received);
        let waiting = suspended(move || {
            place.set(receiver.recv().unwrap());
            cosocket::thread::park();
        });
        sender.send(1).unwrap();
        waiting.cancel();
        assert_cancelled(waiting.join());
        assert_eq!(received.get(), 1);
    });
}

#[test]
fn no_value_is_lost_when_both_sides_go_at_once() {
    let rounds = 2000;
    for workers in [1, 3] {
        let ledger = Ledger::new(rounds);
        on_workers(workers, || {
            while let Some(token) = ledger.issue() {
                let (sender, receiver) = oneshot::channel();
                let ledger = Arc::clone(&ledger);
                let kept = Rc::new(receiver);
                let kind = token.number % 3;
                let sending = spawn(move || {
                    let number = token.number;
                    match sender.send(token) {
                        Ok(()) => ledger.note_sent(number),
                        Err(token) => token.give_back(),
                    }
                });
                let other = Rc::clone(&kept);
                let receiving = cosocket::spawn_local(move || {
                    let timeout = if kind == 0 { Duration::MAX } else { Duration::ZERO };
                    if let Ok(token) = other.recv_timeout(timeout) {
                        token.receive();
                    }
                });
                if kind == 1 {
                    receiving.cancel();
                }
                let _ = receiving.join();
                sending.join().unwrap();
                if let Ok(token) = kept.try_recv() {
                    token.receive();
                }
            }
        });
        assert_eq!(ledger.check().received, rounds);
    }
}
