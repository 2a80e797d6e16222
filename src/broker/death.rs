//! # Death: what becomes of a message that its queue does not keep
//!
//! ```text
//!  queue "work"                      exchange "dlx"                queue "morgue"
//!  x-dead-letter-exchange="dlx" ───► routes it as any other ─────► headers x-death=[{count: 1, queue: "work", ..}]
//!      rejected, expired,
//!      maxlen or delivery_limit
//! ```
//!
//! A dead letter is a new message with the old one's properties and body. What happened to it is written in its
//! headers: `x-death` has an entry for each queue and reason, the latest first, and counts how often (DLX-2). An
//! `expiration` moves from the properties into its entry, or the message would die again at once where it is kept
//! (DLX-3).
//!
//! Nobody has to look at a message that goes round from queue to queue on its own. So when one comes to a queue where
//! it has died, and no client has rejected it since, it is dropped (DLX-4).
//!
//! Read next: [`arguments`](super::arguments). Explained in `docs/broker.md`, and `docs/14-crashes.md`.

use std::{mem, sync::Arc};

use super::stored::{Published, Stored};
use crate::{
    codec::{FieldTable, FieldValue, ShortString},
    short,
};

/// Where a queue sends what dies in it. DLX-1
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetters {
    /// `x-dead-letter-exchange`; if there is none of this name, the message is gone.
    pub exchange: ShortString,
    /// `x-dead-letter-routing-key`; without it the message keeps all the keys it had.
    pub routing_key: Option<ShortString>,
}

/// Why a queue did not keep a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A consumer rejected it, or nacked it, without requeue. ACK-7
    Rejected,
    /// It waited longer than `expiration` or `x-message-ttl` allow. CONS-22
    Expired,
    /// The queue was full.
    MaxLength,
    /// It came back to a quorum queue more often than `x-delivery-limit` allows.
    DeliveryLimit,
}

impl Reason {
    /// The word for it in `x-death`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message that died in a queue which wants it sent on.
#[derive(Debug)]
pub struct Dead {
    /// As it was kept.
    pub message: Arc<Stored>,
    /// Why it died.
    pub reason: Reason,
    /// Where it died.
    pub queue: ShortString,
    /// Where it goes.
    pub letters: Arc<DeadLetters>,
}

impl Dead {
    /// The keys of the header BCC, which no longer count when the queue has a key for its dead.
    pub fn blind_keys(&self) -> &[ShortString] {
        match self.letters.routing_key {
            Some(_) => &[],
            None => &self.message.blind_keys,
        }
    }

    /// The message from now on: under the key of the queue, or the one it was published with, and with this death in its
    /// headers. The time is in seconds since 1970. DLX-2, DLX-3
    pub fn published(&self, time: u64) -> Published {
        let mut published = self.message.packed.unpack();
        let expiration = published.message.properties.expiration.take();
        let entry = self.entry(&published, expiration, time);
        let exchange = mem::replace(&mut published.exchange, self.letters.exchange.clone());
        let headers = published.message.properties.headers.get_or_insert_default();
        if let Some(key) = &self.letters.routing_key {
            published.routing_key.clone_from(key);
            headers.0.retain(|(name, _)| *name != "CC");
        }
        let is_first = headers.get("x-death").is_none();
        record(headers, entry);
        if is_first {
            self.sign(headers, &exchange, FIRST);
        }
        self.sign(headers, &exchange, LAST);
        published
    }

    fn entry(
        &self,
        published: &Published,
        expiration: Option<ShortString>,
        time: u64,
    ) -> FieldTable {
        let mut keys = vec![text(&published.routing_key)];
        let headers = published.message.properties.headers.as_ref();
        if let Some(FieldValue::Array(copies)) = headers.and_then(|headers| headers.get("CC")) {
            let keys_only = copies.iter().filter(|copy| copy.as_long_string().is_some());
            keys.extend(keys_only.cloned()); // anything else may nest, and must not come to nest deeper here: TABLE-12
        }
        let mut entry = FieldTable(vec![
            (short!("count"), FieldValue::I64(1)),
            (short!("reason"), self.reason.name().into()),
            (short!("queue"), text(&self.queue)),
            (short!("time"), FieldValue::Timestamp(time)),
            (short!("exchange"), text(&published.exchange)),
            (short!("routing-keys"), FieldValue::Array(keys)),
        ]);
        if let Some(expiration) = expiration {
            entry.insert(short!("original-expiration"), text(&expiration));
        }
        entry
    }

    /// RabbitMQ: the first death stands beside the list of all, and in version 4 the last one does as well.
    fn sign(
        &self,
        headers: &mut FieldTable,
        from: &ShortString,
        [exchange, queue, reason]: [ShortString; 3],
    ) {
        set(headers, exchange, text(from));
        set(headers, queue, text(&self.queue));
        set(headers, reason, self.reason.name().into());
    }
}

const FIRST: [ShortString; 3] = [
    short!("x-first-death-exchange"),
    short!("x-first-death-queue"),
    short!("x-first-death-reason"),
];

const LAST: [ShortString; 3] = [
    short!("x-last-death-exchange"),
    short!("x-last-death-queue"),
    short!("x-last-death-reason"),
];

/// Puts a death before all others, or counts up the one that was like it. Whatever else a client may have put in the
/// place of the list is not believed. DLX-2
fn record(headers: &mut FieldTable, entry: FieldTable) {
    let known = headers.0.iter_mut().find(|(name, _)| *name == "x-death");
    let mut deaths = match known {
        Some((_, FieldValue::Array(deaths))) => mem::take(deaths),
        _ => Vec::new(),
    };
    let same = |death: &FieldValue| match death {
        FieldValue::Table(death) => ["queue", "reason"]
            .iter()
            .all(|name| word(death, name) == word(&entry, name)),
        _ => false,
    };
    let entry = match deaths.iter().position(same) {
        Some(at) => again(deaths.remove(at)),
        None => FieldValue::Table(entry),
    };
    deaths.insert(0, entry);
    set(headers, short!("x-death"), FieldValue::Array(deaths));
}

/// Once more the same death: all but the count is that of the first time.
fn again(mut death: FieldValue) -> FieldValue {
    if let FieldValue::Table(death) = &mut death {
        let count = death.get("count").and_then(FieldValue::as_integer);
        let count = i64::try_from(count.unwrap_or(0)).unwrap_or(0);
        let count = FieldValue::I64(count.saturating_add(1));
        set(death, short!("count"), count);
    }
    death
}

/// Whether a message with these headers has died in `queue` before, and nobody rejected it since. DLX-4
pub fn goes_round(headers: Option<&FieldTable>, queue: &ShortString) -> bool {
    let deaths = headers.and_then(|headers| headers.get("x-death"));
    let Some(FieldValue::Array(deaths)) = deaths else {
        return false;
    };
    for death in deaths {
        let FieldValue::Table(death) = death else {
            return false; // a client's own work, so it has seen the message
        };
        if word(death, "reason") == Some(Reason::Rejected.name().as_bytes()) {
            return false;
        }
        if word(death, "queue") == Some(queue.as_bytes()) {
            return true;
        }
    }
    false
}

fn word<'a>(death: &'a FieldTable, name: &str) -> Option<&'a [u8]> {
    death.get(name).and_then(FieldValue::as_long_string)
}

fn text(name: &ShortString) -> FieldValue {
    FieldValue::LongString(name.as_bytes().to_vec().into())
}

fn set(table: &mut FieldTable, name: ShortString, value: FieldValue) {
    match table.0.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => table.insert(name, value),
    }
}
