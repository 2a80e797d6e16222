//! # Replies: one channel with an address of its own, and who sorts what comes there
//!
//! ```text
//! calls ── publish ──▶ channel ══▶ broker
//!   ▲                     ║
//!   │ resolve(id)         ╠══ basic.deliver ──▶ to our address? with an id? somebody waits? ──▶ that call ends
//!   └──── Sorter ◀════════╩══ basic.return ───▶ it brings the properties, so the id too ──────▶ that call ends
//! ```
//!
//! Direct reply-to has three rules: consume first, without acknowledgements, and publish on the same channel (DRT-1,
//! DRT-2). Here one type consumes when it is made and publishes on the channel that it consumes on, so they cannot be
//! broken. After a loss there is another channel with another address, and a reply to the old one finds nobody.
//!
//! Read next: [`request`](super::request). Explained in `docs/13-reply-addresses.md`.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tracing::debug;

use super::{call::ReplyMode, error::RpcError, error_reply, pending::Pending, stats::Counters};
use crate::{
    client::{
        Cause, Channel, Connection, Error, Listener, Message, PublishPermit, Received, Returned,
    },
    codec::{BasicConsume, QueueDeclare, ShortString},
};

/// The name that stands for "this channel". The broker puts a longer one, which nobody can guess, in its place. DRT-3
const DIRECT: ShortString = ShortString::literal("amq.rabbitmq.reply-to");

/// How many calls may ask at once who serves, after they have failed.
const LOOK_UPS: usize = 8;

/// A reply address, for as long as its channel lives. After that there is a new one, so that a reply to the old can
/// never be taken for a reply to the new.
#[derive(Debug)]
pub(super) struct ReplyAddress {
    pub(super) connection: Connection,
    channel: Channel,
    pub(super) name: ShortString,
    pub(super) pending: Arc<Pending>,
    /// Calls that ask who serves, after they have failed. Each takes a channel, and there are not so many of them.
    pub(super) look_ups: Semaphore,
    over: watch::Receiver<Option<Error>>,
}

impl ReplyAddress {
    /// Consumes before anything can be asked (RPC-1), in confirm mode (RPC-12).
    ///
    /// # Errors
    /// What the channel or the connection failed with.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind: its channel closes, and a reply queue goes with its only consumer.
    pub(super) async fn open(
        connection: &Connection,
        mode: ReplyMode,
        counters: Arc<Counters>,
    ) -> Result<Self, Error> {
        let channel = connection.open_channel().await?;
        channel.confirm_select().await?;
        let name = match mode {
            ReplyMode::DirectReplyTo => DIRECT,
            ReplyMode::ExclusiveQueue => {
                let declare = QueueDeclare {
                    exclusive: true,
                    auto_delete: true,
                    ..Default::default()
                };
                channel.queue_declare(declare).await?.queue
            }
        };
        let pending = Arc::new(Pending::default());
        let (ended, over) = watch::channel(None);
        let sorter = Sorter {
            mode,
            name: name.clone(),
            pending: pending.clone(),
            counters,
            ended,
        };
        let consume = BasicConsume {
            queue: name.clone(),
            ..Default::default()
        };
        channel.listen(consume, Arc::new(sorter)).await?;
        Ok(Self {
            connection: connection.clone(),
            channel,
            name,
            pending,
            look_ups: Semaphore::new(LOOK_UPS),
            over,
        })
    }

    /// Waits until a request can be sent.
    ///
    /// # Errors
    /// None can be sent here any more.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn permit(&self) -> Result<PublishPermit<'_>, Error> {
        self.channel.permit().await
    }

    /// Waits until no reply can come any more, and says why.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn over(&self) -> Error {
        let mut over = self.over.clone();
        let over = over.wait_for(Option::is_some).await;
        let cause = over.ok().and_then(|over| over.clone());
        cause.unwrap_or(Error::ChannelClosed(Cause::ClosedHere))
    }

    /// Takes no reply any more and closes the channel.
    ///
    /// # Errors
    /// What the channel or the connection failed with.
    ///
    /// # Cancel safety
    /// A dropped future may have closed the channel.
    pub(super) async fn close(&self) -> Result<(), Error> {
        self.channel.clone().close().await
    }
}

/// Hands replies and returned requests to the calls they belong to, as the connection hears of them: it waits for nothing,
/// so it never stands in the connection's way.
#[derive(Debug)]
struct Sorter {
    mode: ReplyMode,
    name: ShortString,
    pending: Arc<Pending>,
    counters: Arc<Counters>,
    ended: watch::Sender<Option<Error>>,
}

impl Sorter {
    /// Through the default exchange to our own address, and no other way: whoever publishes elsewhere does not answer.
    fn came_here(&self, reply: &Received) -> bool {
        let key = reply.routing_key.as_bytes();
        reply.exchange.is_empty()
            && match self.mode {
                ReplyMode::DirectReplyTo => key.starts_with(DIRECT.as_bytes()),
                ReplyMode::ExclusiveQueue => key == self.name.as_bytes(),
            }
    }
}

impl Listener for Sorter {
    fn delivered(&self, reply: Received) {
        let ours = self.came_here(&reply);
        let Message { properties, .. } = &reply.message;
        match properties.correlation_id.clone() {
            Some(id) if ours => {
                if !self.pending.resolve(&id, error_reply::read(reply.message)) {
                    self.counters.late.add();
                    debug!(correlation_id = %id, "a reply that no call waits for: late or doubled");
                }
            }
            id => {
                self.counters.foreign.add();
                debug!(correlation_id = ?id, exchange = %reply.exchange, "a reply that is for nobody here");
            }
        }
    }

    /// A return comes before the confirm of its publish (CONF-5), and ends the call.
    fn returned(&self, Returned { reason, message }: Returned) {
        let (queue, code, text) = (reason.routing_key, reason.reply_code, reason.reply_text);
        let unroutable = Err(RpcError::Unroutable { queue, code, text });
        let id = message.properties.correlation_id.unwrap_or_default();
        if !self.pending.resolve(&id, unroutable) {
            debug!(correlation_id = %id, "a returned request that no call waits for");
        }
    }

    fn ended(&self, why: Error) {
        let outcome = RpcError::lost(why.clone(), true);
        self.pending.fail(&why, &outcome);
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(why);
            first
        });
    }
}
