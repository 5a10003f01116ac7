//! [`Record`]: what name servers know.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hickory_proto::rr::{self, Name, RData};
use hickory_proto::serialize::binary::BinEncodable;

/// A type of records, to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// The name that this one stands for.
    Cname,
    /// Where mail goes.
    Mx,
    /// A name server of the zone.
    Ns,
    /// The name of an address; [`Resolver::reverse`](super::Resolver::reverse) asks for it.
    Ptr,
    /// The authority for the zone.
    Soa,
    /// Where a service is.
    Srv,
    /// Text.
    Txt,
    /// Any other, by its number.
    Other(u16),
}

impl RecordType {
    pub(crate) fn to_wire(self) -> rr::RecordType {
        match self {
            RecordType::A => rr::RecordType::A,
            RecordType::Aaaa => rr::RecordType::AAAA,
            RecordType::Cname => rr::RecordType::CNAME,
            RecordType::Mx => rr::RecordType::MX,
            RecordType::Ns => rr::RecordType::NS,
            RecordType::Ptr => rr::RecordType::PTR,
            RecordType::Soa => rr::RecordType::SOA,
            RecordType::Srv => rr::RecordType::SRV,
            RecordType::Txt => rr::RecordType::TXT,
            RecordType::Other(number) => number.into(),
        }
    }
}

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// What it is about: the name that was asked for, or the last one that it stands for. Without
    /// the dot at the end.
    pub name: String,
    /// For how long it held when it came from the server.
    pub ttl: Duration,
    /// What it says.
    pub data: RecordData,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordData {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// The name that this one stands for.
    Cname(String),
    /// Where mail goes: the lower the preference, the sooner.
    Mx {
        /// Lower comes first.
        preference: u16,
        /// The mail server.
        exchange: String,
    },
    /// A name server of the zone.
    Ns(String),
    /// The name of an address.
    Ptr(String),
    /// The authority for the zone (RFC 1035, section 3.3.13).
    Soa {
        /// The server that the zone comes from.
        server: String,
        /// The mailbox of who is responsible, its `@` written as a dot.
        mailbox: String,
        /// The version of the zone.
        serial: u32,
        /// For how long a negative answer holds.
        minimum: Duration,
    },
    /// Where a service is (RFC 2782).
    Srv {
        /// Lower comes first.
        priority: u16,
        /// Among those of one priority, the share of this one.
        weight: u16,
        /// The port of the service.
        port: u16,
        /// The machine.
        target: String,
    },
    /// Text: one or more strings, in no encoding that is known.
    Txt(Vec<Vec<u8>>),
    /// Any other: its type's number, and its bytes. Names in it are not compressed.
    Other(u16, Vec<u8>),
}

impl Record {
    pub(crate) fn from_wire(record: &rr::Record) -> Record {
        Record {
            name: text(&record.name),
            ttl: Duration::from_secs(record.ttl.into()),
            data: RecordData::from_wire(&record.data),
        }
    }
}

impl RecordData {
    fn from_wire(data: &RData) -> RecordData {
        match data {
            RData::A(ip) => RecordData::A(ip.0),
            RData::AAAA(ip) => RecordData::Aaaa(ip.0),
            RData::CNAME(name) => RecordData::Cname(text(name)),
            RData::NS(name) => RecordData::Ns(text(name)),
            RData::PTR(name) => RecordData::Ptr(text(name)),
            RData::MX(mx) => {
                RecordData::Mx { preference: mx.preference, exchange: text(&mx.exchange) }
            }
            RData::SOA(soa) => RecordData::Soa {
                server: text(&soa.mname),
                mailbox: text(&soa.rname),
                serial: soa.serial,
                minimum: Duration::from_secs(soa.minimum.into()),
            },
            RData::SRV(srv) => RecordData::Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: text(&srv.target),
            },
            RData::TXT(txt) => {
                RecordData::Txt(txt.txt_data.iter().map(|string| string.to_vec()).collect())
            }
            RData::Unknown { code, rdata } => {
                RecordData::Other((*code).into(), rdata.anything.clone())
            }
            other => {
                RecordData::Other(other.record_type().into(), other.to_bytes().unwrap_or_default())
            }
        }
    }
}

/// Without the dot at the end; what is not printable is escaped.
pub(crate) fn text(name: &Name) -> String {
    let mut text = name.to_ascii();
    if text.len() > 1 && text.ends_with('.') && !text.ends_with("\\.") {
        text.pop();
    }
    text
}
