//! What a client says, from a line to octets, by the grammar in tests/data: an encoder of its own, which shares nothing
//! with the one it is compared with.

use std::sync::LazyLock;

use serde::Deserialize;

use super::values::{self, Fields, Value};

#[derive(Deserialize)]
struct Grammar {
    methods: Vec<Method>,
    properties: Vec<Property>,
}

#[derive(Deserialize)]
struct Method {
    class: u16,
    #[serde(rename = "method")]
    id: u16,
    name: String,
    /// Name and type, and "reserved" for those that mean nothing.
    fields: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct Property {
    bit: u32,
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

static GRAMMAR: LazyLock<Grammar> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../data/methods.json")).expect("the grammar")
});

type Encoded = Result<Vec<u8>, String>;

/// The frame that a line means: what stands behind its channel.
pub(crate) fn frame(channel: u16, said: &str) -> Encoded {
    if let Some(rest) = said.strip_prefix("header ") {
        return Ok(envelope(2, channel, header(rest)?));
    }
    if let Some(rest) = said.strip_prefix("body ") {
        return Ok(envelope(3, channel, body(rest.trim_start())?));
    }
    if said == "heartbeat" {
        return Ok(envelope(8, channel, Vec::new()));
    }
    Ok(envelope(1, channel, method(said)?))
}

fn envelope(kind: u8, channel: u16, payload: Vec<u8>) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(channel.to_be_bytes());
    frame.extend(long(payload.len()));
    frame.extend(payload);
    frame.push(0xce);
    frame
}

fn method(said: &str) -> Encoded {
    let (name, rest) = said.split_once(' ').unwrap_or((said, ""));
    let method = GRAMMAR.methods.iter().find(|method| method.name == name);
    let method = method.ok_or_else(|| format!("there is no method {name}"))?;
    let mut fields = match rest.trim_start().strip_prefix("I am ") {
        Some(introduction) if name == "connection.start-ok" => start_ok(introduction)?,
        _ => values::fields(rest)?,
    };
    let mut octets = [method.class.to_be_bytes(), method.id.to_be_bytes()].concat();
    let mut bits: Option<(u8, u32)> = None;
    for field in &method.fields {
        let (name, kind) = (field[0].as_str(), field[1].as_str());
        let value = take(&mut fields, name);
        if kind == "bit" {
            let (octet, used) = bits.take().unwrap_or_default();
            let set = match value {
                None => 0,
                Some(Value::Set) => 1,
                Some(other) => return Err(format!("{name} is a bit, and not {other:?}")),
            };
            bits = Some((octet | set << used, used + 1)); // no method has more than eight in a row
            continue;
        }
        octets.extend(bits.take().map(|(octet, _)| octet));
        octets.extend(argument(kind, value).map_err(|why| format!("{name}: {why}"))?);
    }
    octets.extend(bits.map(|(octet, _)| octet));
    let known = || {
        method
            .fields
            .iter()
            .map(|field| field[0].as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    none_left(&fields, name, known)?;
    Ok(octets)
}

fn take(fields: &mut Fields, name: &str) -> Option<Value> {
    let at = fields.iter().position(|(field, _)| field == name)?;
    Some(fields.remove(at).1)
}

fn none_left(fields: &Fields, what: &str, known: impl Fn() -> String) -> Result<(), String> {
    match fields.first() {
        None => Ok(()),
        Some((name, _)) => Err(format!("{what} has no field {name}; it has: {}", known())),
    }
}

/// `2 octets  correlation-id="1"`: class, weight, size, flags, and the properties in the order of their flags.
fn header(said: &str) -> Encoded {
    let (size, rest) = said.trim_start().split_once(" octets").unwrap_or(("", ""));
    let size: u64 = size
        .parse()
        .map_err(|_| format!("`header  2 octets` was due: {said:?}"))?;
    let mut fields = values::fields(rest)?;
    let (mut flags, mut list) = (0u16, Vec::new());
    for Property { bit, name, kind } in &GRAMMAR.properties {
        if let Some(value) = take(&mut fields, name) {
            flags |= 1 << bit;
            list.extend(argument(kind, Some(value)).map_err(|why| format!("{name}: {why}"))?);
        }
    }
    let known = || {
        GRAMMAR
            .properties
            .iter()
            .map(|property| property.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    none_left(&fields, "a header", known)?;
    let mut octets = vec![0, 60, 0, 0];
    octets.extend(size.to_be_bytes());
    octets.extend(flags.to_be_bytes());
    octets.extend(list);
    Ok(octets)
}

/// `"30"`, or `"abc" and 100 octets more`, which go round what is in quotes.
fn body(said: &str) -> Encoded {
    let (shown, rest) = values::quoted(said)?;
    let more = match rest.trim() {
        "" => 0,
        more => {
            let more = more
                .strip_prefix("and ")
                .and_then(|more| more.strip_suffix(" octets more"));
            let more = more.and_then(|more| more.parse().ok());
            more.ok_or_else(|| format!("`and 100 octets more` was due: {rest:?}"))?
        }
    };
    Ok(shown
        .iter()
        .copied()
        .cycle()
        .take(shown.len() + more)
        .collect())
}

/// One argument of this type; without a value it is empty or zero.
fn argument(kind: &str, value: Option<Value>) -> Encoded {
    match (kind, value) {
        ("octet", value) => integer::<u8>(value).map(|n| vec![n]),
        ("short", value) => integer::<u16>(value).map(|n| n.to_be_bytes().into()),
        ("long", value) => integer::<u32>(value).map(|n| n.to_be_bytes().into()),
        ("longlong" | "timestamp", value) => integer::<u64>(value).map(|n| n.to_be_bytes().into()),
        ("shortstr" | "longstr", None) => argument(kind, Some(Value::Text(Vec::new()))),
        ("shortstr", Some(Value::Text(text))) => short(&text),
        ("longstr", Some(Value::Text(text))) => Ok(long_and(&text)),
        ("table", None) => Ok(long(0).into()),
        ("table", Some(Value::Table(entries))) => table(&entries),
        (kind, Some(other)) => Err(format!("a {kind} was due, not {other:?}")),
        (kind, None) => Err(format!("what is a {kind}?")),
    }
}

fn integer<T: TryFrom<i128> + Default>(value: Option<Value>) -> Result<T, String> {
    match value {
        None => Ok(T::default()),
        Some(Value::Integer(n)) => T::try_from(n).map_err(|_| format!("{n} does not fit")),
        Some(other) => Err(format!("a number was due, not {other:?}")),
    }
}

fn short(text: &[u8]) -> Encoded {
    let length = u8::try_from(text.len()).map_err(|_| "longer than 255 octets")?;
    Ok([&[length], text].concat())
}

fn long(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("it fits a page").to_be_bytes()
}

fn long_and(octets: &[u8]) -> Vec<u8> {
    [&long(octets.len()), octets].concat()
}

fn table(entries: &[(String, Value)]) -> Encoded {
    let mut octets = Vec::new();
    for (name, value) in entries {
        octets.extend(short(name.as_bytes())?);
        octets.extend(tagged(value)?);
    }
    Ok(long_and(&octets))
}

/// A tag and a value. Integers are as most clients send them: `I`, and `l` where that is too narrow.
fn tagged(value: &Value) -> Encoded {
    let (tag, octets) = match value {
        Value::Text(text) => (b'S', long_and(text)),
        Value::Octets(octets) => (b'x', long_and(octets)),
        Value::Bool(is) => (b't', vec![u8::from(*is)]),
        Value::Void => (b'V', Vec::new()),
        Value::Seconds(seconds) => (b'T', seconds.to_be_bytes().into()),
        Value::Table(entries) => (b'F', table(entries)?),
        Value::Array(values) => {
            let elements: Result<Vec<_>, _> = values.iter().map(tagged).collect();
            (b'A', long_and(&elements?.concat()))
        }
        Value::Integer(n) => match (i32::try_from(*n), i64::try_from(*n)) {
            (Ok(n), _) => (b'I', n.to_be_bytes().into()),
            (_, Ok(n)) => (b'l', n.to_be_bytes().into()),
            _ => return Err(format!("{n} does not fit")),
        },
        Value::Set => return Err("a value was due".into()),
    };
    Ok([vec![tag], octets].concat())
}

/// `amqp-rpc 0.1.0; PLAIN, my password is (hidden)`: the client of this crate, with the password that everybody knows.
fn start_ok(introduction: &str) -> Result<Fields, String> {
    let form = "I am PRODUCT VERSION; PLAIN, my password is (hidden)";
    let (who, how) = introduction.split_once("; ").ok_or(form)?;
    let (product, version) = who.split_once(' ').ok_or(form)?;
    if how != "PLAIN, my password is (hidden)" {
        return Err(form.into());
    }
    let text = |text: &str| Value::Text(text.into());
    let able = [
        "publisher_confirms",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "exchange_exchange_bindings",
        "authentication_failure_close",
    ];
    let able = able.map(|name| (name.to_owned(), Value::Bool(true)));
    let properties = [
        ("product", text(product)),
        ("version", text(version)),
        ("platform", text("Rust")),
        ("capabilities", Value::Table(able.into())),
    ];
    let properties = properties.map(|(name, value)| (name.to_owned(), value));
    let fields = [
        ("client-properties", Value::Table(properties.into())),
        ("mechanism", text("PLAIN")),
        ("response", text("\0guest\0guest")),
        ("locale", text("en_US")),
    ];
    Ok(fields.map(|(name, value)| (name.to_owned(), value)).into())
}

#[test]
fn a_line_becomes_the_octets_that_the_codec_reads_as_that_line() {
    use amqp_rpc::codec::describe;
    for line in [
        "channel 1  queue.declare  queue=\"jobs\" durable no-wait arguments={x-max-length: 10, x-queue-type: \"classic\"}",
        "channel 2  exchange.declare  exchange=\"logs\" type=\"topic\" internal",
        "channel 3  basic.nack  delivery-tag=0 multiple requeue",
        "channel 4    header  2 octets  headers={n: 5000000000, a: [1, void]} delivery-mode=2 correlation-id=\"\" timestamp=7",
        "channel 5    body    \"30\\n\"",
        "channel 0  heartbeat",
        "channel 0  connection.tune-ok  channel-max=2047 frame-max=4096",
        "channel 0  connection.start-ok  I am amqp-rpc 0.1.0; PLAIN, my password is (hidden)",
        "channel 0  connection.close  reply-code=200 reply-text=\"Goodbye\"",
    ] {
        let (channel, said) = line["channel ".len()..].split_once(' ').unwrap();
        let octets = frame(channel.parse().unwrap(), said.trim_start()).unwrap();
        assert_eq!(describe(&octets.into()).to_string(), line);
    }
    let long = format!("body    \"{}\" and 36 octets more", "x".repeat(64));
    let octets = frame(1, &long).unwrap();
    assert_eq!(octets.len(), 8 + 100);
    assert!(describe(&octets.into()).to_string().ends_with(&long));
}

#[test]
fn a_line_that_says_nothing_known_says_why() {
    let why = |line: &str| frame(1, line).unwrap_err();
    assert!(why("queue.declar").contains("no method queue.declar"));
    assert!(
        why("queue.declare name=\"jobs\"").contains("no field name; it has: reserved-1, queue")
    );
    assert!(why("queue.declare durable=\"yes\"").contains("durable is a bit"));
    assert!(why("basic.qos prefetch-count=70000").contains("prefetch-count: 70000 does not fit"));
    assert!(why("header  x octets").contains("header  2 octets"));
    assert!(why("body    30").contains("no value") || why("body    30").contains("quotes"));
}
