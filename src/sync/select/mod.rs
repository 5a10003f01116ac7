//! Waiting for the first of several: values, room for values, times, sockets.
//!
//! What a select waits for are its [arms](Arm): [`recv`] and [`send`] on channels of any kind,
//! [`closed`], [`after`] and [`at`], coroutines that have [`finished`], and sockets that are
//! [`ready`]. It waits until one of them can be done, does that one, and leaves the others undone: a
//! value is received by the arm that is chosen or not at all. When several can be done at once,
//! chance decides, so none is starved.
//!
//! The [`select!`](crate::select!) macro is for a fixed number of arms:
//!
//! ```
//! use std::time::Duration;
//!
//! use cosocket::sync::{mpsc, select};
//!
//! let (numbers, number) = mpsc::channel::<i32>();
//! let (_words, word) = mpsc::channel::<&str>();
//! numbers.send(7).unwrap();
//!
//! let text = select! {
//!     number = select::recv(&number) => number.unwrap().to_string(),
//!     word = select::recv(&word) => word.unwrap().to_owned(),
//!     () = select::after(Duration::from_secs(10)) => "nothing".to_owned(),
//! };
//! assert_eq!(text, "7");
//! ```
//!
//! and [`Select`] for any number, known when the program runs.
//!
//! A select works in a coroutine, which suspends, and on a plain thread, which blocks. A cancel
//! unwinds out of it, unless an arm was chosen at the same time: then the arm is done, and the
//! next wait unwinds.

mod arm;
mod decision;
mod finish;
mod macros;
mod ready;
mod time;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::clock::{self, Nanos};
use crate::unwind::abort_on_panic;
use crate::wait::{self, Kind, Reason, Shield, Signal, Waiter};

use super::channel::begin_call;

pub use self::arm::{Closed, ReceiveEnd, Receiving, SendEnd, Sending, closed, recv, send};
pub(crate) use self::decision::Decision;
pub use self::finish::{Finish, Joinable, finished};
pub use self::ready::{Pollable, Readiness, ready};
pub(crate) use self::sealed::{End, Handle, Operation, Round};
pub use self::time::{Timer, after, at};

/// Something a select can wait for. Made by the functions of this [module](self); nothing
/// outside of it can be one.
pub trait Arm: sealed::Operation {
    /// What the arm yields when it is chosen.
    type Output;

    /// Takes what it yields, if a select has chosen it. The arm may then wait again, in another
    /// select; until then it stays chosen, and the next select would choose it at once.
    fn take(&mut self) -> Option<Self::Output>;
}

/// A reference to an arm is one, so that it outlives the select which it was not chosen in.
impl<A: Arm> Arm for &mut A {
    type Output = A::Output;

    fn take(&mut self) -> Option<A::Output> {
        (**self).take()
    }
}

mod sealed {
    use std::os::fd::RawFd;

    use super::Decision;
    use crate::clock::Nanos;
    use crate::coroutine::Identity;
    use crate::sync::channel::Channel;
    use crate::wait::Waiter;

    /// One end of a channel.
    pub trait End {
        /// What goes through the channel.
        type Value;

        fn channel(&self) -> &Channel<Self::Value>;
    }

    /// A handle that can be joined.
    pub trait Handle {
        fn identity(&self) -> &Identity;
    }

    /// One time that a select waits: what its arms' nodes point to. It lies in the select's frame.
    #[doc(hidden)]
    pub struct Round {
        pub(crate) waiter: Waiter,
        pub(crate) decision: Decision,
    }

    impl std::fmt::Debug for Round {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_tuple("Round").field(&self.decision).finish()
        }
    }

    /// An arm, as the select that waits for it sees it.
    ///
    /// ```text
    ///   idle --attempt: yes--------------------------------------------------> chosen --take-> idle
    ///    ^ |                                                                       ^
    ///    | `--enlist--> enlisted --a peer, or the event itself, decides for it-----'
    ///    |                  |
    ///    `----withdraw------'
    /// ```
    ///
    /// Methods take `&self`: while an arm is enlisted, others reach into it.
    pub trait Operation {
        /// Does what the arm is about, if that takes no waiting; whether it did.
        fn attempt(&self) -> bool;

        /// Sees to it that the arm is decided for, or the waiter woken, when an attempt might
        /// succeed. False if it might right now: then the arm stays as it is.
        ///
        /// # Safety
        ///
        /// Until the round was decided for this arm and its waiter woken, or `withdraw` has
        /// returned, both arm and round stay where they are.
        unsafe fn enlist(&self, round: &Round, index: usize) -> bool;

        /// `withdraw` will be called, when all arms have had this call.
        fn cancel(&self) {}

        /// Undoes `enlist`: when it returns, nobody else knows of the arm or the round. It may
        /// wait for that, but not be cancelled.
        fn withdraw(&self);

        /// The round was decided for this arm.
        fn choose(&self);

        /// After a wake-up that decided nothing: whether an attempt may succeed now.
        fn is_ready(&self) -> bool {
            false
        }

        /// When an attempt will succeed by the clock alone, or is due in case it might.
        fn deadline(&self) -> Option<Nanos> {
            None
        }

        /// What it waits for, if that is a descriptor.
        fn descriptor(&self) -> Option<RawFd> {
            None
        }
    }

    impl<A: Operation> Operation for &mut A {
        fn attempt(&self) -> bool {
            (**self).attempt()
        }

        unsafe fn enlist(&self, round: &Round, index: usize) -> bool {
            // SAFETY: the caller's promise is about what this refers to as well.
            unsafe { (**self).enlist(round, index) }
        }

        fn withdraw(&self) {
            (**self).withdraw();
        }

        fn choose(&self) {
            (**self).choose();
        }

        fn is_ready(&self) -> bool {
            (**self).is_ready()
        }

        fn deadline(&self) -> Option<Nanos> {
            (**self).deadline()
        }

        fn cancel(&self) {
            (**self).cancel();
        }

        fn descriptor(&self) -> Option<RawFd> {
            (**self).descriptor()
        }
    }
}

/// Arms beyond this number are kept in a `Vec`.
const INLINE_ARMS: usize = 8;

/// A select over any number of arms.
///
/// Up to eight arms take no allocation; what the arms need to wait lies in the arms themselves.
///
/// ```
/// use cosocket::sync::mpsc;
/// use cosocket::sync::select::{self, Arm, Select};
///
/// let channels: Vec<_> = (0..3).map(|_| mpsc::sync_channel(1)).collect();
/// channels[1].0.send("hello").unwrap();
///
/// let mut arms: Vec<_> = channels.iter().map(|(_, receiver)| select::recv(receiver)).collect();
/// let mut select = Select::new();
/// for arm in &mut arms {
///     select.add(arm);
/// }
/// let chosen = select.wait();
/// assert_eq!(chosen, 1);
/// assert_eq!(arms[chosen].take(), Some(Ok("hello")));
/// ```
#[derive(Default)]
pub struct Select<'a> {
    first: [Option<&'a dyn Operation>; INLINE_ARMS],
    more: Vec<&'a dyn Operation>,
    len: usize,
}

/// How long a select waits.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Nanos),
    Endless,
}

impl<'a> Select<'a> {
    /// A select without arms.
    pub fn new() -> Select<'a> {
        Select::default()
    }

    /// Adds an arm and returns its number: 0 for the first, 1 for the next.
    pub fn add<A: Arm>(&mut self, arm: &'a mut A) -> usize {
        // From here to the end of 'a it is reached through shared references only.
        let arm: &'a A = arm;
        let index = self.len;
        match self.first.get_mut(index) {
            Some(place) => *place = Some(arm),
            None => self.more.push(arm),
        }
        self.len += 1;
        index
    }

    /// Waits until an arm can be done and does it; returns its number. What the arm yields is
    /// then to be [taken](Arm::take) from it.
    ///
    /// # Panics
    ///
    /// When there is no arm.
    pub fn wait(self) -> usize {
        assert!(self.len > 0, "a select without arms would wait for ever");
        self.run(Patience::Endless).expect("an endless wait ends with an arm")
    }

    /// As [`wait`](Select::wait), if an arm can be done at once; else `None`. Never waits.
    pub fn try_wait(self) -> Option<usize> {
        self.run(Patience::None)
    }

    /// As [`wait`](Select::wait), for at most `timeout`; `None` if no arm could be done by then.
    pub fn wait_timeout(self, timeout: Duration) -> Option<usize> {
        self.run(Patience::Until(clock::after(timeout)))
    }

    /// As [`wait`](Select::wait), until `deadline` at the latest; `None` if no arm could be done
    /// by then.
    pub fn wait_deadline(self, deadline: Instant) -> Option<usize> {
        self.wait_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    fn run(&self, patience: Patience) -> Option<usize> {
        let _shield = Shield::where_nothing_unwinds();
        if !matches!(patience, Patience::None) {
            begin_call();
        }
        loop {
            if let Some(index) = self.attempt() {
                self.arm(index).choose();
                return Some(index);
            }
            let limit = match patience {
                Patience::None => return None,
                Patience::Until(limit) if limit <= clock::now() => return None,
                Patience::Until(limit) => Some(limit),
                Patience::Endless => None,
            };
            let deadlines = self.arms().filter_map(Operation::deadline);
            let deadline = deadlines.chain(limit).min();
            // Between the first enlisted arm and the last withdrawn one, others hold pointers
            // into this frame and the arms'.
            match abort_on_panic(|| self.round(deadline)) {
                Ok(index) => {
                    self.arm(index).choose();
                    return Some(index);
                }
                Err(Signal::Cancelled) => wait::raise_cancelled(),
                Err(Signal::Wake | Signal::TimedOut) => {}
            }
        }
    }

    /// Tries each arm once, beginning anywhere, in either direction.
    fn attempt(&self) -> Option<usize> {
        let chance = roll() as usize;
        let (start, is_backward) = (chance / 2, chance % 2 == 1);
        let mut steps = (0..self.len).map(|step| if is_backward { self.len - step } else { step });
        steps.find_map(|step| {
            let index = (start + step) % self.len;
            self.arm(index).attempt().then_some(index)
        })
    }

    /// Waits once: until a peer has done an arm, or an attempt may succeed, or to the end.
    fn round(&self, deadline: Option<Nanos>) -> Result<usize, Signal> {
        let round = Round { waiter: Waiter::new(), decision: Decision::new() };
        let mut enlisted = 0;
        // SAFETY: arms and round stay where they are until each arm has been withdrawn below, or
        // the round was decided for it and the waiter has settled.
        let enlist = |index| unsafe { self.arm(index).enlist(&round, index) };
        while enlisted < self.len && enlist(enlisted) {
            enlisted += 1;
        }
        let signal =
            if enlisted == self.len { self.wait_in(&round, deadline) } else { Signal::Wake };
        let ended = round.decision.abandon();
        let chosen = ended.err();
        if chosen.is_some() {
            // The peer that decided is about to wake us, if it has not yet.
            round.waiter.settle();
        }
        let losers = || (0..enlisted).filter(|&index| Some(index) != chosen);
        losers().for_each(|index| self.arm(index).cancel());
        losers().for_each(|index| self.arm(index).withdraw());
        chosen.ok_or(signal)
    }

    fn wait_in(&self, round: &Round, deadline: Option<Nanos>) -> Signal {
        let descriptor = self.arms().find_map(Operation::descriptor);
        let reason = descriptor.map_or(Reason::SELECT, |fd| Reason::io(Kind::Select, fd));
        loop {
            let signal = round.waiter.wait(reason, deadline, false);
            let is_over = signal != Signal::Wake
                || !round.decision.is_open()
                || self.arms().any(Operation::is_ready);
            if is_over {
                return signal;
            }
        }
    }

    fn arm(&self, index: usize) -> &'a dyn Operation {
        match self.first.get(index) {
            Some(place) => place.expect("arms are added from the first place on"),
            None => self.more[index - INLINE_ARMS],
        }
    }

    fn arms(&self) -> impl Iterator<Item = &'a dyn Operation> {
        self.first.iter().flatten().chain(&self.more).copied()
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("arms", &self.len).finish_non_exhaustive()
    }
}

/// A number to spread choices with. Two threads at once may roll the same one: no matter.
fn roll() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let next = LAST.load(Ordering::Relaxed).wrapping_mul(0x915f_77f5).wrapping_add(1);
    LAST.store(next, Ordering::Relaxed);
    // The low bits of such a sequence hardly vary.
    next >> 8
}
