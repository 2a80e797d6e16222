//! # Direct reply-to: the queue that is none
//!
//! ```text
//! requester                                vhost                                    server
//! consume "amq.rabbitmq.reply-to" no-ack ─►  remembers amq.rabbitmq.reply-to.TOKEN
//! publish reply-to=amq.rabbitmq.reply-to ─►  rewrites the property ───────────────►  deliver
//!                                deliver ◄─  knows the name        ◄─────── publish "" key=that name
//! ```
//!
//! Nothing is stored: a reply goes to the channel that waits under its name, or nowhere (DRT-6). The token in the name
//! is all that protects it, so it cannot be guessed (DRT-11).
//!
//! Read next: `timers`. Explained in `docs/13-reply-addresses.md`.

use super::{Lane, Vhost, clients::ReplyConsumer};
use crate::{
    broker::{fault::Fault, stored::Packed},
    codec::{BasicDeliver, ConsumerTag, Properties, QueueDeclareOk, ShortString},
};

const QUEUE: &str = "amq.rabbitmq.reply-to";
const PREFIX: &str = "amq.rabbitmq.reply-to.";

impl Vhost {
    /// The name a requester consumes from and puts into reply-to. DRT-1, DRT-2
    pub(super) fn is_reply_queue(name: &ShortString) -> bool {
        *name == QUEUE
    }

    /// That name, or one with a token behind it.
    pub(super) fn is_reply_name(name: &ShortString) -> bool {
        Self::is_reply_queue(name) || name.as_bytes().starts_with(PREFIX.as_bytes())
    }

    /// How a server asks whether its client is still there. DRT-8
    pub(super) fn declare_reply_name(&self, queue: ShortString) -> Result<QueueDeclareOk, Fault> {
        if !Self::is_reply_queue(&queue) && !self.reply_names.contains_key(&queue) {
            return Err(Fault::not_found(&self.queue_resource(&queue)));
        }
        Ok(QueueDeclareOk {
            queue,
            message_count: 0,
            consumer_count: 1,
        })
    }

    /// One such consumer per channel, under a new name each time. DRT-1, DRT-4
    pub(super) fn consume_replies(
        &mut self,
        lane: Lane,
        tag: ConsumerTag,
        no_ack: bool,
    ) -> Result<(), Fault> {
        if !no_ack {
            return Err(Fault::precondition("reply consumer cannot acknowledge"));
        }
        let channel = self.clients.channel(lane)?;
        if channel.replies.is_some() {
            return Err(Fault::precondition("reply consumer already set"));
        }
        let name = self.names.name(PREFIX);
        self.reply_names.insert(name.clone(), lane);
        channel.replies = Some(ReplyConsumer { tag, name });
        Ok(())
    }

    /// Ends the reply consumer if the tag is its; its name is dead for good. DRT-4
    pub(super) fn cancel_replies(&mut self, lane: Lane, tag: &ConsumerTag) -> Result<(), Fault> {
        let replies = &mut self.clients.channel(lane)?.replies;
        if let Some(ended) = replies.take_if(|replies| replies.tag == *tag) {
            self.reply_names.remove(&ended.name);
        }
        Ok(())
    }

    /// Puts the name of this channel's reply consumer in the place of the general one. DRT-2, DRT-3
    pub(super) fn rewrite_reply_to(
        &mut self,
        lane: Lane,
        properties: &mut Properties,
    ) -> Result<(), Fault> {
        let reply_to = properties.reply_to.as_mut();
        let Some(reply_to) = reply_to.filter(|reply_to| Self::is_reply_queue(reply_to)) else {
            return Ok(());
        };
        let replies = self.clients.channel(lane)?.replies.as_ref();
        let replies =
            replies.ok_or_else(|| Fault::precondition("fast reply consumer does not exist"))?;
        reply_to.clone_from(&replies.name);
        Ok(())
    }

    /// Hands a message published to the default exchange straight to those who wait under its keys. DRT-6, DRT-12
    ///
    /// This does not count as routed: RabbitMQ returns a mandatory reply even though it was delivered (DRT-7).
    pub(super) fn send_replies(&mut self, keys: &[ShortString], message: &Packed) {
        for key in keys.iter().filter(|key| Self::is_reply_name(key)) {
            if let Some(&lane) = self.reply_names.get(key) {
                self.send_reply(lane, key, message.clone());
            }
        }
    }

    fn send_reply(&mut self, lane: Lane, key: &ShortString, message: Packed) {
        if self.clients.is_flooded(lane.connection) {
            return;
        }
        let Ok(channel) = self.clients.channel(lane) else {
            return;
        };
        let Some(replies) = &channel.replies else {
            return;
        };
        let deliver = BasicDeliver {
            consumer_tag: replies.tag.clone(),
            delivery_tag: channel.unacked.skip(),
            redelivered: false,
            exchange: ShortString::EMPTY,
            routing_key: key.clone(),
        };
        self.clients.send_content(lane, deliver, message);
    }
}
