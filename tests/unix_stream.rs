//! Unix streams and listeners: that they behave as TCP's do. (What both have in common in the
//! code is tested with TCP; here is what must hold for each kind of socket.)

mod socket_util;
#[allow(unsafe_code)]
mod util;

use std::collections::HashSet;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cosocket::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use cosocket::{Builder, thread};
use socket_util::{Agents, everywhere, is_nonblocking, kernel_timeouts, spawn_waiting, turn};
use util::child;

/// A name that nobody else has.
fn name() -> SocketAddr {
    SocketAddr::from_abstract_name(unique()).unwrap()
}

fn unique() -> String {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    format!("cosocket-unix-stream-{}-{number}", std::process::id())
}

fn listen() -> (UnixListener, SocketAddr) {
    let address = name();
    (UnixListener::bind_addr(&address).unwrap(), address)
}

#[test]
fn a_read_waits_times_out_and_loses_nothing() {
    everywhere(|| {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        near.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        for _ in 0..3 {
            assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(near.peek(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        }
        far.write_all(b"late").unwrap();
        near.set_read_timeout(None).unwrap();
        assert_eq!(near.peek(&mut [0; 8]).unwrap(), 4);
        assert_eq!(near.read(&mut [0; 8]).unwrap(), 4);
    });
}

#[test]
fn a_byte_that_races_the_timeout_is_never_lost() {
    cosocket::run(|| {
        let (mut reader, mut writer) = UnixStream::pair().unwrap();
        reader.set_read_timeout(Some(Duration::from_micros(400))).unwrap();
        let writer = thread::spawn(move || {
            for number in 0..200_u32 {
                thread::sleep(Duration::from_micros(200 + u64::from(number) * 2));
                writer.write_all(&[number as u8]).unwrap();
            }
        });
        let mut received = Vec::new();
        let mut buffer = [0; 16];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
        }
        writer.join().unwrap();
        assert_eq!(received, (0..200).collect::<Vec<u8>>());
    });
}

#[test]
fn timeouts_and_mode_are_the_kernels_and_shared_by_clones() {
    everywhere(|| {
        let (near, _far) = UnixStream::pair().unwrap();
        let clone = near.try_clone().unwrap();
        let (read, write) = (Some(Duration::from_millis(4)), Some(Duration::from_secs(9)));
        near.set_read_timeout(read).unwrap();
        clone.set_write_timeout(write).unwrap();
        assert_eq!(kernel_timeouts(&clone), [read, write]);
        assert_eq!((clone.read_timeout().unwrap(), near.write_timeout().unwrap()), (read, write));
        clone.set_nonblocking(true).unwrap();
        assert!(is_nonblocking(&near));
        assert_eq!((&near).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let stds = std::os::unix::net::UnixStream::from(near);
        assert!(is_nonblocking(&stds));
        let adopted = UnixStream::from(stds);
        assert_eq!(adopted.read_timeout().unwrap(), read);
        assert_eq!((&adopted).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn sockets_that_have_waited_are_blocking_when_handed_out() {
    cosocket::run(|| {
        let (listener, address) = listen();
        let acceptor = spawn_waiting(move || (listener.accept().unwrap().0, listener));
        let client = UnixStream::connect_addr(&address).unwrap();
        let (server, listener) = acceptor.join().unwrap();
        assert!(!is_nonblocking(&std::os::unix::net::UnixStream::from(client)));
        assert!(!is_nonblocking(&std::os::unix::net::UnixStream::from(server)));
        assert!(!is_nonblocking(&std::os::unix::net::UnixListener::from(listener)));
    });
}

#[test]
fn an_empty_read_does_not_wait() {
    everywhere(|| {
        let (mut near, _far) = UnixStream::pair().unwrap();
        assert_eq!(near.read(&mut []).unwrap(), 0);
        assert_eq!(near.read_vectored(&mut []).unwrap(), 0);
        assert_eq!(near.peek(&mut []).unwrap(), 0);
        assert_eq!(near.write(&[]).unwrap(), 0);
    });
}

#[test]
fn shutdown_of_a_clone_wakes_reader_and_writer() {
    cosocket::run(|| {
        let (near, _far) = UnixStream::pair().unwrap();
        let [reader, writer, clone] = [(); 3].map(|()| near.try_clone().unwrap());
        let reader = spawn_waiting(move || (&reader).read(&mut [0]).unwrap());
        let writer = spawn_waiting(move || {
            loop {
                if let Err(error) = (&writer).write(&[0; 1 << 16]) {
                    return error.kind();
                }
            }
        });
        assert!(!reader.is_finished() && !writer.is_finished());
        clone.shutdown(Shutdown::Both).unwrap();
        assert_eq!(reader.join().unwrap(), 0);
        assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);
        assert_eq!((&near).read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn no_write_raises_sigpipe() {
    child::passes("no_write_raises_sigpipe", || {
        // Rust's runtime ignores the signal; here it would kill.
        #[allow(unsafe_code)]
        // SAFETY: no handler is installed.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL)
        };
        everywhere(|| {
            let (near, far) = UnixStream::pair().unwrap();
            drop(far);
            let file = std::fs::File::open("/dev/null").unwrap();
            let slices = [IoSlice::new(b"a"), IoSlice::new(b"b")];
            let fds = [std::os::fd::AsFd::as_fd(&file)];
            for result in [
                (&near).write(b"x"),
                (&near).write_vectored(&slices),
                near.send_with_fds(b"x", &fds),
            ] {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::BrokenPipe);
            }
        });
    });
}

#[test]
fn several_readers_get_every_byte_once_and_a_cancelled_one_none() {
    cosocket::run(|| {
        let (near, mut far) = UnixStream::pair().unwrap();
        let near = Rc::new(near);
        let read = |near: &Rc<UnixStream>| {
            let near = Rc::clone(near);
            spawn_waiting(move || {
                let mut byte = [0];
                (&*near).read_exact(&mut byte).unwrap();
                byte[0]
            })
        };
        let readers: Vec<_> = (0..6).map(|_| read(&near)).collect();
        readers[0].cancel();
        readers[3].cancel();
        turn();
        far.write_all(&[1, 2, 3, 4]).unwrap();
        let bytes: Vec<u8> = readers.into_iter().filter_map(|r| r.join().ok()).collect();
        assert_eq!(bytes, [1, 2, 3, 4], "in the order of their arrival");
    });
}

#[test]
fn a_stream_is_used_on_one_worker_after_another() {
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let (near, mut far) = UnixStream::pair().unwrap();
    let near = Arc::new(near);
    for round in 0..20 {
        let (agent, near) = (agents.at(round), Arc::clone(&near));
        let received = agent.start(move || {
            let mut byte = [0];
            (&*near).read_exact(&mut byte).unwrap();
            byte[0]
        });
        agent.settle();
        far.write_all(&[round as u8]).unwrap();
        assert_eq!(received.recv().unwrap(), round as u8);
    }
}

#[test]
fn large_transfers_arrive_whole_in_both_directions_at_once() {
    cosocket::run(|| {
        let (near, far) = UnixStream::pair().unwrap();
        let data: Vec<u8> = (0..1 << 20).map(|n| (n % 251) as u8).collect();
        thread::scope(|scope| {
            for (reader, writer) in [(&near, &far), (&far, &near)] {
                let data = &data;
                scope.spawn(move || {
                    let mut writer = writer;
                    writer.write_all(data).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                scope.spawn(move || {
                    let (mut reader, mut received) = (reader, Vec::new());
                    reader.read_to_end(&mut received).unwrap();
                    assert!(received == *data);
                });
            }
        });
    });
}

#[test]
fn acceptors_on_all_workers_share_one_listener() {
    const CONNECTIONS: usize = 100;
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let (listener, address) = listen();
    let listener = Arc::new(listener);
    let acceptors: Vec<_> = (0..6)
        .map(|number| {
            let listener = Arc::clone(&listener);
            agents.at(number).start(move || {
                let mut names = Vec::new();
                for stream in &*listener {
                    let mut name = Vec::new();
                    stream.unwrap().read_to_end(&mut name).unwrap();
                    match name[..] {
                        [] => break,
                        _ => names.push(name[0]),
                    }
                }
                names
            })
        })
        .collect();
    for number in 0..CONNECTIONS {
        let mut client = UnixStream::connect_addr(&address).unwrap();
        client.write_all(&[number as u8]).unwrap();
    }
    for _ in 0..acceptors.len() {
        UnixStream::connect_addr(&address).unwrap();
    }
    let names: Vec<u8> = acceptors.into_iter().flat_map(|a| a.recv().unwrap()).collect();
    assert_eq!(names.len(), CONNECTIONS);
    assert_eq!(names.into_iter().collect::<HashSet<_>>().len(), CONNECTIONS);
}

#[test]
fn a_cancelled_acceptor_leaves_the_connection_to_the_next() {
    cosocket::run(|| {
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        let mine = Rc::clone(&listener);
        let acceptor = spawn_waiting(move || mine.accept().map(drop));
        acceptor.cancel();
        let _client = UnixStream::connect_addr(&address).unwrap();
        match acceptor.join() {
            Ok(accepted) => accepted.unwrap(),
            Err(_) => drop(listener.accept().unwrap()),
        }
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn io_while_unwinding_makes_one_attempt() {
    struct Asks(UnixStream, UnixListener, SocketAddr, std::sync::mpsc::Sender<String>);
    impl Drop for Asks {
        fn drop(&mut self) {
            let read = self.0.read(&mut [0]).unwrap_err();
            let accept = self.1.accept().unwrap_err();
            let connect = UnixStream::connect_addr(&self.2).map(drop);
            for text in [read.to_string(), accept.to_string(), format!("{connect:?}")] {
                self.3.send(text).unwrap();
            }
        }
    }
    cosocket::run(|| {
        let (near, _far) = UnixStream::pair().unwrap();
        let (listener, address) = listen();
        let (texts, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let _asks = Asks(near, listener, address, texts);
            std::panic::resume_unwind(Box::new(()));
        })
        .join()
        .unwrap_err();
        let texts: Vec<String> = told.iter().collect();
        assert!(texts[0].contains("unwinding"), "{texts:?}");
        assert!(texts[1].contains("unwinding"), "{texts:?}");
        assert_eq!(texts[2], "Ok(())");
    });
}

#[test]
fn the_peers_credentials_are_this_process() {
    everywhere(|| {
        let (listener, address) = listen();
        let client = UnixStream::connect_addr(&address).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (near, _far) = UnixStream::pair().unwrap();
        for stream in [&client, &server, &near] {
            let peer = stream.peer_cred().unwrap();
            assert_eq!(peer.pid, Some(std::process::id() as i32));
            // SAFETY: both take nothing.
            #[allow(unsafe_code)]
            let ids = unsafe { (libc::geteuid(), libc::getegid()) };
            assert_eq!((peer.uid, peer.gid), ids);
        }
    });
}

/// A server and a client that are not ours.
#[test]
fn python_talks_over_a_path() {
    const CLIENT: &str = "
import socket, sys
c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1])
c.sendall(b'x' * 300000); c.shutdown(socket.SHUT_WR)
assert c.makefile('rb').read() == b'300000'
";
    const SERVER: &str = "
import socket, sys
l = socket.socket(socket.AF_UNIX); l.bind(sys.argv[1]); l.listen(); print(flush=True)
s, _ = l.accept(); s.sendall(s.makefile('rb').read()[::-1])
";
    fn python(program: &str, path: &PathBuf) -> std::process::Child {
        let mut command = std::process::Command::new("python3");
        command.args(["-c", program]).arg(path).stdout(std::process::Stdio::piped());
        command.spawn().expect("python3")
    }
    everywhere(|| {
        let path = std::env::temp_dir().join(unique());
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = python(CLIENT, &path);
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(stream.peer_cred().unwrap().pid, Some(client.id() as i32));
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        write!(stream, "{}", received.len()).unwrap();
        drop(stream);
        assert!(client.wait().unwrap().success());
        std::fs::remove_file(&path).unwrap();

        let mut server = python(SERVER, &path);
        // It says when it listens.
        server.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"abc").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "cba");
        assert!(server.wait().unwrap().success());
        std::fs::remove_file(&path).unwrap();
    });
}
