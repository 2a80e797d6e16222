//! The same loop under a broker: clients that do not read, do not log in, or come by the thousand.

use std::{net::Ipv4Addr, time::Duration};

use amqp_rpc::{
    broker::{Broker, BrokerOptions},
    client::{ConnectOptions, Connection},
    codec::*,
    protocol::{Cause, Credentials},
    rpc::{Request, RpcClient, RpcClientOptions, RpcServer, RpcServerOptions},
    short,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

#[tokio::test]
async fn a_broker_says_how_its_first_user_gets_in() {
    // SASL-2: a name may hold whatever a URI gives a meaning of its own.
    let (user, password) = ("j\u{f6}rg@home".to_owned(), "p:/w %2f".to_owned());
    let options = BrokerOptions {
        users: vec![Credentials { user, password }, Credentials::guest()],
        ..BrokerOptions::default()
    };
    let broker = Broker::bind("127.0.0.1:0", options).await.unwrap();
    for opened in [
        Connection::open(&broker.uri()).await,
        broker.connect().await,
    ] {
        assert_eq!(opened.unwrap().opened().user, "j\u{f6}rg@home");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_given_no_more_and_then_dropped() {
    // SEC-8, SEC-10
    const MESSAGES: usize = 24;
    let broker = Broker::start().await.unwrap();
    let (lazy, busy) = (
        broker.connect().await.unwrap(),
        broker.connect().await.unwrap(),
    );
    let (channel, other) = (
        lazy.open_channel().await.unwrap(),
        busy.open_channel().await.unwrap(),
    );
    other
        .queue_declare(QueueDeclare {
            queue: short!("q"),
            ..Default::default()
        })
        .await
        .unwrap();
    let consume = || BasicConsume {
        queue: short!("q"),
        ..Default::default()
    };
    let _lazy = channel.consume_no_ack(consume()).await.unwrap();
    other.confirm_select().await.unwrap();
    for _ in 0..MESSAGES {
        let publish = BasicPublish {
            routing_key: short!("q"),
            ..Default::default()
        };
        let confirm = other
            .publish_confirmed(publish, vec![0; 1 << 20])
            .await
            .unwrap();
        confirm.outcome().await.unwrap(); // whoever reads is served
    }
    let started = Instant::now();
    let kept = broker.queue("q").unwrap();
    // 8 MiB in the client's queue, 1 MiB in the broker's, and what is on its way.
    assert!((MESSAGES - 12..MESSAGES).contains(&kept.ready), "{kept:?}");
    assert_eq!(kept.consumers, 1);
    while broker.queue("q").unwrap().consumers > 0 {
        sleep(Duration::from_secs(1)).await;
    }
    let borne = started.elapsed().as_secs();
    assert!((119..=125).contains(&borne), "two heartbeats: {borne} s");
    assert_eq!(broker.queue("q").unwrap().ready, kept.ready);
    let mut consumer = other.consume_no_ack(consume()).await.unwrap();
    for _ in 0..kept.ready {
        consumer.next().await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn half_open_handshakes_are_dropped_in_time() {
    // SEC-2: a slow sender of single octets does not extend it.
    let broker = Broker::start().await.unwrap();
    let started = Instant::now();
    let mut flood = JoinSet::new();
    for number in 0..200_usize {
        let mut stream = TcpStream::connect(broker.address()).await.unwrap();
        flood.spawn(async move {
            for octet in PROTOCOL_HEADER.iter().take(number % 9) {
                stream.write_all(&[*octet]).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said).await; // to the end, or a reset
            started.elapsed()
        });
    }
    let good = broker.connect().await.unwrap();
    while let Some(ended) = flood.join_next().await {
        let after = ended.unwrap();
        assert!((10..12).contains(&after.as_secs()), "{after:?}");
    }
    good.open_channel().await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn more_connections_than_allowed_are_refused() {
    // SEC-8
    let options = BrokerOptions {
        max_connections: 2,
        ..Default::default()
    };
    let broker = Broker::bind((Ipv4Addr::LOCALHOST, 0), options)
        .await
        .unwrap();
    let one = Connection::open(&broker.uri()).await.unwrap();
    let _two = Connection::open(&broker.uri()).await.unwrap();
    Connection::open(&broker.uri()).await.unwrap_err();
    one.close().await.unwrap();
    while Connection::open(&broker.uri()).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_shutdown_reaches_everyone() {
    // CLOSE-15
    let broker = Broker::start().await.unwrap();
    let mut clients = vec![broker.connect().await.unwrap()];
    for _ in 0..20 {
        clients.push(Connection::open(&broker.uri()).await.unwrap());
    }
    let mut opening = TcpStream::connect(broker.address()).await.unwrap();
    let started = Instant::now();
    broker.stop().await;
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "nobody had to be waited for"
    );
    for client in clients {
        let cause = client.closed().await;
        assert_eq!(cause.code(), Some(ReplyCode::CONNECTION_FORCED), "{cause}");
    }
    let _ = opening.read_to_end(&mut Vec::new()).await; // gone as well
}

#[tokio::test]
async fn ten_thousand_calls_in_flight_get_their_own_answers() {
    // RPC-3, RPC-5
    const CALLS: usize = 10_000;
    let broker = Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    let options = RpcServerOptions {
        prefetch: 100,
        ..Default::default()
    };
    let server = RpcServer::with_options(&connection, "rpc", options)
        .await
        .unwrap();
    let options = RpcClientOptions {
        timeout: Duration::from_mins(1),
        ..Default::default()
    };
    let rpc = RpcClient::with_options(&connection, options).await.unwrap();
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let rpc = rpc.clone();
        calls.spawn(async move {
            let request = number.to_string();
            let reply = rpc.call("rpc", request.clone()).await.unwrap();
            assert_eq!(reply.body, format!("re: {request}"));
        });
    }
    while rpc.stats().pending < CALLS as u64 {
        tokio::task::yield_now().await;
    }
    // Only now does the server begin.
    let echo = |request: Request| async move {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        Ok(format!("re: {text}"))
    };
    let stop = async move { while calls.join_next().await.is_some_and(|call| call.is_ok()) {} };
    server.serve(echo, stop).await.unwrap();
    let stats = rpc.stats();
    assert_eq!((stats.pending, stats.late, stats.foreign), (0, 0, 0));
    assert_eq!(broker.queue("rpc").unwrap().ready, 0);
}

#[tokio::test]
async fn a_broker_listens_on_this_machine_unless_told_otherwise() {
    // SEC-13
    let broker = Broker::start().await.unwrap();
    assert!(broker.address().ip().is_loopback());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_in_any_way_leaves_nothing() {
    // CLOSE-10, QUEUE-6
    let broker = Broker::start().await.unwrap();
    let connection =
        Connection::connect(ConnectOptions::default().at("127.0.0.1", broker.address().port()));
    let connection = connection.await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    let own = QueueDeclare {
        queue: short!("own"),
        exclusive: true,
        ..Default::default()
    };
    channel.queue_declare(own).await.unwrap();
    let consumer = channel.consume("own").await.unwrap();
    drop((consumer, channel, connection));
    while broker.queue("own").is_some() {
        sleep(Duration::from_millis(10)).await;
    }
    let again = broker.connect().await.unwrap();
    assert!(!matches!(again.cause(), Some(Cause::EndOfStream)));
}
