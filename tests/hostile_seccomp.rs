//! System calls that a sandbox refuses: the program works on with others, and the runtime says
//! in one line why it does and what would help.

#[allow(unsafe_code)]
mod util;

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{Builder, Driver, Runtime, thread};
use util::{child, refuse_system_call};

/// Connects, accepts, exchanges, sleeps and times out.
fn works(runtime: &Runtime) {
    runtime.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = [0; 4];
            stream.read_exact(&mut text).unwrap();
            stream.write_all(&text).unwrap();
            stream
        });
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"echo").unwrap();
        let mut text = [0; 4];
        stream.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"echo");
        let _server = server.join().unwrap();
        for micros in [1, 300, 1500, 2500] {
            let time = Duration::from_micros(micros);
            let start = Instant::now();
            thread::sleep(time);
            assert!(start.elapsed() >= time);
            stream.set_read_timeout(Some(time)).unwrap();
            let start = Instant::now();
            assert_eq!(stream.read(&mut text).unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= time);
        }
    });
}

fn is_one_line_with(text: &str, words: &[&str]) {
    assert!(!text.contains('\n') && words.iter().all(|word| text.contains(word)), "{text}");
}

/// The ring's setup, or its use, is refused with `errno`.
fn without_ring(call: libc::c_long, errno: i32, words: &[&str]) {
    refuse_system_call(call, errno);
    let error = Builder::new().driver(Driver::IoUring).build().unwrap_err();
    is_one_line_with(&error.to_string(), words);

    let runtime = Builder::new().driver(Driver::Auto).build().unwrap();
    assert!(runtime.driver().starts_with("epoll"), "{}", runtime.driver());
    is_one_line_with(runtime.driver(), words);
    works(&runtime);

    // Whoever wanted epoll need not be told.
    let runtime = Builder::new().driver(Driver::Epoll).build().unwrap();
    assert_eq!(runtime.driver(), "epoll");
    works(&runtime);
}

#[test]
fn io_uring_setup_not_permitted() {
    child::passes("io_uring_setup_not_permitted", || {
        let words = ["io_uring_setup", "seccomp", "allow", "not permitted"];
        without_ring(libc::SYS_io_uring_setup, libc::EPERM, &words);
    });
}

#[test]
fn io_uring_setup_not_implemented() {
    child::passes("io_uring_setup_not_implemented", || {
        let words = ["io_uring_setup", "seccomp", "allow", "not implemented"];
        without_ring(libc::SYS_io_uring_setup, libc::ENOSYS, &words);
    });
}

#[test]
fn io_uring_enter_alone_not_permitted() {
    child::passes("io_uring_enter_alone_not_permitted", || {
        let words = ["io_uring_enter", "seccomp", "allow io_uring_setup, io_uring_enter"];
        without_ring(libc::SYS_io_uring_enter, libc::EPERM, &words);
    });
}

#[test]
fn io_uring_enter_alone_not_implemented() {
    child::passes("io_uring_enter_alone_not_implemented", || {
        let words = ["io_uring_enter", "seccomp", "allow io_uring_setup, io_uring_enter"];
        without_ring(libc::SYS_io_uring_enter, libc::ENOSYS, &words);
    });
}

#[test]
fn io_uring_register_alone_not_permitted() {
    child::passes("io_uring_register_alone_not_permitted", || {
        let words = ["io_uring_register", "seccomp", "allow"];
        without_ring(libc::SYS_io_uring_register, libc::EPERM, &words);
    });
}

fn without_pwait2(errno: i32) {
    refuse_system_call(libc::SYS_epoll_pwait2, errno);
    works(&Builder::new().driver(Driver::Epoll).build().unwrap());
    works(&Builder::new().build().unwrap());
}

#[test]
fn epoll_pwait2_not_implemented() {
    child::passes("epoll_pwait2_not_implemented", || without_pwait2(libc::ENOSYS));
}

#[test]
fn epoll_pwait2_not_permitted() {
    child::passes("epoll_pwait2_not_permitted", || without_pwait2(libc::EPERM));
}

/// Both drivers refused: an error, and not a panic.
#[test]
fn neither_driver_permitted() {
    child::passes("neither_driver_permitted", || {
        refuse_system_call(libc::SYS_io_uring_setup, libc::EPERM);
        refuse_system_call(libc::SYS_epoll_create1, libc::EPERM);
        for driver in [Driver::Auto, Driver::Epoll, Driver::IoUring] {
            let error = Builder::new().driver(driver).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        }
        let error = thread::Builder::new().spawn(|| ()).unwrap_err();
        is_one_line_with(&error.to_string(), &["global runtime", "not"]);
    });
}
