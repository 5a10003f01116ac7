//! Many writers on one socket: their messages queue, whole, and one coroutine sends them.
//!
//! ```text
//!   write --> queue --> coroutine --> Cosocket::send
//!               |
//!     bytes:    0 ........ low ............ high ....
//!               open ------------------------> FULL: writers wait
//!                           open <------------'      until it is down to `low`
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError};

use super::{Cosocket, Error, ErrorKind};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::thread::{self, JoinHandle, shield};

/// What one send takes out of the queue at most, in bytes, unless a message is longer.
const BATCH: usize = 64 << 10;

/// Between how many bytes in its queue a [`QueuedWriter`] holds writers back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// From so many bytes on, writers wait.
    pub high: usize,
    /// Until it is down to so many; less than `high`, whatever is said here.
    pub low: usize,
}

impl Default for Watermarks {
    /// 256 KiB and 64 KiB.
    fn default() -> Watermarks {
        Watermarks { high: 256 << 10, low: 64 << 10 }
    }
}

/// What happened to the queue of a [`QueuedWriter`]; the two take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueEvent {
    /// It has reached the high watermark.
    Full,
    /// It has come down to the low watermark.
    Drained,
}

/// A queue in front of a socket, for several writers, or for one that must not wait for the peer
/// each time. Messages go out in the order of the calls, and are never mixed.
///
/// While the queue is full, [`write`](QueuedWriter::write) waits: a peer that does not read holds its
/// writers back, and memory stays bounded. While it exists, nobody else should send on the
/// socket: whoever does, gets or gives `BusyWriting`. Dropping it sends what is in the queue, in the
/// background.
///
/// ```
/// use cosocket::{Cosocket, QueuedWriter, Watermarks, thread};
/// use std::sync::Arc;
///
/// let (socket, peer) = Cosocket::pair()?;
/// let writer = QueuedWriter::new(Arc::new(socket), Watermarks::default());
/// thread::scope(|scope| {
///     for name in ["alice", "bob"] {
///         let writer = &writer;
///         scope.spawn(move || writer.write(format!("{name} was here\n")).unwrap());
///     }
/// });
/// writer.finish()?;
/// let mut text = String::new();
/// while let Ok(bytes) = peer.receive_any(4096) {
///     text += std::str::from_utf8(&bytes).unwrap();
/// }
/// let mut lines: Vec<_> = text.lines().collect();
/// lines.sort();
/// assert_eq!(lines, ["alice was here", "bob was here"]);
/// # std::io::Result::Ok(())
/// ```
pub struct QueuedWriter {
    shared: Arc<Shared>,
    sender: Option<JoinHandle<()>>,
}

struct Shared {
    socket: Arc<Cosocket>,
    watermarks: Watermarks,
    queue: Mutex<Queue>,
    /// Something was queued, or the writer is gone.
    work: Condvar,
    /// The queue has become shorter, or of no use.
    progress: Condvar,
    on_event: Box<dyn Fn(QueueEvent) + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Vec<u8>>,
    /// In the queue and in the send that is under way.
    bytes: usize,
    level: Level,
    is_closed: bool,
    failure: Option<(ErrorKind, String)>,
}

/// Whether writers wait. An event is told before it has its effect, by one at a time, so that the
/// two take turns whoever causes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Level {
    #[default]
    Open,
    Full,
    /// Full, while somebody tells of an event.
    Telling,
}

impl QueuedWriter {
    /// A writer in front of `socket`, whose coroutine starts here.
    #[must_use]
    pub fn new(socket: Arc<Cosocket>, watermarks: Watermarks) -> QueuedWriter {
        QueuedWriter::with_events(socket, watermarks, |_| ())
    }

    /// The same; `on_event` is called, by whoever is the cause, each time the queue gets full and
    /// each time it is drained after that. It must not [`write`](QueuedWriter::write): that would
    /// wait for itself. Where it panics in the coroutine that sends, that is the end of the writer.
    #[must_use]
    pub fn with_events(
        socket: Arc<Cosocket>,
        watermarks: Watermarks,
        on_event: impl Fn(QueueEvent) + Send + Sync + 'static,
    ) -> QueuedWriter {
        // It has to come down to be open again, and up to be full.
        let high = watermarks.high.max(1);
        let watermarks = Watermarks { high, low: watermarks.low.min(high - 1) };
        let shared = Arc::new(Shared {
            socket,
            watermarks,
            queue: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
            on_event: Box::new(on_event),
        });
        let sending = Sending(Arc::clone(&shared));
        let sender = thread::spawn(move || sending.0.send_all());
        QueuedWriter { shared, sender: Some(sender) }
    }

    /// Queues a message. Waits while the queue is full.
    ///
    /// # Errors
    ///
    /// What a send before has failed with, or `Closed` when the coroutine that sends has ended with
    /// its runtime. Then nothing is queued any more.
    ///
    /// # Cancel
    ///
    /// Unwinds, and the message is not queued; so does a [`timeout`](crate::time::timeout) around it.
    /// (Unless it is `on_event` that waits, and is cancelled there: by then the message is queued.)
    pub fn write(&self, message: impl Into<Vec<u8>>) -> Result<(), Error> {
        // The caller's code, so not under the lock.
        let message = message.into();
        let shared = &*self.shared;
        let queue = shared.progress.wait_while(shared.lock(), |queue| queue.holds_back());
        shared.push(queue.unwrap_or_else(PoisonError::into_inner), message)
    }

    /// Queues a message, unless the queue is full.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when it is; else as [`write`](QueuedWriter::write).
    pub fn try_write(&self, message: impl Into<Vec<u8>>) -> Result<(), Error> {
        let message = message.into();
        let queue = self.shared.lock();
        if queue.holds_back() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.shared.push(queue, message)
    }

    /// How many bytes the kernel has not taken yet.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.lock().bytes
    }

    /// Waits until all that was queued has been taken by the kernel.
    ///
    /// # Errors
    ///
    /// What a send has failed with.
    pub fn flush(&self) -> Result<(), Error> {
        let queued = |queue: &mut Queue| queue.bytes > 0 && queue.failure.is_none();
        let queue = self.shared.progress.wait_while(self.shared.lock(), queued);
        queue.unwrap_or_else(PoisonError::into_inner).check()
    }

    /// [`flush`](QueuedWriter::flush), and the end of the writer. The socket is free again then.
    ///
    /// # Errors
    ///
    /// What a send has failed with.
    pub fn finish(mut self) -> Result<(), Error> {
        let flushed = self.flush();
        self.shared.close();
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
        flushed
    }
}

impl Shared {
    /// A cancel or a limit is not to cut this short: between a change of the queue and what has to
    /// follow it, or in a destructor, which would leave writers or the sender waiting for ever. Who
    /// has the lock holds it for some instructions.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        shield(|| self.queue.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, message: Vec<u8>) -> Result<(), Error> {
        queue.check()?;
        queue.bytes += message.len();
        queue.messages.push_back(message);
        drop(queue);
        self.work.notify_one();
        self.tell_events();
        Ok(())
    }

    /// Tells what has happened to the level, if nobody does so already.
    fn tell_events(&self) {
        loop {
            let mut queue = self.lock();
            let Some((event, level)) = queue.event(self.watermarks) else { return };
            queue.level = Level::Telling;
            drop(queue);
            let _told = Told { shared: self, level };
            (self.on_event)(event);
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.work.notify_one();
    }

    fn send_all(&self) {
        loop {
            let idle = |queue: &mut Queue| queue.messages.is_empty() && !queue.is_closed;
            let queue = self.work.wait_while(self.lock(), idle);
            let batch = queue.unwrap_or_else(PoisonError::into_inner).take_batch();
            if batch.is_empty() {
                return;
            }
            let sent = self.socket.send(&batch);
            let is_over = sent.is_err();
            self.note_sent(sent);
            if is_over {
                return;
            }
        }
    }

    fn note_sent(&self, sent: Result<usize, Error>) {
        let mut queue = self.lock();
        match sent {
            Ok(bytes) => queue.bytes -= bytes,
            Err(error) => queue.fail(error.kind(), error.to_string()),
        }
        drop(queue);
        self.progress.notify_all();
        self.tell_events();
    }
}

/// The coroutine that sends, or is to. However it ends, with its runtime too, nobody waits for it
/// any longer.
struct Sending(Arc<Shared>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.lock().fail(ErrorKind::Closed, "the coroutine that sends has ended".into());
        self.0.progress.notify_all();
    }
}

/// An event has been told, or its telling has panicked: the level is that from now on.
struct Told<'a> {
    shared: &'a Shared,
    level: Level,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.shared.lock().level = self.level;
        self.shared.progress.notify_all();
    }
}

impl Queue {
    fn check(&self) -> Result<(), Error> {
        match &self.failure {
            Some((kind, text)) => Err(Error::with_text(*kind, text.clone())),
            None => Ok(()),
        }
    }

    /// The first failure stays.
    fn fail(&mut self, kind: ErrorKind, text: String) {
        self.failure.get_or_insert((kind, text));
        self.messages.clear();
    }

    fn holds_back(&self) -> bool {
        self.level != Level::Open && self.failure.is_none()
    }

    /// What is to be told now, and the level after that.
    fn event(&self, watermarks: Watermarks) -> Option<(QueueEvent, Level)> {
        match self.level {
            Level::Open if self.bytes >= watermarks.high => Some((QueueEvent::Full, Level::Full)),
            Level::Full if self.bytes <= watermarks.low => Some((QueueEvent::Drained, Level::Open)),
            Level::Open | Level::Full | Level::Telling => None,
        }
    }

    fn take_batch(&mut self) -> Vec<Vec<u8>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(message) = self.messages.front()
            && (bytes == 0 || bytes + message.len() <= BATCH)
        {
            bytes += message.len();
            batch.extend(self.messages.pop_front());
        }
        batch
    }
}

impl Drop for QueuedWriter {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for QueuedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedWriter")
            .field("socket", &self.shared.socket)
            .field("watermarks", &self.shared.watermarks)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::mpsc;
    use crate::thread::yield_now;

    /// A coroutine that is cancelled while it waits for the queue's lock in `f`, without unwinding.
    fn cancelled_at_the_lock(shared: &Arc<Shared>, f: impl FnOnce() + Send + 'static) {
        let queue = shared.lock();
        let (started, starts) = mpsc::channel();
        let other = thread::spawn(move || {
            started.send(()).unwrap();
            f();
        });
        starts.recv().unwrap();
        yield_now();
        other.cancel();
        yield_now();
        drop(queue);
        let _ = other.join();
    }

    #[test]
    fn a_writer_dropped_while_its_coroutine_is_cancelled_ends_all_the_same() {
        let runtime = crate::Builder::new().workers(1).build().unwrap();
        runtime.run(|| {
            let (socket, peer) = Cosocket::pair().unwrap();
            let writer = QueuedWriter::new(Arc::new(socket), Watermarks::default());
            let shared = Arc::clone(&writer.shared);
            cancelled_at_the_lock(&shared, move || drop(writer));
            assert!(shared.lock().is_closed);
            drop(shared);
            assert_eq!(peer.receive_all().unwrap(), b"", "the sender has gone, and the socket");
        });
    }

    #[test]
    fn a_cancel_while_an_event_is_told_does_not_hold_writers_back() {
        let runtime = crate::Builder::new().workers(1).build().unwrap();
        runtime.run(|| {
            let (socket, _peer) = Cosocket::pair().unwrap();
            let writer = QueuedWriter::new(Arc::new(socket), Watermarks::default());
            let shared = Arc::clone(&writer.shared);
            shared.lock().level = Level::Telling;
            let told = Arc::clone(&shared);
            cancelled_at_the_lock(&shared, move || {
                drop(Told { shared: &told, level: Level::Open });
            });
            writer.try_write("goes on").unwrap();
        });
    }
}
