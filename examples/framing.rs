//! An echo server of packets: four bytes of length, most significant first, and so many bytes. A
//! client that announces more than a megabyte is told so and sent away, before it costs memory.
//!
//! ```text
//! cargo run --release --example framing [ADDRESS]
//! printf '\0\0\0\005hello\0\0\0\002ho' | nc -N 127.0.0.1 7003 | hexdump -C
//! ```

use std::time::Duration;

use cosocket::framing::{ByteOrder, LengthField, LengthPrefixed};
use cosocket::net::TcpListener;
use cosocket::{Cosocket, Error, ErrorKind, spawn};

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7003".into());
    let listener = TcpListener::bind(&*address)?;
    println!("packets on {}", listener.local_addr()?);
    loop {
        let socket = Cosocket::from(listener.accept()?.0);
        spawn(move || serve(&socket));
    }
}

fn serve(socket: &Cosocket) -> Result<(), Error> {
    let framing = LengthPrefixed::new(LengthField::U32(ByteOrder::Big)).limit(1 << 20);
    socket.set_timeout(Duration::from_secs(10))?;
    loop {
        match socket.receive_packet(&framing) {
            Ok(packet) => socket.send_packet(&framing, packet.body())?,
            // What has come of a packet is kept, so a slow one is waited for.
            Err(error) if error.kind() == ErrorKind::Timeout => continue,
            Err(error) if error.kind() == ErrorKind::Closed => return Ok(()),
            Err(error) => {
                println!("{error}");
                return Err(error);
            }
        };
    }
}
