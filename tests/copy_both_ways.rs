//! `io::copy_bidirectional`: all bytes, both ends passed on, and how far it came when it fails.

#[allow(unsafe_code)]
mod socket_util;
#[allow(unsafe_code)]
mod util;

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use cosocket::io::{ShutdownWrite, copy_bidirectional};
use cosocket::net::TcpStream;
use cosocket::os::unix::net::UnixStream;
use cosocket::{Cancelled, thread, time};
use socket_util::{everywhere, pair, spawn_waiting, turn};
use util::{Random, child, descriptors, is_quick};

/// A client and a server, and between them the two streams of a proxy.
struct Line {
    client: TcpStream,
    near: TcpStream,
    far: TcpStream,
    server: TcpStream,
}

fn line() -> Line {
    let (client, near) = pair();
    let (far, server) = pair();
    Line { client, near, far, server }
}

/// Sends random pieces and shuts its half down; what the other side sent is returned.
fn talk(stream: TcpStream, bytes: Vec<u8>, mut random: Random) -> Vec<u8> {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, after) =
                    rest.split_at(rest.len().min(1 + random.below(50_000) as usize));
                (&stream).write_all(piece).unwrap();
                rest = after;
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        (&stream).read_to_end(&mut received).unwrap();
        received
    })
}

#[test]
fn every_byte_goes_through_both_ways_at_once() {
    let size: usize = if is_quick() { 100_000 } else { 3_000_000 };
    let mut random = Random::new();
    let (one, two) = (random.split(), random.split());
    everywhere(move || {
        let Line { client, near, far, server } = line();
        let (one, two) = (one.clone(), two.clone());
        let there: Vec<u8> = (0..size).map(|index| (index * 7 % 251) as u8).collect();
        let back: Vec<u8> = (0..size / 2).map(|index| (index * 13 % 241) as u8).collect();
        let (sent_there, sent_back) = (there.clone(), back.clone());
        let client = thread::spawn(move || talk(client, sent_there, one));
        let server = thread::spawn(move || talk(server, sent_back, two));
        let counts = copy_bidirectional(&near, &far).unwrap();
        assert_eq!(counts, (there.len() as u64, back.len() as u64));
        // Both have ended in both directions: the streams need not be dropped for that.
        assert!(client.join().unwrap() == back && server.join().unwrap() == there);
    });
}

#[test]
fn tcp_is_joined_with_unix_sockets() {
    everywhere(|| {
        let (client, near) = pair();
        let (far, server) = UnixStream::pair().unwrap();
        (&client).write_all(b"over").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let server = thread::spawn(move || {
            let mut text = String::new();
            (&server).read_to_string(&mut text).unwrap();
            (&server).write_all(b"and out").unwrap();
            text
        });
        assert_eq!(copy_bidirectional(&near, &far).unwrap(), (4, 7));
        assert_eq!(server.join().unwrap(), "over");
        let mut text = String::new();
        (&client).read_to_string(&mut text).unwrap();
        assert_eq!(text, "and out");
    });
}

#[test]
fn an_enclosing_timeout_ends_both_with_an_error_that_tells_how_far_it_came() {
    cosocket::run(|| {
        let Line { client, near, far, mut server } = line();
        (&client).write_all(b"there").unwrap();
        let mut told = None;
        let result = time::timeout(Duration::from_millis(20), || {
            told = Some(copy_bidirectional(&near, &far));
        });
        assert!(result.is_ok() || told.is_some(), "it went past the error");
        let error = told.unwrap().unwrap_err();
        assert_eq!((error.a_to_b, error.b_to_a), (5, 0));
        assert_eq!(error.error.kind(), ErrorKind::TimedOut);
        // Nobody holds the streams any more, and nothing was read that was not passed on.
        (&client).write_all(b"more").unwrap();
        let mut text = [0; 4];
        (&near).read_exact(&mut text).unwrap();
        (&far).write_all(&text).unwrap();
        let mut text = [0; 9];
        server.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"theremore");
    });
}

#[test]
fn an_end_is_passed_on_and_the_other_direction_goes_on() {
    cosocket::run(|| {
        let Line { mut client, near, far, mut server } = line();
        let proxy = thread::spawn(move || copy_bidirectional(&near, &far));
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.read(&mut [0; 4]).unwrap(), 0);
        for _ in 0..10 {
            server.write_all(b"late").unwrap();
            let mut text = [0; 4];
            client.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"late");
        }
        assert!(!proxy.is_finished());
        drop(server);
        assert_eq!(client.read(&mut [0; 4]).unwrap(), 0);
        assert_eq!(proxy.join().unwrap().unwrap(), (0, 40));
    });
}

#[test]
fn a_timeout_ends_both_and_tells_what_was_copied() {
    everywhere(|| {
        let Line { mut client, near, far, mut server } = line();
        near.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        client.write_all(b"there").unwrap();
        let proxy = thread::spawn(move || {
            let result = copy_bidirectional(&near, &far);
            (result, near, far)
        });
        let mut text = [0; 5];
        server.read_exact(&mut text).unwrap();
        let (result, _near, _far) = proxy.join().unwrap();
        let error = result.unwrap_err();
        assert_eq!((error.a_to_b, error.b_to_a), (5, 0));
        assert_eq!(error.error.kind(), ErrorKind::TimedOut);
        let error = io::Error::from(error);
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("5 bytes there and 0 back"), "{error}");
    });
}

#[test]
fn a_reset_of_one_side_ends_both() {
    everywhere(|| {
        let Line { client, near, far, mut server } = line();
        let proxy = thread::spawn(move || copy_bidirectional(&near, &far));
        server.write_all(b"back").unwrap();
        let mut text = [0; 4];
        (&client).read_exact(&mut text).unwrap();
        client.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let error = proxy.join().unwrap().unwrap_err();
        assert_eq!(error.error.kind(), ErrorKind::ConnectionReset);
        assert_eq!((error.a_to_b, error.b_to_a), (0, 4));
    });
}

#[test]
fn a_cancel_ends_both_directions_and_leaves_nothing_behind() {
    // Descriptors are counted, so it is alone in its process.
    child::passes("a_cancel_ends_both_directions_and_leaves_nothing_behind", || {
        cosocket::run(|| {
            cancel_once();
            let before = descriptors();
            (0..20).for_each(|_| cancel_once());
            assert_eq!(descriptors(), before);
        });
    });
}

fn cancel_once() {
    let Line { client, near, far, server } = line();
    let proxy = spawn_waiting(move || copy_bidirectional(&near, &far).map_err(|_| ()));
    turn();
    assert!(!proxy.is_finished());
    proxy.cancel();
    assert!(proxy.join().unwrap_err().is::<Cancelled>());
    // Its streams were dropped, as the unwind passed them: both sides see the end.
    assert_eq!((&client).read(&mut [0; 1]).unwrap(), 0);
    assert_eq!((&server).read(&mut [0; 1]).unwrap(), 0);
}

/// A slow reader holds the writer up: no more is read than the buffer and the sockets take.
#[test]
fn what_is_not_taken_is_not_read() {
    cosocket::run(|| {
        let Line { client, near, far, server } = line();
        client.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let proxy = thread::spawn(move || copy_bidirectional(&near, &far));
        let mut sent = 0;
        let stuck = loop {
            match (&client).write(&[1; 65536]) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(stuck.kind(), ErrorKind::TimedOut);
        client.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        server.shutdown(Shutdown::Write).unwrap();
        (&server).read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), sent);
        assert_eq!(proxy.join().unwrap().unwrap(), (sent as u64, 0));
    });
}

/// A stream of somebody else's, which buffers what it writes, and panics when it is told to.
struct Theirs {
    stream: TcpStream,
    buffer: std::sync::Mutex<Vec<u8>>,
    ends: AtomicUsize,
    panics: bool,
}

impl Theirs {
    fn over(stream: TcpStream, panics: bool) -> Theirs {
        Theirs { stream, buffer: Default::default(), ends: AtomicUsize::new(0), panics }
    }
}

impl Read for &Theirs {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&self.stream).read(buffer)?;
        if self.panics && count > 0 {
            std::panic::resume_unwind(Box::new("of their reader"));
        }
        Ok(count)
    }
}

impl Write for &Theirs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut *self.buffer.lock().unwrap());
        (&self.stream).write_all(&bytes)
    }
}

impl ShutdownWrite for Theirs {
    fn shutdown_write(&self) -> io::Result<()> {
        self.ends.fetch_add(1, SeqCst);
        self.stream.shutdown(Shutdown::Write)
    }
}

#[test]
fn streams_of_other_types_are_flushed_and_shut_down() {
    everywhere(|| {
        let Line { client, near, far, server } = line();
        let far = Theirs::over(far, false);
        let talking = thread::spawn(move || {
            (&client).write_all(b"buffered").unwrap();
            let mut text = [0; 8];
            (&server).read_exact(&mut text).unwrap();
            assert_eq!(&text, b"buffered");
            drop((client, server));
        });
        assert_eq!(copy_bidirectional(&near, &far).unwrap(), (8, 0));
        assert_eq!(far.ends.load(SeqCst), 1);
        talking.join().unwrap();
    });
}

#[test]
fn a_panic_of_a_stream_goes_on_in_the_caller() {
    everywhere(|| {
        let Line { client, near, far, server: _server } = line();
        (&client).write_all(b"!").unwrap();
        let near = Theirs::over(near, true);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            copy_bidirectional(&near, &far).map_err(|_| ())
        }));
        assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "of their reader");
    });
}
