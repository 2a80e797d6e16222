//! Memory: what counts, and who waits for it. A line `1 blocked` is about a connection.

use super::*;
use crate::codec::{BasicReject, ConfirmSelect, QueueBind};

/// A vhost in which messages take too much if they take more than this. Each takes some 400 octets and its body.
fn with_memory(octets: usize) -> Stage {
    let mut stage = Stage::with(VhostOptions {
        memory_limit: octets,
        ..VhostOptions::default()
    });
    stage.say(A1, declare("q"));
    stage
}

#[test]
fn whoever_publishes_waits_while_memory_is_low() {
    // SEC-8, BLOCK-1
    let mut stage = with_memory(5000);
    let body = "x".repeat(9000);
    assert!(stage.publish(B1, "", "q", &body).is_empty(), "the last");
    assert!(
        stage.say(A1, get("q")).concat().contains("get-ok"),
        "who does not publish goes on"
    );
    assert_eq!(
        stage.publish(B1, "", "q", "late"),
        ["2 blocked low on memory"]
    );
    assert!(stage.publish(B1, "", "q", "later").is_empty(), "it knows");
    assert_eq!(stage.stats("q"), Some((0, 1, 0)));
    assert_eq!(stage.say(A1, ack(1)), ["2 unblocked"]);
    assert_eq!(stage.bodies(A1, "q"), ["late", "later"]);
}

#[test]
fn a_publish_that_waits_is_answered_when_it_comes_in() {
    // BLOCK-2, CONF-3, CONF-8
    let mut stage = with_memory(5000);
    stage.say(A1, ConfirmSelect { no_wait: false });
    stage.vhost.block(short!("low on disk"));
    assert_eq!(stage.publish(A1, "", "q", "1"), ["1 blocked low on disk"]);
    assert_eq!(
        stage.publish(B1, "nowhere", "q", "2"),
        ["2 blocked low on disk"]
    );
    stage.vhost.unblock(stage.now);
    assert_eq!(
        stage.heard(),
        [
            "1 unblocked",
            "1/1 basic.ack delivery-tag=1",
            "2 unblocked",
            "2/1 close NOT_FOUND - no exchange 'nowhere' in vhost '/' (60,40)",
        ]
    );
}

#[test]
fn whoever_waits_goes_on_in_turn_and_only_while_there_is_room() {
    // BLOCK-1
    let mut stage = with_memory(5000);
    let body = "x".repeat(9000);
    stage.publish(A2, "", "q", &body);
    assert_eq!(
        stage.publish(B1, "", "q", &body),
        ["2 blocked low on memory"]
    );
    assert_eq!(
        stage.publish(A1, "", "q", &body),
        ["1 blocked low on memory"]
    );
    assert_eq!(
        stage.say(A2, purge("q")),
        ["1/2 queue.purge-ok message-count=1", "2 unblocked"]
    );
    assert_eq!(
        stage.say(A2, purge("q")),
        ["1/2 queue.purge-ok message-count=1", "1 unblocked"]
    );
    assert_eq!(stage.stats("q"), Some((1, 0, 0)));
}

#[test]
fn the_alarm_ends_below_where_it_begins() {
    let mut stage = with_memory(20_000);
    while stage.publish(B1, "", "q", &"x".repeat(1000)).is_empty() {}
    let get = BasicGet {
        no_ack: true,
        ..get("q")
    };
    let mut gets = 1;
    while !stage.say(A1, get.clone()).concat().contains("unblocked") {
        gets += 1;
    }
    assert_eq!(gets, 3, "2800 octets are less than an eighth of all");
}

#[test]
fn who_leaves_waits_no_more() {
    // CHAN-11
    let mut stage = with_memory(5000);
    stage.vhost.block(short!("low on memory"));
    stage.publish(B1, "", "q", "lost");
    stage.publish(A1, "", "q", "kept");
    stage.disconnect(2);
    stage.vhost.unblock(stage.now);
    assert_eq!(stage.heard(), ["1 unblocked"]);
    assert_eq!(stage.bodies(A1, "q"), ["kept"]);
}

#[test]
fn memory_that_is_low_outlasts_an_order_to_go_on() {
    let mut stage = with_memory(5000);
    stage.vhost.block(short!("because"));
    stage.publish(A1, "", "q", &"x".repeat(9000));
    stage.vhost.unblock(stage.now);
    assert_eq!(
        stage.heard(),
        ["1 unblocked"],
        "its message is one too many"
    );
    assert_eq!(
        stage.publish(B1, "", "q", "waits"),
        ["2 blocked low on memory"]
    );
    stage.vhost.unblock(stage.now);
    assert!(stage.heard().is_empty());
}

type Way = fn(&mut Stage);

#[test]
fn every_way_out_of_a_queue_makes_room() {
    // SEC-8: each round fills the only place there is, and somebody waits for it.
    let body = "x".repeat(9000);
    let ways: [(&str, Way); 6] = [
        ("no-ack", |stage| {
            let no_ack = true;
            stage.say(A1, BasicGet { no_ack, ..get("q") });
        }),
        ("ack", |stage| {
            stage.say(A1, get("q"));
            stage.say(A1, ack(1));
        }),
        ("delete", |stage| drop(stage.say(A1, delete("q")))),
        ("purge", |stage| drop(stage.say(A1, purge("q")))),
        ("reject", |stage| {
            stage.say(A1, get("q"));
            let delivery_tag = DeliveryTag(1);
            let requeue = false;
            stage.say(
                A1,
                BasicReject {
                    delivery_tag,
                    requeue,
                },
            );
        }),
        ("expire", |stage| drop(stage.pass(1000))),
    ];
    for (way, free) in ways {
        let mut stage = with_memory(5000);
        stage.say(A1, delete("q"));
        stage.say(A1, with("q", "x-message-ttl", FieldValue::I32(1000)));
        assert!(stage.publish(A1, "", "q", &body).is_empty());
        assert_eq!(
            stage.publish(B1, "", "q", &body).len(),
            1,
            "{way}: it has to wait"
        );
        free(&mut stage);
        let full_again = way != "delete"; // with a message that has found its queue
        let heard = stage.publish(A1, "", "q", "");
        assert_eq!(heard.len(), usize::from(full_again), "{way}: {heard:?}");
    }
}

#[test]
fn a_body_counts_once_in_however_many_queues() {
    // SEC-8: 20,000 octets in three queues, where there is room for twice as many.
    let mut stage = with_memory(40_000);
    for queue in ["a", "b", "c"] {
        stage.say(A1, declare(queue));
    }
    let properties = Properties {
        headers: Some(table([(
            "CC",
            FieldValue::Array(vec![long("b"), long("c")]),
        )])),
        ..Properties::default()
    };
    let publish = BasicPublish {
        routing_key: short!("a"),
        ..BasicPublish::default()
    };
    stage.publish_as(A1, publish, properties, &"x".repeat(20_000));
    assert_eq!(stage.stats("c"), Some((1, 0, 0)));
    assert!(
        stage.publish(A1, "", "nowhere", "").is_empty(),
        "nobody is blocked"
    );
}

#[test]
fn a_place_in_a_queue_counts_in_each() {
    // SEC-8: or a fanout to thousands of queues would turn 100 octets into a megabyte that nobody counts.
    let mut stage = with_memory(30_000);
    for n in 0..100 {
        let (queue, exchange) = (name(&format!("q{n}")), short!("amq.fanout"));
        stage.say(A1, declare(&queue.to_string()));
        let bind = QueueBind {
            queue,
            exchange,
            ..QueueBind::default()
        };
        stage.say(A1, bind);
    }
    for _ in 0..2 {
        assert!(stage.publish(B1, "amq.fanout", "", "").is_empty());
    }
    assert_eq!(
        stage.publish(B1, "amq.fanout", "", ""),
        ["2 blocked low on memory"]
    );
}

#[test]
fn headers_count_by_the_octets_they_take() {
    // SEC-8, SEC-17: a thousand entries of two octets would be 80,000 octets as values, and are kept as the 2000 they are.
    for (memory, heard) in [(2000, 1), (4000, 0)] {
        let mut stage = with_memory(memory);
        let properties = Properties {
            headers: Some(FieldTable(vec![
                (ShortString::EMPTY, FieldValue::Void);
                1000
            ])),
            ..Properties::default()
        };
        assert!(stage.publish_with(A1, "q", properties).is_empty());
        assert_eq!(stage.publish(A1, "", "q", "").len(), heard);
    }
}

#[test]
fn queues_and_consumers_come_while_memory_is_low() {
    // BLOCK-1, SEC-8: or nobody could come to take away what is too much.
    let mut stage = with_memory(400);
    stage.publish(B1, "", "q", "too much");
    assert_eq!(stage.publish(B1, "", "q", "waits").len(), 1);
    assert_eq!(stage.say(A1, declare("another")).len(), 1);
    assert_eq!(
        stage.say(A1, consume("q", "t")).len(),
        2,
        "ok, and a delivery"
    );
}
