//! # Settling: what happens to deliveries: ack, nack, reject, recover
//!
//! ```text
//!                   the channel's ledger   the message
//! ack 7             7 is taken off         gone
//! ack 7 multiple    all up to 7 are        gone; and 0 in place of 7 is all there are (ACK-4, ACK-5)
//! nack 7 requeue    7 is                   back at its old place, as redelivered (CONS-20)
//! reject 7          7 is                   dropped, or a dead letter (ACK-7)
//! ack 7, again      has no 7               406: the channel is over, and all that it holds goes back (ACK-3, CHAN-11)
//! ```
//!
//! There is no reply, so a mistake shows as a close later on (ACK-8). Of channels that end together all consumers end
//! first and the messages go back then: else a message would go from one channel of a dying connection to the next.
//!
//! Read next: `direct_reply`. Explained in `docs/07-consuming.md`, and `docs/14-crashes.md`.

use std::time::Instant;

use super::{
    Lane, Vhost,
    clients::{Channel, Unacked},
};
use crate::{
    broker::{fault::Fault, queue::Queue},
    codec::{BasicAck, BasicNack, BasicRecoverOk, BasicReject, DeliveryTag, ShortString},
    protocol::ledger::UnknownTag,
};

/// What becomes of deliveries that are settled.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Done,
    Rejected,
    Requeued,
}

impl Outcome {
    /// The bit of nack and reject. ACK-7
    const fn requeue(requeue: bool) -> Self {
        if requeue {
            Self::Requeued
        } else {
            Self::Rejected
        }
    }

    /// Tells the queue it came from. What goes back goes to its old place (CONS-20).
    fn tell(self, queue: &mut Queue, unacked: Unacked) {
        match self {
            Self::Done => queue.settle(unacked.consumer),
            Self::Rejected => queue.reject(unacked.consumer, unacked.message),
            Self::Requeued => queue.put_back(unacked.consumer, unacked.message),
        }
    }
}

impl Vhost {
    pub(super) fn basic_ack(
        &mut self,
        lane: Lane,
        ack: &BasicAck,
        now: Instant,
    ) -> Result<(), Fault> {
        self.settle(lane, ack.delivery_tag, ack.multiple, Outcome::Done, now)
    }

    pub(super) fn basic_nack(
        &mut self,
        lane: Lane,
        nack: &BasicNack,
        now: Instant,
    ) -> Result<(), Fault> {
        let outcome = Outcome::requeue(nack.requeue);
        self.settle(lane, nack.delivery_tag, nack.multiple, outcome, now)
    }

    pub(super) fn basic_reject(
        &mut self,
        lane: Lane,
        reject: &BasicReject,
        now: Instant,
    ) -> Result<(), Fault> {
        let outcome = Outcome::requeue(reject.requeue);
        self.settle(lane, reject.delivery_tag, false, outcome, now)
    }

    /// Everything the channel holds goes back; the reply, if there is one, comes before the redeliveries. ACK-10
    pub(super) fn basic_recover(
        &mut self,
        lane: Lane,
        requeue: bool,
        reply: bool,
        now: Instant,
    ) -> Result<(), Fault> {
        if !requeue {
            return Err(Fault::not_implemented("requeue=false"));
        }
        self.clients.reply(lane, !reply, BasicRecoverOk {});
        self.settle(lane, DeliveryTag(0), true, Outcome::Requeued, now)
    }

    /// Takes deliveries off the channel's ledger and then, by `outcome`, puts them back or lets them go. ACK-3 to ACK-7
    fn settle(
        &mut self,
        lane: Lane,
        tag: DeliveryTag,
        multiple: bool,
        outcome: Outcome,
        now: Instant,
    ) -> Result<(), Fault> {
        let most = self.clients.max_unacked();
        let channel = self.clients.channel(lane)?;
        let was_full = !channel.has_room(most);
        let settled = channel.unacked.settle(tag, multiple);
        let settled = settled.map_err(|UnknownTag(tag)| {
            Fault::precondition(format!("unknown delivery tag {tag}"))
        })?;
        let delivered = settled.iter().filter(|unacked| unacked.consumer.is_some());
        channel.held -= delivered.count();
        let waiting: Vec<_> = if was_full {
            channel.consumers.values().cloned().collect()
        } else {
            Vec::new()
        };

        match <[Unacked; 1]>::try_from(settled) {
            // Most of them: its queue is looked up once.
            Ok([one]) => {
                let name = one.queue.name.clone();
                self.pump_after(&name, now, |queue| {
                    if queue.id == one.queue {
                        outcome.tell(queue, one);
                    }
                });
            }
            Err(settled) => {
                let queues = self.each_queue(settled, outcome);
                self.pump_all(queues, now);
            }
        }
        self.recall(&waiting, now); // QOS-3, SEC-8: a slot that is free for one of them is free for all
        Ok(())
    }

    /// What closed channels leave behind. All their consumers end before anything is put back: a message must not go
    /// from one channel of a dying connection to the next.
    pub(super) fn abandon(&mut self, channels: impl IntoIterator<Item = Channel>, now: Instant) {
        let mut unacked = Vec::new();
        for mut channel in channels {
            unacked.extend(channel.unacked.drain());
            if let Some(replies) = channel.replies {
                self.reply_names.remove(&replies.name);
            }
            for subscription in channel.consumers.values() {
                self.unsubscribe(subscription, now);
            }
        }
        let queues = self.each_queue(unacked, Outcome::Requeued);
        self.pump_all(queues, now);
    }

    /// Tells each queue that is still the same one, and names those: they may have something to hand out again. A queue that
    /// is gone took its messages along (ACK-9).
    fn each_queue(&mut self, settled: Vec<Unacked>, outcome: Outcome) -> Vec<ShortString> {
        let mut told = Vec::new();
        for unacked in settled {
            let queue = self.queues.get_mut(&unacked.queue.name);
            if let Some(queue) = queue.filter(|queue| queue.id == unacked.queue) {
                if told.last() != Some(&queue.id.name) {
                    told.push(queue.id.name.clone());
                }
                outcome.tell(queue, unacked);
            }
        }
        told
    }
}
