//! The wait of a plain thread for its arms: `poll(2)`.

use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::PollArm;
use crate::clock::{self, Nanos};
use crate::io_handle::IoHandle;
use crate::wait::Signal;

/// Blocks a plain thread until one of `arms` is ready, or `bell` can be read (an eventfd that
/// whoever else wakes this thread writes to), or `deadline`. A wake is a hint here too.
pub(crate) fn wait_on_thread<'a, H: Deref<Target = IoHandle> + 'a>(
    arms: impl IntoIterator<Item = &'a PollArm<H>>,
    bell: BorrowedFd<'_>,
    deadline: Option<Nanos>,
) -> Signal {
    let entry = |fd, events| libc::pollfd { fd, events, revents: 0 };
    let mut entries: Vec<libc::pollfd> =
        arms.into_iter().map(|arm| entry(arm.fd(), arm.events)).collect();
    entries.push(entry(bell.as_raw_fd(), libc::POLLIN));
    // Rounded up: a wait must not end early.
    let left_ms = deadline.map_or(-1, |deadline| {
        let left = deadline.saturating_sub(clock::now()).div_ceil(1_000_000);
        i32::try_from(left).unwrap_or(i32::MAX)
    });
    // SAFETY: the entries are ours, and as many as we say.
    let count = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as _, left_ms) };
    // An interrupted wait is a wake that was only a hint.
    if count == 0 && left_ms != i32::MAX { Signal::TimedOut } else { Signal::Wake }
}
