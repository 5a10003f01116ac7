//! monoio: a task a connection, on io_uring. Buffers are lent to the kernel, so they are on the heap.

use std::io;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

use super::handler::{Handler, dispatch};
use super::{Settings, listen};

pub fn serve(settings: &Settings) -> io::Result<()> {
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listen()?)?;
        dispatch!(settings, spawn_accept(listener)).await
    })
}

fn spawn_accept<H: Handler, const N: usize>(
    listener: TcpListener,
) -> monoio::task::JoinHandle<io::Result<()>> {
    monoio::spawn(accept::<H, N>(listener))
}

async fn accept<H: Handler, const N: usize>(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        monoio::spawn(handle::<H, N>(stream));
    }
}

async fn handle<H: Handler, const N: usize>(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut handler, mut buffer, mut output) = (H::default(), Vec::with_capacity(N), Vec::new());
    loop {
        let (count, read) = stream.read(buffer).await;
        buffer = read;
        if count? == 0 {
            return Ok(());
        }
        let answer = handler.answer(&buffer);
        if answer.as_ptr() == buffer.as_ptr() {
            let (sent, written) = stream.write_all(buffer).await;
            sent?;
            buffer = written;
        } else {
            output.clear();
            output.extend_from_slice(answer);
            let (sent, written) = stream.write_all(output).await;
            sent?;
            output = written;
        }
        buffer.clear();
    }
}
