//! Records up to a pattern, whole and in chunks, with other reads in between, against the
//! reference.

#![no_main]

use cosocket::internals::receive::Pattern;
use cosocket_fuzz::reference::Answer;
use cosocket_fuzz::{Session, number};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = records(&mut Unstructured::new(bytes));
});

fn records(input: &mut Unstructured<'_>) -> Result<()> {
    let pattern_len = 1 + number(input)? % 12;
    let bytes = input.bytes(pattern_len)?;
    let pattern = Pattern::new(bytes).expect("it is not empty");
    let steps = 1 + number(input)? % 8;
    let steps = input.bytes(steps)?.to_vec();
    let mut session = Session::new(input)?;
    // A limit of zero, or a size of zero, may take nothing for ever.
    for step in steps.iter().cycle().take(2000) {
        if session.is_over() {
            break;
        }
        let (kind, number) = (step & 3, usize::from(step >> 3));
        let inclusive = step & 4 != 0;
        let Session { receiver, script, reference } = &mut session;
        match kind {
            0 => {
                let limit = if number == 31 { usize::MAX } else { number };
                let result = receiver.until(script, &pattern, inclusive, limit);
                let expected = reference.until(bytes, inclusive, limit);
                session.check(result, &expected);
            }
            1 => {
                let result = receiver.exact(script, number);
                let expected = reference.exact(number);
                session.check(result, &expected);
            }
            _ => {
                let size = number + 1;
                let expected = reference.chunk(bytes, inclusive, size);
                match receiver.until_chunk(script, &pattern, inclusive, size) {
                    Ok(chunk) => {
                        session.check_answer(&Answer::Chunk(chunk.bytes, chunk.is_last), &expected);
                    }
                    Err(error) => session.check(Err(error), &expected),
                }
            }
        }
    }
    Ok(())
}
