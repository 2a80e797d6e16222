//! Dead letters, with what RabbitMQ writes in their headers.

use super::*;
use crate::codec::{BasicNack, BasicReject, ExchangeDeclare, QueueBind};

/// A queue that sends its dead through the default exchange to `dl`, and one more argument.
fn dying<const N: usize>(queue: &str, more: [(&str, FieldValue); N]) -> QueueDeclare {
    sending(queue, "dl", more)
}

fn sending<const N: usize>(queue: &str, to: &str, more: [(&str, FieldValue); N]) -> QueueDeclare {
    let mut declare = with(queue, "x-dead-letter-exchange", long(""));
    let own = [("x-dead-letter-routing-key", long(to))];
    for (key, value) in own.into_iter().chain(more) {
        declare.arguments.insert(name(key), value);
    }
    declare
}

fn reject(delivery_tag: u64) -> BasicReject {
    BasicReject {
        delivery_tag: DeliveryTag(delivery_tag),
        requeue: false,
    }
}

/// A stage on which it is the second 1700000000, with the queue `dl`.
fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.vhost.date(stage.now, 1_700_000_000);
    stage.say(A1, declare("dl"));
    stage
}

/// Gets and rejects the head of a queue.
fn reject_head(stage: &mut Stage, queue: &str) {
    let got = stage.say(A1, get(queue)).concat();
    let tag = got.split("delivery-tag=").nth(1).unwrap();
    let tag = tag.split(' ').next().unwrap().parse().unwrap();
    stage.say(A1, reject(tag));
}

/// What the head of a queue says of its deaths.
fn deaths(stage: &mut Stage, queue: &str) -> String {
    let get = BasicGet {
        no_ack: true,
        ..get(queue)
    };
    let got = stage.say(A1, get).concat();
    let (_, deaths) = got
        .split_once("x-death: ")
        .unwrap_or_else(|| panic!("no deaths: {got}"));
    deaths
        .split_once("]}]")
        .map_or(deaths, |(all, _)| all)
        .to_owned()
        + "]}]"
}

#[test]
fn a_dead_letter_tells_its_story() {
    // DLX-1, DLX-2
    let mut stage = stage();
    stage.say(A1, dying("q", []));
    stage.pass(2500);
    stage.publish(A1, "", "q", "hi");
    stage.say(A1, get("q"));
    assert!(stage.say(A1, reject(1)).is_empty());
    assert_eq!(
        stage.say(A1, get("dl")),
        [
            "1/1 basic.get-ok delivery-tag=2 routing-key='dl' | headers={x-death: [{count: 1, reason: 'rejected', \
             queue: 'q', time: 1700000002 s, exchange: '', routing-keys: ['q']}], x-first-death-exchange: '', \
             x-first-death-queue: 'q', x-first-death-reason: 'rejected', x-last-death-exchange: '', \
             x-last-death-queue: 'q', x-last-death-reason: 'rejected'} | hi"
        ]
    );
}

#[test]
fn four_ways_to_die() {
    // DLX-1, DLX-3
    let mut stage = stage();
    let entry = |reason, queue, more| {
        format!(
            "[{{count: 1, reason: '{reason}', queue: '{queue}', time: 1700000000 s, exchange: '', \
             routing-keys: ['{queue}']{more}}}]"
        )
    };
    stage.say(A1, dying("short", [("x-message-ttl", FieldValue::I32(10))]));
    stage.publish(A1, "", "short", "1");
    stage.pass(10);
    assert_eq!(deaths(&mut stage, "dl"), entry("expired", "short", ""));

    let expiration = Some(name("0"));
    stage.publish_with(
        A1,
        "short",
        Properties {
            expiration,
            ..Properties::default()
        },
    );
    let told = entry("expired", "short", ", original-expiration: '0'");
    assert_eq!(
        stage.stats("dl"),
        Some((1, 0, 0)),
        "and it does not expire there"
    );
    let got = stage.say(A1, get("dl")).concat();
    assert!(got.contains(&format!("x-death: {told}, x-first")), "{got}");

    stage.say(A1, dying("full", [("x-max-length", FieldValue::I32(1))]));
    stage.publish(A1, "", "full", "1");
    stage.publish(A1, "", "full", "2");
    assert_eq!(deaths(&mut stage, "dl"), entry("maxlen", "full", ""));
    assert_eq!(stage.bodies(A1, "full"), ["2"]);

    let mut limited = dying("quorum", [("x-delivery-limit", FieldValue::I32(1))]);
    limited
        .arguments
        .insert(name("x-queue-type"), long("quorum"));
    limited.durable = true;
    stage.say(A1, limited);
    stage.publish(A1, "", "quorum", "1");
    for _ in 0..2 {
        stage.say(A2, get("quorum"));
        stage.reopen(A2);
    }
    assert_eq!(
        deaths(&mut stage, "dl"),
        entry("delivery_limit", "quorum", "")
    );
}

#[test]
fn a_full_queue_that_refuses_may_send_on_what_it_refuses() {
    // CONF-7, DLX-1
    let mut stage = stage();
    let overflow = ("x-overflow", long("reject-publish-dlx"));
    stage.say(
        A1,
        dying("q", [("x-max-length", FieldValue::I32(1)), overflow]),
    );
    stage.say(A1, crate::codec::ConfirmSelect { no_wait: true });
    assert_eq!(
        stage.publish(A1, "", "q", "1"),
        ["1/1 basic.ack delivery-tag=1"]
    );
    assert_eq!(
        stage.publish(A1, "", "q", "2"),
        ["1/1 basic.nack delivery-tag=2"]
    );
    assert_eq!(stage.bodies(A1, "dl"), ["2"]);
}

#[test]
fn a_quorum_queue_has_a_limit_unless_it_says_otherwise() {
    // RPC-23, DLX-1
    for (limit, deliveries) in [(None, 21), (Some(2), 3), (Some(0), 1), (Some(-1), 30)] {
        let mut stage = Stage::new();
        let mut declare = quorum("q");
        if let Some(limit) = limit {
            declare
                .arguments
                .insert(name("x-delivery-limit"), FieldValue::I32(limit));
        }
        stage.say(A1, declare);
        stage.publish(A1, "", "q", "poison");
        let mut delivered = 0;
        while delivered < 30 && stage.say(A1, get("q")).concat().contains("get-ok") {
            delivered += 1;
            stage.say(
                A1,
                BasicReject {
                    requeue: true,
                    ..reject(delivered)
                },
            );
        }
        assert_eq!(delivered, deliveries, "x-delivery-limit {limit:?}");
    }
}

#[test]
fn the_same_death_counts_up_and_comes_first() {
    // DLX-2, DLX-4: somebody rejects it each time, so it may go round for ever.
    let mut stage = stage();
    stage.say(A1, sending("work", "wait", []));
    stage.say(
        A1,
        sending("wait", "work", [("x-message-ttl", FieldValue::I32(1000))]),
    );
    stage.publish(A1, "", "work", "hi");
    for _ in 0..3 {
        reject_head(&mut stage, "work");
        stage.pass(1000);
    }
    assert_eq!(
        deaths(&mut stage, "work"),
        "[{count: 3, reason: 'expired', queue: 'wait', time: 1700000001 s, exchange: '', routing-keys: ['wait']}, \
         {count: 3, reason: 'rejected', queue: 'work', time: 1700000000 s, exchange: '', routing-keys: ['work']}]"
    );
}

#[test]
fn who_goes_round_alone_is_dropped() {
    // DLX-4
    let mut stage = stage();
    let ttl = || [("x-message-ttl", FieldValue::I32(10))];
    stage.say(A1, sending("a", "b", ttl()));
    stage.say(A1, sending("b", "a", ttl()));
    stage.publish(A1, "", "a", "hi");
    stage.pass(15);
    assert_eq!(
        (stage.stats("a"), stage.stats("b")),
        (Some((0, 0, 0)), Some((1, 0, 0)))
    );
    stage.pass(100);
    assert_eq!(
        (stage.stats("a"), stage.stats("b")),
        (Some((0, 0, 0)), Some((0, 0, 0)))
    );

    stage.say(
        A1,
        sending("own", "own", [("x-max-length", FieldValue::I32(1))]),
    );
    stage.publish(A1, "", "own", "1");
    stage.publish(A1, "", "own", "2");
    assert_eq!(stage.bodies(A1, "own"), ["2"]);
}

#[test]
fn dead_letters_keep_their_order() {
    // CONS-12, DLX-1: more than are sent on at once.
    const MANY: usize = 2500;
    let mut stage = stage();
    stage.say(A1, dying("q", [("x-message-ttl", FieldValue::I32(10))]));
    let bodies: Vec<_> = (0..MANY).map(|n| n.to_string()).collect();
    for body in &bodies {
        stage.publish(A1, "", "q", body);
    }
    stage.now += Duration::from_millis(10);
    stage.vhost.tick(stage.now);
    assert_eq!(
        stage.stats("dl"),
        Some((1000, 0, 0)),
        "the others wait for their turn"
    );
    assert_eq!(
        stage.vhost.deadline(),
        Some(stage.now),
        "which comes at once"
    );
    stage.pass(0);
    assert_eq!(stage.bodies(A1, "dl"), bodies);
}

#[test]
fn dead_letters_do_not_multiply_for_ever() {
    // SEC-8, DLX-4: one message into ten queues, from each of them into the nine others, and so on: in any order, which
    // would be millions of them. The first time that there is no room it is too late for all but a few.
    let mut stage = Stage::with(VhostOptions {
        memory_limit: 1 << 20,
        ..VhostOptions::default()
    });
    for n in 0..10 {
        let queue = format!("q{n}");
        let mut declare = with(&queue, "x-dead-letter-exchange", long("amq.fanout"));
        let wait = FieldValue::I32(1000);
        declare.arguments.insert(name("x-message-ttl"), wait);
        stage.say(A1, declare);
        let bind = QueueBind {
            queue: name(&queue),
            exchange: name("amq.fanout"),
            ..QueueBind::default()
        };
        stage.say(A1, bind);
    }
    stage.publish(B1, "amq.fanout", "", "hi");
    let ready = |stage: &Stage| -> usize {
        let ready = |n| stage.stats(&format!("q{n}")).unwrap().0;
        (0..10).map(ready).sum()
    };
    let mut most = 0;
    for _ in 0..10 {
        stage.pass(1000);
        most = most.max(ready(&stage));
    }
    assert!((90..5000).contains(&most), "{most}");
    stage.pass(10_000);
    assert_eq!(ready(&stage), 0, "each was everywhere");
}

#[test]
fn what_is_in_a_queue_that_goes_is_gone() {
    // DLX-1, QUEUE-13, QUEUE-15, QUEUE-20
    let mut stage = stage();
    stage.say(A1, dying("q", [("x-expires", FieldValue::I32(10))]));
    stage.publish(A1, "", "q", "1");
    stage.say(A1, purge("q"));
    stage.publish(A1, "", "q", "2");
    stage.pass(10);
    stage.say(A1, dying("q", []));
    stage.publish(A1, "", "q", "3");
    stage.say(A1, delete("q"));
    assert_eq!(stage.stats("dl"), Some((0, 0, 0)));
}

#[test]
fn keys_travel_with_a_message_unless_its_queue_has_one() {
    // DLX-1, PUB-2
    let headers = || Properties {
        headers: Some(table([
            ("CC", FieldValue::Array(vec![long("open")])),
            ("BCC", FieldValue::Array(vec![long("blind")])),
        ])),
        ..Properties::default()
    };
    let mut stage = stage();
    for queue in ["open", "blind"] {
        stage.say(A1, declare(queue));
    }
    stage.say(A1, with("q", "x-dead-letter-exchange", long("")));
    stage.publish_with(A1, "q", headers());
    for queue in ["open", "blind"] {
        assert_eq!(stage.bodies(A1, queue).len(), 1);
    }
    reject_head(&mut stage, "q");
    for queue in ["open", "q"] {
        let story = deaths(&mut stage, queue);
        assert!(
            story.ends_with("routing-keys: ['q', 'open']}]"),
            "{queue}: {story}"
        );
    }
    assert_eq!(stage.bodies(A1, "blind").len(), 1, "nobody sees why");

    stage.say(A1, delete("q"));
    stage.say(A1, dying("q", []));
    stage.publish_with(A1, "q", headers());
    for queue in ["open", "blind"] {
        stage.bodies(A1, queue);
    }
    reject_head(&mut stage, "q");
    let got = stage.say(A1, get("dl")).concat();
    assert!(
        got.contains("routing-keys: ['q', 'open']") && !got.contains("CC:"),
        "{got}"
    );
    assert_eq!(
        (stage.stats("open"), stage.stats("blind")),
        (Some((0, 0, 0)), Some((0, 0, 0)))
    );
}

#[test]
fn a_dead_letter_is_routed_like_any_other() {
    // DLX-1, EXCH-6
    let mut stage = stage();
    let internal = ExchangeDeclare {
        exchange: name("dlx"),
        kind: name("topic"),
        internal: true,
        ..ExchangeDeclare::default()
    };
    stage.say(A1, internal);
    for pattern in ["#", "a.*"] {
        let bind = QueueBind {
            queue: name("dl"),
            exchange: name("dlx"),
            routing_key: name(pattern),
            ..QueueBind::default()
        };
        stage.say(A1, bind);
    }
    stage.say(A1, with("a.b", "x-dead-letter-exchange", long("dlx")));
    stage.publish(A1, "", "a.b", "hi");
    stage.say(A1, get("a.b"));
    let requeue = false;
    stage.say(
        A1,
        BasicNack {
            requeue,
            multiple: true,
            ..BasicNack::default()
        },
    );
    let got = stage.say(A1, get("dl")).concat();
    assert!(got.contains("exchange='dlx' routing-key='a.b'"), "{got}");
    assert_eq!(stage.stats("dl"), Some((0, 1, 0)), "one copy");

    stage.say(
        A1,
        with("lost", "x-dead-letter-exchange", long("no such exchange")),
    );
    stage.publish(A1, "", "lost", "hi");
    reject_head(&mut stage, "lost");
    assert_eq!(stage.stats("lost"), Some((0, 0, 0)));
}

#[test]
fn a_dead_letter_goes_to_those_who_wait() {
    // CONS-11, DLX-1
    let mut stage = stage();
    stage.say(B1, consume("dl", "undertaker"));
    stage.say(A1, dying("q", [("x-message-ttl", FieldValue::I32(10))]));
    stage.publish(A1, "", "q", "hi");
    let heard = stage.pass(10).concat();
    assert!(heard.starts_with(
        "2/1 basic.deliver consumer-tag='undertaker' delivery-tag=1 routing-key='dl'"
    ));
    assert!(!heard.contains("redelivered"));
}

#[test]
fn headers_of_a_client_are_counted_on_or_put_aside() {
    // DLX-2: RabbitMQ 3.10 believes an array and nothing else.
    let death = |count| {
        let death = [
            ("queue", long("q")),
            ("reason", long("rejected")),
            ("count", count),
        ];
        FieldValue::Array(vec![FieldValue::Table(table(death))])
    };
    let mut stage = stage();
    stage.say(A1, dying("q", []));
    for (claimed, expected) in [
        (
            death(FieldValue::I32(41)),
            "[{queue: 'q', reason: 'rejected', count: 42}]",
        ),
        (
            death(FieldValue::I64(i64::MAX)),
            "[{queue: 'q', reason: 'rejected', count: 9223372036854775807}]",
        ),
        (
            death(long("many")),
            "[{queue: 'q', reason: 'rejected', count: 1}]",
        ),
        (
            long("text"),
            "[{count: 1, reason: 'rejected', queue: 'q', time: 1700000000 s, exchange: '', routing-keys: ['q']}]",
        ),
    ] {
        let headers = Some(table([("x-death", claimed)]));
        stage.publish_with(
            A1,
            "q",
            Properties {
                headers,
                ..Properties::default()
            },
        );
        reject_head(&mut stage, "q");
        let got = stage.say(A1, get("dl")).concat();
        assert!(got.contains(&format!("x-death: {expected}")), "{got}");
    }
}
