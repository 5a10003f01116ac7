// As program.rs, for UDP and Unix sockets: over the names `net` and `unet` of the module that
// includes it.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, UdpSocket};
use unet::{UnixDatagram, UnixListener, UnixStream};

use super::program::{descriptor, shareable, stream};
use crate::util::first_error;

/// What must hold for the types; that this compiles is the check.
pub fn traits() {
    shareable::<UdpSocket>();
    shareable::<UnixStream>();
    shareable::<UnixListener>();
    shareable::<UnixDatagram>();
    shareable::<unet::Incoming<'static>>();
    descriptor::<UdpSocket>();
    descriptor::<UnixStream>();
    descriptor::<UnixListener>();
    descriptor::<UnixDatagram>();
    stream::<UnixStream>();
    fn addresses<T: Clone + std::fmt::Debug>() {}
    addresses::<unet::SocketAddr>();
}

/// A path in a directory for temporary files, removed with this.
struct Name(PathBuf);

impl Name {
    fn new() -> Name {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let module = module_path!().replace("::", "-");
        let name = format!("{module}-{}-{number}", std::process::id());
        Name(std::env::temp_dir().join(name))
    }
}

impl AsRef<Path> for Name {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.map(drop).unwrap_err().kind()
}

/// The same settings on every type that has them.
macro_rules! check_timeouts {
    ($socket:expr) => {{
        let (short, long) = (Some(Duration::from_millis(250_500)), Some(Duration::from_secs(100)));
        assert_eq!(($socket.read_timeout()?, $socket.write_timeout()?), (None, None));
        $socket.set_read_timeout(short)?;
        $socket.set_write_timeout(long)?;
        assert_eq!(kind($socket.set_read_timeout(Some(Duration::ZERO))), INVALID);
        assert_eq!(kind($socket.set_write_timeout(Some(Duration::ZERO))), INVALID);
        let clone = $socket.try_clone()?;
        assert_eq!((clone.read_timeout()?, clone.write_timeout()?), (short, long));
        clone.set_read_timeout(None)?;
        clone.set_write_timeout(None)?;
        assert_eq!(($socket.read_timeout()?, $socket.write_timeout()?), (None, None));
    }};
}

const INVALID: io::ErrorKind = io::ErrorKind::InvalidInput;

fn udp_pair() -> io::Result<(UdpSocket, UdpSocket)> {
    let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    one.connect(other.local_addr()?)?;
    other.connect(one.local_addr()?)?;
    Ok((one, other))
}

/// Every setting is read back as it was set.
pub fn udp_options() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    check_timeouts!(socket);
    for on in [true, false] {
        socket.set_broadcast(on)?;
        assert_eq!(socket.broadcast()?, on);
        socket.set_multicast_loop_v4(on)?;
        assert_eq!(socket.multicast_loop_v4()?, on);
    }
    socket.set_multicast_ttl_v4(17)?;
    assert_eq!(socket.multicast_ttl_v4()?, 17);
    socket.set_ttl(42)?;
    assert_eq!(socket.ttl()?, 42);
    assert!(socket.take_error()?.is_none());
    let v6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))?;
    for on in [true, false] {
        v6.set_multicast_loop_v6(on)?;
        assert_eq!(v6.multicast_loop_v6()?, on);
    }
    let (group, all) = (Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::LOCALHOST);
    socket.join_multicast_v4(&group, &all)?;
    socket.leave_multicast_v4(&group, &all)?;
    assert!(socket.leave_multicast_v4(&group, &all).is_err());
    assert_eq!(kind(socket.join_multicast_v4(&all, &all)), INVALID);
    let group = "ff02::fb".parse().unwrap();
    assert!(v6.leave_multicast_v6(&group, 0).is_err());
    assert!(v6.join_multicast_v6(&group, 1 << 30).is_err());
    socket.set_nonblocking(true)?;
    assert_eq!(kind(socket.try_clone()?.recv(&mut [0])), io::ErrorKind::WouldBlock);
    Ok(())
}

/// Every way to move datagrams.
pub fn udp_io() -> io::Result<()> {
    let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("[::1]:0")?);
    let address: SocketAddr = one.local_addr()?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    let from = sender.local_addr()?;
    let buffer = &mut [0; 16];
    assert_eq!(sender.send_to(b"first", address)?, 5);
    // The first address alone is tried.
    assert_eq!(sender.send_to(b"second", &[address, other.local_addr()?][..])?, 6);
    assert!(sender.send_to(b"third", &[other.local_addr()?, address][..]).is_err());
    assert_eq!(one.peek_from(buffer)?, (5, from));
    assert_eq!(one.recv_from(buffer)?, (5, from));
    assert_eq!(&buffer[..5], b"first");
    // The rest of what does not fit is lost.
    assert_eq!(one.peek_from(&mut buffer[..3])?, (3, from));
    assert_eq!(one.recv_from(&mut buffer[..3])?, (3, from));
    assert_eq!(&buffer[..3], b"sec");
    one.connect(from)?;
    assert_eq!(one.peer_addr()?, from);
    sender.connect(("127.0.0.1", address.port()))?;
    assert_eq!(sender.send(b"fourth")?, 6);
    assert_eq!(one.peek(buffer)?, 6);
    assert_eq!(one.recv(buffer)?, 6);
    assert_eq!(&buffer[..6], b"fourth");
    assert_eq!(other.local_addr()?.ip(), Ipv6Addr::LOCALHOST);
    Ok(())
}

/// Datagrams of no bytes, and buffers of no room.
pub fn udp_empty() -> io::Result<()> {
    let (one, other) = udp_pair()?;
    let buffer = &mut [9; 4];
    assert_eq!(one.send(b"")?, 0);
    assert_eq!(other.recv(buffer)?, 0);
    assert_eq!(one.send_to(b"", other.local_addr()?)?, 0);
    assert_eq!(other.recv_from(buffer)?, (0, one.local_addr()?));
    for text in [b"1", b"2", b"3"] {
        one.send(text)?;
    }
    // An empty buffer takes a datagram, unless it only peeks.
    assert_eq!(other.peek(&mut [])?, 0);
    assert_eq!(other.recv(&mut [])?, 0);
    assert_eq!(other.recv_from(&mut [])?, (0, one.local_addr()?));
    assert_eq!(other.recv(buffer)?, 1);
    assert_eq!(buffer[0], b'3');
    other.set_nonblocking(true)?;
    assert_eq!(kind(other.recv(&mut [])), io::ErrorKind::WouldBlock, "it does not take nothing");
    Ok(())
}

pub fn udp_errors() -> io::Result<()> {
    let none: &[SocketAddr] = &[];
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    assert_eq!(kind(UdpSocket::bind(none)), INVALID);
    assert_eq!(kind(UdpSocket::bind("localhost")), INVALID);
    assert_eq!(kind(socket.connect(none)), INVALID);
    assert_eq!(kind(socket.send_to(b"x", none)), INVALID);
    assert_eq!(kind(UdpSocket::bind(socket.local_addr()?)), io::ErrorKind::AddrInUse);
    assert_eq!(kind(socket.peer_addr()), io::ErrorKind::NotConnected);
    assert_eq!(socket.send(b"x").unwrap_err().raw_os_error(), Some(libc::EDESTADDRREQ));
    let large = vec![0; 1 << 16];
    let address = socket.local_addr()?;
    let error = socket.send_to(&large, address).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    let broadcast = socket.send_to(b"x", ("255.255.255.255", 9));
    assert_eq!(kind(broadcast), io::ErrorKind::PermissionDenied);
    // A name with several addresses, of which one can be bound.
    let elsewhere: SocketAddr = "192.0.2.1:0".parse().unwrap();
    let bound = UdpSocket::bind(&[elsewhere, "127.0.0.1:0".parse().unwrap()][..])?;
    assert!(bound.local_addr()?.ip().is_loopback());
    Ok(())
}

/// Nobody is there: the next call says so, once for each datagram.
pub fn udp_refusal() -> io::Result<()> {
    let gone = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(gone)?;
    socket.send(b"hello?")?;
    assert_eq!(kind(socket.recv(&mut [0; 9])), io::ErrorKind::ConnectionRefused);
    socket.send(b"hello?")?;
    assert_eq!(kind(socket.send(b"hello?")), io::ErrorKind::ConnectionRefused);
    socket.send(b"hello?")?;
    let error = socket.take_error()?.unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(socket.take_error()?.is_none());
    Ok(())
}

pub fn unix_streams() -> io::Result<()> {
    let (mut near, mut far) = UnixStream::pair()?;
    check_timeouts!(near);
    assert!(near.local_addr()?.is_unnamed() && near.peer_addr()?.is_unnamed());
    assert!(near.take_error()?.is_none());
    let mut writer = &near;
    assert_eq!(writer.write(b"ab")?, 2);
    assert_eq!(writer.write_vectored(&[IoSlice::new(b"cd"), IoSlice::new(b"e")])?, 3);
    writer.flush()?;
    let mut head = [0; 2];
    far.read_exact(&mut head)?;
    assert_eq!(&head, b"ab");
    let (mut one, mut two) = ([0; 1], [0; 2]);
    let buffers = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
    assert_eq!(far.read_vectored(buffers)?, 3);
    assert_eq!((&one, &two), (b"c", b"de"));
    near.shutdown(Shutdown::Write)?;
    assert_eq!(far.read(&mut head)?, 0);
    far.write_all(b"back")?;
    drop(far);
    let mut text = String::new();
    near.read_to_string(&mut text)?;
    assert_eq!(text, "back");
    let (near, far) = UnixStream::pair()?;
    drop(far);
    // Where it was not the first one, what came before lies there unread.
    first_error(|| (&near).write(b"x"));
    assert_eq!(kind((&near).write(b"x")), io::ErrorKind::BrokenPipe);
    let (near, _far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    assert_eq!(kind((&near.try_clone()?).read(&mut [0])), io::ErrorKind::WouldBlock);
    Ok(())
}

pub fn unix_listeners() -> io::Result<()> {
    let name = Name::new();
    assert_eq!(kind(UnixStream::connect(&name)), io::ErrorKind::NotFound);
    let listener = UnixListener::bind(&name)?;
    assert_eq!(kind(UnixListener::bind(&name)), io::ErrorKind::AddrInUse);
    assert_eq!(listener.local_addr()?.as_pathname(), Some(name.as_ref()));
    assert!(listener.take_error()?.is_none());
    let client = UnixStream::connect(&name)?;
    let (server, from): (UnixStream, unet::SocketAddr) = listener.try_clone()?.accept()?;
    assert!(from.is_unnamed());
    assert_eq!(client.peer_addr()?.as_pathname(), Some(name.as_ref()));
    assert_eq!(server.local_addr()?.as_pathname(), Some(name.as_ref()));
    let _clients = [UnixStream::connect(&name)?, UnixStream::connect(&name)?];
    for stream in (&listener).into_iter().take(1) {
        let _: UnixStream = stream?;
    }
    let incoming: unet::Incoming<'_> = listener.incoming();
    assert_eq!(incoming.take(1).filter(Result::is_ok).count(), 1);
    listener.set_nonblocking(true)?;
    assert_eq!(kind(listener.accept()), io::ErrorKind::WouldBlock);
    drop(listener);
    let refused = first_error(|| UnixStream::connect(&name));
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    Ok(())
}

pub fn unix_addresses() -> io::Result<()> {
    for path in ["a\0b", "\0a", &"p".repeat(108), &"p".repeat(4096)] {
        assert_eq!(kind(UnixStream::connect(path)), INVALID);
        assert_eq!(kind(UnixListener::bind(path)), INVALID);
        assert_eq!(kind(UnixDatagram::bind(path)), INVALID);
        assert_eq!(kind(UnixDatagram::unbound()?.connect(path)), INVALID);
        assert_eq!(kind(UnixDatagram::unbound()?.send_to(b"x", path)), INVALID);
    }
    assert_eq!(kind(UnixStream::connect("")), INVALID);
    // An empty path has the kernel choose an abstract name.
    let listener = UnixListener::bind("")?;
    let chosen = listener.local_addr()?;
    assert_eq!(chosen.as_abstract_name().map(<[u8]>::len), Some(5));
    let client = UnixStream::connect_addr(&chosen)?;
    assert_eq!(client.peer_addr()?.as_abstract_name(), chosen.as_abstract_name());
    listener.accept()?;
    let name = Name::new();
    let name = name.as_ref().as_os_str().as_encoded_bytes();
    let address = unet::SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    assert_eq!(listener.local_addr()?.as_abstract_name(), Some(name));
    let path = Name::new();
    let address = unet::SocketAddr::from_pathname(&path)?;
    let _listener = UnixListener::bind_addr(&address)?;
    UnixStream::connect_addr(&address)?;
    UnixStream::connect(&path)?;
    Ok(())
}

pub fn unix_datagrams() -> io::Result<()> {
    let (name, other_name) = (Name::new(), Name::new());
    let socket = UnixDatagram::bind(&name)?;
    assert_eq!(kind(UnixDatagram::bind(&name)), io::ErrorKind::AddrInUse);
    check_timeouts!(socket);
    let address: unet::SocketAddr = socket.local_addr()?;
    assert_eq!(address.as_pathname(), Some(name.as_ref()));
    assert_eq!(kind(socket.peer_addr()), io::ErrorKind::NotConnected);
    assert_eq!(kind(socket.send(b"x")), io::ErrorKind::NotConnected);
    assert!(socket.take_error()?.is_none());
    let sender = UnixDatagram::unbound()?;
    let buffer = &mut [0; 16];
    assert_eq!(kind(sender.send_to(b"x", &other_name)), io::ErrorKind::NotFound);
    assert_eq!(sender.send_to(b"by path", &name)?, 7);
    assert_eq!(sender.send_to_addr(b"by address", &address)?, 10);
    let (len, from) = socket.recv_from(buffer)?;
    assert!(from.is_unnamed());
    assert_eq!(&buffer[..len], b"by path");
    assert_eq!(socket.recv(&mut buffer[..2])?, 2);
    let named = UnixDatagram::bind_addr(&unet::SocketAddr::from_pathname(&other_name)?)?;
    named.connect(&name)?;
    named.connect_addr(&address)?;
    assert_eq!(named.peer_addr()?.as_pathname(), Some(name.as_ref()));
    assert_eq!(named.send(b"")?, 0);
    let (len, from) = socket.recv_from(buffer)?;
    assert_eq!((len, from.as_pathname()), (0, Some(other_name.as_ref())));
    let (near, far) = UnixDatagram::pair()?;
    for text in [&b""[..], b"1", b"2", b"3"] {
        assert_eq!(near.send(text)?, text.len());
    }
    assert_eq!(far.recv(buffer)?, 0);
    // An empty buffer takes a datagram.
    assert_eq!(far.recv(&mut [])?, 0);
    assert_eq!(far.recv_from(&mut [])?.0, 0);
    assert_eq!((far.recv(buffer)?, buffer[0]), (1, b'3'));
    near.shutdown(Shutdown::Both)?;
    assert_eq!(kind(near.send(b"x")), io::ErrorKind::BrokenPipe);
    far.set_nonblocking(true)?;
    assert_eq!(kind(far.try_clone()?.recv(&mut [])), io::ErrorKind::WouldBlock);
    drop(socket);
    let refused = first_error(|| named.send(b"x"));
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    Ok(())
}

pub fn socket_conversions() -> io::Result<()> {
    let (one, other) = udp_pair()?;
    let number = one.as_raw_fd();
    let one = UdpSocket::from(OwnedFd::from(one));
    assert_eq!(one.as_raw_fd(), number);
    one.send(b"")?;
    assert_eq!(other.recv(&mut [0; 4])?, 0);
    let (near, far) = UnixStream::pair()?;
    let (near, mut far) = (UnixStream::from(OwnedFd::from(near)), far);
    (&near).write_all(b"x")?;
    far.read_exact(&mut [0])?;
    let (near, far) = UnixDatagram::pair()?;
    let near = UnixDatagram::from(OwnedFd::from(near));
    far.send(b"")?;
    assert_eq!(near.recv(&mut [])?, 0);
    let name = Name::new();
    let listener = UnixListener::from(OwnedFd::from(UnixListener::bind(&name)?));
    UnixStream::connect(&name)?;
    listener.accept()?;
    // A descriptor of another kind is adopted, and is no Unix socket.
    let stranger = UnixStream::from(OwnedFd::from(one));
    assert_eq!(kind(stranger.local_addr()), INVALID);
    Ok(())
}

/// The shape of `{:?}`; numbers and names are replaced by what they stand for.
pub fn socket_debug() -> io::Result<Vec<String>> {
    let name = Name::new();
    let udp = UdpSocket::bind("127.0.0.1:0")?;
    let listener = UnixListener::bind(&name)?;
    let client = UnixStream::connect(&name)?;
    let (one, _other) = UnixDatagram::pair()?;
    let unbound = UnixDatagram::unbound()?;
    let neutral = |text: String, fd: i32| {
        // std shows how it keeps the number.
        text.replace(&format!("FileDesc(OwnedFd {{ fd: {fd} }})"), "FD")
            .replace(&format!("fd: {fd}"), "fd: FD")
            .replace(name.as_ref().to_str().unwrap(), "NAME")
            .replace(&udp.local_addr().unwrap().to_string(), "ADDRESS")
    };
    Ok(vec![
        neutral(format!("{udp:?}"), udp.as_raw_fd()),
        neutral(format!("{listener:?}"), listener.as_raw_fd()),
        neutral(format!("{:?}", listener.incoming()), listener.as_raw_fd()),
        neutral(format!("{client:?}"), client.as_raw_fd()),
        neutral(format!("{one:?}"), one.as_raw_fd()),
        neutral(format!("{unbound:?}"), unbound.as_raw_fd()),
    ])
}
