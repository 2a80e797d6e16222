//! What is dropped half-way: nothing is torn, nothing is left behind, and nothing is said too early.

use std::{future::Future, io, pin::Pin, task::Poll, time::Duration};

use amqp_rpc::{
    broker::Broker,
    client::{Channel, Confirm, ConnectOptions, Connection, Error},
    codec::*,
    rpc::RpcClient,
    short,
};

use super::peer::{Noted, Peer, delivery, method};

type Op<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

fn queue() -> ShortString {
    short!("q")
}

fn consume() -> BasicConsume {
    BasicConsume {
        queue: queue(),
        ..Default::default()
    }
}

/// Every operation that waits, by name; what it comes to is not looked at.
fn operation<'a>(
    which: usize,
    on: &'a Connection,
    ch: &'a Channel,
    rpc: &'a RpcClient,
) -> Option<(&'static str, Op<'a>)> {
    macro_rules! op {
        ($name:literal: $future:expr) => {
            Some((
                $name,
                Box::pin(async move {
                    _ = $future;
                }) as Op<'a>,
            ))
        };
    }
    match which {
        0 => op!("open_channel": on.open_channel().await),
        1 => {
            op!("declare": ch.queue_declare(QueueDeclare { queue: queue(), ..Default::default() }).await)
        }
        2 => {
            op!("bind": ch.queue_bind(QueueBind { queue: queue(), exchange: short!("amq.fanout"), ..Default::default() }).await)
        }
        3 => op!("qos": ch.qos(10).await),
        4 => op!("consume": ch.consume("q").await),
        5 => op!("consume_no_ack": ch.consume_no_ack(consume()).await),
        6 => op!("get": ch.get("q").await),
        7 => op!("publish": ch.publish("", "q", vec![1; 300_000]).await),
        8 => {
            op!("confirm": async { ch.publish_confirmed(BasicPublish { routing_key: queue(), ..Default::default() }, "x").await?.outcome().await }.await)
        }
        9 => op!("confirm_select": ch.confirm_select().await),
        10 => {
            op!("consume, next, ack": async { ch.consume("q").await?.next().await.unwrap()?.ack().await }.await)
        }
        11 => op!("consume, cancel": async { ch.consume("q").await?.cancel().await }.await),
        12 => op!("recover": ch.recover().await),
        13 => op!("open, close": async { on.open_channel().await?.close().await }.await),
        14 => op!("rpc": RpcClient::new(on).await),
        15 => op!("call": rpc.call("q", "x").await),
        16 => {
            op!("purge": ch.queue_purge(QueuePurge { queue: queue(), ..Default::default() }).await)
        }
        17 => {
            op!("exchange": ch.exchange_declare(ExchangeDeclare { exchange: short!("x"), kind: short!("fanout"), ..Default::default() }).await)
        }
        _ => None,
    }
}

/// Polls as often as said, each time after everybody else had a turn, and drops it.
async fn poll_and_drop(mut op: Op<'_>, polls: usize) {
    for _ in 0..polls {
        let poll = std::future::poll_fn(|context| Poll::Ready(op.as_mut().poll(context)));
        if poll.await.is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_may_be_dropped_at_every_point() {
    // CONTENT-13: the broker would answer a torn content with 505.
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    let rpc = RpcClient::new(&connection).await.unwrap();
    let home = connection.open_channel().await.unwrap();
    home.queue_declare(QueueDeclare {
        queue: short!("q"),
        ..Default::default()
    })
    .await
    .unwrap();
    let free = connection.open_channel().await.unwrap().id();
    for which in 0.. {
        for polls in 0..40 {
            let channel = connection.open_channel().await.unwrap();
            let Some((name, op)) = operation(which, &connection, &channel, &rpc) else {
                return;
            };
            poll_and_drop(op, polls).await;
            let declared = channel.queue_declare(QueueDeclare {
                queue: short!("q"),
                ..Default::default()
            });
            let declared = declared.await;
            assert!(
                declared.is_ok(),
                "{name} dropped after {polls} polls: {declared:?}"
            );
            channel.close().await.unwrap();
            let fresh = connection.open_channel().await.unwrap();
            fresh.confirm_select().await.unwrap();
            let publish = BasicPublish {
                routing_key: short!("q"),
                ..Default::default()
            };
            let confirm = fresh
                .publish_confirmed(publish, "y")
                .await
                .unwrap()
                .outcome();
            assert_eq!(confirm.await.unwrap(), Confirm::Ack);
            fresh.close().await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let next = connection.open_channel().await.unwrap();
            assert_eq!(
                next.id(),
                free,
                "{name} dropped after {polls} polls left a channel"
            );
            let left = broker.queue("q").unwrap();
            assert_eq!(
                (left.consumers, left.unacked),
                (0, 0),
                "{name} dropped after {polls} polls"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_consume_that_is_dropped_is_cancelled_and_not_too_early() {
    // CONS-16: RabbitMQ answers a cancel before the consume-ok with 541.
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    peer.serving(channel.qos(1)).await.unwrap();
    let (_, Method::BasicConsume(consume)) = ({
        let consume = channel.consume("q");
        tokio::select! {
            _ = consume => unreachable!(),
            consume = peer.expect("basic.consume") => consume,
        }
    }) else {
        unreachable!()
    };
    let early = tokio::time::timeout(Duration::from_secs(5), peer.reader.method()).await;
    assert!(early.is_err(), "{early:?}");
    let consumer_tag = consume.consumer_tag;
    peer.say(method(
        1,
        BasicConsumeOk {
            consumer_tag: consumer_tag.clone(),
        },
    ))
    .await;
    peer.say(delivery(&consumer_tag, 1, b"x")).await;
    peer.expect("basic.cancel").await;
    peer.expect("basic.reject").await; // CONS-14: given back
    peer.say(method(1, BasicCancelOk { consumer_tag })).await;
    let declare = channel.queue_declare(QueueDeclare::default());
    let (declared, _) = tokio::join!(declare, peer.grant("queue.declare"));
    declared.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_said_before_a_drop_is_heard_before_it() {
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    for _ in 0..50 {
        let setup = async {
            let channel = connection.open_channel().await.unwrap();
            let consumer = channel.consume("q").await.unwrap();
            (channel, consumer)
        };
        let (channel, mut consumer) = peer.serving(setup).await;
        peer.say(delivery(consumer.tag(), 1, b"x")).await;
        peer.say(delivery(consumer.tag(), 2, b"x")).await;
        let delivery = consumer.next().await.unwrap().unwrap();
        channel.publish("", "q", "done").await.unwrap();
        delivery.ack().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop((consumer, channel));
        assert_eq!(peer.reader.publish().await, "done");
        for name in ["basic.ack", "basic.reject", "basic.cancel"] {
            peer.expect(name).await;
        }
        peer.grant("channel.close").await;
        tokio::time::sleep(Duration::from_millis(1)).await; // its number is free again
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_consumer_yields_what_was_queued_and_then_nothing() {
    // CONS-13
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    channel
        .queue_declare(QueueDeclare {
            queue: short!("q"),
            ..Default::default()
        })
        .await
        .unwrap();
    for by_tag in [true, false] {
        for _ in 0..3 {
            channel.publish("", "q", "x").await.unwrap();
        }
        let mut consumer = channel.consume("q").await.unwrap();
        let first = consumer.next().await.unwrap().unwrap();
        if by_tag {
            channel.cancel(consumer.tag().clone()).await.unwrap();
        } else {
            consumer.cancel().await.unwrap();
        }
        first.ack().await.unwrap();
        for _ in 0..2 {
            consumer.next().await.unwrap().unwrap().ack().await.unwrap();
        }
        let end = consumer.next().await;
        assert!(end.is_none(), "{end:?}");
    }
    // The tag is free again at once, even while the cancel of its last owner is under way. CONS-2
    let named = || BasicConsume {
        queue: short!("q"),
        consumer_tag: ConsumerTag(short!("me")),
        ..Default::default()
    };
    drop(channel.consume_with(named()).await.unwrap());
    let mut again = channel.consume_with(named()).await.unwrap();
    channel.publish("", "q", "x").await.unwrap();
    again.next().await.unwrap().unwrap().ack().await.unwrap();
    let error = channel.consume_with(named()).await.unwrap_err();
    assert_eq!(error.code(), Some(ReplyCode::NOT_ALLOWED));
    assert!(
        matches!(error, Error::Refused(_)),
        "the broker would end the connection"
    );
    channel.publish("", "q", "x").await.unwrap();
    again.next().await.unwrap().unwrap().ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_consumer_gives_back_what_it_has_not_seen() {
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    channel
        .queue_declare(QueueDeclare {
            queue: short!("q"),
            ..Default::default()
        })
        .await
        .unwrap();
    for number in 0..10 {
        channel.publish("", "q", number.to_string()).await.unwrap();
    }
    let mut consumer = channel.consume("q").await.unwrap();
    let seen = consumer.next().await.unwrap().unwrap();
    drop(consumer);
    let mut other = channel.consume("q").await.unwrap();
    for number in 1..10 {
        let delivery = other.next().await.unwrap().unwrap();
        assert_eq!(
            (delivery.body(), delivery.redelivered),
            (number.to_string().as_bytes(), true)
        );
        delivery.ack().await.unwrap();
    }
    seen.ack().await.unwrap(); // a delivery outlives its consumer
    channel.recover().await.unwrap();
    let left = broker.queue("q").unwrap();
    assert_eq!((left.ready, left.unacked, left.consumers), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_ack_belongs_to_its_channel_and_not_to_the_number_of_it() {
    // ACK-2, CHAN-15
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    channel
        .queue_declare(QueueDeclare {
            queue: short!("q"),
            ..Default::default()
        })
        .await
        .unwrap();
    channel.publish("", "q", "x").await.unwrap();
    let mut consumer = channel.consume("q").await.unwrap();
    let stale = consumer.next().await.unwrap().unwrap();
    let missing = QueueDeclare {
        queue: short!("nope"),
        passive: true,
        ..Default::default()
    };
    let error = channel.queue_declare(missing).await.unwrap_err();
    assert_eq!(error.code(), Some(ReplyCode::NOT_FOUND));

    let fresh = connection.open_channel().await.unwrap();
    assert_eq!(fresh.id(), channel.id());
    let mut consumer = fresh.consume("q").await.unwrap();
    let again = consumer.next().await.unwrap().unwrap();
    assert!(again.redelivered);
    let error = stale.ack().await.unwrap_err();
    assert!(matches!(&error, Error::ChannelClosed(_)), "{error}");
    fresh.qos(1).await.unwrap(); // whatever was sent has been taken by now
    assert_eq!(
        broker.queue("q").unwrap().unacked,
        1,
        "the new channel's tag 1 is still open"
    );
    again.ack().await.unwrap();
}

/// Over a real socket, with every write looked at: what leaves are whole frames, whatever was dropped.
#[tokio::test]
async fn a_dropped_publish_tears_no_content_on_a_socket() -> io::Result<()> {
    // FRAME-18, CONTENT-13
    let broker = Broker::start().await?;
    let (reader, writer) = tokio::net::TcpStream::connect(broker.address())
        .await?
        .into_split();
    let writes = std::sync::Arc::default();
    let options = ConnectOptions::default();
    let connection = Connection::over(reader, Noted::new(writer, &writes), options)
        .await
        .unwrap();
    let channel = connection.open_channel().await.unwrap();
    channel
        .queue_declare(QueueDeclare {
            queue: short!("q"),
            ..Default::default()
        })
        .await
        .unwrap();
    let mut sent = 0;
    for number in 0..200_usize {
        let publish = Box::pin(async {
            sent += usize::from(
                channel
                    .publish("", "q", vec![7; number * 1000])
                    .await
                    .is_ok(),
            );
        });
        poll_and_drop(publish, number % 3).await;
    }
    channel.close().await.unwrap();
    assert_eq!(broker.queue("q").unwrap().ready, sent);
    Ok(())
}
