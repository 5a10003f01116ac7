//! Names of coroutines, for reports.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use crate::coroutine::Identity;
use crate::current;
use crate::overflow::Subject;

/// `coroutine 18 "reader"`.
pub(crate) struct Title<'a> {
    pub(crate) id: u64,
    pub(crate) name: Option<&'a str>,
}

impl<'a> Title<'a> {
    pub(crate) fn of(identity: &'a Identity) -> Title<'a> {
        Title { id: identity.id, name: identity.name() }
    }
}

impl fmt::Display for Title<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine {}", self.id)?;
        match self.name {
            Some(name) => write!(f, " {name:?}"),
            None => Ok(()),
        }
    }
}

/// The coroutine whose stack a fault on this thread may be in. Called by the signal handler: it
/// reads a thread-local and the control block of the coroutine that the signal interrupted.
pub(crate) fn overflow_subject() -> Option<Subject> {
    let worker = current::worker()?;
    let coroutine = worker.running()?;
    // SAFETY: the coroutine runs on this thread, so its block is occupied and its stack taken,
    // and nothing else runs on this thread until the handler returns.
    let (stack, identity) = unsafe { (&*coroutine.stack.get(), coroutine.identity_if_any()?) };
    let stack = stack.as_ref()?;
    Some(Subject {
        guard: stack.guard(),
        size_bytes: stack.size(),
        id: identity.id,
        name: identity.name().map(NonNull::from),
        spawned_at: identity.spawned_at,
        worker: worker.index,
    })
}

/// How many threads this process has, by `/proc`; `usize::MAX` where that cannot be read.
pub(crate) fn threads_of_process() -> usize {
    fs::read_dir("/proc/self/task").map_or(usize::MAX, Iterator::count)
}

/// Whether all threads of this process but ours wait for other threads, and for no limited time.
/// Not so where `/proc` does not tell.
pub(crate) fn others_wait() -> bool {
    let read = |task: &Path, file| fs::read_to_string(task.join(file)).ok();
    let waits = |task: PathBuf| {
        let name = read(&task, "comm")?;
        let call = read(&task, "syscall")?;
        Some(name.starts_with("cosocket") || is_endless_wait(&call))
    };
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return false };
    tasks.flatten().all(|task| waits(task.path()).unwrap_or(false))
}

/// Whether it is a `futex` wait without a timeout, as `/proc/<pid>/syscall` has it: its number and
/// its arguments.
fn is_endless_wait(call: &str) -> bool {
    let number = |word: &str| match word.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    };
    let words: Vec<_> = call.split(' ').map_while(number).collect();
    let [libc::SYS_futex, _, operation, _, timeout, ..] = words[..] else { return false };
    let operation = operation as i32 & libc::FUTEX_CMD_MASK;
    matches!(operation, libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET) && timeout == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_wait_is_told_from_others() {
        let futex = libc::SYS_futex;
        let is_endless = |rest: &str| is_endless_wait(&format!("{futex} {rest}"));
        assert!(is_endless("0x7f00 0x80 0x0 0x0 0x0 0x0 0x7ffe 0x7f01\n"));
        assert!(is_endless("0x7f00 0x189 0x2 0x0 0x0 0xffffffff 0x7ffe 0x7f01\n"));
        assert!(!is_endless("0x7f00 0x189 0x2 0x7ffd 0x0 0xffffffff 0x7ffe 0x7f01\n"));
        assert!(!is_endless("0x7f00 0x81 0x1 0x0 0x0 0x0 0x7ffe 0x7f01\n"));
        assert!(!is_endless_wait("running\n"));
        assert!(!is_endless_wait("0 0x0 0x7f00 0x1 0x0 0x0 0x0 0x7ffe 0x7f01\n"));
    }
}
