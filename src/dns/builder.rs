//! [`ResolverBuilder`]: resolvers with settings of their own.

use std::path::PathBuf;
use std::time::Duration;

use hickory_proto::rr;

use super::cache::{Bounds, Cache};
use super::config::Config;
use super::files::{Files, Places};
use super::resolver::Resolver;

/// Makes a [`Resolver`]. Without settings it takes those of the system.
///
/// ```
/// use cosocket::dns::{Config, Resolver};
/// use std::time::Duration;
///
/// let mut config = Config::default();
/// config.servers = vec!["127.0.0.1:5353".parse().unwrap()];
/// config.timeout = Duration::from_millis(300);
/// let resolver = Resolver::builder().config(config).ipv6(false).cached_max(100).build();
/// assert_eq!(resolver.metrics().cached, 0);
/// ```
#[derive(Clone, Debug)]
pub struct ResolverBuilder {
    config: Option<Config>,
    resolv_conf: PathBuf,
    hosts: Option<PathBuf>,
    check_every: Duration,
    ipv4: bool,
    ipv6: bool,
    bounds: Bounds,
}

impl ResolverBuilder {
    pub(super) fn new() -> ResolverBuilder {
        ResolverBuilder {
            config: None,
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: Some("/etc/hosts".into()),
            check_every: Duration::from_secs(5),
            ipv4: true,
            ipv6: true,
            bounds: Bounds {
                entries_max: 1024,
                ttl_min: Duration::ZERO,
                ttl_max: Duration::from_secs(24 * 60 * 60),
                negative_ttl_max: Duration::from_secs(15 * 60),
            },
        }
    }

    /// Takes these settings, in place of those in a `resolv.conf`.
    pub fn config(mut self, config: Config) -> ResolverBuilder {
        self.config = Some(config);
        self
    }

    /// Reads the settings from this file: `/etc/resolv.conf`. One that is not there stands for
    /// [`Config::default`].
    pub fn resolv_conf(mut self, path: impl Into<PathBuf>) -> ResolverBuilder {
        self.resolv_conf = path.into();
        self
    }

    /// Knows the names in this file before it asks: `/etc/hosts`.
    pub fn hosts(mut self, path: impl Into<PathBuf>) -> ResolverBuilder {
        self.hosts = Some(path.into());
        self
    }

    /// Knows no hosts file. `localhost` is this machine all the same.
    pub fn no_hosts(mut self) -> ResolverBuilder {
        self.hosts = None;
        self
    }

    /// How often it looks, when it is asked something, whether the files have changed: 5 s.
    pub fn check_files_every(mut self, interval: Duration) -> ResolverBuilder {
        self.check_every = interval;
        self
    }

    /// Whether to look for IPv4 addresses.
    pub fn ipv4(mut self, wanted: bool) -> ResolverBuilder {
        self.ipv4 = wanted;
        self
    }

    /// Whether to look for IPv6 addresses.
    pub fn ipv6(mut self, wanted: bool) -> ResolverBuilder {
        self.ipv6 = wanted;
        self
    }

    /// How many answers are remembered: 1024. One name has two, one for each family of addresses.
    /// With 0 all are forgotten.
    pub fn cached_max(mut self, answers: usize) -> ResolverBuilder {
        self.bounds.entries_max = answers;
        self
    }

    /// Remembers addresses for at least so long, whatever the server says: 0.
    pub fn ttl_min(mut self, ttl: Duration) -> ResolverBuilder {
        self.bounds.ttl_min = ttl;
        self
    }

    /// Remembers addresses for so long at most: a day.
    pub fn ttl_max(mut self, ttl: Duration) -> ResolverBuilder {
        self.bounds.ttl_max = ttl;
        self
    }

    /// Remembers for so long at most that there is nothing: 15 minutes. How long it is, the server
    /// says (RFC 2308); if it does not say, that is not remembered.
    pub fn negative_ttl_max(mut self, ttl: Duration) -> ResolverBuilder {
        self.bounds.negative_ttl_max = ttl;
        self
    }

    /// Makes the resolver. Nothing is read or sent before it is asked something.
    pub fn build(self) -> Resolver {
        let resolv_conf = self.config.is_none().then_some(self.resolv_conf);
        let places = Places { resolv_conf, hosts: self.hosts };
        let config = self.config.unwrap_or_default();
        let files = Files::new(places, config, self.check_every);
        let types = [(self.ipv6, rr::RecordType::AAAA), (self.ipv4, rr::RecordType::A)];
        let types = types.into_iter().filter_map(|(is_wanted, kind)| is_wanted.then_some(kind));
        Resolver::new(files, Cache::new(self.bounds), types.collect())
    }
}
