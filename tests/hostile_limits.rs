//! Limits that are reached: locked memory, descriptors, address space. Each is an error with a
//! remedy, once a call; nothing is leaked, and when there is room again things go on.

#[allow(unsafe_code)]
mod util;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{Builder, Driver, Runtime, thread};
use util::{child, descriptors, leave_descriptors, limit, pair, set_limit, set_soft_limit};

fn works(runtime: &Runtime) {
    runtime.run(|| {
        let (mut near, mut far) = pair();
        let echo = thread::spawn(move || {
            let mut byte = [0];
            far.read_exact(&mut byte).unwrap();
            far.write_all(&byte).unwrap();
        });
        near.write_all(&[5]).unwrap();
        let mut byte = [0];
        near.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [5]);
        echo.join().unwrap();
        thread::sleep(Duration::from_micros(100));
    });
}

/// Rings count against the locked memory of their user, unless privileged.
#[test]
fn no_locked_memory() {
    child::passes("no_locked_memory", || {
        set_limit(libc::RLIMIT_MEMLOCK, 0, 0).unwrap();
        become_nobody();
        match Builder::new().driver(Driver::IoUring).build() {
            // A kernel before 6.14 does not count them.
            Ok(runtime) => works(&runtime),
            Err(error) => assert_names_locked_memory(&error.to_string()),
        }
        let runtime = Builder::new().driver(Driver::Auto).build().unwrap();
        if runtime.driver() != "io_uring" {
            assert_names_locked_memory(runtime.driver());
        }
        works(&runtime);
    });
}

fn assert_names_locked_memory(reason: &str) {
    assert!(reason.contains("RLIMIT_MEMLOCK") && reason.contains("raise it"), "{reason}");
    assert!(!reason.contains('\n'), "{reason}");
}

/// Without capabilities, CAP_IPC_LOCK among them.
#[allow(unsafe_code)]
fn become_nobody() {
    // SAFETY: plain numbers.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!(libc::setgid(65534), 0);
            assert_eq!(libc::setuid(65534), 0);
        }
    }
}

/// A server that is out of descriptors gets EMFILE once for each call that it makes, the
/// connection stays in the backlog, and it is accepted when there is room.
#[test]
fn accept_without_descriptors() {
    child::passes("accept_without_descriptors", || {
        let runtime = Builder::new().build().unwrap();
        works(&runtime);
        let before = runtime.metrics().turns;
        let calls = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Made while there is room; connecting takes no further descriptor.
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let client = client.unwrap();
        set_soft_limit(libc::RLIMIT_NOFILE, 0);
        let failures = Arc::clone(&calls);
        let server = runtime.spawn(move || {
            loop {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        stream.write_all(b"welcome").unwrap();
                        return;
                    }
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                        failures.fetch_add(1, SeqCst);
                        thread::park();
                    }
                }
            }
        });
        client.connect(&address.into()).unwrap();
        for call in 1..=5 {
            while calls.load(SeqCst) < call {
                std::thread::yield_now();
            }
            // Nobody asks again until told to.
            std::thread::sleep(Duration::from_millis(5));
            assert_eq!(calls.load(SeqCst), call);
            server.thread().unpark();
        }
        let turns = runtime.metrics().turns - before;
        assert!(turns < 200, "{turns} turns for five calls: it spins");
        while calls.load(SeqCst) < 6 {
            std::thread::yield_now();
        }
        set_soft_limit(libc::RLIMIT_NOFILE, limit(libc::RLIMIT_NOFILE).1);
        server.thread().unpark();
        let mut text = [0; 7];
        (&client).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"welcome");
        server.join().unwrap();
    });
}

/// A server under more clients than it has descriptors for serves them all in the end.
#[test]
fn a_server_with_few_descriptors_serves_everybody() {
    const CLIENTS: usize = 60;
    child::passes("a_server_with_few_descriptors_serves_everybody", || {
        let runtime = Builder::new().build().unwrap();
        works(&runtime);
        let (refused, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .map(|client| TcpStream::from(std::os::fd::OwnedFd::from(client)))
            .collect();
        // Room for some of the other ends.
        let _gaps = leave_descriptors(5);
        let (counted, done) = (Arc::clone(&refused), Arc::clone(&served));
        let server = runtime.spawn(move || {
            loop {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        let done = Arc::clone(&done);
                        thread::spawn(move || {
                            let mut byte = [0];
                            stream.read_exact(&mut byte).unwrap();
                            stream.write_all(&byte).unwrap();
                            done.fetch_add(1, SeqCst);
                        });
                    }
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                        counted.fetch_add(1, SeqCst);
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            }
        });
        let talks: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(number, mut client)| {
                let refused = Arc::clone(&refused);
                runtime.spawn(move || {
                    // Not before the server has met its limit.
                    util::wait_until(|| refused.load(SeqCst) > 0);
                    client.write_all(&[number as u8]).unwrap();
                    let mut byte = [0];
                    client.read_exact(&mut byte).unwrap();
                    assert_eq!(byte[0], number as u8);
                })
            })
            .collect();
        talks.into_iter().for_each(|talk| talk.join().unwrap());
        util::wait_until(|| served.load(SeqCst) == CLIENTS);
        server.cancel();
        assert!(server.join().unwrap_err().is::<cosocket::Cancelled>());
    });
}

/// With one descriptor more each time, until it works.
#[test]
fn a_runtime_without_descriptors() {
    child::passes("a_runtime_without_descriptors", || {
        let hard = limit(libc::RLIMIT_NOFILE).1;
        let mut failures = 0;
        let runtime = loop {
            let gaps = leave_descriptors(failures);
            let built = Builder::new().build();
            set_soft_limit(libc::RLIMIT_NOFILE, hard);
            drop(gaps);
            match built {
                Ok(runtime) => break runtime,
                Err(error) => {
                    let text = error.to_string();
                    assert!(!text.contains('\n'), "{text}");
                    assert!(text.contains("RLIMIT_NOFILE"), "{text}");
                    failures += 1;
                }
            }
            assert!(failures < 200, "it never works");
        };
        works(&runtime);
        drop(runtime);
        // A doorbell at the least.
        assert!(failures > 0, "there was room from the start");
        // Two for each worker index stay, for the next runtime.
        let stays = descriptors();
        set_soft_limit(libc::RLIMIT_NOFILE, 3);
        for _ in 0..50 {
            assert!(Builder::new().driver(Driver::IoUring).workers(2).build().is_err());
            assert!(Builder::new().workers(40).build().is_err());
        }
        set_soft_limit(libc::RLIMIT_NOFILE, hard);
        assert_eq!(descriptors(), stays, "a failed start leaks");
        works(&Builder::new().build().unwrap());
        assert_eq!(descriptors(), stays);
    });
}

/// No address space for stacks: `spawn` says so and what to do, and whoever runs goes on.
#[test]
#[cfg_attr(cosocket_asan, ignore = "the sanitizer needs address space of its own")]
fn no_address_space_for_stacks() {
    child::passes("no_address_space_for_stacks", || {
        let runtime = Builder::new().build().unwrap();
        let (mut near, mut far) = pair();
        runtime.run(|| {
            let used = address_space();
            set_soft_limit(libc::RLIMIT_AS, used + (256 << 20));
            let mut parked = Vec::new();
            let error = loop {
                match thread::Builder::new().stack_size(4 << 20).spawn(thread::park) {
                    Ok(coroutine) => parked.push(coroutine),
                    Err(error) => break error,
                }
                assert!(parked.len() < 1000, "the limit does not hold");
            };
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            let text = error.to_string();
            assert!(text.contains("RLIMIT_AS") && text.contains("raise"), "{text}");
            assert!(!text.contains('\n'), "{text}");

            // Those who run, wait and are woken as ever.
            far.write_all(&[1]).unwrap();
            near.read_exact(&mut [0]).unwrap();
            thread::sleep(Duration::from_millis(1));
            // And a stack that is given back serves the next.
            let freed = parked.pop().unwrap();
            freed.thread().unpark();
            freed.join().unwrap();
            let spawned =
                until_there_is_room(|| thread::Builder::new().stack_size(4 << 20).spawn(|| 42));
            assert_eq!(spawned.join().unwrap(), 42);
            for coroutine in parked {
                coroutine.thread().unpark();
                coroutine.join().unwrap();
            }
            set_soft_limit(libc::RLIMIT_AS, limit(libc::RLIMIT_AS).1);
        });
        works(&runtime);
    });
}

/// The worker that ran a coroutine gives its stack back a moment after the join.
fn until_there_is_room<T>(mut f: impl FnMut() -> std::io::Result<T>) -> T {
    loop {
        match f() {
            Ok(value) => return value,
            Err(_) => thread::yield_now(),
        }
    }
}

/// Bytes of address space in use.
fn address_space() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}
