//! `std::process`, for coroutines: waiting for children without blocking the worker.
//!
//! The names, signatures and meanings are those of [`std::process`].
//!
//! ```text
//!   Child::wait --> ended? --> pidfd_open --> the driver waits for it --> reap
//!                                  | refused (ENOSYS, EPERM, EMFILE ...)
//!                                  `--> a thread of the pool waits, and leaves the reaping to us
//! ```
//!
//! # What blocks
//!
//! [`Command::spawn`] itself blocks its worker while the child is started, until it has called
//! `exec`: 0.1 ms where the C library's `posix_spawn` does it, whatever the size of this process.
//! A `pre_exec` closure, `uid`, `gid` and the like take `fork`, which copies page tables: 0.2 ms
//! in a small process, 20 ms in one that holds 500 MB. It is not moved to the blocking pool,
//! because children may depend on the thread that starts them (`PR_SET_PDEATHSIG` kills them when
//! it ends, as an idle thread of the pool does) and inherit its settings. Where that does not
//! matter and the time does, [`unblock`](crate::unblock) takes a [`Command`].
//!
//! # Errors
//!
//! Limits are reported as the system's own errors: `EMFILE` (`ulimit -n`: a child with three pipes
//! takes three descriptors here, and six while it starts), `EAGAIN` (`ulimit -u`, the cgroup's
//! `pids.max`), `ENOMEM`.

mod child;
mod command;
mod orphans;

pub use std::process::{
    CommandArgs, CommandEnvs, ExitCode, ExitStatus, Output, Stdio, Termination,
};
pub use std::process::{abort, exit, id};

pub use child::{Child, ChildStderr, ChildStdin, ChildStdout};
pub use command::Command;
