//! # A line per frame: what transcripts are made of
//!
//! ```text
//! channel 1  basic.publish  routing-key="jobs" mandatory
//! channel 1    header  2 octets  correlation-id="1"
//! channel 1    body    "30"
//! ```
//!
//! The demo prints these lines, and so do the pages in docs/. A dump says what every octet means; a line says what the
//! frame does: arguments that are empty, zero or false are left out, and so are credentials (SASL-12).
//!
//! Read next: part 2, [`protocol`](crate::protocol).

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::{
    Frame, FrameDecoder, Method, PROTOCOL_HEADER, Payload,
    table::{FieldTable, FieldValue},
};

/// What one frame says, or the eight octets of a protocol header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `channel 1`; empty where there is none.
    pub lane: String,
    /// What it is: `queue.declare`, `header`, `protocol header`.
    pub name: String,
    /// What it says.
    pub says: String,
    /// Whether it is a frame of a content, which is indented below its method.
    pub is_content: bool,
}

/// The line of these octets: one frame, one protocol header, or octets that are neither.
pub fn describe(octets: &Bytes) -> Line {
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(1 << 24, 1 << 24);
    let outside = |name: &str, says| Line {
        lane: String::new(),
        name: name.into(),
        says,
        is_content: false,
    };
    match decoder.decode(&mut BytesMut::from(octets.as_ref())) {
        _ if **octets == PROTOCOL_HEADER => outside("protocol header", "AMQP 0-9-1".into()),
        Ok(Some(Frame { channel, payload })) => {
            let text = said(&payload);
            let (name, says) = text.split_once(' ').unwrap_or((&text, ""));
            Line {
                lane: format!("channel {channel}"),
                name: name.into(),
                says: says.trim_start().into(),
                is_content: matches!(payload, Payload::Header(_) | Payload::Body(_)),
            }
        }
        Ok(None) | Err(_) => outside("octets", hex(octets)),
    }
}

/// Takes the next protocol header or whole frame off the front, or `None` until the rest of it has arrived.
pub fn next_unit(inbound: &mut BytesMut) -> Option<Bytes> {
    if inbound.starts_with(&PROTOCOL_HEADER) {
        return Some(inbound.split_to(PROTOCOL_HEADER.len()).freeze());
    }
    let size = inbound.get(3..7)?.try_into().ok().map(u32::from_be_bytes)?;
    let length = usize::try_from(size).ok()?.checked_add(8)?;
    (inbound.len() >= length).then(|| inbound.split_to(length).freeze())
}

/// Octets in hexadecimal, the first 64 of them.
fn hex(octets: &[u8]) -> String {
    let shown = octets.get(..64).unwrap_or(octets);
    let mut pairs: Vec<_> = shown.iter().map(|octet| format!("{octet:02x}")).collect();
    pairs.extend((octets.len() > 64).then(|| "...".into()));
    pairs.join(" ")
}

/// The name, a blank, and the fields that matter.
fn said(payload: &Payload) -> String {
    match payload {
        Payload::Method(Method::ConnectionStart(start)) => {
            let who = product(&start.server_properties);
            format!(
                "connection.start I am {who}; log in with {}",
                start.mechanisms
            )
        }
        Payload::Method(Method::ConnectionStartOk(ok)) => {
            let (who, mechanism) = (product(&ok.client_properties), &ok.mechanism);
            format!("connection.start-ok I am {who}; {mechanism}, my password is (hidden)")
        }
        other => other.to_string(),
    }
}

/// Who a peer says it is. CONN-6
fn product(properties: &FieldTable) -> String {
    let text = |name| {
        let value = properties.get(name).and_then(FieldValue::as_long_string);
        value.unwrap_or_default().escape_ascii().to_string()
    };
    format!("{} {}", text("product"), text("version"))
}

/// The lane in a column of its own.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lane, name, says, ..
        } = self;
        let text = if self.is_content {
            format!("  {name:<6}  {says}")
        } else {
            format!("{name}  {says}")
        };
        write!(f, "{lane:<9}  {}", text.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(octets: &'static [u8]) -> String {
        describe(&Bytes::from_static(octets)).to_string()
    }

    #[test]
    fn a_frame_is_a_line() {
        // HDR-1, FRAME-20, ACK-1
        assert_eq!(
            line(b"AMQP\0\0\x09\x01"),
            "           protocol header  AMQP 0-9-1"
        );
        assert_eq!(line(b"\x08\0\0\0\0\0\0\xce"), "channel 0  heartbeat");
        assert_eq!(
            line(b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\x07\x01\xce"),
            "channel 1  basic.ack  delivery-tag=7 multiple"
        );
        assert_eq!(
            line(b"\x03\0\x01\0\0\0\x0230\xce"),
            "channel 1    body    \"30\""
        );
    }

    #[test]
    fn what_is_no_frame_is_octets() {
        assert_eq!(line(b"GET /"), "           octets  47 45 54 20 2f");
        assert!(line(&[0xff; 65]).ends_with("ff ff ..."));
    }

    #[test]
    fn units_are_taken_one_by_one() {
        // FRAME-10, FRAME-11
        let mut inbound = BytesMut::from(&b"AMQP\0\0\x09\x01\x08\0\0\0\0\0\0\xce\x08\0\0"[..]);
        assert_eq!(next_unit(&mut inbound).map(|unit| unit.len()), Some(8));
        assert_eq!(next_unit(&mut inbound).map(|unit| unit.len()), Some(8));
        assert_eq!(next_unit(&mut inbound), None);
        assert_eq!(inbound.len(), 3);
    }
}
