//! # The vhost: methods in, outputs out
//!
//! ```text
//!            connect  open_channel  method  publish  sent  close_channel  disconnect
//!               │          │          │        │       │         │            │
//!               ▼          ▼          ▼        ▼       ▼         ▼            ▼
//!            ┌──────────────────────────────────────────────────────────────────┐
//!            │  Vhost: exchanges, queues, and what it knows of each connection  │
//!            └────────────────────────────────┬─────────────────────────────────┘
//!                                             ▼
//!                   poll_output, until None: (connection, what it has to send)
//! ```
//!
//! The contract is one line: **tell it one thing, poll all outputs, then tell it the next.** One event may concern
//! many connections, as a publish does that a queue of somebody else's consumers gets.
//!
//! `clients` is what it knows of each connection. Each other file beside this one is a class of methods or a part of one:
//! `exchanges` and `queues` make and delete, `publish` routes, `consume` hands out, `settle` takes back, and
//! `direct_reply` is the queue that is none.

mod clients;
mod consume;
mod direct_reply;
mod exchanges;
mod publish;
mod queues;
mod settle;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use self::clients::{Channel, Clients, Subscription};
use super::{
    account::Account,
    exchange::Exchanges,
    fault::{Fault, Resource},
    names::NameSource,
    queue::{Queue, QueueStats},
};
use crate::{
    codec::{BasicPublish, ChannelId, FieldTable, Method, MethodId, ReplyCode, Scope, ShortString},
    protocol::content::Message,
};

/// Which connection; numbered by the listener, never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Which channel of which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The connection.
    pub connection: ConnectionId,
    /// The channel's number on it.
    pub channel: ChannelId,
}

/// What a connection has to do because of what happened in the vhost.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // the largest is the usual one: a box would cost an allocation per delivery
pub enum Output {
    /// Send a method without content.
    Method {
        /// The channel it goes to.
        channel: ChannelId,
        /// A reply, a confirm or a `basic.cancel`.
        method: Method,
    },
    /// Send a method, its header and its bodies.
    Content {
        /// The channel it goes to.
        channel: ChannelId,
        /// `basic.deliver`, `basic.get-ok` or `basic.return`.
        method: Method,
        /// Properties and body.
        message: Message,
    },
    /// A soft error: send `channel.close`. The vhost has forgotten the channel already. ERR-1
    CloseChannel {
        /// The channel to close.
        channel: ChannelId,
        /// The reply code.
        code: ReplyCode,
        /// RabbitMQ's text, not yet cut to 255 octets.
        text: String,
        /// The method that failed. ERR-3
        method: MethodId,
    },
    /// A hard error: send `connection.close`. The vhost has forgotten the connection already. ERR-2
    CloseConnection {
        /// The reply code.
        code: ReplyCode,
        /// RabbitMQ's text, not yet cut to 255 octets.
        text: String,
        /// The method that failed. ERR-3
        method: MethodId,
    },
}

/// What a content counts for beside its body: about what its method, header and frame envelopes take.
const DELIVERY_OVERHEAD: usize = 256;

/// What a content counts for until it is sent. Its headers count by what they take in memory.
fn weight(message: &Message) -> usize {
    let headers = message.properties.headers.as_ref();
    message.body.len() + DELIVERY_OVERHEAD + headers.map_or(0, FieldTable::memory)
}

impl Output {
    /// What [`Vhost::sent`] has to be told once this is on the wire, in octets; 0 for what is not counted.
    pub fn octets(&self) -> usize {
        match self {
            Self::Content { message, .. } => weight(message),
            _ => 0,
        }
    }
}

/// What may differ from vhost to vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostOptions {
    /// Where the names of queues, consumers and direct replies come from.
    pub names: NameSource,
    /// How much may be kept, in octets of memory: messages, ready or unacknowledged, and queues, exchanges, bindings
    /// and consumers. A publish, a declare, a bind or a consume beyond it is 506. SEC-8
    pub max_queued_octets: usize,
    /// How much may wait for the socket of one connection, in octets of bodies and headers, before its consumers are
    /// given no more. SEC-10
    pub max_unsent_octets: usize,
    /// How many consumers one channel may have; one more is 530. SEC-8
    pub max_consumers: usize,
    /// How many messages one channel may hold unacknowledged. Its consumers get no more then, and a `basic.get` is
    /// 506. SEC-8
    pub max_unacked: usize,
}

impl Default for VhostOptions {
    fn default() -> Self {
        Self {
            names: NameSource::Random,
            max_queued_octets: 1 << 30,
            max_unsent_octets: 1 << 20,
            max_consumers: 10_000,
            max_unacked: 65_535,
        }
    }
}

/// A virtual host: exchanges and queues with names of their own, and the connections that use them.
#[derive(Debug)]
pub struct Vhost {
    name: ShortString,
    names: NameSource,
    exchanges: Exchanges,
    queues: HashMap<ShortString, Queue>,
    clients: Clients,
    /// Who waits under each direct reply-to name. DRT-6
    reply_names: HashMap<ShortString, Lane>,
    /// What everything that is kept here is paid for from.
    account: Account,
    max_consumers: usize,
    last_number: u64,
}

impl Vhost {
    /// A vhost with the predeclared exchanges and nothing else. EXCH-1
    pub fn new(name: ShortString, options: VhostOptions) -> Self {
        Self {
            name,
            names: options.names,
            exchanges: Exchanges::new(),
            queues: HashMap::new(),
            clients: Clients::new(options.max_unsent_octets, options.max_unacked),
            reply_names: HashMap::new(),
            account: Account::new(options.max_queued_octets),
            max_consumers: options.max_consumers,
            last_number: 0,
        }
    }

    /// A connection is open. `notify_cancel`: it announced `consumer_cancel_notify`. CONS-17
    pub fn connect(&mut self, connection: ConnectionId, user: ShortString, notify_cancel: bool) {
        self.clients.connect(connection, user, notify_cancel);
    }

    /// A channel is open; after a [`close_channel`](Self::close_channel) nothing of an earlier one with its number is
    /// left. CHAN-15
    pub fn open_channel(&mut self, connection: ConnectionId, channel: ChannelId) {
        if let Some(connection) = self.clients.connection(connection) {
            connection.channels.entry(channel).or_default();
        }
    }

    /// A method without content from the client, of any class but connection and channel.
    ///
    /// What comes for a channel that is not open was sent before its sender heard of the close, and is dropped
    /// (CHAN-7).
    pub fn method(
        &mut self,
        connection: ConnectionId,
        channel: ChannelId,
        method: Method,
        now: Instant,
    ) {
        let lane = Lane {
            connection,
            channel,
        };
        if !self.clients.is_open(lane) {
            return;
        }
        let id = method.id();
        if let Err(fault) = self.dispatch(lane, method, now) {
            self.fail(lane, id, fault, now);
        }
    }

    /// A `basic.publish` with its whole content. CONTENT-10
    pub fn publish(
        &mut self,
        connection: ConnectionId,
        channel: ChannelId,
        publish: BasicPublish,
        message: Message,
        now: Instant,
    ) {
        let lane = Lane {
            connection,
            channel,
        };
        if !self.clients.is_open(lane) {
            return;
        }
        if let Err(fault) = self.basic_publish(lane, publish, message, now) {
            self.fail(lane, BasicPublish::ID, fault, now);
        }
    }

    /// The channel is gone, whoever closed it: its consumers end and what it held goes back. CHAN-11
    pub fn close_channel(&mut self, connection: ConnectionId, channel: ChannelId, now: Instant) {
        let lane = Lane {
            connection,
            channel,
        };
        if let Some(channel) = self.clients.remove_channel(lane) {
            self.abandon([channel], now);
        }
    }

    /// The connection is gone: so are its channels and then its exclusive queues. QUEUE-6
    pub fn disconnect(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(connection) = self.clients.remove_connection(connection) {
            self.abandon(connection.channels.into_values(), now);
            for queue in connection.exclusive_queues {
                self.remove_queue(&queue);
            }
        }
    }

    /// So much of what [`Output::octets`] counted is on the connection's wire: its deliveries may go on.
    pub fn sent(&mut self, connection: ConnectionId, octets: usize, now: Instant) {
        let consumers = self.clients.sent(connection, octets);
        self.recall(&consumers, now);
    }

    /// The next thing to be done, and by whom. Call until `None` after every other call.
    pub fn poll_output(&mut self) -> Option<(ConnectionId, Output)> {
        self.clients.pop()
    }

    /// A look into a queue.
    pub fn queue(&self, name: &str) -> Option<QueueStats> {
        let name = ShortString::try_from(name).ok()?;
        self.queues.get(&name).map(Queue::stats)
    }

    /// One row per method. What is not here, class tx and all that only a broker may say, is 540 (TX-6).
    #[rustfmt::skip] // a table
    fn dispatch(&mut self, lane: Lane, method: Method, now: Instant) -> Result<(), Fault> {
        use Method as M;
        match method {
            M::ExchangeDeclare(m)   => self.exchange_declare(lane, m),
            M::ExchangeDelete(m)    => self.exchange_delete(lane, &m),
            M::ExchangeBind(m)      => self.exchange_bind(lane, m),
            M::ExchangeUnbind(m)    => self.exchange_unbind(lane, &m),
            M::QueueDeclare(m)      => self.queue_declare(lane, m, now),
            M::QueueBind(m)         => self.queue_bind(lane, m),
            M::QueueUnbind(m)       => self.queue_unbind(lane, &m),
            M::QueuePurge(m)        => self.queue_purge(lane, &m, now),
            M::QueueDelete(m)       => self.queue_delete(lane, &m, now),
            M::BasicQos(m)          => self.basic_qos(lane, &m, now),
            M::BasicConsume(m)      => self.basic_consume(lane, &m, now),
            M::BasicCancel(m)       => self.basic_cancel(lane, m),
            M::BasicGet(m)          => self.basic_get(lane, &m, now),
            M::BasicAck(m)          => self.basic_ack(lane, &m, now),
            M::BasicNack(m)         => self.basic_nack(lane, &m, now),
            M::BasicReject(m)       => self.basic_reject(lane, &m, now),
            M::BasicRecover(m)      => self.basic_recover(lane, m.requeue, true, now),
            M::BasicRecoverAsync(m) => self.basic_recover(lane, m.requeue, false, now),
            M::ConfirmSelect(m)     => self.confirm_select(lane, m.no_wait),
            other                   => Err(Fault::not_implemented(other.name())),
        }
    }

    /// The close that a fault earns, once all that the sender had here is gone. ERR-1, ERR-2
    fn fail(&mut self, lane: Lane, method: MethodId, fault: Fault, now: Instant) {
        let Fault { code, text } = fault;
        let Lane {
            connection,
            channel,
        } = lane;
        match code.scope() {
            Scope::Channel => {
                let output = Output::CloseChannel {
                    channel,
                    code,
                    text,
                    method,
                };
                self.clients.push(connection, output);
                self.close_channel(connection, channel, now);
            }
            Scope::Connection => {
                let output = Output::CloseConnection { code, text, method };
                self.clients.push(connection, output);
                self.disconnect(connection, now);
            }
        }
    }

    /// What closed channels leave behind. All their consumers end before anything is put back: a message must not go
    /// from one channel of a dying connection to the next.
    fn abandon(&mut self, channels: impl IntoIterator<Item = Channel>, now: Instant) {
        let mut unacked = Vec::new();
        for mut channel in channels {
            unacked.extend(channel.unacked.drain().map(|(_, unacked)| unacked));
            if let Some(replies) = channel.replies {
                self.reply_names.remove(&replies.name);
            }
            for subscription in channel.consumers.values() {
                self.unsubscribe(subscription);
            }
        }
        let queues = self.put_back(unacked);
        self.pump_all(&queues, now);
    }

    /// Deliveries may go on for these consumers: back into line with them, and out with the messages.
    fn recall(&mut self, consumers: &[Subscription], now: Instant) {
        let mut queues = BTreeSet::new();
        for Subscription { queue, consumer } in consumers {
            if let Some(found) = self.queues.get_mut(queue) {
                found.consumers.recall(*consumer);
                queues.insert(queue.clone());
            }
        }
        self.pump_all(&queues, now);
    }

    fn pump_all(&mut self, queues: &BTreeSet<ShortString>, now: Instant) {
        for queue in queues {
            self.pump(queue, now);
        }
    }

    /// Hands out what is ready to those who can take it, then drops what may not stay.
    fn pump(&mut self, queue: &ShortString, now: Instant) {
        let Some(queue) = self.queues.get_mut(queue) else {
            return;
        };
        let (clients, counted) = (&mut self.clients, queue.declaration.settings.quorum);
        while let Some((consumer, message)) = queue.hand_out(now, |who| clients.can_take(who)) {
            clients.deliver(consumer, &queue.id, counted, message);
        }
        queue.sweep(now);
    }

    /// A number that no queue and no consumer of this vhost had before.
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn queue_resource(&self, name: &ShortString) -> Resource {
        Resource::queue(name, &self.name)
    }

    fn exchange_resource(&self, name: &ShortString) -> Resource {
        Resource::exchange(name, &self.name)
    }
}
