//! `process`: children are waited for without blocking the worker, and without losing any.

#[allow(unsafe_code)]
mod socket_util;
#[allow(unsafe_code)]
mod util;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::rc::Rc;

use cosocket::io::pipe;
use cosocket::process::{Child, Command};
use cosocket::{Builder, Cancelled, spawn_local, thread};
use socket_util::{everywhere, spawn_waiting, turn};
use util::{child, descriptors, is_quick, refuse_system_call};

/// A child that ends when its standard input does.
fn waits_for_input() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

/// The state of a process, as `/proc` has it; `None` when it is gone.
fn state(id: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

#[test]
fn status_output_and_their_defaults_are_stds() {
    everywhere(|| {
        assert!(Command::new("true").status().unwrap().success());
        assert_eq!(Command::new("sh").args(["-c", "exit 3"]).status().unwrap().code(), Some(3));
        let killed = Command::new("sh").args(["-c", "kill -TERM $$"]).status().unwrap();
        assert_eq!(killed.signal(), Some(libc::SIGTERM));
        let script = "cat; echo out; echo err >&2; exit 4";
        let mut command = Command::new("sh");
        let output = command.args(["-c", script]).output().unwrap();
        assert_eq!(output.status.code(), Some(4));
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        // The defaults are those of the call, not of the one before; what is set stays.
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        assert_eq!(child.wait().unwrap().code(), Some(4));
        let output = command.output().unwrap();
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b""[..]));
        let error = Command::new("/no/such/program").status().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn settings_reach_the_child() {
    everywhere(|| {
        let mut command = Command::new("sh");
        command.env_clear().env("PATH", "/bin:/usr/bin").envs([("A", "1"), ("B", "2")]);
        command.env_remove("B").current_dir("/").arg0("name").process_group(0);
        let leads = "read id name state parent group rest </proc/$$/stat; test $group = $$";
        command.args(["-c", &format!("echo $0 $A:$B; pwd; umask; {leads} && echo leads")]);
        // SAFETY: the closure makes one system call.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| {
                libc::umask(0o027);
                Ok(())
            })
        };
        assert_eq!(command.get_program(), "sh");
        assert_eq!(command.get_args().count(), 2);
        assert_eq!(command.get_envs().count(), 2);
        assert_eq!(command.get_current_dir(), Some(std::path::Path::new("/")));
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, "name 1:\n/\n0027\nleads\n");
    });
}

#[test]
fn pipes_to_and_from_a_child_suspend() {
    everywhere(|| {
        let mut child = Command::new("cat");
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let size = 1_000_000;
        let writer = thread::spawn(move || input.write_all(&vec![7; size]).unwrap());
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() == size && bytes.iter().all(|&byte| byte == 7));
        writer.join().unwrap();
        assert!(child.wait().unwrap().success());
        // Once known, a status stays.
        assert!(child.wait().unwrap().success() && child.try_wait().unwrap().unwrap().success());
    });
}

/// Each of the two would block the child if it were read after the other.
#[test]
fn wait_with_output_drains_both_pipes_at_once() {
    everywhere(|| {
        let script = "i=0; while [ $i -lt 40 ]; do printf '%8192s' o; printf '%8192s' e >&2; \
                      i=$((i+1)); done";
        let mut command = Command::new("sh");
        let output = command.args(["-c", script]).output().unwrap();
        assert!(output.status.success());
        assert_eq!((output.stdout.len(), output.stderr.len()), (40 * 8192, 40 * 8192));
    });
}

#[test]
fn ours_pipes_connect_children() {
    everywhere(|| {
        let (reader, writer) = pipe().unwrap();
        let mut first = Command::new("printf").arg("b\\na\\n").stdout(writer).spawn().unwrap();
        let mut sort = Command::new("sort").stdin(reader).stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        sort.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "a\nb\n");
        assert!(first.wait().unwrap().success() && sort.wait().unwrap().success());
        let mut child: std::process::Child = waits_for_input().into();
        assert!(child.stdin.is_some());
        drop(child.stdin.take());
        assert!(Child::from(child).wait().unwrap().success());
    });
}

#[test]
fn a_child_ends_when_it_is_killed_and_wait_closes_its_input() {
    everywhere(|| {
        let mut child = waits_for_input();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        let status = child.wait().unwrap();
        // `wait` has closed its input, so that the end may have come first.
        assert!(status.signal() == Some(libc::SIGKILL) || status.success());
        child.kill().unwrap();
        assert!(waits_for_input().wait().unwrap().success());
    });
}

/// Sixty-four of them on one worker, none of which ends before another coroutine has gone round
/// as often as it likes.
#[test]
fn many_children_at_once_leave_the_worker_to_others() {
    let count = if is_quick() { 8 } else { 64 };
    let runtime = Builder::new().workers(1).build().unwrap();
    runtime.run(move || {
        let ticks = Rc::new(Cell::new(0));
        let ended = Rc::new(Cell::new(0));
        let mut children: Vec<Child> = (0..count).map(|_| waits_for_input()).collect();
        // They end when these are dropped, and `wait` must not do that.
        let inputs: Vec<_> = children.iter_mut().map(|child| child.stdin.take().unwrap()).collect();
        let waiters: Vec<_> = children
            .into_iter()
            .map(|mut child| {
                let ended = Rc::clone(&ended);
                spawn_local(move || {
                    assert!(child.wait().unwrap().success());
                    ended.set(ended.get() + 1);
                })
            })
            .collect();
        let ticker = {
            let ticks = Rc::clone(&ticks);
            spawn_local(move || {
                loop {
                    turn();
                    ticks.set(ticks.get() + 1);
                }
            })
        };
        while ticks.get() < 50 {
            thread::yield_now();
        }
        assert_eq!(ended.get(), 0);
        drop(inputs);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(ended.get(), count);
        ticker.cancel();
        let _ = ticker.join();
    });
}

#[test]
fn a_cancelled_wait_leaves_a_child_that_can_be_waited_for() {
    cosocket::run(|| {
        let mut child = waits_for_input();
        let input = child.stdin.take();
        let child = Rc::new(std::cell::RefCell::new(child));
        for _ in 0..3 {
            let theirs = Rc::clone(&child);
            let waiter = spawn_waiting(move || theirs.borrow_mut().wait());
            waiter.cancel();
            assert!(waiter.join().unwrap_err().is::<Cancelled>());
        }
        drop(input);
        assert!(child.borrow_mut().wait().unwrap().success());
    });
}

/// A shell that says who it is and then waits for its input, which ends when we say so.
fn cancelled_status() -> (u32, cosocket::io::PipeWriter) {
    let (input, keeps_it) = pipe().unwrap();
    let (mut said, says) = pipe().unwrap();
    let runs = spawn_waiting(move || {
        Command::new("sh").args(["-c", "echo $$; read x"]).stdin(input).stdout(says).status()
    });
    let mut id = Vec::new();
    while id.last() != Some(&b'\n') {
        let mut byte = [0];
        said.read_exact(&mut byte).unwrap();
        id.push(byte[0]);
    }
    runs.cancel();
    assert!(runs.join().unwrap_err().is::<Cancelled>());
    (String::from_utf8(id).unwrap().trim().parse().unwrap(), keeps_it)
}

#[test]
fn a_cancelled_status_leaves_no_zombie_once_the_next_child_is_spawned() {
    cosocket::run(|| {
        let (id, keeps_it) = cancelled_status();
        assert!(state(id).is_some_and(|state| state != 'Z'), "it was killed, or has ended");
        drop(keeps_it);
        socket_util::until(|| state(id).is_none_or(|state| state == 'Z'));
        assert!(Command::new("true").status().unwrap().success());
        assert_ne!(state(id), Some('Z'));
    });
}

fn many_waits() {
    let before = descriptors();
    for _ in 0..20 {
        let mut child = waits_for_input();
        let input = child.stdin.take();
        let waiter = spawn_waiting(move || child.wait().unwrap());
        assert!(!waiter.is_finished());
        drop(input);
        assert!(waiter.join().unwrap().success());
        assert_eq!(Command::new("echo").arg("x").output().unwrap().stdout, b"x\n");
        let cancelled = spawn_waiting(|| Command::new("cat").stdin(Stdio::piped()).output());
        cancelled.cancel();
        let _ = cancelled.join();
    }
    assert_eq!(descriptors(), before);
}

#[test]
fn no_descriptor_is_left_behind() {
    let test = "no_descriptor_is_left_behind";
    child::passes(test, || {
        cosocket::run(|| {
            many_waits();
        });
    });
}

/// As before Linux 5.3, in old sandboxes, and when the table of descriptors is full.
#[test]
fn without_pidfds_the_pool_waits() {
    for errno in [libc::ENOSYS, libc::EPERM, libc::EMFILE] {
        child::passes("without_pidfds_the_pool_waits", || {
            refuse_system_call(libc::SYS_pidfd_open, errno);
            cosocket::run(|| {
                many_waits();
                let mut child = waits_for_input();
                let input = child.stdin.take();
                let child = Rc::new(std::cell::RefCell::new(child));
                let theirs = Rc::clone(&child);
                let waiter = spawn_waiting(move || theirs.borrow_mut().wait());
                waiter.cancel();
                assert!(waiter.join().unwrap_err().is::<Cancelled>());
                drop(input);
                assert!(child.borrow_mut().wait().unwrap().success());
            });
        });
    }
}

#[test]
fn a_child_that_somebody_else_has_reaped_is_an_error() {
    child::passes("a_child_that_somebody_else_has_reaped_is_an_error", || {
        everywhere(|| {
            let mut child = waits_for_input();
            let id = child.id();
            drop(child.stdin.take());
            // SAFETY: the child is ours, and nothing is written.
            #[allow(unsafe_code)]
            let reaped = unsafe { libc::waitpid(id as i32, std::ptr::null_mut(), 0) };
            assert_eq!(reaped, id as i32);
            assert_eq!(child.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
        });
    });
}

#[test]
fn limits_are_the_systems_errors() {
    child::passes("limits_are_the_systems_errors", || {
        cosocket::run(|| {
            let gaps = util::leave_descriptors(1);
            let error = Command::new("true").output().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            drop(gaps);
        });
    });
}
