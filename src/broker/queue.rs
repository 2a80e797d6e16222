//! # Queues: messages in order, and the turns of those who take them
//!
//! ```text
//!  publish ─► │ 7 8 9 │ fresh ─┐
//!                              ├─► head ─► consumer ─► held by its channel ─► settled: gone
//!  requeue ─► │ 2 4   │ returned ┘                          │
//!                 ▲─────────────────────────────────────────┘
//! ```
//!
//! A message keeps the position it was given when it came. Only the head is ever handed out, so whatever comes back
//! is older than everything that was never handed out: the returned ones, sorted by position, stand before the fresh
//! ones, and every message is back at its old place (CONS-20). The usual way stays a plain first-in-first-out.
//!
//! Read next: [`consumers`](super::consumers).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    account::Share,
    arguments::{Overflow, Settings},
    consumers::{Consumer, ConsumerId, Consumers},
    vhost::ConnectionId,
};
use crate::{
    codec::{FieldTable, FieldValue, ShortString},
    protocol::content::Message,
    short,
};

/// A published message, one for all the queues it reached.
#[derive(Debug)]
pub struct Stored {
    /// The exchange it was published to. CONS-10
    pub exchange: ShortString,
    /// The key it was published with. CONS-10
    pub routing_key: ShortString,
    /// Properties and body.
    pub message: Message,
    /// The property `expiration`: how long it may wait, at most.
    pub expiration: Option<Duration>,
    /// What it counts for, taken off when the last queue lets go of it.
    pub share: Share,
}

/// A message in its place in one queue.
#[derive(Debug, Clone)]
pub struct Queued {
    stored: Arc<Stored>,
    position: u64,
    deadline: Option<Instant>,
    returns: u32,
}

impl Queued {
    /// What was published.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Whether it was delivered before and came back. CONS-19
    pub fn is_redelivered(&self) -> bool {
        self.returns > 0
    }

    /// The message as it is sent, with the number of its returns in `x-delivery-count` if `counted`.
    ///
    /// RabbitMQ: quorum queues do so. A header of that name from the publisher is not to be trusted, and replaced.
    pub fn message(&self, counted: bool) -> Message {
        const COUNT: ShortString = short!("x-delivery-count");
        let mut message = self.stored.message.clone();
        if counted {
            let headers = message.properties.headers.get_or_insert_default();
            headers.0.retain(|(name, _)| *name != COUNT);
            headers.insert(COUNT, FieldValue::I64(self.returns.into()));
        }
        message
    }

    fn octets(&self) -> usize {
        self.stored.message.body.len()
    }
}

/// The messages of a queue that nobody holds.
#[derive(Debug, Default)]
struct Ready {
    returned: BTreeMap<u64, Queued>,
    fresh: VecDeque<Queued>,
    octets: usize,
}

impl Ready {
    fn len(&self) -> usize {
        self.returned.len() + self.fresh.len()
    }

    fn push(&mut self, message: Queued) {
        self.octets += message.octets();
        self.fresh.push_back(message);
    }

    fn put_back(&mut self, message: Queued) {
        self.octets += message.octets();
        self.returned.insert(message.position, message);
    }

    fn head(&self) -> Option<&Queued> {
        let returned = self.returned.first_key_value();
        returned
            .map(|(_, message)| message)
            .or_else(|| self.fresh.front())
    }

    fn pop(&mut self) -> Option<Queued> {
        let returned = self.returned.pop_first();
        let message = returned
            .map(|(_, message)| message)
            .or_else(|| self.fresh.pop_front())?;
        self.octets -= message.octets();
        if self.fresh.len() < self.fresh.capacity() / 4 {
            self.fresh.shrink_to(2 * self.fresh.len()); // or a queue that was long once would stay large
        }
        Some(message)
    }

    /// Drops from the head as long as `is_spent` says so; what stands behind a message that may stay is not looked
    /// at. CONS-23
    fn drop_while(&mut self, is_spent: impl Fn(&Self, &Queued) -> bool) {
        while self.head().is_some_and(|head| is_spent(self, head)) {
            self.pop();
        }
    }
}

/// What a queue is, as its declare said.
#[derive(Debug, Clone, Default)]
pub struct Declaration {
    /// Kept for comparison only: nothing here outlives the broker.
    pub durable: bool,
    /// The only connection that may use it, if it is exclusive. QUEUE-6
    pub owner: Option<ConnectionId>,
    /// It goes when its last consumer goes. QUEUE-9
    pub auto_delete: bool,
    /// As declared.
    pub arguments: FieldTable,
    /// What of the arguments this broker acts on.
    pub settings: Settings,
}

/// Which queue a message came from: a name can be deleted and declared again, a number cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueId {
    /// Its name.
    pub name: ShortString,
    /// A number that no other queue of its vhost ever has.
    pub number: u64,
}

/// How much is in a queue, and who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueStats {
    /// Messages that nobody holds: what `queue.declare-ok` counts. QUEUE-10
    pub ready: usize,
    /// Messages delivered and not yet settled.
    pub unacked: usize,
    /// Consumers, with those that have their prefetch full.
    pub consumers: usize,
}

/// One queue.
#[derive(Debug)]
pub struct Queue {
    /// Which it is.
    pub id: QueueId,
    /// What it is.
    pub declaration: Declaration,
    /// Who takes from it.
    pub consumers: Consumers,
    ready: Ready,
    unacked: usize,
    next_position: u64,
    _share: Share,
}

impl Queue {
    /// An empty queue; `share` is what it costs beside its messages and consumers.
    pub fn new(id: QueueId, declaration: Declaration, share: Share) -> Self {
        Self {
            id,
            declaration,
            _share: share,
            consumers: Consumers::default(),
            ready: Ready::default(),
            unacked: 0,
            next_position: 0,
        }
    }

    /// How much is in it.
    pub fn stats(&self) -> QueueStats {
        QueueStats {
            ready: self.ready.len(),
            unacked: self.unacked,
            consumers: self.consumers.len(),
        }
    }

    /// Takes a message in at the end; false when the queue is full and refuses it instead. CONF-7
    pub fn push(&mut self, stored: Arc<Stored>, now: Instant) -> bool {
        let settings = &self.declaration.settings;
        let body = stored.message.body.len();
        let over = |limit: Option<usize>, octets| limit.is_some_and(|limit| octets > limit);
        let full = over(settings.max_length, self.ready.len() + 1)
            || over(settings.max_octets, self.ready.octets + body);
        if full && settings.overflow == Overflow::RejectPublish {
            return false;
        }
        let wait = [settings.ttl, stored.expiration]
            .into_iter()
            .flatten()
            .min();
        self.ready.push(Queued {
            stored,
            position: self.next_position,
            deadline: wait.and_then(|wait| now.checked_add(wait)),
            returns: 0,
        });
        self.next_position += 1;
        true
    }

    /// The head, and the consumer whose turn it is.
    ///
    /// A message lives through the instant of its deadline here, so that one with expiration "0" reaches a consumer
    /// that can take it at once. CONS-22
    pub fn hand_out(
        &mut self,
        now: Instant,
        can_take: impl FnMut(&Consumer) -> bool,
    ) -> Option<(Consumer, Queued)> {
        self.ready
            .drop_while(|_, head| head.deadline.is_some_and(|deadline| deadline < now));
        self.ready.head()?;
        let consumer = self.consumers.next_turn(can_take)?;
        let message = self.ready.pop()?;
        self.unacked += usize::from(!consumer.no_ack);
        Some((consumer, message))
    }

    /// The head, for `basic.get`. CONS-21
    pub fn get(&mut self, no_ack: bool) -> Option<Queued> {
        let message = self.ready.pop()?;
        self.unacked += usize::from(!no_ack);
        Some(message)
    }

    /// Drops from the head what has expired, and what is too much for a queue that drops its head.
    pub fn sweep(&mut self, now: Instant) {
        self.ready
            .drop_while(|_, head| head.deadline.is_some_and(|deadline| deadline <= now));
        let settings = &self.declaration.settings;
        if settings.overflow == Overflow::DropHead {
            let over = |limit: Option<usize>, octets| limit.is_some_and(|limit| octets > limit);
            self.ready.drop_while(|ready, _| {
                over(settings.max_length, ready.len()) || over(settings.max_octets, ready.octets)
            });
        }
    }

    /// A message taken from here is settled for good; `consumer` got it, or nobody did and it was a `basic.get`.
    pub fn settle(&mut self, consumer: Option<ConsumerId>) {
        self.unacked -= 1;
        if let Some(consumer) = consumer {
            self.consumers.release(consumer);
        }
    }

    /// A message taken from here comes back to its old place, and counts as redelivered. CONS-19, CONS-20
    pub fn put_back(&mut self, consumer: Option<ConsumerId>, message: Queued) {
        self.settle(consumer);
        self.ready.put_back(Queued {
            returns: message.returns.saturating_add(1),
            ..message
        });
    }

    /// Drops the messages that are ready, and says how many; those that somebody holds stay with them. QUEUE-15
    pub fn purge(&mut self) -> usize {
        std::mem::take(&mut self.ready).len()
    }
}
