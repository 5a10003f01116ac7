//! Whether this process may have a ring that works: version floor, ladder of flags and sizes,
//! features, operations, and a self-test of the behaviour that the driver rests on.
//!
//! The self-test runs on the first ring, and its verdict holds for the process. What can change
//! (limits on memory and descriptors) is judged anew each time.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use io_uring::squeue::Entry;
use io_uring::{cqueue, opcode};

use super::encode;
use super::refusal;
use super::ring::{LADDER, Ring, Setup, Timeout};
use crate::driver::Refused;
use crate::driver::op::Op;

/// The ring is not made smaller than this, unless smaller was asked for.
const ENTRIES_MIN: u32 = 8;
/// Completion entries per submission entry: an overflow costs an allocation per completion.
pub(super) const COMPLETIONS_PER_ENTRY: u32 = 8;
/// A step of the self-test takes microseconds; a ring that needs this long does not work.
const STEP_PATIENCE: Timeout = Timeout::After(1_000_000_000);

/// What differs among the kernels that pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// `enter` takes an absolute timeout (Linux 6.12).
    pub(super) absolute_timeout: bool,
}

/// Opens a ring of `entries`, or fewer where memory is short.
pub(super) fn open(entries: u32) -> Result<(Ring, Capabilities), Refused> {
    let release = refusal::kernel_release();
    if refusal::version(&release).is_none_or(|version| version < refusal::VERSION_FLOOR) {
        return Err(refusal::too_old(&release));
    }
    let completions = entries.saturating_mul(COMPLETIONS_PER_ENTRY);
    let ring = climb(entries, completions, &LADDER)?;
    let capabilities = verdict(&ring)?;
    Ok((ring, capabilities))
}

/// Opens a ring with the first of `ladder` that the kernel knows.
pub(super) fn climb(entries: u32, completions: u32, ladder: &[Setup]) -> Result<Ring, Refused> {
    let (mut entries, mut completions) = (entries, completions);
    let mut rungs = ladder.iter();
    let mut rung = rungs.next();
    let mut errno = libc::EINVAL;
    while let Some(&setup) = rung {
        errno = match Ring::open(setup, entries, completions) {
            Ok(ring) => return Ok(ring),
            Err(errno) => errno,
        };
        match errno {
            libc::EINVAL => rung = rungs.next(),
            // Locked memory answers EAGAIN where the whole process is locked (mlockall).
            libc::ENOMEM | libc::EAGAIN if entries > ENTRIES_MIN => {
                entries /= 2;
                completions /= 2;
            }
            _ => break,
        }
    }
    Err(refusal::setup(errno))
}

/// The cached verdict of this process; the first caller finds it, on its own ring.
fn verdict(ring: &Ring) -> Result<Capabilities, Refused> {
    static VERDICT: Mutex<Option<Result<Capabilities, Refused>>> = Mutex::new(None);
    let mut cached = VERDICT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(verdict) = &*cached {
        return verdict.clone();
    }
    let verdict = examine(ring);
    let passing = matches!(&verdict, Err(refused) if refusal::may_pass(refused.errno));
    if !passing {
        *cached = Some(verdict.clone());
    }
    verdict
}

/// Checks one ring.
pub(super) fn examine(ring: &Ring) -> Result<Capabilities, Refused> {
    require_features(ring)?;
    require_operations(ring)?;
    SelfTest { ring }.run()
}

fn require_features(ring: &Ring) -> Result<(), Refused> {
    let parameters = ring.parameters();
    let features = [
        ("NODROP", parameters.is_feature_nodrop()),
        ("SUBMIT_STABLE", parameters.is_feature_submit_stable()),
        ("FAST_POLL", parameters.is_feature_fast_poll()),
        ("EXT_ARG", parameters.is_feature_ext_arg()),
        ("CQE_SKIP", parameters.is_feature_skip_cqe_on_success()),
    ];
    match features.iter().find(|(_, present)| !present) {
        Some((name, _)) => Err(refusal::lacks("feature", name)),
        None => Ok(()),
    }
}

fn require_operations(ring: &Ring) -> Result<(), Refused> {
    let probe = ring
        .probe()
        .map_err(|errno| refusal::call("io_uring_register", errno, "asking for operations"))?;
    let operations = [
        ("RECV", opcode::Recv::CODE),
        ("SEND", opcode::Send::CODE),
        ("RECVMSG", opcode::RecvMsg::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("READV", opcode::Readv::CODE),
        ("WRITEV", opcode::Writev::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
    ];
    match operations.iter().find(|(_, code)| !probe.is_supported(*code)) {
        Some((name, _)) => Err(refusal::lacks("operation", name)),
        None => Ok(()),
    }
}

/// The steps, in order. Each leaves the ring empty. A step that fails leaks what its entry
/// points to, because the kernel may still have it.
struct SelfTest<'ring> {
    ring: &'ring Ring,
}

impl SelfTest<'_> {
    fn run(&self) -> Result<Capabilities, Refused> {
        self.no_operation()?;
        self.receive()?;
        self.cancel()?;
        self.doorbell()?;
        Ok(Capabilities { absolute_timeout: self.has_absolute_timeout() })
    }

    fn no_operation(&self) -> Result<(), Refused> {
        const STEP: &str = "no-operation";
        self.put(opcode::Nop::new().build(), 11, STEP)?;
        self.expect(11, |cqe| cqe.result() == 0, STEP)
    }

    /// A receive waits for its byte.
    fn receive(&self) -> Result<(), Refused> {
        const STEP: &str = "receive";
        let (mut near, far) = socket_pair()?;
        let byte = Box::into_raw(Box::new(0u8));
        self.put(receive_into(&far, byte), 21, STEP)?;
        self.expect_nothing(STEP)?;
        near.write_all(b"r").map_err(|_| failed(STEP, "no send"))?;
        self.expect(21, |cqe| cqe.result() == 1, STEP)?;
        // SAFETY: the box from above; the receive has ended.
        match *unsafe { Box::from_raw(byte) } {
            b'r' => Ok(()),
            _ => Err(failed(STEP, "the byte is not the one sent")),
        }
    }

    /// A cancelled receive says so, its cancel says nothing, and a byte sent later stays.
    fn cancel(&self) -> Result<(), Refused> {
        const STEP: &str = "cancel";
        let (mut near, mut far) = socket_pair()?;
        let byte = Box::into_raw(Box::new(0u8));
        self.put(receive_into(&far, byte), 31, STEP)?;
        self.put(encode::cancel(31), 32, STEP)?;
        self.expect(31, |cqe| cqe.result() == -libc::ECANCELED, STEP)?;
        self.expect_nothing(STEP)?;
        // SAFETY: the box from above; the receive has ended.
        drop(unsafe { Box::from_raw(byte) });
        near.write_all(b"c").map_err(|_| failed(STEP, "no send"))?;
        let mut kept = [0u8];
        match far.read(&mut kept) {
            Ok(1) if kept == *b"c" => Ok(()),
            _ => Err(failed(STEP, "a byte sent after the cancel is gone")),
        }
    }

    /// A standing poll of an eventfd fires for each write.
    fn doorbell(&self) -> Result<(), Refused> {
        const STEP: &str = "doorbell";
        let doorbell = eventfd()?;
        self.put(encode::doorbell(doorbell.as_raw_fd()), 41, STEP)?;
        self.expect_nothing(STEP)?;
        for _ in 0..2 {
            ring_bell(&doorbell);
            let rang = |cqe: &cqueue::Entry| {
                cqe.result() & i32::from(libc::POLLIN) != 0 && cqueue::more(cqe.flags())
            };
            self.expect(41, rang, STEP)?;
            silence(&doorbell);
        }
        self.put(encode::cancel(41), 42, STEP)?;
        let ended =
            |cqe: &cqueue::Entry| cqe.result() == -libc::ECANCELED && !cqueue::more(cqe.flags());
        self.expect(41, ended, STEP)
    }

    fn has_absolute_timeout(&self) -> bool {
        // A time long past: a kernel that knows the flag has nothing to wait for.
        self.ring.enter(0, Some(Timeout::At(0))) != Err(libc::EINVAL)
    }

    fn put(&self, entry: Entry, user_data: u64, step: &'static str) -> Result<(), Refused> {
        let entry = entry.user_data(user_data);
        // SAFETY: the steps keep, or leak, what their entries point to.
        if unsafe { self.ring.push(&entry) } {
            return Ok(());
        }
        self.enter(0, step)?;
        // SAFETY: as above.
        match unsafe { self.ring.push(&entry) } {
            true => Ok(()),
            false => Err(failed(step, "the kernel takes no entries")),
        }
    }

    fn expect(
        &self,
        user_data: u64,
        is_right: impl Fn(&cqueue::Entry) -> bool,
        step: &'static str,
    ) -> Result<(), Refused> {
        match self.completion(step)? {
            cqe if cqe.user_data() == user_data && is_right(&cqe) => Ok(()),
            cqe => Err(surprise(step, cqe)),
        }
    }

    fn expect_nothing(&self, step: &'static str) -> Result<(), Refused> {
        self.enter(0, step)?;
        match self.ring.pop() {
            None => Ok(()),
            Some(cqe) => Err(surprise(step, cqe)),
        }
    }

    /// The next completion, waited for if need be.
    fn completion(&self, step: &'static str) -> Result<cqueue::Entry, Refused> {
        if let Some(cqe) = self.ring.pop() {
            return Ok(cqe);
        }
        self.enter(1, step)?;
        let no_answer = || failed(step, "no completion within a second");
        self.ring.pop().ok_or_else(no_answer)
    }

    fn enter(&self, minimum: u32, step: &'static str) -> Result<(), Refused> {
        let patience = (minimum > 0).then_some(STEP_PATIENCE);
        loop {
            match self.ring.enter(minimum, patience) {
                Ok(_) if self.ring.staged() == 0 => return Ok(()),
                Err(libc::ETIME) => return Ok(()),
                Ok(0) => return Err(failed(step, "the kernel takes no entries")),
                Ok(_) | Err(libc::EINTR) => {}
                Err(errno) => {
                    return Err(refusal::call("io_uring_enter", errno, step));
                }
            }
        }
    }
}

fn receive_into(socket: &UnixStream, byte: *mut u8) -> Entry {
    let receive = Op::Recv { fd: socket.as_raw_fd(), buffer: byte, len: 1, flags: 0 };
    encode::operation(&receive)
}

fn failed(step: &'static str, what: &str) -> Refused {
    refusal::self_test(step, what)
}

fn surprise(step: &'static str, cqe: cqueue::Entry) -> Refused {
    let (user_data, result, flags) = (cqe.user_data(), cqe.result(), cqe.flags());
    let what = format!("user data {user_data:#x} completed with {result}, flags {flags:#x}");
    refusal::self_test(step, &what)
}

fn socket_pair() -> Result<(UnixStream, UnixStream), Refused> {
    let pair = UnixStream::pair().and_then(|(near, far)| {
        far.set_nonblocking(true)?;
        Ok((near, far))
    });
    pair.map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        refusal::call("socketpair", errno, "self-test")
    })
}

fn eventfd() -> Result<OwnedFd, Refused> {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        let error = std::io::Error::last_os_error();
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        return Err(refusal::call("eventfd", errno, "self-test"));
    }
    // SAFETY: the descriptor is new and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds one to an eventfd; a full counter rings just as well.
pub(super) fn ring_bell(doorbell: &OwnedFd) {
    let one = 1u64;
    // SAFETY: eight readable bytes.
    unsafe { libc::write(doorbell.as_raw_fd(), (&raw const one).cast(), 8) };
}

/// Sets a non-blocking eventfd back to zero.
pub(super) fn silence(doorbell: &OwnedFd) {
    let mut count = 0u64;
    // SAFETY: eight writable bytes.
    unsafe { libc::read(doorbell.as_raw_fd(), (&raw mut count).cast(), 8) };
}
