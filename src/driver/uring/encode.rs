//! An operation as a submission queue entry.

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd};

use crate::driver::op::Op;

/// Arm the poll at once instead of trying first: callers have tried, or know better.
const RECVSEND_POLL_FIRST: u16 = 1 << 0;

/// The most that one call moves, in bytes: Linux's own limit for read and write.
const TRANSFER_MAX: usize = 0x7fff_f000;

/// The offset that stands for the descriptor's own position, if it has one.
const HERE: u64 = u64::MAX;

/// The entry for `op`; its user data is for the caller to set.
#[inline]
pub(super) fn operation(op: &Op) -> Entry {
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
        Op::Read { fd, buffers, count } => {
            opcode::Readv::new(Fd(fd), buffers, count as u32).offset(HERE).build()
        }
        Op::Write { fd, buffers, count } => {
            opcode::Writev::new(Fd(fd), buffers, count as u32).offset(HERE).build()
        }
        // A poll mask is a set of bits, not a number: its top bit is no sign.
        Op::Poll { fd, events } => opcode::PollAdd::new(Fd(fd), u32::from(events as u16)).build(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::null_mut;

    /// The fields `ioprio` and `msg_flags` of the kernel's structure.
    fn fields(op: Op) -> (u16, i32) {
        let entry = operation(&op);
        let entry = (&raw const entry).cast::<u8>();
        // SAFETY: both fields lie within the 64 bytes of an entry, suitably aligned.
        unsafe { (entry.add(2).cast::<u16>().read(), entry.add(28).cast::<i32>().read()) }
    }

    #[test]
    fn transfers_poll_first_and_sends_raise_no_signal() {
        let (fd, len, flags) = (3, 1 << 40, libc::MSG_PEEK);
        let (message, buffer) = (null_mut(), null_mut());
        let peek = (RECVSEND_POLL_FIRST, libc::MSG_PEEK);
        let quiet = (RECVSEND_POLL_FIRST, libc::MSG_NOSIGNAL);
        assert_eq!(fields(Op::Recv { fd, buffer, len, flags }), peek);
        assert_eq!(fields(Op::RecvMsg { fd, message, flags }), peek);
        assert_eq!(fields(Op::Send { fd, buffer, len }), quiet);
        assert_eq!(fields(Op::SendMsg { fd, message }), quiet);
        assert_eq!(transfer_len(1 << 40), 0x7fff_f000);
        assert_eq!(transfer_len(0), 0);
    }
}
