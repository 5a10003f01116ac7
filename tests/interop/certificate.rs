//! A certificate authority and one certificate, made anew for each test.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

pub struct Identity {
    pub authority: rcgen::Certificate,
    pub certificate: rcgen::Certificate,
    pub key: KeyPair,
}

impl Identity {
    /// For `localhost`, and for servers on addresses of a test's own.
    pub fn new(addresses: &[IpAddr]) -> Identity {
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Of two certificates of one name OpenSSL takes the second for a self-signed one.
        authority.distinguished_name.push(DnType::CommonName, "an authority");
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let addresses = addresses.iter().map(|&address| SanType::IpAddress(address));
        params.subject_alt_names.extend(addresses);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        Identity { authority: authority.as_ref().clone(), certificate, key }
    }

    pub fn certificate_der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    /// Of a client that trusts the authority and nobody else.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }
}
