//! Async crates on cosocket's sockets, each against a peer that is not its own: hyper serves curl
//! and fetches from Python; soketto talks to itself, both ways at once.

#[allow(dead_code)]
#[path = "../examples/hyper_hello.rs"]
mod hyper_hello;
#[allow(unsafe_code)]
mod util;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::{future, io};

use cosocket::futures::{Async, block_on};
use cosocket::net::{TcpListener, TcpStream};
use cosocket::thread;
use futures_util::future::join;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, client, server};
use soketto::handshake::server::Response;
use soketto::handshake::{Client, Server, ServerResponse};

use hyper_hello::{Io, answer};

/// Whether the program runs here; in CI it must.
fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "{program} is not installed: this is CI");
    if !found {
        println!("skipped: {program} not installed");
    }
    found
}

/// Serves `connections` connections with hyper, each in a coroutine of its own.
fn serve(connections: usize) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let served: Vec<_> = listener
            .incoming()
            .take(connections)
            .map(|stream| {
                let io = Io(Async::new(stream.unwrap()));
                thread::spawn(move || {
                    let service = service_fn(answer);
                    block_on(server::conn::http1::Builder::new().serve_connection(io, service))
                })
            })
            .collect();
        served.into_iter().for_each(|connection| connection.join().unwrap().unwrap());
    });
    (address, server)
}

#[test]
fn hyper_serves_curl() {
    if !is_there("curl") {
        return;
    }
    let (address, server) = serve(1);
    let url = format!("http://{address}/");
    // Two requests on one connection; the body is larger than what the sockets hold.
    let mut curl = Command::new("curl");
    curl.args(["-sS", &url, "--next", "-sS", "--data-binary", "@-", &url]);
    let mut curl = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = curl.stdin.take().unwrap();
    let body = "shouted ".repeat(1 << 20);
    let expected = format!("hello from hyper\n{}", body.to_uppercase());
    let writer = std::thread::spawn(move || input.write_all(body.as_bytes()));
    let output = curl.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == expected.as_bytes(), "{} bytes", output.stdout.len());
    server.join().unwrap();
}

/// The connection and what is asked on it are one future, which reads and writes at once.
async fn fetch(address: SocketAddr, path: &str) -> String {
    let io = Io(Async::new(TcpStream::connect(address).unwrap()));
    let (mut sender, connection) = client::conn::http1::handshake(io).await.unwrap();
    let request = Request::get(path).header("host", "localhost").body(String::new()).unwrap();
    let asked = async move {
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        text(response.into_body()).await
    };
    let (text, ended) = join(asked, connection).await;
    ended.unwrap();
    text
}

async fn text(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while let Some(frame) = future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        bytes.extend(frame.unwrap().into_data().unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn hyper_fetches_from_python() {
    if !is_there("python3") {
        return;
    }
    let mut python = Command::new("python3");
    python.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "tests", "0"]);
    util::child::end_with_us(&mut python);
    let mut python = python.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(python.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.split_whitespace().skip_while(|&word| word != "port").nth(1);
    let port: u16 = port.expect("Python says where it listens").parse().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));

    let expected = std::fs::read_to_string("tests/futures_crates.rs").unwrap();
    let fetched = cosocket::run(|| {
        let fetchers: Vec<_> = (0..10)
            .map(|_| thread::spawn(move || block_on(fetch(address, "/futures_crates.rs"))))
            .collect();
        fetchers.into_iter().map(|fetcher| fetcher.join().unwrap()).collect::<Vec<_>>()
    });
    let _ = python.kill();
    python.wait().unwrap();
    assert!(fetched.iter().all(|text| *text == expected));
}

/// Echoes one WebSocket's messages until it is closed.
async fn echo(stream: TcpStream) -> Result<usize, soketto::connection::Error> {
    let mut server = Server::new(Async::new(stream));
    let key = server.receive_request().await.unwrap().key();
    let accept = Response::Accept { key, protocol: None };
    server.send_response(&accept).await.unwrap();
    let (mut sender, mut receiver) = server.into_builder().finish();
    let (mut message, mut count) = (Vec::new(), 0);
    loop {
        message.clear();
        match receiver.receive_data(&mut message).await {
            Ok(_) => {}
            Err(soketto::connection::Error::Closed) => return Ok(count),
            Err(error) => return Err(error),
        }
        sender.send_binary(&message).await?;
        sender.flush().await?;
        count += 1;
    }
}

/// Sends and receives at the same time, more than the sockets hold.
async fn converse(address: SocketAddr, messages: usize) -> io::Result<()> {
    let stream = Async::new(TcpStream::connect(address)?);
    let mut client = Client::new(stream, "localhost", "/");
    let Ok(ServerResponse::Accepted { .. }) = client.handshake().await else {
        panic!("not accepted");
    };
    let (mut sender, mut receiver) = client.into_builder().finish();
    let send = async {
        for number in 0..messages {
            sender.send_binary(vec![number as u8; 1 << 16]).await.unwrap();
            sender.flush().await.unwrap();
        }
        sender
    };
    let receive = async {
        for number in 0..messages {
            let mut message = Vec::new();
            receiver.receive_data(&mut message).await.unwrap();
            assert!(message.len() == 1 << 16 && message.iter().all(|&b| b == number as u8));
        }
    };
    let (mut sender, ()) = join(send, receive).await;
    sender.close().await.map_err(io::Error::other)
}

#[test]
fn soketto_sends_and_receives_at_once_on_many_connections() {
    const CONNECTIONS: usize = 10;
    let messages = if util::is_quick() { 20 } else { 60 };
    cosocket::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let connections: Vec<_> = listener
                .incoming()
                .take(CONNECTIONS)
                .map(|stream| thread::spawn(|| block_on(echo(stream.unwrap()))))
                .collect();
            connections.into_iter().map(|echo| echo.join().unwrap().unwrap()).sum::<usize>()
        });
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| thread::spawn(move || block_on(converse(address, messages))))
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap().unwrap());
        assert_eq!(server.join().unwrap(), CONNECTIONS * messages);
    });
}
