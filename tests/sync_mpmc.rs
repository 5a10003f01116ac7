//! `sync::mpmc`: against a model, and in storms of coroutines and threads, cancels and timeouts.

#![allow(unsafe_code)]

mod support;
mod util;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cosocket::sync::mpmc::{
    self, Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError,
    TrySendError,
};
use cosocket::{run, spawn, thread};
use proptest::prelude::*;
use support::ledger::{Ledger, Token};
use support::{assert_cancelled, on_workers, suspended};
use util::{Random, is_quick};

/// On a plain thread and in a coroutine.
fn both(check: impl Fn() + Send + Sync) {
    check();
    run(&check);
}

#[test]
fn each_value_goes_to_one_receiver() {
    both(|| {
        let (sender, receiver) = mpmc::sync_channel(3);
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                let receiver = receiver.clone();
                spawn(move || receiver.iter().collect::<Vec<i32>>())
            })
            .collect();
        let here = std::thread::spawn(move || receiver.into_iter().collect::<Vec<i32>>());
        (0..300).for_each(|number| sender.send(number).unwrap());
        drop(sender);
        let mut all = here.join().unwrap();
        for receiver in receivers {
            let some = receiver.join().unwrap();
            assert!(some.is_sorted(), "each receives in order");
            all.extend(some);
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(0..300));
    });
}

#[test]
fn those_who_wait_are_served_in_the_order_they_came() {
    run(|| {
        let (sender, receiver) = mpmc::channel();
        let receiving: Vec<_> = (0..3)
            .map(|_| {
                let receiver = receiver.clone();
                suspended(move || receiver.recv())
            })
            .collect();
        (0..3).for_each(|number| sender.send(number).unwrap());
        for (number, receiving) in (0..3).zip(receiving) {
            assert_eq!(receiving.join().unwrap(), Ok(number));
        }
        let (sender, receiver) = mpmc::sync_channel(0);
        let sending: Vec<_> = (0..3)
            .map(|number| {
                let sender = sender.clone();
                suspended(move || sender.send(number))
            })
            .collect();
        assert_eq!([(); 3].map(|()| receiver.recv()), [Ok(0), Ok(1), Ok(2)]);
        sending.into_iter().for_each(|sending| sending.join().unwrap().unwrap());
    });
}

#[test]
fn one_who_left_is_passed_over() {
    run(|| {
        let (sender, receiver) = mpmc::channel();
        let [first, second, third] = [(); 3].map(|()| {
            let receiver = receiver.clone();
            suspended(move || receiver.recv())
        });
        second.cancel();
        assert_cancelled(second.join());
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert_eq!(first.join().unwrap(), Ok(1));
        assert_eq!(third.join().unwrap(), Ok(2));
    });
}

#[test]
fn counts_and_limits_are_told() {
    both(|| {
        let (sender, receiver) = mpmc::sync_channel(2);
        assert_eq!((sender.capacity(), receiver.capacity()), (Some(2), Some(2)));
        for len in 0..=2 {
            assert_eq!((sender.len(), receiver.len()), (len, len));
            assert_eq!((sender.is_empty(), receiver.is_empty()), (len == 0, len == 0));
            assert_eq!((sender.is_full(), receiver.is_full()), (len == 2, len == 2));
            assert_eq!(sender.try_send(len).is_ok(), len < 2);
        }
        let (other, unlimited) = mpmc::channel::<i32>();
        assert_eq!((other.capacity(), unlimited.is_full()), (None, false));
        let (rendezvous, _receiver) = mpmc::sync_channel::<i32>(0);
        assert!(rendezvous.is_full() && rendezvous.is_empty());
        assert_eq!(rendezvous.len(), 0);
        assert!(sender.same_channel(&sender.clone()));
        assert!(receiver.same_channel(&receiver.clone()));
        assert!(!other.same_channel(&rendezvous));
    });
}

#[test]
fn timeouts_are_not_early_and_give_the_value_back() {
    both(|| {
        let (sender, receiver) = mpmc::sync_channel(1);
        let wait = Duration::from_millis(2);
        let start = Instant::now();
        assert_eq!(receiver.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
        assert!(start.elapsed() >= wait);
        sender.send(1).unwrap();
        let start = Instant::now();
        assert_eq!(sender.send_timeout(2, wait), Err(SendTimeoutError::Timeout(2)));
        assert!(start.elapsed() >= wait);
        let past = Instant::now();
        assert_eq!(sender.send_deadline(2, past), Err(SendTimeoutError::Timeout(2)));
        assert_eq!(receiver.recv_deadline(past), Ok(1), "what is there needs no time");
        assert_eq!(sender.send_deadline(3, past), Ok(()));
        assert_eq!(receiver.recv_deadline(past + Duration::from_secs(3600)), Ok(3));
        assert_eq!(receiver.recv_deadline(past), Err(RecvTimeoutError::Timeout));
    });
}

#[test]
fn the_last_handle_of_a_side_counts_not_the_first() {
    both(|| {
        let (sender, receiver) = mpmc::channel();
        drop((sender.clone(), receiver.clone()));
        sender.send(1).unwrap();
        assert_eq!(receiver.recv(), Ok(1));
        let other = receiver.clone();
        drop(receiver);
        sender.send(2).unwrap();
        drop(sender);
        assert_eq!((other.recv(), other.recv()), (Ok(2), Err(RecvError)));
        let (sender, receiver) = mpmc::channel();
        drop(receiver);
        assert_eq!(sender.send(3), Err(SendError(3)));
    });
}

#[test]
fn a_queue_that_was_long_is_emptied_in_order() {
    // Its memory shrinks in steps on the way.
    let count: usize = if is_quick() { 20_000 } else { 200_000 };
    let (sender, receiver) = mpmc::channel();
    (0..count).for_each(|number| sender.send(number).unwrap());
    for number in 0..count {
        assert_eq!(receiver.recv(), Ok(number));
        if number % 7 == 0 {
            sender.send(number / 7 + count).unwrap();
        }
    }
    assert!(receiver.try_iter().eq(count..count + count.div_ceil(7)));
}

#[test]
fn values_without_size_are_counted() {
    let (sender, receiver) = mpmc::sync_channel(usize::MAX);
    (0..1000).for_each(|_| sender.send(()).unwrap());
    assert_eq!(receiver.len(), 1000);
    assert_eq!(receiver.try_iter().count(), 1000);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    Receive,
    CloneSender,
    DropSender,
    CloneReceiver,
    DropReceiver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => Just(Step::Send),
        8 => Just(Step::Receive),
        1 => Just(Step::CloneSender),
        2 => Just(Step::DropSender),
        1 => Just(Step::CloneReceiver),
        2 => Just(Step::DropReceiver),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// What never waits does what a queue with two counts would do.
    #[test]
    fn it_does_what_the_model_does(limit in prop::option::of(0..4_usize), steps in steps()) {
        let (sender, receiver) = limit.map_or_else(mpmc::channel, mpmc::sync_channel);
        let (mut senders, mut receivers) = (vec![sender], vec![receiver]);
        let mut model = VecDeque::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send => {
                    let Some(sender) = senders.last() else { continue };
                    let expected = if receivers.is_empty() {
                        Err(TrySendError::Disconnected(number))
                    } else if limit.is_some_and(|limit| model.len() >= limit) {
                        Err(TrySendError::Full(number))
                    } else {
                        model.push_back(number);
                        Ok(())
                    };
                    prop_assert_eq!(sender.try_send(number), expected);
                    let len = if receivers.is_empty() { 0 } else { model.len() };
                    prop_assert_eq!(sender.len(), len);
                }
                Step::Receive => {
                    let Some(receiver) = receivers.last() else { continue };
                    let none = if senders.is_empty() {
                        TryRecvError::Disconnected
                    } else {
                        TryRecvError::Empty
                    };
                    prop_assert_eq!(receiver.try_recv(), model.pop_front().ok_or(none));
                }
                Step::CloneSender => senders.extend(senders.first().cloned()),
                Step::DropSender => drop(senders.pop()),
                Step::CloneReceiver => receivers.extend(receivers.first().cloned()),
                Step::DropReceiver => drop(receivers.pop()),
            }
        }
    }
}

/// Coroutines that are cancelled at some moment, and threads, on both sides.
fn storm(workers: usize, limit: Option<usize>) {
    let tokens = if is_quick() { 500 } else { 20_000 };
    let ledger = Ledger::new(tokens);
    let mut random = Random::new();
    on_workers(workers, || {
        let (sender, receiver) = limit.map_or_else(mpmc::channel, mpmc::sync_channel);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (sender, receiver) = (sender.clone(), receiver.clone());
                let (ledger, mut numbers) = (Arc::clone(&ledger), random.split());
                [
                    std::thread::spawn(move || send_all(&sender, &ledger, &mut numbers)),
                    std::thread::spawn(move || receiver.iter().for_each(Token::receive)),
                ]
            })
            .collect();
        let cutters: Vec<_> = (0..3)
            .map(|_| {
                let (sender, receiver) = (sender.clone(), receiver.clone());
                let ledger = Arc::clone(&ledger);
                let random = random.split();
                spawn(move || cut(&sender, &receiver, &ledger, random))
            })
            .collect();
        drop((sender, receiver));
        cutters.into_iter().for_each(|cutter| cutter.join().unwrap());
        threads.into_iter().flatten().for_each(|thread| thread.join().unwrap());
    });
    let totals = ledger.check();
    println!("{workers} workers, limit {limit:?}: {totals:?}");
    assert_eq!(totals.received + totals.returned + totals.cut, tokens);
}

/// Starts senders and receivers and cancels them, until all tokens are issued.
fn cut(
    sender: &Sender<Token>,
    receiver: &Receiver<Token>,
    ledger: &Arc<Ledger>,
    mut random: Random,
) {
    let mut is_over = false;
    while !is_over {
        let (sender, tokens, mut numbers) = (sender.clone(), Arc::clone(ledger), random.split());
        let sending = spawn(move || send_all(&sender, &tokens, &mut numbers));
        let (receiver, mut numbers) = (receiver.clone(), random.split());
        let receiving = spawn(move || receive_all(&receiver, &mut numbers));
        for _ in 0..random.below(30) {
            thread::yield_now();
        }
        receiving.cancel();
        // Only now and then: one that is not cancelled goes on until all are issued.
        if random.one_in(2) {
            sending.cancel();
        }
        is_over = sending.join().is_ok();
        drop(receiving);
    }
}

fn send_all(sender: &Sender<Token>, ledger: &Arc<Ledger>, random: &mut Random) {
    while let Some(token) = ledger.issue() {
        let number = token.number;
        let sent = match random.below(3) {
            0 => sender.try_send(token).map_err(|error| match error {
                TrySendError::Full(token) | TrySendError::Disconnected(token) => token,
            }),
            1 => {
                let timeout = Duration::from_micros(random.below(100));
                sender.send_timeout(token, timeout).map_err(SendTimeoutError::into_value)
            }
            _ => sender.send(token).map_err(|error| error.0),
        };
        match sent {
            Ok(()) => ledger.note_sent(number),
            Err(token) => token.give_back(),
        }
    }
}

fn receive_all(receiver: &Receiver<Token>, random: &mut Random) {
    loop {
        let timeout = match random.below(3) {
            0 => Duration::from_micros(random.below(100)),
            _ => Duration::MAX,
        };
        match receiver.recv_timeout(timeout) {
            Ok(token) => token.receive(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[test]
fn no_value_is_lost_or_had_twice_on_one_worker() {
    for limit in [Some(0), Some(1), Some(7), None] {
        storm(1, limit);
    }
}

#[test]
fn no_value_is_lost_or_had_twice_on_three_workers() {
    for limit in [Some(0), Some(1), Some(7), None] {
        storm(3, limit);
    }
}
