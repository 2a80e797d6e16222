//! Flow: what a slow reader costs, and that nothing is quadratic.

use super::*;
use crate::codec::{ExchangeBind, ExchangeDeclare, ExchangeDelete, QueueBind, QueueUnbind};

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

/// A vhost that may keep so many octets beside messages. A queue takes some 1500 of them.
fn with_room_for(octets: usize) -> Stage {
    Stage::with(VhostOptions {
        entry_limit: octets,
        ..VhostOptions::default()
    })
}

fn is_refused(heard: &[String]) -> bool {
    heard.last().is_some_and(|last| {
        last.contains("close RESOURCE_ERROR - no room in this vhost, which may keep")
    })
}

#[test]
fn whatever_a_client_makes_is_paid_for_and_paid_back() {
    // SEC-8: queues, exchanges, bindings and consumers, with their arguments.
    let arguments = |octets: usize| table([("x", long(&"x".repeat(octets)))]);
    let exchange = |octets| ExchangeDeclare {
        exchange: short!("e"),
        kind: short!("fanout"),
        arguments: arguments(octets),
        ..ExchangeDeclare::default()
    };
    let bind = |octets| QueueBind {
        queue: short!("q"),
        exchange: short!("amq.fanout"),
        arguments: arguments(octets),
        ..QueueBind::default()
    };
    let bind_exchange = |octets| ExchangeBind {
        source: short!("amq.fanout"),
        destination: short!("amq.direct"),
        arguments: arguments(octets),
        ..ExchangeBind::default()
    };
    let unbind = |octets| QueueUnbind {
        queue: short!("q"),
        exchange: short!("amq.fanout"),
        arguments: arguments(octets),
        ..QueueUnbind::default()
    };
    let long_queue = |octets| QueueDeclare {
        arguments: arguments(octets),
        ..declare("long")
    };
    let ready = || {
        let mut stage = with_room_for(10_000);
        assert_eq!(stage.say(A1, declare("q")).len(), 1);
        stage
    };
    assert!(is_refused(&ready().say(A1, long_queue(9000))));
    assert!(is_refused(&ready().say(A1, exchange(9000))));
    assert!(is_refused(&ready().say(A1, bind(9000))));
    assert!(is_refused(&ready().say(A1, bind_exchange(9000))));

    let mut stage = ready();
    for _ in 0..100 {
        stage.say(A1, exchange(1000));
        stage.say(A1, bind(1000));
        stage.say(A1, bind(1000)); // the same binding, which is there already
        stage.say(A1, consume("q", "t"));
        stage.say(A1, cancel("t"));
        stage.say(A1, unbind(1000));
        let delete = ExchangeDelete {
            exchange: short!("e"),
            ..ExchangeDelete::default()
        };
        assert_eq!(stage.say(A1, delete), ["1/1 exchange.delete-ok"]);
    }
    let consumed = (0..100).find(|n| is_refused(&stage.say(A1, consume("q", &format!("t{n}")))));
    assert_eq!(consumed, Some(5), "they take some 1500 octets each");
    assert!(
        !is_refused(&stage.say(B1, consume("q", "t"))),
        "they went with their connection"
    );
}

#[test]
fn a_channel_has_so_many_consumers() {
    // SEC-8, in the words of RabbitMQ's consumer_max_per_channel.
    let mut stage = Stage::with(VhostOptions {
        max_consumers: 2,
        ..VhostOptions::default()
    });
    stage.say(A1, declare("q"));
    for (lane, tag) in [(A1, "a"), (A1, "b"), (A2, "a"), (B1, "a")] {
        assert!(stage.say(lane, consume("q", tag))[0].contains("consume-ok"));
    }
    stage.say(A1, cancel("a"));
    assert!(stage.say(A1, consume("q", "c"))[0].contains("consume-ok"));
    assert_eq!(
        stage.say(A1, consume("q", "d")),
        ["1 close NOT_ALLOWED - reached maximum (2) of consumers per channel (60,20)"]
    );
    assert_eq!(stage.stats("q"), Some((0, 0, 1)));
}

#[test]
fn a_channel_holds_so_many_messages_and_the_others_go_on() {
    // SEC-8: a prefetch of 0 is no limit of the consumer's, and this is one of the channel's.
    let mut stage = Stage::with(VhostOptions {
        max_unacked: 3,
        ..VhostOptions::default()
    });
    stage.say(A1, declare("q"));
    stage.say(A1, declare("p"));
    stage.say(A1, consume("q", "t"));
    stage.say(A1, consume("p", "u"));
    for body in ["1", "2", "3", "4", "5"] {
        stage.publish(A1, "", "q", body);
    }
    stage.publish(A1, "", "p", "of the other consumer");
    assert_eq!(stage.stats("q"), Some((2, 3, 1)));
    assert_eq!(stage.stats("p"), Some((1, 0, 1)));
    // A no-ack consumer holds nothing, and no limit applies to it. QOS-6
    let no_ack = BasicConsume {
        no_ack: true,
        ..consume("p", "v")
    };
    let delivered = stage.say(A1, no_ack).concat();
    assert!(delivered.contains("of the other consumer"), "{delivered}");

    stage.publish(A1, "", "p", "again");
    stage.say(A1, cancel("v"));
    assert_eq!(stage.say(A1, ack(1)).len(), 1, "one for one");
    assert_eq!(stage.stats("q").unwrap().1 + stage.stats("p").unwrap().1, 3);
    let other = stage.say(A2, get("q")).concat();
    assert!(
        other.contains("get-ok"),
        "another channel has its own count"
    );
    let text = "the channel holds 3 unacknowledged messages, and may not hold more";
    assert_eq!(
        stage.say(A1, get("q")),
        [format!("1 close RESOURCE_ERROR - {text} (60,70)")]
    );
    assert_eq!(stage.stats("q").unwrap().1, 0, "all of it is back");
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
