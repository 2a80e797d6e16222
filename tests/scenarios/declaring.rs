//! Queues and exchanges: what may be declared, and what is refused in which words.

use amqp_rpc::{codec::*, short};

use crate::world::*;

/// QUEUE-1, QUEUE-2
pub async fn server_named_queue(world: World) {
    let channel = world.channel().await;
    let declare = || QueueDeclare { exclusive: true, ..Default::default() };
    let one = channel.queue_declare(declare()).await.unwrap();
    let other = channel.queue_declare(declare()).await.unwrap();
    assert!(one.queue.as_bytes().starts_with(b"amq.gen-"), "{}", one.queue);
    assert_eq!(one.queue.len(), 30);
    assert_ne!(one.queue, other.queue);
    fill(&channel, &one.queue, &["hello"]).await;
    assert_eq!(drain(&channel, &one.queue).await, ["hello"]);
}

/// QUEUE-12: "" is the queue declared last on this channel.
pub async fn last_declared_queue(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    fill(&channel, &queue, &["hello"]).await;
    let got = channel.get_no_ack("").await.unwrap().unwrap();
    assert_eq!(got.delivery.body(), b"hello");

    let other = world.channel().await;
    let text = costs_channel(other.get("").await, 404, BasicGet::ID);
    assert_eq!(text, "NOT_FOUND - no previously declared queue");
}

/// QUEUE-5, EXCH-2
pub async fn passive_declare_of_a_missing_name(world: World) {
    let connection = world.connect().await;
    let missing = world.name("missing");
    let channel = connection.open_channel().await.unwrap();
    let text = costs_channel(channel.queue_declare(passive(&missing)).await, 404, QueueDeclare::ID);
    assert_eq!(text, format!("NOT_FOUND - no queue '{missing}' in vhost '/'"));

    let channel = connection.open_channel().await.unwrap();
    let declare = ExchangeDeclare { passive: true, ..exchange(&missing, "direct") };
    let text = costs_channel(channel.exchange_declare(declare).await, 404, ExchangeDeclare::ID);
    assert_eq!(text, format!("NOT_FOUND - no exchange '{missing}' in vhost '/'"));
}

/// QUEUE-4, TABLE-15: the text names the argument that differs.
pub async fn redeclare_with_other_properties(world: World) {
    let connection = world.connect().await;
    let queue = world.queue("q");
    let limited = |value: FieldValue| QueueDeclare {
        durable: true,
        arguments: table([("x-max-length", value)]),
        ..shared(&queue)
    };
    let channel = connection.open_channel().await.unwrap();
    channel.queue_declare(limited(5i32.into())).await.unwrap();
    channel.queue_declare(limited(5i64.into())).await.expect("integers are compared by value");

    let transient = QueueDeclare { durable: false, ..limited(5i32.into()) };
    let refused = channel.queue_declare(transient).await;
    let text = costs_channel(refused, 406, QueueDeclare::ID);
    assert_eq!(
        text,
        format!(
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{queue}' in vhost '/': \
             received 'false' but current is 'true'"
        )
    );

    let channel = connection.open_channel().await.unwrap();
    let text = costs_channel(channel.queue_declare(limited(6i32.into())).await, 406, QueueDeclare::ID);
    assert_eq!(
        text,
        format!(
            "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{queue}' in vhost '/': \
             received '6' but current is '5'"
        )
    );
}

/// QUEUE-8: not even its owner may call it anything but exclusive.
pub async fn redeclare_without_exclusive(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    costs_channel(channel.queue_declare(shared(&queue)).await, 405, QueueDeclare::ID);
}

/// EXCH-2
pub async fn redeclare_an_exchange_as_another_type(world: World) {
    let channel = world.channel().await;
    let name = world.exchange("x");
    channel.exchange_declare(exchange(&name, "direct")).await.unwrap();
    channel.exchange_declare(exchange(&name, "direct")).await.expect("the same again");
    let refused = channel.exchange_declare(exchange(&name, "topic")).await;
    let text = costs_channel(refused, 406, ExchangeDeclare::ID);
    assert_eq!(
        text,
        format!(
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{name}' in vhost '/': \
             received 'topic' but current is 'direct'"
        )
    );
}

/// QUEUE-19
pub async fn argument_of_the_wrong_type(world: World) {
    let channel = world.channel().await;
    let queue = world.queue("q");
    let declare = QueueDeclare {
        arguments: table([("x-message-ttl", "abc".into())]),
        ..shared(&queue)
    };
    costs_channel(channel.queue_declare(declare).await, 406, QueueDeclare::ID);
}

/// QUEUE-6, QUEUE-7: locked for every other connection, but not for what they publish.
pub async fn exclusive_queue_of_another_connection(world: World) {
    let owner = world.channel().await;
    let queue = world.name("q");
    owner.queue_declare(own(&queue)).await.unwrap();

    let stranger = world.connect().await;
    let channel = || async { stranger.open_channel().await.unwrap() };
    let locked = format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be \
         originally declared on another connection or the exclusive property value does not match that of the \
         original declaration."
    );
    let bind = QueueBind {
        queue: queue.clone(),
        exchange: short!("amq.fanout"),
        ..Default::default()
    };
    let purge = QueuePurge { queue: queue.clone(), ..Default::default() };
    let delete = QueueDelete { queue: queue.clone(), ..Default::default() };
    let texts = [
        costs_channel(channel().await.queue_declare(own(&queue)).await, 405, QueueDeclare::ID),
        costs_channel(channel().await.queue_declare(passive(&queue)).await, 405, QueueDeclare::ID),
        costs_channel(channel().await.consume(&queue).await, 405, BasicConsume::ID),
        costs_channel(channel().await.get(&queue).await, 405, BasicGet::ID),
        costs_channel(channel().await.queue_bind(bind).await, 405, QueueBind::ID),
        costs_channel(channel().await.queue_purge(purge).await, 405, QueuePurge::ID),
        costs_channel(channel().await.queue_delete(delete).await, 405, QueueDelete::ID),
    ];
    let locked = ShortString::truncated(&locked).to_string(); // CLOSE-14
    for text in texts {
        assert_eq!(text, locked);
    }
    fill(&channel().await, &queue, &["hello"]).await;
    assert_eq!(drain(&owner, &queue).await, ["hello"]);
}

/// QUEUE-6, CHAN-12: it outlives its channel, and goes with its connection.
pub async fn exclusive_queue_goes_with_its_connection(world: World) {
    let owner = world.connect().await;
    let queue = world.name("q");
    owner.open_channel().await.unwrap().queue_declare(own(&queue)).await.unwrap();
    let channel = owner.open_channel().await.unwrap();
    assert_eq!(counts(&channel, &queue).await, (0, 0));
    owner.close().await.unwrap();

    // close-ok does not promise that the queue is gone: ask until it is. Meanwhile it is locked, or half gone.
    let stranger = world.connect().await;
    loop {
        let channel = stranger.open_channel().await.unwrap();
        let refused = channel.queue_declare(passive(&queue)).await.unwrap_err();
        match refused.code().unwrap().0 {
            404 => break,
            405 => tokio::task::yield_now().await,
            _ => panic!("{refused}"),
        }
    }
}

/// QUEUE-10, QUEUE-15: ready messages count, unacknowledged ones do not.
pub async fn purge_and_delete_count_what_is_ready(world: World) {
    let channel = world.channel().await;
    let queue = world.queue("q");
    channel.queue_declare(shared(&queue)).await.unwrap();
    fill(&channel, &queue, &["1", "2", "3"]).await;
    let held = channel.get(&queue).await.unwrap().unwrap();
    assert_eq!(counts(&channel, &queue).await, (2, 0));
    let purge = QueuePurge { queue: queue.clone(), ..Default::default() };
    assert_eq!(channel.queue_purge(purge).await.unwrap(), 2);

    held.delivery.nack(true).await.unwrap();
    fill(&channel, &queue, &["4"]).await;
    let delete = QueueDelete { queue: queue.clone(), ..Default::default() };
    assert_eq!(channel.queue_delete(delete).await.unwrap(), 2);
}

/// QUEUE-13: what is not there cannot be deleted or unbound, which is no error.
pub async fn delete_of_a_missing_name(world: World) {
    let channel = world.channel().await;
    let missing = world.name("missing");
    let delete = QueueDelete { queue: missing.clone(), ..Default::default() };
    assert_eq!(channel.queue_delete(delete).await.unwrap(), 0);
    let delete = ExchangeDelete { exchange: missing.clone(), ..Default::default() };
    channel.exchange_delete(delete).await.unwrap();
    let unbind = QueueUnbind {
        queue: missing.clone(),
        exchange: missing.clone(),
        ..Default::default()
    };
    channel.queue_unbind(unbind).await.unwrap();
    let purge = QueuePurge { queue: missing, ..Default::default() };
    costs_channel(channel.queue_purge(purge).await, 404, QueuePurge::ID);
}

/// QUEUE-14
pub async fn delete_if_unused_or_empty(world: World) {
    let connection = world.connect().await;
    let queue = world.queue("q");
    let channel = connection.open_channel().await.unwrap();
    channel.queue_declare(shared(&queue)).await.unwrap();
    fill(&channel, &queue, &["hello"]).await;
    let if_empty = QueueDelete { queue: queue.clone(), if_empty: true, ..Default::default() };
    let text = costs_channel(channel.queue_delete(if_empty).await, 406, QueueDelete::ID);
    assert_eq!(text, format!("PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty"));

    let channel = connection.open_channel().await.unwrap();
    let _consumer = channel.consume(&queue).await.unwrap();
    let if_unused = QueueDelete { queue: queue.clone(), if_unused: true, ..Default::default() };
    let other = connection.open_channel().await.unwrap();
    let text = costs_channel(other.queue_delete(if_unused).await, 406, QueueDelete::ID);
    assert_eq!(text, format!("PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use"));
}

/// The same for exchanges: one that leads somewhere is in use.
pub async fn delete_of_an_exchange_in_use(world: World) {
    let connection = world.connect().await;
    let channel = connection.open_channel().await.unwrap();
    let (name, queue) = (world.exchange("x"), world.name("q"));
    channel.exchange_declare(exchange(&name, "fanout")).await.unwrap();
    channel.queue_declare(own(&queue)).await.unwrap();
    let bind = QueueBind { queue, exchange: name.clone(), ..Default::default() };
    channel.queue_bind(bind).await.unwrap();
    let if_unused = ExchangeDelete { exchange: name.clone(), if_unused: true, ..Default::default() };
    let text = costs_channel(channel.exchange_delete(if_unused).await, 406, ExchangeDelete::ID);
    assert_eq!(text, format!("PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use"));
}

/// QUEUE-3, EXCH-2
pub async fn reserved_names(world: World) {
    let connection = world.connect().await;
    let channel = connection.open_channel().await.unwrap();
    let refused = channel.queue_declare(shared(&short!("amq.mine"))).await;
    let text = costs_channel(refused, 403, QueueDeclare::ID);
    assert_eq!(text, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'");

    let channel = connection.open_channel().await.unwrap();
    let refused = channel.exchange_declare(exchange(&short!("amq.mine"), "direct")).await;
    let text = costs_channel(refused, 403, ExchangeDeclare::ID);
    assert_eq!(text, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'");
}

/// EXCH-1: the exchanges that are there from the start, with the types they have.
pub async fn predeclared_exchanges(world: World) {
    let channel = world.channel().await;
    let predeclared = [
        (short!("amq.direct"), "direct"),
        (short!("amq.fanout"), "fanout"),
        (short!("amq.topic"), "topic"),
        (short!("amq.headers"), "headers"),
        (short!("amq.match"), "headers"),
    ];
    for (name, kind) in predeclared {
        let declare = ExchangeDeclare { durable: true, ..exchange(&name, kind) };
        channel.exchange_declare(declare).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let delete = ExchangeDelete { exchange: short!("amq.direct"), ..Default::default() };
    costs_channel(channel.exchange_delete(delete).await, 403, ExchangeDelete::ID);
}

/// QUEUE-11: its bindings are a rule, and nobody makes or removes them.
pub async fn default_exchange_is_not_to_be_touched(world: World) {
    let connection = world.connect().await;
    let queue = world.name("q");
    connection.open_channel().await.unwrap().queue_declare(own(&queue)).await.unwrap();
    let channel = || async { connection.open_channel().await.unwrap() };
    let bind = QueueBind { queue: queue.clone(), ..Default::default() };
    let unbind = QueueUnbind { queue, ..Default::default() };
    let declare = exchange(&short!(""), "direct");
    let texts = [
        costs_channel(channel().await.queue_bind(bind).await, 403, QueueBind::ID),
        costs_channel(channel().await.queue_unbind(unbind).await, 403, QueueUnbind::ID),
        costs_channel(channel().await.exchange_declare(declare).await, 403, ExchangeDeclare::ID),
        costs_channel(
            channel().await.exchange_delete(ExchangeDelete::default()).await,
            403,
            ExchangeDelete::ID,
        ),
    ];
    for text in texts {
        assert_eq!(text, "ACCESS_REFUSED - operation not permitted on the default exchange");
    }
}

/// EXCH-2, ERRATA: 503 and the connection on RabbitMQ 3, 406 and the channel on 4.
pub async fn unknown_exchange_type(world: World) {
    let channel = world.channel().await;
    let name = world.exchange("x");
    let refused = channel.exchange_declare(exchange(&name, "x-no-such-type")).await.unwrap_err();
    match refused.code().map(|code| code.0) {
        Some(503) => costs_connection(Err::<(), _>(refused), 503, ExchangeDeclare::ID),
        _ => costs_channel(Err::<(), _>(refused), 406, ExchangeDeclare::ID),
    };
}

/// QUEUE-9: gone with its last consumer, and never before its first.
pub async fn auto_delete_queue(world: World) {
    let connection = world.connect().await;
    let queue = world.queue("q");
    let channel = connection.open_channel().await.unwrap();
    let declare = QueueDeclare { auto_delete: true, ..shared(&queue) };
    channel.queue_declare(declare).await.unwrap();
    let mut one = channel.consume(&queue).await.unwrap();
    let mut other = channel.consume(&queue).await.unwrap();
    one.cancel().await.unwrap();
    assert_eq!(counts(&channel, &queue).await, (0, 1));
    other.cancel().await.unwrap();
    costs_channel(channel.queue_declare(passive(&queue)).await, 404, QueueDeclare::ID);
}

/// ERRATA-10: gone with its last binding.
pub async fn auto_delete_exchange(world: World) {
    let channel = world.channel().await;
    let (name, queue) = (world.exchange("x"), world.name("q"));
    let declare = ExchangeDeclare { auto_delete: true, ..exchange(&name, "fanout") };
    channel.exchange_declare(declare).await.unwrap();
    channel.queue_declare(own(&queue)).await.unwrap();
    let (exchange_name, unbound) = (name.clone(), queue.clone());
    channel
        .queue_bind(QueueBind { queue, exchange: exchange_name.clone(), ..Default::default() })
        .await
        .unwrap();
    channel
        .queue_unbind(QueueUnbind { queue: unbound, exchange: exchange_name, ..Default::default() })
        .await
        .unwrap();
    let declare = ExchangeDeclare { passive: true, ..exchange(&name, "fanout") };
    costs_channel(channel.exchange_declare(declare).await, 404, ExchangeDeclare::ID);
}
