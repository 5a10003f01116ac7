//! How many connections a pool has, and who waits for one: one word, changed in one exchange.
//!
//! ```text
//!   RETIRED (1 bit) | out (21 bits) | idle (21 bits) | queued (21 bits)
//!
//!                 admit: idle, LIFO            release: nobody waits
//!        idle ---------------------> out ----------------------------> (gone)
//!          ^                        ^ ^  |
//!          |  shelve: nobody waits  | |  | shelve, release: somebody waits; `out` stays
//!          '------------------------' |  v
//!                                   queued <--- admit: no place left
//! ```
//!
//! `out` are the connections that somebody has, those being opened included; `idle` are parked;
//! `queued` are callers who wait. Two rules hold at every moment, because all three are in one
//! word:
//!
//! * Nobody waits while a connection is idle: `queued > 0` implies `idle == 0`.
//! * Nobody waits while there is a place: `queued > 0` implies `out >= size`.
//!
//! So nobody overtakes a waiter: a newcomer who finds someone waiting waits behind it, and what
//! becomes free is handed to the head of the queue. `queued` changes under the queue's lock only;
//! who would change the other numbers and finds somebody waiting takes that lock and hands over.
//!
//! A count in here is a right: who lowers `idle` is sure to find an idle connection on one of the
//! shards, for there are never fewer than `idle` says.
//!
//! `tests/loom_pool.rs` includes this file and models it.

use crate::atomics::{AtomicU64, Ordering};

const WIDTH: u32 = 21;
const MOST: u64 = (1 << WIDTH) - 1;
const ONE_QUEUED: u64 = 1;
const ONE_IDLE: u64 = 1 << WIDTH;
const ONE_OUT: u64 = 1 << (2 * WIDTH);
/// The pool is empty and is being forgotten: whoever finds it so looks for another of that key.
const RETIRED: u64 = 1 << 63;

/// The word.
#[derive(Debug)]
pub(crate) struct Places(AtomicU64);

/// What a pool allows; neither number is above [`Limits::MOST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How many connections may be idle; and, with a backlog, how many there may be in all.
    pub(crate) size: u32,
    /// How many callers may wait for a place. `None`: any number of connections may be open.
    pub(crate) backlog: Option<u32>,
}

impl Limits {
    /// So that what may be queued fits, too.
    pub(crate) const MOST: u32 = (1 << (WIDTH - 1)) - 1;
}

/// The numbers at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupancy {
    pub(crate) out: u32,
    pub(crate) idle: u32,
    pub(crate) queued: u32,
}

/// What a caller who wants a connection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The right to one idle connection.
    Idle,
    /// The right to open one.
    Place,
    /// A place in the queue.
    Queued,
    /// Nothing: too many wait.
    Refused,
    Retired,
}

/// What becomes of a connection that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shelving {
    Shelved,
    /// It is idle, and the duty to close another one that is.
    Evicting,
    /// Nothing has changed: somebody waits for it.
    MustPass,
    Retired,
}

/// What becomes of a place whose connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    Freed {
        /// No connection is left, and nobody waits.
        is_empty: bool,
    },
    /// Nothing has changed: somebody waits for it.
    MustPass,
}

impl Occupancy {
    fn of(word: u64) -> Occupancy {
        let part = |shift| (word >> shift & MOST) as u32;
        Occupancy { out: part(2 * WIDTH), idle: part(WIDTH), queued: part(0) }
    }

    fn total(self) -> u64 {
        u64::from(self.out) + u64::from(self.idle) + u64::from(self.queued)
    }
}

impl Places {
    pub(crate) fn new() -> Places {
        Places(AtomicU64::new(0))
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        Occupancy::of(self.0.load(Ordering::Acquire))
    }

    /// For one who wants a connection. `Queued` is an invitation: nothing has changed, and the
    /// caller is to lock the queue and [`Places::admit_or_queue`].
    pub(crate) fn admit(&self, limits: Limits) -> Admission {
        self.admit_and(limits, 0)
    }

    /// As [`Places::admit`], with the queue locked: `Queued` has been counted.
    pub(crate) fn admit_or_queue(&self, limits: Limits) -> Admission {
        self.admit_and(limits, ONE_QUEUED)
    }

    fn admit_and(&self, limits: Limits, queued: u64) -> Admission {
        self.decide(|word| match admission(word, limits) {
            Admission::Idle => (Some(word - ONE_IDLE + ONE_OUT), Admission::Idle),
            Admission::Place => (Some(word + ONE_OUT), Admission::Place),
            Admission::Queued => (Some(word + queued), Admission::Queued),
            other => (None, other),
        })
    }

    /// One more, if there is room for it without anybody having to wait: never an idle one.
    pub(crate) fn reserve(&self, limits: Limits) -> Admission {
        self.decide(|word| match Occupancy::of(word) {
            _ if word & RETIRED != 0 => (None, Admission::Retired),
            occupancy if occupancy.total() < u64::from(limits.size) => {
                (Some(word + ONE_OUT), Admission::Place)
            }
            _ => (None, Admission::Refused),
        })
    }

    /// The right to one idle connection, for who has a place already; false if there is none.
    pub(crate) fn take_one_more(&self) -> bool {
        self.decide(|word| match Occupancy::of(word).idle {
            0 => (None, false),
            _ => (Some(word - ONE_IDLE), true),
        })
    }

    /// The right to one idle connection and a place for it, for a moment's look at it.
    pub(crate) fn check_out(&self) -> bool {
        self.decide(|word| match Occupancy::of(word).idle {
            0 => (None, false),
            _ => (Some(word - ONE_IDLE + ONE_OUT), true),
        })
    }

    /// A connection is given back; `counted` if it has a place. To be called with the lock of
    /// the shard that it is put on, until it is there.
    pub(crate) fn shelve(&self, limits: Limits, counted: bool) -> Shelving {
        let leaves = if counted { ONE_OUT } else { 0 };
        self.decide(|word| match Occupancy::of(word) {
            _ if word & RETIRED != 0 => (None, Shelving::Retired),
            occupancy if occupancy.queued > 0 => (None, Shelving::MustPass),
            occupancy if occupancy.idle >= limits.size => (Some(word - leaves), Shelving::Evicting),
            _ => (Some(word - leaves + ONE_IDLE), Shelving::Shelved),
        })
    }

    /// A connection is gone. If there are more of them than the pool's size (they were parked by
    /// those who had not come through it), its place goes with it.
    pub(crate) fn release(&self, limits: Limits) -> Release {
        self.decide(|word| match Occupancy::of(word) {
            occupancy if occupancy.queued > 0 && occupancy.out <= limits.size => {
                (None, Release::MustPass)
            }
            _ => {
                let is_empty = word == ONE_OUT;
                (Some(word - ONE_OUT), Release::Freed { is_empty })
            }
        })
    }

    /// With the queue locked: its head has been taken out, and gets a place (or a connection with
    /// one), which is a new one unless it was `counted`.
    pub(crate) fn pass(&self, counted: bool) {
        let comes = if counted { 0 } else { ONE_OUT };
        self.decide(|word| (Some(word - ONE_QUEUED + comes), ()));
    }

    /// With the queue locked: somebody gives up.
    pub(crate) fn leave_queue(&self) {
        self.decide(|word| (Some(word - ONE_QUEUED), ()));
    }

    /// The pool is empty, and is to be forgotten. False if it is not empty any more.
    pub(crate) fn retire(&self) -> bool {
        self.decide(|word| if word == 0 { (Some(RETIRED), true) } else { (None, false) })
    }

    /// Decides and changes the word in one step. Always acquire and release, so that all changes
    /// form one chain: whoever gets a right sees what was done before it was given.
    fn decide<T>(&self, mut decision: impl FnMut(u64) -> (Option<u64>, T)) -> T {
        let mut outcome = None;
        let _ = self.0.try_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let (after, told) = decision(word);
            outcome = Some(told);
            after.inspect(|&after| debug_assert!(is_sound(after), "{:?}", Occupancy::of(after)))
        });
        outcome.expect("asked at least once")
    }
}

fn admission(word: u64, limits: Limits) -> Admission {
    let occupancy = Occupancy::of(word);
    let Some(backlog) = limits.backlog else {
        return match occupancy {
            _ if word & RETIRED != 0 => Admission::Retired,
            Occupancy { idle: 1.., .. } => Admission::Idle,
            Occupancy { out, .. } if u64::from(out) >= MOST - 1 => Admission::Refused,
            _ => Admission::Place,
        };
    };
    let size = u64::from(limits.size);
    match occupancy {
        _ if word & RETIRED != 0 => Admission::Retired,
        Occupancy { idle: 1.., .. } => Admission::Idle,
        Occupancy { queued: 0, .. } if occupancy.total() < size => Admission::Place,
        _ if occupancy.total() < size + u64::from(backlog) => Admission::Queued,
        _ => Admission::Refused,
    }
}

/// No count has run over into the next.
fn is_sound(word: u64) -> bool {
    let occupancy = Occupancy::of(word);
    (occupancy.queued == 0 || occupancy.idle == 0) && u64::from(occupancy.out) < MOST
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { size: 2, backlog: Some(1) };

    fn occupancy(places: &Places) -> (u32, u32, u32) {
        let Occupancy { out, idle, queued } = places.occupancy();
        (out, idle, queued)
    }

    #[test]
    fn places_then_the_queue_then_nothing() {
        let places = Places::new();
        assert_eq!(places.admit(LIMITS), Admission::Place);
        assert_eq!(places.admit(LIMITS), Admission::Place);
        assert_eq!(places.admit(LIMITS), Admission::Queued);
        assert_eq!(occupancy(&places), (2, 0, 0), "an invitation changes nothing");
        assert_eq!(places.admit_or_queue(LIMITS), Admission::Queued);
        assert_eq!(places.admit_or_queue(LIMITS), Admission::Refused);
        assert_eq!(occupancy(&places), (2, 0, 1));
    }

    #[test]
    fn who_waits_is_handed_what_becomes_free() {
        let places = Places::new();
        places.admit(LIMITS);
        places.admit(LIMITS);
        places.admit_or_queue(LIMITS);
        assert_eq!(places.shelve(LIMITS, true), Shelving::MustPass);
        assert_eq!(places.release(LIMITS), Release::MustPass);
        places.pass(true);
        assert_eq!(occupancy(&places), (2, 0, 0));
        assert_eq!(places.release(LIMITS), Release::Freed { is_empty: false });
        assert_eq!(places.shelve(LIMITS, true), Shelving::Shelved);
        assert_eq!(occupancy(&places), (0, 1, 0));
        assert_eq!(places.admit(LIMITS), Admission::Idle);
        assert_eq!(places.release(LIMITS), Release::Freed { is_empty: true });
    }

    // LOG-2
    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "idle: 1, queued: 1")]
    fn counts_that_cannot_be_are_noticed() {
        Places(AtomicU64::new(2 * ONE_IDLE + ONE_QUEUED)).check_out();
    }

    #[test]
    fn a_full_shelf_evicts_whoever_comes() {
        let places = Places::new();
        let one = Limits { size: 1, backlog: None };
        assert_eq!(places.shelve(one, false), Shelving::Shelved);
        assert_eq!(places.shelve(one, false), Shelving::Evicting);
        assert_eq!(occupancy(&places), (0, 1, 0));
        places.admit(one);
        places.admit(one);
        assert_eq!(occupancy(&places), (2, 0, 0));
        assert_eq!(places.shelve(one, true), Shelving::Shelved);
        assert_eq!(places.shelve(one, true), Shelving::Evicting);
        assert_eq!(occupancy(&places), (0, 1, 0));
    }

    #[test]
    fn what_was_never_counted_is_not_passed_on_beyond_the_size() {
        let places = Places::new();
        let one = Limits { size: 1, backlog: Some(2) };
        places.admit(one);
        places.admit_or_queue(one);
        places.admit_or_queue(one);
        assert_eq!(places.shelve(one, false), Shelving::MustPass);
        places.pass(false);
        assert_eq!(occupancy(&places), (2, 0, 1), "two are out of a pool of one");
        assert_eq!(places.release(one), Release::Freed { is_empty: false });
        assert_eq!(places.release(one), Release::MustPass);
    }

    #[test]
    fn only_an_empty_pool_retires_and_it_does_for_good() {
        let places = Places::new();
        places.admit(LIMITS);
        assert!(!places.retire());
        places.release(LIMITS);
        assert!(places.retire() && !places.retire());
        assert_eq!(places.admit(LIMITS), Admission::Retired);
        assert_eq!(places.admit_or_queue(LIMITS), Admission::Retired);
        assert_eq!(places.reserve(LIMITS), Admission::Retired);
        assert_eq!(places.shelve(LIMITS, false), Shelving::Retired);
    }
}
