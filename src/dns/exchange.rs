//! Asking the servers: which of them, how often, and what to make of what they say.
//!
//! ```text
//!   for each attempt, for each server                          one round
//!        |
//!        v                        .-- ignored: not ours
//!   UDP: each question from a ----+-- Records, Nothing, Alias --> answered
//!   fresh socket, all at once     +-- Truncated ----------------> by TCP, from the same server
//!                                 +-- Refused, and EDNS was on -> again, without EDNS
//!                                 +-- Refused, Malformed -------> the next server
//!                                 '-- nothing in time ----------> the next server
//! ```
//!
//! Both families of addresses are asked for in one round. When one has an answer that is of use,
//! the other is not asked for again, and IPv6 addresses have 50 ms more to come (RFC 8305,
//! section 3).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::rr::RecordType;

use super::answer::{self, Answer};
use super::config::Config;
use super::error::ErrorKind;
use super::question::{Asked, Manner, Question};
use super::stream;
use crate::clock::{self, NEVER, Nanos};
use crate::current;
use crate::io_handle::{AsIoHandle, IoHandle, wait_any};
use crate::net::UdpSocket;
use crate::time::Elapsed;

/// For how long IPv4 addresses wait for those of IPv6 (RFC 8305, section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// What comes by UDP. More than we say that we take, for servers that do not listen.
const BUFFER_BYTES: usize = 4096;

/// Response codes of servers that do not know EDNS, or not this version of it (RFC 6891, section 7).
const CODES_WITHOUT_EDNS: [u16; 3] = [1, 4, 16];

/// Asks `questions`, and returns what came of each. The error is that the wait was cut.
pub(crate) fn ask(
    config: &Config,
    first_server: usize,
    questions: &[Question],
    queries: &AtomicU64,
) -> Result<Vec<Result<Answer, ErrorKind>>, ErrorKind> {
    let new = |question| Pending { question, outcome: Err(ErrorKind::NoServer) };
    let mut exchange = Exchange { config, pending: questions.iter().map(new).collect(), queries };
    'attempts: for _ in 0..config.attempts.max(1) {
        for index in 0..config.servers.len() {
            let server = config.servers[(first_server + index) % config.servers.len()];
            exchange.round(server)?;
            let mut outcomes = exchange.pending.iter().map(|pending| &pending.outcome);
            if outcomes.clone().all(Result::is_ok) || outcomes.any(has_records) {
                break 'attempts;
            }
        }
    }
    Ok(exchange.pending.into_iter().map(|pending| pending.outcome).collect())
}

fn has_records(outcome: &Result<Answer, ErrorKind>) -> bool {
    matches!(outcome, Ok(Answer::Records { .. } | Answer::Alias { .. }))
}

struct Exchange<'a> {
    config: &'a Config,
    pending: Vec<Pending<'a>>,
    queries: &'a AtomicU64,
}

/// A question, and the answer or why there is none so far.
struct Pending<'a> {
    question: &'a Question,
    outcome: Result<Answer, ErrorKind>,
}

/// A question that one server was asked by UDP.
struct Asking<'a> {
    index: usize,
    asked: Asked<'a>,
    socket: UdpSocket,
    edns: bool,
}

impl<'a> Exchange<'a> {
    /// Asks one server what is still open.
    fn round(&mut self, server: SocketAddr) -> Result<(), ErrorKind> {
        let deadline = clock::after(self.config.timeout);
        let mut asking = Vec::new();
        for index in 0..self.pending.len() {
            if self.pending[index].outcome.is_ok() {
                continue;
            }
            if self.config.use_tcp {
                let asked = self.pending[index].question.ask(self.manner(false));
                self.ask_by_tcp(server, index, &asked)?;
            } else {
                asking.extend(self.start(server, index, self.config.edns)?);
            }
        }
        let mut buffer = [0; BUFFER_BYTES];
        let mut until = deadline;
        while !asking.is_empty() && clock::now() < until {
            let handles: Vec<&IoHandle> =
                asking.iter().map(|asking: &Asking<'_>| asking.socket.as_io_handle()).collect();
            match wait_any(&handles, libc::POLLIN, Some(until), None) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(failure(error)),
            }
            for one in std::mem::take(&mut asking) {
                match one.receive(&mut buffer) {
                    None => asking.push(one),
                    Some(Ok(answer)) => asking.extend(self.take(server, one, answer)?),
                    Some(Err(error)) => self.fail(one.index, error)?,
                }
            }
            until = until.min(self.patience(&asking));
        }
        for one in asking {
            self.pending[one.index].outcome = Err(ErrorKind::TimedOut);
        }
        Ok(())
    }

    /// Until when to wait for what is still open: IPv4 addresses do not wait long for others.
    fn patience(&self, asking: &[Asking<'_>]) -> Nanos {
        let has_v4 = self
            .pending
            .iter()
            .any(|pending| pending.question.kind == RecordType::A && has_records(&pending.outcome));
        if has_v4 && !asking.is_empty() { clock::after(RESOLUTION_DELAY) } else { NEVER }
    }

    fn manner(&self, edns: bool) -> Manner {
        Manner { edns, random_case: self.config.random_case }
    }

    /// Sends a question from a socket of its own: its port is one more thing to guess, and from
    /// elsewhere than this server nothing is received.
    fn start(
        &mut self,
        server: SocketAddr,
        index: usize,
        edns: bool,
    ) -> Result<Option<Asking<'a>>, ErrorKind> {
        let asked = self.pending[index].question.ask(self.manner(edns));
        self.queries.fetch_add(1, Ordering::Relaxed);
        match send(server, &asked.bytes) {
            Ok(socket) => Ok(Some(Asking { index, asked, socket, edns })),
            Err(error) => self.fail(index, error).map(|()| None),
        }
    }

    /// An answer has come; what is to be waited for in its place.
    fn take(
        &mut self,
        server: SocketAddr,
        asking: Asking<'a>,
        answer: Answer,
    ) -> Result<Option<Asking<'a>>, ErrorKind> {
        let index = asking.index;
        match answer {
            Answer::Truncated => self.ask_by_tcp(server, index, &asking.asked)?,
            Answer::Refused(code) if asking.edns && CODES_WITHOUT_EDNS.contains(&code) => {
                return self.start(server, index, false);
            }
            answer => self.conclude(index, answer),
        }
        Ok(None)
    }

    fn conclude(&mut self, index: usize, answer: Answer) {
        self.pending[index].outcome = match answer {
            Answer::Refused(code) => Err(ErrorKind::Refused(code)),
            Answer::Malformed | Answer::Truncated => Err(ErrorKind::Refused(1)),
            answer => Ok(answer),
        };
    }

    fn ask_by_tcp(
        &mut self,
        server: SocketAddr,
        index: usize,
        asked: &Asked<'_>,
    ) -> Result<(), ErrorKind> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        match stream::ask(server, asked, self.config.timeout) {
            Ok(answer) => self.conclude(index, answer),
            Err(error) => self.fail(index, error)?,
        }
        Ok(())
    }

    /// A system call has failed: another server may do better, unless the wait was cut.
    fn fail(&mut self, index: usize, error: io::Error) -> Result<(), ErrorKind> {
        match failure(error) {
            cut @ ErrorKind::Interrupted(_) => Err(cut),
            kind => {
                self.pending[index].outcome = Err(kind);
                Ok(())
            }
        }
    }
}

impl Asking<'_> {
    /// What has come, if it is an answer to this question.
    fn receive(&self, buffer: &mut [u8]) -> Option<io::Result<Answer>> {
        match self.socket.recv(buffer) {
            Ok(len) => answer::read(&self.asked, &buffer[..len]).map(Ok),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }
}

fn send(server: SocketAddr, bytes: &[u8]) -> io::Result<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    socket.send(bytes)?;
    Ok(socket)
}

/// What a failed call means; `Interrupted` for what concerns this caller alone.
pub(crate) fn failure(error: io::Error) -> ErrorKind {
    let source = error.get_ref();
    let is_cut =
        source.is_some_and(|source| source.is::<Elapsed>() || source.is::<crate::Cancelled>());
    if is_cut || current::worker().is_some_and(|worker| worker.is_unwinding()) {
        return ErrorKind::Interrupted(Arc::new(error));
    }
    match error.kind() {
        io::ErrorKind::TimedOut => ErrorKind::TimedOut,
        _ => ErrorKind::Io(Arc::new(error)),
    }
}
