//! Lines, limited, against the reference.

#![no_main]

use cosocket_fuzz::{Session, number};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = lines(&mut Unstructured::new(bytes));
});

fn lines(input: &mut Unstructured<'_>) -> Result<()> {
    let limit = *input.choose(&[usize::MAX, 1 << 20, 0, 1, 2, 7])?;
    let peeked = number(input)?;
    let mut session = Session::new(input)?;
    while !session.is_over() {
        let line = session.receiver.line(&session.script, limit);
        let expected = session.reference.line(limit);
        // With a limit of zero a line that is longer is never got past.
        let is_stuck = line.as_ref().is_err_and(|error| error.partial().is_empty());
        session.check(line, &expected);
        let peek = session.receiver.peek(&session.script, peeked).map(<[u8]>::to_vec);
        let expected = session.reference.peek(peeked);
        session.check(peek, &expected);
        if is_stuck {
            break;
        }
    }
    Ok(())
}
