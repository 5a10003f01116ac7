//! One program for two libraries, by an alias: a key-value store, served to threads by threads.
//!
//!     cargo run --example port_from_std
//!     rustc --edition 2024 --cfg on_std examples/port_from_std.rs && ./port_from_std

#[cfg(not(on_std))]
use cosocket as rt;
#[cfg(on_std)]
use std as rt;

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::{collections::BTreeMap, time::Duration};

use rt::net::{SocketAddr, TcpListener, TcpStream};
use rt::sync::{Arc, Condvar, Mutex, mpsc};
use rt::thread;

#[derive(Default)]
struct Store {
    values: Mutex<BTreeMap<String, String>>,
    changed: Condvar,
}

/// Answers `set KEY VALUE`, `get KEY`, and `wait KEY MILLISECONDS`, which waits for a value.
fn serve(stream: &TcpStream, store: &Store) -> io::Result<()> {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let mut values = store.values.lock().unwrap();
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["set", key, value] => drop(values.insert(key.into(), value.into())),
            ["wait", key, limit] => {
                let limit = Duration::from_millis(limit.parse().map_err(io::Error::other)?);
                let is_missing = |values: &mut BTreeMap<_, _>| !values.contains_key(key);
                values = store.changed.wait_timeout_while(values, limit, is_missing).unwrap().0;
            }
            ["get", _] => {}
            _ => return Err(ErrorKind::InvalidInput.into()), // closes the connection
        }
        store.changed.notify_all();
        let key = line.split(' ').nth(1).unwrap_or_default();
        let answer = values.get(key).cloned().unwrap_or("none".into());
        drop(values);
        writeln!({ stream }, "{answer}")?;
    }
    Ok(())
}

fn ask(address: SocketAddr, question: &str) -> io::Result<String> {
    let stream = TcpStream::connect(address)?;
    writeln!({ &stream }, "{question}")?;
    BufReader::new(stream).lines().next().unwrap_or(Err(ErrorKind::UnexpectedEof.into()))
}

/// What happened, a line for each thing.
pub fn program() -> io::Result<Vec<String>> {
    let (listener, store) = (TcpListener::bind("127.0.0.1:0")?, Arc::new(Store::default()));
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let store = Arc::clone(&store);
            thread::spawn(move || serve(&stream, &store));
        }
    });
    let (sender, answers) = mpsc::channel();
    for n in 0..100 {
        let sender = sender.clone();
        thread::spawn(move || sender.send((n, ask(address, &format!("wait {n} 60000")))));
    }
    (0..100).try_for_each(|n| ask(address, &format!("set {n} {}", n * n)).map(drop))?;
    let answers: BTreeMap<_, _> = answers.iter().take(100).collect();
    let mut said = answers.into_values().collect::<Result<Vec<_>, _>>()?;
    said.push(format!("in vain: {}", ask(address, "wait nothing 20")?));
    said.push(format!("nonsense: {:?}", ask(address, "sing").unwrap_err().kind()));
    let panic = thread::spawn(|| panic!("oh")).join().unwrap_err().downcast::<&str>();
    said.push(format!("panic: {panic:?}"));
    Ok(said)
}

fn main() -> io::Result<()> {
    program().map(|said| println!("{}", said.join("\n")))
}
