//! How the work on a request ends, and what the broker is told of it.

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
