//! Sockets for async crates.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use super::reactor::{Reactor, Registration};
use crate::io_handle::{AsIoHandle, Direction, IoHandle};
use crate::net::TcpStream;
use crate::os::unix::net::UnixStream;

/// A socket as futures use it: `futures_io`'s `AsyncRead` and `AsyncWrite` over one of this crate's
/// streams.
///
/// It is to be polled inside a [`block_on`](super::block_on), which then waits for the socket. A
/// poll never suspends, so one future may read and write at once, and on many sockets. A clone is
/// another handle to the same socket; as everywhere, the last waker that polled a handle in one
/// direction is the one that is woken. The socket closes with its last handle, at the latest when
/// the `block_on` waits again.
///
/// `poll_close` shuts down writing. The stream's own timeouts do not apply; to bound a future, use
/// [`time::timeout`](crate::time::timeout) around its `block_on`.
///
/// # Errors
///
/// `Unsupported` from every poll outside a `block_on` of this crate, such as on another runtime.
///
/// ```
/// use std::net::Shutdown;
/// use std::pin::Pin;
///
/// use cosocket::futures::{self, Async};
/// use cosocket::net::{TcpListener, TcpStream};
/// use cosocket::thread;
/// use futures_io::{AsyncRead, AsyncWrite};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let server = thread::spawn(move || {
///     let (mut stream, _) = listener.accept()?;
///     std::io::copy(&mut stream.try_clone()?, &mut stream)
/// });
/// let mut stream = Async::new(TcpStream::connect(address)?);
/// let mut answer = [0; 8];
/// let count = futures::block_on(async {
///     std::future::poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b"ping")).await?;
///     std::future::poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut answer)).await
/// })?;
/// assert_eq!(&answer[..count], b"ping");
/// drop(stream);
/// server.join().unwrap()?;
/// # std::io::Result::Ok(())
/// ```
pub struct Async<S: AsyncSocket> {
    socket: Arc<S>,
    registration: Arc<Registration>,
}

/// The streams that can be an [`Async`]; implemented by this crate alone.
#[allow(private_bounds)]
pub trait AsyncSocket: AsIoHandle + Send + Sync + 'static {
    #[doc(hidden)]
    fn shutdown_write(&self) -> io::Result<()>;
}

impl AsyncSocket for TcpStream {
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl AsyncSocket for UnixStream {
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl<S: AsyncSocket> Async<S> {
    /// Wraps a stream, whichever mode it is in; nothing is changed in it.
    pub fn new(socket: S) -> Async<S> {
        Async::of(Arc::new(socket))
    }

    fn of(socket: Arc<S>) -> Async<S> {
        let registration = Registration::new(Arc::clone(&socket) as _);
        Async { socket, registration }
    }

    /// The stream itself, for its addresses and options; its calls wait as always.
    pub fn get_ref(&self) -> &S {
        &self.socket
    }

    /// Ready when a read would not wait; a hint, for another handle may come first. For protocols
    /// that make the calls themselves.
    ///
    /// # Errors
    ///
    /// As for every poll.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_io(context, Direction::Read, |io| is_ready(io, libc::POLLIN))
    }

    /// Ready when a write would not wait; as [`poll_readable`](Async::poll_readable).
    ///
    /// # Errors
    ///
    /// As for every poll.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_io(context, Direction::Write, |io| is_ready(io, libc::POLLOUT))
    }

    fn poll_io<T>(
        &self,
        context: &mut Context<'_>,
        direction: Direction,
        attempt: impl FnOnce(&IoHandle) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let Some(reactor) = Reactor::current() else {
            return Poll::Ready(Err(outside()));
        };
        if let Some(error) = self.registration.take_error() {
            return Poll::Ready(Err(error));
        }
        if !reactor.may_call() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match attempt(self.socket.as_io_handle()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                reactor.register(&self.registration, direction, context.waker());
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }
}

fn is_ready(io: &IoHandle, events: i16) -> io::Result<()> {
    match io.ready_now(events)? {
        Some(_) => Ok(()),
        None => Err(io::ErrorKind::WouldBlock.into()),
    }
}

#[cold]
fn outside() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "a socket of cosocket was polled outside cosocket::futures::block_on, so nobody would wait \
         for it: run the future with that, in a coroutine or on a plain thread",
    )
}

impl<S: AsyncSocket> AsyncRead for Async<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_io(context, Direction::Read, |io| io.try_recv(buffer))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_io(context, Direction::Read, |io| io.try_recv_vectored(buffers))
    }
}

impl<S: AsyncSocket> AsyncWrite for Async<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_io(context, Direction::Write, |io| io.try_send(buffer))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_io(context, Direction::Write, |io| io.try_send_vectored(buffers))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown_write())
    }
}

impl<S: AsyncSocket> Clone for Async<S> {
    fn clone(&self) -> Async<S> {
        Async::of(Arc::clone(&self.socket))
    }
}

impl<S: AsyncSocket> Drop for Async<S> {
    fn drop(&mut self) {
        self.registration.retire();
    }
}

impl<S: AsyncSocket + fmt::Debug> fmt::Debug for Async<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(&self.socket).finish()
    }
}
