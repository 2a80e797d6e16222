//! Real traffic: what four client programs and RabbitMQ 3.10.8 said to each other, octet for octet.
//!
//! Every captured frame must decode, mean what an independent dissector says it means, encode to the octets it came
//! from, and be labelled in full by the annotator. `tests/data/README.md` describes the files.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // in a test a panic is the report

use std::{fs, ops::Range};

use amqp_rpc::codec::{
    ChannelId, ContentHeader, Frame, FrameDecoder, PROTOCOL_HEADER, Payload, Redact, annotate,
    method::Sender,
};
use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;

const SUITES: [(&str, usize); 4] = [
    ("amqplib", 528),
    ("amqplib-tutorial6", 32),
    ("pika-tutorial6", 32),
    ("py-amqp", 35),
];

const CONNECTIONS: [&str; 4] = [
    "amqplib-tutorial6.rpc_client",
    "amqplib-tutorial6.rpc_server",
    "pika-tutorial6.rpc_client",
    "pika-tutorial6.rpc_server",
];

/// Methods that the dissector has no name for: what it prints, and what they are.
const UNNAMED: &[(&str, &str)] = &[
    // Extensions that came after the published text.
    ("connection.unknown", "connection.update-secret"),
    ("connection.unknown", "connection.update-secret-ok"),
    // It expects unbind-ok at 41; it is 51. METH-5
    ("exchange.unknown", "exchange.unbind-ok"),
];

/// Frames that are not written as they were read: suite, record, the octets that differ, and why.
const REWRITTEN: &[(&str, usize, Range<usize>, &str)] = &[(
    "pika-tutorial6",
    5,
    14..15,
    "connection.open sets its second reserved field, once `insist`; we send 0. TYPE-13",
)];

fn read(name: &str) -> Bytes {
    let path = format!("{}/tests/data/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read(&path)
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .into()
}

/// The records of a file: who spoke, and what.
fn records(name: &str, octets_before_direction: usize) -> Vec<(Sender, Bytes)> {
    let mut file = read(name);
    let mut records = Vec::new();
    while file.has_remaining() {
        file.advance(octets_before_direction);
        let sender = if file.get_u8() == 0 {
            Sender::Client
        } else {
            Sender::Broker
        };
        let length = usize::try_from(file.get_u32()).unwrap();
        records.push((sender, file.split_to(length)));
    }
    records
}

/// A decoder without a limit that matters: the captures do not say what was negotiated.
fn decoder() -> FrameDecoder {
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(1 << 24, 1 << 24);
    decoder
}

/// One whole frame, or `None` for a protocol header.
fn decode(octets: &[u8]) -> Option<Frame> {
    if octets == PROTOCOL_HEADER {
        return None;
    }
    let mut inbound = BytesMut::from(octets);
    let frame = decoder().decode(&mut inbound).unwrap();
    assert!(inbound.is_empty());
    Some(frame.expect("a whole frame"))
}

/// A frame in the dissector's words.
fn name(frame: &Frame) -> String {
    let Frame {
        channel: ChannelId(channel),
        payload,
    } = frame;
    match payload {
        Payload::Method(method) => format!("{channel} {}", method.name()),
        Payload::Header(header) => {
            let ContentHeader {
                class_id,
                body_size,
                properties,
            } = header;
            format!(
                "{channel} content-header class {class_id} size {body_size} flags {:04x}",
                properties.flags()
            )
        }
        Payload::Body(_) => format!("{channel} content-body"),
        Payload::Heartbeat => format!("{channel} heartbeat"),
    }
}

/// Calls `see` with every record of every suite: suite, number, sender, octets.
fn each_record(mut see: impl FnMut(&str, usize, Sender, Bytes)) {
    for (suite, count) in SUITES {
        let records = records(&format!("{suite}.frames"), 0);
        assert_eq!(records.len(), count, "{suite}");
        for (number, (sender, octets)) in records.into_iter().enumerate() {
            see(suite, number, sender, octets);
        }
    }
}

#[test]
fn every_frame_is_what_the_dissector_says_it_is() {
    for (suite, count) in SUITES {
        let names = String::from_utf8(read(&format!("{suite}.names")).into()).unwrap();
        assert_eq!(names.lines().count(), count);
        for ((number, (_, octets)), theirs) in records(&format!("{suite}.frames"), 0)
            .iter()
            .enumerate()
            .zip(names.lines())
        {
            let ours = decode(octets).map_or("protocol-header".into(), |frame| name(&frame));
            let unnamed = UNNAMED
                .iter()
                .any(|(unknown, known)| ours == theirs.replace(unknown, known));
            assert!(
                ours == theirs || unnamed,
                "{suite} {number}: {theirs}, decoded as {ours}"
            );
        }
    }
}

/// The `from` column of the table against what was really sent, and by whom.
#[test]
fn every_method_came_from_a_side_that_may_send_it() {
    each_record(|suite, number, sender, octets| {
        if let Some(Frame {
            payload: Payload::Method(method),
            ..
        }) = decode(&octets)
        {
            let allowed = method.row().sender;
            assert!(
                allowed == sender || allowed == Sender::Both,
                "{suite} {number}: {method} from {sender:?}"
            );
        }
    });
}

#[test]
fn every_frame_encodes_to_the_octets_it_came_from() {
    let mut rewritten = Vec::new();
    each_record(|suite, number, _, octets| {
        let Some(frame) = decode(&octets) else { return };
        let mut encoded = BytesMut::new();
        frame.encode(&mut encoded);
        assert_eq!(
            encoded.len(),
            octets.len(),
            "{suite} {number}: {}",
            name(&frame)
        );

        let differ = |at: &usize| encoded[*at] != octets[*at];
        if let Some(first) = (0..octets.len()).find(differ) {
            let last = (first..octets.len()).rfind(differ).unwrap();
            rewritten.push(format!("{suite} {number}: octets {:?}", first..last + 1));
        }
    });
    let explained = REWRITTEN
        .iter()
        .map(|(suite, number, octets, _)| format!("{suite} {number}: octets {octets:?}"));
    assert_eq!(rewritten, explained.collect::<Vec<_>>());
}

#[test]
fn every_octet_of_every_frame_has_a_label() {
    each_record(|suite, number, _, octets| {
        let annotation = annotate(octets.clone(), Redact::default());
        let end = annotation.spans.iter().fold(0, |end, span| {
            assert!(
                span.range.start == end && span.range.end > end,
                "{suite} {number}:\n{annotation}"
            );
            let unreadable = ["malformed", "incomplete"].contains(&span.label.as_str());
            assert!(!unreadable, "{suite} {number}:\n{annotation}");
            span.range.end
        });
        assert_eq!(end, octets.len(), "{suite} {number}:\n{annotation}");
    });
}

/// Everything one side of a connection said, in pieces of any size.
fn frames_of(pieces: impl Iterator<Item = Bytes>, with_protocol_header: bool) -> Vec<Frame> {
    let (mut decoder, mut inbound, mut frames) = (decoder(), BytesMut::new(), Vec::new());
    let mut awaits_header = with_protocol_header;
    for piece in pieces {
        inbound.extend_from_slice(&piece);
        if awaits_header && inbound.len() >= PROTOCOL_HEADER.len() {
            assert_eq!(inbound.split_to(8), PROTOCOL_HEADER[..]);
            awaits_header = false;
        }
        while !awaits_header && let Some(frame) = decoder.decode(&mut inbound).unwrap() {
            frames.push(frame);
        }
    }
    assert!(inbound.is_empty(), "the stream ends with a whole frame");
    frames
}

/// Both directions of a connection, each as the segments that TCP made of it.
fn streams() -> Vec<(Sender, Vec<Bytes>)> {
    let side = |name: &str, side: Sender| {
        let records = records(&format!("{name}.rec"), 8).into_iter();
        (
            side,
            records
                .filter(|(sender, _)| *sender == side)
                .map(|(_, octets)| octets)
                .collect(),
        )
    };
    CONNECTIONS
        .iter()
        .flat_map(|name| [side(name, Sender::Client), side(name, Sender::Broker)])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// FRAME-10, FRAME-11: how a stream was cut on its way says nothing.
    #[test]
    fn any_segments_hold_the_same_frames(sizes in prop::collection::vec(1usize..200, 1..40)) {
        for (sender, segments) in streams() {
            let from_client = sender == Sender::Client;
            let captured = frames_of(segments.iter().cloned(), from_client);
            prop_assert!(captured.len() > 5);

            let mut stream = Bytes::from(segments.concat());
            let pieces = sizes.iter().cycle().map_while(|size| {
                (!stream.is_empty()).then(|| stream.split_to(stream.len().min(*size)))
            });
            prop_assert_eq!(frames_of(pieces, from_client), captured);
        }
    }
}
