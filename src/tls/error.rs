//! What went wrong, in words a person can act on.

use std::fmt;
use std::io;

/// Why a TLS handshake or connection failed.
///
/// All calls of this module return [`io::Error`]s; one that is about TLS has this inside:
///
/// ```
/// use cosocket::net::{TcpListener, TcpStream};
/// use cosocket::thread;
/// use cosocket::tls::{Error, ErrorKind, TlsOptions, TlsStream};
/// use std::io::Write;
///
/// // A server that does not speak TLS.
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let server = thread::spawn(move || listener.accept()?.0.write_all(b"220 ready\r\n"));
///
/// let stream = TcpStream::connect(address)?;
/// let options = TlsOptions::new().roots([]);
/// let error = TlsStream::connect(stream, "localhost", &options).unwrap_err();
/// assert_eq!(Error::of(&error).unwrap().kind(), ErrorKind::NotTls);
/// assert_eq!(
///     error.to_string(),
///     r#"TLS handshake with "localhost" failed: the peer does not speak TLS, it sent "220 ready\r\n""#
/// );
/// server.join().unwrap()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    text: String,
}

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The handshake took longer than it may.
    Timeout,
    /// The peer closed the connection in the middle of the handshake.
    Closed,
    /// The stream ended without TLS's own goodbye (`close_notify`): somebody may have cut it.
    Truncated,
    /// What the peer sends is not TLS.
    NotTls,
    /// The certificate is valid, and not for the name that was asked for.
    NameMismatch,
    /// The certificate was issued by nobody who is trusted.
    UnknownIssuer,
    /// The certificate was issued by itself, and is not among those trusted.
    SelfSigned,
    /// The certificate is no longer valid.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate was revoked.
    Revoked,
    /// The certificate is not the pinned one.
    NotPinned,
    /// Something else is wrong with the certificate.
    BadCertificate,
    /// The peer was to show a certificate, and has none.
    NoCertificate,
    /// The two have no protocol version in common.
    Version,
    /// The two have no application protocol (ALPN) in common.
    NoProtocol,
    /// The two have something else not in common: cipher suites, key exchange, signatures.
    Incompatible,
    /// The peer refuses, and says so by an alert.
    Refused,
    /// A record was changed on its way, or is longer than a record may be.
    Corrupt,
    /// The peer does what the protocol does not allow.
    Misbehaved,
    /// The connection has sent as much as its keys are good for, and TLS 1.2 knows no new ones.
    Exhausted,
    /// The options are at fault: a key that does not belong to its certificate, say.
    Options,
    /// Something else.
    Other,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, text: impl Into<String>) -> Error {
        Error { kind, text: text.into() }
    }

    /// The TLS error inside of an I/O error, if it is about TLS.
    pub fn of(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The number that OpenSSL has for what is wrong with a certificate (`X509_V_ERR_...`), and
    /// OpenResty shows: 18 for a self-signed one, for example.
    pub fn openssl_code(&self) -> Option<u32> {
        match self.kind {
            ErrorKind::NotYetValid => Some(9),
            ErrorKind::Expired => Some(10),
            ErrorKind::SelfSigned => Some(18),
            ErrorKind::UnknownIssuer => Some(20),
            ErrorKind::Revoked => Some(23),
            ErrorKind::NameMismatch => Some(62),
            _ => None,
        }
    }

    pub(crate) fn to_io(&self) -> io::Error {
        let kind = match self.kind {
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            ErrorKind::Closed | ErrorKind::Truncated => io::ErrorKind::UnexpectedEof,
            ErrorKind::Options => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self.clone())
    }

    /// With what was being done before it.
    pub(super) fn during(self, what: &str) -> Error {
        Error { kind: self.kind, text: format!("{what}: {}", self.text) }
    }

    pub(crate) fn truncated() -> Error {
        Error::new(
            ErrorKind::Truncated,
            "the peer closed the connection without TLS's close_notify: data may be missing",
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
