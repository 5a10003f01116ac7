//! Timers: a hierarchical wheel that lends its slots to nodes embedded elsewhere.
//!
//! ```text
//!                arm                       its tick comes: popped by expire
//!   [idle] --------------> [armed] ---------------------------------------> [idle]
//!      ^                   |    |^
//!      +-----disarm--------+    ++ its slot comes, on a coarse level: cascade to a finer one
//!
//!   level 0   64 slots of 1 tick      65.5 us each, 4.2 ms in all
//!   level 1   64 slots of 64 ticks     4.2 ms each, 268 ms
//!   level 2   64 slots of 64^2 ticks   268 ms each,  17 s
//!   level 3   64 slots of 64^3 ticks    17 s  each,  18 min
//!   level 4   64 slots of 64^4 ticks    18 min each, 20 h
//!   level 5   64 slots of 64^5 ticks    20 h  each,  52 days; later still: re-inserted there
//! ```
//!
//! A tick number read in base 64 has one digit per level. A timer stands on the level of the
//! highest digit in which its tick differs from `elapsed`, the tick up to which the wheel has
//! been emptied; its slot is that digit. This gives the invariants:
//!
//! * On each level all occupied slots lie after the digit of `elapsed` (level 0: at or after), so
//!   whatever stands on a finer level is due before whatever stands on a coarser one, and the
//!   next thing to do is the first occupied slot of the finest occupied level: at most six words
//!   to look at.
//! * `elapsed` never passes the first tick of an occupied slot. When it reaches one on a coarse
//!   level the slot is emptied into finer levels; this happens only as `expire` gets there.
//! * The top level is a circle: slots before the digit of `elapsed` belong to the next turn. A
//!   timer beyond a full turn waits in the last slot, 63 after the current one, and is inserted
//!   afresh when that slot comes.
//!
//! An expiry is rounded up to its tick, and a tick is due once the clock has reached its first
//! nanosecond, so a timer fires up to one tick late and never early. Arming and disarming are
//! O(1), make no system call and allocate nothing; a timer moves at most once per level (and
//! once per 51 days). A million timers with the same timeout share a slot, and to cascade them all
//! at once would stop the worker for a tenth of a second. So one call of `expire` moves a limited
//! number and the next call goes on; what is due meanwhile fires late by some turns of the
//! worker, while I/O goes on between them.

use std::array;
use std::cell::Cell;
use std::fmt;

use crate::clock::Nanos;
use crate::list::{Links, List, Node};

/// One thing that shall happen later. It belongs to whoever embeds it, and is not moved or freed
/// while it is armed.
#[derive(Debug)]
pub struct Timer {
    links: Links<Timer>,
    expires: Cell<Nanos>,
    /// Where it stands while armed, as [`place`] makes it of level and slot.
    place: Cell<u16>,
}

/// All timers of one worker, sorted as far as needed. Only its owner's thread touches it.
pub struct Wheel {
    /// In ticks. No armed timer is due before it, and it never goes back.
    elapsed: Cell<u64>,
    /// One word per level; a bit is set while its slot holds a timer.
    occupied: [Cell<u64>; LEVELS],
    /// The place being emptied, if a call of `expire` left the rest of it to the next. It goes
    /// before all others, and its first tick is `elapsed`.
    cascading: Cell<Option<u16>>,
    slots: [[List<Timer>; SLOTS]; LEVELS],
}

/// 2^16 ns = 65.536 us. Fine enough for a timeout, and coarse enough that four levels reach
/// beyond any usual one.
const TICK_BITS: u32 = 16;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 6;
/// How many timers one call of `expire` cascades: at 100 ns each, for a node that is in no cache,
/// 50 us. The tests want to see cascades interrupted.
const CASCADE_MAX: usize = if cfg!(test) { 2 } else { 512 };

impl Timer {
    /// A timer that is not armed.
    pub const fn new() -> Timer {
        Timer { links: Links::new(), expires: Cell::new(0), place: Cell::new(0) }
    }

    /// Whether it is in a wheel. It no longer is when [`Wheel::expire`] has returned it.
    pub fn is_armed(&self) -> bool {
        self.links.is_linked()
    }

    /// What it was last armed for, to the nanosecond.
    pub fn expires(&self) -> Nanos {
        self.expires.get()
    }
}

// SAFETY: `links` is this one field, and only the list touches it.
unsafe impl Node for Timer {
    unsafe fn links(node: *const Timer) -> *const Links<Timer> {
        // SAFETY: the caller says that `node` is live.
        unsafe { &raw const (*node).links }
    }
}

impl Wheel {
    /// An empty wheel: about 3 kB of zeros.
    pub fn new(now: Nanos) -> Wheel {
        Wheel {
            elapsed: Cell::new(now >> TICK_BITS),
            occupied: [const { Cell::new(0) }; LEVELS],
            cascading: Cell::new(None),
            slots: [const { [const { List::new() }; SLOTS] }; LEVELS],
        }
    }

    /// Arms `timer` for `at`, or moves it there if it is armed. A time that has passed is due at
    /// once: a caller that re-arms in the past from within an `expire` loop never ends that loop.
    ///
    /// # Safety
    ///
    /// `timer` is live and in no other wheel. Until it is disarmed or comes out of `expire` it
    /// stays where it is, alive and without a `&mut` to it.
    pub unsafe fn arm(&self, timer: *const Timer, at: Nanos) {
        // SAFETY: the caller vouches for `timer`, now and while it is armed.
        unsafe {
            self.disarm(timer);
            (*timer).expires.set(at);
            self.insert(timer);
        }
    }

    /// Disarms `timer`; nothing happens if it is not armed.
    ///
    /// # Safety
    ///
    /// `timer` is live and in no other wheel.
    pub unsafe fn disarm(&self, timer: *const Timer) {
        // SAFETY: the caller vouches for `timer`, and an armed one is in the slot it names.
        unsafe {
            if !(*timer).is_armed() {
                return;
            }
            let (level, slot) = split((*timer).place.get());
            let list = &self.slots[level][slot];
            list.remove(timer);
            if list.is_empty() {
                self.vacate(level, slot);
            }
        }
    }

    /// A time before which [`Wheel::expire`] has nothing to return, `None` if no timer is armed.
    /// It is never later than the first expiry, rounded up to its tick; it is that very time if
    /// the timer stands on the finest level, and else perhaps the time of its next cascade.
    pub fn next_expiry(&self) -> Option<Nanos> {
        let next = self.next_slot()?;
        Some(next.tick.checked_mul(1 << TICK_BITS).unwrap_or(Nanos::MAX))
    }

    /// Takes out one timer that is due at `now`, in the order of ticks. It is disarmed when it is
    /// returned, so it may be armed again at once. Call until `None`; then, if `next_expiry` is
    /// not after `now`, there is more to do on the next turn.
    pub fn expire(&self, now: Nanos) -> Option<*const Timer> {
        let now = (now >> TICK_BITS).max(self.elapsed.get());
        let mut budget = CASCADE_MAX;
        while let Some(next) = self.next_slot() {
            if next.tick > now {
                break;
            }
            self.elapsed.set(next.tick);
            let list = &self.slots[next.level][next.slot];
            if next.level == 0 {
                // SAFETY: who armed a timer keeps it alive and in place until it comes out.
                let timer = unsafe { list.pop_front() };
                if list.is_empty() {
                    self.vacate(0, next.slot);
                }
                return timer;
            }
            if !self.cascade(next.level, next.slot, &mut budget) {
                return None;
            }
        }
        // Nothing stands in between, so the levels of what is left stay as they are.
        self.elapsed.set(now);
        None
    }

    /// The occupied slot that comes first.
    fn next_slot(&self) -> Option<NextSlot> {
        let elapsed = self.elapsed.get();
        if let Some(place) = self.cascading.get() {
            let (level, slot) = split(place);
            let tick = elapsed;
            return Some(NextSlot { level, slot, tick });
        }
        let level = self.occupied.iter().position(|slots| slots.get() != 0)?;
        let shift = SLOT_BITS * level as u32;
        let current = elapsed >> shift;
        // Bit 0 becomes the current slot, which is occupied on level 0 only.
        let upcoming = self.occupied[level].get().rotate_right(current as u32 % u64::BITS);
        let ahead = u64::from(upcoming.trailing_zeros());
        debug_assert!(ahead > 0 || level == 0);
        Some(NextSlot {
            level,
            slot: (current + ahead) as usize % SLOTS,
            // Not yet begun, and so not below `elapsed`, unless it is the current tick itself.
            tick: (current + ahead) << shift,
        })
    }

    /// Puts `timer`, with its `expires` set, into the slot that belongs to it.
    ///
    /// # Safety
    ///
    /// As for [`Wheel::arm`], and `timer` is not armed.
    unsafe fn insert(&self, timer: *const Timer) {
        let elapsed = self.elapsed.get();
        // SAFETY: the caller vouches for `timer`.
        let expires = unsafe { &*timer }.expires.get();
        let tick = expires.div_ceil(1 << TICK_BITS).max(elapsed);
        let level = match elapsed ^ tick {
            0 => 0,
            difference => (difference.ilog2() / SLOT_BITS) as usize,
        };
        let level = level.min(LEVELS - 1);
        let shift = SLOT_BITS * level as u32;
        let ahead = (tick >> shift) - (elapsed >> shift);
        let slot = ((elapsed >> shift) + ahead.min(SLOTS as u64 - 1)) as usize % SLOTS;
        // SAFETY: the caller vouches for `timer`.
        unsafe {
            (*timer).place.set(place(level, slot));
            self.slots[level][slot].push_back(timer);
        }
        let slots = &self.occupied[level];
        slots.set(slots.get() | 1 << slot);
    }

    /// Spreads a slot whose first tick is `elapsed` over the finer levels, as far as `budget`
    /// goes; returns whether that was all of it. On the top level a timer may find itself there
    /// again, 63 slots on, never in the slot being emptied.
    fn cascade(&self, level: usize, slot: usize, budget: &mut usize) -> bool {
        let list = &self.slots[level][slot];
        self.cascading.set(Some(place(level, slot)));
        while *budget > 0 {
            *budget -= 1;
            // SAFETY: who armed a timer keeps it alive and in place until it comes out.
            let timer = unsafe { list.pop_front() };
            let done = list.is_empty();
            if done {
                self.vacate(level, slot);
            }
            if let Some(timer) = timer {
                // SAFETY: as above; it has just been unlinked.
                unsafe { self.insert(timer) };
            }
            if done {
                return true;
            }
        }
        false
    }

    /// Notes that a slot has become empty.
    fn vacate(&self, level: usize, slot: usize) {
        let slots = &self.occupied[level];
        slots.set(slots.get() & !(1 << slot));
        if self.cascading.get() == Some(place(level, slot)) {
            self.cascading.set(None);
        }
    }
}

fn place(level: usize, slot: usize) -> u16 {
    (level * SLOTS + slot) as u16
}

fn split(place: u16) -> (usize, usize) {
    (usize::from(place) / SLOTS, usize::from(place) % SLOTS)
}

struct NextSlot {
    level: usize,
    slot: usize,
    /// The first tick that belongs to it.
    tick: u64,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer::new()
    }
}

impl fmt::Debug for Wheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let occupied: [u32; LEVELS] =
            array::from_fn(|level| self.occupied[level].get().count_ones());
        f.debug_struct("Wheel")
            .field("elapsed_ticks", &self.elapsed.get())
            .field("occupied_slots", &occupied)
            .finish()
    }
}

#[cfg(test)]
mod tests;
