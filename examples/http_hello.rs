//! An HTTP/1.1 server that says hello: keep-alive, pipelining, one coroutine a connection.
//!
//!     cargo run --release --example http_hello [ADDRESS]
//!     curl -i http://127.0.0.1:8080/

use std::io::{self, Read, Write};
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{signal, thread};
use httparse::{EMPTY_HEADER, Error, Request, Status};

fn main() -> io::Result<()> {
    cosocket::run(|| {
        let listener =
            TcpListener::bind(std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8080"))?;
        socket2::SockRef::from(&listener).listen(4096)?; // std's backlog is 128
        println!("http://{}/", listener.local_addr()?);
        let server = thread::spawn(move || {
            listener.incoming().for_each(|stream| match stream {
                Ok(stream) => drop(thread::spawn(|| serve(stream))),
                Err(_) => thread::sleep(Duration::from_millis(50)), // no descriptor left, say
            })
        });
        signal::ctrl_c()?;
        server.cancel(); // accepts no more; the end of `run` ends the open connections
        Ok(())
    })
}

/// Answers all the requests of one read by one write, until either side wants to close.
fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut filled, mut close) = ([0; 8 << 10], 0, false);
    while !close {
        let count = stream.read(&mut input[filled..])?;
        (filled, close) = (filled + count, count == 0);
        let (mut begin, mut output) = (0, Vec::new());
        while !close && begin < filled {
            let mut headers = [EMPTY_HEADER; 64];
            let mut request = Request::new(&mut headers);
            let status;
            (status, close) = match request.parse(&input[begin..filled]) {
                Ok(Status::Complete(head)) => {
                    begin += head;
                    judge(&request)
                }
                Ok(_) if begin > 0 || filled < input.len() => break,
                Ok(_) | Err(Error::TooManyHeaders) => ("431 Request Header Fields Too Large", true),
                Err(_) => ("400 Bad Request", true),
            };
            let body = if status == "200 OK" { "Hello, world!\n" } else { status };
            let (length, then) = (body.len(), if close { "close" } else { "keep-alive" });
            let body = if request.method == Some("HEAD") { "" } else { body };
            write!(output, "HTTP/1.1 {status}\r\nConnection: {then}\r\n")?;
            write!(output, "Content-Length: {length}\r\n\r\n{body}")?;
        }
        stream.write_all(&output)?;
        input.copy_within(begin..filled, 0);
        filled -= begin;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    io::copy(&mut stream, &mut io::sink()).map(drop) // unread input would reset the connection
}

/// The status to answer with, and whether to close then.
fn judge(request: &Request) -> (&'static str, bool) {
    let header = |name| request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
    let connection = header("connection").map_or(&[][..], |h| h.value).to_ascii_lowercase();
    let says = |word: &[u8]| connection.split(|&b| b == b',').any(|w| w.trim_ascii() == word);
    let is_given = |name| header(name).is_some_and(|h| h.value != b"0");
    let old = request.version == Some(0);
    match request.method {
        _ if !old && header("host").is_none() => ("400 Bad Request", true),
        _ if is_given("content-length") || is_given("transfer-encoding") => ("413 Too Large", true),
        Some("GET" | "HEAD") => ("200 OK", says(b"close") || old && !says(b"keep-alive")),
        _ => ("405 Method Not Allowed", true),
    }
}
