//! # Consuming: deliveries, and acknowledgements that cannot go wrong
//!
//! ```text
//! consume         Consumer<Delivery>  next() ─▶ Delivery ── ack, nack or reject ─▶ gone
//! consume_no_ack  Consumer<Received>  next() ─▶ Received    nothing to acknowledge (CONS-7)
//! ```
//! A second ack does not compile (ACK-12). Read next: `inbox`. Explained in `docs/07-consuming.md`.

use std::{
    ops::Deref,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::mpsc;

use super::{
    error::Error,
    handle::Handle,
    inbox::{Bound, ConsumerEnd, Inbox, Level, Waiting},
    session::Command,
};
use crate::{
    codec::{
        BasicAck, BasicCancel, BasicNack, BasicReject, ConsumerTag, DeliveryTag, Method,
        Properties, ShortString,
    },
    protocol::Message,
};

/// A message that a consumer or a get received. It has nothing to acknowledge: it came without (CONS-7), or its
/// [`Acker`] is elsewhere.
///
/// ```compile_fail,E0599
/// # use amqp_rpc::client::{Error, Received};
/// async fn needless(received: Received) -> Result<(), Error> {
///     received.ack().await // no such method
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The exchange it was published to. CONS-10
    pub exchange: ShortString,
    /// The key it was published with.
    pub routing_key: ShortString,
    /// Whether it was delivered before and not acknowledged. A false proves nothing (CONS-19).
    pub redelivered: bool,
    /// Properties and body. The body shares the read buffer it came in: see [`into_owned`](Self::into_owned).
    pub message: Message,
}

impl Received {
    /// The fourteen properties.
    pub fn properties(&self) -> &Properties {
        &self.message.properties
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.message.body
    }

    /// A copy in an allocation of its own. A body is a slice of a read buffer of 64 KiB, which lives as long as the
    /// slice: what is kept for long should not be the slice.
    #[must_use]
    pub fn into_owned(mut self) -> Self {
        self.message = self.message.into_owned();
        self
    }
}

/// A message that has to be settled: with [`ack`](Self::ack), [`nack`](Self::nack) or [`reject`](Self::reject).
///
/// Dropped, it stays unacknowledged until its channel closes, and is then delivered again, as redelivered (CHAN-11).
///
/// It can be settled once, for it is gone then (ACK-12):
///
/// ```compile_fail,E0382
/// # use amqp_rpc::client::{Delivery, Error};
/// async fn twice(delivery: Delivery) -> Result<(), Error> {
///     delivery.ack().await?;
///     delivery.ack().await // use of moved value
/// }
/// ```
#[derive(Debug)]
#[must_use = "a delivery that is not settled is delivered again once the channel closes"]
pub struct Delivery {
    received: Received,
    acker: Acker,
}

impl Deref for Delivery {
    type Target = Received;
    fn deref(&self) -> &Received {
        &self.received
    }
}

impl Delivery {
    pub(crate) fn new(received: Received, acker: Acker) -> Self {
        Self { received, acker }
    }

    /// Done: the broker may forget it. There is no reply; an error shows as a close of the channel (ACK-8).
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] or [`Error::ConnectionClosed`]: the message will be delivered again.
    ///
    /// # Cancel safety
    /// A dropped future has sent the ack or has not, and the delivery is gone either way: it may come again.
    pub async fn ack(self) -> Result<(), Error> {
        self.acker.ack().await
    }

    /// Not done: back to its old place in the queue (`requeue`), or dropped. A requeued message comes again at once
    /// and for ever (ACK-13).
    ///
    /// # Errors
    /// As for [`ack`](Self::ack).
    ///
    /// # Cancel safety
    /// As for [`ack`](Self::ack).
    pub async fn nack(self, requeue: bool) -> Result<(), Error> {
        self.acker.nack(requeue).await
    }

    /// The same in the words of 0-9-1 without RabbitMQ's extension.
    ///
    /// # Errors
    /// As for [`ack`](Self::ack).
    ///
    /// # Cancel safety
    /// As for [`ack`](Self::ack).
    pub async fn reject(self, requeue: bool) -> Result<(), Error> {
        self.acker.reject(requeue).await
    }

    /// The message and the means to settle it, apart: to move one into a handler and keep the other.
    pub fn into_parts(self) -> (Received, Acker) {
        (self.received, self.acker)
    }

    /// As [`Received::into_owned`].
    pub fn into_owned(self) -> Self {
        Self {
            received: self.received.into_owned(),
            acker: self.acker,
        }
    }
}

/// The means to settle one delivery, once:
///
/// ```compile_fail,E0382
/// # use amqp_rpc::client::{Acker, Error};
/// async fn both(acker: Acker) -> Result<(), Error> {
///     acker.ack().await?;
///     acker.reject(true).await // use of moved value
/// }
/// ```
///
/// It belongs to its delivery and to the channel of that, and there is no other way to get one (ACK-2):
///
/// ```compile_fail,E0451
/// # use amqp_rpc::{client::{Acker, Channel}, codec::DeliveryTag};
/// fn forged(channel: &Channel) -> Acker {
///     Acker { tag: DeliveryTag(1), handle: todo!() } // private fields
/// }
/// ```
#[derive(Debug)]
#[must_use = "a delivery that is not settled is delivered again once the channel closes"]
pub struct Acker {
    tag: DeliveryTag,
    handle: Handle,
}

impl Acker {
    pub(crate) fn new(tag: DeliveryTag, handle: Handle) -> Self {
        Self { tag, handle }
    }

    /// As [`Delivery::ack`].
    ///
    /// # Errors
    /// As for [`Delivery::ack`].
    ///
    /// # Cancel safety
    /// As for [`Delivery::ack`].
    pub async fn ack(self) -> Result<(), Error> {
        self.handle
            .send(BasicAck {
                delivery_tag: self.tag,
                multiple: false,
            })
            .await
    }

    /// As [`Delivery::nack`].
    ///
    /// # Errors
    /// As for [`Delivery::ack`].
    ///
    /// # Cancel safety
    /// As for [`Delivery::ack`].
    pub async fn nack(self, requeue: bool) -> Result<(), Error> {
        self.handle
            .send(BasicNack {
                delivery_tag: self.tag,
                multiple: false,
                requeue,
            })
            .await
    }

    /// As [`Delivery::reject`].
    ///
    /// # Errors
    /// As for [`Delivery::ack`].
    ///
    /// # Cancel safety
    /// As for [`Delivery::ack`].
    pub async fn reject(self, requeue: bool) -> Result<(), Error> {
        self.handle
            .send(BasicReject {
                delivery_tag: self.tag,
                requeue,
            })
            .await
    }
}

/// What a consumer yields: [`Delivery`] or [`Received`].
pub trait Item: sealed::Sealed + Send + 'static {
    #[doc(hidden)]
    fn from_parts(received: Received, tag: DeliveryTag, handle: &Handle) -> Self;
}

impl Item for Delivery {
    fn from_parts(received: Received, tag: DeliveryTag, handle: &Handle) -> Self {
        Self::new(received, Acker::new(tag, handle.clone()))
    }
}

impl Item for Received {
    fn from_parts(received: Received, _: DeliveryTag, _: &Handle) -> Self {
        received
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Delivery {}
    impl Sealed for super::Received {}
}

/// A subscription. It ends when it is cancelled, by either side, or when its channel is over.
///
/// Dropped, it asks the broker to cancel it and gives back what it has not seen.
#[derive(Debug)]
#[must_use = "a consumer that is dropped is cancelled"]
pub struct Consumer<D: Item = Delivery> {
    tag: ConsumerTag,
    pub(super) handle: Handle,
    no_ack: bool,
    bound: Bound,
    waiting: mpsc::UnboundedReceiver<Waiting>,
    pub(super) level: Arc<Level>,
    /// Its end has been told.
    ended: bool,
    kind: std::marker::PhantomData<fn() -> D>,
}

impl<D: Item> Consumer<D> {
    pub(crate) fn new(
        tag: ConsumerTag,
        handle: Handle,
        no_ack: bool,
        bound: Bound,
    ) -> (Self, Inbox) {
        let (sender, waiting) = mpsc::unbounded_channel(); // bounded by `Inbox::is_full`, which stops the reading
        let (inbox, level) = Inbox::new(tag.clone(), no_ack, bound, sender);
        let (ended, kind) = (false, std::marker::PhantomData);
        (
            Self {
                tag,
                handle,
                no_ack,
                bound,
                waiting,
                level,
                ended,
                kind,
            },
            inbox,
        )
    }

    /// The name of the subscription.
    pub fn tag(&self) -> &ConsumerTag {
        &self.tag
    }

    /// The next message, or `None` once the consumer has been cancelled from here and nothing is left.
    ///
    /// # Errors
    /// Once, and then `None`: [`Error::ConsumerCancelled`] when the broker ended it, [`Error::ChannelClosed`] or
    /// [`Error::ConnectionClosed`].
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future took nothing.
    pub async fn next(&mut self) -> Option<Result<D, Error>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    pub(crate) fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<D, Error>>> {
        self.waiting.poll_recv(context).map(|next| match next {
            Some(Waiting {
                received,
                tag,
                weight,
            }) => {
                self.took(weight);
                Some(Ok(D::from_parts(received, tag, &self.handle)))
            }
            None => self.why().map(Err),
        })
    }

    /// Makes room, and says so to a connection that waits for it.
    fn took(&self, weight: usize) {
        let limit = self.bound.limit();
        let before = self.level.waiting.fetch_sub(weight, Ordering::Relaxed);
        if before > limit && before - weight <= limit {
            self.handle.make_room();
        }
    }

    /// The reason of the end, once.
    fn why(&mut self) -> Option<Error> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        match self.level.end.get() {
            Some(ConsumerEnd::Asked) => None,
            Some(ConsumerEnd::Failed(error)) => Some(error.clone()),
            Some(ConsumerEnd::Cancelled) => Some(Error::ConsumerCancelled(self.tag.clone())),
            None => Some(self.handle.over()),
        }
    }

    /// Ends the subscription: after this, [`next`](Self::next) yields what was queued already, and then `None`.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`], [`Error::ConnectionClosed`] or [`Error::Timeout`].
    ///
    /// # Cancel safety
    /// A dropped future may have sent the cancel; then the consumer ends all the same.
    pub async fn cancel(&mut self) -> Result<(), Error> {
        let cancel = BasicCancel {
            consumer_tag: self.tag.clone(),
            no_wait: false,
        };
        self.handle.call(cancel).await.map(|_: (Method, _)| ())
    }
}

impl<D: Item> Drop for Consumer<D> {
    fn drop(&mut self) {
        self.waiting.close();
        let mut unseen = Vec::new();
        while let Ok(Waiting { tag, weight, .. }) = self.waiting.try_recv() {
            self.took(weight);
            if !self.no_ack {
                unseen.push(tag);
            }
        }
        self.handle.make_room();
        let (channel, tag) = (self.handle.channel().clone(), self.tag.clone());
        self.handle.ask(Command::DropConsumer {
            channel,
            tag,
            unseen,
        });
    }
}

/// The same as [`Consumer::next`], for the combinators of the `futures` crates.
#[cfg(feature = "stream")]
impl<D: Item> futures_core::Stream for Consumer<D> {
    type Item = Result<D, Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        Self::poll_next(&mut self, context)
    }
}
