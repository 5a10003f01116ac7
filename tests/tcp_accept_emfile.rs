//! Out of descriptors: `accept` says so each time, does not spin, and loses no connection.
//!
//! The limit is the process's, so this test is alone in its own.

#![allow(unsafe_code)]

mod socket_util;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use cosocket::net::{TcpListener, TcpStream};
use socket_util::everywhere;

#[test]
fn accept_without_a_descriptor_is_an_error_and_the_connection_stays() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a limit is read into, and set from, a structure of ours.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = 128;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"patient").unwrap();
        let mut hoard: Vec<OwnedFd> = Vec::new();
        while let Ok(fd) = std::os::fd::AsFd::as_fd(&listener).try_clone_to_owned() {
            hoard.push(fd);
        }
        for _ in 0..3 {
            let error = listener.accept().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            let remedy = cosocket::io::remedy(&error).unwrap();
            assert!(remedy.contains("RLIMIT_NOFILE allows (128)"), "{remedy}");
        }
        hoard.pop();
        let (mut server, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        // Still full: neither reading nor waiting needs a descriptor.
        let mut buffer = [0; 7];
        server.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"patient");
        let error = TcpStream::connect(listener.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        let error = client.try_clone().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        server.set_read_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
        assert_eq!(server.read(&mut buffer).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    });
}
