//! An RPC server, frame by frame: what it says to its broker, in which order, and what it waits for in between.

use std::{
    future::{Future, pending},
    time::Duration,
};

use amqp_rpc::{
    broker::Broker,
    client::{ConnectOptions, Connection, Error, Message},
    codec::*,
    rpc::{
        CallOptions, ConnectionState, HandlerError, QueueType, Request, RpcClient, RpcServer,
        RpcServerOptions, ServerMonitor,
    },
    short,
};
use tokio::{
    io::copy_bidirectional,
    net::TcpListener,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::peer::*;

/// A server under test, and the broker that the test plays.
struct Stage {
    peer: Peer,
    tag: ConsumerTag,
    deliveries: u64,
    replies: u64,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Error>>,
    monitor: ServerMonitor,
}

impl Stage {
    /// A server that has subscribed, on a connection that was given to it. Its channel is number 1.
    async fn new<H, F>(options: RpcServerOptions, handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<&'static str, HandlerError>> + Send + 'static,
    {
        let (connection, peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
        let server = RpcServer::with_options(&connection, "q", classic(options));
        Self::begin(server, peer, handler).await
    }

    /// The same on a connection that it makes itself, and where it would make another.
    async fn dialled<H, F>(options: RpcServerOptions, handler: H) -> (Self, TcpListener)
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<&'static str, HandlerError>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let place = ConnectOptions::default().at("127.0.0.1", port);
        let mut server = Box::pin(RpcServer::connect_with(place, "q", classic(options)));
        let peer = tokio::select! {
            peer = accepted(&listener) => peer,
            _ = &mut server => panic!("it cannot be ready"),
        };
        (Self::begin(server, peer, handler).await, listener)
    }

    /// The server has made another connection, and has subscribed on it.
    async fn dialled_again(&mut self, listener: &TcpListener) {
        self.peer = accepted(listener).await;
        self.tag = subscribed(&mut self.peer).await;
        (self.deliveries, self.replies) = (0, 0);
    }

    async fn begin<H, F, R>(
        server: impl Future<Output = Result<RpcServer, Error>>,
        mut peer: Peer,
        handler: H,
    ) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, HandlerError>> + Send + 'static,
        R: Into<Message> + 'static,
    {
        let (server, tag) = tokio::join!(server, subscribed(&mut peer));
        let server = server.unwrap();
        let monitor = server.monitor();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(handler, async { _ = stopped.await }));
        let (deliveries, replies) = (0, 0);
        Self {
            peer,
            tag,
            deliveries,
            replies,
            stop: Some(stop),
            task,
            monitor,
        }
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn deliver_with(
        &mut self,
        body: &str,
        change: impl FnOnce(&mut BasicDeliver, &mut Properties),
    ) {
        self.deliveries += 1;
        let mut deliver = BasicDeliver {
            consumer_tag: self.tag.clone(),
            delivery_tag: DeliveryTag(self.deliveries),
            ..Default::default()
        };
        let mut properties = Properties {
            reply_to: Some(short!("caller")),
            correlation_id: Some(short!("7")),
            ..Default::default()
        };
        change(&mut deliver, &mut properties);
        self.peer.say(method(1, deliver)).await;
        let header = ContentHeader {
            class_id: BASIC_CLASS,
            body_size: body.len() as u64,
            properties: Box::new(properties),
        };
        self.peer.say(encoded(1, Payload::Header(header))).await;
        let body = Payload::Body(body.to_owned().into());
        self.peer.say(encoded(1, body)).await;
    }

    async fn deliver(&mut self, body: &str) {
        self.deliver_with(body, |_, _| {}).await;
    }

    /// The next reply: kind of error, if it is one, and body.
    async fn reply(&mut self) -> (Option<String>, String) {
        let (_, publish) = self.peer.expect("basic.publish").await;
        match publish {
            Method::BasicPublish(BasicPublish {
                exchange,
                routing_key,
                mandatory,
                ..
            }) => {
                assert_eq!(
                    (exchange, routing_key, mandatory),
                    (short!(""), short!("caller"), false)
                ); // RPC-16, RPC-19
            }
            other => panic!("got {other:?}"),
        }
        let Payload::Header(header) = self.peer.reader.frame().await.unwrap().payload else {
            panic!("expected a header");
        };
        let Payload::Body(body) = self.peer.reader.frame().await.unwrap().payload else {
            panic!("expected a body");
        };
        self.replies += 1;
        let Properties {
            correlation_id,
            kind,
            headers,
            ..
        } = *header.properties;
        assert_eq!(correlation_id, Some(short!("7"))); // RPC-16
        let kind = kind.map(|_| headers.unwrap().get("error-kind").unwrap().to_string());
        (
            kind.map(|kind| kind.trim_matches('"').to_owned()),
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }

    async fn confirm(&mut self) {
        let ack = BasicAck {
            delivery_tag: DeliveryTag(self.replies),
            multiple: false,
        };
        self.peer.say(method(1, ack)).await;
    }

    async fn expect_ack(&mut self, delivery: u64) {
        let ack = BasicAck {
            delivery_tag: DeliveryTag(delivery),
            multiple: false,
        };
        assert_eq!(self.peer.reader.method().await.1, ack.into());
    }

    async fn expect_reject(&mut self, delivery: u64) {
        let reject = BasicReject {
            delivery_tag: DeliveryTag(delivery),
            requeue: false,
        };
        assert_eq!(self.peer.reader.method().await.1, reject.into());
    }

    async fn expect_back(&mut self, delivery: u64) {
        let nack = BasicNack {
            delivery_tag: DeliveryTag(delivery),
            multiple: false,
            requeue: true,
        };
        assert_eq!(self.peer.reader.method().await.1, nack.into());
    }

    /// Shows that nothing is said for a while.
    async fn expect_silence(&mut self) {
        let said = tokio::time::timeout(Duration::from_secs(1), self.peer.reader.method()).await;
        assert!(said.is_err(), "{said:?}");
    }
}

/// The broker's end of the next connection, when it is open.
async fn accepted(listener: &TcpListener) -> Peer {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let _ = copy_bidirectional(&mut stream, &mut near).await;
    });
    let mut peer = Peer::new(far);
    peer.open().await;
    peer
}

/// Grants a server what it needs on channel 1.
async fn subscribed(peer: &mut Peer) -> ConsumerTag {
    for name in [
        "channel.open",
        "queue.declare",
        "confirm.select",
        "basic.qos",
    ] {
        peer.grant(name).await;
    }
    match peer.grant("basic.consume").await {
        Method::BasicConsume(consume) => consume.consumer_tag,
        other => panic!("got {other:?}"),
    }
}

fn classic(options: RpcServerOptions) -> RpcServerOptions {
    RpcServerOptions {
        queue_type: QueueType::Classic,
        ..options
    }
}

fn handed_out(prefetch: u16, concurrency: usize) -> RpcServerOptions {
    RpcServerOptions {
        prefetch,
        concurrency: Some(concurrency),
        ..Default::default()
    }
}

async fn slow(request: Request) -> Result<&'static str, HandlerError> {
    let seconds = std::str::from_utf8(&request.body).unwrap().parse().unwrap();
    sleep(Duration::from_secs(seconds)).await;
    Ok("done")
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_says_these_frames_in_this_order() {
    // RPC-22, RPC-25, CONS-13
    let mut stage = Stage::new(handed_out(3, 1), slow).await;
    for seconds in ["5", "5", "5"] {
        stage.deliver(seconds).await;
    }
    sleep(Duration::from_secs(1)).await;
    stage.stop();

    // Nothing goes back before the cancel-ok: it would only come again. What is sent before it counts as handed out.
    let (_, cancel) = stage.peer.expect("basic.cancel").await;
    stage.expect_silence().await;
    stage.deliver("5").await;
    stage.peer.say(method(1, answer(&cancel).unwrap())).await;
    for unbegun in [2, 3, 4] {
        stage.expect_back(unbegun).await;
    }
    // What runs is finished; the ack waits for the confirm, and the end of the channel for the ack.
    assert_eq!(stage.reply().await, (None, "done".into()));
    stage.expect_silence().await;
    stage.confirm().await;
    stage.expect_ack(1).await;
    stage.peer.grant("channel.close").await;
    stage.task.await.unwrap().unwrap();
    let stats = stage.monitor.stats();
    assert_eq!((stats.served, stats.given_back, stats.running), (1, 3, 0));
}

#[tokio::test]
async fn a_server_that_stops_closes_the_connection_that_it_made() {
    // RPC-22, CLOSE-1
    let (mut stage, _) = Stage::dialled(handed_out(1, 1), slow).await;
    stage.deliver("0").await;
    stage.reply().await;
    stage.stop();
    stage.peer.grant("basic.cancel").await;
    stage.confirm().await;
    stage.expect_ack(1).await;
    stage.peer.grant("channel.close").await;
    stage.peer.grant("connection.close").await;
    stage.task.await.unwrap().unwrap();
    assert!(!stage.monitor.health().connection);
}

#[test]
fn a_handler_that_blocks_for_three_heartbeats_does_not_cost_the_connection() {
    // HB-3: one thread for all tasks, and the broker elsewhere.
    let (uri, broker) = broker_elsewhere();
    let everything = async {
        let place = uri.parse::<ConnectOptions>().unwrap().heartbeat(1);
        let server = RpcServer::connect(place, "blocking").await.unwrap();
        let monitor = server.monitor();
        let handler = |_: Request| async {
            std::thread::sleep(Duration::from_millis(3500));
            Ok("done")
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(handler, async { _ = stopped.await }));
        let connection = Connection::open(&uri).await.unwrap();
        let rpc = RpcClient::new(&connection).await.unwrap();
        let limit = CallOptions::within(Duration::from_secs(30));
        let reply = rpc.call_with(limit, "blocking", "x").await.unwrap();
        assert_eq!(reply.body, "done");
        let stats = monitor.stats();
        assert_eq!(
            (stats.served, stats.redelivered, stats.resubscribed),
            (1, 0, 0)
        );
        assert!(monitor.health().is_serving());
        drop(stop);
        serving.await.unwrap().unwrap();
    };
    let mut one_thread = tokio::runtime::Builder::new_current_thread();
    one_thread
        .enable_all()
        .build()
        .unwrap()
        .block_on(everything);
    drop(broker);
}

/// A broker on a thread of its own, until the other value is dropped.
fn broker_elsewhere() -> (String, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel();
    let (started, uri) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let broker = Broker::start().await.unwrap();
            started.send(broker.uri()).unwrap();
            let _ = stopped.await;
        });
    });
    (uri.recv().unwrap(), stop)
}

#[tokio::test(start_paused = true)]
async fn what_is_not_finished_at_the_drain_limit_is_cut_off() {
    // RPC-22, RPC-25
    let started = Instant::now();
    let drain_limit = Duration::from_secs(3);
    let mut stage = Stage::new(
        RpcServerOptions {
            drain_limit,
            ..handed_out(2, 2)
        },
        slow,
    )
    .await;
    stage.deliver("1").await;
    stage.deliver("100").await;
    sleep(Duration::from_millis(100)).await;
    stage.stop();
    stage.peer.grant("basic.cancel").await;
    assert_eq!(stage.reply().await.1, "done");
    stage.confirm().await;
    stage.expect_ack(1).await;
    stage.peer.grant("channel.close").await; // and no ack of the other before
    stage.task.await.unwrap().unwrap();
    assert_eq!(stage.monitor.stats().given_back, 1);
    let took = started.elapsed();
    assert!((3..5).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_acknowledged_when_its_reply_is_confirmed_and_not_before() {
    // RPC-14, and the next handler need not wait for that: BLOCK-2 holds up replies, not work.
    let mut stage = Stage::new(handed_out(2, 1), slow).await;
    stage.deliver("1").await;
    stage.deliver("1").await;
    stage.reply().await;
    stage.reply().await;
    stage.expect_silence().await;
    stage.confirm().await; // of the second alone
    stage.expect_ack(2).await;
    stage.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_the_broker_refuses_is_lost_and_the_work_is_not_done_again() {
    // CONF-7
    let mut stage = Stage::new(handed_out(1, 1), slow).await;
    stage.deliver("0").await;
    stage.reply().await;
    let nack = BasicNack {
        delivery_tag: DeliveryTag(1),
        multiple: false,
        requeue: false,
    };
    stage.peer.say(method(1, nack)).await;
    stage.expect_ack(1).await;
    assert_eq!(stage.monitor.stats().replies_refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_answered_and_its_request_rejected() {
    // RPC-18, RPC-23
    let handler = |request: Request| async move {
        assert!(request.body != "panic", "a test wants this panic");
        Ok("fine")
    };
    let mut stage = Stage::new(handed_out(1, 1), handler).await;
    stage.deliver("panic").await;
    let (kind, text) = stage.reply().await;
    assert_eq!(kind.as_deref(), Some("panic"));
    assert!(
        !text.contains("a test"),
        "what a panic says is not for strangers: {text}"
    );
    stage.expect_silence().await;
    stage.confirm().await;
    stage.expect_reject(1).await;
    stage.deliver("next").await;
    assert_eq!(stage.reply().await, (None, "fine".into()));
}

/// A result that fails as it becomes a message.
struct Unprintable;

impl From<Unprintable> for Message {
    fn from(_: Unprintable) -> Self {
        panic!("a test wants this panic")
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_panics_is_answered_too() {
    // RPC-18: or its request would stay unacknowledged, and with a prefetch of 1 there would be no other.
    let (connection, peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let server = RpcServer::with_options(&connection, "q", classic(handed_out(1, 1)));
    let handler = |_| async { Ok(Unprintable) };
    let mut stage = Stage::begin(server, peer, handler).await;
    stage.deliver("any").await;
    assert_eq!(stage.reply().await.0.as_deref(), Some("panic"));
    stage.confirm().await;
    stage.expect_reject(1).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_a_server_hears_of_its_end() {
    let stage = Stage::new(handed_out(1, 1), slow).await;
    let mut state = stage.monitor.state();
    stage.task.abort();
    let closed = state.wait_for(|state| matches!(state, ConnectionState::Closed(_)));
    let closed = tokio::time::timeout(Duration::from_mins(1), closed).await;
    assert!(closed.is_ok(), "not closed within a minute");
}

#[tokio::test(start_paused = true)]
async fn poison_is_answered_and_rejected_without_a_handler() {
    // RPC-23, RPC-24
    let never = |_: Request| async { panic!("poison is not worked on") };
    let mut stage = Stage::new(handed_out(1, 1), never).await;
    let count = |count: i64| FieldTable(vec![(short!("x-delivery-count"), count.into())]);
    stage
        .deliver_with("deadly", |deliver, properties| {
            deliver.redelivered = true;
            properties.headers = Some(count(6));
        })
        .await;
    assert_eq!(stage.reply().await.0.as_deref(), Some("poison"));
    stage.confirm().await;
    stage.expect_reject(1).await;
    assert_eq!(
        (
            stage.monitor.stats().poisoned,
            stage.monitor.stats().redelivered
        ),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_without_reply_to_is_rejected() {
    // RPC-17
    let mut stage = Stage::new(handed_out(1, 1), slow).await;
    stage
        .deliver_with("0", |_, properties| properties.reply_to = None)
        .await;
    stage.expect_reject(1).await;
    assert_eq!(stage.monitor.stats().unanswerable, 1);
}

#[tokio::test(start_paused = true)]
async fn what_expires_while_it_waits_for_a_handler_is_not_begun() {
    // RPC-10: the broker does nothing about what it has delivered, so the server counts from the arrival.
    let mut stage = Stage::new(handed_out(2, 1), slow).await;
    stage.deliver("5").await;
    stage
        .deliver_with("0", |_, properties| {
            properties.expiration = Some(short!("4000"));
        })
        .await;
    stage.reply().await;
    stage.expect_ack(2).await;
    stage.confirm().await;
    stage.expect_ack(1).await;
    assert_eq!(
        (stage.monitor.stats().served, stage.monitor.stats().expired),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_handler_ends_with_the_patience_of_its_caller() {
    // RPC-10
    let mut stage = Stage::new(handed_out(1, 1), slow).await;
    let started = Instant::now();
    stage
        .deliver_with("100", |_, properties| {
            properties.expiration = Some(short!("4000"));
        })
        .await;
    stage.expect_ack(1).await;
    assert_eq!(started.elapsed().as_secs(), 4);
    let stats = stage.monitor.stats();
    assert_eq!((stats.abandoned, stats.running), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_sets_no_deadline_is_answered_at_the_work_limit() {
    // RPC-18, and the time that it waited for a handler is not counted.
    let mut stage = Stage::new(handed_out(2, 1), slow).await;
    let started = Instant::now();
    stage.deliver("20").await;
    stage.deliver("100").await;
    assert_eq!(stage.reply().await, (None, "done".into()));
    assert_eq!(stage.reply().await.0.as_deref(), Some("work-limit"));
    assert_eq!(started.elapsed().as_secs(), 50);
    assert_eq!(stage.monitor.stats().timed_out, 1);
}

#[tokio::test(start_paused = true)]
async fn as_many_handlers_run_as_they_may() {
    // RPC-13
    let mut stage = Stage::new(handed_out(4, 2), slow).await;
    for _ in 0..4 {
        stage.deliver("10").await;
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.monitor.stats().running, 2);
    let started = Instant::now();
    for _ in 0..4 {
        stage.reply().await;
    }
    assert_eq!(started.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_of_the_broker_leads_to_another_subscription_and_keeps_what_runs() {
    // CONS-17, CONS-18, RPC-21
    let mut stage = Stage::new(handed_out(1, 1), slow).await;
    stage.deliver("1").await;
    let cancel = BasicCancel {
        consumer_tag: stage.tag.clone(),
        no_wait: true,
    };
    stage.peer.say(method(1, cancel)).await;
    // On another channel, which an error of the declare may cost without harm to what runs.
    for name in [
        "channel.open",
        "queue.declare",
        "confirm.select",
        "basic.qos",
        "basic.consume",
    ] {
        let (channel, request) = stage.peer.expect(name).await;
        assert_eq!(channel, ChannelId(2));
        assert!(!stage.monitor.health().is_serving());
        stage.peer.say(method(2, answer(&request).unwrap())).await;
    }
    assert_eq!(stage.reply().await, (None, "done".into()));
    assert!(stage.monitor.health().is_serving());
    stage.confirm().await;
    stage.expect_ack(1).await;
    assert_eq!(stage.monitor.stats().resubscribed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_declare_that_fails_is_tried_again_after_pauses_that_grow() {
    // ERR-8
    let mut stage = Stage::new(handed_out(1, 1), slow).await;
    let cancel = BasicCancel {
        consumer_tag: stage.tag.clone(),
        no_wait: true,
    };
    stage.peer.say(method(1, cancel)).await;
    stage.peer.grant("channel.close").await; // nothing runs on it
    let mut began = Vec::new();
    for _ in 0..6 {
        let (channel, open) = stage.peer.expect("channel.open").await;
        began.push(Instant::now());
        stage
            .peer
            .say(method(channel.0, answer(&open).unwrap()))
            .await;
        stage.peer.expect("queue.declare").await;
        let close = ChannelClose {
            reply_code: ReplyCode::NOT_FOUND,
            reply_text: short!("NOT_FOUND - the node of the queue is down"),
            class_id: 50,
            method_id: 10,
        };
        stage.peer.say(method(channel.0, close)).await;
        while stage.peer.reader.method().await.1 != Method::from(ChannelCloseOk {}) {}
    }
    let pauses: Vec<_> = began.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[4] > 4 * pauses[0], "{pauses:?}");
}

#[tokio::test]
async fn a_reply_that_costs_two_connections_is_not_sent_a_third_time() {
    // RPC-19: RabbitMQ 3.10 and a direct reply-to whose node is gone.
    let (mut stage, listener) = Stage::dialled(handed_out(1, 1), slow).await;
    let gone = |_: &mut BasicDeliver, properties: &mut Properties| {
        properties.reply_to = Some(short!("amq.rabbitmq.reply-to.gone"));
    };
    for _ in 0..2 {
        stage.deliver_with("0", gone).await;
        stage.peer.expect("basic.publish").await;
        let close = ConnectionClose {
            reply_code: ReplyCode::INTERNAL_ERROR,
            reply_text: short!("INTERNAL_ERROR"),
            ..Default::default()
        };
        stage.peer.say(method(0, close)).await;
        stage.dialled_again(&listener).await;
    }
    stage.deliver_with("0", gone).await;
    stage.expect_reject(1).await;
    stage.deliver("0").await;
    assert_eq!(stage.reply().await, (None, "done".into()));
    assert_eq!(stage.monitor.stats().unanswerable, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_given_and_is_lost_ends_its_server() {
    // RPC-25
    let mut stage = Stage::new(handed_out(1, 1), |_: Request| pending()).await;
    stage.deliver("x").await;
    let close = ConnectionClose {
        reply_code: ReplyCode::CONNECTION_FORCED,
        reply_text: short!("CONNECTION_FORCED - bye"),
        ..Default::default()
    };
    stage.peer.say(method(0, close)).await;
    let error = stage.task.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ReplyCode::CONNECTION_FORCED), "{error}");
    assert!(!stage.monitor.health().connection);
    assert_eq!(stage.monitor.stats().running, 0);
}
