//! A server with rules, limits and an orderly end: it sends lines back, in capitals.
//!
//! ```text
//! cargo run --release --example server -- 127.0.0.1:7000 127.0.0.0/8
//! nc 127.0.0.1 7000
//! ```
//!
//! The arguments after the address are networks whose clients may come; nobody else does. Ctrl-C
//! ends it: whoever is being served has ten seconds to finish.

use std::io::{self, BufRead, BufReader, Write};
use std::process::exit;
use std::time::Duration;

use cosocket::server::{Cidr, Connection, Peers, Server, WhenFull};
use cosocket::signal;
use cosocket::time::timeout;

const IDLE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| usage("no address"));
    let networks: Result<Vec<Cidr>, _> = arguments.map(|network| network.parse()).collect();
    let networks = networks.unwrap_or_else(|error| usage(&error.to_string()));
    cosocket::run(|| {
        let mut server = Server::new()
            .listen(address)
            .max_connections(10_000, WhenFull::Wait)
            .on_event(|event| eprintln!("{event}"));
        if !networks.is_empty() {
            server = networks.into_iter().fold(server, Server::allow).deny(Peers::All);
        }
        let server = server.start(serve)?;
        for address in server.addresses() {
            println!("listening on {address}");
        }
        signal::ctrl_c()?;
        println!("{} connections, the last ones", server.connections());
        let end = server.shutdown(PATIENCE);
        println!("{} were cut short", end.cancelled);
        end.stragglers.iter().for_each(|straggler| println!("still there: {straggler}"));
        Ok(())
    })
}

fn serve(connection: Connection) -> io::Result<()> {
    let mut lines = BufReader::new(&connection);
    loop {
        // A line that is begun is served, whatever ends. Between lines anything may.
        if lines.buffer().is_empty() && !timeout(IDLE, || connection.wait_request())?? {
            return Ok(());
        }
        let mut line = String::new();
        lines.read_line(&mut line)?;
        (&connection).write_all(line.to_uppercase().as_bytes())?;
    }
}

fn usage(error: &str) -> ! {
    eprintln!("{error}\nusage: server ADDRESS [NETWORK]...");
    exit(2);
}
