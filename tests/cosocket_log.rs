//! What a socket says in the log when it is asked to, and that it says nothing otherwise. All in one
//! test, for a process has one log.

mod socket_util;

use std::sync::Mutex;
use std::time::Duration;

use cosocket::net::TcpListener;
use cosocket::{Cosocket, ErrorKind, SocketOption};
use socket_util::closed_port;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        assert_eq!((record.level(), record.target()), (log::Level::Error, "cosocket"));
        LINES.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// The one line written, in two parts: before and after how long the call has lasted.
#[track_caller]
fn line() -> (String, String) {
    let lines = std::mem::take(&mut *LINES.lock().unwrap());
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let (text, rest) = line.split_once(", after ").unwrap();
    let (_, upstream) = rest.split_once("s, upstream: ").unwrap();
    (text.to_owned(), upstream.to_owned())
}

/// Makes every kind of error; what is written after each is looked at by `check`.
fn fail_in_every_way(socket: &Cosocket, check: impl Fn(&str, &str)) {
    socket.connect(closed_port()).unwrap_err();
    check("tcp socket connect failed: connection refused", "127.0.0.1:");
    assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);
    check("attempt to send data on a closed socket", "none");
    assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
    check("attempt to receive data on a closed socket", "none");

    let (_full, black_hole, _clients) = socket_util::full_listener();
    socket.set_timeout(Duration::from_millis(1)).unwrap();
    assert_eq!(socket.connect(black_hole).unwrap_err().kind(), ErrorKind::Timeout);
    check("tcp socket connect timed out", &black_hole.to_string());

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    socket
        .set_timeouts(Duration::ZERO, Duration::from_millis(1), Duration::from_millis(1))
        .unwrap();
    socket.connect(("localhost", port)).unwrap();
    let peer = listener.accept().unwrap().0;
    let upstream = format!("localhost:{port}(127.0.0.1)");
    assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Timeout);
    check("tcp socket read timed out", &upstream);
    socket.set_option(SocketOption::SendBuffer(8 << 10)).unwrap();
    assert_eq!(socket.send(vec![7_u8; 50 << 20]).unwrap_err().kind(), ErrorKind::Timeout);
    check("tcp socket write timed out", &upstream);
    // `try_send` is a send like others. That it would have to wait is no error.
    assert_eq!(socket.try_send(b"x").unwrap_err().kind(), ErrorKind::Closed);
    check("attempt to send data on a closed socket", "none");
    drop(peer);
    // The end of the stream is none of these.
}

/// Section 2, item 46: one that was ended in the middle of a send is not said to have timed out, not
/// then and not when its timeout has passed.
fn a_sender_that_is_cancelled_says_nothing() {
    cosocket::run(|| {
        let (socket, _peer) = Cosocket::pair().unwrap();
        let timeout = Duration::from_millis(50);
        socket.set_timeouts(Duration::ZERO, timeout, Duration::ZERO).unwrap();
        socket.set_option(SocketOption::SendBuffer(8 << 10)).unwrap();
        socket.set_log_errors(true);
        let sender = socket_util::spawn_waiting(move || socket.send(vec![7_u8; 50 << 20]));
        sender.cancel();
        assert!(sender.join().unwrap_err().is::<cosocket::Cancelled>());
        cosocket::thread::sleep(timeout * 2);
        assert!(LINES.lock().unwrap().is_empty());
    });
}

// LOG-1, TMO-8, section 2 items 5, 43, 118
#[test]
fn errors_are_logged_when_that_is_asked_for() {
    log::set_logger(&Lines).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    socket_util::everywhere(|| {
        fail_in_every_way(&Cosocket::new(), |_, _| assert!(LINES.lock().unwrap().is_empty()));
        let socket = Cosocket::new();
        socket.set_log_errors(true);
        fail_in_every_way(&socket, |text, upstream| {
            let (written, at) = line();
            assert_eq!(written, text);
            assert!(at.starts_with(upstream), "{at}");
        });
    });
    a_sender_that_is_cancelled_says_nothing();
}
