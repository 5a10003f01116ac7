//! A Thrift client: the protocol is the thrift crate's, the sockets cosocket's.
//!
//!     /usr/bin/python3 tests/interop/thrift_server.py 127.0.0.1 9090     (Debian: python3-thrift)
//!     cargo run -p cosocket-interop --example thrift_client

use cosocket::net::{TcpStream, ToSocketAddrs};
use cosocket::thread;
use thrift::Result;
use thrift::protocol::{
    TBinaryInputProtocol, TBinaryOutputProtocol, TFieldIdentifier, TInputProtocol,
    TMessageIdentifier, TMessageType, TOutputProtocol, TStructIdentifier, TType,
};
use thrift::transport::{TFramedReadTransport, TFramedWriteTransport};

/// Any `Read` and any `Write` are its transports, and each end of a clone is one.
pub struct Client {
    input: TBinaryInputProtocol<TFramedReadTransport<TcpStream>>,
    output: TBinaryOutputProtocol<TFramedWriteTransport<TcpStream>>,
    calls: i32,
}

impl Client {
    pub fn connect(address: impl ToSocketAddrs) -> Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let output = TFramedWriteTransport::new(stream.try_clone()?);
        Ok(Client {
            input: TBinaryInputProtocol::new(TFramedReadTransport::new(stream), true),
            output: TBinaryOutputProtocol::new(output, true),
            calls: 0,
        })
    }

    /// `list<i64> weigh(1: binary data)`, as a generated client would call it.
    pub fn weigh(&mut self, data: &[u8]) -> Result<Vec<i64>> {
        self.calls += 1;
        let call = TMessageIdentifier::new("weigh", TMessageType::Call, self.calls);
        self.output.write_message_begin(&call)?;
        self.output.write_struct_begin(&TStructIdentifier::new("weigh_args"))?;
        self.output.write_field_begin(&TFieldIdentifier::new("data", TType::String, 1))?;
        self.output.write_bytes(data)?;
        self.output.write_field_end()?;
        self.output.write_field_stop()?;
        self.output.write_struct_end()?;
        self.output.write_message_end()?;
        self.output.flush()?;

        let answer = self.input.read_message_begin()?;
        if answer.message_type == TMessageType::Exception {
            let error = thrift::Error::read_application_error_from_in_protocol(&mut self.input)?;
            return Err(thrift::Error::Application(error));
        }
        thrift::protocol::verify_expected_sequence_number(self.calls, answer.sequence_number)?;
        self.input.read_struct_begin()?;
        let mut weights = Vec::new();
        while self.input.read_field_begin()?.field_type != TType::Stop {
            for _ in 0..self.input.read_list_begin()?.size {
                weights.push(self.input.read_i64()?);
            }
        }
        self.input.read_message_end()?;
        Ok(weights)
    }
}

fn main() -> Result<()> {
    let ask = |n: u8| Client::connect("127.0.0.1:9090")?.weigh(&vec![n; n.into()]);
    let clients: Vec<_> = (1..50).map(|n| thread::spawn(move || ask(n))).collect();
    for client in clients {
        println!("{} bytes", client.join().unwrap()?.iter().sum::<i64>());
    }
    Ok(())
}
