//! An HTTPS server that says hello, over TLS 1.2 and 1.3. Without files it makes a certificate for
//! `localhost`, and writes it to `https_server.pem`, for clients to trust.
//!
//!     cargo run --release --features tls --example https_server [ADDRESS [CHAIN.pem KEY.pem]]
//!     curl --cacert https_server.pem https://localhost:8443/

use std::io::{self, BufRead, BufReader, Write};
use std::sync::Arc;
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::tls::{Identity, TlsAcceptor, TlsServerOptions};
use cosocket::{signal, thread};

fn main() -> io::Result<()> {
    cosocket::run(|| {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let identity = match &arguments[..] {
            [_, chain, key] => Identity::from_pem_files(chain, key)?,
            _ => made_for_localhost()?,
        };
        let options = TlsServerOptions::new(identity)
            .alpn(["http/1.1"])
            .handshake_timeout(Duration::from_secs(10));
        let acceptor = Arc::new(TlsAcceptor::new(&options)?);
        let address = arguments.first().map_or("127.0.0.1:8443", String::as_str);
        let listener = TcpListener::bind(address)?;
        println!("https://{}/", listener.local_addr()?);
        let server = thread::spawn(move || {
            listener.incoming().for_each(|stream| match stream {
                Ok(stream) => {
                    let acceptor = Arc::clone(&acceptor);
                    drop(thread::spawn(move || {
                        if let Err(error) = serve(stream, &acceptor) {
                            eprintln!("{error}");
                        }
                    }));
                }
                Err(_) => thread::sleep(Duration::from_millis(50)), // no descriptor left, say
            })
        });
        signal::ctrl_c()?;
        server.cancel();
        Ok(())
    })
}

/// The handshake is made here, by the connection's own coroutine: a slow client holds nobody up.
fn serve(stream: TcpStream, acceptor: &TlsAcceptor) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let stream = acceptor.accept(stream)?;
    let body = format!("Hello over {:?}, {}!\n", stream.version(), stream.cipher_suite());
    // Written at once: each write is a record of its own.
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut lines = BufReader::new(&stream);
    let mut line = String::new();
    loop {
        // A head ends with an empty line; the requests that are answered here have no bodies.
        line.clear();
        match lines.read_line(&mut line)? {
            0 => return stream.close(),
            2 => (&stream).write_all(answer.as_bytes())?,
            _ => {}
        }
    }
}

fn made_for_localhost() -> io::Result<Identity> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    std::fs::write("https_server.pem", made.cert.pem())?;
    Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())
}
