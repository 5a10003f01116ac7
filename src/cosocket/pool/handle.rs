//! Pools as their users have them in hand.

use std::fmt;
use std::sync::Arc;

use super::super::connection::Connection;
use super::super::local::Local;
use super::super::{ConnectOptions, Cosocket, Error, Target};
use super::keepalive::{Origin, Wanted};
use super::metrics::PoolMetrics;
use super::options::PoolOptions;
use super::plan::Plan;
use super::pools::Pools;
use crate::{Runtime, runtime};

/// A pool with a name and settings of its own.
///
/// Pools come into being without this: [`set_keepalive`](Cosocket::set_keepalive) makes them, and
/// the options of [`connect_with`](Cosocket::connect_with). This is for more than those can say
/// ([`PoolOptions`]), for connections opened ahead, and for numbers.
///
/// All connections of a pool are interchangeable: it has one key, its name, and whoever connects
/// through it gets whichever is idle, whatever address it was opened to. Encrypted ones are kept
/// apart, by the name that their certificate was checked against, and so are those bound to an
/// address of this host: each kind has the pool's size and backlog to itself.
///
/// The settings are in force for as long as this, or a clone of it, exists. Then the pool lives on,
/// as it is, until it is empty.
///
/// ```
/// use cosocket::net::TcpListener;
/// use cosocket::{Pool, PoolOptions};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let pool = Pool::new("backend", &PoolOptions::new().size(4))?;
/// assert_eq!(pool.warm_up(address, 2)?, 2);
///
/// let socket = pool.connect(address)?;
/// assert_eq!(socket.reused_times()?, 1);
/// let metrics = pool.metrics();
/// assert_eq!((metrics.idle, metrics.in_use, metrics.hits), (1, 1, 1));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Pool {
    pools: Arc<Pools<Connection>>,
    plan: Arc<Plan<Connection>>,
    name: Arc<str>,
}

impl Pool {
    /// The pool of this name in the runtime of the calling coroutine; on a plain thread, in the
    /// global one. If it is there already, the options are not looked at.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a size of 0; the system's, if a runtime has to be started and cannot be.
    pub fn new(name: &str, options: &PoolOptions) -> Result<Pool, Error> {
        Pool::in_pools(&runtime::here()?.pools, name, options)
    }

    fn in_pools(
        pools: &Arc<Pools<Connection>>,
        name: &str,
        options: &PoolOptions,
    ) -> Result<Pool, Error> {
        let plan = pools.plan(name, options.settings()?);
        Ok(Pool { pools: Arc::clone(pools), plan, name: name.into() })
    }

    /// What to give as [`ConnectOptions::pool`] to connect through it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new socket with a connection of this pool: an idle one, or else a fresh one to `target`.
    ///
    /// # Errors
    ///
    /// As [`Cosocket::connect_with`].
    pub fn connect(&self, target: impl Target) -> Result<Cosocket, Error> {
        let socket = Cosocket::new();
        socket.connect_from(|| Origin::Pools(&self.pools), &target, &self.options())?;
        Ok(socket)
    }

    /// Opens connections to `target` until `count` have been opened or the pool is full, one after
    /// the other, and parks them. Returns how many.
    ///
    /// # Errors
    ///
    /// That of the first connect that fails. What was parked by then stays.
    pub fn warm_up(&self, target: impl Target, count: usize) -> Result<usize, Error> {
        let (address, local, options) = (&target.to_address()?, Local::default(), &self.options());
        let key = Wanted { address, local, options }.key();
        for opened in 0..count {
            let Some(place) = self.pools.reserve(&key) else { return Ok(opened) };
            let (socket, mut place) = (Cosocket::new(), Some(place));
            let origin = || place.take().map_or(Origin::Nowhere, Origin::Place);
            socket.connect_from(origin, &target, &self.options())?;
            socket.set_keepalive(None, None)?;
        }
        Ok(count)
    }

    /// Closes all connections that are idle now.
    pub fn close_idle(&self) {
        self.pools.close_idle(&self.plan);
    }

    /// What it has now, and what it has done since it was made.
    #[must_use]
    pub fn metrics(&self) -> PoolMetrics {
        self.pools.of_plan(&self.plan)
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions { pool: Some(self.name.to_string()), ..ConnectOptions::default() }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Runtime {
    /// A pool of this runtime: see [`Pool::new`], which this is for other threads.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a size of 0.
    pub fn pool(&self, name: &str, options: &PoolOptions) -> Result<Pool, Error> {
        Pool::in_pools(&self.shared.pools, name, options)
    }

    /// The pools of this runtime that have connections, or callers who wait, each with its name:
    /// in no order.
    ///
    /// ```
    /// use cosocket::net::TcpListener;
    ///
    /// let runtime = cosocket::Builder::new().workers(1).build()?;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// runtime.run(|| cosocket::connect(address)?.set_keepalive(None, None))?;
    /// let pools = runtime.pools();
    /// assert_eq!((pools[0].0.as_str(), pools[0].1.idle), (&*address.to_string(), 1));
    /// assert_eq!(runtime.pool_totals().parked, 1);
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub fn pools(&self) -> Vec<(String, PoolMetrics)> {
        named(&self.shared.pools)
    }

    /// What all pools of this runtime have, and have done since it began.
    #[must_use]
    pub fn pool_totals(&self) -> PoolMetrics {
        self.shared.pools.total()
    }
}

/// [`Runtime::pools`] of the runtime of the calling coroutine; on a plain thread, of the global one.
#[must_use]
pub fn pools() -> Vec<(String, PoolMetrics)> {
    runtime::here_if_started().map_or_else(Vec::new, |shared| named(&shared.pools))
}

/// [`Runtime::pool_totals`] of the runtime of the calling coroutine; on a plain thread, of the
/// global one.
#[must_use]
pub fn pool_totals() -> PoolMetrics {
    runtime::here_if_started().map_or_else(PoolMetrics::default, |shared| shared.pools.total())
}

fn named(pools: &Pools<Connection>) -> Vec<(String, PoolMetrics)> {
    pools.each().into_iter().map(|(key, metrics)| (key.to_string(), metrics)).collect()
}
