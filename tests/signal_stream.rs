//! `signal::Signals`: a stream of signals that loses none, beside others of its kind.

#![allow(unsafe_code)]

mod socket_util;
#[allow(unsafe_code)]
mod util;

use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cosocket::signal::{self, Signals};
use cosocket::signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use cosocket::{Cancelled, thread};
use socket_util::{everywhere, spawn_waiting};
use util::{child, descriptors};

/// Signals are the whole process's, so one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn raise(signal: i32) {
    // SAFETY: the signal has a handler. It has run when this returns.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

#[test]
fn what_comes_between_two_waits_is_remembered() {
    let _alone = alone();
    everywhere(|| {
        let signals = Signals::new(&[SIGUSR1, SIGHUP]).unwrap();
        assert_eq!(signals.try_wait(), None);
        raise(SIGUSR1);
        assert_eq!(signals.wait().unwrap(), SIGUSR1);
        assert_eq!(signals.try_wait(), None);
        // As in the kernel: several that nobody has taken are one.
        raise(SIGHUP);
        raise(SIGUSR1);
        raise(SIGHUP);
        let mut both = [signals.wait().unwrap(), signals.wait().unwrap()];
        both.sort_unstable();
        assert_eq!(both, [SIGHUP, SIGUSR1]);
        assert_eq!(signals.try_wait(), None);
        // What came before it, a stream does not know.
        raise(SIGHUP);
        assert_eq!(Signals::new(&[SIGHUP]).unwrap().try_wait(), None);
    });
}

#[test]
fn a_wait_ends_with_the_signal() {
    let _alone = alone();
    cosocket::run(|| {
        let signals = Arc::new(Signals::new(&[SIGTERM, SIGUSR2]).unwrap());
        for signal in [SIGTERM, SIGUSR2, SIGUSR2, SIGTERM] {
            let theirs = Arc::clone(&signals);
            let waiter = spawn_waiting(move || theirs.wait().unwrap());
            assert!(!waiter.is_finished());
            raise(signal);
            assert_eq!(waiter.join().unwrap(), signal);
        }
    });
    let signals = Signals::new(&[SIGTERM]).unwrap();
    let waiter = std::thread::spawn(move || signals.wait().unwrap());
    raise(SIGTERM);
    assert_eq!(waiter.join().unwrap(), SIGTERM);
}

#[test]
fn every_stream_sees_every_signal() {
    let _alone = alone();
    cosocket::run(|| {
        let streams: Vec<_> = (0..5).map(|_| Signals::new(&[SIGUSR1]).unwrap()).collect();
        let other = Signals::new(&[SIGUSR2]).unwrap();
        let waiters: Vec<_> = streams
            .into_iter()
            .map(|stream| spawn_waiting(move || (stream.wait().unwrap(), stream)))
            .collect();
        let others = spawn_waiting(move || other.wait().unwrap());
        raise(SIGUSR1);
        for waiter in waiters {
            let (signal, stream) = waiter.join().unwrap();
            assert_eq!(signal, SIGUSR1);
            assert_eq!(stream.try_wait(), None);
        }
        socket_util::turn();
        assert!(!others.is_finished(), "another signal's news is no signal");
        raise(SIGUSR2);
        assert_eq!(others.join().unwrap(), SIGUSR2);
    });
}

/// A thread raises one after the other, each when the one before was seen.
#[test]
fn none_is_lost_when_they_race_with_waits() {
    let _alone = alone();
    let rounds = if util::is_quick() { 100 } else { 2000 };
    let streams = [(); 3].map(|()| Signals::new(&[SIGUSR1, SIGUSR2]).unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let kicker = std::thread::spawn(move || {
        for round in 0..rounds {
            raise(if round % 3 == 0 { SIGUSR1 } else { SIGUSR2 });
            while counted.load(SeqCst) < 3 * (round + 1) {
                std::thread::yield_now();
            }
        }
    });
    cosocket::run(move || {
        let waiters: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                let seen = Arc::clone(&seen);
                thread::spawn(move || {
                    for round in 0..rounds {
                        let expected = if round % 3 == 0 { SIGUSR1 } else { SIGUSR2 };
                        assert_eq!(stream.wait().unwrap(), expected);
                        seen.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
    kicker.join().unwrap();
}

#[test]
fn those_who_share_a_stream_share_its_signals() {
    let _alone = alone();
    cosocket::run(|| {
        let signals = Arc::new(Signals::new(&[SIGUSR1, SIGUSR2]).unwrap());
        let waiting = || {
            let theirs = Arc::clone(&signals);
            spawn_waiting(move || theirs.wait().unwrap())
        };
        let (one, two) = (waiting(), waiting());
        raise(SIGUSR1);
        raise(SIGUSR2);
        let mut both = [one.join().unwrap(), two.join().unwrap()];
        both.sort_unstable();
        assert_eq!(both, [SIGUSR1, SIGUSR2]);
        assert_eq!(signals.try_wait(), None);
    });
}

#[test]
fn a_signal_that_keeps_coming_does_not_hide_another() {
    let _alone = alone();
    let signals = Signals::new(&[SIGUSR1, SIGUSR2, SIGHUP]).unwrap();
    raise(SIGHUP);
    raise(SIGUSR2);
    let mut told = Vec::new();
    for signal in signals.iter().take(3) {
        told.push(signal.unwrap());
        raise(SIGUSR1);
    }
    told.sort_unstable();
    assert_eq!(told, [SIGHUP, SIGUSR1, SIGUSR2]);
}

#[test]
fn a_cancel_leaves_the_signal_to_the_next_call() {
    let _alone = alone();
    cosocket::run(|| {
        let signals = Arc::new(Signals::new(&[SIGUSR1]).unwrap());
        let theirs = Arc::clone(&signals);
        let waiter = spawn_waiting(move || theirs.wait());
        waiter.cancel();
        raise(SIGUSR1);
        match waiter.join() {
            Ok(signal) => assert_eq!(signal.unwrap(), SIGUSR1),
            Err(payload) => {
                assert!(payload.is::<Cancelled>());
                assert_eq!(signals.wait().unwrap(), SIGUSR1);
            }
        }
        assert_eq!(signals.try_wait(), None);
    });
}

#[test]
fn ctrl_c_and_a_stream_see_the_same_interrupt() {
    let _alone = alone();
    cosocket::run(|| {
        let signals = Signals::new(&[SIGINT]).unwrap();
        let waiter = spawn_waiting(signal::ctrl_c);
        raise(SIGINT);
        waiter.join().unwrap().unwrap();
        assert_eq!(signals.wait().unwrap(), SIGINT);
        // The stream remembers, the call does not.
        raise(SIGINT);
        let waiter = spawn_waiting(signal::ctrl_c);
        socket_util::turn();
        assert!(!waiter.is_finished());
        assert_eq!(signals.wait().unwrap(), SIGINT);
        raise(SIGINT);
        waiter.join().unwrap().unwrap();
    });
}

static CHAINED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_with_info(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes it to a handler with SA_SIGINFO.
    assert_eq!(unsafe { (*info).si_signo }, SIGWINCH);
    CHAINED.fetch_add(1, SeqCst);
}

#[test]
fn a_handler_from_before_is_called_with_what_it_asked_for() {
    let _alone = alone();
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = count_with_info;
    // SAFETY: all zeroes is an action with an empty mask; the handler touches an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(SIGWINCH, &action, std::ptr::null_mut()), 0);
    }
    let signals = Signals::new(&[SIGWINCH]).unwrap();
    for times in 1..4 {
        raise(SIGWINCH);
        assert_eq!(signals.wait().unwrap(), SIGWINCH);
        assert_eq!(CHAINED.load(SeqCst), times);
    }
}

#[test]
fn signals_that_cannot_be_waited_for_are_invalid_input_with_a_reason() {
    let _alone = alone();
    let refused = [
        (libc::SIGKILL, "nobody"),
        (libc::SIGSTOP, "nobody"),
        (libc::SIGSEGV, "instruction"),
        (libc::SIGBUS, "instruction"),
        (libc::SIGFPE, "instruction"),
        (libc::SIGILL, "instruction"),
        (libc::SIGTRAP, "instruction"),
        (libc::SIGSYS, "instruction"),
        (32, "C library"),
        (0, "no such"),
        (-1, "no such"),
        (65, "no such"),
        (i32::MAX, "no such"),
        (i32::MIN, "no such"),
    ];
    for (signal, reason) in refused {
        let error = Signals::new(&[SIGUSR1, signal]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.to_string().contains(&signal.to_string()), "{error}");
    }
    assert_eq!(Signals::new(&[]).unwrap_err().kind(), ErrorKind::InvalidInput);
    let last = libc::SIGRTMAX();
    let signals = Signals::new(&[last, last]).unwrap();
    raise(last);
    assert_eq!(signals.try_wait(), Some(last));
    assert_eq!(signals.try_wait(), None);
    assert_eq!(format!("{signals:?}"), format!("{{{last}}}"));
}

/// Streams hold no descriptor; waits do, as many as there are rounds of news at once.
#[test]
fn a_thousand_streams_take_no_descriptors() {
    child::passes("a_thousand_streams_take_no_descriptors", || {
        cosocket::run(|| {
            let streams = (0..1000).map(|_| Signals::new(&[SIGUSR1]).unwrap());
            let waiters = |streams: Vec<Signals>| -> Vec<_> {
                streams
                    .into_iter()
                    .map(|stream| cosocket::spawn_local(move || (stream.wait().unwrap(), stream).1))
                    .collect()
            };
            let mut streams: Vec<Signals> = streams.collect();
            let mut before = None;
            for _ in 0..5 {
                let waiting = waiters(streams);
                socket_util::turn();
                raise(SIGUSR1);
                streams = waiting.into_iter().map(|waiter| waiter.join().unwrap()).collect();
                let open = descriptors();
                assert_eq!(*before.get_or_insert(open), open);
            }
        });
    });
}

/// The signal goes to the process, whichever thread the kernel picks, and ends it no more.
#[test]
fn a_signal_from_another_process_arrives() {
    let _alone = alone();
    cosocket::run(|| {
        let signals = Signals::new(&[SIGTERM]).unwrap();
        let me = std::process::id().to_string();
        let kill = cosocket::process::Command::new("kill").args(["-TERM", &me]).status();
        assert!(kill.unwrap().success());
        assert_eq!(signals.wait().unwrap(), SIGTERM);
    });
}
