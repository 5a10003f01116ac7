//! Descriptors that travel over Unix sockets: they arrive with their bytes, are owned, are closed
//! on exec, and none is leaked whatever does not fit.

mod socket_util;
#[allow(unsafe_code)]
mod util;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::os::unix::net::{Received, UnixDatagram, UnixStream};
use socket_util::{everywhere, is_close_on_exec, pair, spawn_waiting};
use util::{child, descriptors, leave_descriptors, limit, set_soft_limit};

type Send = fn(&UnixStream, &UnixDatagram, &[u8], &[BorrowedFd<'_>]) -> io::Result<usize>;
type Receive = fn(&UnixStream, &UnixDatagram, &mut [u8], usize) -> io::Result<Received>;

/// Both kinds of socket.
const KINDS: [(Send, Receive); 2] = [
    (|s, _, bytes, fds| s.send_with_fds(bytes, fds), |s, _, b, max| s.recv_with_fds(b, max)),
    (|_, d, bytes, fds| d.send_with_fds(bytes, fds), |_, d, b, max| d.recv_with_fds(b, max)),
];

type Ends = ((UnixStream, UnixDatagram), (UnixStream, UnixDatagram));

fn ends() -> Ends {
    let (near, far) = UnixStream::pair().unwrap();
    let (one, other) = UnixDatagram::pair().unwrap();
    ((near, one), (far, other))
}

/// As many pipes' writing ends, and the reading ends to tell them apart by.
fn pipes(count: usize) -> (Vec<std::io::PipeReader>, Vec<std::io::PipeWriter>) {
    (0..count).map(|_| std::io::pipe().unwrap()).unzip()
}

fn borrow<T: AsFd>(owners: &[T]) -> Vec<BorrowedFd<'_>> {
    owners.iter().map(AsFd::as_fd).collect()
}

/// FDP-1, FDP-2
#[test]
fn bytes_and_descriptors_arrive_together_and_in_order() {
    everywhere(|| {
        for (send, receive) in KINDS {
            let ((s, d), (t, e)) = ends();
            for count in [1, 2, 3, 100, 253] {
                let (readers, writers) = pipes(count);
                assert_eq!(send(&s, &d, b"bytes", &borrow(&writers)).unwrap(), 5);
                drop(writers);
                let mut buffer = [0; 16];
                let received = receive(&t, &e, &mut buffer, count).unwrap();
                assert_eq!(&buffer[..received.len], b"bytes");
                assert!(!received.fds_truncated && !received.data_truncated);
                assert_eq!(received.fds.len(), count);
                for (number, fd) in received.fds.into_iter().enumerate() {
                    assert!(is_close_on_exec(&fd));
                    File::from(fd).write_all(&[number as u8]).unwrap();
                }
                for (number, mut reader) in readers.into_iter().enumerate() {
                    let mut text = Vec::new();
                    // To the end: nobody has the other end any more.
                    reader.read_to_end(&mut text).unwrap();
                    assert_eq!(text, [number as u8]);
                }
            }
        }
    });
}

#[test]
fn a_receiver_that_waits_gets_them() {
    cosocket::run(|| {
        for (send, receive) in KINDS {
            let ((s, d), (t, e)) = ends();
            let receiver = spawn_waiting(move || receive(&t, &e, &mut [0; 4], 4).unwrap());
            assert!(!receiver.is_finished());
            let (mut near, far) = pair();
            send(&s, &d, b"x", &[far.as_fd()]).unwrap();
            drop(far);
            let mut received = receiver.join().unwrap();
            let mut passed = TcpStream::from(received.fds.pop().unwrap());
            near.write_all(b"through the passed socket").unwrap();
            drop(near);
            let mut text = String::new();
            passed.read_to_string(&mut text).unwrap();
            assert_eq!(text, "through the passed socket");
        }
    });
}

/// FDP-2: those of several messages are not mixed.
#[test]
fn messages_with_descriptors_stay_apart_on_a_stream() {
    everywhere(|| {
        let (near, far) = UnixStream::pair().unwrap();
        let (_readers, writers) = pipes(3);
        near.send_with_fds(b"one", &borrow(&writers[..1])).unwrap();
        near.send_with_fds(b"two", &borrow(&writers[1..])).unwrap();
        (&near).write_all(b"plain").unwrap();
        let mut buffer = [0; 64];
        let first = far.recv_with_fds(&mut buffer, 9).unwrap();
        assert_eq!((&buffer[..first.len], first.fds.len()), (&b"one"[..], 1));
        let second = far.recv_with_fds(&mut buffer, 9).unwrap();
        assert_eq!((&buffer[..second.len], second.fds.len()), (&b"two"[..], 2));
        let third = far.recv_with_fds(&mut buffer, 9).unwrap();
        assert_eq!((&buffer[..third.len], third.fds.len()), (&b"plain"[..], 0));
        assert!(!third.fds_truncated);
    });
}

#[test]
fn a_short_read_leaves_the_other_bytes_and_takes_all_descriptors() {
    everywhere(|| {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (_readers, writers) = pipes(2);
        near.send_with_fds(b"abcdef", &borrow(&writers)).unwrap();
        let received = far.recv_with_fds(&mut [0; 2], 9).unwrap();
        assert_eq!((received.len, received.fds.len()), (2, 2));
        let mut rest = [0; 4];
        far.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"cdef");
        drop(near);
        let end = far.recv_with_fds(&mut [0; 2], 9).unwrap();
        assert_eq!((end.len, end.fds.len()), (0, 0));
    });
}

/// FDP-1: however many writes the bytes take, the descriptors go with the first.
#[test]
fn descriptors_are_not_sent_again_with_the_rest_of_the_bytes() {
    everywhere(|| {
        let (near, far) = UnixStream::pair().unwrap();
        let bytes = vec![7; 4 << 20];
        let (mut readers, writers) = pipes(1);
        let receiver = cosocket::spawn(move || {
            let (mut len, mut counts) = (0, Vec::new());
            while len < 4 << 20 {
                let received = far.recv_with_fds(&mut vec![0; 64 << 10], 9).unwrap();
                len += received.len;
                counts.push(received.fds.len());
            }
            counts
        });
        let first = near.send_with_fds(&bytes, &borrow(&writers)).unwrap();
        (&near).write_all(&bytes[first..]).unwrap();
        drop(writers);
        let counts = receiver.join().unwrap();
        assert!(counts.len() > 1);
        assert_eq!((counts[0], counts.iter().sum::<usize>()), (1, 1));
        assert_eq!(readers[0].read(&mut [0]).unwrap(), 0, "the other end is open");
    });
}

#[test]
fn a_datagram_may_be_empty_and_may_be_too_long() {
    everywhere(|| {
        let (one, other) = UnixDatagram::pair().unwrap();
        let (_readers, writers) = pipes(1);
        assert_eq!(one.send_with_fds(b"", &borrow(&writers)).unwrap(), 0);
        let received = other.recv_with_fds(&mut [], 1).unwrap();
        assert_eq!((received.len, received.fds.len()), (0, 1));
        one.send_with_fds(b"longer", &borrow(&writers)).unwrap();
        let received = other.recv_with_fds(&mut [0; 3], 1).unwrap();
        assert_eq!((received.len, received.fds.len(), received.data_truncated), (3, 1, true));
    });
}

/// FDP-2: what did not fit is closed: the pipes end.
#[test]
fn descriptors_beyond_the_limit_are_told_of_and_closed() {
    child::passes("descriptors_beyond_the_limit_are_told_of_and_closed", || {
        everywhere(|| {
            for (send, receive) in KINDS {
                let ((s, d), (t, e)) = ends();
                for (sent, limit) in [(1, 0), (2, 1), (3, 1), (200, 0), (253, 252), (253, 7)] {
                    let before = descriptors();
                    let (readers, writers) = pipes(sent);
                    send(&s, &d, b"x", &borrow(&writers)).unwrap();
                    drop(writers);
                    let received = receive(&t, &e, &mut [0; 4], limit).unwrap();
                    assert_eq!(received.fds.len(), limit, "of {sent}");
                    assert!(received.fds_truncated);
                    assert_eq!(descriptors(), before + sent + limit, "leaked");
                    drop(received);
                    for mut reader in readers {
                        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the other end is open");
                    }
                }
            }
        });
    });
}

/// FDP-2: nobody claims them.
#[test]
fn a_plain_read_closes_the_descriptors_that_it_does_not_take() {
    child::passes("a_plain_read_closes_the_descriptors_that_it_does_not_take", || {
        cosocket::run(|| {
            let (near, far) = UnixStream::pair().unwrap();
            let (one, other) = UnixDatagram::pair().unwrap();
            let (mut readers, writers) = pipes(1);
            near.send_with_fds(b"x", &borrow(&writers)).unwrap();
            one.send_with_fds(b"x", &borrow(&writers)).unwrap();
            drop(writers);
            let before = descriptors();
            assert_eq!((&far).read(&mut [0; 4]).unwrap(), 1);
            assert_eq!(other.recv(&mut [0; 4]).unwrap(), 1);
            assert_eq!(descriptors(), before);
            assert_eq!(readers[0].read(&mut [0]).unwrap(), 0);
        });
    });
}

/// FDP-2: those that came before there was no room are handed over, the others closed.
#[test]
fn a_receiver_without_descriptors_is_told_and_leaks_nothing() {
    child::passes("a_receiver_without_descriptors_is_told_and_leaks_nothing", || {
        everywhere(|| {
            for (send, receive) in KINDS {
                let ((s, d), (t, e)) = ends();
                let (_readers, writers) = pipes(5);
                send(&s, &d, b"x", &borrow(&writers)).unwrap();
                let before = descriptors();
                let gaps = leave_descriptors(2);
                let received = receive(&t, &e, &mut [0; 4], 5);
                set_soft_limit(libc::RLIMIT_NOFILE, limit(libc::RLIMIT_NOFILE).1);
                drop(gaps);
                let received = received.unwrap();
                assert_eq!((received.len, received.fds_truncated), (1, true));
                assert_eq!(received.fds.len(), 2);
                assert_eq!(descriptors(), before + 2);
            }
        });
    });
}

/// The bytes of other control messages are no descriptors.
#[test]
fn credentials_that_come_too_are_left_out() {
    everywhere(|| {
        for (send, receive) in KINDS {
            let ((s, d), (t, e)) = ends();
            socket2::SockRef::from(&t).set_passcred(true).unwrap();
            socket2::SockRef::from(&e).set_passcred(true).unwrap();
            let (_readers, writers) = pipes(3);
            send(&s, &d, b"x", &borrow(&writers)).unwrap();
            let received = receive(&t, &e, &mut [0; 4], 3).unwrap();
            assert_eq!((received.fds.len(), received.fds_truncated), (3, false));
            send(&s, &d, b"x", &[]).unwrap();
            let received = receive(&t, &e, &mut [0; 4], 0).unwrap();
            assert_eq!((received.fds.len(), received.fds_truncated), (0, false));
        }
    });
}

/// FDP-1: at least a byte goes with them.
#[test]
fn what_cannot_be_sent_is_invalid_input() {
    everywhere(|| {
        let (near, far) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let error = near.send_with_fds(b"", &[file.as_fd()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = near.send_with_fds(b"x", &[file.as_fd(); 254]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = far.recv_with_fds(&mut [], 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        far.set_nonblocking(true).unwrap();
        let error = far.recv_with_fds(&mut [0; 4], 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "nothing was sent");
    });
}

/// A cancel that comes with the message: the call has it, or the next one gets it.
#[test]
fn no_descriptor_is_lost_when_it_meets_a_cancel() {
    child::passes("no_descriptor_is_lost_when_it_meets_a_cancel", || {
        cosocket::run(|| {
            let (near, far) = UnixStream::pair().unwrap();
            let far = std::rc::Rc::new(far);
            let before = descriptors();
            for round in 0..200 {
                let mine = std::rc::Rc::clone(&far);
                let receiver = spawn_waiting(move || mine.recv_with_fds(&mut [0; 4], 2).unwrap());
                let (_readers, writers) = pipes(1);
                if round % 2 == 0 {
                    receiver.cancel();
                }
                near.send_with_fds(b"x", &borrow(&writers)).unwrap();
                if round % 2 == 1 {
                    receiver.cancel();
                }
                let received = match receiver.join() {
                    Ok(received) => received,
                    Err(_) => far.recv_with_fds(&mut [0; 4], 2).unwrap(),
                };
                assert_eq!((received.len, received.fds.len()), (1, 1));
            }
            assert_eq!(descriptors(), before);
        });
    });
}

/// FDP-1: a listener goes to another process, which accepts from it.
#[test]
fn a_child_accepts_from_the_listener_that_it_was_given() {
    const CHILD: &str = "
import socket
data, fds, flags, _ = socket.recv_fds(socket.socket(fileno=0), 100, 4)
client = socket.socket(fileno=fds[0]).accept()[0]
client.sendall(b'accepted with ' + data)
";
    everywhere(|| {
        let (near, far) = UnixStream::pair().unwrap();
        let mut python = std::process::Command::new("python3")
            .args(["-c", CHILD])
            .stdin(OwnedFd::from(far))
            .spawn()
            .expect("python3");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.send_with_fds(b"its bytes", &[listener.as_fd()]).unwrap();
        drop(listener);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "accepted with its bytes");
        assert!(python.wait().unwrap().success());
    });
}

/// A peer that is not ours: Python's own calls for this.
#[test]
fn python_passes_descriptors_there_and_back() {
    const PEER: &str = "
import array, os, socket, sys
s = socket.socket(fileno=0)
data, fds, flags, _ = socket.recv_fds(s, 100, 4)
os.write(fds[0], b'python has ' + data)
r, w = os.pipe()
os.write(w, b'from python')
socket.send_fds(s, [b'pipe'], [r])
";
    everywhere(|| {
        let (near, far) = UnixStream::pair().unwrap();
        let mut python = std::process::Command::new("python3")
            .args(["-c", PEER])
            .stdin(OwnedFd::from(far))
            .spawn()
            .expect("python3");
        let (mut reader, writer) = std::io::pipe().unwrap();
        near.send_with_fds(b"it", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let mut received = near.recv_with_fds(&mut buffer, 4).unwrap();
        assert_eq!(&buffer[..received.len], b"pipe");
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "python has it");
        assert!(python.wait().unwrap().success());
        let mut text = String::new();
        File::from(received.fds.pop().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "from python");
    });
}
