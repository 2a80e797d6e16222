//! The inside of a field table is a table or a typed error; a table keeps its order, its depth has a limit, and it
//! takes a moderate amount of memory for each octet.

#![no_main]

use amqp_rpc::codec::{
    DecodeError, FieldTable, FieldValue, Payload, ShortString, table::MAX_DEPTH,
};
use amqp_rpc_fuzz::{decode, encode, grammar::envelope, print};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|inside: &[u8]| {
    let mut octets = header(inside);
    let (mut frames, _) = decode(&octets);
    let frame = match frames.pop().expect("the envelope is whole") {
        Ok(frame) => frame,
        Err(bad) => {
            let code = bad.error.reply_code().0;
            assert!(matches!(code, 501 | 502), "TABLE-4, TABLE-5: {bad}");
            assert!(!matches!(
                bad.error,
                DecodeError::FrameEnd { .. } | DecodeError::FrameType(_)
            ));
            return;
        }
    };
    let Payload::Header(decoded) = &frame.payload else {
        panic!("a header was sent");
    };
    let table = decoded.properties.headers.as_ref().expect("it has a table");
    assert!(table.depth() <= MAX_DEPTH, "SEC-4");
    print(table);
    // The smallest entry takes 2 octets, an element of an array 1, and a value 64 octets or so. SEC-17
    assert!(
        size(table) <= 64 * (inside.len() + 1),
        "{} octets for {}",
        size(table),
        inside.len()
    );
    for (name, _) in &table.0 {
        let first = table
            .0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value);
        if let Ok(name) = name.as_str() {
            assert_eq!(table.get(name), first, "TABLE-7: the first one is found");
        }
    }
    octets.clear();
    octets.extend(encode(&frame));
    let again = decode(&octets)
        .0
        .pop()
        .expect("one frame")
        .expect("what was encoded decodes");
    assert_eq!(again, frame);
    assert_eq!(encode(&again), octets, "TABLE-6");
});

/// A content header whose only property is a table with this inside.
fn header(inside: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0];
    payload.extend(
        u32::try_from(inside.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    payload.extend(inside);
    envelope(2, 1, &payload)
}

/// What a table takes in memory, about.
fn size(table: &FieldTable) -> usize {
    let entry = size_of::<(ShortString, FieldValue)>();
    table.0.iter().map(|(_, value)| entry + inner(value)).sum()
}

fn inner(value: &FieldValue) -> usize {
    match value {
        FieldValue::Table(table) => size(table),
        FieldValue::Array(values) => values
            .iter()
            .map(|value| size_of::<FieldValue>() + inner(value))
            .sum(),
        _ => 0,
    }
}
