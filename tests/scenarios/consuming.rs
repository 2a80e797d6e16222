//! Consumers: who gets what, in which order, and how a subscription ends.

use amqp_rpc::{client::Error, codec::*, short};
use tokio::time::timeout;

use crate::{
    raw::{CHANNEL, PATIENCE},
    world::*,
};

/// CONS-3, ACK-1: on the wire.
pub async fn consume_ok_comes_first(world: World) {
    let mut raw = world.raw().await;
    let queue = world.queue("q");
    raw.ask(shared(&queue)).await;
    fill(&world.channel().await, &queue, &["1", "2"]).await;
    let consume = BasicConsume {
        queue: queue.clone(),
        consumer_tag: ConsumerTag(short!("me")),
        ..Default::default()
    };
    let answer = raw.ask(consume).await;
    assert_eq!(answer, BasicConsumeOk { consumer_tag: ConsumerTag(short!("me")) }.into());
    for tag in [1, 2] {
        let deliver = BasicDeliver {
            consumer_tag: ConsumerTag(short!("me")),
            delivery_tag: DeliveryTag(tag),
            redelivered: false,
            exchange: short!(""),
            routing_key: queue.clone(),
        };
        assert_eq!(raw.method().await, Some(deliver.into()));
    }
}

/// CONS-1
pub async fn server_named_consumer(world: World) {
    let mut raw = world.raw().await;
    let queue = world.queue("q");
    raw.ask(shared(&queue)).await;
    let consume = BasicConsume { queue, ..Default::default() };
    let Method::BasicConsumeOk(ok) = raw.ask(consume).await else {
        panic!("expected basic.consume-ok");
    };
    assert!(ok.consumer_tag.0.as_bytes().starts_with(b"amq.ctag-"), "{}", ok.consumer_tag);
}

/// CONS-11, QOS-9: a consumer that holds a message gets no second one, however long the queue is.
pub async fn fair_dispatch(world: World) {
    let (one, other) = (world.channel().await, world.channel().await);
    let queue = world.queue("q");
    one.queue_declare(shared(&queue)).await.unwrap();
    one.qos(1).await.unwrap();
    other.qos(1).await.unwrap();
    let mut at_one = one.consume(&queue).await.unwrap();
    let mut at_other = other.consume(&queue).await.unwrap();
    fill(&one, &queue, &["1", "2", "3", "4"]).await;
    let (held, busy) = (next(&mut at_one).await, next(&mut at_other).await);
    let mut bodies = vec![text(held.body()), text(busy.body())];
    bodies.sort();
    assert_eq!(bodies, ["1", "2"]);
    assert_eq!(counts(&one, &queue).await, (2, 2), "the rest waits in the queue");
    held.ack().await.unwrap();
    let held = next(&mut at_one).await;
    assert_eq!(held.body(), b"3", "QOS-7");
    held.ack().await.unwrap();
    let last = next(&mut at_one).await;
    assert_eq!(last.body(), b"4", "the other one is busy still");
    last.ack().await.unwrap();
    busy.ack().await.unwrap();
}

/// QOS-1, QOS-2: a limit counts for each consumer started after it, not for those before.
pub async fn prefetch_is_per_consumer(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    channel.qos(2).await.unwrap();
    let mut two = channel.consume(&queue).await.unwrap();
    channel.qos(1).await.unwrap();
    let mut one = channel.consume(&queue).await.unwrap();
    fill(&channel, &queue, &["1", "2", "3", "4", "5"]).await;
    let held = [next(&mut two).await, next(&mut two).await, next(&mut one).await];
    assert_eq!(counts(&channel, &queue).await, (2, 2));
    drop(held);
}

/// QOS-6, CONS-7: what is sent is gone, and a prefetch does not count.
pub async fn no_ack_consumer(world: World) {
    let channel = world.channel().await;
    let queue = world.queue("q");
    channel.queue_declare(shared(&queue)).await.unwrap();
    channel.qos(1).await.unwrap();
    let consume = BasicConsume { queue: queue.clone(), ..Default::default() };
    let mut consumer = channel.consume_no_ack(consume).await.unwrap();
    fill(&channel, &queue, &["1", "2", "3"]).await;
    for expected in ["1", "2", "3"] {
        let received = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(text(received.body()), expected);
    }
    channel.close().await.unwrap();
    assert_eq!(counts(&world.channel().await, &queue).await.0, 0, "nothing comes back");
}

/// CONS-7: a tag that needs no ack cannot get one.
pub async fn ack_of_a_no_ack_delivery(world: World) {
    let mut raw = world.raw().await;
    let queue = world.queue("q");
    raw.ask(shared(&queue)).await;
    fill(&world.channel().await, &queue, &["1"]).await;
    raw.ask(BasicGet { queue, no_ack: true, ..Default::default() }).await;
    let ack = BasicAck { delivery_tag: DeliveryTag(1), multiple: false };
    let text = loses_channel(&mut raw, ack, 406).await;
    assert_eq!(text, "PRECONDITION_FAILED - unknown delivery tag 1");
}

/// CONS-8
pub async fn exclusive_consumer(world: World) {
    let connection = world.connect().await;
    let queue = world.queue("q");
    let channel = connection.open_channel().await.unwrap();
    channel.queue_declare(shared(&queue)).await.unwrap();
    let exclusive = || BasicConsume { queue: queue.clone(), exclusive: true, ..Default::default() };
    let in_use = format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use");

    let mut only = channel.consume_with(exclusive()).await.unwrap();
    let other = connection.open_channel().await.unwrap();
    assert_eq!(costs_channel(other.consume(&queue).await, 403, BasicConsume::ID), in_use);
    only.cancel().await.unwrap();

    let _first = channel.consume(&queue).await.unwrap();
    let other = connection.open_channel().await.unwrap();
    let text = costs_channel(other.consume_with(exclusive()).await, 403, BasicConsume::ID);
    assert_eq!(text, in_use, "others are there already");
}

/// CONS-2: a tag names one consumer of a channel; another channel may use it too.
pub async fn consumer_tag_reused(world: World) {
    let mut raw = world.raw().await;
    let queue = world.queue("q");
    raw.ask(shared(&queue)).await;
    let consume = BasicConsume {
        queue,
        consumer_tag: ConsumerTag(short!("me")),
        ..Default::default()
    };
    raw.ask(consume.clone()).await;
    raw.say(ChannelId(2), ChannelOpen::default()).await;
    assert!(matches!(raw.method().await, Some(Method::ChannelOpenOk(_))));
    raw.say(ChannelId(2), consume.clone()).await;
    assert!(matches!(raw.method().await, Some(Method::BasicConsumeOk(_))));
    let text = loses_connection(&mut raw, consume, 530).await;
    assert_eq!(text, "NOT_ALLOWED - attempt to reuse consumer tag 'me'");
}

/// QUEUE-17
pub async fn consume_from_a_missing_queue(world: World) {
    let connection = world.connect().await;
    let missing = world.name("missing");
    let channel = connection.open_channel().await.unwrap();
    let text = costs_channel(channel.consume(&missing).await, 404, BasicConsume::ID);
    // This client asks for a prefetch first, and the broker blames the method that failed, not the last one.
    assert_eq!(text, format!("NOT_FOUND - no queue '{missing}' in vhost '/'"));
    let channel = connection.open_channel().await.unwrap();
    costs_channel(channel.get(&missing).await, 404, BasicGet::ID);
}

/// CONS-13: after cancel-ok nothing more comes; what came before is still yielded, and can be acknowledged.
pub async fn cancel(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    fill(&channel, &queue, &["1", "2", "3"]).await;
    let mut consumer = channel.consume(&queue).await.unwrap();
    next(&mut consumer).await.ack().await.unwrap();
    consumer.cancel().await.unwrap();
    fill(&channel, &queue, &["4"]).await;
    assert_eq!(counts(&channel, &queue).await.1, 0);

    let mut bodies = Vec::new();
    while let Some(delivery) = timeout(PATIENCE, consumer.next()).await.unwrap() {
        let delivery = delivery.unwrap();
        bodies.push(text(delivery.body()));
        delivery.ack().await.unwrap();
    }
    assert!(!bodies.contains(&"4".to_owned()), "{bodies:?}");
    bodies.extend(drain(&channel, &queue).await);
    assert_eq!(bodies, ["2", "3", "4"]);
    channel.cancel(ConsumerTag(short!("unknown"))).await.expect("CONS-15");
}

/// CONS-17, CONS-18: the queue is deleted under its consumer.
pub async fn queue_deleted_under_a_consumer(world: World) {
    let channel = world.channel().await;
    let queue = world.queue("q");
    channel.queue_declare(shared(&queue)).await.unwrap();
    let mut consumer = channel.consume(&queue).await.unwrap();
    let mut raw = world.raw().await;
    let consume = BasicConsume {
        queue: queue.clone(),
        consumer_tag: ConsumerTag(short!("me")),
        ..Default::default()
    };
    raw.ask(consume).await;
    let other = world.channel().await;
    other.queue_delete(QueueDelete { queue, ..Default::default() }).await.unwrap();

    let end = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
    assert!(matches!(end, Err(Error::ConsumerCancelled(_))), "got {end:?}");
    assert!(consumer.next().await.is_none());
    channel.qos(1).await.expect("the channel goes on");
    let cancel = BasicCancel { consumer_tag: ConsumerTag(short!("me")), no_wait: true };
    assert_eq!(raw.method().await, Some(cancel.into()));
}

/// CONS-21, ACK-1
pub async fn get_counts_what_remains(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    assert!(channel.get(&queue).await.unwrap().is_none());
    channel.qos(1).await.unwrap(); // which does not limit a get: QOS-6
    fill(&channel, &queue, &["1", "2", "3"]).await;
    for (body, remaining) in [("1", 2), ("2", 1), ("3", 0)] {
        let got = channel.get(&queue).await.unwrap().unwrap();
        assert_eq!((text(got.delivery.body()).as_str(), got.remaining), (body, remaining));
    }
    assert!(channel.get(&queue).await.unwrap().is_none());
}

/// QOS-5
pub async fn prefetch_size_is_not_implemented(world: World) {
    let mut raw = world.raw().await;
    let qos = BasicQos { prefetch_size: 10, ..Default::default() };
    let text = loses_connection(&mut raw, qos, 540).await;
    assert_eq!(text, "NOT_IMPLEMENTED - prefetch_size!=0 (10)");
}

/// CONS-11: higher priorities first, for as long as they can take more.
pub async fn consumer_priority(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    channel.qos(2).await.unwrap();
    let mut low = channel.consume(&queue).await.unwrap();
    let preferred = BasicConsume {
        queue: queue.clone(),
        arguments: table([("x-priority", 10i32.into())]),
        ..Default::default()
    };
    let mut high = channel.consume_with(preferred).await.unwrap();
    fill(&channel, &queue, &["1", "2", "3"]).await;
    let held = [next(&mut high).await, next(&mut high).await, next(&mut low).await];
    assert_eq!(held.each_ref().map(|delivery| text(delivery.body())), ["1", "2", "3"]);
}

/// METH-8: no-wait requests have no answer, and are done all the same.
pub async fn no_wait_requests(world: World) {
    let mut raw = world.raw().await;
    let queue = world.queue("q");
    raw.say(CHANNEL, QueueDeclare { no_wait: true, ..shared(&queue) }).await;
    let bind = QueueBind {
        queue: queue.clone(),
        exchange: short!("amq.direct"),
        routing_key: queue.clone(),
        no_wait: true,
        ..Default::default()
    };
    raw.say(CHANNEL, bind).await;
    raw.say(CHANNEL, ConfirmSelect { no_wait: true }).await;
    let publish = BasicPublish { exchange: short!("amq.direct"), ..to(&queue) };
    raw.publish(publish, "hello").await;
    let ack = BasicAck { delivery_tag: DeliveryTag(1), multiple: false };
    assert_eq!(raw.method().await, Some(ack.into()));
    raw.say(CHANNEL, QueuePurge { queue: queue.clone(), no_wait: true, ..Default::default() }).await;
    let declared = QueueDeclareOk { queue: queue.clone(), message_count: 0, consumer_count: 0 };
    assert_eq!(raw.ask(passive(&queue)).await, declared.into());
    let missing = QueueDeclare { passive: true, no_wait: true, ..shared(&world.name("missing")) };
    loses_channel(&mut raw, missing, 404).await; // QUEUE-18
}

/// CONS-11: in turn, one each.
pub async fn consumers_take_turns(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    let mut one = channel.consume(&queue).await.unwrap();
    let mut other = channel.consume(&queue).await.unwrap();
    fill(&channel, &queue, &["1", "2", "3", "4"]).await;
    for (first, second) in [("1", "2"), ("3", "4")] {
        let held = [next(&mut one).await, next(&mut other).await];
        assert_eq!(held.map(|delivery| text(delivery.body())), [first, second]);
    }
}

/// CHAN-11 in small: a consumer that is dropped gives back what it has not seen.
pub async fn dropped_consumer_gives_back(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    let mut consumer = channel.consume(&queue).await.unwrap();
    fill(&channel, &queue, &["1", "2", "3"]).await;
    next(&mut consumer).await.ack().await.unwrap();
    drop(consumer);
    // A drop cannot wait until it is done, so the scenario asks until it is.
    while counts(&channel, &queue).await != (2, 0) {}
    assert_eq!(drain(&channel, &queue).await, ["2", "3"]);
}

/// METH-6, METH-10: RabbitMQ answers consume and cancel when the queue has, and requests behind them may be answered
/// first. Each caller gets its own answer all the same.
pub async fn requests_in_flight_together(world: World) {
    let channel = world.channel().await;
    let queues = [world.name("one"), world.name("other")];
    for queue in &queues {
        channel.queue_declare(own(queue)).await.unwrap();
    }
    channel.qos(1).await.unwrap();
    let [one, other] = &queues;
    for _ in 0..50 {
        let (first, second, found, got) = tokio::join!(
            channel.consume(one),
            channel.consume(other),
            channel.queue_declare(passive(one)),
            channel.get(other),
        );
        let (mut first, mut second) = (first.unwrap(), second.unwrap());
        assert_eq!(found.unwrap().queue, *one);
        assert!(got.unwrap().is_none());
        let (first, second, found) = tokio::join!(
            first.cancel(),
            second.cancel(),
            channel.queue_declare(passive(other)),
        );
        first.unwrap();
        second.unwrap();
        assert_eq!(found.unwrap().queue, *other);
    }
}
