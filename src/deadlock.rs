//! Telling a deadlock: every coroutine waits for another, and nothing from outside will come.
//!
//! ```text
//!   worker: about to sleep, nothing pending that ends by itself (I/O, a timer, a pool job)
//!           |-> fell_silent: the last one to say so looks round
//!           |     all asleep, no pool job, coroutines live -> looks again in PATIENCE
//!           |     and nothing has run since then           -> looks at the other threads
//!           |     and they wait for somebody, too          -> report once: each worker prints its own
//!           `-> sleeps on; woke_up
//! ```
//!
//! A thread of the program's own may still wake somebody: one that sleeps, reads or computes will,
//! as likely as not, and then nothing is said. One that waits as we do, for another thread and for no
//! limited time, may do so too; so with such threads about the report says "possible". The program
//! goes on waiting, unless the builder asked for an abort: then other threads do not matter.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::clock::Nanos;
use crate::shared::Shared;
use crate::worker::Worker;
use crate::{blocking, dump};

/// How long nothing may happen before it is looked into.
const PATIENCE: Nanos = 100_000_000;

/// When to look again while another thread may be about to wake somebody.
const NEXT_LOOK: Nanos = 10_000_000_000;

/// How many workers sleep with nothing left that could wake them.
pub(crate) struct Silence {
    workers: AtomicUsize,
    /// How often a worker has come out of that.
    wakes: AtomicUsize,
    reported: AtomicBool,
    /// The switches of all workers at the last look, and when to look again if there are no more.
    switches: AtomicU64,
    look_at: AtomicU64,
    /// Threads blocked in `Runtime::run`; they wake nobody.
    callers: AtomicUsize,
    /// Threads that are publishing a coroutine.
    placing: AtomicUsize,
    abort: bool,
}

impl Silence {
    pub(crate) fn new(abort: bool) -> Silence {
        Silence {
            workers: AtomicUsize::new(0),
            wakes: AtomicUsize::new(0),
            reported: AtomicBool::new(false),
            switches: AtomicU64::new(0),
            look_at: AtomicU64::new(0),
            callers: AtomicUsize::new(0),
            placing: AtomicUsize::new(0),
            abort,
        }
    }

    /// A thread blocks until a coroutine is done, while `wait` runs.
    pub(crate) fn while_blocked<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.callers.fetch_add(1, Ordering::SeqCst);
        let result = wait();
        self.callers.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

/// A coroutine is being published, until this is dropped.
pub(crate) struct Placing<'a>(&'a Shared);

impl Drop for Placing<'_> {
    fn drop(&mut self) {
        self.0.silence.placing.fetch_sub(1, Ordering::SeqCst);
        // Whoever was the last to fall silent meanwhile has left it at that: let it look again.
        if self.0.silence.workers.load(Ordering::SeqCst) == self.0.seats.len() {
            self.0.seats[0].mailbox.ring();
        }
    }
}

impl Shared {
    pub(crate) fn while_placing(&self) -> Placing<'_> {
        self.silence.placing.fetch_add(1, Ordering::SeqCst);
        Placing(self)
    }

    /// A worker found nothing to do and nothing that could end by itself. If that holds for all
    /// of them while coroutines live, and for some time, those wait for each other: say so, once.
    /// Returns when to come again, if nothing happens.
    pub(crate) fn fell_silent(&self, now: Nanos) -> Option<Nanos> {
        let wakes = self.silence.wakes.load(Ordering::SeqCst);
        let silent = self.silence.workers.fetch_add(1, Ordering::SeqCst) + 1;
        if silent < self.seats.len() || self.is_empty() || blocking::is_busy() {
            return None;
        }
        // Looked at after the living were counted: one who is being placed is seen here, or is in
        // a queue, whose worker was rung.
        if self.silence.placing.load(Ordering::SeqCst) > 0 {
            return None;
        }
        // Ours too: another worker may have rung us before it fell silent itself.
        let all_sleep = self.seats.iter().all(|seat| seat.mailbox.is_asleep());
        // What was counted first may be over: then a worker was awake meanwhile, and looks itself.
        let all_slept = all_sleep && self.silence.wakes.load(Ordering::SeqCst) == wakes;
        if !all_slept || self.silence.reported.load(Ordering::SeqCst) {
            return None;
        }
        let look_at = self.patience_ends(now);
        if now < look_at {
            return Some(look_at);
        }
        if !self.silence.abort && !dump::others_wait() {
            self.silence.look_at.store(now + NEXT_LOOK, Ordering::Relaxed);
            return Some(now + NEXT_LOOK);
        }
        if !self.silence.reported.swap(true, Ordering::SeqCst) {
            self.report();
        }
        None
    }

    /// When a silence in which nobody has run is to be looked into.
    fn patience_ends(&self, now: Nanos) -> Nanos {
        let switches = self.seats.iter().map(|seat| seat.counters.switches.read()).sum();
        if self.silence.switches.swap(switches, Ordering::Relaxed) != switches {
            self.silence.look_at.store(now + PATIENCE, Ordering::Relaxed);
        }
        self.silence.look_at.load(Ordering::Relaxed)
    }

    #[cold]
    fn report(&self) {
        let ours = self.seats.len() + self.silence.callers.load(Ordering::SeqCst);
        let certain = blocking::counts().threads + ours >= dump::threads_of_process();
        eprintln!(
            "cosocket: {} coroutines wait for each other and nothing is left that could wake \
             them: {}",
            self.live(),
            if certain { "deadlock" } else { "possible deadlock (another thread still may)" },
        );
        for seat in &self.seats {
            seat.report.store(true, Ordering::SeqCst);
        }
        self.ring_all();
    }

    pub(crate) fn woke_up(&self) {
        self.silence.wakes.fetch_add(1, Ordering::SeqCst);
        self.silence.workers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether the worker is to print its part of the deadlock report.
    pub(crate) fn is_report_due(&self, index: usize) -> bool {
        self.seats[index].report.load(Ordering::SeqCst)
    }

    /// The worker has printed. Aborts after the last one, where the builder asked for it.
    pub(crate) fn reported(&self, index: usize) {
        self.seats[index].report.store(false, Ordering::SeqCst);
        let all = self.seats.iter().all(|seat| !seat.report.load(Ordering::SeqCst));
        if self.silence.abort && all {
            std::process::abort();
        }
    }
}

impl Worker {
    /// Prints what this worker's coroutines wait for: its part of the deadlock report.
    #[cold]
    pub(crate) fn report_waits(&self) {
        self.for_each_started(|block| {
            // SAFETY: started and not finished, and ours.
            let identity = unsafe { block.identity() };
            eprintln!(
                "cosocket:   {}, worker {}: waits for {}; spawned at {}",
                dump::Title::of(identity),
                self.index,
                block.reason(),
                identity.spawned_at,
            );
        });
        self.runtime.reported(self.index);
    }
}
