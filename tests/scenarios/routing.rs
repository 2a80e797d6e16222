//! Where a message goes: the four types of exchange, and exchanges bound to exchanges.

use amqp_rpc::{client::Channel, codec::*, protocol::Message, short};

use crate::world::*;

/// An exchange, and queues bound to it.
struct Router {
    channel: Channel,
    exchange: ShortString,
}

impl Router {
    async fn new(world: &World, kind: &'static str) -> Self {
        let (channel, name) = (world.channel().await, world.exchange(kind));
        channel.exchange_declare(exchange(&name, kind)).await.unwrap();
        Self { channel, exchange: name }
    }

    /// A queue of this connection, bound with a key and arguments.
    async fn queue(&self, key: &'static str, arguments: FieldTable) -> ShortString {
        let declare = QueueDeclare { exclusive: true, ..Default::default() };
        let queue = self.channel.queue_declare(declare).await.unwrap().queue;
        self.channel.queue_bind(self.binding(&queue, key, arguments)).await.unwrap();
        queue
    }

    fn binding(&self, queue: &ShortString, key: &'static str, arguments: FieldTable) -> QueueBind {
        QueueBind {
            queue: queue.clone(),
            exchange: self.exchange.clone(),
            routing_key: ShortString::literal(key),
            arguments,
            ..Default::default()
        }
    }

    async fn publish(&self, key: &'static str, message: impl Into<Message>) {
        let publish = BasicPublish {
            exchange: self.exchange.clone(),
            routing_key: ShortString::literal(key),
            ..Default::default()
        };
        put(&self.channel, publish, message).await;
    }
}

/// EXCH-3, CONS-10, and what unbind undoes.
pub async fn direct_exchange(world: World) {
    let router = Router::new(&world, "direct").await;
    let red = router.queue("red", FieldTable::default()).await;
    let blue = router.queue("blue", FieldTable::default()).await;
    router.publish("red", "1").await;
    router.publish("green", "nobody's").await;
    let got = router.channel.get_no_ack(&red).await.unwrap().unwrap().delivery;
    assert_eq!((got.body(), &got.exchange), (&b"1"[..], &router.exchange));
    assert_eq!(got.routing_key, "red");
    assert_eq!(drain(&router.channel, &blue).await, [""; 0]);

    let QueueBind { queue, exchange, routing_key, .. } = router.binding(&red, "red", FieldTable::default());
    let unbind = QueueUnbind { queue, exchange, routing_key, ..Default::default() };
    router.channel.queue_unbind(unbind).await.unwrap();
    router.publish("red", "2").await;
    assert_eq!(drain(&router.channel, &red).await, [""; 0]);
}

/// EXCH-3, EXCH-4, EXCH-5: one copy for each queue, however often it is bound.
pub async fn fanout_exchange(world: World) {
    let router = Router::new(&world, "fanout").await;
    let one = router.queue("", FieldTable::default()).await;
    let other = router.queue("ignored", FieldTable::default()).await;
    for key in ["", "another"] {
        router.channel.queue_bind(router.binding(&one, key, FieldTable::default())).await.unwrap();
    }
    router.publish("anything", "hello").await;
    assert_eq!(drain(&router.channel, &one).await, ["hello"]);
    assert_eq!(drain(&router.channel, &other).await, ["hello"]);
}

/// EXCH-3: `*` is one word, also an empty one; `#` is any number of words, also none.
pub async fn topic_exchange(world: World) {
    let router = Router::new(&world, "topic").await;
    let patterns = ["#", "*", "a.*", "a.#", "#.b", "a.*.c", "a.#.b"];
    let mut queues = Vec::new();
    for pattern in patterns {
        queues.push((pattern, router.queue(pattern, FieldTable::default()).await));
    }
    let cases: [(&str, &[&str]); 8] = [
        ("", &["#"]),
        ("a", &["#", "*", "a.#"]),
        ("b", &["#", "*", "#.b"]),
        ("a.b", &["#", "a.*", "a.#", "#.b", "a.#.b"]),
        ("a.", &["#", "a.*", "a.#"]),
        ("a.b.c", &["#", "a.#", "a.*.c"]),
        ("a.x.b", &["#", "a.#", "#.b", "a.#.b"]),
        ("a..b", &["#", "a.#", "#.b", "a.#.b"]),
    ];
    for (key, expected) in cases {
        router.publish(key, key).await;
        let mut reached = Vec::new();
        for (pattern, queue) in &queues {
            if !drain(&router.channel, queue).await.is_empty() {
                reached.push(*pattern);
            }
        }
        assert_eq!(reached, expected, "routing key {key:?}");
    }
}

/// The headers of the message are compared with the arguments of the binding, by value and kind.
pub async fn headers_exchange(world: World) {
    let router = Router::new(&world, "headers").await;
    let wanted = |rule: &'static str| {
        table([("x-match", rule.into()), ("format", "pdf".into()), ("pages", 1i32.into())])
    };
    let all = router.queue("", wanted("all")).await;
    let any = router.queue("", wanted("any")).await;
    let cases: [(&str, FieldTable, [bool; 2]); 4] = [
        ("both", table([("pages", 1i64.into()), ("format", "pdf".into())]), [true, true]),
        ("one", table([("format", "pdf".into()), ("pages", 2i32.into())]), [false, true]),
        ("kind", table([("pages", "1".into())]), [false, false]),
        ("none", FieldTable::default(), [false, false]),
    ];
    for (name, headers, expected) in cases {
        let properties = Properties { headers: Some(headers), ..Default::default() };
        router.publish("", Message { properties: properties.into(), body: "x".into() }).await;
        let reached = [
            !drain(&router.channel, &all).await.is_empty(),
            !drain(&router.channel, &any).await.is_empty(),
        ];
        assert_eq!(reached, expected, "{name}");
    }
}

/// EXCH-4, EXCH-6, METH-5: through two exchanges, once; an internal one cannot be published to.
pub async fn exchange_to_exchange(world: World) {
    let router = Router::new(&world, "topic").await;
    let inner = world.exchange("inner");
    let declare = ExchangeDeclare { internal: true, ..exchange(&inner, "fanout") };
    router.channel.exchange_declare(declare).await.unwrap();
    let queue = router.queue("news.*", FieldTable::default()).await;
    let bind = ExchangeBind {
        destination: inner.clone(),
        source: router.exchange.clone(),
        routing_key: short!("news.#"),
        ..Default::default()
    };
    router.channel.exchange_bind(bind.clone()).await.unwrap();
    let into_queue = QueueBind { queue: queue.clone(), exchange: inner.clone(), ..Default::default() };
    router.channel.queue_bind(into_queue).await.unwrap();
    router.publish("news.today", "once").await;
    router.publish("news.today.late", "by the inner one").await;
    assert_eq!(drain(&router.channel, &queue).await, ["once", "by the inner one"]);

    let ExchangeBind { destination, source, routing_key, .. } = bind;
    let unbind = ExchangeUnbind { destination, source, routing_key, ..Default::default() };
    router.channel.exchange_unbind(unbind).await.unwrap();
    router.publish("news.today.late", "nobody's").await;
    assert_eq!(drain(&router.channel, &queue).await, [""; 0]);

    router.channel.publish(&inner, "", "x").await.unwrap();
    let text = costs_channel(router.channel.qos(1).await, 403, BasicPublish::ID);
    assert_eq!(text, format!("ACCESS_REFUSED - cannot publish to internal exchange '{inner}' in vhost '/'"));
}

/// QUEUE-17
pub async fn bind_to_what_is_missing(world: World) {
    let connection = world.connect().await;
    let (queue, missing) = (world.name("q"), world.name("missing"));
    let channel = connection.open_channel().await.unwrap();
    channel.queue_declare(own(&queue)).await.unwrap();
    let bind = QueueBind { queue, exchange: missing.clone(), ..Default::default() };
    let text = costs_channel(channel.queue_bind(bind).await, 404, QueueBind::ID);
    assert_eq!(text, format!("NOT_FOUND - no exchange '{missing}' in vhost '/'"));

    let channel = connection.open_channel().await.unwrap();
    let bind = QueueBind { queue: missing.clone(), exchange: short!("amq.fanout"), ..Default::default() };
    let text = costs_channel(channel.queue_bind(bind).await, 404, QueueBind::ID);
    assert_eq!(text, format!("NOT_FOUND - no queue '{missing}' in vhost '/'"));
}

/// What no binding takes goes to the exchange's alternate, and counts as routed.
pub async fn alternate_exchange(world: World) {
    let router = Router::new(&world, "fanout").await;
    let rest = router.queue("", FieldTable::default()).await;
    let name = world.exchange("main");
    let alternate = FieldValue::LongString(router.exchange.to_string().into());
    let declare = ExchangeDeclare {
        arguments: table([("alternate-exchange", alternate)]),
        ..exchange(&name, "direct")
    };
    router.channel.exchange_declare(declare).await.unwrap();
    let mut returns = router.channel.returns();
    let publish = BasicPublish { exchange: name, mandatory: true, ..Default::default() };
    put(&router.channel, publish, "unclaimed").await;
    assert_eq!(drain(&router.channel, &rest).await, ["unclaimed"]);
    router.channel.close().await.unwrap();
    assert!(returns.next().await.is_none());
}
