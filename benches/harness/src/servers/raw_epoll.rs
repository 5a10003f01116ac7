//! The ceiling under epoll: one loop by hand, level-triggered, one receive an event.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::handler::{Handler, dispatch};
use super::{Settings, listen_nonblocking};

const BATCH: usize = 256;

pub fn serve(settings: &Settings) -> io::Result<()> {
    let listener = listen_nonblocking()?;
    dispatch!(settings, run(listener))
}

struct Connection<H> {
    socket: OwnedFd,
    handler: H,
    /// What the socket did not take. While there is any, nothing is received.
    unsent: VecDeque<u8>,
}

fn run<H: Handler, const N: usize>(listener: TcpListener) -> io::Result<()> {
    // SAFETY: no pointers.
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: just made, and nobody else's.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    watch(&epoll, libc::EPOLL_CTL_ADD, listener.as_raw_fd(), libc::EPOLLIN)?;
    // By descriptor.
    let mut connections: Vec<Option<Connection<H>>> = Vec::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; BATCH];
    let mut buffer = vec![0; N];
    loop {
        let (room, limit) = (events.as_mut_ptr(), BATCH as i32);
        // SAFETY: room for `limit` events.
        let count = check(unsafe { libc::epoll_wait(epoll.as_raw_fd(), room, limit, -1) });
        let count = unless_interrupted(count)?;
        for event in &events[..count as usize] {
            let fd = event.u64 as RawFd;
            if fd == listener.as_raw_fd() {
                accept_all(&epoll, fd, &mut connections)?;
                continue;
            }
            let place = &mut connections[fd as usize];
            let connection = place.as_mut().expect("closed ones have no events");
            if turn(&epoll, connection, &mut buffer).is_err() {
                *place = None;
            }
        }
    }
}

fn accept_all<H: Handler>(
    epoll: &OwnedFd,
    listener: RawFd,
    connections: &mut Vec<Option<Connection<H>>>,
) -> io::Result<()> {
    loop {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let (address, len) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the address is not asked for.
        let fd = match check(unsafe { libc::accept4(listener, address, len, flags) }) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            fd => fd?,
        };
        set_nodelay(fd)?;
        // SAFETY: just made, and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let (handler, unsent) = (H::default(), VecDeque::new());
        if connections.len() <= fd as usize {
            connections.resize_with(fd as usize + 1, || None);
        }
        connections[fd as usize] = Some(Connection { socket, handler, unsent });
        watch(epoll, libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN)?;
    }
}

/// One event of a connection; an error is its end.
fn turn<H: Handler>(
    epoll: &OwnedFd,
    connection: &mut Connection<H>,
    buffer: &mut [u8],
) -> io::Result<()> {
    let fd = connection.socket.as_raw_fd();
    if !connection.unsent.is_empty() {
        let rest = connection.unsent.make_contiguous();
        let sent = send(fd, rest)?;
        connection.unsent.drain(..sent);
        return match connection.unsent.is_empty() {
            true => watch(epoll, libc::EPOLL_CTL_MOD, fd, libc::EPOLLIN),
            false => Ok(()),
        };
    }
    // SAFETY: room for as much.
    let received = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    let count = match received {
        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
        count if count > 0 => count as usize,
        _ => {
            let error = io::Error::last_os_error();
            let spurious = error.kind() == io::ErrorKind::WouldBlock;
            return if spurious { Ok(()) } else { Err(error) };
        }
    };
    let answer = connection.handler.answer(&buffer[..count]);
    if answer.is_empty() {
        return Ok(());
    }
    let sent = send(fd, answer)?;
    if sent < answer.len() {
        connection.unsent.extend(&answer[sent..]);
        watch(epoll, libc::EPOLL_CTL_MOD, fd, libc::EPOLLOUT)?;
    }
    Ok(())
}

/// A signal, or a tracer, ends a sleep: it is none of our errors.
pub(super) fn unless_interrupted<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(T::default()),
        result => result,
    }
}

/// How much the socket took; zero when it is full.
pub(super) fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the bytes live through the call.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    if sent >= 0 {
        return Ok(sent as usize);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
}

pub(super) fn set_nodelay(fd: RawFd) -> io::Result<()> {
    let on: i32 = 1;
    let len = size_of::<i32>() as libc::socklen_t;
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
    // SAFETY: the value lives through the call.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const on).cast(), len) }).map(drop)
}

fn watch(epoll: &OwnedFd, what: i32, fd: RawFd, interest: i32) -> io::Result<()> {
    let mut event = libc::epoll_event { events: interest as u32, u64: fd as u64 };
    // SAFETY: the event lives through the call.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), what, fd, &mut event) }).map(drop)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
