//! `sync::Mutex`: who gets it, in coroutines, on threads and between both; what poisons it; and
//! that no cancel loses it.

#![allow(unsafe_code)]

mod support;
mod util;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use cosocket::sync::{Mutex, TryLockError};
use cosocket::time::timeout;
use cosocket::{run, spawn_local, thread};
use support::{
    OnDrop, assert_cancel_ends, assert_cancelled, message, on_workers, panic_quietly, suspended,
    until,
};
use util::{Random, is_quick};

#[test]
fn coroutines_and_threads_exclude_each_other_and_all_get_it() {
    const TURNS: usize = 300;
    let mutex = Arc::new(Mutex::new((0, false)));
    let turns = if is_quick() { TURNS / 10 } else { TURNS };
    let mut random = Random::new();
    let job = |mut random: Random| {
        let mutex = Arc::clone(&mutex);
        move || {
            for _ in 0..turns {
                let mut data = mutex.lock().unwrap();
                assert!(!std::mem::replace(&mut data.1, true), "two have it");
                if random.one_in(3) {
                    thread::yield_now();
                }
                data.0 += 1;
                data.1 = false;
            }
        }
    };
    let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(job(random.split()))).collect();
    let jobs: Vec<_> = (0..30).map(|_| job(random.split())).collect();
    run(|| {
        let coroutines: Vec<_> = jobs.into_iter().map(thread::spawn).collect();
        coroutines.into_iter().for_each(|coroutine| coroutine.join().unwrap());
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*mutex.lock().unwrap(), (33 * turns, false));
}

#[test]
fn one_who_waits_lets_its_worker_run_others() {
    run(|| {
        let mutex = Rc::new(Mutex::new(Vec::new()));
        let mut guard = mutex.lock().unwrap();
        let waiters: Vec<_> = (0..3)
            .map(|n| {
                let mutex = Rc::clone(&mutex);
                suspended(move || mutex.lock().unwrap().push(n))
            })
            .collect();
        // Across a wait that takes a while.
        thread::sleep(Duration::from_millis(2));
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        guard.push(9);
        drop(guard);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(*mutex.lock().unwrap(), [9, 0, 1, 2]);
    });
}

#[test]
fn a_coroutine_waits_for_a_thread_and_a_thread_for_a_coroutine() {
    static MUTEX: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let (go, gone) = mpsc::channel::<()>();
    let guard = MUTEX.lock().unwrap();
    let runtime = cosocket::Builder::new().workers(1).build().unwrap();
    let coroutine = runtime.spawn(move || {
        // The thread has it: this suspends, and the worker goes on to serve `poke`.
        let mut guard = MUTEX.lock().unwrap();
        guard.push("coroutine");
        go.send(()).unwrap();
        thread::sleep(Duration::from_millis(1));
        guard.push("still the coroutine");
    });
    for _ in 0..100 {
        let poke = runtime.spawn(|| ());
        poke.join().unwrap();
    }
    assert!(!coroutine.is_finished());
    drop(guard);
    gone.recv().unwrap();
    MUTEX.lock().unwrap().push("thread");
    coroutine.join().unwrap();
    assert_eq!(*MUTEX.lock().unwrap(), ["coroutine", "still the coroutine", "thread"]);
}

#[test]
fn try_lock_never_waits_and_takes_what_is_free_past_those_who_wait() {
    run(|| {
        let mutex = Rc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
        let theirs = Rc::clone(&mutex);
        let waiter = suspended(move || *theirs.lock().unwrap() += 1);
        drop(guard);
        // The waiter was woken and has not run.
        let guard = mutex.try_lock().unwrap();
        assert_eq!(*guard, 0);
        thread::yield_now();
        assert!(!waiter.is_finished());
        drop(guard);
        waiter.join().unwrap();
        assert_eq!(*mutex.try_lock().unwrap(), 1);
    });
}

#[test]
fn a_panic_poisons_until_that_is_cleared() {
    let check = || {
        let mut mutex = Mutex::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut guard = mutex.lock().unwrap();
            *guard = 2;
            panic_quietly("with the mutex");
        }));
        assert_eq!(message(&*panicked.unwrap_err()), "with the mutex");
        assert!(mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap_err().into_inner(), 2);
        match mutex.try_lock() {
            Err(TryLockError::Poisoned(error)) => assert_eq!(**error.get_ref(), 2),
            _ => panic!("not poisoned"),
        }
        let held = mutex.lock().unwrap_err().into_inner();
        assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        assert_eq!(*mutex.get_mut().unwrap_err().into_inner(), 2);
        mutex.clear_poison();
        assert!(!mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap(), 2);
        assert_eq!(mutex.into_inner().unwrap(), 2);
    };
    check();
    run(check);
}

#[test]
fn one_who_waits_is_told_of_the_poison() {
    run(|| {
        let mutex = Rc::new(Mutex::new(()));
        let theirs = Rc::clone(&mutex);
        let panics = suspended(move || {
            let _guard = theirs.lock().unwrap();
            thread::park();
            panic_quietly("with the mutex");
        });
        let theirs = Rc::clone(&mutex);
        let waits = suspended(move || theirs.lock().is_err());
        panics.thread().unpark();
        assert!(panics.join().is_err());
        assert!(waits.join().unwrap());
    });
}

#[test]
fn a_cancel_of_the_holder_unlocks_and_does_not_poison() {
    run(|| {
        let mutex = Rc::new(Mutex::new(0));
        let theirs = Rc::clone(&mutex);
        let holder = suspended(move || {
            let _guard = theirs.lock().unwrap();
            // Past our own frame that catches and goes on unwinding.
            thread::scope(|_| thread::park());
        });
        assert!(mutex.try_lock().is_err());
        holder.cancel();
        assert_cancelled(holder.join());
        assert!(!mutex.is_poisoned());
        drop(mutex.lock().unwrap());
    });
}

/// An elapsed limit unwinds too, on a plain thread as well; and a panic under one is a panic.
#[test]
fn an_elapsed_timeout_ends_the_wait_unlocks_and_does_not_poison() {
    const SHORT: Duration = Duration::from_millis(1);
    let check = || {
        let (held, free) = (Arc::new(Mutex::new(0)), Mutex::new(0));
        let guard = held.lock().unwrap();
        let elapsed = timeout(SHORT, || {
            let _free = free.lock().unwrap();
            drop(held.lock());
        });
        assert!(elapsed.is_err());
        assert!(!free.is_poisoned());
        assert_eq!(free.try_lock().map(|free| *free).unwrap(), 0);
        drop(guard);
        assert!(!held.is_poisoned());
        assert!(held.try_lock().is_ok());
        // The one that has elapsed leaves no mark on what comes next.
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _free = free.lock().unwrap();
            timeout(Duration::from_secs(1000), || panic_quietly("in time"))
        }));
        assert_eq!(message(&*panicked.unwrap_err()), "in time");
        assert!(free.is_poisoned());
    };
    check();
    run(check);
}

/// Each way in which the caller's panic may come by, with the mutex held.
#[test]
fn a_panic_poisons_also_by_way_of_a_scope_or_the_pool_or_after_a_caught_cancel() {
    fn poisons(panics: impl FnOnce() + Send + 'static) {
        let mutex = Arc::new(Mutex::new(()));
        let theirs = Arc::clone(&mutex);
        let holder = thread::spawn(move || {
            let _guard = theirs.lock().unwrap();
            panics();
        });
        assert!(holder.join().is_err());
        assert!(mutex.is_poisoned());
    }
    run(|| {
        poisons(|| thread::scope(|_| panic_quietly("a scope's body")));
        poisons(|| cosocket::unblock(|| panic_quietly("on the pool")));
        poisons(|| thread::spawn(|| panic!("a child's, on purpose")).join().unwrap());
        let mutex = Rc::new(Mutex::new(()));
        let theirs = Rc::clone(&mutex);
        let cancelled = suspended(move || {
            let _guard = theirs.lock().unwrap();
            assert!(catch_unwind(thread::park).is_err());
            assert!(!theirs.is_poisoned());
            panic!("on purpose, after a caught cancel");
        });
        cancelled.cancel();
        assert_eq!(message(&*cancelled.join().unwrap_err()), "on purpose, after a caught cancel");
        assert!(mutex.is_poisoned());
    });
}

#[test]
fn another_coroutines_panic_does_not_poison_and_ones_own_does() {
    run(|| {
        let parked = suspended(|| {
            let _guard = OnDrop(thread::park);
            panic_quietly("parked in mid-unwind");
        });
        assert!(std::thread::panicking());
        let mutex = Rc::new(Mutex::new(0));
        let taken_before = mutex.lock().unwrap();
        thread::yield_now();
        drop(taken_before);
        let theirs = Rc::clone(&mutex);
        spawn_local(move || *theirs.lock().unwrap() += 1).join().unwrap();
        assert!(!mutex.is_poisoned());
        let theirs = Rc::clone(&mutex);
        let panics = suspended(move || {
            let _guard = theirs.lock().unwrap();
            panic!("on purpose, while another is parked in mid-unwind");
        });
        assert!(panics.join().is_err());
        assert!(mutex.is_poisoned());
        parked.thread().unpark();
        assert!(parked.join().is_err());
    });
}

#[test]
fn a_destructor_in_mid_unwind_waits_for_it_and_does_not_poison() {
    run(|| {
        let mutex = Rc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let theirs = Rc::clone(&mutex);
        let panics = suspended(move || {
            let _guard = OnDrop(|| *theirs.lock().unwrap() += 1);
            panic_quietly("on purpose");
        });
        // Held back: it unwinds already.
        panics.cancel();
        thread::yield_now();
        assert!(!panics.is_finished());
        drop(guard);
        assert_eq!(message(&*panics.join().unwrap_err()), "on purpose");
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

#[test]
fn a_cancel_ends_the_wait_and_the_others_go_on() {
    run(|| {
        let mutex = Rc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let theirs = Rc::clone(&mutex);
        assert_cancel_ends(move || drop(theirs.lock()));
        let theirs = Rc::clone(&mutex);
        let other = suspended(move || *theirs.lock().unwrap() += 1);
        let theirs = Rc::clone(&mutex);
        assert_cancel_ends(move || drop(theirs.lock()));
        drop(guard);
        other.join().unwrap();
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

#[test]
fn one_who_is_chosen_and_cancelled_at_once_has_it() {
    run(|| {
        let mutex = Rc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let theirs = Rc::clone(&mutex);
        let waiter = suspended(move || {
            let mut guard = theirs.lock().unwrap();
            *guard += 1;
            thread::park();
            *guard += 1;
        });
        drop(guard);
        waiter.cancel();
        assert_cancelled(waiter.join());
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

/// Woken, found it taken again, and cancelled: the next one must be woken all the same.
#[test]
fn one_who_was_called_in_vain_and_cancelled_keeps_nobody_from_it() {
    run(|| {
        let mutex = Rc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let [first, second] = [(); 2].map(|()| {
            let mutex = Rc::clone(&mutex);
            suspended(move || *mutex.lock().unwrap() += 1)
        });
        drop(guard);
        let guard = mutex.try_lock().unwrap();
        first.cancel();
        assert_cancelled(first.join());
        drop(guard);
        second.join().unwrap();
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

#[test]
fn cancels_that_storm_in_lose_nothing() {
    let rounds = if is_quick() { 20 } else { 200 };
    let mut random = Random::new();
    run(move || {
        let mutex = Arc::new(Mutex::new(0));
        let finished = Arc::new(AtomicUsize::new(0));
        for _ in 0..rounds {
            let (before, ended) = (*mutex.lock().unwrap(), finished.load(Ordering::Relaxed));
            let coroutines: Vec<_> = (0..12)
                .map(|_| {
                    let (mutex, finished) = (Arc::clone(&mutex), Arc::clone(&finished));
                    let mut random = random.split();
                    thread::spawn(move || {
                        for _ in 0..4 {
                            let mut guard = mutex.lock().unwrap();
                            *guard += 1;
                            finished.fetch_add(1, Ordering::Relaxed);
                            if random.one_in(2) {
                                thread::yield_now();
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..random.below(30) {
                thread::yield_now();
            }
            coroutines.iter().for_each(|coroutine| {
                if random.one_in(2) {
                    coroutine.cancel();
                }
            });
            coroutines.into_iter().for_each(|coroutine| drop(coroutine.join()));
            assert!(!mutex.is_poisoned());
            let counted = finished.load(Ordering::Relaxed) - ended;
            assert_eq!(mutex.try_lock().map(|total| *total).unwrap(), before + counted);
        }
    });
}

/// One who has it for a millisecond again and again, with hardly a moment between, until told to
/// stop. (Whoever is woken may come in just then, by luck; the rules are also in the models of
/// `loom_locks.rs`, where there is none.)
fn greedy(mutex: &Mutex<usize>, stop: &AtomicBool) -> usize {
    let mut turns = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut guard = mutex.lock().unwrap();
        *guard += 1;
        turns += 1;
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1) {
            std::hint::spin_loop();
        }
    }
    turns
}

#[test]
fn a_greedy_coroutine_cannot_starve_another_worker_or_a_thread() {
    let [here, there] = [(); 2].map(|()| cosocket::Builder::new().workers(1).build().unwrap());
    let mutex = Arc::new(Mutex::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (theirs, flag) = (Arc::clone(&mutex), Arc::clone(&stop));
    let hog = here.spawn(move || greedy(&theirs, &flag));
    until(|| mutex.try_lock().is_err());
    // Alone, each of them, for two that wait help each other.
    for _ in 0..3 {
        drop(mutex.lock().unwrap());
        let theirs = Arc::clone(&mutex);
        there.run(move || drop(theirs.lock().unwrap()));
    }
    // The greedy one stops only now.
    stop.store(true, Ordering::Relaxed);
    assert_eq!(hog.join().unwrap(), *mutex.lock().unwrap());
}

/// The one who is called first is a coroutine that cannot run: the greedy one never gives way.
#[test]
fn a_greedy_coroutine_cannot_hide_behind_its_siblings() {
    let runtime = cosocket::Builder::new().workers(1).build().unwrap();
    let mutex = Arc::new(Mutex::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (theirs, flag) = (Arc::clone(&mutex), Arc::clone(&stop));
    let (tell, told) = mpsc::channel();
    let hog = runtime.spawn(move || {
        let theirs = Rc::new(theirs);
        let guard = theirs.lock().unwrap();
        let siblings = [(); 3].map(|()| {
            let mutex = Rc::clone(&theirs);
            suspended(move || drop(mutex.lock()))
        });
        tell.send(()).unwrap();
        drop(guard);
        let turns = greedy(&theirs, &flag);
        siblings.into_iter().for_each(|sibling| sibling.join().unwrap());
        turns
    });
    told.recv().unwrap();
    (0..3).for_each(|_| drop(mutex.lock().unwrap()));
    stop.store(true, Ordering::Relaxed);
    assert_eq!(hog.join().unwrap(), *mutex.lock().unwrap());
}

#[test]
fn siblings_that_hold_it_across_waits_cannot_starve_one_another() {
    on_workers(1, || {
        let mutex = Rc::new(Mutex::new(()));
        let stop = Rc::new(Cell::new(false));
        let (theirs, flag) = (Rc::clone(&mutex), Rc::clone(&stop));
        // It has it whenever others run.
        let hog = suspended(move || {
            while !flag.get() {
                let _guard = theirs.lock().unwrap();
                thread::yield_now();
            }
        });
        (0..5).for_each(|_| drop(mutex.lock().unwrap()));
        stop.set(true);
        hog.join().unwrap();
    });
}

/// Whether the thread sleeps in the kernel.
fn is_asleep(thread: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().starts_with('S')
}

/// A thread waits longer, and a coroutine of the worker is called before it, unless the
/// thread has waited for a millisecond, which cannot always be avoided.
#[test]
fn a_coroutine_of_this_worker_comes_before_a_thread_that_came_first() {
    let is_preferred = || {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mutex = Arc::new(Mutex::new(()));
        let guard = mutex.lock().unwrap();
        let (tell, told) = mpsc::channel();
        let (theirs, log) = (Arc::clone(&mutex), Arc::clone(&order));
        let other = std::thread::spawn(move || {
            tell.send(util::os_thread()).unwrap();
            let guard = theirs.lock().unwrap();
            log.lock().unwrap().push("thread");
            drop(guard);
        });
        let number = told.recv().unwrap();
        let (theirs, log) = (Arc::clone(&mutex), Arc::clone(&order));
        while !is_asleep(number) {
            std::hint::spin_loop();
        }
        let sibling = suspended(move || {
            let guard = theirs.lock().unwrap();
            log.lock().unwrap().push("coroutine");
            drop(guard);
        });
        drop(guard);
        sibling.join().unwrap();
        other.join().unwrap();
        let order = order.lock().unwrap();
        *order == ["coroutine", "thread"]
    };
    run(|| assert!((0..1000).any(|_| is_preferred())));
}

#[test]
fn a_forgotten_guard_leaves_it_locked() {
    run(|| {
        let mutex = Mutex::new(0);
        std::mem::forget(mutex.lock());
        assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
        assert_eq!(mutex.into_inner().unwrap(), 0);
    });
}

#[test]
fn the_end_of_the_runtime_cuts_those_who_wait() {
    let mutex = Arc::new(Mutex::new(0));
    let guard = mutex.lock().unwrap();
    let runtime = cosocket::Builder::new().workers(2).build().unwrap();
    let coroutines = [(); 10].map(|()| {
        let mutex = Arc::clone(&mutex);
        runtime.spawn(move || *mutex.lock().unwrap() += 1)
    });
    drop(runtime);
    coroutines.into_iter().for_each(|coroutine| assert_cancelled(coroutine.join()));
    drop(guard);
    assert_eq!(*mutex.lock().unwrap(), 0);
}
