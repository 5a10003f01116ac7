//! An MQTT client: the packets are mqttbytes', the sockets cosocket's. One coroutine publishes
//! while another reads from the same connection.
//!
//!     mosquitto -p 1883
//!     cargo run -p cosocket-interop --example mqtt_client

use std::io::{self, ErrorKind, Read, Write};

use bytes::BytesMut;
use cosocket::net::{TcpStream, ToSocketAddrs};
use mqttbytes::v4::{Connect, Packet, PubAck, Publish, Subscribe, SubscribeFilter};
use mqttbytes::{Error, QoS::AtLeastOnce};

pub struct Client(TcpStream, BytesMut); // and what came and was not read yet

impl Client {
    pub fn connect(address: impl ToSocketAddrs, name: &str) -> io::Result<Client> {
        let mut client = Client(TcpStream::connect(address)?, BytesMut::new());
        client.0.set_nodelay(true)?;
        client.send(|to| Connect::new(name).write(to))?;
        client.receive().map(|_| client)
    }

    pub fn subscribe(&mut self, topic: &str) -> io::Result<()> {
        let filters = vec![SubscribeFilter::new(topic.to_owned(), AtLeastOnce)];
        self.send(|to| Subscribe { pkid: 1, filters }.write(to))?;
        self.receive().map(drop)
    }

    /// For another coroutine: one may publish while the other receives.
    pub fn try_clone(&self) -> io::Result<Client> {
        Ok(Client(self.0.try_clone()?, BytesMut::new()))
    }

    /// The broker answers with a `PubAck` of this number.
    pub fn publish(&mut self, number: u16, topic: &str, payload: &[u8]) -> io::Result<()> {
        let publish = Publish::new(topic, AtLeastOnce, payload);
        self.send(|to| Publish { pkid: number, ..publish }.write(to))
    }

    pub fn acknowledge(&mut self, publish: &Publish) -> io::Result<()> {
        self.send(|to| PubAck::new(publish.pkid).write(to))
    }

    fn send(&mut self, f: impl FnOnce(&mut BytesMut) -> Result<usize, Error>) -> io::Result<()> {
        let mut packet = BytesMut::new();
        f(&mut packet).map_err(|error| io::Error::other(error.to_string()))?;
        self.0.write_all(&packet)
    }

    pub fn receive(&mut self) -> io::Result<Packet> {
        loop {
            match mqttbytes::v4::read(&mut self.1, 1 << 20) {
                Err(Error::InsufficientBytes(_)) => {}
                result => return result.map_err(|error| io::Error::other(error.to_string())),
            }
            let mut chunk = [0; 8 << 10];
            match self.0.read(&mut chunk)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.1.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

fn main() -> io::Result<()> {
    let mut reader = Client::connect("127.0.0.1:1883", "example")?;
    reader.subscribe("example/#")?;
    let mut writer = reader.try_clone()?;
    cosocket::spawn(move || (1..=9).try_for_each(|n| writer.publish(n, "example/n", b"hello")));
    for _ in 0..18 {
        println!("{:?}", reader.receive()?);
    }
    Ok(())
}
