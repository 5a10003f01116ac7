//! Timers with the premature flag, limits and counts: rows TIM-1 to TIM-5 of the behaviour table.

mod socket_util;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cosocket::sync::{Semaphore, mpsc};
use cosocket::thread;
use cosocket::time::{Instant, TimerError, Timers, timeout};
use socket_util::{everywhere, until};

const LONG: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(2);

/// TIM-1
#[test]
fn a_timer_without_delay_is_called_after_its_setter_has_given_way() {
    support::on_workers(1, || {
        let timers = Timers::new();
        let called = Arc::new(AtomicUsize::new(0));
        let calls = Arc::clone(&called);
        let call = move |premature: bool| {
            assert!(!premature);
            calls.fetch_add(1, Ordering::Relaxed);
        };
        let timer = timers.at(Duration::ZERO, call).unwrap();
        assert_eq!(called.load(Ordering::Relaxed), 0);
        assert!(timer.is_pending());
        until(|| called.load(Ordering::Relaxed) == 1);
        assert!(!timer.is_pending() && !timer.cancel());
    });
}

/// TIM-1
#[test]
fn a_timer_is_called_once_when_its_time_has_come_and_in_their_order() {
    everywhere(|| {
        let timers = Timers::new();
        let (sender, calls) = mpsc::channel();
        let start = Instant::now();
        for delay in [9, 3, 6] {
            let sender = sender.clone();
            let delay = Duration::from_millis(delay);
            timers.at(delay, move |_| sender.send((delay, start.elapsed())).unwrap()).unwrap();
        }
        drop(sender);
        let calls: Vec<_> = calls.iter().collect();
        assert_eq!(calls.len(), 3);
        assert!(calls.iter().all(|(delay, after)| after >= delay), "{calls:?}");
        until(|| (timers.pending(), timers.running()) == (0, 0));
    });
}

/// TIM-1, TIM-5; section 2, item 172 (106:23,24).
#[test]
fn the_limit_of_pending_timers_is_exact() {
    everywhere(|| {
        let timers = Timers::new();
        let timer = timers.at(LONG, |_| ()).unwrap();
        for _ in 1..1024 {
            timers.at(LONG, |_| ()).unwrap();
        }
        assert_eq!(timers.pending(), 1024);
        let error = timers.at(LONG, |_| ()).unwrap_err();
        assert_eq!(error, TimerError::TooManyPending);
        assert_eq!(error.to_string(), "too many pending timers");
        assert_eq!(timers.every(LONG, |_| ()).unwrap_err(), error);
        assert!(timer.cancel() && !timer.cancel());
        assert_eq!(timers.pending(), 1023);
        timers.at(LONG, |_| ()).unwrap();
        let small = Timers::with_limits(1, 1);
        small.at(LONG, |_| ()).unwrap();
        assert_eq!(small.at(LONG, |_| ()).unwrap_err(), TimerError::TooManyPending);
    });
}

/// TIM-2; section 2, item 173 (152:4): the next call begins while the one before goes on.
#[test]
fn calls_that_outlast_their_period_overlap() {
    everywhere(|| {
        let timers = Timers::new();
        let (sender, begun) = mpsc::channel();
        let end = Arc::new(Semaphore::new(0));
        let wait = Arc::clone(&end);
        let timer = timers.every(SOON, move |premature| {
            assert!(!premature);
            sender.send(()).unwrap();
            wait.acquire().unwrap().forget();
        });
        let timer = timer.unwrap();
        assert_eq!(begun.iter().take(3).count(), 3);
        assert!(timers.running() >= 3);
        assert_eq!(timers.pending(), 1);
        assert!(timer.cancel());
        assert_eq!(timers.pending(), 0);
        end.add_permits(1 << 20);
        until(|| timers.running() == 0);
    });
}

/// TIM-2
#[test]
#[should_panic(expected = "delay cannot be zero")]
fn a_period_of_zero_is_refused() {
    let _ = Timers::new().every(Duration::ZERO, |_| ());
}

/// TIM-3, but that nothing is lost; section 2, item 172 (106:27).
#[test]
fn what_is_due_while_too_many_run_waits_for_its_turn() {
    everywhere(|| {
        let timers = Timers::with_limits(10, 1);
        let (sender, begun) = mpsc::channel();
        let end = Arc::new(Semaphore::new(0));
        for number in 0..3 {
            let (sender, wait) = (sender.clone(), Arc::clone(&end));
            let call = move |_| {
                sender.send(number).unwrap();
                wait.acquire().unwrap().forget();
            };
            timers.at(Duration::ZERO, call).unwrap();
        }
        for number in 0..3 {
            assert_eq!(begun.recv(), Ok(number));
            thread::sleep(SOON);
            assert_eq!((timers.running(), timers.pending()), (1, 2 - number));
            assert!(begun.try_recv().is_err());
            end.add_permits(1);
        }
        until(|| timers.running() == 0);
    });
}

/// TIM-3: a timer that repeats is called once for all it has missed.
#[test]
fn missed_periods_are_made_up_for_once() {
    everywhere(|| {
        let timers = Timers::with_limits(10, 1);
        let end = Arc::new(Semaphore::new(0));
        let wait = Arc::clone(&end);
        let (sender, begun) = mpsc::channel();
        timers.at(Duration::ZERO, move |_| wait.acquire().unwrap().forget()).unwrap();
        until(|| timers.running() == 1);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let period = Duration::from_millis(1);
        let start = Instant::now();
        let timer = timers.every(period, move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = sender.send(());
        });
        thread::sleep(20 * period);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        end.add_permits(1);
        begun.recv().unwrap();
        assert!(timer.unwrap().cancel());
        until(|| timers.running() == 0);
        let after = start.elapsed().as_millis() as usize;
        assert!(calls.load(Ordering::Relaxed) <= after - 19, "all of them");
    });
}

/// TIM-4
#[test]
fn a_shutdown_calls_all_that_are_pending_before_their_time() {
    everywhere(|| {
        let timers = Timers::with_limits(10, 2);
        let (sender, calls) = mpsc::channel();
        for _ in 0..3 {
            let sender = sender.clone();
            timers.at(LONG, move |premature| sender.send(premature).unwrap()).unwrap();
        }
        timers.every(LONG, move |premature| sender.send(premature).unwrap()).unwrap();
        assert_eq!(timers.pending(), 4);
        assert_eq!(timers.shutdown(LONG), 0);
        assert_eq!((timers.pending(), timers.running()), (0, 0));
        let calls: Vec<bool> = calls.iter().collect();
        assert_eq!(calls, [true; 4]);
        let error = timers.at(SOON, |_| ()).unwrap_err();
        assert_eq!(error, TimerError::Exiting);
        assert_eq!(error.to_string(), "process exiting");
        assert_eq!(timers.every(SOON, |_| ()).unwrap_err(), error);
        // Without a delay it is not too early.
        let (sender, calls) = mpsc::channel();
        timers.at(Duration::ZERO, move |_| sender.send(()).unwrap()).unwrap();
        calls.recv().unwrap();
    });
}

/// TIM-4: a callback may set further timers, and one that takes its time is waited for so long.
#[test]
fn a_shutdown_has_its_patience() {
    everywhere(|| {
        let timers = Timers::new();
        let end = Arc::new(Semaphore::new(0));
        let (again, wait) = (timers.clone(), Arc::clone(&end));
        let call = move |premature: bool| {
            assert!(premature);
            assert_eq!(again.at(LONG, |_| ()).unwrap_err(), TimerError::Exiting);
            wait.acquire().unwrap().forget();
        };
        timers.at(LONG, call).unwrap();
        assert_eq!(timers.shutdown(SOON), 1);
        assert!(timeout(SOON, || timers.shutdown(LONG)).is_err());
        end.add_permits(1);
        assert_eq!(timers.shutdown(LONG), 0);
    });
}

#[test]
fn a_panic_in_a_callback_is_its_own() {
    everywhere(|| {
        let timers = Timers::new();
        let (sender, calls) = mpsc::channel();
        let call = move |_| {
            sender.send(()).unwrap();
            support::panic_quietly("timer");
        };
        let timer = timers.every(SOON, call).unwrap();
        assert_eq!(calls.iter().take(3).count(), 3);
        timer.cancel();
        until(|| timers.running() == 0);
    });
}

#[test]
fn what_is_forgotten_is_dropped() {
    everywhere(|| {
        let drops = support::Drops::default();
        let own = |call: fn(bool)| {
            let counted = drops.counted();
            move |premature| {
                let _ = &counted;
                call(premature);
            }
        };
        let timers = Timers::new();
        let timer = timers.at(LONG, own(|_| unreachable!("cancelled"))).unwrap();
        timers.at(LONG, own(|_| unreachable!("forgotten"))).unwrap();
        assert!(timer.cancel());
        assert_eq!(drops.count(), 1);
        drop(timers);
        until(|| drops.count() == 2);
        assert!(!timer.is_pending() && !timer.cancel());
    });
}
