//! Queues that are full.

use std::io::Write;

use super::*;

/// The smallest queues the kernel makes, with each set of flags.
fn tiny() -> impl Iterator<Item = Bench> {
    LADDER.iter().map(|&setup| Bench::exact(setup, 2, 4))
}

#[test]
fn more_starts_than_the_submission_queue_holds() {
    for bench in tiny() {
        let pairs: Vec<_> = (0..100).map(|_| unix_pair()).collect();
        let mut slots = Vec::new();
        for (near, far) in &pairs {
            slots.push(bench.start(recv(far, buffer(5))));
            slots.push(bench.start(send(near, b"12345")));
            let (fd, events) = (near.as_raw_fd(), libc::POLLOUT);
            slots.push(bench.start(Op::Poll { fd, events }));
            slots.push(bench.start(recv(near, buffer(2))));
            slots.push(bench.start(send(far, b"67")));
        }
        assert_eq!(slots.len(), 500);
        assert_eq!(bench.finish_all(), 500);
        for (index, slot) in slots.iter().enumerate() {
            let expected = [5, 5, i32::from(libc::POLLOUT), 2, 2][index % 5];
            assert_eq!(slot.take().unwrap().result, expected);
        }
        let counters = bench.uring.counters();
        assert_eq!((counters.completed, counters.stale), (500, 0));
    }
}

#[test]
fn an_overflowing_completion_queue_loses_nothing() {
    for bench in tiny() {
        let pairs: Vec<_> = (0..300).map(|_| unix_pair()).collect();
        let mut slots = Vec::new();
        for (_, far) in &pairs {
            slots.push(bench.start(recv(far, buffer(1))));
        }
        while bench.uring.ring.staged() > 0 {
            bench.turn(Wait::Poll);
        }
        bench.ring();
        for (near, _) in &pairs {
            (&*near).write_all(b"x").unwrap();
        }
        bench.ring();
        assert_eq!(bench.finish_all(), 300);
        assert!(slots.iter().all(|slot| slot.take().unwrap().result == 1));
        let counters = bench.uring.counters();
        assert!(
            counters.overflows > 0,
            "no overflow: the test tests nothing"
        );
        assert_eq!(counters.stale, 0);
        doorbell_still_wakes(&bench);
    }
}

/// An overflow ends a standing poll: the doorbell has to be armed again.
fn doorbell_still_wakes(bench: &Bench) {
    while bench.uring.turn(Wait::Poll, &mut |_| {}).doorbell {}
    for _ in 0..3 {
        bench.ring();
        while !bench.uring.turn(Wait::Forever, &mut |_| {}).doorbell {}
    }
}

#[test]
fn completions_reaped_by_a_start_are_reported_once_and_before_any_sleep() {
    let bench = Bench::exact(LADDER[0], 2, 4);
    let (near, _far) = unix_pair();
    let poll = Op::Poll {
        fd: near.as_raw_fd(),
        events: libc::POLLOUT,
    };
    let slots: Vec<_> = (0..20).map(|_| bench.start(poll)).collect();
    let reaped = |slot: &&&OpSlot| slot.state.get() == OpState::Reaped;
    assert!(slots.iter().filter(reaped).count() > 0);
    // Done is for turns to tell: a coroutine that looks must not reuse a queued slot.
    assert!(slots.iter().all(|slot| slot.take().is_none()));
    let mut reported = Vec::new();
    while reported.len() < slots.len() {
        reported.extend(bench.turn(Wait::Forever));
    }
    reported.sort();
    reported.dedup();
    assert_eq!(reported.len(), slots.len());
}

#[test]
fn a_callback_may_start_the_next_operation() {
    let bench = Bench::exact(LADDER[0], 2, 4);
    let (near, _far) = unix_pair();
    let poll = Op::Poll {
        fd: near.as_raw_fd(),
        events: libc::POLLOUT,
    };
    for _ in 0..10 {
        bench.start(poll);
    }
    let mut left = 500;
    while bench.uring.in_flight() > 0 {
        bench.uring.turn(Wait::Forever, &mut |slot| {
            if left > 0 {
                left -= 1;
                // SAFETY: the slot is leaked and done; the descriptor stays open.
                unsafe { bench.uring.start(slot, &poll) };
            }
        });
    }
    assert_eq!(bench.uring.counters().completed, 510);
}

#[test]
fn should_submit_counts_what_is_staged() {
    let bench = Bench::open(64);
    let (near, _far) = unix_pair();
    bench.turn(Wait::Poll);
    let poll = Op::Poll {
        fd: near.as_raw_fd(),
        events: libc::POLLOUT,
    };
    for _ in 0..15 {
        bench.start(poll);
    }
    assert!(!bench.uring.should_submit());
    bench.start(poll);
    assert!(bench.uring.should_submit());
    assert_eq!(bench.finish_all(), 16);
    assert!(!bench.uring.should_submit());
}
