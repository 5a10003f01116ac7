//! `UdpCosocket`: rows UDP-1 to UDP-10 and OBJ-3 of the behaviour table.

#[path = "socket_util/mod.rs"]
mod socket_util;
#[allow(unsafe_code)]
mod util;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cosocket::net::UdpSocket;
use cosocket::os::unix::net::UnixDatagram;
use cosocket::time;
use cosocket::{Address, Builder, Error, ErrorKind, Text, UdpCosocket, spawn_local};
use socket_util::{Nobody, everywhere, spawn_waiting};

/// A server that anyone may send to, and its address.
fn server() -> (UdpCosocket, SocketAddr) {
    let server = UdpCosocket::new();
    server.bind("127.0.0.1", 0).unwrap();
    server.open().unwrap();
    let address = ip_address(server.local_addr().unwrap());
    (server, address)
}

fn ip_address(address: Address) -> SocketAddr {
    match address {
        Address::Ip(address) => address,
        other => panic!("{other}"),
    }
}

fn connected(address: SocketAddr) -> UdpCosocket {
    let socket = UdpCosocket::new();
    socket.set_peer_name(address).unwrap();
    socket
}

#[track_caller]
fn fails<T>(result: Result<T, Error>, kind: ErrorKind, text: &str) {
    let error = result.map(|_| ()).unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (kind, text));
}

/// OBJ-3.
#[test]
fn a_new_socket_has_no_descriptor_and_is_closed() {
    util::child::passes("a_new_socket_has_no_descriptor_and_is_closed", || {
        let before = util::descriptors();
        let socket = UdpCosocket::new();
        fails(socket.send("x"), ErrorKind::Closed, "closed");
        fails(socket.receive(10), ErrorKind::Closed, "closed");
        fails(socket.close(), ErrorKind::Closed, "closed");
        fails(socket.local_addr(), ErrorKind::Closed, "closed");
        fails(socket.set_broadcast(true), ErrorKind::Closed, "closed");
        assert_eq!(util::descriptors(), before);
        socket.set_peer_name("127.0.0.1:9").unwrap();
        assert_eq!(util::descriptors(), before + 1);
        drop(socket);
        assert_eq!(util::descriptors(), before);
    });
}

/// UDP-1, section 2 item 137: a second peer is another socket; what is wrong with an address is
/// told.
#[test]
fn a_peer_can_be_changed_and_must_make_sense() {
    everywhere(|| {
        let [(one, at_one), (other, at_other)] = [server(), server()];
        let socket = connected(at_one);
        socket.send("one").unwrap();
        let first = one.receive_from(10).unwrap().from.to_string();
        socket.set_peer_name(("127.0.0.1", at_other.port())).unwrap();
        assert_eq!(ip_address(socket.peer_addr().unwrap()), at_other);
        socket.send("other").unwrap();
        let datagram = other.receive_from(10).unwrap();
        assert_eq!(&*datagram, b"other");
        assert_ne!(datagram.from.to_string(), first, "another socket, another port");
        fails(
            socket.set_peer_name("127.0.0.1:65536"),
            ErrorKind::BadPort,
            "bad port number: 65536",
        );
        fails(socket.set_peer_name("127.0.0.1"), ErrorKind::MissingPort, "missing the port number");
        fails(
            socket.set_peer_name(("", 53)),
            ErrorKind::Parse,
            "failed to parse host name \"\": no host",
        );
        socket.send("still here").unwrap();
        assert_eq!(&*other.receive_from(100).unwrap(), b"still here");
        socket.close().unwrap();
        fails(socket.send("x"), ErrorKind::Closed, "closed");
        fails(socket.close(), ErrorKind::Closed, "closed");
    });
}

/// CON-5 for datagrams: a name stands for an address that this machine has a way to.
#[test]
fn a_peer_may_be_named() {
    everywhere(|| {
        let (server, address) = server();
        let socket = UdpCosocket::new();
        socket.set_names(Some(cosocket::Names::System));
        socket.bind("127.0.0.1", 0).unwrap();
        socket.set_peer_name(("localhost", address.port())).unwrap();
        socket.send("by name").unwrap();
        assert_eq!(&*server.receive_from(100).unwrap(), b"by name");
        let unconnected = UdpCosocket::new();
        unconnected.set_names(Some(cosocket::Names::System));
        unconnected.send_to("by name too", ("localhost", address.port())).unwrap();
        assert_eq!(&*server.receive_from(100).unwrap(), b"by name too");
        let error = socket.set_peer_name("no-such-name.invalid:53").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resolve);
        assert!(error.to_string().starts_with("no-such-name.invalid could not be resolved ("));
        fails(socket.send("x"), ErrorKind::Closed, "closed");
    });
}

/// UDP-2, section 2 item 140: one call is one datagram; fragments are joined; nothing is a datagram
/// too.
#[test]
fn a_send_is_a_datagram() {
    everywhere(|| {
        let (server, address) = server();
        let socket = connected(address);
        let received = || server.receive_from(65_536).unwrap().into_data();
        socket.send("text").unwrap();
        assert_eq!(received(), b"text");
        socket.send(("a", vec![("b", Text(1)), ("c", Text(22))], [b"d".to_vec()])).unwrap();
        assert_eq!(received(), b"ab1c22d");
        socket.send("").unwrap();
        assert_eq!(received(), b"");
        let longest = vec![7; 65_507];
        socket.send(&longest).unwrap();
        assert_eq!(received(), longest);
        fails(socket.send(vec![0; 70_000]), ErrorKind::Io, "message too long");
        fails(server.send("to whom?"), ErrorKind::Io, "destination address required");
        let to = socket.send_to("x", address).unwrap_err();
        assert_eq!(to.raw_os_error(), Some(libc::EISCONN));
        socket.send("still here").unwrap();
        assert_eq!(received(), b"still here");
    });
}

/// UDP-3: what does not fit is lost, and that is told.
#[test]
fn a_datagram_that_is_cut_says_so() {
    everywhere(|| {
        let (server, address) = server();
        let socket = connected(address);
        for (len, max) in [(10, 4), (10, 10), (0, 4), (10, 0), (3, usize::MAX)] {
            socket.send(vec![b'x'; len]).unwrap();
            let datagram = server.receive_from(max).unwrap();
            assert_eq!((datagram.len(), datagram.is_truncated), (len.min(max), len > max));
        }
        socket.send("next").unwrap();
        assert_eq!(&*server.receive_from(100).unwrap(), b"next", "the rest is gone");
        // The same of a socket with a peer.
        let client = ip_address(socket.local_addr().unwrap());
        server.send_to("0123456789", client).unwrap();
        let datagram = socket.receive(3).unwrap();
        assert_eq!((&*datagram, datagram.is_truncated), (&b"012"[..], true));
    });
}

/// UDP-3, section 2 item 134: what was asked for is kept and no more than 65 536 bytes, which only
/// a datagram of a Unix socket can be longer than.
#[test]
fn of_a_long_datagram_as_much_is_kept_as_was_asked_for() {
    everywhere(|| {
        let directory = Directory::new("long");
        let server = UdpCosocket::new();
        server.bind_path(directory.0.join("server"));
        server.open().unwrap();
        let client = UdpCosocket::new();
        client.set_peer_name(format!("unix:{}/server", directory.0.display())).unwrap();
        for (sent, max, kept) in [
            (1399, 1400, 1399),
            (1400, 1400, 1400),
            (1401, 1400, 1400),
            (65_536, usize::MAX, 65_536),
            (65_537, usize::MAX, 65_536),
        ] {
            client.send(vec![b'x'; sent]).unwrap();
            let datagram = server.receive_from(max).unwrap();
            assert_eq!((datagram.len(), datagram.is_truncated), (kept, sent > kept));
        }
    });
}

/// UDP-3, section 2 item 136.
#[test]
fn a_peer_that_is_not_there_is_told_and_the_socket_stays() {
    everywhere(|| {
        let nobody = Nobody::at("127.0.0.1");
        let address = nobody.address();
        let socket = connected(address);
        for _ in 0..3 {
            socket.send("anybody?").unwrap();
            fails(socket.receive(10), ErrorKind::Io, "connection refused");
        }
        drop(nobody);
        let revived = UdpCosocket::new();
        revived.bind("127.0.0.1", address.port()).unwrap();
        // A child that another test has just forked has it, too, until it comes to its `exec`.
        util::wait_until(|| revived.open().is_ok());
        socket.send("you").unwrap();
        assert_eq!(&*revived.receive_from(10).unwrap(), b"you");
    });
}

/// UDP-3, UDP-4: a timeout leaves the socket, and what comes later is there for the next call.
#[test]
fn a_receive_times_out_and_the_late_reply_is_received() {
    everywhere(|| {
        let (server, address) = server();
        let socket = connected(address);
        assert_eq!(socket.timeout(), Duration::from_secs(60));
        socket.set_timeout(Duration::from_millis(5)).unwrap();
        socket.send("question").unwrap();
        fails(socket.receive(10), ErrorKind::Timeout, "timeout");
        fails(socket.receive(10), ErrorKind::Timeout, "timeout");
        let question = server.receive_from(10).unwrap();
        server.reply(&question, "answer").unwrap();
        socket.set_timeout(Duration::ZERO).unwrap();
        assert_eq!(&*socket.receive(10).unwrap(), b"answer");
        assert_eq!(socket.timeout(), Duration::from_secs(60));
        let too_long = Duration::from_millis(1 << 31);
        assert_eq!(socket.set_timeout(too_long).unwrap_err().kind(), ErrorKind::InvalidInput);
        // It is the object's: the next socket has it too.
        socket.set_timeout(Duration::from_millis(5)).unwrap();
        socket.set_peer_name(address).unwrap();
        fails(socket.receive(10), ErrorKind::Timeout, "timeout");
    });
}

#[test]
fn a_limit_around_a_receive_ends_it_and_says_so() {
    everywhere(|| {
        let (server, _) = server();
        let outcome = time::timeout(Duration::from_millis(5), || server.receive_from(10));
        let error = io::Error::from(outcome.unwrap().unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
}

/// UDP-4: one word for all that overlaps; a send is in nobody's way.
#[test]
fn a_second_receiver_is_told_that_the_socket_is_busy() {
    cosocket::run(|| {
        let (server, address) = server();
        let server = Arc::new(server);
        let theirs = Arc::clone(&server);
        let receiver = spawn_waiting(move || theirs.receive_from(10).unwrap().into_data());
        fails(server.receive_from(10), ErrorKind::Busy, "socket busy");
        fails(server.receive_batch(3, 10), ErrorKind::Busy, "socket busy");
        fails(server.close(), ErrorKind::Busy, "socket busy");
        fails(server.set_peer_name(address), ErrorKind::Busy, "socket busy");
        server.send_to("to myself", address).unwrap();
        assert_eq!(receiver.join().unwrap(), b"to myself");
        server.close().unwrap();
    });
}

/// DUP-6 for datagrams: a cancel ends the call, and the socket is there for the next.
#[test]
fn a_cancelled_receiver_leaves_the_socket_usable() {
    cosocket::run(|| {
        let (server, address) = server();
        let server = Arc::new(server);
        let theirs = Arc::clone(&server);
        let receiver = spawn_waiting(move || theirs.receive_from(10).map(drop));
        receiver.cancel();
        assert!(receiver.join().is_err());
        server.send_to("later", address).unwrap();
        assert_eq!(&*server.receive_from(10).unwrap(), b"later");
        server.close().unwrap();
    });
}

/// UDP-5: one socket, many peers.
#[test]
fn an_unconnected_socket_serves_many() {
    everywhere(|| {
        let (server, address) = server();
        let clients = [(); 3].map(|()| connected(address));
        for (number, client) in clients.iter().enumerate() {
            client.send(("hello ", Text(number))).unwrap();
        }
        let mut from = HashSet::new();
        for _ in &clients {
            let datagram = server.receive_from(100).unwrap();
            assert!(from.insert(datagram.from.to_string()));
            server.reply(&datagram, ("re: ", &*datagram)).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(*client.receive(100).unwrap(), *format!("re: hello {number}").as_bytes());
        }
        // One that was never opened opens itself.
        let stranger = UdpCosocket::new();
        stranger.send_to("and me", address).unwrap();
        let datagram = server.receive_from(100).unwrap();
        server.reply(&datagram, "you too").unwrap();
        assert_eq!(&*stranger.receive_from(100).unwrap(), b"you too");
    });
}

/// UDP-6.
#[test]
fn the_local_address_is_as_told() {
    everywhere(|| {
        let (server, address) = server();
        let socket = UdpCosocket::new();
        socket.bind("127.0.0.2", 0).unwrap();
        socket.set_peer_name(address).unwrap();
        socket.send("x").unwrap();
        let from = ip_address(server.receive_from(1).unwrap().from);
        assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 2]));
        fails(socket.bind("127.0.0.1000", 0), ErrorKind::BadAddress, "bad address");
        fails(socket.bind("localhost", 0), ErrorKind::BadAddress, "bad address");
        let taken = UdpCosocket::new();
        taken.bind("127.0.0.1", address.port()).unwrap();
        fails(taken.open(), ErrorKind::Io, "address already in use");
        let elsewhere = UdpCosocket::new();
        elsewhere.bind("192.0.2.1", 0).unwrap();
        let text = "cannot assign requested address";
        fails(elsewhere.set_peer_name(address), ErrorKind::Io, text);
        let v6 = UdpCosocket::new();
        v6.bind("[::1]", 0).unwrap();
        v6.open().unwrap();
        assert!(ip_address(v6.local_addr().unwrap()).is_ipv6());
    });
}

/// UDP-7: a hundred by one call.
#[test]
fn batches_are_sent_and_received() {
    everywhere(|| {
        let (server, address) = server();
        server.set_receive_buffer(1 << 20).unwrap();
        let socket = connected(address);
        let datagrams: Vec<String> = (0..100).map(|number| format!("datagram {number}")).collect();
        assert_eq!(socket.send_batch(&datagrams).unwrap(), 100);
        let mut received = Vec::new();
        while received.len() < 100 {
            let batch = server.receive_batch(64, 100).unwrap();
            assert!((1..=64).contains(&batch.len()));
            assert!(batch.iter().all(|datagram| !datagram.is_truncated));
            received.extend(batch);
        }
        for (datagram, sent) in received.iter().zip(&datagrams) {
            assert_eq!(**datagram, *sent.as_bytes());
            assert_eq!(datagram.from.to_string(), socket.local_addr().unwrap().to_string());
        }
        // To several, some of them cut.
        let (other, at_other) = self::server();
        let to_both = [("one", address), ("other", at_other), ("one again", address)];
        assert_eq!(UdpCosocket::new().send_batch_to(&to_both).unwrap(), 3);
        let batch = server.receive_batch(10, 5).unwrap();
        let seen: Vec<_> = batch.iter().map(|d| (&**d, d.is_truncated)).collect();
        assert_eq!(seen, [(&b"one"[..], false), (b"one a", true)]);
        assert_eq!(&*other.receive_from(10).unwrap(), b"other");
        // What there is to send decides.
        assert_eq!(socket.send_batch::<&str>(&[]).unwrap(), 0);
        assert_eq!(server.receive_batch(0, 1).unwrap_err().kind(), ErrorKind::InvalidInput);
        let (short, long) = (vec![1; 10], vec![1; 70_000]);
        assert_eq!(socket.send_batch(&[&short, &short, &long, &short]).unwrap(), 2);
        fails(socket.send_batch(&[&long, &short]), ErrorKind::Io, "message too long");
    });
}

/// A batch waits for its first datagram like any receive.
#[test]
fn a_batch_is_waited_for() {
    cosocket::run(|| {
        let (server, address) = server();
        let server = Arc::new(server);
        server.set_timeout(Duration::from_millis(5)).unwrap();
        fails(server.receive_batch(4, 10), ErrorKind::Timeout, "timeout");
        server.set_timeout(Duration::MAX).unwrap();
        let theirs = Arc::clone(&server);
        let receiver = spawn_waiting(move || theirs.receive_batch(4, 10).unwrap().len());
        connected(address).send("x").unwrap();
        assert_eq!(receiver.join().unwrap(), 1);
    });
}

/// UDP-8.
#[test]
fn members_of_a_group_hear_it() {
    everywhere(|| {
        let group = Ipv4Addr::new(239, 255, 77, 9);
        let loopback = 1;
        let members = [(); 2].map(|()| {
            let member = UdpCosocket::new();
            member.set_reuse_address(true);
            member.bind("239.255.77.9", 0).unwrap();
            member
        });
        members[0].open().unwrap();
        let port = ip_address(members[0].local_addr().unwrap()).port();
        members[1].bind("239.255.77.9", port).unwrap();
        for member in &members {
            member.open().unwrap();
            member.join_multicast(group.into(), loopback).unwrap();
            member.set_timeout(Duration::from_millis(500)).unwrap();
        }
        let sender = UdpCosocket::new();
        sender.bind("127.0.0.1", 0).unwrap();
        sender.open().unwrap();
        sender.set_multicast_interface(loopback).unwrap();
        sender.set_multicast_ttl(1).unwrap();
        sender.send_to("all", (group, port)).unwrap();
        for member in &members {
            let datagram = member.receive_from(10).unwrap();
            assert_eq!(&*datagram, b"all");
            assert!(datagram.sent_to().is_some());
        }
        // On this interface the packets come back by themselves.
        sender.set_multicast_loop(false).unwrap();
        sender.send_to("all again", (group, port)).unwrap();
        assert_eq!(&*members[0].receive_from(10).unwrap(), b"all again");
        for member in &members {
            member.leave_multicast(group.into(), loopback).unwrap();
            let error = member.leave_multicast(group.into(), loopback).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL), "no longer a member");
        }
        let source = Ipv4Addr::LOCALHOST;
        members[0].join_multicast_of(source, group, source).unwrap();
        sender.send_to("from the source", (group, port)).unwrap();
        assert_eq!(&*members[0].receive_from(20).unwrap(), b"from the source");
        members[0].leave_multicast_of(source, group, source).unwrap();
        for ttl in [0, 256] {
            assert_eq!(sender.set_ttl(ttl).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        sender.set_ttl(255).unwrap();
        let denied = sender.send_to("x", "255.255.255.255:9").unwrap_err();
        assert_eq!(denied.raw_os_error(), Some(libc::EACCES));
        sender.set_broadcast(true).unwrap();
    });
}

/// UDP-9: replies come from the address that was asked, as many as one likes.
#[test]
fn a_reply_comes_from_where_the_question_went() {
    everywhere(|| {
        for (any, addresses) in
            [("0.0.0.0", ["127.0.0.5", "127.0.0.6"]), ("::", ["127.0.0.7", "::1"])]
        {
            let server = UdpCosocket::new();
            server.bind(any, 0).unwrap();
            server.open().unwrap();
            let port = ip_address(server.local_addr().unwrap()).port();
            for asked in addresses {
                let client = UdpCosocket::new();
                // Hears this address alone.
                client.set_peer_name((asked, port)).unwrap();
                client.send("who are you?").unwrap();
                let question = server.receive_from(100).unwrap();
                let ip: IpAddr = asked.parse().unwrap();
                assert_eq!(question.sent_to().unwrap().to_canonical(), ip);
                for word in ["who", "I", "am"] {
                    server.reply(&question, word).unwrap();
                    assert_eq!(*client.receive(100).unwrap(), *word.as_bytes(), "{asked}");
                }
            }
        }
    });
}

/// A directory of a test's own, gone when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let name = format!("cosocket-udp-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn files(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// UDP-10, section 2 item 139: a client that no one has named is answered.
#[test]
fn a_unix_server_answers_clients_without_a_name_of_their_own() {
    everywhere(|| {
        let directory = Directory::new("autobind");
        let path = directory.0.join("server");
        let server = UnixDatagram::bind(&path).unwrap();
        let client = UdpCosocket::new();
        client.set_peer_name(format!("unix:{}", path.display())).unwrap();
        client.send(("ping", Text(1))).unwrap();
        let mut buffer = [0; 100];
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"ping1");
        assert!(!from.is_unnamed());
        server.send_to_addr(b"pong", &from).unwrap();
        assert_eq!(&*client.receive(100).unwrap(), b"pong");
        assert_eq!(directory.files(), 1, "its name is in no directory");
        drop(server);
        let refused = util::first_error(|| client.send("x"));
        assert_eq!((refused.kind(), &*refused.to_string()), (ErrorKind::Io, "connection refused"));
        fails(
            client.set_peer_name(format!("unix:{}/nobody", directory.0.display())),
            ErrorKind::Io,
            "no such file or directory",
        );
    });
}

/// UNX: names in the file system are cleaned up, if they are still ours.
#[test]
fn names_in_the_file_system_go_with_the_socket() {
    everywhere(|| {
        let directory = Directory::new("names");
        let path = directory.0.join("server");
        let server = UdpCosocket::new();
        server.bind_path(&path);
        server.open().unwrap();
        let clients = [(); 2].map(|()| {
            let client = UdpCosocket::new();
            client.bind_temporary(&directory.0);
            client.set_peer_name(format!("unix:{}", path.display())).unwrap();
            client
        });
        assert_eq!(directory.files(), 3);
        for client in &clients {
            client.send("question").unwrap();
            let question = server.receive_from(100).unwrap();
            assert!(question.from.to_string().contains("/cosocket-"), "{}", question.from);
            server.reply(&question, "answer").unwrap();
            assert_eq!(&*client.receive(100).unwrap(), b"answer");
        }
        clients[0].close().unwrap();
        assert_eq!(directory.files(), 2);
        clients[1].set_peer_name("127.0.0.1:9").unwrap();
        assert_eq!(directory.files(), 1);
        // Somebody else has taken the name over.
        std::fs::remove_file(&path).unwrap();
        let heir = UnixDatagram::bind(&path).unwrap();
        drop(server);
        assert_eq!(directory.files(), 1);
        drop(heir);
        let again = UdpCosocket::new();
        again.bind_path(&path);
        fails(again.open(), ErrorKind::Io, "address already in use");
    });
}

/// The kernel would take what comes before the NUL for the name.
#[test]
fn a_path_with_a_nul_is_refused() {
    everywhere(|| {
        let directory = Directory::new("nul");
        let path = directory.0.join("cut\0off");
        let binds: [fn(&UdpCosocket, &Path); 2] =
            [|socket, path| socket.bind_path(path), |socket, path| socket.bind_temporary(path)];
        for bind in binds {
            let socket = UdpCosocket::new();
            bind(&socket, &path);
            let words = "paths must not contain interior null bytes";
            fails(socket.open(), ErrorKind::InvalidInput, words);
        }
        assert_eq!(directory.files(), 0);
    });
}

/// A full queue is waited for, and loses nothing.
#[test]
fn a_unix_sender_waits_for_room() {
    cosocket::run(|| {
        let directory = Directory::new("room");
        let path = directory.0.join("server");
        let server = UdpCosocket::new();
        server.bind_path(&path);
        server.open().unwrap();
        let target = format!("unix:{}", path.display());
        let sender = spawn_local(move || {
            let client = UdpCosocket::new();
            (0..100u32).for_each(|number| client.send_to(Text(number), &*target).unwrap());
        });
        for number in 0..100u32 {
            let datagram = server.receive_from(10).unwrap();
            assert_eq!(*datagram, *number.to_string().as_bytes());
        }
        sender.join().unwrap();
    });
}

/// One receives on one worker while others send from others.
#[test]
fn a_socket_is_shared_among_workers() {
    let runtime = Builder::new().build().unwrap();
    let (server, address) = server();
    let server = Arc::new(server);
    server.set_receive_buffer(1 << 20).unwrap();
    let theirs = Arc::clone(&server);
    let receiver = runtime.spawn(move || {
        let mut seen = HashSet::new();
        while seen.len() < 300 {
            seen.insert(theirs.receive_from(20).unwrap().into_data());
        }
    });
    let senders: Vec<_> = (0..3u32)
        .map(|sender| {
            let server = Arc::clone(&server);
            runtime.spawn(move || {
                for number in 0..100u32 {
                    server.send_to((Text(sender), "/", Text(number)), address).unwrap();
                    cosocket::thread::yield_now();
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    receiver.join().unwrap();
    server.close().unwrap();
}

/// The mirror of std and this socket speak to each other.
#[test]
fn it_speaks_with_any_other_socket() {
    everywhere(|| {
        let (server, address) = server();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.send_to(b"hello", address).unwrap();
        let datagram = server.receive_from(10).unwrap();
        assert_eq!(ip_address(datagram.from.clone()), other.local_addr().unwrap());
        server.send_to("hello yourself", other.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(other.recv(&mut buffer).unwrap(), 14);
    });
}
