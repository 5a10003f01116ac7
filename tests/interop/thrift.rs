//! The thrift crate's client against a server on Apache Thrift's Python library.

#[allow(dead_code)]
#[path = "../../examples/crates/thrift_client.rs"]
mod example;

use crate::{at_once, beside, payload, peers};
use example::Client;

#[test]
fn a_hundred_thrift_clients_call_python() {
    let script = beside("thrift_server.py");
    let Some(server) = peers::python("thrift", &script, &[]) else { return };
    cosocket::run(|| {
        at_once(100, |number| {
            let mut client = Client::connect(server.address).unwrap();
            for call in 0..10 {
                let data = payload(number, call, call * call * 500 + 1);
                let mut expected = vec![0; 256];
                data.iter().for_each(|&byte| expected[usize::from(byte)] += 1);
                assert!(client.weigh(&data).unwrap() == expected, "client {number}, call {call}");
            }
            match client.weigh(b"") {
                Err(thrift::Error::Application(error)) => assert_eq!(error.message, "no data"),
                other => panic!("{other:?}"),
            }
            // An exception is an answer like any other: the connection goes on.
            assert_eq!(client.weigh(b"aab").unwrap()[usize::from(b'a')], 2);
        });
    });
}
