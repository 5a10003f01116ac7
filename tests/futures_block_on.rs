//! `futures::block_on` and its sockets: who wakes it, what it waits for at once, and that nothing
//! of it outlives it.

#[allow(unsafe_code)]
mod util;

use std::cell::Cell;
use std::future::{self, Future, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use cosocket::futures::{Async, block_on};
use cosocket::{Cancelled, thread, time};
use futures_util::future::{join, join_all, select};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use util::{child, descriptors, pair};

/// In a coroutine, then on a plain thread.
fn in_both(test: impl Fn() + Send + Sync) {
    cosocket::run(&test);
    test();
}

/// Pending until `ready`; leaves its waker.
#[derive(Default)]
struct Gate {
    ready: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Gate {
    fn open(&self) {
        self.ready.store(true, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }

    fn passed(self: &Arc<Gate>) -> impl Future<Output = ()> + use<> {
        let gate = Arc::clone(self);
        poll_fn(move |context| {
            *gate.waker.lock().unwrap() = Some(context.waker().clone());
            match gate.ready.load(Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
    }
}

#[test]
fn a_future_that_is_ready_is_polled_once() {
    in_both(|| {
        let polls = Cell::new(0);
        let borrowed = &polls;
        assert_eq!(block_on(async { borrowed.replace(1) }), 0);
        assert_eq!(polls.get(), 1);
    });
}

#[test]
fn a_waker_is_woken_from_coroutines_and_from_threads() {
    in_both(|| {
        for round in 0..100 {
            let gate = Arc::new(Gate::default());
            let passed = gate.passed();
            let open = move || gate.open();
            if round % 2 == 0 {
                std::thread::spawn(open);
            } else {
                thread::spawn(open);
            }
            block_on(passed);
        }
    });
}

#[test]
fn a_waker_may_be_woken_when_all_is_over() {
    let kept = cosocket::run(|| {
        let mut kept = None;
        block_on(poll_fn(|context| {
            kept = Some(context.waker().clone());
            Poll::Ready(())
        }));
        // While its coroutine does something else, too.
        let waker = kept.unwrap();
        waker.wake_by_ref();
        thread::sleep(Duration::from_millis(1));
        waker.wake_by_ref();
        waker
    });
    kept.wake();
}

/// It wakes itself in each poll: the others get their turn all the same.
#[test]
fn a_future_that_wakes_itself_starves_nobody() {
    cosocket::run(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let other = cosocket::spawn_local({
            let stop = Arc::clone(&stop);
            move || stop.store(true, Ordering::Relaxed)
        });
        block_on(poll_fn(|context| {
            context.waker().wake_by_ref();
            match stop.load(Ordering::Relaxed) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
        other.join().unwrap();
    });
}

/// Always ready, so no poll ever has to wait.
#[test]
fn a_future_that_always_finds_data_starves_nobody() {
    cosocket::run(|| {
        let (a, b) = pair();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let feeder = scope.spawn(|| {
                let mut bytes = 0;
                while !stop.load(Ordering::Relaxed) {
                    bytes += (&b).write(&[0; 4096]).unwrap();
                }
                drop(b);
                bytes
            });
            let waiter = scope.spawn(|| {
                thread::sleep(Duration::from_millis(5));
                stop.store(true, Ordering::Relaxed);
            });
            let mut stream = Async::new(a);
            let mut all = Vec::new();
            let bytes = block_on(stream.read_to_end(&mut all)).unwrap();
            waiter.join().unwrap();
            assert_eq!(bytes, feeder.join().unwrap());
        });
    });
}

#[test]
fn one_future_reads_and_writes_at_once() {
    const BYTES: usize = 4 << 20;
    in_both(|| {
        let (ours, theirs) = pair();
        let echo = thread::spawn(move || {
            let copied = io::copy(&mut theirs.try_clone().unwrap(), &mut &theirs);
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            copied.unwrap()
        });
        let stream = Async::new(ours);
        let (mut reader, mut writer) = (stream.clone(), stream);
        // More than all the buffers between hold: who writes first and reads then is stuck.
        let write = async {
            let mut sent = 0;
            while sent < BYTES {
                writer.write_all(&[7; 1 << 16]).await.unwrap();
                sent += 1 << 16;
            }
            writer.close().await.unwrap();
        };
        let mut all = Vec::new();
        let ((), read) = block_on(join(write, reader.read_to_end(&mut all)));
        assert_eq!(read.unwrap(), BYTES);
        assert!(all.iter().all(|&byte| byte == 7));
        assert_eq!(echo.join().unwrap(), BYTES as u64);
    });
}

#[test]
fn one_future_waits_for_many_sockets_and_a_waker() {
    in_both(|| {
        let (near, far): (Vec<_>, Vec<_>) = (0..20).map(|_| pair()).unzip();
        let gate = Arc::new(Gate::default());
        let reads = near.into_iter().map(|stream| async {
            let mut text = String::new();
            Async::new(stream).read_to_string(&mut text).await.unwrap();
            text
        });
        let both = join(join_all(reads), gate.passed());
        let peer = thread::spawn(move || {
            for (number, mut stream) in far.into_iter().enumerate().rev() {
                write!(stream, "{number}").unwrap();
            }
            gate.open();
        });
        let (texts, ()) = block_on(both);
        let expected: Vec<_> = (0..20).map(|number| number.to_string()).collect();
        assert_eq!(texts, expected);
        peer.join().unwrap();
    });
}

/// The read goes on to be registered while it is not polled, and nothing is taken by it.
#[test]
fn a_read_that_is_dropped_loses_nothing() {
    in_both(|| {
        let (ours, mut theirs) = pair();
        let mut stream = Async::new(ours);
        let gate = Arc::new(Gate::default());
        block_on(async {
            let mut buffer = [0; 8];
            let read = pin!(stream.read(&mut buffer));
            let polled_once = AtomicUsize::new(0);
            let other = poll_fn(|context| match polled_once.fetch_add(1, Ordering::Relaxed) {
                0 => {
                    gate.open();
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            });
            select(read, other).await;
        });
        theirs.write_all(b"kept").unwrap();
        let mut buffer = [0; 4];
        block_on(stream.read_exact(&mut buffer)).unwrap();
        assert_eq!(&buffer, b"kept");
    });
}

/// Also while the future that dropped it goes on.
#[test]
fn a_handle_that_is_dropped_closes_its_socket() {
    in_both(|| {
        let (ours, mut theirs) = pair();
        let gate = Arc::new(Gate::default());
        let passed = gate.passed();
        let peer = thread::spawn(move || {
            let end = theirs.read(&mut [0]).unwrap();
            gate.open();
            end
        });
        block_on(async {
            let mut stream = Async::new(ours);
            let mut buffer = [0];
            {
                let read = pin!(stream.read(&mut buffer));
                let both = select(read, yields_once());
                both.await;
            }
            drop(stream);
            passed.await;
        });
        assert_eq!(peer.join().unwrap(), 0);
    });
}

fn yields_once() -> impl Future<Output = ()> + Unpin {
    let mut polls = 0;
    poll_fn(move |context| {
        polls += 1;
        context.waker().wake_by_ref();
        if polls == 1 { Poll::Pending } else { Poll::Ready(()) }
    })
}

/// It is registered with the first `block_on`, polled by the second, and dropped by neither.
#[test]
fn a_handle_may_move_from_one_block_on_to_another() {
    cosocket::run(|| {
        let (ours, mut theirs) = pair();
        let slot = Mutex::new(Some(Async::new(ours)));
        let (first, second) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let (first_passed, second_passed) = (first.passed(), second.passed());
        thread::scope(|scope| {
            let slot = &slot;
            let one = scope.spawn(move || {
                block_on(async {
                    let mut stream = slot.lock().unwrap().take().unwrap();
                    let mut buffer = [0];
                    select(pin!(stream.read(&mut buffer)), yields_once()).await;
                    *slot.lock().unwrap() = Some(stream);
                    first.open();
                    second_passed.await;
                })
            });
            block_on(first_passed);
            let mut stream = slot.lock().unwrap().take().unwrap();
            let peer = scope.spawn(move || {
                theirs.write_all(b"x").unwrap();
                theirs.read(&mut [0]).unwrap()
            });
            let mut buffer = [0];
            block_on(stream.read_exact(&mut buffer)).unwrap();
            drop(stream);
            assert_eq!(peer.join().unwrap(), 0, "the first has let go of the socket");
            second.open();
            one.join().unwrap();
        });
    });
}

#[test]
fn a_cancel_unwinds_out_of_it_and_drops_the_future() {
    cosocket::run(|| {
        let (ours, mut theirs) = pair();
        let dropped = Arc::new(AtomicBool::new(false));
        let on_drop = SetOnDrop(Arc::clone(&dropped));
        let waiter = thread::spawn(move || {
            let mut stream = Async::new(ours);
            block_on(async {
                let _on_drop = on_drop;
                stream.read(&mut [0]).await
            })
        });
        thread::sleep(Duration::from_millis(2));
        waiter.cancel();
        assert!(waiter.join().unwrap_err().is::<Cancelled>());
        assert!(dropped.load(Ordering::Relaxed));
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_timeout_around_it_drops_the_future() {
    in_both(|| {
        let (ours, mut theirs) = pair();
        let mut stream = Async::new(ours);
        let dropped = Arc::new(AtomicBool::new(false));
        let on_drop = SetOnDrop(Arc::clone(&dropped));
        let soon = Duration::from_millis(5);
        let elapsed = time::timeout(soon, || {
            block_on(async {
                let _on_drop = on_drop;
                stream.read(&mut [0]).await
            })
        });
        assert!(elapsed.is_err() && dropped.load(Ordering::Relaxed));
        // Waiting for a waker alone, and never waiting at all.
        assert!(time::timeout(soon, || block_on(future::pending::<()>())).is_err());
        let spin = poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(time::timeout(soon, || block_on(spin)).is_err());
        theirs.write_all(b"x").unwrap();
        block_on(stream.read_exact(&mut [0])).unwrap();
    });
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_panic_in_a_poll_comes_out_and_leaves_nothing() {
    in_both(|| {
        let (ours, mut theirs) = pair();
        let mut stream = Async::new(ours);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            block_on(async {
                let mut buffer = [0];
                select(pin!(stream.read(&mut buffer)), yields_once()).await;
                std::panic::resume_unwind(Box::new("on purpose"));
            })
        }));
        assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
        theirs.write_all(b"x").unwrap();
        block_on(stream.read_exact(&mut [0])).unwrap();
        drop(stream);
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_block_on_inside_another_has_its_own_sockets() {
    in_both(|| {
        let (outer, mut outer_peer) = pair();
        let (inner, mut inner_peer) = pair();
        let (mut outer, mut inner) = (Async::new(outer), Async::new(inner));
        let peer = thread::spawn(move || {
            inner_peer.write_all(b"i").unwrap();
            outer_peer.write_all(b"o").unwrap();
            (inner_peer, outer_peer)
        });
        let (mut a, mut b) = ([0], [0]);
        block_on(async {
            let inside = future::ready(()).await;
            block_on(inner.read_exact(&mut a)).unwrap();
            outer.read_exact(&mut b).await.unwrap();
            inside
        });
        assert_eq!((a, b), ([b'i'], [b'o']));
        drop(peer.join().unwrap());
    });
}

#[test]
fn a_socket_outside_names_the_remedy() {
    struct Nobody;
    impl Wake for Nobody {
        fn wake(self: Arc<Nobody>) {}
    }
    in_both(|| {
        let (ours, _theirs) = pair();
        let mut stream = Async::new(ours);
        let waker = Waker::from(Arc::new(Nobody));
        let mut context = Context::from_waker(&waker);
        let Poll::Ready(Err(error)) = Pin::new(&mut stream.read(&mut [0])).poll(&mut context)
        else {
            panic!("nobody would wake it");
        };
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("cosocket::futures::block_on"), "{error}");
    });
}

#[test]
fn no_descriptor_is_left_behind() {
    child::passes("no_descriptor_is_left_behind", || {
        in_both(|| {
            let round = || {
                let (ours, theirs) = pair();
                let (mut ours, mut theirs) = (Async::new(ours), Async::new(theirs));
                block_on(async {
                    let mut buffer = [0; 5];
                    let read = theirs.read_exact(&mut buffer);
                    join(read, ours.write_all(b"hello")).await.0.unwrap();
                    select(pin!(theirs.read(&mut buffer)), yields_once()).await;
                });
            };
            round();
            let before = descriptors();
            (0..20).for_each(|_| round());
            assert_eq!(descriptors(), before);
        });
    });
}
