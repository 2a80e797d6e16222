//! What clients do with deliveries: ack, nack, reject, recover, and going away.

use super::*;
use crate::codec::{BasicNack, BasicRecover, BasicRecoverAsync, BasicReject};

/// A queue with these messages, all of them with the consumer `t` on A1.
fn delivered(bodies: &[&str]) -> Stage {
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.say(A1, consume("q", "t"));
    for body in bodies {
        assert_eq!(stage.publish(A2, "", "q", body).len(), 1);
    }
    stage
}

fn nack(delivery_tag: u64, multiple: bool, requeue: bool) -> BasicNack {
    BasicNack {
        delivery_tag: DeliveryTag(delivery_tag),
        multiple,
        requeue,
    }
}

fn reject(delivery_tag: u64, requeue: bool) -> BasicReject {
    BasicReject {
        delivery_tag: DeliveryTag(delivery_tag),
        requeue,
    }
}

fn ack_through(delivery_tag: u64) -> BasicAck {
    BasicAck {
        multiple: true,
        ..ack(delivery_tag)
    }
}

fn unknown(tag: u64, method: &str) -> Vec<String> {
    vec![format!(
        "1/1 close PRECONDITION_FAILED - unknown delivery tag {tag} (60,{method})"
    )]
}

#[test]
fn one_or_all_up_to_a_tag() {
    // ACK-4, ACK-5
    let mut stage = delivered(&["1", "2", "3", "4"]);
    stage.say(A1, ack(2));
    assert_eq!(stage.stats("q"), Some((0, 3, 1)));
    stage.say(A1, ack_through(3));
    assert_eq!(stage.stats("q"), Some((0, 1, 1)));
    stage.say(A1, ack_through(0));
    assert_eq!(stage.stats("q"), Some((0, 0, 1)));
    assert!(stage.say(A1, ack_through(0)).is_empty(), "none is no error");
}

#[test]
fn tags_that_are_not_outstanding() {
    // ACK-2, ACK-3, ACK-4, ACK-6
    let one = || delivered(&["1"]);
    assert_eq!(one().say(A1, ack(99)), unknown(99, "80"));
    assert_eq!(one().say(A1, ack(0)), unknown(0, "80"));
    assert_eq!(one().say(A1, ack_through(5)), unknown(5, "80"));
    assert_eq!(one().say(A1, reject(9, true)), unknown(9, "90"));
    assert_eq!(one().say(A1, nack(9, false, true)), unknown(9, "120"));
    assert_eq!(
        one().say(A2, ack(1)),
        ["1/2 close PRECONDITION_FAILED - unknown delivery tag 1 (60,80)"],
        "it came on another channel"
    );
    let mut twice = one();
    twice.say(A1, ack(1));
    assert_eq!(twice.say(A1, ack(1)), unknown(1, "80"));
}

#[test]
fn a_no_ack_delivery_cannot_be_acknowledged() {
    // CONS-7
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    stage.say(
        A1,
        BasicConsume {
            no_ack: true,
            ..consume("q", "t")
        },
    );
    stage.publish(A2, "", "q", "1");
    let second = stage.publish(A2, "", "q", "2").concat();
    assert!(second.contains("delivery-tag=2"), "they count all the same");
    assert_eq!(stage.stats("q"), Some((0, 0, 1)));
    assert_eq!(stage.say(A1, ack(1)), unknown(1, "80"));
}

#[test]
fn what_is_requeued_takes_its_old_place() {
    // CONS-19, CONS-20, ACK-7: before younger ones, whatever the order of the rejects.
    let mut stage = Stage::new();
    stage.say(A1, declare("q"));
    for body in ["1", "2", "3", "4", "5"] {
        stage.publish(A1, "", "q", body);
    }
    for _ in 0..4 {
        stage.say(A1, get("q"));
    }
    stage.say(A1, reject(3, true));
    stage.say(A1, reject(1, true));
    stage.say(A1, reject(2, false));
    assert_eq!(
        stage.say(A1, get("q")),
        ["1/1 basic.get-ok delivery-tag=5 redelivered routing-key='q' message-count=2 | 1"]
    );
    stage.say(A1, nack(0, true, true));
    assert_eq!(stage.bodies(A1, "q"), ["1", "3", "4", "5"]);
}

#[test]
fn nack_of_several_keeps_their_order() {
    // CONS-20, ACK-4, ACK-7
    let mut stage = delivered(&["1", "2", "3"]);
    assert_eq!(
        stage.say(A1, nack(2, true, true)),
        [
            "1/1 basic.deliver consumer-tag='t' delivery-tag=4 redelivered routing-key='q' | 1",
            "1/1 basic.deliver consumer-tag='t' delivery-tag=5 redelivered routing-key='q' | 2",
        ]
    );
}

#[test]
fn recover_replies_before_it_redelivers() {
    // ACK-10, CONS-3
    let mut stage = delivered(&["hi"]);
    assert_eq!(
        stage.say(A1, BasicRecover { requeue: true }),
        [
            "1/1 basic.recover-ok",
            "1/1 basic.deliver consumer-tag='t' delivery-tag=2 redelivered routing-key='q' | hi",
        ]
    );
    assert_eq!(
        stage.say(A1, BasicRecoverAsync { requeue: true }),
        ["1/1 basic.deliver consumer-tag='t' delivery-tag=3 redelivered routing-key='q' | hi"]
    );
}

#[test]
fn recover_without_requeue_costs_the_connection() {
    // ACK-10
    let text = "1 close NOT_IMPLEMENTED - requeue=false";
    assert_eq!(
        delivered(&[]).say(A1, BasicRecover { requeue: false }),
        [format!("{text} (60,110)")]
    );
    assert_eq!(
        delivered(&[]).say(A1, BasicRecoverAsync { requeue: false }),
        [format!("{text} (60,100)")]
    );
}

#[test]
fn a_closed_channel_gives_back_what_it_held() {
    // CHAN-11, CONS-19
    let mut stage = delivered(&["1", "2"]);
    stage.say(B1, consume("q", "other"));
    assert_eq!(
        stage.close(A1),
        [
            "2/1 basic.deliver consumer-tag='other' delivery-tag=1 redelivered routing-key='q' | 1",
            "2/1 basic.deliver consumer-tag='other' delivery-tag=2 redelivered routing-key='q' | 2",
        ]
    );
    assert_eq!(stage.stats("q"), Some((0, 2, 1)));
    assert!(stage.close(A1).is_empty(), "again is no error");
}

#[test]
fn a_lost_connection_gives_back_the_messages_of_all_its_channels() {
    // CHAN-11: and none of them goes to another channel of it on the way.
    let mut stage = delivered(&["1"]);
    stage.say(A2, consume("q", "t2"));
    stage.publish(B1, "", "q", "2");
    assert!(stage.disconnect(1).is_empty());
    assert_eq!(stage.stats("q"), Some((2, 0, 0)));
    assert!(stage.disconnect(1).is_empty(), "again is no error");
    assert_eq!(stage.bodies(B1, "q"), ["1", "2"]);
}

#[test]
fn after_a_close_the_rest_of_the_pipeline_is_dropped() {
    // CHAN-7, CHAN-15
    let mut stage = delivered(&["1"]);
    assert_eq!(stage.say(A1, ack(9)).len(), 1);
    assert!(stage.say(A1, ack(9)).is_empty());
    assert!(stage.publish(A1, "nowhere", "", "").is_empty());
    stage.reopen(A1);
    assert!(stage.say(A1, get("q"))[0].contains("delivery-tag=1 redelivered"));

    stage.say(A1, qos_octets());
    assert!(
        stage.say(A2, get("q")).is_empty(),
        "the whole connection is gone"
    );
    stage.reopen(A2);
    assert!(stage.say(A2, get("q")).is_empty());
}

/// Any hard error will do. QOS-5
fn qos_octets() -> BasicQos {
    BasicQos {
        prefetch_size: 1,
        ..qos(0)
    }
}

#[test]
fn a_message_whose_queue_is_gone_can_be_settled() {
    // ACK-9: also when the name is in use again.
    let mut stage = delivered(&["1", "2"]);
    stage.say(A1, delete("q"));
    assert!(stage.say(A1, ack(1)).is_empty());
    stage.say(A1, declare("q"));
    assert!(stage.say(A1, nack(2, false, true)).is_empty());
    assert_eq!(stage.stats("q"), Some((0, 0, 0)));
}

#[test]
fn a_quorum_queue_counts_how_often_a_message_came_back() {
    let mut stage = Stage::new();
    stage.say(A1, quorum("q"));
    stage.say(A1, consume("q", "t"));
    let publisher = Properties {
        headers: Some(table([("x-delivery-count", long("forged"))])),
        ..Properties::default()
    };
    assert!(stage.publish(A2, "", "q", "hi")[0].ends_with("routing-key='q' | hi"));
    for count in 1..=2 {
        let again = stage.say(A1, nack(count, false, true)).concat();
        let header = format!("| headers={{x-delivery-count: {count}}} | hi");
        assert!(again.ends_with(&header), "{again}");
    }
    stage.say(A1, cancel("t"));
    stage.publish_with(A2, "q", publisher);
    let first = stage.say(A1, get("q")).concat();
    assert!(
        first.ends_with("| headers={x-delivery-count: 0} | hi"),
        "{first}"
    );
}
