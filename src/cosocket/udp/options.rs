//! Options of an open socket: broadcast, time to live, multicast. They are the socket's, not the
//! object's: another [`set_peer_name`](UdpCosocket::set_peer_name) begins without them.

use std::net::{IpAddr, Ipv4Addr};

use socket2::InterfaceIndexOrAddress;

use super::super::{Error, ErrorKind};
use super::UdpCosocket;
use crate::io_handle::datagram::set_multicast_interface_v4;

/// All of them fail with `Closed` on a socket that is not open, with the system's error where it
/// refuses, and with `InvalidInput` for what the family of the socket does not have.
impl UdpCosocket {
    /// Whether it may send to a broadcast address (`SO_BROADCAST`).
    pub fn set_broadcast(&self, broadcast: bool) -> Result<(), Error> {
        Ok(self.endpoint()?.options().set_broadcast(broadcast)?)
    }

    /// How many routers a datagram may pass, plus one: 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> Result<(), Error> {
        let endpoint = self.endpoint()?;
        check_ttl(ttl)?;
        match endpoint.is_ipv6() {
            true => endpoint.options().set_unicast_hops_v6(ttl),
            false => endpoint.options().set_ttl_v4(ttl),
        }
        .map_err(Error::from)
    }

    /// As [`set_ttl`](UdpCosocket::set_ttl), for what is sent to a group; 1 by default: this
    /// network only.
    pub fn set_multicast_ttl(&self, ttl: u32) -> Result<(), Error> {
        let endpoint = self.endpoint()?;
        check_ttl(ttl)?;
        match endpoint.is_ipv6() {
            true => endpoint.options().set_multicast_hops_v6(ttl),
            false => endpoint.options().set_multicast_ttl_v4(ttl),
        }
        .map_err(Error::from)
    }

    /// Whether this machine's own members of a group hear what it sends to it. On by default.
    pub fn set_multicast_loop(&self, is_heard: bool) -> Result<(), Error> {
        let endpoint = self.endpoint()?;
        match endpoint.is_ipv6() {
            true => endpoint.options().set_multicast_loop_v6(is_heard),
            false => endpoint.options().set_multicast_loop_v4(is_heard),
        }
        .map_err(Error::from)
    }

    /// By which interface it sends to groups, given by its index; 0 is up to the system.
    pub fn set_multicast_interface(&self, interface: u32) -> Result<(), Error> {
        let endpoint = self.endpoint()?;
        if endpoint.is_ipv6() {
            return Ok(endpoint.options().set_multicast_if_v6(interface)?);
        }
        Ok(set_multicast_interface_v4(&endpoint.io, interface)?)
    }

    /// Joins a group, on an interface given by its index; with 0 on one that the system chooses.
    pub fn join_multicast(&self, group: IpAddr, interface: u32) -> Result<(), Error> {
        let endpoint = self.endpoint()?;
        let options = endpoint.options();
        match group {
            IpAddr::V4(group) => {
                options.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))
            }
            IpAddr::V6(group) => options.join_multicast_v6(&group, interface),
        }
        .map_err(Error::from)
    }

    /// Undoes [`join_multicast`](UdpCosocket::join_multicast).
    pub fn leave_multicast(&self, group: IpAddr, interface: u32) -> Result<(), Error> {
        let endpoint = self.endpoint()?;
        let options = endpoint.options();
        match group {
            IpAddr::V4(group) => {
                options.leave_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))
            }
            IpAddr::V6(group) => options.leave_multicast_v6(&group, interface),
        }
        .map_err(Error::from)
    }

    /// Joins a group of IPv4, and hears what `source` sends to it (`IP_ADD_SOURCE_MEMBERSHIP`); on
    /// the interface that has this address, or with `0.0.0.0` on one that the system chooses.
    pub fn join_multicast_of(
        &self,
        source: Ipv4Addr,
        group: Ipv4Addr,
        interface: Ipv4Addr,
    ) -> Result<(), Error> {
        Ok(self.endpoint()?.options().join_ssm_v4(&source, &group, &interface)?)
    }

    /// Undoes [`join_multicast_of`](UdpCosocket::join_multicast_of).
    pub fn leave_multicast_of(
        &self,
        source: Ipv4Addr,
        group: Ipv4Addr,
        interface: Ipv4Addr,
    ) -> Result<(), Error> {
        Ok(self.endpoint()?.options().leave_ssm_v4(&source, &group, &interface)?)
    }

    /// How much the kernel holds of what has come and was not received yet, in bytes; it doubles
    /// what it is told, and what comes beyond that is lost (`SO_RCVBUF`).
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<(), Error> {
        Ok(self.endpoint()?.options().set_recv_buffer_size(bytes)?)
    }

    /// How much the kernel holds of what is to be sent, in bytes; it doubles what it is told
    /// (`SO_SNDBUF`).
    pub fn set_send_buffer(&self, bytes: usize) -> Result<(), Error> {
        Ok(self.endpoint()?.options().set_send_buffer_size(bytes)?)
    }
}

fn check_ttl(ttl: u32) -> Result<(), Error> {
    match ttl {
        1..=255 => Ok(()),
        _ => Err(ErrorKind::InvalidInput.into()),
    }
}
