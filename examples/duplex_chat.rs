//! A chat over one connection, in full duplex: one coroutine receives while another sends.
//!
//! ```text
//! cargo run --release --example duplex_chat -- listen 127.0.0.1:7000
//! cargo run --release --example duplex_chat -- connect 127.0.0.1:7000
//! ```
//!
//! What is typed at one end appears at the other. Ctrl-D ends one direction, and the other goes on.

use std::env;
use std::io;
use std::net::Shutdown;
use std::process::exit;

use cosocket::io::stdin;
use cosocket::net::TcpListener;
use cosocket::{Cosocket, ErrorKind, thread};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [mode, address] = arguments.try_into().unwrap_or_else(|_| {
        eprintln!("usage: duplex_chat listen|connect ADDRESS");
        exit(2);
    });
    cosocket::run(|| {
        let socket = match mode.as_str() {
            "listen" => {
                let listener = TcpListener::bind(address)?;
                eprintln!("listening on {}", listener.local_addr()?);
                Cosocket::from(listener.accept()?.0)
            }
            _ => cosocket::connect(&address)?,
        };
        eprintln!("talking to {}", socket.peer_addr()?);
        // People think for longer than a minute.
        socket.set_timeout(std::time::Duration::MAX)?;
        thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&socket));
            send(&socket)?;
            receiver.join().expect("no panic")
        })
    })
}

fn receive(socket: &Cosocket) -> io::Result<()> {
    loop {
        match socket.receive_line() {
            Ok(line) => println!("> {}", String::from_utf8_lossy(&line)),
            Err(error) if error.kind() == ErrorKind::Closed => break,
            Err(error) => return Err(error.into()),
        }
    }
    eprintln!("the other side has ended");
    Ok(())
}

fn send(socket: &Cosocket) -> io::Result<()> {
    let mut line = String::new();
    while stdin().read_line(&mut line)? != 0 {
        socket.send(&line)?;
        line.clear();
    }
    // Both halves over is the end of the connection.
    match socket.shutdown(Shutdown::Write) {
        Err(error) if error.kind() != ErrorKind::Closed => Err(error.into()),
        _ => Ok(()),
    }
}
