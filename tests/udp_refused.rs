//! A connected UDP socket is told that nobody is there (ICMP): whoever waits, and whoever calls
//! next.

mod socket_util;

use std::io::ErrorKind;
use std::rc::Rc;

use cosocket::net::UdpSocket;
use socket_util::{Nobody, spawn_waiting};

fn connected_to(nobody: &Nobody) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(nobody.address()).unwrap();
    socket
}

type Receive = fn(&UdpSocket) -> std::io::Result<()>;

const RECEIVES: [Receive; 4] = [
    |socket| socket.recv(&mut [0; 9]).map(drop),
    |socket| socket.peek(&mut [0; 9]).map(drop),
    |socket| socket.recv_from(&mut [0; 9]).map(drop),
    |socket| socket.recv(&mut []).map(drop),
];

#[test]
fn one_who_waits_to_receive_is_told() {
    cosocket::run(|| {
        let nobody = Nobody::at("127.0.0.1");
        for receive in RECEIVES {
            let socket = Rc::new(connected_to(&nobody));
            let mine = Rc::clone(&socket);
            let receiver = spawn_waiting(move || receive(&mine));
            socket.send(b"hello?").unwrap();
            let error = receiver.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
    });
}

/// The error goes to one call; a receiver that it has woken, and that finds it gone, waits on, and
/// does not spin.
#[test]
fn one_who_waits_goes_on_when_another_took_the_error() {
    let runtime = cosocket::Builder::new().workers(1).build().unwrap();
    runtime.run(|| {
        let nobody = Nobody::at("127.0.0.1");
        let socket = Rc::new(connected_to(&nobody));
        let mine = Rc::clone(&socket);
        let receiver = spawn_waiting(move || mine.recv(&mut [0; 9]));
        let mut refusals = 0;
        for _ in 0..20 {
            // The answer is there when the call returns, before the receiver runs.
            refusals += usize::from(socket.send(b"hello?").is_err());
        }
        let told = usize::from(receiver.is_finished());
        assert!(refusals + told > 0);
        if told == 0 {
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(peer.local_addr().unwrap()).unwrap();
            peer.send_to(b"here", socket.local_addr().unwrap()).unwrap();
            match receiver.join().unwrap() {
                Ok(len) => assert_eq!(len, 4),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
            }
        }
    });
    let before = runtime.metrics().turns;
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(runtime.metrics().turns - before < 50, "it spins");
}

/// Datagrams of others are not for a connected socket, and a failure of one to it is not the end.
#[test]
fn after_a_refusal_the_socket_works() {
    cosocket::run(|| {
        let (socket, peer) = loop {
            let nobody = Nobody::at("127.0.0.1");
            let (socket, address) = (connected_to(&nobody), nobody.address());
            socket.send(b"hello?").unwrap();
            let error = socket.recv(&mut [0; 9]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            drop(nobody);
            // Unless somebody else has the port by now.
            if let Ok(peer) = UdpSocket::bind(address) {
                break (socket, peer);
            }
        };
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(b"stranger", socket.local_addr().unwrap()).unwrap();
        let echo = spawn_waiting(move || {
            let mut buffer = [0; 9];
            let (len, from) = peer.recv_from(&mut buffer).unwrap();
            peer.send_to(&buffer[..len], from).unwrap();
        });
        socket.send(b"hello").unwrap();
        assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 5);
        echo.join().unwrap();
    });
}
