//! What a queue does not keep: too much of it, or for too long.

use super::*;

#[test]
fn a_full_queue_drops_its_head() {
    let mut stage = Stage::new();
    stage.say(A1, with("q", "x-max-length", FieldValue::I32(2)));
    for body in ["1", "2", "3"] {
        stage.publish(A1, "", "q", body);
    }
    assert_eq!(stage.bodies(A1, "q"), ["2", "3"]);

    stage.say(A1, with("bytes", "x-max-length-bytes", FieldValue::I32(4)));
    for body in ["1", "22", "33"] {
        stage.publish(A1, "", "bytes", body);
    }
    assert_eq!(stage.bodies(A1, "bytes"), ["22", "33"]);
}

#[test]
fn a_full_queue_counts_what_is_ready_and_not_what_is_held() {
    let mut stage = Stage::new();
    stage.say(A1, with("q", "x-max-length", FieldValue::I32(1)));
    stage.say(A1, consume("q", "t"));
    for body in ["1", "2", "3"] {
        stage.publish(A1, "", "q", body);
    }
    assert_eq!(stage.stats("q"), Some((0, 3, 1)));
}

#[test]
fn messages_expire_at_the_head() {
    // CONS-22, CONS-23
    let mut stage = Stage::new();
    let lasting = |milliseconds: &str| Properties {
        expiration: Some(name(milliseconds)),
        ..Properties::default()
    };
    stage.say(A1, declare("q"));
    stage.publish_with(A1, "q", lasting("100"));
    stage.publish_with(A1, "q", lasting("50"));
    stage.wait(99);
    let ok = "1/1 queue.declare-ok queue='q'";
    assert_eq!(
        stage.say(A1, declare("q")),
        [format!("{ok} message-count=2")]
    );
    stage.wait(1);
    assert_eq!(stage.say(A1, declare("q")), [ok]);
}

#[test]
fn the_shorter_of_queue_and_message_ttl_holds() {
    // CONS-22
    let mut stage = Stage::new();
    stage.say(A1, with("q", "x-message-ttl", FieldValue::I32(50)));
    stage.publish_with(
        A1,
        "q",
        Properties {
            expiration: Some(name("100")),
            ..Properties::default()
        },
    );
    stage.wait(50);
    assert_eq!(stage.say(A1, get("q")), ["1/1 basic.get-empty"]);
}

#[test]
fn an_expired_message_is_not_delivered() {
    // CONS-22
    let mut stage = Stage::new();
    stage.say(A1, with("q", "x-message-ttl", FieldValue::I32(50)));
    stage.publish(A1, "", "q", "late");
    stage.wait(51);
    assert_eq!(
        stage.say(A1, consume("q", "t")).len(),
        1,
        "consume-ok alone"
    );
}

#[test]
fn expiration_zero_is_for_those_who_wait() {
    // CONS-22
    let mut stage = Stage::new();
    let at_once = || Properties {
        expiration: Some(name("0")),
        ..Properties::default()
    };
    stage.say(A1, declare("q"));
    stage.publish_with(A1, "q", at_once());
    assert_eq!(stage.say(A1, get("q")), ["1/1 basic.get-empty"]);

    stage.say(A1, qos(1));
    stage.say(A1, consume("q", "t"));
    assert_eq!(
        stage.publish_with(A1, "q", at_once()),
        ["1/1 basic.deliver consumer-tag='t' delivery-tag=1 routing-key='q' | expiration='0' | hi"]
    );
    assert!(stage.publish_with(A1, "q", at_once()).is_empty());
    assert!(stage.say(A1, ack(1)).is_empty(), "the second is gone");
}
