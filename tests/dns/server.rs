//! A name server that says what the test tells it to, by UDP and TCP: on threads of its own, with
//! std's sockets, and messages put together by hand.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;

pub const SERVER_FAILURE: u8 = 2;
pub const NO_SUCH_NAME: u8 = 3;
pub const REFUSED: u8 = 5;

/// One question that came.
#[derive(Clone, Debug)]
pub struct Ask {
    pub bytes: Vec<u8>,
    /// As it was written, without the dot at the end.
    pub name: String,
    pub kind: u16,
    pub by_tcp: bool,
    pub from: SocketAddr,
}

/// How to answer.
pub struct Link<'a> {
    send: &'a dyn Fn(&[u8]),
    elsewhere: &'a dyn Fn(&[u8]),
}

impl Link<'_> {
    pub fn send(&self, message: impl AsRef<[u8]>) {
        (self.send)(message.as_ref());
    }

    /// From another port.
    pub fn send_from_elsewhere(&self, message: impl AsRef<[u8]>) {
        (self.elsewhere)(message.as_ref());
    }
}

/// Its threads end with the process.
pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Ask>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Ask, &Link<'_>) + Send + Sync + 'static) -> Server {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let (log, by_udp) = (Arc::clone(&asked), Arc::clone(&answer));
        thread::spawn(move || serve_datagrams(&udp, &log, &*by_udp));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || serve_stream(stream.unwrap(), &log, &*answer));
            }
        });
        Server { address, asked }
    }

    /// One that answers nothing.
    pub fn silent() -> Server {
        Server::start(|_, _| ())
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Ask> {
        self.asked.lock().unwrap().clone()
    }

    /// How many questions by UDP, how many by TCP.
    pub fn counts(&self) -> (usize, usize) {
        let asked = self.asked();
        let by_tcp = asked.iter().filter(|ask| ask.by_tcp).count();
        (asked.len() - by_tcp, by_tcp)
    }
}

fn serve_datagrams(udp: &UdpSocket, log: &Mutex<Vec<Ask>>, answer: &dyn Fn(&Ask, &Link<'_>)) {
    let mut buffer = [0; 65_536];
    loop {
        // Who asked may be gone, and the kernel tells of that here.
        let Ok((len, from)) = udp.recv_from(&mut buffer) else { continue };
        let ask = Ask::read(&buffer[..len], false, from);
        log.lock().unwrap().push(ask.clone());
        let send = |message: &[u8]| drop(udp.send_to(message, from));
        let elsewhere = |message: &[u8]| {
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(message, from).unwrap();
        };
        answer(&ask, &Link { send: &send, elsewhere: &elsewhere });
    }
}

fn serve_stream(stream: TcpStream, log: &Mutex<Vec<Ask>>, answer: &dyn Fn(&Ask, &Link<'_>)) {
    let from = stream.peer_addr().unwrap();
    let mut len = [0; 2];
    while (&stream).read_exact(&mut len).is_ok() {
        let mut bytes = vec![0; u16::from_be_bytes(len).into()];
        (&stream).read_exact(&mut bytes).unwrap();
        let ask = Ask::read(&bytes, true, from);
        log.lock().unwrap().push(ask.clone());
        // Whoever dribbles sends what is no message.
        let send = |message: &[u8]| drop((&stream).write_all(message));
        answer(&ask, &Link { send: &send, elsewhere: &|_| unreachable!() });
    }
}

impl Ask {
    fn read(bytes: &[u8], by_tcp: bool, from: SocketAddr) -> Ask {
        let (mut labels, mut at) = (Vec::new(), 12);
        while bytes[at] != 0 {
            let label = &bytes[at + 1..][..bytes[at].into()];
            labels.push(String::from_utf8(label.to_vec()).unwrap());
            at += 1 + label.len();
        }
        let kind = u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]);
        Ask { bytes: bytes.to_vec(), name: labels.join("."), kind, by_tcp, from }
    }

    pub fn has_edns(&self) -> bool {
        self.bytes[11] == 1
    }

    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// An answer of no records, whose response code is `code`.
    pub fn reply(&self, code: u8) -> Vec<u8> {
        let name: usize = self.name.split('.').map(|label| label.len() + 1).sum();
        let mut reply = self.bytes[..12 + name + 1 + 4].to_vec();
        (reply[2], reply[3]) = (0x81, 0x80 | code);
        reply[6..12].fill(0);
        reply
    }

    /// An answer of these records.
    pub fn say(&self, answers: &[Vec<u8>]) -> Vec<u8> {
        let mut reply = self.reply(0);
        reply[7] = answers.len() as u8;
        reply.extend(answers.concat());
        reply
    }

    /// That there is nothing, for so long.
    pub fn deny(&self, code: u8, zone: &str, seconds: u32) -> Vec<u8> {
        let mut reply = self.reply(code);
        reply[9] = 1;
        let numbers = [1, 2, 3, 4, seconds].map(u32::to_be_bytes).concat();
        let data = [wire(&format!("ns.{zone}")), wire(&format!("root.{zone}")), numbers].concat();
        reply.extend(record(zone, SOA, seconds, &data));
        reply
    }

    /// The one address, if it is of the family that was asked for.
    pub fn point_to(&self, ip: &str) -> Vec<u8> {
        match (self.kind, ip.parse().unwrap()) {
            (A, IpAddr::V4(_)) | (AAAA, IpAddr::V6(_)) => self.say(&[address(&self.name, 60, ip)]),
            _ => self.deny(0, "test", 60),
        }
    }
}

/// With its length before it, as TCP has it.
pub fn framed(message: Vec<u8>) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message.as_slice()].concat()
}

pub fn with_id(mut message: Vec<u8>, id: u16) -> Vec<u8> {
    message[..2].copy_from_slice(&id.to_be_bytes());
    message
}

pub fn truncated(mut message: Vec<u8>) -> Vec<u8> {
    message[2] |= 2;
    message
}

pub fn record(name: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = wire(name);
    bytes.extend([kind, 1].map(u16::to_be_bytes).concat());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

pub fn address(name: &str, ttl: u32, ip: &str) -> Vec<u8> {
    match ip.parse().unwrap() {
        IpAddr::V4(ip) => record(name, A, ttl, &ip.octets()),
        IpAddr::V6(ip) => record(name, AAAA, ttl, &ip.octets()),
    }
}

pub fn alias(name: &str, ttl: u32, target: &str) -> Vec<u8> {
    record(name, CNAME, ttl, &wire(target))
}

pub fn wire(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[label.len() as u8], label.as_bytes()].concat();
    let mut bytes = name.split('.').flat_map(label).collect::<Vec<_>>();
    bytes.push(0);
    bytes
}
