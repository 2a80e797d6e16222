//! Remote calls: their replies, and every way in which there is none.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use amqp_rpc::{
    client::{Channel, Error},
    codec::*,
    protocol::Message,
    rpc::{
        Bounds, CallOptions, ConnectionState, DeadLetters, HandlerError, Propagator, QueueType, ReplyCache, ReplyMode,
        Request, RpcClient, RpcClientOptions, RpcError, RpcServer, RpcServerOptions, ServerMonitor, ServerStats, Servers,
        TraceContext,
    },
    short,
};
use bytes::Bytes;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::{raw::PATIENCE, world::*};

/// For calls that are answered: a bound, which a slow machine does not meet.
const PATIENTLY: CallOptions = CallOptions { timeout: Some(PATIENCE), idempotent: false };

/// A server that runs in a task, on a connection of its own.
struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
    monitor: ServerMonitor,
}

/// A transient queue, which a server of a scenario makes itself.
fn classic() -> RpcServerOptions {
    RpcServerOptions { queue_type: QueueType::Classic, ..Default::default() }
}

impl Serving {
    async fn start<H, F, R>(world: &World, queue: &ShortString, prefetch: u16, handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, HandlerError>> + Send + 'static,
        R: Into<Message> + 'static,
    {
        Self::with(world, queue, RpcServerOptions { prefetch, ..classic() }, handler).await
    }

    async fn with<H, F, R>(world: &World, queue: &ShortString, options: RpcServerOptions, handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, HandlerError>> + Send + 'static,
        R: Into<Message> + 'static,
    {
        let connection = world.connect().await;
        let server = RpcServer::with_options(&connection, queue, options).await.unwrap();
        Self::serve(server, handler)
    }

    fn serve<H, F, R>(server: RpcServer, handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, HandlerError>> + Send + 'static,
        R: Into<Message> + 'static,
    {
        let monitor = server.monitor();
        let (stop, stopped) = oneshot::channel();
        let stopped = async { _ = stopped.await };
        let task = tokio::spawn(server.serve(handler, stopped));
        Self { stop, task, monitor }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

async fn echo(request: Request) -> Result<Bytes, HandlerError> {
    Ok(request.body)
}

async fn client(world: &World) -> RpcClient {
    RpcClient::new(&world.connect().await).await.unwrap()
}

/// RPC-1, RPC-2, RPC-16, and the queue as today's tutorial declares it.
pub async fn call_and_reply(world: World) {
    let queue = world.queue("rpc");
    let connection = world.connect().await;
    let server = RpcServer::new(&connection, &queue).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.serve(echo, async { _ = stopped.await }));
    let reply = client(&world).await.call_with(PATIENTLY, &queue, "hello").await.unwrap();
    assert_eq!(reply.body, "hello");
    drop(stop);
    task.await.unwrap().unwrap();
}

/// RPC-3, RPC-4: each caller gets its own reply.
pub async fn a_hundred_calls_at_once(world: World) {
    let queue = world.queue("rpc");
    let server = Serving::start(&world, &queue, 16, echo).await;
    let client = client(&world).await;
    assert_eq!(hundred_calls(&client, &queue).await, 100);
    assert_eq!((client.stats().pending, client.stats().late), (0, 0));
    server.stop().await;
}

async fn hundred_calls(client: &RpcClient, queue: &ShortString) -> usize {
    let mut calls = JoinSet::new();
    for number in 0..100 {
        let (client, queue) = (client.clone(), queue.clone());
        calls.spawn(async move {
            let request = format!("request {number}");
            let reply = client.call_with(PATIENTLY, queue, request.clone()).await.unwrap();
            assert_eq!(reply.body, request);
        });
    }
    calls.join_all().await.len()
}

/// QOS-9, RPC-13
pub async fn two_servers_share_a_hundred_calls(world: World) {
    let queue = world.queue("rpc");
    let served: [Arc<AtomicUsize>; 2] = Default::default();
    let mut servers = Vec::new();
    for count in served.clone() {
        let handler = move |request: Request| {
            count.fetch_add(1, Ordering::Relaxed);
            echo(request)
        };
        servers.push(Serving::start(&world, &queue, 1, handler).await);
    }
    hundred_calls(&client(&world).await, &queue).await;
    let [one, other] = served.map(|count| count.load(Ordering::Relaxed));
    assert_eq!(one + other, 100);
    assert!(one > 0 && other > 0, "{one} and {other}");
    for server in servers {
        server.stop().await;
    }
}

/// RPC-7: known at once, however long the call would have waited.
pub async fn call_to_a_missing_queue(world: World) {
    let missing = world.name("missing");
    let client = client(&world).await;
    match client.call_with(CallOptions::within(Duration::from_hours(1)), &missing, "x").await {
        Err(RpcError::Unroutable { queue, code, .. }) => {
            assert_eq!((queue, code), (missing, ReplyCode::NO_ROUTE));
        }
        other => panic!("got {other:?}"),
    }
    assert_eq!(client.stats().pending, 0);
}

/// RPC-8, RPC-9: the queue is there, and nobody serves it.
pub async fn call_that_nobody_serves(world: World) {
    let queue = world.queue("rpc");
    world.channel().await.queue_declare(shared(&queue)).await.unwrap();
    let client = client(&world).await;
    loop {
        let error = client.call_with(CallOptions::within(Duration::from_millis(20)), &queue, "x").await.unwrap_err();
        match error {
            RpcError::Timeout(ref no_reply) if no_reply.confirmed && no_reply.servers != Servers::Unknown => {
                assert_eq!(no_reply.servers, Servers::Consumers(0));
                assert!(error.to_string().contains("nobody consumes from it"), "{error}");
                break;
            }
            // The broker was too busy to confirm in time, or to be asked in the half second there is for it.
            RpcError::Timeout(_) => {}
            other => panic!("got {other:?}"),
        }
    }
    assert_eq!(client.stats().pending, 0);
}

/// RPC-18, RPC-20: what a handler refuses or panics on is answered, and the next request is served.
pub async fn error_replies(world: World) {
    let queue = world.queue("rpc");
    let handler = |request: Request| async move {
        match &request.body[..] {
            b"bad" => Err(HandlerError::bad_request("expected a number")),
            b"panic" => panic!("a scenario wants this panic"),
            b"long" => Err(HandlerError::new(&"k".repeat(200_000), "a kind that fits no frame")),
            b"huge" => Ok(vec![0; (16 << 20) + 1].into()),
            b"headers" => {
                let headers = Some(table([("k", "v".repeat(200_000).into())]));
                Ok(Message::new(Properties { headers, ..Default::default() }, ""))
            }
            _ => Ok(request.body.into()),
        }
    };
    let server = Serving::start(&world, &queue, 1, handler).await;
    let client = client(&world).await;
    let cut = format!("{}...", "k".repeat(252));
    let kinds = [
        ("bad", "bad-request"),
        ("panic", "panic"),
        ("long", &cut),
        ("huge", "reply-too-large"),
        ("headers", "reply-too-large"),
    ];
    for (body, expected_kind) in kinds {
        match client.call_with(PATIENTLY, &queue, body).await {
            Err(RpcError::Remote { kind, message }) => {
                assert_eq!(kind, expected_kind, "{message}");
            }
            other => panic!("got {other:?}"),
        }
    }
    let reply = client.call_with(PATIENTLY, &queue, "good").await.unwrap();
    assert_eq!(reply.body, "good");
    server.stop().await;
    assert_eq!(counts(&world.channel().await, &queue).await, (0, 0), "nothing was requeued");
}

/// RPC-17: a request without reply-to has no one who waits, and holds up nobody.
pub async fn request_without_reply_to(world: World) {
    let queue = world.queue("rpc");
    let server = Serving::start(&world, &queue, 1, echo).await;
    fill(&world.channel().await, &queue, &["nobody waits"]).await;
    let reply = client(&world).await.call_with(PATIENTLY, &queue, "next").await.unwrap();
    assert_eq!(reply.body, "next");
    server.stop().await;
    assert_eq!(counts(&world.channel().await, &queue).await, (0, 0));
}

/// RPC-22, RPC-25: what a stopping server has not begun is the next one's.
pub async fn stopped_server_gives_back(world: World) {
    let queue = world.queue("rpc");
    let server = Serving::start(&world, &queue, 1, echo).await;
    server.stop().await;
    let client = client(&world).await;
    let call = calling(&client, PATIENTLY, &queue, "hello");
    let server = Serving::start(&world, &queue, 1, echo).await;
    assert_eq!(call.await.unwrap().unwrap().body, "hello");
    server.stop().await;
}

/// RPC-16: what comes back of a result has not one property more than the tutorial's; an error is marked (RPC-18), and
/// reads as a sentence to whoever knows no mark.
pub async fn replies_look_as_in_the_tutorial(world: World) {
    let queue = world.queue("rpc");
    let handler = |request: Request| async move {
        match &request.body[..] {
            b"30" => Ok("832040"),
            _ => Err(HandlerError::bad_request("expected a number")),
        }
    };
    let server = Serving::start(&world, &queue, 1, handler).await;
    let channel = world.channel().await;
    let reply_to = channel.queue_declare(own(&short!(""))).await.unwrap().queue;
    let mut replies = channel.consume(&reply_to).await.unwrap();
    let correlation_id = Some(short!("7"));
    let mut answers = Vec::new();
    for body in ["30", "thirty"] {
        let request = Properties {
            correlation_id: correlation_id.clone(),
            reply_to: Some(reply_to.clone()),
            ..Default::default()
        };
        put(&channel, to(&queue), Message::new(request, body)).await;
        let (reply, acker) = next(&mut replies).await.into_parts();
        acker.ack().await.unwrap();
        answers.push(reply.message);
    }
    let result = Properties { correlation_id: correlation_id.clone(), ..Default::default() };
    let error = Properties {
        correlation_id,
        kind: Some(short!("error")),
        headers: Some(table([("error-kind", "bad-request".into())])),
        ..Default::default()
    };
    assert_eq!(answers, [Message::new(result, "832040"), Message::new(error, "expected a number")]);
    server.stop().await;
}

/// RPC-20: the bounds are looked at before the handler, in this order, and each has its name.
pub async fn requests_out_of_bounds(world: World) {
    let queue = world.queue("rpc");
    let bounds = Bounds { max_request: 8, content_types: Some(vec![short!("text/plain")]), utf8: true };
    let server = Serving::with(&world, &queue, RpcServerOptions { bounds, ..classic() }, echo).await;
    let client = client(&world).await;
    let cases: [(_, &'static [u8], _); 4] = [
        (None, b"longer than eight", Some("too-large")),
        (None, b"short", Some("content-type")),
        (Some(short!("text/plain")), b"\xff", Some("not-utf-8")),
        (Some(short!("text/plain; charset=utf-8")), b"\xc3\xa4", None),
    ];
    for (content_type, body, expected) in cases {
        let request = Message::new(Properties { content_type, ..Default::default() }, body);
        match client.call_with(PATIENTLY, &queue, request).await {
            Ok(reply) => assert_eq!((&reply.body[..], expected), (body, None)),
            Err(RpcError::Remote { kind, message }) => assert_eq!(Some(&kind[..]), expected, "{message}"),
            other => panic!("got {other:?}"),
        }
    }
    let monitor = server.monitor.clone();
    server.stop().await;
    assert_eq!((monitor.stats().refused, monitor.stats().served), (3, 1));
}

/// RPC-10: a deadline that has passed by the caller's clock is not begun, and the request is gone.
pub async fn expired_request_is_not_begun(world: World) {
    let queue = world.queue("rpc");
    let server = Serving::start(&world, &queue, 1, echo).await;
    let headers = Some(table([("rpc-deadline", FieldValue::I64(1_000_000_000_000))])); // in 2001
    let properties = Properties { headers, reply_to: Some(short!("nobody")), ..Default::default() };
    put(&world.channel().await, to(&queue), Message::new(properties, "late")).await;
    let reply = client(&world).await.call_with(PATIENTLY, &queue, "in time").await.unwrap();
    assert_eq!(reply.body, "in time");
    let monitor = server.monitor.clone();
    server.stop().await;
    assert_eq!((monitor.stats().expired, monitor.stats().served), (1, 1));
    assert_eq!(counts(&world.channel().await, &queue).await, (0, 0));
}

/// RPC-10: the handler is told how long its caller waits, and is dropped when that is over.
pub async fn handler_is_dropped_at_the_deadline(world: World) {
    let queue = world.queue("rpc");
    let (left, seen) = std::sync::mpsc::channel();
    let handler = move |request: Request| {
        left.send(request.deadline.remaining()).unwrap();
        std::future::pending::<Result<Bytes, HandlerError>>()
    };
    let server = Serving::start(&world, &queue, 1, handler).await;
    let limit = Duration::from_secs(1);
    let called = client(&world).await.call_with(CallOptions::within(limit), &queue, "x").await;
    assert!(matches!(called, Err(RpcError::Timeout(_))), "got {called:?}");
    let over = async {
        while server.monitor.stats().abandoned + server.monitor.stats().expired == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, over).await.expect("the server gives up with its caller");
    assert!(seen.try_iter().all(|left| left <= limit));
    server.stop().await;
    assert_eq!(counts(&world.channel().await, &queue).await, (0, 0), "nothing was requeued");
}

/// RPC-23, RPC-24: whoever takes a request and goes away leaves it to the next, until it has happened too often.
pub async fn poison_is_given_up(world: World) {
    let queue = world.queue("rpc");
    let options = RpcServerOptions { queue_type: QueueType::Quorum, max_redeliveries: 1, ..Default::default() };
    let connection = world.connect().await;
    drop(RpcServer::with_options(&connection, &queue, options.clone()).await.unwrap()); // makes the queue
    let client = client(&world).await;
    for deaths in [1, 2] {
        let call = calling(&client, PATIENTLY, &queue, "deadly");
        for _ in 0..deaths {
            let channel = world.channel().await;
            let mut victim = channel.consume(&queue).await.unwrap();
            let _unanswered = next(&mut victim).await;
            channel.close().await.unwrap();
        }
        let server = Serving::with(&world, &queue, options.clone(), echo).await;
        match (deaths, call.await.unwrap()) {
            (1, Ok(reply)) => assert_eq!(reply.body, "deadly"),
            (2, Err(RpcError::Remote { kind, .. })) => assert_eq!(kind, "poison"),
            other => panic!("got {other:?}"),
        }
        let monitor = server.monitor.clone();
        server.stop().await;
        let ServerStats { redelivered, poisoned, served, .. } = monitor.stats();
        assert_eq!((redelivered, poisoned, served), (1, deaths - 1, 2 - deaths));
    }
    assert_eq!(counts(&world.channel().await, &queue).await, (0, 0), "nothing goes round");
}

/// RPC-23: the queue that a server makes sends on what the server rejects.
pub async fn dead_letters_have_an_exchange(world: World) {
    let (queue, letters) = (world.queue("rpc"), world.exchange("letters"));
    let dead_letters = Some(DeadLetters { exchange: letters.clone(), routing_key: Some(short!("dead")) });
    let server = Serving::with(&world, &queue, RpcServerOptions { dead_letters, ..classic() }, echo).await;
    let channel = world.channel().await;
    let name = String::from_utf8(letters.as_bytes().to_vec()).unwrap();
    let arguments = table([
        ("x-dead-letter-exchange", name.into()),
        ("x-dead-letter-routing-key", "dead".into()),
    ]);
    channel.queue_declare(QueueDeclare { arguments, ..shared(&queue) }).await.expect("the same arguments");
    costs_channel(channel.queue_declare(shared(&queue)).await, 406, QueueDeclare::ID);
    server.stop().await;
}

/// CONS-17: the queue is deleted under a server, which makes it again and says so.
pub async fn deleted_queue_is_made_again(world: World) {
    let queue = world.queue("rpc");
    let server = Serving::start(&world, &queue, 1, echo).await;
    let mut state = server.monitor.state();
    assert!(server.monitor.health().is_serving());
    let channel = world.channel().await;
    channel.queue_delete(QueueDelete { queue: queue.clone(), ..Default::default() }).await.unwrap();
    let seen = timeout(PATIENCE, async {
        let lost = state.wait_for(|state| !matches!(state, ConnectionState::Connected)).await.unwrap().clone();
        state.wait_for(|state| matches!(state, ConnectionState::Connected)).await.unwrap();
        lost
    });
    match seen.await.expect("subscribed again") {
        ConnectionState::Reconnecting { attempt: 1, cause: Error::ConsumerCancelled(_) } => {}
        other => panic!("got {other:?}"),
    }
    let reply = client(&world).await.call_with(PATIENTLY, &queue, "hello").await.unwrap();
    assert_eq!(reply.body, "hello");
    assert!(server.monitor.health().is_serving());
    assert_eq!(server.monitor.stats().resubscribed, 1);
    server.stop().await;
}

/// RPC-14, RPC-15, RPC-25: the connection goes under a handler, and the server that dialled it makes another and does the
/// work again.
pub async fn lost_connection_is_made_again(world: World) {
    let queue = world.queue("rpc");
    let tap = Tap::start(world.uri()).await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = attempts.clone();
    let handler = move |request: Request| {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            Ok(request.body)
        }
    };
    let server = RpcServer::connect_with(tap.options(&world), &queue, classic()).await.unwrap();
    let server = Serving::serve(server, handler);
    let client = client(&world).await;
    let call = calling(&client, PATIENTLY, &queue, "hello");
    timeout(PATIENCE, async {
        while server.monitor.stats().running == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the handler runs");
    tap.cut();
    assert_eq!(call.await.unwrap().unwrap().body, "hello");
    assert_eq!(attempts.load(Ordering::Relaxed), 2);
    let stats = server.monitor.stats();
    assert_eq!((stats.redelivered, stats.resubscribed), (1, 1));
    server.stop().await;
}

/// A server that the scenario plays itself, to reply when it wants to.
struct ByHand {
    channel: Channel,
    requests: amqp_rpc::client::Consumer,
}

impl ByHand {
    async fn new(world: &World, queue: &ShortString) -> Self {
        let channel = world.channel().await;
        channel.queue_declare(shared(queue)).await.unwrap();
        let requests = channel.consume(queue).await.unwrap();
        Self { channel, requests }
    }

    async fn request(&mut self) -> Properties {
        let delivery = next(&mut self.requests).await;
        let properties = delivery.properties().clone();
        delivery.ack().await.unwrap();
        properties
    }

    async fn reply(&self, request: Properties, body: &'static str) {
        let Properties { correlation_id, reply_to, .. } = request;
        let properties = Properties { correlation_id, ..Default::default() };
        let message = Message { properties: properties.into(), body: body.into() };
        self.channel.publish("", reply_to.unwrap(), message).await.unwrap();
    }
}

/// A call whose reply comes behind everything that was sent to this client before.
async fn barrier(client: &RpcClient, server: &mut ByHand, queue: &ShortString) {
    let call = calling(client, PATIENTLY, queue, "barrier");
    let request = server.request().await;
    server.reply(request, "done").await;
    assert_eq!(call.await.unwrap().unwrap().body, "done");
}

/// RPC-4, RPC-6: late, doubled and foreign replies are counted, and disturb nobody.
pub async fn late_reply_is_counted(world: World) {
    let queue = world.queue("rpc");
    let mut server = ByHand::new(&world, &queue).await;
    let client = client(&world).await;
    let late = client.call_with(CallOptions::within(Duration::from_millis(500)), &queue, "late").await;
    assert!(matches!(late, Err(RpcError::Timeout(_))), "got {late:?}");
    let request = server.request().await;
    server.reply(request.clone(), "late").await;
    server.reply(request.clone(), "doubled").await;
    let foreign = Properties { correlation_id: Some(short!("foreign")), ..request };
    server.reply(foreign, "foreign").await;
    barrier(&client, &mut server, &queue).await;
    assert_eq!((client.stats().pending, client.stats().late), (0, 3));
}

/// RPC-5, RPC-9: whoever stops waiting leaves nothing behind.
pub async fn dropped_call_leaves_nothing_behind(world: World) {
    let queue = world.queue("rpc");
    let mut server = ByHand::new(&world, &queue).await;
    let client = client(&world).await;
    let call = calling(&client, PATIENTLY, &queue, "dropped");
    let request = server.request().await;
    assert_eq!(client.stats().pending, 1);
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(client.stats().pending, 0);
    server.reply(request, "too late").await;
    barrier(&client, &mut server, &queue).await;
    assert_eq!(client.stats().late, 1);
}

/// RPC-11: the connection goes under a call.
pub async fn connection_lost_under_a_call(world: World) {
    let queue = world.queue("rpc");
    let mut server = ByHand::new(&world, &queue).await;
    let connection = world.connect().await;
    let client = RpcClient::new(&connection).await.unwrap();
    let call = calling(&client, PATIENTLY, &queue, "lost");
    server.request().await;
    connection.close().await.unwrap();
    let lost = call.await.unwrap();
    assert!(matches!(lost, Err(RpcError::ConnectionLost { maybe_executed: true, .. })), "got {lost:?}");
    let next = client.call(&queue, "after").await;
    assert!(matches!(next, Err(RpcError::ConnectionLost { maybe_executed: false, .. })), "got {next:?}");
}

/// DRT-1, DRT-2, RPC-2: where replies come to makes no difference to the caller.
pub async fn both_reply_modes(world: World) {
    let queue = world.queue("rpc");
    let server = Serving::start(&world, &queue, 4, echo).await;
    for reply_mode in [ReplyMode::DirectReplyTo, ReplyMode::ExclusiveQueue] {
        let options = RpcClientOptions { reply_mode, ..Default::default() };
        let client = RpcClient::with_options(&world.connect().await, options).await.unwrap();
        assert_eq!(hundred_calls(&client, &queue).await, 100);
        let stats = client.stats();
        assert_eq!((stats.answered, stats.ended(), stats.late), (100, 100, 0));
    }
    server.stop().await;
}

/// CONF-7: a full queue refuses, and the caller hears it at once.
pub async fn full_queue_refuses_a_call(world: World) {
    let queue = world.queue("rpc");
    let arguments = vec![(short!("x-max-length"), 1.into()), (short!("x-overflow"), "reject-publish".into())];
    let declare = QueueDeclare { arguments: FieldTable(arguments), ..shared(&queue) };
    let channel = world.channel().await;
    channel.queue_declare(declare).await.unwrap();
    fill(&channel, &queue, &["it is full"]).await;
    let client = client(&world).await;
    match client.call_with(PATIENTLY, &queue, "one too many").await {
        Err(RpcError::Refused { queue: full }) => assert_eq!(full, queue),
        other => panic!("got {other:?}"),
    }
    assert_eq!(client.stats().refused, 1);
}

/// The queue is deleted under a call: its caller is told that when its time is up.
pub async fn queue_deleted_under_a_call(world: World) {
    let queue = world.queue("rpc");
    let channel = world.channel().await;
    channel.queue_declare(shared(&queue)).await.unwrap();
    let client = client(&world).await;
    let call = calling(&client, CallOptions::within(Duration::from_secs(2)), &queue, "x");
    while counts(&channel, &queue).await.0 == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    channel.queue_delete(QueueDelete { queue: queue.clone(), ..Default::default() }).await.unwrap();
    match call.await.unwrap() {
        Err(RpcError::Timeout(no_reply)) => {
            assert!(no_reply.confirmed);
            // Unless the broker was too busy to be asked in the half second there is for it.
            assert!(matches!(no_reply.servers, Servers::QueueGone | Servers::Unknown), "{no_reply:?}");
        }
        other => panic!("got {other:?}"),
    }
}

/// A client that is closed finishes what is in flight, if there is time, and takes nothing new.
pub async fn closed_client_finishes(world: World) {
    let queue = world.queue("rpc");
    let mut server = ByHand::new(&world, &queue).await;
    let client = client(&world).await;
    let finished = calling(&client, PATIENTLY, &queue, "x");
    let request = server.request().await;
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close(PATIENCE).await }
    });
    loop {
        // The close has begun once a call is refused.
        match client.call_with(CallOptions::within(Duration::from_millis(50)), &queue, "new").await {
            Err(RpcError::ShutDown { maybe_executed: false }) => break,
            Err(RpcError::Timeout(_)) => {}
            other => panic!("got {other:?}"),
        }
    }
    server.reply(request, "in time").await;
    assert_eq!(finished.await.unwrap().unwrap().body, "in time");
    closing.await.unwrap().unwrap();

}

/// A client that is closed at once says of each call in flight that it may have been executed.
pub async fn closed_client_cuts_off(world: World) {
    let queue = world.queue("rpc");
    let mut server = ByHand::new(&world, &queue).await;
    let client = client(&world).await;
    let cut_off = calling(&client, PATIENTLY, &queue, "x");
    server.request().await;
    client.close(Duration::ZERO).await.unwrap();
    let outcome = cut_off.await.unwrap();
    assert!(matches!(outcome, Err(RpcError::ShutDown { maybe_executed: true })), "got {outcome:?}");
    assert_eq!(client.stats().shut_down, 1);
}

/// RPC-15: the caller's connection is lost under the work, so the request is sent again, and the work is not done again.
pub async fn kept_reply_answers_the_second_attempt(world: World) {
    let queue = world.queue("rpc");
    let tap = Arc::new(Tap::start(world.uri()).await);
    let rpc = RpcClient::connect(tap.options(&world)).await.unwrap();
    let works = Arc::new(AtomicUsize::new(0));
    let handler = {
        let (works, tap) = (works.clone(), tap.clone());
        move |request: Request| {
            works.fetch_add(1, Ordering::Relaxed);
            tap.cut();
            std::future::ready(Ok(request.body))
        }
    };
    let options = RpcServerOptions { reply_cache: Some(Arc::new(ReplyCache::new(1 << 20))), ..classic() };
    let server = Serving::with(&world, &queue, options, handler).await;
    let reply = rpc.call_with(PATIENTLY.idempotent(), &queue, "hello").await.unwrap();
    assert_eq!(reply.body, "hello");
    assert_eq!((rpc.stats().resent, rpc.stats().reconnects), (1, 1));
    assert_eq!((works.load(Ordering::Relaxed), server.monitor.stats().replayed), (1, 1));
    server.stop().await;
}

/// A tracing system of one trace.
#[derive(Debug)]
struct OneTrace(Mutex<Option<TraceContext>>);

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

impl Propagator for OneTrace {
    fn inject(&self, _: &tracing::Span) -> Option<TraceContext> {
        TraceContext::new(TRACEPARENT, Some("vendor=value"))
    }

    fn extract(&self, _: &tracing::Span, caller: &TraceContext) {
        *self.0.lock().unwrap() = Some(caller.clone());
    }
}

/// PROP-11, TYPE-7: two headers, both long strings, from the caller's span to the server's.
pub async fn trace_travels_with_a_call(world: World) {
    let queue = world.queue("rpc");
    let heard = Arc::new(OneTrace(Mutex::default()));
    let options = RpcServerOptions { propagator: Some(heard.clone()), ..classic() };
    let tags = |request: Request| async move {
        let headers = request.properties.headers.unwrap_or_default();
        let tags = ["traceparent", "tracestate"].map(|name| headers.get(name).map_or(b'-', FieldValue::tag));
        Ok(tags.to_vec())
    };
    let server = Serving::with(&world, &queue, options, tags).await;
    let options = RpcClientOptions { propagator: Some(heard.clone()), ..Default::default() };
    let rpc = RpcClient::with_options(&world.connect().await, options).await.unwrap();
    assert_eq!(rpc.call_with(PATIENTLY, &queue, "").await.unwrap().body, "SS");
    let heard = heard.0.lock().unwrap().take();
    assert_eq!(heard, TraceContext::new(TRACEPARENT, Some("vendor=value")));
    server.stop().await;
}
