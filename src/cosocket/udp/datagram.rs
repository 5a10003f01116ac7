//! [`Datagram`]: what was received, and what is known of its way.

use std::ops::Deref;

use super::super::address::Address;
use crate::io_handle::datagram::LocalAddress;

/// One datagram. It can be used as the bytes that it has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Datagram {
    /// The bytes; none at all is a datagram too.
    pub data: Vec<u8>,
    /// It was longer than what was asked for, and the rest is lost.
    pub is_truncated: bool,
    /// Who sent it.
    pub from: Address,
    /// Which of this machine's addresses it was sent to: known on unconnected sockets.
    pub(super) to: Option<LocalAddress>,
}

impl Datagram {
    /// The address of this machine that it was sent to, where that is known: on unconnected UDP
    /// sockets. Of one sent to a group or to all, that of the interface, or the group's.
    #[must_use]
    pub fn sent_to(&self) -> Option<std::net::IpAddr> {
        self.to.map(|to| to.ip)
    }

    /// The bytes alone.
    #[must_use]
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }
}

impl Deref for Datagram {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data
    }
}
