//! An async crate on cosocket's sockets: hyper's HTTP/1 server, a coroutine per connection.
//!
//!     cargo run --release --features futures --example hyper_hello [ADDRESS]
//!     curl -d 'to be shouted' http://127.0.0.1:7003/

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use cosocket::futures::{Async, block_on};
use cosocket::net::{TcpListener, TcpStream};
use cosocket::thread;
use futures_util::{AsyncRead, AsyncWrite};
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response, server::conn::http1, service::service_fn};

/// hyper has traits of its own for what `futures_io` has; this is all it takes.
#[derive(Debug)]
pub struct Io(pub Async<TcpStream>);

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 8192];
        let room = bytes.len().min(buffer.remaining());
        let count = ready!(Pin::new(&mut self.0).poll_read(context, &mut bytes[..room]))?;
        buffer.put_slice(&bytes[..count]);
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        c: &mut Context<'_>,
        b: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(c, b)
    }

    fn poll_flush(mut self: Pin<&mut Self>, c: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(c)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, c: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(c)
    }
}

/// The request's body in capitals, or a greeting.
pub async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let (mut body, mut text) = (request.into_body(), String::new());
    while let Some(frame) = std::future::poll_fn(|c| Pin::new(&mut body).poll_frame(c)).await {
        let Some(data) = frame.ok().and_then(|frame| frame.into_data().ok()) else { break };
        text.push_str(&String::from_utf8_lossy(&data).to_uppercase());
    }
    Ok(Response::new(if text.is_empty() { "hello from hyper\n".into() } else { text }))
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:7003"))?;
    println!("http://{}/", listener.local_addr()?);
    for stream in listener.incoming() {
        let io = Io(Async::new(stream?));
        thread::spawn(move || {
            let connection = http1::Builder::new().serve_connection(io, service_fn(answer));
            if let Err(error) = block_on(connection) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}
