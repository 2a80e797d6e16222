//! Connections and channels: logging in, living, failing and closing.

use std::time::Duration;

use amqp_rpc::{
    client::{Connection, Error},
    codec::*,
    protocol::{Cause, Mechanism},
};
use fluent_uri::Uri;
use tokio::time::{sleep, timeout};

use crate::{
    raw::{CHANNEL, Ending, PATIENCE, Raw, TUNE_OK},
    world::*,
};

/// CONN-2, CONN-6, TUNE-11
pub async fn handshake(world: World) {
    let connection = world.connect().await;
    let opened = connection.opened();
    assert_eq!((opened.tuning.channel_max, opened.tuning.frame_max), (2047, 131_072));
    for capability in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        assert!(opened.peer_can(capability), "{capability}");
    }
    connection.close().await.unwrap();
}

/// SASL-7, SASL-8
pub async fn wrong_password(world: World) {
    let text = |user: &str| {
        let options = world.options().credentials(user, "wrong");
        async { costs_connection(Connection::connect(options).await, 403, MethodId::NONE) }
    };
    let expected = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the \
                    broker logfile.";
    assert_eq!(text(world.options().user()).await, expected);
    assert_eq!(text("nobody").await, expected, "who exists is nobody's business");
}

/// SASL-4
pub async fn amqplain(world: World) {
    let options = world.options().mechanism(Mechanism::Amqplain);
    let connection = Connection::connect(options).await.unwrap();
    connection.open_channel().await.unwrap();
    connection.close().await.unwrap();
}

/// CONN-10
pub async fn unknown_virtual_host(world: World) {
    let uri = Uri::parse(world.uri()).unwrap();
    let authority = uri.authority().unwrap().as_str();
    let refused = Connection::open(&format!("amqp://{authority}/no.such.vhost")).await;
    let text = costs_connection(refused, 530, ConnectionOpen::ID);
    assert_eq!(text, "NOT_ALLOWED - vhost no.such.vhost not found");
}

/// CHAN-6, ERR-1: a soft error costs one channel.
pub async fn channel_error_leaves_other_channels_alone(world: World) {
    let connection = world.connect().await;
    let (one, other) = (connection.open_channel().await.unwrap(), connection.open_channel().await.unwrap());
    let queue = world.name("q");
    other.queue_declare(own(&queue)).await.unwrap();
    let mut consumer = other.consume(&queue).await.unwrap();
    costs_channel(one.queue_declare(passive(&world.name("missing"))).await, 404, QueueDeclare::ID);
    fill(&other, &queue, &["hello"]).await;
    assert_eq!(next(&mut consumer).await.body(), b"hello");
    assert_eq!(connection.open_channel().await.unwrap().id(), one.id(), "its number is free again");
}

/// CHAN-10, ERR-9, ERR-10: whoever asks later hears the first cause.
pub async fn first_cause_is_what_everyone_hears(world: World) {
    let connection = world.connect().await;
    let (queue, missing) = (world.name("q"), world.name("missing"));
    let channel = connection.open_channel().await.unwrap();
    channel.queue_declare(own(&queue)).await.unwrap();
    let mut consumer = channel.consume(&queue).await.unwrap();
    channel.confirm_select().await.unwrap();
    costs_channel(channel.queue_declare(passive(&missing)).await, 404, QueueDeclare::ID);
    let later = [
        channel.qos(1).await,
        channel.publish("", &queue, "x").await,
        channel.get(&queue).await.map(drop),
        channel.publish_confirmed(to(&queue), "x").await.map(drop),
        timeout(PATIENCE, consumer.next()).await.unwrap().unwrap().map(drop),
        channel.close().await,
    ];
    for result in later {
        costs_channel(result, 404, QueueDeclare::ID);
    }
    assert!(consumer.next().await.is_none());
}

/// CLOSE-4, ERR-2: a hard error fails what waits on every channel.
pub async fn hard_error_costs_every_channel(world: World) {
    let connection = world.connect().await;
    let (one, other) = (connection.open_channel().await.unwrap(), connection.open_channel().await.unwrap());
    let queue = world.name("q");
    other.queue_declare(own(&queue)).await.unwrap();
    let mut consumer = other.consume(&queue).await.unwrap();
    let immediate = BasicPublish { immediate: true, ..Default::default() };
    one.publish_with(immediate, "x").await.unwrap();
    let closed = timeout(PATIENCE, connection.closed()).await.unwrap();
    assert_eq!(closed.code(), Some(ReplyCode::NOT_IMPLEMENTED));
    let later = [
        one.qos(1).await,
        other.qos(1).await,
        consumer.next().await.unwrap().map(drop),
        connection.open_channel().await.map(drop),
        connection.close().await,
    ];
    for result in later {
        costs_connection(result, 540, BasicPublish::ID);
    }
}

/// CHAN-2, CHAN-3, CHAN-14, METH-4, FRAME-15: what no client should say.
pub async fn methods_out_of_place(world: World) {
    let faults: [(u16, Method, u16); 6] = [
        (9, QueueDeclare::default().into(), 504),
        (1, ChannelOpen::default().into(), 504),
        (1, QueueDeclareOk::default().into(), 503),
        (1, ConnectionClose::default().into(), 503),
        (0, ChannelOpen::default().into(), 504),
        (1, ChannelFlow { active: false }.into(), 540),
    ];
    for (channel, method, code) in faults {
        let mut raw = world.raw().await;
        let name = method.name();
        raw.say(ChannelId(channel), method).await;
        let Ending::Connection(reason) = raw.ending().await else {
            panic!("{name} on channel {channel}: expected connection.close {code}");
        };
        assert_eq!(reason.code.0, code, "{name} on channel {channel}");
    }
    // CHAN-14: to ask for what goes on anyway is no fault.
    let mut raw = world.raw().await;
    let answer = raw.ask(ChannelFlow { active: true }).await;
    assert_eq!(answer, ChannelFlowOk { active: true }.into());
    let answer = raw.ask(BasicQos::default()).await;
    assert_eq!(answer, BasicQosOk::default().into());
}

/// CONTENT-7, CONTENT-12
pub async fn content_that_is_interrupted(world: World) {
    let mut raw = world.raw().await;
    raw.say(CHANNEL, BasicPublish::default()).await;
    raw.say(CHANNEL, BasicQos::default()).await;
    let Ending::Connection(reason) = raw.ending().await else {
        panic!("expected connection.close");
    };
    assert_eq!((reason.code.0, reason.method), (505, BasicPublish::ID));
}

/// CLOSE-1, CLOSE-6, CHAN-1: goodbye, twice.
pub async fn close_is_answered(world: World) {
    let mut raw = world.raw().await;
    let closed = raw.ask(ChannelClose::default()).await;
    assert_eq!(closed, ChannelCloseOk {}.into());
    let opened = raw.ask(ChannelOpen::default()).await;
    assert!(matches!(opened, Method::ChannelOpenOk(_)), "got {opened:?}");
    raw.say(ChannelId(0), ConnectionClose::default()).await;
    assert_eq!(raw.method().await, Some(ConnectionCloseOk {}.into()));
}

/// HB-1, HB-2: with an interval of 1 s, a line on which nothing is said for 4 s lives.
pub async fn heartbeats_keep_an_idle_connection(world: World) {
    let connection = Connection::connect(world.options().heartbeat(1)).await.unwrap();
    assert_eq!(connection.opened().tuning.heartbeat, 1);
    let channel = connection.open_channel().await.unwrap();
    sleep(Duration::from_secs(4)).await;
    channel.qos(1).await.unwrap();
}

/// HB-4, HB-5: a client that says nothing hears heartbeats, and then, without a close, the end.
pub async fn silent_client_is_dropped(world: World) {
    let mut raw = Raw::tuned(world.uri(), ConnectionTuneOk { heartbeat: 1, ..TUNE_OK }).await;
    let mut heartbeats = 0;
    while let Some(frame) = raw.any_frame().await {
        assert_eq!(frame.payload, Payload::Heartbeat);
        heartbeats += 1;
    }
    assert!(heartbeats > 0);
}

/// HDR-3: the broker's own header, whichever that is, and no frame.
pub async fn wrong_protocol_header(world: World) {
    let mut raw = Raw::connect(world.uri()).await;
    raw.send(b"GET / HT").await;
    let answer = raw.octets().await;
    assert!(answer.len() == 8 && answer.starts_with(b"AMQP"), "got {answer:?}");
    raw.hung_up().await;
}

/// TUNE-4: more than was offered is refused, without a close.
pub async fn tune_ok_beyond_the_offer(world: World) {
    let options = world.options().frame_max(0);
    let connection = Connection::connect(options).await.unwrap();
    assert_eq!(connection.opened().tuning.frame_max, 131_072, "TUNE-2: no limit of ours is the broker's");
    connection.close().await.unwrap();

    let mut raw = Raw::greeted(world.uri()).await;
    raw.log_in(world.uri()).await;
    let tune_ok = ConnectionTuneOk { channel_max: 2047, frame_max: 200_000, heartbeat: 0 };
    raw.say(ChannelId(0), tune_ok).await;
    raw.hung_up().await;
}

/// CHAN-4, TUNE-8: this client does not even ask; the broker refuses one that does.
pub async fn more_channels_than_agreed(world: World) {
    let connection = Connection::connect(world.options().channel_max(1)).await.unwrap();
    let _first = connection.open_channel().await.unwrap();
    let refused = connection.open_channel().await.unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "got {refused}");
    assert!(connection.cause().is_none());

    let tune_ok = ConnectionTuneOk { channel_max: 1, frame_max: 131_072, heartbeat: 0 };
    let mut raw = Raw::tuned(world.uri(), tune_ok).await;
    raw.say(ChannelId(2), ChannelOpen::default()).await;
    match raw.ending().await {
        Ending::Connection(reason) => assert_eq!(
            reason.text,
            "NOT_ALLOWED - number of channels opened (1) has reached the negotiated channel_max (1)"
        ),
        other => panic!("expected connection.close 530, got {other:?}"),
    }
}

/// CLOSE-4: after an orderly close, too, everyone hears why.
pub async fn operations_after_close(world: World) {
    let connection = world.connect().await;
    let channel = connection.open_channel().await.unwrap();
    connection.clone().close().await.unwrap();
    let refused = channel.qos(1).await;
    assert!(matches!(refused, Err(Error::ConnectionClosed(Cause::ClosedHere))), "got {refused:?}");
}
