//! Direct reply-to: `amq.rabbitmq.reply-to`.

use super::*;

const QUEUE: &str = "amq.rabbitmq.reply-to";

fn no_ack(consumer_tag: &str) -> BasicConsume {
    BasicConsume {
        no_ack: true,
        ..consume(QUEUE, consumer_tag)
    }
}

fn asking() -> Properties {
    Properties {
        reply_to: Some(name(QUEUE)),
        ..Properties::default()
    }
}

/// A1 waits for replies under `amq.rabbitmq.reply-to.1`, and there is a queue for requests.
fn requester() -> Stage {
    let mut stage = Stage::new();
    stage.say(A1, declare("rpc"));
    assert_eq!(
        stage.say(A1, no_ack("r")),
        ["1/1 basic.consume-ok consumer-tag='r'"]
    );
    stage
}

#[test]
fn a_call_and_its_reply() {
    // DRT-1, DRT-2, DRT-3, DRT-5, DRT-6, DRT-9
    let mut stage = requester();
    stage.publish_with(A1, "rpc", asking());
    assert_eq!(
        stage.say(B1, get("rpc")),
        [
            "2/1 basic.get-ok delivery-tag=1 routing-key='rpc' | reply-to='amq.rabbitmq.reply-to.1' | hi"
        ]
    );
    for tag in 1..=2 {
        assert_eq!(
            stage.publish(B1, "", "amq.rabbitmq.reply-to.1", "42"),
            [format!(
                "1/1 basic.deliver consumer-tag='r' delivery-tag={tag} \
                 routing-key='amq.rabbitmq.reply-to.1' | 42"
            )]
        );
    }
}

#[test]
fn what_a_reply_consumer_cannot_be() {
    // DRT-1, DRT-4, CONS-2
    assert_eq!(
        Stage::new().say(A1, consume(QUEUE, "r")),
        ["1/1 close PRECONDITION_FAILED - reply consumer cannot acknowledge (60,20)"]
    );
    assert_eq!(
        requester().say(A1, no_ack("again")),
        ["1/1 close PRECONDITION_FAILED - reply consumer already set (60,20)"]
    );
    assert_eq!(
        requester().say(A1, no_ack("r")),
        ["1 close NOT_ALLOWED - attempt to reuse consumer tag 'r' (60,20)"]
    );
    assert_eq!(requester().say(A2, no_ack("r")).len(), 1, "another channel");
}

#[test]
fn asking_for_a_reply_without_waiting_for_it() {
    // DRT-2
    let no_consumer = "close PRECONDITION_FAILED - fast reply consumer does not exist (60,40)";
    assert_eq!(
        requester().publish_with(A2, "rpc", asking()),
        [format!("1/2 {no_consumer}")],
        "it waits on another channel"
    );
    let mut stage = requester();
    stage.say(A1, cancel("r"));
    assert_eq!(
        stage.publish_with(A1, "rpc", asking()),
        [format!("1/1 {no_consumer}")]
    );
}

#[test]
fn a_reply_consumer_started_again_has_a_new_name() {
    // DRT-4, DRT-6
    let mut stage = requester();
    assert_eq!(
        stage.say(A1, cancel("r")),
        ["1/1 basic.cancel-ok consumer-tag='r'"]
    );
    stage.say(A1, no_ack("r"));
    assert!(
        stage
            .publish(B1, "", "amq.rabbitmq.reply-to.1", "42")
            .is_empty()
    );
    assert_eq!(
        stage.publish(B1, "", "amq.rabbitmq.reply-to.2", "42").len(),
        1
    );
}

#[test]
fn replies_to_those_who_are_gone_are_dropped() {
    // DRT-6, DRT-10
    for gone in ["channel", "connection"] {
        let mut stage = requester();
        match gone {
            "channel" => stage.close(A1),
            _ => stage.disconnect(1),
        };
        assert!(
            stage
                .publish(B1, "", "amq.rabbitmq.reply-to.1", "42")
                .is_empty()
        );
        assert_eq!(
            stage.publish_mandatory(B1, "amq.rabbitmq.reply-to.1", "42"),
            [
                "2/1 basic.return reply-code=312 reply-text='NO_ROUTE' routing-key='amq.rabbitmq.reply-to.1' | 42"
            ]
        );
        let still_there = stage.say(B1, declare("amq.rabbitmq.reply-to.1")).concat();
        assert!(still_there.contains("NOT_FOUND"), "DRT-8: {still_there}");
    }
}

#[test]
fn a_mandatory_reply_is_delivered_and_returned() {
    // DRT-7
    let heard = requester().publish_mandatory(B1, "amq.rabbitmq.reply-to.1", "42");
    assert_eq!(heard.len(), 2);
    assert!(heard[0].starts_with("1/1 basic.deliver"));
    assert!(heard[1].starts_with("2/1 basic.return"));
}

#[test]
fn a_returned_request_has_its_reply_to_rewritten() {
    // DRT-3, PUB-3
    let publish = BasicPublish {
        routing_key: name("t.nope"),
        mandatory: true,
        ..BasicPublish::default()
    };
    let heard = requester().publish_as(A1, publish, asking(), "hi").concat();
    assert!(
        heard.contains("reply-to='amq.rabbitmq.reply-to.1'"),
        "{heard}"
    );
}

#[test]
fn asking_whether_the_requester_is_still_there() {
    // DRT-8
    let mut stage = requester();
    for passive in [false, true] {
        for queue in [QUEUE, "amq.rabbitmq.reply-to.1"] {
            let declare = QueueDeclare {
                passive,
                ..declare(queue)
            };
            assert_eq!(
                stage.say(B1, declare),
                [format!(
                    "2/1 queue.declare-ok queue='{queue}' consumer-count=1"
                )]
            );
        }
    }
    stage.say(A1, cancel("r"));
    for queue in ["amq.rabbitmq.reply-to.1", "amq.rabbitmq.reply-to.bogus"] {
        assert_eq!(
            stage.say(B1, declare(queue)),
            [format!(
                "2/1 close NOT_FOUND - no queue '{queue}' in vhost '/' (50,10)"
            )]
        );
        stage.reopen(B1);
    }
}

#[test]
fn it_is_no_queue() {
    // DRT-6, QUEUE-13
    let mut stage = requester();
    for queue in [QUEUE, "amq.rabbitmq.reply-to.1"] {
        for (method, id) in [
            (Method::from(get(queue)), "60,70"),
            (purge(queue).into(), "50,30"),
        ] {
            assert_eq!(
                stage.say(B1, method),
                [format!(
                    "2/1 close NOT_FOUND - no queue '{queue}' in vhost '/' ({id})"
                )]
            );
            stage.reopen(B1);
        }
        assert_eq!(stage.say(B1, delete(queue)), ["2/1 queue.delete-ok"]);
    }
}

#[test]
fn another_exchange_with_that_key_is_ordinary_routing() {
    // DRT-12
    let mut stage = requester();
    assert!(
        stage
            .publish(B1, "amq.fanout", "amq.rabbitmq.reply-to.1", "42")
            .is_empty()
    );
}

#[test]
fn replies_to_one_who_never_reads_have_an_end() {
    // SEC-8: 256 octets each, and room for 16 times what deliveries have.
    let mut stage = Stage::with(VhostOptions {
        max_unsent_octets: 256,
        ..VhostOptions::default()
    });
    stage.say(A1, no_ack("r"));
    let delivered: usize = (0..100)
        .map(|_| stage.publish(B1, "", "amq.rabbitmq.reply-to.1", "").len())
        .sum();
    assert_eq!(delivered, 17);
}
