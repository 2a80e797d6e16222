//! # Dead letters: what a queue did not keep is published once more, by the broker
//!
//! ```text
//! "work" ── rejected ──▶ a ──▶ exchange "dlx" ──▶ "morgue" ── full ──▶ x ──▶ exchange "attic" ──▶ ..
//!        ── expired ───▶ b     waits until all that dies because of a is where it belongs
//! ```
//!
//! A dead letter may kill others where it comes to. What dies because of one comes before the next, so that never more
//! of them wait than there are queues for each. Nobody is told: the confirm of the publish did not wait for this
//! (DLX-6).
//!
//! Read next: `memory`. Explained in `docs/broker.md`.

use std::{mem, time::Instant};

use super::{Vhost, memory::cost, publish::all_keys};
use crate::broker::{
    death::{Dead, Reason, goes_round},
    stored::{Packed, Stored},
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
        let published = dead.published(self.unix_seconds(now));
        let headers = published.message.properties.headers.as_ref();
        let blind_keys = dead.blind_keys();
        let keys = all_keys(&published.routing_key, headers, blind_keys);
        let mut queues = self.reached(&published.exchange, &keys, headers);
        if dead.reason != Reason::Rejected {
            queues.retain(|queue| !goes_round(headers, queue));
        }
        if queues.is_empty() {
            return;
        }
        let packed = Packed::new(published);
        let octets = cost(&packed, blind_keys, queues.len());
        let Some(share) = self.messages.take_spare(octets) else {
            return; // SEC-8: a message may die into a thousand queues, and its copies into a thousand each
        };
        let stored = Stored {
            packed,
            blind_keys: blind_keys.into(),
            share,
        };
        self.enqueue(&queues, &stored.into(), None, now); // DLX-3: no expiration
    }
}
