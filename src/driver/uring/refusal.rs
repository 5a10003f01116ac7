//! Why there is no ring, in one line that names the remedy.

use std::ffi::CStr;
use std::fs;

use crate::driver::Refused;
use crate::remedy::{remedy_of, soft_limit};

/// Older kernels lack DEFER_TASKRUN and had bugs in waits and completions that cost hangs.
pub(super) const VERSION_FLOOR: (u32, u32) = (6, 1);

const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

/// The kernel's release, as `uname -r` prints it.
pub(super) fn kernel_release() -> String {
    // SAFETY: a `utsname` is arrays of bytes, for which zeros are valid.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `name` may be written; the kernel ends each of its strings with a zero.
    let release = unsafe {
        libc::uname(&mut name);
        CStr::from_ptr(name.release.as_ptr())
    };
    release.to_string_lossy().into_owned()
}

/// The first two numbers of a release.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?))
}

pub(super) fn too_old(release: &str) -> Refused {
    let (major, minor) = VERSION_FLOOR;
    Refused {
        call: "uname",
        errno: 0,
        reason: format!(
            "Linux {release} is older than {major}.{minor}, the oldest whose io_uring is used; \
             upgrade the kernel, or use the epoll driver"
        ),
    }
}

/// `io_uring_setup`, or the mapping of its queues, failed.
pub(super) fn setup(errno: i32) -> Refused {
    let disabled = fs::read_to_string(SYSCTL).unwrap_or_default();
    let reason = match errno {
        libc::ENOMEM | libc::EAGAIN => {
            let limit = locked_memory_limit();
            format!(
                "no memory for even a small ring; its queues count against RLIMIT_MEMLOCK, \
                 which is {limit} bytes: raise it (ulimit -l, LimitMEMLOCK=) or grant \
                 CAP_IPC_LOCK"
            )
        }
        libc::EPERM => not_permitted(disabled.trim()),
        libc::EINVAL => "the kernel knows none of the flags asked for, not even CLAMP and \
                         CQSIZE; use a kernel with a complete io_uring"
            .to_owned(),
        errno => remedy(errno, "io_uring"),
    };
    Refused { call: "io_uring_setup", errno, reason }
}

/// Another system call failed, while doing what `purpose` says.
pub(super) fn call(call: &'static str, errno: i32, purpose: &str) -> Refused {
    let reason = match errno {
        libc::EPERM | libc::ENOSYS => format!(
            "refused in `{purpose}` although io_uring_setup is allowed: a seccomp or container \
             profile forbids it; allow io_uring_setup, io_uring_enter and io_uring_register \
             together"
        ),
        errno => format!("failed in `{purpose}`: {}", remedy(errno, call)),
    };
    Refused { call, errno, reason }
}

pub(super) fn lacks(kind: &str, name: &str) -> Refused {
    Refused {
        call: "io_uring_register",
        errno: 0,
        reason: format!(
            "this io_uring lacks the {kind} {name}, though the kernel's version promises it \
             (gVisor, or a restricted ring?); use the epoll driver"
        ),
    }
}

pub(super) fn self_test(step: &str, what: &str) -> Refused {
    Refused {
        call: "self-test",
        errno: 0,
        reason: format!(
            "step `{step}` failed: {what}; this kernel's io_uring is not to be trusted, use \
             the epoll driver"
        ),
    }
}

/// Whether a later attempt may fare better: the cause is a limit, not a policy.
pub(super) fn may_pass(errno: i32) -> bool {
    let limits = [libc::ENOMEM, libc::EAGAIN, libc::EMFILE, libc::ENFILE];
    limits.contains(&errno)
}

/// EPERM from `io_uring_setup`: the sysctl has two ways to say no, and seccomp is the third.
fn not_permitted(disabled: &str) -> String {
    match disabled {
        "1" => "sysctl kernel.io_uring_disabled is 1: add the process to the group of sysctl \
                kernel.io_uring_group, or set kernel.io_uring_disabled=0"
            .to_owned(),
        "2" => "sysctl kernel.io_uring_disabled is 2: set kernel.io_uring_disabled=0".to_owned(),
        _ => "a seccomp or container profile forbids it: allow io_uring_setup, io_uring_enter \
              and io_uring_register"
            .to_owned(),
    }
}

fn remedy(errno: i32, call: &str) -> String {
    match errno {
        libc::ENOSYS => "the kernel was built without io_uring, or gVisor or a seccomp profile \
                         hides it; allow the io_uring system calls"
            .to_owned(),
        libc::EACCES => "a security module (SELinux, AppArmor) forbids it; allow the io_uring \
                         class for this program"
            .to_owned(),
        _ => remedy_of(errno)
            .unwrap_or_else(|| format!("{call} does not work here; use the epoll driver")),
    }
}

fn locked_memory_limit() -> String {
    // SAFETY: the limit may be written.
    soft_limit(|limit| unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, limit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_all_shapes_are_read() {
        assert_eq!(version("6.18.44-fc-v445"), Some((6, 18)));
        assert_eq!(version("6.1"), Some((6, 1)));
        assert_eq!(version("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(version("10.0-rc1"), Some((10, 0)));
        assert_eq!(version("6.6-1-MANJARO"), Some((6, 6)));
        assert_eq!(version("strange"), None);
        assert!(version("5.19.17").unwrap() < VERSION_FLOOR);
        assert!(version("6.1.0").unwrap() >= VERSION_FLOOR);
        assert!(version(&kernel_release()).is_some());
    }

    #[test]
    fn each_reason_is_one_line_and_names_its_remedy() {
        let cases = [
            (too_old("5.15.0-91-generic"), "upgrade the kernel"),
            (setup(libc::ENOMEM), "RLIMIT_MEMLOCK"),
            (setup(libc::ENOSYS), "gVisor"),
            (setup(libc::EMFILE), "RLIMIT_NOFILE"),
            (setup(libc::ENFILE), "fs.file-max"),
            (setup(libc::EACCES), "SELinux"),
            (setup(libc::EINVAL), "CQSIZE"),
            (setup(libc::EPERM), "allow io_uring_setup"),
            (lacks("feature", "NODROP"), "use the epoll driver"),
            (call("io_uring_enter", libc::EPERM, "step"), "seccomp"),
            (self_test("cancel", "no answer"), "`cancel`"),
        ];
        for (refused, remedy) in cases {
            let line = refused.to_string();
            assert!(line.contains(remedy), "{line}");
            assert!(!line.contains('\n') && !line.contains("  "), "{line}");
        }
    }

    #[test]
    fn the_sysctl_is_told_from_seccomp() {
        assert!(not_permitted("2").contains("kernel.io_uring_disabled=0"));
        assert!(not_permitted("1").contains("kernel.io_uring_group"));
        assert!(not_permitted("0").contains("seccomp"));
        assert!(not_permitted("").contains("seccomp"));
    }
}
