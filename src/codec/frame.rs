//! # The frame: an envelope with a length in front and a mark at the end
//!
//! ```text
//!  0        1        3              7                    7+n      8+n
//!  +--------+--------+--------------+--------------------+--------+
//!  | type   | channel| payload size | payload (n octets) | 0xCE   |
//!  | u8     | u16    | u32 = n      |                    | u8     |
//!  +--------+--------+--------------+--------------------+--------+
//! ```
//!
//! TCP delivers octets, not frames, so a frame may arrive in any number of pieces (FRAME-10) and several may arrive
//! at once (FRAME-11). The size is compared with the limit as soon as its seven octets are here, before one octet of
//! the payload is waited for (FRAME-6). After a framing error nobody knows where the next frame begins, so the
//! decoder stays broken (FRAME-13).
//!
//! Read next: [`args`](super::args). Explained in `docs/01-first-octets.md`.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use nom::Parser;

use super::{
    Parse,
    domain::{ChannelId, MethodId},
    ensure,
    error::{BadFrame, DecodeError},
    method::Method,
    octets,
    properties::ContentHeader,
    sink::Sink,
    table::length_of,
    take,
};

/// What a client says first, and a broker's whole answer to anything else: `AMQP`, 0, 0, 9, 1. HDR-1, HDR-3
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// The octet after every payload. FRAME-2
pub const FRAME_END: u8 = 0xCE;

/// The type of a body frame.
const BODY: u8 = 3;

/// What a frame costs besides its payload, in octets: seven before it and one after it.
pub const FRAME_OVERHEAD: u32 = 8;

/// The smallest frame-max anyone may ask for, and the one in force until the tuning is over. FRAME-8, TUNE-5
pub const FRAME_MIN_SIZE: u32 = 4096;

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The channel it belongs to; 0 is the connection itself.
    pub channel: ChannelId,
    /// What it carries.
    pub payload: Payload,
}

/// The four frame types.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Type 1: a class-id, a method-id and the method's arguments.
    Method(Method),
    /// Type 2: the content header: the size of the body that follows, and 14 properties.
    Header(ContentHeader),
    /// Type 3: octets of a body, shared with the buffer they were read into.
    Body(Bytes),
    /// Type 8: nothing but a sign of life.
    Heartbeat,
}

impl Payload {
    /// The first octet of the frame.
    pub const fn frame_type(&self) -> u8 {
        match self {
            Self::Method(_) => 1,
            Self::Header(_) => 2,
            Self::Body(_) => 3,
            Self::Heartbeat => 8,
        }
    }
}

/// One line: what is said, and never more than 64 octets of a body.
impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(method) => method.fmt(f),
            Self::Header(header) if header.properties.flags() == 0 => {
                write!(f, "header  {} octets", header.body_size)
            }
            Self::Header(header) => write!(
                f,
                "header  {} octets  {}",
                header.body_size, header.properties
            ),
            Self::Body(octets) => match octets.split_at_checked(64) {
                Some((shown, more)) if !more.is_empty() => {
                    let (shown, more) = (shown.escape_ascii(), more.len());
                    write!(f, "body    \"{shown}\" and {more} octets more")
                }
                _ => write!(f, "body    \"{}\"", octets.escape_ascii()),
            },
            Self::Heartbeat => f.write_str("heartbeat"),
        }
    }
}

impl Frame {
    /// Appends the frame's octets.
    pub fn encode(&self, out: &mut BytesMut) {
        match &self.payload {
            Payload::Method(method) => encode_method(self.channel, method, out),
            Payload::Header(header) => _ = encode_header(self.channel, header, out),
            Payload::Body(octets) => encode_body(self.channel, octets, out),
            Payload::Heartbeat => encode_heartbeat(out),
        }
    }
}

pub(crate) fn encode_method(channel: ChannelId, method: &Method, out: &mut BytesMut) {
    envelope(1, channel, out, |out| method.encode(out));
}

/// Returns the octets of the payload, which are limited (CONTENT-15).
pub(crate) fn encode_header(
    channel: ChannelId,
    header: &ContentHeader,
    out: &mut BytesMut,
) -> usize {
    envelope(2, channel, out, |out| header.encode(out))
}

/// A header that is encoded already.
pub(crate) fn encode_header_payload(channel: ChannelId, payload: &[u8], out: &mut BytesMut) {
    envelope(2, channel, out, |out| out.put(payload));
}

pub(crate) fn encode_body(channel: ChannelId, octets: &[u8], out: &mut BytesMut) {
    out.reserve(octets.len() + 8);
    envelope(3, channel, out, |out| out.put(octets));
}

pub(crate) fn encode_heartbeat(out: &mut BytesMut) {
    envelope(8, ChannelId::CONTROL, out, |_| {});
}

/// The way back of `raw_frame`. The size is filled in when the payload is there, and returned.
fn envelope(
    kind: u8,
    channel: ChannelId,
    out: &mut BytesMut,
    payload: impl FnOnce(&mut BytesMut),
) -> usize {
    let [c0, c1] = channel.0.to_be_bytes();
    out.put(&[kind, c0, c1, 0, 0, 0, 0]);
    let start = out.position();
    payload(out);
    let size = out.position() - start;
    out.fill_in(start - 4, length_of(size).to_be_bytes());
    out.put(&[FRAME_END]);
    size
}

/// Cuts a stream of octets into frames, however the stream was split on its way.
#[derive(Debug, Clone)]
pub struct FrameDecoder {
    max_payload: u32,
    max_header_payload: u32,
    broken: Option<BadFrame>,
}

impl FrameDecoder {
    /// A decoder for the time before tuning, when frame-max is 4096. FRAME-8
    pub const fn new() -> Self {
        Self {
            max_payload: FRAME_MIN_SIZE,
            max_header_payload: FRAME_MIN_SIZE,
            broken: None,
        }
    }

    /// Sets the limits: `frame_max` in octets as negotiated, `header_max` for content header frames (FRAME-19).
    ///
    /// Like RabbitMQ we take a *payload* of up to frame-max octets, though the envelope makes that frame eight octets
    /// longer than frame-max: a tolerance on input only. FRAME-6
    pub fn set_limits(&mut self, frame_max: u32, header_max: u32) {
        self.max_payload = frame_max;
        self.max_header_payload = frame_max.max(header_max);
    }

    /// Takes one frame off the front of `inbound`, or `None` until the rest of it has arrived.
    ///
    /// # Errors
    /// [`BadFrame`]. When the envelope itself is wrong, the same error comes ever after: there is no way to find the
    /// next frame (FRAME-13). When only the payload is, its frame has been taken off and the next one can be read,
    /// which a closing connection does (CLOSE-3).
    #[inline]
    pub fn decode(&mut self, inbound: &mut BytesMut) -> Result<Option<Frame>, BadFrame> {
        let Some((kind, channel, size)) = self.envelope(inbound)? else {
            return Ok(None);
        };
        if kind == BODY {
            inbound.advance(7);
            let body = inbound.split_to(size).freeze();
            inbound.advance(1);
            let payload = Payload::Body(body);
            return Ok(Some(Frame { channel, payload }));
        }
        let payload = payload(kind, channel, inbound.get(7..7 + size).unwrap_or_default());
        inbound.advance(size + 8);
        let payload = payload?;
        Ok(Some(Frame { channel, payload }))
    }

    /// Whether an envelope was wrong, so that nothing can be read any more. FRAME-13
    pub const fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Type, channel and payload size of the frame at the front, once all of it is there.
    #[inline]
    fn envelope(&mut self, inbound: &[u8]) -> Result<Option<(u8, ChannelId, usize)>, BadFrame> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        match raw_frame(inbound, self) {
            Ok((_, raw)) => Ok(Some((raw.kind, raw.channel, raw.payload.len()))),
            Err(nom::Err::Incomplete(_)) => Ok(None),
            Err(nom::Err::Error(error) | nom::Err::Failure(error)) => {
                let bad = BadFrame {
                    channel: ChannelId::CONTROL,
                    method: MethodId::NONE,
                    error,
                };
                self.broken = Some(bad);
                Err(bad)
            }
        }
    }

    fn limit(&self, kind: u8) -> u32 {
        if kind == 2 {
            self.max_header_payload
        } else {
            self.max_payload
        }
    }
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}

struct RawFrame<'a> {
    kind: u8,
    channel: ChannelId,
    payload: &'a [u8],
}

/// frame = type channel size payload frame-end
///
/// The only parser here that may wait: inside the envelope the end is known, so running out of octets there is an error
/// (TYPE-2).
fn raw_frame<'a>(i: &'a [u8], limits: &FrameDecoder) -> Parse<'a, RawFrame<'a>> {
    let channel = octets.map(u16::from_be_bytes).map(ChannelId);
    let size = octets.map(u32::from_be_bytes);
    let (i, ([kind], channel, size)) = (octets, channel, size).parse(i)?;
    let limit = limits.limit(kind);
    // The error names the limit that a peer should keep, without our tolerance of eight octets.
    ensure(
        size <= limit,
        DecodeError::FrameTooLarge {
            size,
            limit: limit.saturating_sub(FRAME_OVERHEAD),
        },
    )?;
    let (i, (payload, [end])) = (take(size), octets).parse(i)?;
    ensure(end == FRAME_END, DecodeError::FrameEnd { found: end })?;
    Ok((
        i,
        RawFrame {
            kind,
            channel,
            payload,
        },
    ))
}

/// payload = method / content-header / content-body / heartbeat
///
/// What is read out of a payload is copied; only the decoder can share a body with its buffer.
#[inline]
pub(super) fn payload(kind: u8, channel: ChannelId, octets: &[u8]) -> Result<Payload, BadFrame> {
    let bad = |method, error| BadFrame {
        channel,
        method,
        error,
    };
    match kind {
        1 => Method::decode(octets)
            .map(Payload::Method)
            .map_err(|(method, error)| bad(method, error)),
        2 => ContentHeader::decode(octets)
            .map(Payload::Header)
            .map_err(|error| bad(MethodId::NONE, error)),
        BODY => Ok(Payload::Body(Bytes::copy_from_slice(octets))),
        8 if octets.is_empty() && channel == ChannelId::CONTROL => Ok(Payload::Heartbeat),
        8 => Err(bad(MethodId::NONE, DecodeError::Heartbeat)),
        unknown => Err(bad(MethodId::NONE, DecodeError::FrameType(unknown))),
    }
}

#[cfg(any(test, feature = "proptest"))]
mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    impl Arbitrary for Frame {
        type Parameters = ();
        type Strategy = BoxedStrategy<Self>;
        fn arbitrary_with((): ()) -> Self::Strategy {
            let body = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
            let payload = prop_oneof![
                4 => any::<Method>().prop_map(Payload::Method),
                2 => any::<ContentHeader>().prop_map(Payload::Header),
                2 => body.prop_map(Payload::Body),
            ];
            let heartbeat = Self {
                channel: ChannelId::CONTROL,
                payload: Payload::Heartbeat,
            };
            prop_oneof![
                8 => (any::<ChannelId>(), payload).prop_map(|(channel, payload)| Self { channel, payload }),
                1 => Just(heartbeat),
            ]
            .boxed()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{FieldTable, FieldValue, Properties, QueueDeclare};

    fn encoded(frames: &[Frame]) -> BytesMut {
        let mut out = BytesMut::new();
        for frame in frames {
            frame.encode(&mut out);
        }
        out
    }

    fn decoder() -> FrameDecoder {
        let mut decoder = FrameDecoder::new();
        decoder.set_limits(1 << 20, 1 << 20);
        decoder
    }

    proptest! {
        /// METH-1, PROP-2, CONTENT-1: what was encoded is what is decoded, and no octet is left.
        #[test]
        fn every_frame_survives_the_wire(frame: Frame) {
            let mut octets = encoded(std::slice::from_ref(&frame));
            prop_assert_eq!(decoder().decode(&mut octets), Ok(Some(frame)));
            prop_assert!(octets.is_empty());
        }

        /// FRAME-10, FRAME-11: any split of the stream gives the same frames, one octet at a time included.
        #[test]
        fn any_split_gives_the_same_frames(
            frames in prop::collection::vec(any::<Frame>(), 1..5),
            pieces in prop::collection::vec(1usize..40, 1..60),
        ) {
            let stream = encoded(&frames);
            for pieces in [pieces, vec![1]] {
                let (mut decoder, mut inbound, mut got) = (decoder(), BytesMut::new(), Vec::new());
                let (mut rest, mut pieces) = (&stream[..], pieces.iter().cycle());
                while !rest.is_empty() {
                    let (piece, later) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
                    inbound.extend_from_slice(piece);
                    rest = later;
                    while let Some(frame) = decoder.decode(&mut inbound).unwrap() {
                        got.push(frame);
                    }
                }
                prop_assert_eq!(&got, &frames);
            }
        }

        /// FRAME-10: every proper prefix asks for more and is never an error, and nothing is taken off it.
        #[test]
        fn a_prefix_is_never_an_error(frame: Frame) {
            let octets = encoded(&[frame]);
            for cut in 0..octets.len() {
                let mut prefix = BytesMut::from(&octets[..cut]);
                prop_assert_eq!(decoder().decode(&mut prefix), Ok(None));
                prop_assert_eq!(prefix.len(), cut);
            }
        }

        /// The length is known before the octets: a buffer of exactly that many is never moved.
        #[test]
        fn lengths_are_predicted_exactly(frame: Frame) {
            let size = match &frame.payload {
                Payload::Method(method) => method.encoded_len(),
                Payload::Header(header) => header.encoded_len(),
                Payload::Body(octets) => octets.len(),
                Payload::Heartbeat => 0,
            };
            let mut out = BytesMut::with_capacity(size + 8);
            let buffer = out.as_ptr();
            frame.encode(&mut out);
            prop_assert_eq!((out.len(), out.as_ptr()), (size + 8, buffer));
        }

        /// SEC-11: any octets are a frame, the beginning of one, or a typed error.
        #[test]
        fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut inbound = BytesMut::from(&octets[..]);
            let mut decoder = decoder();
            while let Ok(Some(frame)) = decoder.decode(&mut inbound) {
                encoded(&[frame]);
            }
        }
    }

    /// A strategy per row, so that no row depends on luck: the 64 methods each make the trip.
    #[test]
    fn every_row_of_the_table_survives_the_wire() {
        let strategies = Method::strategies();
        assert_eq!(strategies.len(), 64);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(64));
        for strategy in strategies {
            let trip = |method: Method| {
                let frame = Frame {
                    channel: ChannelId(1),
                    payload: Payload::Method(method),
                };
                let mut octets = encoded(std::slice::from_ref(&frame));
                prop_assert_eq!(decoder().decode(&mut octets), Ok(Some(frame)));
                Ok(())
            };
            runner.run(&strategy, trip).unwrap();
        }
    }

    #[test]
    fn a_frame_is_refused_by_its_first_seven_octets() {
        // FRAME-6, FRAME-8, SEC-12: nothing of the payload is here, and the largest size does not overflow.
        for size in [FRAME_MIN_SIZE + 1, u32::MAX] {
            let mut inbound = BytesMut::from(&[1, 0, 1][..]);
            inbound.extend_from_slice(&size.to_be_bytes());
            let error = FrameDecoder::new().decode(&mut inbound).unwrap_err().error;
            assert_eq!(
                error,
                DecodeError::FrameTooLarge {
                    size,
                    limit: FRAME_MIN_SIZE - 8
                }
            );
        }
    }

    #[test]
    fn a_body_may_fill_the_frame_to_the_last_octet() {
        // FRAME-6, FRAME-7: frame-max counts the envelope. RabbitMQ and we take eight octets more, and not a ninth.
        let frame_max = 4096usize;
        for (size, fits) in [
            (0, true),
            (frame_max - 9, true),
            (frame_max - 8, true),
            (frame_max - 7, true),
            (frame_max, true),
            (frame_max + 1, false),
        ] {
            let body = Frame {
                channel: ChannelId(1),
                payload: Payload::Body(vec![b'x'; size].into()),
            };
            let mut octets = encoded(std::slice::from_ref(&body));
            assert_eq!(octets.len(), size + 8);
            let decoded = FrameDecoder::new().decode(&mut octets);
            if fits {
                assert_eq!(decoded, Ok(Some(body)));
            } else {
                let too_large = DecodeError::FrameTooLarge {
                    size: 4097,
                    limit: 4088,
                };
                assert_eq!(decoded.unwrap_err().error, too_large);
            }
        }
    }

    #[test]
    fn a_content_header_has_a_limit_of_its_own() {
        // FRAME-19: RabbitMQ does not split a large header, whatever was negotiated. A limit below 8 is no trap.
        let size = 100u32;
        let refused = |kind: u8, frame_max: u32, header_max: u32| {
            let mut decoder = FrameDecoder::new();
            decoder.set_limits(frame_max, header_max);
            let mut octets = BytesMut::from(&[kind, 0, 1][..]);
            octets.extend_from_slice(&size.to_be_bytes());
            decoder.decode(&mut octets).is_err()
        };
        assert!(refused(1, 99, 100) && refused(3, 99, 100) && !refused(2, 99, 100));
        assert!(!refused(2, 100, 0), "header_max only ever raises the limit");
        assert!(refused(1, 7, 7));
    }

    /// Frames with every kind of field: bits, strings, tables in tables, all the properties.
    fn samples() -> [Frame; 4] {
        let mut inner = FieldTable::EMPTY;
        inner.insert(crate::short!("x-max-length"), 10);
        inner.insert(crate::short!("on"), true);
        let mut arguments = FieldTable::EMPTY;
        arguments.insert(crate::short!("inner"), inner);
        arguments.0.push((
            crate::short!("list"),
            FieldValue::Array(vec![FieldValue::Void, FieldValue::U8(1)]),
        ));
        let declare = QueueDeclare {
            queue: crate::short!("rpc_queue"),
            durable: true,
            arguments: arguments.clone(),
            ..Default::default()
        };
        let header = ContentHeader {
            class_id: 60,
            body_size: 3,
            properties: Box::new(Properties {
                headers: Some(arguments),
                priority: Some(1),
                correlation_id: Some(crate::short!("42")),
                timestamp: Some(7),
                cluster_id: Some(crate::short!("c")),
                ..Default::default()
            }),
        };
        let on_channel_1 = |payload| Frame {
            channel: ChannelId(1),
            payload,
        };
        let heartbeat = Frame {
            channel: ChannelId::CONTROL,
            payload: Payload::Heartbeat,
        };
        [
            on_channel_1(Payload::Method(declare.into())),
            on_channel_1(Payload::Header(header)),
            on_channel_1(Payload::Body(Bytes::from_static(b"abc"))),
            heartbeat,
        ]
    }

    #[test]
    fn any_octet_may_be_changed_to_any_other() {
        // SEC-11, TYPE-4, TYPE-13: what still decodes may be written differently (spare bits, a reserved field), but
        // it means the same when it is read again.
        for sample in samples() {
            let octets = encoded(&[sample]);
            for (at, changed) in
                (0..octets.len()).flat_map(|at| (0..=u8::MAX).map(move |c| (at, c)))
            {
                let mut inbound = octets.clone();
                inbound[at] = changed;
                let Ok(Some(frame)) = FrameDecoder::new().decode(&mut inbound) else {
                    continue; // a typed error, or a larger size: it waits for more
                };
                let mut again = encoded(std::slice::from_ref(&frame));
                assert_eq!(
                    FrameDecoder::new().decode(&mut again),
                    Ok(Some(frame)),
                    "octet {at} became {changed:02x}"
                );
            }
        }
    }

    #[test]
    fn a_payload_is_one_line() {
        // SEC-14: of a body 64 octets, escaped.
        let [declare, header, ..] = samples().map(|frame| frame.payload);
        let bare = Payload::Header(ContentHeader {
            body_size: 3,
            ..Default::default()
        });
        let body = |octets: Vec<u8>| Payload::Body(octets.into());
        let table = r"{inner: {x-max-length: 10, on: true}, list: [void, 1]}";
        let lines = [
            (
                declare,
                1,
                format!(r#"queue.declare queue="rpc_queue" durable arguments={table}"#),
            ),
            (
                header,
                2,
                format!(
                    r#"header  3 octets  headers={table} priority=1 correlation-id="42" timestamp=7 cluster-id="c""#
                ),
            ),
            (bare, 2, "header  3 octets".into()),
            (body(b"\x1b[2J".to_vec()), 3, r#"body    "\x1b[2J""#.into()),
            (
                body(vec![b'x'; 65]),
                3,
                format!("body    \"{}\" and 1 octets more", "x".repeat(64)),
            ),
            (Payload::Heartbeat, 8, "heartbeat".into()),
        ];
        for (payload, kind, line) in lines {
            assert_eq!((payload.frame_type(), payload.to_string()), (kind, line));
        }
    }

    #[test]
    fn a_broken_decoder_stays_broken() {
        // FRAME-13: the second frame is fine, but nobody can know that.
        let mut inbound =
            BytesMut::from(&[8, 0, 0, 0, 0, 0, 0, 0x00, 8, 0, 0, 0, 0, 0, 0, FRAME_END][..]);
        let mut decoder = FrameDecoder::new();
        assert!(!decoder.is_broken());
        for _ in 0..2 {
            assert_eq!(
                decoder.decode(&mut inbound).unwrap_err().error,
                DecodeError::FrameEnd { found: 0 }
            );
            assert!(decoder.is_broken());
        }
    }

    #[test]
    fn a_payload_that_is_wrong_costs_its_frame_alone() {
        // FRAME-13, CLOSE-3: its end is known, so the next frame is too.
        let mut inbound = BytesMut::from(
            &[
                1, 0, 1, 0, 0, 0, 1, 0, FRAME_END, 8, 0, 0, 0, 0, 0, 0, FRAME_END,
            ][..],
        );
        let mut decoder = FrameDecoder::default();
        let error = decoder.decode(&mut inbound).unwrap_err().error;
        assert_eq!(
            (error, decoder.is_broken()),
            (DecodeError::Truncated, false)
        );
        let heartbeat = decoder.decode(&mut inbound).unwrap().unwrap();
        assert_eq!(heartbeat.payload, Payload::Heartbeat);
    }

    #[test]
    fn a_body_shares_the_buffer_it_was_read_into() {
        let mut inbound = encoded(&[Frame {
            channel: ChannelId(1),
            payload: Payload::Body(vec![7; 5000].into()),
        }]);
        let room = inbound.as_ptr() as usize..inbound.as_ptr() as usize + inbound.len();
        let Some(Frame {
            payload: Payload::Body(body),
            ..
        }) = decoder().decode(&mut inbound).unwrap()
        else {
            panic!("a body was encoded")
        };
        assert!(room.contains(&(body.as_ptr() as usize)));
    }
}
