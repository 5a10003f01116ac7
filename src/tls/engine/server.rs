//! Servers: options made into a configuration, and the choice of a certificate by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;

use super::super::acceptor::{Clients, TlsServerOptions};
use super::super::error::Error;
use super::super::identity::{Certificate, Identity};
use super::super::options::Crypto;
use super::material::{chain, options_fault, private_key, roots};
use super::{Connection, Engine, SEEN};
use crate::worker::on_loop_stack;

/// What to accept connections with.
#[derive(Clone)]
pub(in super::super) struct ServerSetup(Arc<ServerConfig>);

impl ServerSetup {
    pub(in super::super) fn new(options: &TlsServerOptions) -> Result<ServerSetup, Error> {
        let common = &options.common;
        let provider = common.provider();
        let names = Arc::new(Names::new(options, &provider)?);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&common.versions()?)
            .map_err(|error| options_fault("these versions cannot be spoken", &error))?;
        let builder = match clients(options, &provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(names);
        config.alpn_protocols.clone_from(&common.alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if options.tickets {
            config.ticketer = match common.crypto {
                Crypto::Ring => rustls::crypto::ring::Ticketer::new(),
                #[cfg(feature = "tls-aws-lc-rs")]
                Crypto::AwsLcRs => rustls::crypto::aws_lc_rs::Ticketer::new(),
            }
            .map_err(|error| options_fault("no key for session tickets", &error))?;
        } else {
            config.send_tls13_tickets = 0;
        }
        if let Some(log) = &common.key_log {
            config.key_log = Arc::new(log.clone());
        }
        Ok(ServerSetup(Arc::new(config)))
    }

    pub(in super::super) fn engine(&self) -> Result<Engine, Error> {
        let connection =
            on_loop_stack(|| UnbufferedServerConnection::new(Arc::clone(&self.0)).map(Box::new));
        let connection = connection.map_err(|error| options_fault("no connection", &error))?;
        Ok(Engine::new(Connection::Server(connection)))
    }
}

fn clients(
    options: &TlsServerOptions,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
    let builder = |list: &[Certificate]| {
        let lists = options.revocation_lists.iter().map(|list| list.clone().into());
        let roots = Arc::new(roots(list)?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
        Ok(builder.with_crls(lists).allow_unknown_revocation_status())
    };
    let verifier = match &options.clients {
        Clients::Anybody => return Ok(None),
        Clients::Optional(list) => builder(list)?.allow_unauthenticated().build(),
        Clients::Required(list) => builder(list)?.build(),
    };
    Ok(Some(verifier.map_err(|error| options_fault("roots for clients", &error))?))
}

/// Identities by the names that clients ask for.
struct Names {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Of `*.example.com`: `example.com`.
    wildcards: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Names {
    fn new(options: &TlsServerOptions, provider: &CryptoProvider) -> Result<Names, Error> {
        let default = options.identity.as_ref();
        let default = default.map(|identity| certified(identity, provider)).transpose()?;
        let mut names = Names { exact: HashMap::new(), wildcards: HashMap::new(), default };
        for (name, identity) in &options.named {
            let name = name.to_ascii_lowercase();
            let key = certified(identity, provider)?;
            match name.strip_prefix("*.") {
                Some(parent) => names.wildcards.insert(parent.to_owned(), key),
                None => names.exact.insert(name, key),
            };
        }
        Ok(names)
    }

    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let by_name = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let by_parent = || self.wildcards.get(name.split_once('.')?.1);
            self.exact.get(&name).or_else(by_parent)
        });
        by_name.or(self.default.as_ref()).cloned()
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        SEEN.with_borrow_mut(|seen| seen.server_name = name.map(Into::into));
        self.choose(name)
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.exact.keys()).entries(self.wildcards.keys()).finish()
    }
}

fn certified(identity: &Identity, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
    let (chain, key) = (chain(&identity.chain), private_key(&identity.key)?);
    let mut certified = CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| options_fault("a server's certificate or key", &error))?;
    certified.ocsp = identity.ocsp.as_ref().map(|response| response.to_vec());
    Ok(Arc::new(certified))
}
