//! Connections at rest: whether one is alive, and whether it may be parked.

use std::io;
use std::mem::MaybeUninit;

use super::connection::Connection;
use super::transport::Transport;
use super::{Cosocket, Error, ErrorKind};

/// What lies in a socket that nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Nothing,
    Data,
    /// The peer has ended the stream.
    End,
    /// The connection has failed.
    Failed,
}

impl Look {
    fn is_over(self) -> bool {
        matches!(self, Look::End | Look::Failed)
    }
}

impl Transport {
    /// Looks without taking anything, and without waiting.
    pub(crate) fn look(&self) -> Look {
        #[cfg(feature = "tls")]
        if let Transport::Tls(stream) = self {
            // Tickets and other messages of TLS's own are no data.
            return match stream.look() {
                None => Look::Nothing,
                Some(true) => Look::Data,
                Some(false) => Look::End,
            };
        }
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        loop {
            return match self.options().recv_with_flags(&mut [MaybeUninit::uninit()], flags) {
                Ok(1..) => Look::Data,
                Ok(0) => Look::End,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Look::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Look::Failed,
            };
        }
    }
}

impl Cosocket {
    /// Takes the connection out, to be parked, if it may be. The socket is closed then, and when a
    /// look at the connection finds that it may not; after any other error it is as it was.
    ///
    /// In this order: `Closed`, also when the end of the stream has been noticed or one half is
    /// over; `BusyConnecting`, `BusyReading`, `BusyWriting`; `UnreadData`; `Suspect`;
    /// `KeyNotFound`; and the look: `Closed` at the end of the stream, else `Dubious`.
    pub(crate) fn take_idle(&self) -> Result<Connection, Error> {
        let connection = self.state.take_whole(|receiver, details| {
            if receiver.at_end() && receiver.unread().is_empty() {
                return Err(ErrorKind::Closed.into());
            }
            if !receiver.unread().is_empty() {
                return Err(ErrorKind::UnreadData.into());
            }
            if details.suspect {
                return Err(ErrorKind::Suspect.into());
            }
            if details.member.key.is_none() {
                return Err(ErrorKind::KeyNotFound.into());
            }
            Ok(())
        })?;
        match connection.link.transport.look() {
            Look::Nothing => Ok(connection),
            // OpenResty's word depends on whether the end came before the last receive or after.
            Look::End => Err(ErrorKind::Closed.into()),
            Look::Data | Look::Failed => Err(ErrorKind::Dubious.into()),
        }
    }

    /// Whether the other side seems to be there still: nothing has ended, or data waits to be read.
    /// It may have left without our hearing of it.
    ///
    /// # Errors
    ///
    /// `Closed` when there is no connection.
    pub fn is_alive(&self) -> Result<bool, Error> {
        self.state.look(|link, _| !link.transport.look().is_over())
    }

    /// Whether a receive has timed out, or was ended by another, on this connection: a late reply
    /// may still come, so it is not parked.
    ///
    /// # Errors
    ///
    /// `Closed` when there is no connection.
    pub fn is_suspect(&self) -> Result<bool, Error> {
        self.state.look(|_, details| details.suspect)
    }

    /// Takes it on the caller that no late reply can come: the connection may be parked again.
    ///
    /// # Errors
    ///
    /// `Closed` when there is no connection.
    pub fn clear_suspect(&self) -> Result<(), Error> {
        self.state.look(|_, details| details.suspect = false)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::Shutdown;
    use std::time::Duration;

    use super::*;
    use crate::net::{TcpListener, TcpStream};

    fn pair() -> (Cosocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = crate::connect(listener.local_addr().unwrap()).unwrap();
        (socket, listener.accept().unwrap().0)
    }

    fn refusal(socket: &Cosocket) -> ErrorKind {
        socket.take_idle().unwrap_err().kind()
    }

    // KA-2, in its order
    #[test]
    fn a_connection_that_may_carry_more_is_not_parked() {
        assert_eq!(refusal(&Cosocket::new()), ErrorKind::Closed);
        let (socket, mut peer) = pair();
        peer.write_all(b"OK\r\n").unwrap();
        socket.receive_exact(1).unwrap();
        // It stays open, and can be parked once all is read.
        assert_eq!(refusal(&socket), ErrorKind::UnreadData);
        socket.receive_line().unwrap();
        assert_eq!(socket.take_idle().unwrap().details.reuse_count, 0);
        assert_eq!(refusal(&socket), ErrorKind::Closed);

        let (socket, _peer) = pair();
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(refusal(&socket), ErrorKind::Closed);
        let (socket, peer) = pair();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.receive_all().unwrap(), b"");
        assert_eq!(refusal(&socket), ErrorKind::Closed);
        socket.close().unwrap();
    }

    // TMO-5
    #[test]
    fn a_connection_on_which_a_receive_timed_out_is_suspect() {
        let (socket, _peer) = pair();
        let late = socket.with_read_timeout(Duration::from_millis(1), || socket.receive_line());
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(refusal(&socket), ErrorKind::Suspect);
        socket.clear_suspect().unwrap();
        socket.take_idle().unwrap();
    }

    // KA-2, case 7, and section 2 item 38 for the end: this destroys the connection
    #[test]
    fn a_connection_that_the_peer_has_written_to_or_left_is_not_parked() {
        let (socket, mut peer) = pair();
        peer.write_all(b"unasked").unwrap();
        while socket.state.look(|link, _| link.transport.look()).unwrap() == Look::Nothing {}
        assert_eq!(refusal(&socket), ErrorKind::Dubious);
        assert_eq!(refusal(&socket), ErrorKind::Closed);
        let (socket, peer) = pair();
        drop(peer);
        while socket.is_alive().unwrap() {}
        assert_eq!(refusal(&socket), ErrorKind::Closed);
        assert_eq!(socket.close().unwrap_err().kind(), ErrorKind::Closed);
        let (socket, peer) = pair();
        peer.set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        // It is unconnected once the reset has come; a look would take the error away.
        while socket.peer_addr().is_ok() {}
        assert_eq!(refusal(&socket), ErrorKind::Dubious);
    }
}
