//! # Errors: the outcomes of a call that are not its result
//!
//! ```text
//! nothing was executed      Unroutable  Refused  NotSent  Encode
//! a server had it           Remote  Decode
//! nobody here can know      Timeout  ConnectionLost  ChannelClosed  ShutDown     each says whether it was sent
//! ```
//!
//! Whether to call again depends on nothing but this: was the work done? So every outcome answers it, by its name or by
//! [`maybe_executed`](RpcError::maybe_executed). Where the answer is "perhaps", no timeout and no protocol can make it
//! better; only a request that may be done twice can be sent twice (RPC-15).
//!
//! Read next: [`error_reply`](super::error_reply). Explained in `docs/14-crashes.md`.

use thiserror::Error;

use super::no_reply::NoReply;
use crate::{
    client,
    codec::{ReplyCode, ShortString},
};

/// Why a call has no result. There are these and no others, so a `match` can answer each; only the variants that say so
/// leave it open whether the work was done.
#[derive(Debug, Clone, Error)]
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
    /// The broker did not take the request (`basic.nack`): the queue is full, and nothing was executed. RabbitMQ says the
    /// same when the queue failed in that moment. CONF-7
    #[error("the broker refused the request for queue {queue}: is the queue full?")]
    Refused {
        /// The queue it was for.
        queue: ShortString,
    },
    /// No reply in time. The request may have been executed, may be executed yet, or never. RPC-9
    #[error("no reply from {0}")]
    Timeout(Box<NoReply>),
    /// The server answered with an error. RPC-18
    #[error("the server answered with an error ({kind}): {message}")]
    Remote {
        /// The kind, as the server named it.
        kind: String,
        /// The message.
        message: String,
    },
    /// The connection is lost, or there was none to be had in time. RPC-11
    #[error("{}: {cause}", lost("connection", *.maybe_executed))]
    ConnectionLost {
        /// The first cause.
        cause: client::Error,
        /// Whether the request was sent, and so may have been executed.
        maybe_executed: bool,
    },
    /// The channel of the call is over, or its reply consumer; the connection is not. RPC-11
    #[error("{}: {cause}", lost("channel", *.maybe_executed))]
    ChannelClosed {
        /// The first cause.
        cause: client::Error,
        /// Whether the request was sent, and so may have been executed.
        maybe_executed: bool,
    },
    /// A reply came, and is not what was expected. The request was executed.
    #[error("the reply cannot be understood: {0}")]
    Decode(String),
    /// The client was shut down. A request that was sent may have been executed.
    #[error("the client was shut down{}", if *.maybe_executed { ", and the request may have been executed" } else { "" })]
    ShutDown {
        /// Whether the request was sent.
        maybe_executed: bool,
    },
    /// A request that cannot be sent as it is. Nothing was executed.
    #[error("the request cannot be sent: {0}")]
    NotSent(client::Error),
    /// A typed request that its codec cannot write. Nothing was executed.
    #[error("the request cannot be written: {0}")]
    Encode(String),
}

fn lost(what: &str, maybe_executed: bool) -> String {
    let executed = if maybe_executed {
        "may have been"
    } else {
        "was not"
    };
    format!("the {what} of the call was lost, and the request {executed} executed")
}

impl RpcError {
    /// A loss, as the client below tells it: of the connection, or of the channel alone.
    pub(super) fn lost(cause: client::Error, maybe_executed: bool) -> Self {
        match cause {
            client::Error::ChannelClosed(_) | client::Error::ConsumerCancelled(_) => {
                Self::ChannelClosed {
                    cause,
                    maybe_executed,
                }
            }
            client::Error::Refused(_) | client::Error::TooLong(_) => Self::NotSent(cause),
            _ => Self::ConnectionLost {
                cause,
                maybe_executed,
            },
        }
    }

    /// The outcome of a call whose last attempt ended so: what an earlier one may have done is not taken back by one that
    /// did nothing.
    pub(super) fn behind(self, earlier: Option<Self>) -> Self {
        earlier.filter(|_| !self.maybe_executed()).unwrap_or(self)
    }

    /// The outcome in a word, the same in counters, logs and summaries.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Unroutable { .. } => "unroutable",
            Self::Refused { .. } => "refused",
            Self::Timeout(_) => "timeout",
            Self::Remote { .. } => "remote error",
            Self::ConnectionLost { .. } => "connection lost",
            Self::ChannelClosed { .. } => "channel closed",
            Self::Decode(_) => "not understood",
            Self::ShutDown { .. } => "shut down",
            Self::NotSent(_) | Self::Encode(_) => "not sent",
        }
    }

    /// Whether the request may have been executed, be it now or later. A server that answered has had it; so a remote
    /// error says true, though the handler may have refused it.
    pub fn maybe_executed(&self) -> bool {
        match self {
            Self::Unroutable { .. } | Self::Refused { .. } => false,
            Self::NotSent(_) | Self::Encode(_) => false,
            Self::Timeout(_) | Self::Remote { .. } | Self::Decode(_) => true,
            Self::ConnectionLost { maybe_executed, .. }
            | Self::ChannelClosed { maybe_executed, .. }
            | Self::ShutDown { maybe_executed } => *maybe_executed,
        }
    }
}
