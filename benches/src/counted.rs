//! The core paths, so often as the command line says: what `instructions` runs under callgrind.
//!
//! There is no socket and no clock in it, so that two runs execute the same instructions.

use std::{iter::from_fn, time::Instant};

use amqp_rpc::{
    broker::Broker,
    client,
    codec::{
        BasicConsume, BasicDeliver, BasicPublish, ChannelId, ConsumerTag, DeliveryTag, Properties,
        QueueDeclare, ShortString,
    },
    protocol::{ClientConfig, Connection, Event, Message, ServerConfig},
    short,
};
use amqp_rpc_benches::work::Outcome;
use bytes::{Bytes, BytesMut};
use clap::{Parser, ValueEnum};

#[derive(Parser)]
struct Arguments {
    path: Path,
    times: usize,
}

/// What is done in each turn.
#[derive(Clone, Copy, ValueEnum)]
enum Path {
    /// A publish, its header and its body, from a client's core to a broker's.
    Publish,
    /// A delivery, its header and its body, from a broker's core to a client's.
    Deliver,
    /// The four messages of a call, between the cores of two clients and of the broker's two ends.
    Call,
    /// The four messages of a call, through channels and the built-in broker, in memory and on one thread.
    ChannelCall,
}

const CHANNEL: ChannelId = ChannelId(1);
const REPLIES: ShortString = short!("amq.gen-JzTY20BRgKO-HjmUJj0wLg");

fn main() -> Outcome<()> {
    let Arguments { path, times } = Arguments::parse();
    match path {
        Path::Publish => Pair::open()?.repeat(times, Pair::publish),
        Path::Deliver => Pair::open()?.repeat(times, Pair::deliver),
        Path::Call => {
            let (mut caller, mut worker) = (Pair::open()?, Pair::open()?);
            (0..times).try_for_each(|_| call(&mut caller, &mut worker))
        }
        Path::ChannelCall => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(channel_calls(times))
        }
    }
}

/// The two cores of one connection, joined in memory.
struct Pair {
    client: Connection,
    broker: Connection,
    to_client: BytesMut,
    to_broker: BytesMut,
}

impl Pair {
    fn open() -> Outcome<Self> {
        let now = Instant::now();
        let mut pair = Self {
            client: Connection::client(ClientConfig::default(), now),
            broker: Connection::server(ServerConfig::default(), now),
            to_client: BytesMut::with_capacity(1 << 16),
            to_broker: BytesMut::with_capacity(1 << 16),
        };
        pair.exchange();
        pair.client.open_channel()?;
        pair.exchange();
        Ok(pair)
    }

    /// The handshake, and the opening of a channel, take fewer turns than these.
    fn exchange(&mut self) {
        for _ in 0..8 {
            self.carry_to_broker();
            self.carry_to_client();
        }
    }

    fn repeat(
        mut self,
        times: usize,
        mut turn: impl FnMut(&mut Self) -> Outcome<()>,
    ) -> Outcome<()> {
        (0..times).try_for_each(|_| turn(&mut self))
    }

    fn carry_to_broker(&mut self) -> Vec<Event> {
        self.client.transmit(&mut self.to_broker);
        heard(&mut self.broker, &mut self.to_broker)
    }

    fn carry_to_client(&mut self) -> Vec<Event> {
        self.broker.transmit(&mut self.to_client);
        heard(&mut self.client, &mut self.to_client)
    }

    fn say_publish(
        &mut self,
        to: ShortString,
        properties: Properties,
        body: &[u8],
    ) -> Outcome<Message> {
        let publish = BasicPublish {
            routing_key: to,
            ..Default::default()
        };
        self.client
            .send_content(CHANNEL, publish, properties, body)?;
        content(self.carry_to_broker())
    }

    fn say_deliver(&mut self, message: Message) -> Outcome<Message> {
        let deliver = BasicDeliver {
            consumer_tag: ConsumerTag(short!("amq.ctag-5PmvBjVzVgnXmQZJ5XqXTg")),
            delivery_tag: DeliveryTag(1),
            routing_key: REPLIES,
            ..Default::default()
        };
        self.broker
            .send_content(CHANNEL, deliver, message.properties, &message.body)?;
        content(self.carry_to_client())
    }

    fn publish(&mut self) -> Outcome<()> {
        self.say_publish(short!("rpc_queue"), request(), BODY)?;
        Ok(())
    }

    fn deliver(&mut self) -> Outcome<()> {
        self.say_deliver(Message::new(request(), Bytes::from_static(BODY)))?;
        Ok(())
    }
}

const BODY: &[u8] = b"sixteen octets..";

fn request() -> Properties {
    Properties {
        correlation_id: Some(short!("6f1ed002-ab53-4d1d-8f2b-3f0c3f6a1e77")),
        reply_to: Some(REPLIES),
        ..Default::default()
    }
}

fn heard(core: &mut Connection, inbound: &mut BytesMut) -> Vec<Event> {
    let mut events = Vec::new();
    while core.receive(inbound) {
        events.extend(from_fn(|| core.poll_event()));
    }
    events.extend(from_fn(|| core.poll_event()));
    events
}

fn content(events: Vec<Event>) -> Outcome<Message> {
    match events.into_iter().next() {
        Some(Event::Content(_, _, message)) => Ok(message),
        other => Err(format!("no content but {other:?}").into()),
    }
}

fn call(caller: &mut Pair, worker: &mut Pair) -> Outcome<()> {
    let request = caller.say_publish(short!("rpc_queue"), request(), BODY)?;
    let request = worker.say_deliver(request)?;
    let Properties {
        reply_to,
        correlation_id,
        ..
    } = *request.properties;
    let properties = Properties {
        correlation_id,
        ..Default::default()
    };
    let reply = worker.say_publish(reply_to.unwrap_or_default(), properties, &request.body)?;
    caller.say_deliver(reply)?;
    Ok(())
}

async fn channel_calls(times: usize) -> Outcome<()> {
    let broker = Broker::start().await?;
    let (caller, worker) = (broker.connect().await?, broker.connect().await?);
    let (caller, worker) = (caller.open_channel().await?, worker.open_channel().await?);
    let queue = QueueDeclare {
        queue: short!("rpc_queue"),
        ..Default::default()
    };
    worker.queue_declare(queue).await?;
    let mut requests = worker.consume("rpc_queue").await?;
    tokio::spawn(async move {
        while let Some(Ok(request)) = requests.next().await {
            let (received, acker) = request.into_parts();
            let client::Message { properties, body } = received.message;
            let reply_to = properties.reply_to.unwrap_or_default();
            let correlation_id = properties.correlation_id;
            let reply = client::Message::new(
                Properties {
                    correlation_id,
                    ..Default::default()
                },
                body,
            );
            worker.publish("", reply_to, reply).await?;
            acker.ack().await?;
        }
        Outcome::Ok(())
    });
    let replies = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    let reply_to = caller.queue_declare(replies).await?.queue;
    let consume = BasicConsume {
        queue: reply_to.clone(),
        ..Default::default()
    };
    let mut replies = caller.consume_no_ack(consume).await?;
    for _ in 0..times {
        let properties = Properties {
            reply_to: Some(reply_to.clone()),
            ..request()
        };
        let message = client::Message::new(properties, Bytes::from_static(BODY));
        caller.publish("", "rpc_queue", message).await?;
        replies.next().await.ok_or("the replies have ended")??;
    }
    Ok(())
}
