//! Limits: what a slow reader and a full vhost cost, and that nothing is quadratic.

use super::*;
use crate::codec::QueueBind;

/// A vhost whose connections may have `octets` waiting for their socket.
fn with_unsent(octets: usize) -> Stage {
    Stage::with(VhostOptions {
        max_unsent_octets: octets,
        ..VhostOptions::default()
    })
}

#[test]
fn a_connection_that_does_not_read_is_given_no_more() {
    // SEC-8, SEC-10: a delivery of 44 octets counts 300.
    let mut stage = with_unsent(500);
    stage.say(B1, declare("q"));
    stage.say(A1, consume("q", "slow"));
    let body = "x".repeat(44);
    let delivered: Vec<_> = (0..5)
        .map(|_| stage.publish(B1, "", "q", &body).len())
        .collect();
    assert_eq!(delivered, [1, 1, 0, 0, 0], "600 are over the limit");
    assert_eq!(stage.stats("q"), Some((3, 2, 1)));

    stage.vhost.sent(A1.connection, 50, stage.now);
    assert_eq!(stage.heard().len(), 0, "550 are still over it");
    stage.vhost.sent(A1.connection, 100, stage.now);
    assert_eq!(stage.heard().len(), 1, "450 are not, 750 are");
    stage.vhost.sent(A1.connection, usize::MAX, stage.now);
    assert_eq!(stage.heard().len(), 2);
}

#[test]
fn the_others_get_what_a_slow_reader_cannot_take() {
    // CONS-11, SEC-10
    let mut stage = with_unsent(0);
    stage.say(A1, declare("q"));
    stage.say(A1, consume("q", "slow"));
    stage.say(B1, consume("q", "fast"));
    for body in ["1", "2", "3"] {
        stage.publish(A2, "", "q", body);
        stage.vhost.sent(B1.connection, 257, stage.now);
    }
    assert_eq!(stage.stats("q"), Some((0, 3, 2)));
    let Stage { vhost, now } = &mut stage;
    vhost.disconnect(A1.connection, *now);
    assert_eq!(
        stage.stats("q"),
        Some((0, 3, 1)),
        "one had gone to the slow one"
    );
}

#[test]
fn what_an_output_counts_for_is_what_sent_takes_off() {
    let mut stage = with_unsent(0);
    stage.say(A1, declare("q"));
    stage.say(A1, consume("q", "t"));
    let publish = BasicPublish {
        routing_key: short!("q"),
        ..BasicPublish::default()
    };
    for _ in 0..2 {
        let Lane {
            connection,
            channel,
        } = A2;
        let message = Message::default();
        stage
            .vhost
            .publish(connection, channel, publish.clone(), message, stage.now);
    }
    let (_, output) = stage.vhost.poll_output().unwrap();
    assert_eq!(stage.vhost.poll_output(), None);
    stage.vhost.sent(A1.connection, output.octets(), stage.now);
    assert_eq!(stage.heard().len(), 1);
}

#[test]
fn gets_and_returns_are_never_held_back() {
    let mut stage = with_unsent(0);
    stage.say(A1, declare("q"));
    for _ in 0..2 {
        stage.publish(A1, "", "q", "hi");
    }
    for _ in 0..2 {
        assert_eq!(stage.publish_mandatory(A1, "nowhere", "hi").len(), 1);
        assert!(stage.say(A1, get("q"))[0].contains("basic.get-ok"));
    }
}

#[test]
fn a_full_vhost_costs_the_publisher_its_connection() {
    // SEC-8
    let mut stage = Stage::with(VhostOptions {
        max_queued_octets: 1000,
        ..VhostOptions::default()
    });
    stage.say(A1, declare("q"));
    let body = "x".repeat(200);
    assert!(stage.publish(B1, "", "q", &body).is_empty());
    assert!(stage.publish(B1, "", "q", &body).is_empty());
    assert_eq!(
        stage.publish(B1, "", "q", &body),
        [
            "2 close RESOURCE_ERROR - no room in the queues of this vhost, which may keep 1000 octets (60,40)"
        ]
    );
    assert_eq!(stage.stats("q"), Some((2, 0, 0)));
}

#[test]
fn every_way_out_of_a_queue_makes_room() {
    // SEC-8: each round fills the only place there is.
    let mut stage = Stage::with(VhostOptions {
        max_queued_octets: 1000,
        ..VhostOptions::default()
    });
    let body = "x".repeat(600);
    let store = |stage: &mut Stage| {
        stage.say(A1, declare("q"));
        assert!(stage.publish(A1, "", "q", &body).is_empty());
        assert_eq!(stage.stats("q"), Some((1, 0, 0)));
    };
    store(&mut stage);
    stage.bodies(A1, "q");
    store(&mut stage);
    stage.say(A1, get("q"));
    stage.say(A1, ack(2));
    store(&mut stage);
    stage.say(A1, delete("q"));
    store(&mut stage);
    stage.say(A1, purge("q"));
    store(&mut stage);
}

#[test]
fn a_body_counts_once_in_however_many_queues() {
    // SEC-8: 600 octets in three queues, where there is room for twice as many.
    let mut stage = Stage::with(VhostOptions {
        max_queued_octets: 1200,
        ..VhostOptions::default()
    });
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
    assert!(
        stage
            .publish_as(A1, publish, properties, &"x".repeat(600))
            .is_empty()
    );
    assert_eq!(stage.stats("c"), Some((1, 0, 0)));
}

#[test]
fn a_place_in_a_queue_counts_in_each() {
    // SEC-8: or a fanout to thousands of queues would turn 100 octets into a megabyte that nobody counts.
    let mut stage = Stage::with(VhostOptions {
        max_queued_octets: 10_000,
        ..VhostOptions::default()
    });
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
    assert!(stage.publish(B1, "amq.fanout", "", "").is_empty());
    let refused = stage.publish(B1, "amq.fanout", "", "");
    assert!(refused[0].contains("RESOURCE_ERROR"), "{refused:?}");
}

#[test]
fn ten_thousand_of_everything_take_linear_time() {
    // A scan per message over consumers, queues or messages would take minutes here.
    const MANY: u64 = 10_000;
    let mut stage = with_unsent(usize::MAX);
    stage.say(A1, declare("in"));
    stage.say(A1, qos(1));
    for n in 0..1000 {
        stage.say(A1, declare(&format!("q{n}")));
        stage.say(A1, consume("in", &format!("c{n}")));
    }
    let started = Clock::now();
    for _ in 0..MANY {
        stage.publish(B1, "", "in", "x");
    }
    assert_eq!(stage.stats("in"), Some((9_000, 1000, 1000)));
    for tag in 1..=MANY {
        stage.say(A1, ack(tag));
    }
    assert_eq!(stage.stats("in"), Some((0, 0, 1000)));

    for _ in 0..MANY {
        stage.publish(B1, "", "q1", "x");
    }
    for _ in 0..MANY {
        stage.say(A2, get("q1"));
    }
    stage.close(A2);
    assert_eq!(stage.stats("q1"), Some((10_000, 0, 0)));
    assert!(started.elapsed() < Duration::from_secs(10));
}
