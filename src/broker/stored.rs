//! # Stored: a message as queues keep it
//!
//! ```text
//!  queue "a" │ Queued │ Queued │       a place each: position, deadline, how often it came back
//!                 └───┐
//!  queue "b" │ Queued │ Queued │
//!                 └───┴─► Stored       once for all of them: exchange, key, properties, body
//! ```
//!
//! Read next: [`queue`](super::queue).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::account::Share;
use crate::{
    codec::{FieldValue, ShortString},
    protocol::content::Message,
    short,
};

/// A published message, one for all the queues it reached.
#[derive(Debug)]
pub struct Stored {
    /// The exchange it was published to. CONS-10
    pub exchange: ShortString,
    /// The key it was published with. CONS-10
    pub routing_key: ShortString,
    /// The keys of the header BCC, which nobody sees and a dead letter is routed by once more.
    pub blind_keys: Vec<ShortString>,
    /// Properties and body.
    pub message: Message,
    /// The property `expiration`: how long it may wait, at most.
    pub expiration: Option<Duration>,
    /// What it counts for, taken off when the last queue lets go of it.
    pub share: Share,
}

/// A message in its place in one queue.
#[derive(Debug, Clone)]
pub struct Queued {
    pub(super) stored: Arc<Stored>,
    pub(super) position: u64,
    pub(super) deadline: Option<Instant>,
    pub(super) returns: u32,
}

impl Queued {
    /// What was published.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Whether it was delivered before and came back. CONS-19
    pub fn is_redelivered(&self) -> bool {
        self.returns > 0
    }

    /// The message as it is sent, with the number of its returns in `x-delivery-count` if `counted`.
    ///
    /// RabbitMQ: quorum queues do so. A header of that name from the publisher is not to be trusted, and replaced.
    pub fn message(&self, counted: bool) -> Message {
        const COUNT: ShortString = short!("x-delivery-count");
        let mut message = self.stored.message.clone();
        if counted {
            let headers = message.properties.headers.get_or_insert_default();
            headers.0.retain(|(name, _)| *name != COUNT);
            headers.insert(COUNT, FieldValue::I64(self.returns.into()));
        }
        message
    }

    pub(super) fn octets(&self) -> usize {
        self.stored.message.body.len()
    }
}
