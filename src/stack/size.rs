//! Sizes: which ones there are, and how a slot is laid out for each.
//!
//! Sizes are rounded up to one of four steps per doubling (16, 20, 24, 28, 32, 40, … KiB), so
//! that programs that ask for many different sizes still share slots. The waste is below a
//! quarter, and it is address space, not memory.

use std::io;
use std::sync::OnceLock;

/// The smallest stack; a smaller wish is rounded up to this.
pub(crate) const MINIMUM_BYTES: usize = 16 << 10;
/// The largest stack; a larger wish is an error.
pub(crate) const MAXIMUM_BYTES: usize = 1 << 30;

/// A frame that skips the guard goes unnoticed. Rust code touches every page of a large frame,
/// but C code that a coroutine calls may not, so there is more than one page.
const GUARD_BYTES: usize = 64 << 10;
/// Below this size a guard of one page: the rest would be a large share of the slot's page tables.
const SMALL_STACK_BYTES: usize = 128 << 10;
/// rustc does not touch the pages of large frames on this ISA, so small stacks need more too.
const NO_STACK_PROBES: bool = cfg!(target_arch = "riscv64");

/// Stack tops are lowered by a multiple of this …
const COLOUR_STEP_BYTES: usize = 64;
/// … below this, by slot index. A quarter of a page gives most of the gain.
const COLOURS: usize = 16;

const STEPS_PER_DOUBLING: u32 = 4;

/// One of the sizes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SizeClass(u8);

impl SizeClass {
    pub(super) const COUNT: usize =
        ((MAXIMUM_BYTES.ilog2() - MINIMUM_BYTES.ilog2()) * STEPS_PER_DOUBLING + 1) as usize;

    /// The smallest class that holds `bytes`.
    pub(super) fn holding(bytes: usize) -> io::Result<SizeClass> {
        if bytes > MAXIMUM_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a stack of {bytes} bytes is more than the {MAXIMUM_BYTES} bytes a stack may \
                     have; ask for less in Builder::stack_size or thread::Builder::stack_size"
                ),
            ));
        }
        let Some(above_minimum) = bytes.checked_sub(MINIMUM_BYTES + 1) else {
            return Ok(SizeClass(0));
        };
        let last = MINIMUM_BYTES + above_minimum;
        let doubling = last.ilog2();
        let step_bytes = (1 << doubling) / STEPS_PER_DOUBLING as usize;
        let step = (last - (1 << doubling)) / step_bytes;
        let doublings = doubling - MINIMUM_BYTES.ilog2();
        Ok(SizeClass((doublings * STEPS_PER_DOUBLING) as u8 + step as u8 + 1))
    }

    pub(super) fn bytes(self) -> usize {
        let (doublings, step) =
            (u32::from(self.0) / STEPS_PER_DOUBLING, u32::from(self.0) % STEPS_PER_DOUBLING);
        (MINIMUM_BYTES << doublings) / STEPS_PER_DOUBLING as usize
            * (STEPS_PER_DOUBLING + step) as usize
    }

    pub(super) fn number(self) -> u32 {
        u32::from(self.0)
    }

    pub(super) fn numbered(number: u32) -> SizeClass {
        debug_assert!((number as usize) < SizeClass::COUNT);
        SizeClass(number as u8)
    }
}

/// How the slots of one class are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) class: SizeClass,
    pub(super) guard_bytes: usize,
    /// Guard, usable bytes, and room for the colour: an odd number of pages.
    pub(super) slot_bytes: usize,
}

impl Geometry {
    pub(super) fn of(class: SizeClass) -> Geometry {
        let page = page_bytes();
        let guard_bytes = if class.bytes() < SMALL_STACK_BYTES && !NO_STACK_PROBES {
            page
        } else {
            GUARD_BYTES.next_multiple_of(page)
        };
        let largest_colour = (COLOURS - 1) * COLOUR_STEP_BYTES;
        let usable_bytes = (class.bytes() + largest_colour).next_multiple_of(page);
        let pages = (guard_bytes + usable_bytes) / page;
        Geometry { class, guard_bytes, slot_bytes: (pages | 1) * page }
    }

    /// How far the top of a slot is lowered.
    pub(super) fn colour_bytes(index: u16) -> usize {
        usize::from(index) % COLOURS * COLOUR_STEP_BYTES
    }
}

/// The size of a page, as the kernel has it: 4, 16 or 64 KiB.
pub(crate) fn page_bytes() -> usize {
    static PAGE_BYTES: OnceLock<usize> = OnceLock::new();
    *PAGE_BYTES.get_or_init(|| {
        // SAFETY: takes and returns plain numbers.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        assert!(bytes > 0 && (bytes as usize).is_power_of_two(), "page size of {bytes} bytes");
        bytes as usize
    })
}
