//! Certificates, and keys that belong to them.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::engine;

/// An X.509 certificate, as DER.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Certificate(Arc<[u8]>);

/// A certificate with its chain and private key: what one shows to prove who one is.
#[derive(Clone)]
pub struct Identity {
    pub(super) chain: Vec<Certificate>,
    pub(super) key: PrivateKey,
    pub(super) ocsp: Option<Arc<[u8]>>,
}

/// A private key, as DER: PKCS #8, PKCS #1 or SEC 1. It is not shown by `Debug`.
#[derive(Clone)]
pub(super) struct PrivateKey(pub(super) Arc<[u8]>);

impl Certificate {
    /// One certificate as DER. What it says is looked at when it is used.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Certificate {
        Certificate(der.into().into())
    }

    /// All certificates in a PEM text; other sections are skipped.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there is none, or one is broken.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> io::Result<Vec<Certificate>> {
        let certificates = engine::certificates_of_pem(pem.as_ref())?;
        Ok(certificates.into_iter().map(Certificate::from_der).collect())
    }

    /// The DER bytes.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

impl Identity {
    /// From DER: the certificate first, then those that lead to a root; the key as PKCS #8,
    /// PKCS #1 or SEC 1.
    pub fn from_der(
        chain: impl IntoIterator<Item = Certificate>,
        key: impl Into<Vec<u8>>,
    ) -> Identity {
        let key = PrivateKey(key.into().into());
        Identity { chain: chain.into_iter().collect(), key, ocsp: None }
    }

    /// From PEM texts, which may be one and the same.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there is no certificate or no key, or one is broken.
    pub fn from_pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> io::Result<Identity> {
        let chain = Certificate::from_pem(chain)?;
        Ok(Identity::from_der(chain, engine::key_of_pem(key.as_ref())?))
    }

    /// From PEM files, which are read on a thread of the blocking pool.
    ///
    /// # Errors
    ///
    /// Those of reading, and of [`from_pem`](Identity::from_pem).
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> io::Result<Identity> {
        let (chain, key) = (chain.as_ref().to_owned(), key.as_ref().to_owned());
        let read = move || io::Result::Ok((std::fs::read(chain)?, std::fs::read(key)?));
        let (chain, key) = crate::unblock(read)?;
        Identity::from_pem(chain, key)
    }

    /// Staples an OCSP response (RFC 6960, as DER) to the certificate: servers send it to clients
    /// that ask.
    #[must_use]
    pub fn with_ocsp_response(mut self, response: impl Into<Vec<u8>>) -> Identity {
        self.ocsp = Some(response.into().into());
        self
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} bytes)", self.0.len())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("chain", &self.chain).finish_non_exhaustive()
    }
}
