//! Sending what lies in memory.

use std::io::IoSlice;

use super::fragments::{Fragments, Pieces};
use super::{Cosocket, Error};

/// Up to here, in bytes, pieces are joined and sent by one plain call: copying them is cheaper
/// than a list of slices, for us and for the kernel.
const JOINED_MAX: usize = 16 << 10;

impl Cosocket {
    /// Sends all of `data`, and returns how many bytes that is. It may be one string of bytes, or
    /// pieces of any depth, which need not be joined first: see [`Fragments`].
    ///
    /// Returns when the kernel has taken every byte. The send timeout bounds each wait for the peer
    /// to take some. Nothing to send is sent at once, on a socket that could send.
    ///
    /// ```
    /// use cosocket::{Text, net::TcpListener};
    /// use std::io::Read;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let socket = cosocket::connect(listener.local_addr()?)?;
    /// let headers = vec![("Host", "localhost"), ("Accept", "*/*")];
    /// let headers: Vec<_> = headers.iter().map(|(name, value)| (name, ": ", value, "\r\n")).collect();
    /// let sent = socket.send(("GET /", Text(42), " HTTP/1.1\r\n", headers, "\r\n"))?;
    /// socket.close()?;
    ///
    /// let mut request = String::new();
    /// listener.accept()?.0.read_to_string(&mut request)?;
    /// assert_eq!(request, "GET /42 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
    /// assert_eq!(sent, request.len());
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed`, `BusyConnecting`, `BusyWriting`: nothing was sent. `Timeout`, and the system's
    /// (`broken pipe`, `connection reset by peer`): the write half is over then, and the read half
    /// lives on. `Cancelled` by [`cancel_send`](Cosocket::cancel_send), which leaves the half alive,
    /// or by `close`. [`Error::sent`] says how much the kernel has taken.
    ///
    /// # Cancel
    ///
    /// Unwinds, and closes the connection: see [`Cosocket`](Cosocket#cancel).
    pub fn send(&self, data: impl Fragments) -> Result<usize, Error> {
        let mut pieces = Pieces::default();
        data.collect(&mut pieces);
        let sent = self.send_with(|output| {
            let sent = match pieces.as_one() {
                Some(bytes) => output.write_all(bytes),
                None if pieces.len() <= JOINED_MAX => output.write_all(&pieces.join()),
                None => {
                    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(IoSlice::new).collect();
                    output.write_all_vectored(&mut slices)
                }
            };
            Ok(sent?)
        })?;
        Ok(sent as usize)
    }

    /// [`send`](Cosocket::send) of the slices, one after the other.
    ///
    /// # Errors
    ///
    /// As [`send`](Cosocket::send).
    pub fn send_vectored(&self, slices: &[IoSlice<'_>]) -> Result<usize, Error> {
        self.send(slices)
    }

    /// Sends as much of `data` as the kernel takes at once, without waiting for more.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when that is nothing; else as [`send`](Cosocket::send).
    pub fn try_send(&self, data: &[u8]) -> Result<usize, Error> {
        let sent = self.send_with(|output| output.try_write(data))?;
        Ok(sent as usize)
    }
}
