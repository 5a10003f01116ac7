//! In the steady state, nothing allocates: no I/O call, no wait, no timer. And a timeout that does
//! not pass, the socket's own or one around the call, makes no system call of its own. Alone in
//! its process, for it counts what the process allocates.

#[path = "support/counting.rs"]
mod counting;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream, UdpSocket};
use cosocket::os::unix::net::UnixStream;
use cosocket::sync::mpsc;
use cosocket::time::timeout;
use cosocket::{Builder, Cosocket, Runtime, spawn_local, thread};
use counting::allocations_during;

const ROUNDS: u64 = 2000;
const LIMIT: Duration = Duration::from_secs(3600);

/// What bounds a call.
#[derive(Clone, Copy, PartialEq)]
enum Bound {
    Nothing,
    /// Two time limits, one in the other.
    Limits,
    /// The socket's own timeouts.
    Timeouts,
}

impl Bound {
    fn around<T>(self, f: impl FnOnce() -> T) -> T {
        if self == Bound::Limits {
            timeout(LIMIT, || timeout(LIMIT * 2, f)).unwrap().unwrap()
        } else {
            f()
        }
    }

    fn on_socket(self) -> Option<Duration> {
        (self == Bound::Timeouts).then_some(LIMIT)
    }
}

/// What so many rounds of `round` cost: allocations, and system calls of the runtime's.
fn cost_of(runtime: &Runtime, mut round: impl FnMut()) -> (u64, u64) {
    round();
    let mut cost = (0, 0);
    for _ in 0..3 {
        let calls = runtime.metrics().system_calls;
        let allocations = allocations_during(|| (0..ROUNDS).for_each(|_| round()));
        cost = (allocations, runtime.metrics().system_calls - calls);
        if allocations == 0 {
            break;
        }
        // The test harness has a thread of its own, which allocates now and then: what a round
        // allocates is there every time.
    }
    cost
}

/// A request and its answer, both of which wait.
fn exchanges<S: Read + Write + 'static>(
    runtime: &Runtime,
    bound: Bound,
    (mut client, mut server): (S, S),
) -> (u64, u64) {
    let echo = spawn_local(move || {
        let mut byte = [0];
        while bound.around(|| server.read(&mut byte)).unwrap() == 1 {
            bound.around(|| server.write_all(&byte)).unwrap();
        }
    });
    let cost = cost_of(runtime, || {
        let mut byte = [7];
        bound.around(|| client.write_all(&byte)).unwrap();
        bound.around(|| client.read_exact(&mut byte)).unwrap();
    });
    drop(client);
    echo.join().unwrap();
    cost
}

fn tcp_pair(bound: Bound) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    for socket in [&client, &server] {
        socket.set_read_timeout(bound.on_socket()).unwrap();
        socket.set_write_timeout(bound.on_socket()).unwrap();
    }
    (client, server)
}

fn unix_pair(bound: Bound) -> (UnixStream, UnixStream) {
    let (client, server) = UnixStream::pair().unwrap();
    for socket in [&client, &server] {
        socket.set_read_timeout(bound.on_socket()).unwrap();
        socket.set_write_timeout(bound.on_socket()).unwrap();
    }
    (client, server)
}

fn datagrams(runtime: &Runtime, bound: Bound) -> (u64, u64) {
    let (client, server) = (UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind("127.0.0.1:0"));
    let (client, server) = (client.unwrap(), server.unwrap());
    client.connect(server.local_addr().unwrap()).unwrap();
    client.set_read_timeout(bound.on_socket()).unwrap();
    let echo = spawn_local(move || {
        let mut buffer = [0; 8];
        while let Ok((len @ 1.., peer)) = bound.around(|| server.recv_from(&mut buffer)) {
            bound.around(|| server.send_to(&buffer[..len], peer)).unwrap();
        }
    });
    let cost = cost_of(runtime, || {
        bound.around(|| client.send(b"x")).unwrap();
        assert_eq!(bound.around(|| client.recv(&mut [0; 8])).unwrap(), 1);
    });
    client.send(b"").unwrap();
    echo.join().unwrap();
    cost
}

/// Two coroutines that exchange something with a server in turns, over a connection that goes from
/// one to the other: through the pool, or by hand. System calls of the runtime's.
fn in_turns(runtime: &Runtime, is_pooled: bool) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = spawn_local(move || {
        let (mut server, mut buffer) = (listener.accept().unwrap().0, [0; 8]);
        while let Ok(len @ 1..) = server.read(&mut buffer) {
            server.write_all(&buffer[..len]).unwrap();
        }
    });
    let kept = Arc::new(cosocket::connect(address).unwrap());
    if is_pooled {
        kept.set_keepalive(None, None).unwrap();
    }
    let exchange = |socket: &Cosocket| {
        socket.send(b"ping").unwrap();
        assert_eq!(socket.receive_any(8).unwrap(), b"ping");
    };
    let round = move |kept: &Cosocket| match is_pooled {
        false => exchange(kept),
        true => {
            let socket = cosocket::connect(address).unwrap();
            assert_ne!(socket.reused_times().unwrap(), 0);
            exchange(&socket);
            socket.set_keepalive(None, None).unwrap();
        }
    };
    let (to_other, other_turn) = mpsc::channel();
    let (to_me, my_turn) = mpsc::channel();
    let its = Arc::clone(&kept);
    let other = spawn_local(move || {
        while other_turn.recv().is_ok() {
            round(&its);
            to_me.send(()).unwrap();
        }
    });
    let (_, calls) = cost_of(runtime, || {
        round(&kept);
        to_other.send(()).unwrap();
        my_turn.recv().unwrap();
    });
    drop(to_other);
    other.join().unwrap();
    if is_pooled {
        // The last one out of the pool ends the server.
        drop(cosocket::connect(address).unwrap());
    }
    drop(kept);
    echo.join().unwrap();
    calls
}

/// KA-2, KA-6: what is known need not be looked at. A microsecond is short for code that was not
/// optimised, and then each return costs a look.
fn a_pooled_exchange_makes_no_more_system_calls_than_one_without_a_pool() {
    let runtime = Builder::new().workers(1).build().unwrap();
    let count = |is_pooled| runtime.run(|| in_turns(&runtime, is_pooled));
    let (pooled, kept) = (count(true), count(false));
    // Of each round there are two exchanges.
    let looks = if cfg!(debug_assertions) { 2 * ROUNDS } else { ROUNDS / 5 };
    assert!(pooled <= kept + looks + ROUNDS / 20, "{pooled} with the pool, {kept} without");
}

#[test]
fn the_steady_state_allocates_nothing_and_timeouts_make_no_system_calls() {
    let runtime = Builder::new().workers(1).build().unwrap();
    // Nothing but the limits themselves.
    let cost = runtime.run(|| cost_of(&runtime, || Bound::Limits.around(|| ())));
    assert_eq!(cost, (0, 0));
    // The loop turns every 64 switches, and that may be a system call; a limit adds none.
    let yields =
        |bound: Bound| runtime.run(|| cost_of(&runtime, || bound.around(thread::yield_now)));
    let ((allocations, limited), (_, free)) = (yields(Bound::Limits), yields(Bound::Nothing));
    assert_eq!(allocations, 0);
    assert!(limited <= free + 1, "{limited} system calls with limits, {free} without");
    // Timers that fire.
    let (allocations, _) =
        runtime.run(|| cost_of(&runtime, || thread::sleep(Duration::from_nanos(1))));
    assert_eq!(allocations, 0);

    type Kind<'a> = (&'a str, &'a (dyn Fn(Bound) -> (u64, u64) + Sync));
    let tcp = |bound| runtime.run(|| exchanges(&runtime, bound, tcp_pair(bound)));
    let unix = |bound| runtime.run(|| exchanges(&runtime, bound, unix_pair(bound)));
    let udp = |bound| runtime.run(|| datagrams(&runtime, bound));
    let kinds: [Kind<'_>; 3] = [("tcp", &tcp), ("unix", &unix), ("udp", &udp)];
    for (kind, cost) in kinds {
        let (allocations, free) = cost(Bound::Nothing);
        assert_eq!(allocations, 0, "{kind}");
        for bound in [Bound::Limits, Bound::Timeouts] {
            let (allocations, bounded) = cost(bound);
            assert_eq!(allocations, 0, "{kind}");
            // A few either way, by how the two take turns.
            let few = ROUNDS / 20;
            assert!(bounded <= free + few, "{kind}: {bounded} bounded, {free} free");
        }
    }
    // On a plain thread.
    let (allocations, _) = cost_of(&runtime, || Bound::Limits.around(|| ()));
    assert_eq!(allocations, 0);
    a_pooled_exchange_makes_no_more_system_calls_than_one_without_a_pool();
}
