//! # A channel: what one can ask of a broker
//!
//! ```text
//! queue_declare(..).await  ── queue.declare ──▶  ◀── queue.declare-ok ──   a request and its reply (METH-6)
//! publish(..).await        ── basic.publish ──▶                            no reply: it is only on its way (PUB-7)
//! queue_declare(..).await  ── queue.declare ──▶  ◀── channel.close 406 ─   in its place: the channel is over (ERR-1)
//! ```
//!
//! Each request of the table is a method here, and its struct is its options. The surprise is the price of a soft
//! error: it costs the channel, and with it the consumers and unacknowledged deliveries of everybody who shares the
//! channel (CHAN-10, CHAN-11). What may fail, as asking whether a queue is there, is best asked on a channel of its
//! own.
//!
//! Read next: [`publish`](super::publish). Explained in `docs/05-channels.md`.

use std::sync::Arc;

use super::{
    Inner,
    consumer::{Acker, Consumer, Delivery, Item, Received},
    error::Error,
    handle::Handle,
    inbox::{Bound, Inbox},
    session::{ChannelShared, Command},
};
use crate::codec::{
    BasicCancel, BasicConsume, BasicGet, BasicQos, BasicRecover, ChannelId, ConsumerTag,
    DeliveryTag, ExchangeBind, ExchangeDeclare, ExchangeDelete, ExchangeUnbind, Method, QueueBind,
    QueueDeclare, QueueDeclareOk, QueueDelete, QueuePurge, QueueUnbind, ShortString,
};

/// The prefetch of an acknowledging consumer on a channel whose user has set none.
const DEFAULT_PREFETCH: u16 = 100;

/// One lane of a connection, with its own delivery tags, consumers and errors. Cheap to clone; the last clone (or
/// consumer, or delivery) to be dropped asks for the channel's close.
///
/// A method's struct is its options: `QueueDeclare { durable: true, ..Default::default() }`. Requests are answered in
/// order. A *soft* error of the broker closes the channel, and every later call says why; open another one then.
///
/// # Cancel safety
/// A dropped request is harmless but not undone: if it was sent, its answer is discarded when it comes.
#[derive(Debug, Clone)]
pub struct Channel(Handle);

impl Channel {
    pub(crate) fn new(connection: Arc<Inner>, channel: Arc<ChannelShared>) -> Self {
        Self(Handle::new(connection, channel))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.0
    }

    /// Its number.
    pub fn id(&self) -> ChannelId {
        self.0.channel().id
    }

    /// Creates a queue, or with `passive` only checks that it exists. With the name "" the broker makes one up; the
    /// answer has it.
    ///
    /// # Errors
    /// 404 (passive, and there is none), 405 (another connection's own), 406 (it exists with other properties), 403
    /// (a reserved name): each closes the channel. Or [`Error::Timeout`].
    pub async fn queue_declare(&self, declare: QueueDeclare) -> Result<QueueDeclareOk, Error> {
        let no_answer = declare.no_wait.then(|| QueueDeclareOk {
            queue: declare.queue.clone(),
            ..Default::default()
        });
        match self.request(declare).await? {
            Some(Method::QueueDeclareOk(ok)) => Ok(ok),
            _ => Ok(no_answer.unwrap_or_default()),
        }
    }

    /// Lets messages flow from an exchange to a queue.
    ///
    /// # Errors
    /// 404 when either does not exist, 403 for the default exchange.
    pub async fn queue_bind(&self, bind: QueueBind) -> Result<(), Error> {
        self.request(bind).await.map(drop)
    }

    /// Undoes a binding. Undoing none is no error.
    ///
    /// # Errors
    /// 403 for the default exchange.
    pub async fn queue_unbind(&self, unbind: QueueUnbind) -> Result<(), Error> {
        self.request(unbind).await.map(drop)
    }

    /// Drops the messages that are ready, and says how many.
    ///
    /// # Errors
    /// 404 when there is no such queue.
    pub async fn queue_purge(&self, purge: QueuePurge) -> Result<u32, Error> {
        Ok(match self.request(purge).await? {
            Some(Method::QueuePurgeOk(ok)) => ok.message_count,
            _ => 0,
        })
    }

    /// Deletes a queue, and says how many messages went with it. Deleting none is no error.
    ///
    /// # Errors
    /// 406 when it is in use (`if_unused`) or not empty (`if_empty`), 405 when it is another connection's own.
    pub async fn queue_delete(&self, delete: QueueDelete) -> Result<u32, Error> {
        Ok(match self.request(delete).await? {
            Some(Method::QueueDeleteOk(ok)) => ok.message_count,
            _ => 0,
        })
    }

    /// Creates an exchange, or with `passive` only checks that it exists.
    ///
    /// # Errors
    /// 404 (passive, and there is none), 406 (it exists with other properties), 403 (a reserved name). An unknown type
    /// is 503, and costs the connection on RabbitMQ 3; 4 says 406.
    pub async fn exchange_declare(&self, declare: ExchangeDeclare) -> Result<(), Error> {
        self.request(declare).await.map(drop)
    }

    /// Deletes an exchange. Deleting none is no error.
    ///
    /// # Errors
    /// 406 when it is in use (`if_unused`), 403 for one of the broker's own.
    pub async fn exchange_delete(&self, delete: ExchangeDelete) -> Result<(), Error> {
        self.request(delete).await.map(drop)
    }

    /// Lets messages flow from one exchange to another.
    ///
    /// # Errors
    /// 404 when either does not exist.
    pub async fn exchange_bind(&self, bind: ExchangeBind) -> Result<(), Error> {
        self.request(bind).await.map(drop)
    }

    /// Undoes a binding between exchanges. Undoing none is no error.
    ///
    /// # Errors
    /// 403 for the default exchange.
    pub async fn exchange_unbind(&self, unbind: ExchangeUnbind) -> Result<(), Error> {
        self.request(unbind).await.map(drop)
    }

    /// How many unacknowledged messages each consumer started *after this* may hold; 0 is no limit. QOS-2, QOS-4
    ///
    /// # Errors
    /// [`Error::ChannelClosed`], [`Error::ConnectionClosed`] or [`Error::Timeout`].
    pub async fn qos(&self, prefetch_count: u16) -> Result<(), Error> {
        self.request(BasicQos {
            prefetch_count,
            ..Default::default()
        })
        .await?;
        self.0.set_prefetch(prefetch_count);
        Ok(())
    }

    /// Subscribes to a queue with acknowledgements. A channel whose prefetch nobody has set gets one of 100 first;
    /// ask for no limit with `qos(0)`.
    ///
    /// # Errors
    /// 404 when there is no such queue, 405 when it is another connection's own, 403 when it is consumed exclusively.
    ///
    /// # Cancel safety
    /// A dropped future may have subscribed; the subscription is cancelled then.
    pub async fn consume<Q>(&self, queue: Q) -> Result<Consumer<Delivery>, Error>
    where
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        self.consume_with(BasicConsume {
            queue: queue.try_into()?,
            ..Default::default()
        })
        .await
    }

    /// The same with every option but `no_ack`, which is [`consume_no_ack`](Self::consume_no_ack).
    ///
    /// # Errors
    /// As for [`consume`](Self::consume).
    ///
    /// # Cancel safety
    /// As for [`consume`](Self::consume).
    pub async fn consume_with(&self, consume: BasicConsume) -> Result<Consumer<Delivery>, Error> {
        let prefetch = if let Some(prefetch) = self.0.prefetch() {
            prefetch
        } else {
            self.qos(DEFAULT_PREFETCH).await?;
            DEFAULT_PREFETCH
        };
        let bound = match prefetch {
            0 => Bound::Octets(self.0.connection().consumer_octets),
            messages => Bound::Messages(messages.into()),
        };
        self.queued(
            BasicConsume {
                no_ack: false,
                ..consume
            },
            bound,
        )
        .await
    }

    /// Subscribes without acknowledgements: what is sent is gone, and a prefetch does not apply (CONS-7, QOS-6).
    ///
    /// # Errors
    /// As for [`consume`](Self::consume).
    ///
    /// # Cancel safety
    /// As for [`consume`](Self::consume).
    pub async fn consume_no_ack(&self, consume: BasicConsume) -> Result<Consumer<Received>, Error> {
        let bound = Bound::Octets(self.0.connection().consumer_octets);
        self.queued(
            BasicConsume {
                no_ack: true,
                ..consume
            },
            bound,
        )
        .await
    }

    async fn queued<D: Item>(
        &self,
        mut consume: BasicConsume,
        bound: Bound,
    ) -> Result<Consumer<D>, Error> {
        self.give_tag(&mut consume)?;
        let tag = consume.consumer_tag.clone();
        let (consumer, inbox) = Consumer::new(tag, self.0.clone(), consume.no_ack, bound);
        self.subscribe(consume, inbox).await?;
        Ok(consumer)
    }

    /// A tag of our own, if it has none.
    pub(super) fn give_tag(&self, consume: &mut BasicConsume) -> Result<(), Error> {
        if consume.consumer_tag.0.is_empty() {
            let number = self.0.next_consumer();
            let tag = format!("ctag-{}.{number}", self.id());
            consume.consumer_tag = ConsumerTag(ShortString::try_from(tag)?);
        }
        Ok(())
    }

    /// The inbox exists before the basic.consume leaves, under a tag that is known: a delivery cannot come too early
    /// for it. CONS-4
    pub(super) async fn subscribe(
        &self,
        mut consume: BasicConsume,
        inbox: Inbox,
    ) -> Result<(), Error> {
        consume.no_wait = false;
        let channel = self.0.channel().clone();
        let command = |reply| Command::Consume {
            channel,
            method: consume.into(),
            inbox,
            reply,
        };
        self.0.ask_and_wait("basic.consume", command).await?;
        Ok(())
    }

    /// Takes one message, or `None` if there is none.
    ///
    /// # Errors
    /// 404 when there is no such queue, 405 when it is another connection's own.
    ///
    /// # Cancel safety
    /// A dropped future may leave a message unacknowledged until the channel closes.
    pub async fn get<Q>(&self, queue: Q) -> Result<Option<Got<Delivery>>, Error>
    where
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        let get = BasicGet {
            queue: queue.try_into()?,
            ..Default::default()
        };
        let got = self.take(get).await?;
        let acker = |tag| Acker::new(tag, self.0.clone());
        Ok(got.map(|(received, tag, remaining)| Got {
            delivery: Delivery::new(received, acker(tag)),
            remaining,
        }))
    }

    /// Takes one message for good, or `None` if there is none.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    ///
    /// # Cancel safety
    /// A dropped future may lose a message.
    pub async fn get_no_ack<Q>(&self, queue: Q) -> Result<Option<Got<Received>>, Error>
    where
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        let get = BasicGet {
            queue: queue.try_into()?,
            no_ack: true,
            ..Default::default()
        };
        let got = self.take(get).await?;
        Ok(got.map(|(received, _, remaining)| Got {
            delivery: received,
            remaining,
        }))
    }

    async fn take(&self, get: BasicGet) -> Result<Option<(Received, DeliveryTag, u32)>, Error> {
        let (Method::BasicGetOk(ok), Some(message)) = self.0.call(get).await? else {
            return Ok(None);
        };
        let (exchange, routing_key, redelivered) = (ok.exchange, ok.routing_key, ok.redelivered);
        let received = Received {
            exchange,
            routing_key,
            redelivered,
            message,
        };
        Ok(Some((received, ok.delivery_tag, ok.message_count)))
    }

    /// Puts everything unacknowledged on this channel back into its queues. ACK-10
    ///
    /// # Errors
    /// [`Error::ChannelClosed`], [`Error::ConnectionClosed`] or [`Error::Timeout`].
    pub async fn recover(&self) -> Result<(), Error> {
        self.request(BasicRecover { requeue: true }).await.map(drop)
    }

    /// Ends the subscription of this tag, wherever its [`Consumer`] is; it then yields what was queued, and `None`.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`], [`Error::ConnectionClosed`] or [`Error::Timeout`].
    pub async fn cancel(&self, consumer_tag: ConsumerTag) -> Result<(), Error> {
        let cancel = BasicCancel {
            consumer_tag,
            no_wait: false,
        };
        self.request(cancel).await.map(drop)
    }

    /// Closes the channel and waits until the broker has heard it: everything sent before has been taken.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] if it was over already, [`Error::ConnectionClosed`] or [`Error::Timeout`].
    pub async fn close(self) -> Result<(), Error> {
        let channel = self.0.channel().clone();
        self.0
            .ask_and_wait("channel.close", |reply| Command::CloseChannel {
                channel,
                reply: Some(reply),
            })
            .await?;
        Ok(())
    }

    /// A request; with no-wait it is only sent.
    pub(super) async fn request(&self, method: impl Into<Method>) -> Result<Option<Method>, Error> {
        let method = method.into();
        if method.no_wait() {
            self.0.send(method).await?;
            return Ok(None);
        }
        self.0.call(method).await.map(|(answer, _)| Some(answer))
    }
}

/// One message of a `basic.get`.
#[derive(Debug)]
pub struct Got<D> {
    /// The message.
    pub delivery: D,
    /// How many are left in the queue.
    pub remaining: u32,
}
