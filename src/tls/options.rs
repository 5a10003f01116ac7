//! What a client asks of a TLS connection.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::engine::ClientSetup;
use super::identity::{Certificate, Identity};
use super::key_log::KeyLog;
use crate::cosocket::pool::TlsKey;

/// As nginx has it (`ssl_handshake_timeout` of its stream module, `client_header_timeout` of http).
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a client asks of a TLS connection: whom it trusts, who it is, what it speaks.
///
/// Options are made once and used for many connections. They keep the sessions of former
/// connections by server name, so that later ones are resumed; clones share them until they are
/// changed. By default a server must show a certificate that is valid for its name, now, and was
/// issued by one of the platform's roots.
///
/// ```
/// use cosocket::tls::{TlsOptions, TlsVersion};
/// use std::time::Duration;
///
/// let options = TlsOptions::new()
///     .alpn(["h2", "http/1.1"])
///     .min_version(TlsVersion::V1_3)
///     .handshake_timeout(Duration::from_secs(5));
/// options.check()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Default)]
pub struct TlsOptions {
    settings: Arc<Settings>,
    /// Made at the first handshake.
    setup: Arc<OnceLock<ClientSetup>>,
    /// The same as another's only where the settings are: 0 for the defaults, and a new one at each
    /// change.
    number: u64,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) trust: Trust,
    pub(super) revocation_lists: Vec<Vec<u8>>,
    pub(super) identity: Option<Identity>,
    pub(super) server_name: Option<String>,
    pub(super) handshake_timeout: Duration,
    pub(super) resumption: usize,
    pub(super) common: Common,
}

/// Whose certificates are good.
#[derive(Clone)]
pub(super) enum Trust {
    /// The platform's roots, and these.
    Platform(Vec<Certificate>),
    #[cfg(feature = "tls-webpki-roots")]
    Webpki(Vec<Certificate>),
    Roots(Vec<Certificate>),
    Pinned(Vec<Certificate>),
    Anybody,
}

/// What clients and servers have in common.
#[derive(Clone, Default)]
pub(super) struct Common {
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) min_version: Option<TlsVersion>,
    pub(super) max_version: Option<TlsVersion>,
    pub(super) key_log: Option<KeyLog>,
    pub(super) crypto: Crypto,
    /// How many records a key is good for, in place of what the cipher says.
    #[cfg(test)]
    pub(super) record_limit: Option<u64>,
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2, RFC 5246.
    V1_2,
    /// TLS 1.3, RFC 8446.
    V1_3,
}

/// Who does the cryptography.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Crypto {
    /// The crate ring.
    #[default]
    Ring,
    /// The crate aws-lc-rs: post-quantum key exchange, and FIPS mode.
    #[cfg(feature = "tls-aws-lc-rs")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls-aws-lc-rs")))]
    AwsLcRs,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            trust: Trust::Platform(Vec::new()),
            revocation_lists: Vec::new(),
            identity: None,
            server_name: None,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            resumption: 256,
            common: Common::default(),
        }
    }
}

impl TlsOptions {
    /// The defaults.
    pub fn new() -> TlsOptions {
        TlsOptions::default()
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Settings)) -> TlsOptions {
        change(Arc::make_mut(&mut self.settings));
        self.setup = Arc::default();
        static LAST: AtomicU64 = AtomicU64::new(0);
        self.number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        self
    }

    /// The name that the certificate must be valid for, and that the server is told (SNI), in place
    /// of the one that was connected to. An IP address is checked and not told.
    #[must_use]
    pub fn server_name(self, name: impl Into<String>) -> TlsOptions {
        self.with(|settings| settings.server_name = Some(name.into()))
    }

    /// Trusts these roots and no others; the platform's neither.
    #[must_use]
    pub fn roots(self, roots: impl IntoIterator<Item = Certificate>) -> TlsOptions {
        self.with(|settings| settings.trust = Trust::Roots(roots.into_iter().collect()))
    }

    /// Trusts these roots beside the platform's.
    #[must_use]
    pub fn platform_roots_and(self, roots: impl IntoIterator<Item = Certificate>) -> TlsOptions {
        self.with(|settings| settings.trust = Trust::Platform(roots.into_iter().collect()))
    }

    /// Trusts Mozilla's roots as the crate webpki-roots has them compiled in, whatever the platform
    /// has, and these.
    #[cfg(feature = "tls-webpki-roots")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls-webpki-roots")))]
    #[must_use]
    pub fn webpki_roots_and(self, roots: impl IntoIterator<Item = Certificate>) -> TlsOptions {
        self.with(|settings| settings.trust = Trust::Webpki(roots.into_iter().collect()))
    }

    /// Trusts a server that shows exactly one of these certificates and proves that it has the key;
    /// for self-signed ones. Who issued it, its names and its dates are not looked at.
    #[must_use]
    pub fn pinned(self, certificates: impl IntoIterator<Item = Certificate>) -> TlsOptions {
        self.with(|settings| settings.trust = Trust::Pinned(certificates.into_iter().collect()))
    }

    /// Takes any certificate for any name, from anybody: the connection is safe from those who
    /// listen, and not from those who come in between.
    #[must_use]
    pub fn dangerously_accept_any_certificate(self) -> TlsOptions {
        self.with(|settings| settings.trust = Trust::Anybody)
    }

    /// Refuses certificates that are on these revocation lists (CRLs, as DER). With lists from
    /// [`roots`](TlsOptions::roots) only; a certificate that no list says anything about is good.
    #[must_use]
    pub fn revocation_lists(self, lists: impl IntoIterator<Item = Vec<u8>>) -> TlsOptions {
        self.with(|settings| settings.revocation_lists = lists.into_iter().collect())
    }

    /// Who we are, for servers that ask for a client's certificate.
    #[must_use]
    pub fn identity(self, identity: Identity) -> TlsOptions {
        self.with(|settings| settings.identity = Some(identity))
    }

    /// The application protocols we speak, the preferred first (RFC 7301).
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(self, protocols: impl IntoIterator<Item = P>) -> TlsOptions {
        self.with(|settings| settings.common.set_alpn(protocols))
    }

    /// The oldest version to speak.
    #[must_use]
    pub fn min_version(self, version: TlsVersion) -> TlsOptions {
        self.with(|settings| settings.common.min_version = Some(version))
    }

    /// The newest version to speak.
    #[must_use]
    pub fn max_version(self, version: TlsVersion) -> TlsOptions {
        self.with(|settings| settings.common.max_version = Some(version))
    }

    /// How long a handshake may take in all: 60 seconds if not set.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> TlsOptions {
        Arc::make_mut(&mut self.settings).handshake_timeout = timeout;
        self
    }

    /// Of how many servers to keep sessions: 256 if not set, 0 for none.
    #[must_use]
    pub fn resumption(self, servers: usize) -> TlsOptions {
        self.with(|settings| settings.resumption = servers)
    }

    /// Appends the connections' secrets to a file, as `SSLKEYLOGFILE` has them, for Wireshark. Who
    /// can read the file can read the connections.
    ///
    /// # Errors
    ///
    /// Those of opening the file.
    pub fn key_log_file(self, path: impl AsRef<Path>) -> io::Result<TlsOptions> {
        let log = KeyLog::append_to(path.as_ref())?;
        Ok(self.with(|settings| settings.common.key_log = Some(log)))
    }

    /// Who does the cryptography; [`Crypto::Ring`] if not set.
    #[must_use]
    pub fn crypto(self, crypto: Crypto) -> TlsOptions {
        self.with(|settings| settings.common.crypto = crypto)
    }

    /// Does now what the first handshake would: reads the platform's roots, looks at certificates
    /// and keys.
    ///
    /// # Errors
    ///
    /// Those of any handshake with these options: `InvalidInput` with
    /// [`ErrorKind::Options`](super::ErrorKind::Options) inside.
    pub fn check(&self) -> io::Result<()> {
        self.setup().map(drop)
    }

    /// What to run handshakes with. Reading the platform's roots takes some milliseconds, which are
    /// spent on a thread of the blocking pool, once.
    pub(super) fn setup(&self) -> io::Result<&ClientSetup> {
        if let Some(setup) = self.setup.get() {
            return Ok(setup);
        }
        let settings = Arc::clone(&self.settings);
        let setup = crate::unblock(move || ClientSetup::new(&settings));
        let setup = setup.map_err(|error| error.to_io())?;
        // Of two who made one the first counts.
        Ok(self.setup.get_or_init(|| setup))
    }

    /// What makes connections interchangeable that were encrypted with these options, when `host`
    /// was connected to.
    pub(crate) fn pool_key(&self, host: &str) -> TlsKey {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        TlsKey { server_name: name.into(), options: self.number }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Common {
    pub(super) fn set_alpn<P: AsRef<[u8]>>(&mut self, protocols: impl IntoIterator<Item = P>) {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("TlsOptions")
            .field("server_name", &settings.server_name)
            .field("identity", &settings.identity)
            .field("handshake_timeout", &settings.handshake_timeout)
            .finish_non_exhaustive()
    }
}
