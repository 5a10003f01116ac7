//! Datagrams with all that the kernel knows of them: whether one was cut, and which of this
//! machine's addresses it was sent to; and several by one system call.
//!
//! ```text
//!   receive   msghdr ---> name       where it came from
//!                    ---> iov        the caller's buffer, or its slice of it
//!                    ---> control    IP_PKTINFO, IPV6_PKTINFO: where it was sent to
//!   send      the same, and the control says where it is to come from
//!
//!   several   recvmmsg, sendmmsg: attempts that do not block, and between them a wait for
//!             readiness; a ring has no operation for them
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use socket2::{SockAddr, SockAddrStorage};

use super::message::{message, message_to, space, vector};
use super::{Direction, IoHandle, Op, begin_call};

/// What one system call takes (`UIO_MAXIOV`).
pub(crate) const BATCH_MAX: usize = 1024;

const CONTROL_BYTES: usize = space(size_of::<libc::in6_pktinfo>()) + 64;

/// An address of this machine, and the interface that a packet came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalAddress {
    pub(crate) ip: IpAddr,
    pub(crate) interface: u32,
}

/// What came.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) len: usize,
    /// It was longer than the buffer.
    pub(crate) is_truncated: bool,
    /// Of no length, if who sent it has no address.
    pub(crate) from: SockAddr,
    /// Where it was sent to, if the socket was told to say so.
    pub(crate) to: Option<LocalAddress>,
}

/// Aligned for control message headers.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

impl Control {
    const EMPTY: Control = Control([0; CONTROL_BYTES]);
}

impl IoHandle {
    /// Waits for a datagram.
    pub(crate) fn receive_datagram(&self, buffer: &mut [u8]) -> io::Result<Arrived> {
        let mut control = Control::EMPTY;
        let mut vector = vector(buffer.as_mut_ptr(), buffer.len());
        let mut name = SockAddrStorage::zeroed();
        let mut message = message(&mut vector);
        message.msg_name = (&raw mut name).cast();
        message.msg_namelen = name.size_of();
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES as _;
        let op = Op::RecvMsg { fd: self.as_raw(), message: &mut message, flags: 0 };
        // SAFETY: what the header names lives in this frame and the caller's, and `perform` returns
        // or unwinds only when the kernel has let go of it.
        let len = unsafe { self.perform(Direction::Read, &op, buffer.len()) }?;
        // SAFETY: the kernel has filled in the header and what it names.
        Ok(unsafe { arrived(&message, name, len) })
    }

    /// Sends one datagram, to an address unless the socket is connected, and from one of this
    /// machine's addresses, if that is not left to the system.
    pub(crate) fn send_datagram(
        &self,
        bytes: &[u8],
        to: Option<&SockAddr>,
        from: Option<LocalAddress>,
    ) -> io::Result<usize> {
        let mut control = Control::EMPTY;
        let mut vector = vector(bytes.as_ptr().cast_mut(), bytes.len());
        let mut message = match to {
            Some(address) => message_to(&mut vector, address),
            None => message(&mut vector),
        };
        if let Some(from) = from {
            put_source(&mut message, &mut control, from);
        }
        let op = Op::SendMsg { fd: self.as_raw(), message: &message };
        // SAFETY: as in `receive_datagram`; the kernel only reads what the header names.
        unsafe { self.perform(Direction::Write, &op, bytes.len()) }
    }

    /// Waits for a datagram, and takes at once those that have come with it: one for each slice of
    /// `chunk` bytes of the buffer. On a socket that reports what was not delivered, a report is an
    /// error with [`Undelivered`] inside.
    ///
    /// [`Undelivered`]: super::undelivered::Undelivered
    pub(crate) fn receive_datagrams(
        &self,
        buffer: &mut [u8],
        chunk: usize,
        reports: bool,
    ) -> io::Result<Vec<Arrived>> {
        let count = (buffer.len() / chunk).min(BATCH_MAX);
        let mut names: Vec<_> = (0..count).map(|_| SockAddrStorage::zeroed()).collect();
        let mut controls = vec![Control::EMPTY; count];
        let mut vectors: Vec<libc::iovec> = buffer
            .chunks_exact_mut(chunk)
            .take(count)
            .map(|c| vector(c.as_mut_ptr(), chunk))
            .collect();
        let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(count);
        for ((name, control), vector) in names.iter_mut().zip(&mut controls).zip(&mut vectors) {
            let mut header = message(vector);
            header.msg_namelen = name.size_of();
            header.msg_name = std::ptr::from_mut(name).cast();
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
            headers.push(libc::mmsghdr { msg_hdr: header, msg_len: 0 });
        }
        let received = self.in_turns(Direction::Read, reports, || {
            let (fd, flags) = (self.as_raw(), libc::MSG_DONTWAIT);
            let none = std::ptr::null_mut();
            // SAFETY: the headers, and what they name, live in this frame and the caller's.
            unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), count as _, flags as _, none) }
        })?;
        let received = headers.iter().zip(names).take(received);
        // SAFETY: as in `receive_datagram`, for each of them.
        Ok(received
            .map(|(h, name)| unsafe { arrived(&h.msg_hdr, name, h.msg_len as usize) })
            .collect())
    }

    /// Sends datagrams by one system call, waiting for room for the first; how many were sent. The
    /// error is that of the first.
    pub(crate) fn send_datagrams(
        &self,
        datagrams: &[(&[u8], Option<SockAddr>)],
    ) -> io::Result<usize> {
        let datagrams = &datagrams[..datagrams.len().min(BATCH_MAX)];
        let mut vectors: Vec<libc::iovec> =
            datagrams.iter().map(|(b, _)| vector(b.as_ptr().cast_mut(), b.len())).collect();
        let header = |(vector, (_, to)): (&mut libc::iovec, &(_, Option<SockAddr>))| {
            let msg_hdr = match to {
                Some(address) => message_to(vector, address),
                None => message(vector),
            };
            libc::mmsghdr { msg_hdr, msg_len: 0 }
        };
        let mut headers: Vec<libc::mmsghdr> =
            vectors.iter_mut().zip(datagrams).map(header).collect();
        self.in_turns(Direction::Write, false, || {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let (fd, count) = (self.as_raw(), headers.len());
            // SAFETY: the headers live in this frame, and what they name in the caller's; the
            // kernel writes to the headers only.
            unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count as _, flags as _) }
        })
    }

    /// Attempts, and waits for readiness in between. With `reports`, looks for those first.
    fn in_turns(
        &self,
        direction: Direction,
        reports: bool,
        mut call: impl FnMut() -> i32,
    ) -> io::Result<usize> {
        begin_call()?;
        let mut may_be_told = reports;
        let events = match direction {
            Direction::Read => libc::POLLIN,
            Direction::Write => libc::POLLOUT,
        };
        loop {
            if reports && let Some(undelivered) = self.take_undelivered()? {
                return Err(io::Error::other(undelivered));
            }
            let count = call();
            if count >= 0 {
                return Ok(count as usize);
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                // The number of a report, which is in the queue, or was taken from it before.
                _ if may_be_told && error.kind() != io::ErrorKind::WouldBlock => {
                    may_be_told = false;
                }
                io::ErrorKind::WouldBlock => {
                    self.wait_ready(events, self.timeout(direction))?;
                }
                _ => return Err(error),
            }
        }
    }

    pub(super) fn as_raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// # Safety
///
/// The header was filled in by `recvmsg`, and `name` is what its name points to.
unsafe fn arrived(message: &libc::msghdr, name: SockAddrStorage, len: usize) -> Arrived {
    Arrived {
        len,
        is_truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        // SAFETY: the kernel has filled it in; one of length 0 has no family.
        from: unsafe { SockAddr::new(name, message.msg_namelen) },
        // SAFETY: as above.
        to: unsafe { destination(message) },
    }
}

/// What `IP_PKTINFO` and `IPV6_RECVPKTINFO` have the kernel say.
///
/// # Safety
///
/// The header was filled in by `recvmsg`, and its control buffer is still there.
unsafe fn destination(message: &libc::msghdr) -> Option<LocalAddress> {
    // SAFETY: the caller's word.
    unsafe { controls(message) }.find_map(|(level, kind, data)| match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // SAFETY: a control message of this kind has this content.
            let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            // Of a packet to a group or to all, our own address of that interface.
            let ip = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
            Some(LocalAddress { ip: ip.into(), interface: info.ipi_ifindex as u32 })
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            // SAFETY: as above.
            let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            Some(LocalAddress { ip: ip.into(), interface: info.ipi6_ifindex })
        }
        _ => None,
    })
}

/// Level, kind and content of each control message.
///
/// # Safety
///
/// The header was filled in by `recvmsg`, and its control buffer is there for as long as the
/// iterator.
pub(super) unsafe fn controls(
    message: &libc::msghdr,
) -> impl Iterator<Item = (i32, i32, *const u8)> {
    // SAFETY: the header and its buffer are as the kernel left them.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    std::iter::from_fn(move || {
        if header.is_null() {
            return None;
        }
        // SAFETY: the macros stay within the buffer.
        let control = unsafe {
            ((*header).cmsg_level, (*header).cmsg_type, libc::CMSG_DATA(header).cast_const())
        };
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
        Some(control)
    })
}

/// Has the datagram come from this address.
fn put_source(message: &mut libc::msghdr, control: &mut Control, from: LocalAddress) {
    match from.ip {
        IpAddr::V4(ip) => {
            let ipi_spec_dst = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
            let ipi_addr = libc::in_addr { s_addr: 0 };
            // The way is left to the routes.
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr };
            put(message, control, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        // What a group was sent to is nobody's own; then only the interface is said.
        IpAddr::V6(ip) => {
            let is_bound_to_link = ip.is_unicast_link_local() || ip.is_multicast();
            let ipi6_ifindex = if is_bound_to_link { from.interface } else { 0 };
            let source = if ip.is_multicast() { Ipv6Addr::UNSPECIFIED } else { ip };
            let ipi6_addr = libc::in6_addr { s6_addr: source.octets() };
            let info = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex };
            put(message, control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

fn put<T>(message: &mut libc::msghdr, control: &mut Control, level: i32, kind: i32, content: T) {
    const { assert!(space(size_of::<T>()) <= CONTROL_BYTES) };
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = space(size_of::<T>()) as _;
    // SAFETY: the buffer is aligned, and has room for one header with this content.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(content);
    }
}

/// Has the kernel say where packets were sent to.
pub(crate) fn want_destinations(socket: &impl AsRawFd, is_v6: bool) -> io::Result<()> {
    let on: libc::c_int = 1;
    match is_v6 {
        true => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &on),
        false => set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, &on),
    }
}

/// By which interface IPv4 datagrams to groups are sent; 0 is up to the system.
pub(crate) fn set_multicast_interface_v4(io: &IoHandle, interface: u32) -> io::Result<()> {
    let none = libc::in_addr { s_addr: 0 };
    let request = libc::ip_mreqn {
        imr_multiaddr: none,
        imr_address: none,
        imr_ifindex: libc::c_int::try_from(interface).unwrap_or(libc::c_int::MAX),
    };
    set_option(&io.fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)
}

pub(super) fn set_option<T>(
    socket: &impl AsRawFd,
    level: i32,
    name: i32,
    value: &T,
) -> io::Result<()> {
    let len = size_of_val(value) as libc::socklen_t;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: the value lives through the call, and is as long as we say.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_as_it_was_written() {
        for (ip, interface) in [("127.0.0.2", 0), ("::1", 0), ("fe80::1", 7)] {
            let from = LocalAddress { ip: ip.parse().unwrap(), interface };
            let mut control = Control::EMPTY;
            let mut vector = vector(std::ptr::null_mut(), 0);
            let mut header = message(&mut vector);
            put_source(&mut header, &mut control, from);
            // SAFETY: the header is as `recvmsg` would leave it.
            assert_eq!(unsafe { destination(&header) }, Some(from));
        }
    }
}
