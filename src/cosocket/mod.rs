//! The cosocket of OpenResty: a stream socket with a receive buffer of its own, timeouts for each
//! phase, and full duplex with guards.
//!
//! ```text
//!   Cosocket
//!     timeouts            connect, send, read: of the object, for all its connections
//!     state               vacant | connecting | open, and who uses which half
//!       ReadHalf          Receiver (buffer, parsing) --+
//!       WriteHalf                                      +--> Link: Transport (TCP, Unix, TLS)
//! ```

mod address;
mod claim;
mod close;
mod connect;
mod connection;
mod error;
mod fragments;
pub mod framing;
mod idle;
mod input;
mod local;
mod names;
mod options;
mod output;
mod parts;
mod per_call;
pub(crate) mod pool;
mod proxy;
mod queued_writer;
mod quiet;
pub(crate) mod receive;
mod report;
mod send;
mod send_file;
mod state;
mod timeouts;
#[cfg(feature = "tls")]
mod tls_handshake;
mod transport;
mod udp;

use std::fmt;
use std::sync::Mutex;

pub use self::address::{Address, Target};
pub use self::connect::{ConnectOptions, connect};
pub use self::error::{Error, ErrorKind};
pub use self::fragments::{Fragments, Number, Pieces, Text};
pub use self::names::Names;
pub use self::options::{OptionName, SocketOption};
pub use self::parts::{Parts, Stream};
pub use self::pool::{Evicted, Eviction, Pool, PoolMetrics, PoolOptions, pool_totals, pools};
pub use self::proxy::Proxy;
pub use self::queued_writer::{QueueEvent, QueuedWriter, Watermarks};
pub use self::receive::{LINE_LIMIT, PEEK_LIMIT, Until};
pub use self::timeouts::TimeoutMode;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use self::tls_handshake::TlsAgreement;
pub use self::udp::{Datagram, UdpCosocket};

pub(crate) use self::connection::Connection;

use self::local::Local;
use self::state::State;
use self::timeouts::Timeouts;

/// A stream socket over TCP or a Unix socket, as OpenResty has it.
///
/// It is an object that outlives its connections: settings are the object's, and
/// [`connect`](Cosocket::connect) may be called again. Receiving takes lines, counts, delimiters and
/// packets out of the stream; each call may wait, and suspends a coroutine or blocks a thread.
/// Dropping it closes the connection.
///
/// # Who may use it
///
/// Methods take `&self`, so it can be shared, in an `Arc` for instance. One coroutine may receive
/// while another sends, on the same worker or another. A second one that receives gets
/// `BusyReading` at once, one that sends `BusyWriting`; while it connects, all get
/// `BusyConnecting`. [`QueuedWriter`] lets many write.
///
/// # What ends what
///
/// A receive that times out loses nothing and leaves the connection as it is. A send that times out
/// ends the write half, for nobody knows how much of it will arrive; the end of the stream ends the
/// read half. The other half lives on. A half that is over fails with `Closed`, and when both are,
/// the connection is closed.
///
/// # Cancel
///
/// A coroutine that is cancelled while it waits in a call unwinds, and the connection is over: the
/// peer sees its end, a coroutine that waits in the other half gets `Closed`, and what has been
/// received by then can still be read. [`close`](Cosocket::close), `cancel_receive` and
/// `cancel_send` end the wait of another with an error.
///
/// ```
/// use cosocket::Cosocket;
/// use cosocket::net::TcpListener;
/// use std::io::{Read, Write};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = Cosocket::new();
/// socket.connect(listener.local_addr()?)?;
/// let (mut server, _) = listener.accept()?;
///
/// assert_eq!(socket.send(b"ping")?, 4);
/// let mut question = [0; 4];
/// server.read_exact(&mut question)?;
/// server.write_all(b"pong")?;
/// assert_eq!(socket.receive_any(1024)?, b"pong");
/// socket.close()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Default)]
pub struct Cosocket {
    state: State,
    timeouts: Timeouts,
    /// What connections are made from.
    local: Mutex<Local>,
    /// Who looks names up for it.
    names: names::Choice,
    #[cfg(feature = "log")]
    log_errors: std::sync::atomic::AtomicBool,
}

impl Cosocket {
    /// A socket that is not connected. Opens no descriptor.
    #[must_use]
    pub fn new() -> Cosocket {
        Cosocket::default()
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// `Closed`; the system's.
    pub fn local_addr(&self) -> Result<Address, Error> {
        Ok(self.state.look(|link, _| link.transport.local_addr())??)
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// `Closed`; the system's.
    pub fn peer_addr(&self) -> Result<Address, Error> {
        Ok(self.state.look(|link, _| link.transport.peer_addr())??)
    }

    /// How many times the connection came out of a pool: 0 for a fresh one. Never busy.
    ///
    /// # Errors
    ///
    /// `Closed`.
    pub fn reused_times(&self) -> Result<u64, Error> {
        self.state.reuse_count()
    }
}

impl fmt::Debug for Cosocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Cosocket");
        if let Ok(stream) = self.state.look(|link, _| format!("{:?}", link.transport)) {
            debug.field("stream", &format_args!("{stream}"));
        }
        debug.finish_non_exhaustive()
    }
}
