//! # Publishing: what comes in, with its returns and confirms
//!
//! ```text
//!                               ┌─ some ──▶ into each ──▶ ack, or nack if one of them refused it (CONF-7)
//! publish ─▶ checks ─▶ queues? ─┴─ none ──▶ mandatory: return 312 ──▶ ack (CONF-5, CONF-6)
//!               └─ one fails: a close, and no confirm (CONF-8)
//! ```
//!
//! An ack means "taken care of", and a message without a queue is taken care of at once. The default exchange has no
//! bindings: its rule is that the key is the name of a queue, and there may be no such queue. A direct reply is handed
//! over on the way and counts as none, so it comes back all the same if it is mandatory (DRT-7).
//!
//! Read next: `consume`. Explained in `docs/08-routing.md`.

use std::{
    borrow::Cow,
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Lane, Vhost, clients::Connection, memory::cost};
use crate::{
    broker::{
        arguments::type_name,
        fault::Fault,
        stored::{Packed, Published, Stored},
    },
    codec::{
        BasicAck, BasicNack, BasicPublish, BasicReturn, ConfirmSelectOk, DeliveryTag, FieldTable,
        FieldValue, Properties, ReplyCode, ShortString,
    },
    protocol::content::Message,
    short,
};

/// So many more keys may the headers CC and BCC name together: each of them is matched with every binding. SEC-8
const MOST_COPIES: usize = 1000;

impl Vhost {
    /// Numbering begins with the next publish; selecting again changes nothing. CONF-1
    pub(super) fn confirm_select(&mut self, lane: Lane, no_wait: bool) -> Result<(), Fault> {
        let channel = self.clients.channel(lane)?;
        channel.confirmed.get_or_insert(DeliveryTag(0));
        self.clients.reply(lane, no_wait, ConfirmSelectOk {});
        Ok(())
    }

    /// The order of the checks is RabbitMQ's; a publish that fails one gets no confirm (CONF-8).
    pub(super) fn basic_publish(
        &mut self,
        lane: Lane,
        publish: BasicPublish,
        mut message: Message,
        now: Instant,
    ) -> Result<(), Fault> {
        if publish.immediate {
            return Err(Fault::not_implemented("immediate=true")); // PUB-5
        }
        self.check_exchange(&publish.exchange)?;
        self.rewrite_reply_to(lane, &mut message.properties)?;
        self.check_user(lane, &message.properties)?;
        let expiration = message.properties.expiration.as_ref();
        let expiration = expiration.map(parse_expiration).transpose()?;
        check_delivery_mode(&message.properties)?;
        let blind_keys = take_blind_keys(&mut message.properties)?;
        let headers = message.properties.headers.as_ref();
        let keys = all_keys(&publish.routing_key, headers, &blind_keys);

        let number = self.number_publish(lane)?;
        let queues = self.reached(&publish.exchange, &keys, headers);
        let to_default = publish.exchange.is_empty();
        let packed = Packed::new(Published {
            exchange: publish.exchange,
            routing_key: publish.routing_key.clone(),
            message,
        });
        if to_default {
            self.send_replies(&keys, &packed);
        }
        if queues.is_empty() {
            if publish.mandatory {
                self.give_back(lane, packed);
            }
            self.confirm(lane, number, true); // CONF-5, CONF-6
            return Ok(());
        }
        let octets = cost(&packed, &blind_keys, queues.len());
        let stored = Stored {
            packed,
            blind_keys: blind_keys.into(),
            share: self.messages.take(octets),
        };
        let accepted = self.enqueue(&queues, &Arc::new(stored), expiration, now);
        self.confirm(lane, number, accepted);
        Ok(())
    }

    /// PUB-1, EXCH-6
    fn check_exchange(&self, name: &ShortString) -> Result<(), Fault> {
        if !name.is_empty() && self.existing_exchange(name)?.internal {
            let exchange = self.exchange_resource(name);
            let text = format!("cannot publish to internal {exchange}");
            return Err(Fault::refused(text));
        }
        Ok(())
    }

    /// PROP-14
    fn check_user(&mut self, lane: Lane, properties: &Properties) -> Result<(), Fault> {
        let Some(claimed) = &properties.user_id else {
            return Ok(());
        };
        match self.clients.connection(lane.connection) {
            Some(Connection { user, .. }) if user != claimed => Err(Fault::precondition(format!(
                "user_id property set to '{claimed}' but authenticated user was '{user}'"
            ))),
            _ => Ok(()),
        }
    }

    /// The number of this publish, on a channel in confirm mode. CONF-2
    fn number_publish(&mut self, lane: Lane) -> Result<Option<DeliveryTag>, Fault> {
        let confirmed = &mut self.clients.channel(lane)?.confirmed;
        *confirmed = confirmed.map(|DeliveryTag(last)| DeliveryTag(last + 1));
        Ok(*confirmed)
    }

    /// The queues that get a copy. The default exchange is a rule and not a binding, so its queue may not exist.
    pub(super) fn reached(
        &self,
        exchange: &ShortString,
        keys: &[ShortString],
        headers: Option<&FieldTable>,
    ) -> Vec<ShortString> {
        if let [key] = keys
            && exchange.is_empty()
        {
            // Most publishes: the key names the queue, and there is no way to look for.
            return if self.queues.contains_key(key) {
                vec![key.clone()]
            } else {
                Vec::new()
            };
        }
        let queues = self.exchanges.route(exchange, keys, headers).into_iter();
        let existing = queues.filter(|queue| self.queues.contains_key(*queue));
        existing.cloned().collect()
    }

    /// Puts the message into each queue; false if one of them refused it.
    pub(super) fn enqueue(
        &mut self,
        queues: &[ShortString],
        stored: &Arc<Stored>,
        expiration: Option<Duration>,
        now: Instant,
    ) -> bool {
        let mut accepted = true;
        for name in queues {
            self.pump_after(name, now, |queue| {
                accepted &= queue.push(Arc::clone(stored), expiration, now);
            });
        }
        accepted
    }

    /// `basic.return`: nobody took a mandatory message. PUB-3
    fn give_back(&mut self, lane: Lane, message: Packed) {
        let (exchange, routing_key) = message.names();
        let back = BasicReturn {
            reply_code: ReplyCode::NO_ROUTE,
            reply_text: short!("NO_ROUTE"),
            exchange,
            routing_key,
        };
        self.clients.send_content(lane, back, message);
    }

    /// CONF-3, CONF-7
    fn confirm(&mut self, lane: Lane, number: Option<DeliveryTag>, accepted: bool) {
        let Some(delivery_tag) = number else {
            return;
        };
        if accepted {
            let multiple = false;
            self.clients.send(
                lane,
                BasicAck {
                    delivery_tag,
                    multiple,
                },
            );
        } else {
            let nack = BasicNack {
                delivery_tag,
                ..BasicNack::default()
            };
            self.clients.send(lane, nack);
        }
    }
}

/// A decimal number of milliseconds, as text. PROP-13
fn parse_expiration(text: &ShortString) -> Result<Duration, Fault> {
    let refuse = |why: String| Fault::precondition(format!("invalid expiration '{text}': {why}"));
    let octets = text.as_bytes();
    let (sign, rest) = match octets {
        [sign @ (b'+' | b'-'), rest @ ..] => (*sign, rest),
        rest => (b'+', rest),
    };
    let digits = rest
        .iter()
        .take_while(|octet| octet.is_ascii_digit())
        .count();
    let (digits, leftover) = rest.split_at(digits);
    if digits.is_empty() {
        return Err(refuse("no_integer".into()));
    }
    if !leftover.is_empty() {
        let leftover = leftover.escape_ascii();
        return Err(refuse(format!("{{leftover_string,\"{leftover}\"}}")));
    }
    let milliseconds = digits.iter().fold(0u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    if sign == b'-' && milliseconds > 0 {
        return Err(refuse(format!("{{value_negative,-{milliseconds}}}")));
    }
    Ok(Duration::from_millis(milliseconds))
}

/// PROP-12
fn check_delivery_mode(properties: &Properties) -> Result<(), Fault> {
    match properties.delivery_mode {
        None | Some(1 | 2) => Ok(()),
        Some(mode) => Err(Fault::precondition(format!(
            "invalid message: {{delivery_mode_unknown,{mode}}}"
        ))),
    }
}

/// The key of a message, those of its header CC, and those that its header BCC had.
pub(super) fn all_keys<'a>(
    key: &'a ShortString,
    headers: Option<&FieldTable>,
    blind_keys: &[ShortString],
) -> Cow<'a, [ShortString]> {
    let mut keys = Cow::Borrowed(slice::from_ref(key));
    if let Some(FieldValue::Array(copies)) = headers.and_then(|headers| headers.get("CC")) {
        keys.to_mut().extend(copies.iter().filter_map(routing_key));
    }
    if !blind_keys.is_empty() {
        keys.to_mut().extend_from_slice(blind_keys);
    }
    keys
}

/// Takes the header BCC off, before anybody sees it. Both headers have to be arrays; what in them is no long string is
/// passed over.
fn take_blind_keys(properties: &mut Properties) -> Result<Vec<ShortString>, Fault> {
    let Some(headers) = &mut properties.headers else {
        return Ok(Vec::new());
    };
    let (open, blind) = (copies(headers, "CC")?, copies(headers, "BCC")?);
    if open.len() + blind.len() > MOST_COPIES {
        let text = format!("invalid message: more than {MOST_COPIES} routing keys in CC and BCC");
        return Err(Fault::precondition(text));
    }
    let blind = blind.iter().filter_map(routing_key).collect();
    headers.0.retain(|(name, _)| *name != "BCC");
    Ok(blind)
}

fn copies<'a>(headers: &'a FieldTable, name: &str) -> Result<&'a [FieldValue], Fault> {
    match headers.get(name) {
        None => Ok(&[]),
        Some(FieldValue::Array(values)) => Ok(values),
        Some(other) => {
            let found = type_name(other);
            Err(Fault::precondition(format!(
                "invalid message: {{unacceptable_type_in_header,\"{name}\",{found}}}"
            )))
        }
    }
}

fn routing_key(value: &FieldValue) -> Option<ShortString> {
    let key = value.as_long_string()?;
    ShortString::try_from(key).ok()
}
