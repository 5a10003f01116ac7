//! Who is who: the checks of certificates and names, on both sides, and what a handshake agrees on.

mod tls_support;
#[allow(unsafe_code)]
mod util;

use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

use cosocket::net::TcpStream;
use cosocket::spawn;
use cosocket::tls::{
    Certificate, Error, ErrorKind, Identity, TlsAcceptor, TlsOptions, TlsServerOptions, TlsStream,
    TlsVersion,
};

use tls_support::{Authority, Issued, connect, connect_by, kind_of, tcp, try_connect};

/// The client's error, and the server's.
fn refused(client: &TlsOptions, server: &TlsServerOptions) -> (Error, Option<Error>) {
    let (client, server) = try_connect(client, server);
    let client = client.expect_err("the client must refuse");
    let server = server.err().and_then(|error| Error::of(&error).cloned());
    (Error::of(&client).unwrap_or_else(|| panic!("{client:?}")).clone(), server)
}

/// TLS-3, TLS-4: what is right is taken.
#[test]
fn a_certificate_of_a_trusted_authority_is_taken_for_its_name() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let (client, server) = connect(&authority.client(), &authority.issue().server());
        assert_eq!(client.version(), TlsVersion::V1_3);
        assert_eq!(client.cipher_suite(), server.cipher_suite());
        assert!(client.cipher_suite().starts_with("TLS_AES_"), "{}", client.cipher_suite());
        assert_eq!(server.requested_name().as_deref(), Some("localhost"));
        assert_eq!(client.peer_certificates().len(), 1);
        assert!(server.peer_certificates().is_empty());
        assert!(!client.is_resumed());
    });
}

/// TLS-3; section 2, items 146 and 152.
#[test]
fn nobody_is_trusted_who_should_not_be() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let issued = authority.issue();
        let other = Authority::new("another authority");
        let (error, server) = refused(&other.client(), &issued.server());
        assert_eq!((error.kind(), error.openssl_code()), (ErrorKind::UnknownIssuer, Some(20)));
        assert_eq!(server.unwrap().kind(), ErrorKind::Refused);
        // The platform knows neither.
        let (error, _) = refused(&TlsOptions::new(), &issued.server());
        assert_eq!(error.kind(), ErrorKind::UnknownIssuer);
        let both = TlsOptions::new().platform_roots_and([authority.certificate()]);
        connect(&both, &issued.server());
        let (error, _) = refused(&authority.client(), &Issued::self_signed().server());
        assert_eq!((error.kind(), error.openssl_code()), (ErrorKind::SelfSigned, Some(18)));
        assert!(error.to_string().contains("self-signed"), "{error}");
    });
}

/// TLS-3: what the platform trusts is taken, its name checked and its stranger refused. The platform's
/// roots are those of `SSL_CERT_FILE` or `SSL_CERT_DIR`, as in OpenSSL, in a process of its own.
#[test]
fn who_the_platform_trusts_is_taken() {
    const TEST: &str = "who_the_platform_trusts_is_taken";
    if util::child::is_one(TEST) {
        util::child::passes(TEST, connect_by_platform_roots);
        return;
    }
    let authority = Authority::new("an authority of this platform");
    let directory = std::env::temp_dir().join(format!("cosocket-roots-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let roots = directory.join("roots.pem");
    std::fs::write(&roots, authority.pem()).unwrap();
    let server = directory.join("server");
    std::fs::write(&server, authority.issue().pem()).unwrap();
    let server = server.to_str().unwrap();
    for (variable, value) in [("SSL_CERT_FILE", &roots), ("SSL_CERT_DIR", &directory)] {
        let environment = [(variable, value.to_str().unwrap()), ("COSOCKET_TEST_SERVER", server)];
        util::child::check(&util::child::start(TEST, &environment));
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

fn connect_by_platform_roots() {
    cosocket::run(|| {
        let pem = std::fs::read(std::env::var("COSOCKET_TEST_SERVER").unwrap()).unwrap();
        let server = TlsServerOptions::new(Identity::from_pem(&pem, &pem).unwrap());
        let options = TlsOptions::new();
        let (client, _server) = connect(&options, &server);
        assert_eq!(client.peer_certificates().len(), 1);
        let (error, _) = refused(&options.clone().server_name("other.example"), &server);
        assert_eq!(error.kind(), ErrorKind::NameMismatch);
        let stranger = Authority::new("a stranger").issue().server();
        assert_eq!(refused(&options, &stranger).0.kind(), ErrorKind::UnknownIssuer);
    });
}

#[test]
fn dates_are_checked() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let expired = authority.issue_as("localhost", |params| {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 2, 29);
        });
        let (error, server) = refused(&authority.client(), &expired.server());
        assert_eq!((error.kind(), error.openssl_code()), (ErrorKind::Expired, Some(10)));
        assert_eq!(
            error.to_string(),
            "TLS handshake with \"localhost\" failed: the certificate has expired, on 2020-02-29"
        );
        assert!(server.unwrap().to_string().contains("expired"));
        let early = authority.issue_as("localhost", |params| {
            params.not_before = rcgen::date_time_ymd(2090, 5, 6);
            params.not_after = rcgen::date_time_ymd(2091, 1, 1);
        });
        let (error, _) = refused(&authority.client(), &early.server());
        assert_eq!((error.kind(), error.openssl_code()), (ErrorKind::NotYetValid, Some(9)));
        assert!(error.to_string().contains("2090-05-06"), "{error}");
    });
}

/// TLS-4.
#[test]
fn names_and_addresses_are_checked() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let server = authority.issue_as("shop.example", |_| {}).server();
        let (error, _) = refused(&authority.client(), &server);
        assert_eq!(error.kind(), ErrorKind::NameMismatch);
        let text = error.to_string();
        assert!(text.contains("shop.example") && text.contains("\"localhost\""), "{text}");
        let named = authority.client().server_name("shop.example");
        let (_, end) = connect(&named, &server);
        assert_eq!(end.requested_name().as_deref(), Some("shop.example"));
        connect(&authority.client().server_name("shop.example."), &server);

        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        let server = authority.issue_at(ip).server();
        let (_, end) = connect(&authority.client().server_name("127.0.0.1"), &server);
        assert_eq!(end.requested_name(), None, "addresses are not told");
        let (error, _) = refused(&authority.client().server_name("127.0.0.2"), &server);
        assert_eq!(error.kind(), ErrorKind::NameMismatch);

        let stream = tcp().0;
        let result = TlsStream::connect(stream, "no name", &authority.client());
        assert_eq!(kind_of(result), ErrorKind::Options);
    });
}

/// TLS-11; section 2, item 149.
#[test]
fn revoked_certificates_are_refused() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let (good, revoked) = (authority.issue(), authority.issue());
        let list = authority.revoke(&revoked);
        let client = authority.client().revocation_lists([list.clone()]);
        connect(&client, &good.server());
        let (error, _) = refused(&client, &revoked.server());
        assert_eq!((error.kind(), error.openssl_code()), (ErrorKind::Revoked, Some(23)));
    });
}

/// TLS-4; section 2, items 143 and 145: who is not verified may have any name.
#[test]
fn a_pinned_certificate_is_taken_and_no_other() {
    cosocket::run(|| {
        let issued = Issued::self_signed();
        let options = TlsOptions::new().pinned([issued.certificate()]);
        connect(&options.clone().server_name("any.name"), &issued.server());
        let (error, _) = refused(&options, &Issued::self_signed().server());
        assert_eq!(error.kind(), ErrorKind::NotPinned);
        let any = TlsOptions::new().dangerously_accept_any_certificate();
        connect(&any, &Issued::self_signed().server());
        let (_, server) = connect(&any.server_name("other.example"), &issued.server());
        assert_eq!(server.requested_name().as_deref(), Some("other.example"));
    });
}

/// TLS-7.
#[test]
fn clients_show_certificates_where_they_must() {
    cosocket::run(|| {
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let authority = Authority::new("an authority");
            let users = Authority::new("the users' authority");
            let user = users.issue_as("a user", |_| {});
            let server = authority.issue().server().require_clients_of([users.certificate()]);
            let plain = authority.client().max_version(version);
            let known = plain.clone().identity(user.identity());
            let (_, end) = connect(&known, &server);
            assert_eq!(end.peer_certificates(), [user.certificate()]);

            // Under TLS 1.3 a client is done before the server has looked at its certificate.
            let stranger = plain.clone().identity(authority.issue().identity());
            for (client, kind) in
                [(&plain, ErrorKind::NoCertificate), (&stranger, ErrorKind::UnknownIssuer)]
            {
                let (client, end) = try_connect(client, &server);
                assert_eq!(kind_of(end), kind);
                let result = client.and_then(|mut client| client.read(&mut [0]));
                assert_eq!(kind_of(result), ErrorKind::Refused);
            }

            let server = authority.issue().server().ask_clients_of([users.certificate()]);
            let (_, end) = connect(&plain, &server);
            assert!(end.peer_certificates().is_empty());
            assert_eq!(connect(&known, &server).1.peer_certificates().len(), 1);
        }
    });
}

#[test]
fn servers_choose_their_certificate_by_name() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let issue = |name: &str| authority.issue_as(name, |_| {});
        let (default, one, wild, exact) =
            (issue("localhost"), issue("one.example"), issue("*.s.example"), issue("x.s.example"));
        let options = default
            .server()
            .identity_for("one.example", one.identity())
            .identity_for("*.s.example", wild.identity())
            .identity_for("X.s.example", exact.identity());
        let acceptor = Arc::new(TlsAcceptor::new(&options).unwrap());
        let shown = |name: &str| {
            let (client, _server) = connect_by(&authority.client(), &acceptor, name);
            client.map(|client| client.peer_certificates()[0].clone())
        };
        assert_eq!(shown("one.example").unwrap(), one.certificate());
        assert_eq!(shown("two.s.example").unwrap(), wild.certificate());
        assert_eq!(shown("x.s.example").unwrap(), exact.certificate());
        assert_eq!(shown("localhost").unwrap(), default.certificate());
        // The wildcard stands for one label.
        assert_eq!(kind_of(shown("a.b.s.example")), ErrorKind::NameMismatch);

        let strict = Arc::new(TlsAcceptor::new(&options.refuse_unknown_names()).unwrap());
        let (client, server) = connect_by(&authority.client(), &strict, "localhost");
        assert_eq!(kind_of(client), ErrorKind::Refused);
        assert_eq!(kind_of(server), ErrorKind::NoCertificate);
    });
}

#[test]
fn certificates_are_replaced_without_a_restart() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let (old, new) = (authority.issue(), authority.issue());
        let acceptor = Arc::new(TlsAcceptor::new(&old.server()).unwrap());
        let shown = || {
            let (client, server) =
                connect_by(&authority.client().resumption(0), &acceptor, "localhost");
            (client.unwrap(), server.unwrap())
        };
        let (mut before, mut its_server) = shown();
        assert_eq!(before.peer_certificates(), [old.certificate()]);
        // Options that make no sense change nothing.
        let key = old.key.serialize_der();
        let wrong = TlsServerOptions::new(Identity::from_der([new.certificate()], key));
        assert_eq!(kind_of(acceptor.reload(&wrong)), ErrorKind::Options);
        assert_eq!(shown().0.peer_certificates(), [old.certificate()]);
        acceptor.reload(&new.server()).unwrap();
        assert_eq!(shown().0.peer_certificates(), [new.certificate()]);
        its_server.write_all(b"still here").unwrap();
        before.read_exact(&mut [0; 10]).unwrap();
    });
}

/// TLS-9.
#[test]
fn protocols_are_agreed_on() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let plain = authority.issue().server();
        let server = plain.clone().alpn(["http/1.1"]);
        let client = authority.client().alpn(["h2", "http/1.1"]);
        let ends = connect(&client, &server);
        assert_eq!(ends.0.alpn().as_deref(), Some(&b"http/1.1"[..]));
        assert_eq!(ends.1.alpn().as_deref(), Some(&b"http/1.1"[..]));
        assert_eq!(connect(&client, &plain).0.alpn(), None);
        assert_eq!(connect(&authority.client(), &server).1.alpn(), None);
        let (error, theirs) = refused(&authority.client().alpn(["h2"]), &server);
        assert_eq!(error.kind(), ErrorKind::NoProtocol);
        assert_eq!(theirs.unwrap().kind(), ErrorKind::NoProtocol);
    });
}

/// TLS-11.
#[test]
fn versions_have_bounds() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let server = authority.issue().server();
        let old = authority.client().max_version(TlsVersion::V1_2);
        let (client, end) = connect(&old, &server);
        assert_eq!((client.version(), end.version()), (TlsVersion::V1_2, TlsVersion::V1_2));
        assert!(client.cipher_suite().starts_with("TLS_ECDHE_"), "{}", client.cipher_suite());
        assert_eq!(kind_of(client.update_keys()), ErrorKind::Other);
        let (error, theirs) = refused(&old, &server.clone().min_version(TlsVersion::V1_3));
        assert_eq!(error.kind(), ErrorKind::Version);
        assert_eq!(theirs.unwrap().kind(), ErrorKind::Version);
        let (error, _) = refused(
            &authority.client().min_version(TlsVersion::V1_3),
            &server.clone().max_version(TlsVersion::V1_2),
        );
        assert_eq!(error.kind(), ErrorKind::Version);
        let none = old.min_version(TlsVersion::V1_3);
        assert_eq!(kind_of(none.check()), ErrorKind::Options);
    });
}

/// TLS-6; section 2, items 151 and 155.
#[test]
fn sessions_are_resumed_and_it_shows() {
    cosocket::run(|| {
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let authority = Authority::new("an authority");
            let server = authority.issue().server();
            let acceptor = Arc::new(TlsAcceptor::new(&server).unwrap());
            let options = authority.client().max_version(version);
            let exchange = |options: &TlsOptions, acceptor| {
                let (client, server) = connect_by(options, acceptor, "localhost");
                let (mut client, mut server) = (client.unwrap(), server.unwrap());
                // Under TLS 1.3 the tickets come with the first data.
                server.write_all(b"hello").unwrap();
                client.read_exact(&mut [0; 5]).unwrap();
                assert_eq!(client.is_resumed(), server.is_resumed());
                assert_eq!(client.peer_certificates().len(), 1);
                client.is_resumed()
            };
            assert!(!exchange(&options, &acceptor));
            assert!(exchange(&options, &acceptor), "{version:?}");
            assert!(exchange(&options.clone(), &acceptor), "clones share sessions");
            // Those with other options have no part in them.
            assert!(!exchange(&options.clone().alpn(["h2"]), &acceptor));
            let none = options.clone().resumption(0);
            assert!(!exchange(&none, &acceptor));
            assert!(!exchange(&none, &acceptor));
            let strict = Arc::new(TlsAcceptor::new(&server.resumption(false)).unwrap());
            assert!(!exchange(&options, &strict));
            assert!(!exchange(&options, &strict));
        }
    });
}

/// TLS-10.
#[test]
fn a_stapled_response_is_shown() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let issued = authority.issue();
        let stapling =
            TlsServerOptions::new(issued.identity().with_ocsp_response(b"a response".to_vec()));
        let (client, _server) = connect(&authority.client(), &stapling);
        assert_eq!(client.ocsp_response().as_deref(), Some(&b"a response"[..]));
        let (client, _server) = connect(&authority.client(), &issued.server());
        assert_eq!(client.ocsp_response(), None);
    });
}

/// TLS-11.
#[test]
fn secrets_are_logged_when_asked_for() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let path = std::env::temp_dir().join(format!("cosocket-keys-{}", std::process::id()));
        let client = authority.client().key_log_file(&path).unwrap();
        connect(&client, &authority.issue().server());
        let log = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let labels: Vec<_> = log.lines().map(|line| line.split(' ').next().unwrap()).collect();
        for label in [
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            "CLIENT_TRAFFIC_SECRET_0",
            "SERVER_TRAFFIC_SECRET_0",
            "EXPORTER_SECRET",
        ] {
            assert!(labels.contains(&label), "{labels:?}");
        }
        assert!(log.lines().all(|line| line.split(' ').nth(1).unwrap().len() == 64), "{log}");
    });
}

#[test]
fn broken_options_are_told() {
    assert!(Certificate::from_pem("no PEM").is_err());
    assert!(Identity::from_pem("no PEM", "either").is_err());
    let issued = Issued::self_signed();
    let pem = issued.pem();
    let identity = Identity::from_pem(&pem, &pem).unwrap();
    TlsAcceptor::new(&TlsServerOptions::new(identity)).unwrap();
    let no_key = Identity::from_pem(issued.certificate.pem(), issued.certificate.pem());
    assert_eq!(kind_of(no_key), ErrorKind::Options);
    let broken = TlsOptions::new().roots([Certificate::from_der(*b"broken")]);
    assert_eq!(kind_of(broken.check()), ErrorKind::Options);
    let broken = Identity::from_der([issued.certificate()], *b"broken");
    assert_eq!(kind_of(TlsOptions::new().identity(broken.clone()).check()), ErrorKind::Options);
    assert_eq!(kind_of(TlsAcceptor::new(&TlsServerOptions::new(broken))), ErrorKind::Options);
    let text = format!("{:?}", issued.identity());
    assert!(!text.contains("key"), "{text}");
}

#[cfg(feature = "tls-webpki-roots")]
#[test]
fn roots_that_are_compiled_in_are_trusted() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let server = authority.issue().server();
        let roots = TlsOptions::new().webpki_roots_and([]);
        assert_eq!(refused(&roots, &server).0.kind(), ErrorKind::UnknownIssuer);
        connect(&TlsOptions::new().webpki_roots_and([authority.certificate()]), &server);
    });
}

#[cfg(feature = "tls-aws-lc-rs")]
#[test]
fn either_end_may_have_the_cryptography_of_aws_lc() {
    use cosocket::tls::Crypto::{AwsLcRs, Ring};
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        for (ours, theirs) in [(AwsLcRs, AwsLcRs), (AwsLcRs, Ring), (Ring, AwsLcRs)] {
            let server = authority.issue().server().crypto(theirs);
            let (mut client, mut server) = connect(&authority.client().crypto(ours), &server);
            client.write_all(b"hello").unwrap();
            server.read_exact(&mut [0; 5]).unwrap();
        }
    });
}

/// Options are shared by many handshakes at once.
#[test]
fn many_handshakes_share_options() {
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let options = authority.client();
        let address = tls_support::serve(&authority.issue().server(), |mut stream| {
            let _ = stream.write_all(b"hello");
        });
        let clients: Vec<_> = (0..50)
            .map(|_| {
                let options = options.clone();
                spawn(move || {
                    let stream = TcpStream::connect(address).unwrap();
                    let mut stream = TlsStream::connect(stream, "localhost", &options).unwrap();
                    stream.read_exact(&mut [0; 5]).unwrap();
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
    });
}
