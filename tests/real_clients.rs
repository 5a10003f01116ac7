//! Real peers: Redis, nginx, curl, wrk. Where one is not installed its test says that it was
//! skipped; in CI (`CI` is set) that is a failure.

#[allow(unsafe_code)]
mod peers;
#[allow(unsafe_code)]
mod util;

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{run, thread};
use peers::find;

/// One answer of Redis's protocol, as far as these tests ask for it.
#[derive(Debug, PartialEq)]
enum Reply {
    Simple(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
}

fn read_reply(from: &mut impl BufRead) -> Reply {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let (kind, rest) = line.trim_end().split_at(1);
    match kind {
        "+" => Reply::Simple(rest.into()),
        ":" => Reply::Integer(rest.parse().unwrap()),
        "$" if rest == "-1" => Reply::Bulk(None),
        "$" => {
            let mut data = vec![0; rest.parse::<usize>().unwrap() + 2];
            from.read_exact(&mut data).unwrap();
            assert_eq!(data.split_off(data.len() - 2), b"\r\n");
            Reply::Bulk(Some(data))
        }
        _ => panic!("{line:?}"),
    }
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        write!(text, "${}\r\n", word.len()).unwrap();
        text.extend_from_slice(word);
        text.extend_from_slice(b"\r\n");
    }
    text
}

#[test]
fn fifty_coroutines_pipeline_to_redis() {
    const COROUTINES: usize = 50;
    const COMMANDS: usize = 300;
    let Some(server) = peers::redis() else { return };
    let address = server.address;
    run(move || {
        let clients: Vec<_> = (0..COROUTINES)
            .map(|client| thread::spawn(move || pipeline(address, client, COMMANDS)))
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        let stream = TcpStream::connect(address).unwrap();
        (&stream).write_all(&command(&[b"GET", b"total"])).unwrap();
        let total = (COROUTINES * COMMANDS).to_string().into_bytes();
        assert_eq!(read_reply(&mut BufReader::new(&stream)), Reply::Bulk(Some(total)));
    });
}

/// Writes commands and, at the same time, reads their answers.
fn pipeline(address: SocketAddr, client: usize, commands: usize) {
    let stream = TcpStream::connect(address).unwrap();
    let size = move |number: usize| (client * 31 + number * 97) % 5000;
    let value = move |number: usize| vec![b'a' + (number % 26) as u8; size(number)];
    let writer = stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        for number in 0..commands {
            let key = format!("key:{client}:{number}");
            let mut text = command(&[b"SET", key.as_bytes(), &value(number)]);
            text.extend(command(&[b"GET", key.as_bytes()]));
            text.extend(command(&[b"INCR", b"total"]));
            text.extend(command(&[b"GET", b"no such key"]));
            { &writer }.write_all(&text).unwrap();
        }
    });
    let mut replies = BufReader::new(&stream);
    let mut last = 0;
    for number in 0..commands {
        assert_eq!(read_reply(&mut replies), Reply::Simple("OK".into()));
        assert_eq!(read_reply(&mut replies), Reply::Bulk(Some(value(number))));
        let Reply::Integer(total) = read_reply(&mut replies) else { panic!("not a number") };
        assert!(total > last, "an answer to another connection's question");
        last = total;
        assert_eq!(read_reply(&mut replies), Reply::Bulk(None));
    }
    writer.join().unwrap();
}

#[test]
fn files_come_whole_from_nginx() {
    let content: Vec<u8> = (0..3_000_000u32).map(|at| (at * 7 + at / 251) as u8).collect();
    let Some(server) = peers::nginx(false, |root| fs::write(root.join("file"), &content)) else {
        return;
    };
    let address = server.address;
    run(|| {
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let answer = fetch(address, "/file").unwrap();
                    let (head, body) = split_head(&answer);
                    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
                    assert!(body == content, "{} bytes", body.len());
                });
            }
            let answer = fetch(address, "/none").unwrap();
            assert!(split_head(&answer).0.contains(" 404 "));
        });
    });
}

/// HTTP/1.0: the answer ends with the connection.
fn fetch(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn split_head(answer: &[u8]) -> (&str, &[u8]) {
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("no head") + 4;
    (std::str::from_utf8(&answer[..at]).unwrap(), &answer[at..])
}

/// A small HTTP/1.1 server: keeps connections, sends back what it is sent, and for `/large` a
/// megabyte.
fn serve_http(listener: &TcpListener) {
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        // A client that has enough leaves as it likes.
        thread::spawn(move || drop(serve_connection(&stream)));
    }
}

fn serve_connection(stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        if headers.contains_key("expect") {
            { stream }.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if request.starts_with("GET /large ") {
            body = vec![b'x'; 1 << 20];
        }
        write!({ stream }, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
        { stream }.write_all(&body)?;
    }
}

/// Serves HTTP while `client` (a plain thread's work) uses it.
fn with_http_server(client: impl FnOnce(SocketAddr) + Send + 'static) {
    run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || serve_http(&listener));
        cosocket::unblock(move || client(address));
        server.cancel();
        assert!(server.join().unwrap_err().is::<cosocket::Cancelled>());
    });
}

#[test]
fn curl_is_served() {
    let Some(curl) = find("curl") else { return };
    with_http_server(move |address| {
        let url = format!("http://{address}");
        let large = format!("{url}/large");
        let fetched = Command::new(&curl).args(["-sS", &large, &large, &large]).output().unwrap();
        assert!(fetched.status.success(), "{fetched:?}");
        assert_eq!(fetched.stdout.len(), 3 << 20);

        // Large enough that curl asks first (100 Continue), and sends while it receives.
        let upload: Vec<u8> = (0..2_500_000u32).map(|at| (at * 13 + at / 255) as u8).collect();
        let mut child = Command::new(&curl)
            .args(["-sS", "--data-binary", "@-", &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&upload).unwrap();
        let echoed = child.wait_with_output().unwrap();
        assert!(echoed.status.success());
        assert!(echoed.stdout == upload, "{} bytes came back", echoed.stdout.len());
    });
}

#[test]
fn wrk_sees_no_errors() {
    let Some(wrk) = find("wrk") else { return };
    with_http_server(move |address| {
        let url = format!("http://{address}/");
        let output = Command::new(&wrk).args(["-t1", "-c50", "-d2s", &url]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("requests in"), "{text}");
        let complaints = ["Socket errors", "Non-2xx"];
        assert!(!complaints.iter().any(|complaint| text.contains(complaint)), "{text}");
        assert!(!text.contains(" 0 requests in"), "{text}");
        println!("{text}");
    });
}
