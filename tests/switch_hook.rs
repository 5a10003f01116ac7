//! `thread::with_switch_hook` and `with_thread_local`: what a library keeps for the thread for the
//! time of a scope follows the coroutine whose scope it is.

// Those of the helpers.
#![allow(unsafe_code)]

mod support;
mod util;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::mpsc;
use std::time::Duration;

use cosocket::thread::{self, SwitchHook, with_switch_hook, with_thread_local};
use cosocket::{Builder, run, spawn_local, time, unblock};
use support::{assert_cancelled, connection, message, on_workers, panic_quietly, suspended, until};
use util::child;

scoped_tls::scoped_thread_local!(static SCOPED: String);

/// Runs `f` such that `SCOPED.set` may be waited in.
fn apart<T>(f: impl FnOnce() -> T) -> T {
    with_thread_local(SCOPED.inner, ptr::null(), f)
}

fn scoped() -> Option<String> {
    SCOPED.is_set().then(|| SCOPED.with(String::clone))
}

/// The counter-example of the guide: A sets its string and waits, B sets its own and waits, A
/// ends and B puts back what it found.
fn two_scopes_that_do_not_nest(keep_apart: bool) -> bool {
    let enter = move |name: &'static str, turns: u32| {
        let scope = move || {
            SCOPED.set(&name.to_owned(), || {
                (0..turns).for_each(|_| thread::yield_now());
                // Without the hook it may be another's, whose frame may be gone.
                if keep_apart {
                    assert_eq!(scoped().as_deref(), Some(name));
                }
            });
        };
        spawn_local(move || if keep_apart { apart(scope) } else { scope() })
    };
    on_workers(1, || {
        let (a, b) = (enter("of A", 1), enter("of B", 5));
        a.join().unwrap();
        b.join().unwrap();
        SCOPED.is_set()
    })
}

#[test]
fn the_counter_example_is_mended() {
    assert!(!two_scopes_that_do_not_nest(true));
    // What there is to mend: a pointer to A's string stays behind, which went with A.
    assert!(two_scopes_that_do_not_nest(false));
}

#[test]
fn the_state_follows_through_every_kind_of_wait() {
    run(|| {
        let rounds = if util::is_quick() { 8 } else { 40 };
        let walker = move |number: u32| {
            let (mut near, mut far) = connection();
            SCOPED.set(&number.to_string(), || {
                for round in 0..rounds {
                    match (number + round) % 6 {
                        0 => thread::sleep(Duration::from_micros(100)),
                        1 => thread::park_timeout(Duration::from_micros(50)),
                        2 => unblock(|| ()),
                        3 => {
                            let echo = thread::spawn(move || {
                                assert_eq!(scoped(), None);
                                far.write_all(b"!").map(|()| far)
                            });
                            near.read_exact(&mut [0]).unwrap();
                            far = echo.join().unwrap().unwrap();
                        }
                        4 => thread::scope(|scope| {
                            scope.spawn(|| assert_eq!(scoped(), None));
                        }),
                        _ => thread::yield_now(),
                    }
                    assert_eq!(scoped(), Some(number.to_string()));
                }
            });
            assert_eq!(scoped(), None);
        };
        let walkers: Vec<_> =
            (0..50).map(|number| thread::spawn(move || apart(|| walker(number)))).collect();
        walkers.into_iter().for_each(|walker| walker.join().unwrap());
        assert_eq!(scoped(), None);
    });
}

#[test]
fn scopes_nest_within_one_coroutine() {
    on_workers(1, || {
        let walkers = ["a", "b", "c"].map(|name| {
            spawn_local(move || {
                apart(|| {
                    SCOPED.set(&name.to_owned(), || {
                        thread::yield_now();
                        // Apart from the outer one, too: it begins with none.
                        apart(|| {
                            assert_eq!(scoped(), None);
                            SCOPED.set(&name.repeat(2), || {
                                thread::yield_now();
                                assert_eq!(scoped(), Some(name.repeat(2)));
                            });
                        });
                        SCOPED.set(&name.repeat(3), thread::yield_now);
                        assert_eq!(scoped().as_deref(), Some(name));
                    });
                });
            })
        });
        walkers.into_iter().for_each(|walker| walker.join().unwrap());
        assert_eq!(scoped(), None);
    });
}

/// Others see what they saw, whoever ends or begins while the coroutine is away.
#[test]
fn others_begin_and_end_meanwhile() {
    thread_local!(static VALUE: Cell<u32> = const { Cell::new(0) });
    on_workers(1, || {
        let gone = suspended(|| with_thread_local(&VALUE, 1, thread::park));
        let handle = gone.thread().clone();
        assert_eq!(VALUE.replace(2), 0);
        assert_eq!(spawn_local(|| with_thread_local(&VALUE, 3, || VALUE.get())).join().unwrap(), 3);
        assert_eq!(VALUE.get(), 2);
        let spawner = suspended(|| {
            with_thread_local(&VALUE, 4, || spawn_local(|| VALUE.replace(5)).join().unwrap())
        });
        assert_eq!(spawner.join().unwrap(), 2);
        handle.unpark();
        gone.join().unwrap();
        assert_eq!(VALUE.get(), 5);
    });
}

/// Writes down when it is called.
struct Named<'a>(&'static str, &'a RefCell<Vec<String>>);

impl SwitchHook for Named<'_> {
    fn leave(&self) {
        self.1.borrow_mut().push(format!("leave {}", self.0));
    }

    fn enter(&self) {
        self.1.borrow_mut().push(format!("enter {}", self.0));
    }
}

#[test]
fn inner_hooks_leave_first_and_enter_last() {
    run(|| {
        let log = RefCell::new(Vec::new());
        with_switch_hook(&Named("outer", &log), || {
            with_switch_hook(&Named("middle", &log), || {
                with_switch_hook(&Named("inner", &log), thread::yield_now);
                let left = ["leave inner", "leave middle", "leave outer"];
                let entered = ["enter outer", "enter middle", "enter inner"];
                assert_eq!(log.take(), [left, entered].concat());
            });
            thread::yield_now();
            assert_eq!(log.take(), ["leave outer", "enter outer"]);
        });
        thread::yield_now();
        assert!(log.take().is_empty());
    });
}

/// However many there are: they take no stack of their own.
#[test]
fn hooks_may_nest_deep() {
    fn down(levels: u32, log: &RefCell<Vec<String>>) {
        match levels {
            0 => thread::yield_now(),
            _ => with_switch_hook(&Named("one", log), || down(levels - 1, log)),
        }
    }
    run(|| {
        let log = RefCell::new(Vec::new());
        down(500, &log);
        assert_eq!(log.borrow().len(), 1000);
        thread::yield_now();
        assert_eq!(log.borrow().len(), 1000);
    });
}

#[test]
fn a_hook_is_out_of_force_when_its_call_unwound() {
    let check = |wait: fn()| {
        let log = RefCell::new(Vec::new());
        let ended = catch_unwind(AssertUnwindSafe(|| {
            with_switch_hook(&Named("hook", &log), wait);
        }));
        assert_eq!(log.take(), ["leave hook", "enter hook"]);
        thread::shield(thread::yield_now);
        assert!(log.take().is_empty());
        ended.unwrap_err()
    };
    on_workers(1, move || {
        // A cancel.
        let waiter = suspended(move || resume_unwind(check(thread::park)));
        waiter.cancel();
        assert_cancelled(waiter.join());
        // A panic.
        let payload = check(|| {
            thread::yield_now();
            panic_quietly("on purpose");
        });
        assert_eq!(message(&*payload), "on purpose");
        // A timeout.
        time::timeout(Duration::from_millis(1), || resume_unwind(check(thread::park))).unwrap_err();
    });
}

/// A wait in a destructor, in mid-unwind, is a switch like any.
#[test]
fn the_state_follows_while_the_coroutine_unwinds() {
    on_workers(1, || {
        let other = suspended(|| {
            apart(|| SCOPED.set(&"other".into(), || until(|| scoped().is_none())));
        });
        let waiter = suspended(|| {
            apart(|| {
                SCOPED.set(&"mine".into(), || {
                    let _on_drop = support::OnDrop(|| {
                        spawn_local(|| assert_eq!(scoped(), None)).join().unwrap();
                        assert_eq!(scoped().as_deref(), Some("mine"));
                    });
                    thread::park();
                });
            });
        });
        waiter.cancel();
        assert_cancelled(waiter.join());
        assert_eq!(scoped(), None);
        other.cancel();
        assert_cancelled(other.join());
        assert_eq!(scoped(), None);
    });
}

/// The end of a runtime has its coroutines unwind: each in its own state.
#[test]
fn a_shutdown_enters_before_it_unwinds() {
    struct Tells(mpsc::Sender<Option<String>>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send(scoped()).unwrap();
        }
    }
    let runtime = Builder::new().workers(1).build().unwrap();
    let (sender, receiver) = mpsc::channel();
    let (ready, all_ready) = mpsc::channel();
    for name in ["a", "b"] {
        let (tells, ready) = (Tells(sender.clone()), ready.clone());
        runtime.spawn(move || {
            apart(|| {
                SCOPED.set(&name.to_owned(), || {
                    let _tells = tells;
                    ready.send(()).unwrap();
                    thread::park();
                });
            });
        });
    }
    drop((sender, ready));
    assert_eq!(all_ready.iter().take(2).count(), 2);
    drop(runtime);
    let mut told: Vec<_> = receiver.iter().flatten().collect();
    told.sort();
    assert_eq!(told, ["a", "b"]);
}

/// Woken in the middle of its own leaving, it comes back at once.
#[test]
fn a_hook_may_wake_its_own_coroutine() {
    struct Unparks(thread::Thread);
    impl SwitchHook for Unparks {
        fn leave(&self) {
            self.0.unpark();
        }
        fn enter(&self) {}
    }
    run(|| with_switch_hook(&Unparks(thread::current()), thread::park));
}

#[test]
fn on_a_plain_thread_there_are_no_switches() {
    let log = RefCell::new(Vec::new());
    let result = with_switch_hook(&Named("hook", &log), || {
        thread::yield_now();
        thread::sleep(Duration::from_millis(1));
        7
    });
    assert_eq!((result, log.take()), (7, Vec::new()));
    thread_local!(static VALUE: Cell<u32> = const { Cell::new(1) });
    let inside = with_thread_local(&VALUE, 2, || VALUE.replace(3));
    assert_eq!((inside, VALUE.get()), (2, 1));
}

/// Runs `misuse` in a child, which must end with `words`.
fn ends_the_process(test: &str, words: &str, misuse: fn()) {
    let output = child::run(test, || run(misuse));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains(words), "{stderr}");
}

struct Calls(fn(), fn());

impl SwitchHook for Calls {
    fn leave(&self) {
        (self.0)();
    }

    fn enter(&self) {
        (self.1)();
    }
}

#[test]
fn a_hook_that_waits_ends_the_process() {
    ends_the_process("a_hook_that_waits_ends_the_process", "a switch hook waited", || {
        with_switch_hook(&Calls(thread::yield_now, || ()), thread::yield_now);
    });
}

#[test]
fn a_hook_that_panics_ends_the_process() {
    ends_the_process("a_hook_that_panics_ends_the_process", "a switch hook panicked", || {
        with_switch_hook(&Calls(|| (), || panic!("on purpose")), thread::yield_now);
    });
}

#[test]
fn a_hook_that_hooks_ends_the_process() {
    let words = "a switch hook called `with_switch_hook`";
    ends_the_process("a_hook_that_hooks_ends_the_process", words, || {
        let hooks = || with_switch_hook(&Calls(|| (), || ()), || ());
        with_switch_hook(&Calls(hooks, || ()), thread::yield_now);
    });
}
