//! The pool against a real Redis, by the example that shows it; and an HTTP server which asks Redis
//! for every request.

#[allow(dead_code, reason = "its `main` is the example's")]
#[path = "../examples/redis_pool.rs"]
mod example;
#[allow(unsafe_code)]
mod peers;
mod socket_util;
#[allow(unsafe_code)]
mod util;

use cosocket::net::TcpListener;
use cosocket::{Cosocket, ErrorKind, Pool, PoolOptions, thread};

/// Redis closes idle connections itself, after a second at least: those are noticed.
#[test]
fn connections_that_redis_closes_are_noticed() {
    let Some(server) = peers::redis() else { return };
    let address = server.address;
    cosocket::run(|| {
        let pool = Pool::new("redis", &PoolOptions::new()).unwrap();
        assert_eq!(pool.warm_up(address, 4).unwrap(), 4);
        let redis = pool.connect(address).unwrap();
        redis.send(b"CLIENT KILL TYPE normal SKIPME yes\r\n").unwrap();
        assert_eq!(redis.receive_line().unwrap(), b":3");
        socket_util::until(|| pool.metrics().stale == 3);
        redis.set_keepalive(None, None).unwrap();
        assert_eq!(pool.connect(address).unwrap().reused_times().unwrap(), 2);
    });
}

/// Answers never go to the wrong one, though replies come late and clients give up: KA-2, TMO-5.
#[test]
fn a_late_reply_goes_to_nobody_else() {
    let Some(server) = peers::redis() else { return };
    let address = server.address;
    cosocket::run(|| {
        let options = PoolOptions::new().size(4).backlog(100);
        let pool = Pool::new("redis", &options).unwrap();
        let clients: Vec<_> = (0..16)
            .map(|number| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for round in 0..40 {
                        let redis = pool.connect(address).unwrap();
                        let word = format!("{number}.{round}");
                        let minute = std::time::Duration::from_secs(60);
                        let is_hasty = round % 5 == 0;
                        let patience =
                            if is_hasty { std::time::Duration::from_nanos(1) } else { minute };
                        redis.set_timeouts(minute, minute, patience).unwrap();
                        redis.send(("ECHO ", &*word, "\r\n")).unwrap();
                        match redis.receive_line() {
                            Ok(line) => {
                                assert_eq!(line, format!("${}", word.len()).into_bytes());
                                redis.set_timeout(minute).unwrap();
                                assert_eq!(redis.receive_line().unwrap(), word.as_bytes());
                                redis.set_keepalive(None, None).unwrap();
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Timeout);
                                let refused = redis.set_keepalive(None, None).unwrap_err().kind();
                                assert!(is_hasty && refused == ErrorKind::Suspect, "{refused:?}");
                            }
                        }
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        let metrics = pool.metrics();
        assert!(metrics.hits > 0, "{metrics:?}");
        assert_eq!(metrics.opened, metrics.closed + metrics.idle, "{metrics:?}");
    });
}

/// A GET of Redis for every request: the shape of the harness's last load.
#[test]
fn an_http_handler_that_asks_redis_for_each_request() {
    let Some(server) = peers::redis() else { return };
    let redis = server.address;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = listener.local_addr().unwrap();
    let runtime = cosocket::Builder::new().build().unwrap();
    let pool = runtime.pool("redis", &PoolOptions::new().size(8).backlog(1000)).unwrap();
    let handlers = pool.clone();
    let acceptor = runtime.spawn(move || {
        for stream in listener.incoming() {
            let (client, pool) = (Cosocket::from(stream.unwrap()), handlers.clone());
            thread::spawn(move || {
                while client.receive_until("\r\n\r\n").unwrap().whole().is_ok() {
                    let socket = pool.connect(redis).unwrap();
                    socket.send(b"GET greeting\r\n").unwrap();
                    assert_eq!(socket.receive_line().unwrap(), b"$5");
                    let body = socket.receive_line().unwrap();
                    socket.set_keepalive(None, None).unwrap();
                    client.send(("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", body)).unwrap();
                }
            });
        }
    });
    let greeting = pool.connect(redis).unwrap();
    greeting.send(b"SET greeting hello\r\n").unwrap();
    assert_eq!(greeting.receive_line().unwrap(), b"+OK");
    greeting.set_keepalive(None, None).unwrap();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            runtime.spawn(move || {
                let client = cosocket::connect(http).unwrap();
                for _ in 0..20 {
                    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                    let head = client.receive_until("\r\n\r\n").unwrap().whole().unwrap();
                    assert!(head.starts_with(b"HTTP/1.1 200 OK"));
                    assert_eq!(client.receive_exact(5).unwrap(), b"hello");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let metrics = pool.metrics();
    assert_eq!(metrics.hits + metrics.misses, 401);
    assert!(metrics.opened <= 8, "{metrics:?}");
    acceptor.cancel();
}

/// Real commands of many coroutines over few connections.
#[test]
fn the_example_needs_no_more_connections_than_its_pool_has() {
    let Some(server) = peers::redis() else { return };
    let address = server.address.to_string();
    let metrics = cosocket::run(|| example::program(&address)).unwrap();
    assert_eq!((metrics.opened, metrics.idle), (10, 10));
    // Five of the misses were the ones opened ahead.
    assert_eq!(metrics.hits + metrics.misses, 10_005);
    assert_eq!(metrics.closed + metrics.closed_idle(), 0);
}
