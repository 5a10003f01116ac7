//! Looks names up, all at once, with the resolver of the feature `dns`, and connects to the last
//! one if it has a port.
//!
//! ```text
//! cargo run --release --features dns --example resolve -- example.com example.org localhost
//! cargo run --release --features dns --example resolve -- @9.9.9.9 example.com:80
//! ```

use std::error::Error;

use cosocket::dns::{Config, Resolver};
use cosocket::net::TcpBuilder;
use cosocket::thread;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut resolver = Resolver::system();
    if let Some(server) = arguments.first().and_then(|first| first.strip_prefix('@')) {
        let config = Config::parse(&format!("nameserver {server}"));
        resolver = Resolver::builder().config(config).build();
        arguments.remove(0);
    }
    let Some(last) = arguments.last().cloned() else {
        return Err("usage: resolve [@SERVER] NAME... [NAME:PORT]".into());
    };
    cosocket::run(|| {
        thread::scope(|scope| {
            for argument in &arguments {
                let name = argument.split(':').next().unwrap_or_default();
                let resolver = &resolver;
                scope.spawn(move || match resolver.look_up(name) {
                    Ok(addresses) => println!("{name}: {addresses:?}"),
                    Err(error) => println!("{error}"),
                });
            }
        });
        if let Some((name, port)) = last.split_once(':') {
            let stream = resolver.connect(&TcpBuilder::new(), name, port.parse()?)?;
            println!("connected to {}", stream.peer_addr()?);
        }
        println!("{:?}", resolver.metrics());
        Ok(())
    })
}
