//! # Domains: numbers with a meaning, and the two kinds of string
//!
//! ```text
//! channel number  00 01                     u16      0 is the connection itself (FRAME-14)
//! delivery tag    00 00 00 00 00 00 00 07   u64      counted from 1 on each channel (ACK-1)
//! method id       00 3c 00 50               2 × u16  class 60, method 80: basic.ack
//! reply code      01 94                     u16      404; the number alone says how much is lost (ERR-1, ERR-2)
//! shortstr        02 68 69                  "hi"     one octet of length, so 255 octets at most (TYPE-6)
//! longstr         00 00 00 02 68 69         "hi"     four octets of length, and octets of any kind (TYPE-7)
//! ```
//!
//! On the wire a channel number and a reply code are both two octets. Here each is a type of its own, so neither can be
//! passed for the other; and a string that was built is a string that can be encoded. The surprise: no string has to be
//! text. RabbitMQ lets octets through that are not UTF-8, so a shortstr keeps them as they came (TYPE-8).
//!
//! Read next: [`error`](super::error). Explained in `docs/02-values.md`.

use std::{fmt, hash, str};

use bytes::Bytes;
use thiserror::Error;

use super::sink::Sink;

/// A channel number: 0 is the connection itself, 1 to 65535 are its lanes. FRAME-14
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChannelId(pub u16);

impl ChannelId {
    /// Channel 0, which carries class connection and heartbeats and nothing else.
    pub const CONTROL: Self = Self(0);
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of one delivery on one channel, counted from 1. ACK-1
///
/// The same type numbers publishes in confirm mode (CONF-2). 0 stands for "all so far" together with `multiple`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeliveryTag(pub u64);

impl fmt::Display for DeliveryTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one subscription on one channel. CONS-1
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ConsumerTag(pub ShortString);

impl fmt::Display for ConsumerTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A class-id and a method-id: what begins every method frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MethodId {
    /// 10 connection, 20 channel, 40 exchange, 50 queue, 60 basic, 85 confirm, 90 tx.
    pub class: u16,
    /// The method within its class.
    pub method: u16,
}

impl MethodId {
    /// 0.0, where a close is tied to no method. ERR-3
    pub const NONE: Self = Self {
        class: 0,
        method: 0,
    };

    /// The four octets.
    pub(super) const fn to_be_bytes(self) -> [u8; 4] {
        let ([c0, c1], [m0, m1]) = (self.class.to_be_bytes(), self.method.to_be_bytes());
        [c0, c1, m0, m1]
    }
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match super::method::MethodRow::of(*self) {
            Some(row) => write!(f, "{} ({}.{})", row.name, self.class, self.method),
            None => write!(f, "{}.{}", self.class, self.method),
        }
    }
}

/// How much an error costs: the channel, or the connection with all its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A soft error: `channel.close`; the connection and its other channels go on.
    Channel,
    /// A hard error: `connection.close`.
    Connection,
}

/// The number that a close or a return gives as its reason.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ReplyCode(pub u16);

macro_rules! reply_codes {
    ($($(#[doc = $doc:literal])* $code:literal $NAME:ident)*) => {
        impl ReplyCode {
            $($(#[doc = $doc])* pub const $NAME: Self = Self($code);)*

            /// The code's name as RabbitMQ writes it at the start of a reply text, `NOT_FOUND` for 404.
            pub const fn name(self) -> &'static str {
                match self.0 { $($code => stringify!($NAME),)* _ => "UNKNOWN" }
            }
        }
    };
}

reply_codes! {
    /// An orderly close: nothing went wrong.
    200 SUCCESS
    /// The content is larger than the receiver takes. Closes the channel.
    311 CONTENT_TOO_LARGE
    /// A mandatory message matched no queue. Only ever seen in `basic.return`.
    312 NO_ROUTE
    /// An immediate message found no ready consumer. RabbitMQ never sends it.
    313 NO_CONSUMERS
    /// An operator, or a broker that shuts down, closes the connection. Come back later.
    320 CONNECTION_FORCED
    /// The published text's answer to an unknown virtual host; RabbitMQ sends 530.
    402 INVALID_PATH
    /// Not permitted: a reserved name, the default exchange, an exclusive consumer. Closes the channel;
    /// in a `connection.close` it means that the login was refused.
    403 ACCESS_REFUSED
    /// No such queue or exchange. Closes the channel.
    404 NOT_FOUND
    /// The queue belongs to another connection alone. Closes the channel.
    405 RESOURCE_LOCKED
    /// A redeclare with other arguments, an unknown delivery tag, a bad property. Closes the channel.
    406 PRECONDITION_FAILED
    /// The frame is malformed. Closes the connection.
    501 FRAME_ERROR
    /// A value is illegal. Closes the connection.
    502 SYNTAX_ERROR
    /// A method that may not be sent here, or not by this side. Closes the connection.
    503 COMMAND_INVALID
    /// The channel is not open, or opened twice. Closes the connection.
    504 CHANNEL_ERROR
    /// A frame out of sequence, usually within a content. Closes the connection.
    505 UNEXPECTED_FRAME
    /// The broker ran out of something. Closes the connection.
    506 RESOURCE_ERROR
    /// Forbidden: a consumer tag in use, too many channels, an unknown virtual host. Closes the connection.
    530 NOT_ALLOWED
    /// The method, or this use of it, is not implemented. Closes the connection.
    540 NOT_IMPLEMENTED
    /// A fault inside the broker. Closes the connection.
    541 INTERNAL_ERROR
}

impl ReplyCode {
    /// How much is lost: soft codes (311 to 313, 403 to 406) cost the channel, all others the connection.
    pub const fn scope(self) -> Scope {
        match self.0 {
            311..=313 | 403..=406 => Scope::Channel,
            _ => Scope::Connection,
        }
    }
}

impl fmt::Debug for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.name())
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A shortstr: one length octet, then 0 to 255 octets, UTF-8 by contract. TYPE-6
///
/// The constructors check the 255, so a value that exists can be encoded. The octets are kept as they came (TYPE-8):
/// RabbitMQ does not check UTF-8 in routing keys and properties, so other octets do reach a consumer.
///
/// Up to 38 octets are stored in place: a UUID (36), a consumer tag or an `amq.gen-` queue name (30) costs no
/// allocation, and none of them pins the read buffer it came from.
#[derive(Clone)]
pub struct ShortString(Repr);

#[derive(Clone)]
enum Repr {
    /// As on the wire: the length, then the octets.
    Inline([u8; 1 + INLINE]),
    Static(&'static str),
    Heap(Box<[u8]>),
}

const INLINE: usize = 38;

impl ShortString {
    /// The longest shortstr, in octets.
    pub const MAX: usize = 255;

    /// The empty string.
    pub const EMPTY: Self = Self(Repr::Inline([0; 1 + INLINE]));

    /// A literal, checked by the compiler. Write [`short!`](crate::short) for it.
    ///
    /// # Panics
    /// When the literal is longer than 255 octets: at compile time in a `const`, which is what `short!` makes of it.
    pub const fn literal(text: &'static str) -> Self {
        assert!(text.len() <= Self::MAX, "a shortstr has at most 255 octets");
        if text.len() > INLINE {
            return Self(Repr::Static(text));
        }
        let mut counted = [0; 1 + INLINE];
        let [len, room @ ..] = &mut counted;
        [*len, ..] = text.len().to_le_bytes(); // the lowest octet: `try_from` is not const
        room.split_at_mut(text.len())
            .0
            .copy_from_slice(text.as_bytes());
        Self(Repr::Inline(counted))
    }

    /// As many octets as were counted.
    #[inline]
    pub(super) fn counted(len: u8, octets: &[u8]) -> Self {
        let mut text = Self::EMPTY;
        text.fill(len, octets);
        text
    }

    /// Replaces the text in its place. To build one and move it there costs more than the octets themselves: a processor
    /// has to wait for those that it has just written.
    #[inline]
    pub(super) fn fill(&mut self, len: u8, octets: &[u8]) {
        debug_assert_eq!(usize::from(len), octets.len());
        *self = Self::EMPTY;
        if let Repr::Inline([count, room @ ..]) = &mut self.0
            && let Some(room) = room.get_mut(..octets.len())
        {
            *count = len;
            room.copy_from_slice(octets);
        } else {
            self.0 = Repr::Heap(octets.into());
        }
    }

    /// Appends the length and the octets.
    #[inline]
    pub(super) fn encode<S: Sink>(&self, sink: &mut S) {
        match &self.0 {
            Repr::Inline(octets) => {
                let [len, ..] = octets;
                sink.put(octets.get(..=usize::from(*len)).unwrap_or_default());
            }
            Repr::Static(_) | Repr::Heap(_) => self.encode_long(sink),
        }
    }

    #[cold] // names and ids are shorter than 39 octets
    fn encode_long<S: Sink>(&self, sink: &mut S) {
        sink.put(&[self.len()]);
        sink.put(self.as_bytes());
    }

    /// The octets, without the length octet.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline([len, octets @ ..]) => octets.get(..usize::from(*len)).unwrap_or_default(),
            Repr::Static(text) => text.as_bytes(),
            Repr::Heap(octets) => octets,
        }
    }

    /// The text, if the octets are UTF-8.
    ///
    /// # Errors
    /// When they are not, which RabbitMQ lets happen (TYPE-8).
    pub fn as_str(&self) -> Result<&str, str::Utf8Error> {
        str::from_utf8(self.as_bytes())
    }

    /// Whether there are no octets at all.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The length octet.
    #[inline]
    pub fn len(&self) -> u8 {
        match &self.0 {
            Repr::Inline([len, ..]) => *len,
            Repr::Static(text) => u8::try_from(text.len()).unwrap_or(u8::MAX),
            Repr::Heap(octets) => u8::try_from(octets.len()).unwrap_or(u8::MAX),
        }
    }

    /// Octets of memory beside the value itself.
    #[inline]
    pub(crate) fn memory(&self) -> usize {
        match &self.0 {
            Repr::Heap(octets) => octets.len(),
            Repr::Inline(_) | Repr::Static(_) => 0,
        }
    }

    /// As much of `text` as fits 255 octets, never cut within a character, with `...` at the cut. CLOSE-14
    pub fn truncated(text: &str) -> Self {
        Self::try_from(text).unwrap_or_else(|_| {
            let cut = (0..=Self::MAX - 3)
                .rev()
                .find(|&at| text.is_char_boundary(at))
                .unwrap_or(0);
            let head = text.get(..cut).unwrap_or_default();
            Self(Repr::Heap(format!("{head}...").into_bytes().into()))
        })
    }
}

/// More octets than the one length octet can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a shortstr has at most 255 octets, got {octets}")]
pub struct TooLong {
    /// The octets there were.
    pub octets: usize,
}

impl TryFrom<&[u8]> for ShortString {
    type Error = TooLong;

    #[inline]
    fn try_from(octets: &[u8]) -> Result<Self, TooLong> {
        match u8::try_from(octets.len()) {
            Ok(len) => Ok(Self::counted(len, octets)),
            Err(_) => Err(TooLong {
                octets: octets.len(),
            }),
        }
    }
}

impl TryFrom<&str> for ShortString {
    type Error = TooLong;
    fn try_from(text: &str) -> Result<Self, TooLong> {
        Self::try_from(text.as_bytes())
    }
}

impl TryFrom<String> for ShortString {
    type Error = TooLong;
    fn try_from(text: String) -> Result<Self, TooLong> {
        Self::try_from(text.as_bytes())
    }
}

impl TryFrom<&String> for ShortString {
    type Error = TooLong;
    fn try_from(text: &String) -> Result<Self, TooLong> {
        Self::try_from(text.as_bytes())
    }
}

impl From<&ShortString> for ShortString {
    fn from(text: &ShortString) -> Self {
        text.clone()
    }
}

impl str::FromStr for ShortString {
    type Err = TooLong;
    fn from_str(text: &str) -> Result<Self, TooLong> {
        Self::try_from(text)
    }
}

impl Default for ShortString {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl AsRef<[u8]> for ShortString {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for ShortString {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<str> for ShortString {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for ShortString {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for ShortString {}

impl PartialOrd for ShortString {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ShortString {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl hash::Hash for ShortString {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// As text; what is not UTF-8 or not printable is escaped, so that a peer cannot write to our terminal. SEC-14
impl fmt::Display for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&printable(self.as_bytes()))
    }
}

impl fmt::Debug for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

fn printable(octets: &[u8]) -> String {
    let escape = |c: char| -> String {
        if c.is_control() {
            c.escape_default().collect()
        } else {
            c.into()
        }
    };
    octets.utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.extend(chunk.valid().chars().map(escape));
        text.extend(chunk.invalid().escape_ascii().map(char::from));
        text
    })
}

/// A longstr: four length octets, then that many octets of any kind. TYPE-7
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct LongString(pub Bytes);

impl LongString {
    /// The octets, without the length.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&'static str> for LongString {
    fn from(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for LongString {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Vec<u8>> for LongString {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets.into())
    }
}

impl fmt::Display for LongString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&printable(&self.0))
    }
}

impl fmt::Debug for LongString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A longstr that holds credentials: neither `Debug` nor `Display` shows it. SASL-12
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub Bytes);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(any(test, feature = "proptest"))]
mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    /// Lengths where something changes: empty, one, either side of the in-place limit, the most.
    fn short_octets() -> impl Strategy<Value = Vec<u8>> {
        let text = "[ -~]{0,40}".prop_map(String::into_bytes);
        let length = prop_oneof![Just(0), Just(1), Just(38), Just(39), Just(254), Just(255)];
        prop_oneof![4 => text, 1 => length.prop_flat_map(|n| prop::collection::vec(any::<u8>(), n))]
    }

    impl Arbitrary for ShortString {
        type Parameters = ();
        type Strategy = BoxedStrategy<Self>;
        fn arbitrary_with((): ()) -> Self::Strategy {
            let fits = "at most 255 octets were generated";
            short_octets()
                .prop_filter_map(fits, |octets| Self::try_from(octets.as_slice()).ok())
                .boxed()
        }
    }

    impl Arbitrary for LongString {
        type Parameters = ();
        type Strategy = BoxedStrategy<Self>;
        fn arbitrary_with((): ()) -> Self::Strategy {
            prop_oneof![Just(0..1usize), Just(0..64), Just(255..300)]
                .prop_flat_map(|range| prop::collection::vec(any::<u8>(), range))
                .prop_map(Self::from)
                .boxed()
        }
    }

    macro_rules! arbitrary_newtype {
        ($($Type:ident($inner:ty) = $make:expr;)*) => {$(
            impl Arbitrary for $Type {
                type Parameters = ();
                type Strategy = BoxedStrategy<Self>;
                fn arbitrary_with((): ()) -> Self::Strategy {
                    any::<$inner>().prop_map($make).boxed()
                }
            }
        )*};
    }

    arbitrary_newtype! {
        ChannelId(u16) = ChannelId;
        DeliveryTag(u64) = DeliveryTag;
        ReplyCode(u16) = ReplyCode;
        ConsumerTag(ShortString) = ConsumerTag;
        Secret(LongString) = |octets| Secret(octets.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortstr_never_wraps_or_truncates() {
        // TYPE-6
        assert!(ShortString::try_from("x".repeat(255)).is_ok());
        assert_eq!(
            ShortString::try_from("x".repeat(256)),
            Err(TooLong { octets: 256 })
        );
    }

    #[test]
    fn a_shortstr_is_its_octets_however_it_is_kept() {
        // TYPE-6, TYPE-8: a literal, up to 38 octets in place, more than that in an allocation.
        let literal = ShortString::literal("abc");
        let long = "x".repeat(39);
        for text in ["", "abc", &long] {
            let read = ShortString::try_from(text).unwrap();
            assert_eq!(read.as_bytes(), text.as_bytes());
            assert_eq!(read.as_ref() as &[u8], text.as_bytes());
            assert_eq!(usize::from(read.len()), text.len());
            assert_eq!(read.is_empty(), text.is_empty());
            assert_eq!(read == literal, text == "abc");
            assert_eq!(read == "abc", text == "abc");
            assert!(read == *text && read != *"other");
            for made in [
                text.parse(),
                ShortString::try_from(&text.to_owned()),
                ShortString::try_from(text.to_owned()),
                Ok(ShortString::from(&read)),
            ] {
                assert_eq!(made, Ok(read.clone()));
            }
        }
        assert_eq!(ShortString::literal("abc").len(), 3);
    }

    #[test]
    fn up_to_38_octets_take_no_memory_of_their_own() {
        // SEC-17
        let memory = |octets: usize| ShortString::try_from("x".repeat(octets)).unwrap().memory();
        assert_eq!([0, 38, 39, 255].map(memory), [0, 0, 39, 255]);
        assert_eq!(
            ShortString::literal("a literal is part of the program, however long").memory(),
            0
        );
    }

    #[test]
    fn shortstrs_sort_and_hash_by_their_octets() {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        // TYPE-8: so one that was read finds the literal under which something is kept.
        let texts = ["", "A", "a", "ab", "b", "\u{e9}"];
        let read = texts.map(|text| ShortString::try_from(text).unwrap());
        let kept = ["", "A", "a", "ab", "b", "\u{e9}"].map(ShortString::literal);
        assert!(read.is_sorted() && read.windows(2).all(|two| two[0] < two[1]));
        let map: std::collections::HashMap<_, _> = kept.iter().cloned().zip(texts).collect();
        assert!(read.iter().zip(texts).all(|(key, text)| map[key] == text));
        assert_eq!(map.len(), texts.len());

        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let sums: Vec<_> = read.iter().map(|text| hasher.hash_one(text)).collect();
        assert!(
            sums.is_sorted_by(|one, other| one != other),
            "not all the same"
        );
    }

    #[test]
    fn each_type_is_shown_as_it_stands_in_a_log() {
        // SEC-14: a name in quotes and padded like any text; a number as a number; a code with its name.
        let name = ShortString::literal("amq.gen-1");
        assert_eq!(
            format!("{name:?} {name:>11}|"),
            "\"amq.gen-1\"   amq.gen-1|"
        );
        let text = LongString::from(vec![b'a', 0, 0xff]);
        assert_eq!(
            format!("{text:?} {text:<8}|"),
            "\"a\\u{0}\\xff\" a\\u{0}\\xff|"
        );
        assert_eq!(ChannelId(7).to_string(), "7");
        assert_eq!(DeliveryTag(8).to_string(), "8");
        assert_eq!(ConsumerTag(name).to_string(), "amq.gen-1");
        let not_found = ReplyCode::NOT_FOUND;
        assert_eq!(format!("{not_found} {not_found:?}"), "404 404 NOT_FOUND");
        let (known, class, method) = (crate::codec::BasicAck::ID, 60, 81);
        assert_eq!(known.to_string(), "basic.ack (60.80)");
        assert_eq!(MethodId { class, method }.to_string(), "60.81");
    }

    #[test]
    fn a_reply_text_is_cut_between_characters() {
        // CLOSE-14: 'é' is two octets, and 252 is within one of them.
        let text = ShortString::truncated(&"é".repeat(200).replacen('é', "e", 1));
        assert!(text.as_str().unwrap().ends_with("é..."));
        assert_eq!(text.len(), 254);
        assert_eq!(ShortString::truncated("short"), "short");
    }

    #[test]
    fn octets_from_a_peer_are_printed_escaped() {
        // SEC-14
        let name = ShortString::try_from(&b"a\x1b[2Jb\xff"[..]).unwrap();
        assert_eq!(name.to_string(), "a\\u{1b}[2Jb\\xff");
    }

    #[test]
    fn a_secret_is_never_shown() {
        // SASL-12
        assert_eq!(
            format!("{:?}", Secret(Bytes::from_static(b"\0guest\0guest"))),
            "(hidden)"
        );
    }
}
