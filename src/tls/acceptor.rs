//! What a server is, and the handshakes it makes.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::engine::{Engine, ServerSetup};
use super::identity::{Certificate, Identity};
use super::key_log::KeyLog;
use super::options::{Common, Crypto, HANDSHAKE_TIMEOUT, TlsVersion};
use super::stream::TlsStream;
use super::transport::Transport;

/// What a TLS server is: its certificates, whom it lets in, what it speaks.
///
/// See [`TlsAcceptor`], which is made of it.
#[derive(Clone)]
pub struct TlsServerOptions {
    pub(super) identity: Option<Identity>,
    pub(super) named: Vec<(String, Identity)>,
    pub(super) clients: Clients,
    pub(super) revocation_lists: Vec<Vec<u8>>,
    pub(super) tickets: bool,
    pub(super) handshake_timeout: Duration,
    pub(super) common: Common,
}

/// Whether clients have to show a certificate.
#[derive(Clone)]
pub(super) enum Clients {
    Anybody,
    /// If they show one, it must be of these roots.
    Optional(Vec<Certificate>),
    Required(Vec<Certificate>),
}

/// Makes the handshakes of a server.
///
/// A handshake is made by the coroutine that will serve the connection, not by the one that
/// accepts connections: so a slow client holds nobody up.
///
/// ```
/// use std::io::{Read, Write};
/// use std::sync::Arc;
///
/// use cosocket::net::{TcpListener, TcpStream};
/// use cosocket::thread;
/// use cosocket::tls::{Certificate, Identity, TlsAcceptor, TlsOptions, TlsServerOptions, TlsStream};
///
/// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
/// # let (certificate_pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
/// let identity = Identity::from_pem(&certificate_pem, &key_pem)?;
/// let acceptor = Arc::new(TlsAcceptor::new(&TlsServerOptions::new(identity))?);
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
///
/// thread::spawn(move || {
///     for stream in listener.incoming() {
///         let (stream, acceptor) = (stream.unwrap(), Arc::clone(&acceptor));
///         thread::spawn(move || -> std::io::Result<()> {
///             let mut stream = acceptor.accept(stream)?;
///             stream.write_all(b"hello")?;
///             stream.close()
///         });
///     }
/// });
///
/// let options = TlsOptions::new().pinned(Certificate::from_pem(&certificate_pem)?);
/// let mut stream = TlsStream::connect(TcpStream::connect(address)?, "localhost", &options)?;
/// let mut greeting = String::new();
/// stream.read_to_string(&mut greeting)?;
/// assert_eq!(greeting, "hello");
/// # std::io::Result::Ok(())
/// ```
pub struct TlsAcceptor {
    current: RwLock<Current>,
}

/// What goes before a server's errors.
pub(super) const WITH_CLIENT: &str = "TLS handshake with a client failed";

#[derive(Clone)]
struct Current {
    setup: ServerSetup,
    handshake_timeout: Duration,
}

impl TlsServerOptions {
    /// A server that shows this identity to all clients.
    pub fn new(identity: Identity) -> TlsServerOptions {
        TlsServerOptions {
            identity: Some(identity),
            named: Vec::new(),
            clients: Clients::Anybody,
            revocation_lists: Vec::new(),
            tickets: true,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            common: Common::default(),
        }
    }

    /// Shows this identity to clients that ask for `name` (SNI). `*.example.com` stands for all
    /// names with one more label; the name itself goes first.
    #[must_use]
    pub fn identity_for(mut self, name: impl Into<String>, identity: Identity) -> Self {
        self.named.push((name.into(), identity));
        self
    }

    /// Refuses clients that ask for none of the names of
    /// [`identity_for`](TlsServerOptions::identity_for), or for no name.
    #[must_use]
    pub fn refuse_unknown_names(mut self) -> Self {
        self.identity = None;
        self
    }

    /// Lets in only clients with a certificate that one of these roots has issued (mTLS).
    #[must_use]
    pub fn require_clients_of(mut self, roots: impl IntoIterator<Item = Certificate>) -> Self {
        self.clients = Clients::Required(roots.into_iter().collect());
        self
    }

    /// Asks clients for a certificate that one of these roots has issued, and lets in those without
    /// any, too.
    #[must_use]
    pub fn ask_clients_of(mut self, roots: impl IntoIterator<Item = Certificate>) -> Self {
        self.clients = Clients::Optional(roots.into_iter().collect());
        self
    }

    /// Refuses clients whose certificates are on these revocation lists (CRLs, as DER).
    #[must_use]
    pub fn revocation_lists(mut self, lists: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.revocation_lists = lists.into_iter().collect();
        self
    }

    /// The application protocols we speak, the preferred first (RFC 7301). A client that speaks
    /// others only is refused; one that names none is not.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.common.set_alpn(protocols);
        self
    }

    /// The oldest version to speak.
    #[must_use]
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.common.min_version = Some(version);
        self
    }

    /// The newest version to speak.
    #[must_use]
    pub fn max_version(mut self, version: TlsVersion) -> Self {
        self.common.max_version = Some(version);
        self
    }

    /// Whether clients get tickets to resume their sessions by; yes if not set. Nothing is kept
    /// here for them: a ticket holds the session, encrypted by a key that is changed now and then.
    #[must_use]
    pub fn resumption(mut self, tickets: bool) -> Self {
        self.tickets = tickets;
        self
    }

    /// How long a handshake may take in all: 60 seconds if not set.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// As [`TlsOptions::key_log_file`](super::TlsOptions::key_log_file).
    ///
    /// # Errors
    ///
    /// Those of opening the file.
    pub fn key_log_file(mut self, path: impl AsRef<Path>) -> io::Result<Self> {
        self.common.key_log = Some(KeyLog::append_to(path.as_ref())?);
        Ok(self)
    }

    /// Who does the cryptography; [`Crypto::Ring`] if not set.
    #[must_use]
    pub fn crypto(mut self, crypto: Crypto) -> Self {
        self.common.crypto = crypto;
        self
    }
}

impl TlsAcceptor {
    /// A server with these options.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, with [`ErrorKind::Options`](super::ErrorKind::Options) inside, when a
    /// certificate or key is broken, or the two do not belong together.
    pub fn new(options: &TlsServerOptions) -> io::Result<TlsAcceptor> {
        Ok(TlsAcceptor { current: RwLock::new(Current::new(options)?) })
    }

    /// From now on, handshakes are made with these options: new certificates, say. Those under way
    /// end as they began. What fails changes nothing.
    ///
    /// # Errors
    ///
    /// As for [`new`](TlsAcceptor::new).
    pub fn reload(&self, options: &TlsServerOptions) -> io::Result<()> {
        let new = Current::new(options)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Makes the server's side of a handshake. Call it where the connection is served, not between
    /// two `accept`s of the listener: it waits for the client, up to the handshake timeout.
    ///
    /// # Errors
    ///
    /// `TimedOut` after the handshake timeout, the transport's errors, and TLS's, with an
    /// [`Error`](super::Error) inside. In all cases the connection is closed.
    pub fn accept<S: Transport>(&self, transport: S) -> io::Result<TlsStream<S>> {
        self.accept_after(transport, &[])
    }

    /// [`accept`](TlsAcceptor::accept) in the middle of a connection (STARTTLS): `received` is what
    /// was read beyond the plain part, into a buffer, and belongs to the handshake.
    ///
    /// It goes into TLS and nowhere else. A command that somebody put behind the client's
    /// `STARTTLS` is therefore no TLS, and fails the handshake, where a server that kept its buffer
    /// would later run it as if the client had sent it encrypted (command injection,
    /// CVE-2011-0411).
    ///
    /// # Errors
    ///
    /// As for [`accept`](TlsAcceptor::accept).
    pub fn accept_after<S: Transport>(
        &self,
        transport: S,
        received: &[u8],
    ) -> io::Result<TlsStream<S>> {
        let (engine, timeout) = (self.engine()?, self.current().handshake_timeout);
        TlsStream::handshake(transport, engine, received, timeout, WITH_CLIENT)
    }

    pub(super) fn engine(&self) -> io::Result<Engine> {
        self.current().setup.engine().map_err(|error| error.to_io())
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Current {
    fn new(options: &TlsServerOptions) -> io::Result<Current> {
        let setup = ServerSetup::new(options).map_err(|error| error.to_io())?;
        Ok(Current { setup, handshake_timeout: options.handshake_timeout })
    }
}

impl fmt::Debug for TlsServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.named.iter().map(|(name, _)| name).collect();
        f.debug_struct("TlsServerOptions")
            .field("identity", &self.identity)
            .field("names", &names)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor").finish_non_exhaustive()
    }
}
