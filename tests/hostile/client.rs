//! A broker that is not what it says: floods of everything toward a client. SEC-16
//!
//! The broker is a puppet at the other end of a pipe in this process. It makes its octets beforehand and writes the same
//! ones again and again, so what is measured is the client's, and the pipe of 64 KiB.

use std::time::Duration;

use amqp_rpc::{
    broker::Broker,
    client::{Channel, ConnectOptions, Connection, Consumer, Delivery, Error, Received},
    codec::*,
    rpc::RpcClient,
    short,
};
use bytes::BytesMut;
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{
    KIB, MIB, Meter, octets,
    peer::{Peer, content, delivery, encoded, method},
    run_paused,
};

const PIPE: usize = 64 * KIB;

/// The read buffer, the buffers of the pipe in both directions, and the task.
const AROUND: usize = 400 * KIB;

struct Victim {
    connection: Connection,
    channel: Channel,
    peer: Peer,
    meter: Meter,
}

impl Victim {
    async fn new(options: ConnectOptions) -> Self {
        let mut meter = Meter::start();
        let (connection, mut peer) = Peer::pair(options.heartbeat(0), PIPE).await;
        let channel = peer.serving(connection.open_channel()).await.unwrap();
        meter.restart();
        Self {
            connection,
            channel,
            peer,
            meter,
        }
    }

    async fn consumer(&mut self) -> Consumer<Delivery> {
        self.peer.serving(self.channel.consume("q")).await.unwrap()
    }

    async fn no_ack_consumer(&mut self) -> Consumer<Received> {
        let consume = BasicConsume {
            queue: short!("q"),
            ..Default::default()
        };
        self.peer
            .serving(self.channel.consume_no_ack(consume))
            .await
            .unwrap()
    }

    /// Writes these octets so many times, or until the client takes no more for a minute; says how often.
    async fn flood(&mut self, octets: &[u8], times: usize) -> usize {
        for done in 0..times {
            let written = timeout(Duration::from_mins(1), self.peer.writer.write_all(octets)).await;
            if !matches!(written, Ok(Ok(()))) {
                return done;
            }
        }
        times
    }

    /// It has heard everything and still works.
    async fn assert_good(&mut self) {
        let Self { channel, peer, .. } = self;
        peer.serving(channel.queue_declare(QueueDeclare::default()))
            .await
            .unwrap();
        assert!(self.connection.cause().is_none());
        assert_another().await;
    }
}

/// Another connection of the same process, to a broker with manners.
async fn assert_another() {
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    connection
        .open_channel()
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    connection.close().await.unwrap();
}

#[test]
fn deliveries_beyond_the_prefetch_stop_the_reading() {
    // CONS-6, QOS-1: one more than the 100 that the broker was told, and the socket is not read.
    run_paused(async {
        let mut victim = Victim::new(ConnectOptions::default()).await;
        let mut consumer = victim.consumer().await;
        let one = delivery(consumer.tag(), 1, &[b'x'; KIB]);
        victim.meter.restart();
        let taken = victim.flood(&one, 1_000_000).await;
        // 101 wait; the read buffer and the pipe have room for some 180 more.
        assert!((101..400).contains(&taken), "{taken}");
        victim.meter.assert_peak(
            101 * 3 * KIB + AROUND,
            format!("{taken} deliveries of a million"),
        );
        assert_eq!(
            victim.connection.in_the_way().as_ref(),
            Some(consumer.tag())
        );
        // A call that would need the socket says who is in the way.
        let error = victim
            .channel
            .queue_declare(QueueDeclare::default())
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::Timeout {
                    in_the_way: Some(_),
                    ..
                }
            ),
            "{error}"
        );
        for _ in 0..101 {
            let _ = consumer.next().await.unwrap().unwrap();
        }
        assert_another().await;
    });
}

#[test]
fn deliveries_without_acknowledgement_stop_the_reading() {
    // CONS-7: what waits is bounded in octets of memory, headers included.
    run_paused(async {
        let headers = octets::header_with(1, 0, &octets::smallest_entries(2 * KIB));
        for (what, header) in [
            ("a body of a kibibyte", None),
            ("the smallest headers", Some(headers)),
        ] {
            let mut victim = Victim::new(ConnectOptions::default().consumer_octets(MIB)).await;
            let consumer = victim.no_ack_consumer().await;
            let deliver = BasicDeliver {
                consumer_tag: consumer.tag().clone(),
                ..Default::default()
            };
            let one = match header {
                None => content(1, deliver, &[b'x'; KIB]),
                Some(header) => {
                    let mut octets = method(1, deliver);
                    octets.extend_from_slice(&header);
                    octets
                }
            };
            victim.meter.restart();
            let taken = victim.flood(&one, 1_000_000).await;
            assert!(taken < 2000, "{taken}");
            victim
                .meter
                .assert_peak(2 * MIB + AROUND, format!("{taken} deliveries with {what}"));
            drop(consumer);
            assert_another().await;
        }
    });
}

#[test]
fn deliveries_far_apart_do_not_keep_what_lies_between() {
    // SEC-16: a slice keeps its read buffer of 64 KiB. One octet, then 64 KiB for nobody, and so on: a mebibyte of such
    // deliveries would keep 80.
    run_paused(async {
        let mut victim = Victim::new(ConnectOptions::default().consumer_octets(MIB)).await;
        let consumer = victim.no_ack_consumer().await;
        let mut one = delivery(consumer.tag(), 1, b"x");
        for _ in 0..4 {
            one.extend_from_slice(&delivery(
                &ConsumerTag(short!("nobody")),
                1,
                &[b'x'; 16 * KIB],
            ));
        }
        victim.meter.restart();
        let taken = victim.flood(&one, 100_000).await;
        assert!((1000..2000).contains(&taken), "{taken}");
        victim.meter.assert_peak(
            2 * MIB + AROUND,
            format!("{taken} deliveries of one octet, 64 KiB apart"),
        );
        drop(consumer);
        assert_another().await;
    });
}

#[test]
fn what_concerns_nobody_is_not_kept() {
    // SEC-9, CONS-6, CONF-4, PUB-6, BLOCK-3: deliveries under unknown tags, confirms of nothing, returns that nobody
    // listens for, cancels of nobody, heartbeats, connection.blocked.
    run_paused(async {
        const TIMES: usize = 20_000;
        let nobody = ConsumerTag(short!("nobody"));
        let ack = |tag, multiple| {
            method(
                1,
                BasicAck {
                    delivery_tag: DeliveryTag(tag),
                    multiple,
                },
            )
        };
        let blocked = |n: usize| {
            method(
                0,
                ConnectionBlocked {
                    reason: ShortString::try_from(format!("{n:0>255}")).unwrap(),
                },
            )
        };
        let floods = [
            ("deliveries to nobody", delivery(&nobody, 1, &[b'x'; 100])),
            ("returns", content(1, BasicReturn::default(), &[b'x'; 100])),
            ("confirms", ack(u64::MAX, true)),
            ("confirms one by one", ack(1, false)),
            (
                "cancels",
                method(
                    1,
                    BasicCancel {
                        consumer_tag: nobody,
                        no_wait: true,
                    },
                ),
            ),
            ("connection.blocked", blocked(1)),
            (
                "connection.unblocked",
                method(0, ConnectionUnblocked::default()),
            ),
            ("heartbeats", encoded(0, Payload::Heartbeat)),
        ];
        let mut victim = Victim::new(ConnectOptions::default()).await;
        victim
            .peer
            .serving(victim.channel.confirm_select())
            .await
            .unwrap();
        for (what, one) in floods {
            let hundred = one.repeat(100);
            victim.meter.restart();
            assert_eq!(victim.flood(&hundred, TIMES / 100).await, TIMES / 100);
            victim.meter.assert_peak(AROUND, format!("{TIMES} {what}"));
        }
        victim.assert_good().await;
    });
}

#[test]
fn returns_that_nobody_takes() {
    // PUB-6: as many octets wait as for a consumer, and what comes then is dropped; the connection goes on.
    run_paused(async {
        let mut victim = Victim::new(ConnectOptions::default().consumer_octets(MIB)).await;
        let mut returns = victim.channel.returns();
        let one = content(1, BasicReturn::default(), &[b'x'; 16 * KIB]);
        victim.meter.restart();
        assert_eq!(victim.flood(&one, 1000).await, 1000);
        victim
            .meter
            .assert_peak(MIB + MIB / 4 + AROUND, "1000 returns of 16 KiB, not taken");
        victim.assert_good().await;
        for _ in 0..60 {
            assert_eq!(returns.next().await.unwrap().message.body.len(), 16 * KIB);
        }
    });
}

#[test]
fn returns_for_calls_that_nobody_made() {
    // RPC-4, RPC-7: a caller of remote procedures drops none of its returns, so the connection waits for it.
    run_paused(async {
        let mut victim = Victim::new(ConnectOptions::default().consumer_octets(MIB)).await;
        let rpc = victim
            .peer
            .serving(RpcClient::new(&victim.connection))
            .await
            .unwrap();
        let one = content(2, BasicReturn::default(), &[b'x'; 16 * KIB]);
        victim.meter.restart();
        assert_eq!(victim.flood(&one, 1000).await, 1000);
        victim.meter.assert_peak(
            MIB + MIB / 4 + AROUND,
            "1000 returns of 16 KiB to nobody's call",
        );
        victim.assert_good().await;
        assert_eq!(rpc.stats().pending, 0);
    });
}

#[test]
fn questions_whose_answers_are_not_read() {
    // SEC-10, CHAN-14, CHAN-6, CONS-14: what a client has to answer, by a broker that reads nothing of it. At 256 KiB the
    // client does not read any more either.
    run_paused(async {
        let pause = method(1, ChannelFlow { active: false });
        let go_on = method(1, ChannelFlow { active: true });
        let mut floods = vec![("channel.flow", [pause, go_on].concat(), false)];
        floods.push((
            "channel.close",
            method(1, ChannelClose::default()).to_vec(),
            true,
        ));
        for (what, one, closing) in floods {
            let mut victim = Victim::new(ConnectOptions::default()).await;
            if closing {
                let channel = victim.channel.clone();
                tokio::spawn(channel.close());
                victim.peer.expect("channel.close").await; // and no close-ok from here
            }
            let many = one.repeat(200);
            victim.meter.restart();
            let taken = victim.flood(&many, 5000).await * 200;
            assert!(taken < 100_000, "it is read no more: {taken}");
            victim
                .meter
                .assert_peak(2 * 256 * KIB + AROUND, format!("{taken} times {what}"));
            assert!(
                victim.connection.cause().is_none(),
                "a client is patient: BLOCK-2"
            );
            // As soon as the broker reads it is heard again.
            let read = async {
                for _ in 0..taken {
                    assert!(victim.peer.reader.frame().await.is_some());
                }
            };
            let heard = async {
                for _ in 0..taken {
                    victim.peer.writer.write_all(&one).await.unwrap();
                }
            };
            tokio::join!(read, heard);
            assert_another().await;
        }
    });
}

#[test]
fn deliveries_to_a_consumer_that_is_gone() {
    // CONS-14, SEC-10: each is given back by a basic.reject, until the answer to the cancel has come, which it never
    // does here. The broker reads nothing.
    run_paused(async {
        let mut victim = Victim::new(ConnectOptions::default()).await;
        let consumer = victim.consumer().await;
        let tag = consumer.tag().clone();
        drop(consumer);
        victim.peer.expect("basic.cancel").await;
        let many = delivery(&tag, 1, b"x").repeat(100);
        victim.meter.restart();
        let taken = victim.flood(&many, 5000).await * 100;
        assert!(taken < 50_000, "it is read no more: {taken}");
        victim.meter.assert_peak(
            2 * 256 * KIB + AROUND,
            format!("{taken} deliveries to a consumer that is gone"),
        );
        assert_another().await;
    });
}

#[test]
fn contents_that_are_never_finished_and_never_were() {
    // SEC-5, SEC-8, SEC-16: a client bounds them as a broker does.
    run_paused(async {
        let options = || ConnectOptions::default().body_limit(MIB as u64);
        let header = octets::header_with(1, 1, &octets::smallest_entries(400 * KIB));
        let mut large = method(1, BasicDeliver::default());
        large.extend_from_slice(&header);
        let mut victim = Victim::new(options()).await;
        victim.meter.restart();
        victim.flood(&large, 1).await;
        let close = victim.peer.connection_close().await;
        assert_eq!(close.reply_code, ReplyCode::RESOURCE_ERROR);
        // The longest header there may be, while it is read: FRAME-19.
        victim
            .meter
            .assert_peak(120 * 800 * KIB + 4 * MIB, "a header of 800 KiB");
        victim
            .peer
            .say(method(0, ConnectionCloseOk::default()))
            .await;
        assert_eq!(
            victim.connection.closed().await.code(),
            Some(ReplyCode::RESOURCE_ERROR)
        );
        drop(victim);

        for size in [MIB as u64 + 1, 1 << 63] {
            let mut victim = Victim::new(options()).await;
            let mut huge = method(1, BasicDeliver::default());
            huge.extend_from_slice(&octets::header(1, size));
            victim.meter.restart();
            victim.flood(&huge, 1).await;
            let close = victim.peer.channel_close().await;
            assert_eq!(close.reply_code, ReplyCode::PRECONDITION_FAILED);
            victim
                .meter
                .assert_peak(AROUND, format!("a header that announces {size} octets"));
            let piece = octets::body(1, &[b'x'; 1024]);
            assert_eq!(victim.flood(&piece, KIB).await, KIB);
            victim.meter.assert_peak(AROUND, "a mebibyte of it");
            if size > 1 << 32 {
                continue; // this content does not end, and nothing can come behind it. CONTENT-7
            }
            victim.flood(&octets::body(1, b"x"), 1).await;
            victim.peer.say(method(1, ChannelCloseOk::default())).await;
            victim.channel = victim
                .peer
                .serving(victim.connection.open_channel())
                .await
                .unwrap();
            victim.assert_good().await;
        }
    });
}

#[test]
fn frames_for_channels_that_were_never_opened() {
    // CHAN-2: nothing is made for a number that a peer makes up. (rabbitmq-c#899 made a pool of 128 KiB for each.)
    run_paused(async {
        for one in [
            method(7, BasicDeliver::default()),
            BytesMut::from(&octets::header(7, 1000)[..]),
            encoded(7, Payload::Body("x".into())),
            method(7, ChannelOpen::default()),
        ] {
            let mut victim = Victim::new(ConnectOptions::default()).await;
            victim.meter.restart();
            victim.flood(&one, 1).await;
            let close = victim.peer.connection_close().await;
            assert_eq!(close.reply_code, ReplyCode::CHANNEL_ERROR);
            victim
                .meter
                .assert_peak(AROUND, "a frame for a channel that is not open");
            assert_another().await;
        }
    });
}

#[test]
fn publishes_that_are_never_confirmed() {
    // CONF-3: a program that goes on publishing without waiting pays a few octets for each, and not the message.
    run_paused(async {
        const PUBLISHES: usize = 20_000;
        let mut victim = Victim::new(ConnectOptions::default()).await;
        victim
            .peer
            .serving(victim.channel.confirm_select())
            .await
            .unwrap();
        victim.meter.restart();
        let (channel, reader) = (victim.channel.clone(), &mut victim.peer.reader);
        let read = async {
            for _ in 0..PUBLISHES {
                reader.publish().await;
            }
        };
        let publish = async {
            for _ in 0..PUBLISHES {
                channel.publish("", "q", vec![b'x'; 100]).await.unwrap();
            }
        };
        tokio::join!(read, publish);
        victim.meter.assert_kept(
            PUBLISHES * 80 + AROUND,
            format!("{PUBLISHES} publishes without an answer"),
        );
        victim.assert_good().await;
    });
}
