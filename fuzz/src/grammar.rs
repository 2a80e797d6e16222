//! Frames from the grammar: an encoder that knows nothing of ours but the table of methods.
//!
//! A fuzzer that changes octets seldom gets past a length. Here its octets *choose*: which row of the table, how long
//! a string, which tag. What comes out is always a frame, so all the work goes into what is behind the lengths.
//!
//! Nothing is canonical: spare bits, reserved fields and the tag `L` are what they happen to be.

use amqp_rpc::codec::{FRAME_END, METHODS, MethodId, MethodRow, PROPERTIES};
use arbitrary::{Result, Unstructured};

/// Names that mean something to a broker, so that two methods meet at the same queue.
const WORDS: [&str; 12] = [
    "",
    "a",
    "b",
    "amq.direct",
    "amq.topic",
    "amq.fanout",
    "topic",
    "direct",
    "a.b.*",
    "#",
    "amq.rabbitmq.reply-to",
    "x-max-length",
];

/// The octets of a frame on one of the channels 0 to 3.
pub fn frame(u: &mut Unstructured) -> Result<Vec<u8>> {
    let channel = u.int_in_range(0..=3)?;
    Ok(match u.int_in_range(0..=9)? {
        0..=5 => envelope(1, channel, &method(u)?),
        6..=7 => envelope(2, channel, &header(u)?),
        8 => envelope(3, channel, &octets(u, 300)?),
        _ => envelope(8, 0, &[]),
    })
}

/// A payload in its envelope.
pub fn envelope(kind: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, 0, channel];
    frame.extend(
        u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    frame.extend(payload);
    frame.push(FRAME_END);
    frame
}

/// Any row of the table, with arguments of its types.
pub fn method(u: &mut Unstructured) -> Result<Vec<u8>> {
    let row = &METHODS[u.choose_index(METHODS.len())?];
    arguments(row, u)
}

/// A row of the table by its ids.
pub fn arguments_of(class: u16, method: u16, u: &mut Unstructured) -> Result<Vec<u8>> {
    let row = MethodRow::of(MethodId { class, method }).expect("a row of the table");
    arguments(row, u)
}

fn arguments(row: &MethodRow, u: &mut Unstructured) -> Result<Vec<u8>> {
    let mut payload = [row.id.class.to_be_bytes(), row.id.method.to_be_bytes()].concat();
    let mut bits_left = 0;
    for (_, kind) in row.fields {
        let kind = kind
            .trim_start_matches("Reserved")
            .trim_matches(['<', '>', ' ']);
        if kind != "bool" {
            bits_left = 0;
            value(u, kind, &mut payload)?;
        } else if bits_left > 0 {
            bits_left -= 1; // a bit of the octet that is there already
        } else {
            bits_left = 7;
            payload.push(u.arbitrary()?);
        }
    }
    Ok(payload)
}

/// A content header with any of the properties.
pub fn header(u: &mut Unstructured) -> Result<Vec<u8>> {
    let flags = u.arbitrary::<u16>()? & !1; // PROP-4
    let class = if u.ratio(9, 10)? { 60 } else { u.arbitrary()? };
    let mut payload = u16::to_be_bytes(class).to_vec();
    payload.extend([0, 0]);
    let body_size = if u.ratio(9, 10)? {
        u.int_in_range(0..=300)?
    } else {
        u.arbitrary::<u64>()?
    };
    payload.extend(body_size.to_be_bytes());
    payload.extend(flags.to_be_bytes());
    for (bit, _, kind) in PROPERTIES {
        if flags & (1 << bit) != 0 {
            value(u, kind, &mut payload)?;
        }
    }
    Ok(payload)
}

fn value(u: &mut Unstructured, kind: &str, out: &mut Vec<u8>) -> Result<()> {
    match kind {
        "u8" => out.push(u.arbitrary()?),
        "u16" | "ReplyCode" => out.extend(number(u, 2)?),
        "u32" => out.extend(number(u, 4)?),
        "u64" | "DeliveryTag" => out.extend(number(u, 8)?),
        "ShortString" | "ConsumerTag" => short(u, out)?,
        "LongString" | "Secret" => long(out, &octets(u, 300)?),
        "FieldTable" => {
            let inside = entries(u, 1)?;
            long(out, &inside);
        }
        other => unreachable!("a type of the table that the grammar does not have: {other}"),
    }
    Ok(())
}

/// Small numbers are those that name something: a delivery tag, a prefetch, a count.
fn number(u: &mut Unstructured, octets: usize) -> Result<Vec<u8>> {
    let number = if u.ratio(3, 4)? {
        u.int_in_range(0..=4)?
    } else {
        u.arbitrary::<u64>()?
    };
    Ok(number.to_be_bytes()[8 - octets..].to_vec())
}

fn short(u: &mut Unstructured, out: &mut Vec<u8>) -> Result<()> {
    let text = match u.int_in_range(0..=9)? {
        0 => octets(u, 255)?,
        1 => vec![b'x'; *u.choose(&[37, 38, 39, 254, 255])?],
        2..=4 => vec![u.int_in_range(b'a'..=b'z')?; u.int_in_range(1..=3)?],
        _ => u.choose(&WORDS)?.as_bytes().to_vec(),
    };
    out.push(u8::try_from(text.len()).unwrap_or(0));
    out.extend(text);
    Ok(())
}

fn long(out: &mut Vec<u8>, octets: &[u8]) {
    out.extend(
        u32::try_from(octets.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    out.extend(octets);
}

fn octets(u: &mut Unstructured, most: usize) -> Result<Vec<u8>> {
    let length = u.int_in_range(0..=most)?;
    Ok(u.bytes(length.min(u.len()))?.to_vec())
}

/// The inside of a field table: names, tags and values.
pub fn entries(u: &mut Unstructured, depth: usize) -> Result<Vec<u8>> {
    let mut inside = Vec::new();
    while u.ratio(2, 3)? && !u.is_empty() {
        short(u, &mut inside)?;
        tagged(u, depth, &mut inside)?;
    }
    Ok(inside)
}

fn tagged(u: &mut Unstructured, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    let tag = *u.choose(b"tbBsuIilLfdDSATFVx")?;
    out.push(tag);
    let fixed = match tag {
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        _ => 0,
    };
    for _ in 0..fixed {
        out.push(u.arbitrary()?);
    }
    match tag {
        b'S' | b'x' => long(out, &octets(u, 40)?),
        b'F' if depth < 64 => {
            let inside = entries(u, depth + 1)?;
            long(out, &inside);
        }
        b'A' if depth < 64 => {
            let mut inside = Vec::new();
            while u.ratio(2, 3)? && !u.is_empty() {
                tagged(u, depth + 1, &mut inside)?;
            }
            long(out, &inside);
        }
        b'F' | b'A' => {
            // One level more would be refused (SEC-4).
            out.pop();
            out.push(b'V');
        }
        _ => {}
    }
    Ok(())
}
