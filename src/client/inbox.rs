//! # The inbox: the connection's end of a subscription, and the bound of a consumer's queue
//!
//! ```text
//! session ── push ──▶ │ 4 3 2 1 │ ── next() ──▶ your task
//!                     └─ over the bound: the socket is not read until somebody takes something
//! ```
//!
//! With a prefetch the broker keeps the bound, since it sends no more than that unacknowledged (QOS-1). Without one, or
//! without acknowledgements, it keeps none, so octets are counted here and TCP makes it wait. All consumers of a
//! connection share its socket, so one that takes nothing holds up the others, and every reply; a timeout names it.
//!
//! A body is a slice of a read buffer, and keeps all of it alive. One that lies alone in its buffer is copied
//! (SEC-16).
//!
//! Read next: `listener`. Explained in `docs/17-flow-control.md`.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;
use tracing::warn;

use super::{consumer::Received, error::Error, listener::Listener, session::Returned};
use crate::{
    codec::{BasicDeliver, ConsumerTag, DeliveryTag, Properties},
    protocol::{Cause, Message},
};

/// How much may wait for one consumer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// As many messages as the broker may send unacknowledged.
    Messages(usize),
    Octets(usize),
}

/// How many times its own memory a delivery that waits may keep of a read buffer, which lives as long as any slice of
/// it. One that lies farther from the last one is copied out. SEC-16
const SPARSE: usize = 4;

/// A delivery in a consumer's queue.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) received: Received,
    pub(super) tag: DeliveryTag,
    /// What it counts for.
    pub(super) weight: usize,
}

/// The session's end of a subscription.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) tag: ConsumerTag,
    /// Where in the stream the last delivery ended.
    last: u64,
    to: To,
    pub(crate) stage: InboxStage,
}

/// Where deliveries go.
#[derive(Debug)]
enum To {
    Queue(Queue),
    Listener(Ear),
}

/// The session's end of a consumer's queue.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    no_ack: bool,
    bound: Bound,
    waiting: mpsc::UnboundedSender<Waiting>,
    level: Arc<Level>,
}

/// A listener, which hears of the end however a session ends: its task may be dropped.
#[derive(Debug)]
struct Ear(Arc<dyn Listener>);

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.ended(Error::ChannelClosed(Cause::ClosedHere));
    }
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
    /// Of a consumer.
    pub(super) fn new(
        tag: ConsumerTag,
        no_ack: bool,
        bound: Bound,
        waiting: mpsc::UnboundedSender<Waiting>,
    ) -> (Self, Arc<Level>) {
        let level = Arc::new(Level::default());
        let queue = Queue {
            no_ack,
            bound,
            waiting,
            level: level.clone(),
        };
        (Self::to(tag, To::Queue(queue)), level)
    }

    /// Of a listener, without acknowledgements.
    pub(super) fn heard_by(tag: ConsumerTag, listener: Arc<dyn Listener>) -> Self {
        Self::to(tag, To::Listener(Ear(listener)))
    }

    fn to(tag: ConsumerTag, to: To) -> Self {
        let (last, stage) = (0, InboxStage::Asked);
        Self {
            tag,
            last,
            to,
            stage,
        }
    }

    /// Hands on a delivery that ends at `position`, or gives its tag back when nobody is left to take it and it has to be
    /// settled.
    pub(crate) fn push(
        &mut self,
        deliver: BasicDeliver,
        mut message: Message,
        position: u64,
    ) -> Result<(), DeliveryTag> {
        let BasicDeliver {
            delivery_tag: tag,
            redelivered,
            exchange,
            routing_key,
            ..
        } = deliver;
        let stretch = position.saturating_sub(std::mem::replace(&mut self.last, position));
        let sparse =
            |memory| usize::try_from(stretch).is_ok_and(|stretch| stretch > SPARSE * memory);
        // What every message takes is known without a look at each of its properties.
        if sparse(size_of::<Properties>() + message.body.len()) && sparse(message.memory()) {
            message = message.into_owned();
        }
        let received = Received {
            exchange,
            routing_key,
            redelivered,
            message,
        };
        match &self.to {
            To::Queue(queue) => queue.push(received, tag),
            To::Listener(Ear(listener)) => {
                listener.delivered(received);
                Ok(())
            }
        }
    }

    /// The queue, if it is full.
    pub(crate) fn full(&self) -> Option<Queue> {
        match &self.to {
            To::Queue(queue) => queue.is_full().then(|| queue.clone()),
            To::Listener(_) => None,
        }
    }

    /// Nobody is left to take anything.
    pub(crate) fn is_abandoned(&self) -> bool {
        match &self.to {
            To::Queue(queue) => queue.is_abandoned(),
            To::Listener(_) => false,
        }
    }

    /// Nothing comes behind what came. The first cause stays.
    pub(crate) fn end(self, why: ConsumerEnd) {
        match self.to {
            To::Queue(queue) => _ = queue.level.end.set(why),
            To::Listener(Ear(ref listener)) => listener.ended(match why {
                ConsumerEnd::Asked => Error::ChannelClosed(Cause::ClosedHere),
                ConsumerEnd::Cancelled => Error::ConsumerCancelled(self.tag),
                ConsumerEnd::Failed(error) => error,
            }),
        }
    }
}

impl Queue {
    fn push(&self, received: Received, tag: DeliveryTag) -> Result<(), DeliveryTag> {
        let weight = self.bound.weight(&received.message);
        self.level.waiting.fetch_add(weight, Ordering::Relaxed);
        let waiting = Waiting {
            received,
            tag,
            weight,
        };
        match self.waiting.send(waiting) {
            Err(_) if !self.no_ack => Err(tag),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        let over = self.level.waiting.load(Ordering::Relaxed) > self.bound.limit();
        over && !self.is_abandoned() && self.level.end.get().is_none()
    }

    fn is_abandoned(&self) -> bool {
        self.waiting.is_closed()
    }
}

impl Bound {
    fn weight(self, message: &Message) -> usize {
        match self {
            Self::Messages(_) => 1,
            Self::Octets(_) => message.memory() + size_of::<Received>(),
        }
    }

    pub(super) const fn limit(self) -> usize {
        match self {
            Self::Messages(limit) | Self::Octets(limit) => limit,
        }
    }
}

/// Where a channel's returned messages go.
#[derive(Debug, Clone)]
pub(crate) enum ReturnsTo {
    Queue(ReturnsInbox),
    Listener(Arc<dyn Listener>),
}

/// The session's end of a channel's queue of returned messages.
#[derive(Debug, Clone)]
pub(crate) struct ReturnsInbox {
    waiting: mpsc::UnboundedSender<Returned>,
    /// Octets of memory that wait, ...
    level: Arc<AtomicUsize>,
    /// ... and how many may.
    most: usize,
}

impl ReturnsTo {
    pub(crate) fn push(&self, returned: Returned) {
        match self {
            Self::Queue(inbox) => inbox.push(returned),
            Self::Listener(listener) => listener.returned(returned),
        }
    }
}

impl ReturnsInbox {
    pub(super) fn new(
        waiting: mpsc::UnboundedSender<Returned>,
        most: usize,
    ) -> (Self, Arc<AtomicUsize>) {
        let level = Arc::new(AtomicUsize::new(0));
        let inbox = Self {
            waiting,
            level: level.clone(),
            most,
        };
        (inbox, level)
    }

    /// Queues a message, or drops it when too much waits and nobody takes it.
    fn push(&self, returned: Returned) {
        if self.waiting.is_closed() {
            return;
        }
        if self.level.load(Ordering::Relaxed) > self.most {
            let routing_key = returned.reason.routing_key;
            return warn!(%routing_key, "a returned message was dropped: nobody takes them");
        }
        let message = returned.message.into_owned(); // a slice would keep its whole read buffer
        let returned = Returned {
            message,
            ..returned
        };
        self.level.fetch_add(weight(&returned), Ordering::Relaxed);
        let _ = self.waiting.send(returned); // whoever listened is gone
    }
}

/// What a returned message counts for.
pub(super) fn weight(returned: &Returned) -> usize {
    returned.message.memory() + size_of::<Returned>()
}
