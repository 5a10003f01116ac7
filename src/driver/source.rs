//! A descriptor that waits, or waited, under epoll.
//!
//! Sources are type-stable: they come from a pool that never frees, because epoll hands their
//! address back with every event, and an event may be in a worker's hands when the descriptor is
//! closed. So the address comes with the source's generation, and an event of another generation
//! is ignored. If the source is released between that check and the event's effect, its next
//! descriptor is told it is ready: one attempt in vain, one wake that was only a hint.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

use super::op::Direction;
use super::readiness::Readiness;
use super::watch::Arms;
use crate::atomics::{AtomicU32, AtomicU64, Ordering};
use crate::mailbox::MAX_WORKERS;
use crate::registry;

const CHUNK: usize = 64;
const ADDRESS_BITS: u32 = 48;

static FREE: Mutex<Vec<&'static Source>> = Mutex::new(Vec::new());

/// One cache line: both directions, which workers' epolls know the descriptor, and who else
/// wants to hear of it.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Source {
    pub(crate) read: Readiness,
    pub(crate) write: Readiness,
    /// One bit per worker index. A bit is set by its worker; all are read by `release` alone,
    /// when nobody uses the descriptor any more, so nothing needs ordering.
    registered: [AtomicU64; MAX_WORKERS / 64],
    pub(super) arms: Arms,
    /// The low 16 bits count, as many as fit beside an address.
    generation: AtomicU32,
}

impl Source {
    #[inline]
    pub(crate) fn half(&self, direction: Direction) -> &Readiness {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    /// A source for a descriptor that no worker has registered yet.
    pub(crate) fn take() -> &'static Source {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.is_empty() {
            let chunk: Vec<Source> = (0..CHUNK).map(|_| Source::new()).collect();
            free.extend(chunk.leak().iter());
        }
        free.pop().expect("filled above")
    }

    /// Removes the descriptor from every epoll that knows it, and frees the source. Before `fd`
    /// is closed, because a duplicate of it (a clone, a forked child's) would keep the
    /// registrations, and them only the closed number could name. Nobody waits any more.
    ///
    /// Errors are ignored: if somebody closed the number behind our back, the kernel has removed
    /// it already, or it cannot be removed.
    pub(crate) fn release(&'static self, fd: RawFd) {
        self.forget(fd);
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    fn forget(&self, fd: RawFd) {
        for (position, bits) in self.registered.iter().enumerate() {
            let mut bits = bits.swap(0, Ordering::Relaxed);
            while bits != 0 {
                remove(position * 64 + bits.trailing_zeros() as usize, fd);
                bits &= bits - 1;
            }
        }
        // Release: an event that finds this generation comes after the removal, not before.
        self.generation.fetch_add(1, Ordering::Release);
        self.read.reset();
        self.write.reset();
    }

    /// Whether this worker's epoll knows the descriptor.
    pub(crate) fn is_registered(&self, worker: usize) -> bool {
        self.registered[worker / 64].load(Ordering::Relaxed) & 1 << (worker % 64) != 0
    }

    pub(super) fn set_registered(&self, worker: usize) {
        self.registered[worker / 64].fetch_or(1 << (worker % 64), Ordering::Relaxed);
    }

    /// Address and generation, for epoll to hand back. Never 0.
    pub(super) fn token(&'static self) -> u64 {
        let address = (&raw const *self).expose_provenance() as u64;
        debug_assert_eq!(address >> ADDRESS_BITS, 0);
        u64::from(self.generation.load(Ordering::Acquire)) << ADDRESS_BITS | address
    }

    /// The source of a token, if it still is of that generation.
    ///
    /// # Safety
    ///
    /// The token must come from [`Source::token`].
    pub(super) unsafe fn of(token: u64) -> Option<&'static Source> {
        let address = (token & !(!0 << ADDRESS_BITS)) as usize;
        // SAFETY: `token` exposed the address of a source, and sources live for ever.
        let source = unsafe { &*std::ptr::with_exposed_provenance::<Source>(address) };
        (source.token() == token).then_some(source)
    }

    fn new() -> Source {
        Source {
            read: Readiness::new(),
            write: Readiness::new(),
            registered: [const { AtomicU64::new(0) }; MAX_WORKERS / 64],
            arms: Arms::new(),
            generation: AtomicU32::new(0),
        }
    }
}

fn remove(worker: usize, fd: RawFd) {
    if registry::is_inherited(worker) {
        // A forked child closes its copy of the descriptor. The epoll is its parent's, who may be
        // waiting for this very socket.
        return;
    }
    let epoll = registry::mailbox(worker).and_then(|mailbox| mailbox.epoll());
    let epoll = epoll.expect("a registered worker has an epoll");
    // SAFETY: no pointers are passed; both are plain numbers to the kernel.
    unsafe {
        libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::super::readiness::Edge;
    use super::*;

    #[test]
    fn a_source_fills_one_cache_line() {
        assert_eq!(size_of::<Source>(), 64);
    }

    #[test]
    fn the_token_of_a_released_source_is_stale() {
        let source = Source::take();
        let token = source.token();
        // SAFETY: from `token`.
        assert!(unsafe { Source::of(token) }.is_some_and(|found| std::ptr::eq(found, source)));
        source.release(-1);
        // SAFETY: from `token`.
        assert!(unsafe { Source::of(token) }.is_none());
    }

    #[test]
    fn the_next_descriptor_starts_as_unknown() {
        let source = Source::take();
        assert!(source.read.park(source.read.snapshot(), std::ptr::without_provenance(64)));
        source.read.event(Edge::Closed);
        assert!(source.write.park(source.write.snapshot(), std::ptr::without_provenance(64)));
        assert!(source.write.unpark(std::ptr::without_provenance(64)));
        // Kept: given back, it would be the next one's that another test takes.
        source.forget(-1);
        for direction in [&source.read, &source.write] {
            let snapshot = direction.snapshot();
            assert!(snapshot.is_ready() && !snapshot.is_closed());
        }
        source.release(-1);
    }

    #[test]
    fn every_worker_has_its_bit() {
        let source = Source::new();
        for worker in [0, 63, 64, 255] {
            assert!(!source.is_registered(worker));
            source.set_registered(worker);
            assert!(source.is_registered(worker));
        }
        assert!(!source.is_registered(65));
    }
}
