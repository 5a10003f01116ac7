//! A worker: one thread, one driver, one queue of ready coroutines, and the loop over them.
//!
//! ```text
//!           +---------------------------- the loop's own stack ---------------------------+
//!           |  inbox -> timers -> run ready (<= TURN_BUDGET switches) -> driver.turn(wait) |
//!           +--------|-------------------------------------------------------^------------+
//!             resume |                                 none ready, or budget | spent,
//!                    v            switch                          or finished|
//!                coroutine A ---------------> coroutine B ------> ... -------+
//! ```
//!
//! A coroutine that suspends switches straight to the next ready one; the loop's stack is used
//! when there is none, or when a turn of the driver is due. User code runs on coroutine stacks
//! only. A panic on the loop's stack is a bug of ours and aborts the process.

// So far TLS alone goes deep.
#[cfg_attr(not(feature = "tls"), allow(dead_code))]
mod deep;
mod switch;

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering, fence};
use std::time::Duration;

use crate::arch;
use crate::blocks::{self, BlockCache};
use crate::clock::{self, NEVER, Nanos};
use crate::coroutine::{Coroutine, Stage};
use crate::current;
use crate::driver::arm_slot::ArmSlots;
use crate::driver::{Driver, Wait};
use crate::ids::Ids;
use crate::limit;
use crate::mailbox::{self, CANCELLED, ELAPSED, FINISHED, Mailbox, UNPARKED, WOKEN};
use crate::metrics::Counters;
use crate::ready::ReadyQueue;
use crate::registry;
use crate::shared::Shared;
use crate::stack::{Reserved, StackCache, Warm};
use crate::switch_hook;
use crate::timer::Wheel;
use crate::unwind::{Unwinds, abort_on_panic};
use crate::wait::Reason;

#[cfg(feature = "tls")]
pub(crate) use self::deep::on_loop_stack;

/// Switches between two turns of the driver. At some 2 to 10 µs of kernel work a switch in a
/// server, this bounds the time between looks at the kernel, the timers and the inbox to a
/// fraction of a millisecond. Echo throughput was the same, within noise, for 16 to 1024.
const TURN_BUDGET: u32 = 64;

/// Calls in a row that need not wait before a coroutine gives way to others. An acceptor should
/// get through a good part of a backlog at a time: with 32, ten thousand clients that connect at
/// once overflowed one of 4096.
const STREAK_BUDGET: u32 = 128;

/// How often the demand for stacks is forgotten a little, and idle ones are emptied.
const TRIM_PERIOD: Nanos = 1_000_000_000;

pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) mailbox: &'static Mailbox,
    pub(crate) runtime: Arc<Shared>,
    pub(crate) driver: Driver,
    pub(crate) arm_slots: ArmSlots,
    pub(crate) counters: Arc<Counters>,
    pub(crate) blocks: BlockCache,
    pub(crate) ids: Ids,
    /// Unstarted closures of this worker, in the order they came.
    pub(crate) fresh: ReadyQueue,
    ready: ReadyQueue,
    /// Whose turn it is, when both queues have somebody: neither may starve the other.
    fresh_next: Cell<bool>,
    /// Null on the loop's stack. Atomic, at the cost of a plain store, for whoever asks from
    /// outside whom a stuck worker runs: see `shutdown`.
    current: AtomicPtr<Coroutine>,
    /// Finished, and still to be cleared away by the loop, off its stack.
    finished: Cell<Option<&'static Coroutine>>,
    loop_context: UnsafeCell<arch::Context>,
    #[cfg(cosocket_asan)]
    loop_fiber: crate::sanitizer::LoopFiber,
    stacks: StackCache,
    wheel: Wheel,
    now: Cell<Nanos>,
    /// When to look for idle stacks to empty; `NEVER` while none holds memory.
    trim_at: Cell<Nanos>,
    /// In the middle of a trim of several batches.
    trims_on: Cell<bool>,
    budget: Cell<u32>,
    /// Calls in a row that did not wait.
    streak: Cell<u32>,
    /// Calls in non-blocking mode that were answered `WouldBlock`, since the last other call.
    refusals: Cell<u32>,
    pub(crate) unwinds: Unwinds,
    /// Coroutines in waits that end by themselves: while there are any, nothing is deadlocked.
    outside_waits: Cell<usize>,
    /// Finished blocks that a late signal keeps linked in the inbox.
    lingering: Cell<usize>,
    cancelled_all: Cell<bool>,
}

impl Worker {
    pub(crate) fn new(index: usize, runtime: Arc<Shared>, driver: Driver) -> Worker {
        let now = driver.now();
        let seat = &runtime.seats[index];
        Worker {
            index,
            mailbox: seat.mailbox,
            counters: Arc::clone(&seat.counters),
            driver,
            arm_slots: ArmSlots::new(),
            blocks: BlockCache::new(),
            ids: Ids::new(),
            fresh: ReadyQueue::new(),
            ready: ReadyQueue::new(),
            fresh_next: Cell::new(false),
            current: AtomicPtr::new(ptr::null_mut()),
            finished: Cell::new(None),
            loop_context: UnsafeCell::new(arch::Context::new()),
            #[cfg(cosocket_asan)]
            loop_fiber: crate::sanitizer::LoopFiber::of_this_thread(),
            stacks: StackCache::new(Arc::clone(&runtime.stacks)),
            wheel: Wheel::new(now),
            now: Cell::new(now),
            trim_at: Cell::new(NEVER),
            trims_on: Cell::new(false),
            budget: Cell::new(0),
            streak: Cell::new(0),
            refusals: Cell::new(0),
            unwinds: Unwinds::default(),
            outside_waits: Cell::new(0),
            lingering: Cell::new(0),
            cancelled_all: Cell::new(false),
            runtime,
        }
    }

    /// Runs until the runtime stops and its last coroutine is over.
    pub(crate) fn run(&self) {
        let _entered = current::enter(self);
        let _at_desk = self.sit_down(&self.current);
        while !self.is_over() {
            // What ended the last turn comes first: after it another one would find nothing.
            self.drain_inbox();
            self.now.set(self.driver.now());
            self.fire_timers();
            self.do_chores();
            self.budget.set(TURN_BUDGET);
            while let Some(next) = self.take_turn() {
                self.resume(next);
            }
            let wait = self.plan_wait();
            self.turn(wait);
        }
        self.runtime.tell_empty();
    }

    /// The coroutine that runs.
    #[inline]
    pub(crate) fn current(&self) -> &'static Coroutine {
        let current = self.current.load(Ordering::Relaxed);
        debug_assert!(!current.is_null(), "the loop has no coroutine");
        // SAFETY: control blocks are never freed; this is called on a coroutine's stack, and
        // whoever switched to that coroutine stored it here.
        unsafe { &*current }
    }

    /// The coroutine that runs, or `None` on the loop's stack.
    pub(crate) fn running(&self) -> Option<&'static Coroutine> {
        // SAFETY: as in `current`.
        unsafe { self.current.load(Ordering::Relaxed).as_ref() }
    }

    #[inline]
    fn set_current(&self, coroutine: *const Coroutine) {
        // Release: whoever reads it from outside reads the identity, too.
        self.current.store(coroutine.cast_mut(), Ordering::Release);
    }

    /// Rings one worker that sleeps, if any. To be called after what it is to find is published:
    /// between the fences here and in `plan_wait`, one of the two sees the other.
    pub(crate) fn wake_one_sleeper(&self) {
        fence(Ordering::SeqCst);
        let others = self.runtime.seats.iter().map(|seat| seat.mailbox);
        if let Some(sleeper) = others.into_iter().find(|mailbox| mailbox.is_asleep()) {
            sleeper.ring();
        }
    }

    /// `duration` from now.
    pub(crate) fn after(&self, duration: Duration) -> Nanos {
        clock::later(self.driver.now(), duration)
    }

    /// When this turn began.
    pub(crate) fn recent_time(&self) -> Nanos {
        self.now.get()
    }

    /// Suspends `me`, the current coroutine, and runs others until it is made ready.
    #[inline(always)]
    pub(crate) fn switch_away(&self, me: &'static Coroutine) {
        me.stage.set(Stage::Suspended);
        self.give_way(me);
    }

    /// Lets every other ready coroutine go first.
    pub(crate) fn yield_now(&self) {
        let me = self.current();
        me.stage.set(Stage::Ready);
        self.ready.push(me);
        // Those that were spawned before this come first, too.
        self.fresh_next.set(true);
        self.give_way(me);
    }

    #[inline(always)]
    fn give_way(&self, me: &'static Coroutine) {
        if me.hooked.get() {
            return self.give_way_hooked(me);
        }
        self.give_way_unhooked(me);
    }

    #[cold]
    fn give_way_hooked(&self, me: &'static Coroutine) {
        switch_hook::around_switch(me, || self.give_way_unhooked(me));
    }

    #[inline(always)]
    fn give_way_unhooked(&self, me: &'static Coroutine) {
        self.note_unwind(me);
        // What runs on this stack until the switch, and after it, is the scheduler.
        abort_on_panic(|| self.give_way_to_next(me));
        self.notice_unwinds(me);
    }

    #[inline]
    fn give_way_to_next(&self, me: &'static Coroutine) {
        self.streak.set(0);
        self.refusals.set(0);
        if arch::DIRECT
            && let Some(next) = self.take_turn()
        {
            next.stage.set(Stage::Running);
            if !ptr::eq(next, me) {
                self.counters.switches.add(1);
                self.set_current(next);
                self.switch(me, next);
            }
            return;
        }
        self.set_current(ptr::null());
        self.to_loop(me, 0);
    }

    /// The next coroutine to run, within the budget of this turn.
    #[inline]
    fn take_turn(&self) -> Option<&'static Coroutine> {
        let budget = self.budget.get();
        if budget == 0 {
            return None;
        }
        self.budget.set(budget - 1);
        let has_fresh = !self.fresh.is_empty() || self.runtime.has_surplus();
        if has_fresh
            && (self.fresh_next.get() || self.ready.is_empty())
            && let Some(started) = self.start_next()
        {
            return Some(started);
        }
        self.fresh_next.set(has_fresh);
        self.ready.pop_suspended()
    }

    /// The next closure to run, on its way. Apart, so that a turn without one saves no registers
    /// for it: half of what a yield cost.
    #[inline(never)]
    fn start_next(&self) -> Option<&'static Coroutine> {
        self.fresh_next.set(false);
        let block = self.fresh.pop().or_else(|| self.runtime.take_surplus(self))?;
        if let Some(next) = self.fresh.front() {
            self.fetch_ahead(next);
        }
        self.start(block);
        Some(block)
    }

    /// `next` will start next: has the processor fetch where its frames will lie, and the block of
    /// the one after it. As [`ReadyQueue::pop_suspended`] does for those that have started.
    fn fetch_ahead(&self, next: &Coroutine) {
        // SAFETY: unstarted and in our queue, so the block is ours.
        if let Some(promised) = unsafe { &*next.stack.get() } {
            self.stacks.fetch_ahead(promised);
        }
        let after = next.next.get();
        if !after.is_null() {
            for line in 0..size_of::<Coroutine>() / arch::LINE_BYTES {
                arch::prefetch(after.wrapping_byte_add(line * arch::LINE_BYTES).cast());
            }
        }
    }

    /// Makes a suspended coroutine ready. Waking one that is not suspended does nothing: it will
    /// look at its condition before it suspends.
    #[inline]
    pub(crate) fn make_ready(&self, coroutine: &'static Coroutine) {
        if coroutine.stage.get() == Stage::Suspended {
            coroutine.stage.set(Stage::Ready);
            self.ready.push(coroutine);
        }
    }

    /// Wakes a coroutine whose wait the driver says may be over. It may be another worker's: epoll
    /// tells every worker that knows a descriptor, and the first one to look takes the waiter.
    #[inline]
    fn wake(&self, coroutine: &'static Coroutine) {
        if self.is_home_of(coroutine) {
            self.make_ready(coroutine);
        } else {
            signal(coroutine, coroutine.signals.generation(), WOKEN);
        }
    }

    /// Every call that might wait comes through here first: after a run of calls that did not,
    /// the loop gets its turn, and with it the timers, the driver and all that is ready.
    #[inline]
    pub(crate) fn charge(&self) {
        self.refusals.set(0);
        self.count_towards_yield(&self.streak);
    }

    /// [`charge`](Worker::charge), and all else that is looked at before a call. False, and nothing
    /// done, where there is more to it: the run is over, a panic is counted on this thread, or the
    /// current coroutine has something pending that ends its waits.
    #[inline]
    pub(crate) fn begins_plainly(&self) -> bool {
        let streak = self.streak.get() + 1;
        let me = self.current();
        let plain =
            streak <= STREAK_BUDGET && !std::thread::panicking() && !me.signals.is_interrupted();
        if plain {
            self.refusals.set(0);
            self.streak.set(streak);
        }
        plain
    }

    /// A call in non-blocking mode that was refused comes through here. Its caller counts on not
    /// being suspended, and may hold a lock of std; so it gives way only when it does nothing but
    /// ask, in a loop that may be waiting for a neighbour on this worker.
    #[inline]
    pub(crate) fn charge_refusal(&self) {
        self.count_towards_yield(&self.refusals);
    }

    #[inline]
    fn count_towards_yield(&self, calls: &Cell<u32>) {
        let count = calls.get() + 1;
        calls.set(count);
        if count > STREAK_BUDGET {
            self.budget.set(0);
            self.yield_now();
        }
    }

    /// Has the limits of `me` looked at no later than `at`. The timer of an earlier one stays armed
    /// when it fires no later than needed: it then looks at the limits of the moment. So a socket
    /// that reads again and again under one timeout touches the wheel once a timeout, not once a
    /// read.
    #[inline]
    pub(crate) fn arm(&self, me: &'static Coroutine, at: Nanos) {
        if me.timer.is_armed() && me.timer.expires() <= at {
            return;
        }
        // SAFETY: if it is armed then on this wheel; control blocks stay in place.
        unsafe { self.wheel.arm(&me.timer, at) };
    }

    /// Bookkeeping at the start of a wait.
    #[inline]
    pub(crate) fn enter_wait_of(&self, me: &Coroutine, reason: Reason) {
        me.set_reason(reason);
        let outside = usize::from(reason.ends_by_itself());
        self.outside_waits.set(self.outside_waits.get() + outside);
    }

    /// The same at its end.
    #[inline]
    pub(crate) fn leave_wait_of(&self, me: &Coroutine, reason: Reason) {
        let outside = usize::from(reason.ends_by_itself());
        self.outside_waits.set(self.outside_waits.get() - outside);
        me.set_reason(Reason::NONE);
    }

    /// The promise of a stack, from this worker's idle ones where it can.
    pub(crate) fn reserve(&self, size_bytes: Option<usize>) -> io::Result<Reserved> {
        self.stacks.reserve(size_bytes)
    }

    fn drain_inbox(&self) {
        self.mailbox.drain(|delivery| {
            // SAFETY: what is linked in our inbox is a control block, and those are never freed.
            let block = unsafe { &*Coroutine::of_signals(delivery.signals.as_ptr()) };
            if delivery.bits & FINISHED != 0 {
                self.lingering.set(self.lingering.get() - 1);
                self.vacate(block);
                return;
            }
            debug_assert_eq!(delivery.generation, block.signals.generation());
            if block.stage.get() == Stage::Unstarted {
                self.fresh.push(block);
            } else {
                self.make_ready(block);
            }
        });
    }

    fn fire_timers(&self) {
        let now = self.now.get();
        while let Some(timer) = self.wheel.expire(now) {
            // SAFETY: only timers in control blocks are armed on this wheel.
            let block = unsafe { &*Coroutine::of_timer(timer) };
            let (wake, next) = limit::pass_all(block, now);
            if next != NEVER {
                self.arm(block, next);
            }
            if wake {
                self.make_ready(block);
            }
        }
    }

    fn do_chores(&self) {
        if self.now.get() >= self.trim_at.get() {
            self.trim_stacks();
        }
        if self.runtime.is_stopping() && !self.cancelled_all.replace(true) {
            self.for_each_started(|block| {
                block.signals.record(CANCELLED);
                self.make_ready(block);
            });
        }
        self.settle_doubts();
        if self.runtime.is_report_due(self.index) {
            self.report_waits();
        }
        if self.is_asked() {
            self.answer_the_roll();
        }
    }

    fn trim_stacks(&self) {
        if !self.trims_on.get() {
            self.stacks.tick();
        }
        let warm = self.stacks.trim();
        self.trims_on.set(warm == Warm::Surplus);
        self.trim_at.set(match warm {
            Warm::Nothing => NEVER,
            Warm::Needed => self.now.get() + TRIM_PERIOD,
            // The next batch, when the others have had their turn.
            Warm::Surplus => self.now.get(),
        });
    }

    /// How long the driver may sleep. Marks the mailbox asleep unless there is work.
    fn plan_wait(&self) -> Wait {
        let busy = !self.ready.is_empty() || !self.fresh.is_empty();
        if busy || !self.mailbox.prepare_sleep() {
            return Wait::Poll;
        }
        // Looked at after the mailbox was marked: what came before the mark rings nobody, what
        // comes after rings us. (The fence is for the surplus: see `wake_one_sleeper`.)
        fence(Ordering::SeqCst);
        if self.has_orders() {
            self.mailbox.wake_up();
            return Wait::Poll;
        }
        match self.wheel.next_expiry().unwrap_or(NEVER).min(self.trim_at.get()) {
            NEVER => Wait::Forever,
            at => Wait::Until(at),
        }
    }

    /// Whether the runtime wants something of this worker that is not in its inbox.
    fn has_orders(&self) -> bool {
        let stop = self.runtime.is_stopping() && (!self.cancelled_all.get() || self.is_over());
        stop || self.runtime.has_surplus()
            || self.runtime.is_report_due(self.index)
            || self.is_asked()
    }

    fn turn(&self, mut wait: Wait) {
        let silent = wait != Wait::Poll
            && self.outside_waits.get() == 0
            && self.wheel.next_expiry().is_none();
        if silent && let Some(look_at) = self.runtime.fell_silent(self.now.get()) {
            wait = wait.no_later_than(look_at);
        }
        self.counters.turns.add(1);
        self.driver.turn(wait, |block| self.wake(block));
        if silent {
            self.runtime.woke_up();
        }
        if !matches!(wait, Wait::Poll) {
            self.mailbox.wake_up();
        }
        self.counters.system_calls.set(self.driver.system_calls());
    }

    fn is_over(&self) -> bool {
        self.runtime.is_stopping() && self.runtime.is_empty() && self.lingering.get() == 0
    }

    /// Whether the block is this worker's, and everything in it this thread's to touch.
    #[inline]
    pub(crate) fn is_home_of(&self, block: &Coroutine) -> bool {
        // Acquire: of a block that another thread has placed here, we may read the rest.
        block.home.load(Ordering::Acquire) == self.mailbox.index() as u32
    }

    pub(crate) fn for_each_started(&self, mut f: impl FnMut(&'static Coroutine)) {
        blocks::for_each(|block| {
            if self.is_home_of(block)
                && !matches!(block.stage.get(), Stage::Unstarted | Stage::Finished)
            {
                f(block);
            }
        });
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        debug_assert!(self.ready.is_empty() && self.fresh.is_empty(), "coroutines left behind");
    }
}

/// Sets bits in a coroutine's signals and wakes it, from any thread. On its own worker this takes
/// neither an atomic read-modify-write (for a plain wake) nor a system call.
pub(crate) fn signal(coroutine: &'static Coroutine, generation: u32, bits: u32) {
    signal_from(current::worker(), coroutine, generation, bits);
}

/// As [`signal`], where the caller's worker is known.
#[inline]
pub(crate) fn signal_from(
    worker: Option<&Worker>,
    coroutine: &'static Coroutine,
    generation: u32,
    bits: u32,
) {
    if let Some(worker) = worker
        && worker.is_home_of(coroutine)
        && coroutine.signals.generation() == generation
        && coroutine.stage.get() != Stage::Unstarted
    {
        if bits & UNPARKED != 0 {
            coroutine.unparked.set(true);
        }
        let staying = bits & (CANCELLED | ELAPSED);
        if staying != 0 {
            coroutine.signals.record(staying);
        }
        worker.make_ready(coroutine);
        return;
    }
    signal_elsewhere(coroutine, generation, bits);
}

#[inline(never)]
fn signal_elsewhere(coroutine: &'static Coroutine, generation: u32, bits: u32) {
    if let mailbox::Outcome::MustLink = coroutine.signals.signal(generation, bits) {
        // It cannot change before the owner drains the link that we now make.
        let home = registry::mailbox(coroutine.home.load(Ordering::Acquire) as usize);
        let home = home.expect("a started coroutine has a worker");
        // SAFETY: never freed; `signal` has just said that we must link it; and this is its home.
        unsafe { home.push(ptr::NonNull::from(&coroutine.signals)) };
    }
}
