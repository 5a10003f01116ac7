//! A DNS client: the messages are hickory-proto's, the sockets cosocket's.
//!
//!     dnsmasq -k -p 5353 -a 127.0.0.1 -h -R -A /shop.test/192.0.2.1 -A /mail.test/192.0.2.2
//!     cargo run -p cosocket-interop --example dns_client -- 127.0.0.1:5353 shop.test mail.test

use std::error::Error;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use cosocket::net::TcpStream;
use cosocket::thread;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Asks one server over one TCP connection, where each message has its length before it.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub fn connect(server: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&server, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream })
    }

    pub fn ask(&mut self, name: &str, kind: RecordType) -> Result<Message> {
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(Name::from_utf8(name)?, kind));
        let bytes = question.to_vec()?;
        let mut framed = u16::try_from(bytes.len())?.to_be_bytes().to_vec();
        framed.extend(bytes);
        self.stream.write_all(&framed)?;

        let mut length = [0; 2];
        self.stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        self.stream.read_exact(&mut answer)?;
        let answer = Message::from_vec(&answer)?;
        if answer.metadata.id != question.metadata.id || answer.queries != question.queries {
            return Err("an answer to another question".into());
        }
        Ok(answer)
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or("127.0.0.1:5353".into()).parse()?;
    let look_up = move |name: String| -> Result<()> {
        for kind in [RecordType::A, RecordType::AAAA, RecordType::MX] {
            for record in Client::connect(server)?.ask(&name, kind)?.answers {
                println!("{record}");
            }
        }
        Ok(())
    };
    let look_ups: Vec<_> = arguments.map(|name| thread::spawn(move || look_up(name))).collect();
    look_ups.into_iter().try_for_each(|look_up| look_up.join().unwrap())
}
