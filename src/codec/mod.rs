//! # Part 1: bytes become frames, frames become methods and content
//!
//! ```text
//!  01 00 01 00 00 00 15 00 32 00 0a 00 00 09 72 70 63 .. 02 00 00 00 00 ce      octets
//!  └──── envelope ────┘ └─────────────────── payload ─────────────────┘ └┘      frame.rs
//!  type, channel, size  queue.declare "rpc_queue" durable         frame-end      method.rs, args.rs
//! ```
//!
//! This layer is pure: octets in, values out, and the other way round. It knows nothing of connections, of who
//! speaks, or of what may be said when. A [`FrameDecoder`] cuts the stream and decodes each frame; [`Frame::encode`]
//! does the reverse and cannot fail, because a value that cannot be encoded cannot be built.
//!
//! ```
//! use amqp_rpc::codec::{ChannelId, Frame, FrameDecoder, Payload, QueueDeclare};
//! use bytes::BytesMut;
//!
//! let declare = QueueDeclare { queue: "rpc_queue".try_into()?, durable: true, ..Default::default() };
//! let frame = Frame { channel: ChannelId(1), payload: Payload::Method(declare.into()) };
//!
//! let mut octets = BytesMut::new();
//! frame.encode(&mut octets);
//! assert_eq!(octets[7..11], [0, 50, 0, 10]); // class 50, method 10
//!
//! assert_eq!(FrameDecoder::new().decode(&mut octets)?, Some(frame));
//! assert!(octets.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing here panics, whatever the octets (SEC-11), and no memory is reserved for a length that a peer has only
//! announced (SEC-1).
//!
//! Reading order: [`frame`], [`args`], [`table`], [`method`], [`properties`], [`span`], [`mod@annotate`],
//! [`mod@line`]. Look up when
//! you meet them: the small types in [`domain`], the mistakes in [`error`], and [`sink`], where octets go.
//!
//! Read next: [`frame`]. Explained in `docs/01-first-octets.md`.

pub mod annotate;
pub mod args;
pub mod domain;
pub mod error;
pub mod frame;
pub mod line;
pub mod method;
pub mod properties;
pub mod sink;
pub mod span;
pub mod table;

use nom::{IResult, Needed, ToUsize};

pub use self::{
    annotate::{Redact, annotate},
    domain::{
        ChannelId, ConsumerTag, DeliveryTag, LongString, MethodId, ReplyCode, Scope, Secret,
        ShortString, TooLong,
    },
    error::{BadFrame, DecodeError},
    frame::{
        FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, FrameDecoder, PROTOCOL_HEADER, Payload,
    },
    line::{Line, describe, next_unit},
    method::*,
    properties::{BASIC_CLASS, ContentHeader, PROPERTIES, Properties},
    table::{FieldTable, FieldValue},
};

/// A shortstr literal, its length checked by the compiler: `short!("rpc_queue")`.
#[macro_export]
macro_rules! short {
    ($text:literal) => {
        const { $crate::codec::ShortString::literal($text) }
    };
}

/// A parser in nom's form: what is left and what was read, or what is wrong.
pub(crate) type Parse<'a, T> = IResult<&'a [u8], T, DecodeError>;

/// So many octets, of which a number is made with `from_be_bytes`: the wire is big-endian. TYPE-1
///
/// Too few are "incomplete": outside a frame there may be more to come (FRAME-10), inside one there are not (TYPE-2).
/// nom has parsers for numbers too; they put them together octet by octet, which took half of the time of a frame.
#[inline]
pub(crate) fn octets<const N: usize>(i: &[u8]) -> Parse<'_, [u8; N]> {
    match i.split_first_chunk() {
        Some((octets, rest)) => Ok((rest, *octets)),
        None => Err(nom::Err::Incomplete(Needed::Unknown)),
    }
}

/// As many octets as a length in front of them says.
#[inline]
pub(crate) fn take(length: impl ToUsize + Copy) -> impl Fn(&[u8]) -> Parse<'_, &[u8]> {
    let length = length.to_usize();
    move |i| match i.split_at_checked(length) {
        Some((octets, rest)) => Ok((rest, octets)),
        None => Err(nom::Err::Incomplete(Needed::Unknown)),
    }
}

/// Fails for good, in the form nom wants: no other alternative is tried and no octet is waited for.
pub(crate) fn ensure(holds: bool, otherwise: DecodeError) -> Result<(), nom::Err<DecodeError>> {
    if holds {
        Ok(())
    } else {
        Err(nom::Err::Failure(otherwise))
    }
}
