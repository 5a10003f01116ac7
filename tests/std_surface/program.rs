// A program over the names `net` and `thread` of the module that includes it: std's or ours.

use std::fmt::Debug;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use net::{TcpListener, TcpStream};

pub fn shareable<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug + 'static>() {}

pub fn descriptor<T>()
where
    T: AsFd + AsRawFd + IntoRawFd + FromRawFd + From<OwnedFd> + Into<OwnedFd>,
{
}

pub fn stream<T: Read + Write>()
where
    for<'a> &'a T: Read + Write,
{
}

fn handle<T: Send + Sync + Debug>() {}

/// What must hold for the types; that this compiles is the check.
pub fn traits() {
    shareable::<TcpStream>();
    shareable::<TcpListener>();
    descriptor::<TcpStream>();
    descriptor::<TcpListener>();
    stream::<TcpStream>();
    shareable::<net::Incoming<'static>>();
    handle::<thread::JoinHandle<i32>>();
    handle::<thread::ScopedJoinHandle<'static, i32>>();
    handle::<thread::Scope<'static, 'static>>();
    shareable::<thread::Thread>();
    shareable::<thread::ThreadId>();
    shareable::<thread::Builder>();
    fn copies<T: Copy + Eq + std::hash::Hash>() {}
    copies::<thread::ThreadId>();
    fn clones<T: Clone>() {}
    clones::<thread::Thread>();
}

fn connected() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}

/// Every setting of a stream is read back as it was set.
pub fn stream_options() -> io::Result<()> {
    let (stream, peer) = connected()?;
    assert_eq!(stream.peer_addr()?, peer.local_addr()?);
    assert_eq!(stream.local_addr()?, peer.peer_addr()?);
    for nodelay in [true, false] {
        stream.set_nodelay(nodelay)?;
        assert_eq!(stream.nodelay()?, nodelay);
    }
    for quickack in [false, true] {
        stream.set_quickack(quickack)?;
        assert_eq!(stream.quickack()?, quickack);
    }
    stream.set_ttl(42)?;
    assert_eq!(stream.ttl()?, 42);
    assert_eq!(stream.read_timeout()?, None);
    assert_eq!(stream.write_timeout()?, None);
    let (long, longer) = (Some(Duration::from_secs(100)), Some(Duration::from_millis(250_500)));
    stream.set_read_timeout(long)?;
    stream.set_write_timeout(longer)?;
    assert_eq!((stream.read_timeout()?, stream.write_timeout()?), (long, longer));
    stream.set_read_timeout(None)?;
    assert_eq!((stream.read_timeout()?, stream.write_timeout()?), (None, longer));
    let zero = stream.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
    assert_eq!(zero.kind(), io::ErrorKind::InvalidInput);
    let zero = stream.set_write_timeout(Some(Duration::ZERO)).unwrap_err();
    assert_eq!(zero.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(stream.write_timeout()?, longer);
    assert!(stream.take_error()?.is_none());
    let clone: TcpStream = stream.try_clone()?;
    assert_eq!(clone.write_timeout()?, longer);
    stream.set_nonblocking(true)?;
    let error = (&clone).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    Ok(())
}

/// Every way to move bytes.
pub fn stream_io() -> io::Result<()> {
    let (stream, mut peer) = connected()?;
    let mut writer = &stream;
    assert_eq!(writer.write(b"ab")?, 2);
    assert_eq!(writer.write_vectored(&[IoSlice::new(b"cd"), IoSlice::new(b"e")])?, 3);
    writer.flush()?;
    writeln!(writer, "{}", 5)?;
    let mut head = [0; 2];
    peer.read_exact(&mut head)?;
    assert_eq!(&head, b"ab");
    assert_eq!(peer.peek(&mut head)?, 2);
    assert_eq!(&head, b"cd");
    let (mut one, mut two) = ([0; 1], [0; 2]);
    let mut buffers = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
    assert_eq!(peer.read_vectored(&mut buffers)?, 3);
    assert_eq!((&one, &two), (b"c", b"de"));
    stream.shutdown(Shutdown::Write)?;
    let mut rest = String::new();
    peer.read_to_string(&mut rest)?;
    assert_eq!(rest, "5\n");
    peer.write_all(b"copied")?;
    drop(peer);
    let mut copy = Vec::new();
    assert_eq!(io::copy(&mut &stream, &mut copy)?, 6);
    assert_eq!(copy, b"copied");
    Ok(())
}

#[allow(deprecated, clippy::needless_borrows_for_generic_args)]
pub fn listener() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address: SocketAddr = listener.local_addr()?;
    let clone: TcpListener = listener.try_clone()?;
    assert_eq!(clone.local_addr()?, address);
    listener.set_ttl(43)?;
    assert_eq!(clone.ttl()?, 43);
    assert!(listener.take_error()?.is_none());
    let client = TcpStream::connect_timeout(&address, Duration::from_secs(100))?;
    let (server, from): (TcpStream, SocketAddr) = clone.accept()?;
    assert_eq!(from, client.local_addr()?);
    assert_eq!(server.peer_addr()?, from);
    let clients = [TcpStream::connect(address)?, TcpStream::connect(address)?];
    let incoming: net::Incoming<'_> = listener.incoming();
    for (client, stream) in clients.iter().zip(incoming) {
        assert_eq!(stream?.peer_addr()?, client.local_addr()?);
    }
    listener.set_nonblocking(true)?;
    assert_eq!(clone.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let v6 = TcpListener::bind("[::1]:0")?;
    let _: bool = v6.only_v6()?;
    Ok(())
}

/// std's twelve implementations, through the calls that take them.
#[allow(clippy::needless_borrows_for_generic_args)]
pub fn addresses() -> io::Result<()> {
    fn reach(address: impl ToSocketAddrs) -> io::Result<()> {
        TcpStream::connect(address).map(drop)
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let port = address.port();
    let text = format!("127.0.0.1:{port}");
    reach(address)?;
    reach(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    reach((Ipv4Addr::LOCALHOST, port))?;
    reach((net::IpAddr::V4(Ipv4Addr::LOCALHOST), port))?;
    reach(("127.0.0.1", port))?;
    reach((String::from("127.0.0.1"), port))?;
    reach(text.as_str())?;
    reach(text.clone())?;
    reach(&text)?;
    reach(&[address][..])?;
    reach(("localhost", port))?;
    let v6 = TcpListener::bind(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0))?;
    reach((Ipv6Addr::LOCALHOST, v6.local_addr()?.port()))?;
    let error = TcpStream::connect("localhost").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    Ok(())
}

pub fn conversions() -> io::Result<()> {
    let (stream, mut peer) = connected()?;
    let number = stream.as_raw_fd();
    let fd: OwnedFd = stream.into();
    assert_eq!(fd.as_raw_fd(), number);
    let stream = TcpStream::from(fd);
    assert_eq!(stream.as_fd().as_raw_fd(), number);
    let raw = stream.into_raw_fd();
    // SAFETY: just given away by the line above.
    let mut stream = unsafe { TcpStream::from_raw_fd(raw) };
    stream.write_all(b"still here")?;
    drop(stream);
    let mut text = String::new();
    peer.read_to_string(&mut text)?;
    assert_eq!(text, "still here");
    let fd: OwnedFd = TcpListener::bind("127.0.0.1:0")?.into();
    let listener = TcpListener::from(fd);
    let _client = TcpStream::connect(listener.local_addr()?)?;
    listener.accept()?;
    Ok(())
}

/// The shape of `{:?}`; numbers are replaced by what they stand for.
pub fn debug() -> io::Result<[String; 3]> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let neutral = |text: String, fd: i32| {
        text.replace(&listener.local_addr().unwrap().to_string(), "LISTENER")
            .replace(&client.local_addr().unwrap().to_string(), "CLIENT")
            .replace(&format!("fd: {fd} "), "fd: FD ")
    };
    Ok([
        neutral(format!("{client:?}"), client.as_raw_fd()),
        neutral(format!("{listener:?}"), listener.as_raw_fd()),
        neutral(format!("{:?}", listener.incoming()), listener.as_raw_fd()),
    ])
}

pub fn threads() -> io::Result<()> {
    let handle: thread::JoinHandle<i32> = thread::spawn(|| 1);
    let _: &thread::Thread = handle.thread();
    while !handle.is_finished() {
        thread::yield_now();
    }
    let result: thread::Result<i32> = handle.join();
    assert_eq!(result.unwrap(), 1);

    let builder = thread::Builder::new().name("named".into()).stack_size(256 << 10);
    let handle = builder.spawn(|| {
        let me = thread::current();
        (me.id(), me.name().map(str::to_owned))
    })?;
    assert_eq!(handle.thread().name(), Some("named"));
    let id: thread::ThreadId = handle.thread().id();
    assert_eq!(handle.join().unwrap(), (id, Some("named".into())));
    assert_ne!(thread::current().id(), id);

    let parked = thread::spawn(|| {
        thread::park();
        thread::park_timeout(Duration::from_nanos(1));
        thread::sleep(Duration::from_nanos(1));
        assert!(!thread::panicking());
    });
    parked.thread().unpark();
    parked.join().unwrap();

    let payload = thread::spawn(|| std::panic::resume_unwind(Box::new(7_u8))).join().unwrap_err();
    assert_eq!(*payload.downcast::<u8>().unwrap(), 7);
    assert!(thread::available_parallelism()?.get() >= 1);
    Ok(())
}

pub fn scopes() -> io::Result<()> {
    let (mut count, text) = (0, String::from("borrowed"));
    let length = thread::scope(|scope| {
        scope.spawn(|| count += 1);
        let handle: thread::ScopedJoinHandle<'_, usize> = scope.spawn(|| {
            let nested = scope.spawn(|| text.len());
            nested.join().unwrap()
        });
        let _: &thread::Thread = handle.thread();
        let _: bool = handle.is_finished();
        let named = thread::Builder::new().name("in a scope".into());
        let named = named.spawn_scoped(scope, || thread::current().name().map(str::to_owned));
        assert_eq!(named.unwrap().join().unwrap().as_deref(), Some("in a scope"));
        handle.join().unwrap()
    });
    assert_eq!((count, length), (1, 8));
    Ok(())
}
