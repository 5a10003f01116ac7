//! The wait of one call for several descriptors: attempts to connect that race, questions that
//! are asked side by side.
//!
//! ```text
//!   ready already? -----------------------------------------------> true
//!        | no
//!        v
//!   an arm on each --> suspend --> one is ready --.
//!                         |                       v
//!                         |   deadline      all arms ended -------> true
//!                         '-------------->        |
//!                             cut                 '---------------> false, or the error of a cut
//! ```
//!
//! Like an arm it looks and takes nothing: the caller tries again whatever it waits for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::poll_arm::PollArm;
use super::{IoHandle, begin_call, blocking};
use crate::clock::Nanos;
use crate::wait::{self, Kind, Reason, Signal};
use crate::worker::Worker;
use crate::{current, limit};

/// Waits until one of `handles` is ready for one of `events`, as `poll(2)` names them; false when
/// `deadline` came first.
///
/// # Errors
///
/// What ended the wait from outside; what the poll failed with.
pub(crate) fn wait_any(
    handles: &[&IoHandle],
    events: i16,
    deadline: Option<Nanos>,
) -> io::Result<bool> {
    begin_call()?;
    for handle in handles {
        if handle.ready_now(events)?.is_some() {
            return Ok(true);
        }
    }
    match current::worker() {
        Some(worker) => suspend(worker, handles, events, deadline),
        None => block(handles, events, deadline),
    }
}

fn suspend(
    worker: &Worker,
    handles: &[&IoHandle],
    events: i16,
    deadline: Option<Nanos>,
) -> io::Result<bool> {
    let start = |handle| PollArm::start(handle, events);
    let arms = handles.iter().copied().map(start).collect::<io::Result<Vec<_>>>()?;
    let fd = arms.first().map_or(-1, PollArm::fd);
    let mut signal = Signal::Wake;
    while signal == Signal::Wake && !arms.iter().any(PollArm::is_done) {
        signal = wait::suspend(worker, Reason::io(Kind::Ready, fd), deadline, false);
    }
    arms.iter().for_each(PollArm::cancel);
    let mut is_ready = false;
    for arm in arms {
        is_ready |= arm.finish()?.is_some();
    }
    match signal {
        _ if is_ready => Ok(true),
        Signal::Cancelled => Err(wait::cancelled()),
        Signal::TimedOut | Signal::Wake => Ok(false),
    }
}

fn block(handles: &[&IoHandle], events: i16, deadline: Option<Nanos>) -> io::Result<bool> {
    let entry =
        |handle: &&IoHandle| libc::pollfd { fd: handle.as_fd().as_raw_fd(), events, revents: 0 };
    let mut entries: Vec<libc::pollfd> = handles.iter().map(entry).collect();
    let until = blocking::nearer(deadline, limit::of_thread(true));
    blocking::poll_entries(&mut entries, until)
}
