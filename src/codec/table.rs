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
//! Read next: [`method`](super::method). Explained in `docs/02-values.md`.

use std::fmt;

use bytes::Bytes;
use nom::Parser;

use super::{
    Parse,
    args::{ArgWriter, Argument},
    domain::{LongString, ShortString},
    ensure,
    error::DecodeError,
    octets,
    sink::{Count, Sink},
    take,
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
#[repr(u64)] // moved in whole words, as a `Method` is
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
            Self::Array(values) => w.length_before(|w| {
                for value in values {
                    value.encode(w);
                }
            }),
            Self::Timestamp(n) => w.put(&n.to_be_bytes()),
            Self::Table(table) => table.encode(w),
            Self::Void => {}
        }
    }

    /// How many octets follow the tag.
    pub(crate) fn octets(&self) -> usize {
        let mut count = Count::default();
        self.encode(&mut ArgWriter::new(&mut count));
        count.0 - 1
    }

    /// Octets of memory beside the value itself.
    fn memory(&self) -> usize {
        match self {
            Self::LongString(LongString(octets)) | Self::ByteArray(octets) => octets.len(),
            Self::Array(values) => {
                let inside: usize = values.iter().map(Self::memory).sum();
                values.capacity() * size_of::<Self>() + inside
            }
            Self::Table(table) => table.memory(),
            _ => 0,
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

    /// Octets of memory that the entries take, with all that nests in them: up to 80 for an octet on the wire, where an
    /// array has just grown. Whoever keeps a table counts this and not its octets. SEC-17
    pub fn memory(&self) -> usize {
        let entry = |(name, value): &(ShortString, FieldValue)| name.memory() + value.memory();
        let room = self.0.capacity() * size_of::<(ShortString, FieldValue)>();
        room + self.0.iter().map(entry).sum::<usize>()
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
        w.length_before(|w| self.encode_entries(w));
    }

    /// The entries without the length before them, which is what AMQPLAIN sends. SASL-4
    pub(crate) fn encode_entries<S: Sink>(&self, w: &mut ArgWriter<'_, S>) {
        for (name, value) in &self.0 {
            name.write(w);
            value.encode(w);
        }
    }
}

/// The length field of something that already had to fit a frame, whose own size is 32 bits.
pub(crate) fn length_of(octets: usize) -> u32 {
    u32::try_from(octets).unwrap_or(u32::MAX)
}

/// table = long *(shortstr tag value)
///
/// `depth` counts the tables around `i`.
pub(crate) fn field_table(i: &[u8], depth: usize) -> Parse<'_, FieldTable> {
    ensure(
        depth <= MAX_DEPTH,
        DecodeError::NestingTooDeep { limit: MAX_DEPTH },
    )?;
    let (i, inside) = length_within(i)?;
    Ok((i, FieldTable(entries(inside, depth)?)))
}

/// The pairs of a table, up to the end of `i`.
pub(crate) fn entries(
    mut i: &[u8],
    depth: usize,
) -> Result<Vec<(ShortString, FieldValue)>, nom::Err<DecodeError>> {
    // Room for a few in the outermost table, which is seldom small. Of the others there may be many. SEC-17
    let few = if depth == 1 {
        i.len().div_ceil(12).min(8)
    } else {
        0
    };
    let mut entries = Vec::with_capacity(few);
    while !i.is_empty() {
        let (rest, [len]) = octets(i)?;
        let (rest, name) = take(len)(rest)?;
        let (rest, value) = field_value(rest, depth)?;
        entries.push((ShortString::EMPTY, value));
        if let Some((place, _)) = entries.last_mut() {
            place.fill(len, name); // where it stays, see there
        }
        i = rest;
    }
    Ok(entries)
}

/// array = long *(tag value)
fn array(i: &[u8], depth: usize) -> Parse<'_, Vec<FieldValue>> {
    ensure(
        depth <= MAX_DEPTH,
        DecodeError::NestingTooDeep { limit: MAX_DEPTH },
    )?;
    let (i, mut inside) = length_within(i)?;
    let mut values = Vec::new();
    while !inside.is_empty() {
        let (rest, value) = field_value(inside, depth)?;
        values.push(value);
        inside = rest;
    }
    Ok((i, values))
}

/// value = tag, then what the tag says
#[rustfmt::skip] // the letters are a table
fn field_value(i: &[u8], depth: usize) -> Parse<'_, FieldValue> {
    use FieldValue as V;
    let (i, [tag]) = octets(i)?;
    match tag {
        b't' => octets.map(|[octet]| V::Bool(octet != 0)).parse(i),
        b'b' => octets.map(i8::from_be_bytes).map(V::I8).parse(i),
        b'B' => octets.map(u8::from_be_bytes).map(V::U8).parse(i),
        b's' => octets.map(i16::from_be_bytes).map(V::I16).parse(i),
        b'u' => octets.map(u16::from_be_bytes).map(V::U16).parse(i),
        b'I' => octets.map(i32::from_be_bytes).map(V::I32).parse(i),
        b'i' => octets.map(u32::from_be_bytes).map(V::U32).parse(i),
        b'l' | b'L' => octets.map(i64::from_be_bytes).map(V::I64).parse(i),
        b'f' => octets.map(f32::from_be_bytes).map(V::F32).parse(i),
        b'd' => octets.map(f64::from_be_bytes).map(V::F64).parse(i),
        b'D' => (octets, octets).map(|([scale], value)| V::Decimal { scale, value: u32::from_be_bytes(value) }).parse(i),
        b'S' => length_within.map(|text| V::LongString(LongString(Bytes::copy_from_slice(text)))).parse(i),
        b'A' => array(i, depth + 1).map(|(i, values)| (i, V::Array(values))),
        b'T' => octets.map(u64::from_be_bytes).map(V::Timestamp).parse(i),
        b'F' => field_table(i, depth + 1).map(|(i, table)| (i, V::Table(table))),
        b'V' => Ok((i, V::Void)),
        b'x' => length_within.map(|bytes| V::ByteArray(Bytes::copy_from_slice(bytes))).parse(i),
        unknown => Err(nom::Err::Failure(DecodeError::FieldType(unknown))),
    }
}

/// A 32-bit length and as many octets, checked against what is there before anything is done with it. TABLE-5
fn length_within(i: &[u8]) -> Parse<'_, &[u8]> {
    let (i, length) = octets.map(u32::from_be_bytes).parse(i)?;
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
            Self::Array(values) => {
                f.write_str("[")?;
                for (at, value) in values.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{value}")?;
                }
                f.write_str("]")
            }
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn encode(table: &FieldTable) -> Bytes {
        let mut octets = BytesMut::new();
        table.encode(&mut ArgWriter::new(&mut octets));
        octets.freeze()
    }

    fn decode(octets: &Bytes) -> Result<FieldTable, DecodeError> {
        let (rest, table) = field_table(octets, 1)?;
        assert!(rest.is_empty());
        Ok(table)
    }

    /// A table whose entry `k` has these octets: the tag and what follows it.
    fn entry(value: &[u8]) -> Bytes {
        let length = length_of(2 + value.len()).to_be_bytes();
        [&length[..], b"\x01k", value].concat().into()
    }

    /// `depth` tables inside each other, or as many arrays inside one table.
    fn nested(depth: usize, wrap: impl Fn(FieldValue) -> FieldValue) -> FieldTable {
        let inner = (1..depth).fold(FieldValue::Void, |value, _| wrap(value));
        FieldTable(vec![(ShortString::EMPTY, inner)])
    }

    fn in_table(value: FieldValue) -> FieldValue {
        FieldValue::Table(FieldTable(vec![(ShortString::EMPTY, value)]))
    }

    fn in_array(value: FieldValue) -> FieldValue {
        FieldValue::Array(vec![value])
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        // TABLE-12, SEC-4: 64 is our choice; whoever sends 32 must be heard, and 150 must be refused.
        for wrap in [in_table, in_array] {
            for depth in [1, 2, 32, 64] {
                let table = nested(depth, wrap);
                assert_eq!(table.depth(), depth);
                assert_eq!(decode(&encode(&table)), Ok(table));
            }
            for depth in [65, 150, 2000] {
                let error = DecodeError::NestingTooDeep { limit: 64 };
                assert_eq!(decode(&encode(&nested(depth, wrap))), Err(error));
            }
        }
    }

    /// A value of each tag, at the ends of its range.
    fn extremes() -> Vec<FieldValue> {
        use FieldValue as V;
        let float = |bits| V::F32(f32::from_bits(bits));
        let double = |bits| V::F64(f64::from_bits(bits));
        vec![
            V::Bool(false),
            V::Bool(true),
            V::I8(i8::MIN),
            V::I8(i8::MAX),
            V::U8(u8::MAX),
            V::I16(i16::MIN),
            V::I16(i16::MAX),
            V::U16(u16::MAX),
            V::I32(i32::MIN),
            V::I32(i32::MAX),
            V::U32(u32::MAX),
            V::I64(i64::MIN),
            V::I64(i64::MAX),
            // Negative zero, infinities, a quiet NaN, a signalling one with a payload.
            float(0x8000_0000),
            float(0x7f80_0000),
            float(0xff80_0000),
            float(0x7fc0_0000),
            float(0x7f80_beef),
            double(1 << 63),
            double(0x7ff0_0000_0000_0000),
            double(0xfff0_0000_0000_0000),
            double(0x7ff8_0000_0000_0000),
            double(0x7ff0_dead_beef_0001),
            V::Decimal {
                scale: u8::MAX,
                value: u32::MAX,
            },
            V::LongString(LongString::default()),
            V::LongString(vec![0xff; 300].into()),
            V::Array(vec![]),
            V::Timestamp(0),
            V::Timestamp(u64::MAX),
            V::Table(FieldTable::EMPTY),
            V::Void,
            V::ByteArray(Bytes::new()),
            V::ByteArray(Bytes::from_static(&[0])),
        ]
    }

    #[test]
    fn every_tag_survives_at_every_depth() {
        // TABLE-2, TABLE-10, TABLE-11, TABLE-12, TABLE-13: alone, inside tables, inside arrays, and in turns of both.
        let tags: std::collections::BTreeSet<u8> = extremes().iter().map(FieldValue::tag).collect();
        assert_eq!(tags.len(), 17);
        for value in extremes() {
            let own = usize::from(matches!(value.tag(), b'A' | b'F'));
            for wrap in [in_table, in_array, |value| in_table(in_array(value))] {
                let mut wrapped = value.clone();
                loop {
                    let table = FieldTable(vec![(ShortString::EMPTY, wrapped.clone())]);
                    if table.depth() > MAX_DEPTH {
                        break;
                    }
                    assert_eq!(decode(&encode(&table)), Ok(table));
                    wrapped = wrap(wrapped);
                }
            }
            let at_the_limit = (1..MAX_DEPTH - own).fold(value, |value, _| in_array(value));
            let table = FieldTable(vec![(ShortString::EMPTY, at_the_limit)]);
            assert_eq!(table.depth(), MAX_DEPTH);
            assert_eq!(decode(&encode(&table)), Ok(table));
        }
    }

    #[test]
    fn values_are_equal_by_tag_and_by_octets() {
        // TABLE-11, TABLE-15: an I32 of 0 is no I64 of 0, -0.0 is not 0.0, and NaN is what it is.
        let mut all = extremes();
        all.extend([FieldValue::I8(0), FieldValue::I32(0), FieldValue::I64(0)]);
        all.extend([FieldValue::F32(0.0), FieldValue::F64(0.0)]);
        all.push(FieldValue::Decimal {
            scale: 0,
            value: u32::MAX,
        });
        for (at, one) in all.iter().enumerate() {
            for (other_at, other) in all.iter().enumerate() {
                assert_eq!(one == other, at == other_at, "{one:?}, {other:?}");
            }
        }
    }

    #[test]
    fn an_integer_is_a_number_whatever_its_width() {
        // TABLE-15
        use FieldValue as V;
        let seven = [
            V::I8(7),
            V::U8(7),
            V::I16(7),
            V::U16(7),
            V::I32(7),
            V::U32(7),
            V::I64(7),
        ];
        for value in seven {
            assert_eq!(
                (value.as_integer(), value.to_string().as_str()),
                (Some(7), "7")
            );
        }
        assert_eq!(V::I64(i64::MIN).as_integer(), Some(i64::MIN.into()));
        assert_eq!(V::Timestamp(7).as_integer(), None);
        assert_eq!(V::from("7").as_integer(), None);
        assert_eq!(V::from("7").as_long_string(), Some(&b"7"[..]));
        assert_eq!(V::I8(7).as_long_string(), None);
    }

    #[test]
    fn a_table_is_printed_in_one_line() {
        // SEC-14: what a peer wrote is escaped.
        use FieldValue as V;
        let values = vec![V::Bool(true), V::F32(0.5), V::F64(-1.5), V::Timestamp(7)];
        let octets = V::ByteArray(Bytes::from_static(b"\x1b"));
        let mut inner = FieldTable::EMPTY;
        inner.insert(ShortString::literal("price"), "1\u{1b}");
        inner.0.push((ShortString::literal("x"), octets));
        let mut table = FieldTable::EMPTY;
        table
            .0
            .push((ShortString::literal("list"), V::Array(values)));
        table.0.push((
            ShortString::literal("d"),
            V::Decimal {
                scale: 2,
                value: 199,
            },
        ));
        table.insert(ShortString::literal("inner"), inner);
        let expected =
            r#"{list: [true, 0.5, -1.5, 7 s], d: 199e-2, inner: {price: "1\u{1b}", x: x"\x1b"}}"#;
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn what_was_read_pins_no_buffer() {
        // At any depth: a table that is kept would keep a read buffer of 64 KiB for each of its strings.
        let text = LongString(Bytes::from_static(b"octets"));
        for value in [FieldValue::ByteArray(text.0.clone()), text.into()] {
            let table = FieldTable(vec![(ShortString::EMPTY, in_array(in_table(value)))]);
            let octets = encode(&table);
            let read = decode(&octets).unwrap();
            assert_eq!(read, table);
            let FieldValue::Array(values) = &read.0[0].1 else {
                panic!("{read}")
            };
            let FieldValue::Table(inner) = &values[0] else {
                panic!("{read}")
            };
            let (FieldValue::LongString(LongString(kept)) | FieldValue::ByteArray(kept)) =
                &inner.0[0].1
            else {
                panic!("{inner}")
            };
            assert!(!octets.as_ptr_range().contains(&kept.as_ptr()));
        }
    }

    #[test]
    fn memory_is_counted_with_all_that_nests() {
        // SEC-17: room for entries that are not there counts too.
        const ENTRY: usize = size_of::<(ShortString, FieldValue)>();
        const VALUE: usize = size_of::<FieldValue>();
        let entry = |name: usize, value| (ShortString::try_from("x".repeat(name)).unwrap(), value);
        let text = || FieldValue::LongString(LongString::from(vec![b'x'; 7]));
        let octets = FieldValue::ByteArray(Bytes::from_static(&[0; 5]));
        assert_eq!(FieldTable::EMPTY.memory(), 0);
        assert_eq!(FieldTable(Vec::with_capacity(3)).memory(), 3 * ENTRY);
        assert_eq!(
            FieldTable(vec![entry(38, FieldValue::U8(1))]).memory(),
            ENTRY
        );
        assert_eq!(FieldTable(vec![entry(39, text())]).memory(), ENTRY + 39 + 7);
        let array = FieldValue::Array(vec![text(), octets]);
        let inner = FieldTable(vec![entry(40, array)]);
        let table = FieldTable(vec![entry(0, FieldValue::Table(inner))]);
        assert_eq!(table.memory(), ENTRY + ENTRY + 40 + 2 * VALUE + 7 + 5);
    }

    #[test]
    fn encoding_passes_every_table_once() {
        // SEC-11: to measure before writing, at each depth, took 2^depth steps. This one would not end.
        let wide_and_deep = |value| in_table(in_array(value));
        let table = nested(MAX_DEPTH / 2, wide_and_deep);
        let octets = encode(&table);
        assert_eq!(table.0[0].1.octets(), octets.len() - 4 - 2);
        assert_eq!(decode(&octets), Ok(table));
    }

    #[test]
    fn printing_does_not_escape_what_is_escaped() {
        // SEC-14: an array printed as the text of its elements doubled every quote at every depth.
        let table = nested(MAX_DEPTH, in_array);
        let brackets = MAX_DEPTH - 1;
        let expected = format!("{{: {}void{}}}", "[".repeat(brackets), "]".repeat(brackets));
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn tables_beside_each_other_are_not_nested() {
        // TABLE-12: the limit is on the depth, not on the number.
        let wide = FieldTable(vec![
            (
                ShortString::EMPTY,
                in_array(in_table(FieldValue::Void))
            );
            1000
        ]);
        assert_eq!(wide.depth(), 3);
        assert_eq!(decode(&encode(&wide)), Ok(wide));
    }

    #[test]
    fn the_smallest_entries_cost_a_moderate_amount_of_memory() {
        // SEC-17: 128 KiB hold as many entries as this, so an entry must be small: a MiB may cost some tens of MiB.
        const OCTETS: usize = 128 * 1024;
        let entry_size = size_of::<(ShortString, FieldValue)>();
        assert!(
            entry_size / 2 <= 40 && size_of::<FieldValue>() <= 40,
            "{entry_size}"
        );

        let entries = FieldTable(vec![(ShortString::EMPTY, FieldValue::Void); OCTETS / 2]);
        let octets = encode(&entries);
        assert_eq!(octets.len(), 4 + OCTETS);
        let decoded = decode(&octets).unwrap();
        assert_eq!(decoded.0.len(), OCTETS / 2);
        assert!(
            decoded.0.capacity() <= OCTETS,
            "room for at most twice as many"
        );

        let octets = entry(&[b"A\x00\x02\x00\x00", vec![b'V'; OCTETS].as_slice()].concat());
        let Some(FieldValue::Array(elements)) = decode(&octets).unwrap().get("k").cloned() else {
            panic!("an array was encoded")
        };
        assert_eq!(elements, vec![FieldValue::Void; OCTETS]);
    }

    #[test]
    fn a_length_reserves_nothing() {
        // SEC-1, TABLE-5: four octets announce 4 GiB, in every place where a length may stand.
        let overrun = |left| {
            Err(DecodeError::LengthOverrun {
                length: u32::MAX,
                left,
            })
        };
        assert_eq!(decode(&Bytes::from_static(&[0xff; 4])), overrun(0));
        for tag in *b"SAFx" {
            assert_eq!(
                decode(&entry(&[tag, 0xff, 0xff, 0xff, 0xff, 0])),
                overrun(1)
            );
        }
    }

    #[test]
    fn the_letters_differ_from_the_published_text() {
        // TABLE-2, TABLE-3, TABLE-4: s is no short string, l has a sign, L is read and written as l, U is unknown.
        let read = |value: &[u8]| decode(&entry(value)).map(|table| table.0[0].1.clone());
        assert_eq!(read(b"s\xff\xfe"), Ok(FieldValue::I16(-2)));
        assert_eq!(
            read(b"l\xff\xff\xff\xff\xff\xff\xff\xff"),
            Ok(FieldValue::I64(-1))
        );
        assert_eq!(read(b"U\x00\x00"), Err(DecodeError::FieldType(b'U')));

        let published = entry(b"L\x80\x00\x00\x00\x00\x00\x00\x00");
        assert_eq!(encode(&decode(&published).unwrap())[6..8], *b"l\x80");
    }

    #[test]
    fn a_timestamp_has_no_sign() {
        for seconds in [0, i64::MAX.unsigned_abs() + 1, u64::MAX] {
            let octets = entry(&[b"T", &seconds.to_be_bytes()[..]].concat());
            let table = decode(&octets).unwrap();
            assert_eq!(table.get("k"), Some(&FieldValue::Timestamp(seconds)));
            assert_eq!(encode(&table), octets);
        }
    }

    #[test]
    fn floats_keep_their_bits() {
        // TABLE-11: negative zero, a NaN with a payload, infinity.
        for bits in [1 << 63, 0x7ff0_dead_beef_0001, 0x7ff0_0000_0000_0000_u64] {
            let octets = entry(&[b"d", &bits.to_be_bytes()[..]].concat());
            assert_eq!(encode(&decode(&octets).unwrap()), octets);
        }
        for bits in [1 << 31, 0x7f80_beef, 0x7f80_0000_u32] {
            let octets = entry(&[b"f", &bits.to_be_bytes()[..]].concat());
            assert_eq!(encode(&decode(&octets).unwrap()), octets);
        }
    }

    #[test]
    fn any_octet_but_zero_is_true_and_is_written_as_one() {
        // TABLE-9
        let table = decode(&entry(b"t\x02")).unwrap();
        assert_eq!(table.get("k"), Some(&FieldValue::Bool(true)));
        assert_eq!(encode(&table), entry(b"t\x01"));
    }

    #[test]
    fn order_and_duplicates_are_kept_and_the_first_is_found() {
        // TABLE-6, TABLE-7
        let octets = Bytes::from_static(b"\x00\x00\x00\x0c\x01bB\x01\x01aB\x02\x01bB\x03");
        let table = decode(&octets).unwrap();
        assert_eq!(table.get("b"), Some(&FieldValue::U8(1)));
        assert_eq!(table.0.len(), 3);
        assert_eq!(encode(&table), octets);
    }
}
