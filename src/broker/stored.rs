//! # Stored: a message as queues keep it
//!
//! ```text
//!  queue "a" │ Queued │ Queued │       a place each: position, deadline, how often it came back
//!                 └───┐
//!  queue "b" │ Queued │ Queued │
//!                 └───┴─► Stored       once for all of them: exchange, key and header as octets, and the body
//! ```
//!
//! A queue may be long, and most of what a message says it does not say: fourteen properties take half a kibibyte as
//! values, and a few octets on the wire where thirteen of them are absent. So a message waits as the octets that it was
//! and will be, and is read again when somebody gets it.
//!
//! Read next: [`queue`](super::queue).

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};

use super::account::Share;
use crate::{
    codec::{
        BASIC_CLASS, ContentHeader, DecodeError, FieldValue, ShortString,
        args::{ArgReader, ArgWriter, Argument},
    },
    protocol::content::Message,
    short,
};

/// A message and how it was published.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Published {
    /// The exchange it was published to. CONS-10
    pub exchange: ShortString,
    /// The key it was published with. CONS-10
    pub routing_key: ShortString,
    /// Properties and body.
    pub message: Message,
}

/// The same in as little memory as it takes.
#[derive(Debug)]
pub struct Packed {
    /// Exchange and routing key, each a shortstr, and the payload of the content header.
    head: Bytes,
    body: Bytes,
}

impl Packed {
    /// Packs all but the body, which is shared.
    pub fn new(published: Published) -> Self {
        let Published {
            exchange,
            routing_key,
            message: Message { properties, body },
        } = published;
        let header = ContentHeader {
            class_id: BASIC_CLASS,
            body_size: u64::try_from(body.len()).unwrap_or(u64::MAX),
            properties,
        };
        let names = 1 + usize::from(exchange.len()) + 1 + usize::from(routing_key.len());
        let mut head = BytesMut::with_capacity(names + header.encoded_len());
        let mut writer = ArgWriter::new(&mut head);
        exchange.write(&mut writer);
        routing_key.write(&mut writer);
        header.encode(&mut head);
        Self {
            head: head.freeze(),
            body,
        }
    }

    /// What was packed.
    pub fn unpack(&self) -> Published {
        let mut reader = ArgReader::new(&self.head);
        let mut read = || -> Result<_, DecodeError> {
            let exchange = reader.field("exchange")?;
            let routing_key = reader.field("routing-key")?;
            let properties = ContentHeader::read(&mut reader)?.properties;
            let body = self.body.clone();
            let message = Message { properties, body };
            Ok(Published {
                exchange,
                routing_key,
                message,
            })
        };
        read().unwrap_or_default() // cannot fail on what `new` wrote
    }

    /// Octets of memory beside the value itself.
    pub fn memory(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// A published message, one for all the queues it reached.
#[derive(Debug)]
pub struct Stored {
    /// What was published.
    pub packed: Packed,
    /// The keys of the header BCC, which nobody sees and a dead letter is routed by once more.
    pub blind_keys: Box<[ShortString]>,
    /// What it counts for, taken off when the last queue lets go of it.
    pub share: Share,
}

impl Stored {
    /// Octets of its body, which is what limits of a queue count.
    pub fn octets(&self) -> usize {
        self.packed.body.len()
    }
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
    /// Whether it was delivered before and came back. CONS-19
    pub fn is_redelivered(&self) -> bool {
        self.returns > 0
    }

    /// The message as it is sent, with the number of its returns in `x-delivery-count` if `counted`.
    ///
    /// RabbitMQ: quorum queues do so. A header of that name from the publisher is not to be trusted, and replaced.
    pub fn published(&self, counted: bool) -> Published {
        const COUNT: ShortString = short!("x-delivery-count");
        let mut published = self.stored.packed.unpack();
        if counted {
            let headers = published.message.properties.headers.get_or_insert_default();
            headers.0.retain(|(name, _)| *name != COUNT);
            headers.insert(COUNT, FieldValue::I64(self.returns.into()));
        }
        published
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::Properties;

    proptest! {
        #[test]
        fn what_is_packed_comes_out_as_it_went_in(
            exchange: ShortString, routing_key: ShortString, properties: Properties, body: Vec<u8>,
        ) {
            // PROP-11
            let message = Message::new(properties, body);
            let published = Published { exchange, routing_key, message };
            let packed = Packed::new(published.clone());
            prop_assert_eq!(packed.head.len(), packed.memory() - published.message.body.len());
            prop_assert_eq!(packed.unpack(), published);
        }
    }
}
