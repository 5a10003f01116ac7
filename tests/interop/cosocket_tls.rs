//! ureq over cosocket's own TLS: its requests, our connections.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use cosocket::net::TcpStream;
use cosocket::tls::{Certificate, TlsOptions, TlsStream};
use ureq::unversioned::{resolver::DefaultResolver, transport::*};
use ureq::{Agent, Error, config::Config};

use crate::certificate::Identity;
use crate::{at_once, payload, peers};

#[derive(Debug)]
struct OverTls(TlsOptions);

impl Connector for OverTls {
    type Out = Connection;

    fn connect(&self, to: &ConnectionDetails, _: Option<()>) -> Result<Option<Connection>, Error> {
        let connect = || {
            let stream = TcpStream::connect(&to.addrs[..])?;
            TlsStream::connect(stream, to.uri.host().unwrap_or_default(), &self.0)
        };
        let room = LazyBuffers::new(to.config.input_buffer_size(), to.config.output_buffer_size());
        Ok(Some(Connection(connect().map_err(Error::Io)?, room)))
    }
}

#[derive(Debug)]
struct Connection(TlsStream<TcpStream>, LazyBuffers);

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.1
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        self.0.write_all(&self.1.output()[..amount]).map_err(Error::Io)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        let count = self.0.read(self.1.input_append_buf()).map_err(Error::Io)?;
        self.1.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        // Asked under the lock of ureq's pool: this never waits. Tickets are taken in on the way.
        self.0.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    fn is_tls(&self) -> bool {
        true
    }
}

#[test]
fn ureq_fetches_files_from_nginx_over_our_tls() {
    let identity = Identity::new(&[peers::ip().into()]);
    let content = payload(0, 0, 300_000);
    let fill = |directory: &Path| -> io::Result<()> {
        fs::write(directory.join("certificate.pem"), identity.certificate.pem())?;
        fs::write(directory.join("key.pem"), identity.key.serialize_pem())?;
        fs::write(directory.join("file"), &content)
    };
    let Some(server) = peers::nginx(true, fill) else { return };
    let agent = |identity: &Identity| {
        let root = Certificate::from_der(identity.authority.der().to_vec());
        let connector = OverTls(TlsOptions::new().roots([root]));
        Agent::with_parts(Config::default(), connector, DefaultResolver::default())
    };
    let url = format!("https://{}/file", server.address);
    let trusting = agent(&identity);
    cosocket::run(|| {
        at_once(50, |_| {
            for _ in 0..5 {
                let body = trusting.get(&url).call().unwrap().body_mut().read_to_vec().unwrap();
                assert!(body == content);
            }
        });
        let error = agent(&Identity::new(&[])).get(&url).call().unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
    });
}
