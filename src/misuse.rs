//! Programs that must not compile, as doctests: each would be unsound if it did, or lose what was
//! sent.
//!
//! A coroutine that outlives what it borrows:
//!
//! ```compile_fail,E0373
//! let text = String::from("short-lived");
//! cosocket::thread::spawn(|| println!("{}", &text));
//! ```
//!
//! ```compile_fail,E0373
//! let number = 5;
//! cosocket::thread::spawn(|| number + 1);
//! ```
//!
//! A closure or a result that must stay on its thread, on a worker that anybody may choose:
//!
//! ```compile_fail,E0277
//! let shared = std::rc::Rc::new(5);
//! cosocket::thread::spawn(move || *shared);
//! ```
//!
//! ```compile_fail,E0277
//! cosocket::thread::spawn(|| std::rc::Rc::new(5));
//! ```
//!
//! ```compile_fail,E0277
//! let shared = std::rc::Rc::new(5);
//! cosocket::run(move || *shared);
//! ```
//!
//! ```compile_fail,E0277
//! let shared = std::rc::Rc::new(5);
//! cosocket::thread::scope(|scope| {
//!     scope.spawn(|| *shared);
//! });
//! ```
//!
//! A local handle on another thread:
//!
//! ```compile_fail,E0277
//! fn needs_send<T: Send>(_: T) {}
//! cosocket::run(|| needs_send(cosocket::spawn_local(|| ())));
//! ```
//!
//! ```compile_fail,E0277
//! fn needs_sync<T: Sync>(_: &T) {}
//! cosocket::run(|| needs_sync(&cosocket::spawn_local(|| ())));
//! ```
//!
//! A local coroutine that borrows:
//!
//! ```compile_fail,E0373
//! cosocket::run(|| {
//!     let text = String::from("short-lived");
//!     cosocket::spawn_local(|| println!("{}", &text));
//! });
//! ```
//!
//! A scope whose coroutines, handles or borrows get out of it:
//!
//! ```compile_fail,E0521
//! let mut kept = None;
//! cosocket::thread::scope(|scope| kept = Some(scope.spawn(|| ())));
//! ```
//!
//! ```compile_fail,E0521
//! let mut kept = None;
//! cosocket::thread::scope(|scope| kept = Some(scope));
//! ```
//!
//! ```compile_fail,E0373
//! cosocket::thread::scope(|scope| {
//!     let inside = 5;
//!     scope.spawn(|| inside + 1);
//! });
//! ```
//!
//! ```compile_fail,E0499
//! let mut number = 5;
//! cosocket::thread::scope(|scope| {
//!     scope.spawn(|| number += 1);
//!     scope.spawn(|| number += 1);
//! });
//! ```
//!
//! ```compile_fail,E0506
//! let mut number = 5;
//! cosocket::thread::scope(|scope| {
//!     scope.spawn(|| println!("{number}"));
//!     number += 1;
//! });
//! ```
//!
//! A reference to a coroutine-local that outlives the coroutine:
//!
//! ```compile_fail
//! cosocket::coroutine_local! {
//!     static LIST: Vec<u32> = vec![1];
//! }
//! let escaped: &'static Vec<u32> = cosocket::run(|| LIST.with(|list| list));
//! ```
//!
//! A receiver of `mpsc` used by two, and one arm in two selects at a time:
//!
//! ```compile_fail,E0277
//! let (sender, receiver) = cosocket::sync::mpsc::channel::<i32>();
//! cosocket::thread::scope(|scope| {
//!     scope.spawn(|| receiver.recv());
//! });
//! ```
//!
//! ```compile_fail,E0499
//! use cosocket::sync::select::{self, Select};
//! let mut arm = select::after(std::time::Duration::ZERO);
//! let (mut first, mut second) = (Select::new(), Select::new());
//! first.add(&mut arm);
//! second.add(&mut arm);
//! first.wait();
//! ```
//!
//! A connection with two owners, or whose owner changes under one who still writes to it or reads
//! from it; OpenResty's `duplicate call`, `pending data to write`, `pending request body reading`:
//!
//! ```compile_fail,E0382
//! fn serve(connection: cosocket::server::Connection) {
//!     let one = connection.into_cosocket();
//!     let other = connection.into_cosocket();
//! }
//! ```
//!
//! ```compile_fail,E0505
//! fn serve(connection: cosocket::server::Connection) {
//!     let mut response = std::io::BufWriter::new(&connection);
//!     let socket = connection.into_cosocket();
//!     std::io::Write::flush(&mut response).unwrap();
//! }
//! ```
//!
//! ```compile_fail,E0505
//! fn serve(socket: cosocket::Cosocket) {
//!     let mut body = cosocket::server::RequestBody::new(&socket, 5).unwrap();
//!     let parts = socket.into_parts();
//!     body.receive_any(5).unwrap();
//! }
//! ```
