//! Golden vectors: octets and what they mean, agreed on by implementations that share no code with this one.
//!
//! `valid` vectors go both ways: decoding the octets gives the description, and encoding the description gives the
//! octets. `malformed` vectors are mistakes, each with the error it must be. Both are rows of
//! `tests/data/golden.json`, whose `schema` explains the keys.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // in a test a panic is the report

use std::time::Instant;

use amqp_rpc::{
    codec::{args::Reserved, *},
    protocol::{Connection, ServerConfig},
};
use bytes::{Bytes, BytesMut};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("data/golden.json")).unwrap()
}

fn hex(digits: &Value) -> Vec<u8> {
    let digits = digits.as_str().unwrap().as_bytes();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

/// Every frame in `octets`, or the first mistake, and the octets that are left.
fn decode(
    decoder: &mut FrameDecoder,
    octets: &[u8],
) -> (Result<Vec<Frame>, DecodeError>, BytesMut) {
    let mut inbound = BytesMut::from(octets);
    let mut frames = Vec::new();
    loop {
        match decoder.decode(&mut inbound) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (Ok(frames), inbound),
            Err(bad) => return (Err(bad.error), inbound),
        }
    }
}

// ---- descriptions become values ----------------------------------------------------------------------------------

/// A value from its description.
trait Described {
    fn from_json(json: &Value) -> Self;
}

macro_rules! described {
    ($($ty:ty: $json:ident => $value:expr;)*) => {$(
        impl Described for $ty {
            fn from_json($json: &Value) -> Self {
                $value
            }
        }
    )*};
}

described! {
    bool: json => json.as_bool().unwrap();
    u8: json => number(json);
    u16: json => number(json);
    u32: json => number(json);
    u64: json => number(json);
    ShortString: json => ShortString::try_from(&octets(json)[..]).unwrap();
    LongString: json => octets(json).into();
    Secret: json => Secret(octets(json).into());
    FieldTable: json => FieldTable(array(json).iter().map(entry).collect());
    ChannelId: json => Self(number(json));
    ConsumerTag: json => Self(Described::from_json(json));
    DeliveryTag: json => Self(number(json));
    ReplyCode: json => Self(number(json));
}

/// What is reserved is described by the only value that may be sent: 0, "" or false. TYPE-13
impl<T: Described + Default + PartialEq + std::fmt::Debug> Described for Reserved<T> {
    fn from_json(json: &Value) -> Self {
        assert_eq!(T::from_json(json), T::default());
        Self::default()
    }
}

fn number<T: TryFrom<i128, Error: std::fmt::Debug>>(json: &Value) -> T {
    let signed = json.as_i64().map(i128::from);
    T::try_from(signed.or(json.as_u64().map(i128::from)).unwrap()).unwrap()
}

/// A string is text or, if it is not UTF-8, `{"hex": ..}`.
fn octets(json: &Value) -> Vec<u8> {
    match json.as_str() {
        Some(text) => text.into(),
        None => hex(&json["hex"]),
    }
}

fn array(json: &Value) -> &[Value] {
    json.as_array().unwrap()
}

fn entry(json: &Value) -> (ShortString, FieldValue) {
    (ShortString::from_json(&json["key"]), field_value(json))
}

/// `{"type": tag, "value": ..}`; a float also has its `bits`, since not every one has a decimal form.
#[rustfmt::skip] // the letters are a table
fn field_value(json: &Value) -> FieldValue {
    use FieldValue as V;
    let value = &json["value"];
    let bits = || u64::from_str_radix(json["bits"].as_str().unwrap(), 16).unwrap();
    match json["type"].as_str().unwrap() {
        "t" => V::Bool(value.as_bool().unwrap()),
        "b" => V::I8(number(value)),
        "B" => V::U8(number(value)),
        "s" => V::I16(number(value)),
        "u" => V::U16(number(value)),
        "I" => V::I32(number(value)),
        "i" => V::U32(number(value)),
        "l" => V::I64(number(value)),
        "f" => V::F32(f32::from_bits(u32::try_from(bits()).unwrap())),
        "d" => V::F64(f64::from_bits(bits())),
        "D" => V::Decimal { scale: number(&value["scale"]), value: number(&value["value"]) },
        "S" => V::LongString(LongString::from_json(value)),
        "A" => V::Array(array(value).iter().map(field_value).collect()),
        "T" => V::Timestamp(number(value)),
        "F" => V::Table(FieldTable::from_json(value)),
        "V" => V::Void,
        "x" => V::ByteArray(octets(value).into()),
        other => panic!("no such tag: {other}"),
    }
}

/// One row a method: its fields by name, so that a row that forgets one does not compile.
macro_rules! methods {
    ($($Name:ident { $($field:ident)* })*) => {
        /// A method from its description: class-id, method-id and the fields by their names on the wire.
        fn method(json: &Value) -> Method {
            let id = MethodId { class: number(&json["class_id"]), method: number(&json["method_id"]) };
            let fields = json["fields"].as_object().unwrap();
            assert_eq!(fields.len(), MethodRow::of(id).unwrap().fields.len());
            match id {
                $($Name::ID => $Name { $($field: Described::from_json(&fields[&wire_name(stringify!($field))]),)* }.into(),)*
                _ => panic!("no such method: {id}"),
            }
        }
    };
}

/// `delivery_tag` is `delivery-tag` on the wire, and `kind` is `type`, which Rust keeps for itself.
fn wire_name(field: &str) -> String {
    field.replace('_', "-").replace("kind", "type")
}

methods! {
    ConnectionStart { version_major version_minor server_properties mechanisms locales }
    ConnectionStartOk { client_properties mechanism response locale }
    ConnectionSecure { challenge }
    ConnectionSecureOk { response }
    ConnectionTune { channel_max frame_max heartbeat }
    ConnectionTuneOk { channel_max frame_max heartbeat }
    ConnectionOpen { virtual_host reserved_1 reserved_2 }
    ConnectionOpenOk { reserved_1 }
    ConnectionClose { reply_code reply_text class_id method_id }
    ConnectionCloseOk {}
    ConnectionBlocked { reason }
    ConnectionUnblocked {}
    ConnectionUpdateSecret { new_secret reason }
    ConnectionUpdateSecretOk {}
    ChannelOpen { reserved_1 }
    ChannelOpenOk { reserved_1 }
    ChannelFlow { active }
    ChannelFlowOk { active }
    ChannelClose { reply_code reply_text class_id method_id }
    ChannelCloseOk {}
    ExchangeDeclare { reserved_1 exchange kind passive durable auto_delete internal no_wait arguments }
    ExchangeDeclareOk {}
    ExchangeDelete { reserved_1 exchange if_unused no_wait }
    ExchangeDeleteOk {}
    ExchangeBind { reserved_1 destination source routing_key no_wait arguments }
    ExchangeBindOk {}
    ExchangeUnbind { reserved_1 destination source routing_key no_wait arguments }
    ExchangeUnbindOk {}
    QueueDeclare { reserved_1 queue passive durable exclusive auto_delete no_wait arguments }
    QueueDeclareOk { queue message_count consumer_count }
    QueueBind { reserved_1 queue exchange routing_key no_wait arguments }
    QueueBindOk {}
    QueuePurge { reserved_1 queue no_wait }
    QueuePurgeOk { message_count }
    QueueDelete { reserved_1 queue if_unused if_empty no_wait }
    QueueDeleteOk { message_count }
    QueueUnbind { reserved_1 queue exchange routing_key arguments }
    QueueUnbindOk {}
    BasicQos { prefetch_size prefetch_count global }
    BasicQosOk {}
    BasicConsume { reserved_1 queue consumer_tag no_local no_ack exclusive no_wait arguments }
    BasicConsumeOk { consumer_tag }
    BasicCancel { consumer_tag no_wait }
    BasicCancelOk { consumer_tag }
    BasicPublish { reserved_1 exchange routing_key mandatory immediate }
    BasicReturn { reply_code reply_text exchange routing_key }
    BasicDeliver { consumer_tag delivery_tag redelivered exchange routing_key }
    BasicGet { reserved_1 queue no_ack }
    BasicGetOk { delivery_tag redelivered exchange routing_key message_count }
    BasicGetEmpty { reserved_1 }
    BasicAck { delivery_tag multiple }
    BasicReject { delivery_tag requeue }
    BasicRecoverAsync { requeue }
    BasicRecover { requeue }
    BasicRecoverOk {}
    BasicNack { delivery_tag multiple requeue }
    ConfirmSelect { no_wait }
    ConfirmSelectOk {}
    TxSelect {}
    TxSelectOk {}
    TxCommit {}
    TxCommitOk {}
    TxRollback {}
    TxRollbackOk {}
}

/// A key that is missing is a property that is absent, which is not the same as empty. PROP-3
fn properties(json: &Value) -> Properties {
    fn property<T: Described>(json: &Value, name: &str) -> Option<T> {
        json.get(name).map(T::from_json)
    }
    let known = |name: &String| PROPERTIES.iter().any(|(_, known, _)| known == name);
    assert!(json.as_object().unwrap().keys().all(known));
    Properties {
        content_type: property(json, "content-type"),
        content_encoding: property(json, "content-encoding"),
        headers: property(json, "headers"),
        delivery_mode: property(json, "delivery-mode"),
        priority: property(json, "priority"),
        correlation_id: property(json, "correlation-id"),
        reply_to: property(json, "reply-to"),
        expiration: property(json, "expiration"),
        message_id: property(json, "message-id"),
        timestamp: property(json, "timestamp"),
        kind: property(json, "type"),
        user_id: property(json, "user-id"),
        app_id: property(json, "app-id"),
        cluster_id: property(json, "cluster-id"),
    }
}

fn header(json: &Value) -> ContentHeader {
    assert_eq!(json["weight"], 0);
    ContentHeader {
        class_id: number(&json["class_id"]),
        body_size: number(&json["body_size"]),
        properties: Box::new(properties(&json["properties"])),
    }
}

/// The frames that a vector describes: one, or those of a whole content.
fn frames(vector: &Value) -> Vec<Frame> {
    let payload = match vector["kind"].as_str().unwrap() {
        "method" => Payload::Method(method(vector)),
        "header" => Payload::Header(header(vector)),
        "body" => Payload::Body(hex(&vector["payload_hex"]).into()),
        "heartbeat" => Payload::Heartbeat,
        "content" => return content(vector),
        other => panic!("no such kind: {other}"),
    };
    vec![Frame {
        channel: ChannelId::from_json(&vector["channel"]),
        payload,
    }]
}

/// One method, one header, and as many body frames as `body_frame_sizes` has numbers.
fn content(vector: &Value) -> Vec<Frame> {
    let channel = ChannelId::from_json(&vector["channel"]);
    let mut body = Bytes::from(hex(&vector["payload_hex"]));
    let mut all: Vec<_> = array(&vector["frames"]).iter().flat_map(frames).collect();
    for size in array(&vector["body_frame_sizes"]) {
        let octets = body.split_to(number(size));
        all.push(Frame {
            channel,
            payload: Payload::Body(octets),
        });
    }
    assert!(body.is_empty());
    all
}

// ---- the vectors --------------------------------------------------------------------------------------------------

/// The limits of the vector's stage: until tune-ok frame-max is 4096 (FRAME-8), then what was agreed.
fn decoder(vector: &Value) -> FrameDecoder {
    let mut decoder = FrameDecoder::new();
    if vector["stage"] != "handshake" {
        let frame_max = vector["frame_max"]
            .as_u64()
            .map_or(131_072, |limit| u32::try_from(limit).unwrap());
        decoder.set_limits(frame_max, frame_max.max(131_072));
    }
    decoder
}

#[test]
fn valid_vectors_go_both_ways() {
    let golden = golden();
    let vectors = array(&golden["valid"]);
    assert_eq!(vectors.len(), 180);
    for vector in vectors {
        let (name, octets) = (&vector["name"], hex(&vector["hex"]));
        if vector["kind"] == "protocol-header" {
            assert_eq!(octets, PROTOCOL_HEADER, "{name}");
            continue;
        }
        let described = frames(vector);
        let (decoded, rest) = decode(&mut decoder(vector), &octets);
        assert_eq!(decoded.as_ref(), Ok(&described), "{name}: decoded");
        assert!(rest.is_empty(), "{name}: octets are left");

        let mut encoded = BytesMut::new();
        for frame in &described {
            frame.encode(&mut encoded);
        }
        assert_eq!(encoded, octets, "{name}: encoded");
    }
}

/// Our errors under the names that the vectors give them.
#[rustfmt::skip] // a table
fn neutral_name(error: &DecodeError) -> &'static str {
    use DecodeError as E;
    match error {
        E::FrameTooLarge { .. }  => "FrameTooLarge",
        E::FrameType(_)          => "UnknownFrameType",
        E::FrameEnd { .. }       => "BadFrameEnd",
        E::Heartbeat             => "BadHeartbeat",
        E::Truncated             => "TruncatedPayload",
        E::Trailing { .. }       => "TrailingBytes",
        E::UnknownMethod(_)      => "UnknownMethod",
        E::LengthOverrun { .. }  => "LengthOverrun",
        E::FieldType(_)          => "UnknownFieldType",
        E::NestingTooDeep { .. } => "NestingTooDeep",
        E::FlagsContinuation     => "PropertyFlagsContinuation",
        E::Weight(_)             => "BadWeight",
    }
}

/// What a broker makes of the first octets on a new connection. It has no frame to answer with yet: anything but the
/// protocol header is answered with the header that would have been right, and a hang-up. HDR-3, HDR-4
fn first_octets(octets: &[u8]) -> &'static str {
    let mut broker = Connection::server(ServerConfig::default(), Instant::now());
    let mut answer = BytesMut::new();
    broker.receive(&mut BytesMut::from(octets));
    broker.transmit(&mut answer);
    match answer.is_empty() {
        true => "incomplete",
        false if broker.is_over() && answer == PROTOCOL_HEADER[..] => "error",
        false => "ok",
    }
}

/// What the codec makes of the octets under test: a word, and the error if there is one.
fn result(vector: &Value) -> (&'static str, Option<DecodeError>) {
    let octets = hex(&vector["hex"]);
    let mut decoder = decoder(vector);
    let (before, rest) = decode(&mut decoder, &hex(&vector["prefix_hex"]));
    assert!(
        before.is_ok() && rest.is_empty(),
        "{}: what comes before is well-formed",
        vector["name"]
    );

    match decode(&mut decoder, &octets) {
        (Err(error), _) => ("error", Some(error)),
        (Ok(_), rest) if rest.is_empty() => ("ok", None),
        (Ok(_), _) => ("incomplete", None),
    }
}

/// Only the octets are judged here. What must be answered on a connection (`required`) is not the codec's to say, but
/// where its error alone decides the reply code, that code must be among the answers allowed.
#[test]
fn malformed_vectors_are_the_errors_they_are_named_after() {
    let golden = golden();
    let vectors = array(&golden["malformed"]);
    assert_eq!(vectors.len(), 160);
    for vector in vectors {
        let name = &vector["name"];
        if vector["stage"] == "protocol-header" {
            assert_eq!(
                vector["codec_result"],
                first_octets(&hex(&vector["hex"])),
                "{name}"
            );
            continue;
        }
        let (word, error) = result(vector);
        // `either`: a codec may see it, or leave it to the layer above.
        assert!(
            vector["codec_result"] == word || vector["codec_result"] == "either",
            "{name}: {word}, {error:?}"
        );
        let Some(error) = error else { continue };
        assert_eq!(vector["error_kind"], neutral_name(&error), "{name}");

        let required = &vector["required"];
        let Some(code) = required["reply_code"].as_u64() else {
            continue;
        };
        let also = required["also_acceptable"].as_array().into_iter().flatten();
        let allowed: Vec<_> = also.filter_map(Value::as_u64).chain([code]).collect();
        let earned = u64::from(error.reply_code().0);
        assert!(
            allowed.contains(&earned),
            "{name}: {earned} where {allowed:?} are allowed"
        );
    }
}
