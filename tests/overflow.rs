//! A coroutine that runs out of stack says which one it was, and the process ends as by any
//! stack overflow.

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use cosocket::thread::{self, Builder};

const ROLE: &str = "COSOCKET_TEST_OVERFLOW";

/// Runs one test of this file again, in a child that takes the part named.
fn child(test: &str, part: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, part)
        .output()
        .unwrap()
}

fn part() -> Option<String> {
    std::env::var(ROLE).ok()
}

fn recurse(depth: usize) -> usize {
    let frame = black_box([depth; 64]);
    if depth == usize::MAX { 0 } else { recurse(depth + 1) + frame[3] }
}

/// THR-10
#[test]
fn the_report_names_the_coroutine_and_where_it_was_spawned() {
    const TEST: &str = "the_report_names_the_coroutine_and_where_it_was_spawned";
    if part().is_some() {
        cosocket::run(|| {
            // Suspended neighbours must not be taken for the culprit.
            let neighbours: Vec<_> = (0..10).map(|_| thread::spawn(thread::park)).collect();
            thread::yield_now();
            let deep = Builder::new().name("digger".into()).stack_size(64 << 10);
            deep.spawn(|| black_box(recurse(0))).unwrap().join().unwrap();
            drop(neighbours);
        });
        unreachable!("it overflows");
    }
    let output = child(TEST, "overflow");
    let report = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{report}");
    assert!(report.contains("\"digger\""), "{report}");
    assert!(report.contains("65536"), "{report}");
    assert!(report.contains(file!()), "{report}");
    assert!(report.contains("worker "), "{report}");
    assert!(!report.contains("has overflowed its stack\nfatal"), "std's own report: {report}");
}

/// THR-10
#[test]
#[cfg_attr(cosocket_asan, ignore = "the sanitizer lays frames out itself and does not probe them")]
fn a_frame_larger_than_a_page_does_not_jump_the_guard() {
    const TEST: &str = "a_frame_larger_than_a_page_does_not_jump_the_guard";
    #[inline(never)]
    fn large() -> u8 {
        let frame = black_box([7u8; 300 << 10]);
        frame[frame.len() / 2]
    }
    if part().is_some() {
        cosocket::run(|| {
            let small = Builder::new().name("wide".into()).stack_size(16 << 10);
            small.spawn(|| black_box(large())).unwrap().join().unwrap();
        });
        unreachable!("it overflows");
    }
    let output = child(TEST, "overflow");
    let report = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{report}");
    assert!(report.contains("\"wide\""), "{report}");
}

#[test]
fn other_faults_are_passed_on() {
    const TEST: &str = "other_faults_are_passed_on";
    if part().is_some() {
        cosocket::run(|| {
            let address = black_box(8usize) as *const u8;
            #[allow(unsafe_code)]
            // SAFETY: none: the fault is what this child is for.
            let byte = unsafe { address.read_volatile() };
            black_box(byte);
        });
        unreachable!("it faults");
    }
    let output = child(TEST, "fault");
    let report = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{report}");
    assert!(!report.contains("overflow"), "{report}");
}

#[test]
fn a_plain_thread_still_gets_stds_report() {
    const TEST: &str = "a_plain_thread_still_gets_stds_report";
    if part().is_some() {
        cosocket::run(|| ());
        let thread = std::thread::Builder::new().name("plain".into()).stack_size(64 << 10);
        let _ = thread.spawn(|| black_box(recurse(0))).unwrap().join();
        unreachable!("it overflows");
    }
    let output = child(TEST, "overflow");
    let report = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{report}");
    assert!(report.contains("thread 'plain'"), "{report}");
}

#[test]
fn a_stack_holds_what_was_asked_for_and_tells_how_much_was_used() {
    #[inline(never)]
    fn fill<const BYTES: usize>() -> u8 {
        let frame = black_box([9u8; BYTES]);
        frame[BYTES / 2]
    }
    let runtime = cosocket::Builder::new().measure_stacks(true).build().unwrap();
    runtime.run(|| {
        let used = |f: fn() -> u8| {
            let handle = Builder::new().stack_size(1 << 20).spawn(f).unwrap();
            while !handle.is_finished() {
                thread::yield_now();
            }
            handle.stack_high_water().expect("measured")
        };
        let (little, much) = (used(|| 1), used(fill::<{ 200 << 10 }>));
        assert!(little > 0 && little < 100 << 10, "{little}");
        assert!(much > 200 << 10 && much <= 1 << 20, "{much}");
        // The same stack, used again: the count starts anew.
        assert!(used(|| 1) < 100 << 10);
    });
}
