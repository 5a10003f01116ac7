//! A cosocket changes to TLS.

use super::connection::{Connection, Details, Link};
use super::timeouts::Phase;
use super::transport::Transport;
use super::{Address, Cosocket, Error, ErrorKind};
use crate::clock;
use crate::io_handle::{self, bounds::Bounds};
use crate::tls::{TlsAcceptor, TlsOptions, TlsStream};
use std::io;
use std::sync::Arc;

impl Cosocket {
    /// Makes the client's side of a TLS handshake; from then on all that is sent and received is
    /// encrypted. The certificate must be valid for the host that was connected to, unless the
    /// options have [another name](TlsOptions::server_name).
    ///
    /// On a connection that is encrypted already, out of a pool say, it does nothing. The connect
    /// timeout bounds it, from its beginning on. Bytes that were received before and not yet read
    /// belong to the handshake: nothing that came in plain text is ever received as if it had come
    /// encrypted.
    ///
    /// # Errors
    ///
    /// `Closed`, `BusyConnecting`, `BusyReading`, `BusyWriting`, in this order: then nothing has
    /// happened. `Timeout`, `Tls`, and the system's: then the socket is closed. The source of
    /// `Tls` is an [`io::Error`] with a [`tls::Error`](crate::tls::Error) inside, and the text
    /// begins with OpenResty's: `handshake failed`, `certificate host mismatch`, or OpenSSL's number
    /// for what is wrong with the certificate. `Cancelled` when another has closed the socket
    /// meanwhile.
    ///
    /// # Cancel
    ///
    /// Unwinds, and leaves the socket closed.
    pub fn tls_handshake(&self, options: &TlsOptions) -> Result<(), Error> {
        self.change_to_tls(|transport, details, received, bounds| {
            let host = host_of(details);
            details.tls = Some(options.pool_key(&host));
            TlsStream::connect_by(
                transport,
                &host,
                options,
                received,
                |below, buffer| below.read(buffer, bounds),
                |below, buffer| below.write(buffer, bounds),
            )
        })
    }

    /// Makes the server's side of a TLS handshake; see [`tls_handshake`](Cosocket::tls_handshake).
    ///
    /// # Errors
    ///
    /// As [`tls_handshake`](Cosocket::tls_handshake).
    pub fn tls_accept(&self, acceptor: &TlsAcceptor) -> Result<(), Error> {
        self.change_to_tls(|transport, _, received, bounds| {
            TlsStream::accept_by(
                transport,
                acceptor,
                received,
                |below, buffer| below.read(buffer, bounds),
                |below, buffer| below.write(buffer, bounds),
            )
        })
    }

    fn change_to_tls(
        &self,
        shake_hands: impl FnOnce(
            Transport,
            &mut Details,
            &[u8],
            &Bounds<'_>,
        ) -> io::Result<TlsStream<Transport>>,
    ) -> Result<(), Error> {
        io_handle::begin_call()?;
        let (connecting, connection) = self.state.claim_whole()?;
        if let Transport::Tls(_) = &connection.link.transport {
            return connecting.opened(connection);
        }
        let Connection { link, receiver, mut details } = connection;
        // A job for a send that was cancelled may still have it: then the connection is over.
        let Link { transport, .. } = Arc::into_inner(link).ok_or(ErrorKind::Closed)?;
        let deadline = self.timeouts.of(Phase::Connect).map(clock::after);
        let bounds = Bounds { timeout: None, deadline, cut: connecting.cut() };
        let stream = shake_hands(transport, &mut details, receiver.unread(), &bounds)?;
        let transport = Transport::Tls(Box::new(stream));
        let link = Arc::new(Link::new(transport));
        connecting.opened(Connection { link, receiver: Box::new(receiver.renewed()), details })
    }

    /// Looks at the TLS connection, for what was agreed on; `None` without one.
    ///
    /// # Errors
    ///
    /// `Closed` when there is no connection.
    pub fn tls_agreement(&self) -> Result<Option<TlsAgreement>, Error> {
        self.state.look(|link, _| match &link.transport {
            Transport::Tls(stream) => Some(TlsAgreement {
                version: stream.version(),
                cipher_suite: stream.cipher_suite(),
                alpn: stream.alpn(),
                is_resumed: stream.is_resumed(),
                peer_certificates: stream.peer_certificates(),
                requested_name: stream.requested_name(),
                ocsp_response: stream.ocsp_response(),
            }),
            _ => None,
        })
    }
}

/// What the certificate is checked for, unless the options say otherwise.
fn host_of(details: &Details) -> String {
    details.address.as_ref().map_or_else(String::new, Address::tls_host)
}

/// What the two ends of a TLS connection have agreed on; see the methods of the same names of
/// [`TlsStream`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsAgreement {
    /// The version.
    pub version: crate::tls::TlsVersion,
    /// By the name of the IANA registry.
    pub cipher_suite: &'static str,
    /// The application protocol.
    pub alpn: Option<Vec<u8>>,
    /// Whether a former session was resumed.
    pub is_resumed: bool,
    /// The peer's certificate, and those that came with it.
    pub peer_certificates: Vec<crate::tls::Certificate>,
    /// On a server: the name that the client asked for.
    pub requested_name: Option<String>,
    /// On a client: what the server stapled to its certificate.
    pub ocsp_response: Option<Vec<u8>>,
}
