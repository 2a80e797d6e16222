//! A client that has logged in: frames, contents and channels without end, and answers that it does not read.

use std::time::{Duration, Instant};

use amqp_rpc::{
    broker::{Broker, BrokerOptions, VhostOptions},
    client::Connection,
    codec::*,
    protocol::{ClientConfig, Connection as Core, ServerConfig, Tuning},
    short,
};
use bytes::BytesMut;
use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};

use super::{
    KIB, MIB, Meter,
    octets::*,
    raw::{CHANNEL, Ending, Raw, TUNE_OK},
    run, run_paused,
};

/// A broker's core with an open connection, and what it has said since.
struct Open {
    core: Core,
    said: BytesMut,
}

impl Open {
    fn new(config: ServerConfig) -> Self {
        let now = Instant::now();
        let client = ClientConfig {
            tuning: Tuning {
                channel_max: 0,
                frame_max: 131_072,
                heartbeat: 0,
            },
            ..Default::default()
        };
        let (mut client, mut core) = (Core::client(client, now), Core::server(config, now));
        let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
        for _ in 0..4 {
            client.transmit(&mut up);
            while core.receive(&mut up) {}
            core.transmit(&mut down);
            while client.receive(&mut down) {}
        }
        while core.poll_event().is_some() {}
        assert!(core.is_open());
        Self {
            core,
            said: BytesMut::new(),
        }
    }

    /// A client says this, in a read buffer of its own each time: a slice of it would keep all of it.
    fn hear(&mut self, octets: &[u8]) {
        let mut inbound = BytesMut::with_capacity(64 * KIB);
        for piece in octets.chunks(64 * KIB) {
            inbound.extend_from_slice(piece);
            while self.core.receive(&mut inbound) {
                while self.core.poll_event().is_some() {}
            }
        }
        while self.core.poll_event().is_some() {}
        self.core.transmit(&mut self.said);
    }

    /// The method that came last.
    fn last(&mut self) -> Method {
        let mut decoder = FrameDecoder::new();
        decoder.set_limits(131_072, 0);
        let mut last = None;
        while let Some(frame) = decoder.decode(&mut self.said).unwrap() {
            last = Some(frame.payload);
        }
        match last {
            Some(Payload::Method(method)) => method,
            other => panic!("{other:?}"),
        }
    }

    fn assert_closed(&mut self, code: ReplyCode, text: &str) {
        match self.last() {
            Method::ConnectionClose(close) => {
                assert_eq!(close.reply_code, code);
                let said = close.reply_text.to_string();
                assert!(said.contains(text), "{said}");
            }
            other => panic!("expected connection.close, got {other}"),
        }
    }
}

/// As many channels as one connection can have, each with what it takes beside its consumers and messages: a place in a
/// map of the core, and one in the vhost's.
const CHANNEL_COST: usize = KIB;

#[test]
fn sixty_five_thousand_channels() {
    // CHAN-4, TUNE-8, SEC-8: the broker offers 2047, and one more is 530; also when it offers as many as there can be.
    let mut meter = Meter::start();
    for (channel_max, opens) in [(2047, 2047), (100, 100), (0, 65_535)] {
        let tuning = Tuning {
            channel_max,
            ..Tuning::default()
        };
        let mut open = Open::new(ServerConfig {
            tuning,
            ..Default::default()
        });
        meter.restart();
        for channel in 1..=opens {
            open.hear(&method(channel, ChannelOpen::default()));
            open.said.clear();
        }
        let peak = meter.peak() / usize::from(opens);
        println!("{opens} channels, {peak} octets each");
        meter.assert_peak(
            usize::from(opens) * CHANNEL_COST,
            format!("{opens} channels"),
        );
        assert!(!open.core.is_closing());
        match channel_max {
            0 => {
                open.hear(&method(1, ChannelOpen::default()));
                open.assert_closed(ReplyCode::CHANNEL_ERROR, "second 'channel.open' seen");
            }
            most => {
                open.hear(&method(opens + 1, ChannelOpen::default()));
                let text = format!(
                    "number of channels opened ({most}) has reached the negotiated channel_max ({most})"
                );
                open.assert_closed(ReplyCode::NOT_ALLOWED, &text);
            }
        }
        meter.assert_kept(64 * KIB, "they are gone with their connection");
    }
}

#[test]
fn a_header_that_announces_two_to_the_sixty_third_octets() {
    // SEC-5, SEC-6, PROP-10: refused where it is announced, and what is sent all the same is swallowed.
    let mut meter = Meter::start();
    for size in [16 * MIB as u64 + 1, 1 << 32, 1 << 63, u64::MAX] {
        let mut open = Open::new(ServerConfig::default());
        open.hear(&method(1, ChannelOpen::default()));
        open.hear(&method(2, ChannelOpen::default()));
        let piece = body(1, &[b'x'; 4 * KIB]);
        open.said.clear();
        meter.restart();
        open.hear(&method(1, BasicPublish::default()));
        open.hear(&header(1, size));
        let Method::ChannelClose(close) = open.last() else {
            panic!("a close of the channel")
        };
        assert_eq!(close.reply_code, ReplyCode::PRECONDITION_FAILED);
        let text = format!("message size {size} is larger than configured max size 16777216");
        assert_eq!(
            close.reply_text.to_string(),
            format!("PRECONDITION_FAILED - {text}")
        );
        for _ in 0..256 {
            open.hear(&piece);
        }
        meter.assert_peak(
            80 * KIB,
            format!("a body of {size} octets, a mebibyte of which came"),
        );
        open.hear(&method(2, ConfirmSelect::default()));
        assert!(!open.core.is_closing(), "the other channel goes on");
    }
}

#[test]
fn contents_that_are_never_finished() {
    // SEC-8: four bodies of the largest size, however they are spread; a vector that grows is there twice for a moment.
    let mut meter = Meter::start();
    let limit = MIB;
    let piece = body(1, &vec![b'x'; 64 * KIB]);
    for (what, first) in [
        ("64 KiB at a time", 64 * KIB),
        ("an octet less than all", limit - 1),
    ] {
        let mut open = Open::new(ServerConfig {
            body_limit: limit as u64,
            ..Default::default()
        });
        for channel in 1..=100 {
            open.hear(&method(channel, ChannelOpen::default()));
        }
        open.said.clear();
        meter.restart();
        let mut last = 0;
        'flood: for channel in 1..=100_u16 {
            open.hear(&method(channel, BasicPublish::default()));
            open.hear(&header(channel, limit as u64));
            let mut piece = piece.clone();
            piece[1..3].copy_from_slice(&channel.to_be_bytes());
            for _ in 0..first / (64 * KIB) {
                last = channel;
                open.hear(&piece);
                if open.core.is_closing() {
                    break 'flood;
                }
            }
        }
        assert!(open.core.is_closing());
        meter.assert_peak(
            5 * limit + 200 * KIB,
            format!("{what}, until channel {last}"),
        );
        let text = format!("the last on channel {last}");
        open.assert_closed(ReplyCode::RESOURCE_ERROR, &text);
        meter.assert_kept(80 * KIB, "a connection that is closing keeps none of it");
    }
}

#[test]
fn one_octet_on_each_of_two_thousand_channels() {
    // SEC-8: as slices of 2047 read buffers they would keep 128 MiB.
    let meter = Meter::start();
    let mut open = Open::new(ServerConfig::default());
    for channel in 1..=2047 {
        open.hear(&method(channel, ChannelOpen::default()));
        open.hear(&method(
            channel,
            BasicPublish {
                routing_key: short!("k"),
                ..Default::default()
            },
        ));
        open.hear(&header(channel, 2));
        open.hear(&body(channel, b"x"));
        open.said.clear();
    }
    assert!(!open.core.is_closing(), "all of it is legal");
    meter.assert_peak(
        2047 * 2 * KIB + 80 * KIB,
        "2047 contents of which one octet has come",
    );
}

#[test]
fn headers_without_their_bodies() {
    // SEC-8, SEC-17: a header of 128 KiB may take 80 times as much, and each channel may have one.
    let mut meter = Meter::start();
    let large = smallest_entries(32 * KIB);
    let small = smallest_entries(KIB);
    for entries in [large, small] {
        let mut open = Open::new(ServerConfig::default());
        meter.restart();
        let closed = (1..=2047).find(|&channel| {
            open.hear(&method(channel, ChannelOpen::default()));
            open.hear(&method(channel, BasicPublish::default()));
            open.hear(&header_with(channel, 1, &entries));
            open.core.is_closing()
        });
        let closed = closed.expect("a limit");
        // 4 MiB, and the one that is too much while it is read.
        meter.assert_peak(
            4 * MIB + 120 * entries.len() + 600 * KIB,
            format!("{closed} headers"),
        );
        open.assert_closed(ReplyCode::RESOURCE_ERROR, "unfinished contents take");
    }
}

#[test]
fn headers_on_channels_that_are_closing() {
    // SEC-6, CHAN-8: what is swallowed is not kept, neither body nor header, and it is not counted.
    let mut meter = Meter::start();
    let entries = smallest_entries(32 * KIB);
    let mut open = Open::new(ServerConfig::default());
    for channel in 1..=50 {
        open.hear(&method(channel, ChannelOpen::default()));
        open.hear(&method(channel, BasicPublish::default()));
        open.hear(&header(channel, u64::MAX)); // 406, and no close-ok from here
        open.hear(&body(channel, b""));
    }
    open.said.clear();
    meter.restart();
    for channel in 51..=100 {
        open.hear(&method(channel, ChannelOpen::default()));
        open.core
            .close_channel(
                ChannelId(channel),
                &amqp_rpc::protocol::CloseReason::new(ReplyCode::NOT_FOUND, "x", MethodId::NONE),
            )
            .unwrap();
        open.hear(&method(channel, BasicPublish::default()));
        open.hear(&header_with(channel, 1, &entries));
        open.said.clear();
    }
    meter.assert_kept(100 * KIB, "50 headers of 2.6 MiB that nobody wants");
    assert!(!open.core.is_closing());
}

#[test]
fn frames_that_bring_nothing_forward() {
    // SEC-9, CONTENT-6
    let mut meter = Meter::start();
    let mut open = Open::new(ServerConfig::default());
    open.hear(&method(1, ChannelOpen::default()));
    open.hear(&method(1, BasicPublish::default()));
    open.hear(&header(1, 1));
    let (beats, empty) = (heartbeats(MIB / 8), body(1, b"").repeat(MIB / 8));
    meter.restart();
    open.hear(&beats);
    open.hear(&empty);
    meter.assert_peak(80 * KIB, "131,072 heartbeats and as many empty bodies");
    open.hear(&body(1, b"x"));
    assert!(!open.core.is_closing());
}

async fn assert_good(broker: &Broker) {
    let connection = Connection::open(&broker.uri()).await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    let own = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    let queue = channel.queue_declare(own).await.unwrap().queue;
    channel.publish("", queue.clone(), "hi").await.unwrap();
    assert_eq!(
        channel.get(queue).await.unwrap().unwrap().delivery.body(),
        b"hi"
    );
    connection.close().await.unwrap();
}

#[test]
fn a_client_that_asks_and_never_reads() {
    // SEC-10: 256 KiB of answers wait and the one in hand; then it is not read, and after a minute it is dropped.
    run_paused(async {
        let mut meter = Meter::start();
        let broker = Broker::start().await.unwrap();
        let other = broker.connect().await.unwrap();
        let channel = other.open_channel().await.unwrap();
        let own = QueueDeclare {
            queue: short!("q"),
            ..Default::default()
        };
        channel.queue_declare(own).await.unwrap();
        channel.publish("", "q", vec![b'x'; MIB]).await.unwrap();
        // The message is taken, given back, taken again.
        let mut asks = method(
            1,
            BasicGet {
                queue: short!("q"),
                ..Default::default()
            },
        );
        let all = BasicNack {
            requeue: true,
            multiple: true,
            ..Default::default()
        };
        asks.extend_from_slice(&method(1, all));
        let asks = asks.repeat(256);
        let (reader, mut writer) = Raw::open(&broker.uri()).await.split();
        meter.restart();
        let flood = async {
            let mut asked = 0;
            while writer.write_all(&asks).await.is_ok() {
                asked += 256;
            }
            asked
        };
        let limit = Duration::from_mins(10);
        let asked = timeout(limit, flood).await.expect("it is dropped");
        // The message in the queue is there already; the pipe in between is the kernel's.
        meter.assert_peak(4 * MIB, format!("asked {asked} times for a mebibyte"));
        drop((reader, writer));
        assert_good(&broker).await;
    });
}

#[test]
fn a_burst_of_large_answers_is_answered_to_the_end() {
    // SEC-10: whoever is not read because 256 KiB wait for it is read again as soon as the socket has taken them, also
    // when it takes all at once and nothing else happens on the connection.
    run(async {
        let _meter = Meter::start();
        let broker = Broker::start().await.unwrap();
        let mut raw = Raw::open(&broker.uri()).await;
        raw.ask(QueueDeclare {
            queue: short!("q"),
            ..Default::default()
        })
        .await;
        let to = || BasicPublish {
            routing_key: short!("q"),
            ..Default::default()
        };
        for _ in 0..3 {
            let mut octets = method(1, to());
            octets.extend_from_slice(&header(1, 300_000));
            for piece in vec![b'x'; 300_000].chunks(100_000) {
                octets.extend_from_slice(&body(1, piece));
            }
            raw.send(&octets).await;
        }
        let get = BasicGet {
            queue: short!("q"),
            no_ack: true,
            ..Default::default()
        };
        raw.send(&method(1, get).repeat(4)).await;
        for _ in 0..3 {
            assert!(matches!(raw.method().await, Some(Method::BasicGetOk(_))));
        }
        assert!(matches!(raw.method().await, Some(Method::BasicGetEmpty(_))));
    });
}

#[test]
fn more_consumers_than_a_channel_may_have() {
    // SEC-8, over a socket: RabbitMQ's words for its consumer_max_per_channel, and its code.
    run(async {
        let _meter = Meter::start();
        let vhost = VhostOptions {
            max_consumers: 100,
            ..Default::default()
        };
        let broker = Broker::bind(
            "127.0.0.1:0",
            BrokerOptions {
                vhost,
                ..Default::default()
            },
        )
        .await
        .unwrap();
        let mut raw = Raw::tuned(&broker.uri(), TUNE_OK).await;
        raw.ask(QueueDeclare {
            queue: short!("q"),
            ..Default::default()
        })
        .await;
        for _ in 0..101 {
            raw.say(
                CHANNEL,
                BasicConsume {
                    queue: short!("q"),
                    ..Default::default()
                },
            )
            .await;
        }
        let Ending::Connection(reason) = raw.ending().await else {
            panic!("a hard error")
        };
        assert_eq!(reason.code, ReplyCode::NOT_ALLOWED);
        assert_eq!(
            reason.text,
            "NOT_ALLOWED - reached maximum (100) of consumers per channel"
        );
        assert_good(&broker).await;
        sleep(Duration::from_millis(1)).await;
        assert_eq!(broker.queue("q").unwrap().consumers, 0);
    });
}
