//! # Bounds: what a request may be, looked at before any handler sees it
//!
//! ```text
//! a request ─▶ too many octets? ─▶ another content type? ─▶ not UTF-8? ─▶ the handler
//!                   └ too-large         └ content-type           └ not-utf-8      an error reply, and an ack (RPC-20)
//! ```
//!
//! The cheapest question first. What cannot be read once cannot be read twice, so it is never given back to the queue.
//!
//! Read next: `poison`. Explained in `docs/rpc.md`.

use super::error_reply::HandlerError;
use crate::{client::Message, codec::ShortString};

/// The bounds of a request. What is outside of them is answered with an error and never comes back (RPC-20).
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The longest body in octets: 16 MiB. More is an error of kind `too-large`.
    pub max_request: usize,
    /// The content types that are understood, without parameters: `application/json` takes
    /// `application/json; charset=utf-8` too, in any case. Anything else, and a request that says nothing, is an error of
    /// kind `content-type`. `None` takes everything, as the tutorial does.
    pub content_types: Option<Vec<ShortString>>,
    /// Whether a body has to be UTF-8. If it is not, that is an error of kind `not-utf-8`.
    pub utf8: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_request: 16 << 20,
            content_types: None,
            utf8: false,
        }
    }
}

impl Bounds {
    /// The size first, for it costs nothing to ask; the text last, for it is read to its end.
    pub(super) fn check(&self, request: &Message) -> Result<(), HandlerError> {
        let (octets, most) = (request.body.len(), self.max_request);
        if octets > most {
            let text = format!("the request has {octets} octets, at most {most} are taken");
            return Err(HandlerError::new("too-large", text));
        }
        let content_type = request.properties.content_type.as_ref();
        if let Some(known) = &self.content_types
            && !content_type.is_some_and(|found| known.iter().any(|known| same_type(known, found)))
        {
            let known: Vec<_> = known.iter().map(ToString::to_string).collect();
            let found = content_type.map_or("none".into(), ToString::to_string);
            let text = format!("expected content type {}, got {found}", known.join(" or "));
            return Err(HandlerError::new("content-type", text));
        }
        if self.utf8
            && let Err(error) = std::str::from_utf8(&request.body)
        {
            let text = format!("the request is not UTF-8: {error}");
            return Err(HandlerError::new("not-utf-8", text));
        }
        Ok(())
    }
}

/// Whether a type is the known one, whatever its parameters.
fn same_type(known: &ShortString, found: &ShortString) -> bool {
    let essence = found.as_bytes().split(|octet| *octet == b';').next();
    essence.is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::Properties, short};

    fn request(content_type: Option<&'static str>, body: &'static [u8]) -> Message {
        let properties = Properties {
            content_type: content_type.map(ShortString::literal),
            ..Default::default()
        };
        Message::new(properties, body)
    }

    #[test]
    fn the_first_bound_that_is_broken_is_named() {
        // RPC-20
        let bounds = Bounds {
            max_request: 4,
            content_types: Some(vec![short!("text/plain"), short!("application/json")]),
            utf8: true,
        };
        let cases: [(_, &[u8], _); 7] = [
            (Some("text/plain"), b"1234", Ok(())),
            (Some("Application/JSON ; charset=utf-8"), b"{}", Ok(())),
            (Some("image/png"), b"\xff\xff\xff\xff\xff", Err("too-large")),
            (Some("image/png"), b"\xff", Err("content-type")),
            (Some("text/plainer"), b"", Err("content-type")),
            (None, b"", Err("content-type")),
            (Some("text/plain"), b"\xff", Err("not-utf-8")),
        ];
        for (content_type, body, expected) in cases {
            let found = bounds.check(&request(content_type, body));
            let kind = found.as_ref().copied().map_err(|error| error.kind.as_str());
            assert_eq!(kind, expected, "{content_type:?} {body:?}");
        }
    }

    #[test]
    fn the_tutorial_has_none() {
        assert_eq!(Bounds::default().check(&request(None, b"\xff")), Ok(()));
    }
}
