//! PROXY headers of both versions: whatever comes, it is a part, a whole or an error; a whole stays
//! one whatever follows, its parts are parts, and what it says can be written and read again.

#![no_main]

use cosocket::internals::proxy_protocol::{Parsed, parse};
use cosocket::server::{Extension, ProxyHeader};
use libfuzzer_sys::fuzz_target;

const MAX_BYTES: usize = 600;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else { return };
    // Beginnings that are not easily come by.
    let beginning: &[u8] = match kind % 4 {
        0 => b"",
        1 => b"PROXY TCP4 ",
        2 => b"PROXY TCP6 ",
        _ => b"\r\n\r\n\0\r\nQUIT\n",
    };
    let bytes = [beginning, rest].concat();
    let parsed = parse(&bytes, MAX_BYTES);
    let cut = usize::from(kind) % (bytes.len() + 1);
    match (&parsed, parse(&bytes[..cut], MAX_BYTES)) {
        (Ok(Parsed::Whole { len, .. }), part) if cut < *len => {
            assert_eq!(part, Ok(Parsed::Partial))
        }
        (Ok(Parsed::Whole { .. }) | Err(_), part) => assert!(part == parsed || parsed.is_err()),
        (Ok(Parsed::Partial), part) => assert_eq!(part, parsed),
    }
    if let Ok(Parsed::Whole { header, len }) = parsed {
        assert!(len <= bytes.len() && len <= MAX_BYTES.max(107));
        check(&header);
    }
});

fn check(header: &ProxyHeader) {
    let extensions: Vec<Extension<'_>> =
        header.extensions().filter(|extension| extension.kind != Extension::CRC32C).collect();
    let written = [header.to_v1(), header.to_v2(&extensions)];
    for bytes in written {
        let Ok(Parsed::Whole { header: again, len }) = parse(&bytes, usize::MAX) else {
            panic!("not read again: {}", bytes.escape_ascii());
        };
        assert_eq!(len, bytes.len());
        if again.version() == 2 {
            assert_eq!(again.source(), header.source());
            assert_eq!(again.destination(), header.destination());
            assert!(again.extensions().eq(extensions.iter().copied()));
        } else if let Some(source) = again.source() {
            assert_eq!(Some(source), header.source());
        }
    }
}
