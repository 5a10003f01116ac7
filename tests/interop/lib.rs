//! Published crates on top of cosocket's sockets, many at once, each against a real peer.
//!
//! What a crate needs of us is in the example that a test includes: what is tested is what is
//! shown. Where a peer is not installed its test says that it was skipped; in CI (`CI` is set)
//! that is a failure.

#![cfg(test)]

#[allow(unsafe_code)]
#[path = "../peers/mod.rs"]
mod peers;
#[allow(unsafe_code)]
#[path = "../util/mod.rs"]
mod util;

mod certificate;
mod cosocket_tls;
mod dns;
mod http;
mod mqtt;
mod postgres;
mod redis;
mod stacks;

mod thrift;
mod tls;
mod websocket;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cosocket::net::TcpListener;
use cosocket::thread;

/// So many coroutines at once, each with its number; ends when all have.
fn at_once(count: usize, f: impl Fn(usize) + Send + Sync) {
    let count = if util::is_quick() { count / 5 } else { count };
    thread::scope(|scope| {
        for number in 0..count {
            let f = &f;
            scope.spawn(move || f(number));
        }
    });
}

/// What only this sender and this message would send: a shift or a loss is seen.
fn payload(sender: usize, message: usize, length: usize) -> Vec<u8> {
    let byte = |at: usize| (at * 31 + at / 251 * 7 + sender * 101 + message * 13) as u8;
    (0..length).map(byte).collect()
}

/// Serves until `client` is done, and ends the server by a cancel.
fn while_serving(
    serve: impl FnOnce(&TcpListener) -> std::io::Result<()> + Send + 'static,
    client: impl FnOnce(SocketAddr) + Send,
) {
    cosocket::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || serve(&listener));
        client(address);
        server.cancel();
        assert!(server.join().unwrap_err().is::<cosocket::Cancelled>());
    });
}

/// A file beside this one.
fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
