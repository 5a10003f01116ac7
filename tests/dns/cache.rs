//! DNS-6, DNS-7: what is remembered, and what is asked once for many.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use ::cosocket::time::{self, Elapsed};
use ::cosocket::{Builder, thread};

use super::server::*;
use super::socket_util::everywhere;
use super::*;
use crate::util::wait_until;

#[test]
fn answers_are_remembered_as_long_as_the_server_says() {
    everywhere(|| {
        let server = Server::start(|ask, link| match ask.name.as_str() {
            "kept.test" => link.send(ask.say(&[address(&ask.name, 60, "192.0.2.1")])),
            "not-kept.test" => link.send(ask.say(&[address(&ask.name, 0, "192.0.2.1")])),
            "no-name.test" => link.send(ask.deny(NO_SUCH_NAME, "test", 60)),
            "no-address.test" => link.send(ask.deny(0, "test", 60)),
            "no-word-of-time.test" => link.send(ask.reply(NO_SUCH_NAME)),
            "not-kept-either.test" => link.send(ask.deny(NO_SUCH_NAME, "test", 0)),
            _ => link.send(ask.reply(SERVER_FAILURE)),
        });
        let resolver = resolver(&[&server], LONG);
        let asked_for = |name: &str, times: usize| {
            let before = server.counts().0;
            for _ in 0..3 {
                match (name.starts_with("no-"), resolver.look_up(name)) {
                    (true, Err(error)) => {
                        let text = format!("{name} could not be resolved (3: Host not found)");
                        assert!(error.is_not_found());
                        assert_eq!(error.to_string(), text);
                    }
                    (false, outcome) => assert_eq!(outcome.is_ok(), name.contains("kept.")),
                    outcome => panic!("{name}: {outcome:?}"),
                }
            }
            assert_eq!(server.counts().0 - before, times, "{name}");
        };
        asked_for("kept.test", 1);
        asked_for("not-kept.test", 3);
        asked_for("no-name.test", 1);
        asked_for("no-address.test", 1);
        asked_for("no-word-of-time.test", 3);
        asked_for("not-kept-either.test", 3);
        asked_for("trouble.test", 6);
        assert_eq!(resolver.metrics().cached, 3);
        resolver.flush();
        assert_eq!(resolver.metrics().cached, 0);
        asked_for("kept.test", 1);
    });
}

/// DNS-6: a hundred at once are one question for each family.
#[test]
fn a_hundred_ask_one_question() {
    let runtime = Builder::new().build().unwrap();
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    let server = Server::start(move |ask, link| {
        if ask.kind == A {
            held.lock().unwrap().recv().unwrap();
        }
        link.send(ask.point_to("192.0.2.1"));
    });
    let resolver = builder(&[&server], LONG).ipv6(true).build();
    let askers: Vec<_> = (0..100)
        .map(|_| {
            let resolver = resolver.clone();
            runtime.spawn(move || resolver.look_up("www.test").unwrap())
        })
        .collect();
    wait_until(|| resolver.metrics().joined == 99);
    hold.send(()).unwrap();
    for asker in askers {
        assert_eq!(asker.join().unwrap(), ips(&["192.0.2.1"]));
    }
    assert_eq!(server.counts(), (2, 0));
    let metrics = resolver.metrics();
    assert_eq!((metrics.look_ups, metrics.from_cache, metrics.cached), (100, 0, 2));
}

/// DNS-7: a look-up that is cancelled ends at once; who waited with it is answered; what comes
/// late for it harms nobody.
#[test]
fn a_cancel_ends_one_wait_and_no_other() {
    let runtime = Builder::new().build().unwrap();
    let count = AtomicUsize::new(0);
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    let server = Server::start(move |ask, link| {
        // The first question is answered when nobody listens any more.
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            held.lock().unwrap().recv().unwrap();
        }
        link.send(ask.point_to("192.0.2.1"));
    });
    let server = Arc::new(server);
    let resolver = resolver(&[&server], LONG);
    let look_up = |resolver: &Resolver| {
        let resolver = resolver.clone();
        move || resolver.look_up("www.test").unwrap()
    };
    let leader = runtime.spawn(look_up(&resolver));
    wait_until(|| server.counts().0 == 1);
    let follower = runtime.spawn(look_up(&resolver));
    wait_until(|| resolver.metrics().joined == 1);
    leader.cancel();
    assert!(leader.join().is_err());
    // The follower asks again; the server still holds the first question.
    wait_until(|| resolver.metrics().queries == 2);
    hold.send(()).unwrap();
    assert_eq!(follower.join().unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(server.counts().0, 2);
}

#[test]
fn a_limit_around_a_look_up_ends_it_and_says_so() {
    let server = Server::silent();
    everywhere(|| {
        let resolver = resolver(&[&server], LONG);
        let outcome = time::timeout(Duration::from_millis(5), || resolver.look_up("www.test"));
        let error = io::Error::from(outcome.unwrap().unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.get_ref().unwrap().is::<Elapsed>(), "{error:?}");
    });
}

/// Waiting for a server blocks no worker: the server itself runs on it.
#[test]
fn one_worker_is_enough_for_both_sides() {
    let runtime = Builder::new().workers(1).build().unwrap();
    runtime.run(|| {
        let socket = ::cosocket::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut config = Config::default();
        config.servers = vec![socket.local_addr().unwrap()];
        config.timeout = LONG;
        let server = thread::spawn(move || {
            let mut buffer = [0; 512];
            let (len, client) = socket.recv_from(&mut buffer).unwrap();
            let mut reply = buffer[..len - 11].to_vec();
            reply[2] = 0x80;
            reply[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
            reply.extend(address("www.test", 60, "192.0.2.1"));
            socket.send_to(&reply, client).unwrap();
        });
        let resolver = Resolver::builder().config(config).no_hosts().ipv6(false).build();
        assert_eq!(resolver.look_up("www.test").unwrap(), ips(&["192.0.2.1"]));
        server.join().unwrap();
    });
}
