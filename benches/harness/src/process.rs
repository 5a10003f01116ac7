//! Servers and Redis as child processes, pinned, and ended when they are dropped.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::protocol::{KEYS, key, value};
use crate::machine;
use crate::servers::{Launch, Server, Settings};

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Process {
    child: Child,
    pub address: SocketAddr,
}

impl Process {
    /// Starts a server on the given cores, and waits until it listens.
    pub fn serve(
        server: &Server,
        settings: &Settings,
        directory: &Path,
        cores: &[usize],
    ) -> io::Result<Process> {
        let launch = server.launch(settings, directory).map_err(io::Error::other)?;
        Process::start(launch, cores)
    }

    fn start(launch: Launch, cores: &[usize]) -> io::Result<Process> {
        let Launch { mut command, address } = launch;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = spawn_pinned(&mut command, cores)?;
        let listening = match address {
            Some(address) => wait_for(address).map(|()| address),
            None => read_address(&mut child),
        };
        match listening {
            Ok(address) => Ok(Process { child, address }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On the given cores, and not longer alive than this process.
pub fn spawn_pinned(command: &mut Command, cores: &[usize]) -> io::Result<Child> {
    let cores = cores.to_vec();
    let prepare = move || {
        machine::pin_this_thread(&cores)?;
        // SAFETY: no pointers.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: both calls are plain system calls, which may be made between fork and exec.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

/// `listening ADDRESS`, as our servers print it.
fn read_address(child: &mut Child) -> io::Result<SocketAddr> {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut line)?;
    let address = line.trim().strip_prefix("listening ").and_then(|address| address.parse().ok());
    address.ok_or_else(|| io::Error::other("it ended before it listened"))
}

fn wait_for(address: SocketAddr) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A Redis of our own, that keeps nothing, with the keys of the benchmark in it.
pub fn start_redis(directory: &Path, cores: &[usize]) -> Result<Process, String> {
    let start = || {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let data = directory.join("redis");
        fs::create_dir_all(&data)?;
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
        command.arg(port.to_string()).arg("--dir").arg(data).stderr(Stdio::null());
        let process = Process::start(Launch { command, address: Some(address) }, cores)?;
        fill(address)?;
        Ok(process)
    };
    start().map_err(|error: io::Error| format!("redis-server: {error}; in Debian: redis-server"))
}

fn fill(address: SocketAddr) -> io::Result<()> {
    use io::Write;
    let mut commands = Vec::new();
    for index in 0..KEYS {
        let (key, value) = (key(index), value(index));
        write!(commands, "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), value.len())?;
        commands.extend_from_slice(&value);
        commands.extend_from_slice(b"\r\n");
    }
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&commands)?;
    let mut replies = BufReader::new(stream);
    for _ in 0..KEYS {
        let mut reply = String::new();
        replies.read_line(&mut reply)?;
        if reply != "+OK\r\n" {
            return Err(io::Error::other(format!("Redis says {reply:?}")));
        }
    }
    Ok(())
}
