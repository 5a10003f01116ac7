//! How a pool is to be, as its user says it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Cosocket, Error, ErrorKind};
use super::Eviction;
use super::places::Limits;
use super::settings::Settings;

/// How a [`Pool`](super::Pool) is to be.
///
/// ```
/// use cosocket::{Pool, PoolOptions};
/// use std::time::Duration;
///
/// let options = PoolOptions::new()
///     .size(20)
///     .backlog(100)
///     .idle_timeout(Duration::from_secs(30))
///     .max_age(Duration::from_secs(600), Duration::from_secs(60))
///     .on_create(|socket| {
///         socket.send(b"AUTH secret\r\n")?;
///         match &*socket.receive_any(64)? {
///             b"+OK\r\n" => Ok(()),
///             _ => Err(std::io::Error::other("not let in")),
///         }
///     });
/// let pool = Pool::new("redis", &options)?;
/// assert_eq!(pool.metrics().idle, 0);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Default)]
pub struct PoolOptions {
    settings: Settings<Hooks>,
}

/// What a user wants to have called.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    created: Option<SocketHook>,
    reused: Option<SocketHook>,
    evicted: Option<EvictionHook>,
}

type EvictionHook = Arc<dyn Fn(&Evicted<'_>) + Send + Sync>;

type SocketHook = Arc<dyn Fn(&Cosocket) -> io::Result<()> + Send + Sync>;

/// An idle connection that its pool closes: what [`PoolOptions::on_evict`] is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Evicted<'a> {
    /// The name of the pool.
    pub pool: &'a str,
    /// Why it is closed.
    pub reason: Eviction,
    /// How long it was idle.
    pub idle_for: Duration,
    /// How long ago it was opened.
    pub age: Duration,
    /// How many times it came out of the pool.
    pub reused_times: u64,
}

impl PoolOptions {
    /// The defaults: 30 idle connections, for 60 seconds; any number in use.
    #[must_use]
    pub fn new() -> PoolOptions {
        PoolOptions::default()
    }

    /// How many connections may be idle. With a [`backlog`](PoolOptions::backlog), how many there
    /// may be in all. At least 1, at most a million (more is as good as that).
    #[must_use]
    pub fn size(mut self, connections: usize) -> PoolOptions {
        self.settings.limits.size = clamped(connections);
        self
    }

    /// How many callers may wait while there are [`size`](PoolOptions::size) connections. Further
    /// ones get `TooManyWaiting`. Without this, any number of connections may be in use.
    #[must_use]
    pub fn backlog(mut self, callers: usize) -> PoolOptions {
        self.settings.limits.backlog = Some(clamped(callers));
        self
    }

    /// How long a connection may be idle, if [`set_keepalive`](Cosocket::set_keepalive) does not
    /// say. Zero is for ever.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> PoolOptions {
        self.settings.idle_timeout = (!timeout.is_zero()).then_some(timeout);
        self
    }

    /// How old a connection may be to be parked, or taken, less up to `jitter`: another amount for
    /// each, lest those that were opened together are closed together.
    #[must_use]
    pub fn max_age(mut self, age: Duration, jitter: Duration) -> PoolOptions {
        self.settings.max_age = Some(age);
        self.settings.max_age_jitter = jitter;
        self
    }

    /// Called by [`connect`](Cosocket::connect) with each connection that is fresh, before it
    /// returns. An error is the error of the connect, and closes the connection. The hook is to leave
    /// the socket connected: one that closes it, parks it or connects it anew hands that on.
    #[must_use]
    pub fn on_create<F>(mut self, hook: F) -> PoolOptions
    where
        F: Fn(&Cosocket) -> io::Result<()> + Send + Sync + 'static,
    {
        self.settings.hooks.created = Some(Arc::new(hook));
        self
    }

    /// Called by [`connect`](Cosocket::connect) with each connection that comes out of the pool,
    /// before it returns. An error closes the connection, and the next one is looked for.
    #[must_use]
    pub fn on_reuse<F>(mut self, hook: F) -> PoolOptions
    where
        F: Fn(&Cosocket) -> io::Result<()> + Send + Sync + 'static,
    {
        self.settings.hooks.reused = Some(Arc::new(hook));
        self
    }

    /// Called before the pool closes an idle connection, by whoever makes it do so: one who parks
    /// another, one who takes one, a coroutine of the runtime, or the thread that ends the
    /// runtime. It must not wait. If it panics, the connection is closed all the same.
    #[must_use]
    pub fn on_evict<F>(mut self, hook: F) -> PoolOptions
    where
        F: Fn(&Evicted<'_>) + Send + Sync + 'static,
    {
        self.settings.hooks.evicted = Some(Arc::new(hook));
        self
    }

    pub(super) fn settings(&self) -> Result<Settings<Hooks>, Error> {
        if self.settings.limits.size == 0 {
            return Err(bad_size(0));
        }
        Ok(self.settings.clone())
    }
}

impl fmt::Debug for PoolOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("created", &self.created.is_some())
            .field("reused", &self.reused.is_some())
            .field("evicted", &self.evicted.is_some())
            .finish()
    }
}

impl Hooks {
    /// What is to be called before a connect returns.
    pub(super) fn of_connect(&self, is_reused: bool) -> Option<&SocketHook> {
        if is_reused { self.reused.as_ref() } else { self.created.as_ref() }
    }

    pub(super) fn evicted(&self, evicted: &Evicted<'_>) {
        if let Some(hook) = &self.evicted {
            // Its message has been printed. Nothing of ours is half done, and a cancel that it
            // swallows comes again.
            drop(crate::unwind::catch(|| hook(evicted)));
        }
    }
}

/// The settings that a connect or a `set_keepalive` asks for; `None` if it asks for no pool.
pub(crate) fn asked(
    size: Option<usize>,
    backlog: Option<usize>,
) -> Result<Option<Settings<Hooks>>, Error> {
    if size == Some(0) {
        return Err(bad_size(0));
    }
    if size.is_none() && backlog.is_none() {
        return Ok(None);
    }
    let mut settings = Settings::default();
    let size = size.map_or(settings.limits.size, clamped);
    settings.limits = Limits { size, backlog: backlog.map(clamped) };
    Ok(Some(settings))
}

fn clamped(count: usize) -> u32 {
    count.min(Limits::MOST as usize) as u32
}

fn bad_size(size: usize) -> Error {
    let text = format!("bad \"pool_size\" option value: {size}");
    Error::with_text(ErrorKind::InvalidInput, text)
}
