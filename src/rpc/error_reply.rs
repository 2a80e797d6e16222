//! # Error replies: a reply that reports an error, written and read
//!
//! ```text
//!  a result    correlation-id                                              body: the result, as in tutorial six
//!  an error    correlation-id  type="error"  headers={error-kind: "…"}     body: a sentence, in UTF-8
//! ```
//!
//! A result has not one octet more than the tutorial's, so a client in any language that knows nothing of this reads it
//! as ever; and of an error it reads the body, which is a sentence, in place of waiting for its timeout (RPC-18).
//!
//! Read next: [`no_reply`](super::no_reply). Explained in `docs/11-rpc.md`.

use thiserror::Error;

use super::error::RpcError;
use crate::{
    client::Message,
    codec::{FieldTable, Properties, ShortString},
};

/// `type` of a reply that reports an error; its body is the message and its header [`ERROR_KIND`] the kind. A reply
/// without it is a result. RPC-18
pub const ERROR_TYPE: &str = "error";

/// The header that names the kind of an error.
pub const ERROR_KIND: &str = "error-kind";

/// The kind of an error that leaves nothing done: the request may be sent again, and is worked on then.
pub const UNAVAILABLE: &str = "unavailable";

/// The kind of what a layer before a handler says: whether the work was begun is not known.
pub const LAYER: &str = "layer";

/// What a handler answers when it has no result: the client gets it as [`RpcError::Remote`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct HandlerError {
    /// A word that a program can compare: `bad-request`. A server itself says `too-large`, `content-type`, `not-utf-8`,
    /// `work-limit`, `reply-too-large`, `panic` and `poison`; what stands before a handler says `bad-request`,
    /// `bad-reply` and `layer`.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
}

impl HandlerError {
    /// An error of this kind, of which 255 octets are sent.
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
        }
    }

    /// `bad-request`: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new("bad-request", message)
    }

    /// [`UNAVAILABLE`]: nothing was done, ask again later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(UNAVAILABLE, message)
    }
}

/// The reply, but for its correlation id.
pub(super) fn write(error: HandlerError) -> Message {
    let name = const { ShortString::literal(ERROR_KIND) };
    // Cut like a reply text: the headers must fit a frame.
    let kind = ShortString::truncated(&error.kind).to_string();
    let properties = Properties {
        kind: Some(const { ShortString::literal(ERROR_TYPE) }),
        headers: Some(FieldTable(vec![(name, kind.into())])),
        ..Default::default()
    };
    Message::new(properties, error.message)
}

/// The reply of a handler, or an error in place of what would be refused for its length, and would cost the channel with
/// it.
pub(super) fn fitting(outcome: Result<Message, HandlerError>, most: usize) -> Message {
    let reply = outcome.unwrap_or_else(write);
    let octets = reply.body.len();
    if octets <= most {
        return reply;
    }
    let text = format!("the reply has {octets} octets, at most {most} are sent");
    write(HandlerError::new("reply-too-large", text))
}

/// The result, or the error that the server reports in its place.
///
/// # Errors
/// [`RpcError::Remote`].
pub(super) fn read(reply: Message) -> Result<Message, RpcError> {
    let kind = reply.properties.kind.as_ref();
    if kind.is_none_or(|kind| *kind != ERROR_TYPE) {
        return Ok(reply);
    }
    let headers = reply.properties.headers.unwrap_or_default();
    let kind = headers.get(ERROR_KIND);
    let kind = kind
        .and_then(|kind| kind.as_long_string())
        .unwrap_or(b"error");
    Err(RpcError::Remote {
        kind: String::from_utf8_lossy(kind).into_owned(),
        message: String::from_utf8_lossy(&reply.body).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reply: Message) -> (String, String) {
        match read(reply) {
            Err(RpcError::Remote { kind, message }) => (kind, message),
            other => panic!("got {other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        // RPC-18
        let reply = write(HandlerError::bad_request("expected a number"));
        assert_eq!(reply.body, "expected a number");
        assert_eq!(
            told(reply),
            ("bad-request".into(), "expected a number".into())
        );
        let long = write(HandlerError::new(&"k".repeat(300), ""));
        assert_eq!(told(long).0.len(), 255);
    }

    #[test]
    fn only_the_type_marks_an_error() {
        let result = Message::from("error");
        assert_eq!(read(result.clone()).unwrap(), result);
        let other = Properties {
            kind: Some(ShortString::literal("fibonacci")),
            ..Default::default()
        };
        assert!(read(Message::new(other, "")).is_ok());
        let without_kind = Properties {
            kind: Some(ShortString::literal(ERROR_TYPE)),
            ..Default::default()
        };
        assert_eq!(
            told(Message::new(without_kind, "why")),
            ("error".into(), "why".into())
        );
    }
}
