//! Guards: the pages below a stack whose access faults.
//!
//! Two ways, the better one chosen once per process by trying it:
//!
//! * **Marked**: `MADV_GUARD_INSTALL`, Linux 6.13. No mapping is split.
//! * **Protected**: `mprotect`. Two mappings per slot, of the 65530 that a process may have by
//!   default, so it ends at some 26 000 stacks. Also the way out where marking is refused later,
//!   as it is for locked memory (`mlockall`).

use std::io;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::advice::{self, Advice};
use super::size::{self, Geometry};
use super::slab::MapError;

/// How a slab is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuardKind {
    /// By page markers, at no cost in mappings.
    Marked,
    /// By protection, at two mappings per slot.
    Protected,
}

/// The best kind this kernel has.
pub(super) fn best() -> GuardKind {
    static BEST: OnceLock<GuardKind> = OnceLock::new();
    *BEST.get_or_init(|| if markers_work() { GuardKind::Marked } else { GuardKind::Protected })
}

/// Lays the guards of all slots, at the low end of each. Returns how: another way than the
/// preferred one, if that is refused here.
///
/// # Safety
///
/// `base` must be a fresh private mapping of `slots` slots, which nobody uses yet.
pub(super) unsafe fn lay(
    base: NonNull<u8>,
    slots: usize,
    geometry: Geometry,
    preferred: GuardKind,
) -> Result<GuardKind, MapError> {
    if preferred == GuardKind::Marked {
        // SAFETY: nobody relies on the contents yet.
        if unsafe { mark(base, slots, geometry) }.is_ok() {
            return Ok(GuardKind::Marked);
        }
    }
    claim_mappings(slots)?;
    // SAFETY: as the caller vouches.
    match unsafe { protect(base, slots, geometry) } {
        Ok(()) => Ok(GuardKind::Protected),
        Err(_) => {
            release_mappings(slots);
            Err(MapError::Mappings { limit: max_map_count() })
        }
    }
}

/// To be called when the slots of a protected slab are unmapped.
pub(super) fn release_mappings(slots: usize) {
    PROTECTED_SLOTS.fetch_sub(slots, Ordering::Relaxed);
}

/// Slots guarded by protection in this process; the limit is the process's too.
static PROTECTED_SLOTS: AtomicUsize = AtomicUsize::new(0);

/// The guard, and what is usable above it.
const MAPPINGS_PER_SLOT: usize = 2;

/// Leaves a fifth of the mappings to the rest of the program: running out of them breaks malloc
/// and thread creation, and not here.
pub(super) fn claim_mappings(slots: usize) -> Result<(), MapError> {
    let limit = max_map_count();
    let may_have = most_protected_slots(limit);
    let claim = |have: usize| Some(have + slots).filter(|&have| have <= may_have);
    match PROTECTED_SLOTS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim) {
        Ok(_) => Ok(()),
        Err(_) => Err(MapError::Mappings { limit }),
    }
}

pub(super) fn most_protected_slots(max_map_count: usize) -> usize {
    max_map_count / 5 * 4 / MAPPINGS_PER_SLOT
}

/// Read anew each time, since raising it is the remedy.
pub(super) fn max_map_count() -> usize {
    const KERNEL_DEFAULT: usize = 65530;
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(KERNEL_DEFAULT)
}

unsafe fn mark(base: NonNull<u8>, slots: usize, geometry: Geometry) -> io::Result<()> {
    let guards: Vec<_> = (0..slots)
        .map(|slot| libc::iovec {
            iov_base: base.as_ptr().wrapping_add(slot * geometry.slot_bytes).cast(),
            iov_len: geometry.guard_bytes,
        })
        .collect();
    // SAFETY: as the caller vouches.
    unsafe { advice::advise(&guards, Advice::InstallGuard) }
}

unsafe fn protect(base: NonNull<u8>, slots: usize, geometry: Geometry) -> io::Result<()> {
    for slot in 0..slots {
        let guard = base.as_ptr().wrapping_add(slot * geometry.slot_bytes);
        // SAFETY: nobody uses the pages yet, as the caller vouches.
        let answer = unsafe { libc::mprotect(guard.cast(), geometry.guard_bytes, libc::PROT_NONE) };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Marks a page and has the kernel write to it: if the guard is real, that is `EFAULT`. The
/// answer of `madvise` alone proves nothing, as qemu-user says yes to any advice and does none.
fn markers_work() -> bool {
    let page_bytes = size::page_bytes();
    // SAFETY: a new mapping, which nobody else knows of.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            page_bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return false;
    }
    let range = libc::iovec { iov_base: page, iov_len: page_bytes };
    // SAFETY: nobody relies on the page.
    let marked = unsafe { advice::advise(&[range], Advice::InstallGuard) }.is_ok();
    let works = marked && kernel_faults_at(page);
    // SAFETY: our own mapping.
    unsafe { libc::munmap(page, page_bytes) };
    works
}

/// Whether the kernel gets `EFAULT` for a write at the page. By the system call itself, since
/// the C library's function would write from user space and crash; this one, since no sandbox
/// refuses it and it needs no descriptor.
fn kernel_faults_at(page: *mut libc::c_void) -> bool {
    // SAFETY: the page is ours, and larger than a `timespec`.
    let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, page) };
    answer == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}
