//! CON-5: a cosocket that is given a name.

use std::sync::Arc;

use ::cosocket::net::TcpListener;
use ::cosocket::{Builder, Cosocket, ErrorKind, Names, UdpCosocket, thread};

use super::server::*;
use super::socket_util::{everywhere, spawn_waiting};
use super::*;
use crate::util::wait_until;

fn asking(resolver: &Resolver) -> Cosocket {
    let socket = Cosocket::new();
    socket.set_names(Some(Names::Resolver(resolver.clone())));
    socket
}

/// All addresses are tried, and connecting again asks nobody.
#[test]
fn a_cosocket_connects_to_whichever_address_accepts() {
    let server = Server::start(|ask, link| {
        let addresses =
            ["127.0.0.3", "127.0.0.2", "127.0.0.1"].map(|ip| address(&ask.name, 60, ip));
        link.send(if ask.kind == A { ask.say(&addresses) } else { ask.point_to("::1") });
    });
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let resolver = builder(&[&server], LONG).ipv6(true).build();
        let socket = asking(&resolver);
        for _ in 0..3 {
            socket.connect(("www.test", port)).unwrap();
            assert_eq!(socket.peer_addr().unwrap().to_string(), format!("127.0.0.1:{port}"));
        }
        assert_eq!(resolver.metrics().queries, 2);
        let datagrams = UdpCosocket::new();
        datagrams.set_names(Some(Names::Resolver(resolver.clone())));
        datagrams.set_peer_name(("www.test", port)).unwrap();
        assert_eq!(resolver.metrics().queries, 2);
    });
}

/// Section 2, items 7 and 8: the words, and what is left of the socket.
#[test]
fn what_the_resolver_says_is_what_connect_says() {
    everywhere(|| {
        let server = Server::start(|ask, link| match ask.name.as_str() {
            "silent.test" => {}
            "trouble.test" => link.send(ask.reply(SERVER_FAILURE)),
            _ => link.send(ask.deny(NO_SUCH_NAME, "test", 60)),
        });
        for (name, timeout, why) in [
            ("unknown.test", LONG, "3: Host not found"),
            ("silent.test", SHORT, "110: Operation timed out"),
            ("trouble.test", LONG, "2: Server failure"),
        ] {
            let socket = asking(&resolver(&[&server], timeout));
            let error = socket.connect((name, 80)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Resolve);
            assert_eq!(error.to_string(), format!("{name} could not be resolved ({why})"));
            assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);
        }
        let error = asking(&resolver(&[], LONG)).connect(("www.test", 80)).unwrap_err();
        assert_eq!(error.to_string(), "no resolver defined to resolve \"www.test\"");
    });
}

/// CON-4, DUP-6, section 2 item 124: while a name is looked up there is no connection yet, and one
/// who is cancelled there leaves a socket that can be used.
#[test]
fn a_look_up_can_be_cancelled_and_is_not_a_connection() {
    let runtime = Builder::new().build().unwrap();
    let server = Server::silent();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = Arc::new(asking(&resolver(&[&server], LONG)));
    let theirs = Arc::clone(&socket);
    let connecting = runtime.spawn(move || theirs.connect(("www.test", 80)).map(drop));
    wait_until(|| server.counts().0 == 1);
    assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
    let second = socket.connect(listener.local_addr().unwrap()).unwrap_err();
    assert_eq!(second.to_string(), "socket busy connecting");
    connecting.cancel();
    assert!(connecting.join().is_err());
    socket.connect(listener.local_addr().unwrap()).unwrap();
}

/// DUP-5: a close ends the wait of who connects, also while that is for a name server.
#[test]
fn a_close_ends_a_look_up() {
    let runtime = Builder::new().build().unwrap();
    let server = Server::silent();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = Arc::new(asking(&resolver(&[&server], LONG)));
    for round in 1..=2 {
        let theirs = Arc::clone(&socket);
        let connect = move || theirs.connect(("www.test", 80)).unwrap_err();
        // From a plain thread, then in a coroutine.
        let (plain, coroutine) = match round {
            1 => (Some(std::thread::spawn(connect)), None),
            _ => (None, Some(runtime.spawn(connect))),
        };
        wait_until(|| server.counts().0 == round);
        socket.close().unwrap();
        assert_eq!(socket.close().unwrap_err().kind(), ErrorKind::Closed);
        // At once it may be used again, and the one who leaves takes nothing down.
        socket.connect(listener.local_addr().unwrap()).unwrap();
        let error = match plain {
            Some(thread) => thread.join().unwrap(),
            None => coroutine.unwrap().join().unwrap(),
        };
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Cancelled, "canceled"));
        assert_eq!(socket.send("x").unwrap(), 1);
        socket.close().unwrap();
    }
}

/// The same of one who waits for another's answer, who is not disturbed, and whose limits and
/// cancels are its own.
#[test]
fn a_close_ends_no_look_up_of_others() {
    ::cosocket::run(|| {
        let server = Server::silent();
        let resolver = resolver(&[&server], LONG);
        let start = || {
            let socket = Arc::new(asking(&resolver));
            let theirs = Arc::clone(&socket);
            (socket, spawn_waiting(move || theirs.connect(("www.test", 80)).unwrap_err().kind()))
        };
        let ((first, leads), (second, follows)) = (start(), start());
        first.close().unwrap();
        assert_eq!(leads.join().unwrap(), ErrorKind::Cancelled);
        thread::sleep(SHORT);
        assert!(!follows.is_finished());
        second.close().unwrap();
        assert_eq!(follows.join().unwrap(), ErrorKind::Cancelled);
        // What was unwound has left nothing behind that ends other waits.
        thread::sleep(SHORT);
    });
}

/// The socket's choice, the runtime's, the default.
#[test]
fn who_is_asked_can_be_chosen() {
    let server = Server::start(|ask, link| link.send(ask.point_to("127.0.0.1")));
    let resolver = resolver(&[&server], LONG);
    let names = Names::Resolver(resolver.clone());
    let runtime = Builder::new().names(names).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    runtime.run(|| {
        let socket = Cosocket::new();
        socket.connect(("www.test", port)).unwrap();
        assert_eq!(server.counts().0, 1);
        socket.set_names(Some(Names::System));
        assert_eq!(socket.connect(("www.test", port)).unwrap_err().kind(), ErrorKind::Resolve);
        socket.connect(("localhost", port)).unwrap();
        socket.set_names(None);
        socket.connect(("www.test", port)).unwrap();
    });
    assert_eq!(server.counts().0, 1);
    assert!(matches!(Names::default(), Names::Resolver(_)), "of this feature");
}
