//! Fetches a page over TLS, and says what was agreed on. With a file of roots it trusts those in
//! place of the platform's.
//!
//!     cargo run --release --features tls --example https_client https://www.rust-lang.org/
//!     cargo run --release --features tls --example https_client https://localhost:8443/ https_server.pem

use std::io::{self, Read, Write};
use std::time::Duration;

use cosocket::net::TcpStream;
use cosocket::tls::{Certificate, TlsOptions, TlsStream};

fn main() -> io::Result<()> {
    cosocket::run(|| {
        let mut arguments = std::env::args().skip(1);
        let url = arguments.next().unwrap_or_else(|| "https://localhost:8443/".to_owned());
        let mut options =
            TlsOptions::new().alpn(["http/1.1"]).handshake_timeout(Duration::from_secs(10));
        if let Some(file) = arguments.next() {
            options = options.roots(Certificate::from_pem(std::fs::read(file)?)?);
        }
        let page = fetch(&url, &options)?;
        io::stdout().write_all(&page)
    })
}

fn fetch(url: &str, options: &TlsOptions) -> io::Result<Vec<u8>> {
    let rest = url.strip_prefix("https://").unwrap_or(url);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    let port = port.parse().map_err(|_| io::Error::other(format!("no port: {port}")))?;

    let stream = TcpStream::connect((host, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut stream = TlsStream::connect(stream, host, options)?;
    eprintln!("{:?}, {}, ALPN {:?}", stream.version(), stream.cipher_suite(), stream.alpn());
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    // Some servers wait for our end before they close.
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
