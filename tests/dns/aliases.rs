//! DNS-5: names that stand for others.

use super::server::*;
use super::socket_util::everywhere;
use super::*;

const LOOP: &str = "a.test could not be resolved (too many aliases)";

#[test]
fn a_chain_may_be_in_one_answer_or_in_several() {
    let server = Server::start(|ask, link| match ask.name.as_str() {
        "a.test" => {
            link.send(ask.say(&[alias("a.test", 60, "b.test"), alias("b.test", 60, "c.test")]))
        }
        "c.test" => link.send(ask.say(&[alias("c.test", 60, "D.test")])),
        "d.test" => {
            link.send(ask.say(&[alias("d.test", 60, "e.test"), address("e.test", 60, "192.0.2.1")]))
        }
        _ => link.send(ask.reply(NO_SUCH_NAME)),
    });
    everywhere(|| {
        let resolver = resolver(&[&server], LONG);
        assert_eq!(resolver.look_up("a.test").unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(resolver.metrics().queries, 3);
        assert_eq!(resolver.look_up("a.test").unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(resolver.metrics().queries, 3, "the first name is what is remembered");
    });
}

#[test]
fn a_loop_ends_in_one_answer_and_over_several() {
    everywhere(|| {
        let in_one = Server::start(|ask, link| {
            link.send(ask.say(&[alias("a.test", 60, "b.test"), alias("b.test", 60, "a.test")]));
        });
        assert_eq!(refusal(&resolver(&[&in_one], LONG), "a.test"), LOOP);
        assert_eq!(in_one.counts().0, 1);

        let over_two = Server::start(|ask, link| {
            let target = if ask.name == "a.test" { "b.test" } else { "a.test" };
            link.send(ask.say(&[alias(&ask.name, 60, target)]));
        });
        assert_eq!(refusal(&resolver(&[&over_two], LONG), "a.test"), LOOP);
        assert_eq!(over_two.counts().0, 17);

        let without_end = Server::start(|ask, link| {
            let target = format!("x{}", ask.name);
            link.send(ask.say(&[alias(&ask.name, 60, &target)]));
        });
        assert_eq!(refusal(&resolver(&[&without_end], LONG), "a.test"), LOOP);
        assert_eq!(without_end.counts().0, 17);
    });
}

/// A server that says more than it was asked is not believed.
#[test]
fn addresses_of_other_names_are_not_taken() {
    let server =
        Server::start(|ask, link| {
            link.send(ask.say(&[
                address("bank.test", 600, "192.0.2.66"),
                address(&ask.name, 60, "192.0.2.1"),
            ]));
        });
    let resolver = builder(&[&server], LONG).build();
    assert_eq!(resolver.look_up("a.test").unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(resolver.look_up("bank.test").unwrap().len(), 2);
    assert_eq!(server.counts().0, 2, "it was not remembered from the first answer");
}
