//! PROXY headers on connections: from senders of ours, cut in all ways, and from those that people
//! use. Row SRV-9 of the behaviour table.

#![allow(unsafe_code)]

mod peers;
mod socket_util;
mod util;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cosocket::Address;
use cosocket::net::TcpStream;
use cosocket::os::unix::net::UnixStream;
use cosocket::server::{
    Cidr, Connection, Extension, Peers, ProxyHeader, ProxyProtocol, RunningServer, Server,
};
use socket_util::{everywhere, turn, until};

const SHORT: Duration = Duration::from_millis(20);

fn header() -> ProxyHeader {
    ProxyHeader::new("[2001:db8::7]:5000".parse().unwrap(), "[2001:db8::1]:80".parse().unwrap())
}

/// Says whom it serves, and sends back what comes.
fn tell(connection: Connection) -> io::Result<()> {
    let told = connection.proxy_header().map_or(0, ProxyHeader::version);
    write!(&connection, "{} {} {told}\n", connection.peer(), connection.local()?)?;
    io::copy(&mut &connection, &mut &connection).map(drop)
}

fn server(protocol: ProxyProtocol) -> (Server, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&told);
    let server = Server::new().listen("127.0.0.1:0").proxy_protocol(protocol);
    let server = server.on_event(move |event| events.lock().unwrap().push(event.to_string()));
    (server, told)
}

fn connect(server: &RunningServer) -> TcpStream {
    TcpStream::connect(server.tcp_addr().unwrap()).unwrap()
}

/// Everything until the end, once our half has ended.
fn answer(mut stream: TcpStream) -> String {
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn localhost() -> Cidr {
    "127.0.0.0/8".parse().unwrap()
}

#[test]
fn a_header_is_taken_off_and_nothing_else_however_it_is_cut() {
    everywhere(|| {
        let (server, _) = server(ProxyProtocol::trusting(localhost()));
        let server = server.start(tell).unwrap();
        for (header, version) in [(header().to_v1(), 1), (header().to_v2(&[]), 2)] {
            let bytes = [&header[..], b"\r\nfirst"].concat();
            for size in [1, 7, header.len() - 1, header.len(), bytes.len()] {
                let mut stream = connect(&server);
                stream.set_nodelay(true).unwrap();
                for segment in bytes.chunks(size) {
                    stream.write_all(segment).unwrap();
                    turn();
                }
                let expected = format!("[2001:db8::7]:5000 [2001:db8::1]:80 {version}\n\r\nfirst");
                assert_eq!(answer(stream), expected, "{size}");
            }
        }
    });
}

#[test]
fn a_proxys_own_connection_is_from_the_proxy() {
    everywhere(|| {
        let (server, _) = server(ProxyProtocol::trusting(localhost()));
        let server = server.start(tell).unwrap();
        let unknown = b"PROXY UNKNOWN\r\n".to_vec();
        for (bytes, version) in [(ProxyHeader::local().to_v2(&[]), 2), (unknown, 1)] {
            let mut stream = connect(&server);
            stream.write_all(&bytes).unwrap();
            let ends = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            assert_eq!(answer(stream), format!("{} {} {version}\n", ends.0, ends.1));
        }
    });
}

#[test]
fn the_rules_are_asked_about_the_client_that_is_told_of() {
    everywhere(|| {
        let (server, told) = server(ProxyProtocol::trusting(localhost()));
        let denied: Cidr = "2001:db8::/64".parse().unwrap();
        let server = server.deny(denied).start(tell).unwrap();
        let mut stream = connect(&server);
        stream.write_all(&header().to_v1()).unwrap();
        assert_eq!(answer(stream), "");
        let mut stream = connect(&server);
        stream.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").unwrap();
        assert_eq!(answer(stream), "192.0.2.1:1 192.0.2.2:2 1\n");
        until(|| server.connections() == 0);
        assert_eq!(told.lock().unwrap().len(), 1, "{told:?}");
        assert!(told.lock().unwrap()[0].ends_with("refused: denied"));
    });
}

#[test]
fn whoever_is_not_trusted_speaks_for_nobody() {
    everywhere(|| {
        let elsewhere = || "192.0.2.0/24".parse::<Cidr>().unwrap();
        let (refusing, told) = server(ProxyProtocol::trusting(elsewhere()));
        let refusing = refusing.start(tell).unwrap();
        let mut stream = connect(&refusing);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        assert!(told.lock().unwrap()[0].ends_with("not trusted to send a PROXY header"));

        let protocol = ProxyProtocol::trusting(elsewhere()).and(Peers::Unix).serve_others(true);
        let path = std::env::temp_dir().join(format!("cosocket-proxy-{}", std::process::id()));
        let (serving, _) = server(protocol);
        let serving = serving.listen_unix(&path).start(tell).unwrap();
        let mut stream = connect(&serving);
        let ends = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        // It is data.
        stream.write_all(b"PROXY UNKNOWN\r\n").unwrap();
        assert_eq!(answer(stream), format!("{} {} 0\nPROXY UNKNOWN\r\n", ends.0, ends.1));

        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(&header().to_v2(&[])).unwrap();
        let mut first = [0; 20];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"[2001:db8::7]:5000 [");
    });
}

#[test]
fn a_header_that_is_late_long_or_none_ends_the_connection() {
    everywhere(|| {
        let noop = Extension { kind: Extension::NOOP, value: &[0; 300] };
        for (bytes, words) in [
            (b"PROX".to_vec(), "time"),
            (b"".to_vec(), "time"),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no PROXY header"),
            (b"PROXY TCP4 1.1.1.1\r\n".to_vec(), "malformed"),
            (header().to_v2(&[noop]), "too long"),
        ] {
            let protocol = ProxyProtocol::trusting(Peers::All).timeout(SHORT).max_bytes(200);
            let (server, told) = server(protocol);
            let server = server.start(|_| unreachable!("there is no header")).unwrap();
            let mut stream = connect(&server);
            stream.write_all(&bytes).unwrap();
            // At once, or by a reset: it had sent what nobody took.
            assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
            until(|| server.connections() == 0);
            let told = told.lock().unwrap().join("; ");
            assert!(told.contains(words), "{told}");
        }
    });
}

#[test]
fn a_client_that_leaves_before_its_header_is_told() {
    cosocket::run(|| {
        let (server, told) = server(ProxyProtocol::trusting(Peers::All));
        let server = server.start(tell).unwrap();
        let mut stream = connect(&server);
        stream.write_all(b"PROXY TCP4 1.1").unwrap();
        assert_eq!(answer(stream), "");
        until(|| server.connections() == 0);
        assert!(told.lock().unwrap()[0].contains("PROXY header: "), "{told:?}");
    });
}

/// What a server behind a proxy has seen: the header's version, client, extensions.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<ProxyHeader>>>);

impl Seen {
    /// Serves at an address of this process's own.
    fn server(&self) -> RunningServer {
        let seen = self.clone();
        let ip = IpAddr::V4(peers::ip());
        let protocol = ProxyProtocol::trusting(localhost());
        let server = Server::new().listen((ip, 0)).proxy_protocol(protocol);
        let server = server.start(move |connection| {
            let header = connection.proxy_header().unwrap().clone();
            seen.0.lock().unwrap().push(header);
            tell(connection)
        });
        server.unwrap()
    }

    fn check(&self, proxy: SocketAddr, version: u8, extension: Option<(u8, &[u8])>) {
        let mut stream = TcpStream::connect(proxy).unwrap();
        let ours = stream.local_addr().unwrap();
        stream.write_all(b"through\n").unwrap();
        let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), format!("{ours} {proxy} {version}"));
        assert_eq!(lines.next().unwrap(), "through");
        let is_ours = |header: &ProxyHeader| header.source() == Some(&Address::Ip(ours));
        let seen = self.0.lock().unwrap();
        let header = seen.iter().find(|header| is_ours(header)).unwrap();
        if let Some((kind, value)) = extension {
            assert_eq!(header.extension(kind), Some(value), "{header:?}");
        }
    }
}

#[test]
fn haproxy_sends_both_versions_with_extensions_and_checks_with_its_own() {
    let Some(haproxy) = peers::find("haproxy") else { return };
    let options = "send-proxy-v2 proxy-v2-options unique-id,crc32c check inter 20ms";
    for (options, version) in [("send-proxy", 1), ("send-proxy-v2", 2), (options, 2)] {
        let seen = Seen::default();
        let server = seen.server();
        let target = server.tcp_addr().unwrap();
        let proxy = peers::Server::start("haproxy", |address: SocketAddr, directory: &Path| {
            let text = format!(
                "global\n maxconn 100\ndefaults\n mode tcp\n timeout connect 5s\n \
                 timeout client 5s\n timeout server 5s\nlisten it\n bind {address}\n \
                 unique-id-format connection\n server it {target} {options}\n"
            );
            let file = directory.join("haproxy.cfg");
            fs::write(&file, text).unwrap();
            let mut command = Command::new(&haproxy);
            command.arg("-db").arg("-f").arg(file);
            command
        });
        let has_extensions = options.contains("unique-id");
        let id = has_extensions.then_some((Extension::UNIQUE_ID, &b"connection"[..]));
        seen.check(proxy.address, version, id);
        if has_extensions {
            until(|| seen.0.lock().unwrap().iter().any(ProxyHeader::is_local));
            let seen = seen.0.lock().unwrap();
            let sum = seen.iter().find_map(|header| header.extension(Extension::CRC32C));
            assert_eq!(sum.map(<[u8]>::len), Some(4));
        }
    }
}

#[test]
fn nginx_sends_version_1() {
    let Some(nginx) = peers::find("nginx") else { return };
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    if !module.exists() {
        assert!(std::env::var_os("CI").is_none(), "nginx's stream module is not installed");
        println!("skipped: nginx's stream module is not installed");
        return;
    }
    let seen = Seen::default();
    let server = seen.server();
    let target = server.tcp_addr().unwrap();
    let proxy = peers::Server::start("nginx", |address: SocketAddr, directory: &Path| {
        let text = format!(
            "load_module {}; daemon off; master_process off; pid {}/pid;
             events {{ worker_connections 64; }}
             stream {{ server {{ listen {address}; proxy_pass {target}; proxy_protocol on; }} }}",
            module.display(),
            directory.display(),
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(&nginx);
        command.arg("-p").arg(directory).arg("-c").arg(file).args(["-e", "stderr"]);
        command
    });
    seen.check(proxy.address, 1, None);
}

#[test]
fn curl_sends_version_1() {
    let Some(curl) = peers::find("curl") else { return };
    let seen = Seen::default();
    let ip = IpAddr::V4(peers::ip());
    let server = Server::new().listen((ip, 0)).proxy_protocol(ProxyProtocol::trusting(ip));
    let headers = seen.clone();
    let server = server.start(move |mut connection| {
        headers.0.lock().unwrap().push(connection.proxy_header().unwrap().clone());
        connection.read_exact(&mut [0; 16])?;
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        connection.close_lingering(Default::default())
    });
    let server = server.unwrap();
    let mut command = Command::new(curl);
    command.args(["--silent", "--haproxy-protocol", "--noproxy", "*", "--interface"]);
    let address = server.tcp_addr().unwrap();
    let output = command.arg(ip.to_string()).arg(format!("http://{address}/")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello");
    let seen = seen.0.lock().unwrap();
    assert_eq!((seen.len(), seen[0].version()), (1, 1));
    assert_eq!(seen[0].source().unwrap().ip(), Some(ip));
    assert_eq!(seen[0].destination(), Some(&Address::Ip(address)));
}

/// SRV-9, the other way: what we write, nginx reads.
#[test]
fn nginx_reads_both_versions() {
    let Some(nginx) = peers::find("nginx") else { return };
    let server = peers::Server::start("nginx", |address: SocketAddr, directory: &Path| {
        let at = directory.display();
        let text = format!(
            "daemon off; master_process off; pid {at}/pid;
             events {{ worker_connections 64; }}
             http {{
                 access_log off;
                 client_body_temp_path {at}/a; proxy_temp_path {at}/b;
                 fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;
                 server {{
                     listen {address} proxy_protocol;
                     return 200 \"$proxy_protocol_addr $proxy_protocol_port\";
                 }}
             }}"
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(&nginx);
        command.arg("-p").arg(directory).arg("-c").arg(file).args(["-e", "stderr"]);
        command
    });
    everywhere(|| {
        let name = Extension { kind: Extension::AUTHORITY, value: b"example.org" };
        let v4 = ProxyHeader::new("192.0.2.7:5000".parse().unwrap(), server.address);
        for (header, client) in [
            (header().to_v1(), "2001:db8::7 5000"),
            (header().to_v2(&[]), "2001:db8::7 5000"),
            (header().to_v2(&[name]), "2001:db8::7 5000"),
            (v4.to_v1(), "192.0.2.7 5000"),
            (v4.to_v2(&[]), "192.0.2.7 5000"),
        ] {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(&[&header[..], b"GET / HTTP/1.0\r\n\r\n"].concat()).unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            assert!(response.ends_with(&format!("\r\n\r\n{client}")), "{response}");
        }
    });
}
