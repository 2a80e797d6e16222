//! A broker is not trusted either. SEC-16

use amqp_rpc::{
    client::{ConnectOptions, Error},
    codec::*,
    short,
};
use bytes::BytesMut;

use super::peer::{Peer, cause, content, delivery, encoded, method};

/// What a connection makes of these octets: the code that it closes with.
async fn answered(lie: BytesMut) -> ReplyCode {
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let _channel = peer.serving(connection.open_channel()).await.unwrap();
    peer.say(lie).await;
    let close = peer.connection_close().await;
    peer.say(method(0, ConnectionCloseOk::default())).await;
    let why = connection.closed().await;
    assert_eq!(
        why.code(),
        Some(close.reply_code),
        "the user hears what the peer hears: {why}"
    );
    assert_eq!(cause(connection.close().await), why);
    close.reply_code
}

#[tokio::test(start_paused = true)]
async fn a_hard_lie_ends_the_connection_with_its_code() {
    // ERR-5
    let oversized = BytesMut::from(&[3, 0, 1, 0xff, 0xff, 0xff, 0xff][..]);
    let mut no_end = method(1, BasicCancelOk::default());
    *no_end.last_mut().unwrap() = 0;
    let mut unknown = encoded(1, Payload::Body("\0\x3c\0\x63".into())); // 60.99
    unknown[0] = 1;
    let headless = encoded(1, Payload::Body("x".into()));
    let cases = [
        ("FRAME-3", no_end, 501),
        ("FRAME-6", oversized, 501),
        ("METH-9", method(1, QueueDeclareOk::default()), 503),
        ("METH-4", method(1, BasicQos::default()), 503),
        ("METH-2", unknown, 540),
        ("CHAN-2", method(9, BasicCancel::default()), 504),
        ("CHAN-13", method(1, ChannelCloseOk::default()), 503),
        ("CONTENT-8", headless, 505),
    ];
    for (rule, lie, code) in cases {
        assert_eq!(answered(lie).await, ReplyCode(code), "{rule}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_costs_its_channel() {
    // SEC-5, SEC-6
    let options = ConnectOptions::default().body_limit(100);
    let (connection, mut peer) = Peer::pair(options, 1 << 16).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    let mut consumer = peer.serving(channel.consume("q")).await.unwrap();
    peer.say(delivery(consumer.tag(), 1, &[0; 100])).await;
    let _ = consumer.next().await.unwrap().unwrap();
    peer.say(delivery(consumer.tag(), 2, &[0; 101])).await;
    let close = peer.channel_close().await;
    assert_eq!(close.reply_code, ReplyCode::PRECONDITION_FAILED); // as RabbitMQ says it
    let error = consumer.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ChannelClosed(_)), "{error}");
    peer.say(method(1, ChannelCloseOk::default())).await;
    peer.serving(connection.open_channel()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_concerns_nobody_is_dropped() {
    // CONS-6, CONF-4, PUB-6, HB-13
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    peer.say(delivery(&ConsumerTag(short!("who?")), 1, b"x"))
        .await;
    let ack = BasicAck {
        delivery_tag: DeliveryTag(77),
        multiple: true,
    };
    peer.say(method(1, ack)).await;
    peer.say(method(
        1,
        BasicCancel {
            consumer_tag: ConsumerTag(short!("who?")),
            no_wait: true,
        },
    ))
    .await;
    peer.say(content(1, BasicReturn::default(), b"x")).await;
    peer.say(encoded(0, Payload::Heartbeat)).await;
    peer.serving(channel.queue_declare(QueueDeclare::default()))
        .await
        .unwrap();
}
