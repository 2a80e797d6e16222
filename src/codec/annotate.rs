//! # The annotator: octets with their labels
//!
//! ```wire
//! 01                            type         method
//! 00 01                         channel      1
//! 00 00 00 0d                   size         13
//! 00 3c 00 50                   method       basic.ack (60.80)
//! 00 00 00 00 00 00 00 01       delivery-tag 1
//! 00                            bits         (none)
//! ce                            frame-end
//! ```
//!
//! It is the decoder itself, listening: the reader that fills a method's fields also notes where each one was, so a
//! dump cannot disagree with what the program understood. The spans tile the input exactly, also where it is broken:
//! what cannot be read is a span that says why.
//!
//! Read next: chapter 2, [`protocol`](crate::protocol).

use std::{fmt, ops::Range};

use bytes::Bytes;

use super::{
    args::ArgReader,
    domain::{ChannelId, MethodId},
    error::DecodeError,
    frame::{self, FRAME_END, PROTOCOL_HEADER},
    method::{Method, MethodRow},
    properties::ContentHeader,
    table::{FieldTable, FieldValue},
};

/// Whether credentials are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redact {
    /// SASL responses are replaced, their octets included. SASL-12
    #[default]
    Credentials,
    /// Everything is shown: only for credentials that are no secret, as the demo's own guest/guest.
    Nothing,
}

/// Some octets that mean one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Where they are, in octets from the start of the input.
    pub range: Range<usize>,
    /// What they are: a field's name.
    pub label: String,
    /// What they say.
    pub value: String,
    /// How far inside other spans: entries of a table are one deeper than the table's length.
    pub depth: usize,
    /// Whether the octets are credentials.
    pub secret: bool,
}

impl Span {
    pub(crate) fn value(range: Range<usize>, label: &str, value: String, secret: bool) -> Self {
        Self {
            range,
            label: label.replace('_', "-"),
            value,
            depth: 0,
            secret,
        }
    }

    pub(crate) fn bits(range: Range<usize>, name: &str, set: &str) -> Self {
        let mut span = Self::value(range, "bits", "(none)".into(), false);
        span.add_bit(name, set);
        span
    }

    pub(crate) fn add_bit(&mut self, name: &str, set: &str) {
        if set != "1" {
            return;
        }
        let name = name.replace('_', "-");
        self.value = if self.value == "(none)" {
            name
        } else {
            format!("{} {name}", self.value)
        };
    }

    fn shifted(mut self, by: usize) -> Self {
        self.range = self.range.start + by..self.range.end + by;
        self
    }
}

/// What [`annotate`] found: spans that tile the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    octets: Bytes,
    redact: Redact,
    /// In the order of the octets, without gaps and without overlaps.
    pub spans: Vec<Span>,
}

/// Labels every octet of `octets`: protocol headers, whole frames, the beginning of a frame, or anything else.
pub fn annotate(octets: impl Into<Bytes>, redact: Redact) -> Annotation {
    let octets = octets.into();
    let mut spans = Vec::new();
    let mut at = 0;
    while at < octets.len() {
        at = unit(&octets, at, &mut spans);
    }
    Annotation {
        octets,
        redact,
        spans,
    }
}

/// One protocol header or one frame, from `at`; returns where the next one begins.
fn unit(octets: &Bytes, at: usize, spans: &mut Vec<Span>) -> usize {
    let rest = octets.slice(at..);
    if rest.starts_with(b"AMQP") && rest.len() >= PROTOCOL_HEADER.len() {
        let version = rest
            .slice(4..8)
            .iter()
            .map(u8::to_string)
            .collect::<Vec<_>>()
            .join(" ");
        push(spans, at, 4, "literal", "\"AMQP\"".into());
        push(spans, at + 4, 4, "version", version);
        return at + 8;
    }
    let Some((kind, channel, size)) = envelope(&rest) else {
        push(
            spans,
            at,
            rest.len(),
            "incomplete",
            "the beginning of a frame".into(),
        );
        return octets.len();
    };
    push(spans, at, 1, "type", type_name(kind).into());
    push(spans, at + 1, 2, "channel", channel.to_string());
    push(spans, at + 3, 4, "size", size.to_string());
    let at = at + 7;
    let there = rest.len() - 7;
    if there <= size {
        unreadable(
            spans,
            at,
            there,
            "incomplete",
            format!("{there} of {} octets", size + 1),
            &octets.slice(at..),
        );
        return octets.len();
    }
    let mistake = payload(kind, channel, &octets.slice(at..at + size), at, spans);
    let says = match octets.get(at + size) {
        Some(&found) if found != FRAME_END => DecodeError::FrameEnd { found }.to_string(),
        _ => mistake.map_or(String::new(), |mistake| mistake.to_string()),
    };
    push(spans, at + size, 1, "frame-end", says);
    at + size + 1
}

fn envelope(octets: &[u8]) -> Option<(u8, ChannelId, usize)> {
    let &[kind, c0, c1, s0, s1, s2, s3, ..] = octets else {
        return None;
    };
    let size = usize::try_from(u32::from_be_bytes([s0, s1, s2, s3])).ok()?;
    Some((kind, ChannelId(u16::from_be_bytes([c0, c1])), size))
}

const fn type_name(kind: u8) -> &'static str {
    match kind {
        1 => "method",
        2 => "header",
        3 => "body",
        8 => "heartbeat",
        _ => "unknown",
    }
}

/// Labels a payload. A mistake without octets of its own, as an argument that is missing, is returned: it is said at the
/// frame-end.
fn payload(
    kind: u8,
    channel: ChannelId,
    payload: &Bytes,
    at: usize,
    spans: &mut Vec<Span>,
) -> Option<DecodeError> {
    let mut reader = ArgReader::noting(payload);
    let result = match kind {
        1 => Method::read(&mut reader)
            .map(drop)
            .map_err(|(_, error)| error),
        2 => ContentHeader::read(&mut reader).map(drop),
        _ => frame::payload(kind, channel, payload.clone())
            .map(|_| push(spans, at, payload.len(), "body", preview(payload)))
            .map_err(|bad| bad.error),
    };
    for span in reader.into_spans() {
        expand(span.shifted(at), payload, at, spans);
    }
    let error = result.err()?;
    let read = spans.last().map_or(at, |last| last.range.end);
    let left = at + payload.len() - read;
    unreadable(spans, read, left, "malformed", error.to_string(), payload);
    (left == 0).then_some(error)
}

/// Octets without a meaning. If their method has credentials among its arguments, they may be these.
fn unreadable(
    spans: &mut Vec<Span>,
    at: usize,
    octets: usize,
    label: &str,
    why: String,
    payload: &[u8],
) {
    push(spans, at, octets, label, why);
    let id = match *payload {
        [c0, c1, m0, m1, ..] => MethodId {
            class: u16::from_be_bytes([c0, c1]),
            method: u16::from_be_bytes([m0, m1]),
        },
        _ => MethodId::NONE,
    };
    let has_secret = |row: &MethodRow| row.fields.iter().any(|(_, ty)| *ty == "Secret");
    if let Some(last) = spans
        .last_mut()
        .filter(|_| MethodRow::of(id).is_some_and(has_secret))
    {
        last.secret = true;
    }
}

/// A table becomes a line for its length and a line for each entry.
fn expand(span: Span, payload: &Bytes, base: usize, spans: &mut Vec<Span>) {
    let octets = payload.slice(span.range.start - base..span.range.end - base);
    let is_table = matches!(
        span.label.as_str(),
        "server-properties" | "client-properties" | "arguments" | "headers"
    );
    match is_table.then(|| super::table::field_table(&octets, &octets, 1)) {
        Some(Ok((_, table))) if !table.is_empty() => {
            let start = span.range.start;
            let summary = format!("a table of {} octets", octets.len() - 4);
            spans.push(Span {
                range: start..start + 4,
                value: summary,
                ..span
            });
            entries(&table, start + 4, 1, spans);
        }
        _ => merge_ids(span, spans),
    }
}

/// class-id and method-id are shown as one: the method of the frame, or in a close the method at fault.
fn merge_ids(span: Span, spans: &mut Vec<Span>) {
    match spans.last_mut() {
        Some(class) if span.label == "method-id" && class.label == "class-id" => {
            let number = |text: &str| text.parse().unwrap_or_default();
            let id = MethodId {
                class: number(&class.value),
                method: number(&span.value),
            };
            class.value = match MethodRow::of(id) {
                Some(_) => id.to_string(),
                None if id == MethodId::NONE => "(none)".into(),
                None => format!("{id}, unknown"),
            };
            class.range.end = span.range.end;
            let at_start = spans
                .iter()
                .rev()
                .nth(1)
                .is_some_and(|before| before.label == "size");
            if let Some(merged) = spans.last_mut() {
                merged.label = if at_start { "method" } else { "at fault" }.into();
            }
        }
        _ => spans.push(span),
    }
}

fn entries(table: &FieldTable, mut at: usize, depth: usize, spans: &mut Vec<Span>) {
    for (name, value) in &table.0 {
        let name_octets = 1 + usize::from(name.len());
        at = entry(name_octets, &name.to_string(), value, at, depth, spans);
    }
}

/// One entry of a table, or one element of an array, which has no name before its tag.
fn entry(
    name_octets: usize,
    label: &str,
    value: &FieldValue,
    at: usize,
    depth: usize,
    spans: &mut Vec<Span>,
) -> usize {
    let end = at + name_octets + 1 + value.octets();
    let tag = char::from(value.tag());
    let inner = |spans: &mut Vec<Span>, what: &str, length: usize| {
        let range = at..at + name_octets + 1 + 4;
        let says = format!("{tag} {what} of {length} octets");
        spans.push(Span {
            range: range.clone(),
            label: label.into(),
            value: says,
            depth,
            secret: false,
        });
        range.end
    };
    match value {
        FieldValue::Table(table) if !table.is_empty() => {
            let start = inner(spans, "a table", value.octets() - 4);
            entries(table, start, depth + 1, spans);
        }
        FieldValue::Array(values) if !values.is_empty() => {
            let mut at = inner(spans, "an array", value.octets() - 4);
            for (index, value) in values.iter().enumerate() {
                at = entry(0, &format!("[{index}]"), value, at, depth + 1, spans);
            }
        }
        _ => {
            let says = format!("{tag} {value}");
            spans.push(Span {
                range: at..end,
                label: label.into(),
                value: says,
                depth,
                secret: false,
            });
        }
    }
    end
}

fn push(spans: &mut Vec<Span>, at: usize, octets: usize, label: &str, value: String) {
    if octets > 0 {
        spans.push(Span::value(at..at + octets, label, value, false));
    }
}

/// At most 64 octets of a body are ever printed.
fn preview(octets: &[u8]) -> String {
    let shown = octets.get(..64).unwrap_or(octets).escape_ascii();
    let more = if octets.len() > 64 { "..." } else { "" };
    format!("\"{shown}{more}\"")
}

/// Octets in one row of a dump.
const ROW: usize = 10;

/// The dump: octets, label, value; long values take several rows.
impl fmt::Display for Annotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for span in &self.spans {
            let hidden = span.secret && self.redact == Redact::Credentials;
            let octets = self.octets.get(span.range.clone()).unwrap_or_default();
            let hex = |octet: &u8| {
                if hidden {
                    "**".to_owned()
                } else {
                    format!("{octet:02x}")
                }
            };
            let mut rows = octets
                .chunks(ROW)
                .map(|row| row.iter().map(hex).collect::<Vec<_>>().join(" "));
            let value = if hidden { "(hidden)" } else { &span.value };
            let label = format!("{:indent$}{}", "", span.label, indent = 2 * span.depth);
            let first = format!(
                "{:<29} {label:<12} {value}",
                rows.next().unwrap_or_default()
            );
            writeln!(f, "{}", first.trim_end())?;
            for row in rows {
                writeln!(f, "{row}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{ChannelId, ConnectionStartOk, Frame, Payload};

    /// Spans follow each other without a gap, from the first octet to the last.
    fn assert_tiles(octets: &Bytes) {
        let annotation = annotate(octets.clone(), Redact::default());
        let end = annotation.spans.iter().fold(0, |end, span| {
            assert_eq!(span.range.start, end, "{annotation}");
            assert!(span.range.end > end, "{annotation}");
            span.range.end
        });
        assert_eq!(end, octets.len(), "{annotation}");
    }

    proptest! {
        #[test]
        fn spans_tile_every_frame_and_every_prefix(frame: Frame, cut in any::<prop::sample::Index>()) {
            let mut octets = BytesMut::new();
            frame.encode(&mut octets);
            let octets = octets.freeze();
            assert_tiles(&octets);
            assert_tiles(&octets.slice(..cut.index(octets.len() + 1)));
        }

        #[test]
        fn spans_tile_a_frame_with_any_octet_changed(frame: Frame, at in any::<prop::sample::Index>(), octet: u8) {
            let mut octets = BytesMut::new();
            frame.encode(&mut octets);
            let at = at.index(octets.len());
            octets[at] = octet;
            assert_tiles(&octets.freeze());
        }

        #[test]
        fn spans_tile_anything(octets in prop::collection::vec(any::<u8>(), 0..100)) {
            assert_tiles(&octets.into());
        }
    }

    #[test]
    fn every_mistake_of_the_decoder_has_its_words() {
        // TYPE-2, FRAME-4, FRAME-20, found by the fuzz target `annotator`: an argument that is missing has no octets to
        // stand at, and what is wrong with a type or a channel is not in the payload.
        let cases: [(&[u8], &str, &str); 5] = [
            (
                b"\x01\0\x01\0\0\0\x04\0\x3c\0\x50\xce",
                "frame-end",
                "the frame ends in the middle of a value",
            ),
            (
                b"\x08\0\x01\0\0\0\0\xce",
                "frame-end",
                "a heartbeat frame has channel 0 and no payload",
            ),
            (
                b"\x08\0\0\0\0\0\x01x\xce",
                "malformed",
                "a heartbeat frame has channel 0 and no payload",
            ),
            (b"\x09\0\0\0\0\0\0\xce", "frame-end", "unknown frame type 9"),
            (
                b"\x09\0\0\0\0\0\x01x\xce",
                "malformed",
                "unknown frame type 9",
            ),
        ];
        for (octets, label, says) in cases {
            let annotation = annotate(Bytes::from_static(octets), Redact::default());
            let said = |span: &Span| span.label == label && span.value == says;
            assert_eq!(
                annotation.spans.iter().filter(|span| said(span)).count(),
                1,
                "{annotation}"
            );
        }
    }

    #[test]
    fn credentials_are_hidden_in_whole_and_in_part() {
        // SASL-12
        let response = crate::codec::Secret(Bytes::from_static(b"\0guest\0sesame"));
        let start_ok = ConnectionStartOk {
            mechanism: crate::short!("PLAIN"),
            response,
            ..Default::default()
        };
        let mut octets = BytesMut::new();
        Frame {
            channel: ChannelId::CONTROL,
            payload: Payload::Method(start_ok.into()),
        }
        .encode(&mut octets);
        let whole = octets.freeze();
        let part = whole.slice(..whole.len() - 3);
        for octets in [whole, part] {
            let shown = annotate(octets.clone(), Redact::default()).to_string();
            assert!(
                !shown.contains("sesame") && !shown.contains("73 65 73"),
                "{shown}"
            );
        }
    }
}
