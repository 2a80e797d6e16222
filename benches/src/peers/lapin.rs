//! The same work as `peer`, done with lapin: publishes and acks are kept in flight, since each one that is awaited
//! alone waits for its write.

use std::sync::Arc;

use amqp_rpc_benches::work::{
    self, Ack, Arguments, Outcome, Pending, Role, Window, measure_calls, report_flow,
};
use clap::Parser;
use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};

const PEER: &str = "lapin";

/// How many publishes, and how many acks, are not awaited yet.
const PUBLISHES: usize = 256;
const ACKS: usize = 64;

fn main() -> Outcome<()> {
    work::run(run(Arguments::parse()))?;
    std::process::exit(0) // its threads would be waited for
}

async fn run(arguments: Arguments) -> Outcome<()> {
    match arguments.role {
        Role::Server => serve(arguments).await,
        Role::Client => call(arguments).await,
        Role::Publish => publish(arguments).await,
        Role::Consume => drain(arguments).await,
    }
}

async fn open(arguments: &Arguments) -> Outcome<(Connection, Channel)> {
    let connection = Connection::connect(&arguments.url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn declare(channel: &Channel, queue: &str, passive: bool) -> Outcome<()> {
    let options = QueueDeclareOptions {
        auto_delete: !passive,
        passive,
        ..Default::default()
    };
    channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await?;
    Ok(())
}

async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> Outcome<Consumer> {
    let options = BasicConsumeOptions {
        no_ack,
        ..Default::default()
    };
    Ok(channel
        .basic_consume(queue.into(), "".into(), options, FieldTable::default())
        .await?)
}

async fn send(
    channel: &Channel,
    queue: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Outcome<()> {
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), queue.into(), options, body, properties)
        .await?;
    Ok(())
}

async fn answer(channel: Channel, request: Delivery) -> Outcome<()> {
    let reply_to = request
        .properties
        .reply_to()
        .as_ref()
        .ok_or("a request without reply-to")?
        .as_str();
    let id = request
        .properties
        .correlation_id()
        .clone()
        .unwrap_or_default();
    let properties = BasicProperties::default().with_correlation_id(id);
    send(&channel, reply_to, &request.data, properties).await?;
    request.ack(BasicAckOptions::default()).await?;
    Ok(())
}

async fn serve(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    channel
        .basic_qos(arguments.prefetch, BasicQosOptions::default())
        .await?;
    let mut requests = consume(&channel, &arguments.queue, false).await?;
    println!("ready");
    while let Some(request) = requests.next().await {
        let work = answer(channel.clone(), request?);
        if arguments.prefetch == 1 {
            work.await?;
        } else {
            tokio::spawn(work);
        }
    }
    Ok(())
}

async fn call(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    let replies_queue = channel
        .queue_declare("".into(), exclusive, FieldTable::default())
        .await?;
    let reply_to = replies_queue.name().clone();
    let mut replies = consume(&channel, reply_to.as_str(), true).await?;
    let pending = Arc::new(Pending::default());
    let sorting = pending.clone();
    tokio::spawn(async move {
        while let Some(Ok(reply)) = replies.next().await {
            if let Some(id) = reply.properties.correlation_id() {
                sorting.answer(id.as_str(), reply.data.len());
            }
        }
    });
    let (queue, body) = (arguments.queue.clone(), vec![b'x'; arguments.body]);
    let call = move || {
        let (channel, pending, reply_to) = (channel.clone(), pending.clone(), reply_to.clone());
        let (queue, body) = (queue.clone(), body.clone());
        async move {
            let (id, reply) = pending.expect()?;
            let properties = BasicProperties::default()
                .with_reply_to(reply_to)
                .with_correlation_id(id.into());
            send(&channel, &queue, &body, properties).await?;
            if reply.await? == body.len() {
                Ok(())
            } else {
                Err("a reply of another length".into())
            }
        }
    };
    measure_calls(PEER, &arguments, call).await
}

async fn publish(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    let body = vec![b'x'; arguments.body];
    let window = Window::open()?;
    let mut publishes = FuturesUnordered::new();
    for _ in 0..arguments.count {
        if publishes.len() == PUBLISHES {
            publishes.next().await.transpose()?;
        }
        publishes.push(send(
            &channel,
            &arguments.queue,
            &body,
            BasicProperties::default(),
        ));
    }
    while publishes.next().await.transpose()?.is_some() {}
    declare(&channel, &arguments.queue, true).await?;
    report_flow(PEER, "publish", &arguments, window)
}

async fn drain(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    channel
        .basic_qos(arguments.prefetch, BasicQosOptions::default())
        .await?;
    let window = Window::open()?;
    let manual = arguments.ack == Ack::Manual;
    let mut messages = consume(&channel, &arguments.queue, !manual).await?;
    let mut acks = FuturesUnordered::new();
    for _ in 0..arguments.count {
        let message = messages.next().await.ok_or("the consumer ended")??;
        if manual {
            if acks.len() == ACKS {
                acks.next().await.transpose()?;
            }
            acks.push(async move { message.ack(BasicAckOptions::default()).await });
        }
    }
    while acks.next().await.transpose()?.is_some() {}
    report_flow(PEER, "consume", &arguments, window)
}
