//! A connection that begins in plain text and changes to TLS, as SMTP, IMAP and LDAP do: a server
//! that answers `STARTTLS`, and a client that sends it, in one program.
//!
//!     cargo run --release --features tls --example starttls [ADDRESS]
//!     openssl s_client -starttls smtp -crlf -connect 127.0.0.1:2525

use std::io::{self, BufRead, BufReader, Write};
use std::sync::Arc;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::thread;
use cosocket::tls::{Certificate, Identity, TlsAcceptor, TlsOptions, TlsServerOptions, TlsStream};

fn main() -> io::Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let made = made.map_err(io::Error::other)?;
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
    let trusted = TlsOptions::new().pinned(Certificate::from_pem(made.cert.pem())?);
    let acceptor = Arc::new(TlsAcceptor::new(&TlsServerOptions::new(identity))?);

    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:2525"))?;
    let address = listener.local_addr()?;
    thread::spawn(move || client(TcpStream::connect(address)?, &trusted));
    println!("STARTTLS on {address}");
    for stream in listener.incoming() {
        let (stream, acceptor) = (stream?, Arc::clone(&acceptor));
        thread::spawn(move || {
            if let Err(error) = serve(stream, &acceptor) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

fn serve(stream: TcpStream, acceptor: &TlsAcceptor) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    (&mut lines.get_ref()).write_all(b"220 ready\r\n")?;
    loop {
        let line = line(&mut lines)?;
        match line.split(' ').next() {
            Some("EHLO") => (&mut lines.get_ref()).write_all(b"250-hello\r\n250 STARTTLS\r\n")?,
            Some("STARTTLS") => break,
            _ => (&mut lines.get_ref()).write_all(b"502 in plain text?\r\n")?,
        }
    }
    (&mut lines.get_ref()).write_all(b"220 go ahead\r\n")?;
    // What the buffer holds goes into the handshake: a command behind STARTTLS is not run.
    let received = lines.buffer().to_vec();
    let stream = acceptor.accept_after(lines.into_inner(), &received)?;
    let mut lines = BufReader::new(&stream);
    while line(&mut lines)? != "QUIT" {
        (&stream).write_all(b"250 encrypted\r\n")?;
    }
    (&stream).write_all(b"221 bye\r\n")?;
    stream.close()
}

fn client(stream: TcpStream, options: &TlsOptions) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    line(&mut lines)?;
    (&mut lines.get_ref()).write_all(b"STARTTLS\r\n")?;
    line(&mut lines)?;
    let received = lines.buffer().to_vec();
    let stream = TlsStream::connect_after(lines.into_inner(), "localhost", options, &received)?;
    (&stream).write_all(b"NOOP\r\nQUIT\r\n")?;
    let mut lines = BufReader::new(&stream);
    println!("over {:?}: {}", stream.version(), line(&mut lines)?);
    Ok(())
}

fn line(lines: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    match lines.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}
