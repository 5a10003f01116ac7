//! An operation as a submission queue entry.

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd};

use super::probe::Capabilities;
use crate::driver::op::Op;

/// Arm the poll at once instead of trying first: callers have tried, or know better.
const RECVSEND_POLL_FIRST: u16 = 1 << 0;
const ACCEPT_POLL_FIRST: u16 = 1 << 2;

/// The most that one call moves, in bytes: Linux's own limit for read and write.
const TRANSFER_MAX: usize = 0x7fff_f000;

/// The entry for `op`; its user data is for the caller to set.
pub(super) fn operation(op: &Op, capabilities: Capabilities) -> Entry {
    match *op {
        Op::Recv { fd, buffer, len, flags } => opcode::Recv::new(Fd(fd), buffer, transfer_len(len))
            .flags(flags)
            .ioprio(RECVSEND_POLL_FIRST)
            .build(),
        Op::Send { fd, buffer, len } => opcode::Send::new(Fd(fd), buffer, transfer_len(len))
            .flags(libc::MSG_NOSIGNAL)
            .ioprio(RECVSEND_POLL_FIRST)
            .build(),
        Op::RecvMsg { fd, message, flags } => opcode::RecvMsg::new(Fd(fd), message)
            .flags(flags as u32)
            .ioprio(RECVSEND_POLL_FIRST)
            .build(),
        Op::SendMsg { fd, message } => opcode::SendMsg::new(Fd(fd), message)
            .flags(libc::MSG_NOSIGNAL as u32)
            .ioprio(RECVSEND_POLL_FIRST)
            .build(),
        Op::Accept { fd, address, len } => {
            let poll_first = capabilities.accept_poll_first;
            accept(fd, address, len, poll_first)
        }
        Op::Connect { fd, address, len } => {
            opcode::Connect::new(Fd(fd), address.cast(), len).build()
        }
        // A poll mask is a set of bits, not a number: its top bit is no sign.
        Op::Poll { fd, events } => opcode::PollAdd::new(Fd(fd), u32::from(events as u16)).build(),
    }
}

pub(super) fn accept(
    fd: i32,
    address: *mut libc::sockaddr_storage,
    len: *mut libc::socklen_t,
    poll_first: bool,
) -> Entry {
    let mut entry =
        opcode::Accept::new(Fd(fd), address.cast(), len).flags(libc::SOCK_CLOEXEC).build();
    if poll_first {
        set_ioprio(&mut entry, ACCEPT_POLL_FIRST);
    }
    entry
}

/// A wake for every write to an eventfd, until its completion lacks the "more" flag.
pub(super) fn doorbell(fd: i32) -> Entry {
    opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build()
}

/// Cancels the operation that carries `target`; answers only if it could not.
pub(super) fn cancel(target: u64) -> Entry {
    opcode::AsyncCancel::new(target).build().flags(Flags::SKIP_SUCCESS)
}

/// Cancels all that the ring has.
pub(super) fn cancel_all() -> Entry {
    opcode::AsyncCancel2::new(CancelBuilder::any().all()).build().flags(Flags::SKIP_SUCCESS)
}

fn transfer_len(len: usize) -> u32 {
    len.min(TRANSFER_MAX) as u32
}

/// `io_uring_sqe` is `{ opcode: u8, flags: u8, ioprio: u16, .. }`; the crate's accept entry has
/// no setter for the third.
fn set_ioprio(entry: &mut Entry, ioprio: u16) {
    const { assert!(size_of::<Entry>() == 64 && align_of::<Entry>() >= align_of::<u16>()) };
    // SAFETY: an entry is the kernel's 64-byte structure, whose bytes 2 and 3 are `ioprio`.
    unsafe { (&raw mut *entry).cast::<u16>().add(1).write(ioprio) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::{null, null_mut};

    /// The fields `ioprio` and `msg_flags` of the kernel's structure.
    fn fields(op: Op) -> (u16, i32) {
        let capabilities = Capabilities { accept_poll_first: true, ..Capabilities::default() };
        let entry = operation(&op, capabilities);
        let entry = (&raw const entry).cast::<u8>();
        // SAFETY: both fields lie within the 64 bytes of an entry, suitably aligned.
        unsafe { (entry.add(2).cast::<u16>().read(), entry.add(28).cast::<i32>().read()) }
    }

    #[test]
    fn transfers_poll_first_and_sends_raise_no_signal() {
        let (fd, len, flags) = (3, 1 << 40, libc::MSG_PEEK);
        let (address, message) = (null_mut(), null_mut());
        let buffer = null_mut();
        let peek = (RECVSEND_POLL_FIRST, libc::MSG_PEEK);
        let quiet = (RECVSEND_POLL_FIRST, libc::MSG_NOSIGNAL);
        assert_eq!(fields(Op::Recv { fd, buffer, len, flags }), peek);
        assert_eq!(fields(Op::RecvMsg { fd, message, flags }), peek);
        assert_eq!(fields(Op::Send { fd, buffer, len }), quiet);
        assert_eq!(fields(Op::SendMsg { fd, message }), quiet);
        let accept = Op::Accept { fd, address, len: null_mut() };
        assert_eq!(fields(accept), (ACCEPT_POLL_FIRST, libc::SOCK_CLOEXEC));
        let connect = Op::Connect { fd, address: null(), len: 16 };
        assert_eq!(fields(connect), (0, 0));
        assert_eq!(transfer_len(1 << 40), 0x7fff_f000);
        assert_eq!(transfer_len(0), 0);
    }
}
