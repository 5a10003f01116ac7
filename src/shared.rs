//! What the workers of a runtime share, and where new coroutines are placed.
//!
//! ```text
//!   spawn --> another worker has far fewer --------------------> its inbox
//!         --> nobody unstarted waits here ---------------------> here
//!         --> else, for it may compute for long: the surplus --> whoever has time, unless that
//!                                                                one has far more than another
//! ```
//!
//! A coroutine that has started never moves, so its place decides for its life: live coroutines
//! are what is kept level.

use std::collections::VecDeque;
use std::io;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use crate::census::{self, Census};
use crate::coroutine::{Coroutine, Kept, Outcome, Packet, Spawned};
use crate::cosocket::{Connection, Names, pool::Pools};
use crate::deadlock::Silence;
use crate::mailbox::Mailbox;
use crate::metrics::Counters;
use crate::shutdown::{Desk, RollCall};
use crate::stack::StackPool;
use crate::wait::WaitSlot;
use crate::worker::Worker;
use crate::{blocks, current, ids, registry};

/// A worker whose live coroutines exceed another's by this many and by an eighth gives new ones
/// away. The margin keeps a handful of short-lived coroutines where their data is warm; the
/// eighth keeps thousands of long-lived ones level.
const PLACEMENT_MARGIN: usize = 4;

/// What the workers and handles of one runtime share.
pub(crate) struct Shared {
    pub(crate) seats: Box<[Seat]>,
    pub(crate) stacks: Arc<StackPool>,
    /// Unstarted closures that any worker may take.
    surplus: Mutex<VecDeque<Unstarted>>,
    surplus_len: AtomicUsize,
    stopping: AtomicBool,
    /// Who waits for a runtime that stops to be empty.
    pub(crate) drained: WaitSlot,
    pub(crate) roll_call: RollCall,
    pub(crate) silence: Silence,
    pub(crate) measures_stacks: bool,
    /// Who looks names up, if the runtime was told.
    pub(crate) names: Option<Names>,
    pub(crate) pools: Arc<Pools<Connection>>,
}

/// What others may know of a worker.
pub(crate) struct Seat {
    pub(crate) mailbox: &'static Mailbox,
    pub(crate) counters: Arc<Counters>,
    census: Census,
    /// It is to print its part of the deadlock report.
    pub(crate) report: AtomicBool,
    pub(crate) desk: Desk,
}

struct Unstarted(&'static Coroutine);

impl Shared {
    pub(crate) fn new(
        seats: Box<[Seat]>,
        stacks: StackPool,
        measures_stacks: bool,
        silence: Silence,
    ) -> Shared {
        let pools = Pools::new(seats.len());
        Shared {
            seats,
            pools,
            stacks: Arc::new(stacks),
            surplus: Mutex::new(VecDeque::new()),
            surplus_len: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            drained: WaitSlot::new(),
            roll_call: RollCall::new(),
            silence,
            measures_stacks,
            names: None,
        }
    }

    /// How many coroutines are spawned and not finished. Never too few: see [`crate::census`].
    pub(crate) fn live(&self) -> usize {
        let workers = self.seats.iter().map(|seat| &seat.census);
        census::live(workers, || self.surplus_len.load(Ordering::SeqCst))
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live() == 0
    }

    /// A coroutine of worker `index`, the caller's, is over.
    pub(crate) fn one_less(&self, index: usize) {
        self.seats[index].census.count_finished();
        if self.is_stopping() {
            // Of two workers whose last ones end now, one sees both counts. (One that does not see
            // yet that the runtime stops is rung for it, and looks again.)
            fence(Ordering::SeqCst);
            if self.is_empty() {
                self.tell_empty();
            }
        }
    }

    /// Wakes whoever waits for a runtime that stops to be empty, which it is.
    pub(crate) fn tell_empty(&self) {
        self.ring_all();
        self.drained.wake();
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.ring_all();
        self.pools.close();
    }

    pub(crate) fn ring_all(&self) {
        self.seats.iter().for_each(|seat| seat.mailbox.ring());
    }

    pub(crate) fn has_surplus(&self) -> bool {
        self.surplus_len.load(Ordering::SeqCst) != 0
    }

    /// An unstarted closure for a worker that has none of its own. One that has its share of
    /// coroutines passes on what it finds: else the first to wake would get all that only park.
    pub(crate) fn take_surplus(&self, worker: &Worker) -> Option<&'static Coroutine> {
        while self.has_surplus() {
            let mut surplus = self.surplus.lock().unwrap_or_else(PoisonError::into_inner);
            let Unstarted(block) = surplus.pop_front()?;
            // Counted there before it is no longer counted here.
            let other = self.much_lighter(worker.index);
            match other {
                Some(other) => self.seats[other].census.count_sent(),
                None => self.seats[worker.index].census.count_placed(),
            }
            self.surplus_len.store(surplus.len(), Ordering::SeqCst);
            drop(surplus);
            match other {
                Some(other) => self.send(other, block),
                None => {
                    block.home.store(worker.mailbox.index() as u32, Ordering::Release);
                    return Some(block);
                }
            }
        }
        None
    }

    /// Publishes a coroutine: here, on another worker, or for whoever has time.
    /// `worker` is the caller's, if it is of this runtime.
    fn place(&self, worker: Option<&Worker>, block: &'static Coroutine, place: Place) {
        if let Some(worker) = worker
            && (place == Place::Here || self.seats.len() == 1)
        {
            return self.place_here(worker, block);
        }
        // Soon it is counted, but until it is in a queue no worker can know of it.
        let _placing = self.while_placing();
        match (place, worker) {
            (Place::Worker(index), _) => self.place_on(index, block),
            (_, Some(worker)) => self.place_from(worker, block),
            (_, None) => self.place_on(self.lightest(0), block),
        }
    }

    fn place_from(&self, worker: &Worker, block: &'static Coroutine) {
        if let Some(other) = self.much_lighter(worker.index) {
            self.place_on(other, block);
        } else if worker.fresh.is_empty() {
            self.place_here(worker, block);
        } else {
            // One waits here already, and this coroutine may compute for long: let others help.
            let mut surplus = self.surplus.lock().unwrap_or_else(PoisonError::into_inner);
            surplus.push_back(Unstarted(block));
            self.surplus_len.store(surplus.len(), Ordering::SeqCst);
            drop(surplus);
            worker.wake_one_sleeper();
        }
    }

    fn place_here(&self, worker: &Worker, block: &'static Coroutine) {
        self.seats[worker.index].census.count_placed();
        block.home.store(worker.mailbox.index() as u32, Ordering::Release);
        worker.fresh.push(block);
    }

    fn place_on(&self, index: usize, block: &'static Coroutine) {
        self.seats[index].census.count_sent();
        self.send(index, block);
    }

    /// To a worker that already counts it.
    fn send(&self, index: usize, block: &'static Coroutine) {
        let seat = &self.seats[index];
        block.home.store(seat.mailbox.index() as u32, Ordering::Release);
        // SAFETY: never freed, and published to nobody else: an unstarted block is linked by whoever
        // places it, and by nobody who signals it.
        unsafe { seat.mailbox.push(ptr::NonNull::from(&block.signals)) };
    }

    /// How many coroutines were placed on a worker and are not finished.
    pub(crate) fn load(&self, index: usize) -> usize {
        self.seats[index].census.live()
    }

    /// The lightest worker, if `index` carries so much more that it is to get what is new.
    fn much_lighter(&self, index: usize) -> Option<usize> {
        let lightest = self.lightest(index);
        let there = self.load(lightest);
        (self.load(index) > there + PLACEMENT_MARGIN.max(there / 8)).then_some(lightest)
    }

    /// The worker with the fewest live coroutines; of equals, `start` or the next after it.
    fn lightest(&self, start: usize) -> usize {
        let count = self.seats.len();
        let order = (0..count).map(|step| (start + step) % count);
        order.min_by_key(|&index| self.load(index)).expect("a runtime has workers")
    }

    /// Spawns a closure. The lifetimes and `Send` are the caller's to vouch for.
    ///
    /// # Safety
    ///
    /// Whatever `closure` and `T` borrow must live until the coroutine is done; unless both are
    /// `Send`, `options.place` must be `Here` and the handle must not leave this thread.
    pub(crate) unsafe fn spawn<'a, F, T, K>(
        &self,
        options: Options,
        closure: F,
        kept: K,
    ) -> io::Result<Arc<dyn Outcome<T> + 'a>>
    where
        F: FnOnce() -> T + 'a,
        T: 'a,
        K: Kept + 'a,
    {
        let worker = current::worker().filter(|worker| ptr::eq(&*worker.runtime, self));
        // SAFETY: as the caller vouches.
        unsafe { self.spawn_from(worker, options, closure, kept) }
    }

    /// [`Shared::spawn`], where the caller's worker is known; `None` if it is not of this runtime.
    ///
    /// # Safety
    ///
    /// As there.
    pub(crate) unsafe fn spawn_from<'a, F, T, K>(
        &self,
        worker: Option<&Worker>,
        options: Options,
        closure: F,
        kept: K,
    ) -> io::Result<Arc<dyn Outcome<T> + 'a>>
    where
        F: FnOnce() -> T + 'a,
        T: 'a,
        K: Kept + 'a,
    {
        let reserved = match worker {
            Some(worker) => worker.reserve(options.stack_size)?,
            None => self.stacks.reserve(options.stack_size)?,
        };
        let block = worker.map_or_else(blocks::take, |worker| worker.blocks.take());
        let id = worker.map_or_else(ids::take, |worker| worker.ids.take());
        let packet = Packet::new(id, closure, kept, options.name, options.spawned_at, block);
        let packet = Arc::new(packet);
        let spawned: Arc<dyn Spawned + 'a> = packet.clone();
        // SAFETY: the caller keeps what is borrowed alive until the coroutine is done, and it
        // lets go of the packet's content before that.
        let spawned: Arc<dyn Spawned> = unsafe { std::mem::transmute(spawned) };
        // SAFETY: a block just taken is vacant.
        unsafe { block.furnish(spawned, reserved) };
        self.place(worker, block, options.place);
        Ok(packet)
    }
}

/// How to spawn.
pub(crate) struct Options {
    pub(crate) name: Option<Box<str>>,
    pub(crate) stack_size: Option<usize>,
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) place: Place,
}

/// Which worker is to start a new coroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Whichever is best.
    Anywhere,
    /// The one that runs the spawner.
    Here,
    /// The one with this index.
    Worker(usize),
}

impl Options {
    #[track_caller]
    pub(crate) fn new() -> Options {
        let spawned_at = Location::caller();
        Options { name: None, stack_size: None, spawned_at, place: Place::Anywhere }
    }
}

impl Seat {
    pub(crate) fn new() -> io::Result<Seat> {
        Ok(Seat {
            mailbox: registry::claim()?,
            counters: Arc::default(),
            census: Census::new(),
            report: AtomicBool::new(false),
            desk: Desk::new(),
        })
    }
}

impl Seat {
    /// Coroutines that have finished here.
    pub(crate) fn finished(&self) -> u64 {
        self.census.finished()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        registry::give_back(self.mailbox);
    }
}
