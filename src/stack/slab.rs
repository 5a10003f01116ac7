//! Slabs: one mapping each, carved into slots of one size class.

use std::io;
use std::ptr::NonNull;
use std::sync::Mutex;

use super::guard::{self, GuardKind};
use super::pool::Depot;
use super::size::{Geometry, SizeClass};

/// At most this many slots a slab.
pub(super) const MAXIMUM_SLOTS: usize = 1024;
/// A pool that needs few stacks maps no more than this.
pub(super) const FIRST_SLOTS: usize = 64;
/// Guards take page tables, one page of them per slot when slots are large; so a slab of large
/// slots has fewer.
const MAXIMUM_BYTES: usize = 1 << 30;

/// A mapping and what must be known about it. Immutable, so that anyone may read it.
#[derive(Debug)]
pub(super) struct Slab {
    mapping: Mapping,
    /// Its place in the depot.
    pub(super) number: u32,
    pub(super) home: &'static Mutex<Depot>,
    /// The depot's, when the slab was mapped. A depot that was closed since does not know it.
    pub(super) generation: u32,
}

/// Points to a slab that exists as long as anybody has one of its slots, or its depot is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlabRef(NonNull<Slab>);

// SAFETY: a `Slab` is immutable after `SlabRef::new`, and all it refers to may be shared.
unsafe impl Send for SlabRef {}
// SAFETY: as above.
unsafe impl Sync for SlabRef {}

impl SlabRef {
    pub(super) fn new(slab: Slab) -> SlabRef {
        SlabRef(NonNull::from(Box::leak(Box::new(slab))))
    }

    pub(super) fn slab(&self) -> &Slab {
        // SAFETY: whoever holds a `SlabRef` holds a slot or the depot; see `unmap`.
        unsafe { self.0.as_ref() }
    }

    /// Unmaps the slab.
    ///
    /// # Safety
    ///
    /// All its slots are idle, and nobody uses a copy of this reference again.
    pub(super) unsafe fn unmap(self) {
        // SAFETY: made by `Box::leak`, and nobody else refers to it, as the caller vouches.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Slab {
    pub(super) fn new(
        mapping: Mapping,
        number: u32,
        home: &'static Mutex<Depot>,
        generation: u32,
    ) -> Slab {
        Slab { mapping, number, home, generation }
    }

    pub(super) fn bottom(&self, index: u16) -> *mut u8 {
        self.slot(index).wrapping_add(self.guard_bytes())
    }

    pub(super) fn top(&self, index: u16) -> *mut u8 {
        self.end(index).wrapping_sub(Geometry::colour_bytes(index))
    }

    /// One past the slot's last byte, colour included.
    pub(super) fn end(&self, index: u16) -> *mut u8 {
        self.slot(index).wrapping_add(self.mapping.geometry.slot_bytes)
    }

    pub(super) fn class(&self) -> SizeClass {
        self.mapping.geometry.class
    }

    pub(super) fn guard_bytes(&self) -> usize {
        self.mapping.geometry.guard_bytes
    }

    pub(super) fn slots(&self) -> usize {
        self.mapping.slots()
    }

    pub(super) fn bytes(&self) -> usize {
        self.mapping.bytes()
    }

    pub(super) fn guard(&self) -> GuardKind {
        self.mapping.guard
    }

    fn slot(&self, index: u16) -> *mut u8 {
        debug_assert!(usize::from(index) < self.mapping.slots);
        let offset = usize::from(index) * self.mapping.geometry.slot_bytes;
        self.mapping.base.as_ptr().wrapping_add(offset)
    }
}

/// Memory for slots, guards laid. Dropped, it is unmapped.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    slots: usize,
    geometry: Geometry,
    guard: GuardKind,
}

impl Mapping {
    /// Maps up to `slots` slots: fewer where the kernel will not give as many (under
    /// `vm.overcommit_memory=2` every byte counts, touched or not).
    pub(super) fn new(
        slots: usize,
        geometry: Geometry,
        preferred: GuardKind,
    ) -> Result<Mapping, MapError> {
        let mut slots = slots.min(MAXIMUM_BYTES / geometry.slot_bytes).max(1);
        loop {
            match Mapping::exactly(slots, geometry, preferred) {
                Err(_) if slots > 1 => slots /= 2,
                result => return result,
            }
        }
    }

    fn exactly(
        slots: usize,
        geometry: Geometry,
        preferred: GuardKind,
    ) -> Result<Mapping, MapError> {
        let bytes = slots * geometry.slot_bytes;
        // SAFETY: a new mapping, wherever the kernel likes.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(MapError::Memory(io::Error::last_os_error()));
        }
        // One touch must not bring in a huge page for many stacks. A kernel that has no huge
        // pages refuses the advice, and it is not needed there.
        // SAFETY: our own mapping.
        unsafe { libc::madvise(base, bytes, libc::MADV_NOHUGEPAGE) };
        let base = NonNull::new(base.cast::<u8>()).expect("a mapping at address zero");
        // SAFETY: fresh, and as long as said.
        match unsafe { guard::lay(base, slots, geometry, preferred) } {
            Ok(guard) => Ok(Mapping { base, slots, geometry, guard }),
            Err(error) => {
                // SAFETY: our own mapping.
                unsafe { unmap(base, bytes) };
                Err(error)
            }
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    fn bytes(&self) -> usize {
        self.slots * self.geometry.slot_bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, used by nobody: the owner of the slots drops it.
        unsafe { unmap(self.base, self.bytes()) };
        if self.guard == GuardKind::Protected {
            guard::release_mappings(self.slots);
        }
    }
}

unsafe fn unmap(base: NonNull<u8>, bytes: usize) {
    // SAFETY: as the caller vouches.
    let answer = unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
    debug_assert_eq!(answer, 0, "munmap: {}", io::Error::last_os_error());
}

/// Why there is no slab.
#[derive(Debug)]
pub(super) enum MapError {
    /// No address space, or no memory to promise.
    Memory(io::Error),
    /// No mappings left for guards.
    Mappings { limit: usize },
}

impl MapError {
    /// In words for the user, who wants to know what to change.
    pub(super) fn explain(self, stack_bytes: usize) -> io::Error {
        let text = match self {
            MapError::Mappings { limit } => format!(
                "no mappings left to guard another stack: this kernel needs two for each, and \
                 vm.max_map_count is {limit}, of which stacks get four fifths; raise it (sysctl \
                 -w vm.max_map_count=1048576), or use Linux 6.13 or later without mlockall, \
                 where guards need no mappings"
            ),
            MapError::Memory(error) => {
                format!("cannot map a stack of {stack_bytes} bytes: {error}; {}", memory_remedy())
            }
        };
        io::Error::new(io::ErrorKind::OutOfMemory, text)
    }
}

/// Which of the limits it can be that stopped us.
fn memory_remedy() -> String {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes to our own variable.
    let answer = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
    if answer == 0 && limit.rlim_cur != libc::RLIM_INFINITY {
        return format!(
            "the address space is limited to {} bytes: raise the limit (ulimit -v, RLIMIT_AS), \
             or use smaller stacks (Builder::stack_size)",
            limit.rlim_cur
        );
    }
    let policy = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    if policy.trim() == "2" {
        return "vm.overcommit_memory is 2, so that stacks count in full although they are mostly \
                untouched: set it to 0 or 1, raise vm.overcommit_ratio, or use smaller stacks \
                (Builder::stack_size)"
            .into();
    }
    "raise vm.max_map_count or the memory limit, or use fewer or smaller stacks \
     (Builder::stack_size)"
        .into()
}
