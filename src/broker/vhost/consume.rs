//! # Consuming: what is taken: consume, cancel, get, qos
//!
//! ```text
//! a message comes, an ack frees a place, a consumer comes, ..
//!    └─▶ pump: while the queue has a head, and somebody whose turn it is can take it
//!              └─▶ deliver: off the queue, into the channel's ledger, on its way
//! ```
//!
//! Nobody asks for the next message; whatever may have made room for one pumps. consume-ok is said before the first
//! pump, since a client must know its tag when the delivery comes (CONS-3). A prefetch holds for each consumer that
//! starts after it; with `global`, for all of the channel together and at once. The published text differs in both
//! (QOS-2, QOS-3).
//!
//! Read next: `settle`. Explained in `docs/07-consuming.md`, and `docs/15-prefetch.md`.

use std::time::Instant;

use super::{
    Lane, Vhost,
    clients::{Subscription, Unacked},
    queues::count,
};
use crate::{
    broker::{
        arguments,
        consumers::{Consumer, ConsumerId},
        fault::Fault,
        queue::Queue,
    },
    codec::{
        BasicCancel, BasicCancelOk, BasicConsume, BasicConsumeOk, BasicGet, BasicGetEmpty,
        BasicGetOk, BasicQos, BasicQosOk, ConsumerTag, FieldTable, ReplyCode, ShortString,
    },
};

impl Vhost {
    /// `no_local` is ignored. CONS-9
    pub(super) fn basic_consume(
        &mut self,
        lane: Lane,
        consume: &BasicConsume,
        now: Instant,
    ) -> Result<(), Fault> {
        let no_wait = consume.no_wait;
        let tag = self.consumer_tag(lane, &consume.consumer_tag)?;
        let ok = BasicConsumeOk {
            consumer_tag: tag.clone(),
        };
        if Self::is_reply_queue(&consume.queue) {
            self.consume_replies(lane, tag, consume.no_ack)?;
            self.clients.reply(lane, no_wait, ok);
            return Ok(());
        }
        let queue = self.subscribe(lane, tag, consume)?;
        self.clients.reply(lane, no_wait, ok); // CONS-3: before the first deliver
        self.pump(&queue, now);
        Ok(())
    }

    /// The client's tag, or one that the channel does not use yet. CONS-1, CONS-2
    fn consumer_tag(&mut self, lane: Lane, wanted: &ConsumerTag) -> Result<ConsumerTag, Fault> {
        let channel = self.clients.channel(lane)?;
        if channel.uses(wanted) {
            let text = format!("attempt to reuse consumer tag '{wanted}'");
            return Err(Fault::new(ReplyCode::NOT_ALLOWED, text));
        }
        let most = self.max_consumers;
        if channel.consumers.len() >= most {
            // SEC-8, in the words of RabbitMQ's consumer_max_per_channel
            let text = format!("reached maximum ({most}) of consumers per channel");
            return Err(Fault::new(ReplyCode::NOT_ALLOWED, text));
        }
        let mut tag = wanted.clone();
        while tag.0.is_empty() || channel.uses(&tag) {
            tag = ConsumerTag(self.names.name("amq.ctag-"));
        }
        Ok(tag)
    }

    fn subscribe(
        &mut self,
        lane: Lane,
        tag: ConsumerTag,
        consume: &BasicConsume,
    ) -> Result<ShortString, Fault> {
        let name = self.meant_queue(lane, &consume.queue)?;
        let resource = self.queue_resource(&name);
        let id = ConsumerId(self.next_number());
        let share = self
            .entries
            .take_entry(&[&name, &tag.0], &FieldTable::EMPTY)?;
        let channel = self.clients.channel(lane)?;
        let (prefetch, shared) = (channel.prefetch, channel.shared_prefetch > 0);
        let queue = self.usable_queue(lane.connection, &name)?;
        let quorum = queue.declaration.settings.quorum;
        if quorum && shared {
            let text = format!("{resource} does not support global qos");
            return Err(Fault::not_implemented(text));
        }
        let priority = arguments::consumer_priority(&consume.arguments, &resource)?;
        // RabbitMQ: a quorum queue does not honour the bit.
        let exclusive = consume.exclusive && !quorum;
        if queue.consumers.is_exclusive() || (exclusive && !queue.consumers.is_empty()) {
            return Err(Fault::refused(format!("{resource} in exclusive use"))); // CONS-8
        }
        let consumer = Consumer {
            id,
            lane,
            tag: tag.clone(),
            no_ack: consume.no_ack,
            prefetch,
            priority,
        };
        queue.consumers.insert(consumer, exclusive, share);
        let subscription = Subscription {
            queue: name.clone(),
            consumer: id,
        };
        let channel = self.clients.channel(lane)?;
        channel.consumers.insert(tag, subscription);
        Ok(name)
    }

    /// What the consumer holds stays with its channel (CONS-13); an unknown tag is no error (CONS-15).
    pub(super) fn basic_cancel(
        &mut self,
        lane: Lane,
        cancel: BasicCancel,
        now: Instant,
    ) -> Result<(), Fault> {
        let tag = cancel.consumer_tag;
        let subscription = self.clients.channel(lane)?.consumers.remove(&tag);
        self.cancel_replies(lane, &tag)?;
        if let Some(subscription) = subscription {
            self.unsubscribe(&subscription, now);
        }
        let ok = BasicCancelOk { consumer_tag: tag };
        self.clients.reply(lane, cancel.no_wait, ok);
        Ok(())
    }

    /// No consumer, no prefetch, but the channel's own count of delivery tags. CONS-21, QOS-6
    pub(super) fn basic_get(
        &mut self,
        lane: Lane,
        get: &BasicGet,
        now: Instant,
    ) -> Result<(), Fault> {
        let name = self.meant_queue(lane, &get.queue)?;
        let most = self.clients.max_unacked();
        if !get.no_ack && self.clients.channel(lane)?.unacked.len() >= most {
            let text =
                format!("the channel holds {most} unacknowledged messages, and may not hold more");
            return Err(Fault::new(ReplyCode::RESOURCE_ERROR, text)); // SEC-8
        }
        self.usable_queue(lane.connection, &name)?.touch(now);
        self.pump(&name, now);
        let queue = self.usable_queue(lane.connection, &name)?;
        let Some(message) = queue.get(get.no_ack) else {
            self.clients.send(lane, BasicGetEmpty::default());
            return Ok(());
        };
        let message_count = count(queue.stats().ready);
        let content = message.message(queue.declaration.settings.quorum);
        let (exchange, routing_key) = content.names();
        let mut ok = BasicGetOk {
            redelivered: message.is_redelivered(),
            exchange,
            routing_key,
            message_count,
            ..BasicGetOk::default()
        };
        let unacked = Unacked {
            queue: queue.id.clone(),
            consumer: None,
            message,
        };
        let ledger = &mut self.clients.channel(lane)?.unacked;
        ok.delivery_tag = if get.no_ack {
            ledger.skip()
        } else {
            ledger.push(unacked)
        };
        self.clients.send_content(lane, ok, content);
        self.watch(&name);
        Ok(())
    }

    /// How much consumers may hold unacknowledged: by `global`, all of this channel together or each one from now on.
    /// QOS-2, QOS-3
    pub(super) fn basic_qos(
        &mut self,
        lane: Lane,
        qos: &BasicQos,
        now: Instant,
    ) -> Result<(), Fault> {
        if qos.prefetch_size != 0 {
            let what = format!("prefetch_size!=0 ({})", qos.prefetch_size);
            return Err(Fault::not_implemented(what)); // QOS-5
        }
        let channel = self.clients.channel(lane)?;
        if !qos.global {
            channel.prefetch = qos.prefetch_count;
            self.clients.send(lane, BasicQosOk {});
            return Ok(());
        }
        channel.shared_prefetch = qos.prefetch_count;
        let consumers: Vec<_> = channel.consumers.values().cloned().collect();
        self.clients.send(lane, BasicQosOk {});
        self.recall(&consumers, now); // QOS-3: at once, existing consumers included
        Ok(())
    }

    /// Deliveries may go on for these consumers: back into line with them, and out with the messages.
    pub(super) fn recall(&mut self, consumers: &[Subscription], now: Instant) {
        let mut queues = Vec::new();
        for Subscription { queue, consumer } in consumers {
            if let Some(found) = self.queues.get_mut(queue) {
                found.consumers.recall(*consumer);
                queues.push(queue.clone());
            }
        }
        self.pump_all(queues, now);
    }

    /// Each once, in the order of their names so that a run can be repeated.
    pub(super) fn pump_all(&mut self, mut queues: Vec<ShortString>, now: Instant) {
        queues.sort_unstable();
        queues.dedup();
        for queue in &queues {
            self.pump(queue, now);
        }
    }

    /// Hands out what is ready to those who can take it, then drops what may not stay, and sees to what expires next.
    pub(super) fn pump(&mut self, queue: &ShortString, now: Instant) {
        self.pump_after(queue, now, |_| ());
    }

    /// The same after a change to the queue.
    pub(super) fn pump_after(
        &mut self,
        queue: &ShortString,
        now: Instant,
        change: impl FnOnce(&mut Queue),
    ) {
        let Some(queue) = self.queues.get_mut(queue) else {
            return;
        };
        change(queue);
        let (clients, counted) = (&mut self.clients, queue.declaration.settings.quorum);
        while let Some((consumer, message)) = queue.hand_out(now, |who| clients.can_take(who)) {
            clients.deliver(consumer, &queue.id, counted, message);
        }
        queue.sweep(now);
        self.dead.extend(queue.take_dead());
        self.timers.set(queue);
    }
}
