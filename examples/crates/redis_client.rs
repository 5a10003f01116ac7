//! The commands of the redis crate over cosocket's sockets, through its `ConnectionLike`.
//!
//!     redis-server --port 6379
//!     cargo run -p cosocket-interop --example redis_client

use std::io::{self, Write};

use cosocket::net::{TcpStream, ToSocketAddrs};
use cosocket::thread;
use redis::{Commands, ConnectionLike, Parser, RedisResult, Value};

/// One connection. The crate's own is a closed set of transports, but its commands take any.
pub struct Connection {
    stream: TcpStream,
    parser: Parser,
    is_open: bool,
}

impl Connection {
    pub fn open(address: impl ToSocketAddrs) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, parser: Parser::new(), is_open: true })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends commands, reads so many answers. An error in between leaves the two out of step: the
    /// connection then counts as closed.
    fn exchange(&mut self, commands: &[u8], answers: usize) -> RedisResult<Vec<Value>> {
        if !std::mem::take(&mut self.is_open) {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        }
        self.stream.write_all(commands)?;
        let answers = (0..answers).map(|_| self.parser.parse_value(&self.stream));
        let answers = answers.collect::<RedisResult<Vec<_>>>()?;
        self.is_open = true;
        Ok(answers)
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        Ok(self.exchange(command, 1)?.remove(0))
    }

    fn req_packed_commands(
        &mut self,
        commands: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        Ok(self.exchange(commands, offset + count)?.split_off(offset))
    }

    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        redis::cmd("PING").query::<String>(self).is_ok()
    }

    fn is_open(&self) -> bool {
        self.is_open
    }
}

fn main() -> RedisResult<()> {
    let hundred = 0..100;
    let clients =
        hundred.map(|_| thread::spawn(|| Connection::open("127.0.0.1:6379")?.incr("n", 1)));
    let answers = clients.map(|client| client.join().unwrap());
    let answers = answers.collect::<RedisResult<Vec<i64>>>()?;
    println!("n is {:?}", answers.iter().max());
    Ok(())
}
