//! # Outcomes: how the work on a request ends, and what the broker is told of it
//!
//! ```text
//! a result, or an error of the handler    reply, then ack       an error is an answer too (RPC-18)
//! a panic, a request that kills           reply, then reject    not again, but into the dead letters (RPC-23)
//! nobody waits any more                   ack, and no reply     (RPC-10)
//! ```
//!
//! No line says requeue. What failed once would fail again at once, and for ever (RPC-20, ACK-13); only a server that
//! dies sends its requests back.
//!
//! Read next: [`queue`](super::queue). Explained in `docs/11-rpc.md`, and `docs/14-crashes.md`.

use super::error_reply::HandlerError;
use crate::client::Message;

/// What is answered, and what becomes of the request then.
pub(super) enum Outcome {
    /// It is done with, whether there is a result or not (RPC-18).
    Ack(Result<Message, HandlerError>),
    /// It must not come again, and whoever looks after dead letters should see it (RPC-23).
    Reject(HandlerError),
    /// Nobody waits any more.
    Drop,
}

impl Outcome {
    pub(super) fn error(&self) -> Option<&HandlerError> {
        match self {
            Self::Ack(Err(error)) | Self::Reject(error) => Some(error),
            Self::Ack(Ok(_)) | Self::Drop => None,
        }
    }
}
