//! How a connection begins and what it is then held to: the octets of a handshake that a core of ours would not send.
//!
//! `tests/protocol.rs` has the handshake as it should be. Rule ids are those of `docs/rules.md`.

mod support;

use std::time::{Duration, Instant};

use amqp_rpc::{
    codec::*,
    protocol::{
        Cause, ClientConfig, CloseReason, Connection, Credentials, Event, Greeting, Mechanism,
        ServerConfig, Tuning,
    },
    short,
};
use bytes::{Bytes, BytesMut};
use support::{Pair, Side};

fn start() -> ConnectionStart {
    ConnectionStart {
        version_major: 0,
        version_minor: 9,
        mechanisms: "PLAIN".into(),
        locales: "en_US".into(),
        ..Default::default()
    }
}

fn start_ok() -> ConnectionStartOk {
    ConnectionStartOk {
        mechanism: short!("PLAIN"),
        response: Secret(Bytes::from_static(b"\0guest\0guest")),
        locale: short!("en_US"),
        ..Default::default()
    }
}

fn tune_ok() -> ConnectionTuneOk {
    ConnectionTuneOk {
        channel_max: 10,
        frame_max: 8192,
        heartbeat: 4,
    }
}

fn open() -> ConnectionOpen {
    ConnectionOpen {
        virtual_host: short!("/"),
        ..Default::default()
    }
}

/// A broker whose client is the test, and has said its header.
fn broker() -> Pair {
    let mut pair = Pair::with_puppet_client();
    pair.inject(Side::Client, &PROTOCOL_HEADER);
    pair
}

fn names(pair: &Pair, side: Side) -> Vec<&'static str> {
    let said = pair.wire.iter().filter(|(by, _)| *by == side);
    said.filter_map(|(_, frame)| match &frame.payload {
        Payload::Method(method) => Some(method.name()),
        _ => None,
    })
    .collect()
}

fn encoded(channel: u16, method: impl Into<Method>) -> BytesMut {
    let mut octets = BytesMut::new();
    let channel = ChannelId(channel);
    let payload = Payload::Method(method.into());
    Frame { channel, payload }.encode(&mut octets);
    octets
}

#[test]
fn a_client_waits_for_its_turn_and_a_broker_does_not_insist() {
    // HDR-1, HDR-7, TUNE-12: the header, and then nothing until start.
    let now = Instant::now();
    let mut client = Connection::client(ClientConfig::default(), now);
    let mut said = BytesMut::new();
    client.transmit(&mut said);
    client.tick(now + Duration::from_secs(9));
    client.transmit(&mut said);
    assert_eq!(said[..], PROTOCOL_HEADER);

    let mut pair = Pair::with_puppet_client();
    let mut ahead = BytesMut::from(&PROTOCOL_HEADER[..]);
    for method in [Method::from(start_ok()), tune_ok().into(), open().into()] {
        ahead.extend_from_slice(&encoded(0, method));
    }
    pair.inject(Side::Client, &ahead);
    assert!(matches!(pair.broker_events[..], [Event::Opened(_)]));
}

#[test]
fn a_start_of_another_version_is_refused_in_silence() {
    // CONN-2, CONN-3
    let mut pair = Pair::with_puppet_broker();
    let other = ConnectionStart {
        version_major: 1,
        version_minor: 0,
        ..start()
    };
    pair.inject_method(Side::Broker, 0, other);
    let refused = Cause::Refused("it speaks AMQP 1-0".into());
    assert_eq!(pair.client_events, [Event::Closed(refused)]);
    assert!(pair.client.is_over() && pair.wire.is_empty());
}

#[test]
fn lists_have_one_space_between_their_words() {
    // CONN-2, CONN-4, CONN-5, CONN-6
    let pair = broker();
    let Payload::Method(Method::ConnectionStart(start)) = &pair.wire[0].1.payload else {
        panic!("{:?}", pair.wire)
    };
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    assert_eq!(start.mechanisms, "PLAIN AMQPLAIN".into());
    assert_eq!(start.locales, "en_US".into());
    for name in ["product", "version", "capabilities"] {
        assert!(start.server_properties.get(name).is_some(), "{name}");
    }
}

#[test]
fn what_a_client_announces_it_understands() {
    // CONN-7, CONN-9: the extension, and a method of it that a broker may send because of it.
    let announced: [(&str, u16, Method); 6] = [
        ("publisher_confirms", 1, BasicAck::default().into()),
        ("basic.nack", 1, BasicNack::default().into()),
        ("consumer_cancel_notify", 1, BasicCancel::default().into()),
        ("connection.blocked", 0, ConnectionBlocked::default().into()),
        ("exchange_exchange_bindings", 1, ExchangeBindOk {}.into()),
        (
            "authentication_failure_close",
            0,
            ConnectionClose::default().into(),
        ),
    ];
    for (capability, channel, method) in announced {
        let mut pair = Pair::open();
        let bind = pair.client.send(ChannelId(1), ExchangeBind::default());
        bind.unwrap(); // whose reply is one of the six
        pair.inject_method(Side::Broker, channel, method);
        let violated = |event: &Event| matches!(event, Event::Closed(Cause::Violation(_)));
        assert!(!pair.client_events.iter().any(violated), "{capability}");
        assert_eq!(
            pair.client_events.len(),
            1,
            "{capability}: the program is told"
        );

        let mut pair = Pair::with_puppet_broker();
        pair.inject_method(Side::Broker, 0, start());
        let said = pair.next_method(Side::Client, 0);
        let Method::ConnectionStartOk(said) = said else {
            panic!("{said}")
        };
        let Some(FieldValue::Table(all)) = said.client_properties.get("capabilities") else {
            panic!("{said:?}")
        };
        assert_eq!(
            all.get(capability),
            Some(&FieldValue::Bool(true)),
            "{capability}"
        );
        assert_eq!(all.0.len(), 6, "and nothing else is announced");
        assert!(said.client_properties.get("product").is_some());
        assert!(said.client_properties.get("version").is_some());
    }
}

#[test]
fn a_refused_login_is_not_said_to_those_who_cannot_hear_it() {
    // CONN-8, SASL-7, SASL-9: a client that announced nothing, and a mechanism that was not offered.
    let wrong = ConnectionStartOk {
        response: Secret(Bytes::from_static(b"\0guest\0wrong")),
        ..start_ok()
    };
    let not_offered = ConnectionStartOk {
        mechanism: short!("EXTERNAL"),
        ..start_ok()
    };
    for start_ok in [wrong, not_offered] {
        let mut pair = broker();
        pair.inject_method(Side::Client, 0, start_ok);
        assert!(matches!(
            pair.broker_events[..],
            [Event::Closed(Cause::Refused(_))]
        ));
        assert!(pair.broker.is_over());
        assert_eq!(names(&pair, Side::Broker), ["connection.start"]);
    }
}

#[test]
fn a_name_with_nul_gets_nobody_in() {
    // SASL-2, SASL-3: in PLAIN it would be a third NUL.
    let mut config = ClientConfig {
        credentials: Credentials {
            user: "guest\0guest".into(),
            password: String::new(),
        },
        ..Default::default()
    };
    for password in ["", "guest"] {
        config.credentials.password = password.into();
        let mut pair = Pair::new(config.clone(), ServerConfig::default());
        pair.exchange();
        assert!(
            !matches!(pair.broker_events[..], [Event::Opened(_)]),
            "{password:?}"
        );
    }
}

#[test]
fn a_heartbeat_may_come_before_it_is_agreed_on() {
    // CONN-14, HB-13
    let mut heartbeat = BytesMut::new();
    let channel = ChannelId::CONTROL;
    let payload = Payload::Heartbeat;
    Frame { channel, payload }.encode(&mut heartbeat);
    let mut pair = broker();
    for method in [Method::from(start_ok()), tune_ok().into(), open().into()] {
        pair.inject(Side::Client, &heartbeat);
        pair.inject_method(Side::Client, 0, method);
    }
    assert!(matches!(pair.broker_events[..], [Event::Opened(_)]));
}

#[test]
fn a_close_is_said_from_open_on() {
    // CONN-18: the same mistake before tune-ok ends in silence, and behind open in a close.
    let mut pair = Pair::with_puppet_broker();
    pair.inject_method(Side::Broker, 0, start());
    pair.inject_method(Side::Broker, 0, ConnectionOpenOk::default());
    assert_eq!(names(&pair, Side::Client), ["connection.start-ok"]);
    assert!(pair.client.is_over());

    let mut pair = Pair::with_puppet_broker();
    pair.inject_method(Side::Broker, 0, start());
    pair.inject_method(Side::Broker, 0, ConnectionTune::default());
    pair.inject(Side::Broker, b"\x09\x00\x00\x00\x00\x00\x00\xce");
    let said = names(&pair, Side::Client);
    assert_eq!(
        said[3..],
        ["connection.close"],
        "behind start-ok, tune-ok and open"
    );
}

#[test]
fn zero_is_no_limit_and_then_our_own_holds() {
    // TUNE-1, FRAME-9, SEC-3, TUNE-6: a MiB, envelope and all; in reading, eight octets more.
    let tuning = Tuning {
        channel_max: 0,
        frame_max: 0,
        heartbeat: 0,
    };
    let client = ClientConfig {
        tuning,
        ..Default::default()
    };
    let broker = ServerConfig {
        tuning,
        ..Default::default()
    };
    let cap = 1_usize << 20;
    let mut pair = Pair::new(client, broker);
    pair.exchange();
    assert_eq!(pair.client.tuning(), tuning);
    pair.client.open_channel().unwrap();
    pair.exchange();
    pair.forget();
    let sent = pair.client.send_content(
        ChannelId(1),
        BasicPublish::default(),
        Properties::default(),
        &vec![0; cap],
    );
    sent.unwrap();
    pair.exchange();
    let sizes = pair
        .wire
        .iter()
        .filter_map(|(_, frame)| match &frame.payload {
            Payload::Body(octets) => Some(octets.len()),
            _ => None,
        });
    assert_eq!(sizes.collect::<Vec<_>>(), [cap - 8, 8]);
    assert_eq!(pair.client.deadline(), None, "no heartbeats either");

    let size = u32::try_from(cap + 1).unwrap().to_be_bytes();
    pair.inject(Side::Client, &[&[3, 0, 1], &size[..]].concat());
    assert!(
        matches!(&pair.broker_events[1..], [Event::Closed(Cause::Violation(v))] if v.code.0 == 501)
    );
}

#[test]
fn before_login_a_frame_is_short_and_there_is_no_channel() {
    // SEC-7, FRAME-8, CONN-13
    let mut pair = broker();
    pair.inject(Side::Client, &[1, 0, 0, 0, 0, 0x10, 0x01]);
    assert!(
        pair.broker.is_over(),
        "4097 octets are refused before they come"
    );
    let mut pair = broker();
    pair.inject_method(Side::Client, 1, ChannelOpen::default());
    assert!(pair.broker.is_over());
    assert_eq!(names(&pair, Side::Broker), ["connection.start"]);
}

#[test]
fn heartbeats_begin_with_tune_ok_and_go_on_to_the_end() {
    // HB-6, HB-12, TUNE-7, TUNE-10: the broker was to wait for 60 s, and 4 s were agreed on.
    let mut pair = broker();
    pair.inject_method(Side::Client, 0, start_ok());
    pair.forget();
    pair.pass(Duration::from_secs(3));
    pair.assert_silent();
    pair.inject_method(Side::Client, 0, tune_ok());
    let beats = |pair: &Pair| {
        let frames = pair
            .wire
            .iter()
            .filter(|(_, frame)| frame.payload == Payload::Heartbeat);
        frames.count()
    };
    pair.pass(Duration::from_secs(2));
    assert_eq!(beats(&pair), 1, "before open");
    pair.inject_method(Side::Client, 0, open());
    pair.inject_method(Side::Client, 0, ConnectionClose::default());
    for second in 0..8 {
        assert!(!pair.broker.is_over(), "after {second} s without a word");
        pair.pass(Duration::from_secs(1));
    }
    assert_eq!(
        beats(&pair),
        4,
        "also while it waits for the client to hang up"
    );
}

#[test]
fn a_client_is_told_that_it_is_blocked() {
    // BLOCK-3, BLOCK-4: the program decides what it publishes; a broker is not told such things.
    let mut pair = Pair::open();
    let blocked = ConnectionBlocked {
        reason: short!("low on memory"),
    };
    pair.inject_method(Side::Broker, 0, blocked.clone());
    pair.inject_method(Side::Broker, 0, ConnectionUnblocked {});
    let heard = [Method::from(blocked.clone()), ConnectionUnblocked {}.into()];
    assert_eq!(
        pair.client_events,
        heard.map(|method| Event::Method(ChannelId::CONTROL, method))
    );
    for method in [Method::from(blocked), ConnectionUnblocked {}.into()] {
        let mut pair = Pair::open();
        pair.inject_method(Side::Client, 0, method);
        assert!(
            matches!(&pair.broker_events[..], [Event::Closed(Cause::Violation(v))] if v.code.0 == 504)
        );
    }
}

#[test]
fn an_end_of_stream_says_where_the_handshake_was() {
    // CONN-16, TUNE-4, CLOSE-10, HDR-6: a broker that dislikes a login or a limit may only hang up.
    let tune = ConnectionTune::default();
    let said: [(&[Method], Cause); 4] = [
        (&[], Cause::EndOfStream),
        (&[start().into()], Cause::LoginRefused),
        (&[start().into(), tune.clone().into()], Cause::LimitsRefused),
        (
            &[
                start().into(),
                tune.into(),
                ConnectionOpenOk::default().into(),
            ],
            Cause::EndOfStream,
        ),
    ];
    for (methods, cause) in said {
        let mut pair = Pair::with_puppet_broker();
        for method in methods {
            pair.inject_method(Side::Broker, 0, method.clone());
        }
        pair.client.end_of_stream(&mut BytesMut::new());
        pair.exchange();
        assert_eq!(pair.client_events.last(), Some(&Event::Closed(cause)));
        assert!(pair.client.is_over());
    }
    for octets in [&b"22"[..], b"AMQP\0"] {
        let mut pair = Pair::with_puppet_broker();
        pair.client.end_of_stream(&mut octets.into());
        let said = Cause::NotAmqp(Greeting::Unknown(octets.into()));
        assert_eq!(pair.client.poll_event(), Some(Event::Closed(said)));
    }
}

#[test]
fn a_greeting_is_waited_for_until_it_is_known() {
    // HDR-5, HDR-6: octet by octet, from eight octets on anything has a name.
    for (greeting, known_at, says) in [
        (&b"HTTP/1.1"[..], 5, "it speaks HTTP"),
        (b"AMQP\0\0\x09\x02", 8, "it offers AMQP 0 0 9 2"),
        (b"\x16\x03\x01", 2, "it speaks TLS"),
        (b"220 hello", 8, "it said \"220 hell\""),
    ] {
        let mut pair = Pair::with_puppet_broker();
        for octet in &greeting[..known_at] {
            assert!(!pair.client.is_over() && pair.client_events.is_empty());
            pair.inject(Side::Broker, &[*octet]);
        }
        let [Event::Closed(cause)] = &pair.client_events[..] else {
            panic!("{:?}", pair.client_events)
        };
        let whole = format!("the peer does not speak AMQP 0-9-1: {says}");
        assert_eq!(cause.to_string(), whole);
        assert!(pair.client.is_over());
    }
}

#[test]
fn a_client_hears_the_handshake_in_its_order() {
    // CONN-1, CONN-18: whatever else a broker says is named together with what was due.
    let due = [
        (0, "connection.start"),
        (1, "connection.tune"),
        (2, "connection.open-ok"),
    ];
    for (before, due) in due {
        let mut pair = Pair::with_puppet_broker();
        let methods = [Method::from(start()), ConnectionTune::default().into()];
        for method in methods.into_iter().take(before) {
            pair.inject_method(Side::Broker, 0, method);
        }
        pair.inject_method(Side::Broker, 0, ConnectionBlocked::default());
        let Some(Event::Closed(Cause::Violation(violation))) = pair.client_events.last() else {
            panic!("{:?}", pair.client_events)
        };
        let text = format!("COMMAND_INVALID - expected {due}, got connection.blocked");
        assert_eq!(violation.to_string(), text);
        assert_eq!(violation.method, ConnectionBlocked::ID);
        assert_eq!(violation.scope(), Scope::Connection);
    }
}

#[test]
fn before_open_there_are_methods_on_channel_0_and_nothing_else() {
    // CONN-1: a body, or a method on another channel.
    let open_ok = Method::from(ChannelOpenOk::default());
    for (channel, payload) in [
        (0, Payload::Body(Bytes::from_static(b"x"))),
        (1, Payload::Method(open_ok)),
    ] {
        let mut pair = Pair::with_puppet_broker();
        pair.inject_method(Side::Broker, 0, start());
        pair.inject_frame(Side::Broker, channel, payload);
        let refused = Cause::Refused("expected a method of the handshake on channel 0".into());
        assert_eq!(pair.client_events, [Event::Closed(refused)]);
        assert_eq!(names(&pair, Side::Client), ["connection.start-ok"]);
    }
}

#[test]
fn a_frame_that_is_malformed_before_open_is_not_answered() {
    // CONN-18, CONN-12: there is nobody yet who could read a close.
    let malformed = b"\x01\0\0\0\0\0\x01\0\xce";
    let mut pair = Pair::with_puppet_broker();
    pair.inject(Side::Broker, malformed);
    assert!(matches!(
        &pair.client_events[..],
        [Event::Closed(Cause::Violation(v))] if v.code == ReplyCode::FRAME_ERROR
    ));
    assert!(pair.client.is_over() && pair.wire.is_empty());

    let mut pair = broker();
    pair.inject(Side::Client, malformed);
    assert!(matches!(
        &pair.broker_events[..],
        [Event::Closed(Cause::Refused(_))]
    ));
    assert!(pair.broker.is_over());
    assert_eq!(names(&pair, Side::Broker), ["connection.start"]);
}

#[test]
fn a_channel_before_open_is_505_to_those_who_have_logged_in() {
    // CONN-13: before start-ok there is only silence.
    for (methods, said) in [
        (&[Method::from(start_ok())][..], &["connection.tune"][..]),
        (&[start_ok().into(), tune_ok().into()], &["connection.tune"]),
    ] {
        let mut pair = broker();
        for method in methods {
            pair.inject_method(Side::Client, 0, method.clone());
        }
        pair.inject_method(Side::Client, 1, ChannelOpen::default());
        let [Event::Closed(Cause::Violation(violation))] = &pair.broker_events[..] else {
            panic!("{:?}", pair.broker_events)
        };
        let text = "UNEXPECTED_FRAME - a frame on a channel before connection.open";
        assert_eq!(
            (violation.to_string().as_str(), violation.code.0),
            (text, 505)
        );
        let all = [&["connection.start"], said, &["connection.close"]].concat();
        assert_eq!(names(&pair, Side::Broker), all);
    }
}

#[test]
fn a_broker_without_a_login_that_is_known_is_left() {
    // CONN-5: and its offer is told.
    let mut pair = Pair::with_puppet_broker();
    let offered = "EXTERNAL ANONYMOUS";
    let start = ConnectionStart {
        mechanisms: offered.into(),
        ..start()
    };
    pair.inject_method(Side::Broker, 0, start);
    let offered = offered.to_owned();
    let cause = Cause::NoMechanism { offered };
    assert_eq!(pair.client_events, [Event::Closed(cause)]);
    assert!(pair.client.is_over() && pair.wire.is_empty());
}

#[test]
fn a_client_may_close_before_it_is_open() {
    // CLOSE-1, CONN-18: nobody would hear it, so it hangs up.
    let mut pair = Pair::with_puppet_broker();
    pair.inject_method(Side::Broker, 0, start());
    pair.client.close(&CloseReason::goodbye());
    pair.exchange();
    assert_eq!(pair.client_events, [Event::Closed(Cause::ClosedHere)]);
    assert!(pair.client.is_over() && pair.client.is_closing());
    assert_eq!(names(&pair, Side::Client), ["connection.start-ok"]);
}

#[test]
fn both_mechanisms_log_in() {
    // SASL-1, SASL-4, CONN-4
    for mechanism in [Mechanism::Plain, Mechanism::Amqplain] {
        let config = ClientConfig {
            mechanism,
            ..Default::default()
        };
        let mut pair = Pair::new(config, ServerConfig::default());
        pair.exchange();
        let [Event::Opened(opened)] = &pair.broker_events[..] else {
            panic!("{:?}", pair.broker_events)
        };
        assert_eq!(opened.user, "guest");
    }
}
