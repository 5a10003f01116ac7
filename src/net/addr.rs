//! [`ToSocketAddrs`]: what can be connected or bound to, and the one way to the name resolver.
//!
//! It is a trait of our own, since std's would call `getaddrinfo` on the caller's stack, which in
//! a coroutine is too small for it, and would block the worker. Here addresses and literals
//! stay on the thread; a name goes, as an owned string, to the pool of blocking threads, where
//! std resolves it.

use std::io;
use std::iter::Cloned;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::{option, slice, vec};

use socket2::SockAddr;

use crate::blocking;
use crate::wait::Reason;

/// What names one or more socket addresses; the counterpart of [`std::net::ToSocketAddrs`], with
/// the same implementations.
///
/// * addresses, and pairs of an IP address and a port, stand for themselves;
/// * a slice of addresses stands for all of them;
/// * a pair of a host and a port, and a string `"host:port"`, are a literal address
///   (`"127.0.0.1:80"`, `"[::1]:80"`) or a name to resolve.
///
/// # Waiting
///
/// Only a name makes the call wait. In a coroutine the look-up runs in the pool of
/// [`unblock`](crate::unblock) and the coroutine alone waits; elsewhere it blocks the thread.
/// A look-up cannot be stopped: how long it takes is up to the system's resolver (see
/// `resolv.conf(5)`). Inside a [`timeout`](crate::time::timeout) the call fails with
/// [`TimedOut`](io::ErrorKind::TimedOut) when that has passed, and the look-up still runs to its
/// end in the pool.
///
/// # Errors
///
/// As in std: [`InvalidInput`](io::ErrorKind::InvalidInput) for a string without a port, or with
/// one that is no number up to 65535; what the system's resolver says, if a name has no
/// address. In a coroutine also an error of kind [`Other`](io::ErrorKind::Other) if no thread
/// could be started for the look-up.
///
/// # Examples
///
/// ```
/// use cosocket::net::ToSocketAddrs;
///
/// let mut literal = "[::1]:8080".to_socket_addrs()?;
/// assert_eq!(literal.next(), Some("[::1]:8080".parse().unwrap()));
///
/// for address in ("localhost", 8080).to_socket_addrs()? {
///     assert!(address.ip().is_loopback());
///     assert_eq!(address.port(), 8080);
/// }
///
/// let error = "localhost".to_socket_addrs().unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
/// # std::io::Result::Ok(())
/// ```
pub trait ToSocketAddrs {
    /// Yields the addresses, in the order in which they should be tried.
    type Iter: Iterator<Item = SocketAddr>;

    /// Finds the addresses. They may be none; connecting or binding to none is an error there.
    ///
    /// # Errors
    ///
    /// See [the trait](ToSocketAddrs#errors).
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;
}

impl ToSocketAddrs for str {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        if let Ok(address) = self.parse::<SocketAddr>() {
            return Ok(vec![address].into_iter());
        }
        let (host, port) =
            self.rsplit_once(':').ok_or_else(|| invalid("invalid socket address"))?;
        let port = port.parse().map_err(|_| invalid("invalid port value"))?;
        look_up(host, port)
    }
}

impl ToSocketAddrs for (&str, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let (host, port) = *self;
        match host.parse::<IpAddr>() {
            Ok(ip) => Ok(vec![SocketAddr::new(ip, port)].into_iter()),
            Err(_) => look_up(host, port),
        }
    }
}

/// THE place where names are resolved. The job owns what it works on, so whoever waits for it may
/// give up.
fn look_up(host: &str, port: u16) -> io::Result<vec::IntoIter<SocketAddr>> {
    let target = (host.to_owned(), port);
    let look_up = move || std::net::ToSocketAddrs::to_socket_addrs(&target);
    blocking::try_unblock(Reason::LOOK_UP, look_up)?
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

impl ToSocketAddrs for String {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        self.as_str().to_socket_addrs()
    }
}

impl ToSocketAddrs for (String, u16) {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (self.0.as_str(), self.1).to_socket_addrs()
    }
}

impl ToSocketAddrs for SocketAddr {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(Some(*self).into_iter())
    }
}

impl ToSocketAddrs for SocketAddrV4 {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        SocketAddr::V4(*self).to_socket_addrs()
    }
}

impl ToSocketAddrs for SocketAddrV6 {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        SocketAddr::V6(*self).to_socket_addrs()
    }
}

impl ToSocketAddrs for (IpAddr, u16) {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        SocketAddr::from(*self).to_socket_addrs()
    }
}

impl ToSocketAddrs for (Ipv4Addr, u16) {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        SocketAddr::from(*self).to_socket_addrs()
    }
}

impl ToSocketAddrs for (Ipv6Addr, u16) {
    type Iter = option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        SocketAddr::from(*self).to_socket_addrs()
    }
}

impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = Cloned<slice::Iter<'a, SocketAddr>>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().cloned())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (**self).to_socket_addrs()
    }
}

/// Tries each address in turn until one works; the last error if none does.
pub(crate) fn each_address<A: ToSocketAddrs, T>(
    address: A,
    mut f: impl FnMut(&SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in address.to_socket_addrs()? {
        match f(&address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses");
    Err(last.unwrap_or_else(none))
}

pub(crate) fn ip_address(address: SockAddr) -> io::Result<SocketAddr> {
    let not_ip = || io::Error::new(io::ErrorKind::InvalidInput, "not an internet address");
    address.as_socket().ok_or_else(not_ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::ToSocketAddrs as Std;

    /// What a caller can see of an outcome.
    fn seen(
        outcome: io::Result<impl Iterator<Item = SocketAddr>>,
    ) -> Result<Vec<SocketAddr>, (io::ErrorKind, String)> {
        match outcome {
            Ok(addresses) => Ok(addresses.collect()),
            Err(error) => Err((error.kind(), error.to_string())),
        }
    }

    #[track_caller]
    fn assert_as_std<A: ToSocketAddrs + Std + ?Sized>(input: &A) {
        let ours = ToSocketAddrs::to_socket_addrs(input);
        assert_eq!(seen(ours), seen(Std::to_socket_addrs(input)));
    }

    #[test]
    fn strings_mean_what_they_mean_to_std() {
        for input in [
            "127.0.0.1:80",
            "0.0.0.0:0",
            "255.255.255.255:65535",
            "[::1]:80",
            "[::]:0",
            "[fe80::1%1]:80",
            "[fe80::1%nowhere]:80",
            "[::ffff:10.0.0.1]:443",
            "localhost:80",
            "LOCALHOST:80",
            "127.1:80",
            "::1:80",
            "[::1]",
            "::1",
            "",
            ":",
            ":80",
            "localhost",
            "localhost:",
            "localhost:http",
            "localhost:65536",
            "localhost:-1",
            "localhost:+1",
            "localhost: 80",
            "local\0host:80",
            " 127.0.0.1:80",
            "256.0.0.1:80",
            "does-not-exist.invalid:80",
        ] {
            println!("{input:?}");
            assert_as_std(input);
            assert_as_std(&input.to_owned());
        }
    }

    #[test]
    fn hosts_mean_what_they_mean_to_std() {
        for host in [
            "127.0.0.1",
            "::1",
            "[::1]",
            "fe80::1",
            "fe80::1%1",
            "fe80::1%lo",
            "localhost",
            "127.0.0.1:80",
            "",
            "\0",
            "a b",
        ] {
            println!("{host:?}");
            assert_as_std(&(host, 80));
            assert_as_std(&(host.to_owned(), 80));
        }
    }

    #[test]
    fn addresses_stand_for_themselves() {
        let (v4, v6) = (Ipv4Addr::new(10, 1, 2, 3), Ipv6Addr::LOCALHOST);
        let scoped = SocketAddrV6::new(v6, 80, 7, 9);
        assert_as_std(&SocketAddrV4::new(v4, 80));
        assert_as_std(&scoped);
        assert_as_std(&SocketAddr::V6(scoped));
        assert_as_std(&(IpAddr::V4(v4), 80));
        assert_as_std(&(v4, 80));
        assert_as_std(&(v6, 80));
        assert_as_std(&&&(v6, 80));
        let several: &[SocketAddr] = &[scoped.into(), (v4, 1).into(), (v4, 1).into()];
        assert_as_std(&several);
        assert_as_std(&&several[..0]);
        assert_eq!(ToSocketAddrs::to_socket_addrs(&several).unwrap().count(), 3);
    }

    /// Generic code written against std's trait moves by changing its `use` line.
    #[test]
    fn unsized_and_borrowed_forms_are_accepted() {
        fn first<A: ToSocketAddrs>(address: A) -> Option<SocketAddr> {
            address.to_socket_addrs().unwrap().next()
        }
        let text = String::from("1.2.3.4:5");
        let address = SocketAddr::from(([1, 2, 3, 4], 5));
        let expected = Some(address);
        assert_eq!(first(text.as_str()), expected);
        assert_eq!(first(&text), expected);
        assert_eq!(first((&*String::from("1.2.3.4"), 5)), expected);
        assert_eq!(first(&[address][..]), expected);
    }
}
