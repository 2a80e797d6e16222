//! What went wrong elsewhere, by the name it was reported under. Each of these made some client or broker allocate,
//! loop or panic because of octets that anybody can send. SEC-11
//!
//! Two of the reports are of AMQP 1.0, whose frame has a size in front as well; what is tested is the same mistake in a
//! frame of ours.

use std::time::Instant;

use amqp_rpc::{
    broker::Broker,
    client::{ConnectOptions, Connection},
    codec::*,
    protocol::{Cause, ClientConfig, Connection as Core, Tuning},
    short,
};
use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

use super::{
    KIB, MIB, Meter,
    octets::*,
    peer::{self, Peer},
    raw::{Ending, Raw},
    run, run_paused,
};

/// What a client closes with when a broker, on an open connection with frame-max 4096 and channel 1, says this. The
/// client must not take more than 300 KiB for it, both ends of the pipe and the read buffer included.
async fn answer_of_a_client(meter: &mut Meter, octets: &[u8]) -> ReplyCode {
    let options = ConnectOptions::default().frame_max(4096);
    let (connection, mut peer) = Peer::pair(options, 64 * KIB).await;
    let _channel = peer.serving(connection.open_channel()).await.unwrap();
    meter.restart();
    peer.say(BytesMut::from(octets)).await;
    let close = peer.connection_close().await;
    meter.assert_peak(300 * KIB, format!("answered by {}", close.reply_code));
    peer.say(peer::method(0, ConnectionCloseOk::default()))
        .await;
    assert_eq!(connection.closed().await.code(), Some(close.reply_code));
    close.reply_code
}

/// What a broker closes with when a client says this on channel 1, and that it goes on for everybody else.
async fn answer_of_a_broker(meter: &mut Meter, octets: &[u8]) -> ReplyCode {
    let broker = Broker::start().await.unwrap();
    let other = Connection::open(&broker.uri()).await.unwrap();
    let channel = other.open_channel().await.unwrap();
    let mut raw = Raw::open(&broker.uri()).await;
    meter.restart();
    raw.send(octets).await;
    let Ending::Connection(reason) = raw.ending().await else {
        panic!("a hard error")
    };
    meter.assert_peak(300 * KIB, format!("answered by {reason}"));
    channel
        .queue_declare(QueueDeclare::default())
        .await
        .unwrap();
    reason.code
}

/// What is wrong with the frame that these octets are.
fn decode_error(octets: &[u8]) -> DecodeError {
    let decoded = FrameDecoder::new().decode(&mut BytesMut::from(octets));
    decoded.unwrap_err().error
}

#[test]
fn cve_2026_79921_body_frames_above_frame_max() {
    // amqp091-go before 1.13: body frames above the frame-max that was agreed were allocated and taken. FRAME-6
    run_paused(async {
        let mut meter = Meter::start();
        let mut before = peer::method(1, BasicDeliver::default());
        before.extend_from_slice(&header(1, 10 * MIB as u64));
        for size in [4097, 131_072, 1 << 20, u32::MAX] {
            let lie = [&before[..], &announcement(3, 1, size)].concat();
            let code = answer_of_a_client(&mut meter, &lie).await;
            assert_eq!(code, ReplyCode::FRAME_ERROR, "{size}");
        }
    });
}

#[test]
fn cve_2026_79921_before_the_tuning() {
    // The fix of 1.13 held from connection.tune on, and 1.14 had to do the same for the time before it. FRAME-8
    run_paused(async {
        let mut meter = Meter::start();
        let (near, far) = tokio::io::duplex(64 * KIB);
        let (reader, writer) = tokio::io::split(near);
        let mut peer = Peer::new(far);
        meter.restart();
        let start = announcement(1, 0, 4097);
        let opening = Connection::over(reader, writer, ConnectOptions::default());
        let (opened, _) = tokio::join!(opening, peer.writer.write_all(&start));
        assert_eq!(peer::cause(opened).code(), Some(ReplyCode::FRAME_ERROR));
        meter.assert_peak(64 * KIB, "4097 octets before the tuning");
    });
}

#[test]
fn cve_2026_77403_frame_max_below_4096() {
    // amqp091-go before 1.13: a broker that offers a frame-max of 9 gets each octet in a frame of its own. TUNE-5
    let _meter = Meter::start();
    for frame_max in [1, 8, 9, 4095] {
        let tune = ConnectionTune {
            channel_max: 0,
            frame_max,
            heartbeat: 0,
        };
        let refused = Tuning::default().negotiate(&tune).unwrap_err();
        assert_eq!(
            refused,
            format!("frame_max={frame_max} is lower than the minimum of 4096")
        );

        let mut core = Core::client(ClientConfig::default(), Instant::now());
        let start = ConnectionStart {
            version_minor: 9,
            mechanisms: "PLAIN".into(),
            ..Default::default()
        };
        let mut inbound = method(0, start);
        inbound.extend_from_slice(&method(0, tune));
        while core.receive(&mut inbound) {}
        assert!(core.is_over(), "nothing more is said to it");

        // And the other way round: a client that answers with so little. TUNE-4
        let tune_ok = ConnectionTuneOk {
            channel_max: 1,
            frame_max,
            heartbeat: 0,
        };
        assert!(Tuning::default().accept(&tune_ok).is_err());
    }
    let tune = ConnectionTune {
        channel_max: 0,
        frame_max: 4096,
        heartbeat: 0,
    };
    assert_eq!(Tuning::default().negotiate(&tune).unwrap().frame_max, 4096);
}

#[test]
fn cve_2023_46120_a_body_without_a_limit() {
    // The Java client before 5.18: a delivery was collected however much was announced. SEC-5, SEC-16
    run_paused(async {
        let mut meter = Meter::start();
        let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 64 * KIB).await;
        let channel = peer.serving(connection.open_channel()).await.unwrap();
        let mut consumer = peer.serving(channel.consume("q")).await.unwrap();
        let deliver = BasicDeliver {
            consumer_tag: consumer.tag().clone(),
            ..Default::default()
        };
        let piece = body(1, &[b'x'; 4 * KIB]);
        meter.restart();
        peer.say(peer::method(1, deliver)).await;
        peer.say(header(1, 64 << 30)).await;
        let close = peer.channel_close().await;
        assert_eq!(close.reply_code, ReplyCode::PRECONDITION_FAILED);
        assert!(
            consumer.next().await.unwrap().is_err(),
            "its user hears it too"
        );
        for _ in 0..4 * KIB {
            peer.writer.write_all(&piece).await.unwrap();
        }
        meter.assert_peak(300 * KIB, "16 of the 64 GiB that were announced, in MiB");
        assert!(connection.cause().is_none());
    });
}

#[test]
fn java_client_2013_a_body_size_that_is_negative_as_a_signed_number() {
    // rabbitmq-java-client#2013: -1 is less than any limit. PROP-10
    run_paused(async {
        let _meter = Meter::start();
        let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 64 * KIB).await;
        let _channel = peer.serving(connection.open_channel()).await.unwrap();
        peer.say(peer::method(1, BasicDeliver::default())).await;
        peer.say(header(1, u64::MAX)).await;
        let close = peer.channel_close().await;
        let text = close.reply_text.to_string();
        assert!(
            text.contains("message size 18446744073709551615 is larger"),
            "{text}"
        );
    });
}

#[test]
fn mockforge_751_four_gib_from_one_header_before_login() {
    // A broker for tests, in Rust: `vec![0; size]` with the size of a stranger's first frame. SEC-1, SEC-7
    run(async {
        let mut meter = Meter::start();
        let broker = Broker::start().await.unwrap();
        Connection::open(&broker.uri())
            .await
            .unwrap()
            .close()
            .await
            .unwrap();
        meter.restart();
        for _ in 0..20 {
            let mut raw = Raw::greeted(&broker.uri()).await;
            raw.send(&announcement(1, 0, u32::MAX)).await;
            raw.hung_up().await; // CONN-12: without a word
        }
        meter.assert_peak(64 * KIB, "twenty times 4 GiB");
        Connection::open(&broker.uri())
            .await
            .unwrap()
            .close()
            .await
            .unwrap();
    });
}

#[test]
fn kourier_63_a_size_with_its_high_bit_and_a_body_that_is_too_long() {
    // A client in Kotlin: 0x80000000 is negative as a signed integer, and a body was never compared with its header.
    // FRAME-6, CONTENT-5
    run_paused(async {
        let mut meter = Meter::start();
        let high_bit = announcement(1, 1, 1 << 31);
        assert_eq!(
            answer_of_a_client(&mut meter, &high_bit).await,
            ReplyCode::FRAME_ERROR
        );
        let mut too_long = peer::method(1, BasicDeliver::default());
        too_long.extend_from_slice(&header(1, 3));
        too_long.extend_from_slice(&body(1, b"four"));
        assert_eq!(
            answer_of_a_client(&mut meter, &too_long).await,
            ReplyCode::FRAME_ERROR
        );
    });
}

#[test]
fn kourier_65_a_size_that_is_not_that_of_what_is_inside() {
    // TYPE-2, TYPE-12: an octet more than the arguments have, and one less.
    run_paused(async {
        let mut meter = Meter::start();
        let payload = b"\0\x3c\0\x1e\x01t\0"; // basic.cancel "t"
        let mut more = payload.to_vec();
        more.push(0);
        for payload in [&more[..], &payload[..payload.len() - 1]] {
            let code = answer_of_a_client(&mut meter, &envelope(1, 1, payload)).await;
            assert_eq!(code, ReplyCode::FRAME_ERROR);
        }
    });
}

#[test]
fn rabbitmq_c_579_a_size_to_which_eight_cannot_be_added() {
    // The size and its envelope overflowed 32 bits, and a buffer of a few octets was made for 4 GiB. SEC-12
    run(async {
        let mut meter = Meter::start();
        for size in [u32::MAX, u32::MAX - 7, u32::MAX - 8, i32::MAX as u32] {
            let octets = announcement(3, 1, size);
            assert_eq!(
                answer_of_a_broker(&mut meter, &octets).await,
                ReplyCode::FRAME_ERROR,
                "{size}"
            );
        }
    });
}

#[test]
fn rabbitmq_c_878_a_payload_that_is_too_short_for_what_it_is() {
    // The other end of the same subtraction: a method of less than four octets, a header of less than fourteen. TYPE-2
    run(async {
        let mut meter = Meter::start();
        for (kind, most) in [(1, 3), (2, 13)] {
            for octets in 0..=most {
                let error = decode_error(&envelope(kind, 1, &vec![0; octets]));
                assert_eq!(error, DecodeError::Truncated, "{kind}, {octets}");
            }
            let shortest = envelope(kind, 1, b"");
            assert_eq!(
                answer_of_a_broker(&mut meter, &shortest).await,
                ReplyCode::FRAME_ERROR
            );
        }
    });
}

#[test]
fn rabbitmq_server_17101_a_malformed_frame_is_answered_and_is_no_crash() {
    // AMQP 1.0 there: a malformed frame header ended the process of its connection, and the client heard nothing.
    // ERR-2, FRAME-3, FRAME-4
    run(async {
        let mut meter = Meter::start();
        let mut no_end = method(1, BasicQos::default()).to_vec();
        *no_end.last_mut().unwrap() = 0;
        for octets in [
            no_end,
            envelope(4, 1, b""),
            envelope(8, 1, b""),
            envelope(8, 0, b"x"),
            envelope(1, 1, &[0xff; 4]),
        ] {
            let code = answer_of_a_broker(&mut meter, &octets).await;
            assert!(
                matches!(code, ReplyCode::FRAME_ERROR | ReplyCode::NOT_IMPLEMENTED),
                "{code}"
            );
        }
    });
}

#[test]
fn rabbitmq_server_17371_the_size_is_checked_before_the_frame_is_collected() {
    // AMQP 1.0 there: a client went on buffering a frame whose size it had not compared with anything. FRAME-6
    run_paused(async {
        let mut meter = Meter::start();
        let frame_max = 4096;
        let mut lie = announcement(3, 1, frame_max + 1).to_vec();
        lie.extend([b'x'; 4 * KIB]);
        assert_eq!(
            answer_of_a_client(&mut meter, &lie).await,
            ReplyCode::FRAME_ERROR
        );
    });
}

#[test]
fn amqprs_an_unknown_field_type_is_no_panic() {
    // amqprs has a `panic!` in the arm for a letter that it does not know. TABLE-4
    run_paused(async {
        let mut meter = Meter::start();
        let known = *b"tbBsuIilLfdDSATFVx";
        for tag in (0..=u8::MAX).filter(|tag| !known.contains(tag)) {
            let octets = header_with(1, 0, &[0, tag, 0, 0, 0, 0]);
            assert_eq!(decode_error(&octets), DecodeError::FieldType(tag));
        }
        // In server-properties, where nobody has logged in yet, and in a delivery.
        let mut delivery = peer::method(1, BasicDeliver::default());
        delivery.extend_from_slice(&header_with(1, 0, b"\x01kU\0\0"));
        assert_eq!(
            answer_of_a_client(&mut meter, &delivery).await,
            ReplyCode::SYNTAX_ERROR
        );
        let start = envelope(
            1,
            0,
            &[&b"\0\x0a\0\x0a\0\x09"[..], &table(b"\x01kU\0\0"), &[0; 8]].concat(),
        );
        let mut core = Core::client(ClientConfig::default(), Instant::now());
        while core.receive(&mut BytesMut::from(&start[..])) {}
        assert!(core.is_over());
    });
}

#[test]
fn puka_18_and_node_amqp_83_a_poison_field_type_in_a_header() {
    // A message whose header a client cannot read comes back for ever, and no client can clear it away. Here no such
    // message gets into a queue: the broker reads the header, and refuses its publisher. TABLE-4
    run(async {
        let mut meter = Meter::start();
        let mut poison = method(
            1,
            BasicPublish {
                routing_key: short!("q"),
                ..Default::default()
            },
        );
        poison.extend_from_slice(&header_with(1, 0, b"\x01kU\0\0"));
        assert_eq!(
            answer_of_a_broker(&mut meter, &poison).await,
            ReplyCode::SYNTAX_ERROR
        );

        let broker = Broker::start().await.unwrap();
        let connection = Connection::open(&broker.uri()).await.unwrap();
        let channel = connection.open_channel().await.unwrap();
        let q = || QueueDeclare {
            queue: short!("q"),
            ..Default::default()
        };
        channel.queue_declare(q()).await.unwrap();
        let mut raw = Raw::open(&broker.uri()).await;
        raw.send(&poison).await;
        assert!(matches!(raw.ending().await, Ending::Connection(_)));
        assert_eq!(channel.queue_declare(q()).await.unwrap().message_count, 0);
        channel.publish("", "q", "hi").await.unwrap();
        assert_eq!(
            channel.get("q").await.unwrap().unwrap().delivery.body(),
            b"hi"
        );
    });
}

#[test]
fn node_amqp_271_the_decoder_keeps_to_the_frame_max_that_was_agreed() {
    // Its parser had a limit of its own, whatever was agreed: too much was taken, and too little. FRAME-6, FRAME-8
    let _meter = Meter::start();
    for frame_max in [4096, 8192, 131_072, 1 << 20] {
        let mut decoder = FrameDecoder::new();
        decoder.set_limits(frame_max, 0);
        let longest = body(1, &vec![b'x'; frame_max as usize]);
        let decoded = decoder
            .decode(&mut BytesMut::from(&longest[..]))
            .unwrap()
            .unwrap();
        assert!(
            matches!(decoded.payload, Payload::Body(octets) if octets.len() == frame_max as usize)
        );
        let error = decoder.decode(&mut BytesMut::from(&announcement(3, 1, frame_max + 1)[..]));
        assert!(matches!(
            error.unwrap_err().error,
            DecodeError::FrameTooLarge { .. }
        ));
    }
}

#[test]
fn streadway_489_bunny_603_lapin_157_a_consumer_that_is_slower_than_its_broker() {
    const DELIVERIES: u64 = 10_000;
    // Buffers without a bound between the socket and a consumer (also streadway/amqp#149 and #272, amqpstorm#76,
    // rabbitmq-java-client#24): here the socket is not read beyond a bound, and nothing is lost. CONS-7
    run_paused(async {
        let mut meter = Meter::start();
        let options = ConnectOptions::default()
            .consumer_octets(256 * KIB)
            .heartbeat(0);
        let (connection, mut peer) = Peer::pair(options, 64 * KIB).await;
        let channel = peer.serving(connection.open_channel()).await.unwrap();
        let consume = BasicConsume {
            queue: short!("q"),
            ..Default::default()
        };
        let mut consumer = peer.serving(channel.consume_no_ack(consume)).await.unwrap();
        let tag = consumer.tag().clone();
        meter.restart();
        let mut writer = peer.writer;
        let fast = tokio::spawn(async move {
            for number in 1..=DELIVERIES {
                let one = peer::delivery(&tag, number, &number.to_be_bytes());
                writer.write_all(&one).await.unwrap();
            }
            writer
        });
        let mut slow = tokio::time::interval(std::time::Duration::from_millis(1));
        for number in 1..=DELIVERIES {
            slow.tick().await;
            let received = consumer.next().await.unwrap().unwrap();
            assert_eq!(received.body(), number.to_be_bytes());
        }
        meter.assert_peak(
            MIB,
            "10,000 deliveries to a consumer that takes one in a millisecond",
        );
        let _writer = fast.await.unwrap();
        assert!(!matches!(connection.cause(), Some(Cause::Violation(_))));
    });
}
