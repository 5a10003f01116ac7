//! Attempts to connect that race each other ("happy eyeballs", RFC 8305, sections 4 and 5).
//!
//! ```text
//!   addresses   v6 a   v4 b   v6 c     of both families in turn
//!                |      |      |
//!     0 ms       o======|======|===>   an attempt joins after each delay,
//!   250 ms              o======|===>   and at once when one fails;
//!   500 ms                     o===>   the first connection wins, the others are closed
//! ```

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::TcpStream;
use super::connecting::Connecting;
use crate::clock::{self, NEVER, Nanos};
use crate::io_handle::bounds::Cut;
use crate::io_handle::{self, IoHandle, wait_any};

/// How long an attempt runs alone, as RFC 8305 recommends.
pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Less than this is a burst of connections (RFC 8305, section 8).
pub(crate) const ATTEMPT_DELAY_MIN: Duration = Duration::from_millis(10);

/// How a race is run.
pub(crate) struct Rules<'a> {
    /// How long an attempt runs alone.
    pub(crate) delay: Duration,
    /// For all attempts together.
    pub(crate) deadline: Option<Nanos>,
    /// By which another may end it.
    pub(crate) cut: Option<&'a Cut>,
}

/// Connects to one of `addresses`.
pub(crate) fn connect(
    addresses: Vec<SocketAddr>,
    rules: &Rules<'_>,
    start: impl Fn(&SocketAddr) -> io::Result<Connecting>,
) -> io::Result<TcpStream> {
    let mut race = Race { runners: Vec::new(), error: None };
    let mut waiting = in_turn(addresses).into_iter().peekable();
    let deadline = rules.deadline.unwrap_or(NEVER);
    let mut next_start = 0;
    loop {
        let now = clock::now();
        if now >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if now >= next_start || race.runners.is_empty() {
            match waiting.next() {
                Some(address) => {
                    io_handle::begin_call()?;
                    match start(&address) {
                        Ok(winner) if winner.is_connected() => return winner.wait(None),
                        Ok(runner) => race.runners.push(runner),
                        Err(error) => {
                            race.note(error);
                            continue;
                        }
                    }
                    next_start = clock::later(now, rules.delay);
                }
                None if race.runners.is_empty() => return Err(race.into_error()),
                None => next_start = NEVER,
            }
        }
        let until = if waiting.peek().is_some() { next_start.min(deadline) } else { deadline };
        let runners = race.runners.len();
        if let Some(winner) = race.run_until(until, rules.cut)? {
            return Ok(winner);
        }
        if race.runners.len() < runners {
            next_start = 0;
        }
    }
}

struct Race {
    runners: Vec<Connecting>,
    error: Option<io::Error>,
}

impl Race {
    /// Waits until something has come of one of them.
    fn run_until(&mut self, until: Nanos, cut: Option<&Cut>) -> io::Result<Option<TcpStream>> {
        let handles: Vec<&IoHandle> = self.runners.iter().map(Connecting::io).collect();
        if !wait_any(&handles, libc::POLLOUT, (until != NEVER).then_some(until), cut)? {
            return Ok(None);
        }
        let mut index = 0;
        while let Some(runner) = self.runners.get(index) {
            let Some(ready) = runner.io().ready_now(libc::POLLOUT)? else {
                index += 1;
                continue;
            };
            match self.runners.remove(index).finish(ready) {
                Ok(winner) => return Ok(Some(winner)),
                Err(error) => self.note(error),
            }
        }
        Ok(None)
    }

    /// Remembers why an attempt failed: that one family has no way out of this machine says
    /// nothing about the peer, so it is told only if nothing else is known.
    fn note(&mut self, error: io::Error) {
        if self.error.is_none() || !is_about_this_machine(&error) {
            self.error = Some(error);
        }
    }

    fn into_error(self) -> io::Error {
        let message = "could not resolve to any addresses";
        self.error.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}

fn is_about_this_machine(error: &io::Error) -> bool {
    // The last is that of a local address of the other family.
    let errors = [libc::ENETUNREACH, libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL, libc::EINVAL];
    error.raw_os_error().is_some_and(|errno| errors.contains(&errno))
}

/// The families take turns, each in its own order, beginning with that of the first address.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let count = addresses.len();
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut ordered = Vec::with_capacity(count);
    while ordered.len() < count {
        ordered.extend(one.next());
        ordered.extend(other.next());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::in_turn;

    #[test]
    fn families_take_turns() {
        let order = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|ip| (ip.parse::<std::net::IpAddr>().unwrap(), 1));
            let ordered = in_turn(addresses.map(Into::into).collect());
            ordered.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>()
        };
        let mixed = ["::1", "::2", "::3", "10.0.0.1", "10.0.0.2"];
        assert_eq!(order(&mixed), ["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]);
        assert_eq!(order(&["10.0.0.1", "::1"]), ["10.0.0.1", "::1"]);
        assert_eq!(order(&["10.0.0.1", "10.0.0.2"]), ["10.0.0.1", "10.0.0.2"]);
        assert!(order(&[]).is_empty());
    }
}
