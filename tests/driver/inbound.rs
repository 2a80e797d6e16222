//! Octets in: a consumer that takes nothing stops the reading, and nothing else.

use std::time::Duration;

use amqp_rpc::{
    broker::Broker,
    client::{Channel, Confirm, ConnectOptions, Connection, Consumer, Error, Received},
    codec::*,
    rpc::{RpcClient, RpcError, RpcServer},
    short,
};
use bytes::BytesMut;
use tokio::{
    io::{AsyncWriteExt, DuplexStream, WriteHalf},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::peer::{Peer, Wire, answer, blames, delivery, flood, method};

const LIMIT: Duration = Duration::from_secs(3);
const DELIVERIES: u64 = 3000;

/// A connection that is not read because of a no-ack consumer with a thousand octets too many.
struct Stalled {
    connection: Connection,
    channel: Channel,
    consumer: Consumer<Received>,
    reader: Wire<tokio::io::ReadHalf<DuplexStream>>,
    flood: JoinHandle<WriteHalf<DuplexStream>>,
}

async fn stalled() -> Stalled {
    let options = ConnectOptions::default();
    let options = options
        .heartbeat(2)
        .consumer_octets(1000)
        .operation_timeout(LIMIT);
    let (connection, mut peer) = Peer::pair(options, 4096).await;
    let setup = async {
        let channel = connection.open_channel().await.unwrap();
        channel.confirm_select().await.unwrap();
        let consume = BasicConsume {
            queue: short!("q"),
            ..Default::default()
        };
        let consumer = channel.consume_no_ack(consume).await.unwrap();
        (channel, consumer)
    };
    let (channel, consumer) = peer.serving(setup).await;
    let mut octets = BytesMut::new();
    for tag in 1..=DELIVERIES {
        octets.extend_from_slice(&delivery(consumer.tag(), tag, &[b'x'; 100]));
    }
    let flood = flood(peer.writer, octets);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(connection.in_the_way().as_ref(), Some(consumer.tag()));
    let reader = peer.reader;
    Stalled {
        connection,
        channel,
        consumer,
        reader,
        flood,
    }
}

#[tokio::test(start_paused = true)]
async fn deliveries_may_stand_right_behind_consume_ok() {
    // CONS-4: in the same segment, before the program can have heard of the reply.
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    let broker = async {
        peer.grant("basic.qos").await;
        let (_, Method::BasicConsume(consume)) = peer.expect("basic.consume").await else {
            unreachable!()
        };
        let consumer_tag = consume.consumer_tag;
        let mut octets = delivery(&consumer_tag, 1, b"first");
        octets.extend_from_slice(&delivery(&consumer_tag, 2, b"second"));
        let mut reply = method(1, BasicConsumeOk { consumer_tag });
        reply.extend_from_slice(&octets);
        peer.say(reply).await;
    };
    let (consumer, ()) = tokio::join!(channel.consume("q"), broker);
    let mut consumer = consumer.unwrap();
    for body in [&b"first"[..], b"second"] {
        assert_eq!(consumer.next().await.unwrap().unwrap().body(), body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_consumes_when_its_prefetch_is_set() {
    // QOS-4: who sends both at once may find its limit forgotten.
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let broker = async {
        let qos = loop {
            let (channel, request) = peer.reader.method().await;
            if request.name() == "basic.qos" {
                break channel;
            }
            let reply = answer(&request).expect("an answer");
            peer.say(method(channel.0, reply)).await;
        };
        let quiet = tokio::time::timeout(LIMIT, peer.reader.frame()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        peer.say(method(qos.0, BasicQosOk::default())).await;
        peer.grant("basic.consume").await;
    };
    let (server, ()) = tokio::join!(RpcServer::new(&connection, "q"), broker);
    assert!(server.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_requeue_bit_of_a_confirm_means_nothing() {
    // CONF-11
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let setup = async {
        let channel = connection.open_channel().await.unwrap();
        channel.confirm_select().await.unwrap();
        channel
    };
    let channel = peer.serving(setup).await;
    let publishing = channel.publish_confirmed(BasicPublish::default(), "x");
    let (confirmation, _) = tokio::join!(publishing, peer.reader.publish());
    let nack = BasicNack {
        delivery_tag: DeliveryTag(1),
        requeue: true,
        ..Default::default()
    };
    peer.say(method(1, nack)).await;
    let outcome = confirmation.unwrap().outcome().await;
    assert_eq!(outcome.unwrap(), Confirm::Nack);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_may_stall_for_three_heartbeats() {
    // HB-4, HB-8
    let Stalled {
        connection,
        channel,
        mut consumer,
        mut reader,
        flood,
    } = stalled().await;
    let started = Instant::now();
    let mut beats = 0;
    while started.elapsed() < Duration::from_secs(6) {
        assert_eq!(reader.frame().await.unwrap().payload, Payload::Heartbeat);
        beats += 1;
    }
    assert!(beats >= 6, "one every h/2: {beats}");
    assert!(!flood.is_finished(), "the broker waits");
    sleep(Duration::from_mins(1)).await;
    assert!(
        connection.cause().is_none(),
        "who does not listen does not judge"
    );

    for _ in 0..DELIVERIES {
        consumer.next().await.unwrap().unwrap();
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(connection.in_the_way(), None);
    let mut writer = flood.await.unwrap();
    let (closed, ()) = tokio::join!(channel.close(), async {
        while reader.method().await.1.name() != "channel.close" {}
        writer
            .write_all(&method(1, ChannelCloseOk::default()))
            .await
            .unwrap();
    });
    closed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_behind_a_full_queue_is_told_the_consumer_in_the_way() {
    let Stalled {
        connection,
        channel,
        consumer,
        mut reader,
        ..
    } = stalled().await;
    let reading = tokio::spawn(async move { while reader.frame().await.is_some() {} });
    let (tag, started) = (consumer.tag(), Instant::now());
    let publish = BasicPublish {
        routing_key: short!("q"),
        ..Default::default()
    };
    let confirm = async {
        channel
            .publish_confirmed(publish, "x")
            .await?
            .outcome()
            .await
            .map(|_: Confirm| ())
    };
    let (confirm, declare, get, open, close) = tokio::join!(
        confirm,
        channel.queue_declare(QueueDeclare::default()),
        channel.get("q"),
        connection.open_channel(),
        channel.cancel(tag.clone()),
    );
    assert!(blames(&confirm, tag) && blames(&declare, tag) && blames(&get, tag));
    assert!(blames(&open, tag) && blames(&close, tag));
    assert!(
        (LIMIT..LIMIT * 2).contains(&started.elapsed()),
        "all at their own deadline"
    );
    let text = declare.unwrap_err().to_string();
    assert!(text.contains(&format!("consumer {tag}")), "{text}");
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn an_rpc_call_is_told_it_as_well() {
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    let rpc = RpcClient::new(&connection).await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    let queue = short!("flood");
    channel
        .queue_declare(QueueDeclare {
            queue,
            ..Default::default()
        })
        .await
        .unwrap();
    let consume = BasicConsume {
        queue: short!("flood"),
        ..Default::default()
    };
    let consumer = channel.consume_no_ack(consume).await.unwrap();
    for _ in 0..10 {
        channel
            .publish("", "flood", vec![0; 1 << 20])
            .await
            .unwrap();
    }
    while connection.in_the_way().is_none() {
        sleep(Duration::from_millis(1)).await;
    }
    match rpc.call("flood", "anybody?").await {
        Err(RpcError::Timeout(no_reply)) => {
            assert_eq!(no_reply.in_the_way.as_ref(), Some(consumer.tag()));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_await_a_confirm_behind_a_full_queue() {
    // The prefetch bounds what is queued, so a full prefetch is no reason to stop reading. QOS-1
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    channel.confirm_select().await.unwrap();
    for queue in [short!("in"), short!("out")] {
        channel
            .queue_declare(QueueDeclare {
                queue,
                ..Default::default()
            })
            .await
            .unwrap();
    }
    for _ in 0..500 {
        channel.publish("", "in", vec![7; 2000]).await.unwrap();
    }
    let mut consumer = channel.consume("in").await.unwrap();
    for _ in 0..500 {
        let delivery = consumer.next().await.unwrap().unwrap();
        let publish = BasicPublish {
            routing_key: short!("out"),
            ..Default::default()
        };
        let confirmation = channel.publish_confirmed(publish, "done").await.unwrap();
        assert_eq!(confirmation.outcome().await.unwrap(), Confirm::Ack);
        delivery.ack().await.unwrap();
    }
    assert_eq!(broker.queue("out").unwrap().ready, 500);
}

#[tokio::test(start_paused = true)]
async fn a_close_behind_a_full_queue_reads_on_and_discards() {
    // CLOSE-2
    let Stalled {
        connection,
        mut consumer,
        mut reader,
        flood,
        ..
    } = stalled().await;
    let started = Instant::now();
    let (closed, ()) = tokio::join!(connection.close(), async {
        assert_eq!(reader.method().await.1.name(), "connection.close");
        let mut writer = flood.await.unwrap();
        writer
            .write_all(&method(0, ConnectionCloseOk::default()))
            .await
            .unwrap();
    });
    closed.unwrap();
    assert!(started.elapsed() < LIMIT);
    let mut seen = 0;
    let end = loop {
        match consumer.next().await.unwrap() {
            Ok(_) => seen += 1,
            Err(error) => break error,
        }
    };
    assert!(
        (1..DELIVERIES).contains(&seen),
        "what had been queued is still there: {seen}"
    );
    assert!(matches!(end, Error::ConnectionClosed(_)), "{end}");
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_closed_is_not_in_the_way() {
    let Stalled {
        connection,
        channel,
        consumer,
        mut reader,
        flood,
    } = stalled().await;
    let (closed, ()) = tokio::join!(channel.clone().close(), async {
        assert_eq!(reader.method().await.1.name(), "channel.close");
        let mut writer = flood.await.unwrap();
        writer
            .write_all(&method(1, ChannelCloseOk::default()))
            .await
            .unwrap();
    });
    closed.unwrap();
    assert_eq!(connection.in_the_way(), None);
    drop(consumer);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_consumer_is_not_in_the_way() {
    let Stalled {
        connection,
        channel: _open,
        consumer,
        mut reader,
        flood,
        ..
    } = stalled().await;
    drop(consumer);
    assert_eq!(reader.method().await.1.name(), "basic.cancel");
    flood.await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(connection.in_the_way(), None);
}

#[tokio::test(start_paused = true)]
async fn more_deliveries_than_the_prefetch_stop_the_reading() {
    // SEC-16
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let setup = async {
        let channel = connection.open_channel().await.unwrap();
        channel.qos(3).await.unwrap();
        channel.consume("q").await.unwrap()
    };
    let mut consumer = peer.serving(setup).await;
    for tag in 1..=3 {
        peer.say(delivery(consumer.tag(), tag, b"x")).await;
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(connection.in_the_way(), None, "as many as were asked for");
    for tag in 4..=10 {
        peer.say(delivery(consumer.tag(), tag, b"x")).await;
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(connection.in_the_way().as_ref(), Some(consumer.tag()));
    for _ in 1..=7 {
        consumer.next().await.unwrap().unwrap().ack().await.unwrap();
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(connection.in_the_way(), None);
}
