//! AddressSanitizer sees into coroutines: each test plants a bug in a child process and looks for
//! the report. Only there with `--cfg cosocket_asan`; `.ci/run` says how to build that.

#![cfg(cosocket_asan)]
#![allow(unsafe_code)]

use std::hint::black_box;
use std::process::{Command, Output};
use std::sync::mpsc;

use cosocket::thread;

const CHILD: &str = "COSOCKET_TEST_CHILD";

/// Runs `body` in a child process, as a coroutine with a companion to switch to.
fn run(test: &str, use_after_return: bool, body: fn()) -> Output {
    if std::env::var(CHILD).is_ok_and(|name| name == test) {
        cosocket::run(|| {
            let companion = cosocket::spawn_local(|| {
                loop {
                    thread::yield_now();
                }
            });
            let _ = cosocket::spawn_local(body).join();
            companion.cancel();
        });
        std::process::exit(0);
    }
    let options = std::env::var("ASAN_OPTIONS").unwrap_or_default();
    let use_after_return = u8::from(use_after_return);
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, test)
        .env("ASAN_OPTIONS", format!("{options}:detect_stack_use_after_return={use_after_return}"))
        .output()
        .expect("the test program can be started again")
}

/// What the sanitizer says of the bug in `body`.
fn report(test: &str, use_after_return: bool, body: fn()) -> String {
    let output = run(test, use_after_return, body);
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "no bug was found: {report}");
    report
}

fn assert_found(report: &str, kind: &str, frame: &str) {
    assert!(report.contains(&format!("ERROR: AddressSanitizer: {kind} ")), "{report}");
    assert!(report.contains(frame), "{report}");
}

#[inline(never)]
fn address_of_local() -> *const u64 {
    let local = black_box([7_u64; 4]);
    black_box(&raw const local[1])
}

#[inline(never)]
fn read(planted: *const u64) -> u64 {
    // SAFETY: none; this is the bug.
    unsafe { black_box(planted).read_volatile() }
}

#[test]
fn use_after_return_is_found_across_a_switch() {
    let report = report("use_after_return_is_found_across_a_switch", true, || {
        let planted = address_of_local();
        thread::yield_now();
        black_box(read(planted));
    });
    assert_found(&report, "stack-use-after-return", "address_of_local");
}

#[test]
fn use_after_free_is_found_across_a_switch() {
    for use_after_return in [false, true] {
        let test = "use_after_free_is_found_across_a_switch";
        let report = report(test, use_after_return, || {
            let value = Box::new(7_u64);
            let planted = &raw const *value;
            thread::yield_now();
            drop(value);
            thread::yield_now();
            black_box(read(planted));
        });
        assert_found(&report, "heap-use-after-free", "sanitizer::read");
    }
}

#[test]
fn overrun_of_a_local_is_found() {
    for use_after_return in [false, true] {
        let report = report("overrun_of_a_local_is_found", use_after_return, || {
            let local = black_box([7_u64; 4]);
            thread::yield_now();
            black_box(read(local.as_ptr().wrapping_add(4)));
        });
        assert_found(&report, "stack-buffer-overflow", "sanitizer::read");
    }
}

/// A waiter in the frame of a coroutine that is over would be read like this.
#[test]
fn use_of_a_finished_coroutines_frame_is_found() {
    let report = report("use_of_a_finished_coroutines_frame_is_found", false, || {
        let other = cosocket::spawn_local(|| {
            let local = black_box([7_u64; 4]);
            black_box(local.as_ptr())
        });
        let planted = other.join().unwrap();
        black_box(read(planted));
    });
    assert_found(&report, "use-after-poison", "sanitizer::read");
}

/// Not told of our switches, it warns that it does not know the stack, and forbids too much of it
/// from then on.
#[test]
fn a_panic_is_known_to_unwind_the_coroutines_own_stack() {
    let test = "a_panic_is_known_to_unwind_the_coroutines_own_stack";
    let output = run(test, true, || panic!("as planned"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("as planned"), "{text}");
    assert!(!text.contains("ASan"), "{text}");
}

/// The shadow of a stack is clean for the next coroutine on it, however the last one left.
#[test]
fn a_stack_serves_again_after_a_panic() {
    #[inline(never)]
    fn descend(depth: usize) -> usize {
        let frame = black_box([depth; 16]);
        thread::yield_now();
        if depth == 0 {
            std::panic::resume_unwind(Box::new(()));
        }
        descend(depth - 1) + frame[1]
    }
    #[inline(never)]
    fn fill(depth: usize) -> usize {
        let frame = black_box([depth; 24]);
        let below = if depth == 0 { 0 } else { fill(depth - 1) };
        below + frame.iter().sum::<usize>()
    }
    cosocket::run(|| {
        for depth in 0..20 {
            let (sender, receiver) = mpsc::channel();
            let failing = thread::spawn(move || {
                sender.send(fill(depth)).unwrap();
                descend(depth)
            });
            assert!(failing.join().is_err());
            assert_eq!(receiver.recv().unwrap(), depth * (depth + 1) / 2 * 24);
            assert_eq!(thread::spawn(|| fill(30)).join().unwrap(), 30 * 31 / 2 * 24);
        }
    });
}
