//! The names that this machine knows by itself: `/etc/hosts` (see `hosts(5)`), and `localhost`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    /// Names are in lower case.
    addresses: HashMap<String, Vec<IpAddr>>,
    /// The first name of each address.
    names: HashMap<IpAddr, String>,
}

impl Hosts {
    /// Reads the text of a hosts file. A line that is not understood is skipped.
    pub(crate) fn parse(text: &str) -> Hosts {
        let mut hosts = Hosts::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else { continue };
            for name in words {
                let name = plain(name);
                let addresses = hosts.addresses.entry(name.clone()).or_default();
                if !addresses.contains(&ip) {
                    addresses.push(ip);
                }
                hosts.names.entry(ip).or_insert(name);
            }
        }
        hosts
    }

    /// The addresses of a name, if it is known here. `localhost`, and names below it, are always
    /// known, and are this machine whatever a name server says (RFC 6761, section 6.3).
    pub(crate) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = plain(name);
        if let Some(known) = self.addresses.get(&name) {
            return Some(known.clone());
        }
        let is_local = name == "localhost" || name.ends_with(".localhost");
        is_local.then(|| vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()])
    }

    pub(crate) fn name(&self, ip: IpAddr) -> Option<&str> {
        self.names.get(&ip).map(String::as_str)
    }
}

/// In lower case, without the dot that ends a full name.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn names_have_all_their_addresses_in_order() {
        let hosts = Hosts::parse(
            "192.0.2.1 One one-alias # a comment\n\t2001:db8::1\tone\nnonsense two\n\
             192.0.2.1 one\n#9.9.9.9 one",
        );
        assert_eq!(hosts.addresses("ONE."), Some(vec![ip("192.0.2.1"), ip("2001:db8::1")]));
        assert_eq!(hosts.addresses("one-alias"), Some(vec![ip("192.0.2.1")]));
        assert_eq!(hosts.addresses("two"), None);
        assert_eq!(hosts.name(ip("192.0.2.1")), Some("one"));
        assert_eq!(hosts.name(ip("9.9.9.9")), None);
    }

    #[test]
    fn localhost_is_known_without_a_file_and_may_be_told_otherwise() {
        let empty = Hosts::default();
        let this_machine = Some(vec![ip("::1"), ip("127.0.0.1")]);
        for name in ["localhost", "LocalHost.", "a.localhost", "a.b.localhost."] {
            assert_eq!(empty.addresses(name), this_machine, "{name}");
        }
        for name in ["notlocalhost", "localhost.test", ""] {
            assert_eq!(empty.addresses(name), None, "{name}");
        }
        let told = Hosts::parse("127.0.0.9 localhost");
        assert_eq!(told.addresses("localhost"), Some(vec![ip("127.0.0.9")]));
    }
}
