// A program over the names `net`, `sync` and `thread` of the module that includes it: std's or ours.

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
    channel_traits();
}

fn channel_traits() {
    use sync::mpsc::{IntoIter, Iter, Receiver, Sender, SyncSender, TryIter};
    fn sendable<T: Send + Unpin + UnwindSafe + RefUnwindSafe + Debug>() {}
    // Of contents that are `Send` and nothing more.
    type Value = std::cell::Cell<i32>;
    shareable::<Sender<Value>>();
    shareable::<SyncSender<Value>>();
    sendable::<Receiver<Value>>();
    sendable::<IntoIter<Value>>();
    fn iterates<T, I: IntoIterator<Item = T>>() {}
    iterates::<i32, Receiver<i32>>();
    iterates::<i32, &Receiver<i32>>();
    iterates::<i32, Iter<'static, i32>>();
    iterates::<i32, TryIter<'static, i32>>();
    fn clones<T: Clone>() {}
    clones::<Sender<Value>>();
    clones::<SyncSender<Value>>();
    fn errors<T: std::error::Error>() {}
    errors::<sync::mpsc::SendError<i32>>();
    errors::<sync::mpsc::RecvError>();
    errors::<sync::mpsc::TryRecvError>();
    errors::<sync::mpsc::TrySendError<i32>>();
    errors::<sync::mpsc::RecvTimeoutError>();
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

    let borrowed = [1, 2, 3];
    // SAFETY: joined before the array goes; nobody cancels this.
    let handle = unsafe { thread::Builder::new().spawn_unchecked(|| borrowed.len()) }?;
    assert_eq!(handle.join().unwrap(), 3);
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

/// A channel without a limit: order, every way to receive, and what each side learns of the end.
pub fn channels() -> io::Result<()> {
    use sync::mpsc::{self, Receiver, RecvError, RecvTimeoutError, SendError, Sender, TryRecvError};
    let (sender, receiver): (Sender<i32>, Receiver<i32>) = mpsc::channel();
    assert_eq!(format!("{sender:?} {receiver:?}"), "Sender { .. } Receiver { .. }");
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    let senders: Vec<_> = (0..3).map(|_| sender.clone()).collect();
    let threads = senders.into_iter().map(|sender| {
        thread::spawn(move || {
            for number in 0..10 {
                sender.send(number).unwrap();
            }
        })
    });
    for handle in threads.collect::<Vec<_>>() {
        handle.join().unwrap();
    }
    assert_eq!(receiver.iter().take(10).count(), 10);
    assert_eq!(IntoIterator::into_iter(&receiver).take(10).count(), 10);
    assert_eq!(receiver.try_iter().count(), 10);
    for number in 0..4 {
        sender.send(number).unwrap();
    }
    drop(sender);
    assert_eq!(receiver.recv(), Ok(0));
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(2));
    assert_eq!(receiver.into_iter().collect::<Vec<_>>(), [3]);
    let (sender, receiver) = mpsc::channel();
    drop(receiver);
    assert_eq!(sender.send("back"), Err(SendError("back")));
    let (sender, receiver) = mpsc::channel::<i32>();
    let waiting = thread::spawn(move || {
        let ended = (receiver.recv(), receiver.try_recv());
        (ended, receiver.recv_timeout(Duration::MAX))
    });
    drop(sender);
    let ended = (Err(RecvError), Err(TryRecvError::Disconnected));
    assert_eq!(waiting.join().unwrap(), (ended, Err(RecvTimeoutError::Disconnected)));
    Ok(())
}

/// Channels with a limit, and with a limit of zero.
pub fn sync_channels() -> io::Result<()> {
    use sync::mpsc::{self, Receiver, SendError, SyncSender, TryRecvError, TrySendError};
    let (sender, receiver): (SyncSender<i32>, Receiver<i32>) = mpsc::sync_channel(1);
    assert_eq!(format!("{sender:?}"), "SyncSender { .. }");
    sender.send(1).unwrap();
    assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
    let other = sender.clone();
    let waiting = thread::spawn(move || other.send(3));
    assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Ok(3)));
    waiting.join().unwrap().unwrap();
    drop(receiver);
    assert_eq!(sender.try_send(4), Err(TrySendError::Disconnected(4)));
    assert_eq!(sender.send(4), Err(SendError(4)));

    let (sender, receiver) = mpsc::sync_channel(0);
    assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    let other = sender.clone();
    let waiting = thread::spawn(move || other.send(2));
    assert_eq!(receiver.recv(), Ok(2));
    waiting.join().unwrap().unwrap();
    let waiting = thread::spawn(move || receiver.recv());
    sender.send(3).unwrap();
    assert_eq!(waiting.join().unwrap(), Ok(3));
    assert_eq!(sender.send(4), Err(SendError(4)));
    let (sender, receiver) = mpsc::sync_channel(0);
    let waiting = thread::spawn(move || sender.send(5));
    drop(receiver);
    assert_eq!(waiting.join().unwrap(), Err(SendError(5)));
    Ok(())
}
