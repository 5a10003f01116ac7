//! `sync::Condvar`: who is woken, that no notification is lost, and how a wait ends by its timeout
//! or a cancel; in coroutines, on threads and between both.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cosocket::sync::{Condvar, Mutex};
use cosocket::time::timeout;
use cosocket::{LocalJoinHandle, run, thread};
use support::{OnDrop, assert_cancelled, panic_quietly, suspended, until};

/// How many may go, and who went, in order.
#[derive(Clone, Default)]
struct Gate(Rc<(Mutex<usize>, Condvar, RefCell<Vec<usize>>)>);

impl Gate {
    fn waiter(&self, name: usize) -> LocalJoinHandle<()> {
        let gate = self.clone();
        suspended(move || {
            let (mutex, condvar, log) = &*gate.0;
            let guard = mutex.lock().unwrap();
            let mut permits = condvar.wait_while(guard, |permits| *permits == 0).unwrap();
            *permits -= 1;
            log.borrow_mut().push(name);
        })
    }

    fn permit(&self, count: usize) {
        *self.0.0.lock().unwrap() += count;
    }

    #[track_caller]
    fn assert_went(&self, names: &[usize]) {
        (0..20).for_each(|_| thread::yield_now());
        assert_eq!(*self.0.2.borrow(), names);
    }
}

#[test]
fn one_notification_wakes_the_longest_waiting_one() {
    run(|| {
        let gate = Gate::default();
        let waiters = [0, 1, 2].map(|n| gate.waiter(n));
        gate.permit(3);
        gate.assert_went(&[]);
        for count in 1..=3 {
            gate.0.1.notify_one();
            gate.assert_went(&[0, 1, 2][..count]);
        }
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        gate.0.1.notify_one();
        gate.0.1.notify_all();
    });
}

#[test]
fn notify_all_wakes_all_who_wait() {
    run(|| {
        let gate = Gate::default();
        let waiters: Vec<_> = (0..100).map(|n| gate.waiter(n)).collect();
        gate.permit(100);
        gate.0.1.notify_all();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(gate.0.2.borrow().len(), 100);
    });
}

#[test]
fn the_mutex_is_free_during_the_wait_and_held_after_it() {
    run(|| {
        let pair = Rc::new((Mutex::new(0), Condvar::new()));
        let theirs = Rc::clone(&pair);
        let waiter = suspended(move || {
            let guard = theirs.1.wait(theirs.0.lock().unwrap()).unwrap();
            assert!(theirs.0.try_lock().is_err());
            *guard
        });
        let mut guard = pair.0.try_lock().unwrap();
        pair.1.notify_one();
        thread::yield_now();
        *guard = 5;
        assert!(!waiter.is_finished());
        drop(guard);
        assert_eq!(waiter.join().unwrap(), 5);
    });
}

/// A bounded queue between coroutines of all workers and threads, on either side of it.
#[test]
fn in_a_storm_no_notification_is_lost() {
    #[derive(Default)]
    struct Queue {
        items: Mutex<Vec<usize>>,
        changed: [Condvar; 2],
        sum: AtomicUsize,
    }
    const ITEMS: usize = 300;
    let queue = Arc::new(Queue::default());
    let produce = || {
        let queue = Arc::clone(&queue);
        move || {
            for item in 1..=ITEMS {
                let items = queue.items.lock().unwrap();
                let mut items = queue.changed[0].wait_while(items, |i| i.len() >= 3).unwrap();
                items.push(item);
                queue.changed[1].notify_one();
            }
        }
    };
    let consume = || {
        let queue = Arc::clone(&queue);
        move || {
            for _ in 0..ITEMS {
                let items = queue.items.lock().unwrap();
                let mut items = queue.changed[1].wait_while(items, |i| i.is_empty()).unwrap();
                queue.sum.fetch_add(items.pop().unwrap(), Ordering::Relaxed);
                drop(items);
                queue.changed[0].notify_one();
            }
        }
    };
    let threads = [std::thread::spawn(produce()), std::thread::spawn(consume())];
    run(|| {
        let pairs: Vec<_> =
            (0..6).map(|_| [thread::spawn(consume()), thread::spawn(produce())]).collect();
        pairs.into_iter().flatten().for_each(|coroutine| coroutine.join().unwrap());
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(queue.sum.load(Ordering::Relaxed), 7 * ITEMS * (ITEMS + 1) / 2);
}

#[test]
fn a_wait_with_a_timeout_never_ends_early_and_says_how_it_ended() {
    let check = || {
        let (mutex, condvar) = (Mutex::new(7), Condvar::new());
        let mut guard = mutex.lock().unwrap();
        for timeout in [0, 1, 100, 2000].map(Duration::from_micros) {
            let start = Instant::now();
            let (again, result) = condvar.wait_timeout(guard, timeout).unwrap();
            assert!(start.elapsed() >= timeout, "{:?} of {timeout:?}", start.elapsed());
            assert!(result.timed_out());
            guard = again;
            assert_eq!(*guard, 7);
            assert!(mutex.try_lock().is_err());
        }
        let timeout = Duration::from_millis(1);
        let mut asked = 0;
        let start = Instant::now();
        let again = condvar.wait_timeout_while(guard, timeout, |_| (asked += 1, true).1);
        let (guard, result) = again.unwrap();
        assert!(result.timed_out() && start.elapsed() >= timeout);
        assert_eq!(asked, 2);
        let (_, result) = condvar.wait_timeout_while(guard, Duration::MAX, |_| false).unwrap();
        assert!(!result.timed_out());
    };
    check();
    run(check);
}

#[test]
fn a_notification_in_time_is_no_timeout() {
    run(|| {
        let pair = Rc::new((Mutex::new(()), Condvar::new()));
        let [long, longest] = [Duration::from_secs(1000), Duration::MAX].map(|timeout| {
            let pair = Rc::clone(&pair);
            suspended(move || {
                pair.1.wait_timeout(pair.0.lock().unwrap(), timeout).unwrap().1.timed_out()
            })
        });
        pair.1.notify_all();
        assert!(!long.join().unwrap());
        assert!(!longest.join().unwrap());
    });
}

/// One who has timed out is not there any more: the next one is notified in its place.
#[test]
fn a_timeout_takes_no_notification_along() {
    run(|| {
        let gate = Gate::default();
        let theirs = gate.clone();
        let times_out = suspended(move || {
            let guard = theirs.0.0.lock().unwrap();
            let ended = theirs.0.1.wait_timeout(guard, Duration::from_micros(1));
            assert!(ended.unwrap().1.timed_out());
        });
        let waiter = gate.waiter(1);
        times_out.join().unwrap();
        gate.permit(1);
        gate.0.1.notify_one();
        waiter.join().unwrap();
    });
}

/// Timeouts that come at about the time of the notifications: each of these is used once.
#[test]
fn timeouts_and_notifications_that_race_lose_nothing() {
    let state = Arc::new((Mutex::new(0_usize), Condvar::new()));
    let got = Arc::new(AtomicUsize::new(0));
    run(|| {
        let waiters: Vec<_> = (0..20)
            .map(|n| {
                let (state, got) = (Arc::clone(&state), Arc::clone(&got));
                thread::spawn(move || {
                    for turn in 0..30 {
                        let timeout = Duration::from_micros((n * turn) as u64 % 300);
                        let (mutex, condvar) = &*state;
                        let guard = mutex.lock().unwrap();
                        let ended = condvar.wait_timeout_while(guard, timeout, |n| *n == 0);
                        let (mut permits, result) = ended.unwrap();
                        assert_eq!(result.timed_out(), *permits == 0);
                        if *permits > 0 {
                            *permits -= 1;
                            got.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        let mut given = 0;
        while waiters.iter().any(|waiter| !waiter.is_finished()) {
            *state.0.lock().unwrap() += 1;
            state.1.notify_one();
            given += 1;
            thread::sleep(Duration::from_micros(50));
        }
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(got.load(Ordering::Relaxed) + *state.0.lock().unwrap(), given);
    });
}

#[test]
fn a_cancel_unwinds_out_of_the_wait_without_the_mutex() {
    run(|| {
        let pair = Rc::new((Mutex::new(0), Condvar::new()));
        let theirs = Rc::clone(&pair);
        let waiter = suspended(move || {
            let _guard = theirs.1.wait(theirs.0.lock().unwrap());
            unreachable!("it was cancelled");
        });
        let guard = pair.0.lock().unwrap();
        waiter.cancel();
        // Though the mutex is held: it does not wait for it.
        assert_cancelled(waiter.join());
        drop(guard);
        assert!(!pair.0.is_poisoned());
    });
}

#[test]
fn an_elapsed_timeout_around_it_ends_the_wait_without_the_mutex() {
    let check = || {
        let (mutex, condvar) = (Mutex::new(0), Condvar::new());
        let elapsed = timeout(Duration::from_millis(1), || {
            let waited = condvar.wait_timeout(mutex.lock().unwrap(), Duration::from_secs(1000));
            drop(waited);
        });
        assert!(elapsed.is_err());
        assert!(mutex.try_lock().is_ok() && !mutex.is_poisoned());
        // Its own timeout, which comes first, only ends the wait.
        let ended = timeout(Duration::from_secs(1000), || {
            let guard = mutex.lock().unwrap();
            let ended = condvar.wait_timeout(guard, Duration::from_millis(1));
            ended.unwrap().1.timed_out()
        });
        assert!(ended.unwrap());
    };
    check();
    run(check);
}

/// Notified, and cancelled while it waits for the mutex: the notification goes to the next one.
#[test]
fn a_notification_for_one_who_is_cancelled_goes_to_the_next() {
    run(|| {
        let gate = Gate::default();
        let [first, second] = [1, 2].map(|n| gate.waiter(n));
        let mut guard = gate.0.0.lock().unwrap();
        *guard += 1;
        gate.0.1.notify_one();
        // It finds the mutex taken.
        thread::yield_now();
        first.cancel();
        assert_cancelled(first.join());
        drop(guard);
        second.join().unwrap();
        gate.assert_went(&[2]);
    });
}

/// Notified and cancelled at once, with the mutex free: it goes on, and ends at its next wait.
#[test]
fn one_who_is_notified_and_cancelled_at_once_uses_the_notification() {
    run(|| {
        let gate = Gate::default();
        let [first, second] = [1, 2].map(|n| gate.waiter(n));
        gate.permit(1);
        gate.0.1.notify_one();
        first.cancel();
        first.join().unwrap();
        gate.assert_went(&[1]);
        assert!(!second.is_finished());
        second.cancel();
        assert_cancelled(second.join());
    });
}

#[test]
fn in_a_storm_of_cancels_every_permit_is_used() {
    run(|| {
        let state = Arc::new((Mutex::new(0_usize), Condvar::new()));
        let got = Arc::new(AtomicUsize::new(0));
        for _ in 0..30 {
            let before = got.load(Ordering::Relaxed);
            let waiters: Vec<_> = (0..12)
                .map(|_| {
                    let (state, got) = (Arc::clone(&state), Arc::clone(&got));
                    thread::spawn(move || {
                        let guard = state.0.lock().unwrap();
                        let mut permits = state.1.wait_while(guard, |n| *n == 0).unwrap();
                        *permits -= 1;
                        got.fetch_add(1, Ordering::Relaxed);
                    })
                })
                .collect();
            for (n, waiter) in waiters.iter().enumerate() {
                if n % 2 == 0 {
                    *state.0.lock().unwrap() += 1;
                    state.1.notify_one();
                } else {
                    waiters[n / 2].cancel();
                }
                thread::yield_now();
                let _: bool = waiter.is_finished();
            }
            // Six permits, and six at least who were not cancelled.
            until(|| *state.0.lock().unwrap() == 0);
            assert_eq!(got.load(Ordering::Relaxed), before + 6);
            waiters.iter().for_each(|waiter| waiter.cancel());
            waiters.into_iter().for_each(|waiter| drop(waiter.join()));
        }
    });
}

#[test]
fn one_condition_variable_serves_several_mutexes() {
    run(|| {
        let condvar = Rc::new(Condvar::new());
        let mutexes = Rc::new([Mutex::new(1), Mutex::new(2)]);
        let waiters = [0, 1].map(|n| {
            let (condvar, mutexes) = (Rc::clone(&condvar), Rc::clone(&mutexes));
            suspended(move || {
                let guard = condvar.wait(mutexes[n].lock().unwrap()).unwrap();
                assert!(mutexes[n].try_lock().is_err());
                *guard
            })
        });
        condvar.notify_all();
        assert_eq!(waiters.map(|waiter| waiter.join().unwrap()), [1, 2]);
    });
}

#[test]
fn one_who_is_woken_is_told_of_the_poison() {
    let check = || {
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let waiters: Vec<_> = (0..2)
            .map(|n| {
                let pair = Arc::clone(&pair);
                thread::spawn(move || {
                    let mut guard = pair.0.lock().unwrap();
                    *guard += 1;
                    if n == 0 {
                        return pair.1.wait(guard).is_err();
                    }
                    let ended = pair.1.wait_timeout(guard, Duration::from_secs(1000));
                    let (guard, result) = ended.unwrap_err().into_inner();
                    assert_eq!((*guard, result.timed_out()), (2, false));
                    true
                })
            })
            .collect();
        until(|| *pair.0.lock().unwrap() == 2);
        let theirs = Arc::clone(&pair);
        let panics = thread::spawn(move || {
            let _guard = theirs.0.lock().unwrap();
            panic_quietly("with the mutex");
        });
        assert!(panics.join().is_err());
        pair.1.notify_all();
        waiters.into_iter().for_each(|waiter| assert!(waiter.join().unwrap()));
    };
    check();
    run(check);
}

#[test]
fn a_destructor_in_mid_unwind_may_wait() {
    run(|| {
        let gate = Gate::default();
        let theirs = gate.clone();
        let panics = suspended(move || {
            let _guard = OnDrop(|| {
                let guard = theirs.0.0.lock().unwrap();
                let mut permits = theirs.0.1.wait_while(guard, |permits| *permits == 0).unwrap();
                *permits -= 1;
            });
            panic_quietly("on purpose");
        });
        panics.cancel();
        gate.permit(1);
        gate.0.1.notify_one();
        assert!(panics.join().is_err());
        assert_eq!(*gate.0.0.lock().unwrap(), 0);
    });
}
