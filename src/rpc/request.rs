//! # The request: one delivery, as a handler sees it
//!
//! ```text
//! basic.deliver   ─▶ routing_key, redelivered       "rpc_queue", and whether the work may have been done already
//! content header  ─▶ properties, deadline, span     until when the caller waits, and whose trace it belongs to
//! body            ─▶ body
//! ```
//!
//! What is missing is the point. A handler has no delivery tag and no channel: it returns the reply, and the order of
//! reply and ack is the server's to keep (RPC-14).
//!
//! Read next: `caller`. Explained in `docs/11-rpc.md`.

use bytes::Bytes;
use tracing::Span;

use super::{deadline::Deadline, server_options::RpcServerOptions, trace};
use crate::{
    client::{Message, Received},
    codec::{Properties, ShortString},
};

/// One request, as a handler sees it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// The body.
    pub body: Bytes,
    /// The fourteen properties.
    pub properties: Box<Properties>,
    /// The name of the queue, unless the request came by another exchange than the default.
    pub routing_key: ShortString,
    /// Whether it was delivered before: the work may have been done already (RPC-15, RPC-24).
    pub redelivered: bool,
    /// Until when the caller waits. Long work asks it now and then, and stops when it is over.
    pub deadline: Deadline,
    /// What a handler logs is logged inside of this: the queue and the correlation id are among its fields. With a
    /// [`Propagator`](super::Propagator) it is a child of the caller's.
    pub span: Span,
}

impl Request {
    pub(super) fn new(received: Received, deadline: Deadline, options: &RpcServerOptions) -> Self {
        let span = trace::request(options, &received);
        let Received {
            routing_key,
            redelivered,
            message: Message { properties, body },
            ..
        } = received;
        Self {
            body,
            properties,
            routing_key,
            redelivered,
            deadline,
            span,
        }
    }
}
