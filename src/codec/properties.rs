//! # The content header: a size and fourteen properties
//!
//! ```text
//! payload = class-id weight body-size flags *property
//!           00 3c    00 00  u64       u16   only those whose flag is set, in the order of the flags
//! ```
//!
//! Method bits run from the low bit up; these flags run from the *high* bit down (PROP-1). A clear flag means that
//! the property is absent, which is not the same as present and empty (PROP-3), so every field is an `Option`.
//!
//! Read next: [`span`](super::span). Explained in `docs/06-content.md`.

use bytes::BytesMut;

use super::{
    args::{ArgReader, ArgWriter, Argument, FieldReader},
    domain::ShortString,
    ensure,
    error::DecodeError,
    sink::{Count, Sink},
    table::FieldTable,
};

/// The class every content belongs to: basic.
pub const BASIC_CLASS: u16 = 60;

/// What stands between a carrying method and the body.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContentHeader {
    /// The class of the method before it: 60. PROP-8
    pub class_id: u16,
    /// The octets of all body frames together: a claim, not an allocation. PROP-10
    pub body_size: u64,
    /// The properties, in a box: fourteen options take half a kibibyte, and a message is moved often.
    pub properties: Box<Properties>,
}

macro_rules! properties {
    ($($bit:literal $name:literal $field:ident: $ty:ty,)*) => {
        /// The fourteen properties of a message. All are optional, and all reach the consumer unchanged. PROP-11
        ///
        /// `type` is [`kind`](Self::kind) here, the word being taken. `delivery_mode` 2 is persistent, `timestamp`
        /// counts seconds since 1970, `expiration` is a decimal number of milliseconds, as text.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct Properties { $(
            #[doc = concat!("`", $name, "`, announced by bit ", $bit, " of the flags.")]
            pub $field: Option<$ty>,
        )* }

        impl Properties {
            /// The flag word: a bit for each property that is present. PROP-1
            pub fn flags(&self) -> u16 {
                0 $(| u16::from(self.$field.is_some()) << $bit)*
            }

            /// Reads those that `flags` announces, in the order of the bits, without gaps. PROP-2
            fn read<F: FieldReader>(&mut self, flags: u16, reader: &mut F) -> Result<(), DecodeError> {
                $(if flags & (1 << $bit) != 0 { reader.field($name, self.$field.insert(Default::default()))?; })*
                Ok(())
            }

            /// Writes those that are present, and returns their flags.
            fn write<S: Sink>(&self, writer: &mut ArgWriter<'_, S>) -> u16 {
                let mut flags = 0;
                $(if let Some(value) = &self.$field {
                    flags |= 1 << $bit;
                    value.write(writer);
                })*
                flags
            }

            fn each_property(
                &self,
                see: &mut dyn FnMut(&'static str, String) -> std::fmt::Result,
            ) -> std::fmt::Result {
                $(if let Some(value) = &self.$field { see($name, value.show())?; })*
                Ok(())
            }
        }

        /// The flag bit, the name and the Rust type of each property, in wire order.
        pub const PROPERTIES: &[(u8, &str, &str)] = &[$(($bit, $name, stringify!($ty))),*];

        #[cfg(any(test, feature = "proptest"))]
        mod arbitrary {
            use proptest::prelude::*;

            use super::*;

            impl Arbitrary for Properties {
                type Parameters = ();
                type Strategy = BoxedStrategy<Self>;
                fn arbitrary_with((): ()) -> Self::Strategy {
                    let present = any::<u16>();
                    let all = properties!(@all $($field: $ty),*);
                    (present, all).prop_map(|(present, mut all)| {
                        $(if present & (1 << $bit) == 0 { all.$field = None; })*
                        all
                    }).boxed()
                }
            }

            impl Arbitrary for ContentHeader {
                type Parameters = ();
                type Strategy = BoxedStrategy<Self>;
                fn arbitrary_with((): ()) -> Self::Strategy {
                    (any::<u16>(), any::<u64>(), any::<Properties>())
                        .prop_map(|(class_id, body_size, properties)| Self { class_id, body_size, properties: Box::new(properties) })
                        .boxed()
                }
            }
        }
    };
    (@all $($field:ident: $ty:ty),*) => {{
        let mut all = Just(Properties::default()).boxed();
        $(all = (all, any::<$ty>()).prop_map(|(all, value)| Properties { $field: Some(value), ..all }).boxed();)*
        all
    }};
}

properties! {
    15 "content-type"     content_type: ShortString,
    14 "content-encoding" content_encoding: ShortString,
    13 "headers"          headers: FieldTable,
    12 "delivery-mode"    delivery_mode: u8,
    11 "priority"         priority: u8,
    10 "correlation-id"   correlation_id: ShortString,
     9 "reply-to"         reply_to: ShortString,
     8 "expiration"       expiration: ShortString,
     7 "message-id"       message_id: ShortString,
     6 "timestamp"        timestamp: u64,
     5 "type"             kind: ShortString,
     4 "user-id"          user_id: ShortString,
     3 "app-id"           app_id: ShortString,
     2 "cluster-id"       cluster_id: ShortString,
}

/// The flag word, which a dump shows as the mask that it is.
#[derive(Default)]
struct Flags(u16);

impl Argument for Flags {
    fn read(&mut self, reader: &mut ArgReader<'_>) -> Result<(), DecodeError> {
        self.0.read(reader)
    }
    fn write<S: Sink>(&self, writer: &mut ArgWriter<'_, S>) {
        self.0.write(writer);
    }
    fn show(&self) -> String {
        format!("{:#06x}", self.0)
    }
}

/// Bit 0: another flag word follows. Class basic never needs one. PROP-4
const CONTINUATION: u16 = 1;

impl ContentHeader {
    /// Octets of the payload without any property: class-id, weight, body-size and flags.
    pub const LEAST: usize = 2 + 2 + 8 + 2;

    /// Octets of the payload.
    pub fn encoded_len(&self) -> usize {
        Self::LEAST + self.properties.encoded_len()
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let [c0, c1] = self.class_id.to_be_bytes();
        let [s0, s1, s2, s3, s4, s5, s6, s7] = self.body_size.to_be_bytes();
        // Class, weight, size, and a place for the flags, so that the fourteen are gone through once and not twice.
        out.put(&[c0, c1, 0, 0, s0, s1, s2, s3, s4, s5, s6, s7, 0, 0]);
        let behind = out.position();
        let flags = self.properties.write(&mut ArgWriter::new(out));
        out.fill_in(behind - 2, flags.to_be_bytes());
    }

    #[inline]
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        Self::read(&mut ArgReader::new(payload))
    }

    /// content-header = class-id weight body-size flags *property
    #[inline]
    pub(crate) fn read<F: FieldReader>(reader: &mut F) -> Result<Self, DecodeError> {
        let (mut header, mut weight, mut flags) = (Self::default(), 0u16, Flags(0));
        reader.field("class-id", &mut header.class_id)?;
        reader.field("weight", &mut weight)?;
        ensure(weight == 0, DecodeError::Weight(weight))?;
        reader.field("body-size", &mut header.body_size)?;
        reader.field("flags", &mut flags)?;
        ensure(flags.0 & CONTINUATION == 0, DecodeError::FlagsContinuation)?;
        header.properties.read(flags.0, reader)?;
        reader.finish()?;
        Ok(header)
    }
}

impl Properties {
    /// Octets of those that are present, on the wire.
    pub fn encoded_len(&self) -> usize {
        let mut count = Count::default();
        self.write(&mut ArgWriter::new(&mut count));
        count.0
    }

    /// Octets of memory that they take, absent ones included; the table of headers may take many times what it had on
    /// the wire. SEC-17
    pub fn memory(&self) -> usize {
        let texts = [
            &self.content_type,
            &self.content_encoding,
            &self.correlation_id,
            &self.reply_to,
            &self.expiration,
            &self.message_id,
            &self.kind,
            &self.user_id,
            &self.app_id,
            &self.cluster_id,
        ];
        let texts: usize = texts.into_iter().flatten().map(ShortString::memory).sum();
        size_of::<Self>() + texts + self.headers.as_ref().map_or(0, FieldTable::memory)
    }
}

/// What is present: `content-type="text/plain" correlation-id="1"`.
impl std::fmt::Display for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut between = "";
        self.each_property(&mut |name, value| {
            write!(f, "{between}{name}={value}")?;
            between = " ";
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every property present, each with a value of its own.
    fn all() -> Properties {
        Properties {
            content_type: Some(crate::short!("text/plain")),
            content_encoding: Some(crate::short!("gzip")),
            headers: Some(FieldTable::EMPTY),
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: Some(crate::short!("42")),
            reply_to: Some(crate::short!("amq.rabbitmq.reply-to")),
            expiration: Some(crate::short!("60000")),
            message_id: Some(ShortString::EMPTY),
            timestamp: Some(u64::MAX),
            kind: Some(crate::short!("request")),
            user_id: Some(crate::short!("guest")),
            app_id: Some(crate::short!("demo")),
            cluster_id: Some(crate::short!("c")),
        }
    }

    /// There and back: what the payload decodes to, and the payload.
    fn trip(header: &ContentHeader) -> (Result<ContentHeader, DecodeError>, BytesMut) {
        let mut payload = BytesMut::new();
        header.encode(&mut payload);
        (ContentHeader::decode(&payload), payload)
    }

    /// The same without those whose flag is clear. The bits are written out, so that the macro's are not their own proof.
    fn only(flags: u16, all: Properties) -> Properties {
        fn keep<T>(flags: u16, bit: u8, value: Option<T>) -> Option<T> {
            value.filter(|_| flags & (1 << bit) != 0)
        }
        Properties {
            content_type: keep(flags, 15, all.content_type),
            content_encoding: keep(flags, 14, all.content_encoding),
            headers: keep(flags, 13, all.headers),
            delivery_mode: keep(flags, 12, all.delivery_mode),
            priority: keep(flags, 11, all.priority),
            correlation_id: keep(flags, 10, all.correlation_id),
            reply_to: keep(flags, 9, all.reply_to),
            expiration: keep(flags, 8, all.expiration),
            message_id: keep(flags, 7, all.message_id),
            timestamp: keep(flags, 6, all.timestamp),
            kind: keep(flags, 5, all.kind),
            user_id: keep(flags, 4, all.user_id),
            app_id: keep(flags, 3, all.app_id),
            cluster_id: keep(flags, 2, all.cluster_id),
        }
    }

    #[test]
    fn every_combination_of_presence_survives_the_wire() {
        // PROP-1, PROP-2, PROP-3: 14 flags, 16384 combinations; the two lowest bits are not theirs.
        for flags in (0..=u16::MAX).step_by(4) {
            let properties = only(flags, all());
            assert_eq!(properties.flags(), flags);
            let header = ContentHeader {
                class_id: BASIC_CLASS,
                body_size: 1,
                properties: Box::new(properties),
            };
            let (decoded, payload) = trip(&header);
            assert_eq!(payload[12..14], flags.to_be_bytes());
            assert_eq!(decoded, Ok(header));
        }
    }

    #[test]
    fn memory_is_counted_of_every_text_and_of_the_headers() {
        // SEC-17: ten texts of 40 octets, and a table with one entry.
        assert_eq!(Properties::default().memory(), size_of::<Properties>());
        let long = ShortString::try_from("x".repeat(40)).ok();
        let mut headers = FieldTable(Vec::with_capacity(1));
        headers.insert(crate::short!("k"), 1);
        let entry = headers.memory();
        let properties = Properties {
            content_type: long.clone(),
            content_encoding: long.clone(),
            headers: Some(headers),
            correlation_id: long.clone(),
            reply_to: long.clone(),
            expiration: long.clone(),
            message_id: long.clone(),
            kind: long.clone(),
            user_id: long.clone(),
            app_id: long.clone(),
            cluster_id: long,
            ..Default::default()
        };
        let texts = 10 * 40;
        assert_eq!(properties.memory(), size_of::<Properties>() + texts + entry);
    }

    #[test]
    fn absent_is_not_the_same_as_empty() {
        // PROP-3
        let empty = Properties {
            correlation_id: Some(ShortString::EMPTY),
            ..Default::default()
        };
        let header = ContentHeader {
            properties: Box::new(empty),
            ..Default::default()
        };
        let (decoded, payload) = trip(&header);
        assert_eq!(payload[12..], [0x04, 0x00, 0]);
        assert_ne!(decoded, Ok(ContentHeader::default()));
    }

    #[test]
    fn every_proper_prefix_is_truncated() {
        // PROP-9, TYPE-2: within a payload there is nothing to wait for.
        let header = ContentHeader {
            properties: Box::new(all()),
            ..Default::default()
        };
        let (_, payload) = trip(&header);
        for end in 0..payload.len() {
            let error = ContentHeader::decode(&payload[..end]).unwrap_err();
            // Of a table the length may be here and its octets not.
            let known = matches!(
                error,
                DecodeError::Truncated | DecodeError::LengthOverrun { .. }
            );
            assert!(known, "{end} of {}: {error:?}", payload.len());
        }
    }

    #[test]
    fn sizes_and_times_beyond_the_signed_range_are_kept() {
        // PROP-10: both are unsigned, so the highest bit is no sign.
        for number in [
            0,
            i64::MAX.unsigned_abs(),
            i64::MAX.unsigned_abs() + 1,
            u64::MAX,
        ] {
            let properties = Properties {
                timestamp: Some(number),
                ..Default::default()
            };
            let header = ContentHeader {
                class_id: BASIC_CLASS,
                body_size: number,
                properties: Box::new(properties),
            };
            assert_eq!(trip(&header).0, Ok(header));
        }
    }

    #[test]
    fn the_flags_announce_one_word_and_fourteen_properties() {
        // PROP-4, PROP-6: a second flag word is refused, the unused bit is ignored.
        let header = |flags: u16| {
            let payload = [&[0, 60, 0, 0][..], &[0; 8], &flags.to_be_bytes()].concat();
            ContentHeader::decode(&payload)
        };
        assert_eq!(header(CONTINUATION), Err(DecodeError::FlagsContinuation));
        assert_eq!(header(1 << 1).unwrap().properties, Box::default());
    }
}
