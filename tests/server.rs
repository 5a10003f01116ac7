//! A server's life: listening, accepting, limits, rules, a peer that leaves, the end. Rows SRV-3
//! to SRV-8 and UNX-1 of the behaviour table.

#![allow(unsafe_code)]

mod socket_util;
mod support;
mod util;

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cosocket::net::{TcpBuilder, TcpListener, TcpStream};
use cosocket::os::unix::net::{UnixListener, UnixStream};
use cosocket::server::{
    Cidr, Connection, Event, Lingering, Listeners, Peers, Refusal, RunningServer, Server, WhenFull,
};
use cosocket::sync::{Semaphore, mpsc};
use cosocket::time::timeout;
use cosocket::{Address, Builder, Cosocket, ErrorKind, Stream, shield, thread};
use socket_util::{everywhere, turn, until};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

fn local() -> Server {
    Server::new().listen("127.0.0.1:0")
}

fn connect(server: &RunningServer) -> TcpStream {
    TcpStream::connect(server.tcp_addr().unwrap()).unwrap()
}

fn echo(connection: Connection) -> io::Result<()> {
    io::copy(&mut &connection, &mut &connection).map(drop)
}

/// Sends and gets the same back.
fn assert_served(mut stream: impl Read + Write) {
    let mut answer = [0; 4];
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
}

/// The end comes, and nothing before it: at once, or as a reset.
fn assert_closed(mut stream: impl Read) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

fn is_sending(socket: &Cosocket) -> bool {
    matches!(socket.try_send(b"").map_err(|error| error.kind()), Err(ErrorKind::BusyWriting))
}

fn path(name: &str) -> PathBuf {
    let name = format!("cosocket-server-{}-{name}", std::process::id());
    std::env::temp_dir().join(name)
}

/// What a server has told, as words.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn by(&self, server: Server) -> Server {
        let told = self.clone();
        server.on_event(move |event| told.0.lock().unwrap().push(event.to_string()))
    }

    fn count(&self, words: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|event| event.contains(words)).count()
    }
}

#[test]
fn a_server_serves_over_tcp_and_unix_sockets_at_once() {
    everywhere(|| {
        let path = path("both");
        let server = local().listen("[::1]:0").listen_unix(&path).start(echo).unwrap();
        let addresses: Vec<Address> = server.addresses().cloned().collect();
        assert_eq!(addresses.len(), 3);
        for address in &addresses[..2] {
            assert_served(TcpStream::connect(address.as_ip().unwrap()).unwrap());
        }
        assert_eq!(addresses[2].as_unix().unwrap().as_pathname(), Some(&*path));
        assert_served(UnixStream::connect(&path).unwrap());
        let end = server.shutdown(LONG);
        assert_eq!((end.cancelled, end.stragglers.len()), (0, 0));
        assert!(!path.exists());
        server.wait().unwrap();
    });
}

/// SRV-3
#[test]
fn a_port_is_had_once_unless_it_is_shared() {
    everywhere(|| {
        let first = local().start(echo).unwrap();
        let address = first.tcp_addr().unwrap();
        let error = Server::new().listen(address).start(echo).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        let shared = || local().listeners(Listeners::PerWorker);
        let first = shared().start(echo).unwrap();
        let address = first.tcp_addr().unwrap();
        let second = Server::new().listen(address).listeners(Listeners::PerWorker);
        let second = second.start(echo).unwrap();
        assert_eq!(second.tcp_addr(), Some(address));
        assert_served(connect(&first));
    });
}

#[test]
fn a_server_that_listens_nowhere_does_not_start() {
    let error = Server::new().start(echo).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    // Of several places, one that cannot be had frees the others.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let path = path("nowhere");
    let error = Server::new().listen_unix(&path).listen(taken).start(echo).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(!path.exists());
    let named = Server::new().listen("no such name:80").start(echo);
    assert!(named.is_err());
}

/// SRV-4, SRV-6
#[test]
fn every_connection_of_a_crowd_is_served_once() {
    let crowd = if util::is_quick() { 500 } else { 10_000 };
    for listeners in [Listeners::Shared, Listeners::PerWorker] {
        for batch in [1, usize::MAX] {
            cosocket::run(|| {
                let served = Arc::new(AtomicUsize::new(0));
                let counted = Arc::clone(&served);
                let server = local().listeners(listeners).accept_batch(batch);
                let server = server.start(move |mut connection| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    connection.write_all(b"!")
                });
                let server = server.unwrap();
                let clients: Vec<_> = (0..10)
                    .map(|_| {
                        let address = server.tcp_addr().unwrap();
                        thread::spawn(move || {
                            for _ in 0..crowd / 40 {
                                let mut stream = TcpStream::connect(address).unwrap();
                                let mut answer = Vec::new();
                                stream.read_to_end(&mut answer).unwrap();
                                assert_eq!(answer, b"!");
                            }
                        })
                    })
                    .collect();
                clients.into_iter().for_each(|client| client.join().unwrap());
                assert!(server.shutdown(LONG).stragglers.is_empty());
                assert_eq!(served.load(Ordering::Relaxed), 10 * (crowd / 40));
            });
        }
    }
}

/// SRV-3, SRV-6: which acceptor a connection comes to, nobody knows; not all come to one.
#[test]
fn several_workers_share_the_load_of_a_port() {
    let runtime = Builder::new().workers(4).build().unwrap();
    for listeners in [Listeners::Shared, Listeners::PerWorker] {
        let threads = Arc::new(Mutex::new(HashSet::new()));
        let seen = Arc::clone(&threads);
        let server = local().listeners(listeners).start_on(&runtime, move |connection| {
            seen.lock().unwrap().insert(util::os_thread());
            echo(connection)
        });
        let server = server.unwrap();
        let clients: Vec<TcpStream> = (0..200).map(|_| connect(&server)).collect();
        clients.iter().for_each(assert_served);
        assert!(threads.lock().unwrap().len() > 1, "{listeners:?}");
    }
}

#[test]
fn a_connection_knows_both_its_ends() {
    everywhere(|| {
        let (told, telling) = mpsc::channel();
        let server = Server::new().listen("0.0.0.0:0").start(move |connection| {
            let names = [connection.peer().clone(), connection.local()?];
            assert_eq!(connection.socket_peer(), connection.peer());
            assert_eq!(connection.socket_local()?, connection.local()?);
            assert_eq!(connection.listener().ip().unwrap().to_string(), "0.0.0.0");
            assert!(connection.proxy_header().is_none() && connection.as_unix().is_none());
            let Stream::Tcp(stream) = connection.into_stream() else { unreachable!() };
            told.send((names, stream.peer_addr()?)).unwrap();
            Ok(())
        });
        let server = server.unwrap();
        let port = server.tcp_addr().unwrap().port();
        let stream = TcpStream::connect(("127.0.0.9", port)).unwrap();
        let ours = stream.local_addr().unwrap();
        let theirs = format!("127.0.0.9:{port}").parse().unwrap();
        let (names, peer) = telling.recv().unwrap();
        assert_eq!(names, [Address::Ip(ours), Address::Ip(theirs)]);
        assert_eq!(peer, ours);
    });
}

#[test]
fn more_connections_than_there_may_be_wait_or_are_refused() {
    everywhere(|| {
        let server = local().max_connections(2, WhenFull::Wait).start(echo).unwrap();
        let (one, other, mut third) = (connect(&server), connect(&server), connect(&server));
        assert_served(&one);
        assert_served(&other);
        third.write_all(b"ping").unwrap();
        third.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(third.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(server.connections(), 2);
        third.set_read_timeout(None).unwrap();
        drop(one);
        third.read_exact(&mut [0; 4]).unwrap();
        assert_served(&third);

        let told = Told::default();
        let server = told.by(local().max_connections(2, WhenFull::Refuse)).start(echo).unwrap();
        let (one, other) = (connect(&server), connect(&server));
        assert_served(&one);
        assert_served(&other);
        assert_closed(connect(&server));
        assert_eq!(told.count("too many connections"), 1);
        drop(one);
        until(|| server.connections() < 2);
        assert_served(connect(&server));
    });
}

#[test]
fn a_limit_of_one_holds_for_all_listeners_and_starves_none() {
    everywhere(|| {
        let server = local().listen("127.0.0.1:0").max_connections(1, WhenFull::Wait);
        let server = server.start(echo).unwrap();
        let addresses: Vec<_> = server.addresses().map(|a| a.as_ip().unwrap()).collect();
        for _ in 0..20 {
            for address in &addresses {
                assert_served(TcpStream::connect(address).unwrap());
            }
        }
    });
}

#[test]
fn rules_say_who_may_come() {
    everywhere(|| {
        let told = Told::default();
        let path = path("rules");
        let network = |text: &str| text.parse::<Cidr>().unwrap();
        let server = told.by(Server::new().listen("[::]:0").listen_unix(&path));
        let server = server.deny(network("127.0.0.3")).allow(network("127.0.0.0/28"));
        let server = server.allow(Peers::Unix).deny(Peers::All).start(echo).unwrap();
        let to = ("127.0.0.1", server.tcp_addr().unwrap().port());
        let from = |ip: &str| {
            let address = format!("{ip}:0").parse().unwrap();
            TcpBuilder::new().local_addr(address).connect(to).unwrap()
        };
        // IPv4 addresses, though the listener on [::] sees them in IPv6's clothes.
        assert_served(from("127.0.0.2"));
        assert_closed(from("127.0.0.3"));
        assert_closed(from("127.0.0.16"));
        assert_served(UnixStream::connect(&path).unwrap());
        assert_eq!(told.count("refused: denied"), 2);
    });
}

/// SRV-7: within one turn of the loop; the handler goes on.
#[test]
fn a_peer_that_leaves_is_noticed_while_the_handler_works() {
    let runtime = Builder::new().workers(1).build().unwrap();
    for leave in [Shutdown::Write, Shutdown::Both] {
        for sends_before in [false, true] {
            runtime.run(|| {
                let aborted = Arc::new(AtomicUsize::new(0));
                let go_on = Arc::new(Semaphore::new(0));
                let seen = Arc::clone(&aborted);
                let wait = Arc::clone(&go_on);
                let server = local().start(move |connection| {
                    let counted = Arc::clone(&seen);
                    connection.on_abort(move || {
                        counted.fetch_add(1, Ordering::SeqCst);
                        turn();
                        counted.fetch_add(10, Ordering::SeqCst);
                    })?;
                    let error = connection.on_abort(|| ()).unwrap_err();
                    assert_eq!(error.to_string(), "duplicate call");
                    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
                    assert!(!connection.is_aborted());
                    wait.acquire().unwrap().forget();
                    assert!(connection.is_aborted());
                    seen.fetch_add(100, Ordering::SeqCst);
                    Ok(())
                });
                let server = server.unwrap();
                let mut client = connect(&server);
                if sends_before {
                    client.write_all(b"not read").unwrap();
                }
                until(|| server.connections() == 1);
                // It has begun to watch.
                (0..3).for_each(|_| turn());
                assert_eq!(aborted.load(Ordering::SeqCst), 0);
                client.shutdown(leave).unwrap();
                (0..2).for_each(|_| turn());
                assert_ne!(aborted.load(Ordering::SeqCst), 0, "not in one turn");
                go_on.add_permits(1);
                // The callback comes to its end, though the connection may be gone before.
                until(|| aborted.load(Ordering::SeqCst) == 111);
            });
        }
    }
}

/// SRV-7
#[test]
fn a_handler_that_ends_first_is_no_abort() {
    everywhere(|| {
        let aborted = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&aborted);
        let server = local().start(move |mut connection| {
            let seen = Arc::clone(&seen);
            connection.on_abort(move || seen.store(true, Ordering::SeqCst))?;
            connection.read_exact(&mut [0; 4])?;
            connection.write_all(b"ping")
        });
        let server = server.unwrap();
        for _ in 0..20 {
            let client = connect(&server);
            assert_served(&client);
            assert_closed(&client);
        }
        assert!(server.shutdown(LONG).stragglers.is_empty());
        assert!(!aborted.load(Ordering::SeqCst));
    });
}

/// SRV-7, with the option: the handler is cancelled, in whatever wait it is.
#[test]
fn a_handler_can_be_cancelled_when_its_peer_leaves() {
    everywhere(|| {
        let drops = support::Drops::default();
        let counted = drops.clone();
        let server = local().cancel_on_abort(true).start(move |connection| {
            let _counted = counted.counted();
            assert!(connection.on_abort(|| ()).is_err());
            thread::sleep(LONG);
            unreachable!("cancelled");
        });
        let server = server.unwrap();
        let clients: Vec<TcpStream> = (0..3).map(|_| connect(&server)).collect();
        until(|| server.connections() == 3);
        drop(clients);
        until(|| server.connections() == 0);
        assert_eq!(drops.count(), 3);
    });
}

/// SRV-7, for a handler that works with a cosocket.
#[test]
fn a_watch_can_outlive_the_connection_it_was_begun_on() {
    everywhere(|| {
        let server = local().cancel_on_abort(true).start(|mut connection| {
            let watch = connection.take_watch();
            let socket = connection.into_cosocket();
            assert_eq!(socket.receive_exact(4)?, b"ping");
            socket.send(b"ping")?;
            assert!(!watch.is_aborted());
            thread::sleep(LONG);
            unreachable!("cancelled");
        });
        let server = server.unwrap();
        let client = connect(&server);
        assert_served(&client);
        drop(client);
        until(|| server.connections() == 0);
        // Without the watch nobody notices.
        let (gone, is_gone) = mpsc::channel();
        let is_gone = Mutex::new(is_gone);
        let server = local().cancel_on_abort(true).start(move |connection| {
            let socket = connection.into_cosocket();
            is_gone.lock().unwrap().recv().unwrap();
            (0..3).for_each(|_| turn());
            drop(socket);
            Ok(())
        });
        let server = server.unwrap();
        let client = connect(&server);
        until(|| server.connections() == 1);
        (0..3).for_each(|_| turn());
        drop(client);
        gone.send(()).unwrap();
        assert_eq!(server.shutdown(LONG).cancelled, 0);
    });
}

#[test]
fn watching_leaves_no_descriptor_behind() {
    cosocket::run(|| {
        let server = local().start(|connection| {
            connection.on_abort(|| ())?;
            echo(connection)
        });
        let server = server.unwrap();
        assert_served(connect(&server));
        until(|| server.connections() == 0);
        (0..3).for_each(|_| turn());
        let before = util::descriptors();
        for _ in 0..50 {
            assert_served(connect(&server));
        }
        until(|| server.connections() == 0 && util::descriptors() <= before);
    });
}

/// OpenResty's `ngx.eof`: the response ends, the work goes on.
#[test]
fn work_goes_on_after_the_response() {
    everywhere(|| {
        let (go, gone) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        let gone = Mutex::new(gone);
        let server = local().start(move |mut connection| {
            connection.write_all(b"response")?;
            connection.finish()?;
            let error = connection.write_all(b"more").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            gone.lock().unwrap().recv().unwrap();
            done.send(()).unwrap();
            Ok(())
        });
        let server = server.unwrap();
        let mut response = String::new();
        connect(&server).read_to_string(&mut response).unwrap();
        assert_eq!(response, "response");
        assert!(is_done.try_recv().is_err());
        go.send(()).unwrap();
        is_done.recv().unwrap();
    });
}

#[test]
fn a_lingering_close_lets_the_response_arrive() {
    everywhere(|| {
        let server = local().start(|mut connection| {
            connection.write_all(b"413 too long")?;
            connection.close_lingering(Lingering::default())
        });
        let server = server.unwrap();
        let client = connect(&server);
        // More than fits: without lingering this meets a reset, and the response may be lost.
        (&client).write_all(&[0; 4 << 20]).unwrap();
        let mut response = String::new();
        (&client).read_to_string(&mut response).unwrap();
        assert_eq!(response, "413 too long");
        drop(client);
        until(|| server.connections() == 0);
    });
}

#[test]
fn a_lingering_close_ends_when_its_time_is_up() {
    everywhere(|| {
        let (told, telling) = mpsc::channel();
        let server = local().start(move |connection| {
            let idle = Lingering { total: LONG, idle: SHORT };
            told.send(connection.close_lingering(idle).map_err(|error| error.kind())).unwrap();
            Ok(())
        });
        let server = server.unwrap();
        let client = connect(&server);
        assert_eq!(telling.recv().unwrap(), Err(io::ErrorKind::TimedOut));
        assert_closed(&client);

        let (told, telling) = mpsc::channel();
        let server = local().start(move |connection| {
            let total = Lingering { total: SHORT, idle: LONG };
            told.send(connection.close_lingering(total).map_err(|error| error.kind())).unwrap();
            Ok(())
        });
        let server = server.unwrap();
        let client = connect(&server);
        // It reads on until its time is up, and is gone then.
        while (&client).write_all(&[0; 100]).is_ok() {
            turn();
        }
        assert_eq!(telling.recv().unwrap(), Err(io::ErrorKind::TimedOut));
    });
}

/// SRV-8
#[test]
fn a_drain_accepts_nobody_and_lets_handlers_finish() {
    everywhere(|| {
        let server = Arc::new(local().start(echo).unwrap());
        let client = connect(&server);
        assert_served(&client);
        let address = server.tcp_addr().unwrap();
        let ending = Arc::clone(&server);
        let shutdown = thread::spawn(move || ending.shutdown(LONG));
        until(|| std::net::TcpStream::connect(address).is_err());
        // Still served, for as long as it wants.
        assert_served(&client);
        assert!(!shutdown.is_finished());
        drop(client);
        let end = shutdown.join().unwrap();
        assert_eq!((end.cancelled, end.stragglers.len()), (0, 0));
    });
}

/// SRV-8: those whom the kernel has connected already are served.
#[test]
fn a_drain_serves_what_waits_in_the_queue() {
    cosocket::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new().listener(listener).max_connections(1, WhenFull::Wait);
        let server = server.start(echo).unwrap();
        let first = connect(&server);
        assert_served(&first);
        // The limit keeps them in the queue.
        let waiting: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
        let clients = thread::spawn(move || {
            drop(first);
            for client in waiting {
                assert_served(&client);
            }
        });
        let end = server.shutdown(LONG);
        assert_eq!((end.cancelled, end.stragglers.len()), (0, 0));
        clients.join().unwrap();
    });
}

/// SRV-8: a blocked receive is cancelled at the deadline, its destructors run.
#[test]
fn what_is_not_over_by_the_deadline_is_cancelled() {
    everywhere(|| {
        let drops = support::Drops::default();
        let counted = drops.clone();
        let server = local().start(move |mut connection| {
            let _counted = counted.counted();
            connection.read_exact(&mut [0]).unwrap();
            unreachable!("nothing was sent");
        });
        let server = server.unwrap();
        let clients: Vec<TcpStream> = (0..3).map(|_| connect(&server)).collect();
        until(|| server.connections() == 3);
        let end = server.shutdown(SHORT);
        assert_eq!((end.cancelled, end.stragglers.len()), (3, 0));
        assert_eq!(drops.count(), 3);
        clients.iter().for_each(assert_closed);
    });
}

/// SRV-8; section 2, item 46: a handler leaves, or is made to, while it is blocked in a send.
#[test]
fn a_send_that_nobody_takes_ends_with_its_handler() {
    const MUCH: usize = 50 << 20;
    everywhere(|| {
        let told = Told::default();
        let server = told.by(local()).start(move |connection| {
            let socket = connection.into_cosocket();
            socket.set_timeout(LONG)?;
            if socket.receive_line()? == b"leave" {
                return thread::try_scope(|scope| {
                    scope.spawn(|| {
                        until(|| is_sending(&socket));
                        Err::<(), _>(io::Error::other("quitting request now"))
                    });
                    socket.send(vec![7_u8; MUCH])?;
                    unreachable!("nobody reads so much");
                });
            }
            socket.send(vec![7_u8; MUCH])?;
            unreachable!("nobody reads so much");
        });
        let server = server.unwrap();
        for (line, cancelled) in [(&b"leave\n"[..], 0), (b"stay\n", 1)] {
            let mut client = connect(&server);
            client.write_all(line).unwrap();
            let mut received = vec![0; 1000];
            client.read_exact(&mut received).unwrap();
            if cancelled > 0 {
                let end = server.shutdown(SHORT);
                assert_eq!((end.cancelled, end.stragglers.len()), (cancelled, 0));
            }
            until(|| server.connections() == 0);
            client.read_to_end(&mut received).unwrap();
            assert!(received.len() < MUCH && received.iter().all(|byte| *byte == 7));
        }
        assert_eq!(told.count("quitting request now"), 1);
        assert_eq!(told.0.lock().unwrap().len(), 1, "{told:?}");
    });
}

/// SRV-8
#[test]
fn who_outlives_the_cancel_is_named() {
    cosocket::run(|| {
        let go = Arc::new(Semaphore::new(0));
        let wait = Arc::clone(&go);
        let server = local().start(move |_connection| {
            shield(|| wait.acquire().unwrap().forget());
            Ok(())
        });
        let server = server.unwrap();
        let client = connect(&server);
        until(|| server.connections() == 1);
        let end = server.shutdown(Duration::ZERO);
        assert_eq!((end.cancelled, end.stragglers.len()), (1, 1));
        let straggler = &end.stragglers[0];
        assert_eq!(straggler.peer(), &Address::Ip(client.local_addr().unwrap()));
        assert!(straggler.to_string().starts_with("127.0.0.1:"), "{straggler}");
        assert!(straggler.id().is_some() && straggler.age() > Duration::ZERO);
        go.add_permits(1);
        until(|| server.connections() == 0);
        assert!(server.shutdown(Duration::ZERO).stragglers.is_empty());
    });
}

/// SRV-8: between two requests nobody is held up, and no request is lost.
#[test]
fn an_idle_connection_ends_when_the_server_drains() {
    everywhere(|| {
        let server = local().start(|mut connection| {
            while connection.wait_request()? {
                connection.read_exact(&mut [0; 4])?;
                connection.write_all(b"ping")?;
            }
            assert!(connection.is_draining());
            Ok(())
        });
        let server = server.unwrap();
        let idle: Vec<TcpStream> = (0..3).map(|_| connect(&server)).collect();
        idle.iter().for_each(assert_served);
        let mut busy = connect(&server);
        assert_served(&busy);
        // Perhaps the server has read it by the time, perhaps not: it is answered.
        busy.write_all(b"ping").unwrap();
        let end = server.shutdown(LONG);
        assert_eq!((end.cancelled, end.stragglers.len()), (0, 0));
        idle.iter().for_each(assert_closed);
        busy.read_exact(&mut [0; 4]).unwrap();
        assert_closed(&busy);
    });
}

#[test]
fn waiting_for_a_request_ends_with_the_peer_and_with_a_timeout() {
    everywhere(|| {
        let (told, telling) = mpsc::channel();
        let server = local().start(move |connection| {
            let kind = |error: io::Error| error.kind();
            let waited = || connection.wait_request().map_err(kind);
            told.send(timeout(SHORT, waited).unwrap()).unwrap();
            told.send(waited()).unwrap();
            assert!(!connection.is_draining());
            Ok(())
        });
        let server = server.unwrap();
        let client = connect(&server);
        assert_eq!(telling.recv().unwrap(), Err(io::ErrorKind::TimedOut));
        drop(client);
        assert_eq!(telling.recv().unwrap(), Ok(false));
    });
}

#[test]
fn a_server_that_is_dropped_ends_at_once() {
    everywhere(|| {
        let server = local().start(echo).unwrap();
        let address = server.tcp_addr().unwrap();
        let client = connect(&server);
        assert_served(&client);
        drop(server);
        assert_closed(&client);
        until(|| std::net::TcpStream::connect(address).is_err());
    });
}

#[test]
fn a_shutdown_that_is_cut_cancels_the_handlers() {
    cosocket::run(|| {
        let server = local().start(echo).unwrap();
        let client = connect(&server);
        assert_served(&client);
        timeout(SHORT, || server.shutdown(LONG)).unwrap_err();
        assert_closed(&client);
        assert!(server.shutdown(LONG).stragglers.is_empty());
    });
}

#[test]
fn a_broken_listener_ends_the_server_with_its_error() {
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let handle = listener.try_clone().unwrap();
        let told = Told::default();
        let server = told.by(Server::new().listener(listener)).start(echo).unwrap();
        let client = connect(&server);
        assert_served(&client);
        socket2::SockRef::from(&handle).shutdown(Shutdown::Both).unwrap();
        let error = server.wait().unwrap_err();
        assert!(error.to_string().contains("Invalid argument"), "{error}");
        let address = server.tcp_addr().unwrap().to_string();
        assert!(error.to_string().contains(&address), "{error}");
        assert_ne!(told.count("is broken"), 0);
        // Those who are there are served to the end.
        assert_served(&client);
    });
}

#[test]
fn what_a_handler_returns_is_told_and_a_panic_is_its_own() {
    everywhere(|| {
        let told = Told::default();
        let server = told.by(local()).start(|mut connection| {
            let mut byte = [0];
            connection.read_exact(&mut byte)?;
            match byte {
                [b'e'] => Err(io::Error::other("no such thing")),
                [b'p'] => support::panic_quietly("handler"),
                _ => connection.write_all(&byte),
            }
        });
        let server = server.unwrap();
        for byte in [b"e", b"p"] {
            let mut client = connect(&server);
            client.write_all(byte).unwrap();
            assert_closed(&client);
        }
        let mut client = connect(&server);
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        until(|| server.connections() == 0);
        assert_eq!(told.count("no such thing"), 1);
        assert_eq!(told.0.lock().unwrap().len(), 1);
    });
}

#[test]
fn a_refusal_names_its_peer() {
    cosocket::run(|| {
        let (told, telling) = mpsc::channel();
        let server = local().deny(Peers::All).on_event(move |event| {
            if let Event::Refused { peer, refusal: Refusal::Denied } = event {
                told.send((*peer).clone()).unwrap();
            }
        });
        let server = server.start(echo).unwrap();
        let client = connect(&server);
        assert_eq!(telling.recv().unwrap(), Address::Ip(client.local_addr().unwrap()));
    });
}

/// UNX-1
#[test]
fn a_stale_path_is_replaced_and_a_live_one_is_not() {
    everywhere(|| {
        let path = path("stale");
        let bind = || Server::new().listen_unix(&path).unix_mode(0o600);
        // Its server is gone, the file is not.
        drop(UnixListener::bind(&path).unwrap());
        let error = bind().replace_stale(false).start(echo).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let server = bind().start(echo).unwrap();
        assert_served(UnixStream::connect(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Somebody listens.
        let error = bind().start(echo).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_served(UnixStream::connect(&path).unwrap());
        drop(server);
        assert!(!path.exists());
        // Whatever it is, it is no socket.
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind().start(echo).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
    });
}

#[test]
fn a_limit_may_be_as_high_as_one_likes() {
    let server = local().max_connections(usize::MAX, WhenFull::Wait).start(echo).unwrap();
    assert_served(connect(&server));
}

/// The kernel would take what comes before the NUL for the path.
#[test]
fn a_path_with_a_nul_is_refused() {
    let (short, long) = (path("cut"), path("cut\0off"));
    let error = Server::new().listen_unix(long).start(echo).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().ends_with("paths must not contain interior null bytes"), "{error}");
    assert!(!short.exists());
}

/// UNX-1: a path that somebody else has taken over since is not removed.
#[test]
fn a_path_that_is_another_servers_by_now_stays() {
    cosocket::run(|| {
        let path = path("taken");
        let old = Server::new().listen_unix(&path).start(echo).unwrap();
        fs::remove_file(&path).unwrap();
        let new = Server::new().listen_unix(&path).start(echo).unwrap();
        assert!(old.shutdown(LONG).stragglers.is_empty());
        assert_served(UnixStream::connect(&path).unwrap());
        assert!(new.shutdown(LONG).stragglers.is_empty());
        assert!(!path.exists());
    });
}

/// UNX-1: connects wait for room in the backlog, and none fails.
#[test]
fn two_hundred_connect_to_a_unix_socket_with_a_backlog_of_one() {
    cosocket::run(|| {
        let path = path("crowd");
        let server = Server::new().listen_unix(&path).backlog(1).start(echo).unwrap();
        let clients: Vec<_> = (0..200)
            .map(|_| {
                let path = path.clone();
                thread::spawn(move || assert_served(UnixStream::connect(path).unwrap()))
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert!(server.shutdown(LONG).stragglers.is_empty());
    });
}

// SRV-8. Once who waited for the end waited for ever, when the wait for the handlers was cut.
#[test]
fn a_shutdown_that_is_cut_is_the_end_too() {
    everywhere(|| {
        let server = local().start(echo).unwrap();
        let client = connect(&server);
        until(|| server.connections() == 1);
        timeout(SHORT, || server.shutdown(LONG)).unwrap_err();
        server.wait().unwrap();
        assert_closed(client);
    });
}

// SRV-8. Once who waited for the end waited for ever.
#[test]
fn a_server_is_over_when_its_runtime_is() {
    let runtime = Builder::new().workers(1).build().unwrap();
    let server = local().start_on(&runtime, echo).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| server.wait());
        drop(runtime);
        let error = waits.join().unwrap().unwrap_err();
        assert!(error.to_string().ends_with("has ended"), "{error}");
    });
    let end = server.shutdown(LONG);
    assert_eq!((end.cancelled, end.stragglers.len()), (0, 0));
}

// SRV-8. Once, when clients came faster than they were served, a drain took all of its time, and
// cancelled those that it served then.
#[test]
fn a_drain_ends_though_clients_keep_coming() {
    everywhere(|| {
        let server = local().max_connections(1, WhenFull::Wait).start(echo).unwrap();
        let address = server.tcp_addr().unwrap();
        let (served, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let client = || {
            let (served, over) = (Arc::clone(&served), Arc::clone(&over));
            move || {
                while !over.load(Ordering::SeqCst) {
                    let Ok(mut stream) = TcpStream::connect(address) else { return };
                    let mut answer = [0; 4];
                    if stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok() {
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        };
        let clients: Vec<_> = (0..10).map(|_| thread::spawn(client())).collect();
        until(|| served.load(Ordering::SeqCst) >= 100);
        let before = served.load(Ordering::SeqCst);
        let end = server.shutdown(Duration::from_secs(5));
        let meanwhile = served.load(Ordering::SeqCst) - before;
        over.store(true, Ordering::SeqCst);
        assert_eq!(end.cancelled, 0);
        // Each of them was in a queue once, or in one after the other's.
        assert!(meanwhile <= 10 * 10, "{meanwhile}");
        drop(server);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}
