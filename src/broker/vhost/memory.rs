//! # Memory: how much the queues keep, and who waits while it is too much
//!
//! ```text
//!  publish ─► queues keep more than the limit ─► the alarm: the next to publish is blocked, with what it publishes
//!     ack  ─► they keep an eighth less than it ─► the alarm is over: whoever was blocked first goes on first
//! ```
//!
//! Somebody who is blocked is not read: what it has published, and all that it says afterwards, waits (BLOCK-2). So
//! acknowledgements that come behind a publish wait too, and those were to make room: consume and publish on
//! connections of their own (BLOCK-3). Whoever does not publish notices nothing.
//!
//! Read next: [`server`](crate::broker::server), the hands to this brain. Explained in `docs/17-flow-control.md`.

use std::{collections::VecDeque, mem, time::Instant};

use super::{ConnectionId, Lane, Output, Vhost, clients::Unacked};
use crate::{
    broker::{
        account::Account,
        stored::{Packed, Stored},
    },
    codec::{BasicPublish, ChannelId, DeliveryTag, ShortString},
    protocol::content::Message,
    short,
};

/// What a kept message takes beside what it is made of: the counts of those who share it, and its body's.
const QUEUE_OVERHEAD: usize = size_of::<Stored>() + 64;

/// What its place in each of the queues takes, or with the channel that holds it; such places come in lines that have
/// room for twice as many as there are.
const PLACE: usize = 2 * size_of::<(DeliveryTag, Unacked)>();

/// A publish that waits until there is memory for it.
#[derive(Debug)]
pub(super) struct Held {
    channel: ChannelId,
    publish: BasicPublish,
    message: Message,
}

/// Whether publishers have to wait, and who does.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    is_low: bool,
    /// Somebody wants publishers blocked, for this reason.
    ordered: Option<ShortString>,
    /// Who is blocked, and since when compared to the others.
    blocked: VecDeque<ConnectionId>,
}

impl Alarm {
    /// Why nobody may publish now, if so.
    fn reason(&mut self, account: &Account) -> Option<ShortString> {
        self.is_low = account.is_low(self.is_low);
        let low = self.is_low.then_some(short!("low on memory"));
        self.ordered.clone().or(low)
    }

    /// The connection is gone.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.blocked.retain(|blocked| *blocked != connection);
    }
}

impl Vhost {
    /// Blocks whoever publishes from now on, as if memory were low, and tells it this reason. BLOCK-1
    pub fn block(&mut self, reason: ShortString) {
        self.alarm.ordered = Some(reason);
    }

    /// Ends that, and what has waited goes on; where memory is low in earnest, it waits for that.
    pub fn unblock(&mut self, now: Instant) {
        self.alarm.ordered = None;
        self.finish(now);
    }

    /// A whole publish: it is taken in, or its connection is blocked and it waits. BLOCK-1
    pub(super) fn admit(
        &mut self,
        lane: Lane,
        publish: BasicPublish,
        message: Message,
        now: Instant,
    ) {
        let Some(reason) = self.alarm.reason(&self.messages) else {
            return self.take_in(lane, publish, message, now);
        };
        let Some(connection) = self.clients.connection(lane.connection) else {
            return;
        };
        connection.held.push(Held {
            channel: lane.channel,
            publish,
            message,
        });
        if connection.held.len() == 1 {
            self.alarm.blocked.push_back(lane.connection);
            self.clients.push(lane.connection, Output::Blocked(reason));
        }
    }

    /// Lets those go on who were blocked, one by one, as long as there is room for what they publish.
    pub(super) fn relieve(&mut self, now: Instant) {
        while !self.alarm.blocked.is_empty()
            && self.alarm.reason(&self.messages).is_none()
            && let Some(connection) = self.alarm.blocked.pop_front()
        {
            let blocked = self.clients.connection(connection);
            let held = blocked.map(|blocked| mem::take(&mut blocked.held));
            self.clients.push(connection, Output::Unblocked);
            for Held {
                channel,
                publish,
                message,
            } in held.into_iter().flatten()
            {
                let lane = Lane {
                    connection,
                    channel,
                };
                self.take_in(lane, publish, message, now);
            }
            self.bury(now);
        }
    }
}

/// What a message takes in so many queues, in octets of memory: itself once, and a place in each. SEC-8
pub(super) fn cost(packed: &Packed, blind_keys: &[ShortString], queues: usize) -> usize {
    let blind = size_of_val(blind_keys) + blind_keys.iter().map(ShortString::memory).sum::<usize>();
    QUEUE_OVERHEAD + packed.memory() + blind + queues * PLACE
}
