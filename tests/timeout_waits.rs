//! Every kind of wait inside a `timeout` is cut, in a coroutine and on a plain thread: I/O by an
//! error, the others by unwinding to the `timeout`. Each of them would last for ever.

#[path = "socket_util/mod.rs"]
mod socket_util;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::panic::Location;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::sync::{self, Barrier, Condvar, Mutex, OnceLock, RwLock, Semaphore};
use cosocket::time::{Elapsed, deadline, timeout};
use cosocket::{spawn, thread, unblock};
use socket_util::{everywhere, pair};

const SHORT: Duration = Duration::from_millis(3);

/// The wait unwinds to the `timeout`, which takes no less than its time.
#[track_caller]
fn assert_unwinds<T>(wait: impl FnOnce() -> T) {
    let from = Location::caller();
    let start = Instant::now();
    let result = timeout(SHORT, || {
        let _value = wait();
        panic!("the wait at {from} went on");
    });
    let _: Elapsed = result.unwrap_err();
    assert!(start.elapsed() >= SHORT);
}

/// The call fails, and what the closure made of that is the `timeout`'s value.
#[track_caller]
fn assert_fails<T>(call: impl FnOnce() -> std::io::Result<T>) {
    let start = Instant::now();
    let error = timeout(SHORT, call).expect("it returned").err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= SHORT);
}

#[test]
fn reads() {
    everywhere(|| {
        let (mut reader, _writer) = pair();
        assert_fails(|| reader.read(&mut [0]));
        assert_fails(|| reader.peek(&mut [0]));
        assert_fails(|| reader.read_vectored(&mut [std::io::IoSliceMut::new(&mut [0])]));
        assert_fails(|| reader.read_to_end(&mut Vec::new()));
    });
}

#[test]
fn writes() {
    everywhere(|| {
        let (mut writer, _reader) = pair();
        assert_fails(|| {
            loop {
                writer.write_all(&[7; 65536])?;
            }
            #[allow(unreachable_code)]
            Ok(())
        });
    });
}

#[test]
fn accepts() {
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_fails(|| listener.accept());
        // The listener works as before.
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, peer) = timeout(Duration::MAX, || listener.accept()).unwrap().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    });
}

/// An address where connections are neither accepted nor refused, and what keeps it so.
fn full_listener() -> (SocketAddr, impl Sized) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut backlog = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(20)) {
        backlog.push(stream);
    }
    (address, (listener, backlog))
}

#[test]
fn connects() {
    everywhere(|| {
        let (address, _full) = full_listener();
        assert_fails(|| TcpStream::connect(address));
        assert_fails(|| TcpStream::connect(&[address, address][..]));
        assert_fails(|| TcpStream::connect_timeout(&address, Duration::from_secs(3600)));
    });
}

#[test]
fn sleeps() {
    everywhere(|| {
        assert_unwinds(|| thread::sleep(Duration::MAX));
        assert_unwinds(|| thread::sleep(Duration::from_secs(3600)));
        assert_unwinds(|| thread::sleep_until(Instant::now() + Duration::from_secs(3600)));
    });
}

#[test]
fn parks() {
    everywhere(|| {
        assert_unwinds(|| {
            loop {
                thread::park();
            }
        });
        assert_unwinds(|| {
            loop {
                thread::park_timeout(Duration::from_secs(3600));
            }
        });
    });
}

#[test]
fn joins() {
    everywhere(|| {
        let (told, hears) = mpsc::channel();
        let other = spawn(move || (thread::park(), told.send(5).unwrap()));
        let other_thread = other.thread().clone();
        assert_unwinds(|| other.join());
        // Detached, it goes on.
        other_thread.unpark();
        socket_util::until(|| hears.try_recv() == Ok(5));
    });
}

#[test]
fn scopes() {
    everywhere(|| {
        let ended = std::sync::atomic::AtomicBool::new(false);
        assert_unwinds(|| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    let _guard = SetOnDrop(&ended);
                    thread::sleep(Duration::MAX)
                });
            })
        });
        // What it had spawned was over when the scope was left.
        assert!(ended.load(std::sync::atomic::Ordering::SeqCst));
        assert_unwinds(|| {
            thread::scope(|scope| {
                scope.spawn(|| thread::sleep(Duration::MAX)).join().unwrap();
            })
        });
        assert_unwinds(|| {
            thread::scope(|scope| {
                scope.spawn(|| thread::sleep(Duration::MAX));
                thread::sleep(Duration::MAX);
            })
        });
    });
}

struct SetOnDrop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn blocking_jobs() {
    everywhere(|| {
        let (open, gate) = mpsc::channel::<()>();
        assert_unwinds(|| unblock(move || gate.recv().is_ok()));
        drop(open);
    });
}

#[test]
fn waits_for_another_readers_turn() {
    cosocket::run(|| {
        let (reader, mut writer) = pair();
        let reader = Arc::new(reader);
        let first = {
            let reader = Arc::clone(&reader);
            socket_util::spawn_waiting(move || (&*reader).read(&mut [0; 8]).unwrap())
        };
        assert_fails(|| (&*reader).read(&mut [0]));
        writer.write_all(b"x").unwrap();
        assert_eq!(first.join().unwrap(), 1);
    });
}

#[test]
fn locks() {
    everywhere(|| {
        let mutex = Mutex::new(1);
        let held = mutex.lock().unwrap();
        assert_unwinds(|| drop(mutex.lock()));
        drop(held);
        let lock = RwLock::new(1);
        let held = lock.write().unwrap();
        assert_unwinds(|| drop(lock.read()));
        assert_unwinds(|| drop(lock.write()));
        drop(held);
        let condvar = Condvar::new();
        assert_unwinds(|| drop(condvar.wait(mutex.lock().unwrap())));
        // Nobody was in a panic: nothing is poisoned, and nobody has the lock.
        assert_eq!((*mutex.try_lock().unwrap(), *lock.try_write().unwrap()), (1, 1));
        assert_unwinds(|| {
            let _held = mutex.lock().unwrap();
            thread::sleep(Duration::MAX);
        });
        assert!(!mutex.is_poisoned() && mutex.try_lock().is_ok());
    });
}

#[test]
fn channels_and_counters() {
    everywhere(|| {
        let (sender, receiver) = sync::mpsc::sync_channel(1);
        assert_unwinds(|| receiver.recv());
        sender.send(1).unwrap();
        assert_unwinds(|| sender.send(2));
        // The one that was cut has not sent.
        assert_eq!((receiver.try_recv(), receiver.try_recv().is_err()), (Ok(1), true));
        let barrier = Barrier::new(2);
        assert_unwinds(|| assert!(barrier.wait().is_leader()));
        let semaphore = Semaphore::new(1);
        let permit = semaphore.acquire();
        assert_unwinds(|| drop(semaphore.acquire()));
        drop(permit);
        drop(semaphore.try_acquire().expect("the one that was cut took none"));
        let cell = OnceLock::<u8>::new();
        assert_unwinds(|| assert_eq!(*cell.wait(), 1));
    });
}

#[test]
fn loops_that_yield() {
    everywhere(|| {
        assert_unwinds(|| {
            loop {
                thread::yield_now();
            }
        });
    });
}

#[test]
fn loops_of_io_calls_that_never_wait() {
    everywhere(|| {
        let (mut reader, mut writer) = pair();
        assert_fails(|| -> std::io::Result<()> {
            loop {
                writer.write_all(b"ping")?;
                reader.read_exact(&mut [0; 4])?;
            }
        });
        let (reader, mut writer) = pair();
        writer.write_all(b"x").unwrap();
        assert_fails(|| -> std::io::Result<()> {
            loop {
                assert_eq!(reader.peek(&mut [0])?, 1);
            }
        });
        let (mut reader, _writer) = pair();
        reader.set_nonblocking(true).unwrap();
        assert_fails(|| {
            loop {
                match reader.read(&mut [0]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    result => return result,
                }
            }
        });
    });
}

#[test]
fn a_whole_runtime() {
    assert_unwinds(|| cosocket::run(|| thread::sleep(Duration::MAX)));
    let runtime = cosocket::Builder::new().build().unwrap();
    let borrowed = [1, 2, 3];
    assert_unwinds(|| runtime.run(|| (thread::sleep(Duration::MAX), borrowed.len()).1));
    assert_eq!(runtime.run(|| borrowed.len()), 3);
}

#[test]
fn a_limit_that_is_over_when_it_begins_cuts_the_first_call() {
    everywhere(|| {
        let (mut reader, mut writer) = pair();
        writer.write_all(b"x").unwrap();
        for limit in [Duration::ZERO, Duration::from_nanos(1)] {
            let read = || loop {
                match reader.peek(&mut [0]) {
                    Ok(count) => assert_eq!((count, limit.is_zero()), (1, false)),
                    Err(error) => return error.kind(),
                }
            };
            assert_eq!(timeout(limit, read), Ok(ErrorKind::TimedOut));
        }
        let past = Instant::now() - Duration::from_secs(1);
        assert_eq!(
            deadline(past, || reader.read(&mut [0]).unwrap_err().kind()),
            Ok(ErrorKind::TimedOut)
        );
        assert!(deadline(past, || thread::sleep(Duration::ZERO)).is_err());
        assert!(deadline(past, thread::yield_now).is_err());
        assert_eq!(deadline(past, || 5), Ok(5));
        assert_eq!(reader.read(&mut [0]).unwrap(), 1);
    });
}
