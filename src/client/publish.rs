//! # Publishing: no answer, a confirm, and what comes back
//!
//! ```text
//! publish              ── one ─────▶                               no answer at all (PUB-7)
//! confirm_select       ── select ──▶  ◀── select-ok                from here on publishes are counted, 1, 2, ..
//! publish_confirmed    ── two ─────▶  ◀── ack 1                    Confirm::Ack: taken care of
//!                      ── three ───▶  ◀── nack 2                   Confirm::Nack: refused, as by a full queue
//!          mandatory   ── four ────▶  ◀── return  ◀── ack 3        no queue: it comes back, and then its ack (CONF-5)
//! ```
//!
//! No number is on the wire: both sides count (CONF-2). Nor is there one in a return, which has only the properties of
//! its message to know it by (PUB-6). The surprise: an ack does not say that a queue was reached (CONF-6); ack and no
//! return do.
//!
//! Read next: [`consumer`](super::consumer). Explained in `docs/08-routing.md`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{SemaphorePermit, mpsc, oneshot};

use super::{
    channel::Channel,
    error::Error,
    handle::Handle,
    inbox::{ReturnsInbox, ReturnsTo, weight},
    listener::ConfirmListener,
    session::{Command, Confirm, Publish, Returned},
};
use crate::{
    codec::{BasicPublish, ConfirmSelect, ContentHeader, Properties, ShortString},
    protocol::Message,
};

impl Channel {
    /// Publishes a message to an exchange; "" routes to the queue that the routing key names. There is no answer:
    /// whether it arrived is not known without confirms (PUB-7).
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] or [`Error::ConnectionClosed`] if it is known to be over, [`Error::TooLong`], or 311
    /// when the properties do not fit a frame.
    ///
    /// # Cancel safety
    /// A dropped future has sent all of it or nothing.
    pub async fn publish<X, K>(
        &self,
        exchange: X,
        routing_key: K,
        message: impl Into<Message>,
    ) -> Result<(), Error>
    where
        X: TryInto<ShortString>,
        K: TryInto<ShortString>,
        Error: From<X::Error> + From<K::Error>,
    {
        let (exchange, routing_key) = (exchange.try_into()?, routing_key.try_into()?);
        self.publish_with(
            BasicPublish {
                exchange,
                routing_key,
                ..Default::default()
            },
            message,
        )
        .await
    }

    /// The same with every option: `mandatory` brings a message back that no queue takes, see [`returns`](Self::returns).
    ///
    /// # Errors
    /// As for [`publish`](Self::publish).
    ///
    /// # Cancel safety
    /// As for [`publish`](Self::publish).
    pub async fn publish_with(
        &self,
        method: BasicPublish,
        message: impl Into<Message>,
    ) -> Result<(), Error> {
        let permit = self.permit().await?;
        permit.publish(method, message.into(), Confirming::Nobody)
    }

    /// Publishes on a channel in confirm mode and returns as soon as the message is handed over; what the broker made
    /// of it is the returned value's to say.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish).
    ///
    /// # Cancel safety
    /// As for [`publish`](Self::publish).
    pub async fn publish_confirmed(
        &self,
        method: BasicPublish,
        message: impl Into<Message>,
    ) -> Result<Confirmation, Error> {
        let (sender, outcome) = oneshot::channel();
        let permit = self.permit().await?;
        permit.publish(method, message.into(), Confirming::Waiter(sender))?;
        Ok(Confirmation {
            outcome,
            handle: self.handle().clone(),
        })
    }

    /// Waits until there is room for a message among all that is to be sent.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] or [`Error::ConnectionClosed`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn permit(&self) -> Result<PublishPermit<'_>, Error> {
        let place = self.handle().place().await?;
        Ok(PublishPermit {
            channel: self,
            place,
        })
    }

    /// A content header is never split, so it is checked while there is somebody to tell. CONTENT-15
    fn fitting(&self, properties: Box<Properties>) -> Result<Box<Properties>, Error> {
        if properties.headers.is_none() {
            return Ok(properties); // the other thirteen fit the smallest frame there is
        }
        let size = ContentHeader::LEAST + properties.encoded_len();
        let tuning = self.handle().connection().opened.tuning;
        tuning.fit_header(self.id(), BasicPublish::ID, size)?;
        Ok(properties)
    }

    /// From now on the broker acknowledges each publish on this channel. CONF-1
    ///
    /// # Errors
    /// [`Error::ChannelClosed`], [`Error::ConnectionClosed`] or [`Error::Timeout`].
    pub async fn confirm_select(&self) -> Result<(), Error> {
        self.request(ConfirmSelect { no_wait: false })
            .await
            .map(drop)
    }

    /// The mandatory messages that come back from now on. A return has no link to its publish but its own properties
    /// (PUB-6). As much may wait to be taken as [`consumer_octets`](super::ConnectOptions::consumer_octets) says, and
    /// what comes then is dropped; a second call takes over from the first.
    pub fn returns(&self) -> Returns {
        let (sender, waiting) = mpsc::unbounded_channel();
        let octets = self.handle().connection().consumer_octets;
        let (inbox, level) = ReturnsInbox::new(sender, octets);
        *self.handle().channel().returns() = Some(ReturnsTo::Queue(inbox));
        Returns { waiting, level }
    }
}

/// Room for one message among all that is to be sent.
#[derive(Debug)]
pub(crate) struct PublishPermit<'a> {
    channel: &'a Channel,
    place: SemaphorePermit<'a>,
}

impl PublishPermit<'_> {
    /// Publishes a message, at once.
    ///
    /// # Errors
    /// As for [`Channel::publish`]: nothing was sent.
    pub(crate) fn publish(
        self,
        method: BasicPublish,
        message: Message,
        confirm: Confirming,
    ) -> Result<(), Error> {
        let Message { properties, body } = message;
        let properties = self.channel.fitting(properties)?;
        let handle = self.channel.handle();
        let command = Command::Publish(Publish {
            channel: handle.channel().clone(),
            method,
            properties,
            body,
            confirm,
        });
        handle.put(self.place, command)
    }
}

/// Who hears what became of a publish.
#[derive(Debug)]
pub(crate) enum Confirming {
    Nobody,
    /// Somebody who waits for it.
    Waiter(oneshot::Sender<Result<Confirm, Error>>),
    /// Somebody who waits for something else, and need not be woken for it.
    Listener(Arc<dyn ConfirmListener>),
}

impl Confirming {
    pub(super) fn tell(self, outcome: Result<Confirm, Error>) {
        match self {
            Self::Nobody => {}
            Self::Waiter(waiter) => _ = waiter.send(outcome), // whoever waited may have given up
            Self::Listener(listener) => listener.confirmed(outcome),
        }
    }
}

/// Mandatory messages that came back, oldest first.
#[derive(Debug)]
pub struct Returns {
    waiting: mpsc::UnboundedReceiver<Returned>,
    level: Arc<AtomicUsize>,
}

impl Returns {
    /// The next one, or `None` once the channel is over.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future took nothing.
    pub async fn next(&mut self) -> Option<Returned> {
        let returned = self.waiting.recv().await?;
        self.level.fetch_sub(weight(&returned), Ordering::Relaxed);
        Some(returned)
    }
}

/// What became of one publish.
#[derive(Debug)]
#[must_use = "without waiting for it a confirm is of no use"]
pub struct Confirmation {
    outcome: oneshot::Receiver<Result<Confirm, Error>>,
    handle: Handle,
}

impl Confirmation {
    /// Waits until the broker has acknowledged the message, or refused it.
    ///
    /// # Errors
    /// [`Error::NotConfirming`]; [`Error::ChannelClosed`] or [`Error::ConnectionClosed`]: the outcome is unknown then
    /// (CONF-8); [`Error::Timeout`].
    ///
    /// # Cancel safety
    /// A dropped future changes nothing: the message was sent.
    pub async fn outcome(self) -> Result<Confirm, Error> {
        let handle = self.handle.clone();
        let settled = self.settled();
        handle.connection().within("basic.publish", settled).await
    }

    /// The same without a deadline: a broker that has blocked its publishers (BLOCK-2) takes the message in the end, and
    /// the end of the channel is noticed however long this waits.
    pub(crate) async fn settled(self) -> Result<Confirm, Error> {
        let Self { outcome, handle } = self;
        outcome.await.unwrap_or_else(|_| Err(handle.over()))
    }
}
