//! aarch64, AAPCS64. As x86_64.rs; commented is what differs.
//!
//! ```text
//!   a coroutine's stack                         its Context while suspended
//!
//!   top      (aligned to 16, always)            sp       = S
//!   top -  8 x30 = return address into `root`   fp       = x29 at S
//!   top - 16 x29 = 0          frame record      pc       = label 2 in the frame at S
//!            rest of the frame of entry         reserved = x19 at S
//!            ...
//!   S        frame that called the switch, as the compiler's tables describe it there
//! ```
//!
//! Registers in a switch: x0 = from, x1 = to, x2 = the word; x9, x10 are scratch.
//!
//! `hint #36` is `bti j`: where branch targets are enforced, an indirect `br` may land there. On
//! older cores it does nothing. Signed return addresses (pac-ret) need nothing: they are signed
//! with the stack pointer of their own frame, which a switch leaves alone.
//!
//! x18 is an ordinary register on Linux, and clobbered by `clobber_abi` where it is. Where a
//! target reserves it (a shadow call stack), `clobber_abi` leaves it out, and so do we; a shadow
//! call stack would have to be switched too, which we do not.

use std::arch::{asm, naked_asm};
use std::mem::offset_of;

use super::{Context, Visit};

/// Where a context starts: calls entry (in x19) with the word (in x2) and data (in x29).
#[unsafe(naked)]
pub(super) unsafe extern "C" fn root() -> ! {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined x30",
        "hint #36",
        "mov x0, x2",
        "mov x1, x29",
        "mov x29, xzr",
        "blr x19",
        "brk #1",
        ".cfi_endproc",
    )
}

/// Stores the caller in `from` and goes on at `to`; returns the word that comes back.
///
/// # Safety
///
/// Both are valid; `to` holds a place to go on at, on this thread.
#[inline(always)]
pub(super) unsafe fn switch(from: *mut Context, to: *mut Context, word: usize) -> usize {
    let received;
    // SAFETY: every register is clobbered but sp, fp and x19, which whoever comes back restores
    // from `from`; the stack of this frame is left alone until then.
    unsafe {
        asm!(
            "adr x9, 2f",
            "mov x10, sp",
            // Pairs: sp with fp, pc with reserved.
            "stp x10, x29, [x0, {sp}]",
            "stp x9, x19, [x0, {pc}]",
            "ldp x10, x29, [x1, {sp}]",
            "ldp x9, x19, [x1, {pc}]",
            "mov sp, x10",
            "br x9",
            "2:",
            "hint #36",
            sp = const offset_of!(Context, sp),
            pc = const offset_of!(Context, pc),
            inlateout("x0") from => _,
            inlateout("x1") to => _,
            inlateout("x2") word => received,
            // All of the vector registers too: the convention preserves only halves of v8-v15.
            clobber_abi("C"),
            lateout("x20") _,
            lateout("x21") _,
            lateout("x22") _,
            lateout("x23") _,
            lateout("x24") _,
            lateout("x25") _,
            lateout("x26") _,
            lateout("x27") _,
            lateout("x28") _,
        );
    }
    received
}

/// Has the line of memory at `address` brought into the cache: a hint, of any address.
#[inline(always)]
pub(super) fn prefetch(address: *const ()) {
    // SAFETY: it faults nowhere, and changes nothing that a program can see.
    unsafe {
        asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
}

/// Goes on at `to` and forgets the caller.
///
/// # Safety
///
/// `to` is valid and holds a place to go on at, on this thread.
#[inline(always)]
pub(super) unsafe fn leave(to: *mut Context, word: usize) -> ! {
    // SAFETY: as for `switch`, and nobody comes back.
    unsafe {
        asm!(
            "ldp x10, x29, [x1, {sp}]",
            "ldp x9, x19, [x1, {pc}]",
            "mov sp, x10",
            "br x9",
            sp = const offset_of!(Context, sp),
            pc = const offset_of!(Context, pc),
            in("x1") to,
            in("x2") word,
            options(noreturn),
        )
    }
}

/// Calls `visit(data)` in a frame whose caller is, by the unwind tables, the suspended `context`.
///
/// # Safety
///
/// `context` is valid and suspended. `visit` does not unwind.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn walk(context: *const Context, visit: Visit, data: *mut ()) {
    naked_asm!(
        ".cfi_startproc",
        "hint #34", // bti c
        "stp x29, x30, [sp, #-32]!",
        "str x19, [sp, #16]",
        ".cfi_def_cfa_offset 32",
        ".cfi_offset x29, -32",
        ".cfi_offset x30, -24",
        ".cfi_offset x19, -16",
        "mov x19, x0",
        "mov x0, x2",
        ".cfi_remember_state",
        // The caller's stack pointer is the word at x19 + sp: breg19, deref.
        ".cfi_escape 0x0f, 3, 0x83, {sp}, 0x06",
        // Its x29, x19 and return address (x30) lie at x19 + what follows each breg19.
        ".cfi_escape 0x10, 29, 2, 0x83, {fp}",
        ".cfi_escape 0x10, 19, 2, 0x83, {reserved}",
        ".cfi_escape 0x10, 30, 2, 0x83, {pc}",
        "blr x1",
        ".cfi_restore_state",
        "ldr x19, [sp, #16]",
        "ldp x29, x30, [sp], #32",
        "ret",
        ".cfi_endproc",
        sp = const offset_of!(Context, sp),
        fp = const offset_of!(Context, fp),
        pc = const offset_of!(Context, pc),
        reserved = const offset_of!(Context, reserved),
    )
}
