//! What was decoded is encoded to octets that decode to the same: all methods, properties, tags and types of frame,
//! made by the grammar, and then with one octet changed.

#![no_main]

use amqp_rpc::codec::{Frame, Payload};
use amqp_rpc_fuzz::{decode, encode, grammar};
use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let u = &mut Unstructured::new(input);
    while !u.is_empty()
        && let Ok(mut octets) = grammar::frame(u)
    {
        let (frames, left) = decode(&octets);
        let [Ok(frame)] = &frames[..] else {
            panic!("a frame of the grammar: {frames:?} from {octets:02x?}");
        };
        assert_eq!(left, 0);
        let canonical = stable(frame);
        // Who encodes a canonical frame gets its octets back (TABLE-6): nothing is lost that is not said to be.
        assert_eq!(encode(&one(&canonical)), canonical, "canonical octets");

        let at = u.choose_index(octets.len()).unwrap_or_default();
        octets[at] = u.arbitrary().unwrap_or_default();
        for frame in decode(&octets).0.iter().flatten() {
            stable(frame);
        }
    }
});

/// decode(encode(x)) == x; returns the octets.
fn stable(frame: &Frame) -> Vec<u8> {
    let octets = encode(frame);
    assert_eq!(one(&octets), *frame, "decode(encode(x)) == x");
    if let Payload::Body(body) = &frame.payload {
        assert_eq!(octets[7..7 + body.len()], body[..]);
    }
    octets.to_vec()
}

fn one(octets: &[u8]) -> Frame {
    let (mut frames, left) = decode(octets);
    assert_eq!((frames.len(), left), (1, 0), "one frame and nothing else");
    frames.remove(0).expect("what was encoded decodes")
}
