//! The best io_uring loop we know how to write: receives stay armed and take their buffers from a
//! ring of them, sends go by the ring straight from there, and one system call does all of a turn.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue, opcode, types};

use super::handler::{Handler, dispatch};
use super::raw_epoll::{set_nodelay, unless_interrupted};
use super::raw_uring::{check, open_ring, push};
use super::{Settings, listen};

const GROUP: u16 = 0;
const BUFFERS: u16 = 1024;

/// The user data of the accept; a connection's is its descriptor, whether it sends, and what.
const ACCEPT: u64 = u64::MAX;
const SENDS: u64 = 1 << 32;

pub fn serve(settings: &Settings) -> io::Result<()> {
    let listener = listen()?;
    dispatch!(settings, run(listener))
}

struct Connection<H> {
    socket: OwnedFd,
    handler: H,
    /// What is to be sent, in order; the first of it is with the kernel.
    output: VecDeque<Output>,
    /// The receive is not armed: there was no buffer.
    is_starved: bool,
    is_over: bool,
}

/// Bytes in a buffer of the ring, which goes back when they are sent, or constant ones.
struct Output {
    bytes: *const u8,
    len: usize,
    buffer: Option<u16>,
}

struct Server<H> {
    ring: IoUring,
    buffers: Buffers,
    /// By descriptor.
    connections: Vec<Option<Connection<H>>>,
    starved: Vec<RawFd>,
}

fn run<H: Handler, const N: usize>(listener: TcpListener) -> io::Result<()> {
    let ring = open_ring()?;
    let buffers = Buffers::new(&ring, N)?;
    let mut server = Server::<H> { ring, buffers, connections: Vec::new(), starved: Vec::new() };
    let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()))
        .flags(libc::SOCK_CLOEXEC)
        .build()
        .user_data(ACCEPT);
    push(&mut server.ring, &accept)?;
    let mut completions = Vec::new();
    loop {
        unless_interrupted(server.ring.submit_and_wait(1))?;
        completions.extend(server.ring.completion());
        for completion in completions.drain(..) {
            let (data, flags) = (completion.user_data(), completion.flags());
            if data == ACCEPT {
                server.open(check(completion.result())?)?;
                if !cqueue::more(flags) {
                    push(&mut server.ring, &accept)?;
                }
            } else if data & SENDS != 0 {
                server.sent((data & !SENDS) as RawFd, completion.result())?;
            } else {
                server.received(data as RawFd, completion.result(), flags)?;
            }
        }
        for fd in std::mem::take(&mut server.starved) {
            server.arm(fd)?;
        }
    }
}

impl<H: Handler> Server<H> {
    fn open(&mut self, fd: RawFd) -> io::Result<()> {
        set_nodelay(fd)?;
        // SAFETY: just accepted, and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        if self.connections.len() <= fd as usize {
            self.connections.resize_with(fd as usize + 1, || None);
        }
        let (handler, output) = (H::default(), VecDeque::new());
        let connection = Connection { socket, handler, output, is_starved: true, is_over: false };
        self.connections[fd as usize] = Some(connection);
        self.arm(fd)
    }

    fn arm(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(connection) = &mut self.connections[fd as usize] else { return Ok(()) };
        if std::mem::take(&mut connection.is_starved) {
            let receive = opcode::RecvMulti::new(types::Fd(fd), GROUP).build();
            push(&mut self.ring, &receive.user_data(fd as u64))?;
        }
        Ok(())
    }

    fn received(&mut self, fd: RawFd, result: i32, flags: u32) -> io::Result<()> {
        let connection = self.connections[fd as usize].as_mut().expect("its receive was out");
        if result == -libc::ENOBUFS {
            connection.is_starved = true;
            self.starved.push(fd);
            return Ok(());
        }
        if result <= 0 {
            connection.is_over = true;
            self.close_when_over(fd);
            return Ok(());
        }
        let buffer = cqueue::buffer_select(flags).expect("data comes in a buffer");
        let input = self.buffers.bytes(buffer, result as usize);
        let answer = connection.handler.answer(input);
        let is_echo = answer.as_ptr() == input.as_ptr();
        let (bytes, len) = (answer.as_ptr(), answer.len());
        if !is_echo {
            self.buffers.give_back(buffer);
        }
        if len > 0 {
            let buffer = is_echo.then_some(buffer);
            connection.output.push_back(Output { bytes, len, buffer });
            if connection.output.len() == 1 {
                self.send(fd)?;
            }
        }
        if !cqueue::more(flags) {
            self.connections[fd as usize].as_mut().expect("open").is_starved = true;
            self.arm(fd)?;
        }
        Ok(())
    }

    fn send(&mut self, fd: RawFd) -> io::Result<()> {
        let connection = self.connections[fd as usize].as_ref().expect("it has output");
        let Output { bytes, len, .. } = connection.output[0];
        // All of it: a short send would have to be sent again, in order.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let send = opcode::Send::new(types::Fd(fd), bytes, len as u32).flags(flags);
        push(&mut self.ring, &send.build().user_data(fd as u64 | SENDS))
    }

    fn sent(&mut self, fd: RawFd, result: i32) -> io::Result<()> {
        let connection = self.connections[fd as usize].as_mut().expect("its send was out");
        let output = connection.output.pop_front().expect("its send was out");
        if let Some(buffer) = output.buffer {
            self.buffers.give_back(buffer);
        }
        if result != output.len as i32 {
            // SAFETY: no pointers. The receive ends, and then the connection.
            unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
        }
        if connection.output.is_empty() {
            self.close_when_over(fd);
            return Ok(());
        }
        self.send(fd)
    }

    fn close_when_over(&mut self, fd: RawFd) {
        let place = &mut self.connections[fd as usize];
        if place.as_ref().is_some_and(|open| open.is_over && open.output.is_empty()) {
            debug_assert_eq!(place.as_ref().map(|open| open.socket.as_raw_fd()), Some(fd));
            *place = None;
        }
    }
}

/// A ring of buffers that the kernel takes from: see io_uring_register_buf_ring(3).
struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    bytes_each: usize,
    tail: u16,
}

impl Buffers {
    /// Registers them. They are never freed: the server ends with its process.
    fn new(ring: &IoUring, bytes_each: usize) -> io::Result<Buffers> {
        let count = usize::from(BUFFERS);
        let entries = allocate(count * size_of::<BufRingEntry>()).cast();
        let memory = allocate(count * bytes_each);
        let address = entries as u64;
        // SAFETY: page-aligned memory for as many entries, which is never freed.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, BUFFERS, GROUP, 0) }?;
        let mut buffers = Buffers { entries, memory, bytes_each, tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.give_back(buffer));
        Ok(buffers)
    }

    fn bytes<'a>(&self, buffer: u16, len: usize) -> &'a [u8] {
        // SAFETY: the kernel has filled as much of it, and it is ours until it is given back.
        unsafe { slice::from_raw_parts(self.start(buffer), len) }
    }

    fn start(&self, buffer: u16) -> *mut u8 {
        self.memory.wrapping_add(usize::from(buffer) * self.bytes_each)
    }

    fn give_back(&mut self, buffer: u16) {
        let index = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: within the ring; the kernel does not look at it before the tail has passed it.
        let entry = unsafe { &mut *self.entries.add(index) };
        entry.set_addr(self.start(buffer) as u64);
        entry.set_len(self.bytes_each as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry, and is shared with the kernel.
        let tail = unsafe { &*BufRingEntry::tail(self.entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

fn allocate(bytes: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, 4096).expect("a valid layout");
    // SAFETY: not of zero size.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() { handle_alloc_error(layout) } else { memory }
}
