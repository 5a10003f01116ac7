//! One question by TCP, where each message has its length before it (RFC 1035, section 4.2.2).

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::answer::{self, Answer};
use super::question::Asked;
use crate::net::{TcpBuilder, TcpStream};

/// Asks one server, over a connection of its own, for at most `timeout`.
pub(crate) fn ask(server: SocketAddr, asked: &Asked<'_>, timeout: Duration) -> io::Result<Answer> {
    let deadline = Instant::now() + timeout;
    let mut stream = TcpBuilder::new().nodelay(true).connect_timeout(timeout).connect(server)?;
    let len = u16::try_from(asked.bytes.len()).expect("a name is 255 bytes at most");
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(&[&len.to_be_bytes(), asked.bytes.as_slice()].concat())?;
    loop {
        let mut len = [0; 2];
        read_exact(&mut stream, &mut len, deadline)?;
        let mut message = vec![0; u16::from_be_bytes(len).into()];
        read_exact(&mut stream, &mut message, deadline)?;
        if let Some(answer) = answer::read(asked, &message) {
            return Ok(answer);
        }
    }
}

/// All of it within the deadline, however few bytes come at a time.
fn read_exact(stream: &mut TcpStream, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => buffer = &mut buffer[n..],
        }
    }
    Ok(())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}
