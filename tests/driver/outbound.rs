//! Octets out: one write for a burst, a bound on what waits, and contents that are never torn.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use amqp_rpc::{
    client::{Channel, ConnectOptions},
    codec::*,
    protocol::Cause,
};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep},
};

use super::peer::{Noted, Peer, cause, encoded};

/// What may wait between a publisher and a socket that takes nothing: the high-water mark, a thousand commands of a
/// kibibyte, the pipe, and the publish in hand.
const MOST: usize = 256 + 1024 + 4 + 8;

/// Publishes messages of one kibibyte, numbered, for ever.
async fn publish_on(channel: Channel, accepted: Arc<AtomicUsize>) {
    loop {
        let number = accepted.load(Ordering::SeqCst);
        let body = format!("{number:01024}");
        if channel.publish("", "q", body).await.is_err() {
            return;
        }
        accepted.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_makes_publishers_wait() {
    // HB-2, HB-10, SEC-8
    let options = ConnectOptions::default().heartbeat(10);
    let (connection, mut peer) = Peer::pair(options, 4096).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let publisher = tokio::spawn(publish_on(channel, accepted.clone()));
    sleep(Duration::from_secs(5)).await;
    let (early, started) = (accepted.load(Ordering::SeqCst), Instant::now());
    assert!((256..MOST).contains(&early), "{early} KiB are waiting");
    for _ in 0..10 {
        // It lives, it only does not read.
        sleep(Duration::from_secs(9)).await;
        peer.say(encoded(0, Payload::Heartbeat)).await;
    }
    assert_eq!(accepted.load(Ordering::SeqCst), early, "nothing grows");
    assert!(connection.cause().is_none(), "a client is patient: BLOCK-2");

    publisher.abort();
    for number in 0..early {
        let body = peer.reader.publish().await;
        assert_eq!(body, format!("{number:01024}"));
    }
    let beats = peer.reader.beats;
    assert!(
        beats <= 1,
        "one waited, not one for each five seconds: {beats}"
    );
    let mut beats = Vec::new();
    while beats.len() < 3 {
        let frame = peer.reader.frame().await.unwrap();
        match frame.payload {
            Payload::Heartbeat => beats.push(started.elapsed().as_secs()),
            other => assert!(
                other.frame_type() < 4,
                "the publish that was in hand: {other:?}"
            ),
        }
    }
    assert!(
        beats[2] == beats[1] + 5,
        "they resume, h/2 apart: {beats:?}"
    );
}

#[tokio::test]
async fn a_burst_leaves_in_one_write() {
    let writes = Arc::new(Mutex::new(Vec::new()));
    let around = |writer| Noted::new(writer, &writes);
    let (connection, mut peer) =
        Peer::pair_through(ConnectOptions::default(), 1 << 20, around).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    writes.lock().unwrap().clear();
    for number in 0..900 {
        let channel = channel.clone();
        tokio::spawn(async move { channel.publish("", "q", number.to_string()).await });
    }
    for _ in 0..900 {
        peer.reader.publish().await;
    }
    let writes = writes.lock().unwrap().clone();
    assert!(writes.len() <= 2, "900 publishes in writes of {writes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_publish_has_sent_all_of_it_or_nothing() {
    // CONTENT-13
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 4096).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    let (mut taken, mut dropped) = (Vec::new(), 0);
    for number in 0..3000 {
        let body = format!("{number:02000}");
        let mut publish = Box::pin(channel.publish("", "q", body.clone()));
        match std::future::poll_fn(|context| Poll::Ready(publish.as_mut().poll(context))).await {
            Poll::Ready(done) => {
                done.unwrap();
                taken.push(body);
            }
            Poll::Pending => dropped += 1,
        }
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(
        dropped > 1000,
        "{dropped} of 3000 had to wait and were dropped"
    );
    for body in taken {
        assert_eq!(peer.reader.publish().await, body);
    }
    peer.serving(connection.open_channel()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_close_does_not_wait_for_ever_for_a_peer_that_does_not_read() {
    // CLOSE-8: the watch on heartbeats does not help, for the peer sends them.
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 4096).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    tokio::spawn(publish_on(channel, accepted.clone()));
    sleep(Duration::from_mins(1)).await;
    let mut writer = peer.writer;
    let alive = tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            if writer
                .write_all(&encoded(0, Payload::Heartbeat))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    let started = Instant::now();
    let why = cause(connection.close().await);
    assert!(
        matches!(&why, Cause::Io(text) if text.contains("read nothing")),
        "{why}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    alive.abort();
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_does_not_leave_a_task_behind_a_peer_that_does_not_read() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let (connection, mut peer) = Peer::pair(ConnectOptions::default().heartbeat(0), 4096).await;
    let channel = peer.serving(connection.open_channel()).await.unwrap();
    let publisher = tokio::spawn(publish_on(channel, Arc::default()));
    sleep(Duration::from_mins(1)).await;
    publisher.abort();
    let _ = publisher.await;
    assert_eq!(tasks(), before + 1);
    drop(connection);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(tasks(), before);
}

/// A writer that takes nothing and does not say why.
struct Nothing;

impl tokio::io::AsyncWrite for Nothing {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(0))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_takes_no_octet_is_a_broken_one() {
    let (near, _far) = tokio::io::duplex(64);
    let options = ConnectOptions::default();
    let opened = amqp_rpc::client::Connection::over(near, Nothing, options).await;
    assert!(matches!(cause(opened.map(drop)), Cause::Io(_)));
}

/// A writer may hold back what it was given, as one that encrypts does, until it is flushed.
#[tokio::test]
async fn nothing_stays_in_a_writer_that_buffers() {
    let broker = amqp_rpc::broker::Broker::start().await.unwrap();
    let options: ConnectOptions = broker.uri().parse().unwrap();
    let stream = tokio::net::TcpStream::connect(broker.address())
        .await
        .unwrap();
    let (reader, writer) = stream.into_split();
    let writer = tokio::io::BufWriter::with_capacity(1 << 20, writer);
    let conversation = async {
        let connection = amqp_rpc::client::Connection::over(reader, writer, options)
            .await
            .unwrap();
        let channel = connection.open_channel().await.unwrap();
        channel.confirm_select().await.unwrap();
        for body in ["x".repeat(10), "x".repeat(1 << 21)] {
            let confirm = channel
                .publish_confirmed(BasicPublish::default(), body)
                .await
                .unwrap();
            assert_eq!(
                confirm.outcome().await.unwrap(),
                amqp_rpc::client::Confirm::Ack
            );
        }
        connection.close().await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(20), conversation)
        .await
        .expect("nobody waits for a full buffer");
}

/// CONTENT-15: a header is never split, so whoever publishes hears of it, and nothing of it is sent.
#[tokio::test]
async fn properties_that_fit_no_frame_are_refused_to_their_publisher() {
    let broker = amqp_rpc::broker::Broker::start().await.unwrap();
    let connection = broker.connect().await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    let mut headers = FieldTable::EMPTY;
    headers.insert(amqp_rpc::short!("long"), "x".repeat(131_072));
    let properties = Properties {
        headers: Some(headers),
        ..Default::default()
    };
    let message = amqp_rpc::client::Message::new(properties, "body");
    let refused = channel.publish("", "anywhere", message).await.unwrap_err();
    assert_eq!(
        refused.code(),
        Some(ReplyCode::CONTENT_TOO_LARGE),
        "{refused}"
    );
    channel.qos(1).await.unwrap(); // the channel goes on
}
