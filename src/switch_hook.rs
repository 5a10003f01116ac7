//! Hooks at the switch: for libraries that keep the state of a scope in a thread-local.
//!
//! ```text
//!   locals              frame of the inner call     frame of the outer call
//!   +-----------+       +-----------------+         +-----------------+
//!   | hooks  ---------> | hook   outer ---------> | hook   outer ------> null
//!   +-----------+       +-----------------+         +-----------------+
//!
//!   the coroutine gives way:   inner.leave(), outer.leave(), then the switch
//!   it goes on:                the switch, then outer.enter(), inner.enter()
//! ```
//!
//! The nodes lie in the frames that they are in force for, which end in the opposite order of
//! their beginning, whatever ends them; there is no guard that could be forgotten. They start from
//! the coroutine's locals, because few have any, and the control block is full. A flag in there
//! says whether to look: all that a switch costs a coroutine without hooks is that look, at a byte
//! of a cache line that it uses anyway.
//!
//! Hooks run on the coroutine's own stack, and while they do, and until the coroutine is back, the
//! locals have [`BUSY`] in their place: one that waits would leave in the middle of leaving. The
//! way out turns the links round, so the way back in needs neither a second list nor recursion.

use std::cell::Cell;
use std::ptr;
use std::thread::LocalKey;

use crate::coroutine::Coroutine;
use crate::current;
use crate::local::Locals;

/// State of a scope, kept for the thread, that is to follow a coroutine instead. See
/// [`with_switch_hook`].
pub trait SwitchHook {
    /// The coroutine is about to give way: takes its state off the thread, and leaves there what
    /// was before its scope began.
    fn leave(&self);

    /// The coroutine goes on, on the same thread: puts its state back, over what is there now.
    fn enter(&self);
}

/// Runs `f`; whenever the coroutine gives way to others in it, `hook.leave()` is called before and
/// `hook.enter()` after.
///
/// For libraries whose scopes on a thread are expected to nest: they put something into a
/// thread-local when a scope begins, and put back what was there when it ends. Two coroutines that
/// wait inside such scopes do not nest. With a hook around its scopes, the thread has the state of
/// whoever runs on it. Where the state is a `Cell` in a [`thread_local!`], [`with_thread_local`] is
/// that hook already. [The guide](crate::guide::_06_soundness) has the picture.
///
/// Each `leave` is followed by one `enter` before anything else of this coroutine runs, also when a
/// cancel, a timeout or the end of the runtime has it unwind; only a coroutine that is never
/// resumed (see [`Straggler`](crate::Straggler)) does not enter again. A coroutine that
/// gives way with nobody else ready may leave and enter with nothing between.
///
/// Hooks nest, in each coroutine for itself: those of inner calls leave first and enter last. They
/// stay with the coroutine that called this; coroutines that it spawns start without. On a plain
/// thread, which does not switch, this just runs `f`.
///
/// # Aborts
///
/// A hook runs in the middle of a switch. One that panics, or waits, ends the process with a
/// message. To wait is to call anything of this crate that suspends when it has to, whether it has
/// to or not: a read that has data and a lock that is free give way now and then, too.
///
/// ```
/// use std::cell::RefCell;
/// use cosocket::thread::{self, SwitchHook};
///
/// // A library's: the spans that are open on this thread, outermost first.
/// thread_local! { static SPANS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) } }
///
/// /// A coroutine's spans while it is away, everybody else's while it is here: none, at first.
/// #[derive(Default)]
/// struct Swapped(RefCell<Vec<u32>>);
///
/// impl SwitchHook for Swapped {
///     fn leave(&self) {
///         SPANS.with_borrow_mut(|spans| std::mem::swap(spans, &mut self.0.borrow_mut()));
///     }
///     fn enter(&self) {
///         self.leave();
///     }
/// }
///
/// fn handle(request: u32) {
///     thread::with_switch_hook(&Swapped::default(), || {
///         SPANS.with_borrow_mut(|spans| spans.push(request));
///         thread::yield_now(); // the other request opens its span
///         assert_eq!(SPANS.with_borrow_mut(Vec::pop), Some(request));
///     });
/// }
///
/// cosocket::run(|| {
///     let handlers = [1, 2].map(|request| cosocket::spawn_local(move || handle(request)));
///     handlers.into_iter().for_each(|handler| handler.join().unwrap());
/// });
/// ```
pub fn with_switch_hook<T>(hook: &dyn SwitchHook, f: impl FnOnce() -> T) -> T {
    let Some(worker) = current::worker() else {
        return f();
    };
    let me = worker.current();
    let Hooks(innermost) = &Locals::of(me).hooks;
    let installed = Installed { hook, outer: Cell::new(innermost.get()) };
    if installed.outer.get() == BUSY {
        misused("called `with_switch_hook`");
    }
    innermost.set(ptr::from_ref(&installed).cast());
    let _in_force = InForce { flag: &me.hooked, innermost, installed: &installed };
    me.hooked.set(true);
    f()
}

/// Runs `f` with `value` in the thread-local `key`, for this coroutine alone: while it waits in
/// `f`, and when `f` is over, the thread-local is what it was for everybody else.
///
/// This makes scopes nest that a library keeps in such a variable. `scoped-tls` does, and lets
/// its users reach it (as a hidden field of the key):
///
/// ```
/// use cosocket::thread;
/// scoped_tls::scoped_thread_local!(static USER: String);
///
/// fn handle(name: &str) {
///     // Around all of the coroutine that may wait inside `USER.set`; it starts with none set.
///     thread::with_thread_local(USER.inner, std::ptr::null(), || {
///         USER.set(&name.to_owned(), || {
///             thread::yield_now(); // the others set theirs
///             USER.with(|user| assert_eq!(user, name));
///         });
///     });
/// }
///
/// cosocket::run(|| {
///     let handlers = ["ann", "bob"].map(|name| cosocket::spawn_local(move || handle(name)));
///     handlers.into_iter().for_each(|handler| handler.join().unwrap());
///     assert!(!USER.is_set());
/// });
/// ```
///
/// On a plain thread it does the same, without the waits. Built on [`with_switch_hook`].
///
/// # Panics
///
/// When the thread-local is destroyed already, in a destructor of another one.
pub fn with_thread_local<V, T>(
    key: &'static LocalKey<Cell<V>>,
    value: V,
    f: impl FnOnce() -> T,
) -> T {
    let swapped = Swapped { key, away: Cell::new(value) };
    swapped.swap();
    let _at_end = SwapBack(&swapped);
    with_switch_hook(&swapped, f)
}

/// A thread-local for the time that one coroutine runs.
struct Swapped<V: 'static> {
    key: &'static LocalKey<Cell<V>>,
    /// The coroutine's while it is away, everybody else's while it is here.
    away: Cell<V>,
}

impl<V> Swapped<V> {
    fn swap(&self) {
        self.key.with(|here| here.swap(&self.away));
    }
}

impl<V> SwitchHook for Swapped<V> {
    fn leave(&self) {
        self.swap();
    }

    fn enter(&self) {
        self.swap();
    }
}

struct SwapBack<'a, V: 'static>(&'a Swapped<V>);

impl<V> Drop for SwapBack<'_, V> {
    fn drop(&mut self) {
        self.0.swap();
    }
}

/// The innermost hook in force, null when there is none; part of the locals.
pub(crate) struct Hooks(Cell<*const Installed<'static>>);

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks(Cell::new(ptr::null()))
    }
}

/// One hook in force; see the module.
struct Installed<'a> {
    hook: &'a dyn SwitchHook,
    /// The next one further out; further in, while the coroutine is away.
    outer: Cell<*const Installed<'static>>,
}

/// In place of the hooks, from their leaving to their entering again.
const BUSY: *const Installed<'static> = ptr::dangling();

/// Unlinks a hook, however its call ends.
struct InForce<'a> {
    flag: &'a Cell<bool>,
    innermost: &'a Cell<*const Installed<'static>>,
    installed: &'a Installed<'a>,
}

impl Drop for InForce<'_> {
    fn drop(&mut self) {
        let outer = self.installed.outer.get();
        self.innermost.set(outer);
        self.flag.set(!outer.is_null());
    }
}

/// Runs `switch` between the hooks of `me`, which has some.
#[cold]
pub(crate) fn around_switch(me: &Coroutine, switch: impl FnOnce()) {
    let Hooks(hooks) = &Locals::of(me).hooks;
    let innermost = hooks.replace(BUSY);
    if innermost == BUSY {
        misused("waited");
    }
    // SAFETY: the nodes are in frames of `me`, which stay while it is in this call, further in.
    let outermost = unsafe { call_each(innermost, |hook| hook.leave()) };
    switch();
    // SAFETY: as above.
    hooks.set(unsafe { call_each(outermost, |hook| hook.enter()) });
}

/// Calls each from `first` on, and turns the links round. Returns the last one, which is the first
/// for the way back.
///
/// # Safety
///
/// The nodes are live.
unsafe fn call_each(
    first: *const Installed<'static>,
    call: impl Fn(&dyn SwitchHook),
) -> *const Installed<'static> {
    let bomb = Bomb;
    let (mut last, mut next) = (ptr::null(), first);
    // SAFETY: the caller's promise.
    while let Some(installed) = unsafe { next.as_ref() } {
        call(installed.hook);
        let before = std::mem::replace(&mut last, next);
        next = installed.outer.replace(before);
    }
    std::mem::forget(bomb);
    last
}

/// Ends the process when a hook unwinds: half of them have left.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        misused("panicked");
    }
}

#[cold]
fn misused(did: &str) -> ! {
    eprintln!("cosocket: a switch hook {did}, which it must not. Aborting.");
    std::process::abort();
}
