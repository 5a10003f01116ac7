//! Stackful coroutines with guarded stacks, and `std`'s sockets on top of them: calls that look
//! blocking and are not, over io_uring or epoll.
//!
//! A program written against [`std::net`] and [`std::thread`] becomes one whose threads are
//! coroutines by changing its `use` lines:
//!
//! ```no_run
//! use std::io::{self, Read, Write};
//!
//! use cosocket::net::TcpListener; // was: use std::net::TcpListener;
//! use cosocket::thread; // was: use std::thread;
//!
//! fn main() -> io::Result<()> {
//!     let listener = TcpListener::bind("127.0.0.1:7000")?;
//!     for stream in listener.incoming() {
//!         let mut stream = stream?;
//!         thread::spawn(move || -> io::Result<()> {
//!             let mut buffer = [0; 4096];
//!             loop {
//!                 match stream.read(&mut buffer)? {
//!                     0 => return Ok(()),
//!                     n => stream.write_all(&buffer[..n])?,
//!                 }
//!             }
//!         });
//!     }
//!     Ok(())
//! }
//! ```
//!
//! There is no `async`, no macro to run `main`, and no trait that a library must know of. A
//! coroutine has a real stack, so it waits inside any function, and libraries that take a
//! `Read + Write` work as they are.
//!
//! # A tour
//!
//! * [`thread`]: [`spawn`], `scope`, `sleep`, `park`, `join`, and
//!   [`cancel`](thread::JoinHandle::cancel), which `std` does not have.
//! * [`sync`]: locks and channels with `std`'s names that suspend, [`select`](mod@sync::select),
//!   [`Semaphore`](sync::Semaphore) and more.
//! * [`time`]: [`timeout`](time::timeout) bounds everything that waits inside a closure.
//! * [`net`]: [`TcpListener`](net::TcpListener), [`TcpStream`](net::TcpStream),
//!   [`UdpSocket`](net::UdpSocket), [`ToSocketAddrs`](net::ToSocketAddrs), and
//!   [`TcpBuilder`](net::TcpBuilder) for what is set before `bind`.
//! * [`Cosocket`]: OpenResty's stream socket, which receives by line, count and delimiter, with
//!   timeouts for each phase; see [`guide::_10_coming_from_openresty`].
//! * [`os::unix::net`]: Unix sockets, with the peer's credentials and descriptors passed.
//! * [`server`]: accepts connections and has a handler serve each, with limits, rules, the PROXY
//!   protocol, and an end that cuts nobody short.
//! * [`run`], [`Runtime`] and [`Builder`]: runtimes with an end, and with settings of their own.
//!   Without one, the first `spawn` from a plain thread starts a global runtime.
//! * [`unblock`] for calls that block and have no other form: files, C libraries, computations.
//! * [`io`], [`process`], [`os::wait`]: pipes, standard input and output, children, and any
//!   descriptor of somebody else's.
//! * [`signal::ctrl_c`] waits for Ctrl-C; [`coroutine_local!`] is `thread_local!` for coroutines;
//!   [`shield`] holds a cancel back; [`Runtime::metrics`] counts.
//!
//! Outside a coroutine every call simply blocks its thread, as in `std`: in `main`, in tests, in
//! destructors, in threads of other libraries.
//!
//! What to know before using it is in the [`guide`]: above all
//! [what suspends and what blocks](guide::_02_what_suspends), [stacks](guide::_03_stacks) and
//! [soundness](guide::_06_soundness).
//!
//! # How it is put together
//!
//! A runtime has workers, each a thread with a driver (io_uring or epoll, found out at start), a
//! queue of ready coroutines and a timer wheel. A call that has to wait hands its operation to the
//! driver and switches to the next ready coroutine. A coroutine that has started never changes
//! its worker, which is what makes `spawn` safe. [`guide::_08_internals`] has the pictures.
//!
//! # Platforms
//!
//! Linux 5.11 or later on 64 bits; io_uring from Linux 6.1 on. The switch is written for x86_64,
//! aarch64 and riscv64; others need the feature `corosensei`.
//!
//! # Features
//!
//! None is on by default.
//!
//! * `futures`: `futures::block_on`, and sockets for async crates.
//! * `dns`: a resolver of our own, which cosockets then use: [`guide::_12_names`].
//! * `tls`: TLS for clients and servers, by rustls and ring, with the platform's roots.
//!   `tls-aws-lc-rs` adds aws-lc's cryptography, `tls-webpki-roots` Mozilla's roots; each is then
//!   an option.
//! * `log`: [`Cosocket::set_log_errors`](Cosocket), errors of sockets in the log of the crate `log`.
//! * `corosensei`: switches contexts through the crate of that name, in place of our own assembly.
//!   Slower, and works on the other architectures which that crate knows.

// Under loom the crate is empty: the models include the files they model.
#![cfg(not(loom))]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("cosocket needs 64-bit Linux (5.11 or later); other systems are not supported");

// Walking a suspended stack is part of the contract; so far debuggers and tests are who does it.
#[cfg_attr(not(cosocket_internals), allow(dead_code, unused_imports))]
#[path = "../arch/mod.rs"]
#[allow(unsafe_code)]
mod arch;
mod atomics;
#[allow(unsafe_code)]
mod blocking;
#[allow(unsafe_code)]
mod blocks;
mod census;
#[cfg(test)]
mod child;
#[allow(unsafe_code)]
mod clock;
#[allow(unsafe_code)]
mod coroutine;
mod cosocket;
mod counter;
#[allow(unsafe_code)]
mod current;
#[allow(unsafe_code)]
mod deadlock;
#[allow(unsafe_code)]
mod doorbell;
#[allow(unsafe_code)]
mod driver;
#[allow(unsafe_code)]
mod dump;
mod ids;
#[allow(unsafe_code)]
mod io_handle;
#[allow(unsafe_code)]
mod limit;
#[allow(unsafe_code)]
mod list;
#[allow(unsafe_code)]
mod local;
#[allow(unsafe_code)]
mod mailbox;
mod metrics;
#[cfg(doctest)]
mod misuse;
#[allow(unsafe_code)]
mod overflow;
#[allow(unsafe_code)]
mod ready;
mod registry;
#[allow(unsafe_code)]
mod remedy;
#[allow(unsafe_code)]
mod runtime;
#[cfg(cosocket_asan)]
#[allow(unsafe_code)]
mod sanitizer;
#[allow(unsafe_code)]
mod scope;
#[allow(unsafe_code)]
mod shared;
#[allow(unsafe_code)]
mod shutdown;
#[allow(unsafe_code)]
mod socket;
#[allow(unsafe_code)]
mod stack;
#[allow(unsafe_code)]
mod switch_hook;
#[allow(unsafe_code)]
mod timer;
mod unwind;
#[allow(unsafe_code)]
mod wait;
#[allow(unsafe_code)]
mod worker;

#[cfg(feature = "dns")]
#[cfg_attr(docsrs, doc(cfg(feature = "dns")))]
pub mod dns;
#[cfg(feature = "futures")]
#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
#[allow(unsafe_code)]
pub mod futures;
pub mod guide;
#[allow(unsafe_code)]
pub mod io;
#[allow(unsafe_code)]
pub mod net;
#[allow(unsafe_code)]
pub mod os;
#[allow(unsafe_code)]
pub mod process;
pub mod server;
#[allow(unsafe_code)]
pub mod signal;
#[allow(unsafe_code)]
pub mod sync;
#[allow(unsafe_code)]
pub mod thread;
pub mod time;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub mod tls;

use std::fmt;

pub use blocking::unblock;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use cosocket::TlsAgreement;
pub use cosocket::{
    Address, ConnectOptions, Cosocket, Datagram, Error, ErrorKind, Fragments, LINE_LIMIT, Names,
    Number, OptionName, PEEK_LIMIT, Parts, Pieces, Proxy, QueueEvent, QueuedWriter, SocketOption,
    Stream, Target, Text, TimeoutMode, UdpCosocket, Until, Watermarks, connect, framing,
};
pub use cosocket::{Evicted, Eviction, Pool, PoolMetrics, PoolOptions, pool_totals, pools};
pub use driver::Choice as Driver;
pub use metrics::Metrics;
pub use runtime::{Builder, Runtime, run};
pub use shutdown::Straggler;
pub use thread::{LocalJoinHandle, shield, spawn, spawn_local};

/// The payload of a cancelled coroutine: what its `join` returns as the error, and what an
/// unwinding cancel carries. See [`thread::JoinHandle::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the coroutine was cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// Runs the samples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What this repository's own tests and benches reach; not part of the published crate.
#[cfg(cosocket_internals)]
#[doc(hidden)]
pub mod internals {
    pub use crate::blocking::{Counts, counts};
    pub use crate::server::internals as proxy_protocol;
    pub use crate::timer::{Timer, Wheel};
    #[cfg(feature = "dns")]
    pub mod dns {
        /// Reads `data` as an answer of a name server.
        pub fn fuzz(data: &[u8]) {
            crate::dns::fuzz(data);
        }
    }
    pub mod receive {
        //! What a cosocket receives with, over any source of bytes.
        pub use crate::cosocket::receive::*;
    }
    pub mod arch {
        //! Context switches.
        pub use crate::arch::*;
    }
}
