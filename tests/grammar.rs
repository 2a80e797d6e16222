//! The grammar, octet by octet: each rule of the wire with the shortest octets that show it.
//!
//! `tests/golden.rs` has whole vectors from elsewhere; here a literal stands beside the rule it is an example of, which
//! is an id of `docs/rules.md`.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // in a test a panic is the report

use amqp_rpc::{codec::*, short};
use bytes::{Bytes, BytesMut};

/// One frame off the front, as a decoder reads it that has just been made.
fn decode(octets: impl AsRef<[u8]>) -> Result<Option<Frame>, BadFrame> {
    FrameDecoder::new().decode(&mut BytesMut::from(octets.as_ref()))
}

fn error(octets: impl AsRef<[u8]>) -> (DecodeError, u16) {
    let error = decode(octets).unwrap_err().error;
    (error, error.reply_code().0)
}

fn encode(channel: u16, payload: Payload) -> Vec<u8> {
    let mut octets = BytesMut::new();
    let channel = ChannelId(channel);
    Frame { channel, payload }.encode(&mut octets);
    octets.to_vec()
}

/// A payload in its envelope, on channel 1.
fn envelope(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 1], &size[..], payload, &[FRAME_END]].concat()
}

/// The `headers` of a content header that has this table, octets of its length included.
fn headers(table: &[u8]) -> Result<FieldTable, DecodeError> {
    let fixed = b"\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00";
    match decode(envelope(2, &[fixed, table].concat())) {
        Ok(Some(Frame {
            payload: Payload::Header(header),
            ..
        })) => Ok(header.properties.headers.unwrap()),
        Ok(other) => panic!("{other:?}"),
        Err(bad) => Err(bad.error),
    }
}

// ---- the envelope --------------------------------------------------------------------------------------------------

#[test]
fn a_frame_is_an_envelope_around_its_payload() {
    // FRAME-1, TYPE-1: type, channel, the size of the payload alone, payload, end; the high octet is first.
    let ack = BasicAck {
        delivery_tag: DeliveryTag(0x0102),
        multiple: true,
    };
    let octets =
        b"\x01\x00\x07\x00\x00\x00\x0d\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x01\x02\x01\xce";
    assert_eq!(encode(7, Payload::Method(ack.into())), octets);
    assert_eq!(octets.len(), 0x0d + 8);
}

#[test]
fn the_frame_end_is_looked_at_before_the_payload() {
    // FRAME-2: method 60.999 is unknown, but the frame that has it is no frame.
    let mut octets = envelope(1, b"\x00\x3c\x03\xe7");
    assert_eq!(error(&octets).1, 540);
    *octets.last_mut().unwrap() = 0xcd;
    assert_eq!(error(&octets), (DecodeError::FrameEnd { found: 0xcd }, 501));
}

#[test]
fn four_types_and_no_fifth() {
    // FRAME-4, FRAME-5: 1, 2, 3 and 8. A size that is too large is refused first, whatever the type.
    for kind in (0..=u8::MAX).filter(|kind| ![1, 2, 3, 8].contains(kind)) {
        assert_eq!(
            error(envelope(kind, b"x")),
            (DecodeError::FrameType(kind), 501)
        );
        let announced = [kind, 0, 1, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(
            error(announced).0,
            DecodeError::FrameTooLarge { .. }
        ));
    }
}

#[test]
fn each_type_has_a_shortest_payload() {
    // FRAME-12, TYPE-2: less than that is an error and no reason to wait, since the frame is complete.
    for (kind, shortest) in [(1, 4), (2, 14)] {
        for octets in 0..shortest {
            let truncated = (DecodeError::Truncated, 501);
            assert_eq!(
                error(envelope(kind, &vec![0; octets])),
                truncated,
                "{octets}"
            );
        }
    }
    assert!(
        decode(envelope(1, b"\x00\x3c\x00\x0b")).is_ok(),
        "basic.qos-ok"
    );
    assert!(
        decode(envelope(2, &[0; 14])).is_ok(),
        "a header without properties"
    );
    assert!(decode(envelope(3, b"")).is_ok(), "an empty body");
    assert_eq!(error(b"\x08\x00\x00\x00\x00\x00\x01x\xce").1, 501);
}

// ---- arguments -----------------------------------------------------------------------------------------------------

#[test]
fn a_longstr_is_any_octets() {
    // TYPE-7: NUL and what is not UTF-8 among them.
    let start = ConnectionStart {
        mechanisms: LongString::from(vec![0, 0xff, b'a']),
        ..Default::default()
    };
    let octets = encode(0, Payload::Method(start.clone().into()));
    assert!(
        octets
            .windows(7)
            .any(|seven| seven == b"\x00\x00\x00\x03\x00\xffa")
    );
    let frame = decode(octets).unwrap().unwrap();
    assert_eq!(frame.payload, Payload::Method(start.into()));
}

#[test]
fn a_shortstr_is_octets_with_a_view_as_text() {
    // TYPE-8, TYPE-11: what a publisher sent is what a consumer gets, be it NUL or no UTF-8 at all.
    for octets in [&b"a\0b"[..], b"\xff\xfe"] {
        let key = ShortString::try_from(octets).unwrap();
        let publish = BasicPublish {
            routing_key: key.clone(),
            ..Default::default()
        };
        let sent = encode(1, Payload::Method(publish.into()));
        let Payload::Method(Method::BasicPublish(read)) = decode(sent).unwrap().unwrap().payload
        else {
            panic!("a publish was sent")
        };
        assert_eq!(read.routing_key.as_bytes(), octets);
        assert_eq!(read.routing_key.as_str().is_ok(), octets == b"a\0b");
    }
}

#[test]
fn after_the_last_argument_there_is_nothing() {
    // TYPE-12, PROP-9, METH-3: one octet more is an error, and it says of which method.
    let bad = decode(envelope(1, b"\x00\x3c\x00\x0b\x00")).unwrap_err();
    assert_eq!(
        (bad.error, bad.method),
        (DecodeError::Trailing { count: 1 }, BasicQosOk::ID)
    );
    let bad = decode(envelope(2, &[0; 15])).unwrap_err();
    assert_eq!(bad.error, DecodeError::Trailing { count: 1 });
}

#[test]
fn open_ok_carries_a_string_that_nobody_reads() {
    // CHAN-5, TYPE-13: four zero octets are its length.
    let open_ok = Payload::Method(ChannelOpenOk::default().into());
    assert_eq!(
        encode(1, open_ok.clone())[7..15],
        *b"\x00\x14\x00\x0b\x00\x00\x00\x00"
    );
    let with_text = decode(envelope(1, b"\x00\x14\x00\x0b\x00\x00\x00\x02ok"));
    assert_eq!(with_text.unwrap().unwrap().payload, open_ok);
}

// ---- field tables --------------------------------------------------------------------------------------------------

#[test]
fn a_length_counts_octets_and_not_entries() {
    // TABLE-1, TABLE-13, TABLE-14: not its own four either; elements of an array have no names.
    let table = headers(b"\x00\x00\x00\x0a\x01aA\x00\x00\x00\x03Vb\x07").unwrap();
    let array = FieldValue::Array(vec![FieldValue::Void, FieldValue::I8(7)]);
    assert_eq!(table, FieldTable(vec![(short!("a"), array)]));

    assert_eq!(headers(b"\x00\x00\x00\x00").unwrap(), FieldTable::EMPTY);
    let empty = headers(b"\x00\x00\x00\x07\x01aA\x00\x00\x00\x00").unwrap();
    assert_eq!(empty.get("a"), Some(&FieldValue::Array(vec![])));
}

#[test]
fn a_name_has_up_to_255_octets() {
    // TABLE-8, TYPE-6: one that is longer cannot be built, so it cannot be encoded.
    assert!(ShortString::try_from(&[b'x'; 256][..]).is_err());
    for octets in [0, 1, 128, 255_u8] {
        let name = vec![b'.'; octets.into()];
        let length = u32::from(octets) + 2;
        let table = [&length.to_be_bytes()[..], &[octets], &name, b"V"].concat();
        let entry = (ShortString::try_from(&name[..]).unwrap(), FieldValue::Void);
        assert_eq!(headers(&table).unwrap(), FieldTable(vec![entry]));
    }
}

#[test]
fn what_cannot_be_skipped_is_a_syntax_error() {
    // TABLE-4, TABLE-12: the length of the table is right, and what is in it is 502 and not 501.
    let unknown = headers(b"\x00\x00\x00\x03\x01aZ").unwrap_err();
    let deep = (0..65).fold(FieldValue::Void, |value, _| FieldValue::Array(vec![value]));
    let properties = Properties {
        headers: Some(FieldTable(vec![(short!("a"), deep)])),
        ..Default::default()
    };
    let header = ContentHeader {
        properties: Box::new(properties),
        ..Default::default()
    };
    let too_deep = error(encode(1, Payload::Header(header)));
    assert_eq!(
        (unknown, unknown.reply_code().0),
        (DecodeError::FieldType(b'Z'), 502)
    );
    assert_eq!(too_deep, (DecodeError::NestingTooDeep { limit: 64 }, 502));
}

#[test]
fn a_decimal_is_a_scale_and_a_value_without_a_sign() {
    // TABLE-10
    let table = headers(b"\x00\x00\x00\x08\x01aD\x02\xff\xff\xff\xff").unwrap();
    let decimal = FieldValue::Decimal {
        scale: 2,
        value: u32::MAX,
    };
    assert_eq!(table.get("a"), Some(&decimal));
}

// ---- content headers -----------------------------------------------------------------------------------------------

#[test]
fn a_weight_is_zero() {
    // PROP-7
    let weight = b"\x00\x3c\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    assert_eq!(error(envelope(2, weight)), (DecodeError::Weight(1), 505));
}

#[test]
fn one_flag_word_is_read_and_no_second() {
    // PROP-4, PROP-5: however many of them are announced, each with the bit that announces the next.
    let words = [
        &b"\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"[..],
        &[0, 1].repeat(2000),
    ]
    .concat();
    assert_eq!(
        error(envelope(2, &words)),
        (DecodeError::FlagsContinuation, 501)
    );
}

#[test]
fn any_priority_is_carried() {
    // PROP-15: the text ends at 9.
    for priority in [0, 9, 10, u8::MAX] {
        let properties = Properties {
            priority: Some(priority),
            ..Default::default()
        };
        let header = Payload::Header(ContentHeader {
            properties: Box::new(properties),
            ..Default::default()
        });
        assert_eq!(
            decode(encode(1, header.clone())).unwrap().unwrap().payload,
            header
        );
    }
}

// ---- any octets ----------------------------------------------------------------------------------------------------

/// The vectors of `tests/data/golden.json`: every method, every tag, every property.
fn golden() -> Vec<Bytes> {
    let json: serde_json::Value = serde_json::from_str(include_str!("data/golden.json")).unwrap();
    let octets = |vector: &serde_json::Value| {
        let digits = vector["hex"].as_str()?.as_bytes();
        let octet = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        Some(digits.chunks(2).map(octet).collect())
    };
    json["valid"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(octets)
        .collect()
}

/// What an octet that was changed has to come to: a value that encodes to the same value, a wait for more, or an error
/// that earns a code. And the annotator sees no other frame than the decoder.
fn stands(octets: &Bytes) {
    let read = decode(octets);
    let frame_alone = |frame: &Frame| Bytes::from(encode(frame.channel.0, frame.payload.clone()));
    match &read {
        Ok(Some(frame)) => {
            let again = frame_alone(frame);
            assert_eq!(decode(&again).as_ref(), Ok(&Some(frame.clone())));
            assert_eq!(
                decode(&again)
                    .map(|frame| frame.unwrap())
                    .map(|frame| frame_alone(&frame)),
                Ok(again)
            );
        }
        Ok(None) => {}
        Err(bad) => assert!((501..=540).contains(&bad.error.reply_code().0)),
    }
    let end = octets.first_chunk::<7>().map_or(0, |[.., a, b, c, d]| {
        u32::from_be_bytes([*a, *b, *c, *d]) as usize + 8 // of the first frame, which alone was decoded
    });
    let annotation = annotate(octets.slice(..end.min(octets.len())), Redact::Nothing);
    let says = |text: &str| annotation.spans.iter().any(|span| span.value == text);
    let wrong = annotation
        .spans
        .iter()
        .any(|span| span.label == "malformed" && span.depth == 0);
    match read {
        Ok(Some(_)) => assert!(!wrong, "{annotation}"),
        Ok(None)
        | Err(BadFrame {
            error: DecodeError::FrameTooLarge { .. },
            ..
        }) => {}
        Err(bad) => assert!(says(&bad.error.to_string()), "{bad}\n{annotation}"),
    }
}

#[test]
fn any_octet_of_any_frame_may_be_another() {
    // SEC-11, TYPE-2: every octet of every golden frame, with each of its bits flipped, and as the extremes.
    let mut frames = 0;
    for octets in golden()
        .iter()
        .filter(|octets| !octets.starts_with(b"AMQP") && octets.len() < 600)
    {
        frames += 1;
        stands(octets);
        for at in 0..octets.len() {
            let changes = (0..8)
                .map(|bit| octets[at] ^ (1 << bit))
                .chain([0, 0x7f, 0xff]);
            for changed in changes {
                let mut other = octets.to_vec();
                other[at] = changed;
                stands(&other.into());
            }
        }
    }
    assert!(frames > 100, "the vectors were found: {frames}");
}
