//! The resolver: rows DNS-1 to DNS-8 and CON-5 of the behaviour table, against servers that lie,
//! delay, cut short and go round in circles, and against dnsmasq.

#[allow(unsafe_code)]
#[path = "../peers/mod.rs"]
mod peers;
#[path = "../socket_util/mod.rs"]
mod socket_util;
#[path = "../support/mod.rs"]
mod support;
#[allow(unsafe_code)]
#[path = "../util/mod.rs"]
mod util;

mod aliases;
mod cache;
mod cosocket;
mod dnsmasq;
mod files;
mod lies;
mod server;
mod servers;

use std::net::IpAddr;
use std::time::Duration;

use ::cosocket::dns::{Config, Resolver, ResolverBuilder};
use server::Server;

/// Longer than any test lasts: what has this for a timeout must not wait for it.
const LONG: Duration = Duration::from_secs(60);

/// For what has to time out.
const SHORT: Duration = Duration::from_millis(60);

/// For what has to time out before something else answers, however busy the machine is.
const PATIENT: usize = 100;

/// Asks these servers, IPv4 only, and no file.
fn builder(servers: &[&Server], timeout: Duration) -> ResolverBuilder {
    Resolver::builder().config(config(servers, timeout)).no_hosts().ipv6(false)
}

fn config(servers: &[&Server], timeout: Duration) -> Config {
    let mut config = Config::default();
    config.servers = servers.iter().map(|server| server.address).collect();
    config.timeout = timeout;
    config
}

fn resolver(servers: &[&Server], timeout: Duration) -> Resolver {
    builder(servers, timeout).build()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// As often as it takes.
fn patient(servers: &[&Server], timeout: Duration) -> ResolverBuilder {
    let mut config = config(servers, timeout);
    config.attempts = PATIENT;
    Resolver::builder().config(config).no_hosts().ipv6(false)
}

/// The text of the error.
#[track_caller]
fn refusal(resolver: &Resolver, host: &str) -> String {
    resolver.look_up(host).unwrap_err().to_string()
}
