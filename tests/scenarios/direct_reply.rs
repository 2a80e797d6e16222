//! Direct reply-to: replies without a queue, and the three rules of it.

use amqp_rpc::{client::Channel, codec::*, protocol::Message, short};
use tokio::time::timeout;

use crate::{raw::PATIENCE, world::*};

const REPLY_TO: ShortString = ShortString::literal("amq.rabbitmq.reply-to");

fn replies() -> BasicConsume {
    BasicConsume { queue: REPLY_TO, ..Default::default() }
}

fn request() -> Message {
    let properties = Properties {
        reply_to: Some(REPLY_TO),
        correlation_id: Some(short!("7")),
        ..Default::default()
    };
    Message { properties: properties.into(), body: "request".into() }
}

/// The server's half: takes the request and says where its reply has to go.
async fn reply_name(server: &Channel, queue: &ShortString) -> ShortString {
    let got = server.get_no_ack(queue).await.unwrap().unwrap();
    got.delivery.properties().reply_to.clone().unwrap()
}

/// DRT-1, DRT-3, DRT-5, DRT-6
pub async fn reply_without_a_queue(world: World) {
    let (client, server) = (world.channel().await, world.channel().await);
    let queue = world.queue("q");
    server.queue_declare(shared(&queue)).await.unwrap();
    let mut consumer = client.consume_no_ack(replies()).await.unwrap();
    put(&client, to(&queue), request()).await;
    let name = reply_name(&server, &queue).await;
    assert!(name.as_bytes().starts_with(b"amq.rabbitmq.reply-to."), "{name}");
    server.publish("", &name, "reply").await.unwrap();
    let reply = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((reply.body(), &reply.exchange), (&b"reply"[..], &short!("")));
    assert_eq!(reply.routing_key, name);
}

/// DRT-4, DRT-8: whether the client waits can be asked; a name is dead once its consumer is cancelled.
pub async fn is_the_client_still_there(world: World) {
    let (client, server) = (world.channel().await, world.channel().await);
    let queue = world.queue("q");
    server.queue_declare(shared(&queue)).await.unwrap();
    let mut consumer = client.consume_no_ack(replies()).await.unwrap();
    put(&client, to(&queue), request()).await;
    let name = reply_name(&server, &queue).await;
    assert_eq!(counts(&server, &name).await, (0, 1));
    consumer.cancel().await.unwrap();
    costs_channel(server.queue_declare(passive(&name)).await, 404, QueueDeclare::ID);

    let _again = client.consume_no_ack(replies()).await.expect("DRT-4: it can be started again");
    put(&client, to(&queue), request()).await;
    assert_ne!(reply_name(&world.channel().await, &queue).await, name);
}

/// DRT-1
pub async fn reply_consumer_cannot_acknowledge(world: World) {
    let channel = world.channel().await;
    let text = costs_channel(channel.consume(REPLY_TO).await, 406, BasicConsume::ID);
    assert_eq!(text, "PRECONDITION_FAILED - reply consumer cannot acknowledge");
}

/// DRT-4
pub async fn one_reply_consumer_per_channel(world: World) {
    let channel = world.channel().await;
    let _first = channel.consume_no_ack(replies()).await.unwrap();
    let text = costs_channel(channel.consume_no_ack(replies()).await, 406, BasicConsume::ID);
    assert_eq!(text, "PRECONDITION_FAILED - reply consumer already set");
}

/// DRT-2: the consumer first, and on the channel of the request.
pub async fn request_needs_a_reply_consumer(world: World) {
    let connection = world.connect().await;
    let (channel, other) = (connection.open_channel().await.unwrap(), connection.open_channel().await.unwrap());
    let _elsewhere = other.consume_no_ack(replies()).await.unwrap();
    channel.publish_with(to(&world.name("q")), request()).await.unwrap();
    let text = costs_channel(channel.qos(1).await, 406, BasicPublish::ID);
    assert_eq!(text, "PRECONDITION_FAILED - fast reply consumer does not exist");
}

/// DRT-6: a reply to somebody who is gone is dropped, without a word.
pub async fn reply_to_nobody(world: World) {
    let (client, server) = (world.channel().await, world.channel().await);
    let queue = world.queue("q");
    server.queue_declare(shared(&queue)).await.unwrap();
    let mut consumer = client.consume_no_ack(replies()).await.unwrap();
    put(&client, to(&queue), request()).await;
    let name = reply_name(&server, &queue).await;
    consumer.cancel().await.unwrap();
    put(&server, to(&name), "reply").await;
    assert!(consumer.next().await.is_none());
}
