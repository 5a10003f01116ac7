//! Questions: names as they are asked for, and the bytes that a server gets.

use hickory_proto::ProtoError;
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::DecodeError;

use super::random;

/// What may come by UDP without being cut to pieces on the way (DNS flag day 2020).
pub(crate) const UDP_BYTES: u16 = 1232;

const HEADER_BYTES: usize = 12;

/// The Internet.
const CLASS: u16 = 1;

/// The type of the record by which EDNS is spoken (RFC 6891).
const OPT: u16 = 41;

/// A full name, in lower case, and what of it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) kind: RecordType,
}

/// How it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) edns: bool,
    pub(crate) random_case: bool,
}

/// A question as it goes to a server, and what an answer to it looks like.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) question: &'a Question,
    pub(crate) bytes: Vec<u8>,
    exact_case: bool,
}

impl Question {
    /// With an id that nobody can guess.
    pub(crate) fn ask(&self, manner: Manner) -> Asked<'_> {
        let [id @ .., _, _] = random::bytes::<4>();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.name.len() + 16);
        bytes.extend(id);
        // A query that wants recursion; one question, and EDNS is an additional record.
        bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(manner.edns)]);
        for label in self.name.iter() {
            bytes.push(label.len() as u8);
            bytes.extend(label);
        }
        bytes.push(0);
        if manner.random_case {
            randomize_case(&mut bytes[HEADER_BYTES..]);
        }
        bytes.extend(u16::from(self.kind).to_be_bytes());
        bytes.extend(CLASS.to_be_bytes());
        if manner.edns {
            bytes.push(0);
            bytes.extend([OPT, UDP_BYTES].map(u16::to_be_bytes).concat());
            bytes.extend([0; 6]);
        }
        Asked { question: self, bytes, exact_case: manner.random_case }
    }
}

impl Asked<'_> {
    pub(crate) fn id(&self) -> &[u8] {
        &self.bytes[..2]
    }

    /// Whether what follows the header of a message is this question. Case counts in the name
    /// alone, and there if it is random.
    pub(crate) fn is_repeated_in(&self, rest: &[u8]) -> bool {
        let labels = self.question.name.iter();
        let name_bytes = labels.map(|label| label.len() + 1).sum::<usize>() + 1;
        let ours = &self.bytes[HEADER_BYTES..][..name_bytes + 4];
        let Some(theirs) = rest.get(..ours.len()) else { return false };
        let (our_name, our_kind) = ours.split_at(name_bytes);
        let (their_name, their_kind) = theirs.split_at(name_bytes);
        let is_same_name = match self.exact_case {
            true => their_name == our_name,
            false => their_name.eq_ignore_ascii_case(our_name),
        };
        is_same_name && their_kind == our_kind
    }
}

/// Flips letters at random. Lengths of labels are less than any letter.
fn randomize_case(name: &mut [u8]) {
    let bits = random::bytes::<32>();
    for (index, byte) in name.iter_mut().enumerate() {
        let flip = bits[index / 8 % bits.len()] >> (index % 8) & 1;
        if byte.is_ascii_alphabetic() && flip == 1 {
            *byte ^= 0x20;
        }
    }
}

/// The full names that a name may mean, in the order in which they are tried: see `search` and
/// `ndots` in `resolv.conf(5)`. None is more than 253 bytes.
pub(crate) fn candidates(host: &str, search: &[String], ndots: usize) -> Result<Vec<Name>, String> {
    let name = parse(host)?;
    let dots = host.bytes().filter(|&byte| byte == b'.').count();
    let is_full = name.is_fqdn();
    let mut as_it_is = name.clone();
    as_it_is.set_fqdn(true);
    if is_full {
        return Ok(vec![as_it_is]);
    }
    let in_domain = |domain: &String| name.clone().append_domain(&parse(domain).ok()?).ok();
    let mut names: Vec<Name> = search.iter().filter_map(in_domain).collect();
    names.iter_mut().for_each(|name| name.set_fqdn(true));
    match dots >= ndots {
        true => names.insert(0, as_it_is),
        false => names.push(as_it_is),
    }
    Ok(names)
}

/// A name in lower case. What is not ASCII is written as IDNA has it.
pub(crate) fn parse(host: &str) -> Result<Name, String> {
    if host.is_empty() {
        return Err("no host".into());
    }
    let name = match host.is_ascii() {
        true => Name::from_ascii(host),
        false => Name::from_utf8(host),
    };
    let name = name.map_err(|error| why_not(host, &error))?;
    // On the wire there are 255 bytes for it.
    match name.iter().map(|label| label.len() + 1).sum::<usize>() {
        0..=254 => Ok(name.to_lowercase()),
        _ => Err("the name is too long".into()),
    }
}

/// What is wrong with a name that could not be parsed.
fn why_not(host: &str, error: &ProtoError) -> String {
    let labels = || host.strip_suffix('.').unwrap_or(host).split('.');
    match error {
        _ if labels().any(str::is_empty) => "an empty label".into(),
        ProtoError::Decode(DecodeError::LabelBytesTooLong(_)) => {
            "a label is longer than 63 bytes".into()
        }
        ProtoError::Decode(error) => error.to_string(),
        // Of characters the codec says it in its own terms.
        _ => "a label has characters that no name has".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_it_is_no_name_is_said_in_words() {
        let long = "a".repeat(64);
        for (host, why) in [
            ("a..b", "an empty label"),
            (".a", "an empty label"),
            ("a b", "a label has characters that no name has"),
            ("\u{fdfa}\u{202e}.test", "a label has characters that no name has"),
            ("b\u{fc}cher\u{2028}.test", "a label has characters that no name has"),
            (&long, "a label is longer than 63 bytes"),
            (&format!("\u{fc}{long}"), "a label is longer than 63 bytes"),
        ] {
            assert_eq!(parse(host).unwrap_err(), why, "{host:?}");
        }
    }

    fn tried(host: &str, search: &[&str], ndots: usize) -> Vec<String> {
        let search: Vec<String> = search.iter().map(|&domain| domain.to_owned()).collect();
        let names = candidates(host, &search, ndots).unwrap();
        names.iter().map(Name::to_ascii).collect()
    }

    #[test]
    fn short_names_are_looked_for_in_the_domains_first() {
        let search = ["a.test", "b.test"];
        assert_eq!(tried("www", &search, 1), ["www.a.test.", "www.b.test.", "www."]);
        assert_eq!(tried("www.x", &search, 1), ["www.x.", "www.x.a.test.", "www.x.b.test."]);
        assert_eq!(tried("www.x", &search, 2), ["www.x.a.test.", "www.x.b.test.", "www.x."]);
        assert_eq!(tried("WWW.x.", &search, 9), ["www.x."]);
        assert_eq!(tried("www", &[], 1), ["www."]);
    }

    #[test]
    fn what_is_no_name_is_told() {
        assert_eq!(candidates("", &[], 1).unwrap_err(), "no host");
        let long_label = "a".repeat(64);
        let long_name = ["a".repeat(63).as_str(); 5].join(".");
        for host in ["a..b", ".", "..", ".a", "a b", "a\0b", &long_label, &long_name] {
            let names = candidates(host, &[], 1);
            assert!(names.is_err() || host == ".", "{host:?}: {names:?}");
        }
    }

    #[test]
    fn a_domain_that_makes_the_name_too_long_is_left_out() {
        let host = ["a".repeat(60).as_str(); 4].join(".");
        assert_eq!(tried(&host, &["a-long-domain.test", "b"], 9).len(), 2);
    }

    #[test]
    fn names_in_other_scripts_are_written_in_ascii() {
        assert_eq!(parse("Bücher.example").unwrap().to_ascii(), "xn--bcher-kva.example");
    }

    #[test]
    fn a_question_is_known_again_in_any_case_unless_the_case_is_random() {
        let question = Question { name: parse("www.example.test.").unwrap(), kind: RecordType::A };
        let plain = question.ask(Manner { edns: false, random_case: false });
        assert_eq!(plain.bytes.len(), 12 + 18 + 4);
        let shouted = plain.bytes[12..].to_ascii_uppercase();
        assert!(plain.is_repeated_in(&shouted) && plain.is_repeated_in(&plain.bytes[12..]));
        assert!(!plain.is_repeated_in(&shouted[..21]));
        let random = question.ask(Manner { edns: true, random_case: true });
        assert!(random.is_repeated_in(&random.bytes[12..]));
        assert!(random.bytes[12..].eq_ignore_ascii_case(
            &question.ask(Manner { edns: true, random_case: false }).bytes[12..]
        ));
        // One in 2^14 has no letter changed, and none of a hundred are.
        let changed = (0..100).any(|_| {
            let asked = question.ask(Manner { edns: true, random_case: true });
            !asked.is_repeated_in(&plain.bytes[12..])
        });
        assert!(changed);
    }
}
