//! OpenSSL, nginx and curl at the other end.

#[allow(unsafe_code)]
mod peers;
mod tls_support;
#[allow(unsafe_code)]
mod util;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cosocket::net::TcpStream;
use cosocket::tls::{
    Certificate, Error, ErrorKind, TlsOptions, TlsServerOptions, TlsStream, TlsVersion,
};

use peers::Server;
use tls_support::{Authority, Issued, kind_of};

/// Certificates in files, for programs.
struct Files {
    directory: PathBuf,
}

impl Files {
    fn new(name: &str) -> Files {
        let name = format!("cosocket-tls-{name}-{}", util::os_thread());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Files { directory }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Both versions, by the names of OpenSSL's options.
const VERSIONS: [(TlsVersion, &str); 2] =
    [(TlsVersion::V1_2, "-tls1_2"), (TlsVersion::V1_3, "-tls1_3")];

/// Runs a client, on a thread of the blocking pool, with so much on its standard input.
fn run_with_input(mut command: Command, input: impl AsRef<[u8]>) -> Output {
    let input = input.as_ref().to_vec();
    util::child::end_with_us(&mut command);
    cosocket::unblock(move || {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
            // Closed here: the client then ends.
        });
        let output = process.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Answers each line with a word in front, and ends when the client does.
fn answer_lines(stream: TlsStream<TcpStream>) {
    let mut lines = io::BufReader::new(&stream);
    let mut line = String::new();
    while io::BufRead::read_line(&mut lines, &mut line).unwrap_or(0) > 0 {
        if (&mut &stream).write_all(format!("got {line}").as_bytes()).is_err() || line == "Q\n" {
            break;
        }
        line.clear();
    }
}

/// `s_client`, which sends its input and shows the answers until the server ends.
fn s_client(openssl: &Path, address: SocketAddr, ca: &Path) -> Command {
    let mut command = Command::new(openssl);
    command.args(["s_client", "-connect", &address.to_string(), "-servername", "localhost"]);
    command.args(["-verify_hostname", "localhost", "-verify_return_error", "-CAfile"]).arg(ca);
    command
}

#[test]
fn s_client_talks_to_our_server_and_resumes() {
    let Some(openssl) = peers::find("openssl") else { return };
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let files = Files::new("s-client");
        let ca = files.write("ca.pem", authority.pem());
        let address = tls_support::serve(&authority.issue().server(), answer_lines);
        for (version, option) in VERSIONS {
            let session = files.directory.join(option);
            for (way, handshake) in [("-sess_out", "New, "), ("-sess_in", "Reused, ")] {
                let mut command = s_client(&openssl, address, &ca);
                command.args([option, "-ign_eof", way]).arg(&session);
                let output = run_with_input(command, "hello\nQ\n");
                let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
                assert!(stdout.contains("got hello"), "{version:?}: {stdout}\n{stderr}");
                assert!(stdout.contains(handshake), "{version:?} {way}: {stdout}\n{stderr}");
                // Our goodbye came: else it would complain of an unexpected end.
                assert!(!stderr.contains("unexpected eof"), "{stderr}");
            }
        }
    });
}

/// TLS-14: `K` makes s_client change the keys and ask us for ours.
#[test]
fn s_client_changes_keys() {
    let Some(openssl) = peers::find("openssl") else { return };
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let files = Files::new("keys");
        let ca = files.write("ca.pem", authority.pem());
        let address = tls_support::serve(&authority.issue().server(), answer_lines);
        let mut command = s_client(&openssl, address, &ca);
        command.arg("-tls1_3").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        util::child::end_with_us(&mut command);
        cosocket::unblock(move || {
            let mut process = command.spawn().unwrap();
            let mut stdin = process.stdin.take().unwrap();
            let mut stdout = Words::of(process.stdout.take().unwrap());
            let mut stderr = Words::of(process.stderr.take().unwrap());
            for round in 0..5 {
                // A command is a whole read of its input: so wait for the answer in between.
                stdin.write_all(format!("line {round}\n").as_bytes()).unwrap();
                stdout.wait_for(&format!("got line {round}\n"));
                stdin.write_all(b"K\n").unwrap();
                stderr.wait_for("KEYUPDATE");
            }
            stdin.write_all(b"Q\n").unwrap();
            assert!(process.wait().unwrap().success());
        });
    });
}

/// What a program says, as it comes.
struct Words<R> {
    output: R,
    seen: String,
}

impl<R: Read> Words<R> {
    fn of(output: R) -> Words<R> {
        Words { output, seen: String::new() }
    }

    /// Up to and with these words.
    fn wait_for(&mut self, words: &str) {
        let mut piece = [0; 4_096];
        let end = loop {
            if let Some(at) = self.seen.find(words) {
                break at + words.len();
            }
            let count = self.output.read(&mut piece).unwrap();
            assert!(count > 0, "no {words:?}: {}", self.seen);
            self.seen += &text(&piece[..count]);
        };
        self.seen.drain(..end);
    }
}

#[test]
fn s_client_shows_its_certificate() {
    let Some(openssl) = peers::find("openssl") else { return };
    cosocket::run(|| {
        let (authority, users) = (Authority::new("an authority"), Authority::new("the users'"));
        let files = Files::new("mtls");
        let ca = files.write("ca.pem", authority.pem());
        let user = files.write("user.pem", users.issue_as("a user", |_| {}).pem());
        let server = authority.issue().server().require_clients_of([users.certificate()]);
        let address = tls_support::serve(&server, answer_lines);
        for (_, option) in VERSIONS {
            let mut command = s_client(&openssl, address, &ca);
            command.args([option, "-ign_eof", "-cert"]).arg(&user).arg("-key").arg(&user);
            let output = run_with_input(command, "hello\nQ\n");
            assert!(text(&output.stdout).contains("got hello"), "{}", text(&output.stderr));

            let mut command = s_client(&openssl, address, &ca);
            command.args([option, "-ign_eof"]);
            let output = run_with_input(command, "hello\nQ\n");
            assert!(!text(&output.stdout).contains("got hello"));
            let stderr = text(&output.stderr);
            let words = ["certificate required", "handshake failure"];
            assert!(words.iter().any(|words| stderr.contains(words)), "{stderr}");
        }
    });
}

/// `s_server -rev` answers lines backwards.
fn s_server(openssl: &Path, identity: &Path, arguments: &[&str]) -> Server {
    Server::start("s-server", |address, _| {
        let mut command = Command::new(openssl);
        command.args(["s_server", "-rev", "-accept", &address.to_string()]);
        command.arg("-cert").arg(identity).arg("-key").arg(identity);
        command.args(arguments).stdin(Stdio::null());
        command
    })
}

fn converse(address: SocketAddr, options: &TlsOptions) -> io::Result<TlsStream<TcpStream>> {
    let mut stream = TlsStream::connect(TcpStream::connect(address)?, "localhost", options)?;
    stream.write_all(b"hello\n")?;
    let mut answer = [0; 6];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"olleh\n");
    Ok(stream)
}

#[test]
fn our_client_talks_to_s_server_and_resumes() {
    let Some(openssl) = peers::find("openssl") else { return };
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let files = Files::new("s-server");
        let identity = files.write("server.pem", authority.issue().pem());
        for (version, option) in VERSIONS {
            let server = s_server(&openssl, &identity, &[option]);
            let options = authority.client();
            for is_resumed in [false, true, true] {
                let stream = converse(server.address, &options).unwrap();
                assert_eq!((stream.version(), stream.is_resumed()), (version, is_resumed));
                stream.close().unwrap();
            }
        }
    });
}

/// What s_server shows is refused in our words, and it learns it.
#[test]
fn bad_certificates_of_s_server_are_refused() {
    let Some(openssl) = peers::find("openssl") else { return };
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let files = Files::new("bad");
        let old = |params: &mut rcgen::CertificateParams| {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        };
        for (issued, kind) in [
            (authority.issue_as("other.example", |_| {}), ErrorKind::NameMismatch),
            (authority.issue_as("localhost", old), ErrorKind::Expired),
            (Issued::self_signed(), ErrorKind::SelfSigned),
            (Authority::new("a stranger").issue(), ErrorKind::UnknownIssuer),
        ] {
            let identity = files.write("server.pem", issued.pem());
            let server = s_server(&openssl, &identity, &[]);
            for (version, _) in VERSIONS {
                let options = authority.client().max_version(version);
                let result = converse(server.address, &options);
                assert_eq!(kind_of(result), kind, "{version:?}");
            }
            let pinned = TlsOptions::new().pinned([issued.certificate()]);
            converse(server.address, &pinned).unwrap();
        }
    });
}

#[test]
fn s_server_gets_our_certificate() {
    let Some(openssl) = peers::find("openssl") else { return };
    cosocket::run(|| {
        let (authority, users) = (Authority::new("an authority"), Authority::new("the users'"));
        let files = Files::new("clients");
        let identity = files.write("server.pem", authority.issue().pem());
        let ca = files.write("users.pem", users.pem());
        let ca = ca.to_str().unwrap();
        let wanted = ["-Verify", "1", "-verify_return_error", "-CAfile", ca];
        let server = s_server(&openssl, &identity, &wanted);
        for (version, _) in VERSIONS {
            let plain = authority.client().max_version(version);
            let user = users.issue_as("a user", |_| {}).identity();
            converse(server.address, &plain.clone().identity(user)).unwrap();
            assert_eq!(kind_of(converse(server.address, &plain)), ErrorKind::Refused);
        }
    });
}

/// TLS-2: OpenSSL that speaks other versions only.
#[test]
fn versions_that_do_not_meet_are_told() {
    let Some(openssl) = peers::find("openssl") else { return };
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let files = Files::new("versions");
        let identity = files.write("server.pem", authority.issue().pem());
        let server = s_server(&openssl, &identity, &["-tls1_2"]);
        let options = authority.client().min_version(TlsVersion::V1_3);
        let error = converse(server.address, &options).unwrap_err();
        assert_eq!(Error::of(&error).unwrap().kind(), ErrorKind::Version, "{error}");
    });
}

/// Ten megabytes over nginx's TLS, and the same over ours by curl.
#[test]
fn nginx_and_curl_get_what_they_ask_for() {
    let Some(curl) = peers::find("curl") else { return };
    cosocket::run(|| {
        let authority = Authority::new("an authority");
        let issued = authority.issue_at(IpAddr::V4(peers::ip()));
        let data = tls_support::bytes_of(1, 0, 1_000_000).repeat(10);
        let server = peers::nginx(true, |directory| {
            fs::write(directory.join("certificate.pem"), issued.pem())?;
            fs::write(directory.join("key.pem"), issued.pem())?;
            fs::write(directory.join("file"), &data)
        });
        let Some(server) = server else { return };
        let name = server.address.ip().to_string();
        let options = authority.client().alpn(["http/1.1"]);
        for is_resumed in [false, true] {
            let stream = TcpStream::connect(server.address).unwrap();
            let mut stream = TlsStream::connect(stream, &name, &options).unwrap();
            assert_eq!(stream.is_resumed(), is_resumed);
            assert_eq!(stream.alpn().as_deref(), Some(&b"http/1.1"[..]));
            let request = "GET /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200"));
            assert!(answer.ends_with(&data));
        }

        let ca = Files::new("curl");
        let ca = (ca.write("ca.pem", authority.pem()), ca);
        let body = data.clone();
        let address =
            tls_support::serve(&issued.server(), move |stream| answer_http(&stream, &body));
        let mut command = Command::new(curl);
        command.args(["--silent", "--show-error", "--fail", "--max-time", "60", "--cacert"]);
        command.arg(&ca.0).arg(format!("https://localhost:{}/file", address.port()));
        let output = run_with_input(command, "");
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(output.stdout == data);
    });
}

fn answer_http(stream: &TlsStream<TcpStream>, body: &[u8]) {
    let mut stream = stream;
    let mut request = Vec::new();
    let mut piece = [0; 1_024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(count @ 1..) => request.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// The files of certificates are what OpenSSL writes, too.
#[test]
fn identities_of_openssl_are_read() {
    let Some(openssl) = peers::find("openssl") else { return };
    let files = Files::new("files");
    let (key, certificate) = (files.directory.join("key"), files.directory.join("certificate"));
    for kind in
        [&["-newkey", "rsa:2048"][..], &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]]
    {
        let mut command = Command::new(&openssl);
        command.args(["req", "-x509", "-nodes", "-subj", "/CN=localhost"]).args(kind);
        command.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        assert!(command.stderr(Stdio::null()).status().unwrap().success());
        cosocket::run(|| {
            let identity = cosocket::tls::Identity::from_pem_files(&certificate, &key).unwrap();
            let pinned = Certificate::from_pem(fs::read(&certificate).unwrap()).unwrap();
            let options = TlsOptions::new().pinned(pinned);
            tls_support::connect(&options, &TlsServerOptions::new(identity));
        });
    }
}
