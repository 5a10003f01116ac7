//! The ring itself: a thin facade over the `io-uring` crate.
//!
//! The crate maps the queues and builds the entries. The system calls are made here, because an
//! `enter` through a registered ring descriptor needs its index, which the crate keeps to itself,
//! and because each call is counted.
//!
//! Every call is for the thread that opened the ring.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::squeue::Entry;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Parameters, Probe, cqueue};

use crate::clock::Nanos;

const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// The optional set-up flags; CLAMP and CQSIZE are always asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    /// NO_SQARRAY (Linux 6.6): one indirection less per entry.
    pub(super) no_sqarray: bool,
    /// SINGLE_ISSUER and DEFER_TASKRUN (6.1): completions run inside our own `enter`.
    pub(super) defer_taskrun: bool,
    /// COOP_TASKRUN and TASKRUN_FLAG (5.19): no interrupt for a completion, a flag instead.
    pub(super) coop_taskrun: bool,
    /// SUBMIT_ALL (5.18): a bad entry does not end its batch.
    pub(super) submit_all: bool,
}

/// What to ask for, in the order of falling back where the kernel answers `EINVAL`.
pub(super) const LADDER: [Setup; 5] = {
    let all = Setup { no_sqarray: true, defer_taskrun: true, coop_taskrun: true, submit_all: true };
    let sqarray = Setup { no_sqarray: false, ..all };
    let cooperative = Setup { defer_taskrun: false, ..sqarray };
    let interrupting = Setup { coop_taskrun: false, ..cooperative };
    let plain = Setup { submit_all: false, ..interrupting };
    [all, sqarray, cooperative, interrupting, plain]
};

/// When a waiting `enter` gives up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timeout {
    /// At a time of `CLOCK_MONOTONIC`.
    At(Nanos),
    /// So many nanoseconds after the kernel has read its clock.
    After(Nanos),
}

/// How many completions are copied out of the queue at a time: 1 KiB of stack.
pub(super) const BATCH: usize = 64;

/// Room for a batch of completions.
pub(super) type Room = [MaybeUninit<cqueue::Entry>; BATCH];

pub(super) struct Ring {
    ring: IoUring,
    /// Index of the registered ring descriptor, which spares every `enter` a look-up.
    pub(super) registered: Option<u32>,
    system_calls: Cell<u64>,
    submitted: Cell<u64>,
}

impl Ring {
    /// Makes a ring, or tells the errno of the kernel.
    pub(super) fn open(setup: Setup, entries: u32, completions: u32) -> Result<Ring, i32> {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(completions).dontfork();
        if setup.no_sqarray {
            builder.setup_no_sqarray();
        }
        if setup.defer_taskrun {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        if setup.coop_taskrun {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        if setup.submit_all {
            builder.setup_submit_all();
        }
        let ring = builder.build(entries).map_err(errno)?;
        let mut ring =
            Ring { ring, registered: None, system_calls: Cell::new(0), submitted: Cell::new(0) };
        ring.registered = ring.register_descriptor();
        Ok(ring)
    }

    pub(super) fn parameters(&self) -> &Parameters {
        self.ring.params()
    }

    /// Asks the kernel which operations it knows.
    pub(super) fn probe(&self) -> Result<Probe, i32> {
        let mut probe = Probe::new();
        self.ring.submitter().register_probe(&mut probe).map_err(errno)?;
        Ok(probe)
    }

    /// Stages an entry; `false` when the submission queue is full.
    ///
    /// # Safety
    ///
    /// All that the entry points to stays valid until its terminal completion.
    #[inline]
    pub(super) unsafe fn push(&self, entry: &Entry) -> bool {
        // SAFETY: no other view of the submission queue is alive: each ends in its statement.
        // The caller vouches for the entry.
        unsafe { self.ring.submission_shared().push(entry).is_ok() }
    }

    /// Entries staged and not yet taken by the kernel.
    pub(super) fn staged(&self) -> u32 {
        // SAFETY: as in `push`.
        unsafe { self.ring.submission_shared().len() as u32 }
    }

    /// Whether the kernel holds completions back until the next `enter`.
    pub(super) fn holds_completions(&self) -> bool {
        // SAFETY: as in `push`.
        let queue = unsafe { self.ring.submission_shared() };
        queue.taskrun() || queue.cq_overflow()
    }

    /// Whether completions wait in the kernel for room in the completion queue, and for an
    /// `enter` after it has been made.
    pub(super) fn has_overflowed(&self) -> bool {
        // SAFETY: as in `push`.
        unsafe { self.ring.submission_shared().cq_overflow() }
    }

    /// Completions lost for good: the queue was full and there was no memory to keep them aside.
    pub(super) fn lost_completions(&self) -> u32 {
        // SAFETY: as in `take`.
        unsafe { self.ring.completion_shared().overflow() }
    }

    /// Takes the oldest completions, as many as there is room for. The head is given back at once,
    /// so that the kernel has the room, and so that a callback may use the ring.
    #[inline]
    pub(super) fn take<'a>(&self, room: &'a mut Room) -> &'a [cqueue::Entry] {
        // SAFETY: no other view of the completion queue is alive: each ends in its statement.
        unsafe { self.ring.completion_shared().fill(room) }
    }

    /// Takes the oldest completion alone.
    pub(super) fn pop(&self) -> Option<cqueue::Entry> {
        // SAFETY: as in `take`.
        unsafe { self.ring.completion_shared().next() }
    }

    /// Submits what is staged, runs deferred completions, and sleeps until `minimum`
    /// completions are there. Tells how many entries the kernel took; when those are fewer than
    /// were staged, it did not sleep.
    pub(super) fn enter(&self, minimum: u32, timeout: Option<Timeout>) -> Result<u32, i32> {
        self.enter_with(self.staged(), minimum, timeout)
    }

    /// As `enter`, but neither submits nor sleeps.
    pub(super) fn run_deferred_work(&self) -> Result<u32, i32> {
        self.enter_with(0, 0, None)
    }

    fn enter_with(&self, staged: u32, minimum: u32, timeout: Option<Timeout>) -> Result<u32, i32> {
        self.count_call();
        let mut flags = EnterFlags::GETEVENTS;
        let time;
        let mut arguments = SubmitArgs::new();
        if let Some(timeout) = timeout {
            flags |= EnterFlags::EXT_ARG;
            time = match timeout {
                Timeout::At(time) => {
                    flags |= EnterFlags::ABS_TIMER;
                    timespec(time)
                }
                Timeout::After(time) => timespec(time),
            };
            arguments = arguments.timespec(&time);
        }
        let ring = match self.registered {
            Some(index) => {
                flags |= EnterFlags::REGISTERED_RING;
                index as RawFd
            }
            None => self.ring.as_raw_fd(),
        };
        let (argument, size) = match timeout {
            Some(_) => (&raw const arguments, size_of_val(&arguments)),
            None => (std::ptr::null(), 0),
        };
        // SAFETY: `argument` is null or points to the arguments (and through them to the time)
        // that EXT_ARG announces, and both outlive the call. The entries were vouched for when
        // they were pushed.
        let result = unsafe {
            let call = libc::SYS_io_uring_enter;
            libc::syscall(call, ring, staged, minimum, flags.bits(), argument, size)
        };
        if result < 0 {
            return Err(errno(io::Error::last_os_error()));
        }
        self.submitted.set(self.submitted.get() + result as u64);
        Ok(result as u32)
    }

    /// System calls made through this ring, and counted by [`count_call`](Ring::count_call).
    pub(super) fn system_calls(&self) -> u64 {
        self.system_calls.get()
    }

    pub(super) fn count_call(&self) {
        self.system_calls.set(self.system_calls.get() + 1);
    }

    #[cfg(test)]
    /// Entries the kernel has taken.
    pub(super) fn submitted(&self) -> u64 {
        self.submitted.get()
    }

    /// In a forked child the queues are not mapped and the ring is the parent's: closes the
    /// inherited descriptor, after which the ring must not be used or dropped.
    pub(super) fn disown(&self) {
        // SAFETY: the descriptor is this process's own copy; the caller forgets it.
        unsafe { libc::close(self.ring.as_raw_fd()) };
    }

    fn register_descriptor(&self) -> Option<u32> {
        // No slot left (a thread has 16), or a kernel that refuses: the descriptor itself works.
        self.update_descriptor(REGISTER_RING_FDS, u32::MAX, self.ring.as_raw_fd() as u64).ok()
    }

    /// Registers or unregisters a ring descriptor for this thread; tells its index.
    fn update_descriptor(&self, code: u32, index: u32, descriptor: u64) -> Result<u32, i32> {
        #[repr(C)]
        struct Update {
            index: u32,
            reserved: u32,
            descriptor: u64,
        }
        self.count_call();
        let mut update = Update { index, reserved: 0, descriptor };
        let ring = self.ring.as_raw_fd();
        // SAFETY: `update` is the one `io_uring_rsrc_update` that the call may read and write.
        let result = unsafe {
            let call = libc::SYS_io_uring_register;
            libc::syscall(call, ring, code, &raw mut update, 1)
        };
        match result {
            1 => Ok(update.index),
            _ => Err(errno(io::Error::last_os_error())),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if let Some(index) = self.registered {
            // The registration holds the ring open until the thread ends.
            let _ = self.update_descriptor(UNREGISTER_RING_FDS, index, 0);
        }
    }
}

fn timespec(time: Nanos) -> Timespec {
    const SECOND: Nanos = 1_000_000_000;
    Timespec::new().sec(time / SECOND).nsec((time % SECOND) as u32)
}

fn errno(error: io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
