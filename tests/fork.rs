//! A forked child has its parent's memory, but not its rings, epolls and workers. It can make
//! plain blocking calls; whatever it does, its parent's I/O in flight goes on.

#[allow(unsafe_code)]
mod util;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cosocket::net::TcpStream;
use cosocket::thread;
use util::{child, pair, tcp_pair};

const IN_FLIGHT: usize = 50;

/// Forks; the child does `body`, exits with the code it returns, or 99 if it panics. For the
/// parent: the child's number.
#[allow(unsafe_code)]
fn fork(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: what the child does beyond the plain calls that these tests are about is nothing.
    match unsafe { libc::fork() } {
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(99);
            // SAFETY: always.
            unsafe { libc::_exit(code) }
        }
        child => {
            assert!(child > 0);
            child
        }
    }
}

/// Waits for a child and checks that it exited with `code`.
#[allow(unsafe_code)]
fn reap(child: i32, code: i32) {
    let mut status = 0;
    // SAFETY: the status may be written.
    let reaped = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(reaped, child);
    assert!(libc::WIFEXITED(status), "killed by signal {}", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), code);
}

/// Readers that wait, until `finish` gives each its byte.
struct InFlight {
    peers: Vec<TcpStream>,
    readers: Vec<thread::JoinHandle<u8>>,
}

impl InFlight {
    fn start() -> InFlight {
        let mut peers = Vec::new();
        let mut readers = Vec::new();
        for _ in 0..IN_FLIGHT {
            let (near, far) = tcp_pair();
            let (mut near, far) = (TcpStream::from(near), TcpStream::from(far));
            readers.push(thread::spawn(move || {
                let mut byte = [0];
                near.read_exact(&mut byte).unwrap();
                // Once more, with what the wait left behind.
                near.read_exact(&mut byte).unwrap();
                byte[0]
            }));
            peers.push(far);
        }
        // Each has waited once, on whichever worker it is.
        for peer in &mut peers {
            peer.write_all(&[0]).unwrap();
        }
        InFlight { peers, readers }
    }

    fn finish(mut self) {
        for (number, peer) in self.peers.iter_mut().enumerate() {
            peer.write_all(&[number as u8]).unwrap();
        }
        for (number, reader) in self.readers.into_iter().enumerate() {
            assert_eq!(reader.join().unwrap(), number as u8);
        }
    }
}

/// What a child may do: plain blocking I/O and sleeps.
fn talk(mut stream: TcpStream) -> i32 {
    stream.write_all(b"child").unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"parent");
    let start = Instant::now();
    thread::sleep(Duration::from_millis(2));
    assert!(start.elapsed() >= Duration::from_millis(2));
    stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    let error = stream.read(&mut answer).unwrap_err();
    // As std: the kernel's own timeout.
    let kinds = [std::io::ErrorKind::TimedOut, std::io::ErrorKind::WouldBlock];
    assert!(kinds.contains(&error.kind()), "{error}");
    thread::yield_now();
    7
}

fn answer(stream: &mut TcpStream) {
    let mut question = [0; 5];
    stream.read_exact(&mut question).unwrap();
    assert_eq!(&question, b"child");
    stream.write_all(b"parent").unwrap();
}

#[test]
fn a_child_of_a_coroutine_makes_blocking_calls() {
    child::passes("a_child_of_a_coroutine_makes_blocking_calls", || {
        cosocket::run(|| {
            let in_flight = InFlight::start();
            for _ in 0..5 {
                let (mut mine, theirs) = pair();
                let child = fork(|| talk(theirs.try_clone().unwrap()));
                answer(&mut mine);
                cosocket::unblock(move || reap(child, 7));
            }
            in_flight.finish();
        });
    });
}

#[test]
fn a_child_of_a_plain_thread_makes_blocking_calls() {
    child::passes("a_child_of_a_plain_thread_makes_blocking_calls", || {
        let in_flight = InFlight::start();
        for _ in 0..5 {
            let (mut mine, theirs) = pair();
            let child = fork(|| talk(theirs.try_clone().unwrap()));
            answer(&mut mine);
            reap(child, 7);
        }
        in_flight.finish();
    });
}

/// A child closes what it inherits, as servers do. Its descriptors are its own, but the epolls
/// are shared: taking a socket out of them took it from the parent.
#[test]
fn a_child_that_closes_a_stream_leaves_its_parent_s_waits_alone() {
    child::passes("a_child_that_closes_a_stream_leaves_its_parent_s_waits_alone", || {
        cosocket::run(|| {
            let (near, far) = pair();
            let (mut near, far) = (Some(near), Arc::new(far));
            for _ in 0..5 {
                let writer = Arc::clone(&far);
                let writer = thread::spawn(move || { &*writer }.write_all(&[1]).unwrap());
                // Waits, so the driver knows the stream.
                near.as_mut().unwrap().read_exact(&mut [0]).unwrap();
                writer.join().unwrap();
                let child = fork(|| {
                    drop(near.take());
                    0
                });
                cosocket::unblock(move || reap(child, 0));
                let writer = Arc::clone(&far);
                let writer = thread::spawn(move || { &*writer }.write_all(&[2]).unwrap());
                near.as_mut().unwrap().read_exact(&mut [0]).unwrap();
                writer.join().unwrap();
            }
        });
    });
}

/// A child that goes on in its coroutine to the end: `main` is not there, the process ends.
#[test]
fn a_child_that_returns_from_its_coroutine_ends() {
    child::passes("a_child_that_returns_from_its_coroutine_ends", || {
        let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        let coroutine = thread::spawn(move || {
            // SAFETY: the child returns at once.
            #[allow(unsafe_code)]
            let child = unsafe { libc::fork() };
            assert!(child >= 0);
            drop(near);
            child
        });
        let child = coroutine.join().unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0, "both have closed their ends");
        reap(child, 0);
    });
}

/// A child may have a runtime of its own: on workers, and under epoll on epolls, of its own.
#[test]
fn a_child_runs_coroutines_on_a_runtime_of_its_own() {
    child::passes("a_child_runs_coroutines_on_a_runtime_of_its_own", || {
        // Leaves indices to be taken again, which belong to the parent.
        cosocket::run(|| InFlight::start().finish());
        let in_flight = InFlight::start();
        let child = fork(|| {
            cosocket::run(|| InFlight::start().finish());
            5
        });
        cosocket::run(|| InFlight::start().finish());
        reap(child, 5);
        in_flight.finish();
    });
}

/// The child's copy of the runtime is dropped with nothing done to the parent's.
#[test]
fn a_child_of_the_owner_of_a_runtime_exits_without_harm() {
    child::passes("a_child_of_the_owner_of_a_runtime_exits_without_harm", || {
        let runtime = cosocket::Builder::new().build().unwrap();
        let (mut near, mut far) = pair();
        let reader = runtime.spawn(move || near.read(&mut [0]).unwrap());
        for _ in 0..5 {
            let child = fork(|| 3);
            reap(child, 3);
        }
        far.write_all(&[1]).unwrap();
        assert_eq!(reader.join().unwrap(), 1);
    });
}

/// A spawn in the child was queued to the parent's workers, and its `join` waited for ever.
#[test]
fn a_child_cannot_spawn_on_its_parent_s_global_runtime() {
    child::passes("a_child_cannot_spawn_on_its_parent_s_global_runtime", || {
        cosocket::spawn(|| ()).join().unwrap();
        let child = fork(|| {
            let error = cosocket::thread::Builder::new().spawn(|| ()).unwrap_err();
            if error.to_string().contains("cosocket::run") { 7 } else { 1 }
        });
        reap(child, 7);
        cosocket::spawn(|| ()).join().unwrap();
    });
}

/// A pooled connection that a child has inherited is the parent's to park: in the child it is only
/// closed, and what is idle in the parent is not the child's to take.
#[test]
fn a_child_has_no_part_in_its_parent_s_pools() {
    let listener = cosocket::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = cosocket::Builder::new().workers(1).build().unwrap();
    let limits = || cosocket::ConnectOptions { pool_size: Some(2), ..Default::default() };
    let (used, idle) = (cosocket::Cosocket::new(), cosocket::Cosocket::new());
    runtime.run(|| {
        used.connect_with(address, &limits()).unwrap();
        idle.connect_with(address, &limits()).unwrap();
        idle.set_keepalive(None, None).unwrap();
    });
    let child = fork(|| {
        let is_fine = used.set_keepalive(None, None).is_ok()
            && used.connect_with(address, &limits()).is_ok()
            && used.reused_times().is_ok_and(|times| times == 0);
        i32::from(!is_fine)
    });
    reap(child, 0);
    runtime.run(|| {
        used.set_keepalive(None, None).unwrap();
        for _ in 0..2 {
            used.connect_with(address, &limits()).unwrap();
            assert_eq!(used.reused_times().unwrap(), 1);
            used.close().unwrap();
        }
    });
}
