//! The control block of a coroutine, and its life from spawn to the last handle.
//!
//! ```text
//!   spawn                  a worker takes it          closure returned, panicked or unwound
//!   -----> Unstarted ------------------> Running ------------------------------> Finished
//!                                        |     ^                                  (block recycled,
//!                               suspend  |     | the loop or a sibling             stack returned)
//!                                        v     | switches to it
//!                                   Suspended --> Ready
//!                                        make_ready
//! ```
//!
//! Three pieces of memory, with three lives:
//!
//! * [`Coroutine`], the control block: saved registers, timer, operation slot, signals. It lies in
//!   slabs that are never freed, so a pointer to it can always be dereferenced; who comes late is
//!   told so by the generation in [`Signals`]. Apart from `signals` and `home` only the
//!   coroutine's worker touches it.
//! * the [`Stack`], returned to the worker's pool the moment the coroutine is off it.
//! * the [`Packet`], shared with the handles: identity, closure, then result.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::mem::{self, ManuallyDrop, offset_of};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::arch;
use crate::current;
use crate::driver::OpSlot;
use crate::limit::Limit;
use crate::local::Locals;
use crate::mailbox::Signals;
use crate::stack::{Reserved, Stack};
use crate::timer::Timer;
use crate::unwind::Cause;
use crate::wait::{Kind, Reason, WaitSlot};

/// Where in the picture above a coroutine is. Owner only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Unstarted,
    Ready,
    Running,
    Suspended,
    Finished,
}

/// The home of a block that no worker has.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// The control block; see the module's picture. What a switch touches comes first.
#[repr(C, align(64))]
pub(crate) struct Coroutine {
    pub(crate) context: UnsafeCell<arch::Context>,
    /// Link in the ready queue, the fresh queue or the free list: a coroutine is in one at most.
    pub(crate) next: Cell<*const Coroutine>,
    pub(crate) signals: Signals,
    pub(crate) stage: Cell<Stage>,
    /// Known to unwind: it was cancelled, or gave way in the middle of an unwind.
    pub(crate) unwinding: Cell<Option<Cause>>,
    reason_kind: Cell<Kind>,
    /// There are hooks around its switches, which its locals know.
    pub(crate) hooked: Cell<bool>,
    reason_fd: Cell<i32>,
    /// How many `shield` calls it is inside of: cancels are held back while not zero.
    pub(crate) shield: Cell<u16>,
    /// The park token, where this very worker left it; from elsewhere it comes by `signals`.
    pub(crate) unparked: Cell<bool>,
    /// Has panicked, and no wait has shown since that it does not unwind.
    pub(crate) panicked: Cell<bool>,
    /// The index of the worker it runs on, or `NOWHERE`. Written before the block is published
    /// or started.
    pub(crate) home: AtomicU32,
    /// What its last wait for a descriptor was about, and what it looks at first when it goes on:
    /// for the processor to fetch, and for nothing else. It may be gone.
    pub(crate) subject: Cell<*const ()>,
    /// Fires no later than the first of `limits`; stays armed from one to the next (see
    /// `Worker::arm`).
    pub(crate) timer: Timer,
    pub(crate) op: OpSlot,
    /// The innermost of what bounds its waits; they lie in its frames.
    pub(crate) limits: Cell<*const Limit>,
    packet: UnsafeCell<Option<Arc<dyn Spawned>>>,
    /// Its memory for frames. While it is unstarted, the promise of it: a [`Reserved`]'s slot.
    pub(crate) stack: UnsafeCell<Option<Stack>>,
    pub(crate) locals: Cell<*mut Locals>,
    #[cfg(cosocket_asan)]
    pub(crate) fake_stack: Cell<*mut libc::c_void>,
}

// SAFETY: shared across threads only as an address; fields other than `signals` and `home`, which
// are atomics, are touched by the owning worker alone, or by the spawner before publication.
unsafe impl Sync for Coroutine {}

impl Coroutine {
    /// So much of `subject` is fetched: a handle of a descriptor, which lies in two lines or three.
    pub(crate) const SUBJECT_BYTES: usize = 96;

    pub(crate) fn vacant() -> Coroutine {
        Coroutine {
            context: UnsafeCell::new(arch::Context::new()),
            next: Cell::new(ptr::null()),
            signals: Signals::new(),
            stage: Cell::new(Stage::Finished),
            unwinding: Cell::new(None),
            panicked: Cell::new(false),
            reason_kind: Cell::new(Kind::None),
            reason_fd: Cell::new(-1),
            shield: Cell::new(0),
            unparked: Cell::new(false),
            home: AtomicU32::new(NOWHERE),
            subject: Cell::new(ptr::null()),
            timer: Timer::new(),
            limits: Cell::new(ptr::null()),
            hooked: Cell::new(false),
            op: OpSlot::new(),
            packet: UnsafeCell::new(None),
            stack: UnsafeCell::new(None),
            locals: Cell::new(ptr::null_mut()),
            #[cfg(cosocket_asan)]
            fake_stack: Cell::new(ptr::null_mut()),
        }
    }

    /// Fills a vacant block for a coroutine about to be published.
    ///
    /// # Safety
    ///
    /// The caller owns the block: it is vacant and no worker knows it.
    pub(crate) unsafe fn furnish(&self, packet: Arc<dyn Spawned>, reserved: Reserved) {
        debug_assert_eq!(self.stage.get(), Stage::Finished);
        debug_assert!(self.locals.get().is_null(), "the last coroutine's locals");
        self.stage.set(Stage::Unstarted);
        self.unwinding.set(None);
        self.panicked.set(false);
        self.shield.set(0);
        self.unparked.set(false);
        debug_assert!(self.limits.get().is_null(), "the last coroutine's limits");
        debug_assert!(!self.hooked.get(), "the last coroutine's hooks");
        self.set_reason(Reason::NONE);
        // SAFETY: the caller owns the block, so nobody else looks at these cells.
        unsafe {
            *self.stack.get() = Some(reserved.into_slot());
            *self.packet.get() = Some(packet);
        }
    }

    /// What it waits for.
    pub(crate) fn reason(&self) -> Reason {
        Reason { kind: self.reason_kind.get(), fd: self.reason_fd.get() }
    }

    #[inline]
    pub(crate) fn set_reason(&self, reason: Reason) {
        self.reason_kind.set(reason.kind);
        self.reason_fd.set(reason.fd);
    }

    /// The identity of the coroutine that occupies the block.
    ///
    /// # Safety
    ///
    /// Called by the owner, or by a thread for which the owner waits; the reference must not be
    /// used once the coroutine finishes.
    pub(crate) unsafe fn identity(&self) -> &Identity {
        // SAFETY: the packet is set at spawn and taken only when the coroutine finishes.
        let packet = unsafe { (*self.packet.get()).as_ref() };
        packet.expect("an occupied control block has a packet").identity()
    }

    /// The identity, or `None` when the coroutine is about to leave its stack. For the signal
    /// handler, under the same contract.
    pub(crate) unsafe fn identity_if_any(&self) -> Option<&Identity> {
        // SAFETY: as in `identity`.
        unsafe { (*self.packet.get()).as_deref() }.map(Spawned::identity)
    }

    /// Another reference to the packet. The same contract as [`Coroutine::identity`].
    pub(crate) unsafe fn packet(&self) -> Arc<dyn Spawned> {
        // SAFETY: as in `identity`.
        let packet = unsafe { (*self.packet.get()).as_ref() };
        Arc::clone(packet.expect("an occupied control block has a packet"))
    }

    /// Drops the coroutine's own reference to its packet, at its end. Should it be the last, only
    /// the identity is left in it: the result was taken, or dropped by whoever came second.
    ///
    /// # Safety
    ///
    /// Called once, by the owner, after [`run_to_end`].
    pub(crate) unsafe fn give_up_packet(&self) {
        // SAFETY: owner only.
        drop(unsafe { (*self.packet.get()).take() });
    }

    /// The coroutine whose `timer` this is.
    pub(crate) fn of_timer(timer: *const Timer) -> *const Coroutine {
        timer.wrapping_byte_sub(offset_of!(Coroutine, timer)).cast()
    }

    /// The coroutine whose `op` this is.
    pub(crate) fn of_op(op: *const OpSlot) -> *const Coroutine {
        op.wrapping_byte_sub(offset_of!(Coroutine, op)).cast()
    }

    /// The coroutine whose `signals` these are.
    pub(crate) fn of_signals(signals: *const Signals) -> *const Coroutine {
        signals.wrapping_byte_sub(offset_of!(Coroutine, signals)).cast()
    }
}

/// Runs the coroutine's closure and everything of the user's that must run on its stack.
/// The caller, the root frame, switches away for good when this returns.
///
/// # Safety
///
/// Called once, on the coroutine's own stack, by its worker.
pub(crate) unsafe fn run_to_end(coroutine: &Coroutine) {
    // SAFETY: the owner runs this; the packet stays in its cell until the root frame gives it up.
    let packet = unsafe { (*coroutine.packet.get()).as_deref() }.expect("occupied");
    // SAFETY: the root frame calls this once, here.
    unsafe { packet.run(coroutine) };
    // SAFETY: owner only. Destructors may suspend and may use other locals.
    unsafe { Locals::destroy(&coroutine.locals) };
    // SAFETY: this is the stack we run on, until the coroutine has exited.
    let stack_used = unsafe { stack_high_water(coroutine) };
    // SAFETY: the result is in place and this is its only completion.
    unsafe { packet.complete(stack_used) };
    // A result that nobody takes was dropped there, and its destructor may have made new ones:
    // they would be found by the next coroutine in this block.
    // SAFETY: as above.
    unsafe { Locals::destroy(&coroutine.locals) };
}

/// How deep the stack of the running coroutine was used, where the runtime measures that; else 0.
unsafe fn stack_high_water(coroutine: &Coroutine) -> usize {
    let measures = current::worker().is_some_and(|worker| worker.runtime.measures_stacks);
    // SAFETY: owner only.
    match unsafe { &*coroutine.stack.get() } {
        // SAFETY: it is the caller's own stack.
        Some(stack) if measures => unsafe { stack.high_water() },
        _ => 0,
    }
}

/// What handles know of a coroutine, for as long as they live. Public in name only, for a sealed
/// trait.
#[expect(missing_debug_implementations)]
pub struct Identity {
    pub(crate) id: u64,
    name: Option<Box<Name>>,
    pub(crate) spawned_at: &'static Location<'static>,
    coroutine: *const Coroutine,
    generation: u32,
    progress: AtomicU32,
    /// Woken once `is_done` holds. For one at a time: whoever has the handle to himself.
    pub(crate) joiner: WaitSlot,
}

// SAFETY: the pointer leads to type-stable memory of which only atomics are used through it.
unsafe impl Send for Identity {}
// SAFETY: as above; the other fields are immutable or atomic.
unsafe impl Sync for Identity {}

/// `Identity::progress`: the result is in place.
const DONE: u32 = 1;
/// `Identity::progress`: no handle will ask for the result.
const DETACHED: u32 = 2;
/// `Identity::progress`: above the flags, the stack used, in units of four bytes. A stack has at
/// most 1 GiB, so 30 bits are enough.
const STACK_USED_SHIFT: u32 = 2;

/// Boxed once more than needed: most coroutines have no name, and those pay one word for it.
struct Name(Box<str>);

impl Identity {
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_ref().map(|name| &*name.0)
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.progress.load(Ordering::Acquire) & DONE != 0
    }

    /// The stack used, in bytes; 0 when the coroutine goes on, or was not measured.
    pub(crate) fn stack_used_bytes(&self) -> usize {
        (self.progress.load(Ordering::Acquire) >> STACK_USED_SHIFT) as usize * 4
    }

    /// Waits for the result to be in place. A coroutine suspends, a plain thread blocks.
    /// Returns false if the waiting coroutine was cancelled first (never when `shielded`).
    #[inline]
    pub(crate) fn wait_done(&self, shielded: bool) -> bool {
        self.joiner.wait(|| self.is_done(), Reason::JOIN, shielded)
    }

    /// Where its one joiner waits.
    pub(crate) fn joiner(&self) -> &WaitSlot {
        &self.joiner
    }

    /// Sets `bits` in the coroutine's signals, waking it; nothing happens when it is over.
    pub(crate) fn signal(&self, bits: u32) {
        // SAFETY: control blocks are never freed.
        let coroutine = unsafe { &*self.coroutine };
        crate::worker::signal(coroutine, self.generation, bits);
    }
}

/// A packet, whatever its closure and result types.
pub(crate) trait Spawned: Send + Sync {
    fn identity(&self) -> &Identity;
    /// # Safety
    /// Once, on the coroutine's stack.
    unsafe fn run(&self, coroutine: &Coroutine);
    /// # Safety
    /// Once, after `run`, on the coroutine's stack.
    unsafe fn complete(&self, stack_used_bytes: usize);
}

/// A packet, whatever its closure's type.
pub(crate) trait Outcome<T>: Spawned {
    /// Takes the result out, if it is in place and was not taken.
    ///
    /// # Safety
    ///
    /// Only the one handle that may join calls it.
    unsafe fn take(&self) -> Option<thread::Result<T>>;
}

enum Content<F, T> {
    Closure(F),
    Empty,
    Result(thread::Result<T>),
}

/// What a coroutine shares with its handles: one allocation a spawn. The closure lies here rather
/// than in the control block, because the result needs the room afterwards in any case.
pub(crate) struct Packet<F, T, K> {
    identity: Identity,
    content: UnsafeCell<Content<F, T>>,
    /// Taken by `complete`, which comes once for every packet.
    kept: UnsafeCell<ManuallyDrop<K>>,
}

/// Something a coroutine holds until nothing of it can touch what it borrowed.
pub(crate) trait Kept {
    /// It panicked and nobody will see the payload.
    fn unhandled_panic(&self);
}

impl Kept for () {
    fn unhandled_panic(&self) {}
}

// SAFETY: whoever spawns makes sure that closure and result may cross threads, or that neither
// does (see `Shared::spawn`).
unsafe impl<F, T, K> Send for Packet<F, T, K> {}
// SAFETY: `content` is used by one side at a time: the coroutine until DONE, then the handle.
unsafe impl<F, T, K> Sync for Packet<F, T, K> {}

impl<F: FnOnce() -> T, T, K> Packet<F, T, K> {
    pub(crate) fn new(
        id: u64,
        closure: F,
        kept: K,
        name: Option<Box<str>>,
        spawned_at: &'static Location<'static>,
        coroutine: &'static Coroutine,
    ) -> Packet<F, T, K> {
        Packet {
            identity: Identity {
                id,
                name: name.map(|name| Box::new(Name(name))),
                spawned_at,
                coroutine,
                generation: coroutine.signals.occupy(),
                progress: AtomicU32::new(0),
                joiner: WaitSlot::new(),
            },
            content: UnsafeCell::new(Content::Closure(closure)),
            kept: UnsafeCell::new(ManuallyDrop::new(kept)),
        }
    }
}

impl<F: FnOnce() -> T, T, K: Kept> Spawned for Packet<F, T, K> {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    unsafe fn run(&self, coroutine: &Coroutine) {
        // SAFETY: until DONE the content is the coroutine's.
        let content = unsafe { &mut *self.content.get() };
        let Content::Closure(closure) = mem::replace(content, Content::Empty) else {
            unreachable!("a coroutine is started once");
        };
        let result = if coroutine.signals.is_cancelled() {
            drop_quietly(closure);
            Err(Box::new(crate::Cancelled) as Box<dyn Any + Send>)
        } else {
            catch_unwind(AssertUnwindSafe(closure))
        };
        *content = Content::Result(result);
    }

    unsafe fn complete(&self, stack_used_bytes: usize) {
        // SAFETY: only this call, which comes once, takes what is kept.
        let kept = unsafe { ManuallyDrop::take(&mut *self.kept.get()) };
        let stack_used = (stack_used_bytes.div_ceil(4) as u32) << STACK_USED_SHIFT;
        if self.identity.progress.fetch_or(stack_used | DONE, Ordering::AcqRel) & DETACHED != 0 {
            // SAFETY: the handle is gone, so the result is ours to drop.
            let content = unsafe { mem::replace(&mut *self.content.get(), Content::Empty) };
            if let Content::Result(Err(payload)) = &content
                && !payload.is::<crate::Cancelled>()
            {
                kept.unhandled_panic();
            }
            drop_quietly(content);
        }
        self.identity.joiner.wake();
        drop(kept);
    }
}

impl<F: FnOnce() -> T, T, K: Kept> Outcome<T> for Packet<F, T, K> {
    unsafe fn take(&self) -> Option<thread::Result<T>> {
        if !self.identity.is_done() {
            return None;
        }
        // SAFETY: DONE is set, so the coroutine has let go, and there is one handle.
        match unsafe { mem::replace(&mut *self.content.get(), Content::Empty) } {
            Content::Result(result) => Some(result),
            Content::Closure(_) | Content::Empty => None,
        }
    }
}

/// A handle's drop: whoever comes second, coroutine or handle, gets the result to drop.
pub(crate) fn detach<T>(packet: &dyn Outcome<T>) -> Option<thread::Result<T>> {
    let identity = packet.identity();
    // A look first: after a join the coroutine is long past asking, and need not be told.
    if identity.is_done() || identity.progress.fetch_or(DETACHED, Ordering::AcqRel) & DONE != 0 {
        // SAFETY: the one handle is what is being dropped.
        return unsafe { packet.take() };
    }
    None
}

/// Drops a value of the user's whose destructor may panic, and the panic's payload, whose
/// destructor may panic too: that second payload is leaked, for there is nowhere left to go.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value)))
        && let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        mem::forget(again);
    }
}

/// A million of them must fit beside a million stacks: three cache lines each.
#[cfg(not(any(feature = "corosensei", cosocket_asan)))]
const _: () = assert!(size_of::<Coroutine>() == 192);
