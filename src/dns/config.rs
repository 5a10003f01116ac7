//! [`Config`]: what `resolv.conf` says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// The port of name servers.
const PORT: u16 = 53;

/// As many as the C library knows of; more are ignored.
const SERVERS_MAX: usize = 3;

/// Whom to ask, and how: what [`resolv.conf(5)`] can say.
///
/// ```
/// use cosocket::dns::Config;
/// use std::time::Duration;
///
/// let text = "nameserver 192.0.2.1\nsearch a.test b.test\noptions ndots:2 rotate";
/// let config = Config::parse(text);
/// assert_eq!(config.servers, ["192.0.2.1:53".parse().unwrap()]);
/// assert_eq!(config.search, ["a.test", "b.test"]);
/// assert_eq!((config.ndots, config.rotate), (2, true));
/// assert_eq!(config.timeout, Duration::from_secs(5));
/// ```
///
/// [`resolv.conf(5)`]: https://man7.org/linux/man-pages/man5/resolv.conf.5.html
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The servers (`nameserver`), in the order in which they are asked.
    pub servers: Vec<SocketAddr>,
    /// The domains in which a short name is looked for (`search`, `domain`).
    pub search: Vec<String>,
    /// A name with so many dots is looked for as it is first, and in the domains then
    /// (`ndots`): 1.
    pub ndots: usize,
    /// How long one server has for an answer (`timeout`): 5 s.
    pub timeout: Duration,
    /// How often all servers are asked (`attempts`): 2.
    pub attempts: usize,
    /// Each question begins with the next server, not with the first (`rotate`).
    pub rotate: bool,
    /// Asks by TCP only (`use-vc`).
    pub use_tcp: bool,
    /// Asks for IPv4 addresses only (`no-aaaa`).
    pub no_ipv6: bool,
    /// Says how long an answer by UDP may be (EDNS, RFC 6891). On; a server that does not know of
    /// it is asked again without.
    pub edns: bool,
    /// Writes names in letters of random case, and wants them back so: some bits more that a
    /// forger has to guess ("0x20"). Off, for some servers do not play along.
    pub random_case: bool,
}

impl Default for Config {
    /// What holds when `resolv.conf` says nothing, or is not there: a server on this machine.
    fn default() -> Config {
        Config {
            servers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))],
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            use_tcp: false,
            no_ipv6: false,
            edns: true,
            random_case: false,
        }
    }
}

impl Config {
    /// Reads the text of a `resolv.conf`. What is not understood is skipped, as the C library does.
    ///
    /// `nameserver`, `search`, `domain` and these `options` are known: `ndots` (at most 15),
    /// `timeout` (1 to 30 s), `attempts` (1 to 5), `rotate`, `use-vc`, `no-aaaa`. A server may have
    /// a port, which is our own addition: `nameserver 127.0.0.1:5353`, `nameserver [::1]:5353`.
    pub fn parse(text: &str) -> Config {
        let mut config = Config::default();
        let mut servers = Vec::new();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if servers.len() < SERVERS_MAX => {
                    servers.extend(words.next().and_then(server));
                }
                // The last of them counts.
                Some("domain" | "search") => {
                    config.search =
                        words.map(|word| word.trim_end_matches('.').to_owned()).collect();
                    config.search.retain(|domain| !domain.is_empty());
                }
                Some("options") => words.for_each(|option| config.set(option)),
                _ => {}
            }
        }
        if !servers.is_empty() {
            config.servers = servers;
        }
        config
    }

    fn set(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        let number = value.parse::<usize>();
        match (name, number) {
            ("ndots", Ok(dots)) => self.ndots = dots.min(15),
            ("timeout", Ok(seconds)) => {
                self.timeout = Duration::from_secs(seconds.clamp(1, 30) as u64);
            }
            ("attempts", Ok(attempts)) => self.attempts = attempts.clamp(1, 5),
            ("rotate", _) => self.rotate = true,
            ("use-vc", _) => self.use_tcp = true,
            ("no-aaaa", _) => self.no_ipv6 = true,
            _ => {}
        }
    }
}

/// An address, with a port or without; an IPv6 address may name its interface (`fe80::1%eth0`).
fn server(word: &str) -> Option<SocketAddr> {
    if let Ok(address) = word.parse::<SocketAddr>() {
        return Some(address);
    }
    if let Ok(ip) = word.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    let (ip, interface) = word.split_once('%')?;
    let index = match interface.parse() {
        Ok(index) => index,
        Err(_) => interface_index(interface)?,
    };
    Some(SocketAddrV6::new(ip.parse().ok()?, PORT, 0, index).into())
}

#[allow(unsafe_code)]
fn interface_index(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a C string, for the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_its_default() {
        for text in
            ["", "\n\n", "# nameserver 1.2.3.4", "; search x", "nameserver", "options", "junk a"]
        {
            assert_eq!(Config::parse(text), Config::default(), "{text:?}");
        }
        assert_eq!(Config::default().servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn servers_come_in_their_order_and_are_three_at_most() {
        let text = "nameserver 192.0.2.1 # the first\nnameserver 2001:db8::1\nnameserver nonsense\n\
                    nameserver 127.0.0.1:5353\nnameserver 192.0.2.4";
        let servers = Config::parse(text).servers;
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53", "127.0.0.1:5353"];
        assert_eq!(servers, expected.map(|server| server.parse().unwrap()));
    }

    #[test]
    fn a_server_may_be_reached_through_one_interface_only() {
        let servers = Config::parse("nameserver fe80::1%lo\nnameserver fe80::2%7").servers;
        assert_eq!(
            servers[0].to_string(),
            format!("[fe80::1%{}]:53", interface_index("lo").unwrap())
        );
        assert_eq!(servers[1].to_string(), "[fe80::2%7]:53");
    }

    #[test]
    fn the_last_list_of_domains_counts() {
        assert_eq!(
            Config::parse("domain a.test\nsearch b.test c.test.").search,
            ["b.test", "c.test"]
        );
        assert_eq!(Config::parse("search b.test c.test\ndomain a.test").search, ["a.test"]);
        assert!(Config::parse("search .").search.is_empty());
    }

    #[test]
    fn options_stay_within_their_bounds() {
        let config =
            Config::parse("options ndots:99 timeout:0 attempts:77 use-vc\noptions no-aaaa x:y");
        assert_eq!((config.ndots, config.attempts), (15, 5));
        assert_eq!(config.timeout, Duration::from_secs(1));
        assert!(config.use_tcp && config.no_ipv6 && !config.rotate);
        let config = Config::parse("options timeout:900 attempts:0 ndots:x");
        assert_eq!((config.ndots, config.attempts), (1, 1));
        assert_eq!(config.timeout, Duration::from_secs(30));
    }
}
