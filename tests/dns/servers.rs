//! Which server is asked, how often, and what for.

use ::cosocket::dns::RecordType;

use super::server::*;
use super::socket_util::{Nobody, everywhere};
use super::*;
use crate::util::wait_until;

fn good() -> Server {
    Server::start(|ask, link| link.send(ask.point_to("192.0.2.1")))
}

/// DNS-1: a server that does not answer is followed by the next.
#[test]
fn after_one_that_is_silent_the_next_is_asked() {
    everywhere(|| {
        let (silent, good) = (Server::silent(), good());
        let resolver = patient(&[&silent, &good], SHORT).build();
        assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["192.0.2.1"]));
        // Each as often as the other, which is seen when their threads have run.
        wait_until(|| silent.counts() == good.counts());
    });
}

/// Those of no use are not waited for.
#[test]
fn after_one_that_refuses_the_next_is_asked_at_once() {
    type Answer = fn(&Ask) -> Vec<u8>;
    let bad: [Answer; 4] = [
        |ask| ask.reply(SERVER_FAILURE),
        |ask| ask.reply(REFUSED),
        // A record that is cut, and records that are promised.
        |ask| ask.say(&[vec![3, b'w', b'w']]),
        |ask| [&ask.reply(0)[..7], &[9], &ask.reply(0)[8..]].concat(),
    ];
    for answer in bad {
        let bad = Server::start(move |ask, link| link.send(answer(ask)));
        let good = good();
        everywhere(|| {
            let resolver = resolver(&[&bad, &good], LONG);
            assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["192.0.2.1"]));
        });
    }
}

#[test]
fn one_that_is_not_there_is_not_waited_for() {
    let nobody = Nobody::at("127.0.0.1");
    let closed = nobody.address();
    everywhere(|| {
        let good = good();
        let mut config = config(&[&good], LONG);
        config.servers.insert(0, closed);
        let resolver = Resolver::builder().config(config).no_hosts().ipv6(false).build();
        assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["192.0.2.1"]));
        let mut config = Config::default();
        config.servers = vec![closed];
        let resolver = Resolver::builder().config(config).no_hosts().build();
        let text = refusal(&resolver, "www.test").to_lowercase();
        assert!(text.contains("www.test could not be resolved (connection refused"), "{text}");
    });
}

#[test]
fn the_last_refusal_is_told() {
    let server = Server::start(|ask, link| link.send(ask.reply(REFUSED)));
    let resolver = resolver(&[&server], LONG);
    let text = "www.test could not be resolved (5: Operation refused)";
    assert_eq!(refusal(&resolver, "www.test"), text);
    assert_eq!(server.counts().0, 2, "once for each attempt");
}

/// RFC 6891, section 7.
#[test]
fn one_that_does_not_know_edns_is_asked_without() {
    everywhere(|| {
        let old = Server::start(|ask, link| match ask.has_edns() {
            true => {
                let mut bare = ask.reply(1)[..12].to_vec();
                bare[5] = 0;
                link.send(bare);
            }
            false => link.send(ask.point_to("192.0.2.1")),
        });
        let resolver = resolver(&[&old], LONG);
        assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(old.counts().0, 2);
    });
}

/// Both families are asked for; IPv6 addresses that do not come are not waited for, nor asked for
/// again at once.
#[test]
fn ipv6_addresses_that_come_late_are_done_without() {
    everywhere(|| {
        let server = Server::start(|ask, link| {
            if ask.kind == A {
                link.send(ask.point_to("192.0.2.1"));
            }
        });
        let resolver = builder(&[&server], LONG).ipv6(true).build();
        assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["192.0.2.1"]));
        let kinds: Vec<u16> = server.asked().iter().map(|ask| ask.kind).collect();
        assert_eq!(kinds.len(), 2, "{kinds:?}");
    });
}

#[test]
fn ipv4_addresses_are_done_without_after_one_round() {
    everywhere(|| {
        let server = Server::start(|ask, link| {
            if ask.kind == AAAA {
                link.send(ask.point_to("2001:db8::1"));
            }
        });
        let resolver = patient(&[&server], SHORT).ipv6(true).build();
        assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["2001:db8::1"]));
        let asked_for = |kind| server.asked().iter().filter(|ask| ask.kind == kind).count();
        // No more often for what does not come.
        wait_until(|| asked_for(A) == asked_for(AAAA));
    });
}

#[test]
fn a_host_without_addresses_of_one_family_is_no_error() {
    let server = Server::start(|ask, link| match ask.kind {
        A => link.send(ask.reply(SERVER_FAILURE)),
        _ => link.send(ask.point_to("2001:db8::1")),
    });
    let resolver = builder(&[&server], LONG).ipv6(true).build();
    assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["2001:db8::1"]));
    let nothing = Server::start(|ask, link| match ask.kind {
        A => link.send(ask.reply(SERVER_FAILURE)),
        _ => link.send(ask.deny(0, "test", 60)),
    });
    let resolver = builder(&[&nothing], LONG).ipv6(true).build();
    assert_eq!(
        refusal(&resolver, "www.test"),
        "www.test could not be resolved (2: Server failure)"
    );
}

/// `options use-vc`, `options rotate`.
#[test]
fn options_are_followed() {
    everywhere(|| {
        let server = Server::start(|ask, link| {
            assert!(ask.by_tcp);
            link.send(framed(ask.point_to("192.0.2.1")));
        });
        let mut by_tcp = config(&[&server], LONG);
        by_tcp.use_tcp = true;
        let resolver = Resolver::builder().config(by_tcp).no_hosts().build();
        assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(server.counts(), (0, 2));

        let servers = [good(), good(), good()];
        let mut in_turn = config(&servers.each_ref(), LONG);
        in_turn.rotate = true;
        let resolver = Resolver::builder().config(in_turn).no_hosts().ipv6(false).build();
        for number in 0..6 {
            resolver.look_up(&format!("host-{number}.test")).unwrap();
        }
        assert_eq!(servers.each_ref().map(|server| server.counts().0), [2, 2, 2]);
    });
}

/// DNS-8: the domains in which a short name is looked for.
#[test]
fn short_names_are_looked_for_in_the_domains() {
    everywhere(|| {
        let server = Server::start(|ask, link| match ask.name.as_str() {
            "www.b.test" | "a.long.name" => link.send(ask.point_to("192.0.2.1")),
            _ => link.send(ask.deny(NO_SUCH_NAME, "test", 60)),
        });
        let mut config = config(&[&server], LONG);
        config.search = vec!["a.test".into(), "b.test".into(), "c.test".into()];
        let resolver = Resolver::builder().config(config).no_hosts().ipv6(false).build();
        let names = |from: usize| -> Vec<String> {
            server.asked().into_iter().skip(from).map(|ask| ask.name).collect()
        };
        assert_eq!(resolver.look_up("www").unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(names(0), ["www.a.test", "www.b.test"]);
        assert_eq!(resolver.look_up("a.long.name").unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(names(2), ["a.long.name"]);
        assert!(resolver.look_up("other").is_err());
        assert_eq!(names(3), ["other.a.test", "other.b.test", "other.c.test", "other"]);
        assert!(resolver.look_up("full.").is_err());
        assert_eq!(names(7), ["full"]);
    });
}

/// DNS-4: all types of records, by name or by number.
#[test]
fn records_are_read() {
    use ::cosocket::dns::RecordData;
    let server = Server::start(|ask, link| {
        let data: Vec<u8> = match ask.kind {
            15 => [vec![0, 10], wire("mail.test")].concat(),
            33 => [vec![0, 1, 0, 2, 0x1f, 0x90], wire("srv.test")].concat(),
            TXT => b"\x03one\x00\x05three".to_vec(),
            NS => wire("ns.test"),
            SOA => [wire("ns.test"), wire("root.test"), vec![0; 19], vec![7]].concat(),
            _ => vec![1, 2, 3],
        };
        link.send(ask.say(&[record(&ask.name, ask.kind, 77, &data)]));
    });
    let resolver = resolver(&[&server], LONG);
    let data = |kind| {
        let records = resolver.query("www.test", kind).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!((records[0].name.as_str(), records[0].ttl.as_secs()), ("www.test", 77));
        records[0].data.clone()
    };
    let text = String::from;
    let exchange = RecordData::Mx { preference: 10, exchange: text("mail.test") };
    assert_eq!(data(RecordType::Mx), exchange);
    let service = RecordData::Srv { priority: 1, weight: 2, port: 8080, target: text("srv.test") };
    assert_eq!(data(RecordType::Srv), service);
    assert_eq!(
        data(RecordType::Txt),
        RecordData::Txt(vec![b"one".into(), vec![], b"three".into()])
    );
    assert_eq!(data(RecordType::Ns), RecordData::Ns(text("ns.test")));
    assert!(
        matches!(data(RecordType::Soa), RecordData::Soa { minimum, .. } if minimum.as_secs() == 7)
    );
    assert_eq!(data(RecordType::Other(65_280)), RecordData::Other(65_280, vec![1, 2, 3]));
}

/// CON-5: all addresses are tried.
#[test]
fn a_connection_is_made_to_the_address_that_accepts() {
    use ::cosocket::net::{TcpBuilder, TcpListener};
    let server = Server::start(|ask, link| {
        let addresses =
            ["127.0.0.2", "127.0.0.3", "127.0.0.1"].map(|ip| address(&ask.name, 60, ip));
        link.send(if ask.kind == A { ask.say(&addresses) } else { ask.point_to("::1") });
    });
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let resolver = builder(&[&server], LONG).ipv6(true).build();
        let stream = resolver.connect(&TcpBuilder::new(), "www.test", port).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    });
}
