//! One server dies at a certain moment of a call, and another comes.

use std::time::Duration;

use amqp_rpc::{
    codec::*,
    rpc::{CallOptions, RpcClient, RpcError},
};
use tokio::time::timeout;

use crate::{
    PATIENTLY,
    processes::{Server, executed},
    proxy::{Moment, Proxy, Side},
    raw::PATIENCE,
    world::{Calling, World, calling},
};

const DELIVER: Moment = Moment::of(Side::Broker, BasicDeliver::ID);
const REPLY: Moment = Moment::of(Side::Server, BasicPublish::ID);
const CONFIRM: Moment = Moment::of(Side::Broker, BasicAck::ID);
const ACK: Moment = Moment::of(Side::Server, BasicAck::ID);

/// What became of one call.
#[derive(Debug, PartialEq, Eq)]
struct Story {
    /// How often the server that died had begun the work, and how often the one after it.
    executed: [usize; 2],
    /// Replies that came to the caller when he had his already.
    late: u64,
}

/// The broker had sent the request, so it comes again, to another server. RPC-24
pub async fn before_the_work(world: World) {
    let story = died_at(&world, DELIVER).await;
    assert_eq!(story, Story { executed: [0, 1], late: 0 });
}

/// RPC-15: whatever the work has changed by then, it is done once more.
pub async fn in_the_work(world: World) {
    let story = died(&world, REPLY, async |stage: &mut Stage| {
        stage.first.says(" [.] fib(34)").await;
    });
    assert_eq!(story.await, Story { executed: [1, 1], late: 0 });
}

/// RPC-15: nobody ever hears that the work was done.
pub async fn after_the_work(world: World) {
    let story = died_at(&world, REPLY).await;
    assert_eq!(story, Story { executed: [1, 1], late: 0 });
}

/// RPC-14: the broker has the reply, and the server does not know it yet. Had it acknowledged the request before, no
/// second server would have got it.
pub async fn after_the_reply(world: World) {
    let story = died_at(&world, CONFIRM).await;
    assert_eq!(story, Story { executed: [1, 1], late: 1 });
}

/// RPC-4, RPC-15: the caller has the answer, and gets it once more.
pub async fn before_the_ack(world: World) {
    let story = died_at(&world, ACK).await;
    assert_eq!(story, Story { executed: [1, 1], late: 1 });
}

/// RPC-14: it is over for everybody. That the broker has taken the ack shows in the next request, which a prefetch of 1
/// has kept back (QOS-9).
pub async fn after_the_ack(world: World) {
    let story = died(&world, Moment { after: 1, ..DELIVER }, async |stage: &mut Stage| {
        stage.first.says(" [.] fib(34)").await;
        stage.next = Some(stage.ask("10"));
        stage.proxy.reached().await;
    });
    assert_eq!(story.await, Story { executed: [1, 0], late: 0 });
}

async fn died_at(world: &World, moment: Moment) -> Story {
    died(world, moment, async |stage: &mut Stage| stage.proxy.reached().await).await
}

/// A call on its way, and the server that is to die.
struct Stage {
    queue: ShortString,
    client: RpcClient,
    proxy: Proxy,
    first: Server,
    next: Option<Calling>,
}

impl Stage {
    fn ask(&self, n: &'static str) -> Calling {
        calling(&self.client, PATIENTLY, &self.queue, n)
    }
}

/// Plays a call whose first server dies as soon as `then` returns.
async fn died(world: &World, moment: Moment, then: impl AsyncFnOnce(&mut Stage)) -> Story {
    let queue = world.queue("rpc");
    let proxy = Proxy::start(world.uri(), moment).await;
    let mut stage = Stage {
        first: Server::start(proxy.uri(), &queue).await,
        client: RpcClient::connect(world.uri()).await.unwrap(),
        queue,
        proxy,
        next: None,
    };
    let call = stage.ask("34"); // the work takes a moment
    then(&mut stage).await;
    let before = stage.first.killed().await;

    let mut second = Server::start(world.uri(), &stage.queue).await;
    assert_eq!(call.await.unwrap().unwrap().body, "5702887");
    let next = if let Some(next) = stage.next.take() {
        next
    } else {
        second.says(" [.] fib(34)").await; // it has come again
        stage.ask("10")
    };
    // Replies come in the order they were sent, so all that concerns the first call has come with the next answer.
    assert_eq!(next.await.unwrap().unwrap().body, "55");
    let stats = stage.client.stats();
    assert_eq!((stats.answered, stats.foreign, stats.pending), (2, 0, 0));
    let after = second.killed().await;
    Story {
        executed: [executed(&before, "34"), executed(&after, "34")],
        late: stats.late,
    }
}

/// RPC-9, RPC-10: the caller hears that nobody answered, and what nobody waits for any more is not done again.
pub async fn in_the_work_of_the_last_server(world: World) {
    let queue = world.queue("rpc");
    let mut server = Server::start(world.uri(), &queue).await;
    let client = RpcClient::connect(world.uri()).await.unwrap();
    let limit = Duration::from_secs(5);
    let call = calling(&client, CallOptions::within(limit), &queue, "93");
    server.says(" [.] fib(93)").await;
    server.killed().await;
    let outcome = timeout(PATIENCE, call).await.expect("an end").unwrap();
    match outcome {
        Err(RpcError::Timeout(no_reply)) => assert!(no_reply.confirmed && no_reply.elapsed >= limit),
        other => panic!("got {other:?}"),
    }
    let mut next = Server::start(world.uri(), &queue).await;
    assert_eq!(client.call_with(PATIENTLY, &queue, "10").await.unwrap().body, "55");
    next.says(" [.] fib(10)").await;
}
