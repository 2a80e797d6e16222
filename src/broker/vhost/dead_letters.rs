//! Dead letters: what a queue did not keep is published once more, by the broker.

use std::{mem, time::Instant};

use super::{Vhost, memory::cost, publish::all_keys};
use crate::{
    broker::{
        death::{Dead, Reason, goes_round},
        stored::Stored,
    },
    protocol::content::Message,
};

/// So many are sent on at once; then it is somebody else's turn. Each may die again where it comes to, in as many
/// queues as it is routed to, and none of them twice (DLX-4): with a dozen queues that is more than anybody waits for.
const AT_ONCE: usize = 1000;

impl Vhost {
    /// Sends on what has died, oldest first. What dies because of one comes before the next: so there are never more
    /// of them than queues for each.
    pub(super) fn bury(&mut self, now: Instant) {
        for _ in 0..AT_ONCE {
            let Some(dead) = self.dead.pop_front() else {
                break;
            };
            let mut later = mem::take(&mut self.dead);
            self.send_on(&dead, now);
            for next in self.dead.drain(..).rev() {
                later.push_front(next);
            }
            self.dead = later;
        }
        self.behind = (!self.dead.is_empty()).then_some(now);
    }

    /// To where its queue sends its dead. Nobody waits for the outcome: if there is no such exchange or no way from
    /// it, the message is gone. DLX-1
    fn send_on(&mut self, dead: &Dead, now: Instant) {
        let properties = Box::new(dead.properties(self.unix_seconds(now)));
        let headers = properties.headers.as_ref();
        let exchange = &dead.letters.exchange;
        let (key, blind_keys) = (dead.routing_key(), dead.blind_keys());
        let keys = all_keys(key, headers, blind_keys);
        let mut queues = self.reached(exchange, &keys, headers);
        if dead.reason != Reason::Rejected {
            queues.retain(|queue| !goes_round(headers, queue));
        }
        if queues.is_empty() {
            return;
        }
        let message = Message {
            properties,
            body: dead.message.message.body.clone(),
        };
        let octets = cost(&message, exchange, key, blind_keys, queues.len());
        let Some(share) = self.messages.take_spare(octets) else {
            return; // SEC-8: a message may die into a thousand queues, and its copies into a thousand each
        };
        let stored = Stored {
            exchange: exchange.clone(),
            routing_key: key.clone(),
            blind_keys: blind_keys.to_vec(),
            message,
            expiration: None, // DLX-3
            share,
        };
        self.enqueue(&queues, &stored.into(), now);
    }
}
