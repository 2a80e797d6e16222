//! One server dies at a certain moment of a call, and another comes.

use std::time::Duration;

use amqp_rpc::{
    codec::*,
    rpc::{CallOptions, RpcClient, RpcError},
};
use tokio::time::timeout;

use crate::{
    processes::Server,
    proxy::{Fate, Moment, Proxy, Side},
    raw::PATIENCE,
    world::World,
};

/// A bound, which a slow machine does not meet.
const PATIENTLY: CallOptions = CallOptions {
    timeout: Some(Duration::from_mins(1)),
    idempotent: false,
};

const DELIVER: Moment = Moment {
    speaker: Side::Broker,
    method: BasicDeliver::ID,
    fate: Fate::Held,
};

const REPLY: Moment = Moment {
    speaker: Side::Server,
    method: BasicPublish::ID,
    fate: Fate::Held,
};

const CONFIRM: Moment = Moment {
    speaker: Side::Broker,
    method: BasicAck::ID,
    fate: Fate::Held,
};

const ACK: Moment = Moment {
    speaker: Side::Server,
    method: BasicAck::ID,
    fate: Fate::Held,
};

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
    let story = died(&world, REPLY, "34", async |_, first: &mut Server| {
        assert_eq!(first.line().await, " [.] fib(34)");
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

/// RPC-14: it is over for everybody.
pub async fn after_the_ack(world: World) {
    let acked = Moment { fate: Fate::Passed, ..ACK };
    let story = died_at(&world, acked).await;
    assert_eq!(story, Story { executed: [1, 0], late: 0 });
}

async fn died_at(world: &World, moment: Moment) -> Story {
    died(world, moment, "20", async |proxy: &mut Proxy, _| proxy.reached().await).await
}

/// Plays a call whose first server dies as soon as `then` returns.
async fn died(world: &World, moment: Moment, n: &'static str, then: impl AsyncFnOnce(&mut Proxy, &mut Server)) -> Story {
    let queue = world.queue("rpc");
    let mut proxy = Proxy::start(world.uri(), moment).await;
    let mut first = Server::start(proxy.uri(), &queue).await;
    let client = RpcClient::connect(world.uri()).await.unwrap();
    let call = tokio::spawn({
        let (client, queue) = (client.clone(), queue.clone());
        async move { client.call_with(PATIENTLY, queue, n).await }
    });
    then(&mut proxy, &mut first).await;
    let before = first.killed().await;

    let second = Server::start(world.uri(), &queue).await;
    let answer = call.await.unwrap().unwrap();
    assert_eq!(answer.body, if n == "34" { "5702887" } else { "6765" });
    // Replies come in the order they were sent, so all that concerns the first call has come with the next answer.
    let next = client.call_with(PATIENTLY, &queue, "10").await.unwrap();
    assert_eq!(next.body, "55");
    let stats = client.stats();
    assert_eq!((stats.answered, stats.foreign, stats.pending), (2, 0, 0));
    let after = second.killed().await;
    let executed = |lines: &[String]| lines.iter().filter(|line| **line == format!(" [.] fib({n})")).count();
    let began = usize::from(n == "34"); // its line was read already
    Story {
        executed: [executed(&before) + began, executed(&after)],
        late: stats.late,
    }
}

/// RPC-9, RPC-10: the caller hears that nobody answered, and what nobody waits for any more is not done again.
pub async fn in_the_work_of_the_last_server(world: World) {
    let queue = world.queue("rpc");
    let mut server = Server::start(world.uri(), &queue).await;
    let client = RpcClient::connect(world.uri()).await.unwrap();
    let limit = Duration::from_secs(5);
    let call = tokio::spawn({
        let (client, queue) = (client.clone(), queue.clone());
        async move { client.call_with(CallOptions::within(limit), queue, "93").await }
    });
    assert_eq!(server.line().await, " [.] fib(93)");
    server.killed().await;
    let outcome = timeout(PATIENCE, call).await.expect("an end").unwrap();
    match outcome {
        Err(RpcError::Timeout(no_reply)) => assert!(no_reply.confirmed && no_reply.elapsed >= limit),
        other => panic!("got {other:?}"),
    }
    let mut next = Server::start(world.uri(), &queue).await;
    assert_eq!(client.call_with(PATIENTLY, &queue, "10").await.unwrap().body, "55");
    assert_eq!(next.line().await, " [.] fib(10)");
}
