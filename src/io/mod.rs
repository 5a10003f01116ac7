//! `std::io`, for coroutines: pipes, standard input and output, copies.
//!
//! Everything of [`std::io`] is here under its own name, so that `use cosocket::io` can take the
//! place of `use std::io`; what waits for a descriptor is replaced by what suspends:
//!
//! * [`pipe`], [`PipeReader`], [`PipeWriter`]: the kernel's pipes, waited on as sockets are.
//! * [`stdin`], [`stdout`], [`stderr`]: through the blocking pool, since a terminal or a file has
//!   no other way.
//! * [`remedy`], which std does not have: what to do about an error that is a limit's.
//! * [`copy_bidirectional`], which std does not have: copies both ways between two streams.
//!
//! Inside a coroutine a call that has to wait suspends it; on a plain thread it blocks the thread.
//! Files have no such form: use [`unblock`](crate::unblock). The macros `print!`, `println!` and
//! `eprintln!` are std's: they write from where they are called, and block a worker if the terminal
//! or the pipe behind them is stuck.

mod copy;
mod errand;
mod output;
mod pipe;
mod stdin;

pub use std::io::*;

pub use crate::remedy::remedy;
pub use copy::{CopyError, ShutdownWrite, copy_bidirectional};
pub use output::{Stderr, StderrLock, Stdout, StdoutLock, stderr, stdout};
pub(crate) use pipe::pipe_end;
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use stdin::{Stdin, StdinLock, stdin};
