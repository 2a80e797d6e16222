//! # Events: what the core tells whoever sits above it
//!
//! ```text
//! open, open-ok                              Opened          to the broker, to the client
//! channel.open                               ChannelOpened   to a broker; to the client that asked, open-ok is a Reply
//! queue.declare-ok, get-ok + content, ..     Reply           it answers the oldest request of its channel
//! publish, deliver, return + content         Content         once its last octet is here (CONTENT-10)
//! queue.declare, ack, cancel, blocked, ..    Method          it answers nothing
//! channel.close, said by either side         ChannelClosed
//! connection.close, silence, the end, ..     Closed          the last one
//! ```
//!
//! No event is a frame: whoever sits above learns what happened, and never in how many frames it came. Heartbeats have
//! no event at all, nor has anything that is thrown away after a close.
//!
//! Read next: `opening`. Explained in `docs/12-inside.md`.

use super::super::{content::Message, error::Cause, handshake::Opened};
use crate::codec::{ChannelId, Method};

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The handshake is over.
    Opened(Opened),
    /// The peer opened this channel (a broker hears it).
    ChannelOpened(ChannelId),
    /// A method that answers nothing: a request of a client, or a confirm, a cancel, `connection.blocked` of a broker.
    Method(ChannelId, Method),
    /// The answer to the oldest request of this channel; `get-ok` brings its content.
    Reply(ChannelId, Method, Option<Message>),
    /// A publish, a delivery or a return, complete. CONTENT-10
    Content(ChannelId, Method, Message),
    /// The channel is over, whoever said so; its number is free once close-ok has passed.
    ChannelClosed(ChannelId, Cause),
    /// The connection is over; nothing else happens on it. What was not answered has an unknown outcome (CLOSE-13).
    Closed(Cause),
}
