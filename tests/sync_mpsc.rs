//! `sync::mpsc`: order, limits, disconnects, rendezvous, cancels; no value lost and none twice.

#![allow(unsafe_code)]

mod support;
mod util;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cosocket::sync::mpsc::{
    self, Receiver, RecvError, RecvTimeoutError, SendError, SyncSender, TryRecvError, TrySendError,
};
use cosocket::{run, spawn, spawn_local, thread, time, unblock};
use support::ledger::{Ledger, Token};
use support::{
    Drops, OnDrop, assert_cancel_ends, assert_cancelled, on_workers, panic_quietly, suspended,
    until,
};
use util::{Random, is_quick};

/// On a plain thread and in a coroutine.
fn both(check: impl Fn() + Send + Sync) {
    check();
    run(&check);
}

#[test]
fn values_arrive_in_order_from_either_kind_to_either_kind() {
    let count = if is_quick() { 200 } else { 5000 };
    let senders: [fn(usize) -> Receiver<usize>; 2] = [
        |count| {
            let (sender, receiver) = mpsc::sync_channel(3);
            thread::spawn(move || (0..count).for_each(|number| sender.send(number).unwrap()));
            receiver
        },
        |count| {
            let (sender, receiver) = mpsc::channel();
            std::thread::spawn(move || (0..count).for_each(|number| sender.send(number).unwrap()));
            receiver
        },
    ];
    both(|| {
        for start in senders {
            assert!(start(count).iter().eq(0..count));
        }
    });
}

#[test]
fn what_was_sent_is_received_after_the_senders_are_gone() {
    both(|| {
        let (sender, receiver) = mpsc::channel();
        let (bounded, queue) = mpsc::sync_channel(2);
        for number in 0..2 {
            sender.clone().send(number).unwrap();
            bounded.send(number).unwrap();
        }
        drop((sender, bounded));
        for receiver in [receiver, queue] {
            assert_eq!((receiver.recv(), receiver.try_recv()), (Ok(0), Ok(1)));
            assert_eq!(receiver.recv(), Err(RecvError));
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
            let timed = receiver.recv_timeout(Duration::MAX);
            assert_eq!(timed, Err(RecvTimeoutError::Disconnected));
        }
    });
}

#[test]
fn the_last_sender_to_go_wakes_the_receiver() {
    both(|| {
        let (sender, receiver) = mpsc::channel::<i32>();
        let senders = vec![sender; 3];
        let waiting = spawn(move || receiver.recv());
        senders.into_iter().for_each(drop);
        assert_eq!(waiting.join().unwrap(), Err(RecvError));
    });
}

#[test]
fn a_receiver_that_goes_gives_senders_their_values_back() {
    both(|| {
        let (sender, receiver) = mpsc::channel();
        drop(receiver);
        assert_eq!(sender.send(1), Err(SendError(1)));
        for bound in [0, 1] {
            let (sender, receiver) = mpsc::sync_channel(bound);
            for number in 0..bound {
                sender.send(number).unwrap();
            }
            let waiting: Vec<_> = (10..13)
                .map(|number| {
                    let sender = sender.clone();
                    spawn(move || sender.send(number))
                })
                .collect();
            // Whether they wait already or come later, they get the same answer.
            drop(receiver);
            for (number, waiting) in (10..13).zip(waiting) {
                assert_eq!(waiting.join().unwrap(), Err(SendError(number)));
            }
            assert_eq!(sender.try_send(9), Err(TrySendError::Disconnected(9)));
        }
    });
}

#[test]
fn a_receiver_that_goes_drops_what_it_did_not_receive() {
    both(|| {
        let drops = Drops::default();
        let (sender, receiver) = mpsc::channel();
        for _ in 0..5 {
            assert!(sender.send(drops.counted()).is_ok());
        }
        drop(receiver.recv().unwrap());
        assert_eq!(drops.count(), 1);
        drop(receiver);
        assert_eq!(drops.count(), 5);
        drop(sender.send(drops.counted()).unwrap_err());
        assert_eq!(drops.count(), 6);
    });
}

#[test]
fn a_destructor_that_panics_leaves_senders_with_an_answer() {
    run(|| {
        let (sender, receiver) = mpsc::sync_channel(1);
        let panics = || OnDrop(|| panic_quietly("dropped in the queue"));
        assert!(sender.send(Some(panics())).is_ok());
        let other = sender.clone();
        let waiting = spawn(move || other.send(None).is_err());
        until(|| sender.try_send(None).is_err());
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(receiver)));
        assert!(dropped.is_err());
        assert!(waiting.join().unwrap(), "nobody receives any more");
        assert!(matches!(sender.try_send(None), Err(TrySendError::Disconnected(_))));
    });
}

#[test]
fn a_full_channel_makes_the_next_sender_wait_for_room() {
    run(|| {
        let (sender, receiver) = mpsc::sync_channel(2);
        let sent = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&sent);
        let waiting = suspended(move || {
            for number in 0..4 {
                sender.send(number).unwrap();
                log.borrow_mut().push(number);
            }
        });
        assert_eq!(*sent.borrow(), [0, 1]);
        assert_eq!(receiver.recv(), Ok(0));
        until(|| *sent.borrow() == [0, 1, 2]);
        assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Ok(2)));
        waiting.join().unwrap();
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [3]);
    });
}

#[test]
fn with_a_bound_of_zero_a_send_returns_when_the_value_was_taken() {
    run(|| {
        let (sender, receiver) = mpsc::sync_channel(0);
        assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        let other = sender.clone();
        let sending = suspended(move || other.send(2));
        assert!(!sending.is_finished());
        assert_eq!(receiver.try_recv(), Ok(2));
        sending.join().unwrap().unwrap();

        let receiving = suspended(move || (receiver.recv(), receiver));
        assert_eq!(sender.try_send(3), Ok(()));
        assert_eq!(sender.try_send(4), Err(TrySendError::Full(4)));
        let (received, receiver) = receiving.join().unwrap();
        assert_eq!(received, Ok(3));
        let early = receiver.recv_timeout(Duration::from_millis(2));
        assert_eq!(early, Err(RecvTimeoutError::Timeout));
        assert_eq!(sender.try_send(5), Err(TrySendError::Full(5)), "the receiver has left");
    });
}

#[test]
fn a_rendezvous_of_thread_and_coroutine() {
    both(|| {
        let (sender, receiver) = mpsc::sync_channel(0);
        let (back, forth) = (sender.clone(), sender);
        let thread = std::thread::spawn(move || (0..100).for_each(|n| back.send(n).unwrap()));
        let coroutine = spawn(move || (100..200).for_each(|n| forth.send(n).unwrap()));
        let mut received: Vec<i32> = receiver.iter().collect();
        received.sort_unstable();
        assert!(received.into_iter().eq(0..200));
        thread.join().unwrap();
        coroutine.join().unwrap();
    });
}

#[test]
fn a_timeout_is_not_early_and_leaves_the_channel_as_it_was() {
    both(|| {
        let (sender, receiver) = mpsc::channel();
        for timeout in [Duration::ZERO, Duration::from_millis(3)] {
            let start = Instant::now();
            assert_eq!(receiver.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
            assert!(start.elapsed() >= timeout);
        }
        sender.send(1).unwrap();
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(1));
        let later = spawn(move || sender.send(2));
        assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(2));
        later.join().unwrap().unwrap();
    });
}

#[test]
fn a_cancel_ends_either_wait() {
    run(|| {
        let (sender, receiver) = mpsc::channel::<i32>();
        assert_cancel_ends(move || _ = receiver.recv());
        assert_eq!(sender.send(1), Err(SendError(1)), "its receiver was dropped in the unwind");
        let (sender, receiver) = mpsc::channel::<i32>();
        assert_cancel_ends(move || _ = receiver.recv_timeout(Duration::MAX));
        drop(sender);
        assert_cancel_ends(|| {
            let (sender, _receiver) = mpsc::sync_channel(0);
            let _ = sender.send(1);
        });
    });
}

#[test]
fn a_timeout_around_either_wait_ends_it_and_loses_nothing() {
    both(|| {
        let (sender, receiver) = mpsc::sync_channel(1);
        let soon = Duration::from_millis(2);
        let start = Instant::now();
        assert!(time::timeout(soon, || receiver.recv()).is_err());
        assert!(start.elapsed() >= soon);
        sender.send(1).unwrap();
        assert!(time::timeout(soon, || sender.send(2)).is_err());
        assert_eq!(time::timeout(soon, || receiver.recv()).unwrap(), Ok(1));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "its sender has left");
        let sent = time::timeout(Duration::MAX, || sender.send(3));
        assert_eq!((sent.unwrap(), receiver.recv()), (Ok(()), Ok(3)));
    });
}

#[test]
fn a_cancelled_send_drops_its_value_once_and_nobody_receives_it() {
    run(|| {
        for bound in [0, 1] {
            let drops = Drops::default();
            let (sender, receiver) = mpsc::sync_channel(bound);
            for _ in 0..bound {
                assert!(sender.send(None).is_ok());
            }
            let (value, other) = (drops.counted(), sender.clone());
            let sending = suspended(move || other.send(Some(value)).is_ok());
            sending.cancel();
            assert_cancelled(sending.join());
            assert_eq!(drops.count(), 1);
            drop(sender);
            assert_eq!(receiver.iter().map(|value| assert!(value.is_none())).count(), bound);
        }
    });
}

#[test]
fn a_value_handed_over_before_the_cancel_is_received() {
    run(|| {
        let (sender, receiver) = mpsc::channel();
        let received = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&received);
        let receiving = suspended(move || {
            loop {
                log.borrow_mut().push(receiver.recv());
            }
        });
        // It is here that both come before it runs again.
        sender.send(1).unwrap();
        receiving.cancel();
        assert_cancelled(receiving.join());
        assert_eq!(*received.borrow(), [Ok(1)]);

        let (sender, receiver) = mpsc::sync_channel(0);
        let sent = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&sent);
        let sending = suspended(move || {
            for number in 1.. {
                log.borrow_mut().push(sender.send(number));
            }
        });
        assert_eq!(receiver.try_recv(), Ok(1));
        sending.cancel();
        assert_cancelled(sending.join());
        assert_eq!(*sent.borrow(), [Ok(())], "what was received was sent");
    });
}

#[test]
fn a_pending_cancel_takes_no_value() {
    run(|| {
        let (sender, receiver) = mpsc::channel();
        sender.send(1).unwrap();
        let receiver = Rc::new(receiver);
        let other = Rc::clone(&receiver);
        let receiving = suspended(move || {
            thread::shield(thread::park);
            other.recv()
        });
        receiving.cancel();
        receiving.thread().unpark();
        assert_cancelled(receiving.join());
        assert_eq!(receiver.try_recv(), Ok(1));
    });
}

#[test]
fn a_call_that_cannot_wait_is_not_cancelled() {
    run(|| {
        let (sender, receiver) = mpsc::channel();
        let sending = suspended(move || {
            thread::shield(thread::park);
            sender.send(1).unwrap();
            thread::park();
        });
        sending.cancel();
        sending.thread().unpark();
        assert_cancelled(sending.join());
        assert_eq!(receiver.recv(), Ok(1));
    });
}

#[test]
fn a_destructor_may_send_and_receive_while_it_unwinds() {
    run(|| {
        let (sender, receiver) = mpsc::sync_channel(0);
        let (answer, answered) = mpsc::sync_channel(0);
        let unwinding = suspended(move || {
            let _bye = OnDrop(move || {
                sender.send("bye").unwrap();
                assert_eq!(answered.recv(), Ok("bye"));
            });
            thread::park();
        });
        unwinding.cancel();
        assert_eq!(receiver.recv(), Ok("bye"));
        answer.send("bye").unwrap();
        assert_cancelled(unwinding.join());
    });
}

#[test]
fn one_who_always_finds_a_value_lets_others_run() {
    on_workers(1, || {
        let (sender, receiver) = mpsc::sync_channel(1);
        let stop = Rc::new(RefCell::new(false));
        let stopped = Rc::clone(&stop);
        let busy = spawn_local(move || {
            // To itself: it never has to wait.
            while !*stopped.borrow() {
                sender.send(1).unwrap();
                receiver.recv().unwrap();
            }
        });
        thread::yield_now();
        *stop.borrow_mut() = true;
        busy.join().unwrap();
    });
}

/// Senders that are cancelled, and a receiver that times out and is cancelled and comes again.
fn storm(workers: usize, bound: usize) {
    let tokens = if is_quick() { 500 } else { 20_000 };
    let ledger = Ledger::new(tokens);
    let mut random = Random::new();
    on_workers(workers, || {
        let (sender, receiver) = mpsc::sync_channel::<Token>(bound);
        let receiving = receive_and_be_cut(receiver, random.split());
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (sender, ledger) = (sender.clone(), Arc::clone(&ledger));
                let random = random.split();
                std::thread::spawn(move || send_some(&sender, &ledger, random, usize::MAX))
            })
            .collect();
        while !send_and_be_cut(&sender, &ledger, &mut random) {}
        drop(sender);
        // Not `join` as it is: that blocks this worker, and the receiver may be one of its own.
        let join = |thread: std::thread::JoinHandle<bool>| unblock(|| thread.join().unwrap());
        assert!(threads.into_iter().all(join));
        receiving.join().unwrap();
    });
    let totals = ledger.check();
    println!("{workers} workers, bound {bound}: {totals:?}");
    assert!(totals.received > 0);
}

/// Starts a sender and cancels it at some moment; whether all tokens are gone.
fn send_and_be_cut(sender: &SyncSender<Token>, ledger: &Arc<Ledger>, random: &mut Random) -> bool {
    let (other, tokens, numbers) = (sender.clone(), Arc::clone(ledger), random.split());
    let sending = spawn(move || send_some(&other, &tokens, numbers, 50));
    for _ in 0..random.below(20) {
        thread::yield_now();
    }
    sending.cancel();
    matches!(sending.join(), Ok(true))
}

/// Sends up to `count` tokens; whether there were no more.
fn send_some(
    sender: &SyncSender<Token>,
    ledger: &Arc<Ledger>,
    mut random: Random,
    count: usize,
) -> bool {
    for _ in 0..count {
        let Some(token) = ledger.issue() else { return true };
        let number = token.number;
        let sent = if random.one_in(4) {
            sender.try_send(token).map_err(|error| match error {
                TrySendError::Full(token) | TrySendError::Disconnected(token) => token,
            })
        } else {
            sender.send(token).map_err(|error| error.0)
        };
        match sent {
            Ok(()) => ledger.note_sent(number),
            Err(token) => token.give_back(),
        }
    }
    false
}

/// Receives until all senders are gone, in one coroutine after the other.
fn receive_and_be_cut(receiver: Receiver<Token>, mut random: Random) -> thread::JoinHandle<()> {
    let lent = Arc::new(std::sync::Mutex::new(Some(receiver)));
    spawn(move || {
        loop {
            let (place, mut numbers) = (Arc::clone(&lent), random.split());
            let receiving = spawn(move || {
                let receiver = place.lock().unwrap().take().unwrap();
                let receive = AssertUnwindSafe(|| receive(&receiver, &mut numbers));
                let is_over = catch_unwind(receive).is_ok();
                *place.lock().unwrap() = Some(receiver);
                is_over
            });
            for _ in 0..random.below(40) {
                thread::yield_now();
            }
            receiving.cancel();
            match receiving.join() {
                Ok(true) => return,
                Ok(false) => {}
                Err(_) => assert!(lent.lock().unwrap().is_some(), "cancelled before it began"),
            }
        }
    })
}

fn receive(receiver: &Receiver<Token>, random: &mut Random) {
    loop {
        let received = match random.below(3) {
            0 => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            1 => receiver.recv_timeout(Duration::from_micros(random.below(100))),
            _ => receiver.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            }),
        };
        match received {
            Ok(token) => token.receive(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[test]
fn no_value_is_lost_or_had_twice_on_one_worker() {
    for bound in [0, 1, 7] {
        storm(1, bound);
    }
}

#[test]
fn no_value_is_lost_or_had_twice_on_three_workers() {
    for bound in [0, 1, 7] {
        storm(3, bound);
    }
}
