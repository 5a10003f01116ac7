//! The load generator: what clients do to a server, and what it costs them.
//!
//! ```text
//!   threads, one a core:   connect, greet | warm-up |      window      |
//!   this thread:                          |         | observe  observe | join, merge
//! ```
//!
//! Raw epoll and no runtime: what is measured should be the server. In a closed loop every
//! connection has a fixed number of requests under way and asks again when it is answered; in an
//! open loop requests are due at a fixed rate (see [`schedule`]); in churn every request has a
//! connection of its own.

mod connection;
mod engine;
mod poller;
pub mod protocol;
mod schedule;

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use self::connection::Broken;
use self::engine::Engine;
use self::protocol::Protocol;
use crate::machine;

/// How long a server may take to answer every connection once.
const GREETING_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many requests under way on each connection.
    Closed { depth: usize },
    /// So many requests a second over all connections.
    Open { per_second: f64 },
    /// One request a connection, then a new one.
    Churn,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub server: SocketAddr,
    pub protocol: Protocol,
    pub connections: usize,
    pub pace: Pace,
    pub warm_up: Duration,
    pub duration: Duration,
    /// Ends early after so many replies to each thread.
    pub requests: Option<u64>,
    /// A thread for each.
    pub cores: Vec<usize>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Tally {
    pub replies: u64,
    /// Nanoseconds, to three digits.
    pub latency: Histogram<u64>,
    /// Requests of an open loop that had no reply at the end.
    pub unanswered: u64,
    pub wrong: u64,
    pub closed: u64,
    pub failed: u64,
    /// The first trouble, in words.
    pub first: Option<String>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            replies: 0,
            latency: Histogram::new_with_max(60_000_000_000, 3).expect("valid bounds"),
            unanswered: 0,
            wrong: 0,
            closed: 0,
            failed: 0,
            first: None,
        }
    }
}

impl Tally {
    pub fn errors(&self) -> u64 {
        self.wrong + self.closed + self.failed
    }

    pub fn troubles(&self) -> String {
        let Tally { wrong, closed, failed, first, .. } = self;
        let first = first.as_deref().unwrap_or("none");
        format!("{wrong} wrong, {closed} closed, {failed} failed; first: {first}")
    }

    fn count(&mut self, broken: &Broken) {
        let (kind, words) = match broken {
            Broken::Io(error) => (&mut self.failed, error.to_string()),
            Broken::Closed => (&mut self.closed, "closed by the server".to_owned()),
            Broken::Wrong(wrong) => (&mut self.wrong, wrong.to_string()),
        };
        *kind += 1;
        self.first.get_or_insert(words);
    }

    fn merge(&mut self, other: Tally) {
        self.replies += other.replies;
        self.latency.add(&other.latency).expect("the same bounds");
        self.unanswered += other.unanswered;
        self.wrong += other.wrong;
        self.closed += other.closed;
        self.failed += other.failed;
        self.first = self.first.take().or(other.first);
    }
}

/// A load that is connected and greeted, and has not begun.
pub struct Ready {
    plan: Plan,
    epoch: Instant,
    threads: Vec<Thread>,
}

struct Thread {
    handle: thread::JoinHandle<io::Result<Tally>>,
    go: mpsc::Sender<std::ops::Range<u64>>,
}

/// Connects, and has every connection answered once.
pub fn prepare(plan: Plan) -> io::Result<Ready> {
    let epoch = Instant::now();
    let (greeted, greetings) = mpsc::channel();
    let threads = plan.cores.len();
    let threads: Vec<Thread> =
        (0..threads).map(|thread| spawn(&plan, thread, epoch, greeted.clone())).collect();
    drop(greeted);
    for greeting in greetings.iter().take(threads.len()) {
        greeting?;
    }
    Ok(Ready { plan, epoch, threads })
}

fn spawn(
    plan: &Plan,
    thread: usize,
    epoch: Instant,
    greeted: mpsc::Sender<io::Result<()>>,
) -> Thread {
    let (go, told) = mpsc::channel::<std::ops::Range<u64>>();
    let plan = plan.clone();
    let handle = thread::spawn(move || {
        let threads = plan.cores.len();
        machine::pin_this_thread(&plan.cores[thread..=thread])?;
        let ids = (thread..plan.connections).step_by(threads);
        let prepared = Engine::new(&plan, ids, epoch).and_then(|mut engine| {
            engine.greet(GREETING_PATIENCE)?;
            Ok(engine)
        });
        let engine = match prepared {
            Ok(engine) => engine,
            Err(error) => {
                let _ = greeted.send(Err(error));
                return Ok(Tally::default());
            }
        };
        let _ = greeted.send(Ok(()));
        drop(greeted);
        match told.recv() {
            Ok(window) => engine.run(window, 1.0 / threads as f64),
            // Nobody wants it: the connections were all that was asked for.
            Err(_) => Ok(Tally::default()),
        }
    });
    Thread { handle, go }
}

impl Ready {
    /// Runs it. `observe` is called at the beginning and at the end of the window; the result has
    /// both observations and the time between them.
    pub fn run<T>(self, mut observe: impl FnMut() -> T) -> io::Result<(Tally, [T; 2], Duration)> {
        let start = self.epoch.elapsed() + self.plan.warm_up;
        let end = start + self.plan.duration;
        let window = start.as_nanos() as u64..end.as_nanos() as u64;
        for thread in &self.threads {
            let _ = thread.go.send(window.clone());
        }
        thread::sleep(start.saturating_sub(self.epoch.elapsed()));
        let before = observe();
        let began = Instant::now();
        while self.epoch.elapsed() < end && !self.is_over() {
            let left = end.saturating_sub(self.epoch.elapsed());
            let step = if self.plan.requests.is_some() { Duration::from_millis(1) } else { left };
            thread::sleep(step.min(left));
        }
        let after = observe();
        let elapsed = began.elapsed();
        let mut tally = Tally::default();
        for thread in self.threads {
            let part = thread.handle.join().map_err(|_| io::Error::other("the load panicked"))?;
            tally.merge(part?);
        }
        Ok((tally, [before, after], elapsed))
    }

    fn is_over(&self) -> bool {
        self.threads.iter().all(|thread| thread.handle.is_finished())
    }

    /// Closes the connections, and waits until that is done.
    pub fn release(self) {
        for Thread { handle, go } in self.threads {
            drop(go);
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    const STALL: Duration = Duration::from_millis(300);

    /// A server that echoes; `meddle` is told how many messages of a connection came before, and
    /// says whether to go on.
    fn echo(meddle: fn(u64, &mut [u8; 64]) -> bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || serve(stream.unwrap(), meddle));
            }
        });
        address
    }

    fn serve(mut stream: TcpStream, meddle: fn(u64, &mut [u8; 64]) -> bool) {
        stream.set_nodelay(true).unwrap();
        let mut message = [0; 64];
        for number in 0.. {
            let read = stream.read_exact(&mut message);
            if read.is_err() || !meddle(number, &mut message) || stream.write_all(&message).is_err()
            {
                return;
            }
        }
    }

    fn load(server: SocketAddr, pace: Pace, requests: Option<u64>) -> Tally {
        let plan = Plan {
            server,
            protocol: Protocol::Echo { bytes: 64 },
            connections: 2,
            pace,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(if requests.is_some() { 60 } else { 1 }),
            requests,
            cores: machine::cores().unwrap()[..1].to_vec(),
        };
        prepare(plan).unwrap().run(|| ()).unwrap().0
    }

    #[test]
    fn an_honest_server_has_no_errors() {
        for pace in [Pace::Closed { depth: 1 }, Pace::Closed { depth: 8 }, Pace::Churn] {
            let tally = load(echo(|_, _| true), pace, Some(500));
            assert_eq!((tally.errors(), tally.first), (0, None), "{pace:?}");
            assert!(tally.replies > 0);
            assert_eq!(tally.latency.len(), tally.replies);
        }
    }

    #[test]
    fn a_changed_byte_is_counted_and_ends_its_connection() {
        let meddle = |number, message: &mut [u8; 64]| {
            message[63] ^= u8::from(number == 20);
            true
        };
        // Without its connections a load is over, whatever it was asked for.
        let tally = load(echo(meddle), Pace::Closed { depth: 1 }, Some(u64::MAX));
        assert_eq!((tally.wrong, tally.closed, tally.failed), (2, 0, 0));
        assert!(tally.troubles().contains("byte 63 of message 20"), "{}", tally.troubles());
    }

    #[test]
    fn a_closed_connection_is_counted() {
        let tally = load(echo(|number, _| number < 20), Pace::Closed { depth: 1 }, Some(u64::MAX));
        assert_eq!((tally.wrong, tally.closed + tally.failed), (0, 2));
    }

    #[test]
    fn an_open_loop_charges_a_stall_to_all_that_waited() {
        let meddle = |number, _: &mut [u8; 64]| {
            if number == 50 {
                thread::sleep(STALL);
            }
            true
        };
        let tally = load(echo(meddle), Pace::Open { per_second: 1000.0 }, None);
        assert_eq!(tally.errors(), 0);
        // Each of two connections stalls once, while 150 requests become due on it. A load that
        // waits for its replies would have seen two slow ones.
        let slow = STALL.as_nanos() as u64 / 2;
        assert!(tally.latency.count_between(slow, u64::MAX) >= 100);
        assert!(tally.latency.max() >= STALL.as_nanos() as u64 * 9 / 10);
    }
}
