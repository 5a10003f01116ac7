//! Packets: the pieces decide nothing, a packet is what its length or its delimiter says, and what
//! is sent is what arrives.

#![no_main]

use cosocket::framing::{ByteOrder, Delimited, Framing, LengthField, LengthPrefixed};
use cosocket::internals::receive::Receiver;
use cosocket_fuzz::script::Script;
use cosocket_fuzz::{Session, number};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = packets(&mut Unstructured::new(bytes));
});

fn packets(input: &mut Unstructured<'_>) -> Result<()> {
    let framing = framing(input)?;
    let mut session = Session::new(input)?;
    let stream = session.reference.rest().to_vec();
    let mut at_once = Receiver::with_unread(stream.clone());
    let nothing = Script::default();
    loop {
        let packet = session.receiver.packet(&session.script, &*framing);
        let same = at_once.packet(&nothing, &*framing);
        match (packet, same) {
            (Ok(packet), Ok(same)) => {
                assert!(packet == same && !packet.as_bytes().is_empty());
                check_envelope(&*framing, packet.body());
            }
            (Err(error), Err(same)) => {
                assert_eq!(error.to_string(), same.to_string());
                assert_eq!(error.partial(), same.partial());
                break;
            }
            (one, other) => panic!("{one:?} and {other:?}"),
        }
    }
    check_envelope(&*framing, &stream);
    Ok(())
}

fn framing(input: &mut Unstructured<'_>) -> Result<Box<dyn Framing>> {
    let limit = *input.choose(&[100, 7, 70_000, usize::MAX])?;
    if input.arbitrary()? {
        let delimiter_len = 1 + number(input)? % 4;
        let framing = Delimited::new(input.bytes(delimiter_len)?).expect("it is not empty");
        return Ok(Box::new(framing.limit(limit)));
    }
    let order = *input.choose(&[ByteOrder::Big, ByteOrder::Little])?;
    let field = *input.choose(&[
        LengthField::U8,
        LengthField::I8,
        LengthField::U16(order),
        LengthField::I16(order),
        LengthField::U24(order),
        LengthField::I32(order),
        LengthField::U64(order),
        LengthField::I64(order),
    ])?;
    let mut framing =
        LengthPrefixed::new(field).limit(limit).offset(input.arbitrary::<u8>()?.into());
    if input.arbitrary()? {
        framing = framing.body_offset(input.arbitrary::<u8>()?.into());
    }
    Ok(Box::new(framing))
}

/// A body that can be sent arrives as it was, and nothing else does.
fn check_envelope(framing: &dyn Framing, body: &[u8]) {
    let Ok(envelope) = framing.envelope(body) else { return };
    let bytes = [&envelope.before, body, &envelope.after].concat();
    let mut receiver = Receiver::with_unread(bytes.clone());
    let packet = receiver.packet(&Script::default(), framing).expect("it was just made");
    assert!(packet.as_bytes() == bytes && packet.body() == body);
}
