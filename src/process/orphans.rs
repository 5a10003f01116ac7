//! Children that nobody will wait for, because whoever did was cancelled.
//!
//! A child that has ended stays in the process table until it is reaped, so a server that cancels
//! `output()` now and then would fill that. Those left are looked at when the next one is spawned:
//! there are never more zombies of this kind than children that ended since.

use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};

static ORPHANS: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// A child whose handle the user never sees. If it has not been waited for when this goes, it is
/// reaped later.
pub(super) struct Fosterling(Option<super::Child>);

impl Fosterling {
    pub(super) fn of(child: super::Child) -> Fosterling {
        Fosterling(Some(child))
    }

    pub(super) fn child(&mut self) -> &mut super::Child {
        self.0.as_mut().expect("it is taken by the drop alone")
    }
}

impl Drop for Fosterling {
    fn drop(&mut self) {
        // Its pipes are closed here.
        let child = self.0.take().map(super::Child::into_std_alone);
        if let Some(mut child) = child
            && is_running(&mut child)
        {
            orphans().push(child);
        }
    }
}

/// Reaps those that have ended.
pub(super) fn reap() {
    orphans().retain_mut(is_running);
}

/// Reaps it, if it has ended.
fn is_running(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(None))
}

fn orphans() -> MutexGuard<'static, Vec<Child>> {
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner)
}
