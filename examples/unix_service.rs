//! A service on a Unix socket: it knows who asks, and hands out an open file instead of its bytes.
//!
//! ```text
//! cargo run --release --example unix_service /tmp/service.sock
//! cargo run --release --example unix_service /tmp/service.sock /etc/hostname
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use cosocket::os::unix::net::UnixStream;
use cosocket::server::{Connection, Server};
use cosocket::{Stream, signal};

fn main() -> io::Result<()> {
    let usage = "unix_service SOCKET [FILE]";
    let socket = std::env::args().nth(1).ok_or_else(|| io::Error::other(usage))?;
    cosocket::run(move || match std::env::args().nth(2) {
        Some(file) => ask(&socket, &file),
        None => serve(&socket),
    })
}

/// For this user alone. A socket whose service has died is replaced; ours is removed at the end.
fn serve(socket: &str) -> io::Result<()> {
    let server = Server::new().listen_unix(socket).unix_mode(0o600).start(answer)?;
    println!("listening on {socket}");
    signal::ctrl_c()?;
    server.shutdown(Duration::from_secs(5));
    Ok(())
}

/// Opens what the peer asks for, if it is the same user: it need not be able to itself.
fn answer(connection: Connection) -> io::Result<()> {
    let Stream::Unix(mut stream) = connection.into_stream() else { unreachable!("it is one") };
    let (peer, own) = (stream.peer_cred()?, UnixStream::pair()?.0.peer_cred()?);
    let mut path = String::new();
    stream.read_to_string(&mut path)?;
    println!("user {} (process {:?}) wants {path}", peer.uid, peer.pid);
    if peer.uid != own.uid {
        return stream.write_all(b"not yours");
    }
    match cosocket::unblock(move || File::open(path)) {
        Ok(file) => stream.send_with_fds(b"here it is", &[file.as_fd()]).map(drop),
        Err(error) => stream.write_all(error.to_string().as_bytes()),
    }
}

fn ask(socket: &str, path: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(path.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = [0; 200];
    let mut received = stream.recv_with_fds(&mut answer, 1)?;
    println!("{}", String::from_utf8_lossy(&answer[..received.len]));
    let Some(file) = received.fds.pop() else { return Ok(()) };
    cosocket::unblock(move || io::copy(&mut File::from(file), &mut io::stdout()).map(drop))
}
