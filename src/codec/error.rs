//! # Decode errors: what can be wrong with octets, and the reply code each mistake earns
//!
//! ```text
//! 09 ..                        no frame begins with 9                                         501
//! 01 00 01 7f ff ff ff         too large, known from seven octets: not one more is waited for  501
//! 01 00 01 .. 00 3c 00 63 ..   a method 60.99 that nobody knows                               540
//! 01 00 01 .. 01 6b 5a ..      a table with a value of type "Z", whose size is unknown        502
//! 02 00 01 .. 00 3c 00 01 ..   a content header with a weight                                 505
//! ```
//!
//! These are the mistakes that show in the octets of one frame; what is well-formed and comes at the wrong time is for
//! chapter 2 to find. Each of these codes is a hard one and costs the connection (ERR-2). A [`BadFrame`] says in which
//! method the mistake was, so that the close can say it too (METH-3).
//!
//! Read next: [`sink`](super::sink). Explained in `docs/19-reply-codes.md`.

use nom::error::{ErrorKind, ParseError};
use thiserror::Error;

use super::domain::{ChannelId, MethodId, ReplyCode};

/// What is wrong with a frame, from the octets alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The payload size, read from the seven octets of the envelope, is over the limit. FRAME-6
    #[error("frame payload of {size} octets, at most {limit} are allowed")]
    FrameTooLarge {
        /// The announced payload size in octets.
        size: u32,
        /// The largest payload accepted, in octets.
        limit: u32,
    },
    /// The first octet of a frame is not 1, 2, 3 or 8. FRAME-4
    #[error("unknown frame type {0}")]
    FrameType(u8),
    /// The octet after the payload is not 0xCE. FRAME-2
    #[error("expected the frame-end octet ce, got {found:02x}")]
    FrameEnd {
        /// The octet that came instead.
        found: u8,
    },
    /// A heartbeat with a payload, or on a channel other than 0. FRAME-20
    #[error("a heartbeat frame has channel 0 and no payload")]
    Heartbeat,
    /// A value needs more octets than its frame has left. TYPE-2
    #[error("the frame ends in the middle of a value")]
    Truncated,
    /// Octets are left after the last value of the frame. TYPE-12, PROP-9
    #[error("{count} octets are left after the last value")]
    Trailing {
        /// How many octets are left.
        count: usize,
    },
    /// No such class or method. METH-2
    #[error("unknown method {0}")]
    UnknownMethod(MethodId),
    /// A length inside a field table passes the end of what encloses it. TABLE-5
    #[error("a length of {length} octets where {left} are left")]
    LengthOverrun {
        /// The length that was announced, in octets.
        length: u32,
        /// The octets there are.
        left: usize,
    },
    /// No value begins with this letter, so its size is unknown and nothing after it can be read. TABLE-4
    #[error("unknown field table tag {:?}", char::from(*.0))]
    FieldType(u8),
    /// Tables and arrays nested deeper than the limit. TABLE-12, SEC-4
    #[error("field tables are nested deeper than {limit}")]
    NestingTooDeep {
        /// The deepest nesting accepted; the outermost table is 1.
        limit: usize,
    },
    /// Bit 0 of the property flags announces another flag word, which class basic never needs. PROP-4
    #[error("the property flags announce a second flag word")]
    FlagsContinuation,
    /// The weight of a content header, always 0. PROP-7
    #[error("the weight of a content header is 0, got {0}")]
    Weight(u16),
}

impl DecodeError {
    /// The code of the connection.close that this mistake earns: a framing error is always hard.
    pub const fn reply_code(&self) -> ReplyCode {
        match self {
            Self::FieldType(_) | Self::NestingTooDeep { .. } => ReplyCode::SYNTAX_ERROR,
            Self::UnknownMethod(_) => ReplyCode::NOT_IMPLEMENTED,
            Self::Weight(_) => ReplyCode::UNEXPECTED_FRAME,
            _ => ReplyCode::FRAME_ERROR,
        }
    }
}

/// What nom asks of an error; its combinators only pass on what our own parsers have found.
impl ParseError<&[u8]> for DecodeError {
    fn from_error_kind(_: &[u8], _: ErrorKind) -> Self {
        Self::Truncated
    }
    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// Leaves nom's three kinds of error: inside a payload there is nothing to wait for. TYPE-2
impl From<nom::Err<DecodeError>> for DecodeError {
    fn from(error: nom::Err<DecodeError>) -> Self {
        match error {
            nom::Err::Incomplete(_) => Self::Truncated,
            nom::Err::Error(error) | nom::Err::Failure(error) => error,
        }
    }
}

/// A frame that could not be decoded: what is wrong, and where it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{error} (channel {channel}, method {method})")]
pub struct BadFrame {
    /// The channel of the frame.
    pub channel: ChannelId,
    /// The method whose arguments are malformed, or [`MethodId::NONE`]. METH-3
    pub method: MethodId,
    /// The mistake.
    pub error: DecodeError,
}
