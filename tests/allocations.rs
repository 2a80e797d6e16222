//! How often a message is a reason to ask for memory: what is small lies in place, and a body in its read buffer.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

use allocation_counter::measure;
use amqp_rpc::{
    codec::{
        BASIC_CLASS, BasicPublish, ChannelId, ContentHeader, Frame, FrameDecoder, Payload,
        Properties,
    },
    short,
};
use bytes::{Bytes, BytesMut};

/// `basic.publish`, the header of a call with a UUID and a queue name in it, and a body.
fn messages(count: usize) -> BytesMut {
    let publish = BasicPublish {
        routing_key: short!("rpc_queue"),
        ..Default::default()
    };
    let properties = Properties {
        content_type: Some(short!("application/octet-stream")),
        correlation_id: Some(short!("6f1ed002-ab53-4d1d-8f2b-3f0c3f6a1e77")),
        reply_to: Some(short!("amq.gen-JzTY20BRgKO-HjmUJj0wLg")),
        expiration: Some(short!("60000")),
        ..Default::default()
    };
    let header = ContentHeader {
        class_id: BASIC_CLASS,
        body_size: 16,
        properties: Box::new(properties),
    };
    let payloads = [
        Payload::Method(publish.into()),
        Payload::Header(header),
        Payload::Body(Bytes::from_static(b"sixteen octets..")),
    ];
    let mut octets = BytesMut::new();
    for payload in payloads.iter().cycle().take(3 * count) {
        let frame = Frame {
            channel: ChannelId(1),
            payload: payload.clone(),
        };
        frame.encode(&mut octets);
    }
    octets
}

/// Allocations of `reads` times filling the buffer with `count` messages and decoding them.
fn allocations(reads: u64, count: usize) -> u64 {
    let octets = messages(count);
    let mut inbound = BytesMut::with_capacity(octets.len());
    let mut read = || {
        inbound.reserve(octets.len());
        inbound.extend_from_slice(&octets);
        let mut decoder = FrameDecoder::new();
        for _ in 0..3 * count {
            assert!(decoder.decode(&mut inbound).unwrap().is_some());
        }
        assert!(inbound.is_empty());
    };
    read();
    measure(|| (0..reads).for_each(|_| read())).count_total
}

#[test]
fn a_message_costs_one_allocation_and_a_read_at_most_another() {
    // The box of the properties; and the count of who shares the read buffer, where there was none.
    let thousand = allocations(10, 1000);
    assert!(
        thousand <= 10 * (1000 + 1),
        "{thousand} for 10,000 messages"
    );
    let alone = allocations(1000, 1);
    assert!(
        alone <= 1000 * 2,
        "{alone} for 1,000 messages, each read alone"
    );
}

#[test]
fn encoding_into_a_buffer_that_is_large_enough_costs_none() {
    let octets = messages(1);
    let (mut inbound, mut decoder) = (octets.clone(), FrameDecoder::new());
    let frames: Vec<Frame> = std::iter::from_fn(|| decoder.decode(&mut inbound).unwrap()).collect();
    let mut outbound = BytesMut::with_capacity(octets.len());
    let counted = measure(|| frames.iter().for_each(|frame| frame.encode(&mut outbound)));
    assert_eq!((counted.count_total, outbound), (0, octets));
}
