//! A UDP echo server with a socket on each worker: the kernel spreads the clients among them.
//!
//! ```text
//! cargo run --release --example udp_echo [ADDRESS]
//! echo hello | nc -u -w1 127.0.0.1 7001
//! ```

use std::io;

use cosocket::net::UdpBuilder;
use cosocket::{Builder, signal};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7001".into());
    let runtime = Builder::new().build()?;
    let mut sockets = UdpBuilder::new().bind_many(&*address, runtime.workers())?;
    println!("udp echo on {}", sockets[0].local_addr()?);
    runtime.spawn_on_each(|_worker| {
        let socket = sockets.pop().expect("one for each");
        move || -> io::Result<()> {
            let mut buffer = vec![0; 65_536];
            loop {
                let (len, client) = socket.recv_from(&mut buffer)?;
                // One that cannot be reached is no reason to stop.
                let _ = socket.send_to(&buffer[..len], client);
            }
        }
    });
    runtime.run(signal::ctrl_c)
}
