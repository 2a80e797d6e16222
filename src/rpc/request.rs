//! One request, as a handler sees it.

use bytes::Bytes;
use tracing::{Span, debug_span};

use super::deadline::Deadline;
use crate::{
    client::{Message, Received},
    codec::Properties,
};

/// One request, as a handler sees it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// The body.
    pub body: Bytes,
    /// The fourteen properties.
    pub properties: Box<Properties>,
    /// Whether it was delivered before: the work may have been done already (RPC-15, RPC-24).
    pub redelivered: bool,
    /// Until when the caller waits. Long work asks it now and then, and stops when it is over.
    pub deadline: Deadline,
    /// What a handler logs is logged inside of this: the queue and the correlation id are its fields.
    pub span: Span,
}

impl Request {
    pub(super) fn new(received: Received, deadline: Deadline) -> Self {
        let Received {
            routing_key,
            redelivered,
            message: Message { properties, body },
            ..
        } = received;
        let id = properties.correlation_id.as_ref();
        let span = debug_span!("request", queue = %routing_key, id = id.map(tracing::field::display), redelivered);
        Self {
            body,
            properties,
            redelivered,
            deadline,
            span,
        }
    }
}
