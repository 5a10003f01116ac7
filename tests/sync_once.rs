//! `Once`, `OnceLock` and `LazyLock`: one initialiser at a time, whoever waits, and what is left by
//! one that panics, fails or is cancelled. What std has too is in `std_surface.rs`.

mod support;
#[allow(unsafe_code)]
mod util;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cosocket::sync::{LazyLock, Once, OnceLock};
use cosocket::{run, spawn, spawn_local, thread};
use support::{assert_cancel_ends, assert_cancelled, on_workers, panic_quietly, suspended};
use util::{Random, is_quick};

/// Callers on every worker and on plain threads, while the initialiser gives way again and again.
#[test]
fn one_of_many_initialises_and_the_others_wait_for_it() {
    on_workers(3, || {
        for _ in 0..if is_quick() { 10 } else { 100 } {
            let (cell, count) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
            let ask = || {
                let (cell, count) = (Arc::clone(&cell), Arc::clone(&count));
                move || {
                    let make = || {
                        (0..10).for_each(|_| thread::yield_now());
                        count.fetch_add(1, Ordering::Relaxed);
                        String::from("made")
                    };
                    std::ptr::from_ref(cell.get_or_init(make)) as usize
                }
            };
            let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(ask())).collect();
            let coroutines: Vec<_> = (0..20).map(|_| spawn(ask())).collect();
            let here = ask()();
            coroutines.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), here));
            let join = |one: std::thread::JoinHandle<_>| cosocket::unblock(|| one.join().unwrap());
            threads.into_iter().for_each(|one| assert_eq!(join(one), here));
            assert_eq!(count.load(Ordering::Relaxed), 1);
        }
    });
}

#[test]
fn a_plain_thread_waits_for_a_coroutine_and_the_other_way_round() {
    static FIRST: OnceLock<i32> = OnceLock::new();
    static SECOND: OnceLock<i32> = OnceLock::new();
    let coroutine = spawn(|| {
        FIRST.set(1).unwrap();
        *SECOND.wait() + 1
    });
    SECOND.set(*FIRST.wait() + 1).unwrap();
    assert_eq!(coroutine.join().unwrap(), 3);
}

#[test]
fn a_cancelled_closure_leaves_the_once_to_the_next_caller() {
    run(|| {
        let once = Rc::new(Once::new());
        let first = suspended({
            let once = Rc::clone(&once);
            move || once.call_once(thread::park)
        });
        let ran = Rc::new(Cell::new(0));
        let second = suspended({
            let (once, ran) = (Rc::clone(&once), Rc::clone(&ran));
            move || once.call_once(|| ran.set(ran.get() + 1))
        });
        assert_eq!(ran.get(), 0, "one at a time");
        first.cancel();
        assert_cancelled(first.join());
        second.join().unwrap();
        assert!(once.is_completed());
        assert_eq!(ran.get(), 1);
    });
}

/// Poison is healed by a closure that comes to its end, and by nothing else.
#[test]
fn a_cancelled_closure_leaves_poison_as_it_was() {
    run(|| {
        let once = Rc::new(Once::new());
        let poison = || once.call_once(|| panic_quietly("by hand"));
        catch_unwind(AssertUnwindSafe(poison)).unwrap_err();
        let forcing = suspended({
            let once = Rc::clone(&once);
            move || once.call_once_force(|_| thread::park())
        });
        forcing.cancel();
        assert_cancelled(forcing.join());
        let call = || once.call_once(|| ());
        catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        once.call_once_force(|state| assert!(state.is_poisoned()));
        once.call_once(|| panic!("it is complete"));
    });
}

#[test]
fn a_panic_reaches_those_who_wait() {
    run(|| {
        let once = Rc::new(Once::new());
        let first = suspended({
            let once = Rc::clone(&once);
            move || {
                once.call_once(|| {
                    (0..10).for_each(|_| thread::yield_now());
                    panic_quietly("by hand")
                })
            }
        });
        let waits: [fn(&Once); 2] = [|once| once.call_once(|| ()), Once::wait];
        let waits = waits.map(|wait| {
            let once = Rc::clone(&once);
            suspended(move || wait(&once))
        });
        let forced = suspended({
            let once = Rc::clone(&once);
            move || once.wait_force()
        });
        first.join().unwrap_err();
        for wait in waits {
            wait.join().unwrap_err();
        }
        assert!(!forced.is_finished());
        once.call_once_force(|_| ());
        forced.join().unwrap();
    });
}

#[test]
fn a_cell_stays_empty_when_its_initialiser_panics_fails_or_is_cancelled() {
    run(|| {
        let cell = Rc::new(OnceLock::new());
        let panics = || {
            cell.get_or_init(|| panic_quietly("by hand"));
        };
        catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
        assert_eq!(cell.get(), None);
        assert_eq!(cell.get_or_try_init(|| Err("fails")), Err("fails"));
        let parked = suspended({
            let cell = Rc::clone(&cell);
            move || {
                cell.get_or_init(|| {
                    thread::park();
                    1
                });
            }
        });
        let next = suspended({
            let cell = Rc::clone(&cell);
            move || *cell.get_or_init(|| 2)
        });
        assert_eq!(cell.get(), None);
        parked.cancel();
        assert_cancelled(parked.join());
        assert_eq!(next.join().unwrap(), 2);
    });
}

#[test]
fn a_cancel_ends_the_wait_for_an_initialiser() {
    run(|| {
        let once = Rc::new(Once::new());
        let running = suspended({
            let once = Rc::clone(&once);
            move || once.call_once(thread::park)
        });
        let waits: [fn(&Once); 3] = [|once| once.call_once(|| ()), Once::wait, Once::wait_force];
        for wait in waits {
            let once = Rc::clone(&once);
            assert_cancel_ends(move || wait(&once));
        }
        running.thread().unpark();
        running.join().unwrap();
        assert!(once.is_completed());
    });
}

/// Its initialiser is used up, so a cancel in it would be the end of the value.
#[test]
fn a_lazy_value_is_made_in_spite_of_a_cancel() {
    static LAZY: LazyLock<i32> = LazyLock::new(|| {
        thread::park();
        7
    });
    run(|| {
        let first = suspended(|| {
            assert_eq!(*LAZY, 7);
            thread::park();
        });
        let second = suspended(|| *LAZY);
        first.cancel();
        (0..10).for_each(|_| thread::yield_now());
        assert!(LazyLock::get(&LAZY).is_none() && !first.is_finished());
        first.thread().unpark();
        assert_cancelled(first.join());
        assert_eq!(second.join().unwrap(), 7);
    });
}

/// Each round some are cancelled, in the initialiser or in the wait for it. One comes through.
#[test]
fn a_storm_of_cancels_loses_no_turn() {
    let mut random = Random::new();
    on_workers(3, || {
        for _ in 0..if is_quick() { 20 } else { 300 } {
            let (cell, running) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
            let callers: Vec<_> = (0..12)
                .map(|number| {
                    let (cell, running) = (Arc::clone(&cell), Arc::clone(&running));
                    let mut random = random.split();
                    spawn(move || {
                        *cell.get_or_init(|| {
                            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                            let running = running.clone();
                            let _leave = support::OnDrop(move || {
                                running.fetch_sub(1, Ordering::SeqCst);
                            });
                            (0..random.below(5)).for_each(|_| thread::yield_now());
                            if random.one_in(3) {
                                panic_quietly("by hand");
                            }
                            number
                        })
                    })
                })
                .collect();
            let last = spawn_local({
                let cell = Arc::clone(&cell);
                move || *cell.get_or_init(|| 100)
            });
            for caller in &callers {
                if random.one_in(2) {
                    caller.cancel();
                }
                if random.one_in(3) {
                    thread::yield_now();
                }
            }
            let value = last.join().unwrap();
            assert_eq!(cell.get(), Some(&value));
            for result in callers.into_iter().map(|caller| caller.join()) {
                assert!(result.is_err() || result.is_ok_and(|seen| seen == value));
            }
        }
    });
}
