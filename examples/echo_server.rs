//! An echo server: `std`'s, with its `use` lines changed.
//!
//! ```text
//! cargo run --release --example echo_server
//! nc 127.0.0.1 7000
//! ```

use std::io::{self, Read, Write};

use cosocket::net::TcpListener; // was: use std::net::TcpListener;
use cosocket::thread; // was: use std::thread;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:7000")?;
    println!("echo server on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || -> io::Result<()> {
            let mut buffer = [0; 4096];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    n => stream.write_all(&buffer[..n])?,
                }
            }
        });
    }
    Ok(())
}
