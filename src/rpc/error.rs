//! The outcomes of a call that are not its result.

use std::time::Duration;

use thiserror::Error;

use crate::{
    client,
    codec::{ConsumerTag, ReplyCode, ShortString},
};

/// Why a call has no result.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum RpcError {
    /// No queue took the request: no server has ever declared it, or it is gone. Nothing was executed. RPC-7
    #[error("the request could not be routed to queue {queue}: {code} {text}")]
    Unroutable {
        /// The queue it was for.
        queue: ShortString,
        /// 312.
        code: ReplyCode,
        /// The broker's text.
        text: ShortString,
    },
    /// No reply in time. The request may have been executed, may be executed yet, or never. RPC-9
    #[error("no reply from queue {queue} within {} s{}", .elapsed.as_secs_f32(), who(*.consumers, .in_the_way.as_deref()))]
    Timeout {
        /// The queue it was for.
        queue: ShortString,
        /// The id of the call.
        correlation_id: ShortString,
        /// How long it waited.
        elapsed: Duration,
        /// How many servers consume from the queue, if the broker could still be asked. RPC-8
        consumers: Option<u32>,
        /// The consumer whose full queue keeps the connection, and so the reply, from being read, if one does.
        in_the_way: Option<Box<ConsumerTag>>,
    },
    /// The server answered with an error. RPC-18
    #[error("the server answered with an error ({kind}): {message}")]
    Remote {
        /// The kind, as the server named it.
        kind: String,
        /// The message.
        message: String,
    },
    /// The channel or the connection is over. The request may have been executed (RPC-11).
    #[error("the call was cut off, and may have been executed: {0}")]
    Lost(client::Error),
    /// The request could not be sent, so it was not executed.
    #[error("the request was not sent: {0}")]
    NotSent(client::Error),
}

fn who(count: Option<u32>, in_the_way: Option<&ConsumerTag>) -> String {
    if let Some(tag) = in_the_way {
        return format!(": consumer {tag} has not taken what is queued for it");
    }
    match count {
        Some(0) => ": the queue exists, but nobody consumes from it".into(),
        Some(1) => ": one server consumes from the queue".into(),
        Some(servers) => format!(": {servers} servers consume from the queue"),
        None => String::new(),
    }
}

/// What a handler answers when it has no result: the client gets it as [`RpcError::Remote`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct HandlerError {
    /// A word that a program can compare: `bad-request`.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
}

impl HandlerError {
    /// An error of this kind.
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
        }
    }

    /// `bad-request`: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new("bad-request", message)
    }
}
