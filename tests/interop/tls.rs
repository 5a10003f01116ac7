//! rustls's two ends against each other, and its server against OpenSSL's client.

#[allow(dead_code)]
#[path = "../../examples/crates/rustls_echo.rs"]
pub mod example;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use cosocket::net::{TcpListener, TcpStream};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::certificate::Identity;
use crate::{at_once, payload, peers, while_serving};

/// The example's server, for a new identity.
fn serving(client: impl FnOnce(SocketAddr, &Identity) + Send) {
    let identity = Identity::new(&[]);
    let config = example::server_config(identity.certificate_der(), identity.key_der()).unwrap();
    let serve = move |listener: &TcpListener| example::serve(listener, &config);
    while_serving(serve, |address| client(address, &identity));
}

pub fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = "localhost".try_into().unwrap();
    example::connect(address, name, Arc::clone(config)).unwrap()
}

/// Larger and larger pieces there and back, then the end as TLS has it.
pub fn converse(stream: &mut StreamOwned<ClientConnection, TcpStream>, client: usize) {
    for number in 0..8 {
        let data = payload(client, number, number * number * 1_000 + 1);
        stream.write_all(&data).unwrap();
        let mut echo = vec![0; data.len()];
        stream.read_exact(&mut echo).unwrap();
        assert!(echo == data, "client {client}, piece {number}");
    }
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_hundred_rustls_clients_talk_to_a_rustls_server() {
    serving(|address, identity| {
        let config = identity.client_config();
        at_once(100, |client| converse(&mut connect(address, &config), client));
    });
}

#[test]
fn openssl_talks_to_a_rustls_server() {
    let Some(openssl) = peers::find("openssl") else { return };
    serving(|address, identity| {
        let file = std::env::temp_dir().join(format!("cosocket-ca-{}.pem", std::process::id()));
        fs::write(&file, identity.authority.pem()).unwrap();
        at_once(10, |client| {
            let mut command = Command::new(&openssl);
            command.args([
                "s_client",
                "-quiet",
                "-verify_return_error",
                "-servername",
                "localhost",
            ]);
            command.args(["-verify_hostname", "localhost", "-connect", &address.to_string()]);
            command.arg("-CAfile").arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped());
            let data = payload(client, 0, 200_000);
            let sent = data.clone();
            let echo = cosocket::unblock(move || {
                let mut process = command.stderr(Stdio::null()).spawn().unwrap();
                let mut stdin = process.stdin.take().unwrap();
                let writer = std::thread::spawn(move || stdin.write_all(&sent).map(|()| stdin));
                let mut echo = vec![0; 200_000];
                let read = process.stdout.take().unwrap().read_exact(&mut echo);
                drop(writer.join().unwrap());
                process.kill().unwrap();
                process.wait().unwrap();
                read.map(|()| echo)
            });
            assert!(echo.unwrap() == data, "client {client}");
        });
        fs::remove_file(&file).unwrap();
    });
}

#[test]
fn a_certificate_of_a_stranger_is_refused() {
    serving(|address, _| {
        let stranger = Identity::new(&[]).client_config();
        let error = connect(address, &stranger).write_all(b"hello").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("certificate"), "{error}");
    });
}

/// A connection that is cut is not taken for one that ended.
#[test]
fn an_end_without_a_goodbye_is_an_error() {
    serving(|address, identity| {
        let stream = std::net::TcpStream::connect(address).unwrap();
        let clone = stream.try_clone().unwrap();
        let tls = ClientConnection::new(identity.client_config(), "localhost".try_into().unwrap());
        let mut stream = StreamOwned::new(tls.unwrap(), TcpStream::from(stream));
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        clone.shutdown(std::net::Shutdown::Read).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    });
}
