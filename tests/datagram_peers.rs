//! Datagrams with peers that are not ours: Python's sockets, over UDP and over Unix sockets.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use cosocket::net::UdpSocket;
use cosocket::os::unix::net::UnixDatagram;
use cosocket::{run, thread};

fn python(program: &str, argument: &str) -> Child {
    let mut command = Command::new("python3");
    command.args(["-c", program, argument]).stdout(Stdio::piped()).spawn().expect("python3")
}

/// A server of ours, asked by several clients at a time.
#[test]
fn python_asks_a_udp_server() {
    const CLIENT: &str = "
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(('127.0.0.1', int(sys.argv[1])))
for size in [0, 1, 2, 1000, 9000, 0, 5]:
    for _ in range(20):
        s.send(b'?' * size)
        assert s.recv(10000) == b'!' * size, size
";
    run(|| {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port().to_string();
        let server = thread::spawn(move || {
            let mut buffer = [0; 10_000];
            loop {
                let (len, from) = server.recv_from(&mut buffer).unwrap();
                buffer[..len].fill(b'!');
                assert_eq!(server.send_to(&buffer[..len], from).unwrap(), len);
            }
        });
        let clients: Vec<_> = (0..4).map(|_| python(CLIENT, &port)).collect();
        cosocket::unblock(move || {
            for mut client in clients {
                assert!(client.wait().unwrap().success());
            }
        });
        server.cancel();
        server.join().unwrap_err();
    });
}

#[test]
fn a_python_server_is_asked_over_udp() {
    const SERVER: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 0))
print(s.getsockname()[1], flush=True)
while True:
    data, peer = s.recvfrom(10000)
    s.sendto(data[::-1], peer)
    if data == b'end': break
";
    run(|| {
        let mut server = python(SERVER, "");
        let mut line = [0; 6];
        let len = server.stdout.as_mut().unwrap().read(&mut line).unwrap();
        let port: u16 = std::str::from_utf8(&line[..len]).unwrap().trim().parse().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(("127.0.0.1", port)).unwrap();
        let mut buffer = [0; 100];
        for text in ["abc", "", "x", "end"] {
            client.send(text.as_bytes()).unwrap();
            let len = client.recv(&mut buffer).unwrap();
            assert!(buffer[..len].iter().rev().eq(text.as_bytes()));
        }
        assert!(server.wait().unwrap().success());
    });
}

/// As services tell systemd that they are ready: a datagram to a path, from a socket without one.
#[test]
fn python_notifies_a_unix_socket() {
    const CLIENT: &str = "
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for n in range(100):
    s.sendto(b'READY=%d' % n, sys.argv[1])
";
    run(|| {
        let name = format!("cosocket-datagram-peers-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut client = python(CLIENT, path.to_str().unwrap());
        let mut buffer = [0; 100];
        for number in 0..100 {
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            assert!(from.is_unnamed());
            assert_eq!(&buffer[..len], format!("READY={number}").as_bytes());
        }
        assert!(client.wait().unwrap().success());
        std::fs::remove_file(&path).unwrap();
    });
}
