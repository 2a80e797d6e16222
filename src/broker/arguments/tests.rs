use super::*;
use crate::short;

fn queue() -> Resource {
    Resource::queue(&short!("t.arg"), &short!("/"))
}

fn one(name: &'static str, value: FieldValue) -> FieldTable {
    FieldTable(vec![(name.try_into().unwrap(), value)])
}

fn long(text: &'static str) -> FieldValue {
    FieldValue::LongString(text.into())
}

#[test]
fn values_that_a_known_argument_cannot_have() {
    // QUEUE-19, RabbitMQ's texts.
    use FieldValue::{Bool, I32};
    #[rustfmt::skip]
    let refused = [
        ("x-message-ttl",  I32(-1),     "': {value_negative,-1}"),
        ("x-message-ttl",  long("abc"), "': \"expected integer, got longstr\""),
        ("x-expires",      I32(0),      "': {value_zero,0}"),
        ("x-expires",      I32(-1),     "': {value_negative,-1}"),
        ("x-max-length",   I32(-1),     "': {value_negative,-1}"),
        ("x-max-priority", I32(256),    "': {max_value_exceeded,256}"),
        ("x-overflow",     long("foo"), "': invalid_overflow"),
        ("x-queue-mode",   long("foo"), "': \"unsupported queue mode 'foo'\""),
        ("x-queue-type",   long("foo"), "': \"unsupported queue type 'foo'\""),
        ("x-queue-type",   I32(5),      "': {unacceptable_type,signedint}"),
        ("x-single-active-consumer",    long("yes"), "': {unacceptable_type,longstr}"),
        ("x-dead-letter-routing-key",   long("k"),   "': routing_key_but_no_dlx_defined"),
        ("x-delivery-limit",            I32(3),      "' of queue type rabbit_classic_queue"),
        ("x-quorum-initial-group-size", I32(3),      "' of queue type rabbit_classic_queue"),
    ];
    for (name, value, why) in refused {
        let text = Settings::read(&one(name, value), &queue())
            .unwrap_err()
            .text;
        let expected = format!(
            "PRECONDITION_FAILED - invalid arg '{name}' for queue 't.arg' in vhost '/{why}"
        );
        assert_eq!(text, expected);
    }
    for (name, value) in [
        ("x-message-ttl", FieldValue::I64(4_294_967_296)),
        ("x-max-length", I32(0)),
        ("x-max-priority", I32(255)),
        ("x-overflow", long("reject-publish")),
        ("x-queue-type", long("classic")),
        ("x-single-active-consumer", Bool(true)),
        ("x-unknown", I32(1)),
    ] {
        assert!(
            Settings::read(&one(name, value), &queue()).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn a_dead_letter_exchange_is_a_name() {
    let arguments = one("x-dead-letter-exchange", FieldValue::I32(5));
    assert_eq!(
        Settings::read(&arguments, &queue()).unwrap_err().text,
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 't.arg' in \
         vhost '/'"
    );
}

#[test]
fn a_quorum_queue_has_no_priorities() {
    let mut arguments = one("x-queue-type", long("quorum"));
    assert!(Settings::read(&arguments, &queue()).unwrap().quorum);
    arguments.insert(short!("x-max-priority"), FieldValue::I32(5));
    assert_eq!(
        Settings::read(&arguments, &queue()).unwrap_err().text,
        "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 't.arg' in vhost '/' of queue type \
         rabbit_quorum_queue"
    );
}

#[test]
fn unequal_arguments_are_named() {
    // QUEUE-4
    let ttl = |n| one("x-message-ttl", FieldValue::I32(n));
    let kind = |name| one("x-queue-type", long(name));
    let none = FieldTable::EMPTY;
    #[rustfmt::skip]
    let unequal = [
        (none.clone(), ttl(1000),    "x-message-ttl", "received the value '1000' of type 'signedint' but current is none"),
        (ttl(1000),    none.clone(), "x-message-ttl", "received none but current is the value '1000' of type 'signedint'"),
        (ttl(1000),    ttl(2000),    "x-message-ttl", "received '2000' but current is '1000'"),
        (kind("quorum"), none.clone(), "x-queue-type", "received none but current is the value 'quorum' of type 'longstr'"),
        (kind("quorum"), kind("classic"), "x-queue-type", "received 'classic' but current is 'quorum'"),
    ];
    for (current, received, name, how) in unequal {
        let text = equal_queue_arguments(&current, &received, &queue())
            .unwrap_err()
            .text;
        let expected = format!(
            "PRECONDITION_FAILED - inequivalent arg '{name}' for queue 't.arg' in vhost '/': {how}"
        );
        assert_eq!(text, expected);
    }
}

#[test]
fn arguments_that_count_as_equal() {
    // QUEUE-4, QUEUE-19, TABLE-15
    let wide = one("x-message-ttl", FieldValue::I64(5));
    let narrow = one("x-message-ttl", FieldValue::I8(5));
    let unknown = one("foo", FieldValue::I32(1));
    let classic = one("x-queue-type", long("classic"));
    let none = FieldTable::EMPTY;
    for (current, received) in [(&wide, &narrow), (&none, &unknown), (&classic, &none)] {
        assert_eq!(equal_queue_arguments(current, received, &queue()), Ok(()));
    }
}
