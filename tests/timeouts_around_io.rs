//! `time::timeout` around waits of `io`, `process`, `os` and `signal`: each returns `TimedOut`, and
//! nothing is lost by that.

#[allow(unsafe_code)]
mod util;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use cosocket::io::pipe;
use cosocket::os::{self, Interest};
use cosocket::process::Command;
use cosocket::signal::{self, SIGUSR1, Signals};
use cosocket::time;

/// What the call inside returned, which must be the error of a wait that was cut.
fn is_cut<T: std::fmt::Debug>(call: impl FnOnce() -> std::io::Result<T>) {
    let mut returned = None;
    let _ = time::timeout(Duration::from_millis(5), || returned = Some(call()));
    let error = returned.expect("it unwound past its error").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn pipes() {
    cosocket::run(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        is_cut(|| reader.read(&mut [0; 4]));
        writer.write_all(&vec![1; 65536]).unwrap();
        is_cut(|| writer.write(b"more"));
        assert_eq!(util::readable_bytes(&reader), 65536);
    });
}

#[test]
fn children() {
    cosocket::run(|| {
        let mut cat = Command::new("cat");
        let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let input = child.stdin.take();
        is_cut(|| child.wait());
        assert!(child.try_wait().unwrap().is_none());
        drop(input);
        assert!(child.wait().unwrap().success());
        let (input, keeps_it) = pipe().unwrap();
        let mut cat = Command::new("cat");
        cat.stdin(input);
        is_cut(|| cat.output());
        is_cut(|| cat.stdout(Stdio::null()).status());
        drop((cat, keeps_it));
    });
}

#[test]
fn any_descriptor() {
    cosocket::run(|| {
        let (near, mut far) = UnixStream::pair().unwrap();
        is_cut(|| os::wait(&near, Interest::READ, None));
        is_cut(|| os::wait(&near, Interest::READ, Some(Duration::from_secs(1000))));
        far.write_all(b"x").unwrap();
        assert!(os::wait(&near, Interest::READ, None).unwrap().is_readable());
    });
}

#[test]
#[allow(unsafe_code)]
fn signals() {
    cosocket::run(|| {
        is_cut(signal::ctrl_c);
        let signals = Signals::new(&[SIGUSR1]).unwrap();
        is_cut(|| signals.wait());
        // SAFETY: the signal has a handler.
        assert_eq!(unsafe { libc::raise(SIGUSR1) }, 0);
        assert_eq!(signals.wait().unwrap(), SIGUSR1);
    });
}
