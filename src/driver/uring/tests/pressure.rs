//! Queues that are full.

use std::io::Write;
use std::mem;
use std::thread;

use super::refused::forbid;
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
        assert!(counters.overflows > 0, "no overflow: the test tests nothing");
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

/// A worker that is never idle only polls, and must see all the same.
#[test]
fn polling_alone_drains_the_kernel() {
    for bench in tiny() {
        let pairs: Vec<_> = (0..300).map(|_| unix_pair()).collect();
        for (_, far) in &pairs {
            bench.start(recv(far, buffer(1)));
        }
        bench.turn(Wait::Poll);
        for (near, _) in &pairs {
            (&*near).write_all(b"x").unwrap();
        }
        while bench.uring.in_flight() > 0 {
            assert!(!bench.turn(Wait::Poll).is_empty());
        }
    }
}

#[test]
fn a_turn_that_reaps_while_it_makes_room_does_not_sleep() {
    let bench = Bench::exact(LADDER[0], 2, 4);
    bench.turn(Wait::Poll);
    let (near, _far) = unix_pair();
    let (fd, events) = (near.as_raw_fd(), libc::POLLOUT);
    bench.start(Op::Poll { fd, events });
    bench.start(Op::Poll { fd, events });
    // As if the standing poll had ended: arming it anew finds the submission queue full.
    bench.uring.doorbell_armed.set(false);
    assert_eq!(bench.turn(Wait::Forever).len(), 2);
}

/// Without SUBMIT_ALL an entry that the kernel rejects ends its batch, and the sleep with it.
#[test]
fn a_turn_goes_on_after_a_short_submission() {
    let bench = Bench::exact(LADDER[4], 8, 64);
    bench.turn(Wait::Poll);
    let mut bad = crate::driver::uring::encode::doorbell(-1);
    // SAFETY: bytes 2 and 3 of an entry are `ioprio`; no poll has such flags.
    unsafe { (&raw mut bad).cast::<u16>().add(1).write(0x7fff) };
    // SAFETY: the entry points to nothing. Completions of "cancel all" are passed over.
    assert!(unsafe {
        bench.uring.ring.push(&bad.user_data(crate::driver::uring::user_data::CANCEL_ALL))
    });
    let (near, _far) = unix_pair();
    let (fd, events) = (near.as_raw_fd(), libc::POLLOUT);
    bench.start(Op::Poll { fd, events });
    assert_eq!(bench.turn(Wait::Forever).len(), 1);
}

#[test]
fn completions_reaped_by_a_start_are_reported_once_and_before_any_sleep() {
    let bench = Bench::exact(LADDER[0], 2, 4);
    let (near, _far) = unix_pair();
    let poll = Op::Poll { fd: near.as_raw_fd(), events: libc::POLLOUT };
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
    let poll = Op::Poll { fd: near.as_raw_fd(), events: libc::POLLOUT };
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

/// Runs `test` on a thread for which the kernel answers every further enter with `errno`.
fn where_enter_fails(errno: i32, test: impl FnOnce(&Bench) + Send + 'static) -> thread::Result<()> {
    let thread = thread::spawn(move || {
        // Leaked: it cannot drain without entering.
        let bench = mem::ManuallyDrop::new(Bench::exact(LADDER[0], 2, 4));
        forbid(libc::SYS_io_uring_enter, errno);
        test(&bench);
    });
    thread.join()
}

/// A kernel without memory for requests takes no entries. Starts must neither hang nor fail, and
/// turns must come back.
#[test]
fn a_kernel_that_takes_nothing_makes_operations_end_with_eagain() {
    for errno in [libc::EAGAIN, libc::EBUSY] {
        let ran = where_enter_fails(errno, |bench| {
            let (near, _far) = unix_pair();
            let (fd, events) = (near.as_raw_fd(), libc::POLLOUT);
            let start = |_| bench.start(Op::Poll { fd, events });
            let slots: Vec<_> = (0..10).map(start).collect();
            // One place of the two is the doorbell's.
            assert_eq!(bench.turn(Wait::Forever).len(), 9);
            assert!(bench.turn(Wait::Forever).is_empty());
            assert!(slots[0].is_out());
            for slot in &slots[1..] {
                assert_eq!(slot.take().unwrap().result, -libc::EAGAIN);
            }
            assert_eq!(bench.uring.in_flight(), 1);
            // A drop would give up and leak the ring.
            assert!(!bench.uring.drain(1_000_000));
        });
        ran.expect("no panic");
    }
}

#[test]
fn a_ring_that_is_broken_says_why() {
    let cases = [
        (libc::EBADR, "lost completions"),
        (libc::EPERM, "install seccomp filters before"),
        (libc::EEXIST, "another thread"),
        (libc::EINVAL, "COSOCKET_DRIVER=epoll"),
    ];
    for (errno, reason) in cases {
        let ran = where_enter_fails(errno, |bench| drop(bench.turn(Wait::Forever)));
        let payload = ran.expect_err("a panic");
        let message = payload.downcast_ref::<String>().unwrap();
        assert!(message.contains(reason), "{message}");
    }
}
