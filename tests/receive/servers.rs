//! Redis and memcached, spoken to with lines and sizes. Where one is not installed its test says
//! that it was skipped; in CI that is a failure.

use std::net::SocketAddr;

use cosocket::{Cosocket, Error, Text, thread};

use crate::peers;

/// One reply of Redis's protocol.
#[derive(Debug, PartialEq)]
enum Reply {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

fn number(digits: &[u8]) -> i64 {
    std::str::from_utf8(digits).unwrap().parse().unwrap()
}

fn read_reply(socket: &Cosocket) -> Result<Reply, Error> {
    let line = socket.receive_line()?;
    let (&kind, rest) = line.split_first().expect("a line that says what comes");
    Ok(match kind {
        b'+' => Reply::Simple(rest.to_vec()),
        b'-' => Reply::Error(rest.to_vec()),
        b':' => Reply::Integer(number(rest)),
        b'$' => match number(rest) {
            -1 => Reply::Bulk(None),
            len => {
                let bulk = socket.receive_exact(len as usize)?;
                assert_eq!(socket.receive_exact(2)?, b"\r\n");
                Reply::Bulk(Some(bulk))
            }
        },
        b'*' => {
            Reply::Array((0..number(rest)).map(|_| read_reply(socket)).collect::<Result<_, _>>()?)
        }
        other => panic!("a reply of kind {other}"),
    })
}

fn command(socket: &Cosocket, words: &[&[u8]]) -> Result<Reply, Error> {
    let words: Vec<_> =
        words.iter().map(|word| ("$", Text(word.len()), "\r\n", *word, "\r\n")).collect();
    socket.send(("*", Text(words.len()), "\r\n", words))?;
    read_reply(socket)
}

fn value(client: usize, number: usize) -> Vec<u8> {
    (0..number * number * 13).map(|at| (at * 31 + client * 7) as u8).collect()
}

#[test]
fn redis_by_lines_and_sizes() {
    let Some(server) = peers::redis() else { return };
    at_once(server.address, |client, socket| {
        assert_eq!(command(socket, &[b"PING"])?, Reply::Simple(b"PONG".to_vec()));
        for number in 0..40 {
            let key = format!("{client}:{number}");
            let value = value(client, number);
            let reply = command(socket, &[b"SET", key.as_bytes(), &value])?;
            assert_eq!(reply, Reply::Simple(b"OK".to_vec()));
            assert_eq!(command(socket, &[b"GET", key.as_bytes()])?, Reply::Bulk(Some(value)));
        }
        assert_eq!(command(socket, &[b"GET", b"nothing"])?, Reply::Bulk(None));
        let Reply::Error(text) = command(socket, &[b"NONSENSE"])? else { panic!("no error") };
        assert!(text.starts_with(b"ERR unknown command"));
        let list = format!("list:{client}");
        for number in 0..300_i64 {
            let digits = number.to_string();
            let reply = command(socket, &[b"RPUSH", list.as_bytes(), digits.as_bytes()])?;
            assert_eq!(reply, Reply::Integer(number + 1));
        }
        let items = (0..300).map(|number| Reply::Bulk(Some(number.to_string().into_bytes())));
        let reply = command(socket, &[b"LRANGE", list.as_bytes(), b"0", b"-1"])?;
        assert_eq!(reply, Reply::Array(items.collect()));
        Ok(())
    });
}

#[test]
fn memcached_by_lines_and_sizes() {
    let Some(server) = peers::memcached() else { return };
    at_once(server.address, |client, socket| {
        for number in 0..40 {
            let (key, value) = (format!("{client}:{number}"), value(client, number));
            socket.send(("set ", &key, " 7 0 ", Text(value.len()), "\r\n", &value, "\r\n"))?;
            assert_eq!(socket.receive_line()?, b"STORED");
            socket.send(("get ", &key, "\r\n"))?;
            let header = format!("VALUE {key} 7 {}", value.len());
            assert_eq!(socket.receive_line()?, header.as_bytes());
            assert_eq!(socket.receive_exact(value.len())?, value);
            assert_eq!(socket.receive_line()?, b"");
            assert_eq!(socket.receive_line()?, b"END");
            // The same in records.
            socket.send(("get ", &key, "\r\nget nothing\r\n"))?;
            let mut replies = socket.receive_until("END\r\n")?;
            let reply = [header.as_bytes(), b"\r\n", &value, b"\r\n"].concat();
            assert_eq!(replies.whole()?, reply);
            assert_eq!(replies.whole()?, b"");
        }
        socket.send("stats\r\n")?;
        let mut stats = 0;
        while socket.receive_line()?.starts_with(b"STAT ") {
            stats += 1;
        }
        assert!(stats > 20, "{stats} lines of statistics");
        socket.send("quit\r\n")?;
        assert_eq!(socket.receive_all()?, b"");
        Ok(())
    });
}

fn at_once(
    address: SocketAddr,
    client: impl Fn(usize, &Cosocket) -> Result<(), Error> + Send + Sync,
) {
    let clients = if crate::util::is_quick() { 5 } else { 50 };
    cosocket::run(|| {
        thread::scope(|scope| {
            for number in 0..clients {
                let client = &client;
                scope.spawn(move || {
                    let socket = cosocket::connect(address).unwrap();
                    client(number, &socket).unwrap();
                });
            }
        });
    });
}
