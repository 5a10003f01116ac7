//! std's surface, by one source compiled twice: against `std` and against `cosocket`. What the
//! two programs assert is what std promises, so that std passes is half of the check.

#![allow(unsafe_code)]

mod of_std {
    use std::os::linux::net::TcpStreamExt;
    use std::{net, thread};

    include!("std_surface/program.rs");
}

mod of_cosocket {
    use cosocket::{net, thread};

    include!("std_surface/program.rs");
}

mod io_of_std {
    use std::{io, process};

    include!("std_surface/io_and_process.rs");
}

mod io_of_cosocket {
    use cosocket::{io, process};

    include!("std_surface/io_and_process.rs");
}

/// One test per function of the program: on std, on our types from a plain thread, and on our
/// types in a coroutine.
macro_rules! programs {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            of_std::$name().unwrap();
            of_cosocket::$name().unwrap();
            cosocket::run(of_cosocket::$name).unwrap();
        }
    )*};
}

programs!(stream_options, stream_io, listener, addresses, conversions, threads, scopes,);

#[test]
fn pipes_are_stds() {
    io_of_std::pipes().unwrap();
    io_of_cosocket::pipes().unwrap();
    cosocket::run(io_of_cosocket::pipes).unwrap();
}

#[test]
fn processes_are_stds() {
    io_of_std::processes().unwrap();
    io_of_cosocket::processes().unwrap();
    cosocket::run(io_of_cosocket::processes).unwrap();
}

#[test]
fn types_have_the_traits_of_stds() {
    io_of_std::traits();
    io_of_cosocket::traits();
    of_std::traits();
    of_cosocket::traits();
}

#[test]
fn debug_output_has_the_shape_of_stds() {
    let expected = of_std::debug().unwrap();
    assert_eq!(of_cosocket::debug().unwrap(), expected);
    assert_eq!(cosocket::run(of_cosocket::debug).unwrap(), expected);
}

#[test]
fn addresses_and_results_are_stds_own_types() {
    let address: std::net::SocketAddr = cosocket::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let _: std::net::Ipv4Addr = cosocket::net::Ipv4Addr::LOCALHOST;
    let _: std::net::Shutdown = cosocket::net::Shutdown::Both;
    let _: std::thread::Result<i32> = cosocket::thread::spawn(|| 1).join();
    let listener = cosocket::net::TcpListener::bind(address).unwrap();
    let _: std::net::SocketAddr = listener.local_addr().unwrap();
}

#[test]
fn sockets_convert_to_and_from_stds() {
    use std::io::{Read, Write};
    let check = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = cosocket::net::TcpListener::from(listener);
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut client = cosocket::net::TcpStream::from(client);
        let server: std::net::TcpStream = listener.accept().unwrap().0.into();
        client.write_all(b"from ours to std's").unwrap();
        drop(client);
        let mut text = String::new();
        (&server).read_to_string(&mut text).unwrap();
        assert_eq!(text, "from ours to std's");
        let listener: std::net::TcpListener = listener.into();
        assert!(listener.local_addr().is_ok());
    };
    check();
    cosocket::run(check);
}

/// Unstable in std, so there is nothing to compile against.
#[test]
fn what_std_keeps_unstable_is_offered() {
    use std::time::Duration;
    let check = || {
        let listener = cosocket::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = cosocket::net::TcpStream::connect(address).unwrap();
        for linger in [Some(Duration::from_secs(3)), Some(Duration::ZERO), None] {
            client.set_linger(linger).unwrap();
            assert_eq!(client.linger().unwrap(), linger);
        }
        let mut incoming: cosocket::net::IntoIncoming = listener.into_incoming();
        let server = incoming.next().unwrap().unwrap();
        assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
    };
    check();
    cosocket::run(check);
}
