//! Where a cancel is held back: in a `shield`, and in destructors while the coroutine unwinds.

mod support;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::panic::catch_unwind;
use std::rc::Rc;
use std::time::Duration;

use cosocket::thread::shield;
use cosocket::{run, spawn_local, thread};
use support::{Drops, OnDrop, assert_cancel_ends, assert_cancelled, connection, suspended, until};

#[test]
fn a_shield_holds_the_cancel_back_until_it_falls() {
    run(|| {
        let gate = Rc::new(Cell::new(false));
        let steps = Rc::new(RefCell::new(Vec::new()));
        let (open, log) = (Rc::clone(&gate), Rc::clone(&steps));
        let handle = suspended(move || {
            shield(|| {
                until(|| open.get());
                thread::sleep(Duration::from_micros(1));
                shield(|| thread::sleep(Duration::from_micros(1)));
                // Out of the inner one, still in the outer one.
                thread::sleep(Duration::from_micros(1));
                spawn_local(thread::yield_now).join().unwrap();
                log.borrow_mut().push("shielded");
            });
            log.borrow_mut().push("no wait yet");
            thread::sleep(Duration::MAX);
            log.borrow_mut().push("not here");
        });
        handle.cancel();
        (0..100).for_each(|_| thread::yield_now());
        assert!(!handle.is_finished());
        gate.set(true);
        assert_cancelled(handle.join());
        assert_eq!(*steps.borrow(), ["shielded", "no wait yet"]);
    });
}

#[test]
fn a_panic_through_a_shield_lowers_it() {
    run(|| {
        assert_cancel_ends(|| {
            let thrown = catch_unwind(|| shield(|| support::panic_quietly("through")));
            assert!(thrown.is_err());
            thread::park();
        });
    });
}

#[test]
fn a_shielded_read_ends_with_its_bytes() {
    run(|| {
        let (mut reader, mut writer) = connection();
        let handle = suspended(move || {
            let mut byte = [0];
            shield(|| reader.read_exact(&mut byte).unwrap());
            byte[0]
        });
        handle.cancel();
        (0..100).for_each(|_| thread::yield_now());
        assert!(!handle.is_finished());
        writer.write_all(b"x").unwrap();
        assert_eq!(handle.join().unwrap(), b'x');
    });
}

#[test]
fn a_destructor_that_joins_in_a_cancels_unwind_sees_the_join_through() {
    run(|| {
        let joined = Rc::new(Cell::new(0));
        let result = Rc::clone(&joined);
        let handle = suspended(move || {
            let helper = spawn_local(|| {
                thread::sleep(Duration::from_micros(100));
                23
            });
            let mut helper = Some(helper);
            let _guard = OnDrop(move || result.set(helper.take().unwrap().join().unwrap()));
            thread::park();
        });
        handle.cancel();
        assert_cancelled(handle.join());
        assert_eq!(joined.get(), 23);
    });
}

#[test]
fn a_destructor_that_cancels_and_joins_its_child_is_no_deadlock() {
    run(|| {
        let drops = Drops::default();
        let counted = drops.counted();
        assert_cancel_ends(move || {
            let mut child = Some(spawn_local(move || (counted, thread::park()).1));
            let _guard = OnDrop(move || {
                let child = child.take().unwrap();
                child.cancel();
                assert_cancelled(child.join());
            });
            thread::park();
        });
        assert_eq!(drops.count(), 1);
    });
}
