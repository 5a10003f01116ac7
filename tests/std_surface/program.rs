// A program over the names `net` and `thread` of the module that includes it: std's or ours.

use std::fmt::Debug;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use net::{TcpListener, TcpStream};

fn shareable<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug + 'static>() {}

fn descriptor<T>()
where
    T: AsFd + AsRawFd + IntoRawFd + FromRawFd + From<OwnedFd> + Into<OwnedFd>,
{
}

fn stream<T: Read + Write>()
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
    traits_once();
}

/// `F` of a `LazyLock` must be `Send`, and `T` both, for the whole to be shared.
fn traits_once() {
    shareable::<sync::Barrier>();
    shareable::<sync::BarrierWaitResult>();
    shareable::<sync::Once>();
    fn told<T: Send + Debug>() {}
    told::<sync::OnceState>();
    shareable::<sync::OnceLock<i32>>();
    shareable::<sync::LazyLock<i32>>();
    fn sent<T: Send>() {}
    sent::<sync::OnceLock<std::cell::Cell<i32>>>();
    fn values<T: Clone + Eq + Default + From<i32>>() {}
    values::<sync::OnceLock<i32>>();
    fn defaults<T: Default>() {}
    defaults::<sync::LazyLock<i32>>();
    fn derefs<T: std::ops::DerefMut<Target = i32>>() {}
    derefs::<sync::LazyLock<i32>>();
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

fn panics(f: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err()
}

/// A panic without the hook's noise.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("by hand"))
}

pub fn barriers() -> io::Result<()> {
    static BARRIER: sync::Barrier = sync::Barrier::new(1);
    let result: sync::BarrierWaitResult = BARRIER.wait();
    assert!(result.is_leader() && BARRIER.wait().is_leader());
    assert!(sync::Barrier::new(0).wait().is_leader());
    let barrier = sync::Barrier::new(4);
    let leaders = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let led = usize::from(barrier.wait().is_leader());
                    leaders.fetch_add(led, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(leaders.into_inner(), 10);
    Ok(())
}

pub fn onces() -> io::Result<()> {
    static ONCE: sync::Once = sync::Once::new();
    ONCE.call_once(|| ());
    let once = sync::Once::new();
    let mut calls = 0;
    assert!(!once.is_completed());
    (0..3).for_each(|_| once.call_once(|| calls += 1));
    once.call_once_force(|_| calls += 1);
    once.wait();
    once.wait_force();
    assert!(once.is_completed());
    assert_eq!(calls, 1);
    let once = sync::Once::new();
    thread::scope(|scope| {
        scope.spawn(|| once.wait());
        scope.spawn(|| once.wait_force());
        once.call_once(thread::yield_now);
    });

    // Poison.
    let once = sync::Once::new();
    assert!(panics(|| once.call_once(|| panic_quietly())));
    assert!(!once.is_completed());
    assert!(panics(|| once.call_once(|| ())));
    assert!(panics(|| once.wait()));
    assert!(panics(|| once.call_once_force(|_| panic_quietly())));
    once.call_once_force(|state: &sync::OnceState| assert!(state.is_poisoned()));
    once.call_once(|| unreachable!());
    once.wait();
    let once = sync::Once::new();
    once.call_once_force(|state| assert!(!state.is_poisoned()));
    Ok(())
}

pub fn once_locks() -> io::Result<()> {
    static CELL: sync::OnceLock<i32> = sync::OnceLock::new();
    assert_eq!(CELL.get_or_init(|| 5), &5);
    let cell = sync::OnceLock::new();
    assert_eq!(cell.get(), None);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| *cell.wait());
        assert!(panics(|| {
            cell.get_or_init(|| panic_quietly());
        }));
        assert_eq!(cell.get(), None);
        assert_eq!(cell.get_or_init(|| 5), &5);
        assert_eq!(waiter.join().unwrap(), 5);
    });
    assert_eq!(cell.get_or_init(|| unreachable!()), &5);
    assert_eq!(cell.set(6), Err(6));
    assert_eq!((cell.get(), cell.wait()), (Some(&5), &5));

    let mut cell = sync::OnceLock::from(String::from("one"));
    cell.get_mut().unwrap().push_str(" two");
    assert_eq!(cell.clone(), cell);
    assert_ne!(cell, sync::OnceLock::new());
    assert_eq!(cell.take().as_deref(), Some("one two"));
    assert_eq!(cell.get(), None);
    assert_eq!(cell.take(), None);
    cell.set("three".into()).unwrap();
    assert_eq!(cell.into_inner().as_deref(), Some("three"));
    assert_eq!(sync::OnceLock::<i32>::default().into_inner(), None);

    // A value that borrows what its cell does not outlive.
    let cell = sync::OnceLock::new();
    let text = String::from("borrowed");
    assert_eq!(*cell.get_or_init(|| &text[..]), "borrowed");
    Ok(())
}

pub fn lazy_locks() -> io::Result<()> {
    static LAZY: sync::LazyLock<Vec<i32>> = sync::LazyLock::new(|| vec![1, 2]);
    assert_eq!(LAZY.len(), 2);
    assert_eq!(sync::LazyLock::force(&LAZY), &[1, 2]);
    assert_eq!(sync::LazyLock::get(&LAZY), Some(&vec![1, 2]));

    let mut calls = 0;
    let mut lazy = sync::LazyLock::new(|| {
        calls += 1;
        1
    });
    assert_eq!(sync::LazyLock::get(&lazy), None);
    assert_eq!(sync::LazyLock::get_mut(&mut lazy), None);
    *lazy += 1;
    *sync::LazyLock::force_mut(&mut lazy) += 1;
    assert_eq!(sync::LazyLock::get_mut(&mut lazy), Some(&mut 3));
    assert_eq!(*lazy, 3);
    drop(lazy);
    assert_eq!(calls, 1);
    assert_eq!(*sync::LazyLock::<i32>::default(), 0);

    let mut lazy = sync::LazyLock::<i32, _>::new(|| panic_quietly());
    (0..2).for_each(|_| assert!(panics(|| assert_eq!(*lazy, 0))));
    assert_eq!(sync::LazyLock::get(&lazy), None);
    assert_eq!(sync::LazyLock::get_mut(&mut lazy), None);
    assert!(panics(|| *lazy = 1));
    Ok(())
}

pub fn debug_once() -> Vec<String> {
    let (barrier, once) = (sync::Barrier::new(1), sync::Once::new());
    let (empty, full) = (sync::OnceLock::<i32>::new(), sync::OnceLock::from(1));
    let lazy = sync::LazyLock::new(|| 2);
    let mut shapes = vec![format!("{barrier:?} {once:?} {empty:?} {full:?} {lazy:?}")];
    let result = barrier.wait();
    once.call_once_force(|state| shapes.push(format!("{state:?}")));
    shapes.push(format!("{result:?} {once:?} {} {lazy:?} {full:#?}", *lazy));
    shapes
}
