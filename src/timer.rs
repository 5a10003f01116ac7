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
//! once per 51 days). A cascade moves its whole slot at once.

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
    /// Where it stands while armed: the level times [`SLOTS`], plus the slot.
    place: Cell<u16>,
}

/// All timers of one worker, sorted as far as needed. Only its owner's thread touches it.
pub struct Wheel {
    /// In ticks. No armed timer is due before it, and it never goes back.
    elapsed: Cell<u64>,
    /// One word per level; a bit is set while its slot holds a timer.
    occupied: [Cell<u64>; LEVELS],
    slots: [[List<Timer>; SLOTS]; LEVELS],
}

/// 2^16 ns = 65.536 us. Fine enough for a timeout, and coarse enough that four levels reach
/// beyond any usual one.
const TICK_BITS: u32 = 16;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 6;

impl Timer {
    /// A timer that is not armed.
    pub const fn new() -> Timer {
        Timer {
            links: Links::new(),
            expires: Cell::new(0),
            place: Cell::new(0),
        }
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
            let place = usize::from((*timer).place.get());
            let (level, slot) = (place / SLOTS, place % SLOTS);
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
    /// returned, so it may be armed again at once. Call until `None`.
    pub fn expire(&self, now: Nanos) -> Option<*const Timer> {
        let now = (now >> TICK_BITS).max(self.elapsed.get());
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
            self.cascade(next.level, next.slot);
        }
        // Nothing stands in between, so the levels of what is left stay as they are.
        self.elapsed.set(now);
        None
    }

    /// The occupied slot that comes first.
    fn next_slot(&self) -> Option<NextSlot> {
        let elapsed = self.elapsed.get();
        let level = self.occupied.iter().position(|slots| slots.get() != 0)?;
        let shift = SLOT_BITS * level as u32;
        let current = elapsed >> shift;
        // Bit 0 becomes the current slot, which is occupied on level 0 only.
        let upcoming = self.occupied[level]
            .get()
            .rotate_right(current as u32 % u64::BITS);
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
            (*timer).place.set((level * SLOTS + slot) as u16);
            self.slots[level][slot].push_back(timer);
        }
        let slots = &self.occupied[level];
        slots.set(slots.get() | 1 << slot);
    }

    /// Spreads a slot whose first tick is `elapsed` over the finer levels. On the top level a
    /// timer may find itself there again, 63 slots on, never in the slot being emptied.
    fn cascade(&self, level: usize, slot: usize) {
        let list = &self.slots[level][slot];
        self.vacate(level, slot);
        // SAFETY: who armed a timer keeps it alive and in place until it comes out.
        while let Some(timer) = unsafe { list.pop_front() } {
            // SAFETY: as above; it has just been unlinked.
            unsafe { self.insert(timer) };
        }
    }

    fn vacate(&self, level: usize, slot: usize) {
        let slots = &self.occupied[level];
        slots.set(slots.get() & !(1 << slot));
    }
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::ptr;

    const TICK: Nanos = 1 << TICK_BITS;
    const DAY: Nanos = 86_400_000_000_000;
    const TIMERS: usize = 12;

    /// A wheel and what it ought to hold: the tick from which each armed timer is due.
    struct Checked {
        timers: Box<[Timer]>,
        wheel: Wheel,
        due: BTreeMap<(u64, usize), ()>,
        now: Nanos,
        /// The tick that the model has come to; what is armed for earlier is due there.
        reached: u64,
    }

    impl Checked {
        fn new(now: Nanos) -> Checked {
            Checked {
                timers: (0..TIMERS).map(|_| Timer::new()).collect(),
                wheel: Wheel::new(now),
                due: BTreeMap::new(),
                now,
                reached: now / TICK,
            }
        }

        fn arm(&mut self, index: usize, at: Nanos) {
            self.due.retain(|&(_, other), ()| other != index);
            self.due
                .insert((at.div_ceil(TICK).max(self.reached), index), ());
            // SAFETY: the timers are boxed and are disarmed before they are dropped.
            unsafe { self.wheel.arm(&raw const self.timers[index], at) };
            self.check();
        }

        fn disarm(&mut self, index: usize) {
            self.due.retain(|&(_, other), ()| other != index);
            // SAFETY: a live timer, in this wheel or in none.
            unsafe { self.wheel.disarm(&raw const self.timers[index]) };
            self.check();
        }

        /// Moves the clock on and takes out what is due; each pop uses up one of `again`, by
        /// which the timer is armed once more from inside the loop.
        fn advance(&mut self, by: Nanos, again: &[i64]) -> usize {
            self.now += by;
            let mut again = again.iter();
            let mut popped = 0;
            while let Some(timer) = self.wheel.expire(self.now) {
                popped += 1;
                let index = self
                    .timers
                    .iter()
                    .position(|other| ptr::eq(other, timer))
                    .unwrap();
                let timer = &self.timers[index];
                assert!(!timer.is_armed(), "a popped timer is disarmed");
                assert!(timer.expires() <= self.now, "never early");
                let &(first, _) = self.due.keys().next().expect("something is due");
                assert!(self.due.remove(&(first, index)).is_some(), "out of order");
                self.reached = first;
                if let Some(&ahead) = again.next() {
                    self.arm(index, self.now.saturating_add_signed(ahead));
                }
            }
            self.reached = self.now / TICK;
            let next = self.due.keys().next();
            assert!(
                next.is_none_or(|&(tick, _)| tick > self.reached),
                "one is overdue"
            );
            self.check();
            popped
        }

        fn check(&self) {
            let armed = self.timers.iter().filter(|timer| timer.is_armed()).count();
            assert_eq!(armed, self.due.len());
            let first = self.due.keys().next().map(|&(tick, _)| tick);
            let next = self.wheel.next_expiry().map(|at| at / TICK);
            assert_eq!(next.is_some(), first.is_some());
            if let (Some(next), Some(first)) = (next, first) {
                assert!(next <= first, "{next} is later than {first}");
                if first / SLOTS as u64 == self.wheel.elapsed.get() / SLOTS as u64 {
                    assert_eq!(next, first, "on the finest level it is exact");
                } else {
                    assert!(next > self.wheel.elapsed.get(), "it makes progress");
                }
            }
        }
    }

    impl Drop for Checked {
        fn drop(&mut self) {
            for timer in &self.timers {
                // SAFETY: a live timer, in this wheel or in none.
                unsafe { self.wheel.disarm(timer) };
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(usize, i64),
        Disarm(usize),
        Advance(Nanos, Vec<i64>),
    }

    /// Nanoseconds of every order of magnitude, up to `2^bits`.
    fn span(bits: u32) -> impl Strategy<Value = u64> {
        (0..=bits, any::<u64>()).prop_map(|(bits, noise)| noise & ((1 << bits) - 1))
    }

    /// From the past to half a year ahead, five times the reach of the top level.
    fn ahead() -> impl Strategy<Value = i64> {
        prop_oneof![
            6 => span(54).prop_map(|span| span as i64),
            1 => span(40).prop_map(|span| -(span as i64)),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0..TIMERS, ahead()).prop_map(|(index, ahead)| Step::Arm(index, ahead)),
            1 => (0..TIMERS).prop_map(Step::Disarm),
            4 => (span(53), prop::collection::vec(ahead(), 0..4))
                .prop_map(|(by, again)| Step::Advance(by, again)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None,
            ..ProptestConfig::default() })]

        #[test]
        fn the_wheel_does_what_a_sorted_map_does(
            start in span(58),
            steps in prop::collection::vec(step(), 1..80),
        ) {
            let mut checked = Checked::new(start);
            for step in steps {
                match step {
                    Step::Arm(index, ahead) => {
                        checked.arm(index, checked.now.saturating_add_signed(ahead));
                    }
                    Step::Disarm(index) => checked.disarm(index),
                    Step::Advance(by, again) => {
                        checked.advance(by, &again);
                    }
                }
            }
            let armed = checked.due.len();
            prop_assert_eq!(checked.advance(300 * DAY, &[]), armed);
        }

        #[test]
        fn sleeping_until_next_expiry_meets_a_timer_on_its_tick(
            start in span(58),
            ahead in span(54),
        ) {
            let mut checked = Checked::new(start);
            let at = start + ahead;
            checked.arm(0, at);
            let mut wakes = 0;
            while let Some(next) = checked.wheel.next_expiry() {
                checked.advance(next.saturating_sub(checked.now), &[]);
                wakes += 1;
            }
            prop_assert_eq!(checked.now.div_ceil(TICK), at.div_ceil(TICK));
            // Once per level, and once more for every 51 days.
            prop_assert!(wakes <= LEVELS as u64 + ahead / (51 * DAY), "{} wakes", wakes);
        }
    }

    #[test]
    fn rounds_up_and_fires_with_the_first_nanosecond_of_the_tick() {
        let mut checked = Checked::new(0);
        checked.arm(0, 1);
        checked.arm(1, TICK);
        checked.arm(2, TICK + 1);
        assert_eq!(checked.advance(TICK - 1, &[]), 0);
        assert_eq!(checked.advance(1, &[]), 2);
        assert_eq!(checked.advance(TICK - 1, &[]), 0);
        assert_eq!(checked.advance(1, &[]), 1);
    }

    #[test]
    fn the_past_is_due_at_once_and_in_its_turn() {
        let mut checked = Checked::new(5 * DAY);
        checked.arm(0, 3 * DAY);
        assert_eq!(checked.wheel.next_expiry(), Some(5 * DAY / TICK * TICK));
        // Re-armed in the past twice from within the loop, then left.
        assert_eq!(checked.advance(0, &[-1, -(DAY as i64)]), 3);
    }

    #[test]
    fn every_slot_of_every_level_is_used_and_emptied_again() {
        let mut checked = Checked::new(0);
        for level in 0..LEVELS as u32 {
            let slot = TICK << (SLOT_BITS * level);
            for turn in 0..3 * SLOTS as u64 {
                checked.arm(turn as usize % 2, checked.now + slot);
                assert_eq!(checked.advance(slot, &[]), 1);
            }
        }
        assert!(checked.wheel.occupied.iter().all(|slots| slots.get() == 0));
    }

    #[test]
    fn the_end_of_time_is_never_reached() {
        let mut checked = Checked::new(0);
        checked.arm(0, Nanos::MAX);
        assert_eq!(checked.advance(Nanos::MAX - TICK, &[]), 0);
        assert_eq!(checked.wheel.next_expiry(), Some(Nanos::MAX));
    }

    #[test]
    fn a_wheel_is_small_and_so_is_a_timer() {
        assert_eq!(size_of::<Timer>(), 32);
        assert_eq!(size_of::<Wheel>(), 8 * (1 + LEVELS + LEVELS * SLOTS));
    }
}
