//! Transcripts: what a client says, and what each connection hears because of it.
//!
//! A line heard begins with connection and channel, `1/1`; the reply texts are RabbitMQ's.

mod acks;
mod consumers;
mod dead_letters;
mod direct_reply;
mod exchanges;
mod flow;
mod limits;
mod memory;
mod publishing;
mod queues;
mod timers;

use std::time::{Duration, Instant as Clock};

use super::{ConnectionId, Lane, Output, Vhost, VhostOptions};
use crate::{
    broker::{names::NameSource, queue::QueueStats},
    codec::{
        BasicAck, BasicCancel, BasicConsume, BasicGet, BasicPublish, BasicQos, ChannelId,
        ConsumerTag, DeliveryTag, FieldTable, FieldValue, Method, Properties, QueueDeclare,
        QueueDelete, QueuePurge, ShortString,
    },
    protocol::content::Message,
    short,
};

const fn lane(connection: u64, channel: u16) -> Lane {
    Lane {
        connection: ConnectionId(connection),
        channel: ChannelId(channel),
    }
}

/// Two channels of the first connection, which announced `consumer_cancel_notify`; one of the second, which did not.
const A1: Lane = lane(1, 1);
const A2: Lane = lane(1, 2);
const B1: Lane = lane(2, 1);

/// A vhost with three channels open on it, and the hands of a clock.
struct Stage {
    vhost: Vhost,
    now: Clock,
}

impl Stage {
    fn new() -> Self {
        Self::with(VhostOptions::default())
    }

    fn with(mut options: VhostOptions) -> Self {
        options.names = NameSource::Numbered(0);
        let mut vhost = Vhost::new(short!("/"), options);
        vhost.connect(A1.connection, short!("guest"), true);
        vhost.connect(B1.connection, short!("guest"), false);
        for lane in [A1, A2, B1] {
            vhost.open_channel(lane.connection, lane.channel);
        }
        let now = Clock::now(); // an arbitrary beginning: only the test moves it
        Self { vhost, now }
    }

    fn say(&mut self, lane: Lane, method: impl Into<Method>) -> Vec<String> {
        self.vhost
            .method(lane.connection, lane.channel, method.into(), self.now);
        self.heard()
    }

    fn publish(&mut self, lane: Lane, exchange: &str, key: &str, body: &str) -> Vec<String> {
        let publish = BasicPublish {
            exchange: name(exchange),
            routing_key: name(key),
            ..BasicPublish::default()
        };
        self.publish_as(lane, publish, Properties::default(), body)
    }

    /// A mandatory message to the default exchange.
    fn publish_mandatory(&mut self, lane: Lane, key: &str, body: &str) -> Vec<String> {
        let publish = BasicPublish {
            routing_key: name(key),
            mandatory: true,
            ..BasicPublish::default()
        };
        self.publish_as(lane, publish, Properties::default(), body)
    }

    /// To the default exchange, with these properties.
    fn publish_with(&mut self, lane: Lane, key: &str, properties: Properties) -> Vec<String> {
        let publish = BasicPublish {
            routing_key: name(key),
            ..BasicPublish::default()
        };
        self.publish_as(lane, publish, properties, "hi")
    }

    fn publish_as(
        &mut self,
        lane: Lane,
        publish: BasicPublish,
        properties: Properties,
        body: &str,
    ) -> Vec<String> {
        let message = Message {
            properties: properties.into(),
            body: body.to_owned().into(),
        };
        let Lane {
            connection,
            channel,
        } = lane;
        self.vhost
            .publish(connection, channel, publish, message, self.now);
        self.heard()
    }

    fn close(&mut self, lane: Lane) -> Vec<String> {
        self.vhost
            .close_channel(lane.connection, lane.channel, self.now);
        self.heard()
    }

    fn reopen(&mut self, lane: Lane) {
        self.close(lane);
        self.vhost.open_channel(lane.connection, lane.channel);
    }

    fn disconnect(&mut self, connection: u64) -> Vec<String> {
        self.vhost.disconnect(ConnectionId(connection), self.now);
        self.heard()
    }

    fn wait(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }

    /// The time passes, and whenever the vhost wants to know it, it is told.
    fn pass(&mut self, milliseconds: u64) -> Vec<String> {
        let then = self.now + Duration::from_millis(milliseconds);
        let mut heard = Vec::new();
        while let Some(due) = self.vhost.deadline().filter(|due| *due <= then) {
            self.now = due.max(self.now);
            self.vhost.tick(self.now);
            heard.extend(self.heard());
        }
        self.now = then;
        heard
    }

    fn heard(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.vhost.poll_output())
            .map(|(connection, output)| line(connection, &output))
            .collect()
    }

    /// Ready, unacked, consumers.
    fn stats(&self, queue: &str) -> Option<(usize, usize, usize)> {
        let stats = |QueueStats {
                         ready,
                         unacked,
                         consumers,
                     }| (ready, unacked, consumers);
        self.vhost.queue(queue).map(stats)
    }

    /// The bodies of all that is ready in a queue, which is empty afterwards.
    fn bodies(&mut self, lane: Lane, queue: &str) -> Vec<String> {
        let get = BasicGet {
            queue: name(queue),
            no_ack: true,
            ..BasicGet::default()
        };
        let next = || self.say(lane, get.clone()).concat();
        std::iter::repeat_with(next)
            .map_while(|line| line.rsplit_once(" | ").map(|(_, body)| body.to_owned()))
            .collect()
    }
}

fn line(ConnectionId(connection): ConnectionId, output: &Output) -> String {
    let quoted = |method: &Method| method.to_string().replace('"', "'");
    match output {
        Output::Method { channel, method } => {
            format!("{connection}/{channel} {}", quoted(method))
        }
        Output::Content {
            channel,
            method,
            message,
        } => {
            let Message { properties, body } = message.unpack().message;
            let properties = properties.to_string().replace('"', "'");
            let between = if properties.is_empty() { "" } else { " | " };
            let method = quoted(method);
            let body = String::from_utf8_lossy(&body);
            format!("{connection}/{channel} {method}{between}{properties} | {body}")
        }
        Output::CloseChannel {
            channel,
            text,
            method,
            ..
        } => format!(
            "{connection}/{channel} close {text} ({},{})",
            method.class, method.method
        ),
        Output::CloseConnection { text, method, .. } => format!(
            "{connection} close {text} ({},{})",
            method.class, method.method
        ),
        Output::Blocked(reason) => format!("{connection} blocked {reason}"),
        Output::Unblocked => format!("{connection} unblocked"),
    }
}

fn name(text: &str) -> ShortString {
    text.try_into().unwrap()
}

fn tag(text: &str) -> ConsumerTag {
    ConsumerTag(name(text))
}

fn long(text: &str) -> FieldValue {
    FieldValue::LongString(text.to_owned().into())
}

fn table<const N: usize>(entries: [(&str, FieldValue); N]) -> FieldTable {
    FieldTable(entries.map(|(key, value)| (name(key), value)).into())
}

fn declare(queue: &str) -> QueueDeclare {
    QueueDeclare {
        queue: name(queue),
        ..QueueDeclare::default()
    }
}

fn with(queue: &str, argument: &str, value: FieldValue) -> QueueDeclare {
    QueueDeclare {
        arguments: table([(argument, value)]),
        ..declare(queue)
    }
}

fn quorum(queue: &str) -> QueueDeclare {
    QueueDeclare {
        durable: true,
        arguments: table([("x-queue-type", long("quorum"))]),
        ..declare(queue)
    }
}

fn delete(queue: &str) -> QueueDelete {
    QueueDelete {
        queue: name(queue),
        ..QueueDelete::default()
    }
}

fn purge(queue: &str) -> QueuePurge {
    QueuePurge {
        queue: name(queue),
        ..QueuePurge::default()
    }
}

fn consume(queue: &str, consumer_tag: &str) -> BasicConsume {
    BasicConsume {
        queue: name(queue),
        consumer_tag: tag(consumer_tag),
        ..BasicConsume::default()
    }
}

fn cancel(consumer_tag: &str) -> BasicCancel {
    BasicCancel {
        consumer_tag: tag(consumer_tag),
        no_wait: false,
    }
}

fn get(queue: &str) -> BasicGet {
    BasicGet {
        queue: name(queue),
        ..BasicGet::default()
    }
}

fn ack(delivery_tag: u64) -> BasicAck {
    BasicAck {
        delivery_tag: DeliveryTag(delivery_tag),
        multiple: false,
    }
}

fn qos(prefetch_count: u16) -> BasicQos {
    BasicQos {
        prefetch_count,
        ..BasicQos::default()
    }
}

/// One limit for the whole channel. QOS-3
fn shared_qos(prefetch_count: u16) -> BasicQos {
    BasicQos {
        global: true,
        ..qos(prefetch_count)
    }
}
