//! A wait at a channel allocates nothing, nor does a select of up to eight arms; a bounded channel
//! allocates nothing after its creation.

#[path = "support/counting.rs"]
mod counting;
mod support;

use std::time::Duration;

use cosocket::sync::{mpmc, mpsc, select};
use cosocket::{spawn_local, thread};
use counting::allocations_here_during;
use support::on_workers;

/// How often this thread allocates while two coroutines on it run: `ask` here, `answer` there.
fn allocations(ask: impl Fn() + Send, answer: impl Fn() + Send + 'static) -> u64 {
    const WARM_UP: usize = 10;
    const ROUNDS: usize = 1000;
    on_workers(1, move || {
        let other = spawn_local(move || (0..WARM_UP + ROUNDS).for_each(|_| answer()));
        (0..WARM_UP).for_each(|_| ask());
        let count = allocations_here_during(|| (0..ROUNDS).for_each(|_| ask()));
        other.join().unwrap();
        count
    })
}

#[test]
fn the_count_counts() {
    let ask = || {
        std::hint::black_box(Box::new(1));
    };
    assert!(allocations(ask, thread::yield_now) >= 1000);
}

#[test]
fn a_ping_pong_allocates_nothing() {
    for limit in [0, 1, 8] {
        let (ping, pinged) = mpmc::sync_channel(limit);
        let (pong, ponged) = mpsc::sync_channel(limit);
        let ask = move || {
            ping.send([1_u64; 16]).unwrap();
            ponged.recv_timeout(Duration::from_secs(60)).unwrap();
        };
        assert_eq!(allocations(ask, move || pong.send(pinged.recv().unwrap()).unwrap()), 0);
    }
}

#[test]
fn a_receiver_that_waits_is_handed_the_value_without_an_allocation() {
    let [(ping, pinged), (pong, ponged)] = [(); 2].map(|()| mpmc::channel());
    let ask = move || {
        ping.send(1_u64).unwrap();
        ponged.recv().unwrap();
    };
    assert_eq!(allocations(ask, move || pong.send(pinged.recv().unwrap()).unwrap()), 0);
}

#[test]
fn a_select_allocates_nothing() {
    let [(ping, pinged), (pong, ponged)] = [(); 2].map(|()| mpmc::sync_channel(0));
    let (_never, nothing) = mpmc::channel::<i32>();
    let ask = move || {
        select! {
            sent = select::send(&ping, 1_u64) => sent.unwrap(),
            _ = select::recv(&nothing) => unreachable!(),
        }
        select! {
            number = select::recv(&ponged) => assert_eq!(number, Ok(1)),
            _ = select::recv(&nothing) => unreachable!(),
            () = select::after(Duration::from_secs(60)) => unreachable!(),
        }
    };
    assert_eq!(allocations(ask, move || pong.send(pinged.recv().unwrap()).unwrap()), 0);
}
