//! Where sockets and pools meet: connecting through a pool, and parking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use super::super::address::Address;
use super::super::connection::{Connection, Details};
use super::super::idle::Look;
use super::super::local::Local;
use super::super::{ConnectOptions, Cosocket, Error, ErrorKind};
use super::key::Key;
use super::options::{self, Evicted, Hooks};
use super::stock::{Acquired, Refusal};
use super::{Eviction, Pooled, Pools, Settings, Ticket};
use crate::clock::{self, Nanos};
use crate::io_handle::bounds::Bounds;
use crate::{io_handle, runtime};

impl Pooled for Connection {
    type Hooks = Hooks;

    fn is_quiet(&mut self) -> bool {
        self.link.transport.look() == Look::Nothing
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.link.transport.io().as_fd())
    }

    fn opened_at(&self) -> Nanos {
        self.details.member.opened_at
    }

    fn evict(self, hooks: &Hooks, reason: Eviction, idle_for: Duration) {
        let opened_at = self.details.member.opened_at;
        hooks.evicted(&Evicted {
            pool: self.details.member.key.as_ref().map_or("", |key| &key.name),
            reason,
            idle_for,
            age: Duration::from_nanos(clock::now().saturating_sub(opened_at)),
            reused_times: self.details.reuse_count,
        });
    }
}

/// Where a connect gets its place from.
pub(crate) enum Origin<'a> {
    /// The pools of the calling coroutine's runtime.
    Here,
    Pools(&'a Arc<Pools<Connection>>),
    /// It has one already, and wants a fresh connection.
    Place(Ticket<Connection>),
    /// None: the connection is to be a fresh one, and belongs to no pool until it is parked.
    Nowhere,
}

/// What a connect finds before it opens a connection itself.
pub(crate) struct Found {
    pub(crate) connection: Option<Connection>,
    pub(crate) ticket: Option<Ticket<Connection>>,
}

/// The key of what is to be connected to.
pub(crate) fn key_of(address: &Address, local: Local, options: &ConnectOptions) -> Key {
    let name = options.pool.clone().unwrap_or_else(|| address.to_string());
    #[cfg(feature = "tls")]
    let tls = options.tls.as_ref().map(|tls| tls.pool_key(&address.tls_host()));
    #[cfg(not(feature = "tls"))]
    let tls = None;
    Key { local, tls, ..Key::new(name) }
}

/// The key of a connection as it is now: it may have been encrypted since it was made.
fn key_as_parked(details: &Details) -> Option<Arc<Key>> {
    let key = details.member.key.as_ref()?;
    Some(match key.tls == details.tls {
        true => Arc::clone(key),
        false => Arc::new(Key { tls: details.tls.clone(), ..Key::clone(key) }),
    })
}

/// Looks for a connection of `key`, or a place for one, within `bounds`.
pub(crate) fn find(
    origin: Origin<'_>,
    key: &Key,
    options: &ConnectOptions,
    bounds: &Bounds<'_>,
) -> Result<Found, Error> {
    let asked = options::asked(options.pool_size, options.backlog)?;
    let pools = match origin {
        Origin::Place(ticket) => return Ok(Found { connection: None, ticket: Some(ticket) }),
        Origin::Nowhere => None,
        Origin::Pools(pools) => Some(Arc::clone(pools)),
        // Where no runtime has begun there are no pools; to begin one takes a reason.
        Origin::Here if asked.is_some() => runtime::here().ok().map(|its| Arc::clone(&its.pools)),
        Origin::Here => runtime::here_if_started().map(|its| Arc::clone(&its.pools)),
    };
    let Some(pools) = pools else { return Ok(Found { connection: None, ticket: None }) };
    match pools.acquire(key, asked, bounds) {
        Ok(None) => Ok(Found { connection: None, ticket: None }),
        Ok(Some(Acquired { mut connection, ticket })) => {
            if let Some(connection) = &mut connection {
                connection.details.reuse_count += 1;
            }
            Ok(Found { connection, ticket: Some(ticket) })
        }
        Err(refusal) => Err(refusal.into_error(key)),
    }
}

impl Refusal {
    fn into_error(self, key: &Key) -> Error {
        match self {
            Refusal::TooManyWaiting => ErrorKind::TooManyWaiting.into(),
            Refusal::TimedOut => {
                let text = format!("queued connect timed out, when trying to connect to {key}");
                let source = io::Error::new(io::ErrorKind::TimedOut, text);
                Error::new(ErrorKind::Timeout).with_source(source)
            }
            Refusal::Cut => ErrorKind::Cancelled.into(),
            Refusal::Interrupted(error) => error.into(),
            Refusal::Retired => unreachable!("another stock is looked for"),
        }
    }
}

impl Ticket<Connection> {
    /// What the pool's user wants to have called.
    pub(crate) fn call_hooks(&self) -> impl FnOnce(&Cosocket, bool) -> io::Result<()> + use<> {
        let plan = Arc::clone(self.stock().plan());
        move |socket, is_reused| plan.settings.hooks.connected(socket, is_reused)
    }
}

impl Cosocket {
    /// Parks the connection in its pool, for the next who connects to the same: the socket is
    /// closed from then on, and may be connected again. Never waits for the network.
    ///
    /// `idle_timeout` is how long the connection may stay there: `None` is the pool's (60 seconds,
    /// if nobody has said), zero is for ever. `pool_size` says how many connections may be idle, if
    /// the pool is made by this very call (30, if it does not); a pool keeps its size for as long
    /// as it has connections. Parking in a full pool closes the connection that has been idle for
    /// longest.
    ///
    /// A connection that came through a pool returns to it, and its place with it. Any other, and
    /// one whose pool has ended with its runtime, goes to the pool of its address, or of the name
    /// that it was connected with, in the runtime of the calling coroutine (on a plain thread: the
    /// global one). When that runtime is ending the connection is closed instead, and that is no
    /// error.
    ///
    /// While it is parked it is watched. Once its peer closes it, or sends anything, it is closed.
    ///
    /// ```
    /// use cosocket::net::TcpListener;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let socket = cosocket::connect(listener.local_addr()?)?;
    /// let first = socket.local_addr()?;
    /// socket.set_keepalive(None, None)?;
    ///
    /// socket.connect(listener.local_addr()?)?;
    /// assert_eq!(socket.reused_times()?, 1);
    /// assert_eq!(socket.local_addr()?.to_string(), first.to_string());
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// In this order. The connection stays as it is, but for the last ones.
    ///
    /// * `InvalidInput`: a size of 0.
    /// * `Closed`: there is no connection, one half has ended, or the peer's end has been seen.
    /// * `BusyConnecting`, `BusyReading`, `BusyWriting`: another uses it.
    /// * `UnreadData`: more has been received than was read.
    /// * `Suspect`: a receive timed out, so a reply may yet come, and whoever takes the connection
    ///   would take it for its own. [`clear_suspect`](Cosocket::clear_suspect) says that none can.
    ///   (OpenResty parks those.)
    /// * `KeyNotFound`: it was not made by a connect, and so belongs to no pool.
    /// * `Closed`, once more: its peer has ended it, and nobody had noticed. It is closed.
    /// * `Dubious`: there is data that nobody has asked for, or it has failed. It is closed.
    pub fn set_keepalive(
        &self,
        idle_timeout: Option<Duration>,
        pool_size: Option<usize>,
    ) -> Result<(), Error> {
        io_handle::begin_call()?;
        let settings = options::asked(pool_size, None)?.unwrap_or_default();
        let connection = self.take_idle()?;
        let idle_timeout = idle_timeout.map(|timeout| (!timeout.is_zero()).then_some(timeout));
        park(connection, &settings, idle_timeout);
        Ok(())
    }
}

/// Parks a connection where its place is, or else here.
fn park(
    mut connection: Connection,
    settings: &Settings<Hooks>,
    idle_timeout: Option<Option<Duration>>,
) {
    let ticket = connection.details.ticket.take();
    let Some(key) = key_as_parked(&connection.details) else { return };
    let its = ticket.as_ref().map(|ticket| ticket.stock().pools());
    if its.is_some_and(|pools| pools.is_inherited()) {
        // The parent has it, too: nobody may take it for its own.
        return;
    }
    let pools = match its.filter(|pools| !pools.is_closed()) {
        Some(pools) => Arc::clone(pools),
        None => match runtime::here() {
            Ok(shared) => Arc::clone(&shared.pools),
            // In a forked child, say: the connection is closed.
            Err(_) => return,
        },
    };
    pools.park(&key, settings, connection, ticket, idle_timeout);
}
