//! riscv64 with hardware doubles, the standard calling convention. As x86_64.rs; commented is
//! what differs.
//!
//! ```text
//!   a coroutine's stack                         its Context while suspended
//!
//!   top      (aligned to 16)                    sp       = S
//!   top -  8 ra = return address into `root`    fp       = s0 at S
//!   top - 16 s0 = 0         if entry keeps one  pc       = label 2 in the frame at S
//!            rest of the frame of entry         reserved = s1 at S
//!            ...
//!   S        frame that called the switch, as the compiler's tables describe it there
//! ```
//!
//! Registers in a switch: a0 = from, a1 = to, a2 = the word; t1 and t2 are scratch. The jump goes
//! through t1 because one through ra or t0 means a return to the hardware, which would then pop
//! its stack of return addresses. gp and tp belong to the thread and stay.

use std::arch::{asm, naked_asm};
use std::mem::offset_of;

use super::{Context, Visit};

/// Where a context starts: calls entry (in s1) with the word (in a2) and data (in s0).
#[unsafe(naked)]
pub(super) unsafe extern "C" fn root() -> ! {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined ra",
        "mv a0, a2",
        "mv a1, s0",
        "mv s0, zero",
        "jalr s1",
        "unimp",
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
    // SAFETY: every register is clobbered but sp, fp and s1, which whoever comes back restores
    // from `from`; the stack of this frame is left alone until then.
    unsafe {
        asm!(
            "lla t1, 2f",
            "sd sp, {sp}(a0)",
            "sd s0, {fp}(a0)",
            "sd t1, {pc}(a0)",
            "sd s1, {reserved}(a0)",
            "ld t1, {pc}(a1)",
            "ld sp, {sp}(a1)",
            "ld s0, {fp}(a1)",
            "ld s1, {reserved}(a1)",
            "jr t1",
            "2:",
            sp = const offset_of!(Context, sp),
            fp = const offset_of!(Context, fp),
            pc = const offset_of!(Context, pc),
            reserved = const offset_of!(Context, reserved),
            inlateout("a0") from => _,
            inlateout("a1") to => _,
            inlateout("a2") word => received,
            clobber_abi("C"),
            lateout("s2") _,
            lateout("s3") _,
            lateout("s4") _,
            lateout("s5") _,
            lateout("s6") _,
            lateout("s7") _,
            lateout("s8") _,
            lateout("s9") _,
            lateout("s10") _,
            lateout("s11") _,
            lateout("fs0") _,
            lateout("fs1") _,
            lateout("fs2") _,
            lateout("fs3") _,
            lateout("fs4") _,
            lateout("fs5") _,
            lateout("fs6") _,
            lateout("fs7") _,
            lateout("fs8") _,
            lateout("fs9") _,
            lateout("fs10") _,
            lateout("fs11") _,
        );
    }
    received
}

/// Nothing: the instruction for it is an extension.
#[inline(always)]
pub(super) fn prefetch(_address: *const ()) {}

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
            "ld t1, {pc}(a1)",
            "ld sp, {sp}(a1)",
            "ld s0, {fp}(a1)",
            "ld s1, {reserved}(a1)",
            "jr t1",
            sp = const offset_of!(Context, sp),
            fp = const offset_of!(Context, fp),
            pc = const offset_of!(Context, pc),
            reserved = const offset_of!(Context, reserved),
            in("a1") to,
            in("a2") word,
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
        "addi sp, sp, -16",
        "sd ra, 8(sp)",
        "sd s1, 0(sp)",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset ra, -8",
        ".cfi_offset s1, -16",
        "mv s1, a0",
        "mv a0, a2",
        ".cfi_remember_state",
        // The caller's stack pointer is the word at s1 (x9) + sp: breg9, deref.
        ".cfi_escape 0x0f, 3, 0x79, {sp}, 0x06",
        // Its s0 (x8), s1 (x9) and return address (x1) lie at s1 + what follows each breg9.
        ".cfi_escape 0x10, 8, 2, 0x79, {fp}",
        ".cfi_escape 0x10, 9, 2, 0x79, {reserved}",
        ".cfi_escape 0x10, 1, 2, 0x79, {pc}",
        "jalr a1",
        ".cfi_restore_state",
        "ld ra, 8(sp)",
        "ld s1, 0(sp)",
        "addi sp, sp, 16",
        "ret",
        ".cfi_endproc",
        sp = const offset_of!(Context, sp),
        fp = const offset_of!(Context, fp),
        pc = const offset_of!(Context, pc),
        reserved = const offset_of!(Context, reserved),
    )
}
