//! RPC-15: a request that comes twice is done once, if the server keeps its replies.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use amqp_rpc::{
    client::Message,
    codec::{Properties, ShortString},
    rpc::{
        CallOptions, HandlerError, LAYER, ReplyCache, Request, RpcClient, RpcError,
        RpcServerOptions, ServerMonitor,
    },
};
use tokio::{sync::Notify, task::JoinHandle, time::timeout};

use super::{PATIENCE, PATIENTLY, World};

fn keeping() -> RpcServerOptions {
    RpcServerOptions {
        reply_cache: Some(Arc::new(ReplyCache::new(1 << 20))),
        prefetch: 8,
        work_limit: 10 * PATIENCE,
        ..Default::default()
    }
}

fn request(id: &str, body: &'static str) -> Message {
    let message_id = Some(ShortString::truncated(id));
    Message::new(
        Properties {
            message_id,
            ..Default::default()
        },
        body,
    )
}

/// Answers how many requests it has worked on: the same number twice is the same answer.
fn counting() -> impl Fn(Request) -> std::future::Ready<Result<String, HandlerError>> {
    let works = AtomicUsize::new(0);
    move |request| {
        let work = works.fetch_add(1, SeqCst);
        std::future::ready(match &request.body[..] {
            b"error" => Err(HandlerError::new("no", work.to_string())),
            b"layer" => Err(HandlerError::new(LAYER, work.to_string())),
            b"unavailable" => Err(HandlerError::unavailable(work.to_string())),
            b"panic" if work.is_multiple_of(2) => panic!("as it was told"),
            _ => Ok(work.to_string()),
        })
    }
}

async fn answer(rpc: &RpcClient, queue: &str, request: Message) -> String {
    match rpc.call_with(PATIENTLY, queue, request).await {
        Ok(reply) => String::from_utf8(reply.body.to_vec()).unwrap(),
        Err(RpcError::Remote { kind, message }) => format!("{kind} {message}"),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn the_same_id_with_the_same_body_has_the_same_reply() {
    let world = World::new().await;
    let monitor = world.serve_with(keeping(), "a", counting()).await;
    let rpc = world.client().await;
    assert_eq!(answer(&rpc, "a", request("1", "x")).await, "0");
    assert_eq!(
        answer(&rpc, "a", request("1", "x")).await,
        "0",
        "the same request"
    );
    assert_eq!(
        answer(&rpc, "a", request("2", "x")).await,
        "1",
        "another id"
    );
    assert_eq!(
        answer(&rpc, "a", request("1", "y")).await,
        "2",
        "another body"
    );
    assert_eq!(answer(&rpc, "a", "x".into()).await, "3", "no id");
    assert_eq!(answer(&rpc, "a", "x".into()).await, "4", "no id");
    assert_eq!(answer(&rpc, "a", request("2", "x")).await, "1");
    assert_eq!((monitor.stats().replayed, monitor.stats().served), (2, 7));
}

#[tokio::test]
async fn none_is_kept_unless_the_server_is_told_to() {
    let world = World::new().await;
    let monitor = world.serve("a", counting()).await;
    let rpc = world.client().await;
    assert_eq!(answer(&rpc, "a", request("1", "x")).await, "0");
    assert_eq!(answer(&rpc, "a", request("1", "x")).await, "1");
    assert_eq!(monitor.stats().replayed, 0);
}

#[tokio::test]
async fn a_cache_that_servers_share_tells_their_queues_apart() {
    let world = World::new().await;
    let options = keeping();
    world.serve_with(options.clone(), "a", counting()).await;
    let first = |_: Request| async { Ok("b") };
    world.serve_with(options.clone(), "b", first).await;
    let rpc = world.client().await;
    assert_eq!(answer(&rpc, "a", request("1", "x")).await, "0");
    assert_eq!(answer(&rpc, "b", request("1", "x")).await, "b");
    let again = |_: Request| async { Ok("a second server of the queue") };
    let second = World {
        connection: world.broker.connect().await.unwrap(),
        ..world
    };
    second.serve_with(options, "b", again).await;
    for _ in 0..4 {
        assert_eq!(
            answer(&rpc, "b", request("1", "x")).await,
            "b",
            "whoever of the two has it"
        );
    }
}

#[tokio::test]
async fn an_error_is_an_answer_and_what_was_not_done_is_none() {
    let world = World::new().await;
    let monitor = world.serve_with(keeping(), "a", counting()).await;
    let rpc = world.client().await;
    assert_eq!(answer(&rpc, "a", request("1", "error")).await, "no 0");
    assert_eq!(answer(&rpc, "a", request("1", "error")).await, "no 0");
    assert_eq!(
        answer(&rpc, "a", request("1", "unavailable")).await,
        "unavailable 1"
    );
    assert_eq!(
        answer(&rpc, "a", request("1", "unavailable")).await,
        "unavailable 2"
    );
    assert_eq!(answer(&rpc, "a", request("1", "layer")).await, "layer 3");
    let panic = answer(&rpc, "a", request("1", "panic")).await;
    assert!(panic.starts_with("panic "), "{panic}");
    assert_eq!(
        answer(&rpc, "a", request("1", "panic")).await,
        "5",
        "a panic is no answer"
    );
    assert_eq!(monitor.stats().replayed, 1);
}

/// A handler that says when it begins, and waits until it may go on.
struct Held {
    world: World,
    rpc: RpcClient,
    monitor: ServerMonitor,
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
    works: Arc<AtomicUsize>,
}

impl Held {
    async fn new() -> Self {
        let world = World::new().await;
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let works = Arc::new(AtomicUsize::new(0));
        let shared = (begun.clone(), go_on.clone(), works.clone());
        let handler = move |request: Request| {
            let (begun, go_on, works) = shared.clone();
            async move {
                works.fetch_add(1, SeqCst);
                begun.notify_one();
                go_on.notified().await;
                Ok(request.body)
            }
        };
        let monitor = world.serve_with(keeping(), "a", handler).await;
        let rpc = world.client().await;
        Self {
            world,
            rpc,
            monitor,
            begun,
            go_on,
            works,
        }
    }

    fn call(&self, options: CallOptions) -> JoinHandle<Result<Message, RpcError>> {
        let rpc = self.rpc.clone();
        tokio::spawn(async move { rpc.call_with(options, "a", request("1", "x")).await })
    }

    async fn begun(&self) {
        timeout(PATIENCE, self.begun.notified()).await.unwrap();
    }

    /// Until so many requests are being worked on or wait for the one that is.
    async fn running(&self, requests: u64) {
        while self.monitor.stats().running < requests {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn who_comes_while_the_first_is_worked_on_has_its_reply() {
    let held = Held::new().await;
    let calls: Vec<_> = (0..5).map(|_| held.call(PATIENTLY)).collect();
    held.begun().await;
    held.running(5).await;
    held.go_on.notify_one();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().body, "x");
    }
    assert_eq!(
        (held.works.load(SeqCst), held.monitor.stats().replayed),
        (1, 4)
    );
    let queue = held.world.broker.queue("a").unwrap();
    assert_eq!((queue.ready, queue.unacked), (0, 0));
}

#[tokio::test(start_paused = true)] // the clock goes on when everybody waits
async fn when_the_first_ends_without_an_answer_the_next_begins() {
    let held = Held::new().await;
    let first = held.call(CallOptions::within(PATIENCE));
    held.begun().await;
    let second = held.call(CallOptions::within(3 * PATIENCE));
    held.running(2).await;
    assert!(matches!(first.await.unwrap(), Err(RpcError::Timeout(_))));
    held.begun().await; // the handler of the first was dropped at its deadline
    held.go_on.notify_one();
    assert_eq!(second.await.unwrap().unwrap().body, "x");
    assert_eq!(held.works.load(SeqCst), 2);
    let stats = held.monitor.stats();
    assert_eq!((stats.abandoned, stats.replayed), (1, 0));
}
