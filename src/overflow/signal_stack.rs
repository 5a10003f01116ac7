//! The stack on which a worker handles an overflow of the one it runs on.

use std::io;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use crate::stack::page_bytes;

/// What our handler, and one that we call, may need beyond the kernel's own frame. std gives its
/// threads none beyond it.
const HANDLER_BYTES: usize = 16 << 10;

/// The signal stack of the thread that made it. A worker needs one: what std gives its threads is
/// too small for the report on some processors. Dropped, the one before is in force again.
#[derive(Debug)]
pub(crate) struct SignalStack {
    /// A guard page, then the stack.
    base: NonNull<u8>,
    bytes: usize,
    previous: libc::stack_t,
    /// It belongs to this thread.
    _not_send: PhantomData<*mut ()>,
}

impl SignalStack {
    /// Fails where memory or mappings have run out.
    pub(crate) fn new() -> io::Result<SignalStack> {
        let guard_bytes = page_bytes();
        let stack_bytes = (kernel_bytes() + HANDLER_BYTES).next_multiple_of(guard_bytes);
        let mut this = SignalStack {
            base: map(guard_bytes + stack_bytes)?,
            bytes: guard_bytes + stack_bytes,
            previous: disabled(),
            _not_send: PhantomData,
        };
        // SAFETY: our own mapping, used by nobody.
        let guarded =
            unsafe { libc::mprotect(this.base.as_ptr().cast(), guard_bytes, libc::PROT_NONE) };
        if guarded != 0 {
            return Err(io::Error::last_os_error());
        }
        let stack = libc::stack_t { ss_sp: this.bottom(), ss_flags: 0, ss_size: stack_bytes };
        // SAFETY: the stack stays mapped until `drop` has put another in its place.
        match unsafe { libc::sigaltstack(&stack, &mut this.previous) } {
            0 => Ok(this),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn bottom(&self) -> *mut libc::c_void {
        self.base.as_ptr().wrapping_add(page_bytes()).cast()
    }

    /// Whether this thread's signals still come here; somebody else may have set another since.
    fn is_in_force(&self) -> bool {
        let mut present = disabled();
        // SAFETY: the kernel writes to our own variable.
        let answer = unsafe { libc::sigaltstack(ptr::null(), &mut present) };
        answer == 0 && present.ss_flags & libc::SS_DISABLE == 0 && present.ss_sp == self.bottom()
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        if self.is_in_force() {
            let previous = if self.previous.ss_sp.is_null() { disabled() } else { self.previous };
            // SAFETY: it was in force when we came, and its owner takes it away after us.
            let answer = unsafe { libc::sigaltstack(&previous, ptr::null_mut()) };
            if answer != 0 {
                // We are running on it, and so it must stay.
                return;
            }
        }
        // SAFETY: our own mapping, on which no signal is handled any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// What the kernel pushes before a handler runs, which depends on the processor's registers.
fn kernel_bytes() -> usize {
    // SAFETY: plain numbers; zero where the kernel does not say.
    let bytes = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) };
    (bytes as usize).max(libc::MINSIGSTKSZ)
}

fn disabled() -> libc::stack_t {
    libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 }
}

fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping, wherever the kernel likes.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(base.cast()).expect("a mapping at address zero"))
}
