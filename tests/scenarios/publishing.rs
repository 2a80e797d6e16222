//! Publishing: properties and bodies that arrive as they were, returns, confirms, and what is refused.

use std::time::Duration;

use amqp_rpc::{client::Confirm, codec::*, protocol::Message, short};

use tokio::task::JoinSet;

use crate::{
    raw::{CHANNEL, Ending, Raw, TUNE_OK},
    world::*,
};

/// PROP-11, PROP-16, CONS-10, PUB-1
pub async fn fourteen_properties(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    // In the order of their names, as RabbitMQ 4 sorts them.
    let headers = table([
        ("array", FieldValue::Array(vec![1i32.into(), "two".into(), FieldValue::Void])),
        ("bool", true.into()),
        ("decimal", FieldValue::Decimal { scale: 2, value: 314 }),
        ("double", 1.5f64.into()),
        ("long", (1i64 << 40).into()),
        ("octets", FieldValue::ByteArray((&[0u8, 255][..]).into())),
        ("table", table([("nested", "yes".into())]).into()),
        ("time", FieldValue::Timestamp(1_700_000_000)),
    ]);
    let properties = Properties {
        content_type: Some(short!("text/plain")),
        content_encoding: Some(short!("utf-8")),
        headers: Some(headers),
        delivery_mode: Some(2),
        priority: Some(5),
        correlation_id: Some(short!("7")),
        reply_to: Some(short!("somewhere")),
        expiration: Some(short!("60000")),
        message_id: Some(short!("m-1")),
        timestamp: Some(1_700_000_000),
        kind: Some(short!("greeting")),
        user_id: Some(ShortString::try_from(world.options().user()).unwrap()),
        app_id: Some(short!("")), // present and empty: PROP-3
        cluster_id: Some(short!("c")),
    };
    let message = Message { properties: properties.into(), body: "hello".into() };
    put(&channel, to(&queue), message.clone()).await;
    let got = channel.get_no_ack(&queue).await.unwrap().unwrap();
    assert_eq!(got.delivery.message, message);
    assert_eq!((got.delivery.exchange, got.delivery.routing_key), (short!(""), queue.clone()));
    assert_eq!((got.delivery.redelivered, got.remaining), (false, 0));

    put(&channel, to(&queue), "bare").await;
    let got = channel.get_no_ack(&queue).await.unwrap().unwrap();
    assert_eq!(got.delivery.message, Message::from("bare"), "nothing is invented");
}

/// CONTENT-2, CONTENT-3
pub async fn large_and_empty_bodies(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    let large: Vec<u8> = (0..300 * 1024u32).map(|n| n.to_le_bytes()[1]).collect();
    put(&channel, to(&queue), large.clone()).await;
    put(&channel, to(&queue), "").await;
    let mut consumer = channel.consume(&queue).await.unwrap();
    assert!(next(&mut consumer).await.body() == large);
    assert_eq!(next(&mut consumer).await.body(), b"");
}

/// CONTENT-14, FRAME-7: cut by the publisher to its frame-max, and by the broker to the consumer's.
pub async fn body_is_cut_to_frame_max(world: World) {
    let options = world.options().frame_max(8192);
    let connection = amqp_rpc::client::Connection::connect(options).await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    let queue = world.queue("q");
    channel.queue_declare(shared(&queue)).await.unwrap();
    put(&channel, to(&queue), vec![7; 20_000]).await;

    let mut raw = Raw::tuned(world.uri(), ConnectionTuneOk { frame_max: 8192, ..TUNE_OK }).await;
    let got = raw.ask(BasicGet { queue, no_ack: true, ..Default::default() }).await;
    assert!(matches!(got, Method::BasicGetOk(_)), "got {got:?}");
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 20_000 {
        match raw.frame().await.expect("the rest of the content").payload {
            Payload::Body(body) => sizes.push(body.len()),
            Payload::Header(header) => assert_eq!(header.body_size, 20_000),
            other => panic!("got {other:?}"),
        }
    }
    assert_eq!(sizes, [8184, 8184, 3632]);
}

/// PUB-1, CHAN-7, CONF-8: the channel is lost, and with it what was published behind.
pub async fn publish_to_a_missing_exchange(world: World) {
    let channel = world.channel().await;
    let (missing, queue) = (world.name("missing"), world.queue("q"));
    channel.queue_declare(shared(&queue)).await.unwrap();
    channel.confirm_select().await.unwrap();
    let publish = BasicPublish { exchange: missing.clone(), ..Default::default() };
    let confirmation = channel.publish_confirmed(publish, "x").await.unwrap();
    let text = costs_channel(confirmation.outcome().await, 404, BasicPublish::ID);
    assert_eq!(text, format!("NOT_FOUND - no exchange '{missing}' in vhost '/'"));

    let mut raw = world.raw().await;
    let publish = BasicPublish { exchange: missing, ..Default::default() };
    raw.publish(publish, "x").await;
    raw.publish(to(&queue), "behind").await;
    raw.ending().await;
    assert_eq!(counts(&world.channel().await, &queue).await, (0, 0));
}

/// PUB-3, CONF-5: on the wire, the return and its content come before the confirm of the same publish.
pub async fn return_comes_before_its_ack(world: World) {
    let mut raw = world.raw().await;
    let missing = world.name("missing");
    raw.ask(ConfirmSelect::default()).await;
    let publish = BasicPublish { mandatory: true, ..to(&missing) };
    let properties = Properties { message_id: Some(short!("m-1")), ..Default::default() };
    raw.publish(publish, Message { properties: properties.clone().into(), body: "hello".into() }).await;
    let expected = [
        Payload::Method(
            BasicReturn {
                reply_code: ReplyCode::NO_ROUTE,
                reply_text: short!("NO_ROUTE"),
                exchange: short!(""),
                routing_key: missing,
            }
            .into(),
        ),
        Payload::Header(ContentHeader { class_id: BASIC_CLASS, body_size: 5, properties: properties.into() }),
        Payload::Body("hello".into()),
        Payload::Method(BasicAck { delivery_tag: DeliveryTag(1), multiple: false }.into()),
    ];
    for payload in expected {
        assert_eq!(raw.frame().await, Some(Frame { channel: CHANNEL, payload }));
    }
}

/// PUB-2, PUB-3, PUB-4, CONF-6: the same through the client, and what is not mandatory is dropped in silence.
pub async fn mandatory_message_comes_back(world: World) {
    let channel = world.channel().await;
    let (missing, queue) = (world.name("missing"), world.name("q"));
    channel.queue_declare(own(&queue)).await.unwrap();
    let mut returns = channel.returns();
    put(&channel, to(&missing), "dropped").await;
    put(&channel, BasicPublish { mandatory: true, ..to(&queue) }, "nobody listens, and yet routed").await;
    put(&channel, BasicPublish { mandatory: true, ..to(&missing) }, "returned").await;
    let returned = returns.next().await.unwrap();
    assert_eq!((returned.message.body, returned.reason.reply_code.0), ("returned".into(), 312));
    channel.close().await.unwrap();
    assert!(returns.next().await.is_none());
}

/// CONF-2, CONF-3, CONF-4: numbered from 1 after select; single or in groups, every publish once.
pub async fn confirms_cover_every_publish(world: World) {
    let mut raw = world.raw().await;
    let queue = world.queue("q");
    raw.ask(shared(&queue)).await;
    raw.publish(to(&queue), "before select, never confirmed").await;
    raw.ask(ConfirmSelect::default()).await;
    for _ in 0..50 {
        raw.publish(to(&queue), "x").await;
    }
    let mut open: Vec<u64> = (1..=50).collect();
    while !open.is_empty() {
        let Some(Method::BasicAck(BasicAck { delivery_tag: DeliveryTag(tag), multiple })) = raw.method().await
        else {
            panic!("expected basic.ack");
        };
        let before = open.len();
        open.retain(|&number| number != tag && !(multiple && number < tag));
        assert!(open.len() < before, "ack {tag} confirms nothing new");
    }
}

/// CONF-1, CONF-9: many publishes in flight, and selecting again changes nothing.
pub async fn many_publishes_in_flight(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    channel.confirm_select().await.unwrap();
    let mut confirmations = Vec::new();
    for number in 0..200 {
        if number == 100 {
            channel.confirm_select().await.unwrap();
        }
        confirmations.push(channel.publish_confirmed(to(&queue), "x").await.unwrap());
    }
    for confirmation in confirmations {
        assert_eq!(confirmation.outcome().await.unwrap(), Confirm::Ack);
    }
    assert_eq!(counts(&channel, &queue).await, (200, 0));
}

/// CONF-7
pub async fn full_queue_refuses(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    let arguments = table([("x-max-length", 1i32.into()), ("x-overflow", "reject-publish".into())]);
    channel.queue_declare(QueueDeclare { arguments, ..own(&queue) }).await.unwrap();
    fill(&channel, &queue, &["kept"]).await;
    let refused = channel.publish_confirmed(to(&queue), "refused").await.unwrap();
    assert_eq!(refused.outcome().await.unwrap(), Confirm::Nack);
    assert_eq!(drain(&channel, &queue).await, ["kept"]);
    fill(&channel, &queue, &["room again"]).await;
}

/// Without x-overflow the oldest message makes room.
pub async fn full_queue_drops_its_head(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    let arguments = table([("x-max-length", 2i32.into())]);
    channel.queue_declare(QueueDeclare { arguments, ..own(&queue) }).await.unwrap();
    fill(&channel, &queue, &["1", "2", "3"]).await;
    assert_eq!(drain(&channel, &queue).await, ["2", "3"]);
}

/// PUB-5
pub async fn immediate_is_not_implemented(world: World) {
    let mut raw = world.raw().await;
    raw.publish(BasicPublish { immediate: true, ..Default::default() }, "x").await;
    match raw.ending().await {
        Ending::Connection(reason) => {
            assert_eq!((reason.code.0, reason.method), (540, BasicPublish::ID));
            assert_eq!(reason.text, "NOT_IMPLEMENTED - immediate=true");
        }
        other => panic!("expected connection.close 540, got {other:?}"),
    }
}

/// PROP-13, PROP-14
pub async fn property_that_is_refused(world: World) {
    let connection = world.connect().await;
    let user = world.options().user().to_owned();
    let expiration = |text| Properties { expiration: Some(text), ..Default::default() };
    let stranger = Properties { user_id: Some(short!("someone")), ..Default::default() };
    let cases = [
        (expiration(short!("abc")), "invalid expiration 'abc': no_integer".to_owned()),
        (expiration(short!("")), "invalid expiration '': no_integer".into()),
        (expiration(short!("-1")), "invalid expiration '-1': {value_negative,-1}".into()),
        (expiration(short!("10ms")), "invalid expiration '10ms': {leftover_string,\"ms\"}".into()),
        (stranger, format!("user_id property set to 'someone' but authenticated user was '{user}'")),
    ];
    for (properties, expected) in cases {
        let channel = connection.open_channel().await.unwrap();
        let queue = channel.queue_declare(QueueDeclare { exclusive: true, ..Default::default() }).await;
        let publish = to(&queue.unwrap().queue);
        channel.publish_with(publish, Message { properties: properties.into(), body: "x".into() }).await.unwrap();
        let text = costs_channel(channel.qos(1).await, 406, BasicPublish::ID);
        assert_eq!(text, format!("PRECONDITION_FAILED - {expected}"));
    }
}

/// CONS-22: too late for everybody. The sleep is no race, it is what makes it late.
pub async fn expired_message_is_dropped(world: World) {
    let channel = world.channel().await;
    let queue = world.name("q");
    channel.queue_declare(own(&queue)).await.unwrap();
    let expiring = |text| Message {
        properties: Properties { expiration: Some(text), ..Default::default() }.into(),
        body: "expired".into(),
    };
    put(&channel, to(&queue), expiring(short!("0"))).await;
    put(&channel, to(&queue), expiring(short!("50"))).await;
    put(&channel, to(&queue), "kept").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(drain(&channel, &queue).await, ["kept"]);

    let declared = QueueDeclare {
        arguments: table([("x-message-ttl", 0i32.into())]),
        ..own(&world.name("ttl"))
    };
    let queue = channel.queue_declare(declared).await.unwrap().queue;
    fill(&channel, &queue, &["at once or never"]).await;
    assert_eq!(drain(&channel, &queue).await, [""; 0]);
}

/// The header CC is more routing keys; BCC is the same, and taken off.
pub async fn copies_by_header(world: World) {
    let channel = world.channel().await;
    let queues = [world.name("to"), world.name("cc"), world.name("bcc")];
    for queue in &queues {
        channel.queue_declare(own(queue)).await.unwrap();
    }
    let key = |queue: &ShortString| {
        FieldValue::Array(vec![FieldValue::LongString(queue.to_string().into())])
    };
    let headers = table([("BCC", key(&queues[2])), ("CC", key(&queues[1]))]);
    let properties = Properties { headers: Some(headers), ..Default::default() };
    put(&channel, to(&queues[0]), Message { properties: properties.into(), body: "x".into() }).await;
    for queue in &queues {
        let got = channel.get_no_ack(queue).await.unwrap().unwrap().delivery;
        let headers = got.properties().headers.clone().unwrap();
        assert_eq!(headers, table([("CC", key(&queues[1]))]));
        assert_eq!(got.routing_key, queues[0], "CONS-10: the key of the publish");
    }
}

/// CONTENT-1, CONTENT-13, FRAME-17: many tasks on one channel, many channels on one connection; no content is torn.
pub async fn contents_of_many_tasks(world: World) {
    let connection = world.connect().await;
    let queue = world.name("q");
    let first = connection.open_channel().await.unwrap();
    first.queue_declare(own(&queue)).await.unwrap();
    let second = connection.open_channel().await.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..16u8 {
        let channel = if number % 2 == 0 { first.clone() } else { second.clone() };
        let publish = to(&queue);
        tasks.spawn(async move { put(&channel, publish, vec![number; 200_000]).await });
    }
    tasks.join_all().await;
    let mut numbers = Vec::new();
    while let Some(got) = first.get_no_ack(&queue).await.unwrap() {
        let body = got.delivery.body();
        assert!(body.len() == 200_000 && body.iter().all(|octet| *octet == body[0]));
        numbers.push(body[0]);
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..16));
}
