//! What a process has used, as the kernel tells it from outside.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Processes with more threads are not asked for their system calls: it takes a descriptor each.
const MOST_COUNTED_THREADS: usize = 256;

/// The tracepoint that every system call passes.
const SYS_ENTER: [&str; 2] = [
    "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id",
    "/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter/id",
];

/// CPU time and context switches so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Of all its threads, those that have ended too.
    pub cpu: Duration,
    /// Times its threads that still are gave up their core, or were taken off it.
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

/// Memory in user space.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Resident: heap, stacks, and what is mapped from files.
    pub resident_bytes: u64,
    /// Page tables; the kernel's, but it is the layout of user memory that decides them.
    pub page_table_bytes: u64,
}

pub fn usage(pid: u32) -> io::Result<Usage> {
    let mut usage = Usage { cpu: cpu_time(pid)?, ..Usage::default() };
    for thread in threads(pid)? {
        // A thread may end between the listing and the look.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")) else {
            continue;
        };
        usage.voluntary_switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        usage.involuntary_switches += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(usage)
}

pub fn memory(pid: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let bytes = |name| field(&status, name).unwrap_or(0) * 1024;
    Ok(Memory { resident_bytes: bytes("VmRSS:"), page_table_bytes: bytes("VmPTE:") })
}

fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// The number behind a name at the beginning of a line.
fn field(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// By the process's CPU clock, which is exact to the nanosecond, where /proc counts ticks.
fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: the clock's number is written to a local.
    let status = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(status));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written to a local.
    if unsafe { libc::clock_gettime(clock, &mut time) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Counts the system calls of a process while it lives. It slows each by some tens of nanoseconds,
/// so nothing else is measured meanwhile.
pub struct SystemCalls {
    counters: Vec<OwnedFd>,
}

impl SystemCalls {
    /// Counts from now on, where the kernel allows it.
    pub fn count(pid: u32) -> io::Result<SystemCalls> {
        let id = SYS_ENTER.iter().find_map(|path| fs::read_to_string(path).ok());
        let id = id.and_then(|id| id.trim().parse().ok());
        let id = id.ok_or_else(|| io::Error::other("the kernel shows no tracepoints"))?;
        let threads = threads(pid)?;
        if threads.len() > MOST_COUNTED_THREADS {
            return Err(io::Error::other("too many threads to count the system calls of"));
        }
        let counters = threads.into_iter().map(|thread| open_counter(id, thread));
        Ok(SystemCalls { counters: counters.collect::<io::Result<_>>()? })
    }

    pub fn total(&self) -> io::Result<u64> {
        self.counters.iter().map(read_counter).sum()
    }
}

/// The part of `struct perf_event_attr` that its first version had (PERF_ATTR_SIZE_VER0): see
/// perf_event_open(2).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

fn open_counter(tracepoint: u64, thread: u32) -> io::Result<OwnedFd> {
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    const INHERIT: u64 = 1 << 1;
    let attributes = Attributes {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<Attributes>() as u32,
        config: tracepoint,
        flags: INHERIT,
        ..Attributes::default()
    };
    let (any_core, no_group) = (-1, -1);
    // SAFETY: the attributes live through the call and have the size that they say.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            thread as libc::pid_t,
            any_core,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn read_counter(counter: &OwnedFd) -> io::Result<u64> {
    let mut count = 0_u64;
    let len = mem::size_of_val(&count);
    // SAFETY: room for the count.
    let read = unsafe { libc::read(counter.as_raw_fd(), (&raw mut count).cast(), len) };
    if read == len as isize { Ok(count) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status =
            "VmRSS:\t  12 kB\nnonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t9\n";
        assert_eq!(field(status, "VmRSS:"), Some(12));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(9));
        assert_eq!(field(status, "VmPTE:"), None);
    }

    #[test]
    fn cpu_time_is_what_was_burnt() {
        let before = usage(std::process::id()).unwrap().cpu;
        let start = Instant::now();
        while usage(std::process::id()).unwrap().cpu - before < Duration::from_millis(20) {
            assert!(start.elapsed() < Duration::from_secs(60), "the CPU clock stands still");
        }
        assert!(memory(std::process::id()).unwrap().resident_bytes > 0);
    }
}
