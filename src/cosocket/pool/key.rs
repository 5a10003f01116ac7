//! Which connections are interchangeable.

use std::fmt;

use super::super::local::Local;

/// What makes two connections interchangeable: all of it must be equal.
///
/// OpenResty's key is the name alone, so there a request with one client certificate could be
/// handed a connection that was made with another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The name given, or `host:port`, or `unix:path`, as the caller wrote it: nothing is looked
    /// up, so `localhost` and `127.0.0.1` differ.
    pub(crate) name: Box<str>,
    /// What it is bound to, and what proxy it went through.
    pub(crate) local: Local,
    pub(crate) tls: Option<TlsKey>,
}

/// Of a connection that is encrypted, who is at its ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TlsKey {
    /// The name that the server's certificate was checked against.
    pub(crate) server_name: Box<str>,
    /// The number of the options that it was encrypted with: they say whose certificates are
    /// trusted, what we show ourselves, and what is spoken.
    pub(crate) options: u64,
}

impl Key {
    pub(crate) fn new(name: impl Into<Box<str>>) -> Key {
        Key { name: name.into(), local: Local::default(), tls: None }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.local)?;
        if let Some(tls) = &self.tls {
            write!(f, " (TLS {})", tls.server_name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        let plain = Key::new("db:1");
        let bind = Local::of_address("127.0.0.2:0".parse().unwrap());
        let bound = Key { local: bind, ..plain.clone() };
        let tls = |name: &str, options| Key {
            tls: Some(TlsKey { server_name: name.into(), options }),
            ..plain.clone()
        };
        let all = [plain.clone(), bound, tls("a", 0), tls("b", 0), tls("a", 1)];
        for (position, key) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == key), Some(position), "{key}");
        }
    }
}
