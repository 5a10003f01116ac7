//! std alone: a thread a connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;

use super::handler::{Handler, dispatch};
use super::{Settings, listen};

const STACK_BYTES: usize = 128 << 10;

pub fn serve(settings: &Settings) -> io::Result<()> {
    for stream in listen()?.incoming() {
        let stream = stream?;
        dispatch!(settings, spawn(stream))?;
    }
    Ok(())
}

fn spawn<H: Handler, const N: usize>(stream: TcpStream) -> io::Result<()> {
    let builder = thread::Builder::new().stack_size(STACK_BYTES);
    builder.spawn(move || handle::<H, N>(stream)).map(drop)
}

fn handle<H: Handler, const N: usize>(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut handler, mut buffer) = (H::default(), [0; N]);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(handler.answer(&buffer[..count]))?,
        }
    }
}
