//! std's surface, by one source compiled twice: against `std` and against `cosocket`. What the
//! two programs assert is what std promises, so that std passes is half of the check.

#![allow(unsafe_code)]

mod util;

mod of_std {
    use std::os::linux::net::TcpStreamExt;
    use std::{net, sync, thread};

    pub mod program {
        use super::*;
        include!("std_surface/program.rs");
    }

    pub mod sockets {
        use super::net;
        use std::os::unix::net as unet;
        include!("std_surface/sockets.rs");
    }

    pub mod locks {
        use std::sync;

        use super::thread;
        include!("std_surface/locks.rs");
    }

    pub mod once {
        use super::{sync, thread};
        include!("std_surface/once.rs");
    }

    pub mod children {
        use std::{io, process};

        include!("std_surface/children.rs");
    }
}

mod of_cosocket {
    use cosocket::{net, sync, thread};

    pub mod program {
        use super::*;
        include!("std_surface/program.rs");
    }

    pub mod sockets {
        use super::net;
        use cosocket::os::unix::net as unet;
        include!("std_surface/sockets.rs");
    }

    pub mod locks {
        use cosocket::sync;

        use super::thread;
        include!("std_surface/locks.rs");
    }

    pub mod once {
        use super::{sync, thread};
        include!("std_surface/once.rs");
    }

    pub mod children {
        use cosocket::{io, process};

        include!("std_surface/children.rs");
    }
}

/// One test per function of the program: on std, on our types from a plain thread, and on our
/// types in a coroutine.
macro_rules! programs {
    ($program:ident: $($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            of_std::$program::$name().unwrap();
            of_cosocket::$program::$name().unwrap();
            cosocket::run(of_cosocket::$program::$name).unwrap();
        }
    )*};
}

programs!(program: stream_options, stream_io, listener, addresses, conversions, threads, scopes);
programs!(program: channels, sync_channels);
programs!(sockets: udp_options, udp_io, udp_empty, udp_errors, udp_refusal, socket_conversions);
programs!(sockets: unix_streams, unix_listeners, unix_addresses, unix_datagrams);
programs!(locks: mutexes, read_write_locks, condition_variables);
programs!(once: barriers, onces, once_locks, lazy_locks);
programs!(children: pipes, processes);

#[test]
fn types_have_the_traits_of_stds() {
    of_std::program::traits();
    of_std::sockets::traits();
    of_std::locks::traits();
    of_std::once::traits();
    of_std::children::traits();
    of_cosocket::children::traits();
    of_cosocket::program::traits();
    of_cosocket::sockets::traits();
    of_cosocket::locks::traits();
    of_cosocket::once::traits();
}

#[test]
fn debug_output_has_the_shape_of_stds() {
    let expected = of_std::program::debug().unwrap();
    assert_eq!(of_cosocket::program::debug().unwrap(), expected);
    assert_eq!(cosocket::run(of_cosocket::program::debug).unwrap(), expected);
    let expected = of_std::sockets::socket_debug().unwrap();
    assert_eq!(of_cosocket::sockets::socket_debug().unwrap(), expected);
    assert_eq!(cosocket::run(of_cosocket::sockets::socket_debug).unwrap(), expected);
    let expected = of_std::locks::debug().unwrap();
    assert_eq!(of_cosocket::locks::debug().unwrap(), expected);
    assert_eq!(cosocket::run(of_cosocket::locks::debug).unwrap(), expected);
}

#[test]
fn debug_output_of_what_initialises_once_has_the_shape_of_stds() {
    let expected = of_std::once::debug();
    assert_eq!(of_cosocket::once::debug(), expected);
    assert_eq!(cosocket::run(of_cosocket::once::debug), expected);
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
