//! A debugger sees coroutines: gdb is run on this very program, which then, as the test of the
//! same name, plays the program to be debugged.
//!
//! A running coroutine needs nothing special. A suspended one is walked from the four words of
//! its context, put into the registers for the while. They must all be read before the first
//! register is set, since setting one makes gdb forget the frame that the next is read from.

#![cfg(all(target_arch = "x86_64", not(any(feature = "corosensei", cosocket_asan))))]
#![allow(unsafe_code)]

use std::hint::black_box;
use std::io::ErrorKind;
use std::process::Command;
use std::ptr;

use cosocket::internals::arch::{self, Context};

const DEBUGGEE: &str = "COSOCKET_TEST_DEBUGGEE";

/// gdb's output, or `None` where there is no gdb and need not be.
fn gdb(test: &str, commands: &[&str]) -> Option<String> {
    let mut gdb = Command::new("gdb");
    gdb.args(["--batch", "--nx", "-iex", "set debuginfod enabled off"]);
    for command in ["set language c", "set width 0", "set disable-randomization off"] {
        gdb.args(["-ex", command]);
    }
    for command in commands {
        gdb.args(["-ex", command]);
    }
    gdb.arg("--args").arg(std::env::current_exe().expect("the test program's path"));
    gdb.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(DEBUGGEE, test);
    let output = match gdb.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "gdb is not installed");
            eprintln!("skipped: gdb is not installed");
            return None;
        }
        output => output.expect("gdb can be run"),
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    Some(format!("{stdout}\n{stderr}"))
}

fn is_debuggee(test: &str) -> bool {
    std::env::var(DEBUGGEE).is_ok_and(|name| name == test)
}

/// The functions of the first backtrace in what gdb printed, innermost first.
fn backtrace(output: &str) -> Vec<&str> {
    let mut frames = output.lines().filter_map(|line| line.strip_prefix('#')).peekable();
    let mut functions = Vec::new();
    while let Some(frame) = frames.next() {
        let (_number, frame) = frame.split_once(' ').expect("a frame has a number");
        let function = frame.split_once(" in ").map_or(frame, |(_address, function)| function);
        functions.push(function.split(" (").next().expect("the first part").trim_start());
        if frames.peek().is_some_and(|next| next.starts_with("0 ")) {
            break;
        }
    }
    assert!(!functions.is_empty(), "{output}");
    functions
}

fn assert_in_order(trace: &[&str], expected: &[&str]) {
    let mut trace_left = trace.iter();
    for name in expected {
        assert!(trace_left.any(|frame| frame.contains(name)), "{name} not in order in {trace:#?}");
    }
}

/// Where gdb stops, with the context of a suspended coroutine in the first argument's register.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cosocket_test_while_suspended(context: *const Context) {
    black_box(context);
}

/// A coroutine's context, and where its resumer waits.
struct Pair {
    coroutine: Context,
    resumer: Context,
}

impl Pair {
    fn coroutine(&self) -> *mut Context {
        ptr::from_ref(&self.coroutine).cast_mut()
    }

    fn resumer(&self) -> *mut Context {
        ptr::from_ref(&self.resumer).cast_mut()
    }
}

#[inline(never)]
fn rest_innermost(pair: &Pair) -> usize {
    // SAFETY: called by the coroutine, and its resumer waits.
    unsafe { arch::suspend(pair.coroutine(), pair.resumer(), 1) + 1 }
}

#[inline(never)]
fn rest_outermost(pair: &Pair) -> usize {
    let frame = black_box([1_usize; 100]);
    rest_innermost(pair) + black_box(frame)[50]
}

unsafe extern "C" fn entry(_word: usize, data: *mut ()) -> ! {
    // SAFETY: `init` was given the pair.
    let pair = unsafe { &*data.cast::<Pair>() };
    let word = rest_outermost(pair);
    // SAFETY: the coroutine has nothing left to do, and its resumer waits.
    unsafe { arch::exit(pair.coroutine(), pair.resumer(), word) }
}

fn suspend_and_stop() {
    let mut stack = vec![0_u128; 1 << 14];
    let pair = Pair { coroutine: Context::new(), resumer: Context::new() };
    let data = ptr::from_ref(&pair).cast_mut();
    let std::ops::Range { start, end } = stack.as_mut_ptr_range();
    // SAFETY: the stack and the contexts outlive the coroutine, which exits below.
    unsafe {
        arch::init(pair.coroutine(), (end.cast(), start.cast()), entry, data.cast());
        assert_eq!(arch::resume(pair.resumer(), pair.coroutine(), 0), 1);
        cosocket_test_while_suspended(pair.coroutine());
        assert_eq!(arch::resume(pair.resumer(), pair.coroutine(), 5), 7);
    }
    println!("the coroutine came to its end");
}

#[test]
fn a_suspended_coroutine_can_be_walked_from_its_saved_words() {
    let test = "a_suspended_coroutine_can_be_walked_from_its_saved_words";
    if is_debuggee(test) {
        return suspend_and_stop();
    }
    let walk = [
        "break *cosocket_test_while_suspended",
        "run",
        // The words are: sp, fp, pc, rbx.
        "set $context = (unsigned long *) $rdi",
        "set $sp_saved = $context[0]",
        "set $fp_saved = $context[1]",
        "set $pc_saved = $context[2]",
        "set $rbx_saved = $context[3]",
        "set $sp_here = $rsp",
        "set $fp_here = $rbp",
        "set $pc_here = $rip",
        "set $rbx_here = $rbx",
        "set $rsp = $sp_saved",
        "set $rbp = $fp_saved",
        "set $rbx = $rbx_saved",
        "set $rip = $pc_saved",
        "backtrace",
        "frame 0",
        "set $rsp = $sp_here",
        "set $rbp = $fp_here",
        "set $rbx = $rbx_here",
        "set $rip = $pc_here",
        "continue",
    ];
    let Some(output) = gdb(test, &walk) else { return };
    let trace = backtrace(&output);
    assert_in_order(&trace, &["rest_innermost", "rest_outermost", "entry", "root"]);
    assert!(trace.last().unwrap().contains("root"), "{trace:#?}");
    assert!(output.contains("the coroutine came to its end"), "{output}");
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cosocket_test_while_running(value: usize) -> usize {
    black_box(value) + 1
}

#[test]
fn the_backtrace_of_a_running_coroutine_ends_at_its_root() {
    let test = "the_backtrace_of_a_running_coroutine_ends_at_its_root";
    if is_debuggee(test) {
        assert_eq!(cosocket::run(|| black_box(cosocket_test_while_running(2)) + 1), 4);
        return println!("the coroutine came to its end");
    }
    let commands = ["break *cosocket_test_while_running", "run", "backtrace", "continue"];
    let Some(output) = gdb(test, &commands) else { return };
    let trace = backtrace(&output);
    assert_in_order(&trace, &["cosocket_test_while_running", "run_to_end", "root"]);
    assert!(trace.last().unwrap().contains("isa::root"), "{trace:#?}");
    assert!(output.contains("the coroutine came to its end"), "{output}");
}
