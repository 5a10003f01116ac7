//! The one place that knows rustls: connections, configurations, and errors in our words.
//!
//! A connection is rustls's state machine in its unbuffered form: bytes in and out lie in
//! [`Buffer`]s of ours, which need not exist while nothing is on its way, and nothing in here
//! waits. Against the buffered form it spares the kernel most calls for reading (that one asks for
//! 4 KiB at a time), 4 KiB for each connection at rest, and a copy of what is read. It costs a copy
//! of what is written: rustls encrypts into memory of its own, and its unbuffered form gives that
//! out by copying only. In bulk each copy takes 2.7 % of the processor's time, and all of ours
//! together 8.0 %, where tokio-rustls, over the buffered form, spends 7.3 % on its own.

mod client;
mod fault;
mod material;
mod server;

use std::cell::RefCell;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, HandshakeKind, ProtocolVersion};

pub(super) use self::client::ClientSetup;
pub(super) use self::material::{certificates_of_pem, key_of_pem};
pub(super) use self::server::ServerSetup;

use super::buffer::Buffer;
use super::error::{Error, ErrorKind};
use super::identity::Certificate;
use super::options::TlsVersion;

/// One end of a connection.
pub(super) struct Engine {
    connection: Connection,
    /// The other end has said that it sends no more.
    peer_closed: bool,
    /// We have.
    said_goodbye: bool,
    /// The handshake is over, or all but.
    peer_speaks_tls: bool,
    seen: Seen,
}

enum Connection {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// What is told to verifiers and resolvers, in the middle of a handshake, and nowhere else.
#[derive(Default)]
pub(super) struct Seen {
    /// The name that the client asks for.
    pub(super) server_name: Option<Box<str>>,
    /// What the server stapled to its certificate.
    pub(super) ocsp: Option<Box<[u8]>>,
    /// The certificate that was refused is self-signed.
    self_signed: bool,
}

thread_local! {
    /// Of the connection that is being worked on; nothing suspends meanwhile.
    static SEEN: RefCell<Seen> = RefCell::new(Seen::default());
}

/// Where plaintext goes: to the reader's buffer, and what does not fit there to another.
pub(super) struct Plaintext<'a> {
    pub(super) target: &'a mut [u8],
    pub(super) count: usize,
    pub(super) rest: &'a mut Buffer,
}

impl Plaintext<'_> {
    fn push(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(self.target.len() - self.count);
        let (fits, rest) = bytes.split_at(count);
        self.target[self.count..][..count].copy_from_slice(fits);
        self.count += count;
        if !rest.is_empty() {
            self.rest.extend(rest);
        }
    }

    /// Whether a record with `len` bytes of ciphertext goes into the reader's buffer.
    fn has_room_for(&self, len: usize) -> bool {
        len <= self.target.len() - self.count
    }
}

/// Where [`Engine::work`] stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// All whole records have been worked on; more must come.
    Input,
    /// The next record must wait for room for its plaintext.
    Room,
}

/// What may be done once a connection is ready for it.
#[derive(Clone, Copy)]
enum Send<'a> {
    Nothing,
    Data(&'a [u8]),
    Goodbye,
    KeyUpdate,
}

/// What one call of the state machine led to.
enum Step {
    Again,
    Plaintext,
    PeerClosed,
    Sent,
    Pause,
}

impl Engine {
    fn new(connection: Connection) -> Engine {
        let seen = Seen::default();
        Engine { connection, peer_closed: false, said_goodbye: false, peer_speaks_tls: false, seen }
    }

    /// Works on what has come in. Answers go to `outgoing`: after an error, too, an alert may be
    /// there.
    pub(super) fn work(
        &mut self,
        incoming: &mut Buffer,
        outgoing: &mut Buffer,
        plaintext: &mut Plaintext<'_>,
    ) -> Result<Pause, Error> {
        loop {
            let start = if self.peer_speaks_tls { [0; 24] } else { first_bytes(incoming) };
            let (discard, step) = if self.said_goodbye {
                self.step_after_goodbye(incoming.filled_mut(), outgoing, plaintext)?
            } else {
                self.step(incoming.filled_mut(), outgoing, plaintext, Send::Nothing)
            };
            incoming.consume(discard);
            match step {
                Err(error) => return Err(self.fail(&error, &start, outgoing)),
                Ok(Step::Pause | Step::Sent) => return Ok(Pause::Input),
                Ok(Step::Plaintext) => match ciphertext_len(incoming.filled()) {
                    Some(len) if !plaintext.has_room_for(len) => return Ok(Pause::Room),
                    // Without a target, too, none is left behind but in `rest`.
                    _ => {}
                },
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::Again) => {}
            }
        }
    }

    /// Encrypts `data` to the end of `outgoing`. `seen` is what the last `work` left behind, if it
    /// paused for input; else nothing: see [`Engine::send`].
    pub(super) fn encrypt(
        &mut self,
        data: &[u8],
        seen: &mut [u8],
        outgoing: &mut Buffer,
    ) -> Result<(), Error> {
        // What TLS adds to two records is less, whatever the cipher.
        outgoing.reserve(data.len() + 128);
        self.send(Send::Data(data), seen, outgoing)
    }

    /// Says that no more will be sent.
    pub(super) fn say_goodbye(
        &mut self,
        seen: &mut [u8],
        outgoing: &mut Buffer,
    ) -> Result<(), Error> {
        self.said_goodbye = true;
        self.send(Send::Goodbye, seen, outgoing)
    }

    /// Changes our keys, and asks the peer to change its own.
    pub(super) fn update_keys(
        &mut self,
        seen: &mut [u8],
        outgoing: &mut Buffer,
    ) -> Result<(), Error> {
        self.send(Send::KeyUpdate, seen, outgoing)?;
        let (mut rest, mut target) = (Buffer::new(), []);
        let mut none = Plaintext { target: &mut target, count: 0, rest: &mut rest };
        while self.state().wants_write() {
            let (_, step) = self.step(seen, outgoing, &mut none, Send::Nothing);
            if let Err(error) = step {
                return Err(self.fail(&error, &[], outgoing));
            }
        }
        Ok(())
    }

    /// Sending, too, goes by way of the state machine, which looks at the input first. It may hold
    /// on to a part of that, a handshake message in pieces, so it must see it again; what it has
    /// not seen yet it must not see now, for there is no reader to take the plaintext.
    fn send(
        &mut self,
        what: Send<'_>,
        seen: &mut [u8],
        outgoing: &mut Buffer,
    ) -> Result<(), Error> {
        let (mut rest, mut target) = (Buffer::new(), []);
        let mut none = Plaintext { target: &mut target, count: 0, rest: &mut rest };
        loop {
            let (discard, step) = self.step(seen, outgoing, &mut none, what);
            debug_assert_eq!(discard, 0, "what was seen is still there");
            match step {
                Err(error) => return Err(self.fail(&error, &[], outgoing)),
                Ok(Step::Sent) => return Ok(()),
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::Again) => {}
                Ok(Step::Pause | Step::Plaintext) => {
                    return Err(Error::new(ErrorKind::Other, "the connection cannot send now"));
                }
            }
        }
    }

    /// One call of the state machine; how much of the input it is done with.
    fn step(
        &mut self,
        bytes: &mut [u8],
        outgoing: &mut Buffer,
        plaintext: &mut Plaintext<'_>,
        send: Send<'_>,
    ) -> (usize, Result<Step, rustls::Error>) {
        match &mut self.connection {
            Connection::Client(connection) => {
                act(connection.process_tls_records(bytes), outgoing, plaintext, send)
            }
            Connection::Server(connection) => {
                act(connection.process_tls_records(bytes), outgoing, plaintext, send)
            }
        }
    }

    /// With debug assertions rustls panics where it would send an alert after our goodbye, which a
    /// peer can make it do. Without them it sends the alert; here, too, it is the peer's fault.
    fn step_after_goodbye(
        &mut self,
        bytes: &mut [u8],
        outgoing: &mut Buffer,
        plaintext: &mut Plaintext<'_>,
    ) -> Result<(usize, Result<Step, rustls::Error>), Error> {
        let step = || self.step(bytes, outgoing, plaintext, Send::Nothing);
        catch_unwind(AssertUnwindSafe(step)).map_err(|_| {
            Error::new(ErrorKind::Corrupt, "the peer sent what is no TLS after our goodbye")
        })
    }

    /// After an error: collects the alert that tells the peer.
    fn fail(&mut self, error: &rustls::Error, start: &[u8], outgoing: &mut Buffer) -> Error {
        self.collect_seen();
        let (mut rest, mut target) = (Buffer::new(), []);
        let mut none = Plaintext { target: &mut target, count: 0, rest: &mut rest };
        // As long as there is something to send, that comes first, and no input is looked at.
        while self.state().wants_write() {
            if self.step(&mut [], outgoing, &mut none, Send::Nothing).1.is_err() {
                break;
            }
        }
        let is_handshaking = self.state().is_handshaking();
        fault::explain(error, start, is_handshaking, self.seen.self_signed)
    }

    /// Takes over what verifiers and resolvers have seen.
    pub(super) fn collect_seen(&mut self) {
        let seen = SEEN.take();
        self.peer_speaks_tls = !self.is_handshaking();
        self.seen.server_name = seen.server_name.or(self.seen.server_name.take());
        self.seen.ocsp = seen.ocsp.or(self.seen.ocsp.take());
        self.seen.self_signed |= seen.self_signed;
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    pub(super) fn has_peer_closed(&self) -> bool {
        self.peer_closed
    }

    pub(super) fn version(&self) -> TlsVersion {
        match self.state().protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::V1_2,
            _ => TlsVersion::V1_3,
        }
    }

    /// By the name of the IANA registry.
    pub(super) fn cipher_suite(&self) -> &'static str {
        let suite = self.state().negotiated_cipher_suite();
        let name = suite.and_then(|suite| suite.suite().as_str()).unwrap_or("");
        // Those of TLS 1.3 have a number in rustls's names.
        match name.strip_prefix("TLS13_") {
            Some("AES_128_GCM_SHA256") => "TLS_AES_128_GCM_SHA256",
            Some("AES_256_GCM_SHA384") => "TLS_AES_256_GCM_SHA384",
            Some("CHACHA20_POLY1305_SHA256") => "TLS_CHACHA20_POLY1305_SHA256",
            _ => name,
        }
    }

    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.state().alpn_protocol()
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(super) fn peer_certificates(&self) -> Vec<Certificate> {
        let certificates = self.state().peer_certificates().unwrap_or_default();
        certificates.iter().map(|der| Certificate::from_der(der.as_ref())).collect()
    }

    fn state(&self) -> &CommonState {
        match &self.connection {
            Connection::Client(connection) => connection.deref(),
            Connection::Server(connection) => connection.deref(),
        }
    }
}

/// Does what one state asks for; how many bytes of the input are done with.
fn act<D>(
    status: UnbufferedStatus<'_, '_, D>,
    outgoing: &mut Buffer,
    plaintext: &mut Plaintext<'_>,
    send: Send<'_>,
) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let state = match state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error)),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        plaintext.push(record.payload);
                    }
                    Err(error) => return (discard, Err(error)),
                }
            }
            Ok(Step::Plaintext)
        }
        ConnectionState::EncodeTlsData(mut data) => append(outgoing, |spare| {
            data.encode(spare).map_err(|error| match error {
                EncodeError::InsufficientSize(size) => Some(size.required_size),
                EncodeError::AlreadyEncoded => None,
            })
        })
        .map(|()| Step::Again),
        // It is in `outgoing`, in its place; when it leaves is not the state machine's concern.
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed => Ok(Step::PeerClosed),
        ConnectionState::WriteTraffic(mut traffic) => {
            let size = |error| match error {
                EncryptError::InsufficientSize(size) => Some(size.required_size),
                EncryptError::EncryptExhausted => None,
            };
            match send {
                Send::Nothing => Ok(Step::Pause),
                Send::Data(data) => {
                    append(outgoing, |spare| traffic.encrypt(data, spare).map_err(size))
                        .map(|()| Step::Sent)
                }
                Send::Goodbye => {
                    append(outgoing, |spare| traffic.queue_close_notify(spare).map_err(size))
                        .map(|()| Step::Sent)
                }
                Send::KeyUpdate => traffic.refresh_traffic_keys().map(|()| Step::Sent),
            }
        }
        ConnectionState::Closed if matches!(send, Send::Goodbye) => Ok(Step::Sent),
        // Early data is off, so there is none.
        _ => Ok(Step::Pause),
    };
    (discard, step)
}

/// Lets `write` write to the end of `outgoing`. It says how much room it needs when that is not
/// enough.
fn append(
    outgoing: &mut Buffer,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), rustls::Error> {
    loop {
        match write(outgoing.spare()) {
            Ok(count) => {
                outgoing.advance(count);
                return Ok(());
            }
            Err(Some(needed)) => outgoing.reserve(needed),
            Err(None) => return Err(rustls::Error::EncryptError),
        }
    }
}

/// What a peer that does not speak TLS began with.
fn first_bytes(incoming: &Buffer) -> [u8; 24] {
    let mut start = [0; 24];
    let filled = incoming.filled();
    let count = filled.len().min(start.len());
    start[..count].copy_from_slice(&filled[..count]);
    start
}

/// Of the record that `bytes` begin with, if they have its header.
fn ciphertext_len(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<5>()?;
    Some(u16::from_be_bytes([header[3], header[4]]).into())
}
