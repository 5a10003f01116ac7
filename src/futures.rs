//! Running futures in a coroutine: [`block_on`], and sockets for async crates ([`Async`]).
//! Feature `futures`.
//!
//! ```text
//!            .------------------------ block_on -------------------------.
//!   poll --> future --> Async::poll_read: would block --> (socket, waker) |
//!    ^                  other awaits: channels, timers of other crates    |
//!    |                                                                    v
//!    '--- woken: by a waker (any thread), or by a socket <--- suspend, once for all of them
//! ```
//!
//! This is for using an async crate from code that is not: a protocol implementation that only
//! exists as `async`, say. It runs no tasks of its own and has no timers; what the rest of this
//! crate can do, coroutines, timeouts, channels, is there around it and inside of it:
//!
//! * [`time::timeout`](crate::time::timeout) around `block_on` bounds it, and a cancel of the coroutine
//!   unwinds out of it. In both cases the future is dropped, as dropping a future cancels it.
//! * Other calls of this crate may be made inside a future: they suspend the coroutine, and with
//!   it the whole future, as they would suspend any function.
//! * For futures that shall run side by side, `join` them with the crate `futures`, or give each a
//!   coroutine with a `block_on` of its own.
//!
//! Futures that need another runtime's reactor or timers (tokio's sockets, `tokio::time`) do not
//! find it here. Crates that are generic over `futures_io`'s traits, or have traits of their own
//! (hyper), work; so does everything that only wakes wakers.

mod notifier;
mod reactor;
mod stream;

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

pub use self::stream::{Async, AsyncSocket};

use self::reactor::Reactor;
use crate::wait::Shield;

/// Runs a future to its end and returns its output. A coroutine is suspended while the future
/// waits, a plain thread blocks.
///
/// The future is polled here and nowhere else, so it need not be `Send` or `'static`. Wakers may
/// be kept, and woken from any thread, for as long as one likes. A poll allocates nothing; waiting
/// for a socket may the first time. A future that wakes itself without end lets others of its
/// worker run now and then.
///
/// It may be used inside a future that another `block_on` runs; the outer future then waits for the
/// inner one.
///
/// # Timeouts and cancels
///
/// Both unwind out of this call (not with `panic = "abort"`, where it goes on) and drop the
/// future.
///
/// ```
/// use std::future;
/// use std::task::Poll;
/// use cosocket::{futures, thread};
///
/// cosocket::run(|| {
///     let mut polls = 0;
///     let answer = futures::block_on(future::poll_fn(|context| {
///         polls += 1;
///         if polls == 3 {
///             return Poll::Ready(42);
///         }
///         let waker = context.waker().clone();
///         thread::spawn(move || waker.wake());
///         Poll::Pending
///     }));
///     assert_eq!((answer, polls), (42, 3));
/// });
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let _shield = Shield::where_nothing_unwinds();
    let reactor = Rc::new(Reactor::new());
    let waker = Waker::from(Arc::clone(reactor.notifier()));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let _entered = reactor::enter(&reactor);
    loop {
        reactor.begin_poll();
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        reactor.wait();
    }
}
