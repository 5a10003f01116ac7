//! A keepalive pool against Redis: many coroutines, few connections.
//!
//! ```sh
//! redis-server --port 7010 --save ''
//! cargo run --example redis_pool -- 127.0.0.1:7010
//! ```

use std::io;
use std::time::{Duration, Instant};

use cosocket::{Cosocket, Error, ErrorKind, Pool, PoolMetrics, PoolOptions, thread};

const CLIENTS: usize = 100;
const QUERIES: usize = 100;

/// One command and its answer, of those kinds that are one line or one string.
fn ask(redis: &Cosocket, command: &[&str]) -> Result<Option<Vec<u8>>, Error> {
    let words: Vec<_> =
        command.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    redis.send((format!("*{}\r\n", command.len()), words))?;
    let line = redis.receive_line()?;
    let text = String::from_utf8_lossy(&line);
    match text.split_at_checked(1) {
        Some(("+" | ":", rest)) => Ok(Some(rest.into())),
        Some(("$", "-1")) => Ok(None),
        Some(("$", length)) => {
            let length: usize = length.parse().map_err(|_| ErrorKind::Protocol)?;
            let mut data = redis.receive_exact(length + 2)?;
            data.truncate(length);
            Ok(Some(data))
        }
        _ => Err(io::Error::other(text).into()),
    }
}

fn client(pool: &Pool, address: &str, number: usize) -> Result<(), Error> {
    let (key, value) = (format!("key {number}"), format!("value {number}"));
    for _ in 0..QUERIES {
        // An idle connection, a new one, or a wait for whichever comes first.
        let redis = pool.connect(address)?;
        ask(&redis, &["SET", &key, &value])?;
        assert_eq!(ask(&redis, &["GET", &key])?.as_deref(), Some(value.as_bytes()));
        // On every other path it is closed when it is dropped, and its place is free.
        redis.set_keepalive(None, None)?;
    }
    Ok(())
}

/// All that the example does.
pub fn program(address: &str) -> io::Result<PoolMetrics> {
    let options = PoolOptions::new()
        .size(10)
        .backlog(CLIENTS)
        .max_age(Duration::from_secs(300), Duration::from_secs(30))
        .on_create(|redis| Ok(ask(redis, &["CLIENT", "SETNAME", "pool"]).map(drop)?));
    let pool = Pool::new("redis", &options)?;
    pool.warm_up(address, 5)?;
    thread::scope(|scope| {
        let start = |number| {
            let pool = &pool;
            scope.spawn(move || client(pool, address, number))
        };
        let clients: Vec<_> = (0..CLIENTS).map(start).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("no client panics"))
    })?;
    Ok(pool.metrics())
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:6379".into());
    let start = Instant::now();
    let metrics = cosocket::run(|| program(&address))?;
    println!("{} commands in {:.0?}", CLIENTS * QUERIES * 2, start.elapsed());
    println!("hits {}, misses {}, waited {}", metrics.hits, metrics.misses, metrics.waited);
    println!("opened {}, idle {}", metrics.opened, metrics.idle);
    Ok(())
}
