//! KA-6: what a transport sends for its own sake, as TLS does with its tickets, is read and
//! forgotten, and the connection stays; anything else ends it.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const NOISE: u8 = b'.';

struct Noisy {
    stream: UnixStream,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    noises: AtomicU32,
    evictions: Mutex<Vec<Eviction>>,
}

impl Pooled for Noisy {
    type Hooks = ();

    fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        loop {
            match self.stream.read(&mut byte) {
                Ok(1) if byte[0] == NOISE => self.seen.noises.fetch_add(1, Ordering::SeqCst),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
                Ok(_) => return false,
            };
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.stream.as_fd())
    }

    fn opened_at(&self) -> Nanos {
        0
    }

    fn evict(self, (): &(), reason: Eviction, _idle_for: Duration) {
        self.seen.evictions.lock().unwrap().push(reason);
    }
}

#[test]
fn noise_is_read_and_the_connection_stays() {
    let seen = Arc::new(Seen::default());
    let pools: Arc<Pools<Noisy>> = Pools::new(1);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let connection = Noisy { stream: ours, seen: Arc::clone(&seen) };
    pools.park(&Key::new("a"), &Settings::default(), connection, None, None);
    std::thread::scope(|scope| {
        // Ends when nothing is idle any more.
        let watch = scope.spawn(|| pools.watch().run());
        for count in 1..=3 {
            theirs.write_all(&[NOISE]).unwrap();
            while seen.noises.load(Ordering::SeqCst) != count {
                std::thread::yield_now();
            }
        }
        assert_eq!(*seen.evictions.lock().unwrap(), []);
        theirs.write_all(b"x").unwrap();
        watch.join().unwrap();
    });
    assert_eq!(*seen.evictions.lock().unwrap(), [Eviction::Stale]);
    let total = pools.total();
    assert_eq!((total.idle, total.in_use, total.stale), (0, 0, 1));
}
