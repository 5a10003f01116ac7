//! Advice to the kernel about many ranges at once, and one question about a page.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::size;

/// The kernel takes at most this many ranges in one call (`UIO_MAXIOV`).
pub(super) const RANGES_PER_CALL: usize = 1024;

/// What to do with the pages of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Every access faults from now on, until the range is unmapped. Splits no mapping.
    InstallGuard,
    /// Give the memory back; the next access finds zeros. Guards stay.
    Empty,
}

impl Advice {
    fn number(self) -> libc::c_int {
        match self {
            Advice::InstallGuard => MADV_GUARD_INSTALL,
            Advice::Empty => libc::MADV_DONTNEED,
        }
    }
}

/// Linux 6.13; the libc crate does not have it for every target.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Gives the advice for every range, by one system call per thousand ranges where the kernel
/// does that for the own process (6.13), else one by one. Stops at the first that is refused.
///
/// # Safety
///
/// Nobody may rely on the contents of the ranges.
pub(super) unsafe fn advise(ranges: &[libc::iovec], advice: Advice) -> io::Result<()> {
    let process = if ranges.len() > 1 { this_process() } else { None };
    let mut left = ranges;
    while !left.is_empty() {
        let batch = &left[..left.len().min(RANGES_PER_CALL)];
        // SAFETY: as the caller vouches.
        let mut done =
            process.as_ref().map_or(0, |process| unsafe { advise_batch(process, batch, advice) });
        if done == 0 {
            // SAFETY: as the caller vouches.
            unsafe { advise_one(&batch[0], advice)? };
            done = 1;
        }
        left = &left[done..];
    }
    Ok(())
}

/// How many of the ranges the kernel took, from the first on.
unsafe fn advise_batch(process: &OwnedFd, batch: &[libc::iovec], advice: Advice) -> usize {
    // SAFETY: the kernel reads the array; what it does to the ranges the caller vouches for.
    let advised = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            process.as_raw_fd(),
            batch.as_ptr(),
            batch.len(),
            advice.number(),
            0,
        )
    };
    // A count of bytes, which may end inside a range (one call handles 2 GiB at most): that
    // range is advised again.
    let mut bytes = usize::try_from(advised).unwrap_or(0);
    let whole = |range: &&libc::iovec| {
        let fits = range.iov_len <= bytes;
        bytes = bytes.saturating_sub(range.iov_len);
        fits
    };
    batch.iter().take_while(whole).count()
}

unsafe fn advise_one(range: &libc::iovec, advice: Advice) -> io::Result<()> {
    // SAFETY: as the caller vouches.
    match unsafe { libc::madvise(range.iov_base, range.iov_len, advice.number()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A descriptor of this process. Opened anew each time: one that is kept would name the parent
/// after a fork.
fn this_process() -> Option<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    // SAFETY: the kernel just opened it for us.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Whether reading the page needs no fault. Where the kernel will not say, no.
pub(super) fn is_resident(page: *mut u8) -> bool {
    let mut residency = 0u8;
    // SAFETY: one page, so one byte is written; a page that is not mapped is an error.
    let answer = unsafe { libc::mincore(page.cast(), size::page_bytes(), &mut residency) };
    answer == 0 && residency & 1 == 1
}
