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

use super::bounds::{Cut, WasCut, bell_of_thread};
use super::poll_arm::PollArm;
use super::{IoHandle, begin_call, blocking};
use crate::clock::Nanos;
use crate::current;
use crate::wait::{self, Kind, Reason, Signal};
use crate::worker::Worker;

/// Waits until one of `handles` is ready for one of `events`, as `poll(2)` names them; false when
/// `deadline` came first.
///
/// # Errors
///
/// What ended the wait from outside, among it the cut; what the poll failed with.
pub(crate) fn wait_any(
    handles: &[&IoHandle],
    events: i16,
    deadline: Option<Nanos>,
    cut: Option<&Cut>,
) -> io::Result<bool> {
    begin_call()?;
    for handle in handles {
        if handle.ready_now(events)?.is_some() {
            return Ok(true);
        }
    }
    match current::worker() {
        Some(worker) => suspend(worker, handles, events, deadline, cut),
        None => block(handles, events, deadline, cut),
    }
}

fn suspend(
    worker: &Worker,
    handles: &[&IoHandle],
    events: i16,
    deadline: Option<Nanos>,
    cut: Option<&Cut>,
) -> io::Result<bool> {
    let start = |handle| PollArm::start(handle, events);
    let arms = handles.iter().copied().map(start).collect::<io::Result<Vec<_>>>()?;
    let fd = arms.first().map_or(-1, PollArm::fd);
    let is_cut = || cut.is_some_and(Cut::is_set);
    let mut signal = Signal::Wake;
    while signal == Signal::Wake && !is_cut() && !arms.iter().any(PollArm::is_done) {
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
        _ if is_cut() => Err(WasCut::error()),
        Signal::TimedOut | Signal::Wake => Ok(false),
    }
}

fn block(
    handles: &[&IoHandle],
    events: i16,
    deadline: Option<Nanos>,
    cut: Option<&Cut>,
) -> io::Result<bool> {
    let entry = |fd, events| libc::pollfd { fd, events, revents: 0 };
    let of_handle = |handle: &&IoHandle| entry(handle.as_fd().as_raw_fd(), events);
    let mut entries: Vec<libc::pollfd> = handles.iter().map(of_handle).collect();
    let bell = cut.map(|_| bell_of_thread()).transpose()?;
    entries.extend(bell.as_ref().map(|bell| entry(bell.as_fd().as_raw_fd(), libc::POLLIN)));
    loop {
        if cut.is_some_and(Cut::is_set) {
            return Err(WasCut::error());
        }
        match blocking::poll_or_look(&mut entries, deadline) {
            Ok(true) => {}
            Ok(false) => continue,
            // The deadline. That of a limit has a source.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && error.get_ref().is_none() => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        if entries[..handles.len()].iter().any(|entry| entry.revents != 0) {
            return Ok(true);
        }
        if let Some(bell) = &bell {
            bell.answer();
        }
    }
}
