//! What ICMP says of datagrams that were not delivered, on sockets without a peer (`IP_RECVERR`,
//! `ip(7)`).
//!
//! ```text
//!   ICMP message ----> error queue: number, destination    POLLERR for as long as there is one
//!                 `--> one pending number                  the next call fails with it, whatever
//!                                                          that call has to do with it
//! ```
//!
//! The queue is what counts. Who receives takes one report from it before each attempt. Who sends
//! and gets the pending number tries again, for it is about a datagram before; its report stays for
//! who receives.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use socket2::{SockAddr, SockAddrStorage};

use super::IoHandle;
use super::datagram::{controls, set_option};
use super::message::{message, vector};

/// For one report, with the address of who has sent it, and where the datagram was sent from.
const CONTROL_BYTES: usize = 256;

#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// One report. As an error it is inside of an [`io::Error`].
#[derive(Debug)]
pub(crate) struct Undelivered {
    /// The system's number for what ICMP says.
    pub(crate) errno: i32,
    /// Where the datagram was sent to.
    pub(crate) to: SocketAddr,
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to {}: {}", self.to, io::Error::from_raw_os_error(self.errno))
    }
}

impl Error for Undelivered {}

/// Has the kernel queue reports.
pub(crate) fn report_undelivered(socket: &impl AsRawFd, is_v6: bool) -> io::Result<()> {
    let on: libc::c_int = 1;
    // One of IPv6 may send to IPv4 addresses too.
    set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, &on)?;
    match is_v6 {
        true => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, &on),
        false => Ok(()),
    }
}

impl IoHandle {
    /// Takes the oldest report, if there is one. Never waits.
    pub(super) fn take_undelivered(&self) -> io::Result<Option<Undelivered>> {
        loop {
            let mut control = Control([0; CONTROL_BYTES]);
            let mut name = SockAddrStorage::zeroed();
            let mut vector = vector(std::ptr::null_mut(), 0);
            let mut header = message(&mut vector);
            header.msg_name = (&raw mut name).cast();
            header.msg_namelen = name.size_of();
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
            let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
            // SAFETY: what the header names lives in this frame.
            if unsafe { libc::recvmsg(self.as_raw(), &mut header, flags) } < 0 {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock => return Ok(None),
                    _ => return Err(error),
                }
            }
            // SAFETY: the kernel has filled in the address.
            let to = unsafe { SockAddr::new(name, header.msg_namelen) }.as_socket();
            // SAFETY: the header is as the kernel left it, and the buffer is there.
            let errno = unsafe { icmp_error(&header) };
            if let (Some(errno), Some(to)) = (errno, to) {
                return Ok(Some(Undelivered { errno, to }));
            }
        }
    }
}

/// What a message of ICMP has become. This machine's own errors come by this way too, and were
/// told to who sent.
///
/// # Safety
///
/// As of `controls`.
unsafe fn icmp_error(message: &libc::msghdr) -> Option<i32> {
    // SAFETY: the caller's word.
    unsafe { controls(message) }.find_map(|(level, kind, data)| match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
            // SAFETY: a control message of this kind begins with this.
            let error = unsafe { data.cast::<libc::sock_extended_err>().read_unaligned() };
            let is_icmp = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6];
            is_icmp.contains(&error.ee_origin).then_some(error.ee_errno as i32)
        }
        _ => None,
    })
}
