//! What a client that has logged in may make the broker keep: messages in every form, names, tables, consumers. All of
//! it is paid for from one account, and the account counts what the allocator counts. SEC-8

use std::time::Instant;

use amqp_rpc::{
    broker::{
        NameSource, VhostOptions,
        vhost::{ConnectionId, Output, Vhost},
    },
    codec::*,
    protocol::Message,
    short,
};
use bytes::{Bytes, BytesMut};

use super::{KIB, MIB, Meter, octets::*};

/// The accounts of the tests, for messages and for everything else. The longest single thing in them is a table of 16 KiB
/// on the wire, which takes 120 times as much while it is read.
const ACCOUNT: usize = 4 * MIB;
const IN_HAND: usize = 120 * 16 * KIB;

const HOSTILE: ConnectionId = ConnectionId(1);
const GOOD: ConnectionId = ConnectionId(2);

/// A vhost, and two connections with channels 1 to 99 open.
struct Stage {
    vhost: Vhost,
    now: Instant,
}

impl Stage {
    fn new(mut options: VhostOptions) -> Self {
        options.names = NameSource::Numbered(0);
        let mut vhost = Vhost::new(short!("/"), options);
        for connection in [HOSTILE, GOOD] {
            vhost.connect(connection, short!("guest"), true);
            for channel in 1..100 {
                vhost.open_channel(connection, ChannelId(channel));
            }
        }
        let now = Instant::now();
        Self { vhost, now }
    }

    fn with_account() -> Self {
        Self::new(VhostOptions {
            memory_limit: ACCOUNT,
            entry_limit: ACCOUNT,
            ..VhostOptions::default()
        })
    }

    /// One method with all the consequences; how it is refused, if it is. Everything else that is said is sent at once.
    fn say(
        &mut self,
        from: ConnectionId,
        channel: u16,
        method: impl Into<Method>,
    ) -> Option<Refused> {
        self.vhost
            .method(from, ChannelId(channel), method.into(), self.now);
        self.outcome(from)
    }

    fn publish(
        &mut self,
        from: ConnectionId,
        publish: BasicPublish,
        message: Message,
    ) -> Option<Refused> {
        self.vhost
            .publish(from, ChannelId(1), publish, message, self.now);
        self.outcome(from)
    }

    fn outcome(&mut self, from: ConnectionId) -> Option<Refused> {
        let mut refused = None;
        while let Some((connection, output)) = self.vhost.poll_output() {
            self.vhost.sent(connection, output.octets(), self.now);
            match output {
                Output::CloseConnection { code, text, .. } if connection == from => {
                    refused = Some(Refused::Closed(code, text));
                }
                Output::Blocked(_) if connection == from => refused = Some(Refused::Blocked),
                Output::CloseConnection { .. } | Output::CloseChannel { .. } => {
                    panic!("{output:?}")
                }
                _ => {}
            }
        }
        refused
    }

    /// Somebody else can still work, once what the hostile connection had is gone.
    fn assert_good(&mut self) {
        let own = QueueDeclare {
            queue: short!("good"),
            ..Default::default()
        };
        assert_eq!(self.say(GOOD, 1, own), None);
        let to = BasicPublish {
            routing_key: short!("good"),
            ..Default::default()
        };
        assert_eq!(self.publish(GOOD, to, Message::from("hi")), None);
        assert_eq!(self.vhost.queue("good").unwrap().ready, 1);
    }
}

#[derive(Debug, PartialEq)]
enum Refused {
    Closed(ReplyCode, String),
    Blocked,
}

/// A method as it comes off the wire: in a read buffer of its own, of which it is the smallest part.
fn read(method: impl Into<Method>) -> Method {
    match read_frame(&octets_of(method)) {
        Payload::Method(method) => method,
        other => panic!("{other:?}"),
    }
}

fn octets_of(method: impl Into<Method>) -> BytesMut {
    super::octets::method(1, method)
}

fn read_frame(octets: &[u8]) -> Payload {
    let mut inbound = BytesMut::with_capacity(64 * KIB);
    inbound.extend_from_slice(octets);
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(131_072, 0);
    decoder.decode(&mut inbound).unwrap().unwrap().payload
}

fn name(text: &str, number: usize, octets: usize) -> ShortString {
    let text = format!("{text}{number:0>width$}", width = octets - text.len());
    ShortString::try_from(text).unwrap()
}

fn entries(octets: &[u8]) -> FieldTable {
    match read_frame(&header_with(1, 0, octets)) {
        Payload::Header(header) => header.properties.headers.unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Does the same until it is refused, which must be with 506, or by a wait if it was a publish, and cost no more memory
/// than the account has.
fn until_refused(what: &str, mut again: impl FnMut(&mut Stage, usize) -> Option<Refused>) {
    let mut meter = Meter::start();
    let mut stage = Stage::with_account();
    for queue in [short!("q"), short!("p")] {
        stage.say(
            GOOD,
            1,
            QueueDeclare {
                queue,
                ..Default::default()
            },
        );
    }
    meter.restart();
    let refused = (0..1_000_000).find_map(|n| again(&mut stage, n).map(|why| (n, why)));
    let (times, refused) = refused.expect("a limit");
    meter.assert_peak(ACCOUNT + IN_HAND, format!("{times} of {what}"));
    let limit = "RESOURCE_ERROR - no room in this vhost, which may keep";
    let limit = format!("{limit} {ACCOUNT} octets beside messages");
    if refused != Refused::Blocked {
        assert_eq!(refused, Refused::Closed(ReplyCode::RESOURCE_ERROR, limit));
    }
    let peak = meter.peak();
    assert!(peak > ACCOUNT / 8, "{what}: it counts far too much: {peak}");
    for queue in [short!("q"), short!("p")] {
        stage.say(
            GOOD,
            1,
            QueueDelete {
                queue,
                ..Default::default()
            },
        );
    }
    if refused == Refused::Blocked {
        for n in 0..1000 {
            let queue = name("q", n, 10); // those of the copies: a message is gone when all of them are
            let delete = QueueDelete {
                queue,
                ..Default::default()
            };
            stage.say(GOOD, 1, delete);
        }
    }
    stage.assert_good();
}

fn to(routing_key: ShortString) -> BasicPublish {
    BasicPublish {
        routing_key,
        ..Default::default()
    }
}

#[test]
fn messages_of_every_form() {
    until_refused("empty messages", |stage, _| {
        stage.publish(HOSTILE, to(short!("q")), Message::default())
    });
    until_refused("long properties", |stage, n| {
        let long = Some(name("x", n, 255));
        let properties = Properties {
            content_type: long.clone(),
            correlation_id: long.clone(),
            reply_to: long.clone(),
            message_id: long.clone(),
            app_id: long,
            ..Default::default()
        };
        stage.publish(HOSTILE, to(short!("q")), Message::new(properties, ""))
    });
    until_refused("the smallest headers", |stage, _| {
        let headers = Some(entries(&smallest_entries(8 * KIB - 32)));
        let properties = Properties {
            headers,
            ..Default::default()
        };
        stage.publish(HOSTILE, to(short!("q")), Message::new(properties, ""))
    });
    until_refused("one string in a read buffer", |stage, _| {
        let headers = Some(entries(b"\x01kS\0\0\0\x01v"));
        let properties = Properties {
            headers,
            ..Default::default()
        };
        stage.publish(HOSTILE, to(short!("q")), Message::new(properties, ""))
    });
    for octets in [1, 16 * KIB, 64 * KIB - 100, 100 * KIB] {
        until_refused("bodies in read buffers", |stage, _| {
            let Payload::Body(body) = read_frame(&body(1, &vec![b'x'; octets])) else {
                unreachable!()
            };
            stage.publish(HOSTILE, to(short!("q")), Message::from(body))
        });
    }
}

#[test]
fn a_small_message_takes_less_than_250_octets_beside_itself() {
    // SEC-8: as requests are, and as empty ones; 100,000 of them.
    const MESSAGES: usize = 100_000;
    let request = Properties {
        correlation_id: Some(name("call-", 0, 36)),
        reply_to: Some(name("amq.gen-", 0, 30)),
        ..Default::default()
    };
    for (properties, body) in [(request, 16), (Properties::default(), 0)] {
        let itself = properties.encoded_len() + body;
        let mut meter = Meter::start();
        let mut stage = Stage::new(VhostOptions::default());
        let queue = short!("q");
        let declare = QueueDeclare {
            queue: queue.clone(),
            ..Default::default()
        };
        stage.say(GOOD, 1, declare);
        meter.restart();
        for _ in 0..MESSAGES {
            let message = Message::new(properties.clone(), vec![b'x'; body]);
            assert_eq!(stage.publish(GOOD, to(queue.clone()), message), None);
        }
        let why = format!("250 octets and {itself} of its own for each of {MESSAGES}");
        meter.assert_kept((250 + itself) * MESSAGES, why);
    }
}

#[test]
fn a_copy_in_a_thousand_queues() {
    until_refused("copies", |stage, n| {
        if n < 1000 {
            let queue = name("q", n, 10);
            stage.say(
                GOOD,
                1,
                QueueDeclare {
                    queue: queue.clone(),
                    ..Default::default()
                },
            );
            let exchange = short!("amq.fanout");
            return stage.say(
                GOOD,
                1,
                QueueBind {
                    queue,
                    exchange,
                    ..Default::default()
                },
            );
        }
        let publish = BasicPublish {
            exchange: short!("amq.fanout"),
            ..Default::default()
        };
        stage.publish(HOSTILE, publish, Message::default())
    });
}

#[test]
fn queues_exchanges_and_bindings() {
    let tables = || {
        [
            FieldTable::EMPTY,
            entries(&smallest_entries(8 * KIB - 32)),
            entries(b"\x01kS\0\0\0\x01v"),
        ]
    };
    for octets in [10, 255] {
        for arguments in tables() {
            until_refused("queues", |stage, n| {
                let (queue, arguments) = (name("q", n, octets), arguments.clone());
                stage.say(
                    HOSTILE,
                    1,
                    read(QueueDeclare {
                        queue,
                        arguments,
                        ..Default::default()
                    }),
                )
            });
            until_refused("exclusive queues", |stage, n| {
                let (queue, arguments) = (name("q", n, octets), arguments.clone());
                let exclusive = true;
                stage.say(
                    HOSTILE,
                    1,
                    read(QueueDeclare {
                        queue,
                        arguments,
                        exclusive,
                        ..Default::default()
                    }),
                )
            });
            until_refused("exchanges", |stage, n| {
                let (exchange, kind, arguments) =
                    (name("e", n, octets), short!("topic"), arguments.clone());
                stage.say(
                    HOSTILE,
                    1,
                    read(ExchangeDeclare {
                        exchange,
                        kind,
                        arguments,
                        ..Default::default()
                    }),
                )
            });
            until_refused("bindings of one queue", |stage, n| {
                let (routing_key, arguments) = (name("k", n, octets), arguments.clone());
                let (queue, exchange) = (short!("q"), short!("amq.topic"));
                stage.say(
                    HOSTILE,
                    1,
                    read(QueueBind {
                        queue,
                        exchange,
                        routing_key,
                        arguments,
                        ..Default::default()
                    }),
                )
            });
        }
    }
    until_refused("bindings under one key", |stage, n| {
        let mut arguments = FieldTable::EMPTY;
        arguments.insert(short!("n"), i64::try_from(n).unwrap());
        let (queue, exchange) = (short!("q"), short!("amq.fanout"));
        stage.say(
            HOSTILE,
            1,
            read(QueueBind {
                queue,
                exchange,
                arguments,
                ..Default::default()
            }),
        )
    });
    until_refused("bindings between exchanges", |stage, n| {
        let (source, destination) = (short!("amq.topic"), short!("amq.fanout"));
        let routing_key = name("k", n, 255);
        stage.say(
            HOSTILE,
            1,
            read(ExchangeBind {
                source,
                destination,
                routing_key,
                ..Default::default()
            }),
        )
    });
}

#[test]
fn consumers_on_many_channels() {
    for octets in [10, 255] {
        until_refused("consumers", |stage, n| {
            let consumer_tag = ConsumerTag(name("c", n, octets));
            let channel = u16::try_from(n % 99 + 1).unwrap();
            stage.say(
                HOSTILE,
                channel,
                read(BasicConsume {
                    queue: short!("q"),
                    consumer_tag,
                    ..Default::default()
                }),
            )
        });
    }
}

#[test]
fn what_is_gone_leaves_no_room_behind() {
    // SEC-8: a map or a line that was long once keeps its room, and an account that was paid back does not know of it. More
    // than the account allows comes and goes, again and again, and each time somewhere else.
    let mut meter = Meter::start();
    let mut stage = Stage::with_account();
    meter.restart();
    for round in 0..10_u16 {
        let queue = name("q", round.into(), 20);
        let exchange = name("e", round.into(), 20);
        let kind = short!("fanout");
        stage.say(
            GOOD,
            1,
            QueueDeclare {
                queue: queue.clone(),
                ..Default::default()
            },
        );
        stage.say(
            GOOD,
            1,
            ExchangeDeclare {
                exchange: exchange.clone(),
                kind,
                ..Default::default()
            },
        );
        let channel = round + 1;
        let get = BasicGet {
            queue: queue.clone(),
            ..Default::default()
        };
        for _ in 0..3000 {
            assert_eq!(
                stage.publish(GOOD, to(queue.clone()), Message::default()),
                None
            );
        }
        for _ in 0..3000 {
            stage.say(GOOD, channel, get.clone());
        }
        let all = BasicAck {
            delivery_tag: DeliveryTag(0),
            multiple: true,
        };
        stage.say(GOOD, channel, all);
        for n in 0..1500 {
            let (queue, exchange, routing_key) =
                (queue.clone(), exchange.clone(), name("k", n, 10));
            stage.say(
                GOOD,
                1,
                QueueBind {
                    queue,
                    exchange,
                    routing_key,
                    ..Default::default()
                },
            );
        }
        for n in 0..1500 {
            let (queue, exchange, routing_key) =
                (queue.clone(), exchange.clone(), name("k", n, 10));
            stage.say(
                GOOD,
                1,
                QueueUnbind {
                    queue,
                    exchange,
                    routing_key,
                    ..Default::default()
                },
            );
        }
        assert_eq!(stage.vhost.queue(&queue.to_string()).unwrap().ready, 0);
    }
    meter.assert_kept(512 * KIB, "10 queues and 10 exchanges, all empty");
}

#[test]
fn a_million_deliveries_that_nobody_acknowledges() {
    // SEC-8: a channel holds 65,535 of them; then its consumer waits, and what it does not get is for others. Each
    // publish is for ten queues, and none of them may become long.
    const MILLION: usize = 1_000_000;
    let mut meter = Meter::start();
    let mut stage = Stage::new(VhostOptions::default());
    let mut arguments = FieldTable::EMPTY;
    arguments.insert(short!("x-max-length"), 100);
    for n in 0..10 {
        let (queue, exchange) = (name("q", n, 5), short!("amq.fanout"));
        let declare = QueueDeclare {
            queue: queue.clone(),
            arguments: arguments.clone(),
            ..Default::default()
        };
        stage.say(GOOD, 1, declare);
        stage.say(
            GOOD,
            1,
            QueueBind {
                queue: queue.clone(),
                exchange,
                ..Default::default()
            },
        );
        stage.say(
            HOSTILE,
            1,
            BasicConsume {
                queue,
                ..Default::default()
            },
        );
    }
    meter.restart();
    let publish = BasicPublish {
        exchange: short!("amq.fanout"),
        ..Default::default()
    };
    for _ in 0..MILLION / 10 {
        assert_eq!(
            stage.publish(GOOD, publish.clone(), Message::default()),
            None
        );
    }
    let stats = (0..10).map(|n| stage.vhost.queue(&name("q", n, 5).to_string()).unwrap());
    let (held, ready) = stats.fold((0, 0), |(held, ready), queue| {
        (held + queue.unacked, ready + queue.ready)
    });
    assert_eq!((held, ready), (65_535, 1000));
    // 6,654 messages of 664 octets, and 66,535 places of 112 octets with room for twice as many, grown once more.
    meter.assert_peak(
        6654 * 700 + 66_535 * 3 * 112,
        "65,535 unacknowledged and 1000 ready",
    );

    // They are acknowledged, and everything goes on.
    stage.say(
        HOSTILE,
        1,
        BasicAck {
            delivery_tag: DeliveryTag(0),
            multiple: true,
        },
    );
    assert_eq!(stage.publish(GOOD, publish, Message::default()), None);
    let held: usize = (0..10)
        .map(|n| {
            stage
                .vhost
                .queue(&name("q", n, 5).to_string())
                .unwrap()
                .unacked
        })
        .sum();
    assert_eq!(held, 1010);
    stage.assert_good();
}

#[test]
fn a_reader_that_does_not_read_is_sent_no_more_than_a_mebibyte() {
    // SEC-10: in octets of bodies and headers. A delivery counts 256 octets and takes a kibibyte while it waits.
    let mut meter = Meter::start();
    for (what, headers, body) in [
        ("empty messages", None, Bytes::new()),
        (
            "the smallest headers",
            Some(entries(&smallest_entries(8 * KIB - 32))),
            Bytes::new(),
        ),
        ("bodies", None, Bytes::from(vec![b'x'; 100 * KIB])),
    ] {
        let mut stage = Stage::new(VhostOptions::default());
        stage.say(
            GOOD,
            1,
            QueueDeclare {
                queue: short!("q"),
                ..Default::default()
            },
        );
        let properties = Properties {
            headers,
            ..Default::default()
        };
        // It is kept as the octets that it was.
        let kept = properties.encoded_len() + body.len() + 1000;
        let messages = (20 * MIB / kept).min(6000);
        let message = Message::new(properties, body);
        for _ in 0..messages {
            stage.publish(GOOD, to(short!("q")), message.clone());
        }
        drop(message);
        meter.restart();
        let no_ack = true;
        let consume = BasicConsume {
            queue: short!("q"),
            no_ack,
            ..Default::default()
        };
        stage
            .vhost
            .method(HOSTILE, ChannelId(1), consume.into(), stage.now);
        let waiting: Vec<_> = std::iter::from_fn(|| stage.vhost.poll_output()).collect();
        // 4097 of them, and a line of 208 octets each that has just grown; bodies are shared with the queue.
        meter.assert_peak(
            6 * MIB,
            format!("{} deliveries with {what}", waiting.len() - 1),
        );
        assert!(
            stage.vhost.queue("q").unwrap().ready > 0,
            "{what}: the rest waits in its queue"
        );
        drop(waiting);
        stage.say(
            GOOD,
            2,
            QueueDelete {
                queue: short!("q"),
                ..Default::default()
            },
        );
        stage.assert_good();
    }
}
