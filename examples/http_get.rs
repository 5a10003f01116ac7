//! An HTTP GET over a cosocket, with a timeout for each phase.
//!
//! ```text
//! cargo run --release --example http_get -- example.org:80 /
//! cargo run --release --example http_get -- unix:/run/docker.sock /version
//! ```

use std::time::Duration;
use std::{env, io, process::exit};

use cosocket::{Cosocket, ErrorKind};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, path] = arguments.try_into().unwrap_or_else(|_| {
        eprintln!("usage: http_get HOST:PORT PATH");
        exit(2);
    });
    cosocket::run(|| {
        let body = get(&address, &path)?;
        println!("{}", String::from_utf8_lossy(&body));
        Ok(())
    })
}

/// The body of the answer.
fn get(address: &str, path: &str) -> io::Result<Vec<u8>> {
    let socket = Cosocket::new();
    let [connect, send, read] = [2, 5, 10].map(Duration::from_secs);
    socket.set_timeouts(connect, send, read)?;
    socket.connect(address)?;
    let host = address.rsplit_once(':').map_or("localhost", |(host, _)| host);
    socket.send(("GET ", path, " HTTP/1.1\r\nHost: ", host, "\r\nConnection: close\r\n\r\n"))?;

    let status = text(socket.receive_line()?)?;
    eprintln!("{status}");
    let (mut length, mut is_chunked) = (None, false);
    loop {
        let line = text(socket.receive_line()?)?;
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse::<usize>().ok(),
            "transfer-encoding" => is_chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let body = match length {
        _ if is_chunked => receive_chunks(&socket),
        Some(length) => socket.receive_exact(length),
        None => socket.receive_all(),
    };
    body.or_else(|mut error| match error.kind() {
        // Better half an answer than none.
        ErrorKind::Timeout | ErrorKind::Closed => {
            eprintln!("{error} in the middle of the answer");
            Ok(error.take_partial())
        }
        _ => Err(error.into()),
    })
}

/// RFC 9112, section 7.1.
fn receive_chunks(socket: &Cosocket) -> Result<Vec<u8>, cosocket::Error> {
    let mut body = Vec::new();
    loop {
        let line = socket.receive_line()?;
        let size = String::from_utf8_lossy(&line);
        let size = usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16);
        let size = size.map_err(io::Error::other)?;
        body.extend(socket.receive_exact(size)?);
        socket.receive_line()?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn text(line: Vec<u8>) -> io::Result<String> {
    String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into())
}
