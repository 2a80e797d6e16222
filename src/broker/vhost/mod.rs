//! # The vhost: methods in, outputs out
//!
//! ```text
//!            connect  open_channel  method  publish  sent  close_channel  disconnect  tick
//!               │          │          │        │       │         │            │        │
//!               ▼          ▼          ▼        ▼       ▼         ▼            ▼        ▼
//!            ┌───────────────────────────────────────────────────────────────────────────┐
//!            │      Vhost: exchanges, queues, and what it knows of each connection       │
//!            └─────────────────────────────────┬─────────────────────────────────────────┘
//!                                              ▼
//!                   poll_output, until None: (connection, what it has to send)
//! ```
//!
//! The contract is one line: **tell it one thing, poll all outputs, then tell it the next.** One event may concern
//! many connections, as a publish does that a queue of somebody else's consumers gets.
//!
//! `clients` is what it knows of each connection. Each other file beside this one is a class of methods or a part of
//! one: `exchanges` and `queues` make and delete, `publish` routes, `consume` hands out, `settle` takes back, and
//! `direct_reply` is the queue that is none. What nobody asks for is in `timers`, `dead_letters` and `memory`.
//!
//! Read next: `output`. Explained in `docs/12-inside.md`.

mod clients;
mod consume;
mod dead_letters;
mod direct_reply;
mod exchanges;
mod memory;
mod output;
mod publish;
mod queues;
mod settle;
#[cfg(test)]
mod tests;
mod timers;

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

pub use self::output::Output;
use self::{clients::Clients, memory::Alarm, timers::Timers};
use super::{
    account::Account,
    death::Dead,
    exchange::Exchanges,
    fault::{Fault, Resource},
    names::NameSource,
    queue::{Queue, QueueStats},
};
use crate::{
    codec::{BasicPublish, ChannelId, Method, MethodId, Scope, ShortString},
    protocol::{Event, content::Message},
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

/// What may differ from vhost to vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostOptions {
    /// Where the names of queues, consumers and direct replies come from.
    pub names: NameSource,
    /// How much messages may take, ready or unacknowledged, in octets of memory. Once they take more, whoever publishes
    /// is blocked. SEC-8, BLOCK-1
    pub memory_limit: usize,
    /// How much queues, exchanges, bindings and consumers may take, in octets of memory. A declare, a bind or a consume
    /// beyond it is 506. SEC-8
    pub entry_limit: usize,
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
            memory_limit: 1 << 30,
            entry_limit: 256 << 20,
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
    /// What messages are paid for from, and what everything else is.
    messages: Account,
    entries: Account,
    alarm: Alarm,
    timers: Timers,
    /// What has died and is to be sent on.
    dead: VecDeque<Dead>,
    /// Since when there are more of them than are sent on at once.
    behind: Option<Instant>,
    /// A moment, and how many seconds after 1970 it was.
    calendar: Option<(Instant, u64)>,
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
            messages: Account::new(options.memory_limit),
            entries: Account::new(options.entry_limit),
            alarm: Alarm::default(),
            timers: Timers::default(),
            dead: VecDeque::new(),
            behind: None,
            calendar: None,
            max_consumers: options.max_consumers,
            last_number: 0,
        }
    }

    /// What the core of a connection has heard, as the call that it is.
    pub fn hear(&mut self, connection: ConnectionId, event: Event, now: Instant) {
        match event {
            Event::Opened(opened) => {
                let notify_cancel = opened.peer_can("consumer_cancel_notify");
                self.connect(connection, opened.user, notify_cancel);
            }
            Event::ChannelOpened(channel) => self.open_channel(connection, channel),
            Event::Method(channel, method) | Event::Reply(channel, method, _) => {
                self.method(connection, channel, method, now);
            }
            Event::Content(channel, Method::BasicPublish(publish), message) => {
                self.publish(connection, channel, publish, message, now);
            }
            Event::Content(..) => {} // no other content comes from a client (METH-4)
            Event::ChannelClosed(channel, _) => self.close_channel(connection, channel, now),
            Event::Closed(_) => self.disconnect(connection, now),
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
        self.finish(now);
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
        self.admit(lane, publish, message, now);
        self.finish(now);
    }

    fn take_in(&mut self, lane: Lane, publish: BasicPublish, message: Message, now: Instant) {
        if self.clients.is_open(lane)
            && let Err(fault) = self.basic_publish(lane, publish, message, now)
        {
            self.fail(lane, BasicPublish::ID, fault, now);
        }
    }

    /// The channel is gone, whoever closed it: its consumers end and what it held goes back. CHAN-11
    pub fn close_channel(&mut self, connection: ConnectionId, channel: ChannelId, now: Instant) {
        self.drop_channel(
            Lane {
                connection,
                channel,
            },
            now,
        );
        self.finish(now);
    }

    fn drop_channel(&mut self, lane: Lane, now: Instant) {
        if let Some(channel) = self.clients.remove_channel(lane) {
            self.abandon([channel], now);
        }
    }

    /// The connection is gone: so are its channels and then its exclusive queues. QUEUE-6
    pub fn disconnect(&mut self, connection: ConnectionId, now: Instant) {
        self.drop_connection(connection, now);
        self.finish(now);
    }

    fn drop_connection(&mut self, id: ConnectionId, now: Instant) {
        if let Some(connection) = self.clients.remove_connection(id) {
            self.alarm.forget(id);
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
        self.finish(now);
    }

    /// What is left to do whatever has happened: the dead are sent on, and who waits for memory may go on.
    fn finish(&mut self, now: Instant) {
        self.bury(now);
        self.relieve(now);
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

    /// A look into all of them.
    pub fn queues(&self) -> impl Iterator<Item = (&ShortString, QueueStats)> {
        self.queues
            .iter()
            .map(|(name, queue)| (name, queue.stats()))
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
            M::BasicCancel(m)       => self.basic_cancel(lane, m, now),
            M::BasicGet(m)          => self.basic_get(lane, &m, now),
            M::BasicAck(m)          => self.basic_ack(lane, &m, now),
            M::BasicNack(m)         => self.basic_nack(lane, &m, now),
            M::BasicReject(m)       => self.basic_reject(lane, &m, now),
            M::BasicRecover(m)      => self.basic_recover(lane, m.requeue, true, now),
            M::BasicRecoverAsync(m) => self.basic_recover(lane, m.requeue, false, now),
            M::ConfirmSelect(m)     => self.confirm_select(lane, m.no_wait),
            M::ChannelFlow(_)       => Ok(()), // to go on, which nothing here has stopped; its core has answered (CHAN-14)
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
                self.drop_channel(lane, now);
            }
            Scope::Connection => {
                let output = Output::CloseConnection { code, text, method };
                self.clients.push(connection, output);
                self.drop_connection(connection, now);
            }
        }
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
