//! What the acceptors and handlers of a server share, and the way of one connection.
//!
//! ```text
//!   accepted --> who may come? --> a coroutine --> PROXY header --> who may come? --> handler
//!                  | no            | none             | bad           | no               | error
//!                  `---------------'------------------'---------------'-> told, closed   `-> told
//! ```

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::connection::Connection;
use super::event::{Event, Observer, Refusal};
use super::registry::Registry;
use super::reserve::Reserve;
use super::{AccessList, ProxyHeader, ProxyProtocol, WhenFull, proxy};
use crate::sync::{OwnedSemaphorePermit, Semaphore, mpmc};
use crate::thread;
use crate::{Address, Stream};

pub(super) type Handler = Box<dyn Fn(Connection) -> io::Result<()> + Send + Sync>;

/// See the module.
pub(super) struct Service {
    pub(super) handler: Handler,
    pub(super) access: AccessList,
    pub(super) proxy: Option<ProxyProtocol>,
    pub(super) limit: Option<Limit>,
    pub(super) observer: Observer,
    pub(super) registry: Arc<Registry>,
    pub(super) reserve: Reserve,
    pub(super) drain: Drain,
    pub(super) accept_batch: usize,
    pub(super) cancel_on_abort: bool,
}

/// How many connections there may be.
pub(super) struct Limit {
    pub(super) permits: Arc<Semaphore>,
    pub(super) when_full: WhenFull,
}

/// Closed when the server drains: a channel, so that a select can wait for it.
pub(super) struct Drain {
    open: Mutex<Option<mpmc::Sender<()>>>,
    pub(super) begun: mpmc::Receiver<()>,
}

impl Drain {
    pub(super) fn new() -> Drain {
        let (open, begun) = mpmc::channel();
        Drain { open: Mutex::new(Some(open)), begun }
    }

    pub(super) fn begin(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(open);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl Service {
    /// A connection was accepted, at `listener`.
    pub(super) fn admit(
        self: &Arc<Service>,
        stream: Stream,
        peer: Address,
        listener: &Arc<Address>,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let refuse = |refusal| self.observer.tell(&Event::Refused { peer: &peer, refusal });
        let speaks_for_others = match &self.proxy {
            Some(proxy) if proxy.trusts(&peer) => true,
            Some(proxy) if !proxy.serves_those_not_trusted() => {
                return refuse(Refusal::NotTrusted);
            }
            _ => false,
        };
        if !speaks_for_others && !self.access.allows(&peer) {
            return refuse(Refusal::Denied);
        }
        let permit = match (permit, &self.limit) {
            (None, Some(limit)) => match Arc::clone(&limit.permits).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => return refuse(Refusal::Full),
            },
            (permit, _) => permit,
        };
        let peer = Arc::new(peer);
        let membership = self.registry.enter(Arc::clone(&peer), permit);
        let number = membership.number();
        let (service, listener) = (Arc::clone(self), Arc::clone(listener));
        let connection = Connection::new(stream, Arc::clone(&peer), listener, Arc::clone(self));
        let serve = move || service.serve(connection, speaks_for_others);
        match thread::Builder::new().spawn_keeping(serve, membership) {
            Ok(handle) => self.registry.name(number, handle.thread()),
            Err(error) => {
                let refusal = Refusal::NoCoroutine(&error);
                self.observer.tell(&Event::Refused { peer: &peer, refusal });
            }
        }
    }

    /// The life of a handler's coroutine.
    fn serve(&self, mut connection: Connection, speaks_for_others: bool) {
        let peer = connection.socket_peer_shared();
        let refuse = |refusal| self.observer.tell(&Event::Refused { peer: &peer, refusal });
        if speaks_for_others {
            match self.read_header(&mut connection) {
                Ok(header) => connection.set_header(header),
                Err(error) => return refuse(Refusal::ProxyHeader(&error)),
            }
            if !self.access.allows(connection.peer()) {
                return refuse(Refusal::Denied);
            }
        }
        if self.cancel_on_abort
            && let Err(error) = connection.cancel_on_abort()
        {
            return self.observer.tell(&Event::HandlerFailed { peer: &peer, error: &error });
        }
        if let Err(error) = (self.handler)(connection) {
            self.observer.tell(&Event::HandlerFailed { peer: &peer, error: &error });
        }
    }

    fn read_header(&self, connection: &mut Connection) -> io::Result<ProxyHeader> {
        let protocol = self.proxy.as_ref().expect("who speaks for others speaks it");
        proxy::read(connection.stream_mut(), protocol)
    }

    /// A permit for the next connection, where one is to wait for it.
    pub(super) fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let limit = self.limit.as_ref().filter(|limit| limit.when_full == WhenFull::Wait)?;
        // It is never closed.
        Arc::clone(&limit.permits).acquire_owned().ok()
    }
}
