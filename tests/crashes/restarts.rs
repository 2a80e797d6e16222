//! Servers come and go, and their callers do not notice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use amqp_rpc::{
    codec::ShortString,
    rpc::{RpcClient, RpcStats},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{PATIENTLY, processes::Server, raw::PATIENCE, world::World};

/// How many calls are in flight at any time: more than the servers take at once, so some always wait in the queue.
const CALLERS: u8 = 8;

/// Callers that ask one thing after another until they are told to stop.
struct Load {
    client: RpcClient,
    enough: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

impl Load {
    async fn start(world: &World, queue: &ShortString) -> Self {
        let client = RpcClient::connect(world.uri()).await.unwrap();
        let enough = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (client, queue, enough) = (client.clone(), queue.clone(), enough.clone());
            callers.spawn(async move {
                while !enough.load(Relaxed) {
                    let reply = client.call_with(PATIENTLY, &queue, caller.to_string()).await;
                    let reply = reply.expect("no call is lost");
                    assert_eq!(reply.body, fib(caller).to_string(), "its own reply"); // RPC-4
                }
            });
        }
        Self {
            client,
            enough,
            callers,
        }
    }

    /// Waits until so many more calls were answered, which shows that it goes on.
    async fn goes_on(&self, calls: u64) {
        let until = self.client.stats().answered + calls;
        let answered = async {
            while self.client.stats().answered < until {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, answered).await.expect("calls are answered");
    }

    /// What was counted, when the last call has ended.
    async fn end(self) -> RpcStats {
        self.enough.store(true, Relaxed);
        self.callers.join_all().await;
        self.client.stats()
    }
}

fn fib(n: u8) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

fn executed(lines: &[String]) -> u64 {
    lines.iter().filter(|line| line.starts_with(" [.] fib(")).count() as u64
}

/// Three servers, each of which `end` ends while the others serve, and another takes its place. Gives how often the work
/// was begun, and what the client counted.
async fn replaced_in_turn(world: &World, end: impl AsyncFn(Server) -> Vec<String>) -> (u64, RpcStats) {
    let queue = world.queue("rpc");
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start(world.uri(), &queue).await);
    }
    let load = Load::start(world, &queue).await;
    let mut work = 0;
    for _ in 0..3 {
        load.goes_on(50).await;
        work += executed(&end(servers.remove(0)).await);
        load.goes_on(50).await; // with two
        servers.push(Server::start(world.uri(), &queue).await);
    }
    load.goes_on(50).await;
    let stats = load.end().await;
    for server in servers {
        work += executed(&end(server).await);
    }
    assert_eq!(stats.answered, stats.ended(), "{stats:?}");
    assert_eq!((stats.pending, stats.foreign), (0, 0), "{stats:?}");
    (work, stats)
}

/// RPC-22: a rolling restart. Each finishes what it has begun and gives back the rest, so nothing is even done twice.
pub async fn three_servers_restarted_in_turn(world: World) {
    let stop = async |mut server: Server| {
        let (status, lines) = server.stopped().await;
        assert!(status.success(), "{status}");
        lines
    };
    let (work, stats) = replaced_in_turn(&world, stop).await;
    assert_eq!((work, stats.late), (stats.answered, 0));
}

/// RPC-14, RPC-15: what a server had in hand when it was killed is done once more, and its caller waits that much longer.
pub async fn three_servers_killed_in_turn(world: World) {
    let (work, stats) = replaced_in_turn(&world, async |mut server: Server| server.killed().await).await;
    assert!(work >= stats.answered, "{work} {stats:?}");
    assert!(stats.late <= work - stats.answered, "{work} {stats:?}");
}
