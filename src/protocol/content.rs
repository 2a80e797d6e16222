//! # Content: one method, one header, any number of bodies
//!
//! ```text
//! [publish] [header: 9000 octets] [body 4088] [body 4088] [body 824]   [next method] ...
//! [publish] [header: 0 octets]                                         [next method] ...   no body frame at all
//! ```
//!
//! A content cannot be aborted and nothing of the same channel may come between its frames (CONTENT-7); other
//! channels and heartbeats may. The `Assembler` is the whole rule: three states, and an arm for everything illegal
//! that names what was due. [`Message`] is what comes out, and `bodies` is the way back.
//!
//! Read next: [`ledger`](super::ledger).

use std::mem;

use bytes::{Bytes, BytesMut};

use crate::codec::{BASIC_CLASS, ContentHeader, Method, MethodId, Payload, Properties, ReplyCode};

/// What a method carries: fourteen optional properties and a body.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    /// The properties, `headers` among them.
    pub properties: Box<Properties>,
    /// The octets, of which AMQP asks nothing.
    pub body: Bytes,
}

impl Message {
    /// Properties and a body.
    pub fn new(properties: Properties, body: impl Into<Bytes>) -> Self {
        Self {
            properties: Box::new(properties),
            body: body.into(),
        }
    }

    /// A copy that shares no octet with the buffer it was read from: keep this, not the original, for long.
    #[must_use]
    pub fn into_owned(self) -> Self {
        Self {
            properties: Box::new(self.properties.into_owned()),
            body: Bytes::copy_from_slice(&self.body),
        }
    }
}

impl<B: Into<Bytes>> From<B> for Message {
    fn from(body: B) -> Self {
        Self {
            properties: Box::default(),
            body: body.into(),
        }
    }
}

/// Where a channel is within a content.
#[derive(Debug, Default)]
#[expect(clippy::enum_variant_names)] // states are named for what they wait for
pub(crate) enum Assembler {
    #[default]
    AwaitMethod,
    AwaitHeader(Method),
    AwaitBody {
        method: Method,
        header: ContentHeader,
        left: u64,
        body: Body,
    },
}

/// One step's result.
#[derive(Debug)]
pub(crate) enum Assembled {
    /// The content goes on in the next frame.
    More,
    /// A method that carries nothing.
    Method(Method),
    /// A method with its content.
    Content(Method, Message),
    /// A content that was swallowed because it was refused or its channel is closing. SEC-6, CHAN-8
    Swallowed,
}

/// A frame out of sequence, or a content that is not wanted.
#[derive(Debug)]
pub(crate) struct OutOfPlace {
    pub(crate) code: ReplyCode,
    /// The method that began the content, if one did. CONTENT-12
    pub(crate) method: MethodId,
    pub(crate) text: String,
}

impl Assembler {
    /// Takes one frame of the channel. `wanted` is the largest body accepted, or `None` to throw contents away.
    #[rustfmt::skip] // a transition table: the state and the frame, then what follows
    pub(crate) fn step(&mut self, payload: Payload, wanted: Option<u64>) -> Result<Assembled, OutOfPlace> {
        use {Assembler::*, Payload as P};
        match (mem::take(self), payload) {
            (AwaitMethod, P::Method(m)) if m.row().carries_content => {
                *self = AwaitHeader(m);
                Ok(Assembled::More)
            }
            (AwaitMethod, P::Method(m)) => Ok(Assembled::Method(m)),
            (AwaitMethod, _) =>
                Err(unexpected(MethodId::NONE, "expected method frame, got non method frame instead")),

            (AwaitHeader(m), P::Header(h)) => self.header(m, h, wanted),
            (AwaitHeader(m), _) =>
                Err(unexpected(m.id(), "expected content header for class 60, got non content header frame instead")),

            (AwaitBody { method, header, left, body }, P::Body(octets)) =>
                self.body((method, header, left, body), octets, wanted),
            (AwaitBody { method, .. }, _) =>
                Err(unexpected(method.id(), "expected content body, got non content body frame instead")),
        }
    }

    /// The header says how much body follows: none, and the content is complete already.
    /// Octets of a body that has begun to come.
    pub(crate) fn held(&self) -> u64 {
        match self {
            Self::AwaitBody {
                body: Body::Discarded,
                ..
            } => 0,
            Self::AwaitBody { header, left, .. } => header.body_size - left,
            _ => 0,
        }
    }

    fn header(
        &mut self,
        method: Method,
        header: ContentHeader,
        wanted: Option<u64>,
    ) -> Result<Assembled, OutOfPlace> {
        if header.class_id != BASIC_CLASS {
            let text = format!(
                "expected content header for class 60, got one for class {} instead",
                header.class_id
            );
            return Err(unexpected(method.id(), &text));
        }
        let (id, left) = (method.id(), header.body_size);
        let too_large = wanted.is_some_and(|limit| left > limit);
        let keep = wanted.is_some() && !too_large;
        let body = if keep { Body::Nothing } else { Body::Discarded };
        if left > 0 {
            *self = Self::AwaitBody {
                method,
                header,
                left,
                body,
            };
        } else if keep {
            let message = Message {
                properties: header.properties,
                body: Bytes::new(),
            };
            return Ok(Assembled::Content(method, message));
        }
        if too_large {
            // Refused on its header; what follows of it is swallowed (SEC-5, SEC-6).
            let limit = wanted.unwrap_or_default();
            let text = format!("message size {left} is larger than configured max size {limit}");
            return Err(OutOfPlace {
                code: ReplyCode::PRECONDITION_FAILED,
                method: id,
                text,
            });
        }
        Ok(if left > 0 {
            Assembled::More
        } else {
            Assembled::Swallowed
        })
    }

    fn body(
        &mut self,
        (method, header, left, mut body): (Method, ContentHeader, u64, Body),
        octets: Bytes,
        wanted: Option<u64>,
    ) -> Result<Assembled, OutOfPlace> {
        let Some(left) = u64::try_from(octets.len())
            .ok()
            .and_then(|octets| left.checked_sub(octets))
        else {
            let text = "content body frame exceeds remaining content size".to_owned();
            return Err(OutOfPlace {
                code: ReplyCode::FRAME_ERROR,
                method: method.id(),
                text,
            });
        };
        if wanted.is_none() {
            body = Body::Discarded;
        }
        body.append(octets);
        if left > 0 {
            *self = Self::AwaitBody {
                method,
                header,
                left,
                body,
            };
            return Ok(Assembled::More);
        }
        Ok(match body.finish() {
            Some(body) => Assembled::Content(
                method,
                Message {
                    properties: header.properties,
                    body,
                },
            ),
            None => Assembled::Swallowed,
        })
    }
}

fn unexpected(method: MethodId, text: &str) -> OutOfPlace {
    OutOfPlace {
        code: ReplyCode::UNEXPECTED_FRAME,
        method,
        text: text.to_owned(),
    }
}

/// The body frames so far. Nothing is reserved for what the header only announced (SEC-1).
#[derive(Debug)]
pub(crate) enum Body {
    Nothing,
    /// A body of one frame stays the slice of the read buffer that it is.
    One(Bytes),
    Several(Pieces),
    Discarded,
}

/// A body in pieces, to be joined by one copy.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    shared: Vec<Bytes>,
    /// What was too small to be shared since the last of those.
    small: BytesMut,
}

/// A slice pins its whole read buffer (64 KiB), and costs some 32 octets itself. So what is smaller than this is
/// copied behind what came before: otherwise a peer that sends one octet at a time could make us keep far more than
/// it sends.
const WORTH_SHARING: usize = 2048;

impl Body {
    fn append(&mut self, octets: Bytes) {
        if octets.is_empty() {
            return; // legal while octets are due, and no progress (CONTENT-6, SEC-9)
        }
        *self = match mem::replace(self, Self::Discarded) {
            Self::Nothing => Self::One(octets),
            Self::One(first) => {
                let mut pieces = Pieces::default();
                pieces.push(first);
                pieces.push(octets);
                Self::Several(pieces)
            }
            Self::Several(mut pieces) => {
                pieces.push(octets);
                Self::Several(pieces)
            }
            Self::Discarded => Self::Discarded,
        };
    }

    fn finish(self) -> Option<Bytes> {
        match self {
            Self::Nothing => Some(Bytes::new()),
            Self::One(octets) => Some(octets),
            Self::Several(pieces) => Some(pieces.join()),
            Self::Discarded => None,
        }
    }
}

impl Pieces {
    fn push(&mut self, octets: Bytes) {
        if octets.len() < WORTH_SHARING {
            return self.small.extend_from_slice(&octets);
        }
        if !self.small.is_empty() {
            self.shared.push(self.small.split().freeze());
        }
        self.shared.push(octets);
    }

    fn join(self) -> Bytes {
        let Self { shared, small } = self;
        if shared.is_empty() {
            return small.freeze();
        }
        let octets = shared.iter().map(Bytes::len).sum::<usize>() + small.len();
        let mut joined = BytesMut::with_capacity(octets);
        for piece in shared {
            joined.extend_from_slice(&piece);
        }
        joined.extend_from_slice(&small);
        joined.freeze()
    }
}

/// Cuts a body into the payloads of its body frames, each of at most `limit` octets: an empty body has none, and a
/// body of exactly k times the limit has k (CONTENT-2, CONTENT-4).
pub(crate) fn bodies(body: &[u8], limit: usize) -> impl Iterator<Item = &[u8]> {
    body.chunks(limit.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{BasicAck, BasicPublish};

    fn publish() -> Payload {
        Payload::Method(BasicPublish::default().into())
    }

    fn header(body_size: u64) -> Payload {
        Payload::Header(ContentHeader {
            class_id: 60,
            body_size,
            properties: Box::default(),
        })
    }

    fn body(octets: &[u8]) -> Payload {
        Payload::Body(Bytes::copy_from_slice(octets))
    }

    fn run(frames: Vec<Payload>) -> Result<Vec<Assembled>, u16> {
        let mut assembler = Assembler::default();
        let step = |frame| {
            assembler
                .step(frame, Some(16 << 20))
                .map_err(|error| error.code.0)
        };
        frames.into_iter().map(step).collect()
    }

    fn completed(frames: Vec<Payload>) -> Bytes {
        match run(frames).unwrap().pop() {
            Some(Assembled::Content(_, message)) => message.body,
            other => panic!("expected a whole content, got {other:?}"),
        }
    }

    #[test]
    fn a_content_is_a_method_a_header_and_bodies() {
        // CONTENT-2, CONTENT-3, CONTENT-6
        assert_eq!(completed(vec![publish(), header(0)]), "");
        assert_eq!(
            completed(vec![publish(), header(5), body(b"hello")]),
            "hello"
        );
        assert_eq!(
            completed(vec![
                publish(),
                header(5),
                body(b"he"),
                body(b""),
                body(b"llo")
            ]),
            "hello"
        );
    }

    #[test]
    fn everything_else_is_named_and_refused() {
        // CONTENT-5, CONTENT-7, CONTENT-8, CONTENT-9, PROP-8
        let ack = || Payload::Method(BasicAck::default().into());
        let of_class_50 = || {
            Payload::Header(ContentHeader {
                class_id: 50,
                ..Default::default()
            })
        };
        let cases = [
            (vec![header(0)], 505),
            (vec![body(b"x")], 505),
            (vec![publish(), ack()], 505),
            (vec![publish(), body(b"x")], 505),
            (vec![publish(), header(2), body(b"x"), ack()], 505),
            (vec![publish(), header(2), header(2)], 505),
            (vec![publish(), header(0), body(b"")], 505),
            (vec![publish(), of_class_50()], 505),
            (vec![publish(), header(2), body(b"xyz")], 501),
            (vec![publish(), header((16 << 20) + 1)], 406),
        ];
        for (frames, code) in cases {
            let text = format!("{frames:?}");
            assert_eq!(run(frames).unwrap_err(), code, "{text}");
        }
    }

    #[test]
    fn what_was_refused_on_its_header_is_swallowed() {
        // SEC-6: the rest of it is no 505, and the next method is heard again.
        let mut assembler = Assembler::default();
        let mut step = |frame, limit| assembler.step(frame, limit);
        step(publish(), Some(3)).unwrap();
        assert_eq!(step(header(4), Some(3)).unwrap_err().code.0, 406);
        assert!(matches!(step(body(b"ab"), None), Ok(Assembled::More)));
        assert!(matches!(step(body(b"cd"), None), Ok(Assembled::Swallowed)));
        assert!(matches!(step(publish(), Some(3)), Ok(Assembled::More)));
    }

    #[test]
    fn empty_bodies_leave_nothing_behind() {
        // SEC-9, CONTENT-6: however many come, what is kept of the content is the octets it has.
        let mut assembler = Assembler::default();
        let mut step = |frame| assembler.step(frame, Some(100)).unwrap();
        step(publish());
        step(header(3));
        for octets in [&b"a"[..], b"b"] {
            for _ in 0..10_000 {
                assert!(matches!(step(body(b"")), Assembled::More));
            }
            step(body(octets));
        }
        let Assembler::AwaitBody { body, .. } = assembler else {
            panic!("one octet is due")
        };
        assert!(
            matches!(body, Body::Several(pieces) if pieces.shared.is_empty() && pieces.small == "ab")
        );
    }

    #[test]
    fn one_body_frame_is_not_copied() {
        let octets = Bytes::from(vec![7; 5000]);
        let at = octets.as_ptr();
        assert_eq!(
            completed(vec![publish(), header(5000), Payload::Body(octets)]).as_ptr(),
            at
        );
    }

    #[test]
    fn many_small_pieces_take_little_more_than_their_octets() {
        // SEC-17: as pieces of their own, each octet took a Bytes and an allocation.
        const OCTETS: usize = 1 << 16;
        let mut body = Body::Nothing;
        for _ in 0..OCTETS {
            body.append(Bytes::from_static(b"x"));
        }
        let Body::Several(pieces) = &body else {
            panic!("{body:?}")
        };
        assert!(pieces.shared.is_empty() && pieces.small.capacity() <= 2 * OCTETS);
        assert_eq!(body.finish().unwrap().len(), OCTETS);
    }

    #[test]
    fn small_and_large_pieces_keep_their_order() {
        let sizes = [1, WORTH_SHARING, 7, 8, WORTH_SHARING + 1, WORTH_SHARING, 3];
        let pieces = (0u8..).zip(sizes).map(|(n, size)| vec![n; size]);
        let pieces: Vec<_> = pieces.collect();
        let whole = pieces.concat();
        let mut frames = vec![publish(), header(whole.len() as u64)];
        frames.extend(pieces.iter().map(|piece| body(piece)));
        assert_eq!(completed(frames), whole);
    }

    proptest! {
        /// CONTENT-3, CONTENT-4: whatever the limit, the bodies join to what was cut, and none is empty.
        #[test]
        fn cutting_and_joining_are_inverse(octets in prop::collection::vec(any::<u8>(), 0..200), limit in 1usize..50) {
            let cut: Vec<_> = bodies(&octets, limit).map(body).collect();
            prop_assert_eq!(cut.len(), octets.len().div_ceil(limit));
            let frames = [publish(), header(octets.len() as u64)].into_iter().chain(cut).collect();
            prop_assert_eq!(completed(frames), octets);
        }
    }
}
