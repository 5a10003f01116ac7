//! On the driver and the number of workers that the environment says, as all tests are.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use libc::{POLLHUP, POLLIN, POLLOUT};

use super::*;
use crate::clock::{self, Nanos};
use crate::thread;
use crate::wait::Signal;

type Arm<'a> = PollArm<&'a IoHandle>;

/// One end for us, the other for a test to write to without waiting.
fn pair() -> (IoHandle, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    (IoHandle::new(ours.into(), false), theirs)
}

fn worker() -> &'static Worker {
    current::worker().expect("a test of coroutines")
}

/// Suspends until one of the arms is done, for as long as `deadline`; false if none is.
fn wait_for_one(arms: &[Arm<'_>], deadline: Option<Nanos>) -> bool {
    let reason = Reason::io(Kind::Select, arms.first().map_or(0, PollArm::fd));
    loop {
        if arms.iter().any(PollArm::is_done) {
            return true;
        }
        match wait::suspend(worker(), reason, deadline, false) {
            Signal::Wake => {}
            Signal::TimedOut => return false,
            Signal::Cancelled => wait::raise_cancelled(),
        }
    }
}

fn finish_all(arms: Vec<Arm<'_>>) -> Vec<Option<i16>> {
    arms.iter().for_each(PollArm::cancel);
    arms.into_iter().map(|arm| arm.finish().unwrap()).collect()
}

/// Nothing of this worker's arms is left: no slot, no operation, no watch.
fn assert_nothing_left(handles: &[&IoHandle]) {
    assert_eq!(worker().arm_slots.taken(), 0);
    if let Driver::Uring(ring) = &worker().driver {
        assert_eq!(ring.in_flight(), 0);
    }
    for source in handles.iter().filter_map(|handle| handle.source()) {
        assert!(!source.read.is_watched() && !source.write.is_watched());
    }
}

#[test]
fn the_arm_that_is_ready_ends_the_wait_for_many() {
    crate::run(|| {
        let sockets: Vec<_> = (0..20).map(|_| pair()).collect();
        for chosen in [0, 7, 19] {
            let arms: Vec<Arm> =
                sockets.iter().map(|(io, _)| PollArm::start(io, POLLIN).unwrap()).collect();
            assert!(!arms.iter().any(PollArm::is_done));
            (&sockets[chosen].1).write_all(b"x").unwrap();
            assert!(wait_for_one(&arms, None));
            let done = finish_all(arms);
            let expected: Vec<_> =
                (0..20).map(|position| (position == chosen).then_some(POLLIN)).collect();
            assert_eq!(done, expected);
            sockets[chosen].0.recv(&mut [0], 0).unwrap();
        }
        assert_nothing_left(&sockets.iter().map(|(io, _)| io).collect::<Vec<_>>());
    });
}

#[test]
fn a_descriptor_that_is_ready_already_is_found_so() {
    crate::run(|| {
        let (io, mut peer) = pair();
        peer.write_all(b"x").unwrap();
        assert_eq!(io.ready_now(POLLIN).unwrap(), Some(POLLIN));
        let arms = [PollArm::start(&io, POLLIN | POLLOUT).unwrap()];
        assert!(wait_for_one(&arms, None));
        let [arm] = arms;
        assert_eq!(arm.finish().unwrap(), Some(POLLIN | POLLOUT));
        assert_nothing_left(&[&io]);
    });
}

#[test]
fn an_arm_tells_of_the_direction_it_was_started_for() {
    crate::run(|| {
        let (io, mut peer) = pair();
        while io.ready_now(POLLOUT).unwrap().is_some() {
            io.send(&[0; 1 << 16]).unwrap();
        }
        let arms = [PollArm::start(&io, POLLOUT).unwrap()];
        peer.write_all(b"x").unwrap();
        let soon = worker().after(Duration::from_millis(20));
        assert!(!wait_for_one(&arms, Some(soon)), "readable is not writable");
        while std::io::Read::read(&mut peer, &mut [0; 1 << 16]).is_ok() {}
        assert!(wait_for_one(&arms, None));
        assert_eq!(finish_all(arms.into()), [Some(POLLOUT)]);
        assert_nothing_left(&[&io]);
    });
}

#[test]
fn the_end_of_the_stream_is_readiness() {
    crate::run(|| {
        let (io, peer) = pair();
        let arms = [PollArm::start(&io, POLLIN).unwrap()];
        drop(peer);
        assert!(wait_for_one(&arms, None));
        let [arm] = arms;
        assert_eq!(arm.finish().unwrap(), Some(POLLIN | POLLHUP));
    });
}

#[test]
fn a_wait_ends_by_its_deadline_and_leaves_nothing() {
    crate::run(|| {
        let sockets: Vec<_> = (0..5).map(|_| pair()).collect();
        let arms: Vec<Arm> =
            sockets.iter().map(|(io, _)| PollArm::start(io, POLLIN).unwrap()).collect();
        assert!(!wait_for_one(&arms, Some(worker().after(Duration::from_millis(5)))));
        assert_eq!(finish_all(arms), [None; 5]);
        assert_nothing_left(&sockets.iter().map(|(io, _)| io).collect::<Vec<_>>());
    });
}

#[test]
fn another_wake_ends_the_same_wait() {
    crate::run(|| {
        let (io, _peer) = pair();
        let me = thread::current();
        let arm = PollArm::start(&io, POLLIN).unwrap();
        let other = thread::spawn(move || me.unpark());
        // Not woken by the arm, but while it is armed.
        thread::park();
        assert!(!arm.is_done());
        other.join().unwrap();
        drop(arm);
        assert_nothing_left(&[&io]);
    });
}

#[test]
fn a_cancel_unwinds_and_takes_the_arms_along() {
    crate::run(|| {
        let sockets: Vec<_> = (0..5).map(|_| pair()).collect();
        let sockets = &sockets;
        thread::scope(|scope| {
            let waiter = scope.spawn(move || {
                let _at_the_end = AssertNothingLeft;
                let arms: Vec<Arm> =
                    sockets.iter().map(|(io, _)| PollArm::start(io, POLLIN).unwrap()).collect();
                wait_for_one(&arms, None);
            });
            thread::sleep(Duration::from_millis(2));
            waiter.cancel();
            assert!(waiter.join().unwrap_err().is::<crate::Cancelled>());
        });
    });
}

struct AssertNothingLeft;

impl Drop for AssertNothingLeft {
    fn drop(&mut self) {
        assert_eq!(worker().arm_slots.taken(), 0);
    }
}

#[test]
fn a_panic_takes_the_arms_along() {
    crate::run(|| {
        let (io, _peer) = pair();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _arm = PollArm::start(&io, POLLIN).unwrap();
            thread::yield_now();
            std::panic::resume_unwind(Box::new("on purpose"));
        }));
        assert!(panicked.is_err());
        assert_nothing_left(&[&io]);
    });
}

/// An arm does not stand in line with those who read, on whichever worker they are.
#[test]
fn an_arm_and_a_reader_of_one_socket_do_not_hinder_each_other() {
    crate::run(|| {
        for _ in 0..20 {
            let (io, mut peer) = pair();
            let io = &io;
            thread::scope(|scope| {
                let reader = scope.spawn(move || io.recv(&mut [0; 8], 0).unwrap());
                thread::yield_now();
                let arms = [PollArm::start(io, POLLIN).unwrap()];
                thread::yield_now();
                peer.write_all(b"one").unwrap();
                assert_eq!(reader.join().unwrap(), 3, "the arm does not keep it from reading");
                // The reader may have been there first: then the arm goes on to wait.
                peer.write_all(b"two").unwrap();
                assert!(wait_for_one(&arms, None));
                let [arm] = arms;
                assert_eq!(arm.finish().unwrap(), Some(POLLIN));
                assert_eq!(io.recv(&mut [0; 8], 0).unwrap(), 3);
            });
            assert_nothing_left(&[io]);
        }
    });
}

/// Both their coroutines are told, whose workers' epolls may both know the descriptor.
#[test]
fn several_coroutines_have_arms_on_one_socket() {
    crate::run(|| {
        let (io, mut peer) = pair();
        let io = &io;
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(move || {
                    for _ in 0..10 {
                        let arms = [PollArm::start(io, POLLIN).unwrap()];
                        assert!(wait_for_one(&arms, None));
                        assert_eq!(finish_all(arms.into()), [Some(POLLIN)]);
                    }
                });
            }
            thread::sleep(Duration::from_millis(2));
            peer.write_all(b"x").unwrap();
        });
        assert_nothing_left(&[io]);
    });
}

/// More than fit the submission queue, with no suspension in between; and as many cancels.
#[test]
fn more_arms_than_the_ring_has_room_for() {
    crate::run(|| {
        let sockets: Vec<_> = (0..10).map(|_| pair()).collect();
        let count = if cfg!(cosocket_asan) { 2_000 } else { 20_000 };
        for round in 0..3 {
            let arms: Vec<Arm> = (0..count)
                .map(|number| PollArm::start(&sockets[number % 10].0, POLLIN).unwrap())
                .collect();
            if round > 0 {
                (&sockets[3].1).write_all(b"x").unwrap();
                assert!(wait_for_one(&arms, None));
                sockets[3].0.recv(&mut [0], 0).unwrap();
            }
            if round < 2 {
                let done = finish_all(arms).iter().flatten().count();
                assert_eq!(done > 0, round > 0);
                assert!(done <= count / 10);
            } else {
                drop(arms);
            }
            assert_nothing_left(&sockets.iter().map(|(io, _)| io).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_byte_that_comes_with_the_cancel_is_still_there() {
    crate::run(|| {
        for round in 0..200 {
            let (io, mut peer) = pair();
            let arms = [PollArm::start(&io, POLLIN).unwrap()];
            let writer = thread::spawn(move || {
                if round % 2 == 0 {
                    thread::yield_now();
                }
                peer.write_all(b"x").unwrap();
                peer
            });
            if round % 3 == 0 {
                wait_for_one(&arms, Some(worker().after(Duration::from_micros(round * 5))));
            }
            let [arm] = arms;
            let mask = arm.finish().unwrap();
            assert!(matches!(mask, None | Some(POLLIN)));
            assert_nothing_left(&[&io]);
            assert_eq!(io.recv(&mut [0; 8], 0).unwrap(), 1);
            drop(writer.join().unwrap());
        }
    });
}

/// The number is used again at once: nothing of the last descriptor speaks for the next.
#[test]
fn a_descriptor_is_closed_right_after_its_arm() {
    crate::run(|| {
        let (other, _other_peer) = pair();
        for _ in 0..100 {
            let (io, mut peer) = pair();
            let arms =
                vec![PollArm::start(&io, POLLIN).unwrap(), PollArm::start(&other, POLLIN).unwrap()];
            thread::yield_now();
            drop(arms);
            drop(io);
            peer.set_nonblocking(false).unwrap();
            let end = std::io::Read::read(&mut peer, &mut [0]).unwrap();
            assert_eq!(end, 0, "the kernel holds the closed socket no longer");
        }
        assert_nothing_left(&[&other]);
    });
}

#[test]
fn a_wait_for_several_that_includes_a_descriptor_is_no_deadlock() {
    assert!(Reason::io(Kind::Select, 3).ends_by_itself());
    assert!(!Reason::new(Kind::Select).ends_by_itself());
}

#[test]
fn on_a_plain_thread_the_owner_polls() {
    let (io, mut peer) = pair();
    let bell = crate::doorbell::Doorbell::new().unwrap();
    let arms = [PollArm::start(&io, POLLIN).unwrap()];
    assert!(!arms[0].is_done());
    let past = Some(clock::after(Duration::from_millis(1)));
    assert_eq!(wait_on_thread(&arms, bell.as_fd(), past), Signal::TimedOut);
    bell.ring();
    assert_eq!(wait_on_thread(&arms, bell.as_fd(), None), Signal::Wake);
    assert!(bell.answer() && !arms[0].is_done());
    peer.write_all(b"x").unwrap();
    assert_eq!(wait_on_thread(&arms, bell.as_fd(), None), Signal::Wake);
    assert!(arms[0].is_done());
    let [arm] = arms;
    assert_eq!(arm.finish().unwrap(), Some(POLLIN));
}
