//! What configurations are made of: certificates, keys, roots, ciphers and versions.

use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{SupportedProtocolVersion, version};

use super::super::error::{Error, ErrorKind};
use super::super::identity::{Certificate, PrivateKey};
use super::super::key_log::KeyLog;
use super::super::options::{Common, Crypto, TlsVersion};

pub(in super::super) fn certificates_of_pem(pem: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem)
        .map(|certificate| certificate.map(|der| der.as_ref().to_vec()))
        .collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(invalid("a PEM text has no certificate"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(invalid(&format!("a PEM text with certificates is broken: {error}"))),
    }
}

pub(in super::super) fn key_of_pem(pem: &[u8]) -> io::Result<Vec<u8>> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key.secret_der().to_vec()),
        Err(error) => Err(invalid(&format!("a PEM text has no private key: {error}"))),
    }
}

fn invalid(text: &str) -> io::Error {
    Error::new(ErrorKind::Options, text).to_io()
}

pub(super) fn chain(certificates: &[Certificate]) -> Vec<CertificateDer<'static>> {
    certificates.iter().map(|one| CertificateDer::from(one.as_der().to_vec())).collect()
}

pub(super) fn private_key(key: &PrivateKey) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::try_from(key.0.to_vec()).map_err(|error| {
        Error::new(ErrorKind::Options, format!("the private key is of no known form: {error}"))
    })
}

pub(super) fn roots(certificates: &[Certificate]) -> Result<rustls::RootCertStore, Error> {
    let mut store = rustls::RootCertStore::empty();
    for der in chain(certificates) {
        store.add(der).map_err(|error| options_fault("a root certificate is broken", &error))?;
    }
    Ok(store)
}

pub(super) fn options_fault(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Options, format!("{what}: {error}"))
}

impl Common {
    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        let provider = match self.crypto {
            Crypto::Ring => rustls::crypto::ring::default_provider(),
            #[cfg(feature = "tls-aws-lc-rs")]
            Crypto::AwsLcRs => rustls::crypto::aws_lc_rs::default_provider(),
        };
        #[cfg(test)]
        let provider = match self.record_limit {
            Some(limit) => with_record_limit(provider, limit),
            None => provider,
        };
        Arc::new(provider)
    }

    pub(super) fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, Error> {
        let all = [(TlsVersion::V1_3, &version::TLS13), (TlsVersion::V1_2, &version::TLS12)];
        let is_spoken = |version: TlsVersion| {
            self.min_version.is_none_or(|min| version >= min)
                && self.max_version.is_none_or(|max| version <= max)
        };
        let spoken = all.into_iter().filter(|&(version, _)| is_spoken(version));
        let spoken: Vec<_> = spoken.map(|(_, supported)| supported).collect();
        if spoken.is_empty() {
            let text = "the oldest version to speak is newer than the newest";
            return Err(Error::new(ErrorKind::Options, text));
        }
        Ok(spoken)
    }
}

/// Suites live for ever; these are kept where who looks for leaks finds them.
#[cfg(test)]
fn with_record_limit(mut provider: CryptoProvider, limit: u64) -> CryptoProvider {
    use rustls::{CipherSuiteCommon, SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite};
    static MADE: std::sync::Mutex<Vec<SupportedCipherSuite>> = std::sync::Mutex::new(Vec::new());
    let limited = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: limit,
    };
    for suite in &mut provider.cipher_suites {
        *suite = match *suite {
            SupportedCipherSuite::Tls13(suite) => {
                let common = limited(&suite.common);
                SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                    common,
                    ..*suite
                })))
            }
            SupportedCipherSuite::Tls12(suite) => {
                let common = limited(&suite.common);
                SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                    common,
                    ..*suite
                })))
            }
        };
        MADE.lock().unwrap().push(*suite);
    }
    provider
}

impl rustls::KeyLog for KeyLog {
    fn log(&self, label: &str, random: &[u8], secret: &[u8]) {
        self.write(label, random, secret);
    }
}
