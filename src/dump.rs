//! Names of coroutines, for reports.

use std::fmt;
use std::ptr::NonNull;

use crate::coroutine::{Frames, Identity};
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
    let (frames, identity) = unsafe { (&*coroutine.frames.get(), coroutine.identity_if_any()?) };
    let Frames::Stack(stack) = frames else { return None };
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
    std::fs::read_dir("/proc/self/task").map_or(usize::MAX, Iterator::count)
}
