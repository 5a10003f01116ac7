//! Receives records that end with `--abc`, in chunks of four bytes, and answers with a chunk a line.
//! The delimiter is found though no chunk has it whole, and no more of a record than four bytes
//! and the delimiter is ever in memory.
//!
//! ```text
//! cargo run --release --example receive_until [ADDRESS]
//! printf 'hello, world ----abcone more--abc' | nc -N 127.0.0.1 7002
//! ```

use cosocket::net::TcpListener;
use cosocket::{Cosocket, Error, ErrorKind, spawn};

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7002".into());
    let listener = TcpListener::bind(&*address)?;
    println!("records on {}", listener.local_addr()?);
    loop {
        let socket = Cosocket::from(listener.accept()?.0);
        spawn(move || match answer(&socket) {
            Err(error) if error.kind() != ErrorKind::Closed => println!("{error}"),
            _ => {}
        });
    }
}

fn answer(socket: &Cosocket) -> Result<(), Error> {
    let mut records = socket.receive_until("--abc")?;
    loop {
        // `None` ends a record; the end of the stream is the error `Closed`.
        while let Some(chunk) = records.chunk(4)? {
            socket.send(("chunk: ", chunk, "\n"))?;
        }
        socket.send("end of a record\n")?;
    }
}
