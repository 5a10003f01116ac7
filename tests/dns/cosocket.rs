//! CON-5: a cosocket that is given a name.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ::cosocket::net::TcpListener;
use ::cosocket::{Builder, Cosocket, Error, ErrorKind, Names, Runtime, UdpCosocket, thread};

use super::server::*;
use super::socket_util::{Nobody, everywhere, spawn_waiting};
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

/// Section 2, item 25: where nobody may wait, in mid-unwind, a look-up ends with its first wait; for
/// others who wait for the same name it goes on. Alone in a process, whose descriptors nobody else
/// opens and closes.
#[test]
fn a_look_up_where_nobody_may_wait_fails_and_leaves_nothing() {
    const NAME: &str = "cosocket::a_look_up_where_nobody_may_wait_fails_and_leaves_nothing";
    util::child::passes(NAME, || {
        let answers = Arc::new(AtomicBool::new(false));
        let may_answer = Arc::clone(&answers);
        let server = Server::start(move |ask, link| {
            if may_answer.load(Ordering::SeqCst) {
                link.send(ask.point_to("127.0.0.1"));
            }
        });
        let runtime = started_runtime();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let resolver = patient(&[&server], SHORT).build();
        let socket = Arc::new(asking(&resolver));
        let descriptors = util::descriptors();
        let errors = Arc::new(Mutex::new(Vec::new()));
        let tries_when_dropped = || {
            let (socket, resolver) = (Arc::clone(&socket), resolver.clone());
            let errors = Arc::clone(&errors);
            support::OnDrop(move || {
                let connected = socket.connect(("www.test", port)).unwrap_err().to_string();
                let looked_up = resolver.look_up("www.test").unwrap_err().to_string();
                let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
                errors.extend([connected, looked_up]);
            })
        };

        let guard = tries_when_dropped();
        let panics = runtime.spawn(move || {
            let _guard = guard;
            support::panic_quietly("on purpose");
        });
        panics.join().unwrap_err();
        assert_eq!(util::descriptors(), descriptors);

        // One is cancelled in its look-up, another waits for the same name, and a third asks for it
        // in mid-unwind when somebody else does already.
        let (guard, theirs) = (tries_when_dropped(), Arc::clone(&socket));
        let connecting = runtime.spawn(move || {
            let _guard = guard;
            theirs.connect(("www.test", port)).map(drop)
        });
        wait_until(|| resolver.metrics().look_ups == 3);
        let other = asking(&resolver);
        let waiting = runtime.spawn(move || other.connect(("www.test", port)).map(|()| other));
        wait_until(|| resolver.metrics().joined == 1);
        connecting.cancel();
        connecting.join().unwrap_err();
        let guard = tries_when_dropped();
        let panics = runtime.spawn(move || {
            let _guard = guard;
            support::panic_quietly("on purpose");
        });
        panics.join().unwrap_err();
        answers.store(true, Ordering::SeqCst);
        let other = waiting.join().unwrap().unwrap();

        let words = errors.lock().unwrap_or_else(PoisonError::into_inner).join("; ");
        assert_eq!(words.matches("coroutine is unwinding").count(), 6, "{words}");
        drop((other, listener.accept().unwrap()));
        assert_eq!(util::descriptors(), descriptors);
        let queries = resolver.metrics().queries;
        runtime.run(|| socket.connect(("www.test", port))).unwrap();
        assert_eq!(resolver.metrics().queries, queries, "it is known by now");
    });
}

/// Section 2, item 25: a thread's last destructors may wait, and do.
#[test]
fn a_look_up_in_a_destructor_of_a_thread_is_made() {
    struct Connects(Cosocket, u16, std::sync::mpsc::Sender<Result<(), Error>>);

    impl Drop for Connects {
        fn drop(&mut self) {
            let Connects(socket, port, told) = self;
            told.send(socket.connect(("www.test", *port))).unwrap();
        }
    }

    thread_local!(static LAST: RefCell<Option<Connects>> = const { RefCell::new(None) });

    let server = Server::start(|ask, link| link.send(ask.point_to("127.0.0.1")));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, connected) = std::sync::mpsc::channel();
    let connects = Connects(asking(&resolver(&[&server], LONG)), port, told);
    std::thread::spawn(|| LAST.set(Some(connects))).join().unwrap();
    connected.recv().unwrap().unwrap();
    assert_eq!(server.counts(), (1, 0));
}

/// A runtime whose workers have opened all their descriptors.
fn started_runtime() -> Runtime {
    let runtime = Builder::new().build().unwrap();
    runtime.spawn_on_each(|_| || ()).into_iter().for_each(|each| each.join().unwrap());
    runtime
}

/// Section 2, item 29: a question that cannot be sent fails its connect at once, as often as it is
/// tried, and leaves the socket as it was.
#[test]
fn a_question_that_cannot_be_sent_fails_at_once_each_time() {
    util::child::passes("cosocket::a_question_that_cannot_be_sent_fails_at_once_each_time", || {
        let runtime = started_runtime();
        runtime.run(assert_unsendable_questions_fail_at_once);
        assert_unsendable_questions_fail_at_once();
    });
}

fn assert_unsendable_questions_fail_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = Nobody::at("127.0.0.1");
    // The kernel refuses the one, the other's host does.
    for (server, words) in [
        ("255.255.255.255:53".parse().unwrap(), "Permission denied"),
        (nobody.address(), "Connection refused"),
    ] {
        let mut config = config(&[], LONG);
        config.servers.push(server);
        let resolver = Resolver::builder().config(config).no_hosts().build();
        let socket = asking(&resolver);
        let mut descriptors = None;
        for _ in 0..3 {
            let error = socket.connect(("www.test", 80)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Resolve);
            let text = error.to_string();
            let start = format!("www.test could not be resolved ({words}");
            assert!(text.starts_with(&start), "{text}");
            assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);
            assert_eq!(socket.close().unwrap_err().kind(), ErrorKind::Closed);
            // The first wait of a thread for others opens one that it keeps.
            let now = util::descriptors();
            assert_eq!(now, *descriptors.get_or_insert(now));
        }
        let metrics = resolver.metrics();
        assert_eq!((metrics.look_ups, metrics.joined, metrics.cached), (3, 0, 0));
        socket.connect(listener.local_addr().unwrap()).unwrap();
        let peer = Cosocket::from(listener.accept().unwrap().0);
        socket.send("whole").unwrap();
        assert_eq!(peer.receive_exact(5).unwrap(), b"whole");
    }
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
