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
//! What a queue does not keep, because it waited too long, was rejected or is one too many, it hands over as
//! [`Dead`]: whoever routes may have to send it on.
//!
//! Read next: [`consumers`](super::consumers). Explained in `docs/07-consuming.md`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    account::Share,
    arguments::{Overflow, Settings},
    consumers::{Consumer, ConsumerId, Consumers},
    death::{Dead, Reason},
    stored::{Queued, Stored},
    vhost::ConnectionId,
};
use crate::codec::{FieldTable, ShortString};

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
        self.octets += message.stored.octets();
        if self.fresh.len() == self.fresh.capacity() {
            self.fresh.reserve_exact(self.fresh.len() / 4 + 1); // doubled, half the room of a long queue might be empty
        }
        self.fresh.push_back(message);
    }

    fn put_back(&mut self, message: Queued) {
        self.octets += message.stored.octets();
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
        self.octets -= message.stored.octets();
        if self.fresh.len() < self.fresh.capacity() / 4 {
            self.fresh.shrink_to(2 * self.fresh.len()); // or a queue that was long once would stay large
        }
        Some(message)
    }

    /// Takes the head if `is_spent` says so; what stands behind a message that may stay is not looked at. CONS-23
    fn pop_if(&mut self, is_spent: impl Fn(&Self, &Queued) -> bool) -> Option<Queued> {
        let spent = self.head().is_some_and(|head| is_spent(self, head));
        if spent { self.pop() } else { None }
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
    /// When somebody will look at it without being asked: its place in the vhost's timers.
    pub timer: Option<Instant>,
    ready: Ready,
    dead: Vec<Dead>,
    unacked: usize,
    next_position: u64,
    used: Instant,
    _share: Share,
}

impl Queue {
    /// An empty queue; `share` is what it costs beside its messages and consumers.
    pub fn new(id: QueueId, declaration: Declaration, share: Share, now: Instant) -> Self {
        Self {
            id,
            declaration,
            _share: share,
            consumers: Consumers::default(),
            timer: None,
            ready: Ready::default(),
            dead: Vec::new(),
            unacked: 0,
            next_position: 0,
            used: now,
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
    ///
    /// `expiration`, if there is one, is how long it may wait at most.
    pub fn push(
        &mut self,
        stored: Arc<Stored>,
        expiration: Option<Duration>,
        now: Instant,
    ) -> bool {
        let settings = &self.declaration.settings;
        let body = stored.octets();
        let over = |limit: Option<usize>, octets| limit.is_some_and(|limit| octets > limit);
        let full = over(settings.max_length, self.ready.len() + 1)
            || over(settings.max_octets, self.ready.octets + body);
        match settings.overflow {
            Overflow::RejectPublish if full => return false,
            Overflow::RejectPublishDeadLetter if full => {
                self.bury(stored, Reason::MaxLength);
                return false;
            }
            _ => {}
        }
        let wait = [settings.ttl, expiration].into_iter().flatten().min();
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
        self.expire(|deadline| deadline < now);
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
        self.expire(|deadline| deadline <= now);
        let Settings {
            overflow: Overflow::DropHead,
            max_length,
            max_octets,
            ..
        } = self.declaration.settings
        else {
            return;
        };
        let over = |limit: Option<usize>, octets| limit.is_some_and(|limit| octets > limit);
        let over = |ready: &Ready| over(max_length, ready.len()) || over(max_octets, ready.octets);
        while let Some(message) = self.ready.pop_if(|ready, _| over(ready)) {
            self.bury(message.stored, Reason::MaxLength);
        }
    }

    fn expire(&mut self, is_over: impl Fn(Instant) -> bool) {
        let is_late = |head: &Queued| head.deadline.is_some_and(&is_over);
        while let Some(late) = self.ready.pop_if(|_, head| is_late(head)) {
            self.bury(late.stored, Reason::Expired);
        }
    }

    /// A message taken from here is settled for good; `consumer` got it, or nobody did and it was a `basic.get`.
    pub fn settle(&mut self, consumer: Option<ConsumerId>) {
        self.unacked -= 1;
        if let Some(consumer) = consumer {
            self.consumers.release(consumer);
        }
    }

    /// A message taken from here is not wanted: reject or nack without requeue. ACK-7
    pub fn reject(&mut self, consumer: Option<ConsumerId>, message: Queued) {
        self.settle(consumer);
        self.bury(message.stored, Reason::Rejected);
    }

    /// A message taken from here comes back to its old place, and counts as redelivered. CONS-19, CONS-20
    ///
    /// From a quorum queue it may have come back once too often.
    pub fn put_back(&mut self, consumer: Option<ConsumerId>, message: Queued) {
        self.settle(consumer);
        let returns = message.returns.saturating_add(1);
        let limit = self.declaration.settings.delivery_limit;
        if limit.is_some_and(|limit| returns > limit) {
            return self.bury(message.stored, Reason::DeliveryLimit);
        }
        self.ready.put_back(Queued { returns, ..message });
    }

    /// A message has died here. Most queues want to hear no more of it.
    fn bury(&mut self, message: Arc<Stored>, reason: Reason) {
        if let Some(letters) = self.declaration.settings.dead_letters.clone() {
            self.dead.push(Dead {
                message,
                reason,
                queue: self.id.name.clone(),
                letters,
            });
        }
    }

    /// What has died here and is to be sent on, in the order of the deaths.
    pub fn take_dead(&mut self) -> Vec<Dead> {
        std::mem::take(&mut self.dead)
    }

    /// It was declared or asked for a message, or its last consumer has left: `x-expires` counts from here.
    pub fn touch(&mut self, now: Instant) {
        self.used = now;
    }

    /// Until when it stays if nobody uses it.
    fn unused_until(&self) -> Option<Instant> {
        let wait = self.declaration.settings.expires?;
        let until = self.used.checked_add(wait);
        until.filter(|_| self.consumers.is_empty())
    }

    /// Whether nobody has used it for as long as `x-expires` says.
    pub fn is_forgotten(&self, now: Instant) -> bool {
        self.unused_until().is_some_and(|until| until <= now)
    }

    /// When its head expires, or the queue itself, whichever comes first.
    pub fn due(&self) -> Option<Instant> {
        let head = self.ready.head().and_then(|head| head.deadline);
        [head, self.unused_until()].into_iter().flatten().min()
    }

    /// Drops the messages that are ready, and says how many; those that somebody holds stay with them. QUEUE-15
    pub fn purge(&mut self) -> usize {
        std::mem::take(&mut self.ready).len()
    }
}
