//! hickory-proto's messages over our sockets, against dnsmasq.

#[allow(dead_code)]
#[path = "../../examples/crates/dns_client.rs"]
mod example;

use std::collections::HashSet;
use std::net::Ipv4Addr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};

use crate::{at_once, peers};
use example::ask;

const HOSTS: usize = 200;
/// More than a datagram takes, so that it is asked for by TCP.
const TEXTS: usize = 100;

fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, host as u8)
}

#[test]
fn a_hundred_coroutines_look_names_up() {
    let mut lines = String::from("local=/test/");
    for number in 0..TEXTS {
        lines += &format!("\ntxt-record=long.test,part {number} of a long answer");
    }
    for host in 0..HOSTS {
        lines += &format!("\naddress=/host-{host}.test/{}", address(host));
    }
    let Some(server) = peers::dnsmasq(&(lines + "\n")) else { return };
    cosocket::run(|| {
        at_once(100, |coroutine| {
            for number in 0..20 {
                let host = (coroutine * 37 + number) % HOSTS;
                let answer =
                    ask(server.address, &format!("host-{host}.test."), RecordType::A).unwrap();
                assert_eq!(answer.answers.len(), 1);
                assert_eq!(answer.answers[0].data, RData::A(address(host).into()));
            }
            let answer = ask(server.address, "long.test.", RecordType::TXT).unwrap();
            let texts: HashSet<_> = answer.answers.iter().map(|r| r.data.to_string()).collect();
            assert_eq!(texts.len(), TEXTS);
            assert!(texts.iter().all(|text| text.contains("of a long answer")), "{texts:?}");

            let answer = ask(server.address, "unknown.test.", RecordType::A).unwrap();
            assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        });
    });
}
