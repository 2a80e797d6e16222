//! # Field tables: the one place where values say their own type
//!
//! ```text
//! table = long *(shortstr tag value)     the length counts octets, not entries (TABLE-1)
//! array = long *(tag value)
//!
//! 00 00 00 07   01 6b   49    ff ff ff ff
//! 7 octets      "k"     'I'   -1
//! ```
//!
//! The letters are RabbitMQ's, which differ from the published text in four places (TABLE-2): `s` is a 16-bit
//! integer and never a short string, `l` is signed, `U` does not exist, and `x` is an addition. A table may hold
//! tables, so the depth has a limit (TABLE-12), and a letter that nobody knows cannot be skipped: its size is
//! unknown (TABLE-4).
//!
//! Read next: [`method`](super::method).

use std::fmt;

use bytes::Bytes;
use nom::{
    Parser,
    bytes::complete::take,
    multi::length_data,
    number::complete::{
        be_f32, be_f64, be_i8, be_i16, be_i32, be_i64, be_u8, be_u16, be_u32, be_u64,
    },
};

use super::{
    Parse,
    args::{ArgWriter, Count, Sink},
    domain::{LongString, ShortString},
    ensure,
    error::DecodeError,
};

/// How deep tables and arrays may nest; the outermost table is 1. SEC-4
pub const MAX_DEPTH: usize = 64;

/// Named values, in the order they came. TABLE-6
///
/// Duplicate names are kept, and [`get`](Self::get) finds the first (TABLE-7); do not send them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FieldTable(pub Vec<(ShortString, FieldValue)>);

/// A value with its tag.
#[derive(Debug, Clone)]
pub enum FieldValue {
    /// `t`: any octet but 0 is true; true is written as 1. TABLE-9
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`, the published text's short string, which nobody sends.
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`; the published text's `L` is read as the same and never written. TABLE-3
    I64(i64),
    /// `f`, kept by its bits. TABLE-11
    F32(f32),
    /// `d`, kept by its bits. TABLE-11
    F64(f64),
    /// `D`: `value` / 10^`scale`. TABLE-10
    Decimal {
        /// The digits after the point.
        scale: u8,
        /// The number without its point.
        value: u32,
    },
    /// `S`
    LongString(LongString),
    /// `A`: values without names. TABLE-14
    Array(Vec<FieldValue>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`
    Table(FieldTable),
    /// `V`: nothing, not even an octet.
    Void,
    /// `x`: octets that are no text.
    ByteArray(Bytes),
}

/// One arm per letter: the decoder, the encoder and the documentation all come from this shape.
impl FieldValue {
    /// The letter that stands before the value.
    pub const fn tag(&self) -> u8 {
        match self {
            Self::Bool(_) => b't',
            Self::I8(_) => b'b',
            Self::U8(_) => b'B',
            Self::I16(_) => b's',
            Self::U16(_) => b'u',
            Self::I32(_) => b'I',
            Self::U32(_) => b'i',
            Self::I64(_) => b'l',
            Self::F32(_) => b'f',
            Self::F64(_) => b'd',
            Self::Decimal { .. } => b'D',
            Self::LongString(_) => b'S',
            Self::Array(_) => b'A',
            Self::Timestamp(_) => b'T',
            Self::Table(_) => b'F',
            Self::Void => b'V',
            Self::ByteArray(_) => b'x',
        }
    }

    /// The value as an integer, whatever its width: RabbitMQ compares by value, not by tag. TABLE-15
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::I8(n) => n.into(),
            Self::U8(n) => n.into(),
            Self::I16(n) => n.into(),
            Self::U16(n) => n.into(),
            Self::I32(n) => n.into(),
            Self::U32(n) => n.into(),
            Self::I64(n) => n.into(),
            _ => return None,
        })
    }

    /// The octets of a long string.
    pub fn as_long_string(&self) -> Option<&[u8]> {
        match self {
            Self::LongString(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    fn encode<S: Sink>(&self, w: &mut ArgWriter<'_, S>) {
        w.put(&[self.tag()]);
        match self {
            Self::Bool(b) => w.put(&[u8::from(*b)]),
            Self::I8(n) => w.put(&n.to_be_bytes()),
            Self::U8(n) => w.put(&[*n]),
            Self::I16(n) => w.put(&n.to_be_bytes()),
            Self::U16(n) => w.put(&n.to_be_bytes()),
            Self::I32(n) => w.put(&n.to_be_bytes()),
            Self::U32(n) => w.put(&n.to_be_bytes()),
            Self::I64(n) => w.put(&n.to_be_bytes()),
            Self::F32(n) => w.put(&n.to_bits().to_be_bytes()),
            Self::F64(n) => w.put(&n.to_bits().to_be_bytes()),
            Self::Decimal { scale, value } => {
                w.put(&[*scale]);
                w.put(&value.to_be_bytes());
            }
            Self::LongString(LongString(octets)) | Self::ByteArray(octets) => {
                w.put(&length_of(octets.len()).to_be_bytes());
                w.put(octets);
            }
            Self::Array(values) => {
                w.put(&measure(|w| Self::encode_all(values, w)).to_be_bytes());
                Self::encode_all(values, w);
            }
            Self::Timestamp(n) => w.put(&n.to_be_bytes()),
            Self::Table(table) => table.encode(w),
            Self::Void => {}
        }
    }

    fn encode_all<S: Sink>(values: &[Self], w: &mut ArgWriter<'_, S>) {
        for value in values {
            value.encode(w);
        }
    }

    /// How many octets follow the tag.
    pub(crate) fn octets(&self) -> usize {
        let mut count = Count::default();
        self.encode(&mut ArgWriter::new(&mut count));
        count.0 - 1
    }

    fn into_owned(self) -> Self {
        match self {
            Self::LongString(text) => Self::LongString(text.into_owned()),
            Self::ByteArray(octets) => Self::ByteArray(Bytes::copy_from_slice(&octets)),
            Self::Array(values) => Self::Array(values.into_iter().map(Self::into_owned).collect()),
            Self::Table(table) => Self::Table(table.into_owned()),
            plain => plain,
        }
    }
}

impl FieldTable {
    /// A table without entries, which is not the same as no table. TABLE-13
    pub const EMPTY: Self = Self(Vec::new());

    /// The first value under this name.
    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        self.0
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// Appends an entry.
    pub fn insert(&mut self, name: ShortString, value: impl Into<FieldValue>) {
        self.0.push((name, value.into()));
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A copy that shares no octet with the buffer it was read from.
    #[must_use]
    pub fn into_owned(self) -> Self {
        Self(
            self.0
                .into_iter()
                .map(|(name, value)| (name, value.into_owned()))
                .collect(),
        )
    }

    /// How deep tables and arrays nest here; a flat table is 1.
    pub fn depth(&self) -> usize {
        fn below<'a>(values: impl Iterator<Item = &'a FieldValue>) -> usize {
            let depth = |value: &FieldValue| match value {
                FieldValue::Table(table) => table.depth(),
                FieldValue::Array(values) => 1 + below(values.iter()),
                _ => 0,
            };
            values.map(depth).max().unwrap_or(0)
        }
        1 + below(self.0.iter().map(|(_, value)| value))
    }

    pub(crate) fn encode<S: Sink>(&self, w: &mut ArgWriter<'_, S>) {
        w.put(&measure(|w| self.encode_entries(w)).to_be_bytes());
        self.encode_entries(w);
    }

    /// The entries without the length before them, which is what AMQPLAIN sends. SASL-4
    pub(crate) fn encode_entries<S: Sink>(&self, w: &mut ArgWriter<'_, S>) {
        for (name, value) in &self.0 {
            w.put(&[name.len()]);
            w.put(name.as_bytes());
            value.encode(w);
        }
    }
}

/// Runs an encoder on a counter: a length stands before what it measures.
fn measure(encode: impl FnOnce(&mut ArgWriter<'_, Count>)) -> u32 {
    let mut count = Count::default();
    encode(&mut ArgWriter::new(&mut count));
    length_of(count.0)
}

/// The length field of something that already had to fit a frame, whose own size is 32 bits.
pub(crate) fn length_of(octets: usize) -> u32 {
    u32::try_from(octets).unwrap_or(u32::MAX)
}

/// table = long *(shortstr tag value)
pub(crate) fn field_table<'a>(i: &'a [u8], source: &Bytes, depth: usize) -> Parse<'a, FieldTable> {
    ensure(
        depth <= MAX_DEPTH,
        DecodeError::NestingTooDeep { limit: MAX_DEPTH },
    )?;
    let (i, inside) = length_within(i)?;
    Ok((i, FieldTable(entries(inside, source, depth)?)))
}

/// The pairs of a table, up to the end of `i`.
pub(crate) fn entries(
    mut i: &[u8],
    source: &Bytes,
    depth: usize,
) -> Result<Vec<(ShortString, FieldValue)>, nom::Err<DecodeError>> {
    let mut entries = Vec::new();
    while !i.is_empty() {
        let (rest, name) = length_data(be_u8).parse(i)?;
        let name =
            ShortString::try_from(name).map_err(|_| nom::Err::Failure(DecodeError::Truncated))?;
        let (rest, value) = field_value(rest, source, depth)?;
        entries.push((name, value));
        i = rest;
    }
    Ok(entries)
}

/// array = long *(tag value)
fn array<'a>(i: &'a [u8], source: &Bytes, depth: usize) -> Parse<'a, Vec<FieldValue>> {
    ensure(
        depth <= MAX_DEPTH,
        DecodeError::NestingTooDeep { limit: MAX_DEPTH },
    )?;
    let (i, mut inside) = length_within(i)?;
    let mut values = Vec::new();
    while !inside.is_empty() {
        let (rest, value) = field_value(inside, source, depth)?;
        values.push(value);
        inside = rest;
    }
    Ok((i, values))
}

/// value = tag, then what the tag says
#[rustfmt::skip] // the letters are a table
fn field_value<'a>(i: &'a [u8], source: &Bytes, depth: usize) -> Parse<'a, FieldValue> {
    use FieldValue as V;
    let (i, tag) = be_u8(i)?;
    match tag {
        b't' => be_u8.map(|octet| V::Bool(octet != 0)).parse(i),
        b'b' => be_i8.map(V::I8).parse(i),
        b'B' => be_u8.map(V::U8).parse(i),
        b's' => be_i16.map(V::I16).parse(i),
        b'u' => be_u16.map(V::U16).parse(i),
        b'I' => be_i32.map(V::I32).parse(i),
        b'i' => be_u32.map(V::U32).parse(i),
        b'l' | b'L' => be_i64.map(V::I64).parse(i),
        b'f' => be_f32.map(V::F32).parse(i),
        b'd' => be_f64.map(V::F64).parse(i),
        b'D' => (be_u8, be_u32).map(|(scale, value)| V::Decimal { scale, value }).parse(i),
        b'S' => length_within.map(|octets| V::LongString(LongString(source.slice_ref(octets)))).parse(i),
        b'A' => array(i, source, depth + 1).map(|(i, values)| (i, V::Array(values))),
        b'T' => be_u64.map(V::Timestamp).parse(i),
        b'F' => field_table(i, source, depth + 1).map(|(i, table)| (i, V::Table(table))),
        b'V' => Ok((i, V::Void)),
        b'x' => length_within.map(|octets| V::ByteArray(source.slice_ref(octets))).parse(i),
        unknown => Err(nom::Err::Failure(DecodeError::FieldType(unknown))),
    }
}

/// A 32-bit length and as many octets, checked against what is there before anything is done with it. TABLE-5
fn length_within(i: &[u8]) -> Parse<'_, &[u8]> {
    let (i, length) = be_u32(i)?;
    let fits = usize::try_from(length).is_ok_and(|length| length <= i.len());
    ensure(
        fits,
        DecodeError::LengthOverrun {
            length,
            left: i.len(),
        },
    )?;
    take(length)(i)
}

/// By value and by tag; floats by their bits, so that NaN equals itself.
impl PartialEq for FieldValue {
    fn eq(&self, other: &Self) -> bool {
        use FieldValue::*;
        match (self, other) {
            (Bool(a), Bool(b)) => a == b,
            (I8(a), I8(b)) => a == b,
            (U8(a), U8(b)) => a == b,
            (I16(a), I16(b)) => a == b,
            (U16(a), U16(b)) => a == b,
            (I32(a), I32(b)) => a == b,
            (U32(a), U32(b)) => a == b,
            (I64(a), I64(b)) => a == b,
            (F32(a), F32(b)) => a.to_bits() == b.to_bits(),
            (F64(a), F64(b)) => a.to_bits() == b.to_bits(),
            (Decimal { scale: a, value: x }, Decimal { scale: b, value: y }) => (a, x) == (b, y),
            (LongString(a), LongString(b)) => a == b,
            (Array(a), Array(b)) => a == b,
            (Timestamp(a), Timestamp(b)) => a == b,
            (Table(a), Table(b)) => a == b,
            (Void, Void) => true,
            (ByteArray(a), ByteArray(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for FieldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name}: {value}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => b.fmt(f),
            Self::F32(n) => n.fmt(f),
            Self::F64(n) => n.fmt(f),
            Self::Decimal { scale, value } => write!(f, "{value}e-{scale}"),
            Self::LongString(text) => write!(f, "\"{text}\""),
            Self::Array(values) => f
                .debug_list()
                .entries(values.iter().map(|v| format_args!("{v}").to_string()))
                .finish(),
            Self::Timestamp(seconds) => write!(f, "{seconds} s"),
            Self::Table(table) => table.fmt(f),
            Self::Void => f.write_str("void"),
            Self::ByteArray(octets) => write!(f, "x\"{}\"", octets.escape_ascii()),
            integer => write!(f, "{}", integer.as_integer().unwrap_or_default()),
        }
    }
}

macro_rules! from {
    ($($source:ty => $Variant:ident)*) => {$(
        impl From<$source> for FieldValue {
            fn from(value: $source) -> Self {
                Self::$Variant(value.into())
            }
        }
    )*};
}

from! {
    bool => Bool  i32 => I32  u32 => U32  i64 => I64  f64 => F64
    &'static str => LongString  String => LongString  LongString => LongString  FieldTable => Table
}

#[cfg(any(test, feature = "proptest"))]
mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    impl Arbitrary for FieldTable {
        type Parameters = ();
        type Strategy = BoxedStrategy<Self>;
        fn arbitrary_with((): ()) -> Self::Strategy {
            table_of(any::<FieldValue>()).boxed()
        }
    }

    fn table_of(value: impl Strategy<Value = FieldValue>) -> impl Strategy<Value = FieldTable> {
        prop::collection::vec((any::<ShortString>(), value), 0..6).prop_map(FieldTable)
    }

    impl Arbitrary for FieldValue {
        type Parameters = ();
        type Strategy = BoxedStrategy<Self>;
        fn arbitrary_with((): ()) -> Self::Strategy {
            use FieldValue as V;
            let octets = || any::<LongString>().prop_map(|text| text.0);
            let flat = prop_oneof![
                any::<bool>().prop_map(V::Bool),
                any::<i8>().prop_map(V::I8),
                any::<u8>().prop_map(V::U8),
                any::<i16>().prop_map(V::I16),
                any::<u16>().prop_map(V::U16),
                any::<i32>().prop_map(V::I32),
                any::<u32>().prop_map(V::U32),
                prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)].prop_map(V::I64),
                any::<u32>().prop_map(|bits| V::F32(f32::from_bits(bits))),
                any::<u64>().prop_map(|bits| V::F64(f64::from_bits(bits))),
                (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| V::Decimal { scale, value }),
                any::<LongString>().prop_map(V::LongString),
                prop_oneof![any::<u64>(), Just(u64::MAX)].prop_map(V::Timestamp),
                Just(V::Void),
                octets().prop_map(V::ByteArray),
            ];
            flat.prop_recursive(4, 24, 5, |inner| {
                prop_oneof![
                    prop::collection::vec(inner.clone(), 0..5).prop_map(V::Array),
                    table_of(inner).prop_map(V::Table),
                ]
            })
            .boxed()
        }
    }
}
