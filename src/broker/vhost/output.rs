//! # Outputs: what a connection has to do because of what happened
//!
//! ```text
//! connection 1, channel 1: basic.publish "jobs"
//!    ├─▶ connection 2: Content        basic.deliver on channel 4, and the message
//!    └─▶ connection 1: Method         basic.ack on channel 1
//! connection 1, channel 2: queue.declare "amq.mine"
//!    └─▶ connection 1: CloseChannel   2, 403
//! ```
//!
//! An output is told to the core of its connection, which makes frames of it; here nobody knows how long a frame may
//! be. A close is put out when the vhost has forgotten the channel already: whatever it still says was sent before it
//! knew.
//!
//! Read next: `clients`. Explained in `docs/12-inside.md`.

use crate::{
    broker::stored::Packed,
    codec::{ChannelId, Method, MethodId, ReplyCode, ShortString},
    protocol::{CloseReason, Connection, Violation},
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
    /// Read nothing more of it, and say `connection.blocked` with this reason. BLOCK-1, BLOCK-2
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
    /// Has the core of its connection say it.
    ///
    /// # Errors
    /// The channel has closed in between, or a header does not fit a frame: nothing is said.
    pub fn tell(self, core: &mut Connection) -> Result<(), Violation> {
        match self {
            Self::Method { channel, method } => return core.send(channel, method),
            Self::Content {
                channel,
                method,
                message,
            } => return core.forward(channel, method, message.header(), message.body()),
            Self::CloseChannel {
                channel,
                code,
                text,
                method,
            } => return core.close_channel(channel, &CloseReason { code, text, method }),
            Self::CloseConnection { code, text, method } => {
                core.close(&CloseReason { code, text, method });
            }
            Self::Blocked(reason) => core.announce(Some(reason)),
            Self::Unblocked => core.announce(None),
        }
        Ok(())
    }

    /// What [`Vhost::sent`](super::Vhost::sent) has to be told once this is on the wire, in octets; 0 for what is not counted.
    pub fn octets(&self) -> usize {
        match self {
            Self::Content { message, .. } => weight(message),
            _ => 0,
        }
    }
}
