//! One connection: what is shared by its two halves, and all that travels with it into a pool and
//! out again.

use std::fmt;
use std::sync::Arc;

use super::address::Address;
use super::pool::{self, Member, TlsKey};
use super::quiet::{Drained, Sighting};
use super::receive::Receiver;
use super::transport::Transport;
use crate::driver::op::Direction;
use crate::io_handle::bounds::Cut;

/// A connection at rest: nobody reads or writes it. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) link: Arc<Link>,
    pub(crate) receiver: Box<Receiver>,
    /// Apart, for a connection is passed from hand to hand on its way through a pool.
    pub(crate) details: Box<Details>,
}

/// What both halves use at the same time. The descriptor closes with the last of them.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) transport: Transport,
    pub(super) drained: Drained,
    read_cut: Cut,
    write_cut: Cut,
}

/// What is known of a connection.
pub(crate) struct Details {
    /// What was connected to, as the caller named it; `None` of one that was adopted.
    pub(crate) address: Option<Address>,
    /// How many times it came out of a pool.
    pub(crate) reuse_count: u64,
    /// Of one that is encrypted, by a handshake that we began.
    pub(crate) tls: Option<TlsKey>,
    /// A receive has timed out or was cut: a late reply may be on its way.
    pub(crate) suspect: bool,
    /// That it was quiet when it was parked.
    pub(super) seen: Option<Sighting>,
    /// Its place in the count of a pool, given back when this is dropped.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) member: Member,
}

/// Dropped when the connection has ended.
pub(crate) type Ticket = pool::Ticket<Connection>;

impl Connection {
    pub(crate) fn new(transport: Transport, address: Option<Address>) -> Connection {
        Connection::with_unread(transport, address, Vec::new())
    }

    /// One on which `unread` has been received and not yet read.
    pub(crate) fn with_unread(
        transport: Transport,
        address: Option<Address>,
        unread: Vec<u8>,
    ) -> Connection {
        let details = Details {
            address,
            reuse_count: 0,
            tls: None,
            suspect: false,
            seen: None,
            ticket: None,
            member: Member::default(),
        };
        Connection {
            link: Arc::new(Link::new(transport)),
            receiver: Box::new(Receiver::with_unread(unread)),
            details: Box::new(details),
        }
    }
}

impl Link {
    pub(crate) fn new(transport: Transport) -> Link {
        Link {
            transport,
            drained: Drained::default(),
            read_cut: Cut::default(),
            write_cut: Cut::default(),
        }
    }

    pub(crate) fn cut(&self, direction: Direction) -> &Cut {
        match direction {
            Direction::Read => &self.read_cut,
            Direction::Write => &self.write_cut,
        }
    }
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Details")
            .field("address", &self.address)
            .field("reuse_count", &self.reuse_count)
            .field("tls", &self.tls)
            .field("suspect", &self.suspect)
            .finish_non_exhaustive()
    }
}
