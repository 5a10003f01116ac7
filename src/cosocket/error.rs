//! What goes wrong with a cosocket: a kind to match on, OpenResty's words to search for, and the
//! data that had come by then.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::Cancelled;
use crate::io_handle::bounds::WasCut;
use crate::io_handle::undelivered::Undelivered;

/// The error of every [`Cosocket`](super::Cosocket) call.
///
/// [`kind`](Error::kind) says what happened. `Display` prints the words that OpenResty has for it
/// (`timeout`, `closed`, `socket busy reading`), and for errors of the system what `strerror(3)`
/// says, in lower case. An [`io::Error`] can be made of it, so `?` works in a function that returns
/// `io::Result`; the kind, the text and the partial data go with it.
///
/// # Partial data
///
/// A receive that fails half-way takes what it has received by then out of the stream, and hands it
/// out here, once: [`take_partial`](Error::take_partial).
///
/// ```
/// use cosocket::ErrorKind;
/// use cosocket::net::TcpListener;
/// use std::io;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = cosocket::connect(listener.local_addr()?)?;
/// drop(listener.accept()?);
///
/// let error = socket.receive_any(1024).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Closed);
/// assert_eq!(error.to_string(), "closed");
/// assert_eq!(io::Error::from(error).kind(), io::ErrorKind::UnexpectedEof);
/// # io::Result::Ok(())
/// ```
pub struct Error(Box<Details>);

struct Details {
    kind: ErrorKind,
    /// In place of the kind's own words.
    text: Option<Cow<'static, str>>,
    partial: Vec<u8>,
    sent: u64,
    /// Of a datagram that was not delivered.
    destination: Option<SocketAddr>,
    source: Option<io::Error>,
}

/// What happened, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A timeout, of the socket's or by [`time::timeout`](crate::time::timeout), has passed.
    Timeout,
    /// There is no connection, or the half that is wanted has ended.
    Closed,
    /// Another coroutine is connecting this socket.
    BusyConnecting,
    /// Another coroutine waits in a receive.
    BusyReading,
    /// Another coroutine waits in a send.
    BusyWriting,
    /// Another coroutine uses this datagram socket.
    Busy,
    /// The wait was ended by [`close`](super::Cosocket::close),
    /// [`cancel_receive`](super::Cosocket::cancel_receive) or
    /// [`cancel_send`](super::Cosocket::cancel_send).
    Cancelled,
    /// A pool has as many connections and as long a queue as it may.
    TooManyWaiting,
    /// A connection with bytes received and not yet read cannot be parked. It stays open.
    UnreadData,
    /// A connection that was to be parked had more to read, or had failed. It is closed.
    Dubious,
    /// The connection is in no state to be parked.
    InvalidConnection,
    /// A receive timed out, so a late reply may yet come: the connection is not parked. It stays
    /// open.
    Suspect,
    /// A connection without a key cannot be parked.
    KeyNotFound,
    /// The client of this server left.
    ClientAborted,
    /// The port is no number up to 65535.
    BadPort,
    /// The address has no port.
    MissingPort,
    /// The address to bind to is no literal IP address.
    BadAddress,
    /// The host name is none.
    Parse,
    /// The host name has no address, or none was found out.
    Resolve,
    /// The TLS handshake failed, or the certificate was refused.
    Tls,
    /// The proxy refused.
    Proxy,
    /// A call that never waits would have to.
    WouldBlock,
    /// A datagram was sent in part.
    PartialWrite,
    /// More than the buffer may hold was asked for.
    BufferTooSmall,
    /// What is received is longer than the caller allows.
    Oversized,
    /// The other side does not keep to the protocol.
    Protocol,
    /// An argument makes no sense.
    InvalidInput,
    /// The system's; see [`Error::raw_os_error`].
    Io,
    /// Something else, which the text tells.
    Other,
}

impl ErrorKind {
    fn words(self) -> &'static str {
        match self {
            ErrorKind::Timeout => "timeout",
            ErrorKind::Closed => "closed",
            ErrorKind::BusyConnecting => "socket busy connecting",
            ErrorKind::BusyReading => "socket busy reading",
            ErrorKind::BusyWriting => "socket busy writing",
            ErrorKind::Busy => "socket busy",
            ErrorKind::Cancelled => "canceled",
            ErrorKind::TooManyWaiting => "too many waiting connect operations",
            ErrorKind::UnreadData => "unread data in buffer",
            ErrorKind::Dubious => "connection in dubious state",
            ErrorKind::InvalidConnection => "invalid connection",
            ErrorKind::Suspect => "connection suspect after a timeout",
            ErrorKind::KeyNotFound => "key not found",
            ErrorKind::ClientAborted => "client aborted",
            ErrorKind::BadPort => "bad port number",
            ErrorKind::MissingPort => "missing the port number",
            ErrorKind::BadAddress => "bad address",
            ErrorKind::Parse => "failed to parse host name",
            ErrorKind::Resolve => "host could not be resolved",
            ErrorKind::Tls => "handshake failed",
            ErrorKind::Proxy => "proxy handshake failed",
            ErrorKind::WouldBlock => "would block",
            ErrorKind::PartialWrite => "partial write",
            ErrorKind::BufferTooSmall => "buffer too small",
            ErrorKind::Oversized => "oversized",
            ErrorKind::Protocol => "protocol error",
            ErrorKind::InvalidInput => "invalid argument",
            ErrorKind::Io | ErrorKind::Other => "error",
        }
    }

    fn to_io(self) -> io::ErrorKind {
        match self {
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            ErrorKind::Closed => io::ErrorKind::UnexpectedEof,
            ErrorKind::BusyConnecting
            | ErrorKind::BusyReading
            | ErrorKind::BusyWriting
            | ErrorKind::Busy
            | ErrorKind::TooManyWaiting => io::ErrorKind::ResourceBusy,
            ErrorKind::Cancelled | ErrorKind::ClientAborted => io::ErrorKind::ConnectionAborted,
            ErrorKind::BadPort
            | ErrorKind::MissingPort
            | ErrorKind::BadAddress
            | ErrorKind::Parse
            | ErrorKind::InvalidInput => io::ErrorKind::InvalidInput,
            ErrorKind::Tls | ErrorKind::Protocol | ErrorKind::Oversized => {
                io::ErrorKind::InvalidData
            }
            ErrorKind::WouldBlock => io::ErrorKind::WouldBlock,
            ErrorKind::PartialWrite => io::ErrorKind::WriteZero,
            _ => io::ErrorKind::Other,
        }
    }

    /// Whether the half in which it happened is of no use any more.
    pub(super) fn ends_the_half(self) -> bool {
        matches!(self, ErrorKind::Closed | ErrorKind::Io | ErrorKind::Other | ErrorKind::Tls)
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Error {
        let (text, partial, source) = (None, Vec::new(), None);
        Error(Box::new(Details { kind, text, partial, sent: 0, destination: None, source }))
    }

    /// With words of its own.
    pub(crate) fn with_text(kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Error {
        let mut error = Error::new(kind);
        error.0.text = Some(text.into());
        error
    }

    /// With what was received by then, in place of what it carried.
    #[must_use]
    pub(crate) fn with_partial(mut self, partial: Vec<u8>) -> Error {
        self.0.partial = partial;
        self
    }

    #[must_use]
    pub(super) fn with_sent(mut self, sent: u64) -> Error {
        self.0.sent = sent;
        self
    }

    /// With the error that it comes from.
    #[must_use]
    pub(crate) fn with_source(mut self, source: io::Error) -> Error {
        self.0.source = Some(source);
        self
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What had been received when the call failed; empty if nothing was, or it was taken.
    #[must_use]
    pub fn partial(&self) -> &[u8] {
        &self.0.partial
    }

    /// Takes what had been received when the call failed. It is no longer in the stream, so this
    /// is the one place to have it from.
    pub fn take_partial(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0.partial)
    }

    /// [`take_partial`](Error::take_partial) when the rest is of no interest.
    #[must_use]
    pub fn into_partial(self) -> Vec<u8> {
        self.0.partial
    }

    /// Of a send that failed: how many bytes the system had taken by then. Whether they arrived,
    /// nobody knows.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.0.sent
    }

    /// Where the datagram was sent to that this error is about: one that was not delivered. Known
    /// when [`set_report_undelivered`](super::UdpCosocket::set_report_undelivered) has asked for it.
    #[must_use]
    pub fn destination(&self) -> Option<SocketAddr> {
        self.0.destination
    }

    /// Whether a TLS connection ended without the peer's goodbye (`close_notify`): then somebody may
    /// have cut it, and data that lasts until the end is perhaps not whole. The kind is `Closed`, and
    /// what had come is in [`partial`](Error::partial). OpenResty does not tell the two apart.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(fault) = self.0.source.as_ref().and_then(crate::tls::Error::of) {
            return fault.kind() == crate::tls::ErrorKind::Truncated;
        }
        false
    }

    /// The error of which [`is_truncated`](Error::is_truncated) holds.
    pub(super) fn truncated() -> Error {
        #[cfg(feature = "tls")]
        return crate::tls::Error::truncated().to_io().into();
        #[cfg(not(feature = "tls"))]
        ErrorKind::Closed.into()
    }

    /// The number of the system's error, if it is one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.source.as_ref().and_then(io::Error::raw_os_error)
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Error {
        Error::new(kind)
    }
}

impl From<io::Error> for Error {
    /// An error that was one of ours before becomes that again.
    fn from(error: io::Error) -> Error {
        if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
            let inner = error.into_inner().and_then(|inner| inner.downcast::<Error>().ok());
            return *inner.expect("just looked at");
        }
        #[cfg(feature = "tls")]
        if let Some(fault) = crate::tls::Error::of(&error) {
            let (kind, text) = of_tls(fault);
            let text = text.map_or_else(|| fault.to_string(), |words| format!("{words}: {fault}"));
            return match kind {
                ErrorKind::Timeout => Error::new(kind),
                _ => Error::with_text(kind, text),
            }
            .with_source(error);
        }
        if let Some(report) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            let Undelivered { errno, to } = report;
            let mut error = Error::from(io::Error::from_raw_os_error(*errno));
            error.0.destination = Some(*to);
            return error;
        }
        let is_cut = error.get_ref().is_some_and(|e| e.is::<WasCut>() || e.is::<Cancelled>());
        let kind = match error.kind() {
            _ if is_cut => return Error::new(ErrorKind::Cancelled),
            _ if error.raw_os_error().is_some() => ErrorKind::Io,
            // `ETIMEDOUT` is the peer's silence; a timeout of ours has no number.
            io::ErrorKind::TimedOut => ErrorKind::Timeout,
            io::ErrorKind::UnexpectedEof => ErrorKind::Closed,
            io::ErrorKind::InvalidInput => ErrorKind::InvalidInput,
            _ => ErrorKind::Other,
        };
        match kind {
            ErrorKind::Timeout | ErrorKind::Closed => Error::new(kind).with_source(error),
            ErrorKind::Io => Error::with_text(kind, system_words(&error)).with_source(error),
            _ => Error::with_text(kind, error.to_string()).with_source(error),
        }
    }
}

/// What TLS's errors are here, and the words that OpenResty has for them.
#[cfg(feature = "tls")]
fn of_tls(fault: &crate::tls::Error) -> (ErrorKind, Option<Cow<'static, str>>) {
    use crate::tls::ErrorKind as Fault;
    match (fault.kind(), fault.openssl_code()) {
        (Fault::Timeout, _) => (ErrorKind::Timeout, None),
        (Fault::Truncated, _) => (ErrorKind::Closed, Some("closed".into())),
        (Fault::Options, _) => (ErrorKind::InvalidInput, None),
        (Fault::NameMismatch, _) => (ErrorKind::Tls, Some("certificate host mismatch".into())),
        (_, Some(code)) => (ErrorKind::Tls, Some(code.to_string().into())),
        _ => (ErrorKind::Tls, Some("handshake failed".into())),
    }
}

/// What `strerror(3)` says, in lower case, as OpenResty prints it.
fn system_words(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(end) = text.rfind(" (os error ") {
        text.truncate(end);
    }
    text.make_ascii_lowercase();
    text
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match (error.kind(), &error.0.source) {
            (ErrorKind::Io | ErrorKind::Other | ErrorKind::Resolve, Some(source)) => source.kind(),
            (kind, _) => kind.to_io(),
        };
        io::Error::new(kind, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.text.as_deref().unwrap_or(self.0.kind.words()))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("text", &self.to_string());
        if !self.0.partial.is_empty() {
            debug.field("partial", &self.0.partial.escape_ascii().to_string());
        }
        if let Some(destination) = &self.0.destination {
            debug.field("destination", destination);
        }
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn the_systems_errors_print_in_lower_case_without_their_number() {
        let error = Error::from(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.to_string(), "connection refused");
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn the_silence_of_a_peer_is_not_a_timeout_of_ours() {
        let error = Error::from(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        assert_eq!(error.kind(), ErrorKind::Io);
        let error = Error::from(io::Error::from(io::ErrorKind::TimedOut));
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Timeout, "timeout"));
    }

    #[test]
    fn the_way_through_an_io_error_and_back_loses_nothing() {
        let error = Error::new(ErrorKind::Timeout).with_partial(b"half".to_vec());
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut error = Error::from(error);
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(error.take_partial(), b"half");
        assert_eq!(error.take_partial(), b"", "once");
    }

    #[test]
    fn a_limit_that_has_passed_is_the_source() {
        let elapsed = crate::time::timeout(std::time::Duration::ZERO, crate::thread::yield_now);
        let error = Error::from(io::Error::from(elapsed.unwrap_err()));
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert!(source.get_ref().unwrap().is::<crate::time::Elapsed>());
    }
}
