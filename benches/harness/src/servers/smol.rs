//! smol: a task a connection, on one thread's executor.

use std::io;
use std::rc::Rc;

use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use smol::{Async, LocalExecutor};

use super::handler::{Handler, dispatch};
use super::{Settings, listen};

pub fn serve(settings: &Settings) -> io::Result<()> {
    let listener = Async::new(listen()?)?;
    dispatch!(settings, accept(listener.into()))
}

fn accept<H: Handler, const N: usize>(listener: TcpListener) -> io::Result<()> {
    let executor = Rc::new(LocalExecutor::new());
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await?;
            executor.spawn(handle::<H, N>(stream)).detach();
        }
    };
    smol::block_on(executor.run(accepting))
}

async fn handle<H: Handler, const N: usize>(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut handler, mut buffer) = (H::default(), [0; N]);
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(handler.answer(&buffer[..count])).await?,
        }
    }
}
