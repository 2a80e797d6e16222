//! # Arguments: the `x-` names in a declare, checked and compared
//!
//! ```text
//! queue.declare "jobs"  {x-max-length: 10, x-colour: "red"}    made; a name that nobody knows is kept (QUEUE-19)
//! queue.declare "jobs"  {x-max-length: 10 as 64 bits}          the same: 10 is 10, and colours do not count (TABLE-15)
//! queue.declare "jobs"  {x-max-length: 20}                     another: 406, and the queue stays as it is (QUEUE-4)
//! queue.declare "jobs"  {}                                     another as well: 406
//! queue.declare "mail"  {x-max-length: "10"}                   a text is no number: 406
//! ```
//!
//! A declare does not change a queue. It asks whether there is one like this, and makes it only where there is none.
//!
//! Read next: [`fault`](super::fault). Explained in `docs/24-incidents.md`.

use std::{fmt::Display, sync::Arc, time::Duration};

use super::{
    death::DeadLetters,
    fault::{Fault, Resource},
    matching::same_value,
};
use crate::codec::{FieldTable, FieldValue, ShortString};

/// What a queue does when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The oldest message goes.
    #[default]
    DropHead,
    /// The new message does not come in; its publisher gets a nack. CONF-7
    RejectPublish,
    /// The same, and it is dead-lettered as well.
    RejectPublishDeadLetter,
}

/// How often a quorum queue takes a message back unless it was declared with another limit. RabbitMQ 4: 20; 3.10 has
/// no limit of its own.
const DELIVERY_LIMIT: u32 = 20;

/// The arguments of a queue that this broker acts on. The others are kept for comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// `x-queue-type` is `quorum`: deliveries are counted, and some uses are refused.
    pub quorum: bool,
    /// `x-message-ttl`: how long a message may wait.
    pub ttl: Option<Duration>,
    /// `x-max-length`: how many messages may be ready.
    pub max_length: Option<usize>,
    /// `x-max-length-bytes`: how many octets their bodies may have.
    pub max_octets: Option<usize>,
    /// `x-overflow`: what happens beyond those two.
    pub overflow: Overflow,
    /// `x-dead-letter-exchange` and `x-dead-letter-routing-key`: where goes what the queue does not keep.
    pub dead_letters: Option<Arc<DeadLetters>>,
    /// `x-delivery-limit` of a quorum queue: how often a message may come back; below 0 as often as it likes.
    pub delivery_limit: Option<u32>,
    /// `x-expires`: how long the queue stays when nobody uses it.
    pub expires: Option<Duration>,
}

impl Settings {
    /// Checks the arguments of a new queue and reads what matters here.
    ///
    /// # Errors
    /// 406 for a known name with a value it cannot have, or on a type of queue that does not have it.
    pub fn read(arguments: &FieldTable, queue: &Resource) -> Result<Self, Fault> {
        let quorum = is_quorum(arguments, queue)?;
        check_dead_letters(arguments, queue)?;
        for known in KNOWN {
            if let Some(value) = arguments.get(known.name) {
                known.check(value, quorum, queue)?;
            }
        }
        let number = |name| arguments.get(name).and_then(FieldValue::as_integer);
        let limit = |name| number(name).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let milliseconds = |n| Duration::from_millis(u64::try_from(n).unwrap_or(u64::MAX));
        let text = |name| arguments.get(name).and_then(FieldValue::as_long_string);
        let name = |name| text(name).and_then(|text| ShortString::try_from(text).ok());
        let returns = number("x-delivery-limit").unwrap_or(DELIVERY_LIMIT.into());
        Ok(Self {
            quorum,
            ttl: number("x-message-ttl").map(milliseconds),
            max_length: limit("x-max-length"),
            max_octets: limit("x-max-length-bytes"),
            overflow: match text("x-overflow") {
                Some(b"reject-publish") => Overflow::RejectPublish,
                Some(b"reject-publish-dlx") => Overflow::RejectPublishDeadLetter,
                _ => Overflow::DropHead,
            },
            dead_letters: name("x-dead-letter-exchange").map(|exchange| {
                let routing_key = name("x-dead-letter-routing-key");
                Arc::new(DeadLetters {
                    exchange,
                    routing_key,
                })
            }),
            delivery_limit: (quorum && returns >= 0)
                .then(|| u32::try_from(returns).unwrap_or(u32::MAX)),
            expires: number("x-expires").map(milliseconds),
        })
    }
}

/// The types of queue that have an argument.
#[derive(Clone, Copy, PartialEq)]
enum On {
    Both,
    Classic,
    Quorum,
}

struct Known {
    name: &'static str,
    on: On,
    check: fn(&FieldValue) -> Result<(), String>,
}

const fn known(name: &'static str, on: On, check: fn(&FieldValue) -> Result<(), String>) -> Known {
    Known { name, on, check }
}

#[rustfmt::skip] // a table
const KNOWN: &[Known] = &[
    known("x-expires",                   On::Both,    positive),
    known("x-message-ttl",               On::Both,    not_negative),
    known("x-dead-letter-exchange",      On::Both,    text),
    known("x-dead-letter-routing-key",   On::Both,    text),
    known("x-max-length",                On::Both,    not_negative),
    known("x-max-length-bytes",          On::Both,    not_negative),
    known("x-max-priority",              On::Classic, octet),
    known("x-overflow",                  On::Both,    overflow),
    known("x-queue-mode",                On::Classic, queue_mode),
    known("x-queue-version",             On::Classic, not_negative),
    known("x-single-active-consumer",    On::Both,    boolean),
    known("x-queue-type",                On::Both,    text),
    known("x-delivery-limit",            On::Quorum,  any_integer),
    known("x-quorum-initial-group-size", On::Quorum,  not_negative),
];

impl Known {
    fn check(&self, value: &FieldValue, quorum: bool, queue: &Resource) -> Result<(), Fault> {
        let unfit = if quorum { On::Classic } else { On::Quorum };
        if self.on == unfit {
            let kind = if quorum { "quorum" } else { "classic" };
            return Err(Fault::precondition(format!(
                "invalid arg '{}' for {queue} of queue type rabbit_{kind}_queue",
                self.name
            )));
        }
        (self.check)(value).map_err(|why| invalid(self.name, queue, why))
    }
}

fn invalid(name: &str, resource: &Resource, why: impl Display) -> Fault {
    Fault::precondition(format!("invalid arg '{name}' for {resource}: {why}"))
}

fn is_quorum(arguments: &FieldTable, queue: &Resource) -> Result<bool, Fault> {
    const NAME: &str = "x-queue-type";
    let Some(value) = arguments.get(NAME) else {
        return Ok(false);
    };
    text(value).map_err(|why| invalid(NAME, queue, why))?;
    match value.as_long_string() {
        Some(b"classic") => Ok(false),
        Some(b"quorum") => Ok(true),
        _ => {
            let why = format!("\"unsupported queue type '{}'\"", bare(value));
            Err(invalid(NAME, queue, why))
        }
    }
}

fn check_dead_letters(arguments: &FieldTable, queue: &Resource) -> Result<(), Fault> {
    exchange_name(arguments, "x-dead-letter-exchange", queue)?;
    let key = arguments.get("x-dead-letter-routing-key");
    if key.is_some() && arguments.get("x-dead-letter-exchange").is_none() {
        let why = "routing_key_but_no_dlx_defined";
        return Err(invalid("x-dead-letter-routing-key", queue, why));
    }
    Ok(())
}

/// The exchange that an argument names, if it is given.
///
/// # Errors
/// 406 when the value is no long string.
pub fn exchange_name<'a>(
    arguments: &'a FieldTable,
    name: &str,
    resource: &Resource,
) -> Result<Option<&'a [u8]>, Fault> {
    let Some(value) = arguments.get(name) else {
        return Ok(None);
    };
    value.as_long_string().map(Some).ok_or_else(|| {
        let found = type_name(value);
        Fault::precondition(format!(
            "invalid type '{found}' for arg '{name}' in {resource}"
        ))
    })
}

/// The `x-priority` of a consumer; 0 when it is not given.
///
/// # Errors
/// 406 when it is no integer.
pub fn consumer_priority(arguments: &FieldTable, queue: &Resource) -> Result<i128, Fault> {
    arguments.get("x-priority").map_or(Ok(0), |value| {
        integer(value).map_err(|why| invalid("x-priority", queue, why))
    })
}

fn integer(value: &FieldValue) -> Result<i128, String> {
    value
        .as_integer()
        .ok_or_else(|| format!("\"expected integer, got {}\"", type_name(value)))
}

fn any_integer(value: &FieldValue) -> Result<(), String> {
    integer(value).map(drop)
}

fn not_negative(value: &FieldValue) -> Result<(), String> {
    match integer(value)? {
        n @ ..0 => Err(format!("{{value_negative,{n}}}")),
        _ => Ok(()),
    }
}

fn positive(value: &FieldValue) -> Result<(), String> {
    not_negative(value)?;
    match integer(value)? {
        0 => Err("{value_zero,0}".into()),
        _ => Ok(()),
    }
}

fn octet(value: &FieldValue) -> Result<(), String> {
    not_negative(value)?;
    match integer(value)? {
        n @ 256.. => Err(format!("{{max_value_exceeded,{n}}}")),
        _ => Ok(()),
    }
}

fn text(value: &FieldValue) -> Result<(), String> {
    match value {
        FieldValue::LongString(_) => Ok(()),
        other => Err(unacceptable(other)),
    }
}

fn boolean(value: &FieldValue) -> Result<(), String> {
    match value {
        FieldValue::Bool(_) => Ok(()),
        other => Err(unacceptable(other)),
    }
}

fn overflow(value: &FieldValue) -> Result<(), String> {
    text(value)?;
    match value.as_long_string() {
        Some(b"drop-head" | b"reject-publish" | b"reject-publish-dlx") => Ok(()),
        _ => Err("invalid_overflow".into()),
    }
}

fn queue_mode(value: &FieldValue) -> Result<(), String> {
    text(value)?;
    match value.as_long_string() {
        Some(b"default" | b"lazy") => Ok(()),
        _ => Err(format!("\"unsupported queue mode '{}'\"", bare(value))),
    }
}

fn unacceptable(value: &FieldValue) -> String {
    format!("{{unacceptable_type,{}}}", type_name(value))
}

/// Compares one property of a declare with what exists. QUEUE-4, EXCH-2
///
/// # Errors
/// 406 when they differ.
pub fn equal<T: PartialEq + Display + ?Sized>(
    name: &str,
    current: &T,
    received: &T,
    resource: &Resource,
) -> Result<(), Fault> {
    if current == received {
        return Ok(());
    }
    Err(Fault::precondition(format!(
        "inequivalent arg '{name}' for {resource}: received '{received}' but current is '{current}'"
    )))
}

/// Compares the arguments of a redeclared queue with those it was declared with. QUEUE-4
///
/// # Errors
/// 406 for the first known one that differs.
pub fn equal_queue_arguments(
    current: &FieldTable,
    received: &FieldTable,
    queue: &Resource,
) -> Result<(), Fault> {
    for Known { name, .. } in KNOWN {
        equal_argument(name, current, received, queue)?;
    }
    Ok(())
}

/// Compares one argument of a redeclare with what exists.
///
/// # Errors
/// 406 when they differ, or when only one of the two is there.
pub fn equal_argument(
    name: &str,
    current: &FieldTable,
    received: &FieldTable,
    resource: &Resource,
) -> Result<(), Fault> {
    let (current, received) = match (current.get(name), received.get(name)) {
        (None, None) => return Ok(()),
        (Some(one), None) | (None, Some(one)) if is_default(name, one) => return Ok(()),
        (Some(current), Some(received)) if same_value(current, received) => return Ok(()),
        (Some(current), Some(received)) => {
            return equal(name, &bare(current), &bare(received), resource);
        }
        (current, received) => (alone(current), alone(received)),
    };
    Err(Fault::precondition(format!(
        "inequivalent arg '{name}' for {resource}: received {received} but current is {current}"
    )))
}

/// Saying `classic` is the same as saying nothing.
fn is_default(name: &str, value: &FieldValue) -> bool {
    name == "x-queue-type" && value.as_long_string() == Some(b"classic")
}

fn alone(value: Option<&FieldValue>) -> String {
    value.map_or("none".into(), |value| {
        format!("the value '{}' of type '{}'", bare(value), type_name(value))
    })
}

/// The value as it stands in a reply text, without the quotes that a dump puts around a long string.
fn bare(value: &FieldValue) -> String {
    match value {
        FieldValue::LongString(text) => text.to_string(),
        other => other.to_string(),
    }
}

/// RabbitMQ's word for the type of a value, which its reply texts use.
pub const fn type_name(value: &FieldValue) -> &'static str {
    match value {
        FieldValue::Bool(_) => "bool",
        FieldValue::I8(_) => "byte",
        FieldValue::U8(_) => "unsignedbyte",
        FieldValue::I16(_) => "short",
        FieldValue::U16(_) => "unsignedshort",
        FieldValue::I32(_) => "signedint",
        FieldValue::U32(_) => "unsignedint",
        FieldValue::I64(_) => "long",
        FieldValue::F32(_) => "float",
        FieldValue::F64(_) => "double",
        FieldValue::Decimal { .. } => "decimal",
        FieldValue::LongString(_) => "longstr",
        FieldValue::Array(_) => "array",
        FieldValue::Timestamp(_) => "timestamp",
        FieldValue::Table(_) => "table",
        FieldValue::Void => "void",
        FieldValue::ByteArray(_) => "binary",
    }
}

#[cfg(test)]
mod tests;
