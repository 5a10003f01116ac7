//! How much of its stack a coroutine uses in these crates: less than half of what it has by
//! default. `cargo test -p cosocket-interop stacks -- --nocapture` says how much.

use std::sync::Arc;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{Builder, Runtime};
use rustls::{ServerConnection, StreamOwned};

use crate::certificate::Identity;
use crate::{tls, websocket};

/// What a stack has by default: see the guide.
const DEFAULT: usize = if cfg!(debug_assertions) { 1 << 20 } else { 256 << 10 };

/// Two coroutines with the ends of a connection; how much stack each has used.
fn measured(
    what: &str,
    server: impl FnOnce(TcpStream) + Send + 'static,
    client: impl FnOnce(TcpStream) + Send + 'static,
) {
    let runtime: Runtime = Builder::new().measure_stacks(true).build().unwrap();
    let used = runtime.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let client = cosocket::spawn(move || client(stream));
        let (stream, _) = listener.accept().unwrap();
        let server = cosocket::spawn(move || server(stream));
        [server, client].map(|end| {
            while !end.is_finished() {
                cosocket::thread::yield_now();
            }
            let used = end.stack_high_water().unwrap();
            end.join().unwrap();
            used
        })
    });
    println!("{what}: server {} KiB, client {} KiB", used[0] >> 10, used[1] >> 10);
    assert!(used.iter().all(|&used| used < DEFAULT / 2), "{used:?}");
}

#[test]
fn a_tls_handshake_and_an_echo() {
    let identity = Identity::new(&[]);
    let config =
        tls::example::server_config(identity.certificate_der(), identity.key_der()).unwrap();
    let client = identity.client_config();
    measured(
        "rustls",
        |stream| tls::example::echo(stream, config).unwrap(),
        move |stream| {
            let name = "localhost".try_into().unwrap();
            let tls = rustls::ClientConnection::new(Arc::clone(&client), name).unwrap();
            tls::converse(&mut StreamOwned::new(tls, stream), 0);
        },
    );
}

#[test]
fn a_websocket_over_tls() {
    let identity = Identity::new(&[]);
    let config =
        tls::example::server_config(identity.certificate_der(), identity.key_der()).unwrap();
    let client = identity.client_config();
    measured(
        "tungstenite over rustls",
        |stream| {
            let tls = ServerConnection::new(config).unwrap();
            let mut stream = StreamOwned::new(tls, stream);
            websocket::example::echo(&mut stream).unwrap();
            stream.conn.send_close_notify();
            std::io::Write::flush(&mut stream).unwrap();
        },
        move |stream| {
            let name = "localhost".try_into().unwrap();
            let tls = rustls::ClientConnection::new(Arc::clone(&client), name).unwrap();
            let stream = StreamOwned::new(tls, stream);
            let (socket, _) = tungstenite::client("wss://localhost/", stream).unwrap();
            websocket::converse(socket, 0);
        },
    );
}
