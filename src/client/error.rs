//! # Errors: what can go wrong for a user, with its cause
//!
//! ```text
//! nothing was sent            Uri  Connect  TooLong  Refused  NotConfirming
//! it may have been, and done  Timeout  ConnectionClosed  ChannelClosed        the outcome is unknown (CLOSE-13)
//! the broker ended it         ConsumerCancelled                               its queue is gone (CONS-18)
//! ```
//!
//! The first cause stays. A 404 closes a channel once, and whoever uses that channel later, or was waiting on it, is
//! told 404 and the broker's text, and not merely that the channel is closed (ERR-9, ERR-10).
//!
//! Read next: chapter 5, [`broker`](crate::broker). Explained in `docs/09-errors-and-closing.md`.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use thiserror::Error;

use crate::{
    codec::{ConsumerTag, ReplyCode, TooLong},
    protocol::{Cause, Violation},
};

/// Why an operation failed. Every failure after a close carries the first cause of that close.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum Error {
    /// The URI says nothing that one could connect to.
    #[error("{0}")]
    Uri(String),
    /// Nothing listens there, or the network is in the way.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the last of the host's addresses said.
        source: Arc<io::Error>,
    },
    /// The connection is over. What was not answered has an unknown outcome (CLOSE-13).
    #[error("the connection is over: {0}")]
    ConnectionClosed(Cause),
    /// The channel is over; the connection goes on.
    #[error("the channel is over: {0}")]
    ChannelClosed(Cause),
    /// No answer within the operation's deadline.
    #[error("{operation} was not answered within {} s{}", .after.as_secs_f32(), blame(.in_the_way.as_ref()))]
    Timeout {
        /// The method that waited, `queue.declare`.
        operation: &'static str,
        /// How long.
        after: Duration,
        /// The consumer whose full queue keeps the connection from being read, if one does.
        in_the_way: Option<ConsumerTag>,
    },
    /// This side asked for something that the protocol forbids; nothing was sent.
    #[error(transparent)]
    Refused(#[from] Violation),
    /// A name or a key is longer than a shortstr.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The broker ended the subscription, as it does when the queue is deleted. CONS-18
    #[error("the broker cancelled consumer {0}: its queue is gone")]
    ConsumerCancelled(ConsumerTag),
    /// A confirm was asked for on a channel that is not in confirm mode.
    #[error("the channel is not in confirm mode: call confirm_select first")]
    NotConfirming,
}

fn blame(consumer: Option<&ConsumerTag>) -> String {
    consumer
        .map(|tag| format!(": consumer {tag} has not taken what is queued for it"))
        .unwrap_or_default()
}

impl Error {
    /// The reply code, if a close carried one.
    pub fn code(&self) -> Option<ReplyCode> {
        match self {
            Self::ConnectionClosed(cause) | Self::ChannelClosed(cause) => cause.code(),
            Self::Refused(violation) => Some(violation.code),
            _ => None,
        }
    }
}

/// Keys that are short strings already cannot be too long.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
