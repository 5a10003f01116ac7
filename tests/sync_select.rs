//! `sync::select`: one arm is done, once; the others are left as they were.

#![allow(unsafe_code)]

mod support;
mod util;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cosocket::sync::mpmc::{Receiver, Sender};
use cosocket::sync::select::{Arm, Select};
use cosocket::sync::{mpmc, mpsc, oneshot, select};
use cosocket::{run, spawn, thread};
use support::ledger::{Ledger, Token};
use support::{Drops, assert_cancel_ends, assert_cancelled, on_workers, suspended};
use util::{Random, is_quick};

/// On a plain thread and in a coroutine.
fn both(check: impl Fn() + Send + Sync) {
    check();
    run(&check);
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_value_that_is_there_is_received() {
    both(|| {
        let (sender, receiver) = mpsc::channel();
        let (_other, empty) = mpmc::channel::<i32>();
        sender.send(1).unwrap();
        let got = select! {
            number = select::recv(&empty) => number,
            number = select::recv(&receiver) => number,
        };
        assert_eq!(got, Ok(1));
        assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Empty));
    });
}

#[test]
fn a_value_that_comes_ends_the_wait() {
    both(|| {
        let (words, word) = oneshot::channel();
        let (_numbers, number) = mpsc::sync_channel::<i32>(1);
        let sending = spawn(move || words.send("hello"));
        let got = select! {
            _number = select::recv(&number) => "a number",
            word = select::recv(&word) => word.unwrap(),
            () = select::after(LONG) => "nothing",
        };
        assert_eq!(got, "hello");
        sending.join().unwrap().unwrap();
    });
}

#[test]
fn room_that_comes_ends_the_wait() {
    both(|| {
        for limit in [0, 1] {
            let (sender, receiver) = mpmc::sync_channel(limit);
            (0..limit).for_each(|number| sender.send(number).unwrap());
            let receiving = spawn(move || receiver.iter().take(limit + 1).collect::<Vec<_>>());
            select! {
                sent = select::send(&sender, limit) => sent.unwrap(),
                () = select::after(LONG) => panic!("there was room"),
            }
            assert!(receiving.join().unwrap().into_iter().eq(0..=limit));
        }
    });
}

#[test]
fn a_side_that_is_gone_makes_its_arms_ready() {
    both(|| {
        let (sender, receiver) = mpmc::sync_channel::<i32>(0);
        let (reply, answer) = oneshot::channel::<i32>();
        let waiting = spawn({
            let receiver = receiver.clone();
            move || select! { number = select::recv(&receiver) => number }
        });
        drop(sender);
        assert_eq!(waiting.join().unwrap(), Err(mpsc::RecvError));
        let (sender, receiver) = mpmc::sync_channel(0);
        let waiting = spawn(move || select! { sent = select::send(&sender, 7) => sent });
        drop(receiver);
        assert_eq!(waiting.join().unwrap(), Err(mpsc::SendError(7)), "the value comes back");
        let waiting = spawn(move || select! { () = select::closed(&reply) => reply.is_closed() });
        drop(answer);
        assert!(waiting.join().unwrap());
    });
}

#[test]
fn a_timer_ends_the_wait_not_early_and_takes_nothing() {
    both(|| {
        let (sender, receiver) = mpsc::sync_channel(0);
        let start = Instant::now();
        let mut sending = select::send(&sender, 1);
        select! {
            _ = select::recv(&receiver) => panic!("a select does not meet itself"),
            sent = &mut sending => panic!("a select does not meet itself: {sent:?}"),
            () = select::after(Duration::from_millis(3)) => {}
        }
        assert!(start.elapsed() >= Duration::from_millis(3));
        assert_eq!(sending.into_value(), Some(1));
        assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Empty), "it has withdrawn");
        assert_eq!(sender.try_send(2), Err(mpsc::TrySendError::Full(2)), "it has withdrawn");
        let past = Instant::now();
        let earliest = select! {
            () = select::after(LONG) => 1,
            () = select::at(past) => 2,
            () = select::at(past + LONG) => 3,
        };
        assert_eq!(earliest, 2);
    });
}

#[test]
fn else_never_waits() {
    both(|| {
        let (sender, receiver) = mpsc::sync_channel(1);
        let poll = || {
            select! {
                number = select::recv(&receiver) => number.ok(),
                () = select::after(LONG) => None,
                else => Some(-1),
            }
        };
        assert_eq!(poll(), Some(-1));
        sender.send(1).unwrap();
        assert_eq!((poll(), poll()), (Some(1), Some(-1)));
        drop(sender);
        assert_eq!(poll(), None);
    });
}

#[test]
fn the_builder_says_which_arm() {
    both(|| {
        let (sender, receiver) = mpsc::channel();
        // More than fit inline.
        let channels: Vec<_> = (0..20).map(|_| mpsc::sync_channel::<i32>(0)).collect();
        let mut arms: Vec<_> = channels.iter().map(|(_, each)| select::recv(each)).collect();
        let mut last = select::recv(&receiver);
        sender.send(5).unwrap();
        let mut select = Select::new();
        for (index, arm) in arms.iter_mut().enumerate() {
            assert_eq!(select.add(arm), index);
        }
        assert_eq!(select.add(&mut last), 20);
        assert_eq!(select.wait(), 20);
        assert_eq!(last.take(), Some(Ok(5)));
        assert_eq!(last.take(), None);
        assert!(arms.iter_mut().all(|arm| arm.take().is_none()));

        let mut select = Select::new();
        arms.iter_mut().for_each(|arm| _ = select.add(arm));
        assert_eq!(select.try_wait(), None);
        let start = Instant::now();
        let mut select = Select::new();
        arms.iter_mut().for_each(|arm| _ = select.add(arm));
        assert_eq!(select.wait_timeout(Duration::from_millis(2)), None);
        assert!(start.elapsed() >= Duration::from_millis(2));
        let mut select = Select::new();
        arms.iter_mut().for_each(|arm| _ = select.add(arm));
        assert_eq!(select.wait_deadline(start), None);

        let sender = channels[13].0.clone();
        let sending = spawn(move || sender.send(6));
        let mut select = Select::new();
        arms.iter_mut().for_each(|arm| _ = select.add(arm));
        assert_eq!(select.wait_deadline(start + LONG), Some(13));
        sending.join().unwrap().unwrap();
        assert_eq!(arms[13].take(), Some(Ok(6)));
    });
}

#[test]
fn an_arm_keeps_what_it_yields_until_it_is_taken() {
    both(|| {
        let (sender, receiver) = mpsc::channel();
        (1..=2).for_each(|number| sender.send(number).unwrap());
        let mut arm = select::recv(&receiver);
        for _ in 0..3 {
            let mut select = Select::new();
            select.add(&mut arm);
            assert_eq!(select.wait(), 0);
        }
        assert_eq!(arm.take(), Some(Ok(1)));
        drop(arm);
        assert_eq!(receiver.try_recv(), Ok(2));
    });
}

#[test]
#[should_panic(expected = "without arms")]
fn a_select_without_arms_is_refused() {
    Select::new().wait();
}

#[test]
fn two_selects_meet_at_a_rendezvous() {
    both(|| {
        let channels: Vec<_> = (0..2).map(|_| mpmc::sync_channel(0)).collect();
        let [(first, first_in), (second, second_in)] = channels.try_into().unwrap();
        let rounds = if is_quick() { 50 } else { 1000 };
        let other = spawn(move || {
            (0..rounds)
                .map(|_| {
                    select! {
                        number = select::recv(&first_in) => number.unwrap(),
                        number = select::recv(&second_in) => number.unwrap() - 1000,
                    }
                })
                .sum::<i32>()
        });
        let mut sum = 0;
        for number in 0..rounds {
            sum += number;
            select! {
                sent = select::send(&first, number) => sent.unwrap(),
                sent = select::send(&second, number + 1000) => sent.unwrap(),
            }
        }
        assert_eq!(other.join().unwrap(), sum);
    });
}

#[test]
fn ready_arms_have_a_fair_share() {
    both(|| {
        let channels: Vec<_> = (0..3).map(|_| mpsc::channel()).collect();
        let rounds = 3000;
        for (sender, _) in &channels {
            (0..rounds).for_each(|number| sender.send(number).unwrap());
        }
        let mut chosen = [0; 3];
        for _ in 0..rounds {
            let mut arms = [0, 1, 2].map(|index| select::recv(&channels[index].1));
            let mut select = Select::new();
            arms.iter_mut().for_each(|arm| _ = select.add(arm));
            chosen[select.wait()] += 1;
        }
        assert!(chosen.iter().all(|&count| count > rounds / 6), "{chosen:?}");
    });
}

#[test]
fn a_value_is_handed_to_one_of_several_selects() {
    run(|| {
        let (sender, receiver) = mpmc::channel();
        let (_never, nothing) = mpmc::channel::<i32>();
        let got = Rc::new(RefCell::new(Vec::new()));
        let selects: Vec<_> = (0..3)
            .map(|number| {
                let (receiver, nothing) = (receiver.clone(), nothing.clone());
                let got = Rc::clone(&got);
                suspended(move || {
                    select! {
                        value = select::recv(&receiver) => got.borrow_mut().push((number, value)),
                        _ = select::recv(&nothing) => unreachable!(),
                    }
                })
            })
            .collect();
        for value in 10..13 {
            sender.send(value).unwrap();
        }
        selects.into_iter().for_each(|select| select.join().unwrap());
        assert_eq!(*got.borrow(), [(0, Ok(10)), (1, Ok(11)), (2, Ok(12))]);
    });
}

#[test]
fn a_select_chosen_elsewhere_is_passed_over() {
    run(|| {
        let (first, first_in) = mpmc::channel();
        let (second, second_in) = mpmc::channel();
        let other = second_in.clone();
        let selecting = suspended(move || {
            select! {
                number = select::recv(&first_in) => number,
                number = select::recv(&second_in) => number,
            }
        });
        let waiting = suspended(move || other.recv());
        // The select has not run since it was chosen, so its node still waits in the second.
        first.send(1).unwrap();
        second.send(2).unwrap();
        assert_eq!(selecting.join().unwrap(), Ok(1));
        assert_eq!(waiting.join().unwrap(), Ok(2));
    });
}

#[test]
fn a_cancel_withdraws_all_arms() {
    run(|| {
        let (sender, receiver) = mpmc::sync_channel(0);
        let drops = Drops::default();
        let (value, [there, here]) = (drops.counted(), [sender.clone(), sender.clone()]);
        let (other, empty) = mpmc::channel::<i32>();
        let kept = empty.clone();
        assert_cancel_ends(move || {
            select! {
                _ = select::send(&there, Some(value)) => {}
                _ = select::recv(&empty) => {}
                () = select::after(LONG) => {}
            }
        });
        assert_eq!(drops.count(), 1);
        other.send(1).unwrap();
        assert_eq!(kept.try_recv(), Ok(1));
        assert!(receiver.try_recv().is_err());
        assert!(here.try_send(None).is_err());
    });
}

#[test]
fn an_arm_done_before_the_cancel_counts() {
    run(|| {
        let (sender, receiver) = mpmc::channel();
        let got = Rc::new(RefCell::new(None));
        let place = Rc::clone(&got);
        let selecting = suspended(move || {
            select! {
                value = select::recv(&receiver) => *place.borrow_mut() = Some(value),
                () = select::after(LONG) => {}
            }
            thread::park();
        });
        sender.send(1).unwrap();
        selecting.cancel();
        assert_cancelled(selecting.join());
        assert_eq!(*got.borrow(), Some(Ok(1)));
    });
}

#[test]
fn bodies_may_leave_the_block_and_use_what_the_arms_borrowed() {
    fn sum_until_gone(receiver: mpsc::Receiver<i32>) -> Result<i32, mpsc::RecvError> {
        let mut sum = 0;
        loop {
            select! {
                number = select::recv(&receiver) => {
                    let number = number?;
                    if number == 0 {
                        drop(receiver);
                        return Ok(sum);
                    }
                    if number < 0 {
                        continue;
                    }
                    sum += number;
                }
                () = select::after(LONG) => break Ok(-1),
            }
        }
    }
    both(|| {
        for (end, result) in [(Some(0), Ok(3)), (None, Err(mpsc::RecvError))] {
            let (sender, receiver) = mpsc::channel();
            [1, -5, 2].iter().for_each(|&number| sender.send(number).unwrap());
            end.into_iter().for_each(|number| sender.send(number).unwrap());
            drop(sender);
            assert_eq!(sum_until_gone(receiver), result);
        }
    });
}

/// Selects on both sides of three channels, in coroutines that are cancelled and in threads.
fn storm(workers: usize, limits: [usize; 3]) {
    let tokens = if is_quick() { 600 } else { 15_000 };
    let ledger = Ledger::new(tokens);
    let mut random = Random::new();
    on_workers(workers, || {
        let channels = limits.map(|limit| mpmc::sync_channel::<Token>(limit));
        let (senders, receivers) = (channels.clone().map(|pair| pair.0), channels.map(|p| p.1));
        let threads = [
            std::thread::spawn({
                let (senders, ledger) = (senders.clone(), Arc::clone(&ledger));
                let mut random = random.split();
                move || send_all(&senders, &ledger, &mut random)
            }),
            std::thread::spawn({
                let (receivers, mut random) = (receivers.clone(), random.split());
                move || receive_all(&receivers, &mut random)
            }),
        ];
        let cutters: Vec<_> = (0..3)
            .map(|_| {
                let (senders, receivers) = (senders.clone(), receivers.clone());
                let (ledger, random) = (Arc::clone(&ledger), random.split());
                spawn(move || cut(&senders, &receivers, &ledger, random))
            })
            .collect();
        drop((senders, receivers));
        cutters.into_iter().for_each(|cutter| cutter.join().unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let totals = ledger.check();
    println!("{workers} workers, limits {limits:?}: {totals:?}");
    assert_eq!(totals.received + totals.returned + totals.cut, tokens);
}

fn cut(
    senders: &[Sender<Token>; 3],
    receivers: &[Receiver<Token>; 3],
    ledger: &Arc<Ledger>,
    mut random: Random,
) {
    let mut is_over = false;
    while !is_over {
        let (senders, tokens, mut numbers) = (senders.clone(), ledger.clone(), random.split());
        let sending = spawn(move || send_all(&senders, &tokens, &mut numbers));
        let (receivers, mut numbers) = (receivers.clone(), random.split());
        let receiving = spawn(move || receive_all(&receivers, &mut numbers));
        for _ in 0..random.below(30) {
            thread::yield_now();
        }
        receiving.cancel();
        if random.one_in(2) {
            sending.cancel();
        }
        is_over = sending.join().is_ok();
    }
}

/// Offers two tokens on two channels at a time; one is sent, or none in time.
fn send_all(senders: &[Sender<Token>; 3], ledger: &Arc<Ledger>, random: &mut Random) {
    while let Some(first) = ledger.issue() {
        let Some(second) = ledger.issue() else { return first.give_back() };
        let numbers = [first.number, second.number];
        let [one, two] = [0, 1].map(|_| &senders[random.below(3) as usize]);
        let (mut one, mut two) = (select::send(one, first), select::send(two, second));
        let timeout = Duration::from_micros(random.below(200));
        let sent = select! {
            sent = &mut one => Some((0, sent)),
            sent = &mut two => Some((1, sent)),
            () = select::after(timeout) => None,
        };
        match sent {
            Some((arm, Ok(()))) => ledger.note_sent(numbers[arm]),
            Some((_, Err(error))) => error.0.give_back(),
            None => {}
        }
        let unsent = [one, two].into_iter().filter_map(select::Sending::into_value);
        unsent.for_each(Token::give_back);
    }
}

fn receive_all(receivers: &[Receiver<Token>; 3], random: &mut Random) {
    let mut gone = [false; 3];
    while gone != [true; 3] {
        let mut arms = [0, 1, 2].map(|index| select::recv(&receivers[index]));
        let mut select = Select::new();
        for (arm, _) in arms.iter_mut().zip(gone).filter(|(_, gone)| !gone) {
            select.add(arm);
        }
        match random.below(3) {
            0 => _ = select.wait_timeout(Duration::from_micros(random.below(100))),
            1 => _ = select.try_wait(),
            _ => _ = select.wait(),
        }
        for (arm, gone) in arms.iter_mut().zip(&mut gone) {
            match arm.take() {
                Some(Ok(token)) => token.receive(),
                Some(Err(_)) => *gone = true,
                None => {}
            }
        }
    }
}

#[test]
fn no_value_is_lost_or_had_twice_on_one_worker() {
    for limits in [[0, 0, 0], [0, 1, 3]] {
        storm(1, limits);
    }
}

#[test]
fn no_value_is_lost_or_had_twice_on_three_workers() {
    for limits in [[0, 0, 0], [0, 1, 3]] {
        storm(3, limits);
    }
}
