//! One thread of the load generator: its connections, one epoll, one loop.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::connection::{Broken, Connection};
use super::poller::{Poller, READABLE, WRITABLE};
use super::protocol::Script;
use super::schedule::Schedule;
use super::{Pace, Plan, Tally};

/// Taken from a socket at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// The loop looks at the time at least so often.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// A run with so many errors is over.
const MOST_ERRORS: u64 = 10_000;

pub struct Engine {
    server: SocketAddr,
    pace: Pace,
    poller: Poller,
    script: Script,
    /// By token. A broken one leaves its place empty.
    connections: Vec<Option<Connection>>,
    schedule: Option<Schedule>,
    buffer: Vec<u8>,
    /// Where the clock of this run begins; common to all threads.
    epoch: Instant,
    window: Range<u64>,
    /// Replies after which it is over, whatever the time.
    limit: u64,
    replies: u64,
    attempts: u64,
    /// Places whose connection could not be made, to be tried again.
    vacant: Vec<usize>,
    tally: Tally,
}

impl Engine {
    /// Makes the connections whose numbers are `ids`.
    pub fn new(
        plan: &Plan,
        ids: impl Iterator<Item = usize>,
        epoch: Instant,
    ) -> io::Result<Engine> {
        let mut engine = Engine {
            server: plan.server,
            pace: plan.pace,
            poller: Poller::new()?,
            script: Script::new(plan.protocol),
            connections: Vec::new(),
            schedule: None,
            buffer: vec![0; BUFFER_BYTES],
            epoch,
            window: 0..u64::MAX,
            limit: plan.requests.unwrap_or(u64::MAX),
            replies: 0,
            attempts: 0,
            vacant: Vec::new(),
            tally: Tally::default(),
        };
        for (token, id) in ids.enumerate() {
            let connection = Connection::establish(plan.server, id)?;
            engine.poller.add(connection.fd(), token, READABLE)?;
            engine.connections.push(Some(connection));
        }
        Ok(engine)
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Every connection asks once and is answered, so that all are served and their handlers have
    /// touched what they touch.
    pub fn greet(&mut self, patience: Duration) -> io::Result<()> {
        let deadline = self.now() + patience.as_nanos() as u64;
        for connection in self.connections.iter_mut().flatten() {
            connection.request(&self.script, 1, 0)?;
        }
        while self.connections.iter().flatten().any(|connection| connection.waiting() > 0) {
            if self.now() > deadline {
                return Err(io::Error::other("the server does not answer every connection"));
            }
            self.turn(LONGEST_WAIT, |engine, token, _| engine.take_replies(token).map(drop))?;
        }
        match self.tally.errors() {
            0 => Ok(()),
            _ => Err(io::Error::other(format!("at first contact: {}", self.tally.troubles()))),
        }
    }

    /// Loads the server until the end of `window`, and counts what completes within it.
    pub fn run(mut self, window: Range<u64>, rate_share: f64) -> io::Result<Tally> {
        self.tally = Tally::default();
        self.window = window;
        let now = self.now();
        match self.pace {
            Pace::Closed { depth } => self.begin_all(depth as u64, now)?,
            Pace::Open { per_second } => {
                self.schedule = Some(Schedule::new(now, per_second * rate_share));
            }
            Pace::Churn => {
                for token in 0..self.connections.len() {
                    self.reconnect(token);
                }
            }
        }
        while self.is_going_on() {
            let wait = self.issue_due();
            for token in std::mem::take(&mut self.vacant) {
                self.reconnect(token);
            }
            match self.pace {
                Pace::Churn => self.turn(wait, Engine::churn)?,
                _ => self.turn(wait, Engine::serve)?,
            }
        }
        self.charge_unanswered();
        Ok(self.tally)
    }

    fn is_going_on(&self) -> bool {
        self.now() < self.window.end
            && self.replies < self.limit
            && self.tally.errors() < MOST_ERRORS
            && (!self.vacant.is_empty() || self.connections.iter().any(Option::is_some))
    }

    fn begin_all(&mut self, depth: u64, now: u64) -> io::Result<()> {
        for token in 0..self.connections.len() {
            let connection = self.connections[token].as_mut().expect("all are there");
            connection.request(&self.script, depth, now)?;
            self.watch(token)?;
        }
        Ok(())
    }

    /// Waits for events and hands each to `handle`; what breaks a connection is counted.
    fn turn(
        &mut self,
        wait: Duration,
        handle: fn(&mut Engine, usize, u32) -> Result<(), Broken>,
    ) -> io::Result<()> {
        let count = self.poller.wait(wait)?;
        for index in 0..count {
            let (token, ready) = self.poller.event(index);
            if self.connections[token].is_none() {
                continue;
            }
            if let Err(broken) = handle(self, token, ready) {
                self.tally.count(&broken);
                self.connections[token] = None;
                if self.pace == Pace::Churn {
                    self.reconnect(token);
                }
            }
        }
        Ok(())
    }

    /// One event of a lasting connection.
    fn serve(&mut self, token: usize, ready: u32) -> Result<(), Broken> {
        if ready & WRITABLE != 0 {
            self.connections[token].as_mut().expect("it is there").flush()?;
            self.watch(token)?;
        }
        if ready & !WRITABLE == 0 {
            return Ok(());
        }
        let (replies, now) = self.take_replies(token)?;
        if let (Pace::Closed { .. }, 1..) = (self.pace, replies) {
            let connection = self.connections[token].as_mut().expect("it is there");
            connection.request(&self.script, replies, now)?;
            if connection.wants_to_send() {
                self.watch(token)?;
            }
        }
        Ok(())
    }

    /// One event of a connection that ends with its reply.
    fn churn(&mut self, token: usize, ready: u32) -> Result<(), Broken> {
        if ready & WRITABLE != 0 {
            self.connections[token].as_mut().expect("it is there").flush()?;
            self.watch(token)?;
        }
        if ready & !WRITABLE != 0 && self.take_replies(token)?.0 > 0 {
            self.reconnect(token);
        }
        Ok(())
    }

    /// Closes what is there and begins anew. A failure is counted, and tried again soon.
    fn reconnect(&mut self, token: usize) {
        let id = self.connections[token].take().map_or(token, |connection| connection.id);
        self.attempts += 1;
        let due = self.now();
        let connected = Connection::begin(self.server, id, self.attempts);
        match connected.and_then(|connection| self.open(connection, token, due)) {
            Ok(connection) => self.connections[token] = Some(connection),
            Err(error) => {
                self.tally.count(&Broken::Io(error));
                self.vacant.push(token);
            }
        }
    }

    fn open(&self, mut connection: Connection, token: usize, due: u64) -> io::Result<Connection> {
        connection.request(&self.script, 1, due)?;
        connection.interest = interest_of(&connection);
        self.poller.add(connection.fd(), token, connection.interest)?;
        Ok(connection)
    }

    /// Receives from a connection; how many replies came, and at what time.
    fn take_replies(&mut self, token: usize) -> Result<(u64, u64), Broken> {
        let now = self.now();
        let counts = self.window.contains(&now);
        let connection = self.connections[token].as_mut().expect("it is there");
        let (latency, done) = (&mut self.tally.latency, &mut self.tally.replies);
        let replies = connection.receive(&mut self.script, &mut self.buffer, |due| {
            if counts {
                latency.saturating_record(now.saturating_sub(due));
                *done += 1;
            }
        })?;
        self.replies += replies;
        Ok((replies, now))
    }

    /// Sends what an open loop has due; how long to wait for events now.
    fn issue_due(&mut self) -> Duration {
        let now = self.now();
        let mut until = self.window.end;
        while let Some(schedule) = &mut self.schedule {
            let Some((number, due)) = schedule.take(now) else {
                until = until.min(schedule.next_due());
                break;
            };
            let token = (number % self.connections.len() as u64) as usize;
            let Some(connection) = &mut self.connections[token] else { continue };
            let sent = connection.request(&self.script, 1, due).map_err(Broken::from);
            let sent = sent.and_then(|()| self.watch(token).map_err(Broken::from));
            if let Err(broken) = sent {
                self.tally.count(&broken);
                self.connections[token] = None;
            }
        }
        Duration::from_nanos(until.saturating_sub(now)).min(LONGEST_WAIT)
    }

    /// Asks for the events that the connection needs now. Only a full socket needs another one than
    /// before, so this seldom calls.
    fn watch(&mut self, token: usize) -> io::Result<()> {
        let connection = self.connections[token].as_mut().expect("it is there");
        let interest = interest_of(connection);
        if connection.interest != interest {
            self.poller.modify(connection.fd(), token, interest)?;
            connection.interest = interest;
        }
        Ok(())
    }

    /// What an open loop was not answered has waited at least until now.
    fn charge_unanswered(&mut self) {
        if let Pace::Open { .. } = self.pace {
            let end = self.window.end;
            let connections = self.connections.iter().flatten();
            for due in connections.flat_map(Connection::unanswered).filter(|&due| due < end) {
                self.tally.latency.saturating_record(end - due);
                self.tally.unanswered += 1;
            }
        }
    }
}

fn interest_of(connection: &Connection) -> u32 {
    READABLE | if connection.wants_to_send() { WRITABLE } else { 0 }
}
