//! A child process: its end, and the pipes to it.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::{ExitStatus, Output};
use std::time::Duration;

use crate::blocking;
use crate::current;
use crate::io::pipe_end;
use crate::io_handle::{IoHandle, begin_call};
use crate::scope::scope;
use crate::shared::{Options, Place};
use crate::thread;
use crate::unwind;
use crate::wait::{Reason, Shield};

/// A running or ended child; [`std::process::Child`] for coroutines.
///
/// As in std, dropping it neither kills the child nor waits for it: one that has ended stays in the
/// process table, a zombie, until it is waited for or this process ends.
///
/// # Waiting
///
/// A coroutine is suspended until the child ends, a plain thread blocks. A cancel unwinds out of
/// that and leaves the child as it is: it can be waited for again, and its status is not lost.
///
/// ```
/// use cosocket::process::Command;
///
/// let status = cosocket::run(|| Command::new("sh").args(["-c", "exit 7"]).spawn()?.wait())?;
/// assert_eq!(status.code(), Some(7));
/// # std::io::Result::Ok(())
/// ```
pub struct Child {
    std: std::process::Child,
    /// The child's standard input, if it is a pipe.
    pub stdin: Option<ChildStdin>,
    /// The child's standard output, if it is a pipe.
    pub stdout: Option<ChildStdout>,
    /// The child's standard error, if it is a pipe.
    pub stderr: Option<ChildStderr>,
}

impl Child {
    /// One that we have started, by whose pipes nothing was done yet.
    pub(super) fn new(mut std: std::process::Child) -> Child {
        let io = |fd: OwnedFd| IoHandle::new(fd, false);
        Child {
            stdin: std.stdin.take().map(|pipe| ChildStdin { io: io(pipe.into()) }),
            stdout: std.stdout.take().map(|pipe| ChildStdout { io: io(pipe.into()) }),
            stderr: std.stderr.take().map(|pipe| ChildStderr { io: io(pipe.into()) }),
            std,
        }
    }

    /// The child without its pipes, which are closed.
    pub(super) fn into_std_alone(self) -> std::process::Child {
        self.std
    }

    /// Its process id. It is not used again before the child has been waited for.
    pub fn id(&self) -> u32 {
        self.std.id()
    }

    /// Sends SIGKILL. Does nothing if the child has been waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        self.std.kill()
    }

    /// Its status, if it has ended. Never waits, and does not close its standard input.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.std.try_wait()
    }

    /// Waits for its end. Its standard input, if it is a pipe and still here, is closed first.
    ///
    /// # Errors
    ///
    /// The system's: `ECHILD` when somebody else has reaped the child, or SIGCHLD is ignored. Where
    /// no pidfd can be had (before Linux 5.3, in some sandboxes, with no descriptor left) a thread
    /// of the blocking pool waits; then also that there is none.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        if current::worker().is_none() {
            return self.std.wait();
        }
        begin_call()?;
        let mut has_told = false;
        loop {
            if let Some(status) = self.std.try_wait()? {
                return Ok(status);
            }
            if has_told {
                // It has ended, but a debugger is told first.
                thread::sleep(Duration::from_millis(1));
            }
            self.wait_for_end()?;
            has_told = true;
        }
    }

    /// Waits until it has ended, and leaves it to be reaped.
    fn wait_for_end(&self) -> io::Result<()> {
        let id = self.std.id();
        match open_pidfd(id) {
            Ok(fd) => IoHandle::new(fd, false).wait_ready(libc::POLLIN, None).map(drop),
            // If this is cancelled, the thread waits on until the child ends, and touches nothing.
            Err(_) => blocking::try_unblock(Reason::CALL, move || block_until_end(id)),
        }
    }

    /// Waits for its end, and collects what it writes to those of its outputs that are pipes and
    /// still here, both at once. Its standard input is closed first.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Child::wait), and those of reading from the pipes. If both are there, also
    /// that no second coroutine (on a plain thread: no second thread) could be started to read one
    /// of them.
    ///
    /// # Cancel
    ///
    /// The child is dropped, with what has been collected.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        self.collect_output()
    }

    pub(super) fn collect_output(&mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        match (self.stdout.take(), self.stderr.take()) {
            (None, None) => {}
            (Some(mut pipe), None) => drop(pipe.read_to_end(&mut stdout)?),
            (None, Some(mut pipe)) => drop(pipe.read_to_end(&mut stderr)?),
            (Some(mut out), Some(mut err)) => {
                read_both([(&mut out, &mut stdout), (&mut err, &mut stderr)])?;
            }
        }
        Ok(Output { status: self.wait()?, stdout, stderr })
    }
}

/// Reads both to their ends: one of them here, the other in a coroutine beside this one, or a
/// thread beside this one.
fn read_both(pipes: [(&mut (dyn Read + Send), &mut Vec<u8>); 2]) -> io::Result<()> {
    let [(first, first_bytes), (second, second_bytes)] = pipes;
    if current::worker().is_none() {
        return std::thread::scope(|scope| {
            let read = move || second.read_to_end(second_bytes);
            let second = std::thread::Builder::new().spawn_scoped(scope, read)?;
            first.read_to_end(first_bytes)?;
            second.join().expect("reading does not panic").map(drop)
        });
    }
    let options = Options { place: Place::Here, ..Options::new() };
    // Raised when the waits have been cut short, so that the end of the scope is not, too.
    let mut shield = None;
    let result = scope(|scope| {
        let second = scope.spawn_with(options, || second.read_to_end(second_bytes))?;
        let read = first.read_to_end(first_bytes);
        if read.is_err() {
            // It was ended from outside, perhaps; then the other wait ends with it.
            second.cancel();
            shield = Some(Shield::raise());
            let _ = second.join();
            return read.map(drop);
        }
        match second.join() {
            Ok(read) => read.map(drop),
            Err(payload) => unwind::unwind(payload),
        }
    });
    drop(shield);
    result
}

fn open_pidfd(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, id as libc::pid_t, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Returns when the child has ended, or is no child of ours any more.
fn block_until_end(id: u32) {
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        let options = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: the kernel writes to our own variable.
        let result = unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), options) };
        if result == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

impl From<std::process::Child> for Child {
    /// Its pipes go with it.
    fn from(mut std: std::process::Child) -> Child {
        let (stdin, stdout, stderr) = (std.stdin.take(), std.stdout.take(), std.stderr.take());
        Child {
            std,
            stdin: stdin.map(ChildStdin::from),
            stdout: stdout.map(ChildStdout::from),
            stderr: stderr.map(ChildStderr::from),
        }
    }
}

impl From<Child> for std::process::Child {
    /// Its pipes go with it.
    fn from(child: Child) -> std::process::Child {
        let mut std = child.std;
        std.stdin = child.stdin.map(Into::into);
        std.stdout = child.stdout.map(Into::into);
        std.stderr = child.stderr.map(Into::into);
        std
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}

/// The pipe to a child's standard input; [`std::process::ChildStdin`] for coroutines.
///
/// Waits, and fails, as a [`PipeWriter`](crate::io::PipeWriter) does. The child reads the end when
/// this is dropped.
pub struct ChildStdin {
    io: IoHandle,
}

/// The pipe from a child's standard output; [`std::process::ChildStdout`] for coroutines.
///
/// Waits as a [`PipeReader`](crate::io::PipeReader) does. It ends when the child, and all who have
/// inherited the descriptor from it, have closed theirs.
pub struct ChildStdout {
    io: IoHandle,
}

/// The pipe from a child's standard error; as [`ChildStdout`].
pub struct ChildStderr {
    io: IoHandle,
}

pipe_end!(Write, ChildStdin, std::process::ChildStdin);
pipe_end!(Read, ChildStdout, std::process::ChildStdout);
pipe_end!(Read, ChildStderr, std::process::ChildStderr);

/// As std's, which shows no more.
macro_rules! debug {
    ($($pipe:ident)*) => {$(
        impl fmt::Debug for $pipe {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($pipe)).finish_non_exhaustive()
            }
        }
    )*};
}

debug!(ChildStdin ChildStdout ChildStderr);
