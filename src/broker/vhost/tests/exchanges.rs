//! Class exchange and the bindings of class queue, with RabbitMQ's texts.

use super::*;
use crate::codec::{
    ExchangeBind, ExchangeDeclare, ExchangeDelete, ExchangeUnbind, QueueBind, QueueUnbind,
};

fn exchange(exchange: &str, kind: &str) -> ExchangeDeclare {
    ExchangeDeclare {
        exchange: name(exchange),
        kind: name(kind),
        ..ExchangeDeclare::default()
    }
}

fn passive(name: &str) -> ExchangeDeclare {
    ExchangeDeclare {
        passive: true,
        ..exchange(name, "")
    }
}

fn delete_exchange(exchange: &str) -> ExchangeDelete {
    ExchangeDelete {
        exchange: name(exchange),
        ..ExchangeDelete::default()
    }
}

fn bind(queue: &str, exchange: &str, key: &str) -> QueueBind {
    QueueBind {
        queue: name(queue),
        exchange: name(exchange),
        routing_key: name(key),
        ..QueueBind::default()
    }
}

fn unbind(queue: &str, exchange: &str, key: &str) -> QueueUnbind {
    QueueUnbind {
        queue: name(queue),
        exchange: name(exchange),
        routing_key: name(key),
        ..QueueUnbind::default()
    }
}

fn bind_exchange(destination: &str, source: &str) -> ExchangeBind {
    ExchangeBind {
        destination: name(destination),
        source: name(source),
        ..ExchangeBind::default()
    }
}

fn unbind_exchange(destination: &str, source: &str) -> ExchangeUnbind {
    ExchangeUnbind {
        destination: name(destination),
        source: name(source),
        ..ExchangeUnbind::default()
    }
}

/// What a fresh channel hears when it says this, without the channel number.
fn heard(stage: &mut Stage, method: impl Into<Method>) -> String {
    stage.reopen(A1);
    let heard = stage.say(A1, method).concat();
    heard.trim_start_matches("1/1 close ").to_owned()
}

#[test]
fn the_predeclared_exchanges_are_there_and_durable() {
    // EXCH-1, EXCH-2
    let mut stage = Stage::new();
    for (name, kind) in [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ] {
        let again = ExchangeDeclare {
            durable: true,
            ..exchange(name, kind)
        };
        assert_eq!(heard(&mut stage, again), "1/1 exchange.declare-ok");
    }
    assert_eq!(
        heard(&mut stage, exchange("amq.direct", "direct")),
        "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'amq.direct' in vhost '/': received 'false' \
         but current is 'true' (40,10)"
    );
}

#[test]
fn what_cannot_be_declared() {
    // EXCH-2, QUEUE-11
    let mut stage = Stage::new();
    let alternate = ExchangeDeclare {
        arguments: table([("alternate-exchange", FieldValue::I32(5))]),
        ..exchange("t.ex2", "direct")
    };
    for (declare, expected) in [
        (
            exchange("amq.foo", "direct"),
            "ACCESS_REFUSED - exchange name 'amq.foo' contains reserved prefix 'amq.*'",
        ),
        (
            exchange("", "direct"),
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
        (
            passive(""),
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
        (
            passive("t.nope"),
            "NOT_FOUND - no exchange 't.nope' in vhost '/'",
        ),
        (
            alternate,
            "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 't.ex2' in \
             vhost '/'",
        ),
    ] {
        assert_eq!(heard(&mut stage, declare), format!("{expected} (40,10)"));
    }
}

#[test]
fn an_unknown_type_costs_the_connection() {
    // EXCH-2: also with no-wait.
    for (kind, why) in [("nosuch", "unknown"), ("", "invalid")] {
        let declare = ExchangeDeclare {
            no_wait: true,
            ..exchange("t.ex", kind)
        };
        assert_eq!(
            Stage::new().say(A1, declare),
            [format!(
                "1 close COMMAND_INVALID - {why} exchange type '{kind}' (40,10)"
            )]
        );
    }
}

#[test]
fn declaring_again_compares_what_was_declared() {
    // EXCH-2, METH-8
    let mut stage = Stage::new();
    stage.say(A1, exchange("t.ex", "direct"));
    assert_eq!(
        heard(&mut stage, exchange("t.ex", "direct")),
        "1/1 exchange.declare-ok"
    );
    let same = || exchange("t.ex", "direct");
    let with = |name, value| ExchangeDeclare {
        arguments: table([(name, value)]),
        ..same()
    };
    assert_eq!(
        heard(&mut stage, with("foo", FieldValue::Void)),
        "1/1 exchange.declare-ok"
    );
    #[rustfmt::skip]
    let unequal = [
        (ExchangeDeclare { kind: name("topic"), no_wait: true, ..same() }, "type", "received 'topic' but current is 'direct'"),
        (ExchangeDeclare { durable: true, ..same() }, "durable", "received 'true' but current is 'false'"),
        (ExchangeDeclare { auto_delete: true, ..same() }, "auto_delete", "received 'true' but current is 'false'"),
        (ExchangeDeclare { internal: true, ..same() }, "internal", "received 'true' but current is 'false'"),
        (with("alternate-exchange", long("foo")), "alternate-exchange", "received the value 'foo' of type 'longstr' but current is none"),
    ];
    for (declare, arg, how) in unequal {
        let expected = format!(
            "PRECONDITION_FAILED - inequivalent arg '{arg}' for exchange 't.ex' in vhost '/': {how} (40,10)"
        );
        assert_eq!(heard(&mut stage, declare), expected);
    }
}

#[test]
fn deleting() {
    // QUEUE-13, EXCH-1, CHAN-15
    let mut stage = Stage::new();
    stage.say(A1, exchange("t.ex", "direct"));
    stage.say(A1, declare("q"));
    stage.say(A1, bind("q", "t.ex", "k"));
    let if_unused = ExchangeDelete {
        if_unused: true,
        ..delete_exchange("t.ex")
    };
    for (delete, expected) in [
        (delete_exchange("t.nope"), "1/1 exchange.delete-ok"),
        (
            delete_exchange("amq.direct"),
            "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed (40,20)",
        ),
        (
            delete_exchange(""),
            "ACCESS_REFUSED - operation not permitted on the default exchange (40,20)",
        ),
        (
            if_unused,
            "PRECONDITION_FAILED - exchange 't.ex' in vhost '/' in use (40,20)",
        ),
        (delete_exchange("t.ex"), "1/1 exchange.delete-ok"),
    ] {
        assert_eq!(heard(&mut stage, delete), expected);
    }
    assert!(heard(&mut stage, passive("t.ex")).contains("NOT_FOUND"));
}

#[test]
fn what_cannot_be_bound() {
    // QUEUE-11, QUEUE-12, QUEUE-17
    let mut stage = Stage::new();
    stage.say(A2, declare("q"));
    for (bind, expected) in [
        (
            bind("t.nope", "amq.direct", ""),
            "NOT_FOUND - no queue 't.nope' in vhost '/'",
        ),
        (
            bind("q", "t.nope", ""),
            "NOT_FOUND - no exchange 't.nope' in vhost '/'",
        ),
        (
            bind("t.nope", "t.nopex", ""),
            "NOT_FOUND - no exchange 't.nopex' in vhost '/'",
        ),
        (
            bind("q", "", "k"),
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
        (
            bind("", "amq.direct", "k"),
            "NOT_FOUND - no previously declared queue",
        ),
        (
            QueueBind {
                arguments: table([("x-match", long("foo"))]),
                ..bind("q", "amq.headers", "")
            },
            "PRECONDITION_FAILED - Invalid x-match field value <<\"foo\">>; expected all, any, all-with-x, or \
             any-with-x",
        ),
    ] {
        assert_eq!(heard(&mut stage, bind), format!("{expected} (50,20)"));
    }
}

#[test]
fn what_cannot_be_bound_between_exchanges() {
    let mut stage = Stage::new();
    for (bind, expected) in [
        (
            bind_exchange("amq.topic", "t.nope"),
            "NOT_FOUND - no exchange 't.nope' in vhost '/'",
        ),
        (
            bind_exchange("t.nope", "amq.topic"),
            "NOT_FOUND - no exchange 't.nope' in vhost '/'",
        ),
        (
            bind_exchange("amq.topic", ""),
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
        (
            bind_exchange("", "amq.topic"),
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
    ] {
        assert_eq!(heard(&mut stage, bind), format!("{expected} (40,30)"));
    }
}

#[test]
fn unbinding_what_is_not_there_is_no_error() {
    // QUEUE-13
    let mut stage = Stage::new();
    stage.say(
        B1,
        QueueDeclare {
            exclusive: true,
            ..declare("t.excl")
        },
    );
    for (queue, exchange) in [
        ("t.nope", "amq.direct"),
        ("t.nope", "t.nope"),
        ("t.excl", "amq.direct"),
    ] {
        assert_eq!(
            heard(&mut stage, unbind(queue, exchange, "k")),
            "1/1 queue.unbind-ok"
        );
    }
    assert_eq!(
        heard(&mut stage, unbind("q", "", "k")),
        "ACCESS_REFUSED - operation not permitted on the default exchange (50,50)"
    );
    assert_eq!(
        heard(&mut stage, unbind_exchange("t.nope", "t.nopex")),
        "1/1 exchange.unbind-ok"
    );
}

#[test]
fn an_empty_queue_name_and_key_mean_the_last_queue() {
    // QUEUE-12
    let mut stage = Stage::new();
    stage.say(A1, declare("last"));
    stage.say(A1, bind("", "amq.direct", ""));
    stage.publish(A1, "amq.direct", "last", "hi");
    assert_eq!(stage.stats("last"), Some((1, 0, 0)));
    stage.say(A1, unbind("", "amq.direct", ""));
    stage.publish(A1, "amq.direct", "last", "hi");
    assert_eq!(stage.stats("last"), Some((1, 0, 0)));
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let mut stage = Stage::new();
    let ad = ExchangeDeclare {
        auto_delete: true,
        ..exchange("t.ad", "fanout")
    };
    for way in ["unbind", "delete"] {
        stage.say(A2, declare("q"));
        stage.say(A2, ad.clone());
        stage.say(A2, bind("q", "t.ad", ""));
        assert_eq!(
            heard(&mut stage, passive("t.ad")),
            "1/1 exchange.declare-ok"
        );
        match way {
            "unbind" => stage.say(A2, unbind("q", "t.ad", "")),
            _ => stage.say(A2, delete("q")),
        };
        assert_eq!(
            heard(&mut stage, passive("t.ad")),
            "NOT_FOUND - no exchange 't.ad' in vhost '/' (40,10)"
        );
    }
}

#[test]
fn an_internal_exchange_is_fed_by_others_only() {
    // EXCH-6
    let mut stage = Stage::new();
    let internal = ExchangeDeclare {
        internal: true,
        ..exchange("t.int", "fanout")
    };
    stage.say(A2, internal);
    stage.say(A2, declare("q"));
    stage.say(A2, bind("q", "t.int", ""));
    stage.say(A2, bind_exchange("t.int", "amq.fanout"));
    stage.publish(A1, "amq.fanout", "", "hi");
    assert_eq!(stage.stats("q"), Some((1, 0, 0)));
    assert_eq!(
        stage.publish(A1, "t.int", "", "hi"),
        [
            "1/1 close ACCESS_REFUSED - cannot publish to internal exchange 't.int' in vhost '/' (60,40)"
        ]
    );
}

#[test]
fn line_ends_are_taken_out_of_names() {
    // QUEUE-16
    let mut stage = Stage::new();
    stage.say(A1, exchange("t\r\n.ex", "direct"));
    assert_eq!(
        heard(&mut stage, passive("t.ex")),
        "1/1 exchange.declare-ok"
    );
    assert_eq!(
        stage.say(A1, declare("a\nb")),
        ["1/1 queue.declare-ok queue='ab'"]
    );
}
