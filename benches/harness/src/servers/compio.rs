//! compio: a task a connection, on io_uring. Buffers are lent to the kernel, so they are on the heap.

use std::io;

use compio::BufResult;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{JoinHandle, Runtime, spawn};

use super::handler::{Handler, dispatch};
use super::{Settings, listen};

pub fn serve(settings: &Settings) -> io::Result<()> {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listen()?)?;
        let accepting = dispatch!(settings, spawn_accept(listener));
        accepting.await.unwrap_or_else(|_| Err(io::Error::other("accepting panicked")))
    })
}

fn spawn_accept<H: Handler, const N: usize>(listener: TcpListener) -> JoinHandle<io::Result<()>> {
    spawn(accept::<H, N>(listener))
}

async fn accept<H: Handler, const N: usize>(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(handle::<H, N>(stream)).detach();
    }
}

async fn handle<H: Handler, const N: usize>(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut handler, mut buffer, mut output) = (H::default(), Vec::with_capacity(N), Vec::new());
    loop {
        let BufResult(count, read) = stream.read(buffer).await;
        buffer = read;
        if count? == 0 {
            return Ok(());
        }
        let answer = handler.answer(&buffer);
        if answer.as_ptr() == buffer.as_ptr() {
            let BufResult(sent, written) = stream.write_all(buffer).await;
            sent?;
            buffer = written;
        } else {
            output.clear();
            output.extend_from_slice(answer);
            let BufResult(sent, written) = stream.write_all(output).await;
            sent?;
            output = written;
        }
        buffer.clear();
    }
}
