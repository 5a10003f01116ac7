//! Asks a name server for the IPv4 addresses of a host: a question put together by hand, sent over
//! a datagram cosocket. (The feature `dns` has a resolver that does all of it; see `resolve`.)
//!
//! ```text
//! dnsmasq -k -p 5353 -a 127.0.0.1 -h -R -A /shop.test/192.0.2.1
//! cargo run --release --example udp_resolver -- 127.0.0.1:5353 shop.test
//! ```

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use cosocket::{ErrorKind, UdpCosocket};

const ATTEMPTS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(host)) = (arguments.next(), arguments.next()) else {
        return Err("usage: udp_resolver SERVER:PORT HOST".into());
    };
    for address in cosocket::run(|| look_up(&server, &host).map_err(|e| e.to_string()))? {
        println!("{address}");
    }
    Ok(())
}

/// What the answers say that carry the id of the question.
fn look_up(server: &str, host: &str) -> Result<Vec<Ipv4Addr>, Box<dyn Error>> {
    let socket = UdpCosocket::new();
    socket.set_peer_name(server)?;
    socket.set_timeout(Duration::from_secs(2))?;
    let question = question(host);
    for _ in 0..ATTEMPTS {
        socket.send(&question)?;
        loop {
            match socket.receive(512) {
                Ok(answer) if answer.get(..2) == question.get(..2) => {
                    return addresses(&answer, question.len()).ok_or("a malformed answer".into());
                }
                Ok(_) => {} // To an earlier question, or a forgery.
                Err(error) if error.kind() == ErrorKind::Timeout => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Err("no answer".into())
}

/// RFC 1035, section 4.1: a header, and one question. (A real resolver takes an id that cannot be
/// guessed.)
fn question(host: &str) -> Vec<u8> {
    let id = std::process::id() as u16;
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in host.trim_end_matches('.').split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The records after header and question, of which those of type A are kept.
fn addresses(message: &[u8], mut at: usize) -> Option<Vec<Ipv4Addr>> {
    let count = u16::from_be_bytes([*message.get(6)?, *message.get(7)?]);
    let mut addresses = Vec::new();
    for _ in 0..count {
        while !matches!(message.get(at)?, 0 | 0xc0..) {
            at += 1 + usize::from(message[at]);
        }
        at += if message[at] == 0 { 1 } else { 2 }; // A name ends, or goes on elsewhere.
        let record = message.get(at..at + 10)?;
        let data =
            message.get(at + 10..)?.get(..u16::from_be_bytes([record[8], record[9]]).into())?;
        addresses.extend(<[u8; 4]>::try_from(data).ok().filter(|_| record[..2] == [0, 1]));
        at += 10 + data.len();
    }
    Some(addresses.into_iter().map(Ipv4Addr::from).collect())
}
