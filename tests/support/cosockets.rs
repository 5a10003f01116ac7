//! Cosockets with both their ends.

use std::sync::Arc;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::os::unix::net::UnixStream;
use cosocket::{Cosocket, SocketOption};

/// A connected cosocket, and the other end.
pub fn pair() -> (Arc<Cosocket>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = cosocket::connect(listener.local_addr().unwrap()).unwrap();
    (Arc::new(socket), listener.accept().unwrap().0)
}

/// One that takes little before its peer reads. (A Unix socket: TCP with such buffers waits for its
/// window now and then, for a long time.)
pub fn narrow_pair() -> (Arc<Cosocket>, UnixStream) {
    let (one, peer) = UnixStream::pair().unwrap();
    let socket = Cosocket::from(one);
    socket.set_option(SocketOption::SendBuffer(8 << 10)).unwrap();
    (Arc::new(socket), peer)
}
