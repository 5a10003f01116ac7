//! What to do about an error that is a limit's.

use std::io;

/// What would remedy `error`, in one line, if it is a limit that was reached: which one, how far it
/// allows now, and how it is raised.
///
/// The errors of sockets, pipes and children are the system's own: `raw_os_error` tells what it
/// would with std, on which accept loops rely; so they cannot carry this text. (Errors of our own,
/// such as a [`Builder`](crate::Builder)'s, have it in their message.) For logs:
///
/// ```
/// use cosocket::io;
///
/// fn report(error: &io::Error) -> String {
///     match io::remedy(error) {
///         Some(remedy) => format!("{error}: {remedy}"),
///         None => error.to_string(),
///     }
/// }
///
/// let too_many = io::Error::from_raw_os_error(24); // EMFILE
/// assert!(report(&too_many).contains("ulimit -n"));
/// assert!(io::remedy(&io::Error::from_raw_os_error(32)).is_none()); // EPIPE
/// ```
pub fn remedy(error: &io::Error) -> Option<String> {
    error.raw_os_error().and_then(remedy_of)
}

/// As [`remedy`], of an `errno`.
pub(crate) fn remedy_of(errno: i32) -> Option<String> {
    let remedy = match errno {
        libc::EMFILE => {
            return Some(format!(
                "this process has all the descriptors RLIMIT_NOFILE allows ({}); raise it \
                 (ulimit -n, LimitNOFILE=)",
                descriptor_limit()
            ));
        }
        libc::ENFILE => "the system is out of descriptors; raise sysctl fs.file-max",
        libc::ENOMEM => "the kernel is out of memory; raise the memory limit",
        libc::ENOBUFS => {
            "the kernel has no memory for the socket's buffers; raise the memory limit, or sysctl \
             net.ipv4.tcp_mem and net.core.optmem_max"
        }
        libc::EADDRNOTAVAIL => {
            "it is no address of this machine, or all ports of sysctl \
             net.ipv4.ip_local_port_range are in use to this peer: widen that, or use several \
             addresses"
        }
        _ => return None,
    };
    Some(remedy.to_owned())
}

fn descriptor_limit() -> String {
    // SAFETY: the limit may be written.
    soft_limit(|limit| unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit) })
}

/// A limit, as `read` finds it.
pub(crate) fn soft_limit(read: impl FnOnce(&mut libc::rlimit) -> i32) -> String {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    match (read(&mut limit), limit.rlim_cur) {
        (0, libc::RLIM_INFINITY) => "unlimited".to_owned(),
        (0, soft) => soft.to_string(),
        _ => "unknown".to_owned(),
    }
}
