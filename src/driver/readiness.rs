//! What an epoll worker knows about one direction of a descriptor, and who waits for more.
//!
//! ```text
//!      tick (16 bits) | waiter (address, 64-byte aligned) | WATCHED CLOSED READY
//!
//!              event: tick + 1, waiter taken and woken
//!        .--------------------------------------------------.
//!        v                                                  |
//!      READY --park(snapshot, waiter)--> not READY, waiter -'
//!        |  ^                              |
//!  clear |  | event: tick + 1              | unpark (timeout, cancel)
//!        v  |                              |
//!      not READY <-------------------------'
//! ```
//!
//! `READY` means "an attempt may succeed", and so it is set at first, when nothing is known.
//! Every operation is the same loop:
//!
//! 1. take a `snapshot`; if it is ready, make the system call;
//! 2. the call moved data, but less than asked for: `clear(snapshot)`, so that the next call
//!    waits without trying. Not when `CLOSED` is set: the end of the stream may have come in the
//!    same edge as the data, and no further edge would announce it;
//! 3. the call had to wait (`EAGAIN`, `EINPROGRESS`): register the descriptor with this worker,
//!    then `park(snapshot, ..)`. If that says no, go to 1, else suspend, `unpark`, go to 1.
//!
//! epoll is edge-triggered, so an edge lost is lost for ever. Each event increments the tick,
//! and `clear` and `park` do nothing if the tick is not that of the snapshot, which was taken
//! before the system call: what the call did not see, the event that came since does tell.
//! (The tick wraps. To lose an edge, a multiple of 65536 events, exactly, has to fit between a
//! snapshot and its use, which is one non-blocking system call.)
//!
//! A descriptor that says `EAGAIN` is not closed, whatever an event said: an error that another
//! call fetched in the meantime (a connected UDP socket's `ECONNREFUSED`) leaves `CLOSED` behind.
//! So `park` drops `CLOSED`; otherwise a loop as above would spin on such a socket.
//!
//! One waiter fits: in each direction, callers queue before they come here. Who only wants to
//! know when the direction is ready, without transferring, sets `WATCHED`; see `watch.rs`. A wake
//! is a hint.
//! Events may come from any thread that runs an epoll the descriptor is in.
//!
//! `tests/loom_readiness.rs` includes this file and models it.

use crate::atomics::{AtomicU64, Ordering};

/// An attempt may succeed.
const READY: u64 = 1 << 0;
/// The peer has shut this direction, or there was an error; stays until an attempt disproves it.
const CLOSED: u64 = 1 << 1;
const FLAGS: u64 = READY | CLOSED;
/// There are arms to tell; goes and comes by `watch` and `unwatch` alone.
const WATCHED: u64 = 1 << 2;

const TICK_SHIFT: u32 = 48;
const TICK: u64 = !0 << TICK_SHIFT;
/// Linux hands out no address above, unless asked for one explicitly.
const ADDRESS: u64 = !TICK;
const WAITER: u64 = ADDRESS & !(WAITER_ALIGNMENT as u64 - 1);
/// Of control blocks.
pub(crate) const WAITER_ALIGNMENT: usize = 64;

/// One direction of a descriptor.
#[derive(Debug)]
pub(crate) struct Readiness {
    word: AtomicU64,
}

/// A direction's state at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(u64);

/// What an event says about a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    Ready,
    /// Ready too: an attempt finds out.
    Closed,
}

impl Snapshot {
    pub(crate) fn is_ready(self) -> bool {
        self.0 & READY != 0
    }

    #[cfg(test)]
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }
}

impl Readiness {
    pub(crate) fn new() -> Readiness {
        Readiness { word: AtomicU64::new(READY) }
    }

    /// To be taken before the attempt whose outcome `clear` or `park` reports.
    pub(crate) fn snapshot(&self) -> Snapshot {
        // Acquire: the attempt sees at least what the event told of.
        Snapshot(self.word.load(Ordering::Acquire))
    }

    /// An attempt got less than it asked for, so there is no more. A newer event wins.
    pub(crate) fn clear(&self, snapshot: Snapshot) {
        let _ = self.update(|word| {
            let newer = word & TICK != snapshot.0 & TICK;
            (!newer && word & FLAGS == READY).then_some(word & !READY)
        });
    }

    /// Waits, after an attempt that had to wait or a snapshot that was not ready. False if an
    /// event has come since the snapshot: then there is no wait.
    ///
    /// The waiter's memory must be type-stable: an event may name it after `unpark`.
    pub(crate) fn park(&self, snapshot: Snapshot, waiter: *const ()) -> bool {
        let waiter = waiter.expose_provenance() as u64;
        debug_assert!(waiter != 0 && waiter & !WAITER == 0, "not a control block");
        self.update(|word| {
            let newer = word & TICK != snapshot.0 & TICK;
            debug_assert_eq!(word & WAITER, 0, "one waiter at a time");
            (!newer).then_some(word & (TICK | WATCHED) | waiter)
        })
        .is_ok()
    }

    /// Ends a wait for another reason than an event. False if an event has taken the waiter: it
    /// is woken, or will be, and cannot tell that from the next wake.
    pub(crate) fn unpark(&self, waiter: *const ()) -> bool {
        let waiter = waiter.addr() as u64;
        self.update(|word| (word & WAITER == waiter).then_some(word & !WAITER)).is_ok()
    }

    /// Something happened. Returns the waiter, who is the caller's to wake.
    pub(crate) fn event(&self, edge: Edge) -> Option<*const ()> {
        let flags = match edge {
            Edge::Ready => READY,
            Edge::Closed => READY | CLOSED,
        };
        let before = self
            .update(|word| Some(next_tick(word) | word & (FLAGS | WATCHED) | flags))
            .expect("an event always counts");
        waiter_of(before)
    }

    /// Has arms told of the next event. False if one has come since the snapshot: then it is for
    /// them to ask again.
    pub(crate) fn watch(&self, snapshot: Snapshot) -> bool {
        self.update(|word| {
            let newer = word & TICK != snapshot.0 & TICK;
            (!newer).then_some(word | WATCHED)
        })
        .is_ok()
    }

    pub(crate) fn unwatch(&self) {
        let _ = self.update(|word| (word & WATCHED != 0).then_some(word & !WATCHED));
    }

    /// To be asked after an event: whether there are arms to tell.
    pub(crate) fn is_watched(&self) -> bool {
        self.word.load(Ordering::Relaxed) & WATCHED != 0
    }

    /// Forgets everything, for the next descriptor. What still comes from the last one is an
    /// event like any other: it makes the next call try in vain at most.
    pub(crate) fn reset(&self) {
        let before = self.update(|word| Some(next_tick(word) | READY));
        debug_assert_eq!(before.map(waiter_of), Ok(None), "somebody waits on a closed descriptor");
    }

    /// Changes the word, unless `change` says there is nothing to do; the word before.
    ///
    /// Always acquire and release, so that all changes form one chain. Release: whoever finds
    /// `READY` sees what the event's thread saw, and whoever takes a waiter sees it suspended.
    /// Acquire is the other half.
    fn update(&self, change: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        self.word.try_update(Ordering::AcqRel, Ordering::Relaxed, change)
    }
}

/// The word's tick, incremented, alone; it wraps by falling off the top.
fn next_tick(word: u64) -> u64 {
    (word & TICK).wrapping_add(1 << TICK_SHIFT)
}

fn waiter_of(word: u64) -> Option<*const ()> {
    let waiter = (word & WAITER) as usize;
    (waiter != 0).then(|| std::ptr::with_exposed_provenance(waiter))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const ALICE: *const () = std::ptr::without_provenance(0x7fff_ffff_ffc0);
    const BOB: *const () = std::ptr::without_provenance(64);

    #[test]
    fn an_unknown_direction_is_tried_first() {
        let readiness = Readiness::new();
        let snapshot = readiness.snapshot();
        assert!(snapshot.is_ready() && !snapshot.is_closed());
    }

    #[test]
    fn an_event_between_the_attempt_and_the_wait_wins() {
        let readiness = Readiness::new();
        let snapshot = readiness.snapshot();
        assert_eq!(readiness.event(Edge::Ready), None);
        readiness.clear(snapshot);
        assert!(readiness.snapshot().is_ready());
        assert!(!readiness.park(snapshot, ALICE));
        assert!(readiness.park(readiness.snapshot(), ALICE));
        assert_eq!(readiness.event(Edge::Ready), Some(ALICE));
        assert!(readiness.snapshot().is_ready());
    }

    #[test]
    fn an_event_takes_the_waiter_once() {
        let readiness = Readiness::new();
        assert!(readiness.park(readiness.snapshot(), ALICE));
        assert!(!readiness.snapshot().is_ready());
        assert!(!readiness.unpark(BOB));
        assert_eq!(readiness.event(Edge::Ready), Some(ALICE));
        assert_eq!(readiness.event(Edge::Ready), None);
        assert!(!readiness.unpark(ALICE));
    }

    #[test]
    fn unpark_leaves_the_direction_not_ready() {
        let readiness = Readiness::new();
        assert!(readiness.park(readiness.snapshot(), ALICE));
        assert!(readiness.unpark(ALICE));
        let snapshot = readiness.snapshot();
        assert!(!snapshot.is_ready());
        assert!(readiness.park(snapshot, BOB));
    }

    #[test]
    fn closed_survives_a_short_read_but_not_a_wait() {
        let readiness = Readiness::new();
        readiness.event(Edge::Closed);
        let snapshot = readiness.snapshot();
        readiness.clear(snapshot);
        assert!(readiness.snapshot().is_ready() && readiness.snapshot().is_closed());
        assert!(readiness.park(snapshot, ALICE));
        assert!(!readiness.snapshot().is_ready() && !readiness.snapshot().is_closed());
    }

    #[test]
    fn a_watch_stays_until_it_is_ended_and_leaves_the_waiter_alone() {
        let readiness = Readiness::new();
        let before = readiness.snapshot();
        assert!(readiness.watch(before) && readiness.is_watched());
        assert!(readiness.park(before, ALICE) && readiness.is_watched());
        assert_eq!(readiness.event(Edge::Closed), Some(ALICE));
        assert!(readiness.is_watched());
        assert!(!readiness.watch(before), "an event has come since");
        readiness.clear(readiness.snapshot());
        readiness.unwatch();
        assert!(!readiness.is_watched());
        assert!(readiness.snapshot().is_ready() && readiness.snapshot().is_closed());
    }

    #[test]
    fn the_tick_wraps_without_touching_the_rest() {
        let readiness = Readiness::new();
        let first = readiness.snapshot();
        for _ in 0..0xffff {
            assert_eq!(readiness.event(Edge::Ready), None);
            assert!(!readiness.park(first, ALICE), "every tick but the first's own");
        }
        assert!(readiness.park(readiness.snapshot(), ALICE));
        assert_eq!(readiness.event(Edge::Ready), Some(ALICE));
        assert_eq!(readiness.snapshot(), first);
    }
}
