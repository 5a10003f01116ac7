//! cosocket: a coroutine a connection.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{Builder, ConnectOptions, Cosocket, Driver, thread};

use super::handler::{Handler, dispatch};
use super::redis::{Exchange, Request};
use super::{Service, Settings, listen};

pub fn uring(settings: &Settings) -> io::Result<()> {
    serve(settings, Driver::IoUring, 1)
}

pub fn epoll(settings: &Settings) -> io::Result<()> {
    serve(settings, Driver::Epoll, 1)
}

pub fn uring_n(settings: &Settings) -> io::Result<()> {
    serve(settings, Driver::IoUring, settings.workers)
}

pub fn epoll_n(settings: &Settings) -> io::Result<()> {
    serve(settings, Driver::Epoll, settings.workers)
}

fn serve(settings: &Settings, driver: Driver, workers: usize) -> io::Result<()> {
    let runtime = Builder::new().workers(workers).driver(driver).build()?;
    let listener = TcpListener::from(listen()?);
    runtime.run(|| match settings.service {
        Service::Redis => accept_redis(listener, settings.redis),
        _ => dispatch!(settings, accept(listener)),
    })
}

fn accept<H: Handler, const N: usize>(listener: TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        drop(thread::spawn(move || handle::<H, N>(stream)));
    }
    Ok(())
}

fn handle<H: Handler, const N: usize>(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut handler, mut buffer) = (H::default(), [0; N]);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(handler.answer(&buffer[..count]))?,
        }
    }
}

/// Idle connections to Redis that are kept: as many as the cell has clients.
const POOL_SIZE: usize = 64;

fn accept_redis(listener: TcpListener, redis: SocketAddr) -> io::Result<()> {
    let options = ConnectOptions { pool_size: Some(POOL_SIZE), ..ConnectOptions::default() };
    let options = Arc::new(options);
    for stream in listener.incoming() {
        let (stream, options) = (stream?, Arc::clone(&options));
        drop(thread::spawn(move || handle_redis(stream, redis, &options)));
    }
    Ok(())
}

fn handle_redis(
    mut stream: TcpStream,
    redis: SocketAddr,
    options: &ConnectOptions,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Request::default();
    loop {
        match stream.read(request.space())? {
            0 => return Ok(()),
            count => request.came(count),
        }
        while let Some(key) = request.take_key()? {
            let mut exchange = Exchange::new(&key);
            fetch(&mut exchange, redis, options)?;
            stream.write_all(exchange.response())?;
        }
    }
}

/// Asks Redis over a pooled connection, as a user of cosockets would.
fn fetch(exchange: &mut Exchange, redis: SocketAddr, options: &ConnectOptions) -> io::Result<()> {
    let socket = Cosocket::new();
    socket.connect_with(redis, options)?;
    socket.send(exchange.command())?;
    while !exchange.is_complete()? {
        let came = socket.receive_any_into(exchange.space())?;
        exchange.came(came);
    }
    Ok(socket.set_keepalive(None, None)?)
}
