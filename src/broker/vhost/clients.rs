//! # Clients: connections and channels, and what is to be sent to them
//!
//! ```text
//! connection ─┬─ exclusive queues                          gone with the connection (QUEUE-6)
//!             ├─ octets on their way to its socket         too many: its consumers get no more (SEC-10)
//!             └─ channel ─┬─ unacked    7 ─▶ which queue, which consumer, which message
//!                         ├─ consumers  "ctag-1.1" ─▶ its place in the line of a queue
//!                         └─ prefetch, confirm mode, last queue            all of it gone with the channel (CHAN-15)
//! ```
//!
//! A delivery belongs to its channel: the tag counts there, the ack must come there, and with the channel the message
//! goes back (CHAN-11). Its queue only counts how many are out. So a message stands in the queue or in a ledger, never
//! in both.
//!
//! Read next: `exchanges`. Explained in `docs/07-consuming.md`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{ConnectionId, Lane, Output, memory::Held, output::weight};
use crate::{
    broker::{
        consumers::{Consumer, ConsumerId},
        fault::Fault,
        queue::QueueId,
        stored::{Packed, Queued},
    },
    codec::{
        BasicCancel, BasicDeliver, ChannelId, ConsumerTag, DeliveryTag, Method, ReplyCode,
        ShortString,
    },
    protocol::ledger::Ledger,
};

/// One open connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// The login name, which the property `user-id` may repeat. PROP-14
    pub(super) user: ShortString,
    /// Whether it wants to hear of consumers that end with their queue. CONS-17
    pub(super) notify_cancel: bool,
    /// The queues that end with it. QUEUE-6
    pub(super) exclusive_queues: BTreeSet<ShortString>,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    /// It is blocked, and this waits until it no longer is. BLOCK-2
    pub(super) held: Vec<Held>,
    unsent: usize,
}

/// One open channel: all of this is gone when it closes (CHAN-15).
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// Delivered and not settled. ACK-1
    pub(super) unacked: Ledger<Unacked>,
    pub(super) consumers: BTreeMap<ConsumerTag, Subscription>,
    /// What an empty queue name means. QUEUE-12
    pub(super) last_queue: Option<ShortString>,
    /// In confirm mode: the number of the last publish. CONF-2
    pub(super) confirmed: Option<DeliveryTag>,
    /// For consumers started from now on, each. QOS-2
    pub(super) prefetch: u16,
    /// For all its consumers together; 0 is no limit. QOS-3
    pub(super) shared_prefetch: u16,
    /// How many of the unacked ones came from consumers; `basic.get` is not limited. QOS-6, QOS-8
    pub(super) held: usize,
    /// The consumer of `amq.rabbitmq.reply-to`. DRT-4
    pub(super) replies: Option<ReplyConsumer>,
}

/// Where a consumer of this channel stands in line.
#[derive(Debug, Clone)]
pub(super) struct Subscription {
    pub(super) queue: ShortString,
    pub(super) consumer: ConsumerId,
}

/// A consumer of direct replies and the name they come under. DRT-3
#[derive(Debug, Clone)]
pub(super) struct ReplyConsumer {
    pub(super) tag: ConsumerTag,
    pub(super) name: ShortString,
}

/// A delivery that is not settled: what has to be told when it is.
#[derive(Debug)]
pub(super) struct Unacked {
    pub(super) queue: QueueId,
    /// Nobody, if it was a `basic.get`.
    pub(super) consumer: Option<ConsumerId>,
    pub(super) message: Queued,
}

impl Channel {
    /// Whether the tag names a consumer of this channel already. CONS-2
    pub(super) fn uses(&self, tag: &ConsumerTag) -> bool {
        self.consumers.contains_key(tag)
            || self
                .replies
                .as_ref()
                .is_some_and(|replies| replies.tag == *tag)
    }

    /// Whether its consumers, all together, may hold one more; no channel holds more than `most`. QOS-3, SEC-8
    pub(super) fn has_room(&self, most: usize) -> bool {
        let prefetch = self.shared_prefetch;
        self.unacked.len() < most && (prefetch == 0 || self.held < usize::from(prefetch))
    }
}

/// Every connection of a vhost, and the outputs that wait to be polled.
#[derive(Debug)]
pub(super) struct Clients {
    connections: BTreeMap<ConnectionId, Connection>,
    outputs: VecDeque<(ConnectionId, Output)>,
    max_unsent: usize,
    max_unacked: usize,
}

impl Clients {
    pub(super) fn new(max_unsent: usize, max_unacked: usize) -> Self {
        Self {
            connections: BTreeMap::new(),
            outputs: VecDeque::new(),
            max_unsent,
            max_unacked,
        }
    }

    pub(super) fn connect(&mut self, id: ConnectionId, user: ShortString, notify_cancel: bool) {
        let connection = Connection {
            user,
            notify_cancel,
            exclusive_queues: BTreeSet::new(),
            channels: BTreeMap::new(),
            held: Vec::new(),
            unsent: 0,
        };
        self.connections.insert(id, connection);
    }

    pub(super) fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    pub(super) fn remove_connection(&mut self, id: ConnectionId) -> Option<Connection> {
        self.connections.remove(&id)
    }

    pub(super) fn remove_channel(&mut self, lane: Lane) -> Option<Channel> {
        self.connection(lane.connection)?
            .channels
            .remove(&lane.channel)
    }

    pub(super) fn is_open(&self, lane: Lane) -> bool {
        self.connections
            .get(&lane.connection)
            .is_some_and(|connection| connection.channels.contains_key(&lane.channel))
    }

    /// The channel, or 504 if it is not open. CHAN-2
    pub(super) fn channel(&mut self, lane: Lane) -> Result<&mut Channel, Fault> {
        self.connection(lane.connection)
            .and_then(|connection| connection.channels.get_mut(&lane.channel))
            .ok_or_else(|| Fault::new(ReplyCode::CHANNEL_ERROR, "expected 'channel.open'"))
    }

    /// Whether the channel and the connection of a consumer let it take one more message.
    ///
    /// A connection that does not read its socket as fast as messages come is given no more of them: they wait in
    /// their queue, where others may take them, and not in a buffer without end (SEC-8).
    pub(super) fn can_take(&self, consumer: &Consumer) -> bool {
        let Lane {
            connection,
            channel,
        } = consumer.lane;
        self.connections.get(&connection).is_some_and(|connection| {
            let channel = connection.channels.get(&channel);
            connection.unsent <= self.max_unsent
                && channel
                    .is_some_and(|channel| consumer.no_ack || channel.has_room(self.max_unacked))
        })
    }

    /// The most messages a channel may hold unacknowledged. SEC-8
    pub(super) fn max_unacked(&self) -> usize {
        self.max_unacked
    }

    /// Sends the method to the channel.
    pub(super) fn send(&mut self, lane: Lane, method: impl Into<Method>) {
        let output = Output::Method {
            channel: lane.channel,
            method: method.into(),
        };
        self.push(lane.connection, output);
    }

    /// Sends the reply, unless the request had its no-wait bit set. METH-8
    pub(super) fn reply(&mut self, lane: Lane, no_wait: bool, method: impl Into<Method>) {
        if !no_wait {
            self.send(lane, method);
        }
    }

    /// Sends a method with its content, and counts it until it is on the wire.
    pub(super) fn send_content(&mut self, lane: Lane, method: impl Into<Method>, message: Packed) {
        if let Some(connection) = self.connections.get_mut(&lane.connection) {
            connection.unsent += weight(&message);
        }
        let output = Output::Content {
            channel: lane.channel,
            method: method.into(),
            message,
        };
        self.push(lane.connection, output);
    }

    pub(super) fn push(&mut self, connection: ConnectionId, output: Output) {
        self.outputs.push_back((connection, output));
    }

    pub(super) fn pop(&mut self) -> Option<(ConnectionId, Output)> {
        self.outputs.pop_front()
    }

    /// `basic.deliver`: the message now belongs to the channel, unless the consumer never acknowledges.
    pub(super) fn deliver(
        &mut self,
        consumer: Consumer,
        queue: &QueueId,
        counted: bool,
        message: Queued,
    ) {
        let Lane {
            connection: id,
            channel: number,
        } = consumer.lane;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(channel) = connection.channels.get_mut(&number) else {
            return;
        };
        let redelivered = message.is_redelivered();
        let content = message.message(counted && redelivered);
        let (exchange, routing_key) = content.names();
        connection.unsent += weight(&content);
        let delivery_tag = if consumer.no_ack {
            channel.unacked.skip()
        } else {
            channel.held += 1;
            channel.unacked.push(Unacked {
                queue: queue.clone(),
                consumer: Some(consumer.id),
                message,
            })
        };
        let deliver = BasicDeliver {
            consumer_tag: consumer.tag,
            delivery_tag,
            redelivered,
            exchange,
            routing_key,
        };
        let output = Output::Content {
            channel: number,
            method: deliver.into(),
            message: content,
        };
        self.push(id, output);
    }

    /// The queue of this consumer is gone, and the consumer with it. CONS-17
    pub(super) fn forget(&mut self, consumer: &Consumer) {
        let Some(connection) = self.connections.get_mut(&consumer.lane.connection) else {
            return;
        };
        if let Some(channel) = connection.channels.get_mut(&consumer.lane.channel) {
            channel.consumers.remove(&consumer.tag);
        }
        if connection.notify_cancel {
            let cancel = BasicCancel {
                consumer_tag: consumer.tag.clone(),
                no_wait: true,
            };
            self.send(consumer.lane, cancel);
        }
    }

    /// So many octets are on the wire; the consumers that may go on because of it, if any.
    pub(super) fn sent(&mut self, id: ConnectionId, octets: usize) -> Vec<Subscription> {
        let limit = self.max_unsent;
        let Some(connection) = self.connections.get_mut(&id) else {
            return Vec::new();
        };
        let was_full = connection.unsent > limit;
        connection.unsent = connection.unsent.saturating_sub(octets);
        if !was_full || connection.unsent > limit {
            return Vec::new();
        }
        let channels = connection.channels.values();
        channels
            .flat_map(|channel| channel.consumers.values().cloned())
            .collect()
    }

    /// Whether direct replies to the connection have to be dropped because it does not read those it has. SEC-8
    ///
    /// No queue could keep them for it (DRT-6), and a limit as low as for deliveries would lose the replies to a burst
    /// of requests, so there is room for sixteen times as much.
    pub(super) fn is_flooded(&self, id: ConnectionId) -> bool {
        const BURST: usize = 16;
        let limit = self.max_unsent.saturating_mul(BURST);
        self.connections
            .get(&id)
            .is_none_or(|connection| connection.unsent > limit)
    }
}
