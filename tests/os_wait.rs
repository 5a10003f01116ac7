//! `os::wait`: any descriptor, on any kind of thread, and nothing left of it afterwards.

#[allow(unsafe_code)]
mod socket_util;
#[allow(unsafe_code)]
mod util;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cosocket::net::TcpStream;
use cosocket::os::{self, Interest, Ready};
use cosocket::{Cancelled, thread};
use socket_util::{Agents, everywhere, is_nonblocking, pair, spawn_waiting};
use util::{Random, child, descriptors, is_quick, wait_until};

fn look(fd: &impl AsFd, interest: Interest) -> std::io::Result<Ready> {
    os::wait(fd, interest, Some(Duration::ZERO))
}

fn fill(mut stream: &UnixStream) {
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 4096]).is_ok() {}
    stream.set_nonblocking(false).unwrap();
}

fn drain(mut stream: &UnixStream) {
    stream.set_nonblocking(true).unwrap();
    while stream.read(&mut [0; 65536]).is_ok() {}
    stream.set_nonblocking(false).unwrap();
}

#[test]
fn a_zero_timeout_is_a_look_and_another_one_a_wait() {
    everywhere(|| {
        let (near, mut far) = UnixStream::pair().unwrap();
        assert_eq!(look(&near, Interest::READ).unwrap_err().kind(), ErrorKind::TimedOut);
        let ready = look(&near, Interest::READ | Interest::WRITE).unwrap();
        assert!(ready.is_writable() && !ready.is_readable() && !ready.is_closed());
        let start = Instant::now();
        let time = Duration::from_millis(5);
        let error = os::wait(&near, Interest::READ, Some(time)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= time);
        far.write_all(b"x").unwrap();
        assert!(look(&near, Interest::READ).unwrap().is_readable());
        assert!(os::wait(&near, Interest::READ, None).unwrap().is_readable());
        assert!(!is_nonblocking(&near));
        drop(far);
        (&near).read_exact(&mut [0]).unwrap();
        let ready = os::wait(&near, Interest::READ, None).unwrap();
        assert!(ready.is_readable() && ready.is_closed());
    });
}

#[test]
fn a_wait_ends_when_the_descriptor_becomes_ready() {
    everywhere(|| {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, far) = (Arc::new(near), Arc::new(far));
        for _ in 0..20 {
            let theirs = Arc::clone(&near);
            let waiter = thread::spawn(move || os::wait(&theirs, Interest::READ, None).unwrap());
            thread::yield_now();
            (&*far).write_all(b"x").unwrap();
            assert!(waiter.join().unwrap().is_readable());
            (&*near).read_exact(&mut [0]).unwrap();
            fill(&near);
            let theirs = Arc::clone(&near);
            let waiter = thread::spawn(move || os::wait(&theirs, Interest::WRITE, None).unwrap());
            thread::yield_now();
            drain(&far);
            assert!(waiter.join().unwrap().is_writable());
        }
    });
}

/// In the driver: each of them waits for one thing, and gets it by itself.
#[test]
fn several_wait_for_one_descriptor_at_once() {
    cosocket::run(|| {
        let (near, far) = UnixStream::pair().unwrap();
        let near = Rc::new(near);
        fill(&near);
        let waiting = |interest: Interest| {
            let near = Rc::clone(&near);
            spawn_waiting(move || os::wait(&near, interest, None).unwrap())
        };
        let readers = [waiting(Interest::READ), waiting(Interest::READ)];
        let writer = waiting(Interest::WRITE);
        let either = waiting(Interest::READ | Interest::WRITE);
        (&far).write_all(b"x").unwrap();
        for reader in readers {
            assert!(reader.join().unwrap().is_readable());
        }
        assert!(!either.join().unwrap().is_writable());
        assert!(!writer.is_finished());
        (&*near).read_exact(&mut [0]).unwrap();
        let either = waiting(Interest::READ | Interest::WRITE);
        drain(&far);
        assert!(writer.join().unwrap().is_writable());
        assert!(!either.join().unwrap().is_readable());
    });
}

#[test]
fn a_socket_of_ours_reads_while_another_coroutine_waits_for_it() {
    cosocket::run(|| {
        let (near, far) = pair();
        let near = Rc::new(near);
        let (theirs, reads) = (Rc::clone(&near), Rc::clone(&near));
        let waiter = spawn_waiting(move || os::wait(&theirs, Interest::READ, None).unwrap());
        let reader = spawn_waiting(move || {
            let mut byte = [0];
            (&*reads).read_exact(&mut byte).unwrap();
            byte
        });
        (&far).write_all(b"x").unwrap();
        assert_eq!(&reader.join().unwrap(), b"x");
        // The wait is for readiness, which the reader may have ended in time.
        (&far).write_all(b"y").unwrap();
        assert!(waiter.join().unwrap().is_readable());
    });
}

#[test]
fn urgent_data_is_a_priority() {
    everywhere(|| {
        let (near, far) = util::tcp_pair();
        let error = look(&near, Interest::PRIORITY).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let waiter = thread::spawn(move || os::wait(&near, Interest::PRIORITY, None).unwrap());
        (&far).write_all(b"plain").unwrap();
        socket2::SockRef::from(&far).send_out_of_band(b"!").unwrap();
        assert!(waiter.join().unwrap().is_priority());
    });
}

#[test]
fn files_are_always_ready_and_what_is_closed_is_an_error() {
    everywhere(|| {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let both = Interest::READ | Interest::WRITE;
        assert!(os::wait(&file, both, None).unwrap().is_readable());
        assert!(look(&file, Interest::READ).unwrap().is_readable());
    });
    child::passes("files_are_always_ready_and_what_is_closed_is_an_error", || {
        everywhere(|| {
            // SAFETY: no descriptor has this number, and the look at it is what is tested.
            #[allow(unsafe_code)]
            let nobody = unsafe { std::os::fd::BorrowedFd::borrow_raw(9999) };
            let error = os::wait(nobody, Interest::READ, None).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        });
    });
}

/// The number goes to another descriptor at once, whose events must not be taken for the old one's.
#[test]
fn the_descriptor_may_be_closed_as_soon_as_the_wait_ends() {
    child::passes("the_descriptor_may_be_closed_as_soon_as_the_wait_ends", || {
        cosocket::run(|| {
            let mut before = None;
            for round in 0..200 {
                let (near, mut far) = UnixStream::pair().unwrap();
                // Under epoll the kernel keeps what is registered until the last duplicate goes.
                let kept = near.try_clone().unwrap();
                let waiter = spawn_waiting(move || match round % 3 {
                    0 => os::wait(&near, Interest::READ, Some(Duration::from_micros(1))).is_err(),
                    1 => os::wait(&near, Interest::READ, None).is_ok(),
                    _ => os::wait(&near, Interest::READ | Interest::PRIORITY, None).is_ok(),
                });
                if round % 3 == 1 {
                    far.write_all(b"x").unwrap();
                } else if round % 3 == 2 {
                    waiter.cancel();
                }
                match waiter.join() {
                    Ok(done) => assert!(done),
                    Err(payload) => assert!(round % 3 == 2 && payload.is::<Cancelled>()),
                }
                let open = descriptors();
                assert_eq!(*before.get_or_insert(open), open);
                far.write_all(b"y").unwrap();
                drop(kept);
            }
        });
    });
}

#[test]
fn cancels_and_timeouts_race_with_readiness_and_nothing_hangs() {
    let rounds = if is_quick() { 30 } else { 300 };
    let mut random = Random::new();
    cosocket::run(move || {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, far) = (Arc::new(near), Arc::new(far));
        for _ in 0..rounds {
            let theirs = Arc::clone(&near);
            let micros = Duration::from_micros(random.below(200));
            let timeout = random.one_in(2).then_some(micros);
            let waiter = thread::spawn(move || os::wait(&theirs, Interest::READ, timeout));
            (0..random.below(4)).for_each(|_| thread::yield_now());
            if random.one_in(3) {
                waiter.cancel();
            }
            (&*far).write_all(b"x").unwrap();
            match waiter.join() {
                Ok(Ok(ready)) => assert!(ready.is_readable()),
                Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::TimedOut),
                Err(payload) => assert!(payload.is::<Cancelled>()),
            }
            // Nothing was taken out.
            (&*near).read_exact(&mut [0]).unwrap();
        }
    });
}

#[test]
fn workers_wait_for_one_descriptor() {
    let runtime = cosocket::Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let (near, far) = UnixStream::pair().unwrap();
    let near = Arc::new(near);
    let waiters: Vec<_> = (0..agents.len() + 2)
        .map(|worker| {
            let near = Arc::clone(&near);
            agents.at(worker).start(move || os::wait(&near, Interest::READ, None).unwrap())
        })
        .collect();
    (&far).write_all(b"x").unwrap();
    for waiter in waiters {
        assert!(waiter.recv().unwrap().is_readable());
    }
}

#[test]
fn in_an_unwind_it_has_a_look() {
    cosocket::run(|| {
        struct Looks(UnixStream, Arc<std::sync::Mutex<Option<String>>>);
        impl Drop for Looks {
            fn drop(&mut self) {
                let error = os::wait(&self.0, Interest::READ, None).unwrap_err();
                assert!(os::wait(&self.0, Interest::WRITE, None).unwrap().is_writable());
                *self.1.lock().unwrap() = Some(error.to_string());
            }
        }
        let told = Arc::default();
        let (near, _far) = UnixStream::pair().unwrap();
        let looks = Looks(near, Arc::clone(&told));
        let unwinds = thread::spawn(move || {
            let _looks = looks;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(unwinds.join().is_err());
        assert!(told.lock().unwrap().as_ref().unwrap().contains("unwinding"));
    });
}

#[test]
fn what_was_waited_for_can_be_seen() {
    let text = format!("{:?}", Interest::READ | Interest::WRITE | Interest::PRIORITY);
    assert_eq!(text, "Interest(read | write | priority)");
    let (near, far) = UnixStream::pair().unwrap();
    drop(far);
    let ready = look(&near, Interest::READ).unwrap();
    assert_eq!(format!("{ready:?}"), "Ready(read | closed)");
    assert_eq!(ready.bits(), libc::POLLIN | libc::POLLHUP);
}

/// The way of a library that has sockets of its own: raw calls, which would block.
#[test]
fn raw_non_blocking_calls_are_repeated_when_ready() {
    everywhere(|| {
        let (near, far) = pair();
        let far = OwnedFd::from(far);
        socket2::SockRef::from(&far).set_nonblocking(true).unwrap();
        let echo = thread::spawn(move || {
            let mut echoed = 0;
            let mut buffer = [0_u8; 4096];
            loop {
                // SAFETY: the buffer is ours to write.
                #[allow(unsafe_code)]
                let count = unsafe {
                    libc::read(far.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len())
                };
                match count {
                    0 => return echoed,
                    1.. => {
                        let mut stream = TcpStream::from(far.try_clone().unwrap());
                        stream.set_nonblocking(false).unwrap();
                        stream.write_all(&buffer[..count as usize]).unwrap();
                        stream.set_nonblocking(true).unwrap();
                        echoed += count;
                    }
                    _ => {
                        let error = std::io::Error::last_os_error();
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        os::wait(&far, Interest::READ, None).unwrap();
                    }
                }
            }
        });
        let mut total = 0;
        for size in [1, 100, 4000] {
            (&near).write_all(&vec![1; size]).unwrap();
            (&near).read_exact(&mut vec![0; size]).unwrap();
            total += size;
        }
        drop(near);
        wait_until(|| echo.is_finished());
        assert_eq!(echo.join().unwrap(), total as isize);
    });
}
