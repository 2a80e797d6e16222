//! What a connection tells whoever sits above it.

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
