//! [`Resolver`]: from a name to its addresses.
//!
//! ```text
//!   an address as text ------------------------------------------------> itself
//!   a name in the hosts file, localhost -------------------------------> those
//!   each full name that it may mean (search domains)
//!        |
//!        +-- in the cache --------------------------------------------->  .
//!        `-- flight: one asks, all others wait                            |
//!              exchange: servers, attempts -- Alias --> asked again       +--> ordered
//!                            `-- Records, Nothing --> into the cache ---> '
//! ```

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::rr::{self, Name, RData};

use super::answer::{ALIASES_MAX, Answer};
use super::builder::ResolverBuilder;
use super::cache::{Cache, Known};
use super::config::Config;
use super::error::{Error, ErrorKind};
use super::exchange;
use super::files::{Files, Read};
use super::flight::Flights;
use super::order;
use super::question::{self, Question};
use super::record::{Record, RecordData, RecordType};
use crate::clock;
use crate::net::{TcpBuilder, TcpStream};
use std::io;

/// For how long addresses that did not come in time are not waited for again (RFC 9520, section
/// 3.2), as long as there are others.
const LATE_TTL: Duration = Duration::from_secs(5);

/// Looks names up, and remembers what it was told. Clones share one cache.
///
/// # Waiting
///
/// A look-up suspends the coroutine, or blocks the plain thread; no other waits for it, and no
/// thread of a pool is held while a server thinks. It lasts at most
/// [`timeout`](Config::timeout) for each server and attempt; a [`timeout`](crate::time::timeout)
/// around it ends it earlier, and a cancel unwinds out of it at once. Those who look for the same
/// name at that moment get their answer all the same.
///
/// ```
/// use cosocket::dns::{Config, Resolver};
///
/// let resolver = Resolver::builder().build();
/// assert!(resolver.look_up("localhost")?.iter().all(|ip| ip.is_loopback()));
/// assert_eq!(resolver.look_up("192.0.2.1")?, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
/// let error = resolver.look_up("no..name").unwrap_err();
/// assert!(error.to_string().starts_with("failed to parse host name \"no..name\": "));
/// # Ok::<(), cosocket::dns::Error>(())
/// ```
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

type Key = (Name, Vec<rr::RecordType>);
type Outcome = Result<Arc<[rr::Record]>, ErrorKind>;

struct Shared {
    files: Files,
    cache: Mutex<Cache>,
    flights: Flights<Key, Outcome>,
    address_types: Vec<rr::RecordType>,
    rotation: AtomicUsize,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    look_ups: AtomicU64,
    from_cache: AtomicU64,
    joined: AtomicU64,
    queries: AtomicU64,
}

/// What a resolver has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Full names looked for, in the cache first: one of `search` in `resolv.conf` counts for each
    /// domain.
    pub look_ups: u64,
    /// Those that the cache knew.
    pub from_cache: u64,
    /// Those that waited for another's answer to the same question.
    pub joined: u64,
    /// Queries sent to servers.
    pub queries: u64,
    /// Answers in the cache now. Some of them may no longer hold.
    pub cached: usize,
}

impl Resolver {
    /// The one of this process, with the settings of the system: `/etc/resolv.conf` and
    /// `/etc/hosts`, of which changes are noticed within five seconds.
    pub fn system() -> Resolver {
        static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| Resolver::builder().build());
        SYSTEM.clone()
    }

    /// For settings of its own.
    pub fn builder() -> ResolverBuilder {
        ResolverBuilder::new()
    }

    pub(super) fn new(files: Files, cache: Cache, address_types: Vec<rr::RecordType>) -> Resolver {
        let shared = Shared {
            files,
            cache: Mutex::new(cache),
            flights: Flights::new(),
            address_types,
            rotation: AtomicUsize::new(0),
            counters: Counters::default(),
        };
        Resolver { shared: Arc::new(shared) }
    }

    /// The addresses of a host, in the order in which they should be tried; at least one. An
    /// address as text, also in brackets, is itself.
    ///
    /// # Errors
    ///
    /// See [`ErrorKind`]; the texts are OpenResty's.
    pub fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        let told = |kind| Error::new(host, kind);
        if let Some(ip) = literal(host) {
            return Ok(vec![ip]);
        }
        let read = self.read().map_err(told)?;
        let types = self.address_types(&read.config);
        let is_wanted = |ip: &IpAddr| {
            let kind = if ip.is_ipv4() { rr::RecordType::A } else { rr::RecordType::AAAA };
            types.contains(&kind)
        };
        if let Some(mut known) = read.hosts.addresses(host) {
            known.retain(is_wanted);
            return if known.is_empty() { Err(told(ErrorKind::NotFound)) } else { Ok(known) };
        }
        let records = self.search(&read.config, host, &types).map_err(told)?;
        let mut addresses: Vec<IpAddr> = records.iter().filter_map(address).collect();
        order::sort(&mut addresses);
        Ok(addresses)
    }

    /// [`look_up`](Resolver::look_up), and a port to go with it.
    pub fn socket_addrs(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        let addresses = self.look_up(host)?;
        Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    /// Looks a host up and connects to it: to all of its addresses in a race that the first one
    /// wins, see [`TcpBuilder::connect_any`].
    ///
    /// ```
    /// use cosocket::dns::Resolver;
    /// use cosocket::net::{TcpBuilder, TcpListener};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let port = listener.local_addr()?.port();
    /// let builder = TcpBuilder::new().nodelay(true);
    /// let stream = Resolver::system().connect(&builder, "localhost", port)?;
    /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// An [`Error`] inside, if it was the look-up; else as `connect_any`.
    pub fn connect(&self, builder: &TcpBuilder, host: &str, port: u16) -> io::Result<TcpStream> {
        builder.connect_any(self.socket_addrs(host, port)?.as_slice())
    }

    /// The records of a name. The hosts file is not asked.
    ///
    /// # Errors
    ///
    /// See [`ErrorKind`].
    pub fn query(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, Error> {
        let told = |error| Error::new(name, error);
        let read = self.read().map_err(told)?;
        let records = self.search(&read.config, name, &[kind.to_wire()]).map_err(told)?;
        Ok(records.iter().map(Record::from_wire).collect())
    }

    /// The names of an address: what the hosts file says, or else the name servers.
    ///
    /// # Errors
    ///
    /// See [`ErrorKind`].
    pub fn reverse(&self, ip: IpAddr) -> Result<Vec<String>, Error> {
        let read = self.read().map_err(|kind| Error::new(&ip.to_string(), kind))?;
        if let Some(name) = read.hosts.name(ip) {
            return Ok(vec![name.to_owned()]);
        }
        let records = self.query(&Name::from(ip).to_ascii(), RecordType::Ptr)?;
        let name = |record: Record| match record.data {
            RecordData::Ptr(name) => Some(name),
            _ => None,
        };
        Ok(records.into_iter().filter_map(name).collect())
    }

    /// Forgets all answers.
    pub fn flush(&self) {
        self.cache().clear();
    }

    /// What it has done so far.
    pub fn metrics(&self) -> Metrics {
        let counters = &self.shared.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metrics {
            look_ups: count(&counters.look_ups),
            from_cache: count(&counters.from_cache),
            joined: count(&counters.joined),
            queries: count(&counters.queries),
            cached: self.cache().len(),
        }
    }

    /// What the files say. Answers of other servers than those asked now are of no use.
    fn read(&self) -> Result<Arc<Read>, ErrorKind> {
        let (read, is_news) = self.shared.files.read().map_err(exchange::failure)?;
        if is_news {
            self.flush();
        }
        Ok(read)
    }

    fn address_types(&self, config: &Config) -> Vec<rr::RecordType> {
        let is_wanted = |kind: &&_| **kind != rr::RecordType::AAAA || !config.no_ipv6;
        self.shared.address_types.iter().filter(is_wanted).copied().collect()
    }

    /// The records of the first of those names that `host` may mean and that has any.
    fn search(
        &self,
        config: &Config,
        host: &str,
        kinds: &[rr::RecordType],
    ) -> Result<Arc<[rr::Record]>, ErrorKind> {
        let names = question::candidates(host, &config.search, config.ndots);
        let names = names.map_err(ErrorKind::BadName)?;
        if config.servers.is_empty() {
            return Err(ErrorKind::NoServer);
        }
        let mut failure = ErrorKind::NotFound;
        for name in names {
            match self.find(config, &name, kinds) {
                Err(ErrorKind::NotFound) => {}
                // Another name may be of a zone that its servers have no trouble with.
                Err(refused @ ErrorKind::Refused(_)) => failure = refused,
                outcome => return outcome,
            }
        }
        Err(failure)
    }

    /// The records of a full name, from the cache or the servers.
    fn find(
        &self,
        config: &Config,
        name: &Name,
        kinds: &[rr::RecordType],
    ) -> Result<Arc<[rr::Record]>, ErrorKind> {
        let counters = &self.shared.counters;
        counters.look_ups.fetch_add(1, Ordering::Relaxed);
        let known = kinds.iter().map(|&kind| self.known(&Question { name: name.clone(), kind }));
        if let Some(known) = known.collect::<Option<Vec<_>>>() {
            counters.from_cache.fetch_add(1, Ordering::Relaxed);
            return join(known.into_iter().map(Ok));
        }
        let key = (name.clone(), kinds.to_vec());
        let joined = || {
            counters.joined.fetch_add(1, Ordering::Relaxed);
        };
        self.shared.flights.join(&key, joined, || self.fetch(config, name, kinds))?
    }

    /// Asks the servers for what the cache does not know. The error is that the wait was cut.
    fn fetch(
        &self,
        config: &Config,
        name: &Name,
        kinds: &[rr::RecordType],
    ) -> Result<Outcome, ErrorKind> {
        let mut searches: Vec<Search> = kinds
            .iter()
            .map(|&kind| Search::new(self, Question { name: name.clone(), kind }))
            .collect();
        loop {
            let mut open: Vec<&mut Search> =
                searches.iter_mut().filter(|search| search.outcome.is_none()).collect();
            if open.is_empty() {
                break;
            }
            let questions: Vec<Question> = open.iter().map(|search| search.question()).collect();
            let first_server = match config.rotate {
                true => self.shared.rotation.fetch_add(1, Ordering::Relaxed),
                false => 0,
            };
            let queries = &self.shared.counters.queries;
            let answers = exchange::ask(config, first_server, &questions, queries)?;
            for (search, answer) in open.iter_mut().zip(answers) {
                search.take(self, answer);
            }
        }
        let has_records = |search: &Search| matches!(search.outcome, Some(Ok(Known::Records(_))));
        if searches.iter().any(has_records) {
            for search in &searches {
                if matches!(search.outcome, Some(Err(ErrorKind::TimedOut))) {
                    self.cache().put(&search.original, Known::Nothing, LATE_TTL, clock::now());
                }
            }
        }
        Ok(join(searches.into_iter().filter_map(|search| search.outcome)))
    }

    fn known(&self, question: &Question) -> Option<Known> {
        self.cache().find(question, clock::now())
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question, along the aliases that its answers lead to.
struct Search {
    original: Question,
    name: Name,
    aliases: usize,
    ttl: Duration,
    outcome: Option<Result<Known, ErrorKind>>,
}

impl Search {
    fn new(resolver: &Resolver, original: Question) -> Search {
        let outcome = resolver.known(&original).map(Ok);
        Search { name: original.name.clone(), original, aliases: 0, ttl: Duration::MAX, outcome }
    }

    /// What to ask now.
    fn question(&self) -> Question {
        Question { name: self.name.clone(), kind: self.original.kind }
    }

    fn take(&mut self, resolver: &Resolver, answer: Result<Answer, ErrorKind>) {
        let (known, ttl) = match answer {
            Ok(Answer::Records { records, ttl }) => (Known::Records(records.into()), Some(ttl)),
            Ok(Answer::Nothing { ttl }) => (Known::Nothing, ttl),
            Ok(Answer::Alias { target, ttl }) if self.aliases < ALIASES_MAX => {
                self.name = target;
                self.aliases += 1;
                self.ttl = self.ttl.min(ttl);
                return;
            }
            Ok(_) => {
                self.outcome = Some(Err(ErrorKind::AliasLoop));
                return;
            }
            Err(kind) => {
                self.outcome = Some(Err(kind));
                return;
            }
        };
        if let Some(ttl) = ttl {
            let ttl = ttl.min(self.ttl);
            resolver.cache().put(&self.original, known.clone(), ttl, clock::now());
        }
        self.outcome = Some(Ok(known));
    }
}

/// All records together. Only if there are none does it matter why.
fn join(outcomes: impl Iterator<Item = Result<Known, ErrorKind>>) -> Outcome {
    let mut found: Vec<Arc<[rr::Record]>> = Vec::new();
    let mut failure = ErrorKind::NotFound;
    for outcome in outcomes {
        match outcome {
            Ok(Known::Records(records)) => found.push(records),
            Ok(Known::Nothing) => {}
            Err(kind) => failure = kind,
        }
    }
    match found.as_slice() {
        [] => Err(failure),
        [one] => Ok(Arc::clone(one)),
        several => Ok(several.iter().flat_map(|records| records.iter().cloned()).collect()),
    }
}

fn address(record: &rr::Record) -> Option<IpAddr> {
    match record.data {
        RData::A(ip) => Some(ip.0.into()),
        RData::AAAA(ip) => Some(ip.0.into()),
        _ => None,
    }
}

/// An address as text.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(bare) => bare.parse().ok().filter(IpAddr::is_ipv6),
        None => host.parse().ok(),
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("metrics", &self.metrics()).finish_non_exhaustive()
    }
}
