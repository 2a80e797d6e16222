//! Consume, cancel, get and qos.

use super::*;

fn refused(stage: &mut Stage, lane: Lane, consume: BasicConsume) -> String {
    let heard = stage.say(lane, consume).concat();
    stage.reopen(lane);
    heard
}

/// Who gets each of these messages: the tag of the consumer, or `-` for none.
fn takers(stage: &mut Stage, queue: &str, count: usize) -> String {
    let mut taker = || {
        let heard = stage.publish(B1, "", queue, "x").concat();
        let tag = heard.split_once("consumer-tag='");
        tag.map_or("-", |(_, rest)| rest.split('\'').next().unwrap())
            .to_owned()
    };
    (0..count).map(|_| taker()).collect()
}

#[test]
fn consume_ok_comes_before_the_first_deliver() {
    // CONS-3, CONS-9, CONS-10
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.publish(A1, "", "q", "hi");
    let no_local = BasicConsume {
        no_local: true,
        ..consume("", "t")
    };
    assert_eq!(
        stage.say(A1, no_local),
        [
            "1/1 basic.consume-ok consumer-tag='t'",
            "1/1 basic.deliver consumer-tag='t' delivery-tag=1 routing-key='q' | hi",
        ],
        "QUEUE-12: an empty name is the last queue"
    );
}

#[test]
fn a_consumer_without_a_tag_is_given_one() {
    // CONS-1, CONS-5
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.say(A1, consume("q", "amq.ctag-1"));
    assert_eq!(
        stage.say(A1, consume("q", "")),
        ["1/1 basic.consume-ok consumer-tag='amq.ctag-2'"],
        "1 is in use"
    );
    let no_wait = BasicConsume {
        no_wait: true,
        ..consume("q", "")
    };
    assert!(stage.say(A2, no_wait).is_empty());
    assert_eq!(stage.stats("q"), Some((0, 0, 3)));
}

#[test]
fn a_tag_in_use_costs_the_connection() {
    // CONS-2
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.say(A1, consume("q", "t"));
    assert_eq!(
        stage.say(A2, consume("q", "t")),
        ["1/2 basic.consume-ok consumer-tag='t'"],
        "another channel"
    );
    assert_eq!(
        stage.say(A1, consume("q", "t")),
        ["1 close NOT_ALLOWED - attempt to reuse consumer tag 't' (60,20)"]
    );
    assert_eq!(stage.stats("q"), Some((0, 0, 0)));
}

#[test]
fn what_cannot_be_consumed() {
    // QUEUE-12, QUEUE-17
    let mut stage = Stage::new();
    stage.say(B1, declare("t.q"));
    let no_wait = BasicConsume {
        no_wait: true,
        ..consume("t.nope", "t")
    };
    let priority = BasicConsume {
        arguments: table([("x-priority", long("high"))]),
        ..consume("t.q", "t")
    };
    for (consume, expected) in [
        (
            consume("t.nope", "t"),
            "NOT_FOUND - no queue 't.nope' in vhost '/'",
        ),
        (no_wait, "NOT_FOUND - no queue 't.nope' in vhost '/'"),
        (consume("", "t"), "NOT_FOUND - no previously declared queue"),
        (
            priority,
            "PRECONDITION_FAILED - invalid arg 'x-priority' for queue 't.q' in vhost '/': \"expected integer, got \
             longstr\"",
        ),
    ] {
        let expected = format!("1/1 close {expected} (60,20)");
        assert_eq!(refused(&mut stage, A1, consume), expected);
    }
}

#[test]
fn an_exclusive_consumer_is_alone() {
    // CONS-8
    let mut stage = Stage::new();
    let exclusive = || BasicConsume {
        exclusive: true,
        ..consume("t.q", "t")
    };
    let in_use = "close ACCESS_REFUSED - queue 't.q' in vhost '/' in exclusive use (60,20)";
    stage.say(A1, declare("t.q"));
    stage.say(A1, consume("t.q", "first"));
    assert_eq!(
        refused(&mut stage, B1, exclusive()),
        format!("2/1 {in_use}")
    );
    stage.say(A1, cancel("first"));
    stage.say(A1, exclusive());
    assert_eq!(
        refused(&mut stage, B1, consume("t.q", "t")),
        format!("2/1 {in_use}")
    );
    stage.say(A1, cancel("t"));
    assert_eq!(
        stage.say(B1, consume("t.q", "t")),
        ["2/1 basic.consume-ok consumer-tag='t'"]
    );
}

#[test]
fn turns_go_round_the_consumers() {
    // CONS-11
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    for (lane, tag) in [(A1, "a"), (A2, "b"), (B1, "c")] {
        stage.say(lane, consume("q", tag));
    }
    assert_eq!(takers(&mut stage, "q", 7), "abcabca");
}

#[test]
fn fair_dispatch_with_prefetch_one() {
    // QOS-1, QOS-7, QOS-9: whoever is done gets the next one, whoever is busy gets none.
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    for (lane, tag) in [(A1, "busy"), (A2, "quick")] {
        stage.say(lane, qos(1));
        stage.say(lane, consume("q", tag));
    }
    for body in ["1", "2", "3", "4"] {
        stage.publish(B1, "", "q", body);
    }
    assert_eq!(stage.stats("q"), Some((2, 2, 2)));
    assert_eq!(
        stage.say(A2, ack(1)),
        ["1/2 basic.deliver consumer-tag='quick' delivery-tag=2 routing-key='q' | 3"]
    );
    assert_eq!(
        stage.say(A2, ack(2)),
        ["1/2 basic.deliver consumer-tag='quick' delivery-tag=3 routing-key='q' | 4"]
    );
}

#[test]
fn a_limit_for_each_consumer_started_later() {
    // QOS-2
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.say(A1, consume("q", "a"));
    assert_eq!(stage.say(A1, qos(2)), ["1/1 basic.qos-ok"]);
    stage.say(A1, consume("q", "b"));
    stage.say(A1, consume("q", "c"));
    assert_eq!(takers(&mut stage, "q", 8), "abcabcaa");
}

#[test]
fn one_limit_for_the_whole_channel() {
    // QOS-3, QOS-7
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.say(A1, consume("q", "a"));
    stage.say(A1, consume("q", "b"));
    stage.say(A1, shared_qos(3));
    assert_eq!(takers(&mut stage, "q", 5), "aba--");
    assert_eq!(stage.say(A1, ack(2)).len(), 1);
    assert_eq!(
        stage.say(A1, shared_qos(0)),
        [
            "1/1 basic.qos-ok",
            "1/1 basic.deliver consumer-tag='a' delivery-tag=5 routing-key='q' | x"
        ],
        "at once, and the reply first"
    );
}

#[test]
fn a_slot_of_the_shared_limit_is_free_for_the_consumers_of_other_queues() {
    // QOS-3, QOS-8: even one that a cancelled consumer held.
    let mut stage = Stage::new();
    stage.say(A1, shared_qos(1));
    for queue in ["one", "two"] {
        stage.say(A1, declare(queue));
        stage.say(A1, consume(queue, queue));
        stage.publish(B1, "", queue, "x");
    }
    stage.say(A1, cancel("one"));
    assert_eq!(stage.stats("two"), Some((1, 0, 1)));
    assert_eq!(
        stage.say(A1, ack(1)),
        ["1/1 basic.deliver consumer-tag='two' delivery-tag=2 routing-key='two' | x"]
    );
}

#[test]
fn limits_are_for_those_who_acknowledge() {
    // QOS-6
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.say(A1, qos(1));
    stage.say(A1, shared_qos(1));
    for _ in 0..3 {
        stage.publish(B1, "", "q", "x");
        assert!(stage.say(A1, get("q"))[0].contains("get-ok"));
    }
    stage.say(
        A1,
        BasicConsume {
            no_ack: true,
            ..consume("q", "n")
        },
    );
    assert_eq!(takers(&mut stage, "q", 3), "nnn");
    stage.say(A1, cancel("n"));
    stage.say(A1, consume("q", "a"));
    assert_eq!(
        takers(&mut stage, "q", 2),
        "a-",
        "what get took is not counted"
    );
    let no_ack = BasicConsume {
        no_ack: true,
        ..consume("q", "n")
    };
    assert_eq!(stage.say(A1, no_ack).len(), 2, "though the channel is full");
}

#[test]
fn a_limit_in_octets_is_not_implemented() {
    // QOS-5
    let octets = BasicQos {
        prefetch_size: 10,
        ..qos(1)
    };
    assert_eq!(
        Stage::new().say(A1, octets),
        ["1 close NOT_IMPLEMENTED - prefetch_size!=0 (10) (60,10)"]
    );
}

#[test]
fn the_higher_priority_goes_first() {
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.say(A1, qos(2));
    for (tag, priority) in [("a", -1), ("b", 0), ("c", 10)] {
        stage.say(
            A1,
            BasicConsume {
                arguments: table([("x-priority", FieldValue::I32(priority))]),
                ..consume("q", tag)
            },
        );
    }
    assert_eq!(takers(&mut stage, "q", 7), "ccbbaa-");
}

#[test]
fn cancelling() {
    // CONS-13, CONS-15, METH-8
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.say(A1, consume("q", "t"));
    stage.publish(B1, "", "q", "held");
    assert_eq!(
        stage.say(A1, cancel("t")),
        ["1/1 basic.cancel-ok consumer-tag='t'"]
    );
    assert_eq!(takers(&mut stage, "q", 1), "-");
    assert!(stage.say(A1, ack(1)).is_empty(), "still its own to settle");
    assert_eq!(
        stage.say(A1, cancel("nope")),
        ["1/1 basic.cancel-ok consumer-tag='nope'"]
    );
    let no_wait = BasicCancel {
        no_wait: true,
        ..cancel("nope")
    };
    assert!(stage.say(A1, no_wait).is_empty());
}

#[test]
fn getting_one_at_a_time() {
    // CONS-21, QUEUE-12, QUEUE-17, ACK-1
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.publish(A1, "", "q", "1");
    stage.publish(A1, "", "q", "2");
    assert_eq!(
        stage.say(A1, get("")),
        ["1/1 basic.get-ok delivery-tag=1 routing-key='q' message-count=1 | 1"]
    );
    let no_ack = BasicGet {
        no_ack: true,
        ..get("q")
    };
    assert_eq!(
        stage.say(A1, no_ack),
        ["1/1 basic.get-ok delivery-tag=2 routing-key='q' | 2"]
    );
    assert_eq!(stage.stats("q"), Some((0, 1, 0)));
    assert_eq!(stage.say(A1, get("q")), ["1/1 basic.get-empty"]);
    assert_eq!(
        stage.say(A2, get("")),
        ["1/2 close NOT_FOUND - no previously declared queue (60,70)"]
    );
}

#[test]
fn methods_that_are_not_for_a_broker() {
    // TX-6: and all else that the table of methods here has no row for.
    use crate::codec::{BasicCancelOk, TxCommit, TxSelect};
    for (method, expected) in [
        (Method::from(TxSelect {}), "tx.select (90,10)"),
        (TxCommit {}.into(), "tx.commit (90,20)"),
        (BasicCancelOk::default().into(), "basic.cancel-ok (60,31)"),
    ] {
        assert_eq!(
            Stage::new().say(A1, method),
            [format!("1 close NOT_IMPLEMENTED - {expected}")]
        );
    }
}
