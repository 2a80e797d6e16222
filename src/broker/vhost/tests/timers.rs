//! What happens when nobody says anything: the clock alone.

use super::*;

fn lasting(milliseconds: &str) -> Properties {
    Properties {
        expiration: Some(name(milliseconds)),
        ..Properties::default()
    }
}

#[test]
fn the_head_goes_when_its_time_has_come() {
    // CONS-22, CONS-23
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.publish_with(A1, "q", lasting("100"));
    stage.publish_with(A1, "q", lasting("50"));
    stage.publish_with(A1, "q", lasting("200"));
    stage.pass(99);
    assert_eq!(
        stage.stats("q"),
        Some((3, 0, 0)),
        "the second stands behind the first"
    );
    stage.pass(1);
    assert_eq!(stage.stats("q"), Some((1, 0, 0)));
    stage.pass(100);
    assert_eq!(stage.stats("q"), Some((0, 0, 0)));
    assert_eq!(stage.vhost.deadline(), None, "nothing is left to wait for");
}

#[test]
fn whatever_makes_another_head_is_noticed() {
    // CONS-22: a get, an ack that frees a consumer's slot, a return.
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.publish(A1, "", "q", "for ever");
    stage.publish_with(A1, "q", lasting("50"));
    assert_eq!(stage.vhost.deadline(), None);
    stage.say(A1, get("q"));
    stage.pass(50);
    assert_eq!(stage.stats("q"), Some((0, 1, 0)));

    stage.publish_with(A1, "q", lasting("50"));
    stage.say(A1, get("q"));
    stage.pass(40);
    stage.reopen(A1);
    assert_eq!(stage.stats("q"), Some((2, 0, 0)));
    stage.bodies(A1, "q");

    // A timer that is set already may be too late for what comes now.
    stage.publish_with(A1, "q", lasting("100"));
    stage.bodies(A1, "q");
    stage.publish_with(A1, "q", lasting("50"));
    stage.pass(50);
    assert_eq!(stage.stats("q"), Some((0, 0, 0)));
}

#[test]
fn time_goes_on_for_what_is_held() {
    // CONS-22, CONS-20
    let mut stage = Stage::new();
    stage.say(A1, with("q", "x-message-ttl", FieldValue::I32(50)));
    stage.publish(A1, "", "q", "hi");
    stage.say(A1, get("q"));
    stage.pass(60);
    assert_eq!(
        stage.stats("q"),
        Some((0, 1, 0)),
        "whoever holds it may take its time"
    );
    stage.reopen(A1);
    assert_eq!(
        stage.stats("q"),
        Some((0, 0, 0)),
        "but it is not handed out again"
    );
}

#[test]
fn a_queue_that_nobody_uses_goes() {
    // QUEUE-20
    let mut stage = Stage::new();
    let passive = || QueueDeclare {
        passive: true,
        ..declare("q")
    };
    stage.say(A1, with("q", "x-expires", FieldValue::I32(100)));
    for _ in 0..3 {
        stage.pass(60);
        assert_eq!(stage.say(A1, passive()).len(), 1);
        stage.pass(60);
        assert_eq!(stage.say(A1, get("q")), ["1/1 basic.get-empty"]);
    }
    stage.say(A1, consume("q", "t"));
    stage.pass(1000);
    stage.say(A1, cancel("t"));
    stage.pass(99);
    stage.publish(A1, "", "q", "is no use of it");
    assert_eq!(stage.stats("q"), Some((1, 0, 0)));
    stage.pass(1);
    assert_eq!(stage.stats("q"), None);
    assert_eq!(stage.vhost.deadline(), None);
}

#[test]
fn a_queue_that_is_deleted_takes_its_timer_along() {
    let mut stage = Stage::new();
    stage.say(A1, with("q", "x-message-ttl", FieldValue::I32(50)));
    stage.publish(A1, "", "q", "1");
    stage.say(A1, delete("q"));
    assert_eq!(stage.vhost.deadline(), None);
    stage.say(A1, declare("q"));
    stage.publish(A1, "", "q", "2");
    stage.pass(100);
    assert_eq!(
        stage.stats("q"),
        Some((1, 0, 0)),
        "the one of this name now keeps its own"
    );
}

#[test]
fn a_deadline_that_no_clock_can_show_never_comes() {
    // SEC-11
    let mut stage = Stage::new();
    stage.say(A1, with("q", "x-message-ttl", FieldValue::I64(i64::MAX)));
    stage.publish_with(A1, "q", lasting("99999999999999999999999999"));
    stage.pass(1 << 50);
    assert_eq!(stage.stats("q"), Some((1, 0, 0)));
}
