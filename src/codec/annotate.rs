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
//! It is the decoder itself, listened to: round the reader that fills a method's fields stands one that notes where each
//! was ([`span`](super::span)), so a dump cannot disagree with what the program understood. The spans tile the input
//! exactly, also where it is broken: what cannot be read is a span that says why.
//!
//! Read next: [`line`](super::line). Every dump in `docs/` is its output.

use std::{fmt, ops::Range};

use bytes::Bytes;

use super::{
    domain::{ChannelId, MethodId},
    error::DecodeError,
    frame::{self, FRAME_END, PROTOCOL_HEADER},
    method::{Method, MethodRow},
    properties::ContentHeader,
    span::{Noting, Span},
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
    let mistake = payload(kind, channel, octets, at..at + size, spans);
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
    octets: &Bytes,
    range: Range<usize>,
    spans: &mut Vec<Span>,
) -> Option<DecodeError> {
    let (at, payload) = (range.start, &octets.slice(range));
    let mut reader = Noting::new(payload);
    let result = match kind {
        1 => Method::read(&mut reader)
            .map(drop)
            .map_err(|(_, error)| error),
        2 => ContentHeader::read(&mut reader).map(drop),
        _ => frame::payload(kind, channel, payload)
            .map(|_| push(spans, at, payload.len(), "body", preview(payload)))
            .map_err(|bad| bad.error),
    };
    for span in reader.spans {
        expand(span.shifted(at), octets, spans);
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
fn expand(span: Span, octets: &Bytes, spans: &mut Vec<Span>) {
    let inside = octets.slice(span.range.clone());
    let is_table = matches!(
        span.label.as_str(),
        "server-properties" | "client-properties" | "arguments" | "headers"
    );
    match is_table.then(|| super::table::field_table(&inside, 1)) {
        Some(Ok((_, table))) if !table.is_empty() => {
            let start = span.range.start;
            let summary = format!("a table of {} octets", inside.len() - 4);
            spans.push(Span {
                range: start..start + 4,
                value: summary,
                ..span
            });
            entries(&table, octets, start + 4, 1, spans);
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

fn entries(table: &FieldTable, octets: &[u8], mut at: usize, depth: usize, spans: &mut Vec<Span>) {
    for (name, value) in &table.0 {
        let tag_at = at + 1 + usize::from(name.len());
        entry(&name.to_string(), value, octets, at..tag_at, depth, spans);
        at = tag_at + 1 + value.octets();
    }
}

/// One entry of a table, or one element of an array, whose `name` is no octets. Its tag stands right behind the name and
/// is shown as it came: `L` is read as `l`, and still it was `L`. TABLE-3
fn entry(
    label: &str,
    value: &FieldValue,
    octets: &[u8],
    name: Range<usize>,
    depth: usize,
    spans: &mut Vec<Span>,
) {
    let tag = octets.get(name.end).map_or(' ', |tag| char::from(*tag));
    let inside = name.end + 1;
    let mut line = |end: usize, says: String| {
        spans.push(Span {
            range: name.start..end,
            label: label.into(),
            value: format!("{tag} {says}"),
            depth,
            secret: false,
        });
    };
    match value {
        FieldValue::Table(table) if !table.is_empty() => {
            let length = value.octets() - 4;
            line(inside + 4, format!("a table of {length} octets"));
            entries(table, octets, inside + 4, depth + 1, spans);
        }
        FieldValue::Array(values) if !values.is_empty() => {
            let length = value.octets() - 4;
            line(inside + 4, format!("an array of {length} octets"));
            let mut at = inside + 4;
            for (index, value) in values.iter().enumerate() {
                entry(
                    &format!("[{index}]"),
                    value,
                    octets,
                    at..at,
                    depth + 1,
                    spans,
                );
                at += 1 + value.octets();
            }
        }
        _ => line(inside + value.octets(), value.to_string()),
    }
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

impl Annotation {
    /// The rows of the dump, each with where its octets are; a long value takes several rows.
    pub fn rows(&self) -> impl Iterator<Item = (Range<usize>, String)> {
        self.spans.iter().flat_map(|span| self.rows_of(span))
    }

    fn rows_of(&self, span: &Span) -> impl Iterator<Item = (Range<usize>, String)> {
        let hidden = span.secret && self.redact == Redact::Credentials;
        let hex = move |octet: &u8| {
            if hidden {
                "**".to_owned()
            } else {
                format!("{octet:02x}")
            }
        };
        let value = if hidden { "(hidden)" } else { &span.value };
        let label = format!("{:indent$}{}", "", span.label, indent = 2 * span.depth);
        let says = format!(" {label:<12} {value}");
        let octets = self.octets.get(span.range.clone()).unwrap_or_default();
        let starts = span.range.clone().step_by(ROW);
        octets.chunks(ROW).zip(starts).map(move |(row, start)| {
            let octets = row.iter().map(hex).collect::<Vec<_>>().join(" ");
            let says = if start == span.range.start { &says } else { "" };
            let row = start..start + row.len();
            (row, format!("{octets:<29}{says}").trim_end().to_owned())
        })
    }
}

/// The dump: octets, label, value.
impl fmt::Display for Annotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows().try_for_each(|(_, row)| writeln!(f, "{row}"))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{
        ChannelClose, ConnectionStartOk, Frame, PROPERTIES, Payload, Properties, QueueDeclare,
        method, table,
    };

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

    fn encoded(channel: u16, payload: Payload) -> Bytes {
        let (mut octets, channel) = (BytesMut::new(), ChannelId(channel));
        Frame { channel, payload }.encode(&mut octets);
        octets.freeze()
    }

    fn shown(octets: impl Into<Bytes>) -> String {
        annotate(octets, Redact::default()).to_string()
    }

    #[test]
    fn a_stream_is_shown_unit_by_unit() {
        // HDR-1, FRAME-1, FRAME-11, FRAME-20: protocol header, header, body and heartbeat, one behind the other.
        let header = ContentHeader {
            class_id: 60,
            body_size: 2,
            properties: Box::new(Properties {
                priority: Some(4),
                ..Default::default()
            }),
        };
        let stream = [
            Bytes::from_static(&PROTOCOL_HEADER),
            encoded(258, Payload::Header(header)),
            encoded(1, Payload::Body(Bytes::from_static(b"\"\n"))),
            encoded(0, Payload::Heartbeat),
        ];
        let expected = r#"
41 4d 51 50                   literal      "AMQP"
00 00 09 01                   version      0 0 9 1
02                            type         header
01 02                         channel      258
00 00 00 0f                   size         15
00 3c                         class-id     60
00 00                         weight       0
00 00 00 00 00 00 00 02       body-size    2
08 00                         flags        0x0800
04                            priority     4
ce                            frame-end
03                            type         body
00 01                         channel      1
00 00 00 02                   size         2
22 0a                         body         "\"\n"
ce                            frame-end
08                            type         heartbeat
00 00                         channel      0
00 00 00 00                   size         0
ce                            frame-end
"#;
        assert_eq!(shown(stream.concat()), expected.trim_start());
    }

    #[test]
    fn a_table_is_shown_entry_by_entry() {
        // TABLE-1, TABLE-13, TABLE-14: an empty table or array is a line of its own, and what is in one is one deeper.
        let mut inner = FieldTable::EMPTY;
        inner.insert(crate::short!("on"), true);
        inner.insert(crate::short!("none"), FieldTable::EMPTY);
        let list = vec![FieldValue::Void, FieldValue::Array(vec![])];
        let mut arguments = FieldTable::EMPTY;
        arguments.insert(crate::short!("inner"), inner);
        arguments
            .0
            .push((crate::short!("list"), FieldValue::Array(list)));
        let declare = QueueDeclare {
            passive: true,
            no_wait: true,
            arguments,
            ..Default::default()
        };
        let expected = r#"
01                            type         method
00 01                         channel      1
00 00 00 36                   size         54
00 32 00 0a                   method       queue.declare (50.10)
00 00                         reserved-1   (ignored)
00                            queue        ""
11                            bits         passive no-wait
00 00 00 2a                   arguments    a table of 42 octets
05 69 6e 6e 65 72 46 00 00 00   inner      F a table of 15 octets
0f
02 6f 6e 74 01                    on       t true
04 6e 6f 6e 65 46 00 00 00 00     none     F {}
04 6c 69 73 74 41 00 00 00 06   list       A an array of 6 octets
56                                [0]      V void
41 00 00 00 00                    [1]      A []
ce                            frame-end
"#;
        assert_eq!(
            shown(encoded(1, Payload::Method(declare.into()))),
            expected.trim_start()
        );
        let empty = annotate(
            encoded(1, Payload::Method(QueueDeclare::default().into())),
            Redact::default(),
        );
        let arguments = empty.spans.iter().find(|span| span.label == "arguments");
        assert_eq!(arguments.map(|span| span.value.as_str()), Some("{}"));
    }

    #[test]
    fn class_id_and_method_id_are_one() {
        // METH-2, ERR-3: that of the frame, and in a close that of the method at fault, which may be none or unknown.
        let ids = |class_id, method_id| {
            let close = ChannelClose {
                class_id,
                method_id,
                ..Default::default()
            };
            let annotation = annotate(encoded(1, Payload::Method(close.into())), Redact::default());
            let of_ids = |span: &&Span| ["method", "at fault"].contains(&span.label.as_str());
            let all = annotation.spans.iter().filter(of_ids);
            all.map(|span| format!("{}: {}", span.label, span.value))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let close = "method: channel.close (20.40), at fault:";
        assert_eq!(ids(50, 10), format!("{close} queue.declare (50.10)"));
        assert_eq!(ids(0, 0), format!("{close} (none)"));
        assert_eq!(ids(50, 11_000), format!("{close} 50.11000, unknown"));
    }

    proptest! {
        /// METH-1, TYPE-3, PROP-2: the decoder reads the fields of the row, in order, and these are their labels.
        #[test]
        fn the_labels_are_the_fields(method: Method) {
            let row = method.row();
            let annotation = annotate(encoded(1, Payload::Method(method)), Redact::Nothing);
            let labels = annotation.spans.iter().filter(|span| span.depth == 0);
            let labels: Vec<_> = labels.map(|span| span.label.as_str()).collect();
            let mut expected: Vec<_> = row.fields.iter().map(|(name, ty)| {
                if ty.contains("bool") { "bits".to_owned() } else { method::wire_name(name) }
            }).collect();
            if let Some(at) = expected.iter().position(|name| name == "class-id") {
                expected.splice(at..at + 2, ["at fault".to_owned()]);
            }
            expected.dedup_by(|one, other| one == "bits" && other == "bits");
            prop_assert_eq!(&labels[..4], ["type", "channel", "size", "method"]);
            prop_assert_eq!(&labels[4..labels.len() - 1], &expected[..]);
            prop_assert_eq!(labels.last(), Some(&"frame-end"));
        }

        /// PROP-1, PROP-2: those that are present, in the order of the flags.
        #[test]
        fn the_labels_are_the_properties(header: ContentHeader) {
            let flags = header.properties.flags();
            let annotation = annotate(encoded(1, Payload::Header(header)), Redact::Nothing);
            let labels = annotation.spans.iter().filter(|span| span.depth == 0);
            let labels: Vec<_> = labels.map(|span| span.label.as_str()).collect();
            let fixed = ["type", "channel", "size", "class-id", "weight", "body-size", "flags"];
            let present = PROPERTIES.iter().filter(|(bit, ..)| flags & (1 << bit) != 0);
            let present = present.map(|(_, name, _)| *name);
            let expected: Vec<_> = fixed.into_iter().chain(present).chain(["frame-end"]).collect();
            prop_assert_eq!(labels, expected);
        }
    }

    #[test]
    fn what_is_no_frame_yet_is_incomplete() {
        // FRAME-10, HDR-4: with its envelope, what came of it is counted.
        let octets = encoded(7, Payload::Body(Bytes::from_static(b"abc")));
        let last = |octets: &Bytes| {
            let annotation = annotate(octets.clone(), Redact::default());
            let span = annotation.spans.last().unwrap();
            (span.label.clone(), span.value.clone(), span.range.clone())
        };
        let incomplete = |says: &str, range| ("incomplete".to_owned(), says.to_owned(), range);
        let beginning = "the beginning of a frame";
        for end in 1..7 {
            let range = 0..end;
            assert_eq!(last(&octets.slice(..end)), incomplete(beginning, range));
        }
        for (end, says) in [(8, "1 of 4 octets"), (10, "3 of 4 octets")] {
            assert_eq!(last(&octets.slice(..end)), incomplete(says, 7..end));
        }
        for (kind, name) in [(1, "method"), (4, "unknown"), (8, "heartbeat")] {
            let size = annotate(vec![kind, 0, 0, 0, 0, 0, 1], Redact::default());
            assert_eq!(size.spans[0].value, name);
            assert_eq!(size.spans[2].value, "1");
        }
    }

    #[test]
    fn of_a_body_64_octets_are_shown() {
        // SEC-14
        let value = |octets: usize| {
            let body = Payload::Body(vec![b'x'; octets].into());
            let annotation = annotate(encoded(1, body), Redact::default());
            annotation.spans[3].value.clone()
        };
        assert_eq!(value(64), format!("\"{}\"", "x".repeat(64)));
        assert_eq!(value(65), format!("\"{}...\"", "x".repeat(64)));
    }

    #[test]
    fn a_tag_is_shown_as_it_came() {
        // TABLE-3: `L` is read as `l`. Inside a table, inside an array, and behind a name of any length.
        let long = b"L\0\0\0\0\0\0\0\x07";
        let array = [
            &b"\x01aA\0\0\0\x12"[..],
            long,
            &long.map(|o| if o == b'L' { b'l' } else { o }),
        ]
        .concat();
        let table = [&b"\x03abc"[..], long, &array].concat();
        let size = |octets: usize| table::length_of(octets).to_be_bytes();
        let payload = [&b"\0\x32\0\x0a\0\0\0\0"[..], &size(table.len()), &table].concat();
        let frame = [
            &b"\x01\0\x01"[..],
            &size(payload.len()),
            &payload,
            &[FRAME_END],
        ]
        .concat();
        let annotation = annotate(frame, Redact::default());
        let shown: Vec<_> = annotation
            .spans
            .iter()
            .filter(|span| span.depth > 0)
            .map(|span| (span.depth, &*span.label, &*span.value, span.range.len()))
            .collect();
        let expected = [
            (1, "abc", "L 7", 4 + 9),
            (1, "a", "A an array of 18 octets", 2 + 5),
            (2, "[0]", "L 7", 9),
            (2, "[1]", "l 7", 9),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_malformed_is_shown_unless_it_may_be_a_secret() {
        // SASL-12: an ack that ends too early has none.
        let ack = b"\x01\0\x01\0\0\0\x06\0\x3c\0\x50\xab\xcd\xce";
        assert!(shown(&ack[..]).contains("ab cd                         malformed"));
        let secure = b"\x01\0\0\0\0\0\x06\0\x0a\0\x14\xab\xcd\xce";
        assert!(shown(&secure[..]).contains("** **                         malformed    (hidden)"));
    }

    #[test]
    fn credentials_are_hidden_in_whole_and_in_part() {
        // SASL-12: unless whoever prints them says that they are no secret.
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
        assert!(
            shown(whole.clone()).contains("\"PLAIN\""),
            "the rest is shown"
        );
        for octets in [whole, part] {
            let shown = annotate(octets.clone(), Redact::default()).to_string();
            assert!(
                !shown.contains("sesame") && !shown.contains("73 65 73"),
                "{shown}"
            );
            assert!(shown.contains("** **") && shown.contains("(hidden)"));
            let shown = annotate(octets, Redact::Nothing).to_string();
            assert!(shown.contains("73 65 73") && !shown.contains("hidden"));
            let incomplete = shown.contains("incomplete");
            assert!(
                incomplete || shown.contains(r#""\x00guest\x00sesame""#),
                "{shown}"
            );
        }
    }
}
