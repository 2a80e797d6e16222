//! What may be said when, told as transcripts: `C:` the client says, `S:` the broker says, `!` a core says by itself.
//!
//! Two cores are joined in memory; the test plays the application on either side. Rule ids are those of
//! `docs/rules.md`.

mod support;

use std::time::Duration;

use amqp_rpc::{
    codec::*,
    protocol::{Blame, Cause, ClientConfig, CloseReason, Event, Greeting, ServerConfig, Tuning},
    short,
};
use bytes::BytesMut;
use support::{Pair, Side};

fn names(pair: &Pair) -> Vec<String> {
    let line = |(side, frame): &(Side, Frame)| {
        let who = if *side == Side::Client { "C" } else { "S" };
        match &frame.payload {
            Payload::Method(method) => format!("{who} {} {}", frame.channel, method.name()),
            other => format!("{who} {} type {}", frame.channel, other.frame_type()),
        }
    };
    pair.wire.iter().map(line).collect()
}

#[test]
fn the_handshake_is_eight_frames_and_the_client_speaks_last_but_one() {
    // CONN-1, TUNE-12, HDR-1, HDR-2
    let mut pair = Pair::new(ClientConfig::default(), ServerConfig::default());
    pair.exchange();
    let expected = [
        "S 0 connection.start",
        "C 0 connection.start-ok",
        "S 0 connection.tune",
        "C 0 connection.tune-ok",
        "C 0 connection.open",
        "S 0 connection.open-ok",
    ];
    assert_eq!(names(&pair), expected);
    let Some(Event::Opened(opened)) = pair.broker_events.first() else {
        panic!("{:?}", pair.broker_events)
    };
    assert_eq!(
        (opened.user.to_string(), opened.virtual_host.to_string()),
        ("guest".into(), "/".into())
    );
    assert!(opened.peer_can("consumer_cancel_notify") && !opened.peer_can("anything_else"));
    assert_eq!(pair.client.tuning(), Tuning::default());
}

#[test]
fn a_wrong_header_is_answered_with_the_right_one() {
    // HDR-3, HDR-4, HDR-5
    let mut pair = Pair::with_puppet_client();
    pair.inject(Side::Client, b"AMQP\0\x01");
    assert!(!pair.broker.is_over(), "six octets may become anything");
    pair.inject(Side::Client, b"\0\0");
    assert!(pair.broker.is_over());
    assert_eq!(
        pair.broker_events,
        [Event::Closed(Cause::NotAmqp(Greeting::OtherVersion([
            0, 1, 0, 0
        ])))]
    );
}

#[test]
fn a_peer_that_speaks_something_else_is_named() {
    // HDR-5
    let cases: [(&[u8], &str); 5] = [
        (b"AMQP\x03\x01\0\0", "it speaks AMQP 1.0"),
        (b"AMQP\x01\x01\x00\x0a", "it offers AMQP 1 1 0 10"),
        (b"HTTP/1.1 400 Bad Request", "it speaks HTTP"),
        (&[0x15, 3, 3, 0, 2, 2, 70], "it speaks TLS"),
        (b"220 mail.example ESMTP", "it said \"220 mail.example\""),
    ];
    for (greeting, says) in cases {
        let mut pair = Pair::new(ClientConfig::default(), ServerConfig::default());
        pair.inject(Side::Broker, greeting);
        let [Event::Closed(Cause::NotAmqp(said))] = &pair.client_events[..] else {
            panic!("{:?}", pair.client_events)
        };
        assert_eq!(said.to_string(), says);
    }
}

#[test]
fn a_refused_login_is_said_to_those_who_can_hear_it() {
    // SASL-7, CONN-15, ERR-3
    let mut config = ClientConfig::default();
    config.credentials.password = "wrong".into();
    let mut pair = Pair::new(config, ServerConfig::default());
    pair.exchange();
    let [Event::Closed(Cause::ClosedByPeer(reason))] = &pair.client_events[..] else {
        panic!("{:?}", pair.client_events)
    };
    assert_eq!(
        (reason.code, reason.method),
        (ReplyCode::ACCESS_REFUSED, MethodId::NONE)
    );
    assert!(
        pair.client.is_over() && pair.broker.is_over(),
        "close and close-ok have passed"
    );
}

#[test]
fn an_unknown_virtual_host_is_530() {
    // CONN-10
    let config = ClientConfig {
        virtual_host: short!("/nope"),
        ..Default::default()
    };
    let mut pair = Pair::new(config, ServerConfig::default());
    pair.exchange();
    let [Event::Closed(Cause::ClosedByPeer(reason))] = &pair.client_events[..] else {
        panic!("{:?}", pair.client_events)
    };
    assert_eq!(reason.text, "NOT_ALLOWED - vhost /nope not found");
    assert_eq!((reason.code.0, reason.method), (530, ConnectionOpen::ID));
}

#[test]
fn a_handshake_out_of_order_ends_without_a_word() {
    // CONN-12, CONN-13
    for method in [
        Method::from(ConnectionTuneOk::default()),
        ConnectionOpen::default().into(),
    ] {
        let mut pair = Pair::with_puppet_client();
        pair.inject(Side::Client, &PROTOCOL_HEADER);
        pair.forget();
        pair.inject_method(Side::Client, 0, method);
        assert!(matches!(
            &pair.broker_events[..],
            [Event::Closed(Cause::Refused(_))]
        ));
        assert!(pair.broker.is_over());
        assert!(!names(&pair).iter().any(|line| line.contains("close")));
    }
}

#[test]
fn a_handshake_has_a_time_limit_on_both_sides() {
    // CONN-17, SEC-2: octets that come one by one do not extend it.
    let mut pair = Pair::with_puppet_client();
    pair.inject(Side::Client, b"AMQ");
    pair.pass(Duration::from_secs(9));
    assert!(!pair.broker.is_over());
    pair.inject(Side::Client, b"P");
    pair.pass(Duration::from_secs(1));
    assert!(matches!(
        pair.broker_events[..],
        [Event::Closed(Cause::HandshakeTimeout { .. })]
    ));
    assert!(pair.client.is_over() && pair.broker.is_over());
}

#[test]
fn methods_pass_in_both_directions() {
    transcript! { Pair::open(), channel 1:
        C: QueueDeclare { exclusive: true, ..Default::default() };
        S: QueueDeclareOk { queue: short!("amq.gen-1"), message_count: 0, consumer_count: 0 };
        C: BasicQos { prefetch_count: 1, ..Default::default() };
        S: BasicQosOk {};
        C: BasicConsume { queue: short!("absent"), ..Default::default() };
    }
}

#[test]
fn a_soft_error_costs_the_channel_and_nothing_else() {
    // ERR-1, CHAN-6, CHAN-7, CHAN-10
    let mut pair = Pair::open();
    let not_found = CloseReason::new(
        ReplyCode::NOT_FOUND,
        "no queue 'absent' in vhost '/'",
        BasicConsume::ID,
    );
    pair.broker.close_channel(ChannelId(1), &not_found).unwrap();
    pair.client
        .send(ChannelId(1), QueueDeclare::default())
        .unwrap(); // crosses the close: discarded
    pair.exchange();
    transcript! { pair, channel 1:
        C! QueueDeclare { .. };
        S! ChannelClose { reply_code: ReplyCode::NOT_FOUND, class_id: 60, method_id: 20, .. };
        C! ChannelCloseOk {};
    }
    assert_eq!(
        pair.client_events,
        [Event::ChannelClosed(
            ChannelId(1),
            Cause::ClosedByPeer(not_found)
        )]
    );
    assert_eq!(pair.client.open_channel(), Ok(ChannelId(1)));
}

#[test]
fn a_channel_number_is_free_after_close_ok() {
    // CHAN-1, CHAN-3
    let mut pair = Pair::open();
    pair.client
        .close_channel(ChannelId(1), &CloseReason::goodbye())
        .unwrap();
    assert_eq!(
        pair.client.open_channel(),
        Ok(ChannelId(2)),
        "1 is not free before its close-ok"
    );
    pair.exchange();
    assert_eq!(pair.client.open_channel(), Ok(ChannelId(1)));
}

#[test]
fn crossing_channel_closes_are_both_answered() {
    // CLOSE-5, CHAN-6
    let mut pair = Pair::open();
    let goodbye = CloseReason::goodbye();
    pair.client.close_channel(ChannelId(1), &goodbye).unwrap();
    pair.broker.close_channel(ChannelId(1), &goodbye).unwrap();
    transcript! { { pair.exchange(); pair }, channel 1:
        C! ChannelClose { .. };
        S! ChannelClose { .. };
        S! ChannelCloseOk {};
        C! ChannelCloseOk {};
    }
}

#[test]
fn our_own_mistakes_are_refused_before_anything_is_sent() {
    // METH-4, CHAN-2, FRAME-16
    let mut pair = Pair::open();
    let mistakes: [(u16, Method, u16); 4] = [
        (2, QueueDeclare::default().into(), 504),
        (1, QueueDeclareOk::default().into(), 503),
        (1, BasicPublish::default().into(), 503),
        (0, QueueDeclare::default().into(), 504),
    ];
    for (channel, method, code) in mistakes {
        let refused = pair.client.send(ChannelId(channel), method).unwrap_err();
        assert_eq!(refused.code.0, code, "{refused}");
    }
    pair.exchange();
    pair.assert_silent();
}

/// What a broker answers to what no client should send: code, and the method it blames.
#[test]
fn hard_errors_are_answered_with_their_code() {
    // FRAME-15, FRAME-16, FRAME-20, METH-2, METH-4, CHAN-2, CHAN-3, CHAN-13, CHAN-14, CONN-11, CONTENT-8, TYPE-9
    let bad_utf8 = QueueDeclare {
        queue: ShortString::try_from(&[0xff][..]).unwrap(),
        ..Default::default()
    };
    let methods: [(u16, Method, u16); 12] = [
        (1, ConnectionClose::default().into(), 503),
        (0, QueueDeclare::default().into(), 504),
        (0, ChannelOpen::default().into(), 504),
        (9, QueueDeclare::default().into(), 504),
        (1, ChannelOpen::default().into(), 504),
        (1, ChannelCloseOk::default().into(), 503),
        (0, ConnectionCloseOk::default().into(), 504),
        (0, ConnectionStartOk::default().into(), 504),
        (0, ConnectionBlocked::default().into(), 504),
        (1, QueueDeclareOk::default().into(), 503),
        (1, ChannelFlow { active: false }.into(), 540),
        (1, bad_utf8.into(), 501),
    ];
    for (channel, method, code) in methods {
        let mut pair = Pair::open();
        pair.inject_method(Side::Client, channel, method.clone());
        let closed = pair.client_events.iter().find_map(|event| match event {
            Event::Closed(Cause::ClosedByPeer(reason)) => Some(reason.code.0),
            _ => None,
        });
        assert_eq!(closed, Some(code), "{method} on channel {channel}");
        assert!(pair.broker.is_over(), "close-ok has come");
    }
}

#[test]
fn after_a_hard_error_everything_but_close_is_discarded() {
    // CLOSE-2, CLOSE-3, ERR-2, ERR-10: one close is sent, whatever follows.
    let mut pair = Pair::open();
    let mut octets = BytesMut::new();
    for _ in 0..3 {
        Frame {
            channel: ChannelId(7),
            payload: Payload::Method(QueueDeclare::default().into()),
        }
        .encode(&mut octets);
    }
    octets.extend_from_slice(&[1, 0, 1, 0, 0, 0, 1, 0x55, 0xce]); // malformed, but delimited
    pair.inject(Side::Client, &octets);
    let closes = names(&pair)
        .iter()
        .filter(|line| line.as_str() == "S 0 connection.close")
        .count();
    assert_eq!(closes, 1);
}

#[test]
fn flow_is_answered_by_the_client_and_refused_by_the_broker() {
    // CHAN-14
    transcript! { Pair::open(), channel 1:
        S: ChannelFlow { active: false };
        C! ChannelFlowOk { active: false };
        C: ChannelFlow { active: true };
        S! ChannelFlowOk { active: true };
    }
}

#[test]
fn a_reply_that_answers_nothing_is_a_fault_of_the_broker() {
    // METH-9, ERR-5
    let mut pair = Pair::open();
    pair.inject_method(Side::Broker, 1, QueueDeclareOk::default());
    let [Event::Closed(Cause::Violation(violation))] = &pair.client_events[..] else {
        panic!("{:?}", pair.client_events)
    };
    assert_eq!(
        (violation.code.0, violation.method),
        (503, QueueDeclareOk::ID)
    );
    assert!(
        pair.client.is_over(),
        "RabbitMQ answers close-ok, and so does ours"
    );
}

#[test]
fn heartbeats_keep_an_idle_line_and_their_absence_kills_it() {
    // HB-1, HB-2, HB-4, HB-7
    let config = ClientConfig {
        tuning: Tuning {
            heartbeat: 2,
            ..Tuning::default()
        },
        ..Default::default()
    };
    let mut pair = Pair::new(config, ServerConfig::default());
    pair.exchange();
    pair.forget();
    for _ in 0..10 {
        pair.pass(Duration::from_secs(1));
    }
    assert!(!pair.client.is_over() && !pair.broker.is_over());
    assert_eq!(
        pair.wire
            .iter()
            .filter(|(_, frame)| frame.payload == Payload::Heartbeat)
            .count(),
        20
    );

    let silent = pair.now + Duration::from_secs(4);
    pair.client.tick(silent);
    assert!(pair.client.is_over());
    assert_eq!(
        pair.client.poll_event(),
        Some(Event::Closed(Cause::Silence {
            silence: Duration::from_secs(4)
        }))
    );
}

#[test]
fn a_frame_without_its_end_is_a_sign_of_life_once() {
    // HB-3, HB-4: a network that fails in the middle of a frame leaves its first part in the buffer. A driver shows it
    // to the core whenever it wakes, and it wakes at least as often as it sends a heartbeat.
    let mut pair = Pair::open();
    let mut inbound = frame(1, BasicQosOk {}).split_to(5);
    let minute = Duration::from_mins(1);
    let came = pair.now + minute;
    pair.client.tick(came);
    assert!(!pair.client.receive(&mut inbound));
    for half in 1..4 {
        pair.client.tick(came + half * minute / 2);
        assert!(!pair.client.receive(&mut inbound));
        assert!(!pair.client.is_over(), "heard a minute and a half ago");
    }
    pair.client.tick(came + 2 * minute);
    let silence = 2 * minute;
    let over = Event::Closed(Cause::Silence { silence });
    assert_eq!(pair.client.poll_event(), Some(over));
}

fn frame(channel: u16, method: impl Into<Method>) -> BytesMut {
    let mut octets = BytesMut::new();
    let (channel, payload) = (ChannelId(channel), Payload::Method(method.into()));
    Frame { channel, payload }.encode(&mut octets);
    octets
}

#[test]
fn a_content_is_cut_to_frame_max_and_put_together_again() {
    // CONTENT-3, CONTENT-4, FRAME-7, TUNE-7
    let config = ClientConfig {
        tuning: Tuning {
            frame_max: 4096,
            ..Tuning::default()
        },
        ..Default::default()
    };
    let mut pair = Pair::new(config, ServerConfig::default());
    pair.exchange();
    pair.client.open_channel().unwrap();
    pair.exchange();
    pair.forget();
    let before = pair.wire.len();
    let body = vec![b'x'; 9000];
    pair.client
        .send_content(
            ChannelId(1),
            BasicPublish::default(),
            Properties::default(),
            &body,
        )
        .unwrap();
    pair.exchange();
    let sizes: Vec<_> = pair.wire[before..]
        .iter()
        .filter_map(|(_, frame)| {
            if let Payload::Body(octets) = &frame.payload {
                Some(octets.len())
            } else {
                None
            }
        })
        .collect();
    assert_eq!(sizes, [4088, 4088, 824]);
    let [Event::Content(_, _, message)] = &pair.broker_events[..] else {
        panic!("{:?}", pair.broker_events)
    };
    assert_eq!(message.body, body);
}

#[test]
fn a_body_over_the_limit_is_refused_on_its_header() {
    // SEC-5, SEC-6: the channel is lost, the rest of the content is swallowed, the connection goes on.
    let mut pair = Pair::new(
        ClientConfig::default(),
        ServerConfig {
            body_limit: 10,
            ..Default::default()
        },
    );
    pair.exchange();
    pair.client.open_channel().unwrap();
    pair.exchange();
    pair.forget();
    pair.client
        .send_content(
            ChannelId(1),
            BasicPublish::default(),
            Properties::default(),
            &[0; 11],
        )
        .unwrap();
    pair.exchange();
    let [Event::ChannelClosed(_, Cause::ClosedByPeer(reason))] = &pair.client_events[..] else {
        panic!("{:?}", pair.client_events)
    };
    assert_eq!(
        reason.text,
        "PRECONDITION_FAILED - message size 11 is larger than configured max size 10"
    );
    assert_eq!((reason.code.0, reason.method), (406, BasicPublish::ID));
    assert_eq!(pair.client.open_channel(), Ok(ChannelId(1)));
    pair.exchange();
    assert!(!pair.client.is_closing());
}

#[test]
fn closing_is_said_heard_and_over() {
    // CLOSE-1, CLOSE-4, CLOSE-6, CLOSE-7
    let mut pair = Pair::open();
    assert!(pair.client.is_open() && !pair.client.is_closing());
    pair.client.close(&CloseReason::goodbye());
    assert!(!pair.client.is_open() && pair.client.is_closing());
    pair.client.close(&CloseReason::goodbye()); // once is enough
    assert!(!pair.client.is_over());
    pair.exchange();
    assert!(
        pair.client.is_over(),
        "the client heard close-ok and hangs up"
    );
    assert!(!pair.broker.is_over(), "the broker waits for that");
    pair.broker.end_of_stream(&mut BytesMut::new());
    assert!(pair.broker.is_over());
}

#[test]
fn closes_that_cross_are_both_answered() {
    // CLOSE-5, CLOSE-8
    let mut pair = Pair::open();
    pair.client.close(&CloseReason::goodbye());
    pair.broker.close(&CloseReason::new(
        ReplyCode::CONNECTION_FORCED,
        "shutdown",
        MethodId::NONE,
    ));
    pair.exchange();
    assert!(pair.client.is_over() && pair.broker.is_over());
    let mut names = names(&pair);
    names.sort();
    let said = |line: &str| names.iter().any(|name| name == line);
    assert!(said("C 0 connection.close-ok") && said("S 0 connection.close-ok"));
}

#[test]
fn a_flood_of_closes_is_not_answered_without_end() {
    // CLOSE-9, SEC-10: each is answered while the answers are read, and a peer that reads none fills no buffer.
    let mut pair = Pair::open();
    let close = || frame(0, ConnectionClose::default());
    for _ in 0..3 {
        pair.inject(Side::Client, &close());
        assert_eq!(names(&pair).pop().unwrap(), "S 0 connection.close-ok");
        pair.forget();
    }
    let mut flood: BytesMut = (0..10_000).flat_map(|_| close()).collect();
    while pair.broker.receive(&mut flood) {}
    assert!(pair.broker.unsent() < 5000, "{}", pair.broker.unsent());
}

#[test]
fn a_peer_that_does_not_answer_a_close_is_left() {
    // CLOSE-8
    let mut pair = Pair::open();
    pair.client.close(&CloseReason::goodbye());
    let later = pair.now + Duration::from_secs(10);
    pair.client.tick(later);
    assert!(pair.client.is_over());
}

#[test]
fn a_wrong_answer_to_open_is_said_to_the_broker() {
    // CONN-18: from open on there is a close handshake; before it a client only hangs up.
    for (aloud, before) in [(true, 2), (false, 1)] {
        let mut pair = Pair::new(ClientConfig::default(), ServerConfig::default());
        let mut octets = BytesMut::new();
        let methods: [Method; 2] = [
            ConnectionStart {
                version_minor: 9,
                mechanisms: "PLAIN".into(),
                ..Default::default()
            }
            .into(),
            ConnectionTune {
                channel_max: 1,
                frame_max: 8192,
                heartbeat: 0,
            }
            .into(),
        ];
        for method in methods
            .into_iter()
            .take(before)
            .chain([ConnectionSecureOk::default().into()])
        {
            Frame {
                channel: ChannelId::CONTROL,
                payload: Payload::Method(method),
            }
            .encode(&mut octets);
        }
        while pair.client.receive(&mut octets) {}
        let mut said = BytesMut::new();
        pair.client.transmit(&mut said);
        let close = [0, 10, 0, 50];
        assert_eq!(said.windows(4).any(|ids| ids == close), aloud);
    }
}

#[test]
fn contents_that_are_never_finished_are_bounded() {
    // SEC-8: every channel has its own, so a limit for one body is none for a connection.
    let mut pair = Pair::new(
        ClientConfig::default(),
        ServerConfig {
            body_limit: 1000,
            ..Default::default()
        },
    );
    pair.exchange();
    for channel in 1..=5 {
        pair.client.open_channel().unwrap();
        pair.exchange();
        pair.inject_method(Side::Client, channel, BasicPublish::default());
        let header = ContentHeader {
            class_id: BASIC_CLASS,
            body_size: 1000,
            ..Default::default()
        };
        pair.inject_frame(Side::Client, channel, Payload::Header(header));
        pair.inject_frame(Side::Client, channel, Payload::Body(vec![0; 800].into()));
    }
    assert!(!pair.client.is_closing(), "as much as four bodies is borne");
    pair.inject_frame(Side::Client, 3, Payload::Body(vec![0; 1].into()));
    let closed = pair.client_events.iter().any(|event| {
        matches!(event, Event::Closed(Cause::ClosedByPeer(reason)) if reason.code == ReplyCode::RESOURCE_ERROR)
    });
    assert!(closed, "{:?}", pair.client_events);
}

#[test]
fn what_is_sent_goes_behind_what_waits() {
    // METH-10: a driver whose socket is slow asks again before the first octets are gone.
    let mut pair = Pair::open();
    let mut outbound = BytesMut::new();
    let mut expected = BytesMut::new();
    for prefetch_count in [1, 2] {
        let qos = BasicQos {
            prefetch_count,
            ..Default::default()
        };
        expected.extend_from_slice(&frame(1, qos.clone()));
        pair.client.send(ChannelId(1), qos).unwrap();
        assert!(pair.client.unsent() > 0);
        pair.client.transmit(&mut outbound);
        assert_eq!(pair.client.unsent(), 0);
        pair.client.transmit(&mut outbound); // nothing waits, nothing changes
    }
    assert_eq!(outbound, expected);
}

#[test]
fn new_credentials_are_heard_on_channel_0() {
    // FRAME-14: an extension for tokens that run out; a broker of ours takes any.
    let mut pair = Pair::open();
    pair.inject_method(Side::Client, 0, ConnectionUpdateSecret::default());
    assert_eq!(
        pair.next_method(Side::Broker, 0),
        ConnectionUpdateSecretOk {}.into()
    );
}

#[test]
fn channels_are_counted_on_both_sides() {
    // TUNE-8, CHAN-1, CHAN-4: a client asks for none too many, and a broker refuses one that does.
    let config = ClientConfig {
        tuning: Tuning {
            channel_max: 2,
            ..Tuning::default()
        },
        ..Default::default()
    };
    let mut pair = Pair::new(config, ServerConfig::default());
    let refused = pair.client.open_channel().unwrap_err();
    assert_eq!((refused.code.0, refused.method), (504, ChannelOpen::ID));
    assert_eq!(refused.text, "the connection is not open");
    pair.exchange();
    assert_eq!(pair.client.open_channel(), Ok(ChannelId(1)));
    assert_eq!(pair.client.open_channel(), Ok(ChannelId(2)));
    let refused = pair.client.open_channel().unwrap_err();
    assert_eq!((refused.code.0, refused.method), (530, ChannelOpen::ID));
    pair.exchange();
    assert!(!pair.broker.is_closing());

    pair.inject_method(Side::Client, 3, ChannelOpen::default());
    let Some(Event::Closed(Cause::ClosedByPeer(reason))) = pair.client_events.last() else {
        panic!("{:?}", pair.client_events)
    };
    assert_eq!((reason.code.0, reason.method), (530, MethodId::NONE));
}

#[test]
fn a_lane_opens_with_its_open_ok() {
    // CHAN-1, CHAN-2: no method goes before it, and our own mistake is told with its channel.
    let mut pair = Pair::open();
    let channel = pair.client.open_channel().unwrap();
    let early = pair.client.send(channel, BasicQos::default()).unwrap_err();
    assert_eq!(early.to_string(), "CHANNEL_ERROR - channel 2 is not open");
    assert_eq!((early.blame, early.channel), (Blame::Ours, channel));
    pair.exchange();
    pair.client.send(channel, BasicQos::default()).unwrap();
}

#[test]
fn a_number_that_is_closing_cannot_be_opened() {
    // CHAN-3: the broker's close is out, the client's close-ok is not here.
    let mut pair = Pair::open();
    let reason = CloseReason::goodbye();
    pair.broker.close_channel(ChannelId(1), &reason).unwrap();
    let twice = pair.broker.close_channel(ChannelId(1), &reason);
    assert_eq!(twice.unwrap_err().code.0, 504);
    let mut open = frame(1, ChannelOpen::default());
    pair.broker.receive(&mut open);
    assert_eq!(
        pair.broker.poll_event(),
        Some(Event::ChannelClosed(ChannelId(1), Cause::ClosedHere))
    );
    let Some(Event::Closed(Cause::Violation(violation))) = pair.broker.poll_event() else {
        panic!("the number is not free")
    };
    assert_eq!((violation.code.0, violation.method), (504, ChannelOpen::ID));
}

#[test]
fn a_content_of_the_wrong_side_is_refused() {
    // METH-4: a delivery to a broker, a publish to a client; 503 with the method at fault.
    let methods: [(Side, Method); 2] = [
        (Side::Client, BasicDeliver::default().into()),
        (Side::Broker, BasicPublish::default().into()),
    ];
    for (side, method) in methods {
        let mut pair = Pair::open();
        let header = ContentHeader {
            class_id: BASIC_CLASS,
            ..Default::default()
        };
        pair.inject_method(side, 1, method.clone());
        pair.inject_frame(side, 1, Payload::Header(header));
        let events = match side {
            Side::Client => &pair.broker_events,
            Side::Broker => &pair.client_events,
        };
        let [Event::Closed(Cause::Violation(violation))] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((violation.code.0, violation.method), (503, method.id()));
    }
}

#[test]
fn a_reason_is_told_with_its_code_and_its_method() {
    // ERR-3, ERR-4, ERR-9
    let text = "no queue 'absent' in vhost '/'";
    let reason = CloseReason::new(ReplyCode::NOT_FOUND, text, BasicConsume::ID);
    assert_eq!(
        reason.to_string(),
        format!("404 NOT_FOUND - {text} [basic.consume (60.20)]")
    );
    let goodbye = CloseReason::goodbye();
    assert_eq!(goodbye.to_string(), "200 Goodbye");
    let not_found = Cause::ClosedByPeer(reason);
    assert_eq!(not_found.code(), Some(ReplyCode::NOT_FOUND));
    assert_eq!(Cause::EndOfStream.code(), None);
    let mut pair = Pair::open();
    pair.inject_method(Side::Client, 1, ConnectionClose::default());
    let [Event::Closed(cause)] = &pair.broker_events[..] else {
        panic!("{:?}", pair.broker_events)
    };
    assert_eq!(cause.code(), Some(ReplyCode::COMMAND_INVALID));
    let says = "the peer broke a rule: COMMAND_INVALID - unimplemented method";
    assert_eq!(cause.to_string(), says);
}

#[test]
fn silence_is_no_proof_while_nobody_listens() {
    // HB-4: a driver whose user is slow stops reading, and says so.
    let mut pair = Pair::open();
    pair.client.watch(false);
    pair.pass(Duration::from_mins(1)); // both send a heartbeat
    pair.client.tick(pair.now + Duration::from_mins(5));
    assert!(!pair.client.is_over());
    pair.client.watch(true);
    pair.client.tick(pair.now + Duration::from_mins(7));
    assert!(pair.client.is_over());
}

#[test]
fn a_deadline_is_the_next_thing_to_do() {
    // CONN-17, HB-1, HB-4, CLOSE-8: the handshake's end, then half an interval, then what a close-ok may take.
    let mut pair = Pair::new(ClientConfig::default(), ServerConfig::default());
    let begin = pair.now;
    let after = |seconds| Some(begin + Duration::from_secs(seconds));
    assert_eq!(pair.client.deadline(), after(10));
    pair.exchange();
    assert_eq!(pair.client.deadline(), after(30));
    pair.client.close(&CloseReason::goodbye());
    assert_eq!(pair.client.deadline(), after(10));
    pair.client.end(Cause::EndOfStream);
    assert_eq!(pair.client.deadline(), None);
    assert_eq!(
        [pair.client.poll_event(), pair.client.poll_event()],
        [Some(Event::Closed(Cause::ClosedHere)), None],
        "that the stream ends after a close is no news"
    );
}

#[test]
fn headers_that_wait_for_their_bodies_are_bounded() {
    // SEC-8, SEC-17: 30 thousand entries are 60 KiB on the wire and more than 2 MiB in memory; 4 MiB are the limit.
    let mut pair = Pair::open();
    pair.client.open_channel().unwrap();
    pair.exchange();
    let entries = vec![(ShortString::EMPTY, FieldValue::Void); 30_000];
    let header = ContentHeader {
        class_id: BASIC_CLASS,
        body_size: 1,
        properties: Box::new(Properties {
            headers: Some(FieldTable(entries)),
            ..Default::default()
        }),
    };
    for (channel, closes) in [(1, false), (2, true)] {
        pair.inject_method(Side::Client, channel, BasicPublish::default());
        pair.inject_frame(Side::Client, channel, Payload::Header(header.clone()));
        assert_eq!(pair.broker.is_closing(), closes, "channel {channel}");
    }
    let Some(Event::Closed(Cause::ClosedByPeer(reason))) = pair.client_events.last() else {
        panic!("{:?}", pair.client_events)
    };
    assert_eq!(reason.code, ReplyCode::RESOURCE_ERROR);
}

#[test]
fn a_closing_connection_hears_its_close_ok_alone() {
    // CLOSE-2, CLOSE-3: behind a payload that is wrong it is still a close-ok, and on another channel it is none.
    let mut pair = Pair::open();
    pair.client.close(&CloseReason::goodbye());
    let mut inbound = frame(1, ConnectionCloseOk {});
    while pair.client.receive(&mut inbound) {}
    assert!(!pair.client.is_over());
    inbound.extend_from_slice(&[1, 0, 1, 0, 0, 0, 1, 0x55, 0xce]);
    inbound.extend_from_slice(&frame(0, ConnectionCloseOk {}));
    while pair.client.receive(&mut inbound) {}
    assert!(pair.client.is_over());
    let only = Event::Closed(Cause::ClosedHere);
    assert_eq!(
        [pair.client.poll_event(), pair.client.poll_event()],
        [Some(only), None]
    );
}

#[test]
fn a_header_larger_than_a_frame_is_heard_by_a_client_alone() {
    // FRAME-19, CONTENT-15: RabbitMQ never splits one, so a client takes up to a MiB; a broker keeps to what was agreed.
    for side in [Side::Client, Side::Broker] {
        let mut config = ClientConfig::default();
        config.tuning.frame_max = 4096;
        let mut pair = Pair::new(config, ServerConfig::default());
        pair.exchange();
        pair.client.open_channel().unwrap();
        pair.exchange();
        let text = LongString::from(vec![b'x'; 5000]);
        let header = ContentHeader {
            class_id: BASIC_CLASS,
            properties: Box::new(Properties {
                headers: Some(FieldTable(vec![(short!("k"), text.into())])),
                ..Default::default()
            }),
            ..Default::default()
        };
        let method = match side {
            Side::Client => Method::from(BasicPublish::default()),
            Side::Broker => BasicDeliver::default().into(),
        };
        pair.inject_method(side, 1, method);
        pair.inject_frame(side, 1, Payload::Header(header));
        let last = match side {
            Side::Client => pair.broker_events.last(),
            Side::Broker => pair.client_events.last(),
        };
        match (side, last) {
            (Side::Broker, Some(Event::Content(..))) => {}
            (Side::Client, Some(Event::Closed(Cause::Violation(v)))) => assert_eq!(v.code.0, 501),
            (_, other) => panic!("{side:?} sent it, and heard was {other:?}"),
        }
    }
}

#[test]
fn a_broken_envelope_does_not_end_a_wait_for_close_ok() {
    // FRAME-13, CLOSE-8: nothing can be read any more, and what was said is still on its way.
    let mut pair = Pair::open();
    pair.client.close(&CloseReason::goodbye());
    let mut inbound = BytesMut::from(&b"\x08\0\0\0\0\0\0\0"[..]);
    while pair.client.receive(&mut inbound) {}
    assert!(inbound.is_empty() && pair.client.is_closing() && !pair.client.is_over());
    pair.client.tick(pair.now + Duration::from_secs(10));
    assert!(pair.client.is_over());
}
