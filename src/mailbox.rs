//! How other threads reach a coroutine: bits in its control block, the block linked into its
//! worker's mailbox, and a doorbell for a worker that sleeps.
//!
//! ```text
//!              occupy           begin                 retire, not QUEUED
//!   FINISHED ---------> UNSTARTED -----> (running) ------------------------> FINISHED
//!   generation g        g                g    |                              generation g + 1
//!                                             | retire, QUEUED               ^
//!                                             `--> FINISHED | QUEUED --------' the drain
//!                                                  g
//!
//!   signal, any thread:  other generation or FINISHED -> Stale     nothing is done
//!                        UNSTARTED                    -> Recorded  `begin` returns the bits
//!                        QUEUED                       -> Recorded  the drain will see the bits
//!                        else sets QUEUED too         -> MustLink  the caller pushes the block
//!
//!   worker:  AWAKE --prepare_sleep--> ASLEEP --ring--> RUNG      ring: also AWAKE -> RUNG
//!              ^------------------ wake_up --------------'       the bell: only ASLEEP -> RUNG
//! ```
//!
//! Whoever set `QUEUED` links the block, and only the owner's drain clears it. So a block is in
//! an inbox at most once, and between the two it can be neither recycled nor moved: the thread
//! that must link it may still ask it who its worker is.
//!
//! # Memory ordering
//!
//! No operation here is `SeqCst`. Every change of a state word (the block's while it is occupied,
//! the worker's always) is a read-modify-write. Such an operation reads the latest value there is
//! and continues the release sequences of those before it, so the changes of one word form a
//! single chain: who acquires from the word sees all that the threads released into it so far.
//!
//! * Bits: what a thread did before `signal` is seen by whoever takes the bits. That is why
//!   `signal` writes even when the bits are set already: it must join the chain.
//! * Sleep: a thread pushes, then swaps `RUNG` in. Either that swap comes after the owner's swap
//!   of `ASLEEP`, finds it and rings the bell; or before, and then the owner acquires from it and
//!   sees the push when it looks into the inbox once more. A plain store of `AWAKE` in between
//!   would cut the chain, and with it off the threads that found `RUNG` and did not ring.
//!
//! `tests/loom_wake.rs` includes this file and models these claims.

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use crate::atomics::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use crate::doorbell::Doorbell;

/// The block is in its worker's inbox, or the thread that set this is about to put it there.
pub(crate) const QUEUED: u32 = 1 << 0;
/// What the coroutine waits for may have happened. A hint, gone once the drain took it.
pub(crate) const WOKEN: u32 = 1 << 1;
/// The coroutine is to unwind at its next wait. Never cleared.
pub(crate) const CANCELLED: u32 = 1 << 2;
/// The token of `unpark`. Stays until [`Signals::take_unparked`].
pub(crate) const UNPARKED: u32 = 1 << 3;
/// The closure waits for a worker to begin it, so there is no inbox to link the block into.
pub(crate) const UNSTARTED: u32 = 1 << 4;
/// The coroutine is over, and the block free or about to be.
pub(crate) const FINISHED: u32 = 1 << 5;
/// A limit that encloses what the coroutine does has passed (see [`crate::limit`]), says its worker;
/// or its scope has failed, says another. The owner clears it.
pub(crate) const ELAPSED: u32 = 1 << 6;

const SENT: u32 = WOKEN | CANCELLED | UNPARKED | ELAPSED;
const GENERATION_SHIFT: u32 = 32;

/// The part of a control block that other threads may touch.
///
/// It lies in type-stable memory: a block is recycled, never freed, so a late thread finds the
/// word of another generation and leaves it alone. (To reach a stranger, a handle would have to
/// be kept while its one block is recycled 2^32 times.)
#[derive(Debug)]
pub(crate) struct Signals {
    /// Generation in the high half, the bits above in the low one.
    state: AtomicU64,
    /// The next older block in the inbox; belongs to whoever set `QUEUED`, then to the drain.
    inbox_next: AtomicPtr<Signals>,
}

/// What the thread that signals has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a block that must be linked and is not is deaf for ever"]
pub(crate) enum Outcome {
    /// That coroutine is over; nothing was done.
    Stale,
    /// Someone will see the bits without further help.
    Recorded,
    /// The caller must [`Mailbox::push`] the block to the coroutine's worker.
    MustLink,
}

/// Whether a finished coroutine's block is free at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Retired {
    Free,
    /// It is in the inbox: it is free when the drain delivers it with `FINISHED`.
    StillLinked,
}

/// One block from the inbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) signals: NonNull<Signals>,
    /// Of the coroutine the bits were sent to.
    pub(crate) generation: u32,
    /// What was set; with `FINISHED`, nothing else counts and the block is free now.
    pub(crate) bits: u32,
}

impl Signals {
    /// A free block.
    pub(crate) fn new() -> Signals {
        Signals {
            state: AtomicU64::new(u64::from(FINISHED)),
            inbox_next: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Gives a free block to a coroutine that is yet to start; returns its generation.
    pub(crate) fn occupy(&self) -> u32 {
        // Relaxed loads and a plain store: nobody else changes a free block, and the handle that
        // makes the new generation known to other threads is handed over with its own ordering.
        let state = self.state.load(Ordering::Relaxed);
        debug_assert_eq!(bits_of(state), FINISHED, "the block is in use");
        self.state.store(word(generation_of(state), UNSTARTED), Ordering::Relaxed);
        generation_of(state)
    }

    /// The generation now, for a waker that kept only the block. The coroutine it meant may be
    /// gone: then the next one gets a hint it did not need, which every wait allows for.
    pub(crate) fn generation(&self) -> u32 {
        generation_of(self.state.load(Ordering::Relaxed))
    }

    /// Sets some of `WOKEN`, `CANCELLED`, `UNPARKED` and `ELAPSED`, from any thread.
    pub(crate) fn signal(&self, generation: u32, bits: u32) -> Outcome {
        debug_assert_eq!(bits & !SENT, 0, "not for others to set");
        let mut outcome = Outcome::Stale;
        // Release: what the caller did before is seen with the bits. Acquire: the caller may now
        // read who the worker is, written before `begin`.
        let _ = self.state.try_update(Ordering::AcqRel, Ordering::Relaxed, |state| {
            if generation_of(state) != generation || bits_of(state) & FINISHED != 0 {
                outcome = Outcome::Stale;
                return None;
            }
            if bits_of(state) & (UNSTARTED | QUEUED) != 0 {
                outcome = Outcome::Recorded;
                return Some(state | u64::from(bits));
            }
            outcome = Outcome::MustLink;
            Some(state | u64::from(bits | QUEUED))
        });
        outcome
    }

    /// Owner: starts the coroutine. Returns the bits sent until now; from here on they come
    /// through the inbox. Whatever tells other threads the worker must be written before.
    pub(crate) fn begin(&self) -> u32 {
        let gone = u64::from(UNSTARTED | WOKEN);
        // Release: publishes the worker to those who must link. Acquire: sees what they did.
        let state = self.state.fetch_and(!gone, Ordering::AcqRel);
        debug_assert!(bits_of(state) & UNSTARTED != 0, "begun twice");
        bits_of(state) & SENT
    }

    /// Owner: consumes the park token, if there is one.
    pub(crate) fn take_unparked(&self) -> bool {
        let token = u64::from(UNPARKED);
        // The look without a lock prefix is enough for "no": a token not seen here arrives
        // through the inbox as well.
        if self.state.load(Ordering::Relaxed) & token == 0 {
            return false;
        }
        // Acquire: what was done before `unpark` is seen after `park`.
        self.state.fetch_and(!token, Ordering::Acquire) & token != 0
    }

    /// Whether a cancel has come. Relaxed: it guards no data, and one that is not seen yet is in
    /// the inbox or on its way there.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.load(Ordering::Relaxed) & u64::from(CANCELLED) != 0
    }

    /// Whether there is anything that ends waits from outside: a cancel, or a limit that has
    /// passed. One load for both; relaxed as in `is_cancelled`.
    #[inline]
    pub(crate) fn is_interrupted(&self) -> bool {
        self.state.load(Ordering::Relaxed) & u64::from(CANCELLED | ELAPSED) != 0
    }

    /// Owner: sets bits that stay, for a coroutine that it can wake itself.
    pub(crate) fn record(&self, bits: u32) {
        debug_assert_eq!(bits & !(CANCELLED | UNPARKED | ELAPSED), 0, "not bits that stay");
        self.state.fetch_or(u64::from(bits), Ordering::AcqRel);
    }

    /// Owner: the limits that had passed are behind it.
    pub(crate) fn clear_elapsed(&self) {
        // Release, as every change of the word: see the header.
        self.state.fetch_and(!u64::from(ELAPSED), Ordering::AcqRel);
    }

    /// Owner: the coroutine is over. From here on its signals are `Stale`.
    pub(crate) fn retire(&self) -> Retired {
        // Acquire and release are for the reader's ease: nothing else is handed over here, since a
        // free block goes to its next user through a list with an ordering of its own.
        let before = self.state.try_update(Ordering::AcqRel, Ordering::Relaxed, |state| {
            debug_assert_eq!(bits_of(state) & (FINISHED | UNSTARTED), 0, "nothing to retire");
            let linked = bits_of(state) & QUEUED != 0;
            Some(if linked { state | u64::from(FINISHED) } else { freed(state) })
        });
        match before {
            Ok(state) if bits_of(state) & QUEUED != 0 => Retired::StillLinked,
            _ => Retired::Free,
        }
    }

    /// The drain: takes the bits that do not stay, or completes a retirement.
    fn collect(&self) -> (u32, u32) {
        // Relaxed: FINISHED is set by this thread or not at all.
        let state = self.state.load(Ordering::Relaxed);
        if bits_of(state) & FINISHED != 0 {
            // Since `retire` everybody has been leaving the word alone.
            self.state.swap(freed(state), Ordering::AcqRel);
            return (generation_of(state), FINISHED);
        }
        let gone = u64::from(QUEUED | WOKEN);
        // Acquire: sees what the signallers did. Release: whoever links the block from now on
        // writes `inbox_next` after we have read it.
        let state = self.state.fetch_and(!gone, Ordering::AcqRel);
        (generation_of(state), bits_of(state) & SENT)
    }
}

/// How many workers can exist at a time: `Source` keeps a bit for each.
pub(crate) const MAX_WORKERS: usize = 256;

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const RUNG: u32 = 2;

/// The place where a worker is reached. Lives for ever, in [`crate::registry`]; the next worker
/// with its index takes it over as it is.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// The newest block; each points to the next older one. Beside `state`, because who writes
    /// the one writes the other.
    inbox: AtomicPtr<Signals>,
    state: AtomicU32,
    index: u32,
    doorbell: Doorbell,
    epoll: OnceLock<OwnedFd>,
}

impl Mailbox {
    pub(crate) fn new(index: usize, doorbell: Doorbell) -> Mailbox {
        assert!(index < MAX_WORKERS);
        Mailbox {
            inbox: AtomicPtr::new(ptr::null_mut()),
            state: AtomicU32::new(AWAKE),
            index: index as u32,
            doorbell,
            epoll: OnceLock::new(),
        }
    }

    /// The worker's number, below [`MAX_WORKERS`].
    pub(crate) fn index(&self) -> usize {
        self.index as usize
    }

    /// For the driver to watch. It may ring without mail: a late thread rang for the last sleep.
    pub(crate) fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// The index's epoll, if a worker with it ever used one.
    pub(crate) fn epoll(&self) -> Option<&OwnedFd> {
        self.epoll.get()
    }

    /// Owner: the index's epoll, made by `open` if this is the first time it is asked for.
    pub(crate) fn epoll_or_open(
        &self,
        open: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<&OwnedFd> {
        if self.epoll.get().is_none() {
            let opened = self.epoll.set(open()?);
            debug_assert!(opened.is_ok(), "a mailbox has one owner");
        }
        Ok(self.epoll.get().expect("set above"))
    }

    /// Links a block, then rings. From any thread.
    ///
    /// # Safety
    ///
    /// `signals` must lie in memory that is never freed, [`Signals::signal`] must just have
    /// answered `MustLink` to the caller, and this must be the mailbox of the block's worker.
    pub(crate) unsafe fn push(&self, signals: NonNull<Signals>) {
        // SAFETY: never freed, says the caller; shared access only.
        let block = unsafe { signals.as_ref() };
        // Release: for the drain's swap. It acquires from every push before the last, too, since
        // each exchange continues the release sequence of those under it.
        let _ = self.inbox.try_update(Ordering::Release, Ordering::Relaxed, |newest| {
            // Relaxed: the exchange publishes it.
            block.inbox_next.store(newest, Ordering::Relaxed);
            Some(signals.as_ptr())
        });
        self.ring();
    }

    /// Ends the owner's sleep, or keeps it from the next one if it is about to look for work:
    /// what the caller published before is seen after [`Mailbox::prepare_sleep`] or
    /// [`Mailbox::wake_up`]. From any thread.
    pub(crate) fn ring(&self) {
        // Release: publishes the caller's mail to the owner's next swap.
        if self.state.swap(RUNG, Ordering::Release) == ASLEEP {
            self.doorbell.ring();
        }
    }

    /// Whether there is mail. A look that may come too early, for a worker that is awake.
    pub(crate) fn has_mail(&self) -> bool {
        !self.inbox.load(Ordering::Relaxed).is_null()
    }

    /// Whether the owner sleeps and nobody has rung. Out of date as soon as it is known.
    pub(crate) fn is_asleep(&self) -> bool {
        self.state.load(Ordering::Acquire) == ASLEEP
    }

    /// Owner: announces a sleep. False if there is mail: then there is no sleep. After true, the
    /// owner may look at other things that are followed by a `ring`, must call
    /// [`Mailbox::wake_up`] whether or not it slept, and drains only then.
    #[must_use]
    pub(crate) fn prepare_sleep(&self) -> bool {
        // Acquire: the mail of all who swapped RUNG in before is seen below; nobody rings the
        // bell for it any more.
        self.state.swap(ASLEEP, Ordering::Acquire);
        let may_sleep = !self.has_mail();
        if !may_sleep {
            self.wake_up();
        }
        may_sleep
    }

    /// Owner: no bell is needed from here on.
    pub(crate) fn wake_up(&self) {
        // A store would not do; see the header. Acquire: the drain that follows sees what the
        // bell rang for, rather than the one after it.
        self.state.swap(AWAKE, Ordering::Acquire);
    }

    /// Owner: empties the inbox, oldest first.
    ///
    /// A worker that took over its index may find a block that its predecessor left behind:
    /// with `FINISHED` it is free, else it belongs to a coroutine that will never run again.
    pub(crate) fn drain(&self, mut deliver: impl FnMut(Delivery)) {
        // A miss here is harmless: who pushes rings afterwards.
        if !self.has_mail() {
            return;
        }
        // Acquire: the pushes' releases.
        let mut next = oldest_first(self.inbox.swap(ptr::null_mut(), Ordering::Acquire));
        while let Some(signals) = next {
            // SAFETY: `push` got it with the promise that it is never freed.
            let block = unsafe { signals.as_ref() };
            // Before the bits are taken: after that, any thread may link the block anew.
            next = NonNull::new(block.inbox_next.load(Ordering::Relaxed));
            let (generation, bits) = block.collect();
            deliver(Delivery { signals, generation, bits });
        }
    }
}

/// Turns the list round. All its blocks are QUEUED, so the links are ours.
fn oldest_first(newest: *mut Signals) -> Option<NonNull<Signals>> {
    let mut reversed = ptr::null_mut();
    let mut rest = newest;
    while let Some(signals) = NonNull::new(rest) {
        // SAFETY: `push` got it with the promise that it is never freed.
        let block = unsafe { signals.as_ref() };
        rest = block.inbox_next.load(Ordering::Relaxed);
        block.inbox_next.store(reversed, Ordering::Relaxed);
        reversed = signals.as_ptr();
    }
    NonNull::new(reversed)
}

fn word(generation: u32, bits: u32) -> u64 {
    u64::from(generation) << GENERATION_SHIFT | u64::from(bits)
}

fn generation_of(state: u64) -> u32 {
    (state >> GENERATION_SHIFT) as u32
}

fn bits_of(state: u64) -> u32 {
    state as u32
}

fn freed(state: u64) -> u64 {
    word(generation_of(state).wrapping_add(1), FINISHED)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn signals_hold_to_their_size() {
        assert_eq!(size_of::<Signals>(), 16);
    }

    #[test]
    fn a_free_block_cannot_be_signalled_even_with_its_own_generation() {
        let signals = Signals::new();
        assert_eq!(signals.signal(signals.generation(), WOKEN), Outcome::Stale);
        let generation = signals.occupy();
        signals.begin();
        assert_eq!(signals.retire(), Retired::Free);
        assert_ne!(signals.generation(), generation);
        assert_eq!(signals.signal(signals.generation(), CANCELLED), Outcome::Stale);
        signals.occupy();
        assert_eq!(signals.begin(), 0);
    }

    #[test]
    fn a_finished_block_that_is_still_linked_takes_no_signals() {
        let mailbox = Mailbox::new(0, Doorbell::new().unwrap());
        let signals: &'static Signals = Box::leak(Box::new(Signals::new()));
        let generation = signals.occupy();
        signals.begin();
        assert_eq!(signals.signal(generation, WOKEN), Outcome::MustLink);
        // SAFETY: leaked, and the answer was MustLink.
        unsafe { mailbox.push(NonNull::from(signals)) };
        assert_eq!(signals.retire(), Retired::StillLinked);
        assert_eq!(signals.signal(generation, CANCELLED), Outcome::Stale);
        let mut delivered = Vec::new();
        mailbox.drain(|delivery| delivered.push((delivery.generation, delivery.bits)));
        assert_eq!(delivered, [(generation, FINISHED)]);
        assert_eq!(signals.occupy(), generation + 1);
    }

    #[test]
    fn mail_comes_in_the_order_it_was_sent() {
        let mailbox = Mailbox::new(0, Doorbell::new().unwrap());
        let blocks: &'static [Signals] = vec_of_running_blocks(5).leak();
        for block in blocks {
            assert_eq!(block.signal(0, UNPARKED), Outcome::MustLink);
            // SAFETY: leaked, and the answer was MustLink.
            unsafe { mailbox.push(NonNull::from(block)) };
        }
        let mut delivered = Vec::new();
        mailbox.drain(|delivery| delivered.push(delivery.signals.as_ptr().cast_const()));
        let sent: Vec<*const Signals> = blocks.iter().map(ptr::from_ref).collect();
        assert_eq!(delivered, sent);
        assert!(!mailbox.has_mail());
    }

    #[test]
    fn only_a_sleeper_is_rung_and_only_once() {
        let mailbox = Mailbox::new(0, Doorbell::new().unwrap());
        mailbox.ring();
        assert!(!mailbox.doorbell().answer(), "awake");
        assert!(mailbox.prepare_sleep());
        mailbox.ring();
        assert!(mailbox.doorbell().answer());
        mailbox.ring();
        assert!(!mailbox.doorbell().answer(), "rung already");
        mailbox.wake_up();
    }

    fn vec_of_running_blocks(count: usize) -> Vec<Signals> {
        let blocks: Vec<Signals> = (0..count).map(|_| Signals::new()).collect();
        for block in &blocks {
            assert_eq!(block.occupy(), 0);
            block.begin();
        }
        blocks
    }
}
