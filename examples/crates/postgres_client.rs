//! A small PostgreSQL client: postgres-protocol's messages, cosocket's sockets.
//!
//!     sudo -u postgres psql -c "CREATE ROLE app LOGIN PASSWORD 'secret'"
//!     cargo run -p cosocket-interop --example postgres_client

use std::io::{self, Error, ErrorKind, Read, Write};
use std::num::NonZero;

use bytes::{BufMut, BytesMut};
use cosocket::net::TcpStream;
use fallible_iterator::FallibleIterator;
use postgres_protocol::{IsNull, authentication::sasl::*, message::backend::*, message::frontend};

pub struct Client(TcpStream, BytesMut, BytesMut); // and what came, and what is to be sent

impl Client {
    pub fn connect(address: &str, user: &str, password: &str) -> io::Result<Client> {
        let mut client = Client(TcpStream::connect(address)?, BytesMut::new(), BytesMut::new());
        frontend::startup_message([("user", user), ("database", "postgres")], &mut client.2)?;
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            match client.receive()? {
                Message::AuthenticationSasl(_) => {
                    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut client.2)?
                }
                Message::AuthenticationSaslContinue(body) => scram
                    .update(body.data())
                    .and_then(|()| frontend::sasl_response(scram.message(), &mut client.2))?,
                Message::AuthenticationSaslFinal(body) => scram.finish(body.data())?,
                Message::ErrorResponse(body) => return Err(error(&body)),
                Message::ReadyForQuery(_) => return Ok(client),
                _ => {} // the server's settings, mostly
            }
        }
    }

    /// Runs one statement with its parameters, `$1`, `$2`, ...; its rows, as text.
    pub fn query(&mut self, sql: &str, with: &[&str]) -> io::Result<Vec<Vec<Option<String>>>> {
        frontend::parse("", sql, [], &mut self.2)?;
        let put = |text: &&str, to: &mut BytesMut| Ok((to.put(text.as_bytes()), IsNull::No).1);
        frontend::bind("", "", [], with, put, [], &mut self.2).or(Err(ErrorKind::InvalidInput))?;
        frontend::execute("", 0, &mut self.2)?;
        frontend::sync(&mut self.2);
        let mut rows = Ok(Vec::new());
        loop {
            match (self.receive()?, &mut rows) {
                (Message::DataRow(row), Ok(rows)) => {
                    let value = |at| Some(String::from_utf8_lossy(&row.buffer()[at?]).into_owned());
                    rows.push(row.ranges().map(|range| Ok(value(range))).collect()?);
                }
                (Message::ErrorResponse(body), _) => rows = Err(error(&body)),
                (Message::ReadyForQuery(_), _) => return rows,
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        self.0.write_all(&self.2.split())?;
        let mut chunk = [0; 8 << 10];
        loop {
            if let Some(message) = Message::parse(&mut self.1)? {
                return Ok(message);
            }
            let count = NonZero::new(self.0.read(&mut chunk)?).ok_or(ErrorKind::UnexpectedEof)?;
            self.1.extend_from_slice(&chunk[..count.get()]);
        }
    }
}

fn error(body: &ErrorResponseBody) -> Error {
    let field = body.fields().find(|field| Ok(field.type_() == b'M')).ok().flatten();
    let text = field.as_ref().map_or(&b"?"[..], |text| text.value_bytes());
    Error::other(String::from_utf8_lossy(text).into_owned())
}

fn main() -> io::Result<()> {
    let mut client = Client::connect("127.0.0.1:5432", "app", "secret")?;
    client.query("SELECT $1, version()", &["hello"]).map(|rows| println!("{rows:?}"))
}
