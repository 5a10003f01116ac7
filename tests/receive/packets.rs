//! Packets of Swoole's two framings (FRM-1, FRM-2), and of a rule of one's own.

use cosocket::framing::{
    ByteOrder, Delimited, Extent, Framing, LengthField, LengthPrefixed, PACKET_LIMIT,
};
use cosocket::internals::receive::Receiver;
use cosocket::{Error, ErrorKind};

use crate::script::{Event, Script};

const NETWORK: LengthField = LengthField::U16(ByteOrder::Big);

/// The stream at once, and by bytes.
fn each(stream: &[u8], check: impl Fn(&mut Receiver, &Script)) {
    check(&mut Receiver::new(), &Script::pieces([stream]));
    check(&mut Receiver::new(), &Script::pieces(stream.chunks(1)));
    check(&mut Receiver::with_longest_read(1), &Script::pieces([stream]));
}

#[track_caller]
fn assert_fails<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind, partial: &[u8]) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.partial().escape_ascii().to_string(), partial.escape_ascii().to_string());
}

/// FRM-1: several in one read, by bytes, an empty body, and the end between and within.
#[test]
fn length_prefixed_packets() {
    let framing = LengthPrefixed::new(NETWORK);
    each(b"\0\x05hello\0\0\0\x05wor", |receiver, script| {
        let packet = receiver.packet(script, &framing).unwrap();
        assert_eq!(packet.as_bytes(), b"\0\x05hello");
        assert_eq!((packet.header(), packet.body()), (&b"\0\x05"[..], &b"hello"[..]));
        assert_eq!(packet.into_body(), b"hello");
        let empty = receiver.packet(script, &framing).unwrap();
        assert_eq!((empty.body(), empty.as_bytes()), (&b""[..], &b"\0\0"[..]));
        assert_eq!(empty.into_bytes(), b"\0\0");
        assert_fails(receiver.packet(script, &framing), ErrorKind::Closed, b"\0\x05wor");
        assert_fails(receiver.packet(script, &framing), ErrorKind::Closed, b"");
    });
}

/// FRM-1: offset, body offset, both ways of counting, and the header between.
#[test]
fn where_the_length_stands_and_what_it_counts() {
    let cases: [(LengthPrefixed, &[u8], &[u8]); 4] = [
        (LengthPrefixed::new(NETWORK).offset(2), b"hd\0\x03abc", b"abc"),
        (LengthPrefixed::new(NETWORK).offset(2).body_offset(0), b"hd\0\x07abc", b"abc"),
        (LengthPrefixed::new(NETWORK).offset(1).body_offset(6), b"h\0\x03___abc", b"abc"),
        (LengthPrefixed::new(NETWORK).body_offset(1), b"\0\x04abc", b"abc"),
    ];
    for (framing, bytes, body) in cases {
        each(&[bytes, bytes].concat(), |receiver, script| {
            for _ in 0..2 {
                let packet = receiver.packet(script, &framing).unwrap();
                assert_eq!((packet.as_bytes(), packet.body()), (bytes, body));
            }
        });
        let mut written = bytes.to_vec();
        let at = bytes.windows(2).position(|window| window[0] == 0).unwrap();
        written[at..at + 2].fill(0xff);
        framing.write_length(&mut written).unwrap();
        assert_eq!(written, bytes);
    }
}

/// FRM-1: all of Swoole's codes, there and back.
#[test]
fn every_length_type() {
    let codes = "cCsSnvlLNVqQJP";
    let lens = [1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8];
    for (code, len) in codes.chars().zip(lens) {
        let field = LengthField::from_pack_code(code).unwrap();
        assert_eq!(field.len(), len, "{code}");
        let framing = LengthPrefixed::new(field);
        let body = [b'x'; 100];
        let packet = [&framing.envelope(&body).unwrap().before[..], &body].concat();
        assert_eq!(packet.len(), 100 + len);
        let extent = Extent::Packet { len: packet.len(), body: len..packet.len() };
        assert_eq!(framing.measure(&packet, 0).unwrap(), extent, "{code}");
    }
    assert_eq!(LengthField::from_pack_code('x'), None);
    let encoded: [(LengthField, &[u8]); 6] = [
        (LengthField::U16(ByteOrder::Big), &[1, 44]),
        (LengthField::U16(ByteOrder::Little), &[44, 1]),
        (LengthField::U16(ByteOrder::Native), &300_u16.to_ne_bytes()),
        (LengthField::U24(ByteOrder::Little), &[44, 1, 0]),
        (LengthField::I32(ByteOrder::Big), &[0, 0, 1, 44]),
        (LengthField::I64(ByteOrder::Native), &300_i64.to_ne_bytes()),
    ];
    for (field, bytes) in encoded {
        assert_eq!(LengthPrefixed::new(field).envelope(&[0; 300]).unwrap().before, bytes);
    }
}

/// FRM-1: what Swoole's client gets wrong, or loses its buffer over. The stream stays as it is.
#[test]
fn lengths_that_are_refused() {
    let signed = LengthPrefixed::new(LengthField::I32(ByteOrder::Big));
    let whole = LengthPrefixed::new(NETWORK).offset(2).body_offset(0);
    let long = LengthPrefixed::new(NETWORK).limit(100);
    let longest = LengthPrefixed::new(LengthField::U64(ByteOrder::Big)).limit(usize::MAX);
    let cases: [(LengthPrefixed, &[u8], ErrorKind, &str); 4] = [
        (signed, b"\xff\xff\xff\xff", ErrorKind::Protocol, "protocol error: a packet of length -1"),
        (
            whole,
            b"hd\0\x03",
            ErrorKind::Protocol,
            "protocol error: a packet of 3 bytes, less than its header",
        ),
        (
            long,
            b"\0\x63",
            ErrorKind::Oversized,
            "oversized: a packet of 101 bytes, where 100 are the most",
        ),
        (
            longest,
            &[0xff; 8],
            ErrorKind::Oversized,
            "oversized: a packet of 18446744073709551623 bytes, where 18446744073709551615 are the most",
        ),
    ];
    for (framing, stream, kind, text) in cases {
        each(stream, |receiver, script| {
            for _ in 0..2 {
                let error = receiver.packet(script, &framing).unwrap_err();
                assert_eq!((error.kind(), error.partial()), (kind, &b""[..]));
                assert_eq!(error.to_string(), text);
            }
            assert!(receiver.capacity() < 8192, "told before memory is taken");
            assert_eq!(receiver.exact(script, stream.len()).unwrap(), stream);
        });
    }
    let just_so = [&b"\0\x62"[..], &[b'x'; 98]].concat();
    each(&just_so, |receiver, script| {
        assert_eq!(receiver.packet(script, &long).unwrap().as_bytes(), just_so);
    });
}

/// A partial packet is never lost on a timeout: the same call goes on, and another call has it.
#[test]
fn a_timeout_keeps_the_partial_packet() {
    let delimited = Delimited::new(b"\r\n").unwrap();
    let prefixed = LengthPrefixed::new(NETWORK);
    type Case<'a> = (&'a dyn Framing, [&'a [u8]; 3], &'a [u8]);
    let cases: [Case<'_>; 2] = [
        (&prefixed, [b"\0", b"\x05hel", b"lo"], b"hello"),
        (&delimited, [b"he", b"llo\r", b"\n"], b"hello"),
    ];
    for (framing, pieces, body) in cases {
        let events = pieces.map(|piece| [Event::Bytes(piece.to_vec()), Event::TimesOut]);
        let script = Script::new(events.into_iter().flatten());
        let mut receiver = Receiver::new();
        assert_fails(receiver.packet(&script, framing), ErrorKind::Timeout, b"");
        assert_fails(receiver.packet(&script, framing), ErrorKind::Timeout, b"");
        assert_eq!(receiver.unread(), pieces[..2].concat());
        assert_eq!(receiver.packet(&script, framing).unwrap().body(), body);
    }
}

/// FRM-2: three in one read, the delimiter split over reads, and included.
#[test]
fn delimited_packets() {
    let framing = Delimited::new(b"\r\n\r\n").unwrap();
    each(b"one\r\n\r\n\r\n\r\ntwo\r\nthree\r\n\r\nfour\r\n", |receiver, script| {
        for body in [&b"one"[..], b"", b"two\r\nthree"] {
            let packet = receiver.packet(script, &framing).unwrap();
            assert_eq!(packet.body(), body);
            assert_eq!(packet.as_bytes(), [body, b"\r\n\r\n"].concat());
        }
        assert_fails(receiver.packet(script, &framing), ErrorKind::Closed, b"four\r\n");
    });
    assert_fails(Delimited::new(b""), ErrorKind::InvalidInput, b"");
}

/// FRM-2: the limit counts the delimiter.
#[test]
fn delimited_packets_have_a_limit() {
    let framing = Delimited::new(b"--").unwrap().limit(7);
    each(b"hello--hello!--", |receiver, script| {
        assert_eq!(receiver.packet(script, &framing).unwrap().body(), b"hello");
        assert_fails(receiver.packet(script, &framing), ErrorKind::Oversized, b"");
        assert_eq!(receiver.exact(script, 8).unwrap(), b"hello!--");
    });
}

/// FRM-3: what would not arrive as it was sent is not sent.
#[test]
fn envelopes_that_cannot_be() {
    let byte = LengthPrefixed::new(LengthField::U8);
    assert_eq!(byte.envelope(&[0; 255]).unwrap().before, [255]);
    assert_fails(byte.envelope(&[0; 256]), ErrorKind::Oversized, b"");
    let signed = LengthPrefixed::new(LengthField::I8);
    assert_fails(signed.envelope(&[0; 128]), ErrorKind::Oversized, b"");
    let limited = LengthPrefixed::new(NETWORK).limit(10);
    assert_fails(limited.envelope(&[0; 9]), ErrorKind::Oversized, b"");
    assert_fails(limited.write_length(&mut [0]), ErrorKind::InvalidInput, b"");
    let default = LengthPrefixed::new(LengthField::U32(ByteOrder::Big));
    assert!(default.envelope(&vec![0; PACKET_LIMIT - 4]).is_ok());
    assert_fails(default.envelope(&vec![0; PACKET_LIMIT - 3]), ErrorKind::Oversized, b"");

    let delimited = Delimited::new(b"aab").unwrap().limit(20);
    assert_eq!(delimited.envelope(b"xxab").unwrap().after, b"aab");
    assert_fails(delimited.envelope(b"xaabx"), ErrorKind::InvalidInput, b"");
    assert_fails(delimited.envelope(&[b'x'; 18]), ErrorKind::Oversized, b"");
    // Its end and the beginning of the delimiter are one.
    let doubled = Delimited::new(b"--").unwrap();
    assert_fails(doubled.envelope(b"hello-"), ErrorKind::InvalidInput, b"");
}

/// A rule that asks for the impossible gets an error, and no bytes are lost.
#[test]
fn a_framing_that_makes_no_sense() {
    struct Nonsense(Extent);
    impl Framing for Nonsense {
        fn measure(&self, _: &[u8], _: usize) -> Result<Extent, Error> {
            Ok(self.0.clone())
        }
        fn envelope(&self, _: &[u8]) -> Result<cosocket::framing::Envelope, Error> {
            Ok(Default::default())
        }
    }
    let mut receiver = Receiver::with_unread(b"abcdef".to_vec());
    let script = Script::default();
    #[allow(clippy::reversed_empty_ranges)]
    for (len, body) in [(0, 0..0), (3, 2..4), (3, 2..1), (usize::MAX, 0..3)] {
        let framing = Nonsense(Extent::Packet { len, body });
        if len < usize::MAX {
            assert_fails(receiver.packet(&script, &framing), ErrorKind::InvalidInput, b"");
        }
        assert_eq!(receiver.unread(), b"abcdef");
    }
    let never = Nonsense(Extent::Unknown { missing: 0 });
    assert_fails(receiver.packet(&script, &never), ErrorKind::Closed, b"abcdef");
}
