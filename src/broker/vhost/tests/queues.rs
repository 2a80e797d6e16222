//! Class queue, with RabbitMQ's texts.

use super::*;
use crate::codec::QueueBind;

const LOCKED: &str = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 't.excl' in vhost '/'. It could \
                      be originally declared on another connection or the exclusive property value does not match \
                      that of the original declaration.";

fn exclusive(queue: &str) -> QueueDeclare {
    QueueDeclare {
        exclusive: true,
        ..declare(queue)
    }
}

fn passive(queue: &str) -> QueueDeclare {
    QueueDeclare {
        passive: true,
        ..declare(queue)
    }
}

fn auto_delete(queue: &str) -> QueueDeclare {
    QueueDeclare {
        auto_delete: true,
        ..declare(queue)
    }
}

/// What a fresh channel hears when it says this, without the channel number.
fn heard(stage: &mut Stage, lane: Lane, method: impl Into<Method>) -> String {
    stage.reopen(lane);
    let heard = stage.say(lane, method).concat();
    heard
        .split_once(" close ")
        .map_or(heard.clone(), |(_, close)| close.to_owned())
}

#[test]
fn a_queue_without_a_name_is_given_one() {
    // QUEUE-1
    let mut stage = Stage::new();
    let ok = ["1/1 queue.declare-ok queue='amq.gen-1'"];
    assert_eq!(stage.say(A1, declare("")), ok);
    assert_eq!(stage.say(A1, passive("amq.gen-1")), ok, "QUEUE-3");
}

#[test]
fn names_that_are_reserved_or_missing() {
    // QUEUE-3, QUEUE-5
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    for (declare, expected) in [
        (
            declare("amq.foo"),
            "ACCESS_REFUSED - queue name 'amq.foo' contains reserved prefix 'amq.*' (50,10)",
        ),
        (
            passive("t.nope"),
            "NOT_FOUND - no queue 't.nope' in vhost '/' (50,10)",
        ),
        (passive(""), "NOT_FOUND - no queue '' in vhost '/' (50,10)"),
    ] {
        assert_eq!(heard(&mut stage, A1, declare), expected);
    }
}

#[test]
fn declaring_again_compares_and_counts() {
    // QUEUE-4, QUEUE-8, QUEUE-10
    let mut stage = Stage::new();
    stage.say(A2, declare("t.excl"));
    stage.publish(A2, "", "t.excl", "1");
    stage.publish(A2, "", "t.excl", "2");
    stage.publish(A2, "", "t.excl", "3");
    stage.say(A2, get("t.excl"));
    assert_eq!(
        heard(&mut stage, A1, declare("t.excl")),
        "1/1 queue.declare-ok queue='t.excl' message-count=2",
        "one is unacked"
    );
    assert_eq!(
        heard(&mut stage, A1, exclusive("t.excl")),
        format!("{LOCKED} (50,10)")
    );
    for (declare, arg, how) in [
        (
            QueueDeclare {
                durable: true,
                ..with("t.excl", "x-expires", FieldValue::I32(1))
            },
            "durable",
            "received 'true' but current is 'false'",
        ),
        (
            auto_delete("t.excl"),
            "auto_delete",
            "received 'true' but current is 'false'",
        ),
        (
            with("t.excl", "x-max-length", FieldValue::I32(5)),
            "x-max-length",
            "received the value '5' of type 'signedint' but current is none",
        ),
    ] {
        let expected = format!(
            "PRECONDITION_FAILED - inequivalent arg '{arg}' for queue 't.excl' in vhost '/': {how} (50,10)"
        );
        assert_eq!(heard(&mut stage, A1, declare), expected);
    }
}

#[test]
fn an_exclusive_queue_belongs_to_its_connection() {
    // QUEUE-6, QUEUE-7, QUEUE-8
    let mut stage = Stage::new();
    stage.say(A1, exclusive("t.excl"));
    let bind = QueueBind {
        queue: name("t.excl"),
        exchange: name("amq.fanout"),
        ..QueueBind::default()
    };
    #[rustfmt::skip]
    let refused: [(Method, &str); 8] = [
        (exclusive("t.excl").into(),     "50,10"),
        (declare("t.excl").into(),       "50,10"),
        (passive("t.excl").into(),       "50,10"),
        (bind.into(),                    "50,20"),
        (purge("t.excl").into(),         "50,30"),
        (delete("t.excl").into(),        "50,40"),
        (consume("t.excl", "t").into(),  "60,20"),
        (get("t.excl").into(),           "60,70"),
    ];
    for (method, id) in refused {
        assert_eq!(heard(&mut stage, B1, method), format!("{LOCKED} ({id})"));
    }
    assert_eq!(
        heard(&mut stage, A2, declare("t.excl")),
        format!("{LOCKED} (50,10)"),
        "its own connection has to say exclusive too"
    );
    stage.reopen(B1);
    assert!(stage.publish(B1, "", "t.excl", "hi").is_empty());
    assert_eq!(stage.stats("t.excl"), Some((1, 0, 0)));
}

#[test]
fn an_exclusive_queue_ends_with_its_connection_and_not_with_its_channel() {
    // QUEUE-6, CHAN-12
    let mut stage = Stage::new();
    stage.say(A1, exclusive("t.excl"));
    stage.close(A1);
    assert!(stage.stats("t.excl").is_some());
    stage.disconnect(1);
    assert_eq!(stage.stats("t.excl"), None);
}

#[test]
fn a_name_used_again_does_not_end_with_its_first_owner() {
    // QUEUE-6
    let mut stage = Stage::new();
    stage.say(A1, exclusive("q"));
    stage.say(A1, delete("q"));
    stage.say(B1, declare("q"));
    stage.disconnect(1);
    assert!(stage.stats("q").is_some());
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    // QUEUE-9
    let mut stage = Stage::new();
    stage.say(A1, auto_delete("q"));
    stage.say(A1, consume("q", "a"));
    stage.say(B1, consume("q", "b"));
    stage.say(A1, cancel("a"));
    assert!(stage.stats("q").is_some());
    stage.close(B1);
    assert_eq!(stage.stats("q"), None);

    stage.say(A1, auto_delete("never consumed"));
    stage.disconnect(1);
    assert!(stage.stats("never consumed").is_some());
}

#[test]
fn deleting() {
    // QUEUE-12 to QUEUE-15
    let mut stage = Stage::new();
    stage.say(A2, declare("t.q"));
    stage.publish(A2, "", "t.q", "hi");
    let if_empty = QueueDelete {
        if_empty: true,
        ..delete("t.q")
    };
    let if_unused = QueueDelete {
        if_unused: true,
        ..delete("t.q")
    };
    for (delete, expected) in [
        (delete("t.nope"), "1/1 queue.delete-ok"),
        (
            delete(""),
            "NOT_FOUND - no previously declared queue (50,40)",
        ),
        (
            if_empty.clone(),
            "PRECONDITION_FAILED - queue 't.q' in vhost '/' not empty (50,40)",
        ),
    ] {
        assert_eq!(heard(&mut stage, A1, delete), expected);
    }
    stage.say(B1, consume("t.q", "t"));
    assert_eq!(
        heard(&mut stage, A1, if_unused),
        "PRECONDITION_FAILED - queue 't.q' in vhost '/' in use (50,40)"
    );
    stage.publish(A2, "", "t.q", "hi");
    assert_eq!(
        heard(&mut stage, A1, if_empty),
        "1/1 queue.delete-ok",
        "unacked messages do not count"
    );
    assert_eq!(stage.stats("t.q"), None);
}

#[test]
fn purging_takes_what_is_ready() {
    // QUEUE-15, QUEUE-17
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    for body in ["1", "2", "3"] {
        stage.publish(A1, "", "q", body);
    }
    stage.say(A1, get("q"));
    assert_eq!(
        stage.say(A1, purge("q")),
        ["1/1 queue.purge-ok message-count=2"]
    );
    assert_eq!(stage.stats("q"), Some((0, 1, 0)));
    assert_eq!(
        heard(&mut stage, A1, purge("t.nope")),
        "NOT_FOUND - no queue 't.nope' in vhost '/' (50,30)"
    );
}

#[test]
fn consumers_hear_that_their_queue_is_gone_if_they_asked_to() {
    // CONS-17: the reply first; the second connection did not announce consumer_cancel_notify.
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.say(A1, consume("q", "a"));
    stage.say(B1, consume("q", "b"));
    assert_eq!(
        stage.say(B1, delete("q")),
        [
            "2/1 queue.delete-ok",
            "1/1 basic.cancel consumer-tag='a' no-wait"
        ]
    );
    stage.say(A1, declare("q"));
    assert_eq!(
        stage.say(A1, consume("q", "a")),
        ["1/1 basic.consume-ok consumer-tag='a'"],
        "the tag is free"
    );
}

#[test]
fn no_wait_has_no_reply_and_errors_all_the_same() {
    // METH-8, QUEUE-18
    let mut stage = Stage::new();
    let declare = QueueDeclare {
        no_wait: true,
        ..declare("q")
    };
    assert!(stage.say(A1, declare.clone()).is_empty());
    assert!(stage.stats("q").is_some());
    let unequal = QueueDeclare {
        durable: true,
        ..declare
    };
    assert_eq!(stage.say(A1, unequal).len(), 1);
}

#[test]
fn a_quorum_queue_is_durable_and_everybodys() {
    let mut stage = Stage::new();
    let server_named = QueueDeclare {
        queue: ShortString::EMPTY,
        ..quorum("")
    };
    let property = |what| format!("invalid property '{what}' for queue 't.quo' in vhost '/'");
    for (declare, expected) in [
        (
            QueueDeclare {
                durable: false,
                ..quorum("t.quo")
            },
            property("non-durable"),
        ),
        (
            QueueDeclare {
                exclusive: true,
                ..quorum("t.quo")
            },
            property("exclusive-owner"),
        ),
        (
            QueueDeclare {
                auto_delete: true,
                ..quorum("t.quo")
            },
            property("auto-delete"),
        ),
        (
            server_named,
            "Cannot declare a server-named queue for type rabbit_quorum_queue".into(),
        ),
    ] {
        let expected = format!("PRECONDITION_FAILED - {expected} (50,10)");
        assert_eq!(heard(&mut stage, A1, declare), expected);
    }
}

#[test]
fn a_quorum_queue_knows_no_shared_limit() {
    // QOS-3
    let mut stage = Stage::new();
    stage.say(A1, shared_qos(1));
    stage.say(A1, quorum("t.quo"));
    assert_eq!(
        stage.say(A1, consume("t.quo", "t")),
        [
            "1 close NOT_IMPLEMENTED - queue 't.quo' in vhost '/' does not support global qos (60,20)"
        ]
    );
}
