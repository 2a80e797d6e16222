//! What may stand between the frames of a content, and what becomes of one that does not end.
//!
//! Rule ids are those of `docs/rules.md`.

mod support;

use amqp_rpc::{
    codec::*,
    protocol::{Cause, ClientConfig, CloseReason, Event, Message, ServerConfig, Tuning},
    short,
};
use bytes::Bytes;
use support::{Pair, Side};

fn publish() -> Payload {
    Payload::Method(BasicPublish::default().into())
}

fn header(body_size: u64) -> Payload {
    Payload::Header(ContentHeader {
        class_id: BASIC_CLASS,
        body_size,
        ..Default::default()
    })
}

fn body(octets: &'static [u8]) -> Payload {
    Payload::Body(Bytes::from_static(octets))
}

/// What the broker has to say about these frames of a client, all on channel 1: the code of its close.
fn code(frames: Vec<Payload>) -> Option<u16> {
    let mut pair = Pair::open();
    for payload in frames {
        pair.inject_frame(Side::Client, 1, payload);
    }
    closed(&pair)
}

fn closed(pair: &Pair) -> Option<u16> {
    pair.broker_events.iter().find_map(|event| match event {
        Event::Closed(Cause::Violation(violation)) => Some(violation.code.0),
        Event::Closed(Cause::ClosedByPeer(reason)) => Some(reason.code.0),
        _ => None,
    })
}

#[test]
fn a_publish_happens_when_its_last_octet_is_there() {
    // CONTENT-10
    let mut pair = Pair::open();
    let mut frames = vec![publish(), header(4), body(b"ab"), body(b"")];
    for payload in frames.drain(..) {
        pair.inject_frame(Side::Client, 1, payload);
        assert_eq!(pair.broker_events, []);
    }
    pair.inject_frame(Side::Client, 1, body(b"cd"));
    let message = Message::from("abcd");
    let whole = Event::Content(ChannelId(1), BasicPublish::default().into(), message);
    assert_eq!(pair.broker_events, [whole]);
}

#[test]
fn what_has_not_ended_has_never_been() {
    // CONTENT-11: nothing of the half that came is heard when the connection goes, with a close or without one.
    for close in [true, false] {
        let mut pair = Pair::open();
        for payload in [publish(), header(4), body(b"ab")] {
            pair.inject_frame(Side::Client, 1, payload);
        }
        if close {
            pair.inject_method(Side::Client, 0, ConnectionClose::default());
        } else {
            pair.broker.end_of_stream(&mut bytes::BytesMut::new());
            pair.exchange();
        }
        assert!(
            matches!(pair.broker_events[..], [Event::Closed(_)]),
            "{:?}",
            pair.broker_events
        );
    }
}

#[test]
fn a_content_cannot_be_taken_back() {
    // CONTENT-16, CONTENT-17: not by the next publish and not by a close of its channel; only with the connection.
    let method = |method: Method| Payload::Method(method);
    assert_eq!(code(vec![publish(), header(4), publish()]), Some(505));
    assert_eq!(code(vec![publish(), publish()]), Some(505));
    assert_eq!(
        code(vec![
            publish(),
            header(4),
            method(ChannelClose::default().into())
        ]),
        Some(505)
    );

    let mut pair = Pair::open();
    pair.inject_frame(Side::Client, 1, publish());
    let goodbye = ConnectionClose {
        reply_code: ReplyCode::SUCCESS,
        ..Default::default()
    };
    pair.inject_method(Side::Client, 0, goodbye);
    assert_eq!(closed(&pair), Some(200));
}

#[test]
fn a_channel_that_is_closing_still_counts_its_frames() {
    // CHAN-8: a whole publish is dropped without a word, a broken one is 505 as ever.
    let closing = || {
        let mut pair = Pair::open();
        let reason = CloseReason::new(ReplyCode::NOT_FOUND, "gone", MethodId::NONE);
        pair.broker.close_channel(ChannelId(1), &reason).unwrap();
        pair.broker.transmit(&mut bytes::BytesMut::new()); // and it never arrives
        pair.forget();
        pair
    };
    let mut pair = closing();
    for payload in [publish(), header(2), body(b"ab")] {
        pair.inject_frame(Side::Client, 1, payload);
    }
    assert!(matches!(
        pair.broker_events[..],
        [] | [Event::ChannelClosed(..)]
    ));
    pair.inject_frame(Side::Client, 1, body(b"ab"));
    assert_eq!(closed(&pair), Some(505));
}

#[test]
fn a_close_of_ours_goes_between_contents() {
    // CHAN-16, CONTENT-13: a content is sent in one step, so nothing can be asked for in the middle of one.
    let mut pair = Pair::open();
    let (channel, before) = (ChannelId(1), pair.wire.len());
    let octets = vec![0; 200_000];
    let sent = pair.client.send_content(
        channel,
        BasicPublish::default(),
        Properties::default(),
        &octets,
    );
    sent.unwrap();
    pair.client
        .close_channel(channel, &CloseReason::goodbye())
        .unwrap();
    pair.exchange();
    let kinds: Vec<u8> = pair.wire[before..]
        .iter()
        .map(|(_, frame)| frame.payload.frame_type())
        .collect();
    assert_eq!(
        kinds,
        [1, 2, 3, 3, 1, 1],
        "publish, header, two bodies, close, close-ok"
    );
    assert!(matches!(
        pair.broker_events[..],
        [Event::Content(..), Event::ChannelClosed(..)]
    ));
}

#[test]
fn a_header_is_never_cut() {
    // CONTENT-15: properties that do not fit the frame of their receiver are refused by who would send them.
    let tuning = Tuning {
        frame_max: 4096,
        ..Tuning::default()
    };
    let config = ClientConfig {
        tuning,
        ..Default::default()
    };
    let mut pair = Pair::new(config, ServerConfig::default());
    pair.exchange();
    pair.client.open_channel().unwrap();
    pair.exchange();
    pair.forget();
    // 14 octets of a header, 4 of the table's length, and an entry: name "k" (2), tag (1), length (4) and text.
    for (text, fits) in [(4088 - 14 - 4 - 7, true), (4088 - 14 - 4 - 6, false)] {
        let mut headers = FieldTable::EMPTY;
        headers.insert(short!("k"), "x".repeat(text));
        let properties = Properties {
            headers: Some(headers),
            ..Default::default()
        };
        let sent = pair
            .client
            .send_content(ChannelId(1), BasicPublish::default(), properties, b"");
        assert_eq!(
            sent.map_err(|refused| refused.code.0),
            if fits { Ok(()) } else { Err(311) }
        );
    }
    pair.exchange();
    assert_eq!(
        pair.broker_events.len(),
        1,
        "of what was refused nothing was sent"
    );
}

#[test]
fn channel_zero_is_for_the_connection() {
    // FRAME-14, FRAME-16
    for payload in [publish(), header(0), body(b"x")] {
        let code = if payload == publish() { 504 } else { 505 };
        let mut pair = Pair::open();
        pair.inject_frame(Side::Client, 0, payload);
        assert_eq!(closed(&pair), Some(code));
    }
}

#[test]
fn a_method_that_cannot_be_read_is_named_in_the_close() {
    // METH-3, ERR-3
    let mut pair = Pair::open();
    pair.inject(
        Side::Client,
        b"\x01\x00\x01\x00\x00\x00\x05\x00\x32\x00\x0a\x00\xce",
    );
    let [Event::Closed(Cause::ClosedByPeer(reason))] = &pair.client_events[..] else {
        panic!("{:?}", pair.client_events)
    };
    assert_eq!((reason.code.0, reason.method), (501, QueueDeclare::ID));
}

#[test]
fn what_a_publisher_wrote_does_not_cost_a_consumer_its_connection() {
    // TYPE-10, TYPE-11: no UTF-8 in a routing key, a consumer tag, a property; and NUL in a name.
    let bad = || ShortString::try_from(&b"\xff\0"[..]).unwrap();
    let mut pair = Pair::open();
    pair.client.send(ChannelId(1), BasicGet::default()).unwrap();
    pair.exchange();
    let carriers: [Method; 3] = [
        BasicDeliver {
            consumer_tag: ConsumerTag(bad()),
            routing_key: bad(),
            ..Default::default()
        }
        .into(),
        BasicReturn {
            reply_text: bad(),
            exchange: bad(),
            ..Default::default()
        }
        .into(),
        BasicGetOk {
            routing_key: bad(),
            ..Default::default()
        }
        .into(),
    ];
    pair.forget();
    for carrier in carriers {
        let properties = Properties {
            reply_to: Some(bad()),
            user_id: Some(bad()),
            ..Default::default()
        };
        pair.broker
            .send_content(ChannelId(1), carrier, properties, b"")
            .unwrap();
        pair.exchange();
    }
    assert!(matches!(
        &pair.client_events[..],
        [
            Event::Content(..),
            Event::Content(..),
            Event::Reply(.., Some(_))
        ]
    ));
    let nul = QueueDeclare {
        queue: ShortString::try_from(&b"a\0b"[..]).unwrap(),
        ..Default::default()
    };
    pair.client.send(ChannelId(1), nul).unwrap();
    pair.exchange();
    assert_eq!(closed(&pair), None);
}
