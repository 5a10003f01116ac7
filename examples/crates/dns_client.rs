//! A DNS client: hickory-proto's messages, cosocket's sockets. Over UDP, and by TCP what is long.
//!
//!     dnsmasq -k -p 5353 -a 127.0.0.1 -h -R -A /shop.test/192.0.2.1 -A /mail.test/192.0.2.2
//!     cargo run -p cosocket-interop --example dns_client -- 127.0.0.1:5353 shop.test mail.test

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use cosocket::net::{TcpStream, UdpSocket};
use cosocket::thread;
use cosocket::time::{Duration, timeout};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Asks one server.
pub fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Result<Message> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_utf8(name)?, kind));
    let bytes = question.to_vec()?;
    let answer = timeout(Duration::from_secs(10), || over_udp(server, &question, &bytes))??;
    match answer.metadata.truncation {
        true => timeout(Duration::from_secs(10), || over_tcp(server, &bytes))?,
        false => Ok(answer),
    }
}

/// Asks again each second, for datagrams get lost.
fn over_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut buffer = [0; 1232];
    loop {
        socket.send(bytes)?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let answer = Message::from_vec(&buffer[..length])?;
                if answer.metadata.id == question.metadata.id {
                    return Ok(answer);
                }
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// On a stream each message has its length before it.
fn over_tcp(server: SocketAddr, bytes: &[u8]) -> Result<Message> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(&[&u16::try_from(bytes.len())?.to_be_bytes(), bytes].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Ok(Message::from_vec(&answer)?)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().ok_or("usage: dns_client SERVER NAME...")?.parse()?;
    let ask = |name: String| thread::spawn(move || ask(server, &name, RecordType::A));
    for answer in arguments.map(ask).collect::<Vec<_>>() {
        answer.join().unwrap()?.answers.iter().for_each(|record| println!("{record}"));
    }
    Ok(())
}
