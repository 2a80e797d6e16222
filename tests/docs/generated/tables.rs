//! The tables of docs/, printed from those of the codec.

use std::fmt::Write;

use amqp_rpc::codec::{
    FieldTable, FieldValue, METHODS, Method, MethodRow, PROPERTIES, QueueDeclare, ReplyCode, Scope,
    Sender,
};

/// What the grammar calls a Rust type.
fn grammar_type(rust: &str) -> &str {
    match rust.trim_start_matches("Reserved<").trim_end_matches('>') {
        "bool" => "bit",
        "u8" => "octet",
        "u16" | "ReplyCode" => "short",
        "u32" => "long",
        "u64" | "DeliveryTag" => "longlong",
        "ShortString" | "ConsumerTag" => "shortstr",
        "LongString" | "Secret" => "longstr",
        "FieldTable" => "table",
        other => panic!("what is {other}?"),
    }
}

fn grammar_name(rust: &str) -> String {
    match rust {
        "kind" => "type".into(),
        other => other.replace('_', "-"),
    }
}

/// `queue` shortstr, and the bits of a run with their values: `[passive 1, durable 2]`.
fn arguments(row: &MethodRow) -> String {
    let mut all: Vec<String> = Vec::new();
    let mut bits: Vec<String> = Vec::new();
    for (name, rust) in row.fields {
        let reserved = if rust.starts_with("Reserved<") {
            "0 "
        } else {
            ""
        };
        let name = grammar_name(name);
        if grammar_type(rust) == "bit" {
            let counts = if reserved.is_empty() {
                1 << bits.len()
            } else {
                0
            };
            bits.push(format!("`{name}` {counts}"));
            continue;
        }
        all.extend(run(&mut bits));
        all.push(format!("`{name}` {reserved}{}", grammar_type(rust)));
    }
    all.extend(run(&mut bits));
    all.join(", ")
}

/// The octet that a run of bits shares.
fn run(bits: &mut Vec<String>) -> Option<String> {
    let names = std::mem::take(bits);
    (!names.is_empty()).then(|| format!("[{}]", names.join(" · ")))
}

/// A table for each class.
pub(super) fn methods() -> String {
    let mut text = String::new();
    let mut class = 0;
    for row in METHODS {
        if row.id.class != class {
            class = row.id.class;
            let name = row.name.split('.').next().unwrap();
            write!(
                text,
                "\n### Class {class}, {name}\n\n\
                 | method | octets | name | from | arguments in wire order | answer |\n|---:|---|---|---|---|---|\n"
            )
            .unwrap();
        }
        let sender = match row.sender {
            Sender::Client => "client",
            Sender::Broker => "broker",
            Sender::Both => "both",
        };
        let answers: Vec<_> = row
            .replies
            .iter()
            .map(|id| MethodRow::of(*id).unwrap().name)
            .collect();
        let answers: Vec<_> = answers
            .iter()
            .map(|name| format!("`{}`", &name[name.find('.').unwrap() + 1..]))
            .collect();
        let content = if row.carries_content {
            " + content"
        } else {
            ""
        };
        let [c, d] = row.id.class.to_be_bytes();
        let [m, n] = row.id.method.to_be_bytes();
        writeln!(
            text,
            "| {} | `{c:02x} {d:02x} {m:02x} {n:02x}` | `{}`{content} | {sender} | {} | {} |",
            row.id.method,
            row.name,
            arguments(row),
            answers.join(" or "),
        )
        .unwrap();
    }
    text.trim_start().to_owned()
}

pub(super) fn classes() -> String {
    let mut text = "| class | octets | name | methods |\n|---:|---|---|---:|\n".to_owned();
    let mut rows: &[MethodRow] = METHODS;
    while let Some(first) = rows.first() {
        let class = first.id.class;
        let count = rows.iter().take_while(|row| row.id.class == class).count();
        let name = first.name.split('.').next().unwrap();
        let [high, low] = class.to_be_bytes();
        writeln!(
            text,
            "| {class} | `{high:02x} {low:02x}` | {name} | {count} |"
        )
        .unwrap();
        rows = &rows[count..];
    }
    text
}

pub(super) fn properties() -> String {
    let mut text = "| bit | mask | property | type |\n|---:|---|---|---|\n".to_owned();
    for (bit, name, rust) in PROPERTIES {
        let kind = match *rust {
            "u64" => "timestamp",
            other => grammar_type(other),
        };
        writeln!(
            text,
            "| {bit} | `{:#06x}` | `{name}` | {kind} |",
            1u16 << bit
        )
        .unwrap();
    }
    text
}

/// What the letters mean: a value of each kind, its name, and what the published text says of the letter. Facts that the
/// code cannot know. TABLE-2, TABLE-3, ERRATA-1
fn letters() -> Vec<(FieldValue, &'static str, &'static str)> {
    use FieldValue as V;
    let text = || V::LongString("".into());
    vec![
        (V::Bool(true), "boolean, 0 is false", "the same"),
        (V::I8(0), "signed, 8 bits", "the same"),
        (V::U8(0), "unsigned, 8 bits", "the same"),
        (
            V::I16(0),
            "signed, 16 bits",
            "a short string; its letter for this is `U`",
        ),
        (V::U16(0), "unsigned, 16 bits", "the same"),
        (V::I32(0), "signed, 32 bits", "the same"),
        (V::U32(0), "unsigned, 32 bits", "the same"),
        (
            V::I64(0),
            "signed, 64 bits",
            "unsigned; its letter for this is `L`",
        ),
        (V::F32(0.0), "IEEE 754, 32 bits", "the same"),
        (V::F64(0.0), "IEEE 754, 64 bits", "the same"),
        (
            V::Decimal { scale: 0, value: 0 },
            "decimal: an octet of scale, a long",
            "the same",
        ),
        (text(), "long string", "the same"),
        (
            V::Array(vec![]),
            "array: values with letters, without names",
            "the same",
        ),
        (V::Timestamp(0), "seconds since 1970, unsigned", "the same"),
        (V::Table(FieldTable::EMPTY), "table", "the same"),
        (V::Void, "nothing", "the same"),
        (
            V::ByteArray(vec![].into()),
            "octets that are no text",
            "does not exist",
        ),
    ]
}

pub(super) fn tags() -> String {
    let mut text = "| letter | octet | value | octets behind the letter | in the published text |\n|---|---|---|---|---|\n".to_owned();
    for (value, meaning, published) in letters() {
        let letter = value.tag();
        let octets = match octets(value) {
            4 if matches!(letter, b'S' | b'A' | b'F' | b'x') => "4 + n".to_owned(),
            octets => octets.to_string(),
        };
        let (letter, octet) = (char::from(letter), letter);
        writeln!(
            text,
            "| `{letter}` | `{octet:02x}` | {meaning} | {octets} | {published} |"
        )
        .unwrap();
    }
    text + "| `L` | `4c` | as `l`; read and never sent (TABLE-3) | 8 | signed, 64 bits |\n"
        + "| `U` | `55` | unknown, so nothing behind it can be read: 502 (TABLE-4) | | signed, 16 bits |\n"
}

/// The arguments of a queue.declare, whose only entry has a name of one octet.
fn arguments_of(value: FieldValue) -> Method {
    let arguments = FieldTable(vec![("n".try_into().unwrap(), value)]);
    QueueDeclare {
        arguments,
        ..Default::default()
    }
    .into()
}

/// How many octets follow the letter of a value.
fn octets(value: FieldValue) -> usize {
    let void = arguments_of(FieldValue::Void).encoded_len();
    arguments_of(value).encoded_len() - void
}

pub(super) fn reply_codes() -> String {
    let mut text = "| code | octets | name | closes |\n|---:|---|---|---|\n".to_owned();
    for code in (300..600)
        .map(ReplyCode)
        .filter(|code| code.name() != "UNKNOWN")
    {
        let scope = match code.scope() {
            _ if matches!(code, ReplyCode::NO_ROUTE | ReplyCode::NO_CONSUMERS) => {
                "nothing: in `basic.return`"
            }
            Scope::Channel => "channel",
            Scope::Connection => "connection",
        };
        let [high, low] = code.0.to_be_bytes();
        writeln!(
            text,
            "| {code} | `{high:02x} {low:02x}` | {} | {scope} |",
            code.name()
        )
        .unwrap();
    }
    text
}

#[test]
fn a_row_says_all_that_its_octets_need() {
    let printed = methods();
    let declare = "| 10 | `00 32 00 0a` | `queue.declare` | client | `reserved-1` 0 short, `queue` shortstr, \
                   [`passive` 1 · `durable` 2 · `exclusive` 4 · `auto-delete` 8 · `no-wait` 16], `arguments` table | `declare-ok` |";
    assert!(printed.contains(declare), "{printed}");
    assert!(printed.contains("`basic.get-ok` + content"), "{printed}");
    assert!(printed.contains("| `get-ok` or `get-empty` |"), "{printed}");
    assert_eq!(
        printed
            .lines()
            .filter(|line| line.starts_with("| "))
            .count(),
        64 + 7
    );
    assert_eq!(tags().lines().count(), 2 + 17 + 2);
    assert_eq!(properties().lines().count(), 2 + 14);
    assert_eq!(reply_codes().lines().count(), 2 + 18);
    assert_eq!(classes().lines().count(), 2 + 7);
}

/// Every letter that the decoder reads has its row, and no other: TABLE-2, TABLE-3, TABLE-4.
#[test]
fn every_letter_is_in_the_table() {
    use amqp_rpc::codec::{ChannelId, Frame, FrameDecoder, Payload};
    let known: String = letters()
        .iter()
        .map(|(value, ..)| char::from(value.tag()))
        .collect();
    for letter in 0..=u8::MAX {
        let mut frame = bytes::BytesMut::new();
        let payload = Payload::Method(arguments_of(FieldValue::Bool(false)));
        Frame {
            channel: ChannelId(1),
            payload,
        }
        .encode(&mut frame);
        let tag = frame.len() - 3;
        assert_eq!(frame[tag], b't');
        frame[tag] = letter;
        let zeros = if known.contains(char::from(letter)) {
            octets(
                letters()
                    .into_iter()
                    .find(|(value, ..)| value.tag() == letter)
                    .unwrap()
                    .0,
            )
        } else {
            8
        };
        // As many zeros as the value has octets, and the lengths of the table and of the frame to match.
        let mut octets = frame.to_vec();
        octets.splice(tag + 1..tag + 2, vec![0; zeros]);
        let (size, table) = (octets.len() - 8, 3 + zeros);
        octets[6] = u8::try_from(size).unwrap();
        octets[tag - 3] = u8::try_from(table).unwrap();
        let read = FrameDecoder::new().decode(&mut octets[..].into()).is_ok();
        assert_eq!(
            read,
            known.contains(char::from(letter)) || letter == b'L',
            "{}",
            char::from(letter)
        );
    }
}
