//! A read that gets less than it asked for is not always the last for now. Under epoll no further
//! edge comes for what is left in the socket, so it must be tried and not waited for.

#[allow(unsafe_code)]
mod util;

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use cosocket::net::TcpStream;
use cosocket::thread;
use util::tcp_pair;

/// A stream on which a coroutine has waited already, so that the driver knows it.
fn acquainted(near: OwnedFd, mut far: impl Write + Send + 'static) -> TcpStream {
    let mut near = TcpStream::from(near);
    let writer = thread::spawn(move || far.write_all(b"hello").unwrap());
    near.read_exact(&mut [0; 5]).unwrap();
    writer.join().unwrap();
    near
}

/// So many switches that several turns of the driver lie between them: it has seen every edge
/// there was, and none is to come.
fn let_the_driver_look() {
    (0..1000).for_each(|_| thread::yield_now());
}

/// A peek shorter than its buffer made the read after it wait for data that was there.
#[test]
fn what_was_peeked_at_can_be_read() {
    cosocket::run(|| {
        let (near, mut far) = tcp_pair();
        let mut near = acquainted(near.into(), far.try_clone().unwrap());
        let peer = thread::spawn(move || {
            far.write_all(b"data").unwrap();
            far
        });
        let mut buffer = [0; 100];
        assert_eq!(near.peek(&mut buffer).unwrap(), 4);
        assert_eq!(near.peek(&mut buffer).unwrap(), 4);
        assert_eq!(near.read(&mut buffer).unwrap(), 4);
        drop(peer.join());
    });
}

/// A read ends before TCP's urgent mark, whatever comes after it.
#[test]
fn what_follows_urgent_data_is_read() {
    cosocket::run(|| {
        let (near, mut far) = tcp_pair();
        let mut near = acquainted(near.into(), far.try_clone().unwrap());
        far.write_all(b"before").unwrap();
        assert_eq!(socket2::SockRef::from(&far).send_out_of_band(b"!").unwrap(), 1);
        far.write_all(b"after").unwrap();
        let_the_driver_look();
        let mut text = [0; 100];
        let mut count = 0;
        while count < 11 {
            count += near.read(&mut text[count..]).unwrap();
        }
        assert_eq!(&text[..count], b"beforeafter");
    });
}

/// A read on AF_UNIX ends where descriptors came with the bytes.
#[test]
fn what_follows_a_passed_descriptor_is_read() {
    cosocket::run(|| {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut near = acquainted(near.into(), far.try_clone().unwrap());
        send_with_descriptor(&far, b"fd");
        far.write_all(b"more").unwrap();
        let_the_driver_look();
        let mut text = [0; 100];
        let mut count = 0;
        while count < 6 {
            count += near.read(&mut text[count..]).unwrap();
        }
        assert_eq!(&text[..count], b"fdmore");
    });
}

#[allow(unsafe_code)]
fn send_with_descriptor(socket: &UnixStream, text: &[u8]) {
    let mut control = [0u64; 8];
    let mut vector = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
    // SAFETY: zeroes are an empty message; the control buffer is aligned and large enough for one
    // descriptor, and everything lives until the call is over.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(socket.as_raw_fd());
        assert_eq!(libc::sendmsg(socket.as_raw_fd(), &message, 0), text.len() as isize);
    }
}
