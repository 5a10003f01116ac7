//! The contract, asked of whichever implementation is compiled.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::hint::black_box;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use super::*;

#[cfg(not(feature = "corosensei"))]
mod capabilities;

// AddressSanitizer's frames are several times larger.
const STACK_BYTES: usize = if cfg!(cosocket_asan) { 8 << 20 } else { 1 << 20 };
const GUARD_BYTES: usize = 1 << 16;

/// A mapped stack with a guard below it.
struct Stack {
    mapping: *mut u8,
}

impl Stack {
    fn new() -> Stack {
        let len = GUARD_BYTES + STACK_BYTES;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, of which the low part is then closed.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        assert_ne!(mapping, libc::MAP_FAILED);
        // SAFETY: inside the mapping just made.
        let status = unsafe { libc::mprotect(mapping, GUARD_BYTES, libc::PROT_NONE) };
        assert_eq!(status, 0);
        Stack { mapping: mapping.cast() }
    }

    fn bounds(&self) -> Bounds {
        let bottom = self.mapping.wrapping_add(GUARD_BYTES);
        (bottom.wrapping_add(STACK_BYTES), bottom)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this length; no coroutine is left on it.
        unsafe { libc::munmap(self.mapping.cast(), GUARD_BYTES + STACK_BYTES) };
    }
}

type Body = Box<dyn FnOnce(&Coroutine, usize) -> usize>;

/// A body on a stack, with the loop's context beside its own. Boxed: both are pointed to.
struct Coroutine {
    context: Context,
    home: Context,
    body: Cell<Option<Body>>,
    panic: Cell<Option<Box<dyn Any + Send>>>,
    exited: Cell<bool>,
    stack: Stack,
}

impl Coroutine {
    fn new(body: impl FnOnce(&Coroutine, usize) -> usize + 'static) -> Box<Coroutine> {
        let coroutine = Box::new(Coroutine {
            context: Context::new(),
            home: Context::new(),
            body: Cell::new(None),
            panic: Cell::new(None),
            exited: Cell::new(true),
            stack: Stack::new(),
        });
        coroutine.restart(body);
        coroutine
    }

    /// Puts a new body on a stack that the last one has left.
    fn restart(&self, body: impl FnOnce(&Coroutine, usize) -> usize + 'static) {
        assert!(self.exited.replace(false));
        self.body.set(Some(Box::new(body)));
        let data = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the context is new or released, the stack is its own and nobody is on it.
        unsafe { init(self.context(), self.stack.bounds(), start, data) };
    }

    fn context(&self) -> *mut Context {
        ptr::from_ref(&self.context).cast_mut()
    }

    fn home(&self) -> *mut Context {
        ptr::from_ref(&self.home).cast_mut()
    }

    /// Runs the body until it suspends or exits; passes on a panic that it did not catch.
    fn resume(&self, word: usize) -> usize {
        assert!(!self.exited.get());
        // SAFETY: suspended or not started, on the thread that made it (not Send).
        let received = unsafe { resume(self.home(), self.context(), word) };
        if self.exited.get() {
            // SAFETY: it has exited, and we are on another stack.
            unsafe { release(self.context()) };
        }
        if let Some(payload) = self.panic.take() {
            panic::resume_unwind(payload);
        }
        received
    }

    /// Called by the body only.
    #[inline(always)]
    fn suspend(&self, word: usize) -> usize {
        // SAFETY: the body runs on our stack, and `resume` waits in `home`.
        unsafe { suspend(self.context(), self.home(), word) }
    }
}

impl Drop for Coroutine {
    fn drop(&mut self) {
        // SAFETY: nobody resumes it again; what a suspended body owns is leaked.
        unsafe { release(self.context()) };
    }
}

unsafe extern "C" fn start(word: usize, data: *mut ()) -> ! {
    // SAFETY: `restart` passed a coroutine, which outlives its stack.
    let coroutine = unsafe { &*data.cast::<Coroutine>() };
    let body = coroutine.body.take().expect("a coroutine starts once");
    let result = panic::catch_unwind(AssertUnwindSafe(|| body(coroutine, word)));
    let word = result.unwrap_or_else(|payload| {
        coroutine.panic.set(Some(payload));
        usize::MAX
    });
    coroutine.exited.set(true);
    // SAFETY: we run on this coroutine's stack; all that the frame owned has been moved out.
    unsafe { exit(coroutine.context(), coroutine.home(), word) }
}

#[test]
fn words_pass_both_ways() {
    let coroutine = Coroutine::new(|it, first| {
        assert_eq!(first, 1);
        assert_eq!(it.suspend(2), 3);
        assert_eq!(it.suspend(usize::MAX), 0);
        6
    });
    assert_eq!(coroutine.resume(1), 2);
    assert_eq!(coroutine.resume(3), usize::MAX);
    assert_eq!(coroutine.resume(0), 6);
    assert!(coroutine.exited.get());
}

#[test]
fn a_million_round_trips() {
    const ROUNDS: usize = if cfg!(target_arch = "x86_64") { 1_000_000 } else { 100_000 };
    let coroutine = Coroutine::new(|it, mut word| {
        for _ in 0..ROUNDS {
            word = it.suspend(word + 1);
        }
        word
    });
    let mut word = 0;
    for _ in 0..ROUNDS {
        word = coroutine.resume(word);
    }
    assert_eq!(word, ROUNDS);
    assert_eq!(coroutine.resume(word), ROUNDS);
    assert!(coroutine.exited.get());
}

/// Holds more values than there are registers of either kind across `cross`, and adds them up.
#[inline(always)]
fn hold_values(seed: u64, cross: impl FnOnce()) -> (u64, f64, u128) {
    let words: [u64; 24] = std::array::from_fn(|i| black_box(seed + i as u64));
    let floats: [f64; 24] = std::array::from_fn(|i| black_box(seed as f64 + 0.5 * i as f64));
    let wide: [u128; 12] = std::array::from_fn(|i| black_box(u128::from(seed) << (40 + i)));
    cross();
    (
        words.iter().fold(0, |sum, &word| sum ^ word.rotate_left(7)),
        floats.iter().fold(0.0, |sum, &float| sum * 2.0 + float),
        wide.iter().fold(0, |sum, &wide| sum.wrapping_add(wide) ^ 1),
    )
}

#[test]
fn live_values_survive_on_both_sides() {
    let coroutine = Coroutine::new(|it, _| {
        for seed in 0..100 {
            let expected = hold_values(seed, || ());
            let held = hold_values(seed, || {
                black_box(it.suspend(0));
            });
            assert_eq!(held, expected);
        }
        1
    });
    let mut exited = false;
    for seed in 1000.. {
        let expected = hold_values(seed, || ());
        let held = hold_values(seed, || exited = coroutine.resume(0) == 1);
        assert_eq!(held, expected);
        if exited {
            break;
        }
    }
}

#[test]
fn the_stack_is_aligned_at_entry() {
    #[repr(align(16))]
    struct Aligned(#[expect(dead_code)] [u8; 16]);

    // The compiler aligns this by the stack pointer that it was promised, not by masking it.
    #[inline(never)]
    fn address_of_aligned_local() -> usize {
        let local = black_box(Aligned([0; 16]));
        ptr::from_ref(black_box(&local)).addr()
    }

    let coroutine = Coroutine::new(|it, _| {
        it.suspend(address_of_aligned_local());
        it.suspend(address_of_aligned_local());
        0
    });
    assert_eq!(coroutine.resume(0) % STACK_ALIGNMENT, 0);
    assert_eq!(coroutine.resume(0) % STACK_ALIGNMENT, 0);
    assert_eq!(coroutine.resume(0), 0);
}

#[test]
#[should_panic(expected = "not aligned")]
#[cfg(debug_assertions)]
fn a_crooked_stack_is_refused() {
    unsafe extern "C" fn never(_word: usize, _data: *mut ()) -> ! {
        unreachable!()
    }
    let stack = Stack::new();
    let (top, bottom) = stack.bounds();
    let mut context = Context::new();
    // SAFETY: the assertion under test refuses before anything is used.
    unsafe { init(&mut context, (top.wrapping_sub(8), bottom), never, ptr::null_mut()) };
}

#[test]
fn a_panic_is_caught_inside() {
    let coroutine = Coroutine::new(|it, _| {
        let caught = panic::catch_unwind(AssertUnwindSafe(|| {
            it.suspend(1);
            panic::resume_unwind(Box::new(7_usize));
        }));
        let payload = caught.expect_err("it panicked");
        it.suspend(2);
        *payload.downcast::<usize>().expect("the payload we gave")
    });
    assert_eq!(coroutine.resume(0), 1);
    assert_eq!(coroutine.resume(0), 2);
    assert_eq!(coroutine.resume(0), 7);
}

#[test]
fn a_panic_of_the_resumer_leaves_a_suspended_one_alone() {
    let coroutine = Coroutine::new(|it, _| it.suspend(1) + 1);
    let caught = panic::catch_unwind(AssertUnwindSafe(|| {
        assert_eq!(coroutine.resume(0), 1);
        panic::resume_unwind(Box::new(()));
    }));
    assert!(caught.is_err());
    assert_eq!(coroutine.resume(41), 42);
}

#[test]
fn it_suspends_from_deep_frames() {
    #[inline(never)]
    fn descend(it: &Coroutine, depth: usize) -> usize {
        let frame = black_box([depth; 64]);
        if depth == 0 {
            return it.suspend(0);
        }
        let below = descend(it, depth - 1);
        assert_eq!(frame, [depth; 64]);
        below + 1
    }
    const DEPTH: usize = 500;
    let coroutine = Coroutine::new(|it, _| descend(it, DEPTH));
    assert_eq!(coroutine.resume(0), 0);
    assert_eq!(coroutine.resume(10), DEPTH + 10);
}

#[test]
fn coroutines_resume_coroutines() {
    let outer = Coroutine::new(|it, _| {
        let inner = Coroutine::new(|it, word| it.suspend(word * 2) * 3);
        let doubled = inner.resume(5);
        let word = it.suspend(doubled);
        inner.resume(word)
    });
    assert_eq!(outer.resume(0), 10);
    assert_eq!(outer.resume(7), 21);
}

#[test]
fn a_stack_serves_again_after_exit() {
    let coroutine = Coroutine::new(|_, word| word);
    assert_eq!(coroutine.resume(0), 0);
    for round in 1..1000 {
        coroutine.restart(move |it, word| it.suspend(word + round) + round);
        assert_eq!(coroutine.resume(1), 1 + round);
        assert_eq!(coroutine.resume(2), 2 + round);
        assert!(coroutine.exited.get());
    }
}

#[test]
fn one_that_never_starts_can_be_released() {
    let coroutine = Coroutine::new(|_, _| unreachable!());
    drop(coroutine);
}

#[inline(never)]
fn capture_inside() -> String {
    black_box(Backtrace::force_capture()).to_string()
}

#[test]
fn a_backtrace_inside_ends_at_the_root() {
    let text = Cell::new(String::new());
    let slot = ptr::from_ref(&text).expose_provenance();
    #[inline(never)]
    fn resume_from_here(coroutine: &Coroutine) {
        coroutine.resume(0);
        black_box(coroutine);
    }
    let coroutine = Coroutine::new(move |_, _| {
        // SAFETY: `text` outlives the coroutine.
        let text = unsafe { &*ptr::with_exposed_provenance::<Cell<String>>(slot) };
        text.set(capture_inside());
        0
    });
    resume_from_here(&coroutine);
    let text = text.take();
    assert!(text.contains("capture_inside"), "{text}");
    assert!(text.contains("arch::tests::start"), "{text}");
    if WALKABLE {
        // The outermost frame is the root: nothing of the resumer, nothing unknown after it.
        let last = text.lines().rfind(|line| line.trim_start().split(": ").count() == 2);
        assert!(last.is_some_and(|line| line.contains("::root")), "{text}");
        assert!(!text.contains("resume_from_here"), "{text}");
    }
}
