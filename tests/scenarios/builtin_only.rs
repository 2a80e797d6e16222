//! What only a broker of one's own can be made to do.

use std::time::Duration;

use amqp_rpc::{
    broker::Broker,
    client::{Connection, Error},
    codec::*,
    protocol::Cause,
    rpc::{HandlerError, Request, RpcServer, RpcServerOptions},
    short,
};
use tokio::time::{sleep, timeout};

use crate::{
    raw::{CHANNEL, Ending, PATIENCE, Raw},
    world::{costs_channel, costs_connection, loses_connection, own, table},
};

/// CLOSE-15: everybody is told, and everything that waits hears it.
#[tokio::test]
async fn shutdown_is_320_for_everyone() {
    let broker = Broker::start().await.unwrap();
    let uri = broker.uri();
    let connection = Connection::open(&uri).await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    let declare = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    let queue = channel.queue_declare(declare).await.unwrap().queue;
    let mut consumer = channel.consume(queue).await.unwrap();
    timeout(PATIENCE, broker.shutdown()).await.unwrap();
    let end = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
    let text = costs_connection(end, 320, MethodId::NONE);
    assert_eq!(
        text,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    );
    costs_connection(channel.qos(1).await, 320, MethodId::NONE);
    let refused = Connection::open(&uri).await.unwrap_err();
    assert!(
        matches!(refused, Error::Connect { .. }),
        "nobody listens any more: {refused}"
    );
}

/// RPC-22, RPC-25: however much a server holds that it has not begun, it gives all of it back.
#[tokio::test]
async fn a_server_stops_behind_a_full_queue() {
    const MANY: usize = 500;
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    let options = RpcServerOptions {
        prefetch: 0,
        ..Default::default()
    };
    let server = RpcServer::with_options(&connection, "crowded", options);
    let server = server.await.unwrap();
    let publisher = broker
        .connect()
        .await
        .unwrap()
        .open_channel()
        .await
        .unwrap();
    for _ in 0..MANY {
        let body = vec![0; 1024];
        publisher.publish("", "crowded", body).await.unwrap();
    }
    let handed_out = async {
        while broker.queue("crowded").unwrap().unacked < MANY {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, handed_out)
        .await
        .expect("all of it waits for the server");
    let never = |_: Request| std::future::pending::<Result<&'static str, HandlerError>>();
    let monitor = server.monitor();
    timeout(PATIENCE, server.serve(never, std::future::ready(())))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(broker.queue("crowded").unwrap().ready, MANY);
    assert_eq!(monitor.stats().given_back, MANY as u64);
}

/// HB-1, HB-11: an hour in which nobody says anything, in paused time.
#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_connection_for_an_hour() {
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    assert_eq!(connection.opened().tuning.heartbeat, 60);
    let channel = connection.open_channel().await.unwrap();
    sleep(Duration::from_hours(1)).await;
    channel.qos(1).await.unwrap();
    assert_eq!(connection.cause(), None::<&Cause>);
}

/// TX-6
#[tokio::test]
async fn transactions_are_not_implemented() {
    let broker = Broker::start().await.unwrap();
    let mut raw = Raw::open(&broker.uri()).await;
    let text = loses_connection(&mut raw, TxSelect {}, 540).await;
    assert_eq!(text, "NOT_IMPLEMENTED - tx.select");
}

/// What this broker cannot keep it does not promise to keep.
#[tokio::test]
async fn streams_are_refused() {
    let broker = Broker::start().await.unwrap();
    let channel = broker
        .connect()
        .await
        .unwrap()
        .open_channel()
        .await
        .unwrap();
    let arguments = table([("x-queue-type", "stream".into())]);
    let declare = QueueDeclare {
        arguments,
        ..own(&short!("q"))
    };
    let text = costs_channel(channel.queue_declare(declare).await, 406, QueueDeclare::ID);
    assert!(text.contains("unsupported queue type 'stream'"), "{text}");
}

/// SEC-5: refused as soon as the header says how large it is, and not when 17 MiB have come.
#[tokio::test]
async fn large_message_is_refused_on_its_header() {
    let broker = Broker::start().await.unwrap();
    let mut raw = Raw::open(&broker.uri()).await;
    raw.say(CHANNEL, BasicPublish::default()).await;
    let header = ContentHeader {
        class_id: BASIC_CLASS,
        body_size: (16 << 20) + 1,
        ..Default::default()
    };
    raw.say_frame(Payload::Header(header)).await;
    match raw.ending().await {
        Ending::Channel(reason) => {
            assert_eq!((reason.code.0, reason.method), (406, BasicPublish::ID));
        }
        other => panic!("expected channel.close 406, got {other:?}"),
    }
}
