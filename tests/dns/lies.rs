//! Servers, and others, that lie.

use ::cosocket::dns::Resolver;

use super::server::*;
use super::socket_util::everywhere;
use super::*;
use crate::util::wait_until;

/// DNS-2: what does not answer the question is ignored, and the wait goes on.
#[test]
fn the_truth_is_heard_after_any_number_of_lies() {
    let server = Server::start(|ask, link| {
        let lie = ask.point_to("192.0.2.66");
        link.send(with_id(lie.clone(), ask.id() ^ 1));
        link.send_from_elsewhere(&lie);
        // Another name, another type, another class; the question itself; a query.
        for (index, bits) in [(13, 1), (ask.reply(0).len() - 3, 1), (ask.reply(0).len() - 1, 2)] {
            let mut other = lie.clone();
            other[index] ^= bits;
            link.send(other);
        }
        link.send(&ask.bytes);
        link.send([]);
        link.send([0xff; 700]);
        link.send(&lie[..11]);
        // As many as surely fit into the socket with the rest.
        for id in 0..100 {
            link.send(with_id(lie.clone(), ask.id().wrapping_add(2 + id)));
        }
        link.send(ask.point_to("192.0.2.1"));
        link.send(lie);
    });
    everywhere(|| {
        let resolver = resolver(&[&server], LONG);
        assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(resolver.metrics().queries, 1);
    });
}

/// DNS-1: the whole wait is a timeout for each attempt; the text is OpenResty's.
#[test]
fn nothing_but_lies_is_as_good_as_nothing() {
    everywhere(|| {
        let server = Server::start(|ask, link| {
            link.send(with_id(ask.point_to("192.0.2.66"), ask.id() ^ 1));
            link.send_from_elsewhere(ask.point_to("192.0.2.66"));
        });
        let resolver = resolver(&[&server], SHORT);
        let text = "www.test could not be resolved (110: Operation timed out)";
        assert_eq!(refusal(&resolver, "www.test"), text);
        // Once for each attempt.
        wait_until(|| server.counts() == (2, 0));
        assert_eq!(resolver.metrics().cached, 0);
    });
}

/// Ids and ports are what a forger has to guess.
#[test]
fn ids_and_ports_are_new_for_each_question() {
    let server = Server::start(|ask, link| link.send(ask.point_to("192.0.2.1")));
    everywhere(|| {
        let resolver = resolver(&[&server], LONG);
        for number in 0..64 {
            resolver.look_up(&format!("host-{number}.test")).unwrap();
        }
    });
    let asked = server.asked();
    let distinct = |numbers: &mut dyn Iterator<Item = u16>| {
        numbers.collect::<std::collections::HashSet<u16>>().len()
    };
    assert_eq!(asked.len(), 128);
    // Even of chance alone, a few may be the same.
    assert!(distinct(&mut asked.iter().map(Ask::id)) > 110);
    assert!(distinct(&mut asked.iter().map(|ask| ask.from.port())) > 100);
    let steps = asked.windows(2).map(|two| two[1].id().wrapping_sub(two[0].id()));
    assert!(distinct(&mut { steps }) > 110, "they can be foretold");
}

#[test]
fn the_case_of_letters_is_one_thing_more_to_guess() {
    let server = Server::start(|ask, link| {
        let mut lie = ask.point_to("192.0.2.66");
        lie[12..12 + ask.name.len()].make_ascii_lowercase();
        link.send(lie);
        link.send(ask.point_to("192.0.2.1"));
    });
    let mut config = config(&[&server], LONG);
    config.random_case = true;
    let resolver = Resolver::builder().config(config).no_hosts().ipv6(false).build();
    let name = "a-name-of-many-many-letters.test";
    assert_eq!(resolver.look_up(name).unwrap(), ips(&["192.0.2.1"]));
    assert!(server.asked()[0].name.eq_ignore_ascii_case(name));
    assert_eq!(resolver.look_up("A-NAME-of-many-many-letters.test").unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(server.counts().0, 1, "to the cache it is one name");
}

/// DNS-2, DNS-3: what does not fit is asked for by TCP, with the same id.
#[test]
fn what_is_cut_short_is_asked_for_by_tcp() {
    everywhere(|| {
        let server = Server::start(|ask, link| match ask.by_tcp {
            // It may be cut in the middle of a record.
            false => {
                let reply = ask.point_to("192.0.2.66");
                link.send(truncated(reply[..reply.len() - 3].to_vec()));
            }
            true => {
                let many: Vec<_> = (0..100)
                    .map(|last| address(&ask.name, 60, &format!("192.0.2.{last}")))
                    .collect();
                // First something that nobody asked for.
                link.send(framed(with_id(ask.point_to("192.0.2.66"), ask.id() ^ 1)));
                // And then a few bytes at a time.
                framed(ask.say(&many)).chunks(7).for_each(|bytes| link.send(bytes));
            }
        });
        let resolver = resolver(&[&server], LONG);
        assert_eq!(resolver.look_up("www.test").unwrap().len(), 100);
        let asked = server.asked();
        assert_eq!(server.counts(), (1, 1));
        assert_eq!(asked[0].id(), asked[1].id());
    });
}

/// Whatever goes wrong with TCP, there are other servers.
#[test]
fn a_server_that_fails_by_tcp_is_followed_by_the_next() {
    type Failing = fn(&Ask, &Link<'_>);
    let by_tcp: [Failing; 4] = [
        |ask, link| link.send(&framed(ask.point_to("192.0.2.66"))[..20]),
        |_, link| link.send([0, 0, 0, 0, 0, 3, 1, 2, 3]),
        |ask, link| link.send(framed(truncated(ask.reply(0)))),
        |ask, link| link.send(framed(ask.reply(SERVER_FAILURE))),
    ];
    let good = Server::start(|ask, link| link.send(ask.point_to("192.0.2.1")));
    for failing in by_tcp {
        let bad = Server::start(move |ask, link| match ask.by_tcp {
            false => link.send(truncated(ask.reply(0))),
            true => failing(ask, link),
        });
        everywhere(|| {
            let resolver = patient(&[&bad, &good], SHORT).build();
            assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["192.0.2.1"]));
        });
    }
}

/// CON-5: a name that is none never gets as far as a server.
#[test]
fn what_is_no_name_is_not_asked_for() {
    let server = Server::silent();
    let resolver = resolver(&[&server], LONG);
    assert_eq!(refusal(&resolver, ""), "failed to parse host name \"\": no host");
    for name in ["a..b", ".a", "a b", &"a".repeat(64), &["a".repeat(60).as_str(); 5].join(".")] {
        let start = format!("failed to parse host name \"{name}\": ");
        assert!(refusal(&resolver, name).starts_with(&start));
    }
    assert!(server.asked().is_empty());
    let nobody = resolver_of_nobody();
    assert_eq!(refusal(&nobody, "www.test"), "no resolver defined to resolve \"www.test\"");
    assert_eq!(nobody.look_up("[::1]").unwrap(), ips(&["::1"]));
    assert_eq!(nobody.look_up("192.0.2.1").unwrap(), ips(&["192.0.2.1"]));
}

fn resolver_of_nobody() -> Resolver {
    builder(&[], LONG).build()
}
