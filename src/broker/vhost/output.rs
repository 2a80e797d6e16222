//! What comes out of the vhost: for each connection, what it has to do.

use crate::{
    broker::stored::Packed,
    codec::{ChannelId, Method, MethodId, ReplyCode, ShortString},
};

/// What a connection has to do because of what happened in the vhost.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // the largest is the usual one: a box would cost an allocation per delivery
pub enum Output {
    /// Send a method without content.
    Method {
        /// The channel it goes to.
        channel: ChannelId,
        /// A reply, a confirm or a `basic.cancel`.
        method: Method,
    },
    /// Send a method, its header and its bodies.
    Content {
        /// The channel it goes to.
        channel: ChannelId,
        /// `basic.deliver`, `basic.get-ok` or `basic.return`.
        method: Method,
        /// Properties and body.
        message: Packed,
    },
    /// A soft error: send `channel.close`. The vhost has forgotten the channel already. ERR-1
    CloseChannel {
        /// The channel to close.
        channel: ChannelId,
        /// The reply code.
        code: ReplyCode,
        /// RabbitMQ's text, not yet cut to 255 octets.
        text: String,
        /// The method that failed. ERR-3
        method: MethodId,
    },
    /// A hard error: send `connection.close`. The vhost has forgotten the connection already. ERR-2
    CloseConnection {
        /// The reply code.
        code: ReplyCode,
        /// RabbitMQ's text, not yet cut to 255 octets.
        text: String,
        /// The method that failed. ERR-3
        method: MethodId,
    },
    /// Read nothing more of it, and say `connection.blocked` with this reason if it wants to hear that. BLOCK-1, BLOCK-2
    Blocked(ShortString),
    /// That is over: `connection.unblocked`.
    Unblocked,
}

/// What a content counts for beside its body, unless its header is longer: about what its method, header and frame
/// envelopes take.
const DELIVERY_OVERHEAD: usize = 256;

/// What a content counts for until it is sent.
pub(super) fn weight(message: &Packed) -> usize {
    message.body().len() + DELIVERY_OVERHEAD.max(message.header().len())
}

impl Output {
    /// What [`Vhost::sent`](super::Vhost::sent) has to be told once this is on the wire, in octets; 0 for what is not counted.
    pub fn octets(&self) -> usize {
        match self {
            Self::Content { message, .. } => weight(message),
            _ => 0,
        }
    }
}
