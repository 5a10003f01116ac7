//! `select::finished`: a coroutine's end among the arms, for whoever has the handle.

#[allow(unsafe_code)]
mod support;
#[allow(unsafe_code)]
mod util;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use cosocket::sync::select::{self, Select};
use cosocket::sync::{mpmc, mpsc};
use cosocket::{run, select, shield, spawn, spawn_local, thread, time};
use support::{assert_cancelled, message, on_workers, panic_quietly, suspended};
use util::is_quick;

const LONG: Duration = Duration::from_secs(3600);

/// On a plain thread and in a coroutine.
fn both(check: impl Fn() + Send + Sync) {
    check();
    run(&check);
}

/// Whether the coroutine is over before anything else happens, which nothing does.
fn ends<H: select::Joinable>(handle: &mut H) -> bool {
    select! {
        () = select::finished(handle) => true,
        () = select::after(LONG) => false,
    }
}

#[test]
fn every_kind_of_end_is_seen() {
    both(|| {
        let mut returns = spawn(|| 7);
        assert!(ends(&mut returns) && ends(&mut returns));
        assert_eq!(returns.join().unwrap(), 7);

        let mut panics = spawn(|| panic_quietly("on purpose"));
        assert!(ends(&mut panics));
        assert_eq!(message(&*panics.join().unwrap_err()), "on purpose");

        let mut cancelled = spawn(thread::park);
        cancelled.cancel();
        assert!(ends(&mut cancelled));
        assert_cancelled(cancelled.join());

        thread::scope(|scope| {
            let mut scoped = scope.spawn(|| 8);
            assert!(ends(&mut scoped));
            assert_eq!(scoped.join().unwrap(), 8);
        });
    });
    run(|| {
        let mut local = spawn_local(|| Rc::new(9));
        assert!(ends(&mut local));
        assert_eq!(*local.join().unwrap(), 9);
    });
}

/// The handle is as it was: for another select, and for `join`.
#[test]
fn one_that_goes_on_is_left_alone() {
    both(|| {
        let (sender, receiver) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        let mut handle = spawn(move || stopped.recv().unwrap());
        for number in 0..3 {
            sender.send(number).unwrap();
            let got = select! {
                () = select::finished(&mut handle) => { None }, // with a comma, or without
                number = select::recv(&receiver) => { number.ok() }
            };
            assert_eq!(got, Some(number));
        }
        let got = select! {
            () = select::finished(&mut handle) => true,
            () = select::after(Duration::from_millis(1)) => false,
        };
        assert!(!got);
        assert!(select! { () = select::finished(&mut handle) => false, else => true });
        stop.send("enough").unwrap();
        assert!(ends(&mut handle));
        assert_eq!(handle.join().unwrap(), "enough");
    });
}

#[test]
fn of_many_the_one_that_ends_is_chosen() {
    both(|| {
        let (stops, mut handles): (Vec<_>, Vec<_>) = (0..20)
            .map(|number| {
                let (stop, stopped) = mpsc::channel::<()>();
                (stop, Some(spawn(move || stopped.recv().map_or(number, |()| number))))
            })
            .unzip();
        for next in (0..20).rev() {
            stops[next].send(()).unwrap();
            let numbers: Vec<_> = (0..20).filter(|&number| handles[number].is_some()).collect();
            let mut arms: Vec<_> = handles.iter_mut().flatten().map(select::finished).collect();
            let mut select = Select::new();
            for arm in &mut arms {
                select.add(arm);
            }
            let chosen = numbers[select.wait()];
            drop(arms);
            assert_eq!((chosen, handles[chosen].take().unwrap().join().unwrap()), (next, next));
        }
    });
}

/// Whose wait is cut has withdrawn: the slot is free for whoever waits next.
#[test]
fn a_cut_withdraws_the_arm() {
    run(|| {
        let (stop, stopped) = mpsc::channel::<()>();
        let mut handle = spawn(move || stopped.recv().is_err());
        let limit = Duration::from_millis(1);
        time::timeout(limit, || ends(&mut handle)).unwrap_err();
        let waiter = suspended(move || {
            let unwound = catch_unwind(AssertUnwindSafe(|| ends(&mut handle)));
            drop(stop);
            assert!(shield(|| handle.join()).unwrap());
            resume_unwind(unwound.unwrap_err());
        });
        waiter.cancel();
        assert_cancelled(waiter.join());
    });
}

/// Ends and values that come at the same moment: none is lost, whoever wins.
fn race(select_on_thread: bool) {
    let rounds = if is_quick() { 200 } else { 3000 };
    let body = move || {
        let (sender, receiver) = mpmc::sync_channel(1);
        let mut had = 0;
        for round in 0..rounds {
            let mut ending = spawn(move || round);
            let mut other = spawn(thread::yield_now);
            let sending = spawn({
                let sender = sender.clone();
                move || sender.send(round).unwrap()
            });
            let (mut open, mut left) = (true, true);
            while open || left {
                select! {
                    () = select::finished(&mut ending) => open = false,
                    () = select::finished(&mut other) => {}
                    number = select::recv(&receiver) => {
                        assert_eq!(number, Ok(round));
                        (left, had) = (false, had + 1);
                    }
                }
            }
            assert_eq!(ending.join().unwrap(), round);
            sending.join().unwrap();
            other.join().unwrap();
        }
        assert_eq!(had, rounds);
    };
    if select_on_thread { body() } else { on_workers(3, body) }
}

#[test]
fn ends_and_values_race_in_a_coroutine() {
    race(false);
}

#[test]
fn ends_and_values_race_on_a_thread() {
    race(true);
}
