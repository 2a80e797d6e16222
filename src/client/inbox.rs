//! The connection's end of a consumer's queue, and how full it may get.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use super::{consumer::Received, error::Error};
use crate::{
    codec::{BasicDeliver, ConsumerTag, DeliveryTag},
    protocol::Message,
};

/// How much may wait for one consumer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// As many messages as the broker may send unacknowledged.
    Messages(usize),
    Octets(usize),
}

/// The session's end of a consumer's queue.
#[derive(Debug, Clone)]
pub(crate) struct Inbox {
    pub(crate) tag: ConsumerTag,
    no_ack: bool,
    bound: Bound,
    waiting: mpsc::UnboundedSender<(Received, DeliveryTag)>,
    level: Arc<Level>,
    pub(crate) stage: InboxStage,
}

/// Where a subscription stands with the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InboxStage {
    /// Its consume-ok has not come yet.
    Asked,
    On,
    /// Its cancel-ok has not come yet.
    Cancelling,
}

/// How much waits, and why nothing more comes.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) waiting: AtomicUsize,
    pub(super) end: OnceLock<ConsumerEnd>,
}

/// Why a consumer yields nothing more.
#[derive(Debug, Clone)]
pub(crate) enum ConsumerEnd {
    /// It was cancelled from here, and the broker has heard it.
    Asked,
    /// The broker ended it: the queue is gone. CONS-17
    Cancelled,
    Failed(Error),
}

impl Inbox {
    pub(super) fn new(
        tag: ConsumerTag,
        no_ack: bool,
        bound: Bound,
        waiting: mpsc::UnboundedSender<(Received, DeliveryTag)>,
    ) -> (Self, Arc<Level>) {
        let level = Arc::new(Level::default());
        let inbox = Self {
            tag,
            no_ack,
            bound,
            waiting,
            level: level.clone(),
            stage: InboxStage::Asked,
        };
        (inbox, level)
    }

    /// Queues a delivery, or gives its tag back when nobody is left to take it and it has to be settled.
    pub(crate) fn push(
        &mut self,
        deliver: BasicDeliver,
        message: Message,
    ) -> Result<(), DeliveryTag> {
        let BasicDeliver {
            delivery_tag,
            redelivered,
            exchange,
            routing_key,
            ..
        } = deliver;
        let weight = self.bound.weight(&message);
        let received = Received {
            exchange,
            routing_key,
            redelivered,
            message,
        };
        self.level.waiting.fetch_add(weight, Ordering::Relaxed);
        match self.waiting.send((received, delivery_tag)) {
            Err(_) if !self.no_ack => Err(delivery_tag),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        let more_may_come = !self.is_abandoned() && self.level.end.get().is_none();
        more_may_come && self.level.waiting.load(Ordering::Relaxed) > self.bound.limit()
    }

    /// Nobody is left to take anything.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.waiting.is_closed()
    }

    /// The queue ends behind what is in it.
    pub(crate) fn end(self, why: ConsumerEnd) {
        let _ = self.level.end.set(why); // the first cause stays
    }
}

impl Bound {
    pub(super) fn weight(self, message: &Message) -> usize {
        match self {
            Self::Messages(_) => 1,
            Self::Octets(_) => message.body.len() + size_of::<Received>(),
        }
    }

    pub(super) const fn limit(self) -> usize {
        match self {
            Self::Messages(limit) | Self::Octets(limit) => limit,
        }
    }
}
