//! # The request queue: in the form that everyone else expects
//!
//! ```text
//! queue.declare passive ─┬─▶ declare-ok           it is there: taken as it stands
//! on a channel to lose   └─▶ channel.close 404    none: declared durable, x-queue-type="quorum"
//! ```
//!
//! Tutorial six once declared `rpc_queue` transient; today's tutorials declare a quorum queue, since RabbitMQ 4 may
//! refuse a transient queue that several connections share. A queue keeps the properties it was first declared with,
//! and any other declaration is 406, so the safe question comes first: is it there already?
//!
//! Read next: [`deadline`](super::deadline). Explained in `docs/21-rabbitmq-4.md`.

use std::str::FromStr;

use crate::{
    client::{Channel, Connection, Error},
    codec::{FieldTable, LongString, QueueDeclare, QueueDeclareOk, ReplyCode, ShortString},
    short,
};

/// How a server declares its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueType {
    /// As it stands if it exists, and otherwise as a durable quorum queue.
    #[default]
    Auto,
    /// Transient, as the tutorial once had it.
    Classic,
    /// Durable and replicated, as the tutorial has it today.
    Quorum,
}

impl FromStr for QueueType {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "classic" => Ok(Self::Classic),
            "quorum" => Ok(Self::Quorum),
            other => Err(format!("expected auto, classic or quorum, got {other:?}")),
        }
    }
}

/// Where the broker sends what a server rejects: beyond the limit of redeliveries, after a panic, or without reply-to.
/// Without it they are dropped. The arguments of a declare, so a queue that exists already keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetters {
    /// `x-dead-letter-exchange`; it should exist, or what is sent there is lost.
    pub exchange: ShortString,
    /// `x-dead-letter-routing-key`; without it, the name of the queue.
    pub routing_key: Option<ShortString>,
}

/// Declares the queue on `channel`, or finds it.
///
/// # Errors
/// 406 when it exists with other properties, which `Auto` never meets.
///
/// # Cancel safety
/// A dropped future may have declared the queue.
pub async fn declare(
    connection: &Connection,
    channel: &Channel,
    queue: &ShortString,
    kind: QueueType,
    dead_letters: Option<&DeadLetters>,
) -> Result<QueueDeclareOk, Error> {
    if kind == QueueType::Auto
        && let Some(found) = look_up(connection, queue).await?
    {
        return Ok(found);
    }
    let mut declare = QueueDeclare {
        queue: queue.clone(),
        ..Default::default()
    };
    if kind != QueueType::Classic {
        declare.durable = true;
        declare.arguments = FieldTable(vec![(short!("x-queue-type"), "quorum".into())]);
    }
    if let Some(letters) = dead_letters {
        let text = |name: &ShortString| LongString::from(name.as_bytes().to_vec());
        let arguments = &mut declare.arguments;
        arguments.insert(short!("x-dead-letter-exchange"), text(&letters.exchange));
        if let Some(key) = &letters.routing_key {
            arguments.insert(short!("x-dead-letter-routing-key"), text(key));
        }
    }
    channel.queue_declare(declare).await
}

/// Whether a queue exists, and how many messages and consumers it has. A passive declare that fails costs its channel
/// (QUEUE-5), so this opens one of its own.
///
/// # Errors
/// Anything but "there is none".
///
/// # Cancel safety
/// A dropped future leaves nothing behind.
pub async fn look_up(
    connection: &Connection,
    queue: &ShortString,
) -> Result<Option<QueueDeclareOk>, Error> {
    let scratch = connection.open_channel().await?;
    let passive = QueueDeclare {
        queue: queue.clone(),
        passive: true,
        ..Default::default()
    };
    match scratch.queue_declare(passive).await {
        Ok(found) => {
            scratch.close().await?;
            Ok(Some(found))
        }
        Err(error) if error.code() == Some(ReplyCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}
