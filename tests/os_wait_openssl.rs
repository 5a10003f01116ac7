//! A C library in its non-blocking mode: OpenSSL's handshake and transfer in coroutines, each call
//! repeated after `os::wait`. Where libssl is not installed the test says that it was skipped; in
//! CI that is a failure.

#![allow(unsafe_code)]

#[allow(unsafe_code)]
mod util;

use std::ffi::{CStr, c_char, c_int, c_long, c_uchar, c_uint, c_void};
use std::mem::transmute;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr::null_mut;

use cosocket::os::{self, Interest};
use cosocket::thread;
use util::is_quick;

type Pointer = *mut c_void;
type Transfer = unsafe extern "C" fn(Pointer, Pointer, c_int) -> c_int;

/// What the test calls.
#[derive(Clone, Copy)]
struct OpenSsl {
    client_method: unsafe extern "C" fn() -> Pointer,
    server_method: unsafe extern "C" fn() -> Pointer,
    context_new: unsafe extern "C" fn(Pointer) -> Pointer,
    context_ctrl: unsafe extern "C" fn(Pointer, c_int, c_long, Pointer) -> c_long,
    set_ciphers: unsafe extern "C" fn(Pointer, *const c_char) -> c_int,
    set_client_key: unsafe extern "C" fn(Pointer, ClientKey),
    set_server_key: unsafe extern "C" fn(Pointer, ServerKey),
    new: unsafe extern "C" fn(Pointer) -> Pointer,
    set_fd: unsafe extern "C" fn(Pointer, c_int) -> c_int,
    connect: unsafe extern "C" fn(Pointer) -> c_int,
    accept: unsafe extern "C" fn(Pointer) -> c_int,
    read: Transfer,
    write: Transfer,
    shutdown: unsafe extern "C" fn(Pointer) -> c_int,
    error: unsafe extern "C" fn(Pointer, c_int) -> c_int,
    free: unsafe extern "C" fn(Pointer),
    context_free: unsafe extern "C" fn(Pointer),
}

type ClientKey = unsafe extern "C" fn(
    Pointer,
    *const c_char,
    *mut c_char,
    c_uint,
    *mut c_uchar,
    c_uint,
) -> c_uint;
type ServerKey = unsafe extern "C" fn(Pointer, *const c_char, *mut c_uchar, c_uint) -> c_uint;

const WANT_READ: c_int = 2;
const WANT_WRITE: c_int = 3;
const ZERO_RETURN: c_int = 6;
const SET_MAX_PROTO_VERSION: c_int = 124;
const TLS_1_2: c_long = 0x0303;
/// Both sides know it, so no certificate is needed.
const KEY: [u8; 16] = [7; 16];

unsafe extern "C" fn client_key(
    _: Pointer,
    _: *const c_char,
    identity: *mut c_char,
    _: c_uint,
    key: *mut c_uchar,
    _: c_uint,
) -> c_uint {
    // SAFETY: OpenSSL has room for more than this.
    unsafe {
        std::ptr::copy_nonoverlapping(c"me".as_ptr(), identity, 3);
        std::ptr::copy_nonoverlapping(KEY.as_ptr(), key, KEY.len());
    }
    KEY.len() as c_uint
}

unsafe extern "C" fn server_key(
    _: Pointer,
    _: *const c_char,
    key: *mut c_uchar,
    _: c_uint,
) -> c_uint {
    // SAFETY: OpenSSL has room for more than this.
    unsafe { std::ptr::copy_nonoverlapping(KEY.as_ptr(), key, KEY.len()) };
    KEY.len() as c_uint
}

#[allow(clippy::missing_transmute_annotations, reason = "the fields have the types")]
fn open() -> Option<OpenSsl> {
    // SAFETY: a library that is safe to load.
    let library = unsafe { libc::dlopen(c"libssl.so.3".as_ptr(), libc::RTLD_NOW) };
    if library.is_null() {
        assert!(std::env::var_os("CI").is_none(), "libssl.so.3 is not installed, and this is CI");
        println!("skipped: libssl.so.3 not installed");
        return None;
    }
    let symbol = |name: &CStr| -> Pointer {
        // SAFETY: the library stays open.
        let address = unsafe { libc::dlsym(library, name.as_ptr()) };
        assert!(!address.is_null(), "{name:?}");
        address
    };
    // SAFETY: these are the types that OpenSSL's manual gives to these names.
    unsafe {
        Some(OpenSsl {
            client_method: transmute::<Pointer, _>(symbol(c"TLS_client_method")),
            server_method: transmute::<Pointer, _>(symbol(c"TLS_server_method")),
            context_new: transmute::<Pointer, _>(symbol(c"SSL_CTX_new")),
            context_ctrl: transmute::<Pointer, _>(symbol(c"SSL_CTX_ctrl")),
            set_ciphers: transmute::<Pointer, _>(symbol(c"SSL_CTX_set_cipher_list")),
            set_client_key: transmute::<Pointer, _>(symbol(c"SSL_CTX_set_psk_client_callback")),
            set_server_key: transmute::<Pointer, _>(symbol(c"SSL_CTX_set_psk_server_callback")),
            new: transmute::<Pointer, _>(symbol(c"SSL_new")),
            set_fd: transmute::<Pointer, _>(symbol(c"SSL_set_fd")),
            connect: transmute::<Pointer, _>(symbol(c"SSL_connect")),
            accept: transmute::<Pointer, _>(symbol(c"SSL_accept")),
            read: transmute::<Pointer, _>(symbol(c"SSL_read")),
            write: transmute::<Pointer, _>(symbol(c"SSL_write")),
            shutdown: transmute::<Pointer, _>(symbol(c"SSL_shutdown")),
            error: transmute::<Pointer, _>(symbol(c"SSL_get_error")),
            free: transmute::<Pointer, _>(symbol(c"SSL_free")),
            context_free: transmute::<Pointer, _>(symbol(c"SSL_CTX_free")),
        })
    }
}

/// One side of a connection.
struct Session {
    library: OpenSsl,
    context: Pointer,
    ssl: Pointer,
    socket: OwnedFd,
}

impl Session {
    fn new(library: OpenSsl, socket: UnixStream, is_server: bool) -> Session {
        socket.set_nonblocking(true).unwrap();
        let socket = OwnedFd::from(socket);
        let OpenSsl { client_method, server_method, .. } = library;
        let method = if is_server { server_method } else { client_method };
        // SAFETY: as OpenSSL's manual has it.
        unsafe {
            let context = (library.context_new)(method());
            assert!(!context.is_null());
            (library.context_ctrl)(context, SET_MAX_PROTO_VERSION, TLS_1_2, null_mut());
            assert_eq!((library.set_ciphers)(context, c"PSK-AES128-CBC-SHA256".as_ptr()), 1);
            (library.set_client_key)(context, client_key);
            (library.set_server_key)(context, server_key);
            let ssl = (library.new)(context);
            assert!(!ssl.is_null());
            assert_eq!((library.set_fd)(ssl, socket.as_raw_fd()), 1);
            Session { library, context, ssl, socket }
        }
    }

    /// Makes a call until it no longer has to wait; 0 at the end.
    fn until_done(&self, call: impl Fn(Pointer) -> c_int) -> usize {
        loop {
            let result = call(self.ssl);
            if result > 0 {
                return result as usize;
            }
            // SAFETY: the session is ours.
            let interest = match unsafe { (self.library.error)(self.ssl, result) } {
                WANT_READ => Interest::READ,
                WANT_WRITE => Interest::WRITE,
                ZERO_RETURN => return 0,
                other => panic!("OpenSSL says {other}"),
            };
            os::wait(&self.socket, interest, None).unwrap();
        }
    }

    fn handshake(&self, call: unsafe extern "C" fn(Pointer) -> c_int) {
        // SAFETY: the session is ours.
        self.until_done(|ssl| unsafe { call(ssl) });
    }

    fn write_all(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (start, len) = (bytes.as_ptr().cast_mut().cast(), bytes.len() as c_int);
            // SAFETY: the session is ours, and the bytes are only read.
            let count = self.until_done(|ssl| unsafe { (self.library.write)(ssl, start, len) });
            bytes = &bytes[count..];
        }
    }

    fn read(&self, buffer: &mut [u8]) -> usize {
        let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len() as c_int);
        // SAFETY: the session is ours, and so is the buffer.
        self.until_done(|ssl| unsafe { (self.library.read)(ssl, start, len) })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: not used any more.
        unsafe {
            (self.library.free)(self.ssl);
            (self.library.context_free)(self.context);
        }
    }
}

/// The client sends, the server echoes, all sessions at once.
#[test]
fn tls_sessions_of_openssl_run_in_coroutines() {
    let Some(library) = open() else {
        return;
    };
    let (sessions, size) = if is_quick() { (2, 20_000) } else { (20, 500_000) };
    cosocket::run(move || {
        let clients: Vec<_> = (0..sessions)
            .map(|number| {
                let (near, far) = UnixStream::pair().unwrap();
                thread::spawn(move || {
                    let session = Session::new(library, far, true);
                    session.handshake(library.accept);
                    let mut buffer = vec![0; 10_000];
                    loop {
                        match session.read(&mut buffer) {
                            0 => break,
                            count => session.write_all(&buffer[..count]),
                        }
                    }
                });
                thread::spawn(move || {
                    let session = Session::new(library, near, false);
                    session.handshake(library.connect);
                    let sent = vec![number; 10_000];
                    let mut buffer = vec![0; 7_000];
                    for _ in 0..size / sent.len() {
                        session.write_all(&sent);
                        let mut left = sent.len();
                        while left > 0 {
                            let count = session.read(&mut buffer);
                            assert!(count > 0 && buffer[..count].iter().all(|&b| b == number));
                            left -= count;
                        }
                    }
                    // SAFETY: the session is ours.
                    unsafe { (library.shutdown)(session.ssl) };
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}
