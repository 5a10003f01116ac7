//! Accepting: several acceptors, clones, workers, and acceptors that give up.

mod socket_util;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{Builder, thread};
use socket_util::{Agents, everywhere, spawn_waiting, turn};

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn both_ends_agree_on_their_addresses() {
    everywhere(|| {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let address = listener.local_addr().unwrap();
            assert_ne!(address.port(), 0);
            let client = TcpStream::connect(address).unwrap();
            let (server, peer) = listener.accept().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(server.peer_addr().unwrap(), peer);
            assert_eq!(server.local_addr().unwrap(), address);
            assert_eq!(client.peer_addr().unwrap(), address);
            assert_eq!(address.is_ipv6(), at.starts_with('['));
        }
    });
}

#[test]
fn a_wildcard_v6_listener_takes_v4_connections_as_stds_does() {
    everywhere(|| {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), "::ffff:127.0.0.1".parse::<std::net::IpAddr>().unwrap());
    });
}

#[test]
fn incoming_yields_connections_in_their_order_and_never_ends() {
    cosocket::run(|| {
        let (listener, address) = listen();
        let clients: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        let from = |stream: &TcpStream| stream.peer_addr().unwrap();
        let expected: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
        let borrowed: Vec<_> = listener.incoming().take(5).map(|s| from(&s.unwrap())).collect();
        let owned: Vec<_> = listener.into_incoming().take(5).map(|s| from(&s.unwrap())).collect();
        assert_eq!([borrowed, owned].concat(), expected);
    });
}

/// Accepts until a connection says it is the last, and passes that on.
fn accept_all(listener: &TcpListener, accepted: &AtomicUsize) -> Vec<u8> {
    let mut names = Vec::new();
    for stream in listener.incoming() {
        let mut name = Vec::new();
        stream.unwrap().read_to_end(&mut name).unwrap();
        match name[..] {
            [] => return names,
            [name] => names.push(name),
            _ => panic!("one byte a connection"),
        }
        accepted.fetch_add(1, Ordering::Relaxed);
    }
    unreachable!("incoming ended")
}

/// `acceptors` on all workers, and clients on plain threads and in coroutines: every connection
/// is accepted, and once.
fn share(clones: bool) {
    const ACCEPTORS: usize = 6;
    const CONNECTIONS: u8 = 240;
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let (listener, address) = listen();
    let listener = Arc::new(listener);
    let accepted = Arc::new(AtomicUsize::new(0));
    let acceptors: Vec<_> = (0..ACCEPTORS)
        .map(|number| {
            let listener = match clones {
                true => Arc::new(listener.try_clone().unwrap()),
                false => Arc::clone(&listener),
            };
            let accepted = Arc::clone(&accepted);
            agents.at(number).start(move || accept_all(&listener, &accepted))
        })
        .collect();
    let connect = move |names: std::ops::Range<u8>| {
        for name in names {
            TcpStream::connect(address).unwrap().write_all(&[name]).unwrap();
            thread::yield_now();
        }
    };
    let half = CONNECTIONS / 2;
    let clients = agents.at(1).start(move || connect(0..half));
    std::thread::spawn(move || connect(half..CONNECTIONS)).join().unwrap();
    clients.recv().unwrap();
    while accepted.load(Ordering::Relaxed) < usize::from(CONNECTIONS) {
        std::thread::yield_now();
    }
    for _ in 0..ACCEPTORS {
        std::net::TcpStream::connect(address).unwrap();
    }
    let mut names: Vec<u8> = acceptors.into_iter().flat_map(|a| a.recv().unwrap()).collect();
    assert_eq!(names.len(), usize::from(CONNECTIONS));
    names.sort();
    assert!(names.into_iter().eq(0..CONNECTIONS));
}

#[test]
fn acceptors_on_all_workers_share_one_listener() {
    share(false);
}

#[test]
fn acceptors_on_all_workers_share_clones_of_a_listener() {
    share(true);
}

#[test]
fn one_connection_at_a_time_reaches_an_acceptor_whoever_waited_before() {
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let (listener, address) = listen();
    let listener = Arc::new(listener);
    for round in 0..30 {
        let listener = Arc::clone(&listener);
        let agent = agents.at(round);
        let accepted = agent.start(move || listener.accept().unwrap().1);
        agent.settle();
        let client = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(accepted.recv().unwrap(), client.local_addr().unwrap());
    }
}

/// A listener that once waited, and does not any more, used to swallow the wake of its clone:
/// the kernel tells one exclusive registration, and that one had nobody to tell.
#[test]
fn a_clone_that_waited_before_does_not_swallow_the_connection() {
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let (one, address) = listen();
    let other = one.try_clone().unwrap();
    let third = other.try_clone().unwrap();
    let mut handles = vec![one, other, third];
    for round in 0..30 {
        let listener = handles.remove(0);
        // Three rounds on each worker: each handle has waited there, and does not any more.
        let agent = agents.at(round / 3);
        let accepted = agent.start(move || (listener.accept().unwrap().1, listener));
        agent.settle();
        // From outside, so that the worker is asleep when the connection comes.
        let client = std::net::TcpStream::connect(address).unwrap();
        let (peer, listener) = accepted.recv().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        handles.push(listener);
    }
}

/// As above, with the one who waits outside of us: std's `accept` on what a clone became.
#[test]
fn a_handle_that_waited_before_does_not_swallow_the_connection_of_a_thread() {
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let (listener, address) = listen();
    let clone = listener.try_clone().unwrap();
    let listener = Arc::new(listener);
    for round in 0..agents.len() {
        let (mine, agent) = (Arc::clone(&listener), agents.at(round));
        let accepted = agent.start(move || mine.accept().unwrap().1);
        agent.settle();
        let client = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(accepted.recv().unwrap(), client.local_addr().unwrap());
    }
    let clone = std::net::TcpListener::from(clone);
    for _ in 0..10 {
        let clone = clone.try_clone().unwrap();
        let (begin, begun) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            begin.send(()).unwrap();
            clone.accept().unwrap().1
        });
        begun.recv().unwrap();
        std::thread::yield_now();
        let client = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(thread.join().unwrap(), client.local_addr().unwrap());
    }
}

#[test]
fn two_clones_that_wait_both_get_a_connection() {
    cosocket::run(|| {
        let (one, address) = listen();
        let other = one.try_clone().unwrap();
        let acceptors =
            [one, other].map(|listener| spawn_waiting(move || listener.accept().unwrap().1));
        let clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
        let expected: HashSet<_> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
        let peers: HashSet<_> = acceptors.into_iter().map(|a| a.join().unwrap()).collect();
        assert_eq!(peers, expected);
    });
}

#[test]
fn connections_that_come_together_wake_enough_acceptors() {
    cosocket::run(|| {
        for clones in [false, true] {
            let (listener, address) = listen();
            let listener = std::rc::Rc::new(listener);
            let acceptors: Vec<_> = (0..20)
                .map(|_| {
                    let listener = match clones {
                        true => std::rc::Rc::new(listener.try_clone().unwrap()),
                        false => std::rc::Rc::clone(&listener),
                    };
                    spawn_waiting(move || listener.accept().unwrap().1)
                })
                .collect();
            let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
            let expected: HashSet<_> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
            let peers: HashSet<_> = acceptors.into_iter().map(|a| a.join().unwrap()).collect();
            assert_eq!(peers, expected);
        }
    });
}

#[test]
fn a_cancelled_acceptor_leaves_the_connection_to_others() {
    cosocket::run(|| {
        let (listener, address) = listen();
        let listener = Arc::new(listener);
        for gap in 0..20 {
            let mine = Arc::clone(&listener);
            let first = spawn_waiting(move || mine.accept().unwrap().1);
            let mine = Arc::clone(&listener);
            let second = spawn_waiting(move || mine.accept().unwrap().1);
            let client = std::thread::spawn(move || {
                std::net::TcpStream::connect(address).unwrap().local_addr().unwrap()
            });
            // Before, while and after the connection comes.
            (0..gap).for_each(|_| turn());
            first.cancel();
            match first.join() {
                // It won the race: the second waits for another.
                Ok(peer) => {
                    assert_eq!(peer, client.join().unwrap());
                    let client = TcpStream::connect(address).unwrap();
                    assert_eq!(second.join().unwrap(), client.local_addr().unwrap());
                }
                Err(payload) => {
                    assert!(payload.is::<cosocket::Cancelled>());
                    assert_eq!(second.join().unwrap(), client.join().unwrap());
                }
            }
        }
    });
}

#[test]
fn a_listener_outlives_the_runtime_it_waited_on() {
    let (listener, address) = listen();
    for _ in 0..4 {
        cosocket::run(|| {
            let client = thread::spawn(move || {
                turn();
                TcpStream::connect(address).unwrap().local_addr().unwrap()
            });
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer, client.join().unwrap());
        });
    }
}

#[test]
fn a_connection_that_is_reset_in_the_backlog_stops_no_one() {
    everywhere(|| {
        let (listener, address) = listen();
        let gone = TcpStream::connect(address).unwrap();
        gone.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(gone);
        let client = TcpStream::connect(address).unwrap();
        // Linux hands out the dead connection; std and we pass on whatever it says.
        let peers: Vec<_> =
            (0..2).filter_map(|_| listener.accept().ok()).map(|(_, peer)| peer).collect();
        assert!(peers.contains(&client.local_addr().unwrap()));
    });
}
