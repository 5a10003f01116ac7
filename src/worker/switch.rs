//! Into a coroutine and out of it: the first time, from the loop, from a sibling, and for good.

use std::ptr;
use std::sync::atomic::Ordering;

use super::deep::Job;
use super::{TRIM_PERIOD, Worker};
use crate::arch;
use crate::coroutine::{self, Coroutine, NOWHERE, Stage};
use crate::current;
use crate::mailbox::{CANCELLED, Retired};
use crate::stack::Reserved;

impl Worker {
    /// Takes the stack and makes the context, the first time a worker picks a coroutine.
    pub(super) fn start(&self, block: &'static Coroutine) {
        block.signals.begin();
        if self.runtime.is_stopping() {
            block.signals.record(CANCELLED);
        }
        block.stage.set(Stage::Ready);
        // SAFETY: the block is ours since we took it from a queue of unstarted ones.
        let place = unsafe { &mut *block.stack.get() };
        let promised = place.take().expect("an unstarted coroutine has a stack promised");
        let stack = self.stacks.take(Reserved::of_slot(promised));
        #[cfg(cosocket_asan)]
        crate::sanitizer::renew(&stack);
        if self.runtime.measures_stacks {
            // SAFETY: nobody has run on it since it was taken.
            unsafe { stack.empty() };
        }
        // SAFETY: the stack is nobody else's, and `root` leaves it only by `arch::exit`.
        unsafe {
            arch::init(
                block.context.get(),
                (stack.top(), stack.bottom()),
                root,
                ptr::from_ref(block).cast_mut().cast(),
            );
        }
        *place = Some(stack);
    }

    /// Runs `next` from the loop, until somebody comes back to the loop to stay.
    pub(super) fn resume(&self, next: &'static Coroutine) {
        self.counters.switches.add(1);
        next.stage.set(Stage::Running);
        self.set_current(next);
        let mut word = self.leave_loop_for(next);
        while word != 0 {
            // Not always `next`: they switch to each other without the loop.
            let me = self.current();
            // SAFETY: `me` has just suspended with this word, and goes on only below.
            unsafe { Job::run(word) };
            word = self.leave_loop_for(me);
        }
        if let Some(finished) = self.finished.take() {
            self.clear_away(finished);
        }
    }

    /// Runs `next`, which is the current coroutine; the word that somebody comes back with.
    fn leave_loop_for(&self, next: &'static Coroutine) -> usize {
        #[cfg(cosocket_asan)]
        self.loop_fiber.leave_for(next);
        // SAFETY: `next` was taken from a queue, or waits for its job: so it is suspended or fresh,
        // and ours.
        let word = unsafe { arch::resume(self.loop_context.get(), next.context.get(), 0) };
        #[cfg(cosocket_asan)]
        self.loop_fiber.arrive();
        word
    }

    pub(super) fn switch(&self, me: &'static Coroutine, next: &'static Coroutine) {
        #[cfg(cosocket_asan)]
        crate::sanitizer::leave(&me.fake_stack, next);
        // SAFETY: `me` runs on this stack; `next` came from a queue, so it is suspended or fresh.
        unsafe { arch::switch(me.context.get(), next.context.get(), 0) };
        #[cfg(cosocket_asan)]
        crate::sanitizer::arrive(&me.fake_stack);
    }

    /// Suspends `me` to the loop, which has a [`Job`] to do if `word` is not 0.
    pub(super) fn to_loop(&self, me: &'static Coroutine, word: usize) {
        #[cfg(cosocket_asan)]
        self.loop_fiber.leave_from(me);
        // SAFETY: `me` runs on this stack, and the loop is suspended in `resume`.
        unsafe { arch::suspend(me.context.get(), self.loop_context.get(), word) };
        #[cfg(cosocket_asan)]
        crate::sanitizer::arrive(&me.fake_stack);
    }

    /// Leaves a finished coroutine's stack for good.
    fn exit(&self, me: &'static Coroutine) -> ! {
        me.stage.set(Stage::Finished);
        // Sequentially consistent, as is the look that follows: see `shutdown`.
        self.current.store(ptr::null_mut(), Ordering::SeqCst);
        self.wait_for_looks();
        // SAFETY: the block is ours, and nobody asks for its identity any more.
        unsafe { me.give_up_packet() };
        self.finished.set(Some(me));
        #[cfg(cosocket_asan)]
        self.loop_fiber.leave_for_good();
        // SAFETY: as in `to_loop`; nothing on this stack is needed any more.
        unsafe { arch::exit(me.context.get(), self.loop_context.get(), 0) }
    }

    /// Takes back the stack and the block of a finished coroutine.
    fn clear_away(&self, block: &'static Coroutine) {
        // SAFETY: the coroutine has exited; we run on the loop's stack.
        unsafe { arch::release(block.context.get()) };
        // SAFETY: the block is still ours.
        let stack = unsafe { (*block.stack.get()).take() }.expect("it ran on a stack");
        #[cfg(cosocket_asan)]
        crate::sanitizer::retire(&stack);
        self.stacks.give(stack);
        self.trim_at.set(self.trim_at.get().min(self.now.get() + TRIM_PERIOD));
        if block.timer.is_armed() {
            // SAFETY: armed on this wheel.
            unsafe { self.wheel.disarm(&block.timer) };
        }
        debug_assert!(!block.op.is_out(), "an operation outlived its coroutine");
        match block.signals.retire() {
            Retired::Free => self.vacate(block),
            Retired::StillLinked => self.lingering.set(self.lingering.get() + 1),
        }
        self.runtime.one_less(self.index);
    }

    pub(super) fn vacate(&self, block: &'static Coroutine) {
        block.home.store(NOWHERE, Ordering::Relaxed);
        self.blocks.give(block);
    }
}

/// The first frame of every coroutine.
unsafe extern "C" fn root(_word: usize, data: *mut ()) -> ! {
    // SAFETY: `start` passed the control block.
    let me: &'static Coroutine = unsafe { &*data.cast::<Coroutine>() };
    #[cfg(cosocket_asan)]
    crate::sanitizer::arrive_first();
    if let Some(worker) = current::worker() {
        worker.notice_unwinds(me);
    }
    // SAFETY: this is the coroutine's stack, and the root runs once.
    unsafe { coroutine::run_to_end(me) };
    match current::worker() {
        Some(worker) => worker.exit(me),
        // A child forked from inside a coroutine came to the end of its closure: as when the only
        // thread of a process ends.
        // SAFETY: always safe to call.
        None => unsafe { libc::_exit(0) },
    }
}
