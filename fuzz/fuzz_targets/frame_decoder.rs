//! Any octets are frames, the beginning of a frame, or a typed error: never a panic, and never two answers.

#![no_main]

use amqp_rpc::codec::{BadFrame, Frame, FrameDecoder, Payload, Redact, annotate};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let whole = decode(&[octets]);
    let (head, tail) = octets.split_at(cut(octets));
    assert_eq!(
        whole,
        decode(&[head, tail]),
        "the same octets in two pieces"
    );

    // Printing walks every value that was read, and the annotator is a second way through all the parsers.
    print(annotate(octets.to_vec(), Redact::Nothing));
    for result in whole.0 {
        let Ok(frame) = result.inspect_err(|bad| print(bad)) else {
            continue;
        };
        print_frame(&frame);
        // The octets need not be equal: spare bits, reserved fields and the tag L are read and never written.
        let mut encoded = BytesMut::new();
        frame.encode(&mut encoded);
        assert_eq!(
            decode(&[&encoded]),
            (vec![Ok(frame)], 0),
            "decode(encode(x)) == x"
        );
    }
});

/// What a stream that arrives in these pieces holds, and how many octets of it are left.
fn decode(pieces: &[&[u8]]) -> (Vec<Result<Frame, BadFrame>>, usize) {
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(131_072, 1 << 20);
    let (mut inbound, mut results) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        inbound.extend_from_slice(piece);
        while !decoder.is_broken()
            && let Some(result) = decoder.decode(&mut inbound).transpose()
        {
            results.push(result);
        }
    }
    (results, inbound.len())
}

/// Where to cut: anywhere, but always the same for the same octets, and without using up octets of the input.
fn cut(octets: &[u8]) -> usize {
    let hash = |hash: usize, octet: &u8| hash.wrapping_mul(31).wrapping_add(usize::from(*octet));
    octets.iter().fold(0, hash) % (octets.len() + 1)
}

fn print_frame(frame: &Frame) {
    print(format_args!("{frame:?}"));
    match &frame.payload {
        Payload::Method(method) => print(method),
        Payload::Header(header) => print(&header.properties),
        Payload::Body(_) | Payload::Heartbeat => {}
    }
}

fn print(value: impl std::fmt::Display) {
    std::hint::black_box(value.to_string());
}
