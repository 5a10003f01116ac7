//! UDP: sockets, and sockets with settings made before they are bound.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::{Protocol, SockAddr, Socket, Type};

use super::ToSocketAddrs;
use super::addr::{each_address, ip_address};
use super::builder::{BindOptions, bind_options, several};
use crate::io_handle::{self, IoHandle};
use crate::socket::{descriptor_conversions, socket_methods, socket_timeouts};

/// A UDP socket; [`std::net::UdpSocket`] for coroutines.
///
/// All calls take `&self`: one coroutine may receive while others send.
///
/// # Waiting
///
/// Receiving and peeking wait for a datagram; sending waits while the send buffer is full. A
/// coroutine is suspended, a plain thread blocks. A call fails with
/// [`TimedOut`](io::ErrorKind::TimedOut) when the timeout set for its direction has passed. A
/// cancel unwinds out of it (see [`cancel`](crate::thread::JoinHandle::cancel)). A datagram that comes at
/// that moment is returned, or is there for the next call.
///
/// # Errors
///
/// A connected socket is told when nobody listens at the other end: the next call, whichever it
/// is, fails with [`ConnectionRefused`](io::ErrorKind::ConnectionRefused).
///
/// ```
/// use cosocket::net::UdpSocket;
/// use cosocket::thread;
///
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let address = server.local_addr()?;
/// let server = thread::spawn(move || {
///     let mut buffer = [0; 1500];
///     let (len, client) = server.recv_from(&mut buffer)?;
///     server.send_to(&buffer[..len], client)
/// });
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.connect(address)?;
/// client.send(b"ping")?;
/// let mut buffer = [0; 1500];
/// let len = client.recv(&mut buffer)?;
/// assert_eq!(&buffer[..len], b"ping");
/// server.join().unwrap()?;
/// # std::io::Result::Ok(())
/// ```
pub struct UdpSocket {
    io: IoHandle,
}

impl UdpSocket {
    /// Binds to the first address that can be bound. [`UdpBuilder`] has more to choose from.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there is no address; else the system's error for the last address.
    pub fn bind<A: ToSocketAddrs>(address: A) -> io::Result<UdpSocket> {
        UdpBuilder::new().bind(address)
    }

    fn from_bound(socket: Socket) -> UdpSocket {
        UdpSocket { io: IoHandle::new(socket.into(), true).of_datagrams() }
    }

    /// Waits for a datagram; how much of it is in the buffer, and where it came from. What does
    /// not fit is lost; an empty buffer takes a datagram too.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, address) = self.io.recv_from(buffer, 0)?;
        Ok((len, ip_address(address)?))
    }

    /// As [`recv_from`](UdpSocket::recv_from), and leaves the datagram in the socket.
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, address) = self.io.recv_from(buffer, libc::MSG_PEEK)?;
        Ok((len, ip_address(address)?))
    }

    /// Sends one datagram to the first of the addresses, as in std: others are not tried.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there is no address; else the system's, among them `EMSGSIZE` for a
    /// datagram that is too long.
    pub fn send_to<A: ToSocketAddrs>(&self, buffer: &[u8], address: A) -> io::Result<usize> {
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "no addresses to send data to");
        let address = address.to_socket_addrs()?.next().ok_or_else(none)?;
        self.io.send_to(buffer, &SockAddr::from(address))
    }

    /// Sets where [`send`](UdpSocket::send) sends to and what [`recv`](UdpSocket::recv) receives
    /// from: the first address that the system takes. Nothing is sent.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there is no address; else the system's error for the last address.
    pub fn connect<A: ToSocketAddrs>(&self, address: A) -> io::Result<()> {
        each_address(address, |address| {
            io_handle::begin_call()?;
            self.options().connect(&SockAddr::from(*address))
        })
    }

    /// Waits for a datagram of the socket it is connected to; as
    /// [`recv_from`](UdpSocket::recv_from).
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.recv(buffer, 0)
    }

    /// As [`recv`](UdpSocket::recv), and leaves the datagram in the socket.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.recv(buffer, libc::MSG_PEEK)
    }

    /// Sends one datagram to the socket it is connected to.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        self.io.send(buffer)
    }

    /// The address it is connected to.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        ip_address(self.options().peer_addr()?)
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        ip_address(self.options().local_addr()?)
    }

    /// Whether it may send to a broadcast address (`SO_BROADCAST`).
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.options().set_broadcast(broadcast)
    }

    /// Whether `SO_BROADCAST` is set.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.options().broadcast()
    }

    /// Whether IPv4 multicasts come back to this machine (`IP_MULTICAST_LOOP`).
    pub fn set_multicast_loop_v4(&self, multicast_loop: bool) -> io::Result<()> {
        self.options().set_multicast_loop_v4(multicast_loop)
    }

    /// Whether `IP_MULTICAST_LOOP` is set.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.options().multicast_loop_v4()
    }

    /// How many routers an IPv4 multicast may pass, plus one (`IP_MULTICAST_TTL`).
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.options().set_multicast_ttl_v4(ttl)
    }

    /// The setting of `IP_MULTICAST_TTL`.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.options().multicast_ttl_v4()
    }

    /// Whether IPv6 multicasts come back to this machine (`IPV6_MULTICAST_LOOP`).
    pub fn set_multicast_loop_v6(&self, multicast_loop: bool) -> io::Result<()> {
        self.options().set_multicast_loop_v6(multicast_loop)
    }

    /// Whether `IPV6_MULTICAST_LOOP` is set.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.options().multicast_loop_v6()
    }

    /// The time to live of packets sent (`IP_TTL`).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.options().set_ttl_v4(ttl)
    }

    /// The time to live of packets sent.
    pub fn ttl(&self) -> io::Result<u32> {
        self.options().ttl_v4()
    }

    /// Joins an IPv4 multicast group on the interface that has this address; on one that the
    /// system chooses for `0.0.0.0`.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.options().join_multicast_v4(group, interface)
    }

    /// Joins an IPv6 multicast group on the interface of this index; on one that the system
    /// chooses for 0.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.options().join_multicast_v6(group, interface)
    }

    /// Undoes [`join_multicast_v4`](UdpSocket::join_multicast_v4).
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.options().leave_multicast_v4(group, interface)
    }

    /// Undoes [`join_multicast_v6`](UdpSocket::join_multicast_v6).
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.options().leave_multicast_v6(group, interface)
    }
}

socket_methods!(UdpSocket);
socket_timeouts!(UdpSocket);
descriptor_conversions!(UdpSocket, std::net, |fd| IoHandle::adopt(fd).of_datagrams());

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UdpSocket");
        if let Ok(address) = self.local_addr() {
            debug.field("addr", &address);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}

/// Binds UDP sockets with settings that [`UdpSocket::bind`] leaves at their defaults.
///
/// ```
/// use cosocket::net::UdpBuilder;
///
/// let sockets = UdpBuilder::new().recv_buffer_bytes(1 << 20).bind_many("127.0.0.1:0", 2)?;
/// assert_eq!(sockets[0].local_addr()?, sockets[1].local_addr()?);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct UdpBuilder {
    options: BindOptions,
}

bind_options!(UdpBuilder);

impl UdpBuilder {
    /// The settings of std.
    pub fn new() -> UdpBuilder {
        UdpBuilder::default()
    }

    /// Whether an address may be bound that others have bound in the same way (`SO_REUSEADDR`), as
    /// several listeners to one multicast group do. Off by default.
    pub fn reuse_address(mut self, reuse: bool) -> UdpBuilder {
        self.options.reuse_address = Some(reuse);
        self
    }

    /// Binds to the first address that can be bound.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there is no address, or for a setting that is out of range; else the
    /// system's error for the last address.
    pub fn bind<A: ToSocketAddrs>(&self, address: A) -> io::Result<UdpSocket> {
        each_address(address, |address| self.bind_to(address))
    }

    /// Binds several sockets to one port, each with a queue of its own. Implies
    /// [`reuse_port`](UdpBuilder::reuse_port); with port 0 the first socket's port is everybody's.
    /// The kernel gives each datagram to one of them, by a hash of its addresses.
    ///
    /// # Errors
    ///
    /// As [`bind`](UdpBuilder::bind), and `InvalidInput` for no socket. Of several, either all are
    /// made or none.
    pub fn bind_many<A: ToSocketAddrs>(
        &self,
        address: A,
        count: usize,
    ) -> io::Result<Vec<UdpSocket>> {
        let builder = self.clone().reuse_port(true);
        let first = || builder.bind(address);
        several(count, first, UdpSocket::local_addr, |address| builder.bind_to(&address))
    }

    fn bind_to(&self, address: &SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.options.bound(address, Type::DGRAM, Protocol::UDP)?;
        Ok(UdpSocket::from_bound(socket))
    }
}
