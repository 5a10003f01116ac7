//! A signal every 100 µs, on whatever thread: calls that are interrupted are made again, and a
//! wait that is interrupted neither ends early nor for ever.

#[allow(unsafe_code)]
mod util;

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cosocket::net::{TcpListener, TcpStream, UdpSocket};
use cosocket::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use cosocket::thread;
use util::{Random, child, is_quick};

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, SeqCst);
}

/// Starts the storm; with `SA_RESTART` or not. The timer alone would hit the main thread only,
/// which waits for the test; so it is passed on to every thread there is.
#[allow(unsafe_code)]
fn start_signals(flags: libc::c_int) {
    let period = libc::timeval { tv_sec: 0, tv_usec: 100 };
    let timer = libc::itimerval { it_interval: period, it_value: period };
    // SAFETY: the handler touches one atomic; action and timer are read during the calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()), 0);
        let which = libc::ITIMER_REAL as _;
        assert_eq!(libc::setitimer(which, &timer, std::ptr::null_mut()), 0);
    }
    std::thread::spawn(|| {
        loop {
            for thread in other_threads() {
                // SAFETY: plain numbers; a thread that has ended is an error that is ignored.
                let process = unsafe { libc::getpid() };
                // SAFETY: as above.
                unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGALRM) };
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    });
}

fn other_threads() -> impl Iterator<Item = i32> {
    let me = util::os_thread();
    let names = std::fs::read_dir("/proc/self/task").unwrap();
    let numbers = names.map(|name| name.unwrap().file_name().to_str().unwrap().parse().unwrap());
    numbers.filter(move |&thread| thread != me)
}

fn rounds() -> usize {
    if is_quick() { 20 } else { 120 }
}

fn traffic() {
    let mut random = Random::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 1000];
                loop {
                    match stream.read(&mut buffer).unwrap() {
                        0 => return,
                        count => stream.write_all(&buffer[..count]).unwrap(),
                    }
                }
            });
        }
    });
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut random = random.split();
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                for round in 0..rounds() {
                    let question: Vec<u8> =
                        (0..1 + random.below(5000)).map(|_| random.next() as u8).collect();
                    stream.write_all(&question).unwrap();
                    let mut answer = vec![0; question.len()];
                    stream.read_exact(&mut answer).unwrap();
                    assert!(answer == question);
                    if round % 20 == 0 {
                        stream = TcpStream::connect(address).unwrap();
                    }
                }
            })
        })
        .collect();
    let waiters: Vec<_> = (0..8)
        .map(|_| {
            let (stream, _peer) = util::pair();
            let mut random = random.split();
            thread::spawn(move || {
                let mut stream = stream;
                let _peer = _peer;
                for _ in 0..rounds() / 4 {
                    let time = Duration::from_micros(1 + random.below(2000));
                    let start = Instant::now();
                    thread::sleep(time);
                    assert!(start.elapsed() >= time, "woke early");
                    stream.set_read_timeout(Some(time)).unwrap();
                    let start = Instant::now();
                    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
                    assert!(start.elapsed() >= time, "timed out early");
                    cosocket::unblock(move || std::thread::sleep(time / 10));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    acceptor.cancel();
    let _ = acceptor.join();
}

/// The same calls on a plain thread, where they block.
fn on_a_plain_thread() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        thread::sleep(Duration::from_millis(3));
        stream.write_all(&vec![7; 3_000_000]).unwrap();
        stream
    });
    let (mut stream, _) = listener.accept().unwrap();
    let mut buffer = vec![0; 3_000_000];
    stream.read_exact(&mut buffer).unwrap();
    assert!(buffer.iter().all(|&byte| byte == 7));
    let _client = client.join().unwrap();
    // The kernel starts a socket's timeout anew whenever a call is made again: it never ended.
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert_eq!(stream.read(&mut buffer).unwrap_err().kind(), ErrorKind::TimedOut);
    let start = Instant::now();
    thread::sleep(Duration::from_millis(3));
    thread::park_timeout(Duration::from_micros(1));
    assert!(start.elapsed() >= Duration::from_millis(3));
}

/// Datagrams, and what waits for room on the other side of a Unix socket: each call would have
/// to wait, in a coroutine and on a thread.
fn local_sockets() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_address = udp.local_addr().unwrap();
    let receiver = UnixDatagram::bind("").unwrap();
    let address = receiver.local_addr().unwrap();
    let listener = UnixListener::bind("").unwrap();
    socket2::SockRef::from(&listener).listen(0).unwrap();
    let listening = listener.local_addr().unwrap();
    const COUNT: usize = 100;
    let sender = thread::spawn(move || {
        let (udp, sender) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UnixDatagram::unbound());
        let sender = sender.unwrap();
        for _ in 0..COUNT {
            udp.send_to(b"udp", udp_address).unwrap();
            sender.send_to_addr(b"unix", &address).unwrap();
        }
        let clients: Vec<_> =
            (0..20).map(|_| UnixStream::connect_addr(&listening).unwrap()).collect();
        // Nobody takes any: the queue fills up.
        sender.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let error = loop {
            if let Err(error) = sender.send_to_addr(b"more", &address) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        clients.len()
    });
    for _ in 0..COUNT {
        assert_eq!(receiver.recv(&mut [0; 9]).unwrap(), 4);
        assert_eq!(udp.recv_from(&mut [0; 9]).unwrap().0, 3);
    }
    for _ in 0..20 {
        listener.accept().unwrap();
        thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(sender.join().unwrap(), 20);
    udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let start = Instant::now();
    assert_eq!(udp.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(45), "timed out early");
    receiver.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    while receiver.recv(&mut [0; 9]).is_ok() {}
    // On a thread the kernel waits.
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let address = receiver.local_addr().unwrap();
    while filler.send_to_addr(b"x", &address).is_ok() {}
}

fn storm(flags: libc::c_int) {
    start_signals(flags);
    cosocket::run(traffic);
    on_a_plain_thread();
    cosocket::run(local_sockets);
    local_sockets();
    let signals = SIGNALS.load(SeqCst);
    println!("{signals} signals");
    assert!(signals > 10, "no storm");
}

#[test]
fn signals_that_interrupt() {
    child::passes("signals_that_interrupt", || storm(0));
}

#[test]
fn signals_that_restart() {
    child::passes("signals_that_restart", || storm(libc::SA_RESTART));
}
