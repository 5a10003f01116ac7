//! What a server tells whoever looks after it.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::Address;

/// Something that happened outside of the handler, or that the handler left as an error. See
/// [`Server::on_event`](super::Server::on_event).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was closed before the handler saw it.
    Refused {
        /// Who has connected.
        peer: &'a Address,
        /// Why it was closed.
        refusal: Refusal<'a>,
    },
    /// The handler returned an error.
    HandlerFailed {
        /// Whom it has served.
        peer: &'a Address,
        /// What it returned.
        error: &'a io::Error,
    },
    /// No descriptor is left: connections are closed as they come. Told once, and then not before
    /// [`Event::DescriptorsBack`].
    OutOfDescriptors {
        /// `EMFILE`, the process's limit, or `ENFILE`, the system's.
        error: &'a io::Error,
    },
    /// There are descriptors again.
    DescriptorsBack {
        /// How many connections were closed meanwhile.
        closed: u64,
    },
    /// Accepting failed for want of memory, or again and again; it goes on after a pause.
    Paused {
        /// The last error.
        error: &'a io::Error,
    },
    /// A listener is broken, and the server ends: see
    /// [`RunningServer::wait`](super::RunningServer::wait).
    Broken {
        /// Where it listened.
        listener: &'a Address,
        /// The error of `accept`.
        error: &'a io::Error,
    },
}

/// Why a connection was closed before the handler saw it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refusal<'a> {
    /// By a rule: see [`Server::deny`](super::Server::deny).
    Denied,
    /// There are as many as there may be: see
    /// [`Server::max_connections`](super::Server::max_connections).
    Full,
    /// It may not speak for others: see [`ProxyProtocol`](super::ProxyProtocol).
    NotTrusted,
    /// Its PROXY header is bad, or was not there in time.
    ProxyHeader(&'a io::Error),
    /// No coroutine could be had for it.
    NoCoroutine(&'a io::Error),
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Refused { peer, refusal } => write!(f, "{peer} refused: {refusal}"),
            Event::HandlerFailed { peer, error } => write!(f, "{peer}: {error}"),
            Event::OutOfDescriptors { error } => {
                write!(f, "out of descriptors, so connections are closed as they come: {error}")
            }
            Event::DescriptorsBack { closed } => {
                write!(f, "descriptors can be had again; {closed} connections were closed")
            }
            Event::Paused { error } => write!(f, "accepting pauses: {error}"),
            Event::Broken { listener, error } => {
                write!(f, "the listener at {listener} is broken: {error}")
            }
        }
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Denied => f.write_str("denied"),
            Refusal::Full => f.write_str("too many connections"),
            Refusal::NotTrusted => f.write_str("not trusted to send a PROXY header"),
            Refusal::ProxyHeader(error) => write!(f, "PROXY header: {error}"),
            Refusal::NoCoroutine(error) => write!(f, "no coroutine: {error}"),
        }
    }
}

type Callback = dyn Fn(&Event<'_>) + Send + Sync;

/// Who is told.
#[derive(Clone, Default)]
pub(super) struct Observer(Option<Arc<Callback>>);

impl Observer {
    pub(super) fn new(observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Observer {
        Observer(Some(Arc::new(observer)))
    }

    /// Without an observer, what concerns the whole server goes to standard error.
    pub(super) fn tell(&self, event: &Event<'_>) {
        match &self.0 {
            Some(observer) => observer(event),
            None => match event {
                Event::Refused { .. } | Event::HandlerFailed { .. } => {}
                event => eprintln!("cosocket: server: {event}"),
            },
        }
    }
}
