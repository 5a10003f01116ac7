//! A stream is not bound to a worker: it is read here, then there, by a clone elsewhere, and by
//! two workers at a time. A coroutine is bound: whoever wakes it, it goes on where it started.

#[allow(unsafe_code)]
mod util;

use std::io::{Read, Write};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Barrier, Mutex};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::thread::{self, Thread};
use cosocket::{Builder, Runtime};
use util::{Random, is_quick, os_thread, pair, tcp_pair};

const WORKERS: usize = 3;

fn rounds() -> u64 {
    if is_quick() { 50 } else { 1000 }
}

type Job = Box<dyn FnOnce() + Send>;

/// A coroutine on each worker that runs what it is given.
struct Workers {
    seats: Vec<Seat>,
    _runtime: Runtime,
}

struct Seat {
    job: Arc<Mutex<Option<Job>>>,
    thread: Thread,
    os_thread: i32,
}

impl Workers {
    fn new() -> Workers {
        let runtime = Builder::new().workers(WORKERS).build().unwrap();
        // Blocks the worker's thread, so that no worker starts two.
        let together = Arc::new(Barrier::new(WORKERS));
        let (send, started) = mpsc::channel();
        for _ in 0..WORKERS {
            let (together, send) = (Arc::clone(&together), send.clone());
            runtime.spawn(move || {
                together.wait();
                let job: Arc<Mutex<Option<Job>>> = Arc::default();
                let seat = Seat {
                    job: Arc::clone(&job),
                    thread: thread::current(),
                    os_thread: os_thread(),
                };
                send.send(seat).unwrap();
                loop {
                    let next = job.lock().unwrap().take();
                    match next {
                        // A coroutine of its own, so that a worker has several jobs at a time.
                        Some(next) => drop(cosocket::spawn_local(next)),
                        None => thread::park(),
                    }
                }
            });
        }
        let seats: Vec<Seat> = started.iter().take(WORKERS).collect();
        Workers { seats, _runtime: runtime }
    }

    /// Runs `f` on a worker; it starts and ends on that worker's thread.
    fn start<T: Send + 'static>(
        &self,
        worker: usize,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Receiver<T> {
        let seat = &self.seats[worker];
        let home = seat.os_thread;
        let (send, receive) = mpsc::channel();
        let mut job = Some(Box::new(move || {
            assert_eq!(os_thread(), home);
            let result = f();
            assert_eq!(os_thread(), home, "a coroutine has changed its thread");
            send.send(result).unwrap();
        }) as Job);
        while job.is_some() {
            let mut place = seat.job.lock().unwrap();
            if place.is_none() {
                *place = job.take();
            }
            drop(place);
            seat.thread.unpark();
        }
        receive
    }

    fn run<T: Send + 'static>(&self, worker: usize, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(worker, f).recv().unwrap()
    }
}

/// One byte in each direction, waited for.
fn read_one(stream: &TcpStream) -> u8 {
    let mut byte = [0];
    { stream }.read_exact(&mut byte).unwrap();
    byte[0]
}

#[test]
fn a_stream_is_read_by_one_worker_after_another() {
    let workers = Workers::new();
    let mut random = Random::new();
    let (near, mut far) = tcp_pair();
    let near = Arc::new(TcpStream::from(near));
    for round in 0..rounds() {
        let stream = Arc::clone(&near);
        let byte = workers.start(random.below(3) as usize, move || read_one(&stream));
        if random.one_in(2) {
            std::thread::yield_now();
        }
        far.write_all(&[round as u8]).unwrap();
        assert_eq!(byte.recv().unwrap(), round as u8);
    }
}

#[test]
fn a_stream_moves_to_a_second_worker_and_a_clone_to_a_third() {
    let workers = Workers::new();
    for round in 0..rounds() as u8 {
        let (near, far) = pair();
        let mut far = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::from(far));
        let on_first = workers.start(0, move || (read_one(&near), near));
        far.write_all(&[round]).unwrap();
        let (byte, near) = on_first.recv().unwrap();
        assert_eq!(byte, round);
        let on_second = workers.start(1, move || (read_one(&near), near));
        far.write_all(&[round ^ 1]).unwrap();
        let (byte, near) = on_second.recv().unwrap();
        assert_eq!(byte, round ^ 1);
        let clone = near.try_clone().unwrap();
        let on_third = workers.start(2, move || (read_one(&clone), clone));
        far.write_all(&[round ^ 2]).unwrap();
        let (byte, clone) = on_third.recv().unwrap();
        assert_eq!(byte, round ^ 2);
        // The original goes first; the clone still hears.
        drop(near);
        let again = workers.start(2, move || read_one(&clone));
        far.write_all(&[round ^ 3]).unwrap();
        assert_eq!(again.recv().unwrap(), round ^ 3);
    }
}

/// Under epoll both workers' epolls hear of every byte, and either may be the first to look: it
/// made the other's coroutine ready in its own queue, and so ran it on the wrong thread.
#[test]
fn a_wake_that_another_worker_sees_first_reaches_the_waiter_at_home() {
    let workers = Workers::new();
    let (near, mut far) = pair();
    let near = Arc::new(near);
    // Makes the stream known to every worker.
    for worker in 0..WORKERS {
        let stream = Arc::clone(&near);
        let byte = workers.start(worker, move || read_one(&stream));
        workers.run((worker + 1) % WORKERS, {
            let far = far.try_clone().unwrap();
            move || { &far }.write_all(&[7]).unwrap()
        });
        assert_eq!(byte.recv().unwrap(), 7);
    }
    for round in 0..rounds() {
        let stream = Arc::clone(&near);
        let byte = workers.start(round as usize % WORKERS, move || {
            let home = os_thread();
            let byte = read_one(&stream);
            assert_eq!(os_thread(), home);
            byte
        });
        // Busy workers that look at their epolls now and then.
        let others: Vec<_> = (0..WORKERS)
            .map(|worker| workers.start(worker, || (0..20).for_each(|_| thread::yield_now())))
            .collect();
        far = workers.run((round as usize + 1) % WORKERS, move || {
            far.write_all(&[round as u8]).unwrap();
            far
        });
        assert_eq!(byte.recv().unwrap(), round as u8);
        others.into_iter().for_each(|other| other.recv().unwrap());
    }
}

/// One half waits on one worker, the other on another, and both move on each round.
#[test]
fn both_halves_of_a_stream_wait_on_different_workers() {
    const CHUNK: usize = 300_000;
    let workers = Workers::new();
    let (near, far) = pair();
    let (near, far) = (Arc::new(near), Arc::new(far));
    for round in 0..rounds() as usize / 10 {
        let byte = round as u8;
        let send = |worker: usize, stream: &Arc<TcpStream>| {
            let stream = Arc::clone(stream);
            workers.start(worker % WORKERS, move || { &*stream }.write_all(&[byte; CHUNK]).unwrap())
        };
        let receive = |worker: usize, stream: &Arc<TcpStream>| {
            let stream = Arc::clone(stream);
            workers.start(worker % WORKERS, move || {
                let mut buffer = vec![0; CHUNK];
                { &*stream }.read_exact(&mut buffer).unwrap();
                assert!(buffer.iter().all(|&got| got == byte));
            })
        };
        // Larger than the socket's buffers, so that every one of these waits.
        let ends = [
            send(round, &near),
            receive(round + 1, &near),
            send(round + 2, &far),
            receive(round + 3, &far),
        ];
        ends.into_iter().for_each(|end| end.recv().unwrap());
    }
}

/// A socket outlives the runtime on which it waited.
#[test]
fn a_stream_goes_on_in_another_runtime() {
    let (near, mut far) = tcp_pair();
    let near = Arc::new(TcpStream::from(near));
    for round in 0..20u8 {
        let workers = Workers::new();
        let stream = Arc::clone(&near);
        let byte = workers.start(round as usize % WORKERS, move || read_one(&stream));
        far.write_all(&[round]).unwrap();
        assert_eq!(byte.recv().unwrap(), round);
    }
}

/// Clones of a listener wait by themselves. Under epoll a connection woke one of them, which
/// might have nobody who accepts: it has to reach those who do.
#[test]
fn a_connection_reaches_the_clone_on_which_somebody_waits() {
    let workers = Workers::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accept = |worker: usize, listener: TcpListener| {
        workers.start(worker, move || {
            let (stream, _) = listener.accept().unwrap();
            (stream, listener)
        })
    };
    let connect = || std::net::TcpStream::connect(address).unwrap();
    let mut clones = vec![];
    let mut first = Some(listener);
    for worker in 0..WORKERS {
        let clone = match first.take() {
            Some(listener) => listener,
            None => TcpListener::try_clone(clones.first().unwrap()).unwrap(),
        };
        let accepted = accept(worker, clone);
        // It waits, most likely.
        std::thread::sleep(std::time::Duration::from_millis(2));
        let _client = connect();
        clones.push(accepted.recv().unwrap().1);
    }
    for round in 0..rounds() as usize / 10 {
        let clone = clones.remove(round % WORKERS);
        let accepted = accept(round % WORKERS, clone);
        for _ in 0..round % 5 {
            std::thread::yield_now();
        }
        let _client = connect();
        clones.insert(round % WORKERS, accepted.recv().unwrap().1);
    }
}
