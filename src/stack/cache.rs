//! A worker's own idle stacks, of the default class: no locks, no atomics.
//!
//! ```text
//!              give |      ^ take, if there is one: and leaves the promised stack as a spare
//!                   v      |
//!    hot:    [ ... the last used ]
//!    spare:  [ promised and not needed, or new ] --> reserve, else from the hot ones
//! ```
//!
//! So a burst of coroutines which each end at once runs on one stack, however many were promised.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;

use super::advice::{self, Advice};
use super::size::{self, SizeClass};
use super::{Reserved, Stack, StackPool, Warm, pool};
use crate::arch;

/// At most this many idle stacks a worker: each may hold a page or more that no other can use.
const CAPACITY: usize = 128;
/// Stacks that go to or from the pool under one lock: few enough to leave some to the others,
/// many enough that the lock does not count.
const BATCH: usize = CAPACITY / 4;

/// The idle stacks of one worker.
#[derive(Debug)]
pub(crate) struct StackCache {
    pool: Arc<StackPool>,
    class: SizeClass,
    idle: RefCell<Idle>,
    /// Stacks that were taken and not given back, and the most there were, which decays.
    live: Cell<usize>,
    peak_live: Cell<usize>,
}

#[derive(Debug)]
struct Idle {
    /// The last one was used last.
    hot: Vec<Stack>,
    /// Not used for longer, or never.
    spare: Vec<Stack>,
}

impl StackCache {
    pub(crate) fn new(pool: Arc<StackPool>) -> StackCache {
        pool.cache_opened();
        StackCache {
            class: pool.default_class(),
            pool,
            idle: RefCell::new(Idle {
                hot: Vec::with_capacity(CAPACITY),
                spare: Vec::with_capacity(CAPACITY),
            }),
            live: Cell::new(0),
            peak_live: Cell::new(0),
        }
    }

    /// As [`StackPool::reserve`], from this worker's idle stacks where it can.
    pub(crate) fn reserve(&self, size_bytes: Option<usize>) -> io::Result<Reserved> {
        if let Some(bytes) = size_bytes
            && SizeClass::holding(bytes)? != self.class
        {
            return self.pool.reserve(size_bytes);
        }
        let mut idle = self.idle.borrow_mut();
        let Idle { hot, spare } = &mut *idle;
        match spare.pop().or_else(|| hot.pop()) {
            Some(stack) => Ok(Reserved::of_slot(stack)),
            None => self.borrow_batch(spare),
        }
    }

    #[cold]
    fn borrow_batch(&self, spare: &mut Vec<Stack>) -> io::Result<Reserved> {
        self.pool.lend(BATCH, spare)?;
        Ok(Reserved::of_slot(spare.pop().expect("the pool lends one or fails")))
    }

    /// The promised stack, or rather the hottest of its size that is idle here. The promise is
    /// one of this cache's pool.
    pub(crate) fn take(&self, reserved: Reserved) -> Stack {
        let promised = reserved.into_slot();
        if promised.place.class() != self.class {
            return promised;
        }
        debug_assert!(self.pool.owns(&promised), "promised by another runtime");
        self.live.set(self.live.get() + 1);
        let mut idle = self.idle.borrow_mut();
        match idle.hot.pop() {
            Some(hottest) => {
                idle.spare.push(promised);
                hottest
            }
            None => promised,
        }
    }

    /// Has the processor fetch the first lines of the stack that [`StackCache::take`] would give out
    /// for this promise, where it is a used one that has gone cold.
    pub(crate) fn fetch_ahead(&self, promised: &Stack) {
        /// What a coroutine writes to before it is in the user's code.
        const LINES: usize = 6;
        if self.idle.borrow().hot.is_empty() {
            let top = promised.top();
            for line in 1..=LINES {
                arch::prefetch(top.wrapping_sub(line * arch::LINE_BYTES).cast());
            }
        }
    }

    /// Ends the use of a stack that was taken here. Nobody may run on it again.
    pub(crate) fn give(&self, stack: Stack) {
        if stack.place.class() != self.class {
            return pool::take_home(stack);
        }
        let live = self.live.get();
        // The peak matters only where it is followed by a fall.
        if live > self.peak_live.get() {
            self.peak_live.set(live);
        }
        self.live.set(live.saturating_sub(1));
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= CAPACITY {
            self.pool.take_back(idle.drain_coldest(BATCH));
        }
        idle.hot.push(stack);
    }

    #[cfg(test)]
    /// Stacks that are idle here.
    pub(crate) fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// The clock by which demand is forgotten, half of it in five ticks. To be called about once
    /// a second, and followed by [`StackCache::trim`].
    pub(crate) fn tick(&self) {
        let live = self.live.get();
        let peak = self.peak_live.get().max(live);
        self.peak_live.set(live + (peak - live) * 7 / 8);
        self.pool.tick();
    }

    /// Gives memory back that recent demand does not call for: idle stacks beyond the peak go to
    /// the pool and are emptied there, up to a thousand a call, which takes some 0.2 ms; those
    /// that stay keep their highest page. Says whether another call is worth while at once, or
    /// after a tick, or not until a stack was given.
    pub(crate) fn trim(&self) -> Warm {
        let mut idle = self.idle.borrow_mut();
        let needed = self.peak_live.get().saturating_sub(self.live.get());
        let surplus = idle.len().saturating_sub(needed);
        if surplus > 0 {
            self.pool.take_back_surplus(idle.drain_coldest(surplus));
        }
        let below_top_page: Vec<_> = idle.hot.iter().filter_map(below_top_page).collect();
        // SAFETY: nobody runs on idle stacks. What is refused stays in memory, no more.
        let _ = unsafe { advice::advise(&below_top_page, Advice::Empty) };
        let own = if idle.len() > 0 { Warm::Needed } else { Warm::Nothing };
        own.max(self.pool.trim())
    }
}

impl Drop for StackCache {
    fn drop(&mut self) {
        let idle = self.idle.get_mut();
        self.pool.take_back(idle.drain_coldest(idle.len()));
        self.pool.cache_closed();
    }
}

impl Idle {
    fn len(&self) -> usize {
        self.hot.len() + self.spare.len()
    }

    fn drain_coldest(&mut self, count: usize) -> impl Iterator<Item = Stack> {
        let spares = count.min(self.spare.len());
        self.spare.drain(..spares).chain(self.hot.drain(..count - spares))
    }
}

/// What is seldom used of a stack: all but the page that every coroutine touches.
fn below_top_page(stack: &Stack) -> Option<libc::iovec> {
    let bottom = stack.bottom();
    let iov_len =
        stack.slab.slab().end(stack.place.index()).addr() - size::page_bytes() - bottom.addr();
    (iov_len > 0).then_some(libc::iovec { iov_base: bottom.cast(), iov_len })
}
