//! Sleeping, waking, not sleeping, and the end.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::clock;
use crate::driver::Turn;

fn plain_turn(bench: &Bench, wait: Wait) -> Turn {
    bench.uring.turn(wait, &mut |_| panic!("nothing was started"))
}

/// Rings the doorbell each time this thread has fallen asleep, until dropped.
struct BellRinger {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl BellRinger {
    fn new(bench: &Bench) -> BellRinger {
        let doorbell = bench.doorbell.try_clone().unwrap();
        // SAFETY: no pointers.
        let sleeper = unsafe { libc::syscall(libc::SYS_gettid) };
        let state = format!("/proc/self/task/{sleeper}/stat");
        let stop = Arc::new(AtomicBool::new(false));
        let ring = {
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let state = std::fs::read_to_string(&state).unwrap();
                    match state.rsplit(") ").next().unwrap().starts_with(['S', 'D']) {
                        true => probe::ring_bell(&doorbell),
                        false => thread::yield_now(),
                    }
                }
            }
        };
        let thread = Some(thread::spawn(ring));
        BellRinger { stop, thread }
    }
}

impl Drop for BellRinger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_doorbell_rung_by_another_thread_ends_the_wait() {
    for &setup in &LADDER {
        let bench = Bench::exact(setup, 8, 64);
        bench.turn(Wait::Poll);
        let _ringer = BellRinger::new(&bench);
        for _ in 0..50 {
            assert!(plain_turn(&bench, Wait::Forever).doorbell);
        }
    }
}

/// Added to the kernel's clock, a relative timeout this long must not become a time in the past.
#[test]
fn a_wait_until_the_end_of_time_is_long() {
    for bench in [Bench::open(8), Bench::without_capabilities(8)] {
        bench.turn(Wait::Poll);
        let _ringer = BellRinger::new(&bench);
        for at in [u64::MAX, i64::MAX as u64, i64::MAX as u64 - 1_000_000_000] {
            assert!(plain_turn(&bench, Wait::Until(at)).doorbell, "{at}");
        }
    }
}

#[test]
fn a_doorbell_is_silent_once_it_was_told() {
    let bench = Bench::open(8);
    bench.ring();
    while !plain_turn(&bench, Wait::Forever).doorbell {}
    let mut count = 0u64;
    // SAFETY: eight writable bytes.
    let read = unsafe { libc::read(bench.doorbell.as_raw_fd(), (&raw mut count).cast(), 8) };
    assert_eq!(read, -1);
}

#[test]
fn a_doorbell_rung_before_the_wait_is_not_lost() {
    for &setup in &LADDER {
        let bench = Bench::exact(setup, 8, 64);
        bench.ring();
        while !plain_turn(&bench, Wait::Forever).doorbell {}
        assert!(!plain_turn(&bench, Wait::Poll).doorbell);
        bench.ring();
        bench.ring();
        while !plain_turn(&bench, Wait::Forever).doorbell {}
    }
}

#[test]
fn a_doorbell_seen_by_a_start_is_told_by_the_next_turn() {
    let bench = Bench::exact(LADDER[0], 2, 4);
    bench.turn(Wait::Poll);
    bench.ring();
    let (near, _far) = unix_pair();
    let (fd, events) = (near.as_raw_fd(), libc::POLLOUT);
    for _ in 0..10 {
        bench.start(Op::Poll { fd, events });
    }
    assert!(bench.uring.doorbell_rang.get());
    assert!(bench.uring.turn(Wait::Forever, &mut |_| {}).doorbell);
    bench.finish_all();
}

#[test]
#[should_panic(expected = "non-blocking")]
fn a_blocking_doorbell_is_a_mistake() {
    let (blocking, _other) = unix_pair();
    let _ = Uring::open(8, blocking.as_fd());
}

#[test]
fn a_timed_wait_never_ends_early() {
    for bench in [Bench::open(8), Bench::without_capabilities(8)] {
        let mut random = Seeded(1);
        for _ in 0..50 {
            let at = clock::now() + random.below(3_000_000);
            while clock::now() < at {
                plain_turn(&bench, Wait::Until(at));
            }
            let turn = plain_turn(&bench, Wait::Until(at));
            assert!(!turn.doorbell);
        }
        // One turn is enough: it is the kernel that waits, not this loop.
        plain_turn(&bench, Wait::Poll);
        let at = clock::now() + 5_000_000;
        plain_turn(&bench, Wait::Until(at));
        assert!(clock::now() >= at);
    }
}

#[test]
fn a_timed_wait_ends_with_a_completion() {
    for bench in [Bench::open(8), Bench::without_capabilities(8)] {
        let (mut near, far) = unix_pair();
        let slot = bench.start(recv(&far, buffer(1)));
        bench.turn(Wait::Poll);
        near.write_all(b"x").unwrap();
        for wait in [Wait::Until(u64::MAX), Wait::Until(0)] {
            bench.turn(wait);
        }
        assert_eq!(slot.take().unwrap().result, 1);
    }
}

#[test]
fn a_turn_with_nothing_to_do_makes_no_system_call() {
    let bench = Bench::open(64);
    let (mut near, far) = unix_pair();
    let slot = bench.start(recv(&far, buffer(1)));
    assert!(bench.uring.turn(Wait::Poll, &mut |_| {}).entered);
    let calls = bench.uring.system_calls();
    for _ in 0..10 {
        let turn = plain_turn(&bench, Wait::Poll);
        assert_eq!(turn, Turn::default());
    }
    assert_eq!(bench.uring.system_calls(), calls);
    near.write_all(b"x").unwrap();
    assert_eq!(bench.finish(slot).result, 1);
}

#[test]
fn one_turn_with_room_makes_one_system_call() {
    let bench = Bench::open(64);
    let (mut near, far) = unix_pair();
    bench.turn(Wait::Poll);
    near.write_all(b"x").unwrap();
    let calls = bench.uring.system_calls();
    let slot = bench.start(recv(&far, buffer(1)));
    assert_eq!(bench.turn(Wait::Forever).len(), 1);
    assert_eq!(bench.uring.system_calls(), calls + 1);
    assert_eq!(slot.take().unwrap().result, 1);
}

#[test]
fn signals_end_a_turn_and_no_operation() {
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: the handler does nothing, and no other test uses this signal.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()), 0);
    }
    for &setup in &LADDER {
        let bench = Bench::exact(setup, 8, 64);
        let (mut near, far) = tcp_pair();
        // SAFETY: no pointers; the thread outlives the one that signals it.
        let thread = unsafe { libc::pthread_self() } as usize;
        let stop = Arc::new(AtomicBool::new(false));
        let signaller = thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: the thread joins this one before it ends.
                    unsafe { libc::pthread_kill(thread as libc::pthread_t, libc::SIGUSR2) };
                    thread::yield_now();
                }
            }
        });
        let data = buffer(1);
        for byte in 0..100 {
            let slot = bench.start(recv(&far, data));
            bench.turn(Wait::Forever);
            bench.turn(Wait::Until(clock::now() + 100_000));
            near.write_all(&[byte]).unwrap();
            assert_eq!((bench.finish(slot).result, data[0]), (1, byte));
        }
        stop.store(true, Ordering::Relaxed);
        signaller.join().unwrap();
    }
}

#[test]
fn a_drop_ends_what_is_in_flight_first() {
    let pairs: Vec<_> = (0..100).map(|_| unix_pair()).collect();
    for &setup in &LADDER {
        let bench = Bench::exact(setup, 8, 64);
        let mut slots = Vec::new();
        for (index, (_, far)) in pairs.iter().enumerate() {
            let slot = bench.start(recv(far, buffer(1)));
            if index % 3 == 0 {
                bench.cancel(slot);
            }
            slots.push(slot);
        }
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(bench)));
        // It is a mistake of the caller, and debug builds say so, but only after the drain.
        assert_eq!(dropped.is_err(), cfg!(debug_assertions));
        for slot in slots {
            assert_eq!(slot.take().unwrap().result, -libc::ECANCELED);
        }
    }
    // Nothing reads these sockets any more.
    for (mut near, far) in pairs {
        near.write_all(b"x").unwrap();
        far.set_nonblocking(true).unwrap();
        assert_eq!(std::io::Read::read(&mut &far, &mut [0; 2]).unwrap(), 1);
    }
}

#[test]
fn a_forked_child_leaves_the_ring_to_its_parent() {
    let bench = Bench::open(8);
    let (mut near, far) = unix_pair();
    let slot = bench.start(recv(&far, buffer(1)));
    bench.turn(Wait::Poll);
    // SAFETY: the child drops the driver, which allocates and locks nothing, and exits.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(bench);
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(7) };
    }
    let mut status = 0;
    // SAFETY: `status` may be written.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
    assert_eq!(slot.state.get(), OpState::InFlight);
    near.write_all(b"x").unwrap();
    assert_eq!(bench.finish(slot).result, 1);
}

/// A thread has sixteen places for ring descriptors: the seventeenth ring works without one, and
/// a dropped ring gives its place back.
#[test]
fn many_rings_on_one_thread() {
    for _ in 0..3 {
        let benches: Vec<_> = (0..20).map(|_| Bench::open(8)).collect();
        assert!(benches[0].uring.ring.registered.is_some());
        assert!(benches[19].uring.ring.registered.is_none());
        let (near, _far) = unix_pair();
        for bench in &benches {
            let (fd, events) = (near.as_raw_fd(), libc::POLLOUT);
            assert_eq!(bench.run(Op::Poll { fd, events }), i32::from(libc::POLLOUT));
        }
    }
}
