//! Acknowledgements: what is settled, what comes back, and in which order.

use amqp_rpc::{client::Channel, codec::*};

use crate::{raw::CHANNEL, world::*};

async fn own_queue(world: &World, bodies: &[&'static str]) -> (Channel, ShortString) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    fill(&channel, &queue, bodies).await;
    (channel, queue)
}

/// The bodies that are ready, each with its redelivered bit.
async fn ready(channel: &Channel, queue: &ShortString) -> Vec<(String, bool)> {
    let mut all = Vec::new();
    while let Some(got) = channel.get_no_ack(queue).await.unwrap() {
        all.push((text(got.delivery.body()), got.delivery.redelivered));
    }
    all
}

fn lines(all: &[(&str, bool)]) -> Vec<(String, bool)> {
    all.iter().map(|&(body, redelivered)| (body.into(), redelivered)).collect()
}

/// ACK-7, CONS-19, CONS-20: each goes back to its old place, whatever the order of the nacks.
pub async fn requeued_messages_keep_their_order(world: World) {
    let (channel, queue) = own_queue(&world, &["1", "2", "3", "4"]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(channel.get(&queue).await.unwrap().unwrap().delivery);
    }
    let [one, two, three] = <[_; 3]>::try_from(held).unwrap();
    three.nack(true).await.unwrap();
    one.reject(true).await.unwrap();
    two.ack().await.unwrap();
    let expected = lines(&[("1", true), ("3", true), ("4", false)]);
    assert_eq!(ready(&channel, &queue).await, expected);
}

/// CONS-11, QOS-7: the same with a consumer, which gets them again at once.
pub async fn nack_to_a_consumer(world: World) {
    let (channel, queue) = own_queue(&world, &["1", "2"]).await;
    channel.qos(1).await.unwrap();
    let mut consumer = channel.consume(&queue).await.unwrap();
    let first = next(&mut consumer).await;
    assert_eq!((text(first.body()), first.redelivered), ("1".into(), false));
    first.nack(true).await.unwrap();
    let again = next(&mut consumer).await;
    assert_eq!((text(again.body()), again.redelivered), ("1".into(), true));
    again.ack().await.unwrap();
    let second = next(&mut consumer).await;
    assert_eq!((text(second.body()), second.redelivered), ("2".into(), false));
}

/// ACK-7
pub async fn reject_drops(world: World) {
    let (channel, queue) = own_queue(&world, &["1", "2", "3"]).await;
    channel.get(&queue).await.unwrap().unwrap().delivery.reject(false).await.unwrap();
    channel.get(&queue).await.unwrap().unwrap().delivery.nack(false).await.unwrap();
    assert_eq!(ready(&channel, &queue).await, lines(&[("3", false)]));
}

/// CHAN-11: what a channel held goes back when it closes.
pub async fn closed_channel_gives_back(world: World) {
    let connection = world.connect().await;
    let queue = world.name("q");
    let channel = connection.open_channel().await.unwrap();
    channel.queue_declare(own(&queue)).await.unwrap();
    fill(&channel, &queue, &["1", "2", "3"]).await;
    let holder = connection.open_channel().await.unwrap();
    let one = holder.get(&queue).await.unwrap().unwrap();
    let two = holder.get(&queue).await.unwrap().unwrap();
    holder.close().await.unwrap();
    drop((one, two));
    let expected = lines(&[("1", true), ("2", true), ("3", false)]);
    assert_eq!(ready(&channel, &queue).await, expected);
}

/// CLOSE-10: so does a connection that is lost without a word.
pub async fn lost_connection_gives_back(world: World) {
    let channel = world.channel().await;
    let queue = world.queue("q");
    channel.queue_declare(shared(&queue)).await.unwrap();
    fill(&channel, &queue, &["1", "2", "3"]).await;
    let mut raw = world.raw().await;
    for _ in 0..2 {
        raw.ask(BasicGet { queue: queue.clone(), ..Default::default() }).await;
    }
    assert_eq!(counts(&channel, &queue).await, (1, 0));
    drop(raw);
    // Nobody says when the broker has noticed, so the scenario asks until it has.
    while counts(&channel, &queue).await != (3, 0) {}
    let expected = lines(&[("1", true), ("2", true), ("3", false)]);
    assert_eq!(ready(&channel, &queue).await, expected);
}

/// ACK-10, CONS-3: recover-ok, and then the deliveries once more, with new tags.
pub async fn recover_with_a_consumer(world: World) {
    let mut raw = world.raw().await;
    let queue = world.queue("q");
    raw.ask(shared(&queue)).await;
    fill(&world.channel().await, &queue, &["1"]).await;
    raw.ask(BasicConsume { queue, ..Default::default() }).await;
    for (tag, redelivered) in [(1, false), (2, true)] {
        let Some(Method::BasicDeliver(deliver)) = raw.method().await else {
            panic!("expected basic.deliver");
        };
        assert_eq!((deliver.delivery_tag, deliver.redelivered), (DeliveryTag(tag), redelivered));
        if !redelivered {
            let answer = raw.ask(BasicRecover { requeue: true }).await;
            assert_eq!(answer, BasicRecoverOk {}.into());
        }
    }
}

/// ACK-10
pub async fn recover(world: World) {
    let (channel, queue) = own_queue(&world, &["1", "2"]).await;
    let held = [
        channel.get(&queue).await.unwrap().unwrap(),
        channel.get(&queue).await.unwrap().unwrap(),
    ];
    channel.recover().await.unwrap();
    drop(held); // they are the queue's again, and their tags are nobody's
    assert_eq!(ready(&channel, &queue).await, lines(&[("1", true), ("2", true)]));
}

/// ACK-10: a recover that does not requeue.
pub async fn recover_without_requeue_is_not_implemented(world: World) {
    let mut raw = world.raw().await;
    let text = loses_connection(&mut raw, BasicRecover { requeue: false }, 540).await;
    assert_eq!(text, "NOT_IMPLEMENTED - requeue=false");
}

/// ACK-4, ACK-5: `multiple` settles all up to its tag, and tag 0 all there are.
pub async fn ack_multiple(world: World) {
    let mut raw = world.raw().await;
    let queue = world.queue("q");
    raw.ask(shared(&queue)).await;
    let channel = world.channel().await;
    fill(&channel, &queue, &["1", "2", "3", "4"]).await;
    for _ in 0..4 {
        raw.ask(BasicGet { queue: queue.clone(), ..Default::default() }).await;
    }
    raw.say(CHANNEL, BasicAck { delivery_tag: DeliveryTag(2), multiple: true }).await;
    raw.ask(BasicRecover { requeue: true }).await;
    for _ in 0..2 {
        raw.ask(BasicGet { queue: queue.clone(), ..Default::default() }).await;
    }
    let nack = BasicNack { delivery_tag: DeliveryTag(0), multiple: true, requeue: true };
    raw.say(CHANNEL, nack).await;
    raw.say(CHANNEL, BasicAck { delivery_tag: DeliveryTag(0), multiple: true }).await; // none left: no error
    let qos_ok = raw.ask(BasicQos::default()).await;
    assert_eq!(qos_ok, BasicQosOk {}.into());
    assert_eq!(ready(&channel, &queue).await, lines(&[("3", true), ("4", true)]));
}

/// ACK-3, ACK-6, ACK-8: nothing answers an ack, and a wrong one costs its channel.
pub async fn unknown_delivery_tag(world: World) {
    let ack = |tag, multiple| BasicAck { delivery_tag: DeliveryTag(tag), multiple }.into();
    let faults: [(Method, u64); 5] = [
        (ack(99, false), 99),
        (ack(0, false), 0),
        (ack(5, true), 5),
        (BasicReject { delivery_tag: DeliveryTag(9), requeue: true }.into(), 9),
        (
            BasicNack { delivery_tag: DeliveryTag(9), multiple: false, requeue: true }.into(),
            9,
        ),
    ];
    let mut raw = world.raw().await;
    for (fault, tag) in faults {
        let text = loses_channel(&mut raw, fault, 406).await;
        assert_eq!(text, format!("PRECONDITION_FAILED - unknown delivery tag {tag}"));
        raw.ask(ChannelOpen::default()).await;
    }
}

/// ACK-2, ACK-3: a tag is good once, and only where it came from.
pub async fn delivery_tag_is_good_once(world: World) {
    let mut raw = world.raw().await;
    let queue = world.queue("q");
    raw.ask(shared(&queue)).await;
    fill(&world.channel().await, &queue, &["1"]).await;
    raw.ask(BasicGet { queue: queue.clone(), ..Default::default() }).await;
    let ack = BasicAck { delivery_tag: DeliveryTag(1), multiple: false };
    raw.say(CHANNEL, ack.clone()).await;
    let text = loses_channel(&mut raw, ack, 406).await;
    assert_eq!(text, "PRECONDITION_FAILED - unknown delivery tag 1");
}

/// ACK-9
pub async fn ack_after_the_queue_is_gone(world: World) {
    let (channel, queue) = own_queue(&world, &["1"]).await;
    let held = channel.get(&queue).await.unwrap().unwrap();
    channel.queue_delete(QueueDelete { queue, ..Default::default() }).await.unwrap();
    held.delivery.ack().await.unwrap();
    channel.qos(1).await.expect("no error");
}

/// RPC-23: a quorum queue says how often a message came back. Absent means never.
pub async fn quorum_queue_counts_deliveries(world: World) {
    let channel = world.channel().await;
    let queue = world.queue("quorum");
    let declare = QueueDeclare {
        durable: true,
        arguments: table([("x-queue-type", "quorum".into())]),
        ..shared(&queue)
    };
    channel.queue_declare(declare).await.unwrap();
    channel.qos(1).await.unwrap();
    let mut consumer = channel.consume(&queue).await.unwrap();
    fill(&channel, &queue, &["poison"]).await;
    for returns in [None, Some(1), Some(2)] {
        let delivery = next(&mut consumer).await;
        let headers = delivery.properties().headers.as_ref();
        let count = headers.and_then(|headers| headers.get("x-delivery-count"));
        assert_eq!(count.and_then(FieldValue::as_integer), returns);
        assert_eq!(delivery.redelivered, returns.is_some());
        delivery.reject(returns.is_none_or(|count| count < 2)).await.unwrap();
    }
}
