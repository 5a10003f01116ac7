//! Against the real kernel. Waiters are plain addresses: the driver only passes them on.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU32;
use std::thread;

use super::*;
use crate::driver::op::Op;
use crate::driver::readiness::WAITER_ALIGNMENT;
use crate::mailbox::{Outcome, Signals, UNPARKED};
use crate::registry;

const ALICE: *const () = ptr::without_provenance(0x1000);
const BOB: *const () = ptr::without_provenance(0x2000);

/// A worker's index and epoll, given back at the end. Made before the sockets, so that they have
/// left the epoll by then: the next test gets it.
struct Worker {
    mailbox: &'static Mailbox,
    epoll: Epoll,
}

impl Worker {
    fn new() -> Worker {
        let mailbox = registry::claim().unwrap();
        mailbox.doorbell().answer();
        Worker { mailbox, epoll: Epoll::open(mailbox).unwrap() }
    }

    fn turn(&self, wait: Wait) -> (Turn, Vec<*const ()>) {
        let mut woken = Vec::new();
        let turn = self.epoll.turn(wait, &mut |waiter| woken.push(waiter));
        (turn, woken)
    }

    fn woken(&self, wait: Wait) -> Vec<*const ()> {
        self.turn(wait).1
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        registry::give_back(self.mailbox);
    }
}

/// A socket and its source, released before it is closed.
struct Watched<S: AsFd> {
    socket: S,
    source: &'static Source,
}

impl<S: AsFd> Watched<S> {
    fn new(socket: S) -> Watched<S> {
        Watched { socket, source: Source::take() }
    }

    fn fd(&self) -> RawFd {
        self.socket.as_fd().as_raw_fd()
    }

    fn register(&self, worker: &Worker) {
        worker.epoll.register(self.fd(), self.source).unwrap();
    }

    /// As a coroutine's read waits: after an attempt that had to. False if it should try again.
    fn park_reader(&self, waiter: *const ()) -> bool {
        let snapshot = self.source.read.snapshot();
        assert_eq!(self.recv(1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        self.source.read.park(snapshot, waiter)
    }

    fn recv(&self, len: usize) -> io::Result<usize> {
        let mut buffer = vec![0; len];
        let op = Op::Recv { fd: self.fd(), buffer: buffer.as_mut_ptr(), len, flags: 0 };
        // SAFETY: the buffer lives until the call is over.
        unsafe { op.attempt(false) }.map(|count| count as usize)
    }
}

impl<S: AsFd> Drop for Watched<S> {
    fn drop(&mut self) {
        self.source.read.unpark(ALICE);
        self.source.write.unpark(ALICE);
        self.source.release(self.fd());
    }
}

fn pair() -> (Watched<UnixStream>, UnixStream) {
    let (mine, theirs) = UnixStream::pair().unwrap();
    (Watched::new(mine), theirs)
}

#[test]
fn a_descriptor_is_registered_once_per_worker() {
    let worker = Worker::new();
    let (mine, mut theirs) = pair();
    let before = worker.epoll.system_calls();
    mine.register(&worker);
    mine.register(&worker);
    assert_eq!(worker.epoll.system_calls() - before, 1);
    // Its own state is reported at once, here: writable.
    assert!(mine.park_reader(ALICE));
    assert_eq!(worker.woken(Wait::Poll), []);
    theirs.write_all(b"x").unwrap();
    assert_eq!(worker.woken(Wait::Forever), [ALICE]);
}

#[test]
fn what_came_before_the_registration_is_reported_after_it() {
    let worker = Worker::new();
    let (mine, mut theirs) = pair();
    assert!(mine.park_reader(ALICE));
    theirs.write_all(b"x").unwrap();
    mine.register(&worker);
    assert_eq!(worker.woken(Wait::Poll), [ALICE]);
}

#[test]
fn a_short_read_shows_that_the_socket_is_empty() {
    let worker = Worker::new();
    let (mine, mut theirs) = pair();
    let read = &mine.source.read;
    mine.register(&worker);
    theirs.write_all(b"0123456789").unwrap();
    worker.turn(Wait::Poll);

    let snapshot = read.snapshot();
    assert!(snapshot.is_ready());
    assert_eq!(mine.recv(4).unwrap(), 4);
    // A full buffer proves nothing, so there is no clear. No further edge comes either.
    worker.turn(Wait::Poll);
    assert_eq!(read.snapshot(), snapshot);
    assert_eq!(mine.recv(100).unwrap(), 6);
    read.clear(snapshot);
    assert!(!read.snapshot().is_ready());
    assert!(read.park(read.snapshot(), ALICE), "waits without another attempt");
    theirs.write_all(b"x").unwrap();
    assert_eq!(worker.woken(Wait::Forever), [ALICE]);
}

#[test]
fn data_and_its_end_in_one_edge_are_both_seen() {
    let worker = Worker::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mine = Watched::new(listener.accept().unwrap().0);
    mine.register(&worker);
    worker.turn(Wait::Poll);
    assert!(mine.park_reader(ALICE));

    theirs.write_all(b"bye").unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    let mut entry = libc::pollfd { fd: mine.fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: the one entry is ours for the call.
    assert_eq!(unsafe { libc::poll(&mut entry, 1, -1) }, 1);

    assert_eq!(worker.woken(Wait::Poll), [ALICE]);
    let snapshot = mine.source.read.snapshot();
    assert!(snapshot.is_ready() && snapshot.is_closed());
    assert_eq!(mine.recv(100).unwrap(), 3);
    mine.source.read.clear(snapshot);
    assert!(mine.source.read.snapshot().is_ready(), "the end has not been read yet");
    assert_eq!(mine.recv(100).unwrap(), 0);
    assert!(!mine.source.write.snapshot().is_closed(), "half closed");
}

#[test]
fn a_reset_ends_both_directions() {
    let worker = Worker::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = socket2::SockRef::from(&listener)
        .local_addr()
        .map(|address| TcpStream::connect(address.as_socket().unwrap()).unwrap())
        .unwrap();
    let mine = Watched::new(listener.accept().unwrap().0);
    mine.register(&worker);
    worker.turn(Wait::Poll);
    assert!(mine.park_reader(ALICE));
    socket2::SockRef::from(&theirs).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(theirs);
    assert_eq!(worker.woken(Wait::Forever), [ALICE]);
    assert!(mine.source.read.snapshot().is_closed());
    assert!(mine.source.write.snapshot().is_closed());
    assert_eq!(mine.recv(1).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// An error event on a datagram socket is not the end: CLOSED kept the reader spinning.
#[test]
fn a_refused_datagram_does_not_keep_the_next_read_from_waiting() {
    let worker = Worker::new();
    let mine = UdpSocket::bind("127.0.0.1:0").unwrap();
    // It takes datagrams of another only.
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    deaf.connect("127.0.0.1:1").unwrap();
    mine.connect(deaf.local_addr().unwrap()).unwrap();
    let mine = Watched::new(mine);
    mine.register(&worker);
    worker.turn(Wait::Poll);
    assert!(mine.park_reader(ALICE));
    mine.socket.send(b"x").unwrap();
    assert_eq!(worker.woken(Wait::Forever), [ALICE]);
    assert!(mine.source.read.snapshot().is_closed());
    assert_eq!(mine.recv(1).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert!(mine.park_reader(ALICE));
}

#[test]
fn both_directions_wait_at_a_time() {
    let worker = Worker::new();
    let (mut mine, mut theirs) = pair();
    mine.socket.set_nonblocking(true).unwrap();
    let writer = mine.source.write.snapshot();
    let mut sent = 0;
    let error = loop {
        match mine.socket.write(&[0; 65536]) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    mine.register(&worker);
    assert!(mine.source.write.park(writer, BOB));
    assert!(mine.park_reader(ALICE));
    assert_eq!(worker.woken(Wait::Poll), []);
    theirs.write_all(b"x").unwrap();
    assert_eq!(worker.woken(Wait::Forever), [ALICE]);
    theirs.read_exact(&mut vec![0; sent]).unwrap();
    assert_eq!(worker.woken(Wait::Forever), [BOB]);
}

/// A batch holds events of sockets that are closed, and their sources and numbers reused, while
/// its first event is handled.
#[test]
fn events_of_a_source_s_former_descriptor_are_ignored() {
    let worker = Worker::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let reused: usize = (0..500).map(|_| reuse_within_a_batch(&worker, &mut seed)).sum();
    assert!(reused > 0, "the pool gave other sources each time, so nothing was tested");
}

/// How many sources the closed sockets' successors got from them.
fn reuse_within_a_batch(worker: &Worker, seed: &mut u64) -> usize {
    const SOCKETS: usize = 16;
    let waiter = |number: usize| ptr::without_provenance::<()>(number * WAITER_ALIGNMENT);
    assert!(waiter(SOCKETS) < ALICE);

    let mut sockets = HashMap::new();
    let mut peers = Vec::new();
    for number in 1..=SOCKETS {
        let (mine, mut theirs) = pair();
        mine.register(worker);
        assert!(mine.park_reader(waiter(number)));
        theirs.write_all(b"x").unwrap();
        peers.push(theirs);
        sockets.insert(number, mine);
    }
    let victims: Vec<usize> = (0..SOCKETS / 2).map(|_| 1 + random(seed, SOCKETS)).collect();

    let mut closed: Vec<*const Source> = Vec::new();
    let mut successors = Vec::new();
    let mut woken = Vec::new();
    worker.epoll.turn(Wait::Poll, &mut |who| {
        woken.push(who);
        if !closed.is_empty() {
            return;
        }
        for victim in &victims {
            let Some(socket) = sockets.remove(victim) else {
                continue;
            };
            // Its coroutine has timed out.
            socket.source.read.unpark(waiter(*victim));
            closed.push(socket.source);
        }
        for _ in 0..closed.len() {
            let (mine, theirs) = pair();
            mine.register(worker);
            assert!(mine.park_reader(ALICE));
            successors.push((mine, theirs));
        }
    });

    for (successor, _) in &successors {
        assert!(!successor.source.read.snapshot().is_ready());
        assert!(successor.source.read.unpark(ALICE), "woken by its source's former socket");
    }
    assert!(sockets.keys().all(|number| woken.contains(&waiter(*number))), "nobody is skipped");
    successors.iter().filter(|(mine, _)| closed.contains(&ptr::from_ref(mine.source))).count()
}

fn random(seed: &mut u64, below: usize) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed % below as u64) as usize
}

/// What epoll itself has to say, before stale tokens are sorted out.
fn raw_events(worker: &Worker) -> i32 {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
    // SAFETY: the buffer is ours to write and as long as we say.
    unsafe { libc::epoll_wait(worker.epoll.epoll, events.as_mut_ptr(), 8, 0) }
}

#[test]
fn a_duplicate_keeps_a_registration_that_was_not_removed() {
    let worker = Worker::new();
    let (mine, mut theirs) = UnixStream::pair().unwrap();
    let source = Source::take();
    worker.epoll.register(mine.as_raw_fd(), source).unwrap();
    let duplicate = mine.try_clone().unwrap();
    worker.turn(Wait::Poll);
    drop(mine);
    theirs.write_all(b"x").unwrap();
    // This is why `release` does not leave the removal to `close`.
    assert_eq!(raw_events(&worker), 1);
    drop(duplicate);
    source.release(-1);
}

#[test]
fn a_duplicate_is_silent_once_the_source_is_released() {
    let worker = Worker::new();
    let (mine, mut theirs) = UnixStream::pair().unwrap();
    let source = Source::take();
    worker.epoll.register(mine.as_raw_fd(), source).unwrap();
    let _duplicate = mine.try_clone().unwrap();
    worker.turn(Wait::Poll);
    source.release(mine.as_raw_fd());
    drop(mine);
    theirs.write_all(b"x").unwrap();
    assert_eq!(raw_events(&worker), 0);
}

#[test]
fn a_source_in_several_epolls_hears_from_each_and_leaves_all() {
    let workers = [Worker::new(), Worker::new(), Worker::new()];
    let (mine, mut theirs) = pair();
    for worker in &workers {
        mine.register(worker);
        worker.turn(Wait::Poll);
    }
    for worker in &workers {
        assert!(mine.park_reader(ALICE));
        theirs.write_all(b"x").unwrap();
        assert_eq!(worker.woken(Wait::Forever), [ALICE]);
        assert_eq!(mine.recv(100).unwrap(), 1);
        for other in &workers {
            other.turn(Wait::Poll);
        }
    }
    let duplicate = mine.socket.try_clone().unwrap();
    drop(mine);
    theirs.write_all(b"x").unwrap();
    for worker in &workers {
        assert_eq!(raw_events(worker), 0);
    }
    drop(duplicate);
}

#[test]
fn the_next_worker_of_an_index_reports_the_former_one_s_sockets() {
    let mut worker = Worker::new();
    let (mine, mut theirs) = pair();
    mine.register(&worker);
    worker.turn(Wait::Poll);
    worker.epoll = Epoll::open(worker.mailbox).unwrap();
    let before = worker.epoll.system_calls();
    mine.register(&worker);
    assert_eq!(worker.epoll.system_calls(), before, "registered already");
    assert!(mine.park_reader(ALICE));
    theirs.write_all(b"x").unwrap();
    assert_eq!(worker.woken(Wait::Forever), [ALICE]);
}

#[test]
fn a_shared_listener_tells_at_least_one_of_its_workers() {
    let workers = [Worker::new(), Worker::new()];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let mine = Watched::new(listener);
    let snapshot = mine.source.read.snapshot();
    assert_eq!(mine.socket.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    for worker in &workers {
        worker.epoll.register(mine.fd(), mine.source).unwrap();
    }
    assert!(mine.source.read.park(snapshot, ALICE));
    let _client = TcpStream::connect(address).unwrap();
    let woken: Vec<_> = workers.iter().flat_map(|worker| worker.woken(Wait::Poll)).collect();
    assert_eq!(woken, [ALICE], "the source passes the first edge on");
    mine.socket.accept().unwrap();
}

#[test]
fn a_regular_file_is_refused_with_the_kernel_s_own_error() {
    let worker = Worker::new();
    let file = Watched::new(std::fs::File::open("/proc/self/exe").unwrap());
    let error = worker.epoll.register(file.fd(), file.source).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    assert!(!file.source.is_registered(worker.mailbox.index()));
}

#[test]
fn a_second_source_for_one_descriptor_is_refused() {
    let worker = Worker::new();
    let (mine, _theirs) = pair();
    mine.register(&worker);
    let second = Source::take();
    let error = worker.epoll.register(mine.fd(), second).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("duplicate it"));
    second.release(mine.fd());
    assert!(mine.park_reader(ALICE));
    drop(_theirs);
    assert_eq!(worker.woken(Wait::Forever), [ALICE], "the first one is as it was");
}

#[test]
fn more_events_than_a_buffer_holds_come_in_one_turn() {
    let worker = Worker::new();
    let (mine, _theirs) = UnixStream::pair().unwrap();
    let sockets: Vec<_> =
        (0..EVENTS + 8).map(|_| Watched::new(mine.try_clone().unwrap())).collect();
    for socket in &sockets {
        assert!(socket.source.write.park(socket.source.write.snapshot(), ALICE));
        socket.register(&worker);
    }
    let before = worker.epoll.system_calls();
    assert_eq!(worker.woken(Wait::Poll).len(), sockets.len());
    assert_eq!(worker.epoll.system_calls() - before, 2);
}

#[test]
fn a_poll_is_one_system_call_and_no_sleep() {
    let worker = Worker::new();
    let before = worker.epoll.system_calls();
    let (turn, woken) = worker.turn(Wait::Poll);
    assert_eq!((turn, woken), (Turn { doorbell: false, entered: true }, vec![]));
    assert_eq!(worker.epoll.system_calls() - before, 1);
}

#[test]
fn a_ring_before_the_sleep_ends_it() {
    let worker = Worker::new();
    assert!(worker.mailbox.prepare_sleep());
    worker.mailbox.ring();
    assert!(worker.turn(Wait::Forever).0.doorbell);
    worker.mailbox.wake_up();
    assert!(!worker.mailbox.doorbell().answer(), "the turn has answered it");
    assert!(!worker.turn(Wait::Poll).0.doorbell);
}

#[test]
fn mail_from_another_thread_ends_the_sleep() {
    let worker = Worker::new();
    let block: &'static Signals = Box::leak(Box::new(Signals::new()));
    let generation = block.occupy();
    block.begin();
    let mailbox = worker.mailbox;
    for _ in 0..100 {
        let sender = thread::spawn(move || {
            assert_eq!(block.signal(generation, UNPARKED), Outcome::MustLink);
            // SAFETY: leaked, and the answer was MustLink.
            unsafe { mailbox.push(ptr::NonNull::from(block)) };
        });
        let mut delivered = 0;
        while delivered == 0 {
            if mailbox.prepare_sleep() {
                worker.turn(Wait::Forever);
                mailbox.wake_up();
            }
            mailbox.drain(|delivery| {
                assert_eq!(delivery.bits, UNPARKED);
                delivered += 1;
            });
        }
        assert!(block.take_unparked());
        sender.join().unwrap();
    }
}

fn assert_never_early(worker: &Worker) {
    for nanoseconds in [1, 999, 50_000, 999_999, 1_000_001, 3_500_000] {
        let time = clock::now() + nanoseconds;
        let (turn, woken) = worker.turn(Wait::Until(time));
        assert!(turn.entered && woken.is_empty());
        assert!(clock::now() >= time, "{nanoseconds} ns");
    }
}

#[test]
fn a_timed_wait_is_never_early() {
    let worker = Worker::new();
    assert_never_early(&worker);
    assert!(!PWAIT2_REFUSED.load(Ordering::Relaxed), "this test needs Linux 5.11");
    // A time in the past is a poll, and one beyond all uptimes is a wait.
    assert_eq!(worker.woken(Wait::Until(1)), []);
    worker.mailbox.doorbell().ring();
    assert!(worker.turn(Wait::Until(u64::MAX)).0.doorbell);
}

#[test]
fn milliseconds_are_rounded_up() {
    assert_eq!(round_up_to_milliseconds(1), 1);
    assert_eq!(round_up_to_milliseconds(1_000_000), 1);
    assert_eq!(round_up_to_milliseconds(1_000_001), 2);
    assert_eq!(round_up_to_milliseconds(u64::MAX), i32::MAX);
}

#[test]
fn a_signal_handler_ends_the_turn_without_events() {
    let worker = Worker::new();
    static HANDLED: AtomicU32 = AtomicU32::new(0);
    extern "C" fn handler(_: i32) {
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler touches one atomic; the signal is ignored otherwise.
    let before = unsafe { libc::signal(libc::SIGURG, handler as *const () as usize) };
    assert_ne!(before, libc::SIG_ERR);
    // SAFETY: plain call.
    let me = unsafe { libc::pthread_self() };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the scope keeps that thread alive.
                unsafe { libc::pthread_kill(me, libc::SIGURG) };
                thread::yield_now();
            }
        });
        let outcome = worker.turn(Wait::Forever);
        done.store(true, Ordering::Relaxed);
        assert_eq!(outcome, (Turn { doorbell: false, entered: true }, vec![]));
    });
    assert!(HANDLED.load(Ordering::Relaxed) > 0);
}

/// Makes one system call fail, for this thread, for good: a seccomp filter of four steps.
fn refuse(system_call: libc::c_long, errno: i32) {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let returning = libc::BPF_RET | libc::BPF_K;
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, system_call as u32),
        step(returning, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(returning, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program during the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}

/// Runs the calling test again, alone in a process of its own, with `hostile` for its body.
fn in_a_child(test: &str, hostile: impl FnOnce()) {
    const CHILD: &str = "COSOCKET_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return hostile();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{}::{test}", module_path!().split_once("::").unwrap().1)])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}");
    assert!(report.contains("1 passed"), "{report}");
}

#[test]
fn without_epoll_pwait2_a_timed_wait_uses_milliseconds() {
    in_a_child("without_epoll_pwait2_a_timed_wait_uses_milliseconds", || {
        refuse(libc::SYS_epoll_pwait2, libc::EPERM);
        let worker = Worker::new();
        let before = worker.epoll.system_calls();
        // Long enough not to be over before the call, which would then only poll.
        worker.turn(Wait::Until(clock::now() + 20_000_000));
        assert_eq!(worker.epoll.system_calls() - before, 2, "refused once");
        worker.turn(Wait::Until(clock::now() + 20_000_000));
        assert_eq!(worker.epoll.system_calls() - before, 3, "and remembered");
        assert_never_early(&worker);
        let (mine, _theirs) = pair();
        mine.register(&worker);
        assert!(mine.source.write.park(mine.source.write.snapshot(), ALICE));
        assert_eq!(worker.woken(Wait::Until(u64::MAX)), [ALICE]);
    });
}

#[test]
fn an_unknown_epoll_pwait2_is_as_good_as_a_forbidden_one() {
    in_a_child("an_unknown_epoll_pwait2_is_as_good_as_a_forbidden_one", || {
        refuse(libc::SYS_epoll_pwait2, libc::ENOSYS);
        assert_never_early(&Worker::new());
        assert!(PWAIT2_REFUSED.load(Ordering::Relaxed));
    });
}

#[test]
fn a_used_up_quota_names_its_sysctl() {
    in_a_child("a_used_up_quota_names_its_sysctl", || {
        let worker = Worker::new();
        let (mine, _theirs) = pair();
        refuse(libc::SYS_epoll_ctl, libc::ENOSPC);
        let error = worker.epoll.register(mine.fd(), mine.source).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        assert!(error.to_string().contains("fs.epoll.max_user_watches"));
        assert!(!mine.source.is_registered(worker.mailbox.index()));
    });
}
