//! What servers may say, and what is made of it.

use hickory_proto::op::{MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, CNAME, SOA};
use proptest::prelude::*;

use super::super::question::{Manner, Question};
use super::*;

const PLAIN: Manner = Manner { edns: true, random_case: false };

fn question(name: &str) -> Question {
    Question { name: Name::from_ascii(name).unwrap(), kind: RecordType::A }
}

/// An answer to what was asked, with nothing in it.
fn reply(asked: &Asked<'_>) -> Message {
    let id = u16::from_be_bytes([asked.bytes[0], asked.bytes[1]]);
    let mut message = Message::new(id, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(asked.question.name.clone(), asked.question.kind));
    message
}

fn record(name: &str, ttl: u32, data: RData) -> rr::Record {
    rr::Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, data)
}

fn ip(last: u8) -> RData {
    RData::A(A::new(192, 0, 2, last))
}

fn alias(target: &str) -> RData {
    RData::CNAME(CNAME(Name::from_ascii(target).unwrap()))
}

fn authority(minimum: u32) -> RData {
    let [server, mailbox] = ["ns.test.", "root.test."].map(|name| Name::from_ascii(name).unwrap());
    RData::SOA(SOA::new(server, mailbox, 1, 1, 1, 1, minimum))
}

/// What is made of these records, as an answer about `www.test`.
fn said(code: ResponseCode, answers: &[rr::Record], authorities: &[rr::Record]) -> Answer {
    let question = question("www.test.");
    let asked = question.ask(PLAIN);
    let mut message = reply(&asked);
    message.metadata.response_code = code;
    message.add_answers(answers.iter().cloned());
    message.insert_authorities(authorities.to_vec());
    read(&asked, &message.to_vec().unwrap()).expect("it answers the question")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn records_hold_as_long_as_the_shortest_of_them() {
    let (one, other) = (record("www.test.", 70, ip(1)), record("WWW.test.", 60, ip(2)));
    let answer = said(ResponseCode::NoError, &[one.clone(), other.clone()], &[]);
    assert_eq!(answer, Answer::Records { records: vec![one, other], ttl: seconds(60) });
}

#[test]
fn aliases_are_followed_whatever_their_order_and_bound_the_time() {
    let address = record("c.test.", 60, ip(1));
    let answers = [
        address.clone(),
        record("b.test.", 50, alias("C.test.")),
        record("www.test.", 90, alias("b.test.")),
    ];
    let answer = said(ResponseCode::NoError, &answers, &[]);
    assert_eq!(answer, Answer::Records { records: vec![address], ttl: seconds(50) });
}

#[test]
fn what_the_question_does_not_lead_to_is_not_believed() {
    let foreign = [record("bank.test.", 60, ip(66)), record("x.test.", 60, alias("www.test."))];
    assert_eq!(said(ResponseCode::NoError, &foreign, &[]), Answer::Nothing { ttl: None });
    let other_type = [record("www.test.", 60, authority(1))];
    assert_eq!(said(ResponseCode::NoError, &other_type, &[]), Answer::Nothing { ttl: None });
    let mut other_class = record("www.test.", 60, ip(66));
    other_class.dns_class = DNSClass::CH;
    assert_eq!(said(ResponseCode::NoError, &[other_class], &[]), Answer::Nothing { ttl: None });
}

#[test]
fn an_alias_of_which_no_more_is_said_is_to_be_asked_for() {
    let answers =
        [record("www.test.", 90, alias("b.test.")), record("b.test.", 80, alias("C.test."))];
    let target = Name::from_ascii("c.test.").unwrap();
    let expected = Answer::Alias { target, ttl: seconds(80) };
    assert_eq!(said(ResponseCode::NoError, &answers, &[]), expected);
    // Unless it is known that there is nothing.
    let expected = Answer::Nothing { ttl: None };
    assert_eq!(said(ResponseCode::NXDomain, &answers, &[]), expected);
    let known = said(ResponseCode::NoError, &answers, &[record("test.", 900, authority(30))]);
    assert_eq!(known, Answer::Nothing { ttl: Some(seconds(30)) });
}

#[test]
fn aliases_that_lead_nowhere_end() {
    let to_itself = [record("www.test.", 90, alias("www.test."))];
    assert_eq!(said(ResponseCode::NoError, &to_itself, &[]), Answer::AliasLoop);
    let in_a_circle =
        [record("www.test.", 9, alias("b.test.")), record("b.test.", 9, alias("WWW.test."))];
    assert_eq!(said(ResponseCode::NoError, &in_a_circle, &[]), Answer::AliasLoop);
    let chain = |length: usize| {
        let name = |index| if index == 0 { "www.test.".into() } else { format!("n{index}.test.") };
        let mut answers: Vec<_> =
            (0..length).map(|index| record(&name(index), 9, alias(&name(index + 1)))).collect();
        answers.push(record(&name(length), 9, ip(1)));
        said(ResponseCode::NoError, &answers, &[])
    };
    assert!(matches!(chain(ALIASES_MAX), Answer::Records { .. }));
    assert_eq!(chain(ALIASES_MAX + 1), Answer::AliasLoop);
}

#[test]
fn that_there_is_nothing_holds_as_long_as_the_zone_says() {
    for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
        let nothing =
            |zone, ttl, minimum| said(code, &[], &[record(zone, ttl, authority(minimum))]);
        assert_eq!(nothing("test.", 900, 30), Answer::Nothing { ttl: Some(seconds(30)) });
        assert_eq!(nothing("test.", 20, 30), Answer::Nothing { ttl: Some(seconds(20)) });
        assert_eq!(nothing(".", 20, 30), Answer::Nothing { ttl: Some(seconds(20)) });
        assert_eq!(nothing("elsewhere.", 900, 30), Answer::Nothing { ttl: None });
        // RFC 2181: a negative number is none.
        assert_eq!(nothing("test.", u32::MAX, 30), Answer::Nothing { ttl: Some(seconds(0)) });
        assert_eq!(said(code, &[], &[]), Answer::Nothing { ttl: None });
    }
}

#[test]
fn response_codes_are_told() {
    for (code, number) in [
        (ResponseCode::FormErr, 1),
        (ResponseCode::ServFail, 2),
        (ResponseCode::NotImp, 4),
        (ResponseCode::Refused, 5),
    ] {
        assert_eq!(said(code, &[record("www.test.", 9, ip(1))], &[]), Answer::Refused(number));
    }
    let question = question("www.test.");
    let asked = question.ask(PLAIN);
    // One who cannot read the question sends back its header alone.
    let mut bare = asked.bytes[..12].to_vec();
    bare[2..12].copy_from_slice(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(read(&asked, &bare), Some(Answer::Refused(1)));
    for code in [0, 3] {
        bare[3] = code;
        assert_eq!(read(&asked, &bare), None, "code {code} needs the question");
    }
}

#[test]
fn what_answers_another_question_is_ignored() {
    let question = question("www.test.");
    let asked = question.ask(PLAIN);
    let mut good = reply(&asked);
    good.add_answer(record("www.test.", 9, ip(1)));
    let good = good.to_vec().unwrap();
    assert!(matches!(read(&asked, &good), Some(Answer::Records { .. })));
    // The id, that it is a response, its operation, the count of questions; name, type and class.
    let touch = [(0, 1), (1, 1), (2, 0x80), (2, 0x28), (5, 3), (5, 1), (13, 1), (22, 8), (24, 1)];
    for (index, bits) in touch {
        let mut other = good.clone();
        other[index] ^= bits;
        assert_eq!(read(&asked, &other), None, "byte {index}");
    }
    for len in 0..12 + 10 + 4 {
        assert_eq!(read(&asked, &good[..len]), None, "cut at {len}");
    }
    assert_eq!(read(&asked, &asked.bytes), None, "the question itself");
}

#[test]
fn what_answers_the_question_and_cannot_be_read_is_told_apart() {
    let question = question("www.test.");
    let asked = question.ask(PLAIN);
    let mut good = reply(&asked);
    good.add_answer(record("www.test.", 9, ip(1)));
    let good = good.to_vec().unwrap();
    for len in 12 + 10 + 4..good.len() {
        assert_eq!(read(&asked, &good[..len]), Some(Answer::Malformed), "cut at {len}");
    }
    let mut truncated = good[..12 + 10 + 4].to_vec();
    truncated[2] |= 2;
    assert_eq!(read(&asked, &truncated), Some(Answer::Truncated), "whatever follows");
}

#[test]
fn the_case_of_the_question_counts_when_it_is_random() {
    let question = question("a-name-with-many-letters.test.");
    let asked = question.ask(Manner { edns: true, random_case: true });
    let mut message = asked.bytes[..12 + 30 + 1 + 4].to_vec();
    message[2..12].copy_from_slice(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(read(&asked, &message), Some(Answer::Nothing { ttl: None }));
    message[14] ^= 0x20;
    assert_eq!(read(&asked, &message), None);
}

#[test]
fn pointers_that_go_round_are_malformed() {
    let question = question("www.test.");
    let asked = question.ask(PLAIN);
    let mut message = asked.bytes[..12 + 10 + 4].to_vec();
    message[2..12].copy_from_slice(&[0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
    // A name that points at itself, and at what comes after it.
    for pointer in [26, 27, 28, 200] {
        let mut bytes = message.clone();
        bytes.extend([0xc0, pointer, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        assert_eq!(read(&asked, &bytes), Some(Answer::Malformed), "{pointer}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(data in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzz(&data);
    }

    /// What a server could send, with some bytes changed.
    #[test]
    fn no_change_of_a_good_answer_makes_it_panic(
        touched in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let question = question("www.test.");
        let asked = question.ask(PLAIN);
        let mut message = reply(&asked);
        message.add_answer(record("www.test.", 9, alias("b.test.")));
        message.add_answer(record("b.test.", 9, ip(1)));
        message.add_authority(record("test.", 9, authority(1)));
        let mut bytes = message.to_vec().unwrap();
        for (index, value) in touched {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        let _ = read(&asked, &bytes);
        fuzz(&bytes);
    }
}
