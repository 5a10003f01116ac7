//! What the hand-written implementations give besides: direct switches and walks.

use super::*;

#[test]
fn contexts_switch_in_a_ring() {
    const { assert!(DIRECT) };
    const RING: usize = 100;
    const LAPS: usize = 50;
    /// Adds one to the word and hands it to the next, which the last lap's end does not reach.
    fn pass_on(it: &Coroutine, mut word: usize, next: *mut Context) -> usize {
        for _ in 1..LAPS {
            // SAFETY: the body runs on its own stack; all the others wait in theirs, or to start.
            word = unsafe { switch(it.context(), next, word + 1) };
        }
        word + 1
    }
    let next = std::rc::Rc::new(Cell::new([ptr::null_mut(); RING]));
    let ring: Vec<Box<Coroutine>> = (0..RING)
        .map(|i| {
            let next = next.clone();
            Coroutine::new(move |it, word| {
                let next = next.get()[i];
                pass_on(it, word, next)
            })
        })
        .collect();
    next.set(std::array::from_fn(|i| ring[(i + 1) % RING].context()));
    // Coroutine 0 exits first, to the loop that resumed it; the rest are resumed one by one.
    let mut word = ring[0].resume(0);
    assert_eq!(word, (LAPS - 1) * RING + 1);
    for coroutine in &ring[1..] {
        assert!(!coroutine.exited.get());
        let after = coroutine.resume(word);
        assert_eq!(after, word + 1);
        word = after;
    }
    assert_eq!(word, LAPS * RING);
    assert!(ring.iter().all(|coroutine| coroutine.exited.get()));
}

unsafe extern "C" {
    /// The unwinder's: the address of the function whose code, by the unwind tables, ends at or
    /// contains the byte before `pc`; null if there is none.
    fn _Unwind_FindEnclosingFunction(pc: *const ()) -> *const ();
}

#[inline(never)]
extern "C" fn rest_innermost(it: &Coroutine) -> usize {
    black_box(it).suspend(0) + 1
}

#[inline(never)]
extern "C" fn rest_outermost(it: &Coroutine) -> usize {
    let frame = black_box([3_usize; 100]);
    rest_innermost(it) + black_box(frame)[50]
}

#[test]
#[cfg_attr(cosocket_asan, ignore = "reads what lies between the locals of other frames")]
fn a_suspended_stack_can_be_found_and_read() {
    const { assert!(WALKABLE) };
    let coroutine = Coroutine::new(|it, _| rest_outermost(it));
    assert_eq!(coroutine.context.registers(), None, "it has not started");
    coroutine.resume(0);
    let registers = coroutine.context.registers().expect("it is suspended");
    let (top, bottom) = coroutine.stack.bounds();
    assert!((bottom.addr()..top.addr()).contains(&registers.sp), "{registers:x?}");

    // SAFETY: takes any address.
    let enclosing =
        |pc: usize| unsafe { _Unwind_FindEnclosingFunction(ptr::without_provenance(pc)) as usize };
    assert_eq!(enclosing(registers.pc), rest_innermost as *const () as usize);
    // The return addresses of its callers follow above the stack pointer, in order.
    let mut callers = vec![start as *const () as usize, rest_outermost as *const () as usize];
    let mut slot = registers.sp;
    while slot < top.addr() && !callers.is_empty() {
        // SAFETY: inside the stack, which is mapped and at rest.
        let word = unsafe { ptr::with_exposed_provenance::<usize>(slot).read() };
        if Some(&enclosing(word)) == callers.last() {
            callers.pop();
        }
        slot += size_of::<usize>();
    }
    assert!(callers.is_empty(), "not found on the stack: {callers:?}");

    assert_eq!(coroutine.resume(1), 5);
    assert_eq!(coroutine.context.registers(), None, "it has exited");
}

unsafe extern "C" fn capture_into(text: *mut ()) {
    // SAFETY: the test passes its string.
    unsafe { *text.cast::<String>() = capture_inside() };
}

#[test]
fn a_backtrace_of_a_suspended_one_shows_its_frames() {
    let coroutine = Coroutine::new(|it, _| rest_outermost(it));
    let mut text = String::new();
    let data = ptr::from_mut(&mut text).cast();
    // SAFETY: it has not started, which is one way of not being suspended.
    unsafe { walk(coroutine.context(), capture_into, data) };
    assert_eq!(text, "");
    coroutine.resume(0);
    // SAFETY: it is suspended, on this thread.
    unsafe { walk(coroutine.context(), capture_into, data) };
    let frames = ["capture_into", "::walk", "rest_innermost", "rest_outermost", "::root"];
    let mut rest = text.as_str();
    for frame in frames {
        let (_, after) = rest.split_once(frame).unwrap_or_else(|| panic!("{frame}: {text}"));
        rest = after;
    }
    assert_eq!(rest.lines().filter(|line| line.contains(": ")).count(), 0, "{text}");
    assert_eq!(coroutine.resume(1), 5);
}
