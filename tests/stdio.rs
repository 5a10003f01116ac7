//! `io::stdin`, `stdout` and `stderr` in a child process with pipes: through the pool, with nothing
//! lost when a call is cut short.

#[allow(unsafe_code)]
mod socket_util;
#[allow(unsafe_code)]
mod util;

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use cosocket::signal::{SIGUSR1, Signals};
use cosocket::time::timeout;
use cosocket::{Cancelled, io, shield, spawn_local};
use socket_util::{spawn_waiting, turn};
use util::{child, refuse_system_call, wait_until};

/// This test again, in a child whose standard streams are pipes to us. `talk` is what we say to it,
/// and must let it end; `body` is the child.
fn with_pipes(test: &str, talk: impl FnOnce(&mut Child), body: impl FnOnce()) {
    if child::is_one(test) {
        body();
        let _ = std::io::stdout().flush();
        std::process::exit(0);
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env("COSOCKET_TEST_CHILD", test);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    child::end_with_us(&mut command);
    let mut process = command.spawn().unwrap();
    talk(&mut process);
    drop(process.stdin.take());
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", child::describe(&output));
}

fn say(process: &mut Child, text: &str) {
    process.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
}

/// Reads what the child writes until the line `word`, behind what the test's own harness says.
fn hear(process: &mut Child, word: &str) -> String {
    hear_from(process.stdout.as_mut().unwrap(), word)
}

fn hear_from(output: &mut impl Read, word: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(&format!("{word}\n")) {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        text.push(byte[0] as char);
    }
    text
}

#[test]
fn lines_and_bytes_are_read_as_by_std() {
    let talk = |process: &mut Child| {
        say(process, "one\ntwo\r\n");
        say(process, "12345abc\nlast without an end");
    };
    with_pipes("lines_and_bytes_are_read_as_by_std", talk, || {
        cosocket::run(|| {
            let mut input = io::stdin();
            let mut line = String::from(">");
            assert_eq!(input.read_line(&mut line).unwrap(), 4);
            assert_eq!(line, ">one\n");
            let mut lines = io::stdin().lines();
            assert_eq!(lines.next().unwrap().unwrap(), "two");
            drop(lines);
            let mut digits = [0; 5];
            input.read_exact(&mut digits).unwrap();
            assert_eq!(&digits, b"12345");
            let mut lock = input.lock();
            let mut bytes = Vec::new();
            assert_eq!(lock.read_until(b'b', &mut bytes).unwrap(), 2);
            assert_eq!(lock.fill_buf().unwrap()[0], b'c');
            lock.consume(2);
            let mut rest = String::new();
            lock.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "last without an end");
            drop(lock);
            assert_eq!(input.read_line(&mut line).unwrap(), 0);
            assert!(!input.is_terminal() && input.as_fd().as_raw_fd() == 0);
        });
    });
}

#[test]
fn a_reader_that_waits_leaves_the_worker_to_others() {
    let talk = |process: &mut Child| {
        hear(process, "ticked");
        say(process, "at last\n");
    };
    with_pipes("a_reader_that_waits_leaves_the_worker_to_others", talk, || {
        cosocket::Builder::new().workers(1).build().unwrap().run(|| {
            let reader = spawn_waiting(|| io::stdin().lines().next().unwrap().unwrap());
            for _ in 0..20 {
                turn();
            }
            assert!(!reader.is_finished());
            println!("ticked");
            assert_eq!(reader.join().unwrap(), "at last");
        });
    });
}

/// The read is out in the pool when its caller goes: what it brings is the next one's.
#[test]
fn what_an_abandoned_read_brings_goes_to_the_next_reader() {
    let talk = |process: &mut Child| {
        for round in 0..5 {
            hear(process, "cancelled");
            say(process, &format!("line {round}\n"));
        }
        hear(process, "half");
        say(process, "half of");
        wait_until(|| util::readable_bytes(process.stdin.as_ref().unwrap()) == 0);
        tell(process);
        hear(process, "cancelled");
        say(process, " a line\n");
        hear(process, "cancelled");
        say(process, "to a thread\n");
    };
    with_pipes("what_an_abandoned_read_brings_goes_to_the_next_reader", talk, || {
        let read = || {
            let mut line = String::new();
            io::stdin().read_line(&mut line).unwrap();
            line
        };
        let abandon = move || {
            let waiter = spawn_waiting(read);
            waiter.cancel();
            assert!(waiter.join().unwrap_err().is::<Cancelled>());
            println!("cancelled");
        };
        cosocket::run(|| {
            for round in 0..5 {
                abandon();
                assert_eq!(read(), format!("line {round}\n"));
            }
            // Half a line has come when its reader is cancelled.
            let has_come = Signals::new(&[SIGUSR1]).unwrap();
            let waiter = spawn_waiting(read);
            println!("half");
            has_come.wait().unwrap();
            waiter.cancel();
            assert!(waiter.join().unwrap_err().is::<Cancelled>());
            println!("cancelled");
            assert_eq!(read(), "half of a line\n");
            abandon();
        });
        assert_eq!(read(), "to a thread\n");
    });
}

/// A limit around a shield fails a read in it, as it does one of a socket; so does a limit inside.
#[test]
fn a_read_in_a_shield_is_cut_by_limits_on_either_side() {
    let test = "a_read_in_a_shield_is_cut_by_limits_on_either_side";
    let talk = |process: &mut Child| {
        hear(process, "cut");
        say(process, "late\n");
    };
    with_pipes(test, talk, || {
        let short = Duration::from_millis(2);
        let read = || io::stdin().read_line(&mut String::new());
        let check = || {
            let outside = timeout(short, || shield(read)).unwrap();
            assert_eq!(outside.unwrap_err().kind(), ErrorKind::TimedOut);
            let inside = shield(|| timeout(short, read)).unwrap();
            assert_eq!(inside.unwrap_err().kind(), ErrorKind::TimedOut);
        };
        check();
        cosocket::run(check);
        println!("cut");
        let mut line = String::new();
        cosocket::run(|| io::stdin().read_line(&mut line)).unwrap();
        assert_eq!(line, "late\n", "nothing is lost");
    });
}

/// Sends the child a signal.
#[allow(unsafe_code)]
fn tell(process: &Child) {
    // SAFETY: plain numbers; the child is ours, and has not been waited for.
    assert_eq!(unsafe { libc::kill(process.id() as i32, SIGUSR1) }, 0);
}

#[test]
fn outputs_are_written_in_order_and_by_lines() {
    let talk = |process: &mut Child| {
        let text = hear(process, "end");
        let ours = text.split_once("begin\n").unwrap().1;
        let expected = "1 2\nfrom std\nlocked a\nlocked b\nin pieces\nend\n";
        assert_eq!(ours, expected);
    };
    with_pipes("outputs_are_written_in_order_and_by_lines", talk, || {
        println!("begin");
        cosocket::run(|| {
            let mut output = io::stdout();
            writeln!(output, "{} {}", 1, 2).unwrap();
            println!("from std");
            let mut lock = io::stdout().lock();
            let other = spawn_waiting(|| writeln!(io::stdout(), "in pieces").unwrap());
            writeln!(lock, "locked a").unwrap();
            // The same coroutine may lock it again.
            writeln!(io::stdout(), "locked b").unwrap();
            assert!(!other.is_finished());
            drop(lock);
            other.join().unwrap();
            output.write_all(b"en").unwrap();
            // Not flushed: std's own buffer has it, and writes it with the rest of the line.
            print!("d");
            std::io::stdout().write_all(b"\n").unwrap();
            writeln!(io::stderr(), "to standard error").unwrap();
            output.flush().unwrap();
        });
    });
}

/// The reader of the pipe does not read: a write waits in the pool, and its worker goes on.
#[test]
fn a_stuck_output_leaves_the_worker_to_others_and_a_cancelled_write_is_written() {
    let test = "a_stuck_output_leaves_the_worker_to_others_and_a_cancelled_write_is_written";
    let (count, line) = (40_u32, "x".repeat(9_999));
    let talk = |process: &mut Child| {
        // Until then, nobody reads from its output.
        hear_from(process.stderr.as_mut().unwrap(), "stuck");
        let output = process.stdout.as_mut().unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(text.matches(&format!("{line}\n")).count(), count as usize);
        assert!(text.trim_end().ends_with("after"));
    };
    with_pipes(test, talk, || {
        cosocket::Builder::new().workers(1).build().unwrap().run(|| {
            let written = Rc::new(Cell::new(0));
            let writers: Vec<_> = (0..count)
                .map(|_| {
                    let (written, text) = (Rc::clone(&written), format!("{line}\n"));
                    spawn_local(move || {
                        io::stdout().write_all(text.as_bytes()).unwrap();
                        written.set(written.get() + 1);
                    })
                })
                .collect();
            for _ in 0..20 {
                turn();
            }
            assert!(written.get() < count);
            eprintln!("stuck");
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            assert_eq!(written.get(), count);
            let cancelled = spawn_waiting(|| io::stdout().write_all(b"after"));
            cancelled.cancel();
            match cancelled.join() {
                Ok(result) => result.unwrap(),
                Err(payload) => assert!(payload.is::<Cancelled>()),
            }
            writeln!(io::stdout()).unwrap();
        });
    });
}

#[test]
fn a_broken_output_is_an_error() {
    child::passes("a_broken_output_is_an_error", || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        put_in_place_of(OwnedFd::from(writer), 1);
        cosocket::run(|| {
            let result = io::stdout().write_all(b"to nobody\n");
            assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
        });
        put_in_place_of(OwnedFd::from(File::create("/dev/null").unwrap()), 1);
        println!("running 1 test");
    });
}

/// Makes `fd` the descriptor with this number.
#[allow(unsafe_code)]
fn put_in_place_of(fd: OwnedFd, number: i32) {
    // SAFETY: a standard stream stays open, with another file behind it.
    assert_eq!(unsafe { libc::dup2(fd.as_raw_fd(), number) }, number);
}

/// The pool has no thread and can get none: an error that says what would help.
#[test]
fn without_a_thread_the_error_names_the_remedy() {
    child::passes("without_a_thread_the_error_names_the_remedy", || {
        cosocket::run(|| {
            for call in [libc::SYS_clone, libc::SYS_clone3] {
                refuse_system_call(call, libc::EAGAIN);
            }
            let mut line = String::new();
            let input = io::stdin().read_line(&mut line).unwrap_err();
            let output = io::stdout().write_all(b"x").unwrap_err();
            for error in [input, output] {
                assert!(error.to_string().contains("pids.max"), "{error}");
            }
        });
        // On a plain thread none is needed.
        assert_eq!(io::stdin().read_line(&mut String::new()).unwrap(), 0);
        io::stdout().write_all(b"written after all\n").unwrap();
    });
}
