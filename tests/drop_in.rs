//! A program written for std becomes ours by its `use` lines: one body, both sets of lines.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

macro_rules! echo_server {
    ($name:ident, $($use_line:item)+) => {
        mod $name {
            use std::io::{self, Read, Write};
            $($use_line)+

            /// Accepts on the thread that calls it and gives each connection a thread.
            pub fn serve(
                connections: usize,
                tell: impl FnOnce(std::net::SocketAddr),
            ) -> io::Result<u64> {
                let listener = TcpListener::bind(("127.0.0.1", 0))?;
                tell(listener.local_addr()?);
                let mut workers = Vec::new();
                for stream in listener.incoming().take(connections) {
                    let mut stream = stream?;
                    workers.push(thread::spawn(move || -> io::Result<u64> {
                        stream.set_nodelay(true)?;
                        let (mut buffer, mut echoed) = ([0; 1024], 0);
                        loop {
                            match stream.read(&mut buffer)? {
                                0 => return Ok(echoed),
                                count => stream.write_all(&buffer[..count])?,
                            }
                            echoed += 1;
                        }
                    }));
                }
                let mut echoed = 0;
                for worker in workers {
                    echoed += worker.join().expect("no panic")?;
                }
                Ok(echoed)
            }
        }
    };
}

echo_server! { of_std, use std::net::TcpListener; use std::thread; }
echo_server! { of_cosocket, use cosocket::net::TcpListener; use cosocket::thread; }

const CLIENTS: usize = 200;

/// Holds 200 connections at once, sends on each, reads all back.
fn drive(address: SocketAddr) {
    let mut clients: Vec<_> =
        (0..CLIENTS).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    for round in 0..3_u8 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&[round, number as u8, 255]).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let mut answer = [0; 3];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [round, number as u8, 255]);
        }
    }
    for client in &mut clients {
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}

/// A server for so many clients that tells its address when it listens; the bytes it has echoed.
type Serve = fn(usize, Box<dyn FnOnce(SocketAddr)>) -> std::io::Result<u64>;

fn check(serve: Serve) {
    let (tell, address) = std::sync::mpsc::channel();
    let driver = std::thread::spawn(move || drive(address.recv().unwrap()));
    let echoed = serve(CLIENTS, Box::new(move |address| tell.send(address).unwrap()));
    assert!(echoed.unwrap() >= 3 * CLIENTS as u64);
    driver.join().unwrap();
}

#[test]
fn the_server_on_std() {
    check(of_std::serve);
}

#[test]
fn the_server_on_cosocket_with_the_accept_loop_on_a_plain_thread() {
    check(of_cosocket::serve);
}

#[test]
fn the_server_on_cosocket_inside_a_coroutine() {
    let (tell, address) = std::sync::mpsc::channel();
    let driver = std::thread::spawn(move || drive(address.recv().unwrap()));
    let echoed =
        cosocket::run(move || of_cosocket::serve(CLIENTS, |address| tell.send(address).unwrap()));
    assert!(echoed.unwrap() >= 3 * CLIENTS as u64);
    driver.join().unwrap();
}
