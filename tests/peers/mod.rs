//! Real servers, started by the tests from Debian's packages. Where one is not installed its test
//! says that it was skipped; in CI (`CI` is set) that is a failure.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::util;

/// The program's path, or none, with a word about it.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]).map(PathBuf::from);
    // Debian has a directory for each version of PostgreSQL.
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut files = places
        .chain(versions.map(|version| version.path().join("bin")))
        .map(|directory| directory.join(program));
    or_skip(program, files.find(|file| file.is_file()))
}

/// A Python that has `module`. Debian's modules are Debian's Python's, whatever else is there.
pub fn python_with(module: &str) -> Option<PathBuf> {
    let has_module = |python: &PathBuf| {
        let mut command = Command::new(python);
        command.args(["-c", &format!("import {module}")]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let mut pythons = ["/usr/bin/python3", "python3"].map(PathBuf::from).into_iter();
    or_skip(&format!("Python's module {module}"), pythons.find(has_module))
}

fn or_skip<T>(what: &str, found: Option<T>) -> Option<T> {
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{what} is not installed, and this is CI");
        println!("skipped: {what} is not installed");
    }
    found
}

/// An address of this process's own, so that nobody else takes a port that was found free.
pub fn ip() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 128 | high, middle, low)
}

/// A server with a directory of its own; both are gone when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub directory: PathBuf,
    process: Child,
    end: i32,
}

impl Server {
    /// Starts a server on a free port. `command` gets the address and the directory.
    pub fn start(name: &str, command: impl Fn(SocketAddr, &Path) -> Command) -> Server {
        let number = util::os_thread();
        let directory = std::env::temp_dir().join(format!("cosocket-{name}-{number}"));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let ip = ip();
        for _ in 0..20 {
            let listener = std::net::TcpListener::bind((ip, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            let mut command = command(address, &directory);
            util::child::end_with_us(&mut command);
            let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            while process.try_wait().unwrap().is_none() {
                // A connection from a port to itself needs no server.
                let connection = std::net::TcpStream::connect(address);
                if connection.is_ok_and(|stream| stream.local_addr().unwrap() != address) {
                    return Server { address, directory, process, end: libc::SIGTERM };
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        panic!("{name} does not start");
    }
}

impl Drop for Server {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: our own child, not waited for yet. By SIGTERM nginx ends its worker too.
        unsafe { libc::kill(self.process.id() as i32, self.end) };
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// An empty Redis that stores nothing.
pub fn redis() -> Option<Server> {
    let redis = find("redis-server")?;
    Some(Server::start("redis", |address, directory| {
        let mut command = Command::new(&redis);
        command.args(["--port", &address.port().to_string(), "--bind", &address.ip().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(directory);
        command
    }))
}

/// An empty memcached.
pub fn memcached() -> Option<Server> {
    let memcached = find("memcached")?;
    Some(Server::start("memcached", |address, _| {
        let mut command = Command::new(&memcached);
        command.args(["-l", &address.ip().to_string(), "-p", &address.port().to_string()]);
        command.args(["-U", "0", "-u", "nobody"]);
        command
    }))
}

/// An nginx that serves the files which `fill` has put into its directory; over TLS with
/// `certificate.pem` and `key.pem` from there.
pub fn nginx(is_tls: bool, fill: impl Fn(&Path) -> io::Result<()>) -> Option<Server> {
    let nginx = find("nginx")?;
    Some(Server::start("nginx", |address, directory| {
        fill(directory).unwrap();
        let text = nginx_configuration(address, directory, is_tls);
        fs::write(directory.join("nginx.conf"), text).unwrap();
        let mut command = Command::new(&nginx);
        command.arg("-p").arg(directory).arg("-c").arg(directory.join("nginx.conf"));
        command.args(["-e", "stderr"]);
        command
    }))
}

fn nginx_configuration(address: SocketAddr, directory: &Path, is_tls: bool) -> String {
    let directory = directory.display();
    let tls = match is_tls {
        true => "ssl; ssl_certificate certificate.pem; ssl_certificate_key key.pem",
        false => "",
    };
    format!(
        "daemon off; master_process off; pid {directory}/pid;
         events {{ worker_connections 512; }}
         http {{
             access_log off;
             client_body_temp_path {directory}/a; proxy_temp_path {directory}/b;
             fastcgi_temp_path {directory}/c; uwsgi_temp_path {directory}/d;
             scgi_temp_path {directory}/e;
             server {{ listen {address} {tls}; root {directory}; }}
         }}"
    )
}

/// A PostgreSQL with one role, `app`, who must show the password by SCRAM.
pub fn postgres(password: &str) -> Option<Server> {
    let (initdb, postgres) = find("initdb").zip(find("postgres"))?;
    let mut server = Server::start("postgres", |address, directory| {
        let data = directory.join("data");
        if !data.exists() {
            fs::write(directory.join("password"), password).unwrap();
            let mut command = Command::new(&initdb);
            command.arg("-D").arg(&data).arg("--pwfile").arg(directory.join("password"));
            command.args(["-U", "app", "-A", "scram-sha-256", "-E", "UTF8", "--no-locale"]);
            let output = as_nobody(command.arg("--no-sync"), directory).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let mut command = Command::new(&postgres);
        command.arg("-D").arg(&data).arg("-h").arg(address.ip().to_string());
        command.arg("-p").arg(address.port().to_string()).args(["-k", "", "-c", "fsync=off"]);
        as_nobody(&mut command, directory);
        command
    });
    // SIGTERM would wait for the clients.
    server.end = libc::SIGQUIT;
    Some(server)
}

/// PostgreSQL does not run as root; its directory must be its own.
fn as_nobody<'a>(command: &'a mut Command, directory: &Path) -> &'a mut Command {
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    // SAFETY: takes nothing.
    #[allow(unsafe_code)]
    if unsafe { libc::geteuid() } == 0 {
        std::os::unix::fs::chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
        for file in fs::read_dir(directory).unwrap() {
            std::os::unix::fs::chown(file.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        command.uid(NOBODY).gid(NOBODY).current_dir(directory);
    }
    command
}

/// An MQTT broker that everybody may use.
pub fn mosquitto() -> Option<Server> {
    let mosquitto = find("mosquitto")?;
    Some(Server::start("mosquitto", |address, directory| {
        let text = format!(
            "listener {} {}\nallow_anonymous true\npersistence false\n",
            address.port(),
            address.ip()
        );
        let file = directory.join("mosquitto.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(&mosquitto);
        command.arg("-c").arg(file);
        command
    }))
}

/// A DNS server that knows what the lines of its configuration say, and asks nobody.
pub fn dnsmasq(lines: &str) -> Option<Server> {
    let dnsmasq = find("dnsmasq")?;
    Some(Server::start("dnsmasq", |address, directory| {
        let (ip, port) = (address.ip(), address.port());
        let file = directory.join("dnsmasq.conf");
        let text = format!(
            "keep-in-foreground\nno-resolv\nno-hosts\nbind-interfaces\nuser=root\npid-file=\n\
             listen-address={ip}\nport={port}\n{lines}"
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new(&dnsmasq);
        command.arg("-C").arg(file);
        command
    }))
}

/// A script of ours, under a Python that has `module`; it gets `arguments`, address and port.
pub fn python(module: &str, script: &Path, arguments: &[&str]) -> Option<Server> {
    let python = python_with(module)?;
    Some(Server::start(module, |address, _| {
        let mut command = Command::new(&python);
        command.arg(script).args(arguments);
        command.args([address.ip().to_string(), address.port().to_string()]);
        command
    }))
}
