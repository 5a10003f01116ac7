//! The pieces that a stream comes in decide nothing: any mix of calls returns what the reference
//! says (RCV-13), whole or in chunks (RCV-5 to RCV-9), and across timeouts too (RCV-10).

use std::io::IoSliceMut;

use cosocket::internals::receive::{Pattern, Receiver};
use cosocket::{Error, ErrorKind};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::reference::{Answer, Reference};
use crate::script::{Event, Script};

#[derive(Clone, Debug)]
enum Call {
    Line { limit: usize },
    LineInto { limit: usize },
    Exact { len: usize },
    ExactInto { len: usize },
    Vectored { lens: Vec<usize> },
    Any { max: usize },
    AnyInto { len: usize },
    Peek { len: usize },
    Until { pattern: Vec<u8>, inclusive: bool, limit: usize },
    Chunk { pattern: Vec<u8>, inclusive: bool, size: usize },
    All { limit: usize },
}

/// Few letters, so that patterns half match often; two of them end lines.
fn text(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    vec(select(&b"aaab\r\n"[..]), len)
}

fn limit() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(usize::MAX), 1 => 0..20_usize]
}

fn call() -> impl Strategy<Value = Call> {
    let size = || prop_oneof![4 => 0..12_usize, 1 => 0..9000_usize];
    prop_oneof![
        limit().prop_map(|limit| Call::Line { limit }),
        limit().prop_map(|limit| Call::LineInto { limit }),
        size().prop_map(|len| Call::Exact { len }),
        size().prop_map(|len| Call::ExactInto { len }),
        vec(size(), 0..4).prop_map(|lens| Call::Vectored { lens }),
        size().prop_map(|max| Call::Any { max: max + 1 }),
        size().prop_map(|len| Call::AnyInto { len: len + 1 }),
        size().prop_map(|len| Call::Peek { len }),
        record(limit()).prop_map(|(pattern, inclusive, limit)| Call::Until {
            pattern,
            inclusive,
            limit
        }),
        record(size()).prop_map(|(pattern, inclusive, size)| Call::Chunk {
            pattern,
            inclusive,
            size: size + 1
        }),
        prop_oneof![Just(Call::All { limit: 7 }), Just(Call::Peek { len: 3 })],
    ]
}

fn record(number: impl Strategy<Value = usize>) -> impl Strategy<Value = (Vec<u8>, bool, usize)> {
    (text(1..9), any::<bool>(), number)
}

/// The stream cut at places drawn at random, mostly into short pieces.
fn pieces(stream: &[u8], lens: &[usize]) -> Vec<Event> {
    let mut rest = stream;
    let mut events = Vec::new();
    for &len in lens.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, others) = rest.split_at(len.min(rest.len()));
        events.push(Event::Bytes(piece.to_vec()));
        rest = others;
    }
    events
}

fn piece_lens() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![4 => 1..6_usize, 1 => 1..3000_usize], 1..20)
}

fn longest_read() -> impl Strategy<Value = usize> {
    select(vec![1, 2, 3, 7, 4096, 65536])
}

fn answer(result: Result<Vec<u8>, Error>) -> Answer {
    match result {
        Ok(bytes) => Answer::Bytes(bytes),
        Err(mut error) => Answer::Error(error.kind(), error.take_partial()),
    }
}

fn ask(receiver: &mut Receiver, script: &Script, call: &Call) -> Answer {
    answer(match call {
        Call::Line { limit } => receiver.line(script, *limit),
        Call::LineInto { limit } => {
            let mut line = b"before".to_vec();
            let result = receiver.line_into(script, *limit, &mut line);
            let added = line.split_off(b"before".len());
            assert_eq!(added.len(), *result.as_ref().unwrap_or(&0));
            result.map(|_| added)
        }
        Call::Exact { len } => receiver.exact(script, *len),
        Call::ExactInto { len } => {
            let mut slice = vec![0; *len];
            receiver.exact_into(script, &mut slice).map(|()| slice)
        }
        Call::Vectored { lens } => {
            let mut slices: Vec<Vec<u8>> = lens.iter().map(|&len| vec![0; len]).collect();
            let mut list: Vec<_> = slices.iter_mut().map(|slice| IoSliceMut::new(slice)).collect();
            let result = receiver.vectored(script, &mut list);
            result.map(|filled| slices.concat()[..filled].to_vec())
        }
        Call::Any { max } => receiver.any(script, *max),
        Call::AnyInto { len } => {
            let mut destination = vec![0; *len];
            let result = receiver.any_into(script, &mut destination);
            result.map(|filled| destination[..filled].to_vec())
        }
        Call::Peek { len } => receiver.peek(script, *len).map(<[u8]>::to_vec),
        Call::Until { pattern, inclusive, limit } => {
            receiver.until(script, &Pattern::new(pattern).unwrap(), *inclusive, *limit)
        }
        Call::Chunk { pattern, inclusive, size } => {
            let pattern = Pattern::new(pattern).unwrap();
            match receiver.until_chunk(script, &pattern, *inclusive, *size) {
                Ok(chunk) => return Answer::Chunk(chunk.bytes, chunk.is_last),
                Err(error) => Err(error),
            }
        }
        Call::All { limit } => receiver.all(script, *limit),
    })
}

/// `taken` is what an `any` chose to take.
fn expect(reference: &mut Reference, call: &Call, taken: usize) -> Answer {
    match call {
        Call::Line { limit } | Call::LineInto { limit } => reference.line(*limit),
        Call::Exact { len } | Call::ExactInto { len } => reference.exact(*len),
        Call::Vectored { lens } => match lens.iter().sum() {
            0 => reference.exact(0),
            len => reference.vectored(len),
        },
        Call::Any { max } | Call::AnyInto { len: max } => reference.any(taken, *max),
        Call::Peek { len } => reference.peek(*len),
        Call::Until { pattern, inclusive, limit } => reference.until(pattern, *inclusive, *limit),
        Call::Chunk { pattern, inclusive, size } => reference.chunk(pattern, *inclusive, *size),
        Call::All { limit } => reference.all(*limit),
    }
}

fn cases() -> ProptestConfig {
    let cases = if std::env::var_os("COSOCKET_QUICK").is_some() { 100 } else { 700 };
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(cases())]

    /// RCV-13: any mix of calls over any pieces, with any buffer.
    #[test]
    fn calls_return_what_the_reference_says(
        stream in prop_oneof![4 => text(0..60), 1 => text(3000..12_000)],
        lens in piece_lens(),
        calls in vec(call(), 1..30),
        longest_read in longest_read(),
    ) {
        let script = Script::new(pieces(&stream, &lens));
        let mut receiver = Receiver::with_longest_read(longest_read);
        let mut reference = Reference::new(stream);
        for call in calls {
            let answer = ask(&mut receiver, &script, &call);
            let taken = if let Answer::Bytes(bytes) = &answer { bytes.len() } else { 0 };
            let expected = expect(&mut reference, &call, taken);
            prop_assert_eq!(answer, expected, "{:?}", call);
            let rest = [receiver.unread(), &script.rest()].concat();
            prop_assert!(rest == reference.rest(), "bytes were lost, or are there twice");
        }
    }

    /// RCV-10: partial and rest make what there would have been without the timeout; for records,
    /// for chunks of records, for lines and for sizes.
    #[test]
    fn timeouts_lose_nothing(
        stream in text(1..80),
        lens in piece_lens(),
        timeouts in vec(any::<bool>(), 1..20),
        calls in vec(call(), 1..20),
    ) {
        let events = pieces(&stream, &lens);
        let script = Script::default();
        for (event, &times_out) in events.into_iter().zip(timeouts.iter().cycle()) {
            script.push(event);
            if times_out {
                script.push(Event::TimesOut);
            }
        }
        let mut receiver = Receiver::new();
        let mut reference = Reference::new(stream);
        for call in calls {
            let call = match call {
                // These may choose what to return, or count what a timeout has taken twice.
                Call::Any { .. }
                | Call::AnyInto { .. }
                | Call::Chunk { .. }
                | Call::Vectored { .. } => continue,
                Call::Line { .. } => Call::Line { limit: usize::MAX },
                Call::LineInto { .. } => Call::LineInto { limit: usize::MAX },
                Call::Until { pattern, inclusive, .. } => {
                    Call::Until { pattern, inclusive, limit: usize::MAX }
                }
                Call::All { .. } => Call::All { limit: usize::MAX },
                call => call,
            };
            let answer = ask_until_answered(&mut receiver, &script, &call);
            prop_assert_eq!(answer, expect(&mut reference, &call, 0), "{:?}", call);
        }
    }

    /// RCV-7: the chunks of a record are the record, in whichever sizes, across timeouts.
    #[test]
    fn chunks_are_the_record(
        stream in text(1..80),
        lens in piece_lens(),
        timeouts in vec(any::<bool>(), 1..20),
        pattern in text(1..9),
        sizes in vec(1..7_usize, 1..5),
    ) {
        let events = pieces(&stream, &lens);
        let script = Script::default();
        for (event, &times_out) in events.into_iter().zip(timeouts.iter().cycle()) {
            script.push(event);
            if times_out {
                script.push(Event::TimesOut);
            }
        }
        let compiled = Pattern::new(&pattern).unwrap();
        let mut receiver = Receiver::new();
        let mut reference = Reference::new(stream);
        let mut record = Vec::new();
        for &size in sizes.iter().cycle() {
            match receiver.until_chunk(&script, &compiled, false, size) {
                Ok(chunk) => {
                    prop_assert!(chunk.is_last || chunk.bytes.len() >= size);
                    prop_assert!(chunk.bytes.len() < size + pattern.len());
                    record.extend(chunk.bytes);
                    if chunk.is_last {
                        let expected = reference.until(&pattern, false, usize::MAX);
                        prop_assert_eq!(Answer::Bytes(std::mem::take(&mut record)), expected);
                    }
                }
                Err(mut error) => {
                    record.extend(error.take_partial());
                    if error.kind() == ErrorKind::Closed {
                        let expected = reference.until(&pattern, false, usize::MAX);
                        prop_assert_eq!(Answer::Error(ErrorKind::Closed, record), expected);
                        break;
                    }
                }
            }
        }
    }
}

/// Asks again after each timeout, for what is missing, and puts the parts together.
fn ask_until_answered(receiver: &mut Receiver, script: &Script, call: &Call) -> Answer {
    let mut all = Vec::new();
    loop {
        let call = match call {
            Call::Exact { len } => Call::Exact { len: len - all.len() },
            Call::ExactInto { len } => Call::ExactInto { len: len - all.len() },
            call => call.clone(),
        };
        match ask(receiver, script, &call) {
            Answer::Error(ErrorKind::Timeout, partial) => all.extend(partial),
            Answer::Error(kind, partial) => {
                all.extend(partial);
                return Answer::Error(kind, all);
            }
            Answer::Bytes(bytes) => {
                all.extend(bytes);
                return Answer::Bytes(all);
            }
            Answer::Chunk(..) => unreachable!("not asked for"),
        }
    }
}
