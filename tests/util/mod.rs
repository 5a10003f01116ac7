//! What the tests share: themselves again in a child process, random numbers that can be had
//! again, descriptors counted, limits and system calls taken away.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use cosocket::net::TcpStream;

/// A test that ends, limits or cripples its process runs itself again in a child.
pub mod child {
    use std::io::Write;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Output};

    const VARIABLE: &str = "COSOCKET_TEST_CHILD";

    /// In the test named `test`: runs `body` in a child process and returns how that went. In
    /// the child, which is the same test of the same program: runs `body` and exits with 0.
    pub fn run(test: &str, body: impl FnOnce()) -> Output {
        if !is_one(test) {
            return start(test, &[]);
        }
        body();
        let _ = std::io::stdout().flush();
        std::process::exit(0);
    }

    /// As [`run`], and the child must succeed.
    pub fn passes(test: &str, body: impl FnOnce()) {
        check(&run(test, body));
    }

    /// Whether this process is the child of the test named `test`.
    pub fn is_one(test: &str) -> bool {
        std::env::var(VARIABLE).is_ok_and(|name| name == test)
    }

    /// Starts the child, with further environment variables, and waits for its end.
    pub fn start(test: &str, environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(VARIABLE, test);
        command.envs(environment.iter().copied());
        end_with_us(&mut command);
        let output = command.output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.contains("running 1 test"), "no test is named {test}: {stdout}");
        output
    }

    /// Sees to it that a process of ours is killed if this thread is, for a hang perhaps.
    pub fn end_with_us(command: &mut Command) {
        // SAFETY: the closure makes one system call.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
    }

    /// The child succeeded; else what it said.
    pub fn check(output: &Output) {
        assert!(output.status.success(), "{}", describe(output));
    }

    pub fn describe(output: &Output) -> String {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        format!("{}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", output.status)
    }
}

/// Makes the call until it fails. A child that another test has just forked has what this one closed,
/// too, until it comes to its `exec`.
pub fn first_error<T, E>(mut call: impl FnMut() -> Result<T, E>) -> E {
    loop {
        if let Err(error) = call() {
            return error;
        }
    }
}

/// Random numbers (SplitMix64). The seed is printed; `COSOCKET_SEED` sets it.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        let seed = match std::env::var("COSOCKET_SEED") {
            Ok(seed) => seed.parse().expect("COSOCKET_SEED takes a number"),
            Err(_) => {
                let time = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
                time.as_nanos() as u64 ^ u64::from(std::process::id()) << 40
            }
        };
        println!("COSOCKET_SEED={seed}");
        Random(seed)
    }

    /// Another sequence, for another coroutine.
    pub fn split(&mut self) -> Random {
        Random(self.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A fraction of the work, for runs under sanitizers and emulators.
pub fn is_quick() -> bool {
    std::env::var_os("COSOCKET_QUICK").is_some()
}

/// How many descriptors this process has open.
pub fn descriptors() -> usize {
    // The directory's own does not count.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Raises the limit of descriptors to `wanted`, or as far as it goes; what it is then.
pub fn raise_nofile(wanted: u64) -> u64 {
    let (soft, hard) = limit(libc::RLIMIT_NOFILE);
    if soft >= wanted {
        return soft;
    }
    if set_limit(libc::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_err() {
        set_limit(libc::RLIMIT_NOFILE, wanted.min(hard), hard).unwrap();
    }
    limit(libc::RLIMIT_NOFILE).0
}

/// A resource limit: soft, hard.
pub fn limit(resource: libc::__rlimit_resource_t) -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit may be written.
    assert_eq!(unsafe { libc::getrlimit(resource, &mut limit) }, 0);
    (limit.rlim_cur, limit.rlim_max)
}

pub fn set_limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the limit is read during the call.
    match unsafe { libc::setrlimit(resource, &limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Changes the soft limit only, so that it can be raised again.
pub fn set_soft_limit(resource: libc::__rlimit_resource_t, soft: u64) {
    set_limit(resource, soft, limit(resource).1).unwrap();
}

/// Leaves room for `room` more descriptors. What is returned fills the gaps between those open.
pub fn leave_descriptors(room: u64) -> Vec<OwnedFd> {
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = numbers.map(|name| name.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let highest: u64 = numbers.max().unwrap();
    set_soft_limit(libc::RLIMIT_NOFILE, highest + 1);
    let stdin = io::stdin();
    let gaps = std::iter::from_fn(|| stdin.as_fd().try_clone_to_owned().ok()).collect();
    set_soft_limit(libc::RLIMIT_NOFILE, highest + 1 + room);
    gaps
}

/// From here on, system call `call` fails with `errno` on this thread and those that it starts.
pub fn refuse_system_call(call: libc::c_long, errno: i32) {
    let statement = |code: u32, yes: u8, no: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: yes,
        jf: no,
        k: value,
    };
    // The number is the first word of what a filter sees.
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call, and is as long as it says.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}

/// The number of the calling OS thread: which worker this is.
pub fn os_thread() -> i32 {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

/// Two ends of a stream inside this process: AF_UNIX, for where that makes no difference.
pub fn pair() -> (TcpStream, TcpStream) {
    let (one, other) = UnixStream::pair().unwrap();
    (TcpStream::from(OwnedFd::from(one)), TcpStream::from(OwnedFd::from(other)))
}

/// Two ends of a TCP connection, by std's blocking calls.
pub fn tcp_pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let one = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = one.local_addr().unwrap();
    // A stranger may connect too: one that waits for a server of its own on this port, say.
    let mut accepted = listener.incoming().map(Result::unwrap);
    let other = accepted.find(|stream| stream.peer_addr().is_ok_and(|peer| peer == ours));
    (one, other.unwrap())
}

/// How many bytes wait to be read.
pub fn readable_bytes(socket: &impl AsRawFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the count may be written.
    assert_eq!(unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &mut count) }, 0);
    count as usize
}

/// Lets others run until `condition` holds: in a coroutine its siblings, on a thread the rest.
pub fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        cosocket::thread::yield_now();
    }
}
