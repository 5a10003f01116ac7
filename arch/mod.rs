//! How a thread moves from one stack to another: the only hand-written assembly in this crate.
//!
//! A [`Context`] is a place where execution stopped. The worker's loop has one, every coroutine
//! has one, and every call below stores the place it leaves in one and goes on at another:
//!
//! ```text
//!   worker's loop, on its thread's stack          coroutine, on a stack of its own
//!
//!   init(coroutine, stack, entry, data)
//!   resume(from_loop, coroutine, 1)  ---------->  entry(1, data)
//!   returns 2                        <----------  suspend(coroutine, to_loop, 2)
//!   resume(from_loop, coroutine, 3)  ---------->  returns 3
//!                                                 switch(coroutine, other, 4)  --->  other: 4
//!   resume(from_loop, coroutine, 5)  ---------->  returns 5
//!   returns 6                        <----------  exit(coroutine, to_loop, 6)
//!   release(coroutine)
//!
//!   Context:   new --init--> not started --resume--> running --exit--> exited --release--> new
//!                                                    ^     |
//!                                              resume|     |suspend, switch
//!                                                    |     v
//!                                                   suspended
//! ```
//!
//! # What every implementation gives
//!
//! * `Context`, with a `const fn new()`. It holds no borrow and may be moved while new.
//! * `init`, `resume`, `suspend`, `exit`, `release` as above. One word crosses with each.
//!   To the compiler each is an ordinary call that may change any memory: what the caller has in
//!   registers, general or vector, is there again when the call returns.
//! * `entry` runs with the stack pointer aligned to [`STACK_ALIGNMENT`] as the ISA's calling
//!   convention wants it, and leaves by `exit`. It never returns and never unwinds: nothing
//!   unwinds through a switch. A backtrace taken inside a coroutine ends at its root.
//! * The floating-point control words are not part of a context. Rust code may not change them.
//!
//! # What an implementation may give
//!
//! * [`DIRECT`]: `switch`, from one coroutine to another without the loop. Contexts are then all
//!   alike, and whoever runs may `suspend` to the loop, whoever resumed it. Without it, `switch`
//!   must not be called: the caller bounces off the loop.
//! * [`WALKABLE`]: the stack of a suspended context can be walked with the compiler's own unwind
//!   tables: by a debugger from `Context::registers`, by ourselves with `walk`. Without it,
//!   `registers` answers `None` and `walk` does nothing.
//! * `prefetch` and `prefetch_stack`, which may do nothing.
//!
//! # How the hand-written ones do it
//!
//! A switch is one inlined `asm!` with every register declared clobbered, so the compiler saves
//! what is live around it and nothing else. By hand go the registers that cannot be declared: the
//! stack pointer, the frame pointer, the one that LLVM keeps to itself, and where to go on. They
//! go into the `Context`, not onto the stack: the stack pointer never moves under the compiler's
//! feet, so its unwind tables are right at the label where a suspended context goes on. The jump
//! there is a plain indirect one: a `ret` without its `call` is mispredicted.
//!
//! An ISA's file holds what differs: `root`, where a context starts, then `switch`, `leave` and
//! `walk`. What they share is in saved.rs.

#[cfg(feature = "corosensei")]
mod corosensei;
#[cfg(feature = "corosensei")]
pub use corosensei::{
    Context, DIRECT, STACK_ALIGNMENT, WALKABLE, exit, init, prefetch, prefetch_stack, release,
    resume, suspend, switch, walk,
};

#[cfg(not(feature = "corosensei"))]
mod saved;
#[cfg(not(feature = "corosensei"))]
pub use saved::{
    Context, DIRECT, STACK_ALIGNMENT, WALKABLE, exit, init, prefetch, prefetch_stack, release,
    resume, suspend, switch, walk,
};

#[cfg(all(not(feature = "corosensei"), target_arch = "aarch64"))]
#[path = "aarch64.rs"]
mod isa;
#[cfg(all(not(feature = "corosensei"), target_arch = "riscv64"))]
#[path = "riscv64.rs"]
mod isa;
#[cfg(all(not(feature = "corosensei"), target_arch = "x86_64"))]
#[path = "x86_64.rs"]
mod isa;

#[cfg(not(any(
    feature = "corosensei",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "x86_64"
)))]
compile_error!(
    "cosocket has no context switch of its own for this architecture: \
     enable its feature `corosensei`"
);

/// A line of the cache, on most processors.
pub const LINE_BYTES: usize = 64;

/// What a coroutine runs first, on its own stack: the word of the first `resume` and the `data`
/// given to `init`. Leaves by `exit`.
pub type Entry = unsafe extern "C" fn(word: usize, data: *mut ()) -> !;

/// What `walk` calls: typically takes a backtrace into `data`. Does not unwind.
pub type Visit = unsafe extern "C" fn(data: *mut ());

/// The memory of a stack: its highest address, where it starts, and its lowest usable one.
pub type Bounds = (*mut u8, *mut u8);

/// Where a suspended context stands: what a debugger needs to walk its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Stack pointer.
    pub sp: usize,
    /// Frame pointer register; a frame pointer only where the code is compiled with them.
    pub fp: usize,
    /// The instruction it goes on at, inside the function that called `suspend` or `switch`.
    pub pc: usize,
}

/// Why stacks cannot be switched in this process, if they cannot.
///
/// With hardware shadow stacks on, the processor keeps a second record of return addresses, and
/// faults at the first `return` after a switch that it knows nothing of.
pub fn obstacle() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        /// `asm/prctl.h`
        const ARCH_SHSTK_STATUS: libc::c_int = 0x5005;
        let mut enabled: u64 = 0;
        // SAFETY: the kernel writes one word, or answers that it does not know the question.
        let answer =
            unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SHSTK_STATUS, &raw mut enabled) };
        if answer == 0 && enabled & 1 != 0 {
            return Some(
                "shadow stacks (CET) are on for this process, and coroutines cannot run with \
                 them: start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off",
            );
        }
    }
    None
}

#[cfg(test)]
mod tests;
