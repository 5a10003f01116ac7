//! x86_64, System V calling convention. The master text: the other ISAs comment differences only.
//!
//! ```text
//!   a coroutine's stack                         its Context while suspended
//!
//!   top      (aligned to 16)                    sp       = S
//!   top -  8 return address into `root`         fp       = rbp at S
//!   top - 16 saved rbp = 0  if entry keeps one  pc       = label 2 in the frame at S
//!            frame of entry                     reserved = rbx at S
//!            ...
//!   S        frame that called the switch, as the compiler's tables describe it there
//! ```
//!
//! Registers in a switch: rdi = from, rsi = to, rdx = the word; rax is scratch.

use std::arch::{asm, naked_asm};
use std::mem::offset_of;

use super::{Context, Visit};

/// Where a context starts: calls entry (in rbx) with the word (in rdx) and data (in rbp).
///
/// A backtrace ends here, by either way of walking: the return address is undefined, and the frame
/// pointer is zero. The trap keeps the return address of the call inside this function.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn root() -> ! {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined rip",
        "mov rdi, rdx",
        "mov rsi, rbp",
        "xor ebp, ebp",
        "call rbx",
        "ud2",
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
    // SAFETY: every register is clobbered but sp, fp and rbx, which whoever comes back restores
    // from `from`; the stack of this frame is left alone until then.
    unsafe {
        asm!(
            "lea rax, [rip + 2f]",
            "mov [rdi + {sp}], rsp",
            "mov [rdi + {fp}], rbp",
            "mov [rdi + {pc}], rax",
            "mov [rdi + {reserved}], rbx",
            "mov rsp, [rsi + {sp}]",
            "mov rbp, [rsi + {fp}]",
            "mov rbx, [rsi + {reserved}]",
            "jmp [rsi + {pc}]",
            "2:",
            sp = const offset_of!(Context, sp),
            fp = const offset_of!(Context, fp),
            pc = const offset_of!(Context, pc),
            reserved = const offset_of!(Context, reserved),
            inlateout("rdi") from => _,
            inlateout("rsi") to => _,
            inlateout("rdx") word => received,
            // The convention's own: vectors, masks, x87 and the rest of the general registers.
            clobber_abi("sysv64"),
            // Those it would have us preserve.
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
        );
    }
    received
}

/// Has the line of memory at `address` brought into the cache: a hint, of any address.
#[inline(always)]
pub(super) fn prefetch(address: *const ()) {
    // SAFETY: it faults nowhere, and changes nothing that a program can see.
    unsafe {
        asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
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
            "mov rsp, [rsi + {sp}]",
            "mov rbp, [rsi + {fp}]",
            "mov rbx, [rsi + {reserved}]",
            "jmp [rsi + {pc}]",
            sp = const offset_of!(Context, sp),
            fp = const offset_of!(Context, fp),
            pc = const offset_of!(Context, pc),
            reserved = const offset_of!(Context, reserved),
            in("rsi") to,
            in("rdx") word,
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
        "push rbx",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbx, -16",
        "mov rbx, rdi",
        "mov rdi, rdx",
        ".cfi_remember_state",
        // The caller's stack pointer is the word at rbx + sp: breg3, deref.
        ".cfi_escape 0x0f, 3, 0x73, {sp}, 0x06",
        // Its rbp (6), rbx (3) and return address (16) lie at rbx + what follows each breg3.
        ".cfi_escape 0x10, 6, 2, 0x73, {fp}",
        ".cfi_escape 0x10, 3, 2, 0x73, {reserved}",
        ".cfi_escape 0x10, 16, 2, 0x73, {pc}",
        "call rsi",
        ".cfi_restore_state",
        "pop rbx",
        "ret",
        ".cfi_endproc",
        sp = const offset_of!(Context, sp),
        fp = const offset_of!(Context, fp),
        pc = const offset_of!(Context, pc),
        reserved = const offset_of!(Context, reserved),
    )
}
