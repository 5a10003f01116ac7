//! cosocket: a coroutine a connection.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{Builder, Driver, thread};

use super::handler::{Handler, dispatch};
use super::redis::{Exchange, Pool, Request};
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

fn accept_redis(listener: TcpListener, redis: SocketAddr) -> io::Result<()> {
    let pool = Arc::new(Pool::default());
    for stream in listener.incoming() {
        let (stream, pool) = (stream?, Arc::clone(&pool));
        drop(thread::spawn(move || handle_redis(stream, redis, &pool)));
    }
    Ok(())
}

fn handle_redis(
    mut stream: TcpStream,
    redis: SocketAddr,
    pool: &Pool<TcpStream>,
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
            fetch(&mut exchange, redis, pool)?;
            stream.write_all(exchange.response())?;
        }
    }
}

/// Asks Redis over a pooled connection: the one place that knows how connections are kept.
fn fetch(
    exchange: &mut Exchange,
    redis: SocketAddr,
    pool: &Mutex<Vec<TcpStream>>,
) -> io::Result<()> {
    let pooled = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut connection = match pooled {
        Some(connection) => connection,
        None => {
            let connection = TcpStream::connect(redis)?;
            connection.set_nodelay(true)?;
            connection
        }
    };
    connection.write_all(exchange.command())?;
    while !exchange.is_complete()? {
        match connection.read(exchange.space())? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => exchange.came(count),
        }
    }
    pool.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    Ok(())
}
