//! # Method arguments: values in a row, and the story of the bits
//!
//! Arguments have no tags, no names and no padding; their order is all there is (METH-1). Only bits are special:
//!
//! ```text
//! queue.declare   short  shortstr      bit bit bit bit bit        table
//!                 00 00  09 "rpc_que…" \__ one octet: 0x02 __/    00 00 00 00
//!                                      passive=1 durable=2 exclusive=4 auto-delete=8 no-wait=16
//! ```
//!
//! The first bit of a run is the *lowest* bit of its octet, a ninth opens another octet, and any other value closes
//! the run (TYPE-3). So the reader remembers the octet it is in the middle of, and every other read forgets it.
//!
//! Read next: [`table`]. Explained in `docs/02-values.md`.

use bytes::Bytes;
use nom::Parser;

use super::{
    Parse,
    domain::{ConsumerTag, DeliveryTag, LongString, ReplyCode, Secret, ShortString},
    error::DecodeError,
    octets,
    sink::Sink,
    table::{self, FieldTable},
    take,
};

/// A type of the grammar: how it is read, written and shown.
pub trait Argument: Default {
    /// Whether the value shares its octet with its neighbours.
    const IS_BIT: bool = false;
    /// Whether the octets are credentials. SASL-12
    const IS_SECRET: bool = false;

    /// Reads the value from what is left of the payload, into the place where it stays. After an error that is as it was.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when the payload ends first (TYPE-2); field tables have more to say.
    fn read(&mut self, reader: &mut ArgReader<'_>) -> Result<(), DecodeError>;

    /// Writes the value. It cannot fail: what cannot be encoded cannot be built.
    fn write<S: Sink>(&self, writer: &mut ArgWriter<'_, S>);

    /// The value as one line of a dump.
    fn show(&self) -> String;

    /// Whether the value says nothing: empty, zero, false, reserved. A one-line summary leaves it out.
    fn is_silent(&self) -> bool {
        false
    }

    /// Whether every shortstr is UTF-8, which only a broker insists on. TYPE-9
    fn is_utf8(&self) -> bool {
        true
    }
}

/// Reads a payload field by field. [`ArgReader`] wants the values alone, [`Noting`](super::span::Noting) also where they
/// were.
pub(crate) trait FieldReader {
    /// Reads the next argument; `name` is its label in a dump.
    fn field<T: Argument>(&mut self, name: &'static str, value: &mut T) -> Result<(), DecodeError>;

    /// The payload must be used up by now. TYPE-12
    ///
    /// # Errors
    /// [`DecodeError::Trailing`]
    fn finish(&self) -> Result<(), DecodeError>;
}

/// Takes arguments off the front of a payload.
#[derive(Debug)]
pub struct ArgReader<'a> {
    rest: &'a [u8],
    bits: u8,
    bits_left: u8,
}

impl FieldReader for ArgReader<'_> {
    #[inline]
    fn field<T: Argument>(&mut self, _: &'static str, value: &mut T) -> Result<(), DecodeError> {
        value.read(self)
    }

    #[inline]
    fn finish(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(DecodeError::Trailing { count }),
        }
    }
}

impl<'a> ArgReader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self {
            rest: payload,
            bits: 0,
            bits_left: 0,
        }
    }

    /// How many octets are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Runs a parser on what is left. Any value that is not a bit ends a run of bits.
    #[inline]
    fn parse<T>(
        &mut self,
        parser: impl FnOnce(&'a [u8]) -> Parse<'a, T>,
    ) -> Result<T, DecodeError> {
        self.bits_left = 0;
        let (rest, value) = parser(self.rest)?;
        self.rest = rest;
        Ok(value)
    }

    #[inline]
    fn bit(&mut self) -> Result<bool, DecodeError> {
        if self.bits_left == 0 {
            [self.bits] = self.parse(octets)?;
            self.bits_left = 8;
        }
        let set = self.bits & 1 == 1;
        self.bits >>= 1;
        self.bits_left -= 1;
        Ok(set)
    }
}

/// Puts arguments behind each other into a [`Sink`]: a buffer or, to know a size beforehand, a mere count.
#[derive(Debug)]
pub struct ArgWriter<'a, S> {
    sink: &'a mut S,
    bits: u8,
    bits_used: u8,
}

impl<'a, S: Sink> ArgWriter<'a, S> {
    pub(crate) fn new(sink: &'a mut S) -> Self {
        Self {
            sink,
            bits: 0,
            bits_used: 0,
        }
    }

    /// Writes octets; a run of bits before them ends.
    #[inline]
    pub fn put(&mut self, octets: &[u8]) {
        self.finish();
        self.sink.put(octets);
    }

    #[inline]
    fn bit(&mut self, set: bool) {
        if self.bits_used == 8 {
            self.finish();
        }
        self.bits |= u8::from(set) << self.bits_used;
        self.bits_used += 1;
    }

    /// Writes a long that says how many octets `inside` writes after it.
    pub(crate) fn length_before(&mut self, inside: impl FnOnce(&mut Self)) {
        self.put(&[0; 4]);
        let start = self.sink.position();
        inside(self);
        self.finish();
        let length = table::length_of(self.sink.position() - start);
        self.sink.fill_in(start - 4, length.to_be_bytes());
    }

    /// Writes the octet of an open run of bits, its unused bits 0. TYPE-4, TYPE-5
    #[inline]
    pub fn finish(&mut self) {
        if self.bits_used > 0 {
            self.sink.put(&[self.bits]);
            (self.bits, self.bits_used) = (0, 0);
        }
    }
}

/// A field that means nothing any more: written as zero, and whatever comes is ignored. TYPE-13
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reserved<T>(std::marker::PhantomData<T>);

impl<T: Argument> Argument for Reserved<T> {
    const IS_BIT: bool = T::IS_BIT;
    fn read(&mut self, reader: &mut ArgReader<'_>) -> Result<(), DecodeError> {
        T::default().read(reader)
    }
    fn write<S: Sink>(&self, writer: &mut ArgWriter<'_, S>) {
        T::default().write(writer);
    }
    fn show(&self) -> String {
        if T::IS_BIT {
            false.show()
        } else {
            "(ignored)".into()
        }
    }
    fn is_silent(&self) -> bool {
        true
    }
}

impl Argument for bool {
    const IS_BIT: bool = true;
    #[inline]
    fn read(&mut self, reader: &mut ArgReader<'_>) -> Result<(), DecodeError> {
        *self = reader.bit()?;
        Ok(())
    }
    #[inline]
    fn write<S: Sink>(&self, writer: &mut ArgWriter<'_, S>) {
        writer.bit(*self);
    }
    fn show(&self) -> String {
        if *self { "1".into() } else { "0".into() }
    }
    fn is_silent(&self) -> bool {
        !self
    }
}

/// Numbers are big-endian. TYPE-1
macro_rules! integers {
    ($($int:ty)*) => {$(
        impl Argument for $int {
            #[inline]
            fn read(&mut self, reader: &mut ArgReader<'_>) -> Result<(), DecodeError> {
                *self = reader.parse(|i| octets.map(<$int>::from_be_bytes).parse(i))?;
                Ok(())
            }
            #[inline]
            fn write<S: Sink>(&self, writer: &mut ArgWriter<'_, S>) {
                writer.put(&self.to_be_bytes());
            }
            fn show(&self) -> String {
                self.to_string()
            }
            fn is_silent(&self) -> bool {
                *self == 0
            }
        }
    )*};
}

integers! { u8 u16 u32 u64 }

/// shortstr = octet *octet
impl Argument for ShortString {
    #[inline]
    fn read(&mut self, reader: &mut ArgReader<'_>) -> Result<(), DecodeError> {
        reader.parse(|i| {
            let (i, [len]) = octets(i)?;
            let (i, text) = take(len)(i)?;
            self.fill(len, text);
            Ok((i, ()))
        })
    }
    #[inline]
    fn write<S: Sink>(&self, writer: &mut ArgWriter<'_, S>) {
        writer.finish();
        self.encode(writer.sink);
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
    fn is_silent(&self) -> bool {
        self.is_empty()
    }
    fn is_utf8(&self) -> bool {
        self.as_str().is_ok()
    }
}

fn read_longstr(reader: &mut ArgReader<'_>) -> Result<Bytes, DecodeError> {
    reader.parse(|i| {
        let (i, length) = octets.map(u32::from_be_bytes).parse(i)?;
        take(length).map(Bytes::copy_from_slice).parse(i)
    })
}

fn write_longstr<S: Sink>(octets: &Bytes, writer: &mut ArgWriter<'_, S>) {
    writer.put(&table::length_of(octets.len()).to_be_bytes());
    writer.put(octets);
}

/// longstr = long *octet
impl Argument for LongString {
    fn read(&mut self, reader: &mut ArgReader<'_>) -> Result<(), DecodeError> {
        self.0 = read_longstr(reader)?;
        Ok(())
    }
    fn write<S: Sink>(&self, writer: &mut ArgWriter<'_, S>) {
        write_longstr(&self.0, writer);
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
    fn is_silent(&self) -> bool {
        self.0.is_empty()
    }
}

impl Argument for Secret {
    const IS_SECRET: bool = true;
    fn read(&mut self, reader: &mut ArgReader<'_>) -> Result<(), DecodeError> {
        self.0 = read_longstr(reader)?;
        Ok(())
    }
    fn write<S: Sink>(&self, writer: &mut ArgWriter<'_, S>) {
        write_longstr(&self.0, writer);
    }
    /// In clear: whoever prints it has asked for it, see [`Redact`](super::annotate::Redact).
    fn show(&self) -> String {
        format!("\"{}\"", self.0.escape_ascii())
    }
}

/// table = long *(shortstr octet value)
impl Argument for FieldTable {
    fn read(&mut self, reader: &mut ArgReader<'_>) -> Result<(), DecodeError> {
        *self = reader.parse(|i| table::field_table(i, 1))?;
        Ok(())
    }
    fn write<S: Sink>(&self, writer: &mut ArgWriter<'_, S>) {
        self.encode(writer);
    }
    fn show(&self) -> String {
        self.to_string()
    }
    fn is_silent(&self) -> bool {
        self.is_empty()
    }
}

macro_rules! newtypes {
    ($($Type:ident($inner:ty), $silent:expr;)*) => {$(
        impl Argument for $Type {
            #[inline]
            fn read(&mut self, reader: &mut ArgReader<'_>) -> Result<(), DecodeError> {
                self.0.read(reader)
            }
            #[inline]
            fn write<S: Sink>(&self, writer: &mut ArgWriter<'_, S>) {
                self.0.write(writer);
            }
            fn show(&self) -> String {
                self.0.show()
            }
            fn is_silent(&self) -> bool {
                $silent && self.0.is_silent()
            }
            fn is_utf8(&self) -> bool {
                self.0.is_utf8()
            }
        }
    )*};
}

// The last column: whether zero or "" goes without saying. A delivery tag of 0 means "all so far".
newtypes! {
    ConsumerTag(ShortString), true;
    DeliveryTag(u64),         false;
    ReplyCode(u16),           false;
}

#[cfg(any(test, feature = "proptest"))]
mod arbitrary {
    use proptest::prelude::*;

    impl<T: std::fmt::Debug + Clone + Default> Arbitrary for super::Reserved<T> {
        type Parameters = ();
        type Strategy = Just<Self>;
        fn arbitrary_with((): ()) -> Self::Strategy {
            Just(Self::default())
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn written(write: impl FnOnce(&mut ArgWriter<'_, BytesMut>)) -> BytesMut {
        let mut sink = BytesMut::new();
        let mut writer = ArgWriter::new(&mut sink);
        write(&mut writer);
        writer.finish();
        sink
    }

    #[test]
    fn the_first_bit_is_the_lowest_and_a_ninth_opens_an_octet() {
        // TYPE-3, TYPE-5
        let nine = [true, false, true, false, false, false, false, false, true];
        let octets = written(|w| nine.iter().for_each(|bit| bit.write(w)));
        assert_eq!(octets[..], [0b101, 1]);

        let mut reader = ArgReader::new(&octets);
        let read = |_| {
            let mut bit = false;
            bit.read(&mut reader).unwrap();
            bit
        };
        assert_eq!(nine.map(read), nine);
        reader.finish().unwrap();
    }

    #[test]
    fn any_other_value_ends_a_run_of_bits() {
        // TYPE-3
        let octets = written(|w| {
            true.write(w);
            7u8.write(w);
            true.write(w);
        });
        assert_eq!(octets[..], [1, 7, 1]);
    }

    #[test]
    fn unused_bits_are_ignored() {
        // TYPE-4
        let mut bit = true;
        bit.read(&mut ArgReader::new(&[0xfe])).unwrap();
        assert!(!bit);
    }
}
