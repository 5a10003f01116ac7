//! What requests share: a dictionary that forgets, and a channel from one request to others.
//!
//! ```text
//! cargo run --release --example shared_state -- 127.0.0.1:7000
//! printf 'set greeting hello\nget greeting\nincr visits\n' | nc -N 127.0.0.1 7000
//! ```
//!
//! `listen` waits for what others `tell`. In place of OpenResty's `ngx.shared.DICT` and
//! lua-resty-lrucache an `LruCache` behind a lock will do: all workers share their memory.

use std::io::{self, BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cosocket::server::{Connection, Server};
use cosocket::sync::{Mutex, broadcast};
use lru::LruCache;

const LIFETIME: Option<Duration> = Some(Duration::from_secs(60));

/// At most so many entries, of which the least recently used go first, and each until its time.
pub(crate) struct Dictionary(Mutex<LruCache<String, (String, Option<Instant>)>>);

impl Dictionary {
    pub(crate) fn new(capacity: usize) -> Dictionary {
        Dictionary(Mutex::new(LruCache::new(NonZeroUsize::new(capacity).expect("room for one"))))
    }

    /// Sets, and says whether another entry had to go for it (OpenResty's `forcible`).
    pub(crate) fn set(&self, key: &str, value: &str, lifetime: Option<Duration>) -> bool {
        let end = lifetime.map(|lifetime| Instant::now() + lifetime);
        let evicted = self.0.lock().unwrap().push(key.into(), (value.into(), end));
        evicted.is_some_and(|(evicted, _)| evicted != key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.0.lock().unwrap().get(key).filter(|entry| is_live(entry)).map(|entry| entry.0.clone())
    }

    /// Adds to a number, which is 0 if there is none. One lock around all: no other comes between.
    pub(crate) fn increment(&self, key: &str, step: i64) -> Option<i64> {
        let mut entries = self.0.lock().unwrap();
        let (old, end) = match entries.get(key).filter(|entry| is_live(entry)) {
            Some((value, end)) => (value.parse::<i64>().ok()?, *end),
            None => (0, None),
        };
        entries.put(key.into(), ((old + step).to_string(), end));
        Some(old + step)
    }
}

fn is_live((_, end): &(String, Option<Instant>)) -> bool {
    end.is_none_or(|end| Instant::now() < end)
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".into());
    let shared = Arc::new((Dictionary::new(1000), broadcast::Sender::new(100)));
    let server = Server::new().listen(address).start(move |client| serve(&client, &shared))?;
    server.addresses().for_each(|address| println!("listening on {address}"));
    server.wait()
}

pub(crate) type Shared = (Dictionary, broadcast::Sender<String>);

pub(crate) fn serve(mut client: &Connection, (dictionary, news): &Shared) -> io::Result<()> {
    for line in BufReader::new(client).lines() {
        let answer = match line?.split(' ').collect::<Vec<_>>()[..] {
            ["set", key, value] => format!("forcible: {}", dictionary.set(key, value, LIFETIME)),
            ["get", key] => format!("{:?}", dictionary.get(key)),
            ["incr", key] => format!("{:?}", dictionary.increment(key, 1)),
            ["tell", word] => format!("told {}", news.send(word.into()).unwrap_or(0)),
            ["listen"] => format!("{:?}", news.subscribe().recv()),
            _ => "set KEY VALUE | get KEY | incr KEY | tell WORD | listen".to_owned(),
        };
        writeln!(client, "{answer}")?;
    }
    Ok(())
}
