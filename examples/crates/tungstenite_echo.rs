//! A WebSocket echo server: tungstenite on cosocket's sockets, a coroutine for each connection.
//!
//!     cargo run -p cosocket-interop --example tungstenite_echo
//!     /usr/bin/python3 -m websockets ws://127.0.0.1:9001/    (Debian: python3-websockets)

use std::io::{Read, Write};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::thread;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

/// Accepts connections until it is cancelled.
pub fn serve(listener: &TcpListener) -> std::io::Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) =
                stream.set_nodelay(true).map_err(Error::Io).and_then(|()| echo(stream))
            {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

/// Sends back every message, until the client says goodbye.
pub fn echo(stream: impl Read + Write) -> Result<(), Error> {
    let mut socket = match tungstenite::accept(stream) {
        Ok(socket) => socket,
        Err(HandshakeError::Failure(error)) => return Err(error),
        Err(HandshakeError::Interrupted(_)) => unreachable!("our sockets wait"),
    };
    loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message)?,
            Ok(_) => {} // pings and closes are answered by `read` itself
            Err(Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A client's end of a connection.
pub fn connect(address: std::net::SocketAddr) -> Result<WebSocket<TcpStream>, Error> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    match tungstenite::client(format!("ws://{address}/"), stream) {
        Ok((socket, _response)) => Ok(socket),
        Err(HandshakeError::Failure(error)) => Err(error),
        Err(HandshakeError::Interrupted(_)) => unreachable!("our sockets wait"),
    }
}

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:9001")?;
    println!("ws://{}/", listener.local_addr()?);
    serve(&listener)
}
