//! # The span: some octets, what they are and what they say
//!
//! ```text
//! octets   00 00   09 72 70 63 5f 71 75 65 75 65   02
//! spans    └ 1 ┘   └───────────── 2 ─────────────┘  └3
//!          reserved-1   queue "rpc_queue"           bits "durable"
//! ```
//!
//! Bits share an octet, so a later bit of the same octet adds its name to the span that is there.
//!
//! Read next: [`annotate`](mod@super::annotate), which has a span for every octet of the wire.

use std::ops::Range;

use super::{
    args::{ArgReader, Argument, FieldReader},
    error::DecodeError,
    method::wire_name,
};

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
    pub(super) fn value(range: Range<usize>, label: &str, value: String, secret: bool) -> Self {
        Self {
            range,
            label: wire_name(label),
            value,
            depth: 0,
            secret,
        }
    }

    fn bits(range: Range<usize>, name: &str, set: &str) -> Self {
        let mut span = Self::value(range, "bits", "(none)".into(), false);
        span.add_bit(name, set);
        span
    }

    fn add_bit(&mut self, name: &str, set: &str) {
        if set != "1" {
            return;
        }
        let name = wire_name(name);
        self.value = if self.value == "(none)" {
            name
        } else {
            format!("{} {name}", self.value)
        };
    }

    pub(super) fn shifted(mut self, by: usize) -> Self {
        self.range = self.range.start + by..self.range.end + by;
        self
    }
}

/// The same reader, and the annotator's ears: what was read where.
#[derive(Debug)]
pub(crate) struct Noting<'a> {
    reader: ArgReader<'a>,
    octets: usize,
    pub(super) spans: Vec<Span>,
}

impl<'a> Noting<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self {
            reader: ArgReader::new(payload),
            octets: payload.len(),
            spans: Vec::new(),
        }
    }

    fn offset(&self) -> usize {
        self.octets - self.reader.left()
    }
}

impl FieldReader for Noting<'_> {
    fn field<T: Argument>(&mut self, name: &'static str, value: &mut T) -> Result<(), DecodeError> {
        let start = self.offset();
        value.read(&mut self.reader)?;
        let range = start..self.offset();
        match self.spans.last_mut() {
            // A later bit of an octet that is already on the page.
            Some(last) if T::IS_BIT && range.is_empty() => last.add_bit(name, &value.show()),
            _ if T::IS_BIT => self.spans.push(Span::bits(range, name, &value.show())),
            _ => {
                let span = Span::value(range, name, value.show(), T::IS_SECRET);
                self.spans.push(span);
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), DecodeError> {
        self.reader.finish()
    }
}
