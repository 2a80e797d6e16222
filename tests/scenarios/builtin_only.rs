//! What only a broker of one's own can be made to do.

use std::time::Duration;

use amqp_rpc::{
    broker::{Broker, BrokerOptions, QueueStats},
    client::{Channel, Confirm, ConnectOptions, Connection, Error, Message},
    codec::*,
    protocol::Cause,
    rpc::{HandlerError, Request, RpcServer, RpcServerOptions},
    short,
};
use tokio::time::{sleep, timeout};

use crate::{
    raw::{CHANNEL, Ending, PATIENCE, Raw},
    world::{costs_channel, costs_connection, fill, loses_connection, next, own, put, table, to},
};

/// CLOSE-15: everybody is told, and everything that waits hears it.
#[tokio::test]
async fn shutdown_is_320_for_everyone() {
    let broker = Broker::start().await.unwrap();
    let uri = broker.uri();
    let connection = Connection::open(&uri).await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    let declare = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    let queue = channel.queue_declare(declare).await.unwrap().queue;
    let mut consumer = channel.consume(queue).await.unwrap();
    timeout(PATIENCE, broker.stop()).await.unwrap();
    let end = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
    let text = costs_connection(end, 320, MethodId::NONE);
    assert_eq!(
        text,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    );
    costs_connection(channel.qos(1).await, 320, MethodId::NONE);
    let refused = Connection::open(&uri).await.unwrap_err();
    assert!(
        matches!(refused, Error::Connect { .. }),
        "nobody listens any more: {refused}"
    );
}

/// CONTENT-15, ERR-1: a header is never split. Who asked for frames that are too small for it is told so, and whoever
/// has larger ones gets the message.
#[tokio::test]
async fn a_message_that_fits_no_frame_of_its_consumer_goes_to_another() {
    let broker = Broker::start().await.unwrap();
    let publisher = channel_of(&broker).await;
    let declare = QueueDeclare {
        queue: short!("large"),
        ..Default::default()
    };
    publisher.queue_declare(declare).await.unwrap();
    let options: ConnectOptions = broker.uri().parse().unwrap();
    let narrow = Connection::connect(options.frame_max(4096)).await.unwrap();
    let narrow = narrow.open_channel().await.unwrap();
    let mut refused = narrow.consume("large").await.unwrap();
    let headers = table([("x", "y".repeat(5000).into())]);
    let properties = Properties {
        headers: Some(headers),
        ..Default::default()
    };
    let message = Message::new(properties, "large");
    publisher
        .publish("", "large", message.clone())
        .await
        .unwrap();
    let end = timeout(PATIENCE, refused.next()).await.unwrap().unwrap();
    let text = costs_channel(end, 311, BasicDeliver::ID);
    assert!(text.contains("a frame has room for 4088"), "{text}");
    let mut wide = publisher.consume("large").await.unwrap();
    let delivery = next(&mut wide).await;
    assert_eq!(delivery.message, message);
}

/// RPC-22, RPC-25: however much a server holds that it has not begun, it gives all of it back.
#[tokio::test]
async fn a_server_stops_behind_a_full_queue() {
    const MANY: usize = 500;
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    let options = RpcServerOptions {
        prefetch: 0,
        ..Default::default()
    };
    let server = RpcServer::with_options(&connection, "crowded", options);
    let server = server.await.unwrap();
    let publisher = channel_of(&broker).await;
    for _ in 0..MANY {
        let body = vec![0; 1024];
        publisher.publish("", "crowded", body).await.unwrap();
    }
    let handed_out = async {
        while broker.queue("crowded").unwrap().unacked < MANY {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, handed_out)
        .await
        .expect("all of it waits for the server");
    let never = |_: Request| std::future::pending::<Result<&'static str, HandlerError>>();
    let monitor = server.monitor();
    timeout(PATIENCE, server.serve(never, std::future::ready(())))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(broker.queue("crowded").unwrap().ready, MANY);
    assert_eq!(monitor.stats().given_back, MANY as u64);
}

/// HB-1, HB-11: an hour in which nobody says anything, in paused time.
#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_connection_for_an_hour() {
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    assert_eq!(connection.opened().tuning.heartbeat, 60);
    let channel = connection.open_channel().await.unwrap();
    sleep(Duration::from_hours(1)).await;
    channel.qos(1).await.unwrap();
    assert_eq!(connection.cause(), None::<&Cause>);
}

/// TX-6
#[tokio::test]
async fn transactions_are_not_implemented() {
    let broker = Broker::start().await.unwrap();
    let mut raw = Raw::open(&broker.uri()).await;
    let text = loses_connection(&mut raw, TxSelect {}, 540).await;
    assert_eq!(text, "NOT_IMPLEMENTED - tx.select");
}

/// What this broker cannot keep it does not promise to keep.
#[tokio::test]
async fn streams_are_refused() {
    let broker = Broker::start().await.unwrap();
    let channel = channel_of(&broker).await;
    let arguments = table([("x-queue-type", "stream".into())]);
    let declare = QueueDeclare {
        arguments,
        ..own(&short!("q"))
    };
    let text = costs_channel(channel.queue_declare(declare).await, 406, QueueDeclare::ID);
    assert!(text.contains("unsupported queue type 'stream'"), "{text}");
}

/// SEC-5: refused as soon as the header says how large it is, and not when 17 MiB have come.
#[tokio::test]
async fn large_message_is_refused_on_its_header() {
    let broker = Broker::start().await.unwrap();
    let mut raw = Raw::open(&broker.uri()).await;
    raw.say(CHANNEL, BasicPublish::default()).await;
    let header = ContentHeader {
        class_id: BASIC_CLASS,
        body_size: (16 << 20) + 1,
        ..Default::default()
    };
    raw.say_frame(Payload::Header(header)).await;
    match raw.ending().await {
        Ending::Channel(reason) => {
            assert_eq!((reason.code.0, reason.method), (406, BasicPublish::ID));
        }
        other => panic!("expected channel.close 406, got {other:?}"),
    }
}

fn queue(name: ShortString) -> QueueDeclare {
    QueueDeclare {
        queue: name,
        ..Default::default()
    }
}

async fn channel_of(broker: &Broker) -> Channel {
    broker
        .connect()
        .await
        .unwrap()
        .open_channel()
        .await
        .unwrap()
}

/// CONS-22, DLX-1: an hour of waiting, in paused time. What has expired is not counted a moment longer.
#[tokio::test(start_paused = true)]
async fn messages_expire_in_paused_time() {
    let broker = Broker::start().await.unwrap();
    let channel = channel_of(&broker).await;
    let arguments = table([
        ("x-message-ttl", 3_600_000i32.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", "late".into()),
    ]);
    channel
        .queue_declare(QueueDeclare {
            arguments,
            ..queue(short!("q"))
        })
        .await
        .unwrap();
    channel.queue_declare(queue(short!("late"))).await.unwrap();
    put(&channel, to(&short!("q")), "hello").await;
    let ready = |name: &str| broker.queue(name).unwrap().ready;
    sleep(Duration::from_hours(1) - Duration::from_millis(1)).await;
    assert_eq!((ready("q"), ready("late")), (1, 0));
    sleep(Duration::from_millis(1)).await;
    assert_eq!((ready("q"), ready("late")), (0, 1));
}

/// QUEUE-10: a look from outside, at all of it.
#[tokio::test]
async fn all_queues_at_a_glance() {
    let broker = Broker::start().await.unwrap();
    assert!(broker.queues().is_empty());
    let channel = channel_of(&broker).await;
    for name in [short!("b"), short!("a")] {
        channel.queue_declare(queue(name.clone())).await.unwrap();
        fill(&channel, &name, &["1", "2"]).await;
    }
    let held = channel.get("a").await.unwrap();
    let consumer = channel.consume("b").await.unwrap();
    let stats = |ready, unacked, consumers| QueueStats {
        ready,
        unacked,
        consumers,
    };
    let expected = [(short!("a"), stats(1, 1, 0)), (short!("b"), stats(0, 2, 1))];
    assert!(broker.queues().into_iter().eq(expected));
    drop((held, consumer));
}

/// BLOCK-1, BLOCK-2, CONN-8: who publishes is told and waits; who does not publish goes on.
#[tokio::test]
async fn blocked_publisher_waits() {
    let broker = Broker::start().await.unwrap();
    let (publisher, other) = (channel_of(&broker).await, channel_of(&broker).await);
    publisher.queue_declare(queue(short!("q"))).await.unwrap();
    put(&publisher, to(&short!("q")), "before").await;
    let mut consumer = other.consume("q").await.unwrap();

    broker.block("low on memory");
    publisher
        .qos(1)
        .await
        .expect("nobody is blocked who does not publish");
    let connection = broker.connect().await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    channel.confirm_select().await.unwrap();
    let mut blocked = connection.blocked();
    assert_eq!(*blocked.borrow_and_update(), None);
    let confirmation = channel
        .publish_confirmed(to(&short!("q")), "while")
        .await
        .unwrap();
    blocked.changed().await.unwrap();
    assert_eq!(
        blocked.borrow_and_update().as_ref(),
        Some(&short!("low on memory"))
    );
    next(&mut consumer).await.ack().await.unwrap();
    other.qos(1).await.unwrap();
    assert_eq!(
        broker.queue("q").unwrap(),
        QueueStats {
            consumers: 1,
            ..Default::default()
        }
    );

    broker.unblock();
    blocked.changed().await.unwrap();
    assert_eq!(*blocked.borrow_and_update(), None);
    assert_eq!(confirmation.outcome().await.unwrap(), Confirm::Ack);
    assert_eq!(next(&mut consumer).await.body(), b"while");
}

/// BLOCK-1, BLOCK-2, CONN-8: a client that did not announce that it understands is not told, and is not read either.
#[tokio::test]
async fn blocked_publisher_that_is_not_told() {
    let broker = Broker::start().await.unwrap();
    let mut raw = Raw::open(&broker.uri()).await;
    raw.ask(queue(short!("q"))).await;
    broker.block("low on memory");
    raw.publish(to(&short!("q")), "waits").await;
    raw.say(
        CHANNEL,
        BasicGet {
            queue: short!("q"),
            ..Default::default()
        },
    )
    .await;
    let silence = async {
        // As many turns of the others as they like to take: whatever is to be said has been said by then.
        for _ in 0..100 {
            channel_of(&broker)
                .await
                .queue_declare(queue(short!("other")))
                .await
                .unwrap();
        }
    };
    tokio::select! {
        answer = raw.method() => panic!("it is blocked, and yet {answer:?}"),
        () = silence => {}
    }
    assert_eq!(broker.queue("q").unwrap().ready, 0);
    broker.unblock();
    assert!(
        matches!(raw.method().await, Some(Method::BasicGetOk(_))),
        "and no connection.unblocked"
    );
}

/// BLOCK-2, HB-1: an hour long nothing is read of it, and it is not taken for dead.
#[tokio::test(start_paused = true)]
async fn blocked_publisher_is_not_dropped() {
    let broker = Broker::start().await.unwrap();
    let channel = channel_of(&broker).await;
    channel.queue_declare(queue(short!("q"))).await.unwrap();
    channel.confirm_select().await.unwrap();
    broker.block("low on memory");
    let confirmation = channel
        .publish_confirmed(to(&short!("q")), "late")
        .await
        .unwrap();
    sleep(Duration::from_hours(1)).await;
    broker.unblock();
    assert_eq!(confirmation.outcome().await.unwrap(), Confirm::Ack);
    sleep(Duration::from_hours(1)).await;
    channel.qos(1).await.unwrap();
}

/// SEC-8, BLOCK-1: a broker with room for a mebibyte takes four of them, one after the other.
#[tokio::test]
async fn memory_has_a_limit() {
    let mut options = BrokerOptions::default();
    options.vhost.memory_limit = 1 << 20;
    let broker = Broker::bind("127.0.0.1:0", options).await.unwrap();
    let (taker, connection) = (channel_of(&broker).await, broker.connect().await.unwrap());
    let channel = connection.open_channel().await.unwrap();
    channel.queue_declare(queue(short!("q"))).await.unwrap();
    let publish = tokio::spawn(async move {
        for _ in 0..64 {
            put(&channel, to(&short!("q")), vec![0; 64 << 10]).await;
        }
    });
    let mut blocked = connection.blocked();
    timeout(PATIENCE, blocked.wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        blocked.borrow_and_update().as_ref(),
        Some(&short!("low on memory"))
    );
    let kept = broker.queue("q").unwrap().ready;
    assert_eq!(
        kept, 16,
        "the last one is beyond the limit, with what its bookkeeping takes"
    );
    let mut consumer = taker.consume("q").await.unwrap();
    for _ in 0..64 {
        next(&mut consumer).await.ack().await.unwrap();
    }
    publish.await.unwrap();
    assert_eq!(*blocked.borrow_and_update(), None);
}

/// CLOSE-15: an operator's words, for everybody who is there, blocked or not. Who comes later is welcome.
#[tokio::test]
async fn connections_are_closed_by_an_operator() {
    let broker = Broker::start().await.unwrap();
    let (idle, publisher) = (
        Connection::open(&broker.uri()).await.unwrap(),
        broker.connect().await.unwrap(),
    );
    let (idle, channel) = (
        idle.open_channel().await.unwrap(),
        publisher.open_channel().await.unwrap(),
    );
    channel.confirm_select().await.unwrap();
    broker.block("low on disk");
    let confirmation = channel
        .publish_confirmed(BasicPublish::default(), "x")
        .await
        .unwrap();
    publisher.blocked().wait_for(Option::is_some).await.unwrap();
    broker.close_connections("maintenance");
    let expected = "CONNECTION_FORCED - maintenance";
    assert_eq!(
        costs_connection(idle.qos(1).await, 320, MethodId::NONE),
        expected
    );
    assert_eq!(
        costs_connection(confirmation.outcome().await, 320, MethodId::NONE),
        expected
    );
    channel_of(&broker).await;
}

/// CLOSE-15: another broker in the place of one that has stopped knows none of its queues.
#[tokio::test]
async fn broker_starts_again_at_its_address() {
    let broker = Broker::start().await.unwrap();
    let (uri, address) = (broker.uri(), broker.address());
    let connection = Connection::open(&uri).await.unwrap();
    let declare = QueueDeclare {
        durable: true,
        ..queue(short!("durable"))
    };
    connection
        .open_channel()
        .await
        .unwrap()
        .queue_declare(declare)
        .await
        .unwrap();
    broker.stop().await;
    assert_eq!(
        connection.closed().await.code(),
        Some(ReplyCode::CONNECTION_FORCED)
    );
    for _ in 0..3 {
        let broker = Broker::bind(address, BrokerOptions::default())
            .await
            .expect("its address is free");
        assert!(broker.queues().is_empty());
        let connection = Connection::open(&uri).await.unwrap();
        connection
            .open_channel()
            .await
            .unwrap()
            .queue_declare(queue(short!("q")))
            .await
            .unwrap();
        broker.stop().await;
    }
}
