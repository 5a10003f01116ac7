//! Answers of name servers: whatever comes, it is read or refused, and what repeats the question is
//! never taken for somebody else's.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| cosocket::internals::dns::fuzz(input));
