//! # Content: one method, one header, any number of bodies
//!
//! ```text
//! [publish] [header: 9000 octets] [body 4088] [body 4088] [body 824]   [next method] ...
//! [publish] [header: 0 octets]                                         [next method] ...   no body frame at all
//! ```
//!
//! A content cannot be aborted and nothing of the same channel may come between its frames (CONTENT-7); other
//! channels and heartbeats may. The `Assembler` is the whole rule: four states, and an arm for everything illegal
//! that names what was due. [`Message`] is what comes out, and `bodies` is the way back.
//!
//! Read next: [`ledger`](super::ledger). Explained in `docs/06-content.md`.

use std::mem;

use bytes::Bytes;

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
            properties: self.properties,
            body: Bytes::copy_from_slice(&self.body),
        }
    }

    /// Octets of memory that the properties and the body take. SEC-17
    pub fn memory(&self) -> usize {
        self.properties.memory() + self.body.len()
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

/// Where a channel is within a content: what is due next, and what has come of it.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    due: Due,
    /// The method that began the content, until that is complete.
    method: Option<Method>,
    content: Content,
}

#[derive(Debug, Clone, Copy, Default)]
enum Due {
    #[default]
    Method,
    Header,
    Body,
    /// So many octets are still to be thrown away of what this method began. SEC-6, CHAN-8
    Rest(MethodId, u64),
}

/// A content whose body is not complete.
#[derive(Debug, Default)]
struct Content {
    properties: Option<Box<Properties>>,
    /// What has come of the body. Nothing is reserved for what the header only announced (SEC-1).
    body: Vec<u8>,
    left: u64,
    /// Octets of memory that the properties take.
    header: usize,
}

/// Octets of memory that unfinished contents take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) headers: usize,
    pub(crate) bodies: usize,
}

impl Held {
    /// One content's part of this sum is another now.
    pub(crate) const fn changed(&mut self, before: Self, after: Self) {
        self.headers = self.headers + after.headers - before.headers;
        self.bodies = self.bodies + after.bodies - before.bodies;
    }
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
    #[rustfmt::skip] // a transition table: what is due and what came, then what follows
    pub(crate) fn step(&mut self, payload: Payload, wanted: Option<u64>) -> Result<Assembled, OutOfPlace> {
        use Payload as P;
        match (self.due, payload) {
            (Due::Method, P::Method(m)) if m.row().carries_content => {
                (self.due, self.method) = (Due::Header, Some(m));
                Ok(Assembled::More)
            }
            (Due::Method, P::Method(m)) => Ok(Assembled::Method(m)),
            (Due::Method, _) =>
                Err(self.unexpected("expected method frame, got non method frame instead")),

            (Due::Header, P::Header(h)) => self.header(h, wanted),
            (Due::Header, _) =>
                Err(self.unexpected("expected content header for class 60, got non content header frame instead")),

            (Due::Body, P::Body(octets)) if wanted.is_some() => self.body(octets),
            (Due::Body, P::Body(octets)) => Ok(self.swallow(self.left_after(self.content.left, &octets)?)),
            (Due::Rest(_, left), P::Body(octets)) => Ok(self.swallow(self.left_after(left, &octets)?)),
            (Due::Body | Due::Rest(..), _) =>
                Err(self.unexpected("expected content body, got non content body frame instead")),
        }
    }

    /// Octets of memory that a content takes which has begun to come. SEC-8
    pub(crate) fn held(&self) -> Held {
        let Content { header, body, .. } = &self.content;
        Held {
            headers: *header,
            bodies: body.capacity(),
        }
    }

    /// The header says how much body follows: none, and the content is complete already.
    fn header(
        &mut self,
        header: ContentHeader,
        wanted: Option<u64>,
    ) -> Result<Assembled, OutOfPlace> {
        let ContentHeader {
            class_id,
            body_size: left,
            properties,
        } = header;
        if class_id != BASIC_CLASS {
            let text = format!(
                "expected content header for class 60, got one for class {class_id} instead"
            );
            return Err(self.unexpected(&text));
        }
        match wanted {
            Some(limit) if left > limit => {
                // Refused on its header; what follows of it is swallowed (SEC-5, SEC-6).
                let (code, method) = (ReplyCode::PRECONDITION_FAILED, self.begun());
                let text =
                    format!("message size {left} is larger than configured max size {limit}");
                self.swallow(left);
                Err(OutOfPlace { code, method, text })
            }
            Some(_) if left == 0 => self.complete(properties, Bytes::new()),
            Some(_) => {
                self.due = Due::Body;
                self.content = Content {
                    header: properties.memory(),
                    properties: Some(properties),
                    body: Vec::new(),
                    left,
                };
                Ok(Assembled::More)
            }
            None => Ok(self.swallow(left)),
        }
    }

    fn body(&mut self, octets: Bytes) -> Result<Assembled, OutOfPlace> {
        let left = self.left_after(self.content.left, &octets)?;
        if left > 0 || !self.content.body.is_empty() {
            self.content.append(&octets);
        }
        self.content.left = left;
        if left > 0 {
            return Ok(Assembled::More);
        }
        let Content {
            properties, body, ..
        } = mem::take(&mut self.content);
        // A body of one frame stays the slice of the read buffer that it is.
        let body = if body.is_empty() { octets } else { body.into() };
        self.complete(properties.unwrap_or_default(), body)
    }

    fn complete(
        &mut self,
        properties: Box<Properties>,
        body: Bytes,
    ) -> Result<Assembled, OutOfPlace> {
        self.due = Due::Method;
        match self.method.take() {
            Some(method) => Ok(Assembled::Content(method, Message { properties, body })),
            None => Err(self.unexpected("a header is due only after a method")),
        }
    }

    /// Throws `left` octets away, and what has come of the content.
    fn swallow(&mut self, left: u64) -> Assembled {
        let method = self.begun();
        *self = Self::default();
        if left == 0 {
            return Assembled::Swallowed;
        }
        self.due = Due::Rest(method, left);
        Assembled::More
    }

    /// The method that began the content, if one did.
    fn begun(&self) -> MethodId {
        match (self.due, &self.method) {
            (Due::Rest(id, _), _) => id,
            (_, Some(method)) => method.id(),
            (_, None) => MethodId::NONE,
        }
    }

    /// What is due after these octets; more than was announced is an error. CONTENT-5
    fn left_after(&self, left: u64, octets: &[u8]) -> Result<u64, OutOfPlace> {
        let octets = u64::try_from(octets.len()).ok();
        octets
            .and_then(|octets| left.checked_sub(octets))
            .ok_or_else(|| OutOfPlace {
                code: ReplyCode::FRAME_ERROR,
                method: self.begun(),
                text: "content body frame exceeds remaining content size".to_owned(),
            })
    }

    fn unexpected(&self, text: &str) -> OutOfPlace {
        OutOfPlace {
            code: ReplyCode::UNEXPECTED_FRAME,
            method: self.begun(),
            text: text.to_owned(),
        }
    }
}

impl Content {
    /// Copies a piece behind what came before. As a slice it would keep its whole read buffer of 64 KiB for as long as
    /// the peer likes: one octet a channel, and a thousand channels keep 64 MiB. The room doubles, up to what was
    /// announced (SEC-1).
    fn append(&mut self, octets: &[u8]) {
        let Self { body, left, .. } = self;
        if body.capacity() - body.len() < octets.len() {
            let announced = usize::try_from(*left).unwrap_or(usize::MAX);
            body.reserve_exact(octets.len().max(body.len()).min(announced));
        }
        body.extend_from_slice(octets);
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
    fn what_nobody_wants_is_swallowed_to_its_end() {
        // CHAN-8, CHAN-9: with a body, and without one.
        let swallowed = |frames: Vec<Payload>| {
            let mut assembler = Assembler::default();
            let steps = frames.into_iter().map(|frame| assembler.step(frame, None));
            matches!(steps.last(), Some(Ok(Assembled::Swallowed)))
        };
        assert!(swallowed(vec![publish(), header(0)]));
        assert!(!swallowed(vec![publish(), header(2), body(b"a")]));
        assert!(swallowed(vec![publish(), header(2), body(b"ab")]));
        assert!(!swallowed(vec![publish(), header(0), publish()]));

        // What was wanted until now is wanted no more: its channel closes in the middle of it.
        let mut assembler = Assembler::default();
        for frame in [publish(), header(2), body(b"a")] {
            assembler.step(frame, Some(2)).unwrap();
        }
        let last = assembler.step(body(b"b"), None);
        assert!(matches!(last, Ok(Assembled::Swallowed)));
    }

    #[test]
    fn a_body_may_be_as_large_as_the_limit() {
        // SEC-5
        let fits = |size, limit| {
            let mut assembler = Assembler::default();
            assembler.step(publish(), Some(limit)).unwrap();
            assembler.step(header(size), Some(limit)).is_ok()
        };
        assert!(fits(3, 3) && !fits(4, 3) && fits(0, 0) && !fits(1, 0));
    }

    #[test]
    fn what_is_swallowed_ends_where_it_was_to_end() {
        // CONTENT-5, CONTENT-7, CONTENT-12: nobody wants it, and its frames are counted and named all the same.
        let ack = Payload::Method(BasicAck::default().into());
        for (frame, code) in [(body(b"abcd"), 501), (ack, 505), (header(3), 505)] {
            let mut assembler = Assembler::default();
            for frame in [publish(), header(4), body(b"a")] {
                assembler.step(frame, None).unwrap();
            }
            let fault = assembler.step(frame, None).unwrap_err();
            assert_eq!((fault.code.0, fault.method), (code, BasicPublish::ID));
        }
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
        let Content { body, left, .. } = assembler.content;
        assert_eq!((body.as_slice(), body.capacity(), left), (&b"ab"[..], 2, 1));
    }

    #[test]
    fn a_message_of_its_own_pins_no_buffer() {
        let octets = Bytes::from_static(b"hello");
        let properties = Properties {
            priority: Some(1),
            ..Default::default()
        };
        let message = Message::new(properties.clone(), octets.clone());
        assert_eq!(
            (&*message.properties, &message.body),
            (&properties, &octets)
        );
        assert_eq!(message.body.as_ptr(), octets.as_ptr());
        let kept = message.clone().into_owned();
        assert_eq!(kept, message);
        assert_ne!(kept.body.as_ptr(), octets.as_ptr());
        assert_eq!(Message::from("hello").body, octets);
        assert_eq!(message.memory(), size_of::<Properties>() + 5); // SEC-17
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
        // SEC-1, SEC-8: as slices each would keep the buffer it was read into, and as pieces a Bytes of its own.
        const OCTETS: usize = 3 << 14;
        let mut assembler = Assembler::default();
        let limit = Some(1 << 20);
        assembler.step(publish(), limit).unwrap();
        assembler.step(header(OCTETS as u64), limit).unwrap();
        for octets in 1..OCTETS {
            assembler.step(body(b"x"), limit).unwrap();
            let held = assembler.held().bodies;
            assert!(
                (octets..(2 * octets).min(OCTETS) + 1).contains(&held),
                "{held} for {octets}"
            );
        }
        let last = assembler.step(body(b"x"), limit);
        assert!(matches!(last, Ok(Assembled::Content(_, message)) if message.body.len() == OCTETS));
        assert_eq!(assembler.held(), Held::default());
    }

    #[test]
    fn the_room_for_a_body_doubles_when_it_is_full() {
        // SEC-1, SEC-8: and ends at what was announced.
        let mut assembler = Assembler::default();
        assembler.step(publish(), Some(9)).unwrap();
        assembler.step(header(7), Some(9)).unwrap();
        let room = [(); 6].map(|()| {
            assembler.step(body(b"x"), Some(9)).unwrap();
            assembler.held().bodies
        });
        assert_eq!(room, [1, 2, 4, 4, 7, 7]);
    }

    #[test]
    fn what_is_swallowed_is_not_held() {
        // SEC-6, SEC-8: neither the body nor the properties, which may be the larger part.
        let mut assembler = Assembler::default();
        for frame in [publish(), header(3), body(b"a")] {
            assembler.step(frame, None).unwrap();
            assert_eq!(assembler.held(), Held::default());
        }
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
