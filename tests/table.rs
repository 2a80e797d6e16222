//! The tables of the codec, row by row, against the grammar as data (`tests/data/methods.json`).
//!
//! The data checks the tables and never writes them: the code stays the page one reads.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // in a test a panic is the report

use amqp_rpc::codec::{
    BASIC_CLASS, ChannelId, FRAME_END, FieldValue, Frame, FrameDecoder, METHODS, Method, MethodRow,
    PROPERTIES, Payload, ReplyCode, Scope,
};
use bytes::BytesMut;
use proptest::{strategy::Strategy, strategy::ValueTree, test_runner::TestRunner};
use serde_json::Value;

/// What the grammar calls it and what Rust calls it.
const TYPES: &[(&str, &str)] = &[
    ("bit", "bool"),
    ("octet", "u8"),
    ("short", "u16"),
    ("long", "u32"),
    ("longlong", "u64"),
    ("shortstr", "ShortString"),
    ("longstr", "LongString"),
    ("table", "FieldTable"),
];

/// Fields with a type of their own, so that they cannot be mistaken for each other or be printed.
const NEWTYPES: &[(&str, &str, &str)] = &[
    ("reply-code", "short", "ReplyCode"),
    ("delivery-tag", "longlong", "DeliveryTag"),
    ("consumer-tag", "shortstr", "ConsumerTag"),
    ("response", "longstr", "Secret"),
    ("challenge", "longstr", "Secret"),
    ("new-secret", "longstr", "Secret"),
];

fn grammar() -> Value {
    serde_json::from_str(include_str!("data/methods.json")).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// `["reserved-1", "short", "reserved"]` is written `reserved_1: Reserved<u16>`; `type`, a Rust keyword, is `kind`.
fn field(field: &Value) -> String {
    let (name, grammar_type) = (text(&field[0]), text(&field[1]));
    let newtype = NEWTYPES
        .iter()
        .find(|(field, base, _)| (*field, *base) == (name, grammar_type));
    let plain = TYPES.iter().find(|(grammar, _)| *grammar == grammar_type);
    let rust_type = newtype
        .map(|(.., rust)| rust)
        .or(plain.map(|(_, rust)| rust))
        .unwrap();
    let rust_name = if name == "type" {
        "kind".to_owned()
    } else {
        name.replace('-', "_")
    };
    match field.get(2).map(text) {
        Some("reserved") => format!("{rust_name}: Reserved<{rust_type}>"),
        _ => format!("{rust_name}: {rust_type}"),
    }
}

/// `50.10 queue.declare from client expects ["queue.declare-ok"] content false {..}`, from the grammar
fn row_of_grammar(method: &Value) -> String {
    let replies: Vec<_> = rows(&method["replies"]).iter().map(text).collect();
    let fields: Vec<_> = rows(&method["fields"]).iter().map(field).collect();
    let (class, id, content) = (&method["class"], &method["method"], &method["content"]);
    let (name, sender) = (text(&method["name"]), text(&method["sender"]));
    format!("{class}.{id} {name} from {sender} expects {replies:?} content {content} {fields:#?}")
}

/// The same, from the code.
fn row_of_code(row: &MethodRow) -> String {
    let replies: Vec<_> = row
        .replies
        .iter()
        .map(|id| MethodRow::of(*id).unwrap().name)
        .collect();
    let fields: Vec<_> = row
        .fields
        .iter()
        .map(|(name, ty)| format!("{name}: {ty}"))
        .collect();
    let sender = format!("{:?}", row.sender).to_lowercase();
    let (id, name, content) = (row.id, row.name, row.carries_content);
    format!(
        "{}.{} {name} from {sender} expects {replies:?} content {content} {fields:#?}",
        id.class, id.method
    )
}

#[test]
fn every_row_is_the_grammars_row() {
    let grammar = grammar();
    let grammar = rows(&grammar["methods"]);
    assert_eq!((grammar.len(), METHODS.len()), (64, 64));
    for (method, row) in grammar.iter().zip(METHODS) {
        assert_eq!(row_of_code(row), row_of_grammar(method));
        assert_eq!(method["reply"], row.is_reply(), "{}", row.name);
    }
}

/// `Method::no_wait` is the one list beside the table, so it is held to the table. METH-8
#[test]
fn no_wait_is_known_of_every_row_that_has_it() {
    let mut runner = TestRunner::deterministic();
    for (row, strategy) in METHODS.iter().zip(Method::strategies()) {
        let has_field = row.fields.iter().any(|(name, _)| *name == "no_wait");
        let mut sample = || strategy.new_tree(&mut runner).unwrap().current();
        assert_eq!(
            (0..64).any(|_| sample().no_wait()),
            has_field,
            "{}",
            row.name
        );
    }
}

/// One frame on channel 1, from its payload.
fn decode(kind: u8, payload: &[u8]) -> Result<Payload, amqp_rpc::codec::DecodeError> {
    let mut octets = BytesMut::from(&[kind, 0, 1][..]);
    octets.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    octets.extend_from_slice(payload);
    octets.extend_from_slice(&[FRAME_END]);
    let frame = FrameDecoder::new()
        .decode(&mut octets)
        .map_err(|bad| bad.error)?;
    let Frame { channel, payload } = frame.expect("a whole frame");
    assert_eq!(channel, ChannelId(1));
    Ok(payload)
}

/// PROP-1, PROP-2: each flag alone, followed by as many zeros as the shortest value of its type has octets.
#[test]
fn every_property_has_its_flag_its_name_and_its_type() {
    let grammar = grammar();
    let grammar = rows(&grammar["properties"]);
    assert_eq!((grammar.len(), PROPERTIES.len()), (14, 14));
    for (property, (bit, name, _)) in grammar.iter().zip(PROPERTIES) {
        assert_eq!(property["bit"], *bit, "{name}");
        assert_eq!(property["name"], *name);

        let shortest = match text(&property["type"]) {
            "octet" | "shortstr" => 1,
            "table" => 4,
            "timestamp" => 8,
            other => panic!("no property is a {other}"),
        };
        let mut payload = [
            &BASIC_CLASS.to_be_bytes()[..],
            &[0; 10],
            &(1u16 << bit).to_be_bytes(),
        ]
        .concat();
        payload.resize(14 + shortest, 0);
        let Ok(Payload::Header(header)) = decode(2, &payload) else {
            panic!("{name} is not {shortest} octets")
        };
        assert_eq!(header.properties.flags(), 1 << bit);
        assert!(
            header
                .properties
                .to_string()
                .starts_with(&format!("{name}=")),
            "{}",
            header.properties
        );

        payload.pop();
        assert!(
            decode(2, &payload).is_err(),
            "{name} is shorter than {shortest} octets"
        );
    }
}

#[test]
fn every_reply_code_has_its_name_and_its_scope() {
    for row in rows(&grammar()["reply_codes"]) {
        let code = ReplyCode(u16::try_from(row["code"].as_u64().unwrap()).unwrap());
        let name = text(&row["name"])
            .trim_start_matches("reply-")
            .to_uppercase()
            .replace('-', "_");
        assert_eq!(code.name(), name);
        // 200 closes nothing by itself: whoever sends it closes what they want closed.
        match row["closes"].as_str() {
            Some("channel") => assert_eq!(code.scope(), Scope::Channel, "{code:?}"),
            Some("connection") => assert_eq!(code.scope(), Scope::Connection, "{code:?}"),
            _ => assert_eq!(code, ReplyCode::SUCCESS),
        }
    }
    assert_eq!(ReplyCode(999).name(), "UNKNOWN");
}

/// TABLE-2, TABLE-3, TABLE-4: which letters there are, and how many octets each one takes.
#[test]
fn every_tag_of_a_field_table_has_its_size() {
    let tags = grammar();
    let tags = rows(&tags["tags"]);
    for letter in 0..=u8::MAX {
        let known = tags
            .iter()
            .find(|row| text(&row["tag"]).as_bytes() == [letter]);
        // What has a length of its own is shortest when that length is 0.
        let size = |row: &Value| {
            row["octets"]
                .as_u64()
                .map_or(4, |size| usize::try_from(size).unwrap())
        };
        let value = match known {
            Some(row) => decode_value(letter, size(row)),
            None => (0..=8).find_map(|size| decode_value(letter, size)),
        };
        match (known, value) {
            // The published text's 16-bit integer, which nobody sends: RabbitMQ does not know it.
            (Some(_), value) if letter == b'U' => assert_eq!(value, None),
            (Some(_), Some(value)) if letter == b'L' => assert_eq!(value.tag(), b'l'),
            (Some(_), Some(value)) => assert_eq!(value.tag(), letter),
            (None, None) => {}
            (known, value) => panic!(
                "{:?}: {known:?} in the grammar, {value:?} here",
                char::from(letter)
            ),
        }
    }
}

/// queue.declare with the argument `k`, whose value is `size` octets of zero.
fn decode_value(tag: u8, size: usize) -> Option<FieldValue> {
    let table = u8::try_from(3 + size).unwrap();
    let head = [0, 50, 0, 10, 0, 0, 0, 0, 0, 0, 0, table, 1, b'k', tag];
    match decode(1, &[&head[..], &vec![0; size]].concat()) {
        Ok(Payload::Method(Method::QueueDeclare(declare))) => declare.arguments.get("k").cloned(),
        _ => None,
    }
}
