//! The wheel against a sorted map, and its edges one by one.

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
}

impl Checked {
    fn new(now: Nanos) -> Checked {
        Checked {
            timers: (0..TIMERS).map(|_| Timer::new()).collect(),
            wheel: Wheel::new(now),
            due: BTreeMap::new(),
            now,
        }
    }

    fn arm(&mut self, index: usize, at: Nanos) {
        self.due.retain(|&(_, other), ()| other != index);
        let due = at.div_ceil(TICK).max(self.wheel.elapsed.get());
        self.due.insert((due, index), ());
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
        loop {
            if let Some(index) = self.pop() {
                popped += 1;
                if let Some(&ahead) = again.next() {
                    self.arm(index, self.now.saturating_add_signed(ahead));
                }
            } else if self.wheel.cascading.get().is_none() {
                break;
            }
        }
        let next = self.due.keys().next().map(|&(tick, _)| tick);
        assert!(next.is_none_or(|tick| tick > self.now / TICK), "one is overdue");
        // Else timers armed from now on would stand on needlessly coarse levels.
        assert_eq!(self.wheel.elapsed.get(), self.now / TICK);
        popped
    }

    fn pop(&mut self) -> Option<usize> {
        let timer = self.wheel.expire(self.now);
        let popped = timer.map(|timer| {
            let is_it = |other: &Timer| ptr::eq(other, timer);
            let index = self.timers.iter().position(is_it).unwrap();
            let timer = &self.timers[index];
            assert!(!timer.is_armed(), "a popped timer is disarmed");
            assert!(timer.expires() <= self.now, "never early");
            let &(first, _) = self.due.keys().next().expect("something is due");
            assert!(self.due.remove(&(first, index)).is_some(), "out of order");
            index
        });
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
            let elapsed = self.wheel.elapsed.get();
            if self.wheel.cascading.get().is_some() {
                assert_eq!(next, elapsed, "the rest of the cascade is due");
            } else if first / SLOTS as u64 == elapsed / SLOTS as u64 {
                assert_eq!(next, first, "on the finest level it is exact");
            } else {
                assert!(next > elapsed, "it makes progress");
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
    /// One call of `expire`, which may leave due timers and half a cascade behind.
    Pop(Nanos),
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
        2 => span(53).prop_map(Step::Pop),
        2 => (span(53), prop::collection::vec(ahead(), 0..4))
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
                Step::Pop(by) => {
                    checked.now += by;
                    checked.pop();
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
fn a_big_cascade_takes_several_calls_and_loses_nothing() {
    let mut checked = Checked::new(0);
    for index in 0..TIMERS {
        checked.arm(index, DAY + index as Nanos % 3 * TICK);
    }
    checked.now = DAY + DAY / 24;
    let mut calls = 0;
    while checked.pop().is_none() {
        calls += 1;
        // Those still in the slot and those already moved can both be disarmed.
        checked.disarm(calls % TIMERS);
    }
    assert!(calls > 1);
    let armed = checked.due.len();
    assert_eq!(checked.advance(0, &[]), armed);
}

#[test]
fn disarming_the_rest_of_a_cascade_ends_it() {
    let mut checked = Checked::new(0);
    (0..TIMERS).for_each(|index| checked.arm(index, DAY));
    checked.now = DAY;
    assert_eq!(checked.pop(), None);
    assert!(checked.wheel.cascading.get().is_some());
    (0..TIMERS).for_each(|index| checked.disarm(index));
    assert_eq!(checked.wheel.next_expiry(), None);
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
    assert_eq!(size_of::<Wheel>(), 8 * (2 + LEVELS + LEVELS * SLOTS));
}
