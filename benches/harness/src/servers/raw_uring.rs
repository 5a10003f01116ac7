//! The ceiling under io_uring for the calls that cosocket makes: receives by the ring, each with
//! its connection's own buffer, told not to try before data is there; send(2) at once.
//!
//! The other one is [`raw_multishot`](super::raw_multishot).

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::handler::{Handler, dispatch};
use super::raw_epoll::{send, set_nodelay, unless_interrupted};
use super::{Settings, listen};

const ENTRIES: u32 = 256;
const COMPLETIONS: u32 = 4096;

/// The user data of the accept; a connection's is its descriptor, and whether it sends.
const ACCEPT: u64 = u64::MAX;
const SENDS: u64 = 1 << 32;

const RECVSEND_POLL_FIRST: u16 = 1;

pub fn serve(settings: &Settings) -> io::Result<()> {
    let listener = listen()?;
    dispatch!(settings, run(listener))
}

struct Connection<H, const N: usize> {
    socket: OwnedFd,
    handler: H,
    /// The kernel writes to it while a receive is out, so it stays in its place.
    buffer: Box<[u8; N]>,
    /// What the socket did not take, from `sent` on. Nothing is received meanwhile.
    unsent: Vec<u8>,
    sent: usize,
}

/// A ring with the flags that cosocket's has.
pub(super) fn open_ring() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS)
        .build(ENTRIES)
}

fn run<H: Handler, const N: usize>(listener: TcpListener) -> io::Result<()> {
    let mut ring = open_ring()?;
    push(&mut ring, &accept_entry(listener.as_raw_fd()))?;
    // By descriptor.
    let mut connections: Vec<Option<Box<Connection<H, N>>>> = Vec::new();
    let mut completions = Vec::with_capacity(COMPLETIONS as usize);
    loop {
        unless_interrupted(ring.submit_and_wait(1))?;
        completions.extend(ring.completion());
        for completion in completions.drain(..) {
            if completion.user_data() == ACCEPT {
                let fd = open::<H, N>(&completion, &mut connections)?;
                push(&mut ring, &connections[fd as usize].as_mut().expect("open").receive(true))?;
                if !cqueue::more(completion.flags()) {
                    push(&mut ring, &accept_entry(listener.as_raw_fd()))?;
                }
                continue;
            }
            let place = &mut connections[(completion.user_data() & !SENDS) as usize];
            let connection = place.as_mut().expect("closed ones have nothing out");
            match turn(connection, &completion) {
                Ok(next) => push(&mut ring, &next)?,
                Err(_) => *place = None,
            }
        }
    }
}

fn open<H: Handler, const N: usize>(
    completion: &cqueue::Entry,
    connections: &mut Vec<Option<Box<Connection<H, N>>>>,
) -> io::Result<RawFd> {
    let fd = check(completion.result())?;
    set_nodelay(fd)?;
    // SAFETY: just accepted, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if connections.len() <= fd as usize {
        connections.resize_with(fd as usize + 1, || None);
    }
    let (handler, buffer, unsent) = (H::default(), Box::new([0; N]), Vec::new());
    let connection = Connection { socket, handler, buffer, unsent, sent: 0 };
    connections[fd as usize] = Some(Box::new(connection));
    Ok(fd)
}

/// One completion of a connection, and what it does next; an error is its end.
fn turn<H: Handler, const N: usize>(
    connection: &mut Connection<H, N>,
    completion: &cqueue::Entry,
) -> io::Result<squeue::Entry> {
    let count = check(completion.result())? as usize;
    if completion.user_data() & SENDS != 0 {
        connection.sent += count;
        if connection.sent < connection.unsent.len() {
            return Ok(connection.send_rest());
        }
        connection.unsent.clear();
        connection.sent = 0;
        return Ok(connection.receive(true));
    }
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let answer = connection.handler.answer(&connection.buffer[..count]);
    if !answer.is_empty() {
        let sent = send(connection.socket.as_raw_fd(), answer)?;
        if sent < answer.len() {
            connection.unsent.extend_from_slice(&answer[sent..]);
            return Ok(connection.send_rest());
        }
    }
    Ok(connection.receive(!cqueue::sock_nonempty(completion.flags())))
}

impl<H, const N: usize> Connection<H, N> {
    fn receive(&mut self, poll_first: bool) -> squeue::Entry {
        let fd = self.socket.as_raw_fd();
        let receive = opcode::Recv::new(types::Fd(fd), self.buffer.as_mut_ptr(), N as u32);
        let flags = if poll_first { RECVSEND_POLL_FIRST } else { 0 };
        receive.ioprio(flags).build().user_data(fd as u64)
    }

    fn send_rest(&self) -> squeue::Entry {
        let (fd, rest) = (self.socket.as_raw_fd(), &self.unsent[self.sent..]);
        let send = opcode::Send::new(types::Fd(fd), rest.as_ptr(), rest.len() as u32);
        send.flags(libc::MSG_NOSIGNAL).build().user_data(fd as u64 | SENDS)
    }
}

fn accept_entry(listener: RawFd) -> squeue::Entry {
    opcode::AcceptMulti::new(types::Fd(listener))
        .flags(libc::SOCK_CLOEXEC)
        .build()
        .user_data(ACCEPT)
}

pub(super) fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    // SAFETY: buffers stay in their places until their operations have completed.
    while unsafe { ring.submission().push(entry) }.is_err() {
        ring.submit()?;
    }
    Ok(())
}

pub(super) fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}
