//! Sending: whole and in pieces, files, what a peer that does not read does to it, and queues in
//! front of it. Row ids are those of the behaviour table.

mod socket_util;
mod support;
#[allow(unsafe_code)]
mod util;

use std::io::{IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cosocket::{
    Builder, Cancelled, Cosocket, ErrorKind, Number, QueueEvent, QueuedWriter, Text, Watermarks,
    spawn, thread,
};
use socket_util::{everywhere, spawn_waiting};
use support::cosockets::{narrow_pair, pair};

const MILLISECOND: Duration = Duration::from_millis(1);

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .flat_map(|word| (word.wrapping_mul(0x9e37_79b9)).to_le_bytes())
        .take(len)
        .collect()
}

/// Reads to the end, a little at a time.
fn read_slowly(mut peer: impl Read) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 200_000]);
    loop {
        match peer.read(&mut buffer).unwrap() {
            0 => return all,
            count => all.extend_from_slice(&buffer[..count]),
        }
        thread::yield_now();
    }
}

/// Sends until the peer's silence times it out.
fn stall(socket: &Cosocket) -> cosocket::Error {
    socket.with_send_timeout(MILLISECOND, || socket.send(vec![7_u8; 50 << 20])).unwrap_err()
}

// SND-1, section 2 item 19
#[test]
fn a_send_returns_when_every_byte_is_on_its_way() {
    everywhere(|| {
        let (socket, peer) = pair();
        assert_eq!(socket.send("").unwrap(), 0);
        assert_eq!(socket.send(Vec::<&str>::new()).unwrap(), 0);
        let data = pattern(8 << 20);
        let reader = spawn(move || read_slowly(peer));
        assert_eq!(socket.send(&data).unwrap(), 8_388_608);
        socket.close().unwrap();
        assert!(reader.join().unwrap() == data, "the data was changed on its way");
    });
}

// SND-2
#[test]
fn thousands_of_odd_slices_arrive_in_order() {
    everywhere(|| {
        let (socket, peer) = narrow_pair();
        let data = pattern(1 << 20);
        let mut lens = (0..).map(|index: usize| (index * 37) % 701);
        let (mut slices, mut rest) = (Vec::new(), &data[..]);
        while !rest.is_empty() {
            let (slice, after) = rest.split_at(lens.next().unwrap().min(rest.len()));
            slices.push(IoSlice::new(slice));
            rest = after;
        }
        assert!(slices.len() > 2 * libc::UIO_MAXIOV as usize);
        let reader = spawn(move || read_slowly(peer));
        assert_eq!(socket.send_vectored(&slices).unwrap(), data.len());
        assert_eq!(socket.send(("and ", Text(1), ["more", "!"])).unwrap(), 10);
        socket.close().unwrap();
        let received = reader.join().unwrap();
        assert!(received[..data.len()] == data, "the data was changed on its way");
        assert_eq!(&received[data.len()..], b"and 1more!");
    });
}

// SND-3, section 2 item 31: what is no text is sent as it prints; what is absent is nothing, and
// not Lua's word for it
#[test]
fn scalars_are_sent_as_they_print() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        assert_eq!(socket.send(Text(true)).unwrap(), 4);
        assert_eq!(socket.send(Text(false)).unwrap(), 5);
        let absent: Option<&str> = None;
        assert_eq!(socket.send(absent).unwrap(), 0);
        assert_eq!(socket.send(Number(0.5)).unwrap(), 3);
        socket.close().unwrap();
        let mut received = String::new();
        peer.read_to_string(&mut received).unwrap();
        assert_eq!(received, "truefalse0.5");
    });
}

// SND-2, section 2 item 17: what is no fragment does not compile (see `Fragments`), and one that
// fails to print is found out before anything is sent
#[test]
fn a_fragment_that_fails_sends_nothing() {
    struct Fails;

    impl std::fmt::Display for Fails {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            std::panic::resume_unwind(Box::new("it does not print"))
        }
    }

    everywhere(|| {
        let (socket, mut peer) = pair();
        let fragments = ("before", vec![("nested", Text(Fails))], "after");
        let unwound = std::panic::catch_unwind(AssertUnwindSafe(|| socket.send(&fragments)));
        assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"it does not print"));
        // The connection is as it was.
        assert_eq!(socket.send("whole").unwrap(), 5);
        peer.write_all(b"reply").unwrap();
        assert_eq!(socket.receive_exact(5).unwrap(), b"reply");
        socket.close().unwrap();
        let mut received = String::new();
        peer.read_to_string(&mut received).unwrap();
        assert_eq!(received, "whole");
    });
}

// SND-4, TMO-6, section 2 items 43, 44
#[test]
fn a_send_that_times_out_ends_the_write_half_only() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        peer.write_all(b"reply").unwrap();
        let error = stall(&socket);
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Timeout, "timeout"));
        assert!(error.sent() > 0 && error.sent() < 50 << 20, "{}", error.sent());
        assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(socket.try_send(b"x").unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(socket.receive_any(100).unwrap(), b"reply");
        socket.try_close().unwrap();
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        assert_eq!(received.len() as u64, error.sent());
    });
}

// SND-4: what counts is progress
#[test]
fn a_send_to_a_slow_reader_does_not_time_out() {
    cosocket::run(|| {
        let (socket, mut peer) = narrow_pair();
        let patience = Duration::from_millis(800);
        let data = vec![7_u8; 4 << 20];
        let len = data.len();
        let reader = spawn(move || {
            let (mut received, mut buffer) = (0, vec![0; len / 12]);
            while received < len {
                thread::sleep(patience / 6);
                let part = buffer.len().min(len - received);
                peer.read_exact(&mut buffer[..part]).unwrap();
                received += part;
            }
        });
        let start = std::time::Instant::now();
        socket.with_send_timeout(patience, || socket.send(data)).unwrap();
        reader.join().unwrap();
        assert!(start.elapsed() > patience, "it shows nothing if it is that fast");
    });
}

// SND-5
#[test]
fn a_reset_by_the_peer_fails_sends_and_raises_no_signal() {
    util::child::passes("a_reset_by_the_peer_fails_sends_and_raises_no_signal", || {
        socket_util::default_action(libc::SIGPIPE);
        everywhere(|| {
            let (socket, peer) = pair();
            peer.set_linger(Some(Duration::ZERO)).unwrap();
            drop(peer);
            let error = loop {
                if let Err(error) = socket.send(["data"; 3]) {
                    break error;
                }
            };
            let words = error.to_string();
            assert!(["broken pipe", "connection reset by peer"].contains(&&*words), "{words}");
            assert_eq!(error.kind(), ErrorKind::Io);
            assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);

            let (socket, peer) = pair();
            drop(peer);
            let file = std::fs::File::open("Cargo.lock").unwrap();
            while socket.send_file(&file, ..).is_ok() {}
            assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);
        });
    });
}

// SND-6
#[test]
fn try_send_sends_what_there_is_room_for() {
    everywhere(|| {
        let (socket, mut peer) = narrow_pair();
        assert_eq!(socket.try_send(b"").unwrap(), 0);
        let data = vec![7_u8; 1 << 20];
        let mut sent = 0;
        let error = loop {
            match socket.try_send(&data) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(sent > 0);
        let mut buffer = vec![0; sent];
        peer.read_exact(&mut buffer).unwrap();
        util::wait_until(|| socket.try_send(b"more").is_ok());
        peer.read_exact(&mut buffer[..4]).unwrap();
        assert_eq!(&buffer[..4], b"more");
    });
}

// SND-6 with DUP-6: the connection was closed by the cancel of its reader
#[test]
fn try_send_says_closed_when_the_reader_was_cancelled() {
    let runtime = Builder::new().build().unwrap();
    let rounds = if util::is_quick() { 20 } else { 300 };
    runtime.run(|| {
        for _ in 0..rounds {
            let (socket, _peer) = pair();
            let reader = Arc::clone(&socket);
            let reader = spawn(move || while reader.receive_any(1).is_err() {});
            support::until(|| {
                let refused = socket.with_read_timeout(MILLISECOND, || socket.receive_any(1));
                refused.unwrap_err().kind() == ErrorKind::BusyReading
            });
            let sender = Arc::clone(&socket);
            let sender = spawn(move || {
                loop {
                    match sender.try_send(&[7; 1 << 16]) {
                        Err(error) if error.kind() != ErrorKind::WouldBlock => return error.kind(),
                        _ => {}
                    }
                }
            });
            thread::yield_now();
            reader.cancel();
            support::assert_cancelled(reader.join());
            assert_eq!(sender.join().unwrap(), ErrorKind::Closed);
        }
    });
}

// SND-6: bytes do not overtake those of a send that waits
#[test]
fn try_send_is_refused_while_another_sends() {
    cosocket::run(|| {
        let (socket, peer) = narrow_pair();
        let sender = Arc::clone(&socket);
        let sender = spawn_waiting(move || sender.send(vec![7_u8; 4 << 20]));
        assert_eq!(socket.try_send(b"x").unwrap_err().kind(), ErrorKind::BusyWriting);
        let reader = spawn(move || read_slowly(peer));
        assert_eq!(sender.join().unwrap().unwrap(), 4 << 20);
        socket.close().unwrap();
        assert_eq!(reader.join().unwrap().len(), 4 << 20);
    });
}

fn temporary_file(content: &[u8]) -> std::fs::File {
    let name = format!("cosocket-send-{}-{:?}", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name);
    let options = std::fs::OpenOptions::new().read(true).write(true).create_new(true).clone();
    let mut file = options.open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(content).unwrap();
    file
}

// SND-8
#[test]
fn a_file_is_sent_whole_or_in_part() {
    everywhere(|| {
        let len = if util::is_quick() { 3 << 20 } else { 30 << 20 };
        let data = pattern(len);
        let mut file = temporary_file(&data);
        let position = file.seek(SeekFrom::Start(5)).unwrap();
        let (socket, peer) = pair();
        let reader = spawn(move || read_slowly(peer));
        let offset = 1 << 20;
        assert_eq!(socket.send_file(&file, offset as u64..).unwrap(), (len - offset) as u64);
        assert_eq!(socket.send_file(&file, 3..=4).unwrap(), 2);
        assert_eq!(socket.send_file(&file, 7..7).unwrap(), 0);
        assert_eq!(socket.send("after").unwrap(), 5);
        socket.close().unwrap();
        let received = reader.join().unwrap();
        let rest = len - offset;
        assert!(received[..rest] == data[offset..], "the file was changed on its way");
        assert_eq!(received[rest..rest + 2], data[3..5]);
        assert_eq!(&received[rest + 2..], b"after");
        assert_eq!(file.stream_position().unwrap(), position);
    });
}

// SND-8: while a file is sent, the other direction works as ever
#[test]
fn a_file_goes_out_while_replies_come_in() {
    cosocket::run(|| {
        let (socket, peer) = narrow_pair();
        let file = temporary_file(&pattern(2 << 20));
        let replies = Arc::clone(&socket);
        let receiver = spawn_waiting(move || {
            let mut count = 0;
            while count < 2000 {
                count += replies.receive_any(100).unwrap().len();
            }
            count
        });
        let peer = spawn(move || {
            let mut peer = peer;
            let mut left = 2 << 20;
            let mut buffer = vec![0; 10_000];
            while left > 0 {
                left -= peer.read(&mut buffer).unwrap();
                peer.write_all(b"reply-----").unwrap();
            }
            peer.write_all(&[b'.'; 2000]).unwrap();
        });
        assert_eq!(socket.send_file(&file, ..).unwrap(), 2 << 20);
        peer.join().unwrap();
        assert!(receiver.join().unwrap() >= 2000);
    });
}

// SND-8
#[test]
fn what_is_not_in_the_file_is_refused_and_what_vanishes_is_an_error() {
    everywhere(|| {
        let (socket, mut peer) = narrow_pair();
        let file = temporary_file(&pattern(4 << 20));
        #[allow(clippy::reversed_empty_ranges)]
        for part in [0..(4 << 20) + 1, 5..4] {
            let error = socket.send_file(&file, part).unwrap_err();
            assert_eq!((error.kind(), error.sent()), (ErrorKind::InvalidInput, 0));
        }
        let sending = Arc::clone(&socket);
        let same = file.try_clone().unwrap();
        let sender = spawn(move || sending.send_file(&same, ..));
        let mut buffer = vec![0; 100_000];
        peer.read_exact(&mut buffer).unwrap();
        file.set_len(0).unwrap();
        let reader = spawn(move || read_slowly(peer));
        let error = sender.join().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the file ended early");
        assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);
        socket.close().unwrap();
        assert_eq!(reader.join().unwrap().len() as u64 + 100_000, error.sent());
    });
}

// SND-8: nothing was sent, so the peer misses nothing
#[test]
fn a_file_that_cannot_be_read_leaves_the_socket() {
    everywhere(|| {
        let (socket, mut peer) = pair();
        let file = temporary_file(b"not for readers");
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let write_only = std::fs::File::options().write(true).open(again).unwrap();
        let directory = std::fs::File::open(".").unwrap();
        for (file, words) in [(write_only, "bad file descriptor"), (directory, "is a directory")] {
            let error = socket.send_file(&file, 0..10).unwrap_err();
            assert_eq!((error.kind(), error.sent()), (ErrorKind::Io, 0));
            assert_eq!(error.to_string(), words);
        }
        assert_eq!(socket.send("sent").unwrap(), 4);
        socket.close().unwrap();
        let mut received = String::new();
        peer.read_to_string(&mut received).unwrap();
        assert_eq!(received, "sent");
    });
}

// SND-8 with SND-4
#[test]
fn a_file_that_nobody_reads_times_out() {
    everywhere(|| {
        let (socket, _peer) = narrow_pair();
        let file = temporary_file(&pattern(20 << 20));
        let sent = socket.with_send_timeout(MILLISECOND * 2, || socket.send_file(&file, ..));
        let error = sent.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.sent() > 0);
        assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);
    });
}

// SND-9, DUP-3, section 2 item 121
#[test]
fn a_second_writer_is_refused_and_nothing_is_mixed() {
    cosocket::run(|| {
        let (socket, peer) = narrow_pair();
        let sender = Arc::clone(&socket);
        let sender = spawn_waiting(move || sender.send(vec![b'a'; 4 << 20]));
        let words = "socket busy writing";
        assert_eq!(socket.send("b").unwrap_err().to_string(), words);
        assert_eq!(socket.send("").unwrap_err().to_string(), words);
        assert_eq!(socket.try_close().unwrap_err().to_string(), words);
        assert_eq!(socket.connect("127.0.0.1:1").unwrap_err().to_string(), words);
        let error = socket.shutdown(std::net::Shutdown::Write).unwrap_err();
        assert_eq!(error.to_string(), words);
        assert_eq!(socket.reused_times().unwrap(), 0);
        let silence = socket.with_read_timeout(MILLISECOND, || socket.receive_any(1));
        assert_eq!(silence.unwrap_err().kind(), ErrorKind::Timeout);
        let reader = spawn(move || read_slowly(peer));
        assert_eq!(sender.join().unwrap().unwrap(), 4 << 20);
        socket.try_close().unwrap();
        let received = reader.join().unwrap();
        assert!(received.len() == 4 << 20 && received.iter().all(|byte| *byte == b'a'));
    });
}

// DUP-5, for a send: how far it came is told, and the half lives
#[test]
fn a_send_that_is_cancelled_by_another_says_how_far_it_came() {
    everywhere(|| {
        let (socket, mut peer) = narrow_pair();
        let sender = Arc::clone(&socket);
        let sender = spawn(move || sender.send(pattern(4 << 20)).unwrap_err());
        let mut first = vec![0; 1000];
        peer.read_exact(&mut first).unwrap();
        util::wait_until(|| socket.cancel_send() || sender.is_finished());
        let error = sender.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        let sent = error.sent() as usize;
        assert!(sent >= 1000);
        let reader = spawn(move || read_slowly(peer));
        // It can go on where it was.
        socket.send(&pattern(4 << 20)[sent..]).unwrap();
        socket.close().unwrap();
        first.extend(reader.join().unwrap());
        assert!(first == pattern(4 << 20));
    });
}

/// Somebody leaves while a coroutine is blocked in a send: the connections are over, and nothing
/// is left that the send timeouts could call. `leave` runs the sends, one a coroutine, and returns
/// once they are over.
#[track_caller]
fn assert_sends_end_with_their_owner(
    leave: impl Fn(&[Arc<Cosocket>], &(dyn Fn(usize) + Sync)) + Sync,
) {
    const COUNT: usize = 20;
    let runtime = Builder::new().workers(1).build().unwrap();
    let ended = runtime.run(|| {
        let (sockets, mut peers): (Vec<_>, Vec<_>) = (0..COUNT).map(|_| narrow_pair()).unzip();
        for (number, socket) in sockets.iter().enumerate() {
            let timeout = MILLISECOND * (100 + number as u32);
            socket.set_timeouts(Duration::ZERO, timeout, Duration::ZERO).unwrap();
        }
        let data = vec![7_u8; 4 << 20];
        leave(&sockets, &|number| {
            let sent = sockets[number].send(&data);
            unreachable!("nobody reads so much: {sent:?}");
        });
        for (socket, peer) in sockets.iter().zip(&mut peers) {
            assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);
            assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
            // What was on its way arrives, and then the end.
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            assert!(!received.is_empty() && received.iter().all(|byte| *byte == 7));
        }
        // In the places of those who sent.
        let waits: Vec<_> = (0..COUNT)
            .map(|_| {
                spawn(|| {
                    let (socket, _other) = Cosocket::pair().unwrap();
                    let start = std::time::Instant::now();
                    let timeout = MILLISECOND * 300;
                    let silence = socket.with_read_timeout(timeout, || socket.receive_any(1));
                    assert_eq!(silence.unwrap_err().kind(), ErrorKind::Timeout);
                    assert!(start.elapsed() >= timeout);
                })
            })
            .collect();
        thread::sleep(MILLISECOND * 20);
        let turns = runtime.metrics().turns;
        thread::sleep(MILLISECOND * 200);
        let turns = runtime.metrics().turns - turns;
        waits.into_iter().for_each(|wait| wait.join().unwrap());
        turns
    });
    // One is ours, and stacks are seen to now and then.
    assert!(ended < COUNT as u64 / 2, "{ended} turns, of a worker that has nothing to do");
}

// DUP-6, TMO-4, section 2 item 46: one of those who share a scope leaves
#[test]
fn sends_end_with_the_scope_that_they_belong_to() {
    // The body, while the others send.
    assert_sends_end_with_their_owner(|sockets, send| {
        let left = std::panic::catch_unwind(AssertUnwindSafe(|| {
            thread::scope(|scope| {
                (0..sockets.len()).for_each(|number| drop(scope.spawn(move || send(number))));
                // All have begun, and wait.
                socket_util::until(|| sockets.iter().all(|socket| is_sending(socket)));
                std::panic::resume_unwind(Box::new("leaves"));
            })
        }));
        assert_eq!(left.unwrap_err().downcast_ref(), Some(&"leaves"));
    });
    // Another, while the body sends.
    assert_sends_end_with_their_owner(|sockets, send| {
        let left = thread::try_scope(|scope| {
            for number in 1..sockets.len() {
                scope.spawn(move || {
                    send(number);
                    Ok(())
                });
            }
            scope.spawn(|| {
                socket_util::until(|| sockets.iter().all(|socket| is_sending(socket)));
                Err::<(), _>("leaves")
            });
            send(0);
            Ok(())
        });
        assert_eq!(left, Err("leaves"));
    });
}

// DUP-6, section 2 item 46: whoever waits for an hour to send does not hold a runtime up
#[test]
fn sends_end_with_their_runtime() {
    let runtime = Builder::new().build().unwrap();
    let (socket, mut peer) = narrow_pair();
    socket.set_timeout(Duration::from_secs(3600)).unwrap();
    let theirs = Arc::clone(&socket);
    let sender = runtime.spawn(move || theirs.send(vec![7_u8; 4 << 20]));
    util::wait_until(|| is_sending(&socket));
    drop(runtime);
    assert!(sender.join().unwrap_err().is::<Cancelled>());
    assert_eq!(socket.send("x").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(socket.receive_any(1).unwrap_err().kind(), ErrorKind::Closed);
    assert!(!read_slowly(&mut peer).is_empty());
}

fn is_sending(socket: &Cosocket) -> bool {
    matches!(socket.try_send(b"").map_err(|error| error.kind()), Err(ErrorKind::BusyWriting))
}

// SND-7, SND-9
#[test]
fn a_queue_holds_its_writers_back_between_the_watermarks() {
    everywhere(|| {
        let (socket, peer) = narrow_pair();
        let events = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&events);
        let watermarks = Watermarks { high: 4 << 20, low: 1 << 20 };
        let note = move |event| noted.lock().unwrap().push(event);
        let writer = Arc::new(QueuedWriter::with_events(Arc::clone(&socket), watermarks, note));
        let mut message = pattern(100_000);
        let mut expected = 0;
        while writer.try_write(message.clone()).is_ok() {
            expected += message.len();
        }
        assert_eq!(*events.lock().unwrap(), [QueueEvent::Full]);
        assert_eq!(expected, 42 * 100_000);
        assert!(writer.queued_bytes() > 4 << 20);
        assert_eq!(writer.try_write("x").unwrap_err().kind(), ErrorKind::WouldBlock);

        let late = Arc::clone(&writer);
        let late = spawn(move || late.write("late").unwrap());
        let reader = spawn(move || read_slowly(peer));
        late.join().unwrap();
        assert_eq!(*events.lock().unwrap(), [QueueEvent::Full, QueueEvent::Drained]);
        writer.flush().unwrap();
        assert_eq!(writer.queued_bytes(), 0);
        Arc::into_inner(writer).unwrap().finish().unwrap();
        socket.close().unwrap();
        message = message.repeat(42);
        message.extend_from_slice(b"late");
        assert!(reader.join().unwrap() == message);
    });
}

// SND-9
#[test]
fn a_message_may_look_at_the_queue_while_it_is_made() {
    struct Numbered<'a>(&'a QueuedWriter);
    impl From<Numbered<'_>> for Vec<u8> {
        fn from(message: Numbered<'_>) -> Vec<u8> {
            cosocket::thread::yield_now();
            format!("{};", message.0.queued_bytes()).into_bytes()
        }
    }
    everywhere(|| {
        let (socket, peer) = Cosocket::pair().unwrap();
        let writer = QueuedWriter::new(Arc::new(socket), Watermarks::default());
        writer.write(Numbered(&writer)).unwrap();
        writer.flush().unwrap();
        writer.try_write(Numbered(&writer)).unwrap();
        writer.finish().unwrap();
        assert_eq!(peer.receive_exact(4).unwrap(), b"0;0;");
    });
}

#[test]
fn messages_of_many_writers_are_never_mixed() {
    everywhere(|| {
        let (socket, peer) = narrow_pair();
        let watermarks = Watermarks { high: 5000, low: 1000 };
        let writer = Arc::new(QueuedWriter::new(socket, watermarks));
        let writers: Vec<_> = (0..8)
            .map(|id: u8| {
                let writer = Arc::clone(&writer);
                spawn(move || {
                    for number in 0..50_u8 {
                        let mut message = vec![id; 100 + usize::from(number)];
                        message.splice(..2, [b'!', number]);
                        writer.write(message).unwrap();
                    }
                })
            })
            .collect();
        let reader = spawn(move || read_slowly(peer));
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        // What is in the queue is sent, though the writer is gone.
        drop(writer);
        let received = reader.join().unwrap();
        let mut next = [0; 8];
        let mut rest = &received[..];
        while let [b'!', number, id, ..] = *rest {
            let len = 100 + usize::from(number);
            assert_eq!(next[usize::from(id)], number, "out of order");
            assert!(rest[2..len].iter().all(|byte| *byte == id));
            next[usize::from(id)] += 1;
            rest = &rest[len..];
        }
        assert!(rest.is_empty() && next == [50; 8]);
    });
}

// SND-7
#[test]
fn writers_of_a_queue_learn_that_the_peer_is_gone() {
    everywhere(|| {
        let (socket, peer) = pair();
        let writer = QueuedWriter::new(socket, Watermarks { high: 1, low: 0 });
        drop(peer);
        let error = loop {
            if let Err(error) = writer.write("data") {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(writer.flush().unwrap_err().to_string(), error.to_string());
        assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Io);
    });
}

// SND-7. Once whoever waited for the queue waited for ever.
#[test]
fn a_queue_whose_runtime_has_ended_holds_nobody_back() {
    let (one, _peer) = cosocket::os::unix::net::UnixStream::pair().unwrap();
    let runtime = Builder::new().workers(1).build().unwrap();
    let watermarks = Watermarks { high: 1, low: 0 };
    let make = move || QueuedWriter::new(Arc::new(Cosocket::from(one)), watermarks);
    let writer = runtime.spawn(make).join().unwrap();
    writer.write(pattern(4 << 20)).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| writer.write("more"));
        drop(runtime);
        assert_eq!(waits.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    });
    assert_eq!(writer.write("more").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Closed);
}

// SND-9. Once the writers waited for ever, for a coroutine that was no more.
#[test]
fn a_panic_of_who_is_told_of_the_queue_ends_it() {
    everywhere(|| {
        let (socket, peer) = narrow_pair();
        let watermarks = Watermarks { high: 1 << 20, low: 0 };
        let panics = |event| {
            if event == QueueEvent::Drained {
                std::panic::resume_unwind(Box::new("told"))
            }
        };
        let writer = QueuedWriter::with_events(socket, watermarks, panics);
        writer.write(pattern(2 << 20)).unwrap();
        let reader = spawn(move || read_slowly(peer));
        let error = loop {
            if let Err(error) = writer.write(pattern(1 << 20)) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert_eq!(error.to_string(), "the coroutine that sends has ended");
        drop(writer);
        reader.join().unwrap();
    });
}
