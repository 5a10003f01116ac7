//! Addresses of Unix sockets, between std's type and the kernel's form.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use socket2::SockAddr;

/// # Errors
///
/// `InvalidInput` for a path that is too long or contains a NUL, as in std.
pub(crate) fn of_path(path: impl AsRef<Path>) -> io::Result<SockAddr> {
    let path = path.as_ref();
    if path.as_os_str().as_bytes().contains(&0) {
        let message = "paths must not contain interior null bytes";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    SockAddr::unix(path)
}

pub(crate) fn to_kernel(address: &SocketAddr) -> io::Result<SockAddr> {
    if let Some(path) = address.as_pathname() {
        return SockAddr::unix(path);
    }
    match address.as_abstract_name() {
        Some(name) => {
            let mut path = vec![0];
            path.extend_from_slice(name);
            SockAddr::unix(OsStr::from_bytes(&path))
        }
        None => SockAddr::unix(""),
    }
}

/// A path of 108 bytes without a NUL, which the kernel allows and std's type cannot be made of,
/// is reported as unnamed.
///
/// # Errors
///
/// `InvalidInput` when it is not that of a Unix socket.
pub(crate) fn from_kernel(address: SockAddr) -> io::Result<SocketAddr> {
    // An unnamed sender of a datagram has an address of no length, so without a family.
    if address.len() != 0 && !address.is_unix() {
        let message = "file descriptor did not correspond to a Unix socket";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    if let Some(name) = address.as_abstract_namespace() {
        return SocketAddr::from_abstract_name(name);
    }
    let unnamed = || SocketAddr::from_pathname("");
    match address.as_pathname() {
        Some(path) => SocketAddr::from_pathname(path).or_else(|_| unnamed()),
        None => unnamed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(address: &SocketAddr) -> SocketAddr {
        from_kernel(to_kernel(address).unwrap()).unwrap()
    }

    #[test]
    fn addresses_of_every_kind_survive_the_way_to_the_kernel_and_back() {
        let longest = "p".repeat(107);
        for path in ["/a/b", "relative", "ü", &longest] {
            let address = SocketAddr::from_pathname(path).unwrap();
            assert_eq!(there_and_back(&address).as_pathname(), Some(Path::new(path)));
        }
        let longest = [7; 107];
        for name in [&b""[..], b"name", b"\0", b"in\0side", &longest] {
            let address = SocketAddr::from_abstract_name(name).unwrap();
            assert_eq!(there_and_back(&address).as_abstract_name(), Some(name));
        }
        assert!(there_and_back(&SocketAddr::from_pathname("").unwrap()).is_unnamed());
    }

    #[test]
    fn paths_that_are_refused_are_those_that_std_refuses() {
        for path in ["a\0b", "\0", &"p".repeat(108), &"p".repeat(10_000), &"p".repeat(107), ""] {
            let ours = of_path(path).map(drop).map_err(|e| (e.kind(), e.to_string()));
            let stds = SocketAddr::from_pathname(path).map(drop);
            assert_eq!(ours, stds.map_err(|e| (e.kind(), e.to_string())), "{path:?}");
        }
    }

    #[test]
    fn an_internet_address_is_refused() {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
        let error = from_kernel(SockAddr::from(address)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
