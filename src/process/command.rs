//! What to start, and how.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};

use super::child::Child;
use super::orphans::{self, Fosterling};
use crate::io_handle::begin_call;

/// A process to start; [`std::process::Command`] for coroutines. What `std` has in the trait
/// [`CommandExt`] are methods here.
///
/// ```
/// use cosocket::process::{Command, Stdio};
/// use std::io::Write;
///
/// cosocket::run(|| {
///     let output = Command::new("echo").arg("hello").output()?;
///     assert_eq!(output.stdout, b"hello\n");
///
///     let mut sort = Command::new("sort").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
///     sort.stdin.take().unwrap().write_all(b"b\na\n")?; // and closes it
///     assert_eq!(sort.wait_with_output()?.stdout, b"a\nb\n");
///     std::io::Result::Ok(())
/// })?;
/// # std::io::Result::Ok(())
/// ```
pub struct Command {
    std: std::process::Command,
    /// Which of 0, 1 and 2 the user has set. The others depend on how it is started.
    is_set: [bool; 3],
}

impl Command {
    /// Starts `program`, which is looked for in `PATH` unless it has a slash, without arguments, in
    /// this process's environment and directory.
    pub fn new<S: AsRef<OsStr>>(program: S) -> Command {
        Command { std: std::process::Command::new(program), is_set: [false; 3] }
    }

    /// Adds an argument. No shell sees it.
    pub fn arg<S: AsRef<OsStr>>(&mut self, argument: S) -> &mut Command {
        self.std.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args<I, S>(&mut self, arguments: I) -> &mut Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.std.args(arguments);
        self
    }

    /// Sets a variable of the child's environment.
    pub fn env<K, V>(&mut self, key: K, value: V) -> &mut Command
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.env(key, value);
        self
    }

    /// Sets variables of the child's environment.
    pub fn envs<I, K, V>(&mut self, variables: I) -> &mut Command
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.envs(variables);
        self
    }

    /// Removes a variable from the child's environment.
    pub fn env_remove<K: AsRef<OsStr>>(&mut self, key: K) -> &mut Command {
        self.std.env_remove(key);
        self
    }

    /// Lets the child inherit no variables.
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// The child's working directory.
    pub fn current_dir<P: AsRef<Path>>(&mut self, directory: P) -> &mut Command {
        self.std.current_dir(directory);
        self
    }

    /// The child's standard input: ours by default, and nothing for [`output`](Command::output).
    pub fn stdin<T: Into<Stdio>>(&mut self, source: T) -> &mut Command {
        self.std.stdin(source);
        self.is_set[0] = true;
        self
    }

    /// The child's standard output: ours by default, and a pipe for [`output`](Command::output).
    pub fn stdout<T: Into<Stdio>>(&mut self, target: T) -> &mut Command {
        self.std.stdout(target);
        self.is_set[1] = true;
        self
    }

    /// The child's standard error; as [`stdout`](Command::stdout).
    pub fn stderr<T: Into<Stdio>>(&mut self, target: T) -> &mut Command {
        self.std.stderr(target);
        self.is_set[2] = true;
        self
    }

    /// Starts the child. See the [module](super) for what blocks in this.
    ///
    /// # Errors
    ///
    /// As in std: `NotFound`, `PermissionDenied`, the error of the `pre_exec` closure, or a limit
    /// that the [module](super) names.
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.start(Stdio::inherit, Stdio::inherit)
    }

    /// Starts the child, waits for its end and collects what it writes. By default it reads
    /// nothing, and both its outputs are collected.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Command::spawn) and [`Child::wait_with_output`].
    ///
    /// # Cancel
    ///
    /// The child is not killed, as in std, but left alone: it runs on, its outputs closed. When it
    /// has ended, it is reaped as the next child is spawned.
    pub fn output(&mut self) -> io::Result<Output> {
        let child = self.start(Stdio::null, Stdio::piped)?;
        Fosterling::of(child).child().collect_output()
    }

    /// Starts the child and waits for its end.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Command::spawn) and [`Child::wait`].
    ///
    /// # Cancel
    ///
    /// As for [`output`](Command::output).
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        Fosterling::of(self.spawn()?).child().wait()
    }

    fn start(&mut self, input: fn() -> Stdio, output: fn() -> Stdio) -> io::Result<Child> {
        begin_call()?;
        orphans::reap();
        self.set_defaults(input, output);
        self.std.spawn().map(Child::new)
    }

    fn set_defaults(&mut self, input: fn() -> Stdio, output: fn() -> Stdio) {
        if !self.is_set[0] {
            self.std.stdin(input());
        }
        if !self.is_set[1] {
            self.std.stdout(output());
        }
        if !self.is_set[2] {
            self.std.stderr(output());
        }
    }

    /// The program, as it was given.
    pub fn get_program(&self) -> &OsStr {
        self.std.get_program()
    }

    /// The arguments so far.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.std.get_args()
    }

    /// The changes to the environment so far; a removed variable has no value.
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.std.get_envs()
    }

    /// The working directory, if it was set.
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.std.get_current_dir()
    }

    /// std's own command, for what is set by other libraries. Standard input and outputs are to be
    /// set through this type: its defaults take the place of what was set over there.
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        &mut self.std
    }
}

/// What std has in [`CommandExt`].
impl Command {
    /// The child's user id.
    pub fn uid(&mut self, id: u32) -> &mut Command {
        self.std.uid(id);
        self
    }

    /// The child's group id.
    pub fn gid(&mut self, id: u32) -> &mut Command {
        self.std.gid(id);
        self
    }

    /// The child's process group; 0 makes one of its own.
    pub fn process_group(&mut self, group: i32) -> &mut Command {
        self.std.process_group(group);
        self
    }

    /// The child's argument zero, in place of the program's name.
    pub fn arg0<S: AsRef<OsStr>>(&mut self, argument: S) -> &mut Command {
        self.std.arg0(argument);
        self
    }

    /// Runs `f` in the child between `fork` and `exec`.
    ///
    /// # Safety
    ///
    /// As [`CommandExt::pre_exec`]: the child is a copy of a process with several threads, so `f`
    /// may do only what signal handlers may do. It must not wait in any way of this library.
    pub unsafe fn pre_exec<F>(&mut self, f: F) -> &mut Command
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static,
    {
        // SAFETY: the caller vouches for `f`.
        unsafe { self.std.pre_exec(f) };
        self
    }

    /// Replaces this process by the program. Returns only with an error; as in std, what was set up
    /// for the child may then have been applied to this process.
    pub fn exec(&mut self) -> io::Error {
        self.set_defaults(Stdio::inherit, Stdio::inherit);
        self.std.exec()
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}
