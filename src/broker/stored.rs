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
//! and will be.
//!
//! Read next: [`queue`](super::queue).

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};

use super::account::Share;
use crate::{
    codec::{
        BASIC_CLASS, ContentHeader, FieldValue, ShortString,
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

/// Bodies below this size are copied behind their header. A body of one frame is a slice of a read buffer of 64 KiB or
/// twice its frame, and a slice keeps the whole buffer alive: 100 octets in a queue would cost 64 KiB, again and again. A
/// longer body came in several frames, which were joined in a place of their own.
const COPY_BELOW: usize = 128 << 10;

/// The same in as little memory as it takes, and as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// Exchange and routing key, each a shortstr, the payload of the content header, and a body that is not long.
    octets: Bytes,
    body_at: usize,
    long_body: Bytes,
}

impl Packed {
    /// Packs all of it; only a long body is shared with the one who gave it.
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
        let header_at = 1 + usize::from(exchange.len()) + 1 + usize::from(routing_key.len());
        let body_at = header_at + header.encoded_len();
        let (body, long_body) = match body {
            body if body.len() < COPY_BELOW => (body, Bytes::new()),
            body => (Bytes::new(), body),
        };
        let mut octets = BytesMut::with_capacity(body_at + body.len());
        let mut writer = ArgWriter::new(&mut octets);
        exchange.write(&mut writer);
        routing_key.write(&mut writer);
        header.encode(&mut octets);
        octets.extend_from_slice(&body);
        Self {
            octets: octets.freeze(),
            body_at,
            long_body,
        }
    }

    /// The exchange and the routing key. CONS-10
    pub fn names(&self) -> (ShortString, ShortString) {
        let mut reader = ArgReader::new(&self.octets);
        let (mut exchange, mut routing_key) = (ShortString::EMPTY, ShortString::EMPTY);
        let read = exchange.read(&mut reader);
        let read = read.and_then(|()| routing_key.read(&mut reader));
        debug_assert!(read.is_ok(), "`new` wrote both");
        (exchange, routing_key)
    }

    fn header_at(&self) -> usize {
        let behind = |at: usize| at + self.octets.get(at).map_or(0, |len| 1 + usize::from(*len));
        behind(behind(0))
    }

    /// The payload of the content header.
    pub fn header(&self) -> &[u8] {
        let header = self.header_at()..self.body_at;
        self.octets.get(header).unwrap_or_default()
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        match self.octets.get(self.body_at..) {
            Some(body) if self.long_body.is_empty() => body,
            _ => &self.long_body,
        }
    }

    /// What was packed.
    pub fn unpack(&self) -> Published {
        let (exchange, routing_key) = self.names();
        let header = self.octets.slice(self.header_at()..self.body_at);
        let header = ContentHeader::decode(&header).unwrap_or_default(); // `new` wrote it
        let body = match self.octets.slice(self.body_at..) {
            body if self.long_body.is_empty() => body,
            _ => self.long_body.clone(),
        };
        Published {
            exchange,
            routing_key,
            message: Message {
                properties: header.properties,
                body,
            },
        }
    }

    /// Octets of memory beside the value itself.
    pub fn memory(&self) -> usize {
        self.octets.len() + self.long_body.len()
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
        self.packed.body().len()
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
    pub fn message(&self, counted: bool) -> Packed {
        const COUNT: ShortString = short!("x-delivery-count");
        if !counted {
            return self.stored.packed.clone();
        }
        let mut published = self.stored.packed.unpack();
        let properties = &mut published.message.properties;
        let headers = properties.headers.get_or_insert_default();
        headers.0.retain(|(name, _)| *name != COUNT);
        headers.insert(COUNT, FieldValue::I64(self.returns.into()));
        Packed::new(published)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::Properties;

    fn comes_out_as_it_went_in(published: &Published) {
        let packed = Packed::new(published.clone());
        let body = &published.message.body;
        assert_eq!(packed.unpack(), *published);
        assert_eq!(packed.body(), body);
        let names = [&published.exchange, &published.routing_key];
        let names: usize = names
            .into_iter()
            .map(|name| 1 + name.as_bytes().len())
            .sum();
        assert_eq!(packed.header().len(), packed.memory() - body.len() - names);
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_as_it_went_in(
            exchange: ShortString, routing_key: ShortString, properties: Properties, body: Vec<u8>,
        ) {
            // PROP-11
            let message = Message::new(properties, body);
            comes_out_as_it_went_in(&Published { exchange, routing_key, message });
        }
    }

    #[test]
    fn so_does_a_long_body() {
        for octets in [COPY_BELOW - 1, COPY_BELOW] {
            let message = Message::new(Properties::default(), vec![b'x'; octets]);
            comes_out_as_it_went_in(&Published {
                message,
                ..Default::default()
            });
        }
    }
}
