//! The pool: every slot of a runtime that no worker has.
//!
//! One depot per size class, each under its own mutex, which workers take for a batch of slots at
//! a time. In a depot, **warm** slots may hold memory and **cold** ones hold none:
//!
//! ```text
//!    back from workers --> warm: oldest ... newest --> out to workers
//!                                  |                        ^
//!                               (trim)                      |
//!                                  v                        |
//!               new slabs -----> cold ---- if none is warm -+
//! ```
//!
//! Depots are recycled and never freed, so that a [`Reserved`] which outlives its pool finds a
//! lock to take and not freed memory. Closing a depot unmaps every slab whose slots are all idle.
//! A slab with a slot still out is leaked on purpose: somebody may have frames on it.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::advice::{self, Advice, RANGES_PER_CALL};
use super::guard::{self, GuardKind};
use super::size::{Geometry, SizeClass};
use super::slab::{FIRST_SLOTS, MAXIMUM_SLOTS, MapError, Mapping, Slab, SlabRef};
use super::{Place, Reserved, Stack};

/// All stacks of a runtime, shared by its workers.
#[derive(Debug)]
pub(crate) struct StackPool {
    depots: &'static Depots,
    default_class: SizeClass,
    guard: GuardKind,
    /// Caches that tick, and how often they did.
    caches: AtomicUsize,
    ticks: AtomicUsize,
}

/// What a pool has mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StackStats {
    pub(crate) slabs: usize,
    pub(crate) mapped_bytes: usize,
    pub(crate) mapped_slots: usize,
    /// Of these, guarded at the cost of two mappings each.
    pub(crate) protected_slots: usize,
    /// Not with any worker and not promised; the cold ones hold no memory.
    pub(crate) warm_slots: usize,
    pub(crate) cold_slots: usize,
}

/// What idle stacks still hold after a trim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Warm {
    /// No memory. Trimming is pointless until a stack is given.
    Nothing,
    /// What recent demand calls for; it will be forgotten tick by tick.
    Needed,
    /// More than that: the next batch can be emptied at once.
    Surplus,
}

impl StackStats {
    /// Slots that somebody runs on, was promised, or keeps in his cache.
    pub(crate) fn lent_slots(&self) -> usize {
        self.mapped_slots - self.warm_slots - self.cold_slots
    }
}

impl StackPool {
    /// A pool whose workers keep stacks of `default_bytes`, rounded as in [`StackPool::reserve`].
    pub(crate) fn new(default_bytes: usize) -> io::Result<StackPool> {
        StackPool::with_guards(default_bytes, guard::best())
    }

    /// The same, guarded in a way that need not be the best here.
    pub(super) fn with_guards(default_bytes: usize, guard: GuardKind) -> io::Result<StackPool> {
        Ok(StackPool {
            default_class: SizeClass::holding(default_bytes)?,
            depots: open_depots(),
            guard,
            caches: AtomicUsize::new(0),
            ticks: AtomicUsize::new(0),
        })
    }

    /// Promises a stack of at least `size_bytes` usable bytes, or of the default size. The only
    /// step that can fail; maps a slab when no slot is idle.
    ///
    /// The size is rounded up to the next of 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, … KiB. More
    /// than 1 GiB is an error of kind `InvalidInput`; a kernel that gives no more memory or
    /// mappings is one of kind `OutOfMemory`, which names the limit to raise.
    pub(crate) fn reserve(&self, size_bytes: Option<usize>) -> io::Result<Reserved> {
        let class = match size_bytes {
            None => self.default_class,
            Some(bytes) => SizeClass::holding(bytes)?,
        };
        let mut depot = lock(self.depot(class));
        depot.fill(self, class)?;
        let stack = depot.pop().expect("a depot that was just filled");
        Ok(Reserved::of_slot(stack))
    }

    pub(crate) fn stats(&self) -> StackStats {
        let mut stats = StackStats::default();
        for depot in self.depots {
            lock(depot).count(&mut stats);
        }
        stats
    }

    pub(super) fn default_class(&self) -> SizeClass {
        self.default_class
    }

    /// Adds up to `count` stacks of the default class to a worker's idle ones; at least one, or
    /// an error.
    pub(super) fn lend(&self, count: usize, idle: &mut Vec<Stack>) -> io::Result<()> {
        let mut depot = lock(self.depot(self.default_class));
        depot.fill(self, self.default_class)?;
        idle.extend(std::iter::from_fn(|| depot.pop()).take(count));
        Ok(())
    }

    /// Takes stacks of the default class back, the last given being the first to be lent again.
    pub(super) fn take_back(&self, stacks: impl Iterator<Item = Stack>) {
        let mut depot = lock(self.depot(self.default_class));
        stacks.for_each(|stack| depot.warm.push_back(self.id_of_own(&stack)));
    }

    /// Takes stacks of the default class back as the first to be emptied.
    pub(super) fn take_back_surplus(&self, stacks: impl Iterator<Item = Stack>) {
        let mut depot = lock(self.depot(self.default_class));
        stacks.for_each(|stack| depot.warm.push_front(self.id_of_own(&stack)));
    }

    /// Whether the stack is from this pool; a slot's number means something else in another.
    pub(super) fn owns(&self, stack: &Stack) -> bool {
        std::ptr::eq(stack.slab.slab().home, self.depot(stack.place.class()))
    }

    fn id_of_own(&self, stack: &Stack) -> SlotId {
        assert!(self.owns(stack), "a stack of another runtime");
        SlotId::of(stack)
    }

    pub(super) fn cache_opened(&self) {
        self.caches.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn cache_closed(&self) {
        self.caches.fetch_sub(1, Ordering::Relaxed);
    }

    /// One round of all caches is one tick of the depots' clock.
    pub(super) fn tick(&self) {
        let caches = self.caches.load(Ordering::Relaxed).max(1);
        let ticks = self.ticks.fetch_add(1, Ordering::Relaxed);
        if ticks.is_multiple_of(caches) {
            self.depots.iter().for_each(|depot| lock(depot).decay());
        }
    }

    /// Empties warm slots that recent demand does not call for: of each class at most one batch.
    pub(super) fn trim(&self) -> Warm {
        let warm = self.depots.iter().map(|depot| {
            // Whoever holds the lock will come by, too.
            let mut held = match depot.try_lock() {
                Ok(held) => held,
                // A panic under the lock leaves the depot whole; see `lock`.
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Warm::Needed,
            };
            let surplus = held.pop_surplus();
            if surplus.is_empty() {
                return held.warm();
            }
            let ranges: Vec<_> = surplus.iter().map(|&id| held.whole(id)).collect();
            drop(held);
            // SAFETY: the slots are idle and in nobody's list now. What is refused (for locked
            // memory) merely stays in memory.
            let _ = unsafe { advice::advise(&ranges, Advice::Empty) };
            let mut held = lock(depot);
            held.emptying -= surplus.len();
            held.cold.extend(surplus);
            held.warm()
        });
        warm.max().unwrap_or(Warm::Nothing)
    }

    fn depot(&self, class: SizeClass) -> &'static Mutex<Depot> {
        &self.depots[class.number() as usize]
    }
}

impl Drop for StackPool {
    fn drop(&mut self) {
        for depot in self.depots {
            lock(depot).close();
        }
        CLOSED.lock().unwrap_or_else(PoisonError::into_inner).push(self.depots);
    }
}

/// Takes a stack back to wherever it is from, on whichever thread.
pub(super) fn take_home(stack: Stack) {
    let Slab { home, generation, .. } = *stack.slab.slab();
    let mut depot = lock(home);
    if depot.generation == generation {
        depot.warm.push_back(SlotId::of(&stack));
    }
    // Else its pool is gone, and its slab was leaked for its sake.
}

type Depots = [Mutex<Depot>; SizeClass::COUNT];

/// Depots whose pool is gone, to be used by the next.
static CLOSED: Mutex<Vec<&'static Depots>> = Mutex::new(Vec::new());

fn open_depots() -> &'static Depots {
    let closed = CLOSED.lock().unwrap_or_else(PoisonError::into_inner).pop();
    closed.unwrap_or_else(|| Box::leak(Box::new(std::array::from_fn(|_| Mutex::default()))))
}

fn lock(depot: &Mutex<Depot>) -> MutexGuard<'_, Depot> {
    depot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The slots of one class.
#[derive(Debug, Default)]
pub(super) struct Depot {
    slabs: Vec<SlabRef>,
    mapped_slots: usize,
    warm: VecDeque<SlotId>,
    cold: Vec<SlotId>,
    /// Slots on their way from warm to cold.
    emptying: usize,
    /// Most slots lent at once, decaying towards the present number.
    peak_lent: usize,
    /// How often the depot was closed.
    generation: u32,
}

impl Depot {
    fn lent(&self) -> usize {
        self.mapped_slots - self.warm.len() - self.cold.len() - self.emptying
    }

    fn pop(&mut self) -> Option<Stack> {
        let id = self.warm.pop_back().or_else(|| self.cold.pop())?;
        self.peak_lent = self.peak_lent.max(self.lent());
        Some(id.stack(&self.slabs))
    }

    /// Sees to it that a slot is idle: maps a slab if none is.
    fn fill(&mut self, pool: &StackPool, class: SizeClass) -> io::Result<()> {
        if !self.warm.is_empty() || !self.cold.is_empty() {
            return Ok(());
        }
        let explain = |error: MapError| error.explain(class.bytes());
        let doubled = (self.mapped_slots + 1).next_power_of_two();
        let wanted = doubled.clamp(FIRST_SLOTS, MAXIMUM_SLOTS);
        let mapping = Mapping::new(wanted, Geometry::of(class), pool.guard).map_err(explain)?;
        // Room for every slot in either list now, so that giving one back cannot fail.
        let slots = self.mapped_slots + mapping.slots();
        let no_memory = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        self.slabs.try_reserve(1).map_err(no_memory)?;
        self.warm.try_reserve(slots).map_err(no_memory)?;
        self.cold.try_reserve(slots).map_err(no_memory)?;
        let number = self.slabs.len() as u32;
        // Reversed, so that the lowest slot is lent first.
        let ids = (0..mapping.slots() as u16).rev().map(|index| SlotId::new(number, index));
        self.cold.extend(ids);
        self.mapped_slots = slots;
        let home = pool.depot(class);
        self.slabs.push(SlabRef::new(Slab::new(mapping, number, home, self.generation)));
        Ok(())
    }

    /// An eighth of the way to the present number: half of it in five ticks.
    fn decay(&mut self) {
        let lent = self.lent();
        self.peak_lent = lent + (self.peak_lent.max(lent) - lent) * 7 / 8;
    }

    /// Warm slots beyond those that a return to the peak would need.
    fn surplus(&self) -> usize {
        let needed = self.peak_lent.saturating_sub(self.lent());
        self.warm.len().saturating_sub(needed)
    }

    /// Takes the oldest of them.
    fn pop_surplus(&mut self) -> Vec<SlotId> {
        let batch = self.surplus().min(RANGES_PER_CALL);
        self.emptying += batch;
        self.warm.drain(..batch).collect()
    }

    fn warm(&self) -> Warm {
        match (self.surplus(), self.warm.len()) {
            (_, 0) => Warm::Nothing,
            (0, _) => Warm::Needed,
            _ => Warm::Surplus,
        }
    }

    /// All of a slot that may hold memory.
    fn whole(&self, id: SlotId) -> libc::iovec {
        let stack = id.stack(&self.slabs);
        let bottom = stack.bottom();
        let end = stack.slab.slab().end(stack.place.index());
        libc::iovec { iov_base: bottom.cast(), iov_len: end.addr() - bottom.addr() }
    }

    fn count(&self, stats: &mut StackStats) {
        stats.mapped_slots += self.mapped_slots;
        stats.warm_slots += self.warm.len();
        stats.cold_slots += self.cold.len() + self.emptying;
        stats.slabs += self.slabs.len();
        for slab in self.slabs.iter().map(SlabRef::slab) {
            stats.mapped_bytes += slab.bytes();
            if slab.guard() == GuardKind::Protected {
                stats.protected_slots += slab.slots();
            }
        }
    }

    /// Unmaps what nobody holds, and forgets the rest.
    fn close(&mut self) {
        let mut idle = vec![0; self.slabs.len()];
        for id in self.warm.iter().chain(&self.cold) {
            idle[id.slab_number()] += 1;
        }
        for (slab, idle) in std::mem::take(&mut self.slabs).into_iter().zip(idle) {
            if slab.slab().slots() == idle {
                // SAFETY: all its slots are idle, and the depot has forgotten it.
                unsafe { slab.unmap() };
            }
        }
        *self = Depot { generation: self.generation + 1, ..Depot::default() };
    }
}

/// A slot of a depot in four bytes: the slab's number, and the slot's index in it.
#[derive(Clone, Copy, Debug)]
struct SlotId(u32);

impl SlotId {
    const INDEX_BITS: u32 = MAXIMUM_SLOTS.ilog2();

    fn new(slab_number: u32, index: u16) -> SlotId {
        SlotId(slab_number << SlotId::INDEX_BITS | u32::from(index))
    }

    fn of(stack: &Stack) -> SlotId {
        SlotId::new(stack.slab.slab().number, stack.place.index())
    }

    fn slab_number(self) -> usize {
        (self.0 >> SlotId::INDEX_BITS) as usize
    }

    fn stack(self, slabs: &[SlabRef]) -> Stack {
        let slab = slabs[self.slab_number()];
        let index = self.0 as u16 & (MAXIMUM_SLOTS - 1) as u16;
        Stack { slab, place: Place::new(index, slab.slab().class()) }
    }
}
