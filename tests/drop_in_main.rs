//! A `main` without any wrapper: it accepts, spawns, and returns, and the process ends.
//!
//! This file is that program, so it has no test harness (`harness = false`): run without
//! arguments it starts itself as the server, in a process of its own, and checks it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use cosocket::net::TcpListener; // was: use std::net::TcpListener;
use cosocket::thread; // was: use std::thread;

const CLIENTS: usize = 200;

fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("serve") => serve(),
        // A harness is asked for its list by some runners.
        Some("--list") => {
            println!("a_main_without_a_wrapper_serves_and_ends: test");
            Ok(())
        }
        _ => {
            a_main_without_a_wrapper_serves_and_ends();
            println!("test a_main_without_a_wrapper_serves_and_ends ... ok");
            Ok(())
        }
    }
}

/// Nothing in here is not std's.
fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming().take(CLIENTS) {
        let mut stream = stream?;
        thread::spawn(move || -> io::Result<()> {
            let mut buffer = [0; 64];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    count => stream.write_all(&buffer[..count])?,
                }
            }
        });
    }
    // The client says when to end; the connections are still open then, as with threads.
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(())
}

fn a_main_without_a_wrapper_serves_and_ends() {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let mut clients: Vec<_> =
        (0..CLIENTS).map(|_| std::net::TcpStream::connect(address.trim()).unwrap()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&[number as u8]).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut answer = [0];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [number as u8]);
    }
    server.stdin.take().unwrap().write_all(b"end\n").unwrap();
    assert!(server.wait().unwrap().success());
    for client in &mut clients {
        // The end, or a reset: the process is gone either way.
        assert!(!matches!(client.read(&mut [0]), Ok(1..)));
    }
}
