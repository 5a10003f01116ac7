//! What the fuzz targets share: a stream in pieces, as the input says, and what calls on it must
//! return.
//!
//! A target is a file in `src/bin`; that is all it takes. `.ci/run fuzz` runs each for a minute;
//! one alone, for as long as you like, with the inputs found so far kept in a directory:
//!
//! ```text
//! .ci/fuzz build
//! target/fuzz/x86_64-unknown-linux-gnu/release/until found/ -rss_limit_mb=512
//! ```
//!
//! A crash prints its input. To run a single one again, name the file in place of the directory.

#[cfg(not(cosocket_internals))]
compile_error!("fuzz targets need `--cfg cosocket_internals`, which .cargo/config.toml sets");

#[path = "../../receive/reference.rs"]
pub mod reference;
#[path = "../../receive/script.rs"]
pub mod script;

use cosocket::Error;
use cosocket::internals::receive::Receiver;
use libfuzzer_sys::arbitrary::{Result, Unstructured};

use reference::{Answer, Reference};
use script::Script;

/// A receiver, its stream, and the reference for both.
pub struct Session {
    pub receiver: Receiver,
    pub script: Script,
    pub reference: Reference,
}

impl Session {
    /// The last of the input is the stream; its pieces and the receiver's buffer are from before.
    pub fn new(input: &mut Unstructured<'_>) -> Result<Session> {
        let longest_read = *input.choose(&[1, 2, 3, 4096, 65536])?;
        let piece_len = input.int_in_range(1..=40)?;
        let stream = input.bytes(input.len())?;
        Ok(Session {
            receiver: Receiver::with_longest_read(longest_read),
            script: Script::pieces(stream.chunks(piece_len)),
            reference: Reference::new(stream.to_vec()),
        })
    }

    /// The two agree on what a call returned, and on what is left.
    pub fn check(&self, result: std::result::Result<Vec<u8>, Error>, expected: &Answer) {
        self.check_answer(&answer(result), expected);
    }

    pub fn check_answer(&self, answer: &Answer, expected: &Answer) {
        assert_eq!(answer, expected);
        let rest = [self.receiver.unread(), &self.script.rest()].concat();
        assert!(rest == self.reference.rest(), "bytes were lost, or are there twice");
    }

    pub fn is_over(&self) -> bool {
        self.receiver.has_told_end()
    }
}

/// A number that decides something, mostly small.
pub fn number(input: &mut Unstructured<'_>) -> Result<usize> {
    Ok(usize::from(input.arbitrary::<u8>()?))
}

fn answer(result: std::result::Result<Vec<u8>, Error>) -> Answer {
    match result {
        Ok(bytes) => Answer::Bytes(bytes),
        Err(mut error) => Answer::Error(error.kind(), error.take_partial()),
    }
}
