//! A TCP proxy: whoever connects here is connected there, and both ends are passed on.
//!
//! ```text
//! cargo run --release --example tcp_proxy -- 127.0.0.1:7000 example.org:80
//! curl --header 'Host: example.org' http://127.0.0.1:7000/
//! ```
//!
//! Ctrl-C ends it: no more connections are taken, and those that are open come to their end.

use std::env;
use std::process::exit;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{io, signal, thread};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, target] = arguments.try_into().unwrap_or_else(|_| {
        eprintln!("usage: tcp_proxy LISTEN_ADDRESS TARGET_ADDRESS");
        exit(2);
    });
    cosocket::run(|| {
        let listener = TcpListener::bind(address)?;
        println!("proxy on {}", listener.local_addr()?);
        let acceptor = thread::spawn(move || {
            for client in listener.incoming() {
                let target = target.clone();
                match client {
                    Ok(client) => drop(thread::spawn(move || report(&client, &target))),
                    Err(error) => {
                        // Out of descriptors, most likely: some are given back in a while.
                        eprintln!("accept: {error}");
                        thread::sleep(std::time::Duration::from_millis(100));
                    }
                }
            }
        });
        signal::ctrl_c()?;
        acceptor.cancel();
        Ok(())
    })
}

fn report(client: &TcpStream, target: &str) {
    let peer = client.peer_addr().map_or_else(|error| error.to_string(), |peer| peer.to_string());
    match serve(client, target) {
        Ok((there, back)) => println!("{peer}: {there} bytes there, {back} back"),
        Err(error) => println!("{peer}: {error}"),
    }
}

fn serve(client: &TcpStream, target: &str) -> io::Result<(u64, u64)> {
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok(io::copy_bidirectional(client, &server)?)
}
