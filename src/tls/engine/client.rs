//! Clients: options made into a configuration, and the checks of a server's certificate.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::super::error::{Error, ErrorKind};
use super::super::options::{Settings, Trust};
use super::material::{chain, options_fault, private_key, roots};
use super::{Connection, Engine, SEEN};
use crate::worker::on_loop_stack;

/// What to make connections with. Clones share the sessions kept for resumption.
#[derive(Clone)]
pub(in super::super) struct ClientSetup(Arc<ClientConfig>);

impl ClientSetup {
    pub(in super::super) fn new(settings: &Settings) -> Result<ClientSetup, Error> {
        let common = &settings.common;
        let provider = common.provider();
        let verifier = Arc::new(Verifier::new(settings, Arc::clone(&provider))?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&common.versions()?)
            .map_err(|error| options_fault("these versions cannot be spoken", &error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(chain(&identity.chain), private_key(&identity.key)?)
                .map_err(|error| options_fault("the client's certificate or key", &error))?,
        };
        config.alpn_protocols.clone_from(&common.alpn);
        config.resumption = match settings.resumption {
            0 => Resumption::disabled(),
            servers => Resumption::in_memory_sessions(servers),
        };
        if let Some(log) = &common.key_log {
            config.key_log = Arc::new(log.clone());
        }
        Ok(ClientSetup(Arc::new(config)))
    }

    pub(in super::super) fn engine(&self, name: &str) -> Result<Engine, Error> {
        // A fully qualified name has a dot that certificates have not.
        let server = ServerName::try_from(name.strip_suffix('.').unwrap_or(name));
        let server = server.map_err(|_| {
            let text = format!("{name:?} is neither a DNS name nor an IP address");
            Error::new(ErrorKind::Options, text)
        })?;
        // With the keys for the exchange.
        let connection = on_loop_stack(|| {
            UnbufferedClientConnection::new(Arc::clone(&self.0), server.to_owned()).map(Box::new)
        });
        let connection = connection.map_err(|error| options_fault("no connection", &error))?;
        Ok(Engine::new(Connection::Client(connection)))
    }
}

/// Looks at a server's certificate as the options say, and writes down what it gets to see. That the
/// server has the certificate's key is checked in any case.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    trusted: Trusted,
}

#[derive(Debug)]
enum Trusted {
    /// Whom a chain of certificates leads to.
    Roots(Arc<dyn ServerCertVerifier>),
    Listed(Vec<CertificateDer<'static>>),
    Anybody,
}

impl Verifier {
    fn new(settings: &Settings, provider: Arc<CryptoProvider>) -> Result<Verifier, Error> {
        let trusted = match &settings.trust {
            Trust::Platform(more) => platform(chain(more), Arc::clone(&provider))?,
            #[cfg(feature = "tls-webpki-roots")]
            Trust::Webpki(more) => {
                let mut store = roots(more)?;
                store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                webpki(store, settings, &provider)?
            }
            // Nobody is trusted: webpki wants to be told of somebody.
            Trust::Roots(list) if list.is_empty() => Trusted::Listed(Vec::new()),
            Trust::Roots(list) => webpki(roots(list)?, settings, &provider)?,
            Trust::Pinned(list) => Trusted::Listed(chain(list)),
            Trust::Anybody => Trusted::Anybody,
        };
        Ok(Verifier { provider, trusted })
    }
}

fn platform(
    more: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Trusted, Error> {
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(more, provider);
    let none = "the platform's roots cannot be had (Debian has them in ca-certificates)";
    Ok(Trusted::Roots(Arc::new(verifier.map_err(|error| options_fault(none, &error))?)))
}

fn webpki(
    roots: RootCertStore,
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
) -> Result<Trusted, Error> {
    let lists = settings.revocation_lists.iter().map(|list| list.clone().into());
    let builder =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier = builder.with_crls(lists).allow_unknown_revocation_status().build();
    Ok(Trusted::Roots(
        verifier.map_err(|error| options_fault("roots or revocation lists", &error))?,
    ))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result = match &self.trusted {
            Trusted::Roots(verifier) => {
                verifier.verify_server_cert(certificate, intermediates, name, ocsp, now)
            }
            Trusted::Anybody => Ok(ServerCertVerified::assertion()),
            Trusted::Listed(list) if list.contains(certificate) => {
                Ok(ServerCertVerified::assertion())
            }
            Trusted::Listed(list) if list.is_empty() => Err(CertificateError::UnknownIssuer.into()),
            Trusted::Listed(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
        };
        SEEN.with_borrow_mut(|seen| {
            seen.ocsp = (!ocsp.is_empty()).then(|| ocsp.into());
            seen.self_signed = result.is_err() && is_self_signed(certificate);
        });
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate).is_ok_and(|one| one.issuer() == one.subject())
}
