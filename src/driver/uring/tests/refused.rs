//! Machines that say no. Each test runs itself again in a child process, which spoils its own
//! machine and prints how opening a ring went.

use std::env;
use std::process::{Command, exit};

use super::*;

const CHILD: &str = "COSOCKET_TEST_CHILD";

/// In the child, spoils the machine, tries to open a ring, prints what came of it, and exits. In
/// the parent, runs this test as a child and gives its answer.
fn opened_where(test: &str, spoil: impl FnOnce()) -> String {
    if env::var_os(CHILD).is_some() {
        let doorbell = eventfd();
        spoil();
        match Uring::open(256, doorbell.as_fd()) {
            Ok(uring) => println!("answer: works, {}", uring.ring.parameters().sq_entries()),
            Err(refused) => println!("answer: {refused}"),
        }
        exit(0);
    }
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout).into_owned();
    let answer = output.lines().find_map(|line| line.split_once("answer: "));
    match answer {
        Some((_, answer)) => answer.to_owned(),
        None => panic!("{output}{}", String::from_utf8_lossy(&child.stderr)),
    }
}

#[test]
fn a_machine_that_is_not_spoilt() {
    let answer = opened_where("a_machine_that_is_not_spoilt", || {});
    assert_eq!(answer, "works, 256");
}

#[test]
fn seccomp_forbids_the_ring() {
    let answer = opened_where("seccomp_forbids_the_ring", || {
        forbid(libc::SYS_io_uring_setup, libc::EPERM);
    });
    assert!(answer.starts_with("io_uring_setup: "), "{answer}");
    assert!(answer.contains("seccomp"), "{answer}");
}

#[test]
fn seccomp_hides_the_ring() {
    let answer = opened_where("seccomp_hides_the_ring", || {
        forbid(libc::SYS_io_uring_setup, libc::ENOSYS);
    });
    assert!(answer.starts_with("io_uring_setup: "), "{answer}");
    assert!(answer.contains("gVisor"), "{answer}");
}

#[test]
fn seccomp_forbids_only_enter() {
    let answer = opened_where("seccomp_forbids_only_enter", || {
        forbid(libc::SYS_io_uring_enter, libc::EPERM);
    });
    assert!(answer.starts_with("io_uring_enter: "), "{answer}");
    assert!(answer.contains("`no-operation`") && answer.contains("seccomp"), "{answer}");
}

#[test]
fn seccomp_hides_only_enter() {
    let answer = opened_where("seccomp_hides_only_enter", || {
        forbid(libc::SYS_io_uring_enter, libc::ENOSYS);
    });
    assert!(answer.starts_with("io_uring_enter: "), "{answer}");
    assert!(answer.contains("seccomp"), "{answer}");
}

#[test]
fn seccomp_forbids_only_register() {
    let answer = opened_where("seccomp_forbids_only_register", || {
        forbid(libc::SYS_io_uring_register, libc::EPERM);
    });
    assert!(answer.starts_with("io_uring_register: "), "{answer}");
    assert!(answer.contains("seccomp"), "{answer}");
}

#[test]
fn no_locked_memory() {
    let answer = opened_where("no_locked_memory", || {
        limit(libc::RLIMIT_MEMLOCK as i32, 0);
        become_nobody();
    });
    // Before Linux 6.14 rings were not counted.
    if !answer.starts_with("works, ") {
        assert!(answer.starts_with("io_uring_setup: "), "{answer}");
        assert!(answer.contains("RLIMIT_MEMLOCK, which is 0 bytes"), "{answer}");
    }
}

#[test]
fn little_locked_memory_makes_a_small_ring() {
    let answer = opened_where("little_locked_memory_makes_a_small_ring", || {
        limit(libc::RLIMIT_MEMLOCK as i32, 16384);
        become_nobody();
    });
    // Only root can become a user whose other rings are known: none.
    if !is_root() {
        let is_plausible = answer.starts_with("works, ") || answer.contains("RLIMIT_MEMLOCK");
        return assert!(is_plausible, "{answer}");
    }
    let entries: u32 = answer.strip_prefix("works, ").expect(&answer).parse().unwrap();
    assert!((8..=256).contains(&entries), "{answer}");
}

#[test]
fn no_descriptors_left() {
    let answer = opened_where("no_descriptors_left", || {
        // SAFETY: no pointers: the next free descriptor's number is where the limit goes.
        let next = unsafe { libc::dup(0) };
        limit(libc::RLIMIT_NOFILE as i32, next as u64 + 1);
    });
    assert!(answer.contains("RLIMIT_NOFILE"), "{answer}");
}

/// The kernel answers `call` with `errno` on this thread from now on.
pub(super) fn forbid(call: libc::c_long, errno: i32) {
    let statement =
        |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        // The number of the system call is the first word of what a filter sees.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program points to a filter of its length; both outlive the calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program);
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
}

fn limit(resource: i32, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` may be read.
    assert_eq!(unsafe { libc::setrlimit(resource as _, &limit) }, 0);
}

/// Gives up root, and with it CAP_IPC_LOCK; whoever is not root has nothing to give up. Locked
/// memory is counted per user, so each child becomes another one.
fn become_nobody() {
    if is_root() {
        let user = 60_000 + std::process::id() % 5000;
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::setresuid(user, user, user) }, 0);
    }
}

fn is_root() -> bool {
    // SAFETY: no pointers.
    unsafe { libc::geteuid() == 0 }
}
