//! The same work as `peer`, done with amqprs.

use std::sync::Arc;

use amqp_rpc_benches::work::{
    self, Ack, Arguments, Outcome, Pending, Role, Window, measure_calls, report_flow,
};
use amqprs::{
    BasicProperties,
    callbacks::{DefaultChannelCallback, DefaultConnectionCallback},
    channel::{
        BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments,
        Channel, QueueDeclareArguments,
    },
    connection::{Connection, OpenConnectionArguments},
};
use clap::Parser;

const PEER: &str = "amqprs";

fn main() -> Outcome<()> {
    work::run(run(Arguments::parse()))?;
    std::process::exit(0) // its tasks would complain that they end
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
    // It takes the virtual host of a URL as it stands, percent signs and all; without one it is "/".
    let url = arguments
        .url
        .trim_end_matches("/%2f")
        .trim_end_matches("/%2F");
    let connection = Connection::open(&OpenConnectionArguments::try_from(url)?).await?;
    connection
        .register_callback(DefaultConnectionCallback)
        .await?;
    let channel = connection.open_channel(None).await?;
    channel.register_callback(DefaultChannelCallback).await?;
    Ok((connection, channel))
}

async fn declare(channel: &Channel, queue: &str, passive: bool) -> Outcome<()> {
    let declare = match passive {
        true => QueueDeclareArguments::new(queue).passive(true).finish(),
        false => QueueDeclareArguments::transient_autodelete(queue),
    };
    channel.queue_declare(declare).await?;
    Ok(())
}

async fn serve(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    channel
        .basic_qos(BasicQosArguments::new(0, arguments.prefetch, false))
        .await?;
    let consume = BasicConsumeArguments::new(&arguments.queue, "");
    let (_tag, mut requests) = channel.basic_consume_rx(consume).await?;
    println!("ready");
    while let Some(request) = requests.recv().await {
        let asked = request
            .basic_properties
            .ok_or("a request without properties")?;
        let id = asked.correlation_id().map_or("", String::as_str);
        let reply_to = asked.reply_to().map_or("", String::as_str);
        let properties = BasicProperties::default().with_correlation_id(id).finish();
        let body = request.content.unwrap_or_default();
        channel
            .basic_publish(properties, body, BasicPublishArguments::new("", reply_to))
            .await?;
        let tag = request
            .deliver
            .ok_or("a request without a delivery")?
            .delivery_tag();
        channel
            .basic_ack(BasicAckArguments::new(tag, false))
            .await?;
    }
    Ok(())
}

async fn call(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    let declared = channel
        .queue_declare(QueueDeclareArguments::exclusive_server_named())
        .await?;
    let (reply_to, ..) = declared.ok_or("no name for the queue of replies")?;
    let consume = BasicConsumeArguments::new(&reply_to, "")
        .auto_ack(true)
        .finish();
    let (_tag, mut replies) = channel.basic_consume_rx(consume).await?;
    let pending = Arc::new(Pending::default());
    let sorting = pending.clone();
    tokio::spawn(async move {
        while let Some(reply) = replies.recv().await {
            if let Some(id) = reply
                .basic_properties
                .as_ref()
                .and_then(|properties| properties.correlation_id())
            {
                sorting.answer(id, reply.content.map_or(0, |body| body.len()));
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
                .with_reply_to(&reply_to)
                .with_correlation_id(&id)
                .finish();
            let expected = body.len();
            channel
                .basic_publish(properties, body, BasicPublishArguments::new("", &queue))
                .await?;
            if reply.await? == expected {
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
    let to_the_queue = BasicPublishArguments::new("", &arguments.queue);
    let window = Window::open()?;
    for _ in 0..arguments.count {
        channel
            .basic_publish(
                BasicProperties::default(),
                body.clone(),
                to_the_queue.clone(),
            )
            .await?;
    }
    declare(&channel, &arguments.queue, true).await?;
    report_flow(PEER, "publish", &arguments, window)
}

async fn drain(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    channel
        .basic_qos(BasicQosArguments::new(0, arguments.prefetch, false))
        .await?;
    let window = Window::open()?;
    let manual = arguments.ack == Ack::Manual;
    let consume = BasicConsumeArguments::new(&arguments.queue, "")
        .auto_ack(!manual)
        .finish();
    let (_tag, mut messages) = channel.basic_consume_rx(consume).await?;
    for _ in 0..arguments.count {
        let message = messages.recv().await.ok_or("the consumer ended")?;
        if manual {
            let tag = message
                .deliver
                .ok_or("a message without a delivery")?
                .delivery_tag();
            channel
                .basic_ack(BasicAckArguments::new(tag, false))
                .await?;
        }
    }
    report_flow(PEER, "consume", &arguments, window)
}
