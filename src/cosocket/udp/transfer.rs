//! Sending and receiving: one datagram, or many by one system call.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::SockAddr;

use super::super::address::{Address, Target};
use super::super::fragments::{Fragments, Pieces};
use super::super::{Error, ErrorKind};
use super::datagram::Datagram;
use super::endpoint::Endpoint;
use super::{Turn, UdpCosocket};
use crate::io_handle;
use crate::io_handle::datagram::{Arrived, BATCH_MAX, LocalAddress};
use crate::os::unix::net::to_kernel;

/// No datagram is longer.
const LONGEST: usize = 65_536;

impl UdpCosocket {
    /// Sends one datagram to the peer. Fragments are joined; nothing at all is an empty datagram.
    ///
    /// # Errors
    ///
    /// `Closed`; `Timeout`; the system's: `message too long`, `destination address required` of a
    /// socket without a peer, and `connection refused` for a datagram sent before.
    pub fn send(&self, data: impl Fragments) -> Result<(), Error> {
        io_handle::begin_call()?;
        let endpoint = self.endpoint()?;
        if !endpoint.is_connected {
            return Err(io::Error::from_raw_os_error(libc::EDESTADDRREQ).into());
        }
        transmit(&endpoint, &data, None, None)
    }

    /// Sends one datagram to `target`. A socket that is not open is opened.
    ///
    /// A name is looked up, and its first address of the socket's family is taken.
    ///
    /// # Errors
    ///
    /// As [`send`](UdpCosocket::send); what [`Target::to_address`] finds wrong; `Resolve`; of a
    /// socket with a peer, `transport endpoint is already connected`.
    pub fn send_to(&self, data: impl Fragments, target: impl Target) -> Result<(), Error> {
        io_handle::begin_call()?;
        let address = target.to_address()?;
        let (endpoint, to) = self.way_to(&address)?;
        transmit(&endpoint, &data, Some(&to), None)
    }

    /// Answers a datagram: sends to where it came from, and from the address that it was sent to,
    /// which a peer that is connected insists on. It matters where this socket is bound to all of
    /// this machine's addresses.
    ///
    /// # Errors
    ///
    /// As [`send_to`](UdpCosocket::send_to).
    pub fn reply(&self, to: &Datagram, data: impl Fragments) -> Result<(), Error> {
        io_handle::begin_call()?;
        let (endpoint, address) = self.way_to(&to.from)?;
        let source = if endpoint.is_unix() { None } else { to.to };
        transmit(&endpoint, &data, Some(&address), source)
    }

    /// Waits for a datagram of the peer, of which at most `max` bytes are kept: whether that was
    /// all, [`Datagram::is_truncated`] tells. 65 536 is always enough.
    ///
    /// # Errors
    ///
    /// `Closed`; `Busy` while another receives or connects; `Timeout`; the system's: `connection
    /// refused`. The socket stays usable.
    pub fn receive(&self, max: usize) -> Result<Datagram, Error> {
        io_handle::begin_call()?;
        self.endpoint()?;
        let _turn = self.claim()?;
        // Of now: nobody sets another peer while it is our turn.
        let endpoint = self.endpoint()?;
        receive_one(&endpoint, max)
    }

    /// [`receive`](UdpCosocket::receive) from anyone. A socket that is not open is opened.
    ///
    /// # Errors
    ///
    /// As [`receive`](UdpCosocket::receive), except `Closed`; and `connection refused` and its kind
    /// only as [`set_report_undelivered`](UdpCosocket::set_report_undelivered) says.
    pub fn receive_from(&self, max: usize) -> Result<Datagram, Error> {
        let (endpoint, _turn) = self.open_to_receive()?;
        receive_one(&endpoint, max)
    }

    /// Waits for a datagram, and takes those that have come with it, up to `count`, by one system
    /// call (`recvmmsg(2)`). Of each at most `max` bytes are kept.
    ///
    /// # Errors
    ///
    /// As [`receive_from`](UdpCosocket::receive_from); `InvalidInput` for no datagrams, or none of
    /// their bytes.
    pub fn receive_batch(&self, count: usize, max: usize) -> Result<Vec<Datagram>, Error> {
        if count == 0 || max == 0 {
            return Err(ErrorKind::InvalidInput.into());
        }
        let (endpoint, _turn) = self.open_to_receive()?;
        let (count, max) = (count.min(BATCH_MAX), max.min(LONGEST));
        let mut buffer = vec![0; count * max];
        let arrived = endpoint.io.receive_datagrams(&mut buffer, max, endpoint.reports)?;
        let chunks = buffer.chunks_exact(max);
        let datagrams = arrived.into_iter().zip(chunks);
        datagrams.map(|(arrived, bytes)| datagram(&endpoint, arrived, bytes.to_vec())).collect()
    }

    /// Sends datagrams to the peer by as few system calls as will do (`sendmmsg(2)`), waiting for
    /// room where there is none; how many were sent: all of them, or those before the first that
    /// failed.
    ///
    /// # Errors
    ///
    /// As [`send`](UdpCosocket::send), if it is the first that fails.
    pub fn send_batch<D: AsRef<[u8]>>(&self, datagrams: &[D]) -> Result<usize, Error> {
        io_handle::begin_call()?;
        let endpoint = self.endpoint()?;
        if !endpoint.is_connected {
            return Err(io::Error::from_raw_os_error(libc::EDESTADDRREQ).into());
        }
        let datagrams: Vec<_> = datagrams.iter().map(|data| (data.as_ref(), None)).collect();
        transmit_all(&endpoint, &datagrams)
    }

    /// [`send_batch`](UdpCosocket::send_batch), each to an address of its own. Those are IP
    /// addresses, all of one family.
    ///
    /// # Errors
    ///
    /// As [`send_to`](UdpCosocket::send_to), if it is the first that fails.
    pub fn send_batch_to<D: AsRef<[u8]>>(
        &self,
        datagrams: &[(D, SocketAddr)],
    ) -> Result<usize, Error> {
        io_handle::begin_call()?;
        let Some((_, first)) = datagrams.first() else { return Ok(0) };
        let (endpoint, _) = self.way_to(&Address::Ip(*first))?;
        let datagrams: Vec<_> =
            datagrams.iter().map(|(data, to)| (data.as_ref(), Some((*to).into()))).collect();
        transmit_all(&endpoint, &datagrams)
    }

    fn open_to_receive(&self) -> Result<(Arc<Endpoint>, Turn<'_>), Error> {
        io_handle::begin_call()?;
        self.endpoint_or_open(None)?;
        let turn = self.claim()?;
        Ok((self.endpoint()?, turn))
    }

    /// The socket to send by, and the address in the kernel's form.
    fn way_to(&self, address: &Address) -> Result<(Arc<Endpoint>, SockAddr), Error> {
        let endpoint = self.endpoint_or_open(Some(address))?;
        if endpoint.is_connected {
            return Err(io::Error::from_raw_os_error(libc::EISCONN).into());
        }
        let to = match address {
            Address::Ip(address) => (*address).into(),
            Address::Unix(address) => to_kernel(address)?,
            Address::Host(host, port) => {
                let addresses = self.names.names().look_up(host, *port)?;
                let is_ours = |to: &&SocketAddr| to.is_ipv6() == endpoint.is_ipv6();
                let first = addresses.iter().find(is_ours).or(addresses.first());
                (*first.ok_or(ErrorKind::Resolve)?).into()
            }
        };
        Ok((endpoint, to))
    }
}

fn transmit(
    endpoint: &Endpoint,
    data: &impl Fragments,
    to: Option<&SockAddr>,
    from: Option<LocalAddress>,
) -> Result<(), Error> {
    let mut pieces = Pieces::default();
    data.collect(&mut pieces);
    let joined;
    let bytes = match pieces.as_one() {
        Some(bytes) => bytes,
        None => {
            joined = pieces.join();
            &joined
        }
    };
    let sent = past_reports(endpoint, || match to {
        // No readiness of ours tells of room in another's queue.
        Some(to) if endpoint.is_unix() => endpoint.io.send_to_local(bytes, to),
        _ => endpoint.io.send_datagram(bytes, to, from),
    })?;
    if sent < bytes.len() { Err(ErrorKind::PartialWrite.into()) } else { Ok(()) }
}

fn transmit_all(
    endpoint: &Endpoint,
    datagrams: &[(&[u8], Option<SockAddr>)],
) -> Result<usize, Error> {
    let mut sent = 0;
    while sent < datagrams.len() {
        match past_reports(endpoint, || endpoint.io.send_datagrams(&datagrams[sent..])) {
            Ok(count) => sent += count,
            Err(error) if sent == 0 => return Err(error.into()),
            Err(_) => break,
        }
    }
    Ok(sent)
}

/// A send that fails with the number of a report is tried again: that is about another datagram.
fn past_reports<T>(endpoint: &Endpoint, send: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match send() {
        Err(error) if endpoint.reports && error.raw_os_error().is_some() => send(),
        result => result,
    }
}

fn receive_one(endpoint: &Endpoint, max: usize) -> Result<Datagram, Error> {
    if endpoint.reports {
        return receive_one_or_report(endpoint, max);
    }
    let mut buffer = vec![0; max.min(LONGEST)];
    let arrived = endpoint.io.receive_datagram(&mut buffer)?;
    datagram(endpoint, arrived, buffer)
}

fn receive_one_or_report(endpoint: &Endpoint, max: usize) -> Result<Datagram, Error> {
    // A batch of one, which has at least one byte.
    let mut buffer = vec![0; max.clamp(1, LONGEST)];
    let chunk = buffer.len();
    let mut arrived = endpoint.io.receive_datagrams(&mut buffer, chunk, true)?.remove(0);
    arrived.is_truncated |= arrived.len > max;
    arrived.len = arrived.len.min(max);
    datagram(endpoint, arrived, buffer)
}

fn datagram(endpoint: &Endpoint, arrived: Arrived, mut data: Vec<u8>) -> Result<Datagram, Error> {
    data.truncate(arrived.len);
    data.shrink_to_fit();
    let Arrived { is_truncated, to, .. } = arrived;
    Ok(Datagram { data, is_truncated, from: endpoint.address(arrived.from)?, to })
}
