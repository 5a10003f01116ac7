//! What the tests of TLS share: authorities and certificates made anew, and two ends of a
//! connection.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::tls::{
    Certificate, Error, ErrorKind, Identity, TlsAcceptor, TlsOptions, TlsServerOptions, TlsStream,
};
use cosocket::{spawn, thread};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    SerialNumber,
};

/// Who issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages =
            vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn certificate(&self) -> Certificate {
        Certificate::from_der(self.0.as_ref().der().to_vec())
    }

    pub fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    /// For `localhost`.
    pub fn issue(&self) -> Issued {
        self.issue_as("localhost", |_| {})
    }

    pub fn issue_as(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let serial = SerialNumber::from(next_serial());
        params.serial_number = Some(serial.clone());
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { certificate, key, serial }
    }

    /// For `localhost` and an address.
    pub fn issue_at(&self, address: IpAddr) -> Issued {
        self.issue_as("localhost", |params| {
            params.subject_alt_names.push(SanType::IpAddress(address));
        })
    }

    /// A client that trusts this authority and nobody else.
    pub fn client(&self) -> TlsOptions {
        TlsOptions::new().roots([self.certificate()])
    }

    /// A list of revoked certificates.
    pub fn revoke(&self, issued: &Issued) -> Vec<u8> {
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: issued.serial.clone(),
                revocation_time: rcgen::date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().der().to_vec()
    }
}

pub struct Issued {
    pub certificate: rcgen::Certificate,
    pub key: KeyPair,
    serial: SerialNumber,
}

fn next_serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Issued {
    /// By itself, for `localhost`.
    pub fn self_signed() -> Issued {
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let serial = SerialNumber::from(0_u64);
        Issued { certificate: params.self_signed(&key).unwrap(), key, serial }
    }

    pub fn certificate(&self) -> Certificate {
        Certificate::from_der(self.certificate.der().to_vec())
    }

    pub fn identity(&self) -> Identity {
        Identity::from_der([self.certificate()], self.key.serialize_der())
    }

    pub fn server(&self) -> TlsServerOptions {
        TlsServerOptions::new(self.identity())
    }

    pub fn pem(&self) -> String {
        self.certificate.pem() + &self.key.serialize_pem()
    }
}

/// Two ends of a TCP connection.
pub fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    (client, server)
}

pub type Ends = (TlsStream<TcpStream>, TlsStream<TcpStream>);

/// Client and server of a new connection.
pub fn connect(client: &TlsOptions, server: &TlsServerOptions) -> Ends {
    let (client, server) = try_connect(client, server);
    (client.unwrap(), server.unwrap())
}

/// What each side's handshake led to.
pub fn try_connect(
    client: &TlsOptions,
    server: &TlsServerOptions,
) -> (std::io::Result<TlsStream<TcpStream>>, std::io::Result<TlsStream<TcpStream>>) {
    let acceptor = Arc::new(TlsAcceptor::new(server).unwrap());
    connect_by(client, &acceptor, "localhost")
}

pub fn connect_by(
    client: &TlsOptions,
    acceptor: &Arc<TlsAcceptor>,
    name: &str,
) -> (std::io::Result<TlsStream<TcpStream>>, std::io::Result<TlsStream<TcpStream>>) {
    let (ours, theirs) = tcp();
    let acceptor = Arc::clone(acceptor);
    let server = spawn(move || acceptor.accept(theirs));
    let client = TlsStream::connect(ours, name, client);
    (client, server.join().unwrap())
}

/// Both ends, for those who do not care about certificates.
pub fn pair() -> Ends {
    let issued = Issued::self_signed();
    connect(&TlsOptions::new().pinned([issued.certificate()]), &issued.server())
}

#[track_caller]
pub fn kind_of<T>(result: std::io::Result<T>) -> ErrorKind {
    let error = result.err().expect("it must fail");
    Error::of(&error).unwrap_or_else(|| panic!("not TLS's: {error:?}")).kind()
}

/// What this sender, and no other, sends from `at` on: a shift or a loss is seen.
pub fn bytes_of(sender: usize, at: usize, count: usize) -> Vec<u8> {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    let byte = |at: usize| (at * 31 + at / 251 * 7 + at / 65_521 * 3) as u8;
    // A prime, so that it meets records of any size everywhere.
    let pattern = PATTERN.get_or_init(|| (0..1_048_583).map(byte).collect());
    let start = (at + sender * 65_537) % pattern.len();
    let end = pattern.len().min(start + count);
    let mut bytes = pattern[start..end].to_vec();
    // No more than the pattern's length at a time.
    bytes.extend_from_slice(&pattern[..count - bytes.len()]);
    bytes
}

/// Panics unless these are a sender's bytes, from `at` on.
#[track_caller]
pub fn check_bytes(sender: usize, at: usize, bytes: &[u8]) {
    assert!(
        bytes == bytes_of(sender, at, bytes.len()),
        "wrong between {at} and {}",
        at + bytes.len()
    );
}

/// A server that serves each connection in a coroutine, until the runtime ends.
pub fn serve(
    server: &TlsServerOptions,
    each: impl Fn(TlsStream<TcpStream>) + Send + Sync + 'static,
) -> SocketAddr {
    let acceptor = Arc::new(TlsAcceptor::new(server).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let each = Arc::new(each);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, acceptor, each) =
                (stream.unwrap(), Arc::clone(&acceptor), Arc::clone(&each));
            thread::spawn(move || {
                if let Ok(stream) = acceptor.accept(stream) {
                    each(stream);
                }
            });
        }
    });
    address
}
