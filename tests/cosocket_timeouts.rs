//! How long a cosocket's calls wait, and what is left when that is over. Row ids are those of the
//! behaviour table.

mod socket_util;
mod support;
#[allow(unsafe_code)]
mod util;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cosocket::sync::oneshot;
use cosocket::{Cosocket, Error, ErrorKind, TimeoutMode, spawn, thread, time};
use socket_util::{everywhere, spawn_waiting};
use support::cosockets::{narrow_pair, pair};

const MILLISECOND: Duration = Duration::from_millis(1);

// DUP-8, section 2 item 52
#[test]
fn a_timeout_that_is_changed_counts_for_the_next_wait() {
    cosocket::run(|| {
        let (socket, mut peer) = pair();
        socket.set_timeout(Duration::from_secs(50)).unwrap();
        let reader = Arc::clone(&socket);
        let reader = spawn_waiting(move || reader.receive_any(100));
        socket.set_timeout(MILLISECOND).unwrap();
        thread::sleep(MILLISECOND * 20);
        assert!(!reader.is_finished(), "its wait began with 50 s");
        peer.write_all(b"x").unwrap();
        reader.join().unwrap().unwrap();
        assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Timeout);
    });
}

// TMO-1, section 2 items 41, 49
#[test]
fn timeouts_have_a_default_and_a_range() {
    let socket = Cosocket::new();
    let default = Duration::from_secs(60);
    assert_eq!(socket.timeouts(), (default, default, default));
    let longest = Duration::from_millis((1 << 31) - 1);
    socket.set_timeout(longest).unwrap();
    let too_long = Duration::from_millis(1 << 31);
    for (connect, send, read) in [
        (too_long, MILLISECOND, MILLISECOND),
        (MILLISECOND, too_long, MILLISECOND),
        (MILLISECOND, MILLISECOND, too_long),
    ] {
        let error = socket.set_timeouts(connect, send, read).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "bad timeout value");
    }
    assert_eq!(socket.timeouts(), (longest, longest, longest));
    socket.set_timeouts(Duration::ZERO, Duration::MAX, MILLISECOND).unwrap();
    assert_eq!(socket.timeouts(), (default, Duration::MAX, MILLISECOND));
}

// TMO-1, section 2 items 47, 50: each of the three bounds its own kind of wait
#[test]
fn a_receive_waits_for_as_long_as_the_third_timeout_says() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        let minute = Duration::from_secs(60);
        socket.set_timeouts(minute, minute, MILLISECOND * 10).unwrap();
        let start = Instant::now();
        let error = socket.receive_exact(3).unwrap_err();
        assert!(start.elapsed() >= MILLISECOND * 10);
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Timeout, "timeout"));
        assert_eq!(error.partial(), b"");

        socket.set_timeouts(MILLISECOND * 150, MILLISECOND * 150, MILLISECOND * 2).unwrap();
        let error = socket.receive_line().unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Timeout, "timeout"));
        assert_eq!(error.partial(), b"");
        // What comes late is the next call's, which the other two do not bound.
        socket.set_timeouts(MILLISECOND, MILLISECOND, minute).unwrap();
        let server = spawn(move || {
            thread::sleep(MILLISECOND * 10);
            peer.write_all(b"late\n").unwrap();
            peer
        });
        assert_eq!(socket.receive_line().unwrap(), b"late");
        let _peer = server.join().unwrap();
        socket.set_timeouts(minute, MILLISECOND, minute).unwrap();
        let error = socket.send(vec![7_u8; 50 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    });
}

// TMO-2
#[test]
fn a_timeout_for_one_call_gives_the_former_back() {
    everywhere(|| {
        let (socket, _peer) = pair();
        socket.set_timeouts(Duration::ZERO, Duration::ZERO, Duration::from_secs(7)).unwrap();
        let silence = socket.with_read_timeout(MILLISECOND, || socket.receive_line());
        assert_eq!(silence.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(socket.timeouts().2, Duration::from_secs(7));
        let too_long = Duration::from_secs(1 << 40);
        let refused = socket.with_read_timeout(too_long, || -> Result<(), Error> { panic!() });
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        let unwound = std::panic::catch_unwind(|| {
            let panics = || -> Result<(), Error> { support::panic_quietly("on its way") };
            socket.with_send_timeout(MILLISECOND, panics)
        });
        unwound.unwrap_err();
        assert_eq!(socket.timeouts().1, Duration::from_secs(60));
    });
}

// TMO-2: each is its caller's own, whoever of them is over first
#[test]
fn timeouts_for_calls_of_several_callers_may_overlap() {
    everywhere(|| {
        let (socket, _peer) = pair();
        let former = socket.timeouts();
        let begin = |timeout| {
            let (socket, (started, begun)) = (Arc::clone(&socket), oneshot::channel());
            let (end, over) = oneshot::channel();
            let caller = spawn(move || {
                let within = || {
                    started.send(()).unwrap();
                    over.recv().unwrap();
                    Ok(socket.timeouts())
                };
                let inside = socket.with_read_timeout(timeout, within).unwrap();
                (inside.2, socket.timeouts())
            });
            begun.recv().unwrap();
            (timeout, caller, end)
        };
        let callers = [begin(Duration::from_secs(10)), begin(Duration::from_secs(1))];
        assert_eq!(socket.timeouts(), former);
        let mine = Duration::from_secs(5);
        let inside = || socket.with_read_timeout(MILLISECOND, || Ok(socket.timeouts().2));
        socket
            .with_read_timeout(mine, || {
                assert_eq!(inside().unwrap(), MILLISECOND);
                for (timeout, caller, end) in callers {
                    end.send(()).unwrap();
                    assert_eq!(caller.join().unwrap(), (timeout, former));
                    assert_eq!(socket.timeouts(), (former.0, former.1, mine));
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(socket.timeouts(), former);
    });
}

// TMO-2: and it bounds no wait of anybody else's
#[test]
fn a_timeout_for_one_call_leaves_other_callers_alone() {
    cosocket::run(|| {
        let (socket, mut peer) = pair();
        let (reader, sender) = (Arc::clone(&socket), Arc::clone(&socket));
        sender
            .with_read_timeout(MILLISECOND, || {
                let reader = spawn_waiting(move || reader.receive_any(9));
                thread::sleep(MILLISECOND * 20);
                assert!(!reader.is_finished());
                peer.write_all(b"data").unwrap();
                assert_eq!(reader.join().unwrap()?, b"data");
                Ok(())
            })
            .unwrap();
    });
}

// TMO-3
#[test]
fn a_timeout_bounds_each_wait_or_the_whole_call() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        let patience = Duration::from_secs(1);
        socket.set_timeout(patience).unwrap();
        let dribble = spawn(move || {
            for byte in 0..30 {
                peer.write_all(&[byte]).unwrap();
                thread::sleep(patience / 20);
            }

            peer
        });
        let start = Instant::now();
        assert_eq!(socket.receive_exact(24).unwrap().len(), 24);
        assert!(start.elapsed() > patience, "it shows nothing if it is that fast");
        let _peer = dribble.join().unwrap();

        socket.set_timeout_mode(TimeoutMode::Deadline);
        socket.set_timeout(MILLISECOND * 10).unwrap();
        let start = Instant::now();
        let error = socket.receive_exact(10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(start.elapsed() >= MILLISECOND * 10);
        assert_eq!(error.partial(), [24, 25, 26, 27, 28, 29]);
    });
}

// TMO-3: with a peer that is never silent for long
#[test]
fn a_deadline_ends_a_call_however_busy_the_peer_is() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        socket.set_timeout_mode(TimeoutMode::Deadline);
        socket.set_timeout(MILLISECOND * 20).unwrap();
        let dribble = spawn(move || {
            while peer.write_all(b"x").is_ok() {
                thread::sleep(MILLISECOND);
            }
        });
        // On a busy machine the first byte may come later than that.
        loop {
            let error = socket.receive_exact(1 << 30).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
            if !error.partial().is_empty() {
                break;
            }
        }
        socket.close_reset().unwrap();
        dribble.join().unwrap();
    });
}

// TMO-4
#[test]
fn no_timer_is_left_when_a_call_is_over() {
    cosocket::run(|| {
        let (socket, mut peer) = pair();
        socket.set_timeout(MILLISECOND * 10).unwrap();
        let reader = Arc::clone(&socket);
        let reader = spawn_waiting(move || reader.receive_any(100));
        peer.write_all(b"x").unwrap();
        reader.join().unwrap().unwrap();
        thread::sleep(MILLISECOND * 15);
        peer.write_all(b"y").unwrap();
        assert_eq!(socket.receive_any(1).unwrap(), b"y");
    });
}

// TMO-5, TMO-4, section 2 item 20
#[test]
fn a_receive_that_times_out_leaves_the_connection() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        socket.set_timeouts(Duration::ZERO, Duration::ZERO, MILLISECOND).unwrap();
        for _ in 0..2 {
            let error = socket.receive_line().unwrap_err();
            assert_eq!((error.kind(), error.partial()), (ErrorKind::Timeout, &b""[..]));
        }
        socket.set_timeout(Duration::ZERO).unwrap();
        let cut = time::timeout(MILLISECOND, || socket.receive_any(1));
        assert_eq!(cut.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        peer.write_all(b"data").unwrap();
        assert_eq!(socket.receive_any(9).unwrap(), b"data");
    });
}

// TMO-6: a limit around a send is its timeout, and the receive half lives on
#[test]
fn a_limit_around_a_send_ends_the_write_half() {
    everywhere(|| {
        let (socket, mut peer) = narrow_pair();
        let data = vec![7_u8; 4 << 20];
        let cut = time::timeout(MILLISECOND * 20, || socket.send(&data));
        let error = cut.unwrap().unwrap_err();
        assert!(error.kind() == ErrorKind::Timeout && error.sent() > 0);
        assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);
        peer.write_all(b"data").unwrap();
        assert_eq!(socket.receive_any(9).unwrap(), b"data");
        // One that has passed before anything was sent changes nothing.
        let (socket, _peer) = pair();
        let cut = time::timeout(Duration::ZERO, || socket.send("never"));
        assert_eq!(cut.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(socket.send("now").unwrap(), 3);
    });
}

// TMO-9
#[test]
fn no_timeout_fires_early() {
    cosocket::run(|| {
        let mut random = util::Random::new();
        let count = if util::is_quick() { 50 } else { 1000 };
        let waits: Vec<_> = (0..count)
            .map(|_| {
                let timeout = Duration::from_micros(random.below(50_000) + 1);
                spawn(move || {
                    let (socket, _other) = Cosocket::pair().unwrap();
                    socket.set_timeout(timeout).unwrap();
                    let start = Instant::now();
                    assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Timeout);
                    assert!(start.elapsed() >= timeout, "{:?} < {timeout:?}", start.elapsed());
                })
            })
            .collect();
        waits.into_iter().for_each(|wait| wait.join().unwrap());
    });
}
