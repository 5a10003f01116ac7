//! may: a stackful coroutine a connection.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::{Arc, PoisonError};

use may::net::{TcpListener, TcpStream};

use super::handler::{Handler, dispatch};
use super::redis::{Exchange, Pool, Request};
use super::{Service, Settings, listen};

/// In words of eight bytes. may's default is 32 KiB, without a guard; the largest buffer of ours
/// would not fit.
const STACK_WORDS: usize = (32 << 10) / 8;
const STACK_WORDS_FOR_LARGE_BUFFERS: usize = (128 << 10) / 8;

pub fn one(settings: &Settings) -> io::Result<()> {
    serve(settings, 1)
}

pub fn several(settings: &Settings) -> io::Result<()> {
    serve(settings, settings.workers)
}

fn serve(settings: &Settings, workers: usize) -> io::Result<()> {
    let large = settings.buffer_bytes > 4096;
    let stack_words = if large { STACK_WORDS_FOR_LARGE_BUFFERS } else { STACK_WORDS };
    may::config().set_workers(workers).set_stack_size(stack_words);
    // SAFETY: the descriptor was given up, and may takes it over.
    let listener = unsafe { TcpListener::from_raw_fd(listen()?.into_raw_fd()) };
    match settings.service {
        Service::Redis => accept_redis(listener, settings.redis),
        _ => dispatch!(settings, accept(listener)),
    }
}

fn accept<H: Handler, const N: usize>(listener: TcpListener) -> io::Result<()> {
    let accepting = may::go!(move || -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept()?;
            may::go!(move || handle::<H, N>(stream));
        }
    });
    accepting.join().expect("accepting does not panic")
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
    let accepting = may::go!(move || -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept()?;
            let pool = Arc::clone(&pool);
            may::go!(move || handle_redis(stream, redis, &pool));
        }
    });
    accepting.join().expect("accepting does not panic")
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

fn fetch(exchange: &mut Exchange, redis: SocketAddr, pool: &Pool<TcpStream>) -> io::Result<()> {
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
