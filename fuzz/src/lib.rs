//! What several targets need: frames that follow the grammar, and how a core is fed and watched.

pub mod grammar;
pub mod watch;

use std::fmt::Display;

use amqp_rpc::codec::{BadFrame, Frame, FrameDecoder, Payload};
use bytes::BytesMut;

/// What the octets hold, and how many of them are left: frames, and what is wrong between them.
pub fn decode(octets: &[u8]) -> (Vec<Result<Frame, BadFrame>>, usize) {
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(1 << 20, 1 << 20);
    let (mut inbound, mut results) = (BytesMut::from(octets), Vec::new());
    while !decoder.is_broken()
        && let Some(result) = decoder.decode(&mut inbound).transpose()
    {
        results.push(result);
    }
    (results, inbound.len())
}

/// The octets of a frame, for which the buffer has grown once and to exactly their number.
pub fn encode(frame: &Frame) -> BytesMut {
    let size = match &frame.payload {
        Payload::Method(method) => method.encoded_len(),
        Payload::Header(header) => header.encoded_len(),
        Payload::Body(octets) => octets.len(),
        Payload::Heartbeat => 0,
    };
    let mut octets = BytesMut::with_capacity(size + 8);
    let buffer = octets.as_ptr();
    frame.encode(&mut octets);
    assert_eq!(octets.len(), size + 8, "the length was predicted");
    assert_eq!(octets.as_ptr(), buffer, "the buffer was large enough");
    octets
}

/// Walks everything that is printed of a value.
pub fn print(value: impl Display) {
    std::hint::black_box(value.to_string());
}
