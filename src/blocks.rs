//! Type-stable memory for control blocks: slabs that are never freed, and the vacant ones.
//!
//! A late waker, an old timer event or a forgotten handle may hold the address of a block whose
//! coroutine is long over. That is why the memory stays: the generation in the block's signals
//! tells such callers that they are late.

use std::cell::Cell;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use crate::coroutine::Coroutine;

/// 1024 blocks of 192 bytes: 192 KiB a slab.
const SLAB_BLOCKS: usize = 1024;
/// How many vacant blocks move between a worker and the process at a time.
const BATCH: usize = 64;

struct Store {
    slabs: Vec<&'static [Coroutine]>,
    vacant: Vec<&'static Coroutine>,
}

static STORE: Mutex<Store> = Mutex::new(Store { slabs: Vec::new(), vacant: Vec::new() });

impl Store {
    fn take(&mut self) -> &'static Coroutine {
        if self.vacant.is_empty() {
            let slab: Box<[Coroutine]> = (0..SLAB_BLOCKS).map(|_| Coroutine::vacant()).collect();
            let slab: &'static [Coroutine] = Box::leak(slab);
            self.slabs.push(slab);
            self.vacant.extend(slab.iter().rev());
        }
        self.vacant.pop().expect("a slab was just added")
    }
}

fn with_store<T>(f: impl FnOnce(&mut Store) -> T) -> T {
    f(&mut STORE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A vacant block, for a thread that is no worker.
pub(crate) fn take() -> &'static Coroutine {
    with_store(Store::take)
}

/// Calls `f` with every block there is, vacant ones too. For shutdown and dumps: the caller must
/// touch only what is atomic, or what is its own (`home` tells).
pub(crate) fn for_each(mut f: impl FnMut(&'static Coroutine)) {
    let slabs = with_store(|store| store.slabs.clone());
    slabs.into_iter().flatten().for_each(&mut f);
}

/// A worker's own vacant blocks: the last one used, and warmest, comes first.
pub(crate) struct BlockCache {
    head: Cell<*const Coroutine>,
    len: Cell<usize>,
}

impl BlockCache {
    pub(crate) const fn new() -> BlockCache {
        BlockCache { head: Cell::new(ptr::null()), len: Cell::new(0) }
    }

    pub(crate) fn take(&self) -> &'static Coroutine {
        if self.len.get() == 0 {
            with_store(|store| (0..BATCH).for_each(|_| self.push(store.take())));
        }
        self.pop()
    }

    pub(crate) fn give(&self, block: &'static Coroutine) {
        self.push(block);
        if self.len.get() >= 4 * BATCH {
            with_store(|store| (0..2 * BATCH).for_each(|_| store.vacant.push(self.pop())));
        }
    }

    fn push(&self, block: &'static Coroutine) {
        block.next.set(self.head.replace(block));
        self.len.set(self.len.get() + 1);
    }

    fn pop(&self) -> &'static Coroutine {
        // SAFETY: blocks are never freed; callers pop only what `len` says is there.
        let block = unsafe { &*self.head.get() };
        self.head.set(block.next.get());
        self.len.set(self.len.get() - 1);
        block
    }
}

impl Drop for BlockCache {
    fn drop(&mut self) {
        with_store(|store| (0..self.len.get()).for_each(|_| store.vacant.push(self.pop())));
    }
}
