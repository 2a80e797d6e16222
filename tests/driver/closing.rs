//! The end: whoever waits wakes with the first cause, and whoever leaves is heard.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use amqp_rpc::{
    client::{ConnectOptions, Connection, Error},
    codec::*,
    protocol::{Cause, Greeting},
    rpc::{RpcClient, RpcError},
};
use tokio::io::AsyncWriteExt;

use super::peer::{Noted, Peer, ResetAtEnd, cause, delivery, method};

/// Lets eight kinds of waiters wait, ends the connection with these octets, and says what each of them heard.
async fn woken_by(last_words: &[u8]) -> Vec<Cause> {
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let setup = async {
        let channel = connection.open_channel().await.unwrap();
        channel.confirm_select().await.unwrap();
        let consumer = channel.consume("q").await.unwrap();
        let rpc = RpcClient::new(&connection).await.unwrap();
        (channel, consumer, rpc)
    };
    let (channel, mut consumer, rpc) = peer.serving(setup).await;
    let mut returns = channel.returns();
    let publish = BasicPublish::default();
    let confirmation = channel.publish_confirmed(publish, "x").await.unwrap();
    let waiters = async {
        let call = async {
            match rpc.call("q", "x").await {
                Err(RpcError::ConnectionLost { cause, .. }) => Err::<(), _>(cause),
                other => panic!("{other:?}"),
            }
        };
        let (declare, get, confirm, next, open, call, closed, returned) = tokio::join!(
            channel.queue_declare(QueueDeclare::default()),
            channel.get("q"),
            confirmation.outcome(),
            consumer.next(),
            connection.open_channel(),
            call,
            connection.closed(),
            returns.next(),
        );
        assert!(returned.is_none() && consumer.next().await.is_none());
        vec![
            cause(declare),
            cause(get),
            cause(confirm),
            cause(next.unwrap()),
            cause(open),
            cause(call),
            closed,
            cause(channel.publish("", "q", "too late").await),
            cause(connection.open_channel().await),
            cause(connection.clone().close().await),
        ]
    };
    let end = async {
        // Two publishes, three requests: once they are here, everyone waits.
        peer.reader.publish().await;
        let mut names = Vec::new();
        while names.len() < 3 {
            match peer.reader.frame().await.unwrap().payload {
                Payload::Method(Method::BasicPublish(_)) => {}
                Payload::Method(method) => names.push(method.name()),
                _ => {}
            }
        }
        peer.writer.write_all(last_words).await.unwrap();
        drop(peer);
    };
    tokio::join!(waiters, end).0
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_wakes_with_the_first_cause() {
    // CLOSE-4, CLOSE-10, CLOSE-13, ERR-10
    let mut torn = method(1, QueueDeclareOk::default());
    torn.truncate(9);
    for cause in woken_by(&torn).await {
        assert_eq!(cause, Cause::EndOfStream);
    }
    let forced = |code| {
        let reply_code = ReplyCode(code);
        let close = ConnectionClose {
            reply_code,
            ..Default::default()
        };
        method(0, close)
    };
    let mut both = forced(320);
    both.extend_from_slice(&forced(541));
    for cause in woken_by(&both).await {
        assert_eq!(
            cause.code(),
            Some(ReplyCode::CONNECTION_FORCED),
            "the first cause stays"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_closes_wakes_its_own_and_no_others() {
    // CHAN-10, CONF-8
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let setup = async {
        let (one, two) = (
            connection.open_channel().await,
            connection.open_channel().await,
        );
        let (one, two) = (one.unwrap(), two.unwrap());
        one.confirm_select().await.unwrap();
        let consumer = one.consume("q").await.unwrap();
        (one, two, consumer)
    };
    let (one, two, mut consumer) = peer.serving(setup).await;
    // One without a waiter before it: it counts all the same. CONF-2
    one.publish("", "q", "nobody waits").await.unwrap();
    let publish = || one.publish_confirmed(BasicPublish::default(), "x");
    let (acked, lost) = (publish().await.unwrap(), publish().await.unwrap());
    let ack = BasicAck {
        delivery_tag: DeliveryTag(2),
        multiple: false,
    };
    for body in ["nobody waits", "x", "x"] {
        assert_eq!(peer.reader.publish().await, body);
    }
    peer.say(method(1, ack)).await;
    acked.outcome().await.unwrap();

    let reply_code = ReplyCode::NOT_FOUND;
    peer.say(method(
        1,
        ChannelClose {
            reply_code,
            ..Default::default()
        },
    ))
    .await;
    let code = |error: Error| {
        assert!(matches!(error, Error::ChannelClosed(_)), "{error}");
        error.code()
    };
    assert_eq!(code(lost.outcome().await.unwrap_err()), Some(reply_code));
    assert_eq!(
        code(consumer.next().await.unwrap().unwrap_err()),
        Some(reply_code)
    );
    assert_eq!(code(one.get("q").await.unwrap_err()), Some(reply_code));
    peer.serving(two.queue_declare(QueueDeclare::default()))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn requests_behind_a_close_hear_of_the_close() {
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    let other = peer.serving(connection.open_channel()).await.unwrap();
    // All in one batch: the task sees them only after the last was queued.
    let batch = async {
        tokio::join!(
            channel.clone().close(),
            channel.clone().close(),
            channel.get("q"),
            channel.publish_confirmed(BasicPublish::default(), "x"),
        )
    };
    let (first, second, get, publish) = peer.serving(batch).await;
    first.unwrap();
    let here = |error| matches!(error, Error::ChannelClosed(Cause::ClosedHere));
    assert!(here(second.unwrap_err()) && here(get.unwrap_err()));
    assert!(here(publish.unwrap().outcome().await.unwrap_err()));

    let batch = async {
        tokio::join!(
            connection.clone().close(),
            connection.clone().close(),
            other.get("q"),
            connection.open_channel(),
        )
    };
    let (first, second, get, open) = peer.serving(batch).await;
    first.unwrap();
    second.unwrap();
    assert_eq!(
        (cause(get), cause(open)),
        (Cause::ClosedHere, Cause::ClosedHere)
    );
    connection.clone().close().await.unwrap();
    assert_eq!(connection.closed().await, Cause::ClosedHere);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_says_close() {
    // CLOSE-1
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    channel.publish("", "q", "before").await.unwrap();
    drop(connection);
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(channel);
    assert_eq!(peer.reader.publish().await, "before");
    let mut names = Vec::new();
    while let Some(frame) = peer.reader.frame().await {
        let Payload::Method(said) = frame.payload else {
            continue;
        };
        names.push(said.name());
        if said.name() == "connection.close" {
            peer.say(method(0, ConnectionCloseOk::default())).await;
        }
    }
    assert_eq!(names, ["channel.close", "connection.close"]);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_ends_badly_is_named_however_it_ends() {
    // CONN-16, TUNE-4, CLOSE-12: an end, a reset, and a write that fails first.
    for (tuned, breaks, expected) in [
        (false, usize::MAX, Cause::LoginRefused),
        (false, 8, Cause::LoginRefused),
        (true, usize::MAX, Cause::LimitsRefused),
        (true, 400, Cause::LimitsRefused),
    ] {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(near);
        let mut peer = Peer::new(far);
        let mut writer = Noted::new(writer, &Arc::new(Mutex::new(Vec::new())));
        writer.breaks = breaks;
        let options = ConnectOptions::default();
        let opening = Connection::over(ResetAtEnd(reader), writer, options);
        let refusing = async move {
            let start = ConnectionStart {
                version_minor: 9,
                mechanisms: "PLAIN".into(),
                locales: "en_US".into(),
                ..Default::default()
            };
            peer.say(method(0, start)).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            if tuned {
                peer.say(method(0, ConnectionTune::default())).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (opened, ()) = tokio::join!(opening, refusing);
        assert_eq!(
            cause(opened.map(drop)),
            expected,
            "broken from octet {breaks} on"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_on_publishing_does_not_put_the_end_off() {
    // HDR-6: a write has failed, and nothing comes that might say why.
    let breaks = |writer| {
        let mut writer = Noted::new(writer, &Arc::new(Mutex::new(Vec::new())));
        writer.breaks = 2000;
        writer
    };
    let options = ConnectOptions::default();
    let (connection, mut peer) = Peer::pair_through(options, 1 << 16, breaks).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    for _ in 0..40 {
        let _ = channel.publish("", "q", "x".repeat(1000)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let cause = connection.cause();
    assert!(matches!(cause, Some(Cause::Io(_))), "{cause:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_version_is_read_before_the_reset_is_believed() {
    // HDR-5, HDR-6: not even the client's own header may have left.
    for breaks in [0, usize::MAX] {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(near);
        let mut writer = Noted::new(writer, &Arc::new(Mutex::new(Vec::new())));
        writer.breaks = breaks;
        let opening = Connection::over(ResetAtEnd(reader), writer, ConnectOptions::default());
        let refusing = async move {
            let mut peer = Peer::new(far);
            peer.writer
                .write_all(b"AMQP\x00\x01\x00\x00")
                .await
                .unwrap();
        };
        let (opened, ()) = tokio::join!(opening, refusing);
        let other = Cause::NotAmqp(Greeting::OtherVersion([0, 1, 0, 0]));
        assert_eq!(cause(opened.map(drop)), other);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_said_close_hears_the_rest_before_it_hangs_up() {
    // CLOSE-6, CLOSE-11: its sending half stays open until close-ok is here, whatever comes before that.
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let _channel = peer.serving(connection.open_channel()).await.unwrap();
    let broker = async {
        peer.expect("connection.close").await;
        peer.say(delivery(&ConsumerTag::default(), 1, b"late"))
            .await;
        let quiet = tokio::time::timeout(Duration::from_secs(5), peer.reader.frame()).await;
        assert!(quiet.is_err(), "neither a frame nor the end: {quiet:?}");
        peer.say(method(0, ConnectionCloseOk::default())).await;
        assert_eq!(peer.reader.frame().await, None);
    };
    let (closed, ()) = tokio::join!(connection.close(), broker);
    closed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_open_that_is_dropped_leaves_no_task_behind() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let (near, far) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(near);
    let mut peer = Peer::new(far);
    let opening = tokio::spawn(Connection::over(reader, writer, ConnectOptions::default()));
    peer.greet().await;
    assert_eq!(tasks(), 2);
    opening.abort();
    assert!(
        peer.reader.frame().await.is_none(),
        "nothing may be said before open"
    );
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_task_is_not_busy() {
    // Every arm of the loop, once its work is done, waits: else virtual time could not move.
    let (connection, mut peer) = Peer::pair(ConnectOptions::default().heartbeat(0), 1 << 16).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    let idle = |what| async move {
        let day = Duration::from_hours(24);
        let slept = tokio::time::timeout(day * 2, tokio::time::sleep(day));
        assert!(slept.await.is_ok(), "{what}");
    };
    idle("nothing happens").await;
    let consumer = peer.serving(channel.consume("q")).await.unwrap();
    drop(consumer); // a bell that nobody heard
    peer.grant("basic.cancel").await;
    idle("a bell was rung").await;
    drop(channel);
    peer.expect("channel.close").await;
    idle("a close-ok is owed").await;
    drop(connection);
    peer.expect("connection.close").await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    peer.say(method(0, ConnectionCloseOk::default())).await;
    assert!(peer.reader.frame().await.is_none());
}
