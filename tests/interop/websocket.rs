//! tungstenite's two ends against each other, over TCP and over TLS, and each against Python.

#[allow(dead_code)]
#[path = "../../examples/crates/tungstenite_echo.rs"]
pub mod example;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use cosocket::net::TcpStream;
use cosocket::thread;
use rustls::{ServerConnection, StreamOwned};
use tungstenite::{Error, Message, WebSocket};

use crate::certificate::Identity;
use crate::tls::example as tls;
use crate::{at_once, beside, payload, peers, while_serving};

/// Sends messages of many sizes, one at a time, and expects each back; then says goodbye.
pub fn converse(mut socket: WebSocket<impl Read + Write>, client: usize) {
    for number in 0..20 {
        let data = payload(client, number, number * number * 211);
        let message = match number % 2 {
            0 => Message::binary(data),
            _ => Message::text(data.iter().map(|&byte| char::from(byte)).collect::<String>()),
        };
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message, "client {client}, message {number}");
    }
    socket.send(Message::Ping(b"there?"[..].into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong(b"there?"[..].into()));
    socket.close(None).unwrap();
    let end = loop {
        if let Err(end) = socket.read() {
            break end;
        }
    };
    assert!(matches!(end, Error::ConnectionClosed), "{end}");
}

#[test]
fn two_hundred_tungstenites_talk_to_one() {
    while_serving(example::serve, |address| {
        at_once(200, |client| converse(example::connect(address).unwrap(), client));
    });
}

#[test]
fn python_talks_to_tungstenite() {
    let Some(python) = peers::python_with("websockets") else { return };
    while_serving(example::serve, |address| {
        let mut command = Command::new(python);
        command.arg(beside("websocket_peer.py")).args(["check", &address.ip().to_string()]);
        command.args([&address.port().to_string(), "100", "10"]);
        let output = cosocket::unblock(move || command.output().unwrap());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"1000 messages came back\n");
    });
}

#[test]
fn tungstenite_talks_to_python() {
    let script = beside("websocket_peer.py");
    let Some(server) = peers::python("websockets", &script, &["serve"]) else { return };
    cosocket::run(|| {
        at_once(100, |client| converse(example::connect(server.address).unwrap(), client));
    });
}

/// Crates on crates: WebSocket over TLS, both ends on our sockets.
#[test]
fn tungstenite_talks_over_rustls() {
    let identity = Identity::new(&[]);
    let server = tls::server_config(identity.certificate_der(), identity.key_der()).unwrap();
    let client = identity.client_config();
    while_serving(
        move |listener| {
            for stream in listener.incoming() {
                let tls = ServerConnection::new(Arc::clone(&server)).unwrap();
                let mut stream = StreamOwned::new(tls, stream?);
                thread::spawn(move || {
                    example::echo(&mut stream).unwrap();
                    stream.conn.send_close_notify();
                    stream.flush().unwrap();
                });
            }
            Ok(())
        },
        |address: SocketAddr| {
            at_once(50, |number| {
                let name = "localhost".try_into().unwrap();
                let stream: StreamOwned<_, TcpStream> =
                    tls::connect(address, name, Arc::clone(&client)).unwrap();
                let (socket, _) = tungstenite::client("wss://localhost/", stream).unwrap();
                converse(socket, number);
            });
        },
    );
}
