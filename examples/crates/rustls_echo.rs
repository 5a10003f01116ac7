//! An echo server over TLS: rustls on cosocket's sockets, through its `StreamOwned`.
//!
//!     cargo run -p cosocket-interop --example rustls_echo
//!     openssl s_client -quiet -connect 127.0.0.1:7443

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::thread;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

/// Accepts connections until it is cancelled.
pub fn serve(listener: &TcpListener, config: &Arc<ServerConfig>) -> io::Result<()> {
    for stream in listener.incoming() {
        let (stream, config) = (stream?, Arc::clone(config));
        thread::spawn(move || {
            if let Err(error) = echo(stream, config) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

/// The handshake is made by the first `read`: here, so a slow client holds nobody up.
pub fn echo(stream: TcpStream, config: Arc<ServerConfig>) -> Result<(), Box<dyn Error>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut buffer = [0; 4096];
    loop {
        // An end without TLS's own goodbye is an error: somebody may have cut the connection.
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            stream.conn.send_close_notify();
            return Ok(stream.flush()?);
        }
        stream.write_all(&buffer[..count])?;
    }
}

/// A client's end of a connection.
pub fn connect(
    address: std::net::SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Box<dyn Error>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(StreamOwned::new(ClientConnection::new(config, name)?, stream))
}

pub fn server_config(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = ServerConfig::builder().with_no_client_auth();
    Ok(Arc::new(config.with_single_cert(vec![certificate], key)?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let config = server_config(made.cert.into(), key)?;
    let listener = TcpListener::bind("127.0.0.1:7443")?;
    println!("echo over TLS on {}", listener.local_addr()?);
    Ok(serve(&listener, &config)?)
}
