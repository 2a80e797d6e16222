//! Publish: what is checked, returned and confirmed.

use super::*;
use crate::codec::ConfirmSelect;

fn confirming() -> Stage {
    let mut stage = Stage::new();
    let select = ConfirmSelect { no_wait: false };
    assert_eq!(stage.say(A1, select), ["1/1 confirm.select-ok"]);
    stage.say(A1, declare("q"));
    stage
}

fn headers<const N: usize>(entries: [(&str, FieldValue); N]) -> Properties {
    Properties {
        headers: Some(table(entries)),
        ..Properties::default()
    }
}

#[test]
fn properties_that_are_refused() {
    // PROP-12, PROP-13, PROP-14, SEC-8
    let keys = |count| FieldValue::Array(vec![long("q"); count]);
    let expiration = |text| Properties {
        expiration: Some(name(text)),
        ..Properties::default()
    };
    let user = Properties {
        user_id: Some(name("someone")),
        ..Properties::default()
    };
    let mode = Properties {
        delivery_mode: Some(7),
        ..Properties::default()
    };
    #[rustfmt::skip]
    let refused = [
        (expiration("abc"),  "invalid expiration 'abc': no_integer"),
        (expiration(""),     "invalid expiration '': no_integer"),
        (expiration("-1"),   "invalid expiration '-1': {value_negative,-1}"),
        (expiration("10ms"), "invalid expiration '10ms': {leftover_string,\"ms\"}"),
        (user,               "user_id property set to 'someone' but authenticated user was 'guest'"),
        (mode,               "invalid message: {delivery_mode_unknown,7}"),
        (headers([("CC", long("q"))]), "invalid message: {unacceptable_type_in_header,\"CC\",longstr}"),
        (headers([("CC", keys(500)), ("BCC", keys(501))]), "invalid message: more than 1000 routing keys in CC and BCC"),
    ];
    for (properties, why) in refused {
        assert_eq!(
            confirming().publish_with(A1, "q", properties),
            [format!("1/1 close PRECONDITION_FAILED - {why} (60,40)")],
            "and no confirm: CONF-8"
        );
    }
}

#[test]
fn properties_reach_the_consumer_unchanged() {
    // PROP-11, PROP-16
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    let properties = Properties {
        user_id: Some(name("guest")),
        delivery_mode: Some(2),
        priority: Some(200),
        ..headers([("n", FieldValue::I32(1))])
    };
    stage.publish_with(A1, "q", properties);
    assert_eq!(
        stage.say(A1, get("q")),
        [
            "1/1 basic.get-ok delivery-tag=1 routing-key='q' | headers={n: 1} delivery-mode=2 priority=200 \
             user-id='guest' | hi"
        ]
    );
}

#[test]
fn an_unroutable_message_is_dropped_or_returned() {
    // PUB-2, PUB-3, PUB-4
    let mut stage = Stage::new();
    assert!(stage.publish(A1, "", "t.nope", "hi").is_empty());
    assert_eq!(
        stage.publish_mandatory(A1, "t.nope", "hi"),
        ["1/1 basic.return reply-code=312 reply-text='NO_ROUTE' routing-key='t.nope' | hi"]
    );
    stage.say(A1, declare("q"));
    assert!(
        stage.publish_mandatory(A1, "q", "hi").is_empty(),
        "a queue that nobody listens to is a route"
    );
    let topic = BasicPublish {
        exchange: name("amq.topic"),
        routing_key: name("a.b"),
        mandatory: true,
        ..BasicPublish::default()
    };
    assert_eq!(
        stage.publish_as(A1, topic, Properties::default(), "hi"),
        [
            "1/1 basic.return reply-code=312 reply-text='NO_ROUTE' exchange='amq.topic' routing-key='a.b' | hi"
        ]
    );
}

#[test]
fn an_unknown_exchange_and_an_immediate_message() {
    // PUB-1, PUB-5, CONF-8
    assert_eq!(
        confirming().publish(A1, "t.nope", "", "hi"),
        ["1/1 close NOT_FOUND - no exchange 't.nope' in vhost '/' (60,40)"]
    );
    let immediate = BasicPublish {
        immediate: true,
        ..BasicPublish::default()
    };
    assert_eq!(
        confirming().publish_as(A1, immediate, Properties::default(), ""),
        ["1 close NOT_IMPLEMENTED - immediate=true (60,40)"]
    );
}

#[test]
fn publishes_are_numbered_from_select_on() {
    // CONF-1, CONF-2, CONF-6, METH-8
    let mut stage = Stage::new();
    assert!(stage.publish(A1, "", "nowhere", "hi").is_empty());
    stage.say(A1, ConfirmSelect { no_wait: true });
    assert_eq!(
        stage.publish(A1, "", "nowhere", "hi"),
        ["1/1 basic.ack delivery-tag=1"]
    );
    assert_eq!(
        stage.say(A1, ConfirmSelect { no_wait: false }),
        ["1/1 confirm.select-ok"]
    );
    assert_eq!(
        stage.publish(A1, "", "nowhere", "hi"),
        ["1/1 basic.ack delivery-tag=2"]
    );
    assert!(
        stage.publish(A2, "", "nowhere", "hi").is_empty(),
        "another channel"
    );
    stage.reopen(A1);
    assert!(stage.publish(A1, "", "nowhere", "hi").is_empty(), "CHAN-15");
}

#[test]
fn the_return_comes_before_the_confirm() {
    // CONF-5
    assert_eq!(
        confirming().publish_mandatory(A1, "t.nope", "hi"),
        [
            "1/1 basic.return reply-code=312 reply-text='NO_ROUTE' routing-key='t.nope' | hi",
            "1/1 basic.ack delivery-tag=1",
        ]
    );
}

#[test]
fn a_queue_that_refuses_is_a_nack() {
    // CONF-7
    let mut stage = confirming();
    let full = QueueDeclare {
        arguments: table([
            ("x-max-length", FieldValue::I32(1)),
            ("x-overflow", long("reject-publish")),
        ]),
        ..declare("full")
    };
    stage.say(A1, full);
    assert_eq!(
        stage.publish(A1, "", "full", "1"),
        ["1/1 basic.ack delivery-tag=1"]
    );
    assert_eq!(
        stage.publish(A1, "", "full", "2"),
        ["1/1 basic.nack delivery-tag=2"]
    );
    assert_eq!(
        stage.publish(A1, "", "q", "3"),
        ["1/1 basic.ack delivery-tag=3"]
    );
    assert_eq!(stage.bodies(A1, "full"), ["1"]);

    let both = headers([("CC", FieldValue::Array(vec![long("q")]))]);
    stage.publish(A1, "", "full", "1");
    assert_eq!(
        stage.publish_with(A1, "full", both),
        ["1/1 basic.nack delivery-tag=5"],
        "one refusal is enough"
    );
}

#[test]
fn cc_and_bcc_name_more_keys() {
    let mut stage = Stage::new();
    for queue in ["to", "cc", "bcc"] {
        stage.say(A1, declare(queue));
    }
    let array = |key| FieldValue::Array(vec![long(key), FieldValue::Void]);
    let copies = headers([("CC", array("cc")), ("BCC", array("bcc"))]);
    stage.publish_with(A1, "to", copies);
    for queue in ["to", "cc", "bcc"] {
        assert_eq!(stage.stats(queue), Some((1, 0, 0)));
    }
    let blind = stage.say(A1, get("bcc")).concat();
    assert!(blind.contains("routing-key='to'"), "the key of the publish");
    assert!(blind.contains("CC: "), "{blind}");
    assert!(!blind.contains("BCC"), "{blind}");
}

#[test]
fn a_small_body_does_not_keep_the_read_buffer_alive() {
    // SEC-8: one that is longer than a frame has a buffer of its own, and is not copied.
    let buffer = bytes::Bytes::from(vec![b'x'; 256 << 10]);
    for (octets, shared) in [(100, false), (100_000, false), (200_000, true)] {
        let mut stage = Stage::new();
        stage.say(A1, declare("q"));
        stage.say(A1, consume("q", "t"));
        let message = Message {
            properties: Box::default(),
            body: buffer.slice(..octets),
        };
        let publish = BasicPublish {
            routing_key: name("q"),
            ..BasicPublish::default()
        };
        let Lane {
            connection,
            channel,
        } = A1;
        stage
            .vhost
            .publish(connection, channel, publish, message, stage.now);
        let Some((_, Output::Content { message, .. })) = stage.vhost.poll_output() else {
            panic!("expected a deliver");
        };
        assert_eq!(message.body().as_ptr() == buffer.as_ptr(), shared);
    }
}
