//! tokio: a task a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use super::handler::{Handler, dispatch};
use super::redis::{Exchange, Pool, Request};
use super::{Service, Settings, listen_nonblocking};

pub fn current_thread(settings: &Settings) -> io::Result<()> {
    serve(settings, Builder::new_current_thread().enable_all().build()?)
}

pub fn multi_thread(settings: &Settings) -> io::Result<()> {
    let mut builder = Builder::new_multi_thread();
    serve(settings, builder.worker_threads(settings.workers).enable_all().build()?)
}

fn serve(settings: &Settings, runtime: Runtime) -> io::Result<()> {
    let listener = listen_nonblocking()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        // As a task, not as what is blocked on: tokio's multi-thread runtime is faster so.
        let accepting = match settings.service {
            Service::Redis => tokio::spawn(accept_redis(listener, settings.redis)),
            _ => dispatch!(settings, spawn_accept(listener)),
        };
        accepting.await.expect("accepting does not panic")
    })
}

fn spawn_accept<H: Handler, const N: usize>(
    listener: TcpListener,
) -> tokio::task::JoinHandle<io::Result<()>> {
    tokio::spawn(accept::<H, N>(listener))
}

async fn accept<H: Handler, const N: usize>(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(handle::<H, N>(stream));
    }
}

async fn handle<H: Handler, const N: usize>(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut handler, mut buffer) = (H::default(), [0; N]);
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(handler.answer(&buffer[..count])).await?,
        }
    }
}

async fn accept_redis(listener: TcpListener, redis: SocketAddr) -> io::Result<()> {
    let pool = Arc::new(Pool::default());
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(handle_redis(stream, redis, Arc::clone(&pool)));
    }
}

async fn handle_redis(
    mut stream: TcpStream,
    redis: SocketAddr,
    pool: Arc<Pool<TcpStream>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Request::default();
    loop {
        match stream.read(request.space()).await? {
            0 => return Ok(()),
            count => request.came(count),
        }
        while let Some(key) = request.take_key()? {
            let mut exchange = Exchange::new(&key);
            fetch(&mut exchange, redis, &pool).await?;
            stream.write_all(exchange.response()).await?;
        }
    }
}

async fn fetch(
    exchange: &mut Exchange,
    redis: SocketAddr,
    pool: &Pool<TcpStream>,
) -> io::Result<()> {
    let pooled = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut connection = match pooled {
        Some(connection) => connection,
        None => {
            let connection = TcpStream::connect(redis).await?;
            connection.set_nodelay(true)?;
            connection
        }
    };
    connection.write_all(exchange.command()).await?;
    while !exchange.is_complete()? {
        match connection.read(exchange.space()).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => exchange.came(count),
        }
    }
    pool.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    Ok(())
}
