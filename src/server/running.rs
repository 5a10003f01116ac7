//! A server that runs, and how it ends.
//!
//! ```text
//!   serving --shutdown--> the acceptors end --> the queues are served --> the listeners close
//!      |                     --> handlers end ------------------------------> report
//!      |                           | the deadline
//!      |                           `--> are cancelled --> end --------------> report
//!      |                                                   `- do not -------> report names them
//!      `--a listener breaks--> wait() returns the error; handlers go on until shutdown, or drop
//! ```

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::acceptor::Acceptor;
use super::event::Event;
use super::registry::Straggler;
use super::service::Service;
use super::unix_path::BoundPath;
use crate::Address;
use crate::clock;
use crate::shield;
use crate::thread::JoinHandle;
use crate::time::timeout;
use crate::unwind;
use crate::wait::{Reason, WaitQueue};

/// How long cancelled handlers have to unwind, before they are reported.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// A server that accepts connections; made by [`Server::start`](super::Server::start).
///
/// Dropping it ends the server at once: nothing is accepted any more, and handlers are cancelled.
/// [`shutdown`](RunningServer::shutdown) lets them finish.
#[must_use = "the server ends when this is dropped"]
pub struct RunningServer {
    service: Arc<Service>,
    addresses: Vec<Arc<Address>>,
    acceptors: Mutex<Acceptors>,
    end: Arc<End>,
}

#[derive(Default)]
struct Acceptors {
    running: Vec<(Arc<Acceptor>, JoinHandle<()>)>,
    paths: Vec<BoundPath>,
}

/// Whether the server is over, and why.
pub(super) struct End {
    state: Mutex<State>,
    queue: WaitQueue,
}

#[derive(Default)]
struct State {
    is_over: bool,
    failure: Option<(io::ErrorKind, String)>,
}

impl End {
    pub(super) fn new() -> Arc<End> {
        Arc::new(End { state: Mutex::default(), queue: WaitQueue::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn come(&self, failure: Option<(io::ErrorKind, String)>) {
        let mut state = self.lock();
        state.is_over = true;
        state.failure = state.failure.take().or(failure);
        drop(state);
        self.queue.wake_all();
    }
}

/// How a server came to its end; see [`RunningServer::shutdown`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Drained {
    /// How many handlers were cancelled when the time was up.
    pub cancelled: usize,
    /// Which of those are not over even now.
    pub stragglers: Vec<Straggler>,
}

impl RunningServer {
    pub(super) fn new(
        service: Arc<Service>,
        addresses: Vec<Arc<Address>>,
        paths: Vec<BoundPath>,
        acceptors: Vec<(Arc<Acceptor>, JoinHandle<()>)>,
        end: Arc<End>,
    ) -> RunningServer {
        let acceptors = Mutex::new(Acceptors { running: acceptors, paths });
        RunningServer { service, addresses, acceptors, end }
    }

    /// Where it listens, in the order in which that was asked for.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = &Address> {
        self.addresses.iter().map(|address| &**address)
    }

    /// The first of the addresses that is one of TCP, with the port that it has got.
    #[must_use]
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.addresses().find_map(Address::as_ip)
    }

    /// How many connections there are: accepted, and their handlers not over.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.service.registry.len()
    }

    /// Waits until the server is over: until somebody else has called
    /// [`shutdown`](RunningServer::shutdown), or accepting fails for good.
    ///
    /// # Errors
    ///
    /// Why accepting has failed, and where; or that it has ended with the server's runtime.
    pub fn wait(&self) -> io::Result<()> {
        let is_over = || self.end.lock().is_over;
        self.end.queue.wait_until(is_over, Reason::SHUTDOWN, None);
        match &self.end.lock().failure {
            Some((kind, message)) => Err(io::Error::new(*kind, message.clone())),
            None => Ok(()),
        }
    }

    /// Ends the server: accepts nothing more, serves what waits in the queues by now, waits for the
    /// handlers for at most `patience`, and cancels those that are not over by then.
    ///
    /// Handlers that wait in [`wait_request`](super::Connection::wait_request) end at once. A
    /// cancelled handler's wait unwinds, as by
    /// [`JoinHandle::cancel`](crate::thread::JoinHandle::cancel); those that have not unwound a
    /// second later are named in what this returns, and go on. With no patience at all, what waits
    /// in the queues is not served: those connections are reset.
    ///
    /// A cancel of the caller, or a [`timeout`](crate::time::timeout) around this, unwinds and
    /// cancels the handlers without waiting for them. A second call finds nothing to do.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use cosocket::server::Server;
    ///
    /// let server = Server::new().listen("127.0.0.1:0").start(|_connection| Ok(()))?;
    /// let end = server.shutdown(Duration::from_secs(10));
    /// assert_eq!((end.cancelled, end.stragglers.len()), (0, 0));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn shutdown(&self, patience: Duration) -> Drained {
        let deadline = clock::after(patience);
        let registry = &self.service.registry;
        let cancel_if_cut = CancelIfCut(self);
        self.service.drain.begin();
        let (acceptors, paths) = self.stop_accepting();
        // However it goes: what cannot be served in time is reset.
        let _ = timeout(patience, || acceptors.iter().for_each(|acceptor| acceptor.run_queue()));
        drop((acceptors, paths));
        let mut cancelled = 0;
        if !registry.wait_empty(Some(deadline)) {
            cancelled = registry.cancel_all();
            let last = clock::after(LAST_PATIENCE);
            registry.wait_empty(Some(last));
        }
        std::mem::forget(cancel_if_cut);
        self.end.come(None);
        Drained { cancelled, stragglers: registry.stragglers() }
    }

    /// Cancels the acceptors and waits for their ends; their listeners are still open.
    fn stop_accepting(&self) -> (Vec<Arc<Acceptor>>, Vec<BoundPath>) {
        let mut lock = self.acceptors.lock().unwrap_or_else(PoisonError::into_inner);
        let Acceptors { running, paths } = std::mem::take(&mut *lock);
        drop(lock);
        running.iter().for_each(|(_, handle)| handle.cancel());
        let stopped = running.into_iter().map(|(acceptor, handle)| {
            // Cancelled, as a rule. Of whatever else it was, `accept` has told.
            let _ = shield(|| handle.join());
            acceptor
        });
        (stopped.collect(), paths)
    }
}

/// What an acceptor's coroutine does. Should that end before the server does, with its runtime for
/// instance, then the server is over as well.
pub(super) struct Accepting {
    pub(super) acceptor: Arc<Acceptor>,
    pub(super) end: Arc<End>,
}

impl Accepting {
    pub(super) fn run(self) {
        let Accepting { acceptor, end } = &self;
        match unwind::catch(|| acceptor.run()) {
            Ok(error) => {
                let listener = &*acceptor.address;
                acceptor.service.observer.tell(&Event::Broken { listener, error: &error });
                let message = format!("the listener at {listener} is broken: {error}");
                end.come(Some((error.kind(), message)));
            }
            Err(payload) => {
                if !unwind::is_quiet(&*payload) {
                    let message = format!("the acceptor at {} has panicked", acceptor.address);
                    end.come(Some((io::ErrorKind::Other, message)));
                }
                unwind::unwind(payload);
            }
        }
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        if !self.acceptor.service.drain.has_begun() {
            let message = format!("the acceptor at {} has ended", self.acceptor.address);
            self.end.come(Some((io::ErrorKind::Other, message)));
        }
    }
}

/// Cancels the handlers, should the wait for them be cut: that is the end, too.
struct CancelIfCut<'a>(&'a RunningServer);

impl Drop for CancelIfCut<'_> {
    fn drop(&mut self) {
        self.0.service.registry.cancel_all();
        self.0.end.come(None);
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let acceptors = self.acceptors.get_mut().unwrap_or_else(PoisonError::into_inner);
        acceptors.running.iter().for_each(|(_, handle)| handle.cancel());
        self.service.drain.begin();
        self.service.registry.cancel_all();
    }
}

impl fmt::Debug for RunningServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningServer")
            .field("addresses", &self.addresses)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
