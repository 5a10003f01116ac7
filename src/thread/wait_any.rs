//! Waiting for the first of several coroutines.

use super::{JoinHandle, LocalJoinHandle, Result, ScopedJoinHandle, Thread};
use crate::coroutine::Identity;
use crate::current;
use crate::shield;
use crate::wait::{self, Reason, Shield, wait_at_any};

/// The handles that [`wait_any`] takes: of [`spawn`](super::spawn),
/// [`spawn_local`](super::spawn_local) and [`Scope::spawn`](super::Scope::spawn).
pub trait Joinable: sealed::Sealed {
    /// The coroutine.
    fn thread(&self) -> &Thread;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! joinable {
    ($($handle:ident<$($lifetime:lifetime,)? T>),*) => {$(
        impl<$($lifetime,)? T> sealed::Sealed for $handle<$($lifetime,)? T> {}

        impl<$($lifetime,)? T> Joinable for $handle<$($lifetime,)? T> {
            fn thread(&self) -> &Thread {
                $handle::thread(self)
            }
        }
    )*};
}

joinable!(JoinHandle<T>, LocalJoinHandle<T>, ScopedJoinHandle<'scope, T>);

/// Waits until one of these coroutines is over, and returns its index: of several, the first in
/// this order. Its `join` then returns at once; the others go on.
///
/// OpenResty's `ngx.thread.wait`. For the results of many, in the order of their ends,
/// [`JoinSet`](crate::sync::JoinSet) has less to do.
///
/// A cancel, and a [`timeout`](crate::time::timeout) around this, unwind, and leave all of them as
/// they are.
///
/// # Panics
///
/// When there is none.
///
/// ```
/// use std::time::Duration;
///
/// use cosocket::thread;
///
/// let delays = [Duration::from_secs(3600), Duration::from_millis(1)];
/// let mut sleepers: Vec<_> = delays
///     .map(|delay| {
///         thread::spawn(move || {
///             thread::sleep(delay);
///             delay
///         })
///     })
///     .into();
/// let first = thread::wait_any(&mut sleepers);
/// assert_eq!(sleepers.swap_remove(first).join().unwrap(), delays[1]);
/// assert!(!sleepers[0].is_finished());
/// ```
pub fn wait_any<H: Joinable>(handles: &mut [H]) -> usize {
    assert!(!handles.is_empty(), "there is no coroutine to wait for");
    let _shield = Shield::where_nothing_unwinds();
    let threads: Vec<Thread> = handles.iter().map(|handle| handle.thread().clone()).collect();
    let finished = || threads.iter().position(|thread| identity(thread).is_done());
    if finished().is_none() {
        match current::worker() {
            Some(_) => wait_until_any(&threads),
            None => wait_on_thread(&threads),
        }
    }
    // If the wait was cut, and nothing came of it.
    finished().unwrap_or_else(|| wait::raise_cancelled())
}

fn identity(thread: &Thread) -> &Identity {
    thread.coroutine().expect("spawned").identity()
}

fn wait_until_any(threads: &[Thread]) {
    let is_over = || threads.iter().any(|thread| identity(thread).is_done());
    let slots = threads.iter().map(|thread| identity(thread).joiner());
    wait_at_any(slots, is_over, Reason::JOIN);
}

/// A thread blocks at one place only: a coroutine waits in its stead.
fn wait_on_thread(threads: &[Thread]) {
    struct Deputy(Option<JoinHandle<()>>);

    impl Drop for Deputy {
        fn drop(&mut self) {
            if let Some(handle) = self.0.take() {
                handle.cancel();
                // Then nothing of it is left in the slots.
                let _: Result<()> = shield(|| handle.join());
            }
        }
    }

    let threads = threads.to_vec();
    let deputy = Deputy(Some(super::spawn(move || wait_until_any(&threads))));
    let handle = deputy.0.as_ref().expect("spawned");
    handle.0.packet.identity().wait_done(false);
}
