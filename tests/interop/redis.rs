//! The redis crate's commands, pipelines and transactions against Redis.

#[allow(dead_code)]
#[path = "../../examples/crates/redis_client.rs"]
mod example;

use std::io::ErrorKind;
use std::time::Duration;

use redis::{Commands, ConnectionLike, RedisResult};

use crate::{at_once, payload, peers};
use example::Connection;

#[test]
fn a_hundred_connections_set_and_get() {
    let Some(server) = peers::redis() else { return };
    let address = server.address;
    cosocket::run(|| {
        at_once(100, |client| {
            let mut redis = Connection::open(address).unwrap();
            for number in 0..20 {
                let key = format!("{client}:{number}");
                let value = payload(client, number, number * number * 97);
                let () = redis.set(&key, &value).unwrap();
                let read: Vec<u8> = redis.get(&key).unwrap();
                assert!(read == value, "{key}");
            }
            pipeline(&mut redis, client).unwrap();
            let total: i64 = redis.incr("total", 1).unwrap();
            assert!(total >= 1);
            assert!(redis.check_connection() && redis.is_open());
        });
        let mut redis = Connection::open(address).unwrap();
        let keys: usize = redis::cmd("DBSIZE").query(&mut redis).unwrap();
        let total: usize = redis.get("total").unwrap();
        assert_eq!(keys, total * (20 + 2) + 1);
    });
}

/// Many commands in one write, plain and as a transaction; an error in the middle is one answer.
fn pipeline(redis: &mut Connection, client: usize) -> RedisResult<()> {
    let key = format!("list:{client}");
    let mut pipe = redis::pipe();
    for number in 0..500 {
        pipe.rpush(&key, number).ignore();
    }
    let (numbers,): (Vec<usize>,) = pipe.lrange(&key, 0, -1).query(redis)?;
    assert!(numbers.into_iter().eq(0..500));

    let counter = format!("counter:{client}");
    let mut pipe = redis::pipe();
    let pipe = pipe.atomic().set(&counter, client).ignore().incr(&counter, 7);
    let (sum,): (usize,) = pipe.query(redis)?;
    assert_eq!(sum, client + 7);

    let error = redis.incr::<_, _, i64>(&key, 1).unwrap_err();
    assert_eq!(error.code(), Some("WRONGTYPE"));
    assert!(redis.is_open());
    Ok(())
}

/// The answer may still come: the connection is not used again.
#[test]
fn a_timeout_closes_the_connection() {
    let Some(server) = peers::redis() else { return };
    cosocket::run(|| {
        let mut redis = Connection::open(server.address).unwrap();
        redis.stream().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let error = redis.blpop::<_, Option<(String, String)>>("nothing", 0.0).unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(!redis.is_open());
        let error = redis.get::<_, Option<String>>("key").unwrap_err();
        assert!(error.is_io_error(), "{error}");
        assert_eq!(error.kind(), redis::ErrorKind::Io);
        assert_ne!(error.to_string(), ErrorKind::TimedOut.to_string());
    });
}
