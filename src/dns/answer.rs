//! Answers: what a message says to a question. Pure functions of bytes that anyone may have sent.
//!
//! ```text
//!   id, "this is an answer", the question once more  -- not ours -->  ignored, the wait goes on
//!        | ours
//!        +-- cut short (TC) -------------------------->  Truncated: to be asked for by TCP
//!        +-- cannot be read -------------------------->  Malformed
//!        +-- response code other than 0 and 3 -------->  Refused
//!        v
//!   from the question's name along the aliases ------->  Records, Alias, Nothing, AliasLoop
//! ```
//!
//! Records about names that the question does not lead to are not looked at: a server says nothing
//! about what it was not asked.

use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{self, DNSClass, Name, RData, RecordType};

use super::question::Asked;

/// As many names may stand for one another, over all answers to one look-up.
pub(crate) const ALIASES_MAX: usize = 16;

const HEADER_BYTES: usize = 12;

/// What a server has said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// What was asked for; it holds for so long.
    Records { records: Vec<rr::Record>, ttl: Duration },
    /// The name stands for this one, of which the answer says nothing.
    Alias { target: Name, ttl: Duration },
    /// No such name, or no such record; for how long, if that is said (RFC 2308).
    Nothing { ttl: Option<Duration> },
    /// The names stand for one another.
    AliasLoop,
    /// By TCP there is more.
    Truncated,
    /// It answers the question and cannot be read.
    Malformed,
    /// The response code.
    Refused(u16),
}

/// The answer in `bytes`, or `None` if that is no answer to what was asked.
pub(crate) fn read(asked: &Asked<'_>, bytes: &[u8]) -> Option<Answer> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let flags = u16::from_be_bytes([header[2], header[3]]);
    let (is_response, operation) = (flags & 0x8000 != 0, flags & 0x7800);
    let (is_truncated, code) = (flags & 0x0200 != 0, flags & 0x000f);
    let questions = u16::from_be_bytes([header[4], header[5]]);
    if &header[..2] != asked.id() || !is_response || operation != 0 {
        return None;
    }
    match questions {
        1 if asked.is_repeated_in(rest) => {}
        // One who cannot read the question does not repeat it.
        0 if code != 0 && code != u16::from(ResponseCode::NXDomain) => {
            return Some(Answer::Refused(code));
        }
        _ => return None,
    }
    if is_truncated {
        return Some(Answer::Truncated);
    }
    let Ok(message) = Message::from_vec(bytes) else { return Some(Answer::Malformed) };
    Some(match u16::from(message.metadata.response_code) {
        0 | 3 => follow(asked, &message),
        code => Answer::Refused(code),
    })
}

/// From the name of the question along the aliases.
fn follow(asked: &Asked<'_>, message: &Message) -> Answer {
    let kind = asked.question.kind;
    let mut seen = vec![&asked.question.name];
    let mut ttl = u32::MAX;
    loop {
        let name = *seen.last().expect("it begins with one");
        let about = |record: &&rr::Record| {
            record.dns_class == DNSClass::IN && record.name.eq_ignore_root(name)
        };
        let is_asked_for = |record: &&rr::Record| {
            about(record) && (kind == RecordType::ANY || record.record_type() == kind)
        };
        let records: Vec<_> = message.answers.iter().filter(is_asked_for).cloned().collect();
        if !records.is_empty() {
            let ttl = records.iter().map(seconds).fold(ttl, u32::min);
            return Answer::Records { records, ttl: Duration::from_secs(ttl.into()) };
        }
        let alias = message.answers.iter().filter(about).find_map(|record| match &record.data {
            RData::CNAME(target) => Some((&target.0, seconds(record))),
            _ => None,
        });
        match alias {
            Some((target, _)) if seen.iter().any(|name| name.eq_ignore_root(target)) => {
                return Answer::AliasLoop;
            }
            Some(_) if seen.len() > ALIASES_MAX => return Answer::AliasLoop,
            Some((target, seconds)) => {
                seen.push(target);
                ttl = ttl.min(seconds);
            }
            None => return end_of_chain(message, &seen, ttl),
        }
    }
}

/// Nothing more is said of the last name.
fn end_of_chain(message: &Message, seen: &[&Name], ttl: u32) -> Answer {
    let name = *seen.last().expect("it begins with one");
    // Of a zone that the name lies in: RFC 2308, section 5, which also bounds it by the TTL.
    let negative = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) if in_zone(name, &record.name) => Some(soa.minimum.min(seconds(record))),
        _ => None,
    });
    let is_known_not_to_be = message.metadata.response_code == ResponseCode::NXDomain;
    if seen.len() > 1 && negative.is_none() && !is_known_not_to_be {
        let mut target = name.to_lowercase();
        target.set_fqdn(true);
        return Answer::Alias { target, ttl: Duration::from_secs(ttl.into()) };
    }
    let ttl = negative.map(|seconds| Duration::from_secs(seconds.min(ttl).into()));
    Answer::Nothing { ttl }
}

fn in_zone(name: &Name, zone: &Name) -> bool {
    let (mut name, mut zone) = (name.clone(), zone.clone());
    name.set_fqdn(true);
    zone.set_fqdn(true);
    zone.zone_of(&name)
}

/// A number that would be negative is none (RFC 2181, section 8).
fn seconds(record: &rr::Record) -> u32 {
    if record.ttl > i32::MAX as u32 { 0 } else { record.ttl }
}

/// For the fuzzer: `data` as a message from a server, made to pass as an answer to a question
/// unless it is one already.
#[cfg(cosocket_internals)]
pub fn fuzz(data: &[u8]) {
    use super::question::{Manner, Question};
    let name = Name::from_ascii("www.example.test.").expect("a name");
    for kind in [RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::ANY] {
        let question = Question { name: name.clone(), kind };
        let asked = question.ask(Manner { edns: true, random_case: false });
        let _ = read(&asked, data);
        let mut ours = data.to_vec();
        if let Some((id, _)) = ours.split_first_chunk_mut::<2>() {
            id.copy_from_slice(asked.id());
        }
        let answer = read(&asked, &ours);
        if let Some(Answer::Records { records, .. }) = &answer {
            assert!(!records.is_empty());
            records.iter().for_each(|record| drop(super::Record::from_wire(record)));
        }
        // Whatever follows a header and a question of ours.
        let mut whole = asked.bytes[..12 + 18 + 4].to_vec();
        whole[2] |= 0x80;
        if let Some((counts, rest)) = data.split_at_checked(6) {
            for (index, count) in counts.iter().enumerate() {
                whole[6 + index] = if index % 2 == 0 { 0 } else { *count };
            }
            whole.extend(rest);
            assert!(read(&asked, &whole).is_some());
        }
    }
}

#[cfg(test)]
mod tests;
