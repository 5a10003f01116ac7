//! Cancels: in a storm, in a race, too late, and repeated.

use std::io::{Read, Write};
use std::thread;

use super::*;

#[test]
fn a_cancelled_receive_takes_nothing() {
    let bench = Bench::open(64);
    let (mut near, mut far) = tcp_pair();
    let data = buffer(8);
    let slot = bench.start(recv(&far, data));
    bench.turn(Wait::Poll);
    bench.cancel(slot);
    assert_eq!(slot.state.get(), OpState::CancelQueued);
    assert_eq!(bench.finish(slot).result, -libc::ECANCELED);
    near.write_all(b"kept").unwrap();
    let mut kept = [0; 4];
    far.read_exact(&mut kept).unwrap();
    assert_eq!((&kept, &data[..4]), (b"kept", &[0u8; 4][..]));
}

#[test]
fn a_cancel_before_its_operation_was_submitted() {
    let bench = Bench::open(64);
    let (_near, far) = unix_pair();
    let slot = bench.start(recv(&far, buffer(1)));
    bench.cancel(slot);
    assert_eq!(bench.finish(slot).result, -libc::ECANCELED);
}

#[test]
fn a_turn_does_not_sleep_on_a_cancel_that_found_no_room() {
    let bench = Bench::exact(LADDER[0], 2, 4);
    bench.turn(Wait::Poll);
    let (near, far) = unix_pair();
    let slot = bench.start(recv(&near, buffer(1)));
    let other = bench.start(recv(&far, buffer(1)));
    bench.cancel(slot);
    assert_eq!(bench.turn(Wait::Forever).len(), 1);
    assert_eq!(slot.take().unwrap().result, -libc::ECANCELED);
    bench.cancel(other);
    assert_eq!(bench.finish(other).result, -libc::ECANCELED);
}

#[test]
fn a_storm_of_cancels_on_a_small_ring() {
    let pairs: Vec<_> = (0..1000).map(|_| unix_pair()).collect();
    let sizes = [(8, 64), (2, 4)];
    let kinds = LADDER.iter().flat_map(|&setup| sizes.map(|sizes| (setup, sizes)));
    for (setup, (entries, completions)) in kinds {
        let bench = Bench::exact(setup, entries, completions);
        let start = |(_, far): &(UnixStream, UnixStream)| bench.start(recv(far, buffer(1)));
        let slots: Vec<_> = pairs.iter().map(start).collect();
        bench.turn(Wait::Poll);
        for slot in &slots {
            bench.cancel(slot);
        }
        assert_eq!(bench.finish_all(), 1000);
        let is_cancelled = |slot: &&OpSlot| slot.take().unwrap().result == -libc::ECANCELED;
        assert!(slots.iter().all(is_cancelled));
        assert!(bench.uring.cancels.is_empty());
        assert_eq!(bench.uring.counters().stale, 0);
    }
}

#[test]
fn a_cancel_of_nothing_does_nothing() {
    let bench = Bench::open(64);
    let (mut near, far) = unix_pair();
    let slot = slot();
    bench.cancel(slot);
    assert_eq!(slot.state.get(), OpState::Idle);

    let data = buffer(1);
    bench.restart(slot, recv(&far, data));
    near.write_all(b"x").unwrap();
    while bench.turn(Wait::Forever).is_empty() {}
    bench.cancel(slot);
    assert_eq!(slot.take(), Some(Completion { result: 1, flags: slot.flags.get() }));

    bench.restart(slot, recv(&far, data));
    bench.turn(Wait::Poll);
    bench.cancel(slot);
    bench.cancel(slot);
    assert_eq!(bench.finish(slot).result, -libc::ECANCELED);
    assert!(bench.uring.cancels.is_empty());
}

#[test]
fn an_operation_that_ends_first_takes_its_cancel_off_the_queue() {
    // The kernel ends operations by itself in this mode: completions come without an enter.
    let bench = Bench::exact(LADDER[3], 64, 512);
    let pairs: Vec<_> = (0..3).map(|_| unix_pair()).collect();
    let slots: Vec<_> = pairs.iter().map(|(_, far)| bench.start(recv(far, buffer(1)))).collect();
    bench.turn(Wait::Poll);
    for slot in &slots {
        bench.cancel(slot);
    }
    (&pairs[1].0).write_all(b"x").unwrap();
    let submitted = bench.uring.counters().submitted;
    assert_eq!(bench.finish_all(), 3);
    assert_eq!(slots[1].take().unwrap().result, 1);
    for slot in [slots[0], slots[2]] {
        assert_eq!(slot.take().unwrap().result, -libc::ECANCELED);
    }
    assert_eq!(bench.uring.counters().submitted - submitted, 2);
}

#[test]
fn a_stale_cancel_misses_the_next_operation_of_its_slot() {
    let bench = Bench::open(64);
    let (mut near, far) = unix_pair();
    let slot = bench.start(recv(&far, buffer(1)));
    let stale = crate::driver::uring::user_data::of(slot);
    near.write_all(b"1").unwrap();
    assert_eq!(bench.finish(slot).result, 1);

    bench.restart(slot, recv(&far, buffer(1)));
    let entry = crate::driver::uring::encode::cancel(stale).user_data(stale | 1);
    // SAFETY: the entry points to nothing.
    assert!(unsafe { bench.uring.ring.push(&entry) });
    assert!(bench.turn(Wait::Poll).is_empty());
    assert!(bench.turn(Wait::Poll).is_empty());
    assert_eq!(slot.state.get(), OpState::InFlight);
    near.write_all(b"2").unwrap();
    assert_eq!(bench.finish(slot).result, 1);
    assert_eq!(bench.uring.counters().missed_cancels, 0);
}

#[test]
fn a_cancel_that_found_nothing_may_be_repeated() {
    let bench = Bench::open(64);
    let (_near, far) = unix_pair();
    let slot = bench.start(recv(&far, buffer(1)));
    bench.turn(Wait::Poll);
    // As the kernel would answer if it had the operation in its hands just then.
    slot.state.set(OpState::CancelSent);
    let answer = crate::driver::uring::user_data::of(slot) | 1;
    bench.uring.cancel_missed(answer, -libc::ENOENT);
    assert_eq!(slot.state.get(), OpState::InFlight);
    assert_eq!(bench.uring.counters().missed_cancels, 1);
    bench.cancel(slot);
    assert_eq!(bench.finish(slot).result, -libc::ECANCELED);
}

#[test]
fn generations_wrap_around() {
    let bench = Bench::open(64);
    let (near, _far) = unix_pair();
    let slot = slot();
    slot.set_generation(u16::MAX - 1);
    for _ in 0..4 {
        let (fd, events) = (near.as_raw_fd(), libc::POLLOUT);
        bench.restart(slot, Op::Poll { fd, events });
        assert_eq!(bench.finish(slot).result, i32::from(libc::POLLOUT));
    }
    assert_eq!(slot.generation(), 2);
}

/// Bytes arrive from another thread while their receives are cancelled: each byte is either
/// delivered or still in the socket, and all arrive in order.
#[test]
fn a_cancel_that_races_with_arrival_loses_no_byte() {
    const ROUNDS: u8 = 250;
    for (seed, &setup) in LADDER.iter().enumerate() {
        let bench = Bench::exact(setup, 8, 64);
        let (near, far) = tcp_pair();
        near.set_nodelay(true).unwrap();
        let (to_writer, next) = std::sync::mpsc::channel::<(u64, u8)>();
        let writer = thread::spawn(move || {
            for (spins, byte) in next {
                (0..spins).for_each(|_| std::hint::spin_loop());
                (&near).write_all(&[byte]).unwrap();
            }
        });
        let mut random = Seeded(seed as u64);
        let data = buffer(1);
        let slot = slot();
        let (mut won, mut lost) = (0, 0);
        for round in 0..ROUNDS {
            bench.restart(slot, recv(&far, data));
            bench.turn(Wait::Poll);
            to_writer.send((random.below(400), round)).unwrap();
            for _ in 0..random.below(4) {
                bench.turn(Wait::Poll);
            }
            (0..random.below(8000)).for_each(|_| std::hint::spin_loop());
            bench.cancel(slot);
            match bench.finish(slot).result {
                1 => won += 1,
                result => {
                    assert_eq!(result, -libc::ECANCELED);
                    lost += 1;
                    assert_eq!(bench.run(recv(&far, data)), 1);
                }
            }
            assert_eq!(data[0], round);
        }
        drop(to_writer);
        writer.join().unwrap();
        assert_eq!(won + lost, i32::from(ROUNDS));
        assert_eq!(bench.uring.counters().stale, 0);
        assert_eq!(bench.run(recv(&far, data)), 0);
    }
}
