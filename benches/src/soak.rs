//! A million calls while servers are stopped and killed at random, on the built-in broker: is every call accounted for,
//! does every caller get its own reply, and does memory stay where it was?
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml --bin soak -- --reply-mode direct
//! cargo run --release --manifest-path benches/Cargo.toml --bin soak -- --reply-mode exclusive
//! ```
//!
//! Broker, servers and client are one process, so its memory is that of all of them. The exit status is 0 if all of it
//! holds, and otherwise what does not is said on standard error.

use std::{
    collections::BTreeMap,
    fs,
    future::pending,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use amqp_rpc::{
    broker::Broker,
    client::Connection,
    rpc::{
        HandlerError, QueueType, ReplyMode, Request, RpcClient, RpcClientOptions, RpcServer,
        RpcServerOptions,
    },
};
use amqp_rpc_benches::work::Outcome;
use clap::Parser;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// After so many calls everything has the size that it keeps.
const WARM: u64 = 10_000;

/// How much more memory there may be at the end than when it was warm, in percent.
const GROWTH: f64 = 10.0;

/// How long a server lives, in milliseconds.
const LIFE: std::ops::RangeInclusive<u64> = 20..=500;

#[derive(Parser)]
struct Arguments {
    /// How many calls.
    #[arg(long, default_value_t = 1_000_000)]
    calls: u64,
    /// How long at most; calls that were not begun by then are not made.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Where replies come to: direct or exclusive.
    #[arg(long, default_value = "direct")]
    reply_mode: ReplyMode,
    /// How many calls are in flight.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// How many servers there are at any time.
    #[arg(long, default_value_t = 3)]
    servers: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    match soak(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn soak(arguments: Arguments) -> Outcome<()> {
    let started = Instant::now();
    let broker = Broker::start().await?;
    let options = RpcClientOptions {
        reply_mode: arguments.reply_mode,
        ..Default::default()
    };
    let client = RpcClient::connect_with(broker.uri().as_str(), options).await?;
    let fleet = Fleet::start(&broker.uri(), arguments.servers);
    while broker
        .queue("soak")
        .is_none_or(|queue| queue.consumers == 0)
    {
        sleep(Duration::from_millis(1)).await;
    }

    let tally = Arc::new(Tally::default());
    let until = started + Duration::from_secs(arguments.seconds);
    let mut callers = JoinSet::new();
    for _ in 0..arguments.concurrency {
        let (client, tally) = (client.clone(), tally.clone());
        callers.spawn(async move {
            while Instant::now() < until
                && let Some(number) = tally.next(arguments.calls)
            {
                tally.add(number, &client).await;
            }
        });
    }
    let watch = tokio::spawn(watch(tally.clone()));
    callers.join_all().await;
    let after = memory()?;
    watch.abort();
    let took = started.elapsed().as_secs_f64();
    let ends = fleet.end()?;

    let (sent, outcomes) = (tally.sent.load(Relaxed), tally.outcomes());
    let counted: u64 = outcomes.values().sum();
    let list = |counts: &BTreeMap<&str, u64>| {
        let parts: Vec<_> = counts
            .iter()
            .map(|(what, n)| format!("{n} {what}"))
            .collect();
        parts.join(" + ")
    };
    let stats = client.stats();
    println!("{sent} sent = {} in {took:.1} s", list(&outcomes));
    println!("{} replies late, {} foreign", stats.late, stats.foreign);
    println!("servers: {}", list(&ends));
    let before = tally.warm().ok_or("too few calls to compare memory")?;
    let growth = (after - before) / before * 100.0;
    println!(
        "memory: {before:.1} MiB after {WARM} calls, {after:.1} MiB at the end ({growth:+.1} %)"
    );

    let answered = outcomes.get("answered").copied().unwrap_or_default();
    let checks = [
        (counted == sent, "a call has no outcome, or two"),
        (
            stats.ended() == sent && stats.pending == 0,
            "the client counted otherwise",
        ),
        (
            stats.answered == answered,
            "the client counted other answers",
        ),
        (
            !outcomes.contains_key("wrong"),
            "a caller got a reply to another call",
        ),
        (stats.foreign == 0, "a reply came to another address"),
        (growth <= GROWTH, "memory has grown"),
    ];
    match checks.iter().find(|(holds, _)| !holds) {
        Some((_, complaint)) => Err((*complaint).into()),
        None => Ok(()),
    }
}

/// Tells how far it is.
async fn watch(tally: Arc<Tally>) {
    loop {
        sleep(Duration::from_secs(10)).await;
        let memory = memory().unwrap_or_default();
        eprintln!("{} calls, {memory:.1} MiB", tally.sent.load(Relaxed));
    }
}

/// The resident memory of this process, in MiB.
fn memory() -> Outcome<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: f64 = line
        .unwrap_or_default()
        .trim_end_matches("kB")
        .trim()
        .parse()?;
    Ok(kibibytes / 1024.0)
}

/// What became of the calls.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
    warm: Mutex<Option<f64>>,
}

impl Tally {
    /// The number of a call that is to be made.
    fn next(&self, calls: u64) -> Option<u64> {
        let next = |sent| (sent < calls).then_some(sent + 1);
        self.sent.fetch_update(Relaxed, Relaxed, next).ok()
    }

    /// Makes a call; its request is like no other, and so is its reply.
    async fn add(&self, number: u64, client: &RpcClient) {
        let outcome = match client.call("soak", number.to_string()).await {
            Ok(reply) if reply.body == format!("re: {number}") => "answered",
            Ok(_) => "wrong",
            Err(error) => error.outcome(),
        };
        let mut outcomes = self.outcomes.lock().expect("nobody panics here");
        *outcomes.entry(outcome).or_default() += 1;
        if outcomes.values().sum::<u64>() == WARM {
            *self.warm.lock().expect("nor here") = memory().ok();
        }
    }

    fn outcomes(&self) -> BTreeMap<&'static str, u64> {
        self.outcomes.lock().expect("nobody panics here").clone()
    }

    fn warm(&self) -> Option<f64> {
        *self.warm.lock().expect("nobody panics here")
    }
}

/// Servers, each on a thread of its own, and another one whenever one ends.
struct Fleet {
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<Outcome<BTreeMap<&'static str, u64>>>>,
}

impl Fleet {
    fn start(uri: &str, servers: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let one = |_| {
            let (uri, over) = (uri.to_owned(), over.clone());
            thread::spawn(move || {
                let mut ends = BTreeMap::new();
                while !over.load(Relaxed) {
                    *ends.entry(live(&uri)?).or_default() += 1;
                }
                Ok(ends)
            })
        };
        let threads = (0..servers).map(one).collect();
        Self { over, threads }
    }

    /// How many of them ended in which way.
    fn end(self) -> Outcome<BTreeMap<&'static str, u64>> {
        self.over.store(true, Relaxed);
        let mut all = BTreeMap::new();
        for thread in self.threads {
            for (end, count) in thread.join().map_err(|_| "a server panicked")?? {
                *all.entry(end).or_default() += count;
            }
        }
        Ok(all)
    }
}

/// The life of one server, and how it ended.
fn live(uri: &str) -> Outcome<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let life = Duration::from_millis(fastrand::u64(LIFE));
    runtime.block_on(async {
        let connection = Connection::open(uri).await?;
        let options = RpcServerOptions {
            queue_type: QueueType::Classic,
            prefetch: 16,
            ..Default::default()
        };
        let server = RpcServer::with_options(&connection, "soak", options).await?;
        match fastrand::u8(0..3) {
            0 => {
                server.serve(reply, sleep(life)).await?;
                connection.close().await?;
                Ok("stopped")
            }
            1 => {
                let _ = timeout(life, server.serve(reply, pending())).await;
                connection.close().await?;
                Ok("dropped")
            }
            // The connection's task dies with the runtime: the socket closes, and nobody says goodbye.
            _ => {
                let _ = timeout(life, server.serve(reply, pending())).await;
                Ok("killed")
            }
        }
    })
}

/// Some requests take a while, so that servers die in the middle of them.
async fn reply(request: Request) -> Result<String, HandlerError> {
    if fastrand::u8(0..50) == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let number = std::str::from_utf8(&request.body);
    let number = number.map_err(|_| HandlerError::bad_request("expected a number"))?;
    Ok(format!("re: {number}"))
}
