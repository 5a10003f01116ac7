//! ureq against nginx: plain and over TLS, through a pool that all coroutines share.

#[allow(dead_code)]
#[path = "../../examples/crates/ureq_client.rs"]
mod example;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cosocket::net::TcpListener;
use ureq::config::Config;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Error, Timeout};

use crate::certificate::Identity;
use crate::{at_once, payload, peers};

const FILES: usize = 10;

/// Sizes from nothing to some hundred KB.
fn content(file: usize) -> Vec<u8> {
    payload(file, 0, file * file * 3_001)
}

fn write_files(directory: &Path) -> io::Result<()> {
    (0..FILES).try_for_each(|file| fs::write(directory.join(file.to_string()), content(file)))
}

fn fetch_all(agent: &Agent, url: &str, coroutines: usize) {
    let contents: Vec<_> = (0..FILES).map(content).collect();
    cosocket::run(|| {
        at_once(coroutines, |coroutine| {
            for request in 0..FILES {
                let file = (coroutine + request) % FILES;
                let mut answer = agent.get(format!("{url}/{file}")).call().unwrap();
                let body = answer.body_mut().read_to_vec().unwrap();
                assert!(body == contents[file], "{} bytes", body.len());
            }
            match agent.get(format!("{url}/none")).call() {
                Err(Error::StatusCode(404)) => {}
                other => panic!("{other:?}"),
            }
        });
    });
}

#[test]
fn ureq_fetches_files_from_nginx() {
    let Some(server) = peers::nginx(false, write_files) else { return };
    let config = Agent::config_builder().max_idle_connections_per_host(40).build();
    fetch_all(&example::agent(config), &format!("http://{}", server.address), 100);
}

#[test]
fn ureq_fetches_files_from_nginx_over_tls() {
    let identity = Identity::new(&[peers::ip().into()]);
    let fill = |directory: &Path| {
        fs::write(directory.join("certificate.pem"), identity.certificate.pem())?;
        fs::write(directory.join("key.pem"), identity.key.serialize_pem())?;
        write_files(directory)
    };
    let Some(server) = peers::nginx(true, fill) else { return };
    let trusting = |root: &rcgen::Certificate| {
        let roots = RootCerts::new_with_certs(&[Certificate::from_der(root.der()).to_owned()]);
        let tls = TlsConfig::builder().root_certs(roots).build();
        example::agent(Agent::config_builder().tls_config(tls).build())
    };
    let url = format!("https://{}", server.address);
    fetch_all(&trusting(&identity.authority), &url, 50);

    let stranger = trusting(&Identity::new(&[]).authority);
    let error = cosocket::run(|| stranger.get(format!("{url}/1")).call().unwrap_err());
    assert!(error.to_string().contains("certificate"), "{error}");
}

/// A name is looked up, and the address that refuses is not the last that is tried.
#[test]
fn ureq_resolves_names_by_our_resolver() {
    let agent = example::agent(Config::default());
    cosocket::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let server = cosocket::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            io::Write::write_all(&mut stream, b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        });
        assert_eq!(agent.get(url).call().unwrap().status(), 204);
        server.join().unwrap();
        let error = agent.get("http://does-not-exist.invalid/").call().unwrap_err();
        assert!(matches!(error, Error::Io(_) | Error::HostNotFound), "{error:?}");
    });
}

/// The timeouts of ureq reach our sockets, and come back under ureq's names.
#[test]
fn ureq_times_out_on_a_silent_server() {
    let config = Agent::config_builder();
    let config = config.timeout_recv_response(Some(Duration::from_millis(50))).build();
    let agent = example::agent(config);
    cosocket::run(|| {
        // The backlog takes the connections.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let timeouts = AtomicUsize::new(0);
        at_once(50, |_| match agent.get(&url).call() {
            Err(Error::Timeout(Timeout::RecvResponse)) => {
                timeouts.fetch_add(1, Ordering::Relaxed);
            }
            other => panic!("{other:?}"),
        });
        assert!(timeouts.into_inner() >= 10);
    });
}
