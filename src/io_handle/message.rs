//! Whole messages: bytes with the address that they come from or go to, and with descriptors.
//!
//! ```text
//!   msghdr ---> name     storage for one address         in the frames of this call and of its
//!          ---> iov      one buffer, the caller's        callers, which stay while the kernel
//!          ---> control  descriptors, as SCM_RIGHTS      works
//! ```

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use socket2::SockAddr;

use super::{Direction, IoHandle, Op};

/// The most descriptors that one message carries (`SCM_MAX_FD` of the kernel).
const DESCRIPTORS_MAX: usize = 253;

/// Room for what else the kernel may put before the descriptors, on sockets with `SO_PASSCRED`,
/// `SO_PASSSEC` or `SO_PASSPIDFD`.
const OTHER_CONTROL_BYTES: usize = 128;

const CONTROL_BYTES: usize = space(DESCRIPTORS_MAX * size_of::<RawFd>()) + OTHER_CONTROL_BYTES;

/// A descriptor of the sending process; newer than the libc crate's oldest C libraries.
const SCM_PIDFD: libc::c_int = 4;

/// What came with the bytes of a
/// [`recv_with_fds`](crate::os::unix::net::UnixStream::recv_with_fds).
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// How many bytes are in the buffer.
    pub len: usize,
    /// The descriptors, in the order in which they were sent; close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// More descriptors were sent than are here. Those are closed: there was no room for them in
    /// the call, or this process has no descriptor left.
    pub fds_truncated: bool,
    /// The datagram was longer than the buffer; the rest is lost. Never on a stream.
    pub data_truncated: bool,
}

/// Aligned for control message headers.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_BYTES]);

impl IoHandle {
    /// Receives a datagram and the address that it came from.
    pub(crate) fn recv_from(&self, buffer: &mut [u8], flags: i32) -> io::Result<(usize, SockAddr)> {
        let receive = |storage: *mut socket2::SockAddrStorage,
                       storage_len: *mut libc::socklen_t| {
            let mut vector = vector(buffer.as_mut_ptr(), buffer.len());
            let mut message = message(&mut vector);
            message.msg_name = storage.cast();
            // SAFETY: both pointers are good for the call.
            message.msg_namelen = unsafe { *storage_len };
            let op = Op::RecvMsg { fd: self.fd.as_raw_fd(), message: &mut message, flags };
            // SAFETY: what the header names lives in this frame and the caller's, and `perform`
            // returns or unwinds only when the kernel has let go of it.
            let len = unsafe { self.perform(Direction::Read, &op, buffer.len()) }?;
            // SAFETY: as above.
            unsafe { *storage_len = message.msg_namelen };
            Ok(len)
        };
        // SAFETY: the kernel has filled in address and length; one of length 0 has no family.
        unsafe { SockAddr::try_init(receive) }
    }

    /// Sends a datagram to an address.
    pub(crate) fn send_to(&self, buffer: &[u8], address: &SockAddr) -> io::Result<usize> {
        let mut vector = vector(buffer.as_ptr().cast_mut(), buffer.len());
        let message = message_to(&mut vector, address);
        let op = Op::SendMsg { fd: self.fd.as_raw_fd(), message: &message };
        // SAFETY: as in `recv_from`; the kernel only reads what the header names.
        unsafe { self.perform(Direction::Write, &op, buffer.len()) }
    }

    /// As [`send_to`](IoHandle::send_to), on AF_UNIX: the kernel would wait for room in the
    /// queue of the *other* socket, and no readiness of ours tells of that.
    pub(crate) fn send_to_local(&self, buffer: &[u8], address: &SockAddr) -> io::Result<usize> {
        let mut vector = vector(buffer.as_ptr().cast_mut(), buffer.len());
        let message = message_to(&mut vector, address);
        let op = Op::SendMsg { fd: self.fd.as_raw_fd(), message: &message };
        // SAFETY: as in `send_to`.
        let attempt = |may_block| unsafe { op.attempt(may_block) };
        self.perform_with_pauses(Direction::Write, None, attempt).map(|sent| sent as usize)
    }

    /// Sends bytes with descriptors; may send less bytes, but at least one and all descriptors.
    pub(crate) fn send_with_descriptors(
        &self,
        buffer: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<usize> {
        if descriptors.len() > DESCRIPTORS_MAX {
            let message = "one message carries at most 253 descriptors";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if descriptors.is_empty() {
            return self.send(buffer);
        }
        if buffer.is_empty() && !self.datagrams {
            let message = "on a stream, descriptors travel with a byte at least";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut control = Control([MaybeUninit::uninit(); CONTROL_BYTES]);
        let mut vector = vector(buffer.as_ptr().cast_mut(), buffer.len());
        let mut message = message(&mut vector);
        control.put(descriptors, &mut message);
        let op = Op::SendMsg { fd: self.fd.as_raw_fd(), message: &message };
        // SAFETY: as in `send_to`; the control buffer lives in this frame.
        unsafe { self.perform(Direction::Write, &op, buffer.len()) }
    }

    /// Receives bytes and at most so many descriptors, close-on-exec.
    pub(crate) fn recv_with_descriptors(
        &self,
        buffer: &mut [u8],
        descriptors_max: usize,
    ) -> io::Result<Received> {
        if buffer.is_empty() && !self.datagrams {
            let message = "on a stream, descriptors come with a byte at least: the buffer is empty";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut control = Control([MaybeUninit::uninit(); CONTROL_BYTES]);
        let mut vector = vector(buffer.as_mut_ptr(), buffer.len());
        let mut message = message(&mut vector);
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control_len(descriptors_max.min(DESCRIPTORS_MAX)) as _;
        let flags = libc::MSG_CMSG_CLOEXEC;
        let op = Op::RecvMsg { fd: self.fd.as_raw_fd(), message: &mut message, flags };
        // SAFETY: as in `recv_from`; the control buffer lives in this frame.
        let len = unsafe { self.perform(Direction::Read, &op, buffer.len()) }?;
        // SAFETY: the kernel has just filled the control buffer in, and nobody has looked yet.
        let mut fds = unsafe { take_descriptors(&message) };
        let too_many = fds.len() > descriptors_max;
        fds.truncate(descriptors_max);
        let fds_truncated = too_many || message.msg_flags & libc::MSG_CTRUNC != 0;
        let data_truncated = message.msg_flags & libc::MSG_TRUNC != 0;
        Ok(Received { len, fds, fds_truncated, data_truncated })
    }
}

impl Control {
    /// Makes the header carry descriptors.
    fn put(&mut self, descriptors: &[BorrowedFd<'_>], message: &mut libc::msghdr) {
        let bytes = size_of_val(descriptors);
        // Padding is sent too, so it must not be what the stack held before.
        self.0.fill(MaybeUninit::new(0));
        message.msg_control = self.0.as_mut_ptr().cast();
        message.msg_controllen = space(bytes) as _;
        // SAFETY: the buffer is aligned, and has room for one header with this much data; a
        // borrowed descriptor has the layout of its number.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(bytes as u32) as _;
            let data = libc::CMSG_DATA(header);
            ptr::copy_nonoverlapping(descriptors.as_ptr().cast(), data, bytes);
        }
    }
}

/// Every descriptor that came with a message is owned from here on, wanted or not.
///
/// # Safety
///
/// The header was filled in by `recvmsg`, and its descriptors were not taken.
unsafe fn take_descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the header and its buffer are as the kernel left them.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: the macros stay within the buffer; a control message that the kernel had to
        // cut has the length of what is there.
        let (level, kind, data, len) = unsafe {
            let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            let data = libc::CMSG_DATA(header).cast::<RawFd>();
            ((*header).cmsg_level, (*header).cmsg_type, data, bytes / size_of::<RawFd>())
        };
        let own = |index: usize| {
            // SAFETY: within the message; the kernel made the descriptor for us.
            unsafe { OwnedFd::from_raw_fd(data.add(index).read_unaligned()) }
        };
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => descriptors.extend((0..len).map(own)),
            // Not asked for through this library, and not to be leaked.
            (libc::SOL_SOCKET, SCM_PIDFD) if len > 0 => drop(own(0)),
            _ => {}
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    descriptors
}

/// The room to offer for so many descriptors, not rounded up, lest one more comes.
const fn control_len(descriptors: usize) -> usize {
    // SAFETY: arithmetic.
    let own = unsafe { libc::CMSG_LEN((descriptors * size_of::<RawFd>()) as u32) } as usize;
    OTHER_CONTROL_BYTES + own
}

pub(super) const fn space(bytes: usize) -> usize {
    // SAFETY: arithmetic.
    unsafe { libc::CMSG_SPACE(bytes as u32) as usize }
}

pub(super) fn vector(buffer: *mut u8, len: usize) -> libc::iovec {
    libc::iovec { iov_base: buffer.cast(), iov_len: len }
}

pub(super) fn message(vector: &mut libc::iovec) -> libc::msghdr {
    super::transfer::message(vector, 1)
}

pub(super) fn message_to(vector: &mut libc::iovec, address: &SockAddr) -> libc::msghdr {
    let mut message = message(vector);
    message.msg_name = address.as_ptr().cast_mut().cast();
    message.msg_namelen = address.len();
    message
}
